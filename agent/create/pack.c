/* SPDX-License-Identifier: MIT */
/* Packs: tars of small files, compressed in memory, on the workers.
 *
 * Storing a compressed pack, unless the store has it. */
#include "create_private.h"
#include "defer.h"
#include "digest.h"
#include <errno.h>

static int send_pack(struct worker *worker, const struct pack_bytes *p, struct create_object *o,
	struct error *err)
{
	struct sha256_ctx stored;
	int code = store_put(worker->store, o->key, p->bytes, p->len, err);

	if (code < 0)
		return code;
	count(&worker->creation->sent_bytes, p->len);
	sha256_init(&stored);
	sha256_update(&stored, p->len, p->bytes);
	digest_finish(&stored, o->sha256);
	o->bytes = p->len;
	o->frames = take_ptr(p->list);
	o->n_frames = p->n;
	return 0;
}

/* The stored object may come from another compressor, so that its own table is used. If it has no
 * table, or one of other contents, then it is not a valid pack and is replaced. */
static int use_stored_pack(struct worker *worker, const struct pack_bytes *p,
	struct create_object *o, struct error *err)
{
	uint64_t raw = 0;
	int code = frames_read_seek_table(
		worker->store, o->key, o->bytes, &o->frames, &o->n_frames, err);

	if (code == -ERR_FORMAT)
		return send_pack(worker, p, o, err);
	if (code < 0)
		return code;
	for (size_t i = 0; i < o->n_frames; i++)
		raw += o->frames[i].raw;
	if (raw == p->raw)
		return 0;
	free(take_ptr(&o->frames));
	return send_pack(worker, p, o, err);
}

int pack_store(struct worker *worker, const struct pack_bytes *p, struct create_object **ret,
	struct error *err)
{
	struct create_object *o = zalloc(sizeof(*o));
	char hex[65];
	int has, code;

	digest_finish(p->sha256, hex);
	snprintf(o->key, sizeof(o->key), "packs/%.2s/%s.tar.zst", hex, hex);
	o->raw = p->raw;
	has = store_has(worker->store, o->key, &o->bytes, err);
	if (has > 0)
		code = use_stored_pack(worker, p, o, err);
	else
		code = has < 0 ? has : send_pack(worker, p, o, err);
	if (code < 0) {
		create_object_free(o);
		return code;
	}
	*ret = o;
	return 0;
}

/* Building a pack. */

/* Reads the content of i to the end of f, and computes its digest. */
static int add_bytes(
	struct frames *f, struct content *from, struct create_item *i, struct error *err)
{
	struct sha256_ctx sha256;
	uint64_t done = 0;

	sha256_init(&sha256);
	while (done < i->size) {
		size_t room;
		uint8_t *to;
		int code = frames_room(f, &to, &room, err);

		if (code < 0)
			return code;
		if (room > i->size - done)
			room = (size_t)(i->size - done);
		code = from->worker->creation->content_ops->read(from, done, to, room, err);
		if (code < 0)
			return code;
		sha256_update(&sha256, room, to);
		frames_written(f, room);
		done += room;
	}
	sha256_digest(&sha256, sizeof(i->sha256), i->sha256);
	return 0;
}

static int add_content(struct worker *worker, struct create_item *i, struct error *err)
{
	const struct content_ops *ops = worker->creation->content_ops;
	struct content from;
	int code = ops->open(worker, i, &from, err);

	if (code < 0)
		return code;
	i->tar_offset = frames_at(worker->frames);
	code = add_bytes(worker->frames, &from, i, err);
	if (code == 0)
		code = ops->check(&from, err);
	ops->close(&from);
	return code < 0 ? code : frames_zeros(worker->frames, pack_tar_padding(i->size), err);
}

static int add_member(
	struct worker *worker, struct text *header, struct create_item *i, struct error *err)
{
	uint64_t len = 0;
	int code;

	header->len = 0;
	pack_tar_header(header, i);
	if (create_item_has_content(i))
		len = i->size + pack_tar_padding(i->size);
	code = frames_make_room(worker->frames, header->len + len, err);
	if (code == 0)
		code = frames_put(worker->frames, header->s, header->len, err);
	if (code < 0 || !create_item_has_content(i))
		return code;
	code = add_content(worker, i, err);
	if (code == 0)
		count(&worker->creation->opts->progress->received, i->size);
	return code;
}

static int build_tar(struct worker *worker, struct create_job *job, struct error *err)
{
	struct text header = {0};
	int code = 0;

	frames_begin(worker->frames);
	for (size_t n = 0; n < job->n && code == 0; n++)
		code = cancel_requested(worker->creation->opts->cancel)
			       ? error_set(err, -ECANCELED, "cancelled")
			       : add_member(worker, &header, job->items[n], err);
	text_done(&header);
	if (code == 0)
		code = frames_zeros(worker->frames, TAR_END, err);
	return code < 0 ? code : frames_end(worker->frames, err);
}

int pack_process(struct worker *worker, struct create_job *job, struct error *err)
{
	struct frames *f = worker->frames;
	int code = build_tar(worker, job, err);
	struct pack_bytes p = {.sha256 = &f->sha256,
		.bytes = f->out,
		.len = f->out_len,
		.raw = f->raw_total,
		.list = &f->list,
		.n = f->n};

	if (code == 0)
		code = pack_store(worker, &p, &job->object, err);
	if (f->list == NULL)
		f->n = f->cap = 0;
	return code;
}
