/* LINK: core/safe_open.c core/watcher.c core/watch_count.c core/watch_links.c core/watch_fanotify.c
 * core/watch_fanotify_events.c core/watch_fanotify_mounts.c core/watch_fanotify_resolve.c core/fan_cache.c
 * core/mounts.c core/path.c core/err.c core/buf.c core/loop.c core/look.c core/clock.c core/log.c core/utf8.c
 * core/watch_inotify.c core/watch_inotify_events.c core/watch_inotify_walk.c core/watch_tree.c */
/*
 * watch_tool.c - a watcher by hand, for tests: watch_tool auto|fanotify|inotify [-x] [-m] [-r] SOURCE...
 * -x: one file system, -m: MODIFY, -r: without FAN_RENAME
 *
 * Prints what each source is watched with, then obeys lines on standard input: `drain` prints the records of all that
 * has happened, one a line, tab-separated, and ends with `done`; `info` prints the sources again;
 * the end of the input ends it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/watcher.h"

#define SOURCES_MAX 8

static const char *const kinds[] = { "NONE", "TOUCH", "MODIFY", "CREATE", "DELETE", "RENAME", "RECONCILE" };

static void on_record(void *ctx, struct watched *source, const struct change *c)
{
	(void)ctx;
	printf("%s\t%s\t%s\t%s\t%s%s%s\n", (const char *)watched_owner(source), kinds[c->kind], c->path,
	       c->old_path != NULL ? c->old_path : "", c->is_dir ? "dir " : "", c->exact ? "exact " : "",
	       c->cause != NULL ? c->cause : "");
}

static void on_state(void *ctx, struct watched *source, enum watched_state state, const char *why)
{
	static const char *const states[] = { "OK", "GONE", "PARTIAL" };

	(void)ctx;
	printf("%s\tSTATE\t%s\t%s\t\n", (const char *)watched_owner(source), states[state], why);
}

static void info(struct watched *const *w, int n)
{
	for (int i = 0; i < n; i++) {
		struct watched_info in;

		watched_info(w[i], &in);
		printf("%s\tINFO\t%s\t%s\t%llu\t%llu\t%llu\n", (const char *)watched_owner(w[i]), in.backend, in.reason,
		       (unsigned long long)in.watches, (unsigned long long)in.heard, (unsigned long long)in.unrelated);
	}
	printf("done\n");
	fflush(stdout);
}

static int serve(struct loop *loop, struct watcher_set *ws, struct watched *const *w, int n)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		struct err err = ERR_INIT;

		if (strcmp(line, "info\n") == 0) {
			info(w, n);
			continue;
		}
		if (watcher_drain(ws, &err) < 0 || loop_once(loop, 0, &err) < 0 || watcher_drain(ws, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			return 1;
		}
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct watcher_callbacks cb = { .record = on_record, .state = on_state };
	struct watcher_settings settings = { 0 };
	struct watch_request rq = { .choice = WATCHER_AUTO };
	struct watched *w[SOURCES_MAX];
	int fds[SOURCES_MAX], n = 0, rc;
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);
	struct watcher_set *ws;

	for (int i = 2; i < argc; i++)
		settings.hide_fan_rename = settings.hide_fan_rename || strcmp(argv[i], "-r") == 0;
	ws = watcher_set_new(loop, &settings, &cb, &err);
	if (argc > 1 && strcmp(argv[1], "fanotify") == 0)
		rq.choice = WATCHER_FANOTIFY;
	else if (argc > 1 && strcmp(argv[1], "inotify") == 0)
		rq.choice = WATCHER_INOTIFY;
	for (int i = 2; i < argc && n < SOURCES_MAX; i++) {
		if (strcmp(argv[i], "-x") == 0) {
			rq.one_file_system = true;
			continue;
		}
		if (strcmp(argv[i], "-r") == 0)
			continue;
		if (strcmp(argv[i], "-m") == 0) {
			rq.want_modify = true;
			continue;
		}
		rq.path = argv[i];
		rq.root_fd = fds[n] = open(argv[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		w[n] = watcher_add(ws, &rq, argv[i], &err);
		if (w[n] == NULL) {
			printf("%s\tREFUSED\t%s\t\t\ndone\n", argv[i], err.text);
			watcher_set_free(ws);
			loop_free(loop);
			return 1;
		}
		n++;
	}
	info(w, n);
	rc = serve(loop, ws, w, n);
	watcher_set_free(ws);
	loop_free(loop);
	while (n > 0)
		(void)close(fds[--n]);
	return rc;
}
