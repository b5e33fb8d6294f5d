/*
 * guard_switches.h - the guards of DESIGN.md's promise 5, each with a switch that compiles it out.
 *
 * For one purpose: `make BUILD=build/without CPPFLAGS=-DFANSYNCD_NO_GUARD_IDENTITY` makes a program whose test
 * (tests/integration/deletion.py) must fail, which shows that the test would notice. Never on in anything that is used.
 *
 *   IDENTITY        the source's root is the one of the last run (daemon, before anything is carried)
 *   SYMLINK         a source that became a symbolic link while the daemon runs is not followed
 *   SOURCE          the source's path still leads to the directory that is watched (worker, each batch)
 *   EMPTY           an empty source deletes nothing
 *   MOUNTS          nothing is deleted below what was a mount point, or became one
 *   UNREADABLE      what can't be looked at is not taken for absent
 *   MARKER          requireMarker
 *   TARGET          the root of a local target is the one of the last run
 *   TARGET_MARKER   requireTargetMarker
 *   MAX_DELETE      maxDelete, and its default for a comparison
 */
#ifndef FANSYNCD_CORE_GUARD_SWITCHES_H
#define FANSYNCD_CORE_GUARD_SWITCHES_H

enum guard_switch {
#ifdef FANSYNCD_NO_GUARD_IDENTITY
	GUARD_IDENTITY = 0,
#else
	GUARD_IDENTITY = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_SYMLINK
	GUARD_SYMLINK = 0,
#else
	GUARD_SYMLINK = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_SOURCE
	GUARD_SOURCE = 0,
#else
	GUARD_SOURCE = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_EMPTY
	GUARD_EMPTY = 0,
#else
	GUARD_EMPTY = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_MOUNTS
	GUARD_MOUNTS = 0,
#else
	GUARD_MOUNTS = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_UNREADABLE
	GUARD_UNREADABLE = 0,
#else
	GUARD_UNREADABLE = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_MARKER
	GUARD_MARKER = 0,
#else
	GUARD_MARKER = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_TARGET
	GUARD_TARGET = 0,
#else
	GUARD_TARGET = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_TARGET_MARKER
	GUARD_TARGET_MARKER = 0,
#else
	GUARD_TARGET_MARKER = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_MAX_DELETE
	GUARD_MAX_DELETE = 0,
#else
	GUARD_MAX_DELETE = 1,
#endif
#ifdef FANSYNCD_NO_GUARD_CONFINE
	GUARD_CONFINE = 0,
#else
	GUARD_CONFINE = 1,
#endif
};

#endif
