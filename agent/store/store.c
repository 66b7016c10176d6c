/* SPDX-License-Identifier: MIT */
/* A store, whatever is behind it: the table of kinds, the check of keys, and what can be said in terms of
 * the backends' few operations. */
#include "backend.h"
#include "defer.h"
#include "text.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum {
	KEY_MAX = 800,           /* S3 takes 1024, the store's prefix included */
	FIRST_READ_BYTES = 65536 /* most small objects come whole with one request */
};

static const struct {
	const char *scheme;
	int (*make)(const struct store_env *env, struct store **ret, struct error *err);
} kinds[] = {
	{"s3://", store_s3_new},
	{"file://", store_file_new},
};

const char *const store_roots[] = {
	"datastores/", "packs/", "large/", "index/", "leases/", "uses/", NULL};

static bool has_scheme(const char *url)
{
	const char *at = strstr(url, "://");

	if (at == NULL || at == url)
		return false;
	for (const char *s = url; s < at; s++) {
		if (!isalnum((unsigned char)*s) && strchr("+-.", *s) == NULL)
			return false;
	}
	return true;
}

int store_new(const struct store_env *env, struct store **ret, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (strncasecmp(env->url, kinds[i].scheme, strlen(kinds[i].scheme)) == 0)
			return kinds[i].make(env, ret, err);
	}
	if (env->url[0] == '\0')
		return error_set(err, -ERR_USAGE,
			"no store is configured: give --store URL, set STAGERUN_STORE, or store in "
			"agent.ini");
	if (has_scheme(env->url))
		return error_set(err, -ERR_USAGE,
			"'%s' is no store: use s3://bucket/prefix, file:///directory or a path",
			env->url);
	return store_file_new(env, ret, err);
}

void store_free(struct store *s)
{
	if (s == NULL)
		return;
	free(s->name);
	pthread_mutex_destroy(&s->mutex);
	s->ops->free(s);
}

const char *store_name(const struct store *s)
{
	return s->name;
}

int store_missing(const struct store_hand *h, const char *key, struct error *err)
{
	return error_set(err, -ENOENT, "'%s' is not in the store %s", key, h->store->name);
}

void store_random(char ret[static 17])
{
	uint64_t n = 0;

	/* What is not random enough collides, and is tried again. */
	(void)!getrandom(&n, sizeof(n), GRND_NONBLOCK);
	snprintf(ret, 17, "%016llx", (unsigned long long)n);
}

int store_hand_open(
	struct store *s, struct cancel *cancel, struct store_hand **ret, struct error *err)
{
	struct store_hand *h = NULL;
	int code = s->ops->hand_open(s, cancel, &h, err);

	if (code < 0)
		return code;
	h->store = s;
	h->cancel = cancel;
	*ret = h;
	return 0;
}

void store_hand_close(struct store_hand *h)
{
	if (h != NULL)
		h->store->ops->hand_close(h);
}

static bool is_key_byte(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

bool store_key_is_valid(const char *key)
{
	const char *s = key;

	if (strlen(key) > KEY_MAX)
		return false;
	do {
		const char *name = s;

		while (is_key_byte(*s))
			s++;
		if (s == name || (s - name == 1 && name[0] == '.') ||
			(s - name == 2 && strncmp(name, "..", 2) == 0))
			return false;
	} while (*s++ == '/');
	return s[-1] == '\0';
}

static int check_key(const struct store_hand *h, const char *key, struct error *err)
{
	if (!store_key_is_valid(key))
		return error_set(err, -ERR_FORMAT, "'%.300s' is not a key of a store", key);
	if (cancel_requested(h->cancel))
		return error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
	return 0;
}

int store_get(struct store_hand *h, const char *key, uint64_t offset, void *buf, size_t len,
	struct error *err)
{
	struct store_read r = {.offset = offset, .buf = buf, .len = len};
	int code = check_key(h, key, err);

	if (code == 0)
		code = h->store->ops->read(h, key, &r, err);
	if (code < 0)
		return code;
	if (r.got < len)
		return error_set(err, -ERR_TRUNCATED,
			"'%s' in the store %s ends after %zu of the %zu bytes at %llu", key,
			h->store->name, r.got, len, (unsigned long long)offset);
	return 0;
}

/* From the first byte on, at most len; NUL-terminated. r is filled. */
static int read_head(
	struct store_hand *h, const char *key, size_t len, struct store_read *r, struct error *err)
{
	int code;

	*r = (struct store_read){.buf = malloc(len + 1), .len = len};
	if (r->buf == NULL)
		return error_set(err, -ENOMEM, "no memory for '%s' of %zu bytes", key, len);
	code = h->store->ops->read(h, key, r, err);
	((char *)r->buf)[code < 0 ? 0 : r->got] = '\0';
	return code;
}

static int read_all(
	struct store_hand *h, const char *key, size_t max, struct store_read *r, struct error *err)
{
	int code = read_head(h, key, FIRST_READ_BYTES, r, err);

	if (code == 0 && r->size > max)
		return error_set(err, -ERR_LIMIT,
			"'%s' in the store %s has %llu bytes; at most %zu were expected", key,
			h->store->name, (unsigned long long)r->size, max);
	if (code == 0 && r->got < r->size) {
		size_t size = (size_t)r->size;

		free(r->buf);
		code = read_head(h, key, size, r, err);
	}
	if (code == 0 && r->got != r->size)
		return error_set(err, -ERR_CHANGED,
			"'%s' in the store %s changed while it was read", key, h->store->name);
	return code;
}

int store_get_all(struct store_hand *h, const char *key, size_t max, char **ret, size_t *ret_len,
	struct error *err)
{
	struct store_read r = {0};
	int code = check_key(h, key, err);

	if (code == 0)
		code = read_all(h, key, max, &r, err);
	if (code < 0) {
		free(r.buf);
		return code;
	}
	*ret = r.buf;
	if (ret_len != NULL)
		*ret_len = r.got;
	return 0;
}

int store_has(struct store_hand *h, const char *key, uint64_t *ret_size, struct error *err)
{
	uint64_t size = 0;
	int code = check_key(h, key, err);

	if (code == 0)
		code = h->store->ops->head(h, key, &size, err);
	if (code == -ENOENT)
		return 0;
	if (code < 0)
		return code;
	if (ret_size != NULL)
		*ret_size = size;
	return 1;
}

int store_put(
	struct store_hand *h, const char *key, const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, key, err);

	return code < 0 ? code : h->store->ops->put(h, key, bytes, len, false, err);
}

int store_put_if_absent(
	struct store_hand *h, const char *key, const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, key, err);

	return code < 0 ? code : h->store->ops->put(h, key, bytes, len, true, err);
}

int store_delete(struct store_hand *h, const char *const *keys, size_t n, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < n && code == 0; i++)
		code = check_key(h, keys[i], err);
	return code < 0 || n == 0 ? code : h->store->ops->remove(h, keys, n, err);
}

struct listing {
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err);
	void *ctx;
};

/* What is no key is not of a store. */
static int on_listed(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	const struct listing *l = ctx;

	return store_key_is_valid(key) ? l->each(l->ctx, key, size, modified, err) : 0;
}

int store_list(struct store_hand *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	struct listing l = {.each = each, .ctx = ctx};

	if (cancel_requested(h->cancel))
		return error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
	return h->store->ops->list(h, prefix, on_listed, &l, err);
}

int store_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err)
{
	int code = check_key(h, key, err);

	if (code == 0)
		code = h->store->ops->upload_begin(h, key, ret, err);
	if (code == 0) {
		(*ret)->key = copy_text(key);
		(*ret)->store = h->store;
	}
	return code;
}

int store_upload_part(struct store_hand *h, struct store_upload *u, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, u->key, err);

	return code < 0 ? code : h->store->ops->upload_part(h, u, number, bytes, len, err);
}

int store_upload_complete(struct store_hand *h, struct store_upload *u, struct error *err)
{
	int code = check_key(h, u->key, err);

	return code < 0 ? code : h->store->ops->upload_complete(h, u, err);
}

void store_upload_abort(struct store_hand *h, struct store_upload *u)
{
	h->store->ops->upload_abort(h, u);
}

void store_upload_free(struct store_upload *u)
{
	if (u == NULL)
		return;
	free(u->key);
	u->store->ops->upload_free(u);
}
