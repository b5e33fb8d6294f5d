/*
 * backup_dir.h - where what is replaced or deleted is put away: the name of the directory, by the time.
 *
 * PURE but for the zone's rules, which localtime_r(3) knows. The text is a path below the target's root with
 * conversions of strftime(3). Its first components, up to the first one with a conversion, are the *root* of all
 * backups: what is at or below it is neither mirrored nor deleted.
 */
#ifndef FANSYNCD_CORE_BACKUP_DIR_H
#define FANSYNCD_CORE_BACKUP_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define BACKUP_DIR_MAX 1024u
#define BACKUP_STAMP_MAX 32u

/* 0, or -1 and why `text` can't be one. */
int backup_dir_check(const char *text, struct err *err);
/* Of a text that was checked: how many bytes of it are the root. */
size_t backup_dir_root(const char *text);
/* The directory at that time, into `out`: its length. -1: the result is no path. */
int backup_dir_at(char out[BACKUP_DIR_MAX], const char *text, int64_t real_ns, struct err *err);
/* What tells two backups of one name apart: "~20261126-210455.123". */
void backup_dir_stamp(char out[BACKUP_STAMP_MAX], int64_t real_ns);

#endif
