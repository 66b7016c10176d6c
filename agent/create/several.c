/* SPDX-License-Identifier: MIT */
/* Which names are one file's. Inode numbers say only that; the order is that of the first names, so that two
 * copies of a tree are told alike. */
#include "several.h"
#include <stdlib.h>

void several_keep(struct several *s, struct item *i, const struct stat *st)
{
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 64;
		s->names = reallocarray(s->names, s->cap, sizeof(*s->names));
		if (s->names == NULL)
			abort();
	}
	s->names[s->n] =
		(struct named){.item = i, .dev = st->st_dev, .ino = st->st_ino, .number = s->n};
	s->n++;
}

void several_done(struct several *s)
{
	for (size_t i = s->told; i < s->n; i++)
		item_free(s->names[i].item);
	free(s->names);
	free(s->first_name);
}

static int by_inode(const void *va, const void *vb)
{
	const struct named *a = va, *b = vb;

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

static int by_first_name(const void *va, const void *vb)
{
	const struct named *a = va, *b = vb;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

void several_group(struct several *s)
{
	struct named *all = s->names;

	if (s->n == 0)
		return;
	qsort(all, s->n, sizeof(*all), by_inode);
	for (size_t i = 0; i < s->n; i++) {
		bool again = i > 0 && all[i].dev == all[i - 1].dev && all[i].ino == all[i - 1].ino;

		all[i].first = again ? all[i - 1].first : all[i].number;
	}
	qsort(all, s->n, sizeof(*all), by_first_name);
}

struct item *several_next(struct several *s)
{
	const struct named *this = s->names + s->told;
	struct item *i, *link;

	if (s->told == s->n)
		return NULL;
	i = this->item;
	if (s->told++ == 0 || this[-1].first != this->first) {
		free(s->first_name);
		s->first_name = copy_text(i->path);
		return i;
	}
	link = item_new(INDEX_HARDLINK, i->path, s->first_name, NULL);
	link->mode = i->mode;
	link->mtime = i->mtime;
	link->size = i->size;
	item_free(i);
	return link;
}
