/* SPDX-License-Identifier: MIT */
/* The entries of an archive into the index's order, when all are there. Of those with one name the last counts,
 * as with tar; hard links find their targets; symbolic links that only the whole tree can judge are judged. */
#include "defer.h"
#include "stream.h"
#include "walk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_path(const void *va, const void *vb)
{
	const struct item *a = *(struct item *const *)va, *b = *(struct item *const *)vb;
	int order = path_order(a->path, b->path);

	if (order != 0)
		return order;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* The item of this path; NULL: none. */
static struct item *find(const struct stream *s, const char *path, size_t *ret_at)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (path_order(s->items[middle]->path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_at = low;
	return low < s->n && strcmp(s->items[low]->path, path) == 0 ? s->items[low] : NULL;
}

/* Content that came with another name of a file: all its names have it. */
static void give_content(struct item *to, struct item *from)
{
	struct work *had = to->work;

	to->work = from->work;
	to->at = from->at;
	to->size = from->size;
	to->sparse = from->sparse;
	to->mode = from->mode;
	to->mtime = from->mtime;
	memcpy(to->sha256, from->sha256, sizeof(to->sha256));
	from->work = had;
}

static int refuse_kind(const struct item *i, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"'%s' was refused: the archive has it as a directory and as something else",
		i->path);
}

static bool is_same_kind(const struct item *a, const struct item *b)
{
	return (a->type == INDEX_DIR) == (b->type == INDEX_DIR);
}

/* Of one path there is one; content for a link before it stays with that, until links are resolved. */
static int drop_doubles(struct stream *s, struct error *err)
{
	size_t kept = 0;
	int r = 0;

	for (size_t n = 0; n < s->n; n++) {
		struct item *i = s->items[n];
		struct item *before = kept > 0 ? s->items[kept - 1] : NULL;

		if (before == NULL || strcmp(before->path, i->path) != 0) {
			s->items[kept++] = i;
		} else if (!is_same_kind(before, i)) {
			r = refuse_kind(i, err);
			s->items[kept++] = i;
		} else if (i->existing && before->type == INDEX_HARDLINK &&
			   before->content == NULL) {
			before->content = i;
		} else {
			stream_drop(s, before);
			s->items[kept - 1] = i;
		}
	}
	s->n = kept;
	return r;
}

static int check_parents(const struct stream *s, struct error *err)
{
	const struct item *above = NULL;

	for (size_t n = 0; n < s->n; n++) {
		const struct item *i = s->items[n];
		size_t len = above != NULL ? strlen(above->path) : 0;

		if (above != NULL && strncmp(i->path, above->path, len) == 0 && i->path[len] == '/')
			return error_set(err, -ERR_REFUSED,
				"'%s' was refused: its parent '%s' is not a directory", i->path,
				above->path);
		if (i->type != INDEX_DIR)
			above = i;
	}
	return 0;
}

static bool is_dir(void *ctx, char *path)
{
	const struct stream *s = ctx;
	size_t at, len = strlen(path);
	const struct item *i = find(s, path, &at);

	if (i != NULL)
		return i->type == INDEX_DIR;
	return at < s->n && strncmp(s->items[at]->path, path, len) == 0 &&
	       s->items[at]->path[len] == '/';
}

static int judge_link(struct stream *s, const struct item *i, struct error *err)
{
	if (!link_leaves(i->path, i->target, is_dir, s))
		return 0;
	return error_set(err, -ERR_REFUSED,
		"'%s' was refused: its target '%s' leads out of the archive", i->path, i->target);
}

/* What a hard link is one to, by way of others. */
static struct item *follow(struct stream *s, const struct item *link)
{
	size_t at;
	struct item *to = find(s, link->target, &at);

	for (int steps = 0; to != NULL && to->type == INDEX_HARDLINK; steps++) {
		if (steps == 1000)
			return NULL;
		to = find(s, to->target, &at);
	}
	return to;
}

/* A second name of a symbolic link is one of its own. */
static struct item *as_symlink(struct stream *s, struct item *link, const struct item *to)
{
	struct item *i = item_new(INDEX_SYMLINK, link->path, to->target, NULL);

	i->mode = to->mode;
	i->mtime = to->mtime;
	i->verify = true;
	stream_drop(s, link);
	return i;
}

static int resolve_link(struct stream *s, size_t n, struct error *err)
{
	struct item *link = s->items[n], *content = take_ptr(&link->content);
	struct item *to = follow(s, link);

	if (content != NULL && to != NULL && to->type == INDEX_FILE)
		give_content(to, content);
	if (content != NULL)
		stream_drop(s, content);
	if (to == NULL || to->type == INDEX_DIR)
		return error_set(err, -ERR_REFUSED,
			"'%s' was refused: it is a hard link to '%s', which is no file of the "
			"archive (was it "
			"excluded?)",
			link->path, link->target);
	if (to->type == INDEX_SYMLINK) {
		s->items[n] = as_symlink(s, link, to);
		return 0;
	}
	link->link_to = to;
	to->linked = true;
	return 0;
}

static int resolve(struct stream *s, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < s->n && r == 0; n++)
		if (s->items[n]->type == INDEX_HARDLINK)
			r = resolve_link(s, n, err);
	for (size_t n = 0; n < s->n && r == 0; n++)
		if (s->items[n]->verify)
			r = judge_link(s, s->items[n], err);
	return r;
}

/* Files with other names come last, each before those. */
static int by_group(const void *va, const void *vb)
{
	const struct item *a = *(struct item *const *)va, *b = *(struct item *const *)vb;
	bool a_last = a->linked || a->link_to != NULL, b_last = b->linked || b->link_to != NULL;
	const struct item *a_head = a->link_to != NULL ? a->link_to : a;
	const struct item *b_head = b->link_to != NULL ? b->link_to : b;

	if (a_last != b_last)
		return a_last - b_last;
	if (a_head != b_head)
		return path_order(a_head->path, b_head->path);
	if ((a->link_to == NULL) != (b->link_to == NULL))
		return a->link_to == NULL ? -1 : 1;
	return path_order(a->path, b->path);
}

/* A link's target is named by the path that the index has just before it. */
static struct item *final_item(struct stream *s, struct item *i)
{
	struct item *named;

	if (i->link_to == NULL)
		return i;
	named = item_new(INDEX_HARDLINK, i->path, i->link_to->path, NULL);
	named->mode = i->link_to->mode;
	named->mtime = i->link_to->mtime;
	named->size = i->link_to->size;
	named->work = take_ptr(&i->work);
	stream_drop(s, i);
	return named;
}

static int index_all(struct stream *s, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < s->n; n++) {
		/* Targets are freed only when others follow that no longer name them. */
		s->items[n] = final_item(s, s->items[n]);
	}
	for (size_t n = 0; n < s->n && r == 0; n++)
		r = director_add_placed(s->director, take_ptr(&s->items[n]), err);
	return r;
}

/* Nothing that a hand still has may be dropped. */
static int await_all(struct stream *s, struct error *err)
{
	int r = s->pack.owner != NULL ? out_end(&s->pack, err) : 0;

	for (size_t n = 0; n < s->n && r == 0; n++)
		r = makers_await(s->director->hands, s->items[n]->work, err);
	return r;
}

int stream_finish(struct stream *s, struct error *err)
{
	int r = await_all(s, err);

	if (r < 0 || s->n == 0)
		return r;
	qsort(s->items, s->n, sizeof(struct item *), by_path);
	if ((r = drop_doubles(s, err)) < 0 || (r = check_parents(s, err)) < 0 ||
		(r = resolve(s, err)) < 0)
		return r;
	qsort(s->items, s->n, sizeof(struct item *), by_group);
	return index_all(s, err);
}
