#include "transports/rsyncssh_remote.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/remote_shell.h"

/*
 * fs_find prints HEAD NUL PATH NUL TEXT NUL for each entry, then "!" NUL what went wrong NUL. GNU find does it by
 * itself; elsewhere a loop over stat and readlink does, in whole seconds.
 *
 * Nothing is changed that does not have the head that it was looked at with. A file is deleted by moving it away first
 * and looking at what was caught, so that nothing can slip in between; what is caught wrongly goes back, but never over
 * what has come meanwhile. All that is put away lies below the private directory $fs_own, under the path that it had:
 * what a killed run leaves there is found by the next. With backupDir ($fs_kept, relative to $fs_dir) it goes on from
 * there when it is known what becomes of it: $fs_stamp tells apart what had one name.
 */
const char remote_twoway_prelude[] =
	"fs_kept=\n"
	"fs_gnu() {\n"
	"	{ fs_err=$( (cd \"$fs_dir\" && find \"$@\" -printf \"$fs_fmt\\\\0%p\\\\0%l\\\\0\") 2>&1 >&3); } 3>&1\n"
	"	printf '!\\0%s\\0' \"$fs_err\"\n"
	"}\n"
	"fs_type() {\n"
	"	if [ -L \"$1\" ]; then fs_y=l; elif [ -f \"$1\" ]; then fs_y=f; elif [ -d \"$1\" ]; then fs_y=d\n"
	"	elif [ -e \"$1\" ]; then fs_y=s; else return 1; fi\n"
	"}\n"
	"fs_one() {\n"
	"	fs_l=\n"
	"	if ! fs_type \"$1\"; then\n"
	"		case $1 in */*) if [ -d \"${1%/*}\" ] && ! [ -x \"${1%/*}\" ]; then\n"
	"			fs_err=\"${1%/*}: Permission denied\"; fi ;; esac\n"
	"		return\n"
	"	fi\n"
	"	fs_h=$(stat -c \"$fs_fmt\" -- \"$1\" 2>/dev/null) || return\n"
	"	if [ $fs_y = l ]; then fs_l=$(readlink -- \"$1\"; echo .); fs_l=${fs_l%.}; fs_l=${fs_l%\"$fs_nl\"}; "
	"fi\n"
	"	printf '%s %s\\0%s\\0%s\\0' \"$fs_y\" \"$fs_h\" \"$1\" \"$fs_l\"\n"
	"}\n"
	"fs_below() {\n"
	"	[ -d \"$1\" ] && ! [ -L \"$1\" ] || return\n"
	"	if ! [ -r \"$1\" ]; then fs_err=\"$1: Permission denied\"; return; fi\n"
	"	for fs_f in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do\n"
	"		[ -e \"$fs_f\" ] || [ -L \"$fs_f\" ] || continue\n"
	"		fs_one \"$fs_f\"\n"
	"		if [ $fs_mode = tree ]; then fs_below \"$fs_f\"; fi\n"
	"	done\n"
	"}\n"
	"fs_plain() (\n"
	"	fs_err=\n"
	"	cd \"$fs_dir\" || return\n"
	"	for fs_a; do if [ $fs_mode = self ]; then fs_one \"$fs_a\"; else fs_below \"$fs_a\"; fi; done\n"
	"	printf '!\\0%s\\0' \"$fs_err\"\n"
	")\n"
	"fs_find() {\n"
	"	fs_mode=$1; shift\n"
	"	if [ $fs_how = seconds ]; then fs_plain \"$@\"; return; fi\n"
	"	case $fs_mode in\n"
	"	self) fs_gnu \"$@\" -maxdepth 0 ;;\n"
	"	list) fs_gnu \"$@\" -mindepth 1 -maxdepth 1 ;;\n"
	"	tree) fs_gnu \"$@\" -mindepth 1 ;;\n"
	"	esac\n"
	"}\n"
	"fs_head_at() {\n"
	"	if [ $fs_how != seconds ]; then find \"$1\" -maxdepth 0 -printf \"$fs_fmt\" 2>/dev/null\n"
	"	else fs_type \"$1\" && printf '%s %s' $fs_y \"$(stat -c \"$fs_fmt\" -- \"$1\")\"; fi\n"
	"}\n"
	"fs_head() { (cd \"$fs_dir\" && fs_head_at \"./$1\"); }\n"
	/* A file system may keep less than it is given. */
	"fs_fine() {\n"
	"	fs_private && (fs_enter \"$fs_own\" || exit\n"
	"	rm -rf -- ./time; mkdir ./time && touch -c -h -d @1000000000.123456789 -- ./time && find ./time -prune "
	"-printf %T@\n"
	"	rmdir ./time; fs_enter \"\" && rmdir -- \"./$fs_own\") 2>/dev/null\n"
	"}\n"
	"fs_setup() {\n"
	"	fs_own=$1; fs_how=none; fs_has=dir; fs_have=\n"
	"	[ -d \"$fs_dir\" ] || fs_has=nodir\n"
	"	if find / -maxdepth 0 -printf '' >/dev/null 2>&1; then\n"
	"		fs_how=fine; fs_fmt='%y %s %T@ %m %u %g %D'\n"
	"		if [ -n \"$2\" ]; then fs_fmt='%y %s %T@ %m %U %G %D'; fi\n"
	"	elif stat -c %s / >/dev/null 2>&1; then\n"
	"		fs_how=seconds; fs_fmt='%s %Y %a %U %G %d'\n"
	"		if [ -n \"$2\" ]; then fs_fmt='%s %Y %a %u %g %d'; fi\n"
	"	fi\n"
	"	fs_time=$fs_how\n"
	"	if [ $fs_how = fine ] && [ $fs_has = dir ]; then\n"
	"		case $(fs_fine) in *.123456789*) ;; [0-9]*) fs_time=seconds ;; esac\n"
	"	fi\n"
	"	fs_dev=0\n"
	"	if [ $fs_has = dir ]; then fs_head . >/dev/null && fs_dev=$(fs_head .); fs_dev=${fs_dev##* }; fi\n"
	"	printf '%s %s %s\\n' $fs_time $fs_has $fs_dev\n"
	"}\n"
	"fs_private() {\n"
	"	fs_top || return 5\n"
	"	(umask 077; fs_enter \"\" || exit 5; [ -d \"./$fs_own\" ] || mkdir -- \"./$fs_own\" || exit 5; "
	"fs_enter \"$fs_own\" || exit 5)\n"
	"}\n"
	"fs_is() {\n"
	"	fs_parents \"$1\" >/dev/null || return 8\n"
	"	fs_now=$(fs_head \"$1\")\n"
	"	if [ -z \"$fs_now\" ]; then return 4; fi\n"
	"	[ \"$fs_now\" = \"$2\" ] || return 8\n"
	"}\n"
	/* Under a name that nothing has: by link(2), which refuses, or by mv where there are no links. */
	"fs_place() {\n"
	"	if [ -e \"$2\" ] || [ -L \"$2\" ]; then return 9; fi\n"
	"	if ln -- \"$1\" \"$2\" 2>/dev/null; then rm -f -- \"$1\"; return; fi\n"
	"	if [ -e \"$2\" ] || [ -L \"$2\" ]; then return 9; fi\n"
	"	mv -n $fs_t -- \"$1\" \"$2\" 2>/dev/null\n"
	"	if ! [ -e \"$1\" ] && ! [ -L \"$1\" ]; then return 0; fi\n"
	"	if [ -e \"$2\" ] || [ -L \"$2\" ]; then return 9; fi\n"
	"	return 5\n"
	"}\n"
	"fs_place_now() { fs_place \"$fs_a\" \"$fs_b\"; }\n"
	"fs_over_now() { mv -f $fs_t -- \"$fs_a\" \"$fs_b\"; }\n"
	/* A directory of a backup ($1; we are in it) is like the one that it stands for ($2), so that nobody reads
	   there what he could not read. */
	"fs_model() {\n"
	"	fs_m=$(fs_split \"$2\"; fs_enter \"$fs_d\" >/dev/null && [ -d \"./$fs_n\" ] && ! [ -L \"./$fs_n\" ] "
	"&&\n"
	"		if [ $fs_how = fine ]; then find \"./$fs_n\" -maxdepth 0 -type d -printf '%m %U:%G'\n"
	"		else stat -c '%a %u:%g' -- \"./$fs_n\"; fi)\n"
	"	[ -n \"$fs_m\" ] || return 0\n"
	"	fs_enter \"$1\" || return\n"
	"	chown -- \"${fs_m#* }\" . 2>/dev/null; chmod -- \"${fs_m%% *}\" . && chmod -- u+rwx .\n"
	"}\n"
	"fs_shelf_at() (\n"
	"	fs_parents \"$1/$2\" && fs_make \"$1\" || exit\n"
	"	fs_rest=$2; fs_like=; fs_deep=$1\n"
	"	while :; do\n"
	"		case $fs_rest in */*) ;; *) exit 0 ;; esac\n"
	"		fs_next=${fs_rest%%/*}; fs_rest=${fs_rest#*/}\n"
	"		fs_like=$fs_like${fs_like:+/}$fs_next; fs_deep=$fs_deep/$fs_next\n"
	"		if ! [ -d \"./$fs_next\" ]; then\n"
	"			(umask 077; mkdir -- \"./$fs_next\") && fs_model \"$fs_deep\" \"$fs_like\" || exit\n"
	"		fi\n"
	"		fs_enter \"$fs_deep\" || exit\n"
	"	done\n"
	")\n"
	/* The directory that $1 goes to, $fs_room of it the backup's: another one where a file is in the way. */
	"fs_shelf() {\n"
	"	fs_top || return 5\n"
	"	fs_room=$fs_kept\n"
	"	fs_err=$(fs_shelf_at \"$fs_room\" \"$1\" 2>&1) && return\n"
	"	case $fs_kept in */*) fs_room=$fs_kept$fs_stamp ;; *) fs_room=$fs_kept/$fs_stamp ;; esac\n"
	"	fs_shelf_at \"$fs_room\" \"$1\" >/dev/null 2>&1 && return\n"
	"	printf '%s\\n' \"no directory for it in $fs_kept (backupDir): $fs_err\"; return 1\n"
	"}\n"
	"fs_shelve_now() {\n"
	"	chmod u+rwx . 2>/dev/null\n"
	"	fs_place \"$fs_a\" \"$fs_b\" && return\n"
	"	fs_to=${fs_b%/*}; fs_name=${fs_b##*/}\n"
	"	if [ ${#fs_name} -gt 219 ]; then fs_name=$(printf '%.219s.' \"$fs_name\"); fs_name=${fs_name%.}; fi\n"
	"	fs_name=$fs_name$fs_stamp; fs_i=1\n"
	"	while [ $fs_i -le 100 ]; do\n"
	"		fs_place \"$fs_a\" \"$fs_to/$fs_name\"; fs_did=$?\n"
	"		[ $fs_did = 9 ] || break\n"
	"		fs_i=$((fs_i + 1)); fs_name=${fs_name%\"$fs_stamp\"*}$fs_stamp.$fs_i\n"
	"	done\n"
	"	return $fs_did\n"
	"}\n"
	"fs_drop() (fs_split \"$1\"; fs_enter \"$fs_d\" && rm -f -- \"./$fs_n\")\n"
	/* From where it was put away for the time being to the backup, unless it is what stands there still. */
	"fs_store() {\n"
	"	fs_top || return 5\n"
	"	[ -n \"$(fs_head \"$fs_own/b/$1\" 2>/dev/null)\" ] || return 4\n"
	"	if [ \"$(fs_head \"$1\")\" = \"$2\" ]; then fs_drop \"$fs_own/b/$1\"; return; fi\n"
	"	fs_shelf \"$1\" || return\n"
	"	fs_mk=; fs_two \"$fs_own/b/$1\" \"$fs_room/$1\" fs_shelve_now; fs_did=$?\n"
	"	[ $fs_did = 0 ] || printf '%s\\n' \"it can't be put away in $fs_room (backupDir)\"\n"
	"	return $fs_did\n"
	"}\n"
	"fs_catch_now() {\n"
	"	mv -f $fs_t -- \"$fs_a\" \"$fs_b\" || return 5\n"
	"	if [ \"$(fs_head_at \"$fs_b\")\" = \"$1\" ]; then\n"
	"		[ -n \"$fs_kept\" ] || rm -f -- \"$fs_b\"\n"
	"		return\n"
	"	fi\n"
	"	fs_place \"$fs_b\" \"$fs_a\"\n"
	"	return 8\n"
	"}\n"
	"fs_delete() {\n"
	"	fs_is \"$1\" \"$2\" || return\n"
	"	[ -z \"$fs_kept\" ] || fs_shelf \"$1\" || return 5\n"
	"	fs_private || return 5\n"
	"	fs_mk=1; fs_two \"$1\" \"$fs_own/b/$1\" fs_catch_now \"$2\"; fs_did=$?\n"
	"	if [ $fs_did != 0 ] || [ -z \"$fs_kept\" ]; then return $fs_did; fi\n"
	"	fs_store \"$1\" \"$2\" && return\n"
	"	fs_mk=; fs_two \"$fs_own/b/$1\" \"$1\" fs_place_now\n"
	"	return 5\n"
	"}\n"
	"fs_rmdir() {\n"
	"	fs_parents \"$1\" >/dev/null || return 8\n"
	"	fs_top || return 8\n"
	"	(fs_split \"$1\"\n"
	"	fs_enter \"$fs_d\" || exit 8\n"
	"	if [ -L \"./$fs_n\" ]; then exit 8; fi\n"
	"	if ! [ -e \"./$fs_n\" ]; then exit 4; fi\n"
	"	if ! [ -d \"./$fs_n\" ]; then exit 8; fi\n"
	"	fs_err=$(rmdir -- \"./$fs_n\" 2>&1) && exit\n"
	"	case $fs_err in *'ot empty'*) exit 9 ;; esac\n"
	"	printf '%s\\n' \"$fs_err\"; exit 1)\n"
	"}\n"
	"fs_move_now() {\n"
	"	if [ -e \"$fs_b\" ] || [ -L \"$fs_b\" ]; then return 9; fi\n"
	"	mv -n $fs_t -- \"$fs_a\" \"$fs_b\" || return $1\n"
	"	if [ -e \"$fs_a\" ] || [ -L \"$fs_a\" ]; then return 9; fi\n"
	"}\n"
	"fs_move() {\n"
	"	fs_is \"$1\" \"$2\" || return\n"
	"	fs_parents \"$3\" || return 3\n"
	"	if [ -e \"$fs_dir/$3\" ] || [ -L \"$fs_dir/$3\" ]; then return 9; fi\n"
	"	fs_top || return 3\n"
	"	fs_mk=1; fs_two \"$1\" \"$3\" fs_move_now 5\n"
	"}\n"
	/* Another's file gets no time from us, but a copy of it in its place does. */
	"fs_ask_now() {\n"
	"	cp -P -p -- \"$fs_a\" \"$fs_b\" && touch -c -h -d \"@$2\" -- \"$fs_b\" && [ \"$(fs_head_at "
	"\"$fs_a\")\" = \"$1\" ] &&\n"
	"		mv -f $fs_t -- \"$fs_b\" \"$fs_a\"\n"
	"	fs_did=$?\n"
	"	rm -f -- \"$fs_b\"\n"
	"	return $fs_did\n"
	"}\n"
	"fs_touch() {\n"
	"	fs_is \"$1\" \"$2\" || return\n"
	"	fs_top || return 8\n"
	"	(fs_split \"$1\"; fs_enter \"$fs_d\" && touch -c -h -d \"@$3\" -- \"./$fs_n\" 2>/dev/null) && return\n"
	"	fs_begin || return 5\n"
	"	fs_mk=; fs_two \"$1\" \"$fs_own/t/ask\" fs_ask_now \"$2\" \"$3\"; fs_did=$?\n"
	"	(fs_enter \"$fs_own\" && rmdir ./t; fs_enter \"\" && rmdir -- \"./$fs_own\") >/dev/null 2>&1\n"
	"	return $fs_did\n"
	"}\n"
	/* Back over what we wrote ourselves (its head, or nothing at all). */
	"fs_back() {\n"
	"	fs_parents \"$1\" >/dev/null || return 8\n"
	"	fs_top || return 8\n"
	"	fs_now=$(fs_head \"$1\"); fs_mk=\n"
	"	if [ -z \"$fs_now\" ]; then fs_two \"$fs_own/b/$1\" \"$1\" fs_place_now; return; fi\n"
	"	[ \"$fs_now\" = \"$2\" ] || return 8\n"
	"	fs_two \"$fs_own/b/$1\" \"$1\" fs_over_now\n"
	"}\n"
	"fs_keep_now() { ln -- \"$fs_a\" \"$fs_b\" 2>/dev/null || mv -f $fs_t -- \"$fs_a\" \"$fs_b\"; }\n"
	/* What rsync has left takes the place of what has this head, or of nothing. What it replaces is kept by a
	 * second name, so that nothing is missing for a moment, and looked at afterwards. Where there are no second
	 * names, or not for others' files, it is moved: a copy may end half-way, and be the newer one. */
	"fs_put() {\n"
	"	fs_top || return 8\n"
	"	if [ -z \"$2\" ]; then\n"
	"		fs_parents \"$1\" || return 8\n"
	"		if [ -e \"$fs_dir/$1\" ] || [ -L \"$fs_dir/$1\" ]; then return 9; fi\n"
	"		fs_mk=; fs_two \"$fs_own/s/$1\" \"$1\" fs_move_now 1; return\n"
	"	fi\n"
	"	[ -z \"$fs_kept\" ] || fs_shelf \"$1\" || return 5\n"
	"	fs_private || return 5\n"
	"	fs_is \"$1\" \"$2\" || return\n"
	"	fs_mk=1; fs_two \"$1\" \"$fs_own/b/$1\" fs_keep_now || return 5\n"
	"	fs_mk=; fs_two \"$fs_own/s/$1\" \"$1\" fs_over_now\n"
	"}\n"
	"fs_keep() { fs_parents \"$2\" >/dev/null || return 8; fs_top || return 8; fs_mk=; fs_two \"$fs_own/b/$1\" "
	"\"$2\" fs_place_now; }\n"
	/* Before rsync begins: what it replaces has somewhere to go. Nothing is made, since nothing may be replaced. */
	"fs_able() {\n"
	"	fs_at=$fs_dir/$fs_kept\n"
	"	until [ \"$fs_at\" = \"$fs_dir\" ] || [ -e \"$fs_at\" ] || [ -L \"$fs_at\" ]; do fs_at=${fs_at%/*}; "
	"done\n"
	"	[ \"$fs_at\" = \"$fs_dir\" ] && return\n"
	"	[ -d \"$fs_at\" ] && ! [ -L \"$fs_at\" ] && [ -w \"$fs_at\" ] && return\n"
	"	printf '%s\\n' \"$fs_at is no directory that can be written to (backupDir)\"; return 1\n"
	"}\n"
	"fs_begin() {\n"
	"	[ -z \"$fs_kept\" ] || fs_able || return\n"
	"	fs_private && (fs_enter \"$fs_own\" && mkdir -p -- ./t ./s)\n"
	"}\n"
	"fs_backs() { if [ -d \"$fs_dir/$fs_own/b\" ]; then fs_find tree \"./$fs_own/b\"; else printf '!\\0\\0'; fi; "
	"}\n"
	/* rsync gives copies of the directories above what it sends the permissions of theirs. chmod follows the
	 * symlink that it is named. */
	"fs_clean() {\n"
	"	if [ -z \"$fs_own\" ]; then return; fi\n"
	"	fs_top || return 0\n"
	"	(fs_enter \"\" || exit\n"
	"	rm -rf -- \"./$fs_own\" 2>/dev/null && exit\n"
	"	fs_enter \"$fs_own\" && chmod -R u+rwx .\n"
	"	fs_enter \"\" && rm -rf -- \"./$fs_own\")\n"
	"	fs_did=$?; fs_have=\n"
	"	return $fs_did\n"
	"}\n";

/* ---- commands ---- */

bool remote_name(struct buf *out, const char *path, size_t len)
{
	(void)buf_add_str(out, " ./");
	return remote_quote(out, path, len);
}

bool remote_command(struct buf *out, const char *verb, const char *path, size_t len, const char *word)
{
	(void)buf_add_str(out, verb);
	(void)buf_add_byte(out, ' ');
	(void)remote_quote(out, path, len);
	if (word != NULL) {
		(void)buf_add_byte(out, ' ');
		(void)remote_quote(out, word, strlen(word));
	}
	return !out->failed;
}

bool remote_kept(struct buf *out, const char *dir, const char *stamp)
{
	(void)buf_add_str(out, "fs_kept=");
	(void)remote_quote(out, dir, strlen(dir));
	return buf_printf(out, "; fs_stamp='%s'; ", stamp);
}

bool remote_setup(struct buf *out, const char *own, bool numeric)
{
	return remote_command(out, "fs_setup", own, strlen(own), numeric ? "1" : "");
}

enum remote_look remote_setup_answer(const char *said, size_t len, bool *has_dir, uint64_t *dev)
{
	char text[64];
	const char *last;

	(void)snprintf(text, sizeof(text), "%.*s", (int)(len < sizeof(text) - 1 ? len : sizeof(text) - 1), said);
	*has_dir = strstr(text, " nodir") == NULL;
	last = strrchr(text, ' ');
	*dev = last == NULL ? 0 : strtoull(last, NULL, 10);
	if (strncmp(text, "fine ", 5) == 0)
		return REMOTE_LOOK_FINE;
	return strncmp(text, "seconds ", 8) == 0 ? REMOTE_LOOK_SECONDS : REMOTE_LOOK_NONE;
}

/* ---- entries ---- */

void remote_entries_done(struct remote_entries *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->list[i]);
	free(e->list);
	free(e->buckets);
	*e = (struct remote_entries){ 0 };
}

static size_t hash_of(const char *path, size_t len)
{
	uint64_t hash = path_hash(path, len);

	return (size_t)(hash ^ (hash >> 29));
}

static bool rehash(struct remote_entries *e)
{
	size_t n = e->n_buckets == 0 ? 256 : e->n_buckets * 2;
	struct remote_entry **buckets = calloc(n, sizeof(struct remote_entry *)), **list;

	list = buckets == NULL ? NULL : realloc(e->list, n * sizeof(struct remote_entry *));
	if (list == NULL) {
		free(buckets);
		return false;
	}
	free(e->buckets);
	e->buckets = buckets;
	e->list = list;
	e->n_buckets = e->cap = n;
	for (size_t i = 0; i < e->n; i++) {
		struct remote_entry *x = e->list[i];
		size_t at = hash_of(x->path, x->len) & (n - 1);

		x->hash_next = buckets[at];
		buckets[at] = x;
	}
	return true;
}

const struct remote_entry *remote_entries_find(const struct remote_entries *e, const char *path, size_t len)
{
	const struct remote_entry *x;

	if (e->n_buckets == 0)
		return NULL;
	x = e->buckets[hash_of(path, len) & (e->n_buckets - 1)];
	while (x != NULL && (x->len != len || memcmp(x->path, path, len) != 0))
		x = x->hash_next;
	return x;
}

static int compare(const void *a, const void *b)
{
	const struct remote_entry *x = *(struct remote_entry *const *)a, *y = *(struct remote_entry *const *)b;

	return path_compare(x->path, x->len, y->path, y->len);
}

void remote_entries_sort(struct remote_entries *e)
{
	if (e->n > 0)
		qsort(e->list, e->n, sizeof(struct remote_entry *), compare);
}

/* ---- what find says ---- */

struct head {
	enum look look;
	int64_t size, mtime_ns;
	unsigned mode;
	char owner[64], group[64];
	uint64_t dev;
};

static enum look look_of_letter(char c)
{
	switch (c) {
	case 'f':
		return LOOK_FILE;
	case 'd':
		return LOOK_DIR;
	case 'l':
		return LOOK_SYMLINK;
	default:
		return islower((unsigned char)c) ? LOOK_SPECIAL : LOOK_NONE;
	}
}

/* "1700000000", "1700000000.1234567890", "-1.5000000000" (half a second before 1970 is -1 and .5 here) */
static bool read_time(const char *text, int64_t *out)
{
	char *end;
	long long seconds = strtoll(text, &end, 10);
	int64_t ns = 0, unit = 100000000;

	if (end == text)
		return false;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end); end++, unit /= 10)
			ns += (*end - '0') * unit;
	*out = twoway_time(seconds, ns);
	return *end == '\0';
}

static bool read_head(struct head *h, const char *text)
{
	char letter, time[48];
	long long size;
	unsigned long long dev;
	int end = 0;

	/* NOLINTNEXTLINE(cert-err34-c): numbers that are too large make no harm: they differ */
	if (sscanf(text, "%c %lld %47s %o %63s %63s %llu%n", &letter, &size, time, &h->mode, h->owner, h->group, &dev,
		   &end) != 7 ||
	    text[end] != '\0' || !read_time(time, &h->mtime_ns))
		return false;
	h->look = look_of_letter(letter);
	h->size = size;
	h->dev = dev;
	return h->look != LOOK_NONE;
}

static int add_entry(struct remote_entries *e, const struct twoway_what *w, const char *head, const char *path,
		     size_t len, const char *text, size_t text_len)
{
	struct head h;
	struct remote_entry *x;
	size_t head_len = strlen(head), at;

	if (!read_head(&h, head) || !path_valid(path, len))
		return -2;
	if (remote_entries_find(e, path, len) != NULL)
		return 0; /* asked for twice */
	if (e->n == e->n_buckets && !rehash(e))
		return -1;
	x = malloc(sizeof(*x) + len + 1 + head_len + 1);
	if (x == NULL)
		return -1;
	memcpy(x->path, path, len);
	x->path[len] = '\0';
	memcpy(x->path + len + 1, head, head_len + 1);
	x->head = x->path + len + 1;
	x->len = len;
	x->dev = h.dev;
	x->state = twoway_state_make(w, h.look, h.mode, h.size, h.mtime_ns, w->owner ? h.owner : NULL,
				     w->group ? h.group : NULL, text, text_len);
	at = hash_of(path, len) & (e->n_buckets - 1);
	x->hash_next = e->buckets[at];
	e->buckets[at] = x;
	e->list[e->n++] = x;
	return 0;
}

/* The next NUL-terminated word; NULL: there is none. */
static const char *word(const char **at, const char *end, size_t *len)
{
	const char *start = *at, *nul = memchr(start, '\0', (size_t)(end - start));

	if (nul == NULL)
		return NULL;
	*len = (size_t)(nul - start);
	*at = nul + 1;
	return start;
}

/* That something is not there is an answer; anything else is trouble. The first line of that kind. */
static void read_trouble(const char *text, size_t len, char *trouble, size_t size)
{
	const char *end = text + len;

	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text)), *stop = nl == NULL ? end : nl;
		char line[512];

		(void)snprintf(line, sizeof(line), "%.*s", (int)(stop - text < 500 ? stop - text : 500), text);
		if (line[0] != '\0' && strstr(line, "No such file or directory") == NULL &&
		    strstr(line, "Not a directory") == NULL && trouble[0] == '\0')
			(void)snprintf(trouble, size, "%s", line);
		text = nl == NULL ? end : nl + 1;
	}
}

int remote_entries_read(struct remote_entries *e, const struct twoway_what *w, const char *data, size_t len,
			char *trouble, size_t size, struct err *err)
{
	const char *at = data, *end = data + len, *head, *path, *text;
	size_t head_len, path_len, text_len;
	int rc = 0;

	trouble[0] = '\0';
	while (rc == 0 && (head = word(&at, end, &head_len)) != NULL) {
		path = word(&at, end, &path_len);
		if (path != NULL && strcmp(head, "!") == 0) {
			read_trouble(path, path_len, trouble, size);
			return 0;
		}
		text = path == NULL ? NULL : word(&at, end, &text_len);
		if (text == NULL)
			break;
		if (path_len >= 2 && path[0] == '.' && path[1] == '/') {
			path += 2;
			path_len -= 2;
		}
		rc = add_entry(e, w, head, path, path_len, text, text_len);
	}
	if (rc == -1)
		return err_set(err, ERR_NOMEM, "out of memory for a look at the target");
	return err_set(err, ERR_PROTOCOL, "a look at the target gave what is no list of files: %.*s",
		       len == 0 || len > 200 ? 200 : (int)len, len == 0 ? "nothing" : data);
}
