/* SPDX-License-Identifier: MIT */
/* Objects that are made frame by frame: a large file (a tar with one member), or a pack of streamed
 * files. Several workers compress frames at the same time. What needs the order (digest, stored
 * bytes) each of them does in its turn. The worker that fills a part of a large file sends it,
 * while the others go on. */
#include "create_private.h"
#include "defer.h"
#include "digest.h"
#include "random.h"
#include <errno.h>
#include <limits.h>
#include <string.h>

struct create_large {
	/* Set at creation. */
	struct create_item *item; /* the file to read; NULL: the frames are streamed */
	bool is_pack; /* stored with one PUT and named by its digest; otherwise uploaded in parts */
	struct text header;
	uint64_t raw;    /* bytes of the tar; 0: not known */
	size_t n_frames; /* SIZE_MAX: not known */
	size_t part_size;
	size_t header_room; /* stored bytes reserved for the header; 0: it is in the first frame */

	/* Under the lock of the workers. */
	uint64_t turn; /* number of the frame that is appended next: create_workers_await_turn() */

	/* The worker whose turn it is. */
	struct create_object *object;
	size_t frames_cap;
	struct sha256_ctx sha256; /* of the file's content; of a pack's raw bytes */
	uint8_t *part;
	size_t part_len;
	unsigned parts;      /* that became full */
	uint8_t *first_part; /* held back until the header is known */
	struct store_upload *upload;

	atomic_uint unfinished; /* parts being sent, plus one until the last frame is added */
	bool complete;
};

/* A full part that is to be sent. */
struct create_part {
	uint8_t *bytes;
	size_t len;
	unsigned number;
};

/* The frame of owner whose raw bytes are in the worker's struct frames; content: the bytes of it
 * that go into create_large.sha256. */
struct large_frame {
	struct create_job *owner;
	size_t number;
	bool is_last;
	struct slice content;
};

/* Constructors, and the size of parts. */

#define MIB ((size_t)1 << 20)

/* S3 accepts 10,000 parts; the rest is reserve for data that grows when it is compressed. */
enum { MOST_PARTS = 9500 };

/* A file of unknown size can have this many bytes times MOST_PARTS. */
#define UNKNOWN_PART (16 * MIB)

/* Upper bound of the stored header: the longest names and all records, uncompressed. */
#define HEADER_ROOM ((size_t)32 << 10)

static void set_random_key(struct create_object *o)
{
	uint8_t random[SHA256_DIGEST_SIZE];
	char hex[65];

	random_fill(random, sizeof(random));
	digest_print(random, hex);
	snprintf(o->key, sizeof(o->key), "large/%.32s.tar.zst", hex);
}

static struct create_large *new_with_part_size(size_t part_size)
{
	struct create_large *l = zalloc(sizeof(*l));

	l->part_size = part_size > STORE_PART_MIN ? part_size : STORE_PART_MIN;
	l->n_frames = SIZE_MAX;
	l->object = zalloc(sizeof(*l->object));
	set_random_key(l->object);
	sha256_init(&l->sha256);
	atomic_init(&l->unfinished, 1);
	return l;
}

struct create_large *large_new_streamed(uint64_t raw)
{
	return new_with_part_size((size_t)(raw / MOST_PARTS / MIB + 1) * MIB);
}

struct create_large *large_new(struct create_item *i)
{
	struct text header = {0};
	struct create_large *l;
	uint64_t raw;

	pack_tar_header(&header, i);
	i->tar_offset = header.len;
	raw = header.len + i->size + pack_tar_padding(i->size) + TAR_END;
	l = large_new_streamed(raw);
	l->item = i;
	l->header = header;
	l->raw = raw;
	l->n_frames = (size_t)((raw + FRAME_RAW - 1) / FRAME_RAW);
	return l;
}

struct create_large *large_new_pack(void)
{
	struct create_large *l = new_with_part_size(PACK_RAW + MIB);

	l->is_pack = true;
	return l;
}

struct create_large *large_new_unsized(void)
{
	struct create_large *l = new_with_part_size(UNKNOWN_PART);

	l->header_room = HEADER_ROOM;
	return l;
}

void large_set_header(struct create_large *l, struct create_item *i)
{
	pack_tar_header(&l->header, i);
	i->tar_offset = l->header.len;
}

size_t large_frames(const struct create_large *l)
{
	return l->n_frames;
}

void large_free(struct create_large *l, struct store_conn *store)
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

/* Appending compressed frames to the object. */

/* Larger parts occur only with files of hundreds of gigabytes. The worker whose turn it is sends
 * them at once, so that the other workers need no such buffer. */
#define BIG_PART ((size_t)32 << 20)

static int send_part(struct worker *worker, struct create_large *l, const struct create_part *p,
	struct error *err)
{
	int code = store_upload_part(worker->store, l->upload, p->number, p->bytes, p->len, err);

	if (code == 0)
		count(&worker->creation->sent_bytes, p->len);
	return code;
}

/* The part of l is full. It is moved to *p, to be sent after the turn has passed to the next
 * worker, or it is sent at once. */
static int flush_part(
	struct worker *worker, struct create_large *l, struct create_part *p, struct error *err)
{
	struct create_part full = {.bytes = l->part, .len = l->part_len, .number = ++l->parts};

	l->part_len = 0;
	if (l->header_room > 0 && full.number == 1 && full.len == l->part_size) {
		l->first_part = take_ptr(&l->part);
		return 0;
	}
	if (!l->is_pack && (p->len > 0 || l->part_size > BIG_PART))
		return send_part(worker, l, &full, err);
	*p = full;
	l->part = l->part_size == STORE_PART_MIN ? take_ptr(&worker->spare_part) : NULL;
	atomic_fetch_add(&l->unfinished, 1);
	return 0;
}

static int append_bytes(struct worker *worker, struct create_large *l, const uint8_t *bytes,
	size_t len, struct create_part *p, struct error *err)
{
	int code = 0;

	while (len > 0 && code == 0) {
		size_t n = l->part_size - l->part_len < len ? l->part_size - l->part_len : len;

		if (l->part == NULL && (l->part = malloc(l->part_size)) == NULL)
			return error_set(
				err, -ENOMEM, "no memory for a part of %zu bytes", l->part_size);
		memcpy(l->part + l->part_len, bytes, n);
		l->part_len += n;
		bytes += n;
		len -= n;
		if (l->part_len == l->part_size)
			code = flush_part(worker, l, p, err);
	}
	return code;
}

static void add_to_list(struct create_large *l, struct index_frame frame)
{
	struct create_object *o = l->object;

	if (o->n_frames == l->frames_cap) {
		l->frames_cap = l->frames_cap * 2 + 16;
		o->frames = reallocarray(o->frames, l->frames_cap, sizeof(*o->frames));
		if (o->frames == NULL)
			abort();
	}
	frame.offset = o->bytes;
	o->frames[o->n_frames++] = frame;
	o->bytes += frame.length;
}

/* Writes the header's frame, and after it a skippable frame that fills the reserved room. */
static int write_header(struct worker *worker, struct create_large *l, struct error *err)
{
	uint8_t *to = l->first_part != NULL ? l->first_part : l->part;
	struct create_part first = {.bytes = l->first_part, .len = l->part_size, .number = 1};
	uint32_t len;
	int code;

	frames_begin(worker->frames);
	memcpy(worker->frames->raw, l->header.s, l->header.len);
	worker->frames->raw_len = l->header.len;
	code = frames_compress(worker->frames, &len, err);
	if (code < 0)
		return code;
	memcpy(to, worker->frames->out, len);
	frames_write_skippable(to + len, l->header_room - len);
	l->object->frames[0].raw = (uint32_t)l->header.len;
	return l->first_part != NULL ? send_part(worker, l, &first, err) : 0;
}

/* Writes the end of the object: the table, and the last part. */
static int finish_object(
	struct worker *worker, struct create_large *l, struct create_part *p, struct error *err)
{
	struct create_object *o = l->object;
	size_t len = SEEK_TABLE_SIZE(o->n_frames);
	_free_ uint8_t *table = zalloc(len);
	int code = l->header_room > 0 ? write_header(worker, l, err) : 0;

	if (code < 0)
		return code;
	o->raw = 0;
	for (size_t i = 0; i < o->n_frames; i++)
		o->raw += o->frames[i].raw;
	frames_write_seek_table(table, o->frames, o->n_frames);
	o->bytes += len;
	code = append_bytes(worker, l, table, len, p, err);
	if (code < 0)
		return code;
	if (l->item != NULL)
		sha256_digest(&l->sha256, sizeof(l->item->sha256), l->item->sha256);
	return l->part_len > 0 ? flush_part(worker, l, p, err) : 0;
}

/* Before the first frame: starts the upload and reserves the room for the header. */
static int begin_object(
	struct worker *worker, struct create_large *l, struct create_part *p, struct error *err)
{
	_free_ uint8_t *room = zalloc(l->header_room + 1);
	int code =
		l->is_pack ? 0 : store_upload_begin(worker->store, l->object->key, &l->upload, err);

	if (code < 0 || l->header_room == 0)
		return code;
	add_to_list(l, (struct index_frame){.length = (uint32_t)l->header_room});
	return append_bytes(worker, l, room, l->header_room, p, err);
}

/* Appends the compressed frame. In turn. */
static int append_frame(struct worker *worker, struct create_large *l,
	const struct large_frame *frame, struct create_part *p, struct error *err)
{
	struct frames *f = worker->frames;
	int code = frame->number == 0 ? begin_object(worker, l, p, err) : 0;

	if (code < 0)
		return code;
	if (frame->content.len > 0)
		sha256_update(&l->sha256, frame->content.len, frame->content.data);
	add_to_list(l,
		(struct index_frame){.length = (uint32_t)f->out_len, .raw = (uint32_t)f->raw_len});
	code = append_bytes(worker, l, f->out, f->out_len, p, err);
	return code == 0 && frame->is_last ? finish_object(worker, l, p, err) : code;
}

/* Sends the part. A buffer of the usual size becomes the worker's spare one. */
static int send_and_free_part(struct worker *worker, struct create_large *l,
	const struct create_part *p, struct error *err)
{
	int code = send_part(worker, l, p, err);

	if (worker->spare_part == NULL && l->part_size == STORE_PART_MIN)
		worker->spare_part = p->bytes;
	else
		free(p->bytes);
	return code;
}

static int store_pack(
	struct worker *worker, struct create_job *owner, struct create_part *p, struct error *err)
{
	struct create_large *l = owner->large;
	const struct pack_bytes pack = {.sha256 = &l->sha256,
		.bytes = p->bytes,
		.len = p->len,
		.raw = l->object->raw,
		.list = &l->object->frames,
		.n = l->object->n_frames};
	int code = pack_store(worker, &pack, &owner->object, err);

	free(p->bytes);
	return code;
}

/* The worker that finishes last completes the object, and returns owner in *ret_done. All others
 * must not use owner after this. */
static int complete_if_last(struct worker *worker, struct create_job *owner,
	struct create_job **ret_done, struct error *err)
{
	struct create_large *l = owner->large;

	if (atomic_fetch_sub(&l->unfinished, 1) > 1)
		return 0;
	if (!l->is_pack) {
		int code = store_upload_complete(worker->store, l->upload, err);

		if (code < 0)
			return code;
		l->complete = true;
		owner->object = take_ptr(&l->object);
	}
	*ret_done = owner;
	return 0;
}

static int add_frame(struct worker *worker, const struct large_frame *frame,
	struct create_job **ret_done, struct error *err)
{
	struct create_large *l = frame->owner->large;
	struct create_part taken = {0};
	bool is_last = frame->is_last;
	uint32_t len;
	int code;

	*ret_done = NULL;
	code = frames_compress(worker->frames, &len, err);
	if (code < 0)
		return code;
	code = create_workers_await_turn(worker->workers, &l->turn, frame->number, err);
	if (code < 0)
		return code;
	code = append_frame(worker, l, frame, &taken, err);
	if (code == 0)
		create_workers_next_turn(worker->workers, &l->turn);
	if (code < 0 || taken.len == 0) {
		free(taken.bytes);
	} else {
		code = l->is_pack ? store_pack(worker, frame->owner, &taken, err)
				  : send_and_free_part(worker, l, &taken, err);
		if (code == 0)
			code = complete_if_last(worker, frame->owner, ret_done, err);
	}
	return code == 0 && is_last ? complete_if_last(worker, frame->owner, ret_done, err) : code;
}

/* The two origins of frames: a file that the workers read, and stream.c. */

/* Which of the len bytes at position at of the tar lie in [begin, end): their position in the
 * frame, and their number. */
static size_t overlap(
	uint64_t at, size_t len, uint64_t begin_object, uint64_t end, size_t *ret_where)
{
	uint64_t from = begin_object > at ? begin_object : at, to = end < at + len ? end : at + len;

	*ret_where = (size_t)(from - at);
	return from < to ? (size_t)(to - from) : 0;
}

static int read_content(struct worker *worker, const struct create_item *i, uint64_t offset,
	void *to, size_t len, struct error *err)
{
	const struct content_ops *ops = worker->creation->content_ops;
	struct content from;
	int code = ops->open(worker, i, &from, err);

	if (code < 0)
		return code;
	code = ops->read(&from, offset, to, len, err);
	if (code == 0)
		code = ops->check(&from, err);
	ops->close(&from);
	if (code == 0)
		count(&worker->creation->opts->progress->received, len);
	return code;
}

/* Puts a frame of the tar into the worker's raw buffer; *ret_content: the content of the file in
 * it. */
static int fill_frame(struct worker *worker, struct create_large *l, size_t frame,
	struct slice *ret_content, struct error *err)
{
	struct frames *f = worker->frames;
	uint64_t at = (uint64_t)frame * FRAME_RAW, begin_object = l->header.len,
		 end = begin_object + l->item->size;
	size_t len = l->raw - at < FRAME_RAW ? (size_t)(l->raw - at) : FRAME_RAW, where, n;
	int code = 0;

	frames_begin(f);
	f->raw_len = len;
	n = overlap(at, len, 0, begin_object, &where);
	if (n > 0)
		memcpy(f->raw + where, l->header.s + at, n);
	n = overlap(at, len, end, l->raw, &where);
	if (n > 0)
		memset(f->raw + where, 0, n);
	n = overlap(at, len, begin_object, end, &where);
	*ret_content = (struct slice){.data = f->raw + where, .len = n};
	if (n > 0)
		code = read_content(
			worker, l->item, at + where - begin_object, f->raw + where, n, err);
	return code;
}

int large_process_frame(struct worker *worker, struct create_job *job, size_t number,
	struct create_job **ret_done, struct error *err)
{
	struct large_frame frame = {
		.owner = job, .number = number, .is_last = number == job->large->n_frames - 1};
	int code = fill_frame(worker, job->large, number, &frame.content, err);

	return code < 0 ? code : add_frame(worker, &frame, ret_done, err);
}

/* The job's buffer is swapped with the worker's own, instead of a copy. */
int large_process_streamed_frame(struct worker *worker, struct create_job *job,
	struct create_job **ret_done, struct error *err)
{
	struct large_frame frame = {
		.owner = job->owner, .number = job->number, .is_last = job->is_last};
	struct frames *f = worker->frames;
	uint8_t *own = f->raw;

	frames_begin(f);
	f->raw = job->bytes;
	f->raw_len = job->len;
	job->bytes = own;
	if (job->owner->large->is_pack)
		frame.content = (struct slice){.data = f->raw, .len = f->raw_len};
	create_job_free(job);
	return add_frame(worker, &frame, ret_done, err);
}
