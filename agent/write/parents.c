/* SPDX-License-Identifier: MIT */
/* A small least-recently-used cache of open directories, one for each writer. */
#include "parents.h"
#include "beneath.h"
#include "tree_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool holds(const struct parent *d, const char *path, size_t len)
{
	return d->path != NULL && d->len == len && memcmp(d->path, path, len) == 0;
}

static struct parent *find(struct parents *p, const char *path, size_t len)
{
	if (p->last != NULL && holds(p->last, path, len))
		return p->last;
	for (size_t i = 0; i < PARENTS_KEPT; i++) {
		if (holds(&p->kept[i], path, len))
			return &p->kept[i];
	}
	return NULL;
}

static void forget(struct parent *d)
{
	if (d->path == NULL)
		return;
	close(d->fd);
	free(d->path);
	*d = (struct parent){0};
}

static struct parent *oldest(struct parents *p)
{
	struct parent *old = &p->kept[0];

	for (size_t i = 1; i < PARENTS_KEPT; i++) {
		if (p->kept[i].used < old->used)
			old = &p->kept[i];
	}
	return old;
}

int parents_get(struct parents *p, const struct tree *t, const char *path, size_t len, bool create,
	size_t *ret_bad_len)
{
	struct parent *d;

	if (len == 0)
		return t->root_fd;
	if ((d = find(p, path, len)) == NULL) {
		char *key = strndup(path, len);
		int fd = key == NULL ? -ENOMEM : beneath_open(t, key, create, ret_bad_len);

		if (fd < 0) {
			free(key);
			return fd;
		}
		d = oldest(p);
		forget(d);
		*d = (struct parent){.path = key, .len = len, .fd = fd};
	}
	d->used = ++p->clock;
	p->last = d;
	return d->fd;
}

void parents_done(struct parents *p)
{
	for (size_t i = 0; i < PARENTS_KEPT; i++)
		forget(&p->kept[i]);
	p->last = NULL;
}
