/* SPDX-License-Identifier: MIT */
/* The kinds of objects that are made frame by frame, before their first frame. */
#include "defer.h"
#include "digest.h"
#include "large_private.h"
#include "pack_tar.h"
#include <limits.h>
#include <string.h>
#include <sys/random.h>

#define MIB ((size_t)1 << 20)

/* S3 takes 10,000 parts; some room for what does not become smaller. */
enum { MOST_PARTS = 9500 };

/* A file of unknown size has no more than this times MOST_PARTS. */
#define UNKNOWN_PART (16 * MIB)

/* The longest names and all records, stored. */
#define HEAD_ROOM ((size_t)32 << 10)

static void name_it(struct create_object *o)
{
	uint8_t random[SHA256_DIGEST_SIZE];
	char hex[65];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		abort();
	digest_print(random, hex);
	snprintf(o->key, sizeof(o->key), "large/%.32s.tar.zst", hex);
}

static struct large *make(size_t part_size)
{
	struct large *l = zalloc(sizeof(*l));

	l->part_size = part_size > STORE_PART_MIN ? part_size : STORE_PART_MIN;
	l->n_frames = SIZE_MAX;
	l->object = zalloc(sizeof(*l->object));
	name_it(l->object);
	sha256_init(&l->sha256);
	atomic_init(&l->unfinished, 1);
	return l;
}

struct large *large_new_streamed(uint64_t raw)
{
	return make((size_t)(raw / MOST_PARTS / MIB + 1) * MIB);
}

struct large *large_new(struct item *i)
{
	struct text header = {0};
	struct large *l;
	uint64_t raw;

	tar_header(&header, i);
	i->at = header.len;
	raw = header.len + i->size + tar_padding(i->size) + TAR_END;
	l = large_new_streamed(raw);
	l->item = i;
	l->header = header;
	l->raw = raw;
	l->n_frames = (size_t)((raw + FRAME_RAW - 1) / FRAME_RAW);
	return l;
}

struct large *large_new_pack(void)
{
	struct large *l = make(PACK_RAW + MIB);

	l->is_pack = true;
	return l;
}

struct large *large_new_headless(void)
{
	struct large *l = make(UNKNOWN_PART);

	l->head_room = HEAD_ROOM;
	return l;
}

void large_set_header(struct large *l, struct item *i)
{
	tar_header(&l->header, i);
	i->at = l->header.len;
}

size_t large_frames(const struct large *l)
{
	return l->n_frames;
}

void large_free(struct large *l, struct store_hand *store)
{
	if (l == NULL)
		return;
	if (l->upload != NULL && !l->complete)
		store_upload_abort(store, l->upload);
	store_upload_free(l->upload);
	create_object_free(l->object);
	text_done(&l->header);
	free(l->part);
	free(l->first_part);
	free(l);
}
