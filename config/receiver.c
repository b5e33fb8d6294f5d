/* receiver.c - the receiver section: made, checked, compared, freed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/private.h"
#include "core/backup_dir.h"
#include "core/owner_map.h"

#define MODULES_MAX 1000u
#define NAME_MAX_BYTES 64u

struct receiver_options *config_add_receiver(struct config_run *run, struct config_place at)
{
	struct receiver_options *r;
	struct err err = ERR_INIT;

	if (run->c->receiver != NULL) {
		config_error(run, at, "receiver: there can be one only; it may listen on several addresses");
		return NULL;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL || config_set_defaults(SECTION_RECEIVER, r, &err) != 0) {
		free(r);
		config_out_of_memory(run);
		return NULL;
	}
	run->c->receiver = r;
	run->receiver_at = at;
	return r;
}

struct receiver_module *config_add_module(struct config_run *run, struct config_place at)
{
	struct receiver_options *r = run->c->receiver;
	size_t n = r->n_modules;
	struct receiver_module *modules;
	struct config_place *places;
	struct err err = ERR_INIT;

	if (n >= MODULES_MAX) {
		config_error(run, at, "modules: more than %u", MODULES_MAX);
		return NULL;
	}
	modules = realloc(r->modules, (n + 1) * sizeof(*modules));
	if (modules != NULL)
		r->modules = modules;
	places = modules == NULL ? NULL : realloc(run->module_at, (n + 1) * sizeof(*places));
	if (places == NULL) {
		config_out_of_memory(run);
		return NULL;
	}
	run->module_at = places;
	places[n] = at;
	modules[n] = (struct receiver_module){ 0 };
	r->n_modules++;
	if (config_set_defaults(SECTION_MODULE, &modules[n], &err) != 0) {
		config_out_of_memory(run);
		return NULL;
	}
	return &modules[n];
}

/* ---- checks ---- */

static void check_listen(struct config_run *run, const char *text)
{
	const char *colon = strrchr(text, ':');
	char *end;
	long port;

	if (colon == NULL || colon == text || (text[0] == '[' && colon[-1] != ']') ||
	    (text[0] != '[' && strchr(text, ':') != colon)) {
		config_error(run, run->receiver_at, "listen: \"%s\" is no \"ADDRESS:PORT\" or \"[ADDRESS]:PORT\"",
			     text);
		return;
	}
	port = strtol(colon + 1, &end, 10);
	if (*end != '\0' || end == colon + 1 || port < 1 || port > 65535)
		config_error(run, run->receiver_at, "listen: \"%s\": the port is no number from 1 to 65535", text);
}

static bool is_loopback(const char *listen)
{
	return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]:", 6) == 0 ||
	       strncmp(listen, "localhost:", 10) == 0;
}

/* Without keys and certificates only plaintext is left: from this host, unless it was asked for. */
static void check_security(struct config_run *run, const struct receiver_options *r)
{
	bool certificates = r->certificate != NULL || r->private_key != NULL || r->ca != NULL;

	if (certificates && (r->certificate == NULL || r->private_key == NULL || r->ca == NULL))
		config_error(run, run->receiver_at, "certificate, privateKey and ca are needed together");
	for (size_t i = 0; i < r->listen.n; i++)
		if (!certificates && r->keys == NULL && !r->insecure && !is_loopback(r->listen.v[i]))
			config_error(run, run->receiver_at,
				     "listen: \"%s\": keys (a directory of NAME.key files) or certificates are needed "
				     "to let in other hosts; or insecure = true, and anybody can write to the modules",
				     r->listen.v[i]);
}

static bool name_is_good(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == '/' || name[i] == 0x7f)
			return false;
	return n > 0 && n <= NAME_MAX_BYTES;
}

static void check_map(struct config_run *run, struct config_place at, const char *key, const struct strlist *texts)
{
	for (size_t i = 0; i < texts->n; i++) {
		struct owner_rule rule;
		struct err err = ERR_INIT;

		if (owner_rule_parse(texts->v[i], &rule, &err) < 0)
			config_error(run, at, "%s: %s", key, err.text);
	}
}

static void check_module(struct config_run *run, const struct receiver_options *r, size_t i)
{
	const struct receiver_module *m = &r->modules[i];
	struct config_place at = run->module_at[i];
	struct err err = ERR_INIT;
	struct stat st;

	if (m->name == NULL || m->path == NULL) {
		config_error(run, at, "modules: name and path are required");
		return;
	}
	if (!name_is_good(m->name))
		config_error(run, at, "name: \"%s\": at most %u characters, no blanks and slashes", m->name,
			     NAME_MAX_BYTES);
	for (size_t j = 0; j < i; j++)
		if (r->modules[j].name != NULL && strcmp(r->modules[j].name, m->name) == 0)
			config_error(run, at, "name: there is a module \"%s\" already", m->name);
	check_map(run, at, "usermap", &m->usermap);
	check_map(run, at, "groupmap", &m->groupmap);
	if (strcmp(m->path, "/") == 0)
		config_error(run, at, "path: the root of this host is no module");
	if (run->env->check_paths && stat(m->path, &st) != 0)
		config_error(run, at, "path: %s: %s", m->path, strerror(errno));
	else if (run->env->check_paths && !S_ISDIR(st.st_mode))
		config_error(run, at, "path: %s is no directory", m->path);
	if (m->backup_dir != NULL && backup_dir_check(m->backup_dir, &err) < 0)
		config_error(run, at, "backupDir: %s", err.text);
	if (m->allow.n == 0 && (r->keys != NULL || r->certificate != NULL) && !r->insecure)
		config_warn(run, at,
			    "module \"%s\": allow names nobody, so only senders without TLS from this host may "
			    "write to it",
			    m->name);
}

static void check_files(struct config_run *run, const struct receiver_options *r)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++)
		if (table[i].section == SECTION_RECEIVER)
			config_check_file(run, &table[i], r, run->receiver_at);
}

void config_finish_receiver(struct config_run *run)
{
	const struct receiver_options *r = run->c->receiver;

	if (r == NULL)
		return;
	for (size_t i = 0; i < r->listen.n; i++)
		check_listen(run, r->listen.v[i]);
	if (r->n_modules == 0)
		config_error(run, run->receiver_at,
			     "modules: required, as in modules = ( { name = ...; path = ...; } )");
	check_security(run, r);
	if (run->env->check_paths)
		check_files(run, r);
	for (size_t i = 0; i < r->n_modules; i++)
		check_module(run, r, i);
	if (r->insecure)
		config_warn(
			run, run->receiver_at,
			"insecure = true: senders need no key, and what they send can be read and changed on the way");
}

bool config_receiver_equal(const struct receiver_options *a, const struct receiver_options *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (!config_keys_equal(SECTION_RECEIVER, a, b) || a->n_modules != b->n_modules)
		return false;
	for (size_t i = 0; i < a->n_modules; i++)
		if (!config_keys_equal(SECTION_MODULE, &a->modules[i], &b->modules[i]))
			return false;
	return true;
}

void config_receiver_free(struct receiver_options *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_modules; i++)
		config_free_keys(SECTION_MODULE, &r->modules[i]);
	free(r->modules);
	config_free_keys(SECTION_RECEIVER, r);
	free(r);
}
