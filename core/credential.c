#include "core/credential.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

#define PREFIX "credential:"

mode_t credential_open_bits(const char *path)
{
	const char *dir = secure_getenv("CREDENTIALS_DIRECTORY");
	const char *name = dir == NULL || dir[0] != '/' ? NULL : path_rest(path, dir);

	return name != NULL && path_name_valid(name, strlen(name)) ? 07 : 077;
}

bool credential_elsewhere(const char *path)
{
	return path != NULL && strncmp(path, PREFIX, strlen(PREFIX)) == 0 &&
	       secure_getenv("CREDENTIALS_DIRECTORY") == NULL;
}
