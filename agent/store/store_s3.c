/* SPDX-License-Identifier: MIT */
/* A store in S3: an object is an object, its key behind the store's prefix. Everything that is hard about it
 * (signing, retries, what an answer means) is the S3 room's. */
#include "store_s3.h"
#include "defer.h"
#include "text.h"
#include <string.h>

struct store_s3 *store_s3_of(const struct store_hand *h)
{
	return container_of(h->store, struct store_s3, base);
}

struct s3_client *store_s3_client(struct store_hand *h)
{
	return container_of(h, struct hand_s3, base)->client;
}

char *store_s3_key(const struct store_hand *h, const char *key)
{
	return format_text("%s%s", store_s3_of(h)->prefix, key);
}

static int s3_read(struct store_hand *h, const char *key, struct store_read *r, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);
	struct s3_object object = {0};
	int code = s3_get(store_s3_client(h), store_s3_of(h)->bucket, full, r->offset, r->buf,
		r->len, NULL, &r->got, &object, err);

	r->size = object.size;
	return code;
}

static int s3_size(struct store_hand *h, const char *key, uint64_t *ret_size, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);
	struct s3_object object = {0};
	int code = s3_head(store_s3_client(h), store_s3_of(h)->bucket, full, &object, err);

	*ret_size = object.size;
	return code;
}

static int s3_write(struct store_hand *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);

	return s3_put(store_s3_client(h), store_s3_of(h)->bucket, full, bytes, len, if_absent, err);
}

static int s3_remove(struct store_hand *h, const char *const *keys, size_t n, struct error *err)
{
	struct strings full = {0};
	int code;

	for (size_t i = 0; i < n; i++) {
		_free_ char *key = store_s3_key(h, keys[i]);

		strings_add(&full, key);
	}
	code = s3_delete(store_s3_client(h), store_s3_of(h)->bucket, (const char *const *)full.v,
		full.n, err);
	strings_done(&full);
	return code;
}

struct listing {
	size_t prefix_len;
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err);
	void *ctx;
};

static int on_object(void *ctx, const struct s3_object *o, struct error *err)
{
	const struct listing *l = ctx;

	return l->each(l->ctx, o->key + l->prefix_len, o->size, o->modified, err);
}

static int s3_list_keys(struct store_hand *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *full = store_s3_key(h, prefix);
	struct listing l = {.prefix_len = strlen(store_s3_of(h)->prefix), .each = each, .ctx = ctx};

	return s3_list(
		store_s3_client(h), store_s3_of(h)->bucket, full, NULL, '\0', on_object, &l, err);
}

/* --- what is left behind --- */

struct stale {
	time_t before;
	struct strings keys, ids;
};

static int on_upload(void *ctx, const char *key, const char *id, time_t begun, struct error *err)
{
	struct stale *s = ctx;

	(void)err;
	if (begun < s->before) {
		strings_add(&s->keys, key);
		strings_add(&s->ids, id);
	}
	return 0;
}

static int sweep_uploads(struct store_hand *h, const char *prefix, time_t before, struct error *err)
{
	struct stale stale = {.before = before};
	const char *bucket = store_s3_of(h)->bucket;
	int code = s3_uploads(store_s3_client(h), bucket, prefix, on_upload, &stale, err);

	for (size_t i = 0; i < stale.ids.n && code == 0; i++) {
		code = s3_upload_abort(
			store_s3_client(h), bucket, stale.keys.v[i], stale.ids.v[i], err);
		if (code == -ENOENT)
			code = 0;
	}
	strings_done(&stale.keys);
	strings_done(&stale.ids);
	return code;
}

static int s3_sweep(struct store_hand *h, time_t before, bool all, struct error *err)
{
	int code = 0;

	for (size_t i = 0; store_roots[i] != NULL && code == 0; i++) {
		_free_ char *prefix = store_s3_key(h, store_roots[i]);

		code = sweep_uploads(h, prefix, before, err);
		if (code == 0 && all)
			code = s3_delete_versions(
				store_s3_client(h), store_s3_of(h)->bucket, prefix, err);
	}
	return code;
}

static int s3_refuse(struct store_hand *h, struct error *err)
{
	const struct store_s3 *s = store_s3_of(h);
	bool versioned = false;

	if (s3_is_versioned(store_s3_client(h), s->bucket, &versioned, NULL) == 0 && versioned)
		return error_set(err, -ERR_UNSUPPORTED,
			"bucket '%s' keeps old versions of objects, and this server then ignores "
			"If-None-Match: two creators could get one number; use a bucket that never "
			"had "
			"versioning enabled",
			s->bucket);
	return error_set(err, -ERR_UNSUPPORTED,
		"the S3 server of bucket '%s' ignores If-None-Match: two creators could get one "
		"number; "
		"use a server with conditional writes (AWS S3, Ceph 19 or newer, MinIO)",
		s->bucket);
}

/* --- the store --- */

static int s3_hand_open(
	struct store *s, struct cancel *cancel, struct store_hand **ret, struct error *err)
{
	struct hand_s3 *h = zalloc(sizeof(*h));
	int code =
		s3_client_new(container_of(s, struct store_s3, base)->s3, cancel, &h->client, err);

	if (code < 0) {
		free(h);
		return code;
	}
	*ret = &h->base;
	return 0;
}

static void s3_hand_close(struct store_hand *base)
{
	struct hand_s3 *h = container_of(base, struct hand_s3, base);

	s3_client_free(h->client);
	free(h);
}

static void s3_store_free(struct store *base)
{
	struct store_s3 *s = container_of(base, struct store_s3, base);

	free(s->bucket);
	free(s->prefix);
	free(s);
}

static const struct store_ops s3_ops = {
	.free = s3_store_free,
	.hand_open = s3_hand_open,
	.hand_close = s3_hand_close,
	.read = s3_read,
	.head = s3_size,
	.put = s3_write,
	.remove = s3_remove,
	.list = s3_list_keys,
	.upload_begin = store_s3_upload_begin,
	.upload_part = store_s3_upload_part,
	.upload_complete = store_s3_upload_complete,
	.upload_abort = store_s3_upload_abort,
	.upload_free = store_s3_upload_free,
	.sweep = s3_sweep,
	.refuse = s3_refuse,
};

int store_s3_new(const struct store_env *env, struct store **ret, struct error *err)
{
	struct s3_place place = {0};
	struct store_s3 *s;
	size_t len;
	int code = s3_place_parse(env->url, &place, err);

	if (code < 0)
		return code;
	len = strlen(place.key);
	while (len > 0 && place.key[len - 1] == '/')
		place.key[--len] = '\0';
	s = zalloc(sizeof(*s));
	s->base.ops = &s3_ops;
	s->base.name = format_text("s3://%s%s%s", place.bucket, len > 0 ? "/" : "", place.key);
	pthread_mutex_init(&s->base.mutex, NULL);
	s->s3 = env->s3;
	s->bucket = copy_text(place.bucket);
	s->prefix = format_text("%s%s", place.key, len > 0 ? "/" : "");
	s3_place_done(&place);
	*ret = &s->base;
	return 0;
}
