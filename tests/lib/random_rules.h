/*
 * random_rules.h - random trees of odd names, and random lists of rsync filter rules over them, for the property tests
 * of the filter.
 */
#ifndef FANSYNCD_TESTS_LIB_RANDOM_RULES_H
#define FANSYNCD_TESTS_LIB_RANDOM_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_ENTRIES 130
#define EXTRA_ENTRIES 90
#define NODES_MAX (SOURCE_ENTRIES + EXTRA_ENTRIES)
#define DEPTH_MAX 5
#define PATH_SIZE 512
#define OPTIONS_MAX 32
#define TEXT_SIZE 1024

/* The same numbers from the same state, on every machine. */
struct rng {
	uint64_t state;
};

struct node {
	char path[PATH_SIZE];
	size_t len, depth;
	bool is_dir;
	bool named; /* by rsync, in the run that is looked at */
};

struct tree {
	char root[PATH_SIZE];
	struct node v[NODES_MAX];
	size_t n;
};

/* An argument list of rsync that holds nothing but filter options. */
struct options {
	char *v[OPTIONS_MAX + 1];
	size_t n;
	char file[2 * PATH_SIZE]; /* that one of them may name */
};

size_t rng_below(struct rng *r, size_t n);
bool rng_percent(struct rng *r, unsigned p);
/* NULL: the tree does not have it. */
struct node *tree_find(struct tree *t, const char *path, size_t len);
/* Tries to make a new entry in a random directory of `t`, under a name that neither tree has there. */
void tree_grow(struct tree *t, struct tree *other, struct rng *r);
/* How long the parent's path is; 0 for what stands in the root. */
size_t path_parent_len(const char *path, size_t len);
/* The target of a deletion: part of what the source has, and entries that it has not. */
void tree_fill_target(struct tree *target, struct tree *source, struct rng *r);
void options_add(struct options *o, const char *text);
/* A list that is meant to be valid, with patterns that match something in `t` often. */
void options_make(struct options *o, const struct tree *t, struct rng *r);
void options_free(struct options *o);
/* One rule, valid or not. */
void options_make_odd(struct options *o, struct rng *r);

#endif
