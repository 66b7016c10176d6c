/* SPDX-License-Identifier: MIT */
/* The S3 backend of a store: each object of the store is an object of the bucket, whose key is the
 * store's prefix followed by the store's key. Worker threads. Signing, retries and the
 * interpretation of answers are left to the S3 room. */
#include "defer.h"
#include "s3.h"
#include "store_private.h"
#include "text.h"
#include <string.h>

struct store_s3 {
	struct store base;
	struct s3 *s3;
	char *bucket;
	char *prefix; /* "", or ends in '/' */
};

struct conn_s3 {
	struct store_conn base;
	struct s3_client *client;
};

struct upload_s3 {
	struct store_upload base;
	char *id, *key; /* key includes the prefix */
	bool ended;
	pthread_mutex_t mutex;
	/* Under the mutex. */
	char (*etags)[128]; /* "": the part has not been sent */
	unsigned n;
};

static struct store_s3 *store_s3_of(const struct store_conn *h)
{
	return container_of(h->store, struct store_s3, base);
}

static struct s3_client *store_s3_client(struct store_conn *h)
{
	return container_of(h, struct conn_s3, base)->client;
}

static char *store_s3_key(const struct store_conn *h, const char *key)
{
	return text_format("%s%s", store_s3_of(h)->prefix, key);
}

/* --- uploads --- */

static int store_s3_upload_begin(
	struct store_conn *h, const char *key, struct store_upload **ret, struct error *err)
{
	struct upload_s3 *u = zalloc(sizeof(*u));
	int code;

	u->key = store_s3_key(h, key);
	code = s3_upload_begin(store_s3_client(h), store_s3_of(h)->bucket, u->key, &u->id, err);
	if (code < 0) {
		free(u->key);
		free(u);
		return code;
	}
	pthread_mutex_init(&u->mutex, NULL);
	*ret = &u->base;
	return 0;
}

static void store_etag(struct upload_s3 *u, unsigned number, const char etag[static 128])
{
	pthread_mutex_lock(&u->mutex);
	if (number > u->n) {
		u->etags = realloc(u->etags, number * sizeof(*u->etags));
		if (u->etags == NULL)
			abort();
		memset(u->etags + u->n, 0, (number - u->n) * sizeof(*u->etags));
		u->n = number;
	}
	memcpy(u->etags[number - 1], etag, sizeof(*u->etags));
	pthread_mutex_unlock(&u->mutex);
}

static int store_s3_upload_part(struct store_conn *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);
	char etag[128] = "";
	int code = s3_upload_part(store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id, number,
		bytes, len, etag, err);

	if (code == 0)
		store_etag(u, number, etag);
	return code;
}

static int store_s3_upload_complete(
	struct store_conn *h, struct store_upload *base, struct error *err)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);
	int code;

	for (unsigned i = 0; i < u->n; i++) {
		if (u->etags[i][0] == '\0')
			return error_set(
				err, -ERR_TRUNCATED, "part %u of '%s' was not sent", i + 1, u->key);
	}
	code = s3_upload_complete(store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id,
		(const char(*)[128])u->etags, u->n, err);
	u->ended = code == 0;
	return code;
}

static void store_s3_upload_abort(struct store_conn *h, struct store_upload *base)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);

	if (!u->ended)
		(void)s3_upload_abort(
			store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id, NULL);
	u->ended = true;
}

static void store_s3_upload_free(struct store_upload *base)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);

	pthread_mutex_destroy(&u->mutex);
	free(u->etags);
	free(u->id);
	free(u->key);
	free(u);
}

/* --- objects --- */

static int s3_read(struct store_conn *h, const char *key, struct store_read *r, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);
	struct s3_object object = {0};
	int code = s3_get(store_s3_client(h), store_s3_of(h)->bucket, full, r->offset, r->buf,
		r->len, NULL, &r->got, &object, err);

	r->size = object.size;
	return code;
}

static int s3_size(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);
	struct s3_object object = {0};
	int code = s3_head(store_s3_client(h), store_s3_of(h)->bucket, full, &object, err);

	*ret_size = object.size;
	return code;
}

static int s3_write(struct store_conn *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	_free_ char *full = store_s3_key(h, key);

	return s3_put(store_s3_client(h), store_s3_of(h)->bucket, full, bytes, len, if_absent, err);
}

static int s3_remove(struct store_conn *h, const char *const *keys, size_t n, struct error *err)
{
	struct strings full = {0};
	int code;

	for (size_t i = 0; i < n; i++) {
		_free_ char *key = store_s3_key(h, keys[i]);

		text_strings_add(&full, key);
	}
	s3_client_limit(store_s3_client(h), h->limit_ms);
	code = s3_delete(store_s3_client(h), store_s3_of(h)->bucket, (const char *const *)full.v,
		full.n, err);
	s3_client_limit(store_s3_client(h), 0);
	text_strings_done(&full);
	return code;
}

struct s3_listing {
	size_t prefix_len;
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err);
	void *ctx;
};

static int on_object(void *ctx, const struct s3_object *o, struct error *err)
{
	const struct s3_listing *l = ctx;

	return l->each(l->ctx, o->key + l->prefix_len, o->size, o->modified, err);
}

static int s3_list_keys(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *full = store_s3_key(h, prefix);
	struct s3_listing l = {
		.prefix_len = strlen(store_s3_of(h)->prefix), .each = each, .ctx = ctx};

	return s3_list(
		store_s3_client(h), store_s3_of(h)->bucket, full, NULL, '\0', on_object, &l, err);
}

/* --- leftovers: unfinished uploads, old versions --- */

/* Whether a key of the bucket belongs to the store. */
static bool is_ours(const struct store_conn *h, const char *full)
{
	const char *prefix = store_s3_of(h)->prefix;
	size_t len = strlen(prefix);
	struct layout_key k;

	return strncmp(full, prefix, len) == 0 && layout_parse(full + len, &k) != LAYOUT_FOREIGN;
}

struct stale {
	const struct store_conn *h;
	time_t before;
	struct strings keys, ids;
};

/* An upload without a start time (0) is kept: it may have been started just now. */
static int on_upload(void *ctx, const char *key, const char *id, time_t begun, struct error *err)
{
	struct stale *s = ctx;

	(void)err;
	if (begun > 0 && begun < s->before && is_ours(s->h, key)) {
		text_strings_add(&s->keys, key);
		text_strings_add(&s->ids, id);
	}
	return 0;
}

static int sweep_uploads(struct store_conn *h, const char *prefix, time_t before, struct error *err)
{
	struct stale stale = {.h = h, .before = before};
	const char *bucket = store_s3_of(h)->bucket;
	int code = s3_uploads(store_s3_client(h), bucket, prefix, on_upload, &stale, err);

	for (size_t i = 0; i < stale.ids.n && code == 0; i++) {
		code = s3_upload_abort(
			store_s3_client(h), bucket, stale.keys.v[i], stale.ids.v[i], err);
		if (code == -ENOENT)
			code = 0;
	}
	text_strings_done(&stale.keys);
	text_strings_done(&stale.ids);
	return code;
}

static bool is_key_ours(void *ctx, const char *key)
{
	return is_ours(ctx, key);
}

static int s3_sweep(struct store_conn *h, const char *const *prefixes, time_t before, bool all,
	struct error *err)
{
	const struct s3_chooser ours = {.is_chosen = is_key_ours, .ctx = h};
	int code = 0;

	for (size_t i = 0; prefixes[i] != NULL && code == 0; i++) {
		_free_ char *prefix = store_s3_key(h, prefixes[i]);

		code = sweep_uploads(h, prefix, before, err);
		if (code == 0 && all)
			code = s3_delete_versions(
				store_s3_client(h), store_s3_of(h)->bucket, prefix, &ours, err);
	}
	return code;
}

static int s3_refuse(struct store_conn *h, struct error *err)
{
	const struct store_s3 *s = store_s3_of(h);
	bool versioned = false;

	if (s3_is_versioned(store_s3_client(h), s->bucket, &versioned, NULL) == 0 && versioned)
		return error_set(err, -ERR_UNSUPPORTED,
			"bucket '%s' keeps old versions of objects, and this server then ignores If-None-Match: two creators could get one number; use a bucket that never had versioning enabled",
			s->bucket);
	return error_set(err, -ERR_UNSUPPORTED,
		"the S3 server of bucket '%s' ignores If-None-Match: two creators could get one number; use a server with conditional writes (AWS S3, Ceph 19 or newer, MinIO)",
		s->bucket);
}

/* --- the store --- */

static int s3_hand_open(
	struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err)
{
	struct conn_s3 *h = zalloc(sizeof(*h));
	int code =
		s3_client_new(container_of(s, struct store_s3, base)->s3, cancel, &h->client, err);

	if (code < 0) {
		free(h);
		return code;
	}
	*ret = &h->base;
	return 0;
}

static void s3_hand_close(struct store_conn *base)
{
	struct conn_s3 *h = container_of(base, struct conn_s3, base);

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
	.conn_open = s3_hand_open,
	.conn_close = s3_hand_close,
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
	struct s3_bucket_key place = {0};
	struct store_s3 *s;
	size_t len;
	int code = s3_bucket_key_parse(env->url, &place, err);

	if (code < 0)
		return code;
	len = strlen(place.key);
	while (len > 0 && place.key[len - 1] == '/')
		place.key[--len] = '\0';
	s = zalloc(sizeof(*s));
	s->base.ops = &s3_ops;
	s->base.name = text_format("s3://%s%s%s", place.bucket, len > 0 ? "/" : "", place.key);
	pthread_mutex_init(&s->base.mutex, NULL);
	s->s3 = env->s3;
	s->bucket = text_copy(place.bucket);
	s->prefix = text_format("%s%s", place.key, len > 0 ? "/" : "");
	s3_bucket_key_done(&place);
	*ret = &s->base;
	return 0;
}
