/* suggest.c - "did you mean": the known word that takes the fewest edits. Pure. */
#include <ctype.h>
#include <string.h>

#include "config/private.h"

#define WORD_MAX 48

/* Lower case without underscores and dashes: lsyncd's spelling and ours differ in nothing else. */
static size_t fold(const char *word, char out[WORD_MAX])
{
	size_t n = 0;

	for (; *word != '\0'; word++) {
		if (*word == '_' || *word == '-')
			continue;
		if (n == WORD_MAX)
			return 0;
		out[n++] = (char)tolower((unsigned char)*word);
	}
	return n;
}

static size_t least(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edit distance with transpositions of neighbours. */
static size_t distance(const char *a, size_t alen, const char *b, size_t blen)
{
	size_t row[3][WORD_MAX + 1];

	for (size_t j = 0; j <= blen; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= alen; i++) {
		size_t *now = row[i % 3], *prev = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= blen; j++) {
			size_t change = prev[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);

			now[j] = least(prev[j] + 1, now[j - 1] + 1, change);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
	}
	return row[alen % 3][blen];
}

struct best {
	const char *word;
	size_t distance;
};

static void consider(struct best *best, const char *folded, size_t len, const char *candidate)
{
	char other[WORD_MAX];
	size_t n = fold(candidate, other);
	size_t d = distance(folded, len, other, n);

	if (d < best->distance) {
		best->distance = d;
		best->word = candidate;
	}
}

/* One edit for short words, a third of the letters for long ones. */
static struct best start(size_t len)
{
	return (struct best){ .distance = (len < 6 ? 1 : len / 3) + 1 };
}

const char *config_suggest(const char *const *words, size_t n, const char *word)
{
	char folded[WORD_MAX];
	size_t len = fold(word, folded);
	struct best best = start(len);

	if (len == 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		consider(&best, folded, len, words[i]);
	return best.word;
}

/* What stands in a section, and is a section itself. */
static void consider_groups(struct best *best, const char *folded, size_t len, enum config_section section)
{
	static const enum config_section of_sync[] = { SECTION_RSYNC, SECTION_SSH, SECTION_EXEC, SECTION_TUNNEL };

	for (size_t i = 0; section == SECTION_SYNC && i < sizeof(of_sync) / sizeof(of_sync[0]); i++)
		consider(best, folded, len, config_section_name(of_sync[i]));
	if (section == SECTION_RECEIVER)
		consider(best, folded, len, "modules");
}

const char *config_suggest_key(enum config_section section, bool native, const char *word)
{
	char folded[WORD_MAX];
	size_t n, len = fold(word, folded);
	const struct config_key *table = config_table(&n);
	struct best best = start(len);

	if (len == 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];

		if (k->type == TYPE_IGNORED)
			continue;
		if (k->section == section ||
		    (native && section == SECTION_SYNC && k->section == SECTION_RSYNC && (k->flags & KEY_PROGRAM) == 0))
			consider(&best, folded, len, k->name);
	}
	consider_groups(&best, folded, len, section);
	return best.word;
}
