#include "transports/twoway_state.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/path.h"

struct twoway_what twoway_what_of(const struct sync_options *opt)
{
	const struct rsync_options *r = &opt->rsync;

	return (struct twoway_what){ .perms = r->perms,
				     .owner = r->owner,
				     .group = r->group,
				     .numeric = r->numeric_ids,
				     .links = r->links,
				     .specials = r->specials && r->devices,
				     .link_times = !r->omit_link_times };
}

bool twoway_mirrored(const struct twoway_what *w, enum look look)
{
	switch (look) {
	case LOOK_SYMLINK:
		return w->links;
	case LOOK_SPECIAL:
		return w->specials;
	default:
		return true;
	}
}

/* FNV-1a. */
static uint64_t add(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(1099511628211);
	return hash;
}

static uint64_t add_word(uint64_t hash, char what, const char *word)
{
	hash = add(hash, &what, 1);
	return add(hash, word, strlen(word) + 1);
}

struct twoway_state twoway_state_make(const struct twoway_what *w, enum look look, unsigned mode, int64_t size,
				      int64_t mtime_ns, const char *owner, const char *group, const char *text,
				      size_t text_len)
{
	struct twoway_state s = { .look = look };
	uint64_t hash = UINT64_C(14695981039346656037), none = hash;
	char bits[16];

	if (look == LOOK_ABSENT || look == LOOK_NONE)
		return (struct twoway_state){ .look = LOOK_ABSENT };
	if (look == LOOK_FILE)
		s.size = size;
	if (look == LOOK_SYMLINK)
		s.size = (int64_t)text_len;
	if (look == LOOK_FILE || (look == LOOK_SYMLINK && w->link_times))
		s.mtime_ns = mtime_ns;
	if (w->perms && look != LOOK_SYMLINK) {
		(void)snprintf(bits, sizeof(bits), "%o", mode & 07777u);
		hash = add_word(hash, 'm', bits);
	}
	if (w->owner && owner != NULL)
		hash = add_word(hash, 'u', owner);
	if (w->group && group != NULL)
		hash = add_word(hash, 'g', group);
	if (look == LOOK_SYMLINK && text != NULL)
		hash = add(add(hash, "l", 1), text, text_len);
	s.attr = hash == none ? 0 : hash;
	return s;
}

int64_t twoway_time(int64_t seconds, int64_t ns)
{
	if (seconds > INT64_MAX / NS_PER_S - 2)
		return (INT64_MAX / NS_PER_S - 2) * NS_PER_S;
	if (seconds < INT64_MIN / NS_PER_S + 2)
		return (INT64_MIN / NS_PER_S + 2) * NS_PER_S;
	return seconds * NS_PER_S + ns;
}

/* ---- the source ---- */

static const char *user_name(struct twoway_names *names, const struct twoway_what *w, unsigned id)
{
	unsigned slot = id % TWOWAY_NAMES;
	struct passwd entry, *found = NULL;
	char text[4096];

	if (names->users[slot].known && names->users[slot].id == id)
		return names->users[slot].name;
	names->users[slot].known = true;
	names->users[slot].id = id;
	(void)snprintf(names->users[slot].name, sizeof(names->users[slot].name), "%u", id);
	if (!w->numeric && getpwuid_r(id, &entry, text, sizeof(text), &found) == 0 && found != NULL)
		(void)snprintf(names->users[slot].name, sizeof(names->users[slot].name), "%s", entry.pw_name);
	return names->users[slot].name;
}

static const char *group_name(struct twoway_names *names, const struct twoway_what *w, unsigned id)
{
	unsigned slot = id % TWOWAY_NAMES;
	struct group entry, *found = NULL;
	char text[16384]; /* its members, too */

	if (names->groups[slot].known && names->groups[slot].id == id)
		return names->groups[slot].name;
	names->groups[slot].known = true;
	names->groups[slot].id = id;
	(void)snprintf(names->groups[slot].name, sizeof(names->groups[slot].name), "%u", id);
	if (!w->numeric && getgrgid_r(id, &entry, text, sizeof(text), &found) == 0 && found != NULL)
		(void)snprintf(names->groups[slot].name, sizeof(names->groups[slot].name), "%s", entry.gr_name);
	return names->groups[slot].name;
}

struct twoway_state twoway_state_of_stat(const struct twoway_what *w, struct twoway_names *names, enum look look,
					 const struct stat *st, const char *text, size_t text_len)
{
	return twoway_state_make(w, look, st->st_mode, st->st_size,
				 twoway_time(st->st_mtim.tv_sec, st->st_mtim.tv_nsec),
				 w->owner ? user_name(names, w, st->st_uid) : NULL,
				 w->group ? group_name(names, w, st->st_gid) : NULL, text, text_len);
}

int twoway_state_of(const struct twoway_what *w, struct twoway_names *names, struct looker *l, const char *path,
		    size_t len, enum look look, const struct stat *st, struct twoway_state *out, struct err *err)
{
	char text[PATH_LINK_MAX];
	ssize_t n = 0;

	if (look == LOOK_ABSENT) {
		*out = (struct twoway_state){ .look = LOOK_ABSENT };
		return 0;
	}
	if (look == LOOK_SYMLINK)
		n = looker_readlink(l, path, len, text, sizeof(text), err);
	if (n < 0)
		return -1;
	*out = twoway_state_of_stat(w, names, look, st, text, (size_t)n);
	return 0;
}

/* ---- words and names ---- */

static void put_utc(char *out, size_t size, bool compact, int64_t ns)
{
	time_t t = (time_t)(ns / NS_PER_S - (ns % NS_PER_S < 0 ? 1 : 0));
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, size, compact ? "%Y%m%d-%H%M%S" : "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(out, size, "%lld", (long long)t);
}

const char *twoway_words(const struct twoway_state *s, char out[TWOWAY_WORDS])
{
	static const char *const kinds[] = {
		[LOOK_NONE] = "nothing", [LOOK_ABSENT] = "nothing",  [LOOK_DIR] = "directory",
		[LOOK_FILE] = "file",	 [LOOK_SYMLINK] = "symlink", [LOOK_SPECIAL] = "special file"
	};
	char when[32];
	long long ns = s->mtime_ns % NS_PER_S;

	if (s->look != LOOK_FILE && s->look != LOOK_SYMLINK) {
		(void)snprintf(out, TWOWAY_WORDS, "%s", kinds[s->look]);
		return out;
	}
	put_utc(when, sizeof(when), false, s->mtime_ns);
	(void)snprintf(out, TWOWAY_WORDS, "%s of %lld bytes of %s.%09lld UTC", kinds[s->look], (long long)s->size, when,
		       ns < 0 ? ns + NS_PER_S : ns);
	return out;
}

const char *twoway_conflict_words(const char *path, size_t len, const struct twoway_state *source,
				  const struct twoway_state *target, bool source_wins, char out[TWOWAY_CONFLICT_WORDS])
{
	char a[TWOWAY_WORDS], b[TWOWAY_WORDS];

	(void)snprintf(out, TWOWAY_CONFLICT_WORDS, "conflict: %.*s: here a %s, at the target a %s: %s",
		       (int)(len < 1000 ? len : 1000), path, twoway_words(source, a), twoway_words(target, b),
		       source_wins ? "ours wins" : "the target's wins");
	return out;
}

const char *twoway_pair(const struct sync_options *opt, char out[TWOWAY_PAIR])
{
	const struct twoway_what w = twoway_what_of(opt);

	(void)snprintf(out, TWOWAY_PAIR, "%.4000s -> %.4000s %d%d%d%d%d%d%d", opt->source, opt->target, w.perms,
		       w.owner, w.group, w.numeric, w.links, w.specials, w.link_times);
	return out;
}

static uint64_t add_state(uint64_t hash, const struct twoway_state *s)
{
	hash = add(hash, &s->look, sizeof(s->look));
	hash = add(hash, &s->size, sizeof(s->size));
	hash = add(hash, &s->mtime_ns, sizeof(s->mtime_ns));
	return add(hash, &s->attr, sizeof(s->attr));
}

bool twoway_is_news(struct twoway_told *t, const char *path, size_t len, const struct twoway_state *here,
		    const struct twoway_state *there)
{
	uint64_t hash = add_state(add_state(add(UINT64_C(14695981039346656037), path, len), here), there);

	for (size_t i = 0; i < TWOWAY_TOLD; i++)
		if (t->v[i] == hash)
			return false;
	t->v[t->next++ % TWOWAY_TOLD] = hash;
	return true;
}

void twoway_older(struct err *why)
{
	err_set(why, ERR_AGAIN,
		"it is older than what both ends had: sent when it has stayed so for a few seconds, in which a newer "
		"edit that was overtaken would be put back");
}

size_t twoway_conflict_name(const char *path, size_t len, const struct twoway_state *loser, char *out)
{
	size_t base = path_base(path, len), n = len - base, tail_len;
	uint64_t hash = UINT64_C(14695981039346656037);
	char when[32], tail[80];

	hash = add(hash, &loser->size, sizeof(loser->size));
	hash = add(hash, &loser->mtime_ns, sizeof(loser->mtime_ns));
	hash = add(hash, &loser->attr, sizeof(loser->attr));
	put_utc(when, sizeof(when), true, loser->mtime_ns);
	(void)snprintf(tail, sizeof(tail), ".conflict-%s-%08" PRIx32, when, (uint32_t)(hash ^ (hash >> 32)));
	tail_len = strlen(tail);
	if (n + tail_len > NAME_BYTES_MAX)
		n = NAME_BYTES_MAX - tail_len;
	memcpy(out, path, base + n);
	memcpy(out + base + n, tail, tail_len);
	return base + n + tail_len;
}
