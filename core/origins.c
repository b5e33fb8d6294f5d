#include "core/origins.h"

#include <string.h>

bool host_tree_same(const struct host_tree *a, const struct host_tree *b)
{
	return a->ino != 0 && a->ino == b->ino && a->dev == b->dev && memcmp(a->host, b->host, sizeof(a->host)) == 0 &&
	       memcmp(a->address, b->address, sizeof(a->address)) == 0;
}

bool host_tree_lost(const struct host_tree *before, const struct host_tree *now)
{
	if (before->ino == 0 || now->ino == 0)
		return false;
	if (before->ino != now->ino || before->dev != now->dev ||
	    memcmp(before->host, now->host, sizeof(before->host)) != 0)
		return true;
	return host_boot_known(before->boot) && host_boot_known(now->boot) &&
	       memcmp(before->boot, now->boot, sizeof(before->boot)) != 0;
}

void origins_drop(struct origins *o, uint32_t pid)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].pid == pid) {
			o->v[i] = o->v[--o->n];
			return;
		}
}

void origins_put(struct origins *o, uint32_t pid, const struct host_tree *from)
{
	origins_drop(o, pid);
	if (o->n == ORIGINS_MAX)
		return;
	o->v[o->n].pid = pid;
	o->v[o->n++].from = *from;
}

const struct host_tree *origins_find(const struct origins *o, uint32_t pid)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].pid == pid)
			return &o->v[i].from;
	return NULL;
}
