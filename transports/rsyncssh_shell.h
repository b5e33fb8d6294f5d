/*
 * rsyncssh_shell.h - what the shell at the target is told once, for renames and all else that is changed there. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNCSSH_SHELL_H
#define FANSYNCD_TRANSPORTS_RSYNCSSH_SHELL_H

/* Shell text. The target's directory is to be in $fs_dir, and in $fs_keep whether what exists stays. fs_rename OLD NEW
 * fails with words in its output. */
extern const char remote_prelude[];

#endif
