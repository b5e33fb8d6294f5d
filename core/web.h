/*
 * web.h - the process that shows the daemon's state to HTTP clients: numbers for Prometheus, a page for people.
 *
 * It parses what strangers send, so it holds nothing: no capabilities, no files, no sockets but those that it was
 * given, and it can ask the daemon for one thing only, the view that everybody gets. Read-only.
 */
#ifndef FANSYNCD_CORE_WEB_H
#define FANSYNCD_CORE_WEB_H

/* Serve what arrives at `listen_fd` until the daemon closes `fd`. Returns the exit code of the process. */
int web_run(int fd, int listen_fd);

#endif
