/* SPDX-License-Identifier: MIT */
/* The sink of a tree that becomes a datastore: each entry into the pack that is being filled. */
#include "stream.h"
#include "pack_tar.h"
#include <stdlib.h>

/* Less than other packs have: several of them are in memory. */
#define STREAM_PACK_RAW ((uint64_t)16 << 20)

void stream_init(struct stream *s, struct director *d)
{
	*s = (struct stream){.director = d};
	pthread_mutex_init(&s->mutex, NULL);
}

void stream_drop(struct stream *s, struct item *i)
{
	if (i->content != NULL)
		director_drop(s->director, i->content);
	director_drop(s->director, i);
}

void stream_done(struct stream *s)
{
	for (size_t n = 0; n < s->n; n++)
		if (s->items[n] != NULL)
			stream_drop(s, s->items[n]);
	out_done(&s->pack);
	free(s->items);
	pthread_mutex_destroy(&s->mutex);
}

static int hands_locked(struct stream *s, struct error *err)
{
	struct director *d = s->director;

	return d->hands == NULL ? makers_start(d->creation, &d->hands, err) : 0;
}

int stream_hands(struct stream *s, struct hands **ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	r = hands_locked(s, err);
	*ret = s->director->hands;
	pthread_mutex_unlock(&s->mutex);
	return r;
}

static void keep_locked(struct stream *s, struct item *i)
{
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 1024;
		s->items = reallocarray(s->items, s->cap, sizeof(struct item *));
		if (s->items == NULL)
			abort();
	}
	i->number = s->n;
	s->items[s->n++] = i;
}

void stream_keep(struct stream *s, struct item *i)
{
	pthread_mutex_lock(&s->mutex);
	keep_locked(s, i);
	pthread_mutex_unlock(&s->mutex);
}

/* A place in a pack that has room for raw bytes more. */
static int place_locked(struct stream *s, struct item *i, uint64_t raw, struct error *err)
{
	int r = 0;

	if (s->pack.owner != NULL && s->pack.total + raw > STREAM_PACK_RAW)
		r = out_end(&s->pack, err);
	if (r < 0)
		return r;
	if (s->pack.owner == NULL)
		out_begin(&s->pack, s->director->hands, large_new_pack(), i);
	else
		out_add_item(&s->pack, i);
	return 0;
}

static int put_locked(struct stream *s, struct item *i, const void *bytes, struct error *err)
{
	uint64_t len = item_has_content(i) ? i->size : 0;
	struct text header = {0};
	int r;

	tar_header(&header, i);
	r = out_make_room(&s->pack, header.len + len + tar_padding(len), err);
	if (r == 0)
		r = out_put(&s->pack, header.s, header.len, err);
	i->at = s->pack.total;
	if (r == 0)
		r = out_put(&s->pack, bytes, len, err);
	if (r == 0)
		r = out_put(&s->pack, NULL, tar_padding(len), err);
	text_done(&header);
	return r;
}

int stream_add_member(struct stream *s, struct item *i, const void *bytes, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	keep_locked(s, i);
	r = hands_locked(s, err);
	if (r == 0)
		r = place_locked(s, i, tar_member_size(i), err);
	if (r == 0)
		r = put_locked(s, i, bytes, err);
	pthread_mutex_unlock(&s->mutex);
	return r;
}

static int on_dir(void *ctx, const char *path, const struct meta *m, struct error *err)
{
	struct item *i = item_new(INDEX_DIR, *path != '\0' ? path : ".", NULL, NULL);

	i->mode = m->mode & 0777;
	i->mtime = m->mtime;
	return stream_add_member(ctx, i, NULL, err);
}

static int on_symlink(void *ctx, const char *path, const char *target, bool verify,
	const struct meta *m, struct error *err)
{
	struct item *i;

	if (*path == '\0')
		return error_set(err, -ERR_REFUSED, "the root of the archive is a symbolic link");
	i = item_new(INDEX_SYMLINK, path, target, NULL);
	i->mode = 0777;
	i->mtime = m->mtime;
	i->verify = verify;
	return stream_add_member(ctx, i, NULL, err);
}

static int on_hardlink(void *ctx, const char *path, const char *target, struct error *err)
{
	return stream_add_member(ctx, item_new(INDEX_HARDLINK, path, target, NULL), NULL, err);
}

const struct tree_sink stream_sink = {.dir = on_dir,
	.symlink = on_symlink,
	.hardlink = on_hardlink,
	.file_open = stream_file_open,
	.file_write = stream_file_write,
	.file_close = stream_file_close,
	.file_abandon = stream_file_abandon};
