/*
 * tcp_frames_bits.h - numbers inside of frames that writing (tcp_frames.c) and reading (tcp_frames_read.c) share.
 * Included by them alone; docs/PROTOCOL.md has their meaning.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_FRAMES_BITS_H
#define FANSYNCD_TRANSPORTS_TCP_FRAMES_BITS_H

/* Parts of an item. */
#define PART_ARCHIVE 1u
#define PART_TEXT 2u
#define PART_CONTENT 4u
#define PART_UNKNOWN 2u /* of a listing's entry */
/* Of a state: what few entries have. */
#define FIELD_CTIME 1u
#define FIELD_LINKS 2u
#define FIELD_RDEV 4u
/* Of a work. */
#define WORK_DELETES 1u
#define WORK_CONTINUES 2u
#define WORK_UNGUARDED 4u

#endif
