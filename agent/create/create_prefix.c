/* SPDX-License-Identifier: MIT */
/* The objects below an S3 prefix as a tree: copied, or named by an index that leaves them where they are.
 * S3 lists by the bytes of whole keys, where '-' and '.' come before '/': so all are listed, and then brought
 * into the index's order. */
#include "create.h"
#include "defer.h"
#include "walk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct listing {
	const struct create_options *opts;
	const struct creation *creation;
	size_t prefix_len;
	struct item **items;
	size_t n, cap;
};

static void add(struct listing *l, struct item *i)
{
	if (l->n == l->cap) {
		l->cap = l->cap * 2 + 1024;
		l->items = reallocarray(l->items, l->cap, sizeof(struct item *));
		if (l->items == NULL)
			abort();
	}
	l->items[l->n++] = i;
}

/* A key that ends with '/' is how a directory is written down. */
static struct item *item_of(
	const struct listing *l, const struct s3_object *o, char *path, size_t len)
{
	struct item *i;

	if (path[len - 1] == '/') {
		path[len - 1] = '\0';
		i = item_new(INDEX_DIR, path, NULL, NULL);
		i->mode = 0755;
	} else {
		i = item_new(l->opts->no_copy ? INDEX_REFERENCE : INDEX_FILE, path,
			l->opts->no_copy ? o->key : NULL, o->etag);
		i->mode = 0644;
		i->size = o->size;
	}
	i->mtime.tv_sec = o->modified;
	return i;
}

static int on_object(void *ctx, const struct s3_object *o, struct error *err)
{
	struct listing *l = ctx;
	_free_ char *path = copy_text(o->key + l->prefix_len);
	struct item *i;

	if (*path == '\0')
		return 0; /* the prefix itself, as a directory */
	i = item_of(l, o, path, strlen(path));
	if (!path_is_plain(i->path)) {
		item_free(i);
		return error_set(err, -ERR_REFUSED,
			"the key '%s' is no path that a directory could have (an empty, '.' or "
			"'..' component, or "
			"too long); rename the object, or exclude it",
			o->key);
	}
	if (selection_apply(l->opts->selection, i->path) != NULL)
		add(l, i);
	else
		item_free(i);
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return path_order((*(struct item *const *)a)->path, (*(struct item *const *)b)->path);
}

/* In order, what is beneath a file would follow it. */
static int check_tree(const struct listing *l, struct error *err)
{
	const struct item *above = NULL;

	for (size_t n = 0; n < l->n; n++) {
		const struct item *i = l->items[n];
		size_t len = above != NULL ? strlen(above->path) : 0;

		if (above != NULL && above->type != INDEX_DIR &&
			strncmp(i->path, above->path, len) == 0 &&
			(i->path[len] == '/' || i->path[len] == '\0'))
			return error_set(err, -ERR_REFUSED,
				"'%s' is an object and has others beneath it, or comes twice: no "
				"directory can be like "
				"that; exclude one of them",
				above->path);
		above = i;
	}
	return 0;
}

static int list(struct listing *l, struct error *err)
{
	struct s3_client *client = NULL;
	int r = s3_client_new(l->opts->s3, l->opts->cancel, &client, err);

	if (r < 0)
		return r;
	r = s3_list(client, l->creation->place.bucket, l->creation->place.key, NULL, '\0',
		on_object, l, err);
	s3_client_free(client);
	if (r < 0)
		return r;
	if (l->n == 0)
		return error_set(err, -ENOENT, "there is nothing below %s", l->creation->where);
	qsort(l->items, l->n, sizeof(struct item *), by_path);
	return check_tree(l, err);
}

static int give_all(struct director *d, struct listing *l, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < l->n && r == 0; n++) {
		struct item *i = l->items[n];

		l->items[n] = NULL;
		r = director_add(d, i, err);
	}
	return r;
}

int create_feed_prefix(struct director *d, struct error *err)
{
	struct listing l = {.opts = d->creation->opts,
		.creation = d->creation,
		.prefix_len = strlen(d->creation->place.key)};
	int r = list(&l, err);

	if (r == 0 && l.opts->no_copy)
		d->manifest->reference = copy_text(l.opts->source);
	if (r == 0)
		r = give_all(d, &l, err);
	for (size_t n = 0; n < l.n; n++)
		item_free(l.items[n]);
	free(l.items);
	return r;
}
