/*
 * utf8.h - length of the valid UTF-8 sequence at the start of some bytes. Pure.
 */
#ifndef FANSYNCD_CORE_UTF8_H
#define FANSYNCD_CORE_UTF8_H

#include <stddef.h>

/* 1..4; 0 when it is not valid (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
size_t utf8_length(const char *s, size_t len);

#endif
