/*
 * runtime_dir.h - the private directory of one fansyncd process, for its workers' sockets and lists.
 *
 * Below /run (or the service manager's, the user's, else the temporary) directory and short, because socket paths
 * below it must fit into sockaddr_un. What a killed predecessor of the same user left there is removed.
 */
#ifndef FANSYNCD_CORE_RUNTIME_DIR_H
#define FANSYNCD_CORE_RUNTIME_DIR_H

#include "core/err.h"

/* Make it (mode 0700). The path is the caller's to free, the directory the caller's to remove. NULL on failure. */
char *runtime_dir_make(struct err *err);

#endif
