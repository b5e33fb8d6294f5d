/*
 * entry.h - what kind of thing a look finds under a name. Shared by the looks at the source, the looks at a target and
 * the archive.
 */
#ifndef FANSYNCD_CORE_ENTRY_H
#define FANSYNCD_CORE_ENTRY_H

enum look {
	LOOK_NONE = 0,
	LOOK_ABSENT,
	LOOK_DIR,
	LOOK_FILE,
	LOOK_SYMLINK,
	LOOK_SPECIAL, /* FIFO, socket, device */
};

#endif
