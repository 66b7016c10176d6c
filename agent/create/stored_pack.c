/* SPDX-License-Identifier: MIT */
/* A pack that is compressed: sent, or found in the store. */
#include "stored_pack.h"
#include "defer.h"
#include "digest.h"
#include "frames.h"

static int send(
	struct hand *h, const struct pack_bytes *p, struct create_object *o, struct error *err)
{
	struct sha256_ctx stored;
	int r = store_put(h->store, o->key, p->bytes, p->len, err);

	if (r < 0)
		return r;
	count(&h->creation->sent_bytes, p->len);
	sha256_init(&stored);
	sha256_update(&stored, p->len, p->bytes);
	digest_finish(&stored, o->sha256);
	o->bytes = p->len;
	o->frames = take_ptr(p->list);
	o->n_frames = p->n;
	return 0;
}

/* What is there may be the work of another compressor: its own table says where things are. One without a
 * table, or for other bytes, is no pack of ours and is replaced. */
static int use_what_is_there(
	struct hand *h, const struct pack_bytes *p, struct create_object *o, struct error *err)
{
	uint64_t raw = 0;
	int r = seek_table_read(h->store, o->key, o->bytes, &o->frames, &o->n_frames, err);

	if (r == -ERR_FORMAT)
		return send(h, p, o, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < o->n_frames; i++)
		raw += o->frames[i].raw;
	if (raw == p->raw)
		return 0;
	free(take_ptr(&o->frames));
	return send(h, p, o, err);
}

int pack_store(
	struct hand *h, const struct pack_bytes *p, struct create_object **ret, struct error *err)
{
	struct create_object *o = zalloc(sizeof(*o));
	char hex[65];
	int r;

	digest_finish(p->sha256, hex);
	snprintf(o->key, sizeof(o->key), "packs/%.2s/%s.tar.zst", hex, hex);
	o->raw = p->raw;
	r = store_has(h->store, o->key, &o->bytes, err);
	if (r >= 0)
		r = r > 0 ? use_what_is_there(h, p, o, err) : send(h, p, o, err);
	if (r < 0) {
		create_object_free(o);
		return r;
	}
	*ret = o;
	return 0;
}
