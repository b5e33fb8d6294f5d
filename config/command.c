/* command.c - commands in the configuration: argument lists whose first word is a program, and who runs them. */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/private.h"

/* Whether a shell would find the word. */
static bool in_path(const char *word)
{
	const char *path = getenv("PATH");
	bool found = false;

	/* What execvp(3) takes without one. */
	for (const char *p = path == NULL ? "/bin:/usr/bin" : path; !found; p += strcspn(p, ":") + 1) {
		int len = (int)strcspn(p, ":");
		char *file = NULL;

		if (asprintf(&file, "%.*s/%s", len, p, word) < 0)
			return true; /* nobody is to blame for it */
		found = access(file, X_OK) == 0;
		free(file);
		if (p[len] == '\0')
			break;
	}
	return found;
}

void config_check_command(struct config_run *run, const struct config_key *key, const struct strlist *argv,
			  struct config_place at)
{
	const char *word = argv->n == 0 ? NULL : argv->v[0];
	struct stat st;

	if (word == NULL)
		return;
	if (word[0] == '\0')
		config_error(run, at, "%s: the program's name is empty", key->name);
	else if (strchr(word, '/') == NULL && !in_path(word))
		config_error(run, at, "%s: there is no program %s in the PATH", key->name, word);
	else if (strchr(word, '/') != NULL && word[0] != '/')
		config_error(run, at, "%s: %s: write the whole path", key->name, word);
	else if (word[0] == '/' && access(word, X_OK) != 0)
		config_error(run, at, "%s: %s: %s", key->name, word, strerror(errno));
	else if (word[0] == '/' && stat(word, &st) == 0 && !S_ISREG(st.st_mode))
		config_error(run, at, "%s: %s is no program", key->name, word);
}

void config_check_account(struct config_run *run, const struct config_key *key, const char *name,
			  struct config_place at)
{
	char text[16384];
	struct passwd pw, *found = NULL;

	if (name != NULL && getpwnam_r(name, &pw, text, sizeof(text), &found) == 0 && found == NULL)
		config_error(run, at, "%s: there is no account %s", key->name, name);
}
