#include "transports/tcp_options.h"

#include <stdlib.h>
#include <string.h>

#include "core/filter.h"
#include "core/path.h"

enum key {
	KEY_FLAGS = 1,
	KEY_RULE,
	KEY_MAX_SIZE,
	KEY_MIN_SIZE,
	KEY_MAX_DELETE,
	KEY_DURABILITY,
	KEY_MARKER,
	KEY_FIRST_OPTIONAL = 128,
	KEY_ROOT,
	KEY_CLOCK
};

#define RULE_MAX 65536u

/* The place of a flag is its bit on the wire. */
static const size_t flags[] = {
	offsetof(struct sync_options, rsync.links),	      offsetof(struct sync_options, rsync.times),
	offsetof(struct sync_options, rsync.perms),	      offsetof(struct sync_options, rsync.owner),
	offsetof(struct sync_options, rsync.group),	      offsetof(struct sync_options, rsync.devices),
	offsetof(struct sync_options, rsync.specials),	      offsetof(struct sync_options, rsync.acls),
	offsetof(struct sync_options, rsync.xattrs),	      offsetof(struct sync_options, rsync.hard_links),
	offsetof(struct sync_options, rsync.sparse),	      offsetof(struct sync_options, rsync.checksum),
	offsetof(struct sync_options, rsync.update),	      offsetof(struct sync_options, rsync.executability),
	offsetof(struct sync_options, rsync.omit_dir_times),  offsetof(struct sync_options, rsync.omit_link_times),
	offsetof(struct sync_options, rsync.numeric_ids),     offsetof(struct sync_options, rsync.existing),
	offsetof(struct sync_options, rsync.delete_excluded), offsetof(struct sync_options, bidirectional),
	offsetof(struct sync_options, conflict_copies),	      offsetof(struct sync_options, rsync.prune_empty_dirs),
	offsetof(struct sync_options, rsync.dry_run),
};
#define FLAGS (sizeof(flags) / sizeof(flags[0]))

static bool *flag_at(const struct sync_options *opt, size_t i)
{
	return (bool *)((char *)(uintptr_t)opt + flags[i]);
}

static void put_head(struct buf *out, enum key key, size_t len)
{
	buf_add_byte(out, (unsigned char)key);
	buf_add_u32(out, (uint32_t)len);
}

static void put_text(struct buf *out, enum key key, const char *text)
{
	if (text == NULL)
		return;
	put_head(out, key, strlen(text));
	buf_add_str(out, text);
}

void tcp_put_options(struct buf *out, const struct sync_options *opt)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < FLAGS; i++)
		if (*flag_at(opt, i))
			bits |= UINT64_C(1) << i;
	put_head(out, KEY_FLAGS, 8);
	buf_add_u64(out, bits);
	for (size_t i = 0; i < filter_count(opt->filter); i++)
		put_text(out, KEY_RULE, filter_rule_text(opt->filter, i));
	put_text(out, KEY_MAX_SIZE, opt->rsync.max_size);
	put_text(out, KEY_MIN_SIZE, opt->rsync.min_size);
	put_head(out, KEY_MAX_DELETE, 8);
	buf_add_u64(out, (uint64_t)opt->max_delete);
	put_head(out, KEY_DURABILITY, 1);
	buf_add_byte(out, (unsigned char)opt->durability);
	put_text(out, KEY_MARKER, opt->require_target_marker);
}

/* "1.5M" and the like: digits, a dot, a letter or two. */
static int take_size(char **out, const char *p, size_t len, struct err *err)
{
	bool fine = len > 0 && len < 32;

	for (size_t i = 0; fine && i < len; i++)
		fine = strchr("0123456789.bBkKmMgGtTpPiI+-", p[i]) != NULL && p[i] != '\0';
	if (!fine)
		return err_set(err, ERR_PROTOCOL, "a size that is none");
	free(*out);
	*out = text_dup(p, len);
	return *out == NULL ? err_set(err, ERR_NOMEM, "out of memory for options") : 0;
}

static int take_flags(struct sync_options *opt, struct reader *r, struct err *err)
{
	uint64_t bits = reader_u64(r);

	if (r->failed || r->left > 0 || bits >> FLAGS != 0)
		return err_set(err, ERR_PROTOCOL, "flags that are not understood");
	for (size_t i = 0; i < FLAGS; i++)
		*flag_at(opt, i) = (bits >> i & 1) != 0;
	return 0;
}

static int take_marker(struct sync_options *opt, const char *p, size_t len, struct err *err)
{
	if (len == 0 || !path_valid(p, len))
		return err_set(err, ERR_CONFIG, "requireTargetMarker: no path of a file below the target");
	free(opt->require_target_marker);
	opt->require_target_marker = text_dup(p, len);
	return opt->require_target_marker == NULL ? err_set(err, ERR_NOMEM, "out of memory for options") : 0;
}

static int take_option(struct sync_options *opt, unsigned key, const char *p, size_t len, struct err *err)
{
	struct reader r;

	reader_init(&r, p, len);
	switch (key) {
	case KEY_FLAGS:
		return take_flags(opt, &r, err);
	case KEY_RULE:
		if (len > RULE_MAX || memchr(p, '\0', len) != NULL)
			return err_set(err, ERR_PROTOCOL, "a filter rule that is too long");
		return filter_add_rule(opt->filter, p, len, err);
	case KEY_MAX_SIZE:
		return take_size(&opt->rsync.max_size, p, len, err);
	case KEY_MIN_SIZE:
		return take_size(&opt->rsync.min_size, p, len, err);
	case KEY_MAX_DELETE:
		opt->max_delete = (int64_t)reader_u64(&r);
		if (r.failed || r.left > 0 || opt->max_delete < -1)
			return err_set(err, ERR_PROTOCOL, "a limit of deletions that is none");
		return 0;
	case KEY_DURABILITY:
		if (len != 1 || (unsigned char)p[0] > DURABILITY_FILE)
			return err_set(err, ERR_PROTOCOL, "a durability that is none");
		opt->durability = (enum durability)(unsigned char)p[0];
		return 0;
	case KEY_MARKER:
		return take_marker(opt, p, len, err);
	default:
		if (key < KEY_FIRST_OPTIONAL)
			return err_set(err, ERR_PROTOCOL, "option %u is not known here: it takes a newer receiver",
				       key);
		return 0;
	}
}

static struct sync_options *new_options(void)
{
	struct sync_options *opt = calloc(1, sizeof(*opt));

	if (opt == NULL)
		return NULL;
	opt->filter = filter_new();
	opt->delete_mode = DELETE_ALWAYS;
	opt->max_delete = -1;
	if (opt->filter != NULL)
		return opt;
	free(opt);
	return NULL;
}

struct sync_options *tcp_get_options(const char *p, size_t len, struct err *err)
{
	struct sync_options *opt = new_options();
	struct reader r;

	if (opt == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for options");
		return NULL;
	}
	reader_init(&r, p, len);
	while (r.left > 0) {
		unsigned key = reader_u8(&r);
		size_t n = reader_u32(&r);
		const char *value = reader_bytes(&r, n);

		if (value == NULL)
			err_set(err, ERR_PROTOCOL, "options that make no sense");
		if (value == NULL || take_option(opt, key, value, n, err) < 0) {
			tcp_options_free(opt);
			return NULL;
		}
	}
	return opt;
}

void tcp_options_free(struct sync_options *opt)
{
	if (opt == NULL)
		return;
	filter_free(opt->filter);
	free(opt->rsync.max_size);
	free(opt->rsync.min_size);
	free(opt->name);
	free(opt->source);
	free(opt->target);
	free(opt->require_target_marker);
	free(opt->backup_dir);
	free(opt);
}

void tcp_put_root(struct buf *out, uint64_t dev, uint64_t ino)
{
	put_head(out, KEY_ROOT, 16);
	buf_add_u64(out, dev);
	buf_add_u64(out, ino);
}

void tcp_put_clock(struct buf *out, int64_t now_ns)
{
	put_head(out, KEY_CLOCK, 8);
	buf_add_u64(out, (uint64_t)now_ns);
}

/* The value of an option of that length; false: it is not there. */
static bool find(const char *p, size_t len, enum key wanted, size_t size, struct reader *value)
{
	struct reader r;

	reader_init(&r, p, len);
	while (!r.failed && r.left > 0) {
		unsigned key = reader_u8(&r);
		size_t n = reader_u32(&r);
		const char *at = reader_bytes(&r, n);

		if (at == NULL)
			return false;
		if (key == wanted && n == size) {
			reader_init(value, at, n);
			return true;
		}
	}
	return false;
}

void tcp_get_root(const char *p, size_t len, uint64_t *dev, uint64_t *ino)
{
	struct reader r;
	bool told = find(p, len, KEY_ROOT, 16, &r);

	*dev = told ? reader_u64(&r) : 0;
	*ino = told ? reader_u64(&r) : 0;
}

bool tcp_get_clock(const char *p, size_t len, int64_t *now_ns)
{
	struct reader r;

	if (!find(p, len, KEY_CLOCK, 8, &r))
		return false;
	*now_ns = (int64_t)reader_u64(&r);
	return *now_ns > 0;
}
