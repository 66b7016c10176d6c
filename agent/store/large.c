/* SPDX-License-Identifier: MIT */
/* A large file: an object of its own, a tar with one member. Hands read and compress its frames side by side;
 * what must be in order (the digest, the stored bytes) they do in turn. Whoever fills a part sends it, while
 * others go on. */
#include "defer.h"
#include "frames.h"
#include "pack_tar.h"
#include "sha256_hex.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define MIB ((size_t)1 << 20)

/* S3 takes 10,000 parts; some room for what does not become smaller. Parts over this are for files of
 * hundreds of gigabytes, and are sent by whoever has the turn: others need no such buffer. */
enum { MOST_PARTS = 9500 };
#define BIG_PART (32 * MIB)

struct large {
	/* Set at creation. */
	struct item *item;
	struct text header;
	uint64_t raw; /* of the tar */
	size_t n_frames;
	size_t part_size;
	struct create_object *object;

	size_t turn; /* hands_await_turn(): the frame that is next */

	/* Whoever has the turn. */
	struct sha256_ctx sha256;
	uint8_t *part;
	size_t part_len;
	unsigned parts; /* that are full */
	struct store_upload *upload;

	atomic_uint unfinished; /* parts that are being sent, and one for those to come */
	bool complete;
};

/* A full part on its way. */
struct part {
	uint8_t *bytes;
	size_t len;
	unsigned number;
};

static void name_it(struct create_object *o)
{
	uint8_t random[SHA256_DIGEST_SIZE];
	char hex[65];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		abort();
	sha256_print_hex(random, hex);
	snprintf(o->key, sizeof(o->key), "large/%.32s.tar.zst", hex);
}

struct large *large_new(struct item *i)
{
	struct large *l = zalloc(sizeof(*l));
	size_t least;

	l->item = i;
	tar_header(&l->header, i);
	i->at = l->header.len;
	l->raw = l->header.len + i->size + tar_padding(i->size) + TAR_END;
	l->n_frames = (size_t)((l->raw + FRAME_RAW - 1) / FRAME_RAW);
	least = (size_t)(l->raw / MOST_PARTS / MIB + 1) * MIB;
	l->part_size = least > STORE_PART_MIN ? least : STORE_PART_MIN;
	l->object = zalloc(sizeof(*l->object));
	l->object->raw = l->raw;
	l->object->frames = zalloc(l->n_frames * sizeof(struct index_frame));
	name_it(l->object);
	sha256_init(&l->sha256);
	atomic_init(&l->unfinished, 1);
	return l;
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
	free(l);
}

/* Bytes of [at, at + len) of the tar that are in [begin, end): where they are in the frame, and how many. */
static size_t overlap(uint64_t at, size_t len, uint64_t begin, uint64_t end, size_t *ret_where)
{
	uint64_t from = begin > at ? begin : at, to = end < at + len ? end : at + len;

	*ret_where = (size_t)(from - at);
	return from < to ? (size_t)(to - from) : 0;
}

static int read_content(struct hand *h, const struct item *i, uint64_t offset, void *to, size_t len,
	struct error *err)
{
	const struct contents *contents = h->creation->contents;
	struct content from;
	int r;

	if ((r = contents->open(h, i, &from, err)) < 0)
		return r;
	r = contents->read(&from, offset, to, len, err);
	if (r == 0)
		r = contents->check(&from, err);
	contents->close(&from);
	if (r == 0)
		count(&h->creation->opts->progress->received, len);
	return r;
}

/* A frame of the tar into the hand's raw bytes; *ret_content: where the file's are, and how many. */
static int fill(
	struct hand *h, struct large *l, size_t frame, struct slice *ret_content, struct error *err)
{
	struct frames *f = h->frames;
	uint64_t at = (uint64_t)frame * FRAME_RAW, begin = l->header.len,
		 end = begin + l->item->size;
	size_t len = l->raw - at < FRAME_RAW ? (size_t)(l->raw - at) : FRAME_RAW, where, n;
	int r = 0;

	frames_begin(f);
	f->raw_len = len;
	if ((n = overlap(at, len, 0, begin, &where)) > 0)
		memcpy(f->raw + where, l->header.s + at, n);
	if ((n = overlap(at, len, end, l->raw, &where)) > 0)
		memset(f->raw + where, 0, n);
	n = overlap(at, len, begin, end, &where);
	*ret_content = (struct slice){.data = f->raw + where, .len = n};
	if (n > 0)
		r = read_content(h, l->item, at + where - begin, f->raw + where, n, err);
	return r;
}

static int send(struct hand *h, struct large *l, const struct part *p, struct error *err)
{
	int r = store_upload_part(h->store, l->upload, p->number, p->bytes, p->len, err);

	if (r == 0)
		count(&h->creation->sent_bytes, p->len);
	return r;
}

/* The full part of l: into p, to be sent once the turn is given on, or sent at once. */
static int take_part(struct hand *h, struct large *l, struct part *p, struct error *err)
{
	struct part full = {.bytes = l->part, .len = l->part_len, .number = ++l->parts};

	l->part_len = 0;
	if (p->len > 0 || l->part_size > BIG_PART)
		return send(h, l, &full, err);
	*p = full;
	l->part = l->part_size == STORE_PART_MIN ? take_ptr(&h->spare) : NULL;
	atomic_fetch_add(&l->unfinished, 1);
	return 0;
}

static int append(struct hand *h, struct large *l, const uint8_t *bytes, size_t len, struct part *p,
	struct error *err)
{
	int r = 0;

	while (len > 0 && r == 0) {
		size_t n = l->part_size - l->part_len < len ? l->part_size - l->part_len : len;

		if (l->part == NULL && (l->part = malloc(l->part_size)) == NULL)
			return error_set(
				err, -ENOMEM, "no memory for a part of %zu bytes", l->part_size);
		memcpy(l->part + l->part_len, bytes, n);
		l->part_len += n;
		bytes += n;
		len -= n;
		if (l->part_len == l->part_size)
			r = take_part(h, l, p, err);
	}
	return r;
}

/* The end of the object: the table, and the part that is not full. */
static int finish(struct hand *h, struct large *l, struct part *p, struct error *err)
{
	struct create_object *o = l->object;
	size_t len = SEEK_TABLE_SIZE(o->n_frames);
	_free_ uint8_t *table = zalloc(len);
	int r;

	seek_table_write(table, o->frames, o->n_frames);
	o->bytes += len;
	if ((r = append(h, l, table, len, p, err)) < 0)
		return r;
	if (l->part_len > 0)
		r = take_part(h, l, p, err);
	sha256_digest(&l->sha256, sizeof(l->item->sha256), l->item->sha256);
	return r;
}

/* What is done in turn. */
static int add_frame(struct hand *h, struct large *l, const struct slice *content, struct part *p,
	struct error *err)
{
	struct create_object *o = l->object;
	struct frames *f = h->frames;
	int r = 0;

	if (o->n_frames == 0)
		r = store_upload_begin(h->store, o->key, &l->upload, err);
	if (r < 0)
		return r;
	sha256_update(&l->sha256, content->len, content->data);
	o->frames[o->n_frames++] = (struct index_frame){
		.offset = o->bytes, .length = (uint32_t)f->out_len, .raw = (uint32_t)f->raw_len};
	o->bytes += f->out_len;
	r = append(h, l, f->out, f->out_len, p, err);
	return r == 0 && o->n_frames == l->n_frames ? finish(h, l, p, err) : r;
}

/* Sends what the hand has taken; the buffer is its spare one then, for the next large file only if that has
 * parts of the same size. */
static int send_taken(struct hand *h, struct large *l, const struct part *p, struct error *err)
{
	int r = send(h, l, p, err);

	if (h->spare == NULL && l->part_size == STORE_PART_MIN)
		h->spare = p->bytes;
	else
		free(p->bytes);
	return r;
}

/* Whoever ends last completes the object. */
static int end_one(struct hand *h, struct work *w, bool *ret_last, struct error *err)
{
	struct large *l = w->large;
	int r;

	if (atomic_fetch_sub(&l->unfinished, 1) > 1)
		return 0;
	if ((r = store_upload_complete(h->store, l->upload, err)) < 0)
		return r;
	l->complete = true;
	w->object = take_ptr(&l->object);
	*ret_last = true;
	return 0;
}

int large_make_frame(
	struct hand *h, struct work *w, size_t frame, bool *ret_last, struct error *err)
{
	struct large *l = w->large;
	struct part taken = {0};
	struct slice content;
	/* Once this hand has ended its share, others may complete the file, and then it is gone. */
	bool is_last = frame == l->n_frames - 1;
	uint32_t len;
	int r;

	*ret_last = false;
	if ((r = fill(h, l, frame, &content, err)) < 0 ||
		(r = frames_compress(h->frames, &len, err)) < 0)
		return r;
	if (!hands_await_turn(h->hands, &l->turn, frame))
		return error_set(err, -ECANCELED, "cancelled");
	r = add_frame(h, l, &content, &taken, err);
	if (r == 0)
		hands_next_turn(h->hands, &l->turn);
	if (taken.len > 0 && r == 0) {
		r = send_taken(h, l, &taken, err);
		if (r == 0)
			r = end_one(h, w, ret_last, err);
	} else {
		free(taken.bytes);
	}
	if (r == 0 && is_last)
		r = end_one(h, w, ret_last, err);
	return r;
}
