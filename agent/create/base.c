/* SPDX-License-Identifier: MIT */
/* Reads the index of an earlier version, entry by entry, up to where the walk is. */
#include "base.h"
#include "defer.h"
#include "digest.h"
#include "log.h"
#include "walk.h"
#include <errno.h>
#include <string.h>

/* The stored bytes of one part are a few hundred KiB; more is no part of ours. */
#define PART_MAX ((size_t)80 << 20)

struct base {
	struct store_hand *store;
	struct objects *objects;
	const struct manifest *manifest;
	size_t next_part;
	struct index_part part;
	size_t at;      /* the entry that is next */
	char *previous; /* path of the entry before */
	bool at_links;  /* the walk is at files with several names: so is this */
};

struct base *base_new(struct store_hand *store, struct objects *objects, const struct manifest *m)
{
	struct base *b = zalloc(sizeof(*b));

	b->store = store;
	b->objects = objects;
	b->manifest = m;
	return b;
}

void base_free(struct base *b)
{
	if (b == NULL)
		return;
	index_part_done(&b->part);
	free(b->previous);
	free(b);
}

static int load(struct base *b, struct error *err)
{
	const struct manifest_part *p = &b->manifest->parts[b->next_part++];
	_free_ char *key = format_text("index/%.2s/%s.zst", p->sha256, p->sha256);
	_free_ char *bytes = NULL;
	size_t len;
	int r;

	index_part_done(&b->part);
	b->part = (struct index_part){0};
	b->at = 0;
	r = store_get_all(b->store, key, PART_MAX, &bytes, &len, err);
	if (r == 0)
		r = index_part_decode(bytes, len, &b->part, err);
	if (r != -ENOENT && r != -ERR_FORMAT)
		return r;
	log_warn("version %u of %s has a damaged index (%s); what would be looked up there is sent "
		 "anew",
		b->manifest->version, b->manifest->name, err->msg);
	b->part = (struct index_part){0};
	b->next_part = b->manifest->n_parts;
	return 0;
}

/* The next entry, without passing it; *ret NULL at the end. */
static int peek(struct base *b, const struct index_entry **ret, struct error *err)
{
	int r;

	*ret = NULL;
	while (b->at == b->part.n_entries) {
		if (b->manifest == NULL || b->next_part == b->manifest->n_parts)
			return 0;
		if ((r = load(b, err)) < 0)
			return r;
	}
	*ret = &b->part.entries[b->at];
	return 0;
}

static void pass(struct base *b, const struct index_entry *e)
{
	free(b->previous);
	b->previous = copy_text(e->path);
	b->at++;
}

/* Whether e is the first of the files with several names: there the order begins again. */
static bool begins_links(const struct base *b, const struct index_entry *e)
{
	return !b->at_links && b->previous != NULL && path_order(e->path, b->previous) <= 0;
}

int base_go_to_links(struct base *b, struct error *err)
{
	const struct index_entry *e;
	int r;

	while ((r = peek(b, &e, err)) == 0 && e != NULL && !begins_links(b, e))
		pass(b, e);
	b->at_links = true;
	return r;
}

/* Goes to the entry of path; NULL when there is none. */
static int find(struct base *b, const char *path, const struct index_entry **ret, struct error *err)
{
	int r;

	while ((r = peek(b, ret, err)) == 0 && *ret != NULL) {
		const struct index_entry *e = *ret;
		int order = e->type == INDEX_HARDLINK ? -1 : path_order(e->path, path);

		if (order == 0 && !begins_links(b, e))
			return 0;
		if (order > 0 || begins_links(b, e))
			break;
		pass(b, e);
	}
	*ret = NULL;
	return r;
}

/* How many frames, from e's first, hold its content. */
static size_t count_frames(const struct index_part *p, const struct index_entry *e)
{
	uint64_t covered = p->frames[e->frame].raw - e->skip;
	size_t n = 1;

	while (covered < e->size)
		covered += p->frames[e->frame + n++].raw;
	return n;
}

static void set_earlier(struct base *b, struct item *i, const struct index_entry *e)
{
	const struct index_frame *frames = &b->part.frames[e->frame];
	struct create_object *object = objects_find(b->objects, b->part.objects[frames->object]);
	size_t n = count_frames(&b->part, e);

	if (object == NULL || object->hardly_used)
		return;
	i->earlier = zalloc(sizeof(*i->earlier) + n * sizeof(*frames));
	if (!digest_parse(e->sha256, i->earlier->sha256)) {
		free(take_ptr(&i->earlier));
		return;
	}
	i->earlier->object = object;
	i->earlier->skip = e->skip;
	i->earlier->n_frames = n;
	memcpy(i->earlier->frames, frames, n * sizeof(*frames));
}

int base_look_up(struct base *b, struct item *i, struct error *err)
{
	const struct index_entry *e;
	int r = find(b, i->path, &e, err);

	if (r < 0 || e == NULL)
		return r;
	i->known = e->type == i->type;
	if (item_has_content(i) && i->known && e->size == i->size && e->sha256 != NULL)
		set_earlier(b, i, e);
	return 0;
}
