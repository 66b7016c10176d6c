/* SPDX-License-Identifier: MIT */
/* A store on top of its backends: the marker (store.json), the table of backends, the check of
 * keys, the operations of store.h, and the probe of conditional writes. Worker threads. */
#include "defer.h"
#include "random.h"
#include "source.h"
#include "store_private.h"
#include "text.h"
#include <ctype.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>

/* The marker. It proves that a place is a store; without it the keys that are there are
 * examined. */

enum { MARKER_FORMAT = 1, MARKER_MAX_BYTES = 65536 };

static int check_marker_format(
	const struct store_conn *h, const char *json, size_t len, struct error *err)
{
	json_t *o = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *format = json_object_get(o, "format");
	bool is_ours = json_is_integer(format) && json_integer_value(format) >= 1 &&
		       json_is_string(json_object_get(o, "created"));
	json_int_t number = json_integer_value(format);

	json_decref(o);
	if (!is_ours)
		return error_set(err, -ERR_FORMAT,
			"'" STORE_MARKER
			"' in %s is not what stagerun writes, so this is no place for a store: choose another, or move that file away",
			h->store->name);
	if (number > MARKER_FORMAT)
		return error_set(err, -ERR_UNSUPPORTED,
			"the store %s has format %lld, this stagerun " STAGERUN_VERSION
			" knows formats up to %d: upgrade stagerun",
			h->store->name, (long long)number, MARKER_FORMAT);
	return 0;
}

/* Returns 1 if the marker exists, 0 if not. */
static int read_marker(struct store_conn *h, struct error *err)
{
	_free_ char *json = NULL;
	size_t len = 0;
	int code = store_get_all(h, STORE_MARKER, MARKER_MAX_BYTES, &json, &len, err);

	if (code == -ENOENT)
		return 0;
	if (code == -ERR_LIMIT)
		return check_marker_format(h, "", 0, err);
	if (code == 0)
		code = check_marker_format(h, json, len, err);
	return code < 0 ? code : 1;
}

int store_marker_check(struct store_conn *h, struct error *err)
{
	int code = read_marker(h, err);

	return code < 0 ? code : 0;
}

static int write_marker(struct store_conn *h, struct error *err)
{
	char json[96];
	struct tm tm;
	time_t now = time(NULL);
	int code;

	gmtime_r(&now, &tm);
	strftime(json, sizeof(json), "{\"format\": 1, \"created\": \"%Y-%m-%dT%H:%M:%SZ\"}\n", &tm);
	code = store_put_if_absent(h, STORE_MARKER, json, strlen(json), err);
	/* Another creation wrote it, or a first request of this one whose answer was lost. */
	if (code == -EEXIST)
		code = store_marker_check(h, err);
	return code < 0 ? code : MARKER_THERE;
}

struct marker_survey {
	struct layout_foreign foreign;
	bool has_content, has_version;
};

static int on_key(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct marker_survey *s = ctx;

	(void)key;
	(void)err;
	/* Leases are not content: a creation that is about to write the marker may have one
	 * already. */
	s->has_content |= k->kind != LAYOUT_LEASE;
	s->has_version |= k->kind == LAYOUT_MANIFEST;
	return 0;
}

static int survey_place(struct store_conn *h, struct marker_survey *s, struct error *err)
{
	int code = 0;

	for (size_t i = 0; store_roots[i] != NULL && code == 0; i++)
		code = layout_list(h, store_roots[i], on_key, s, &s->foreign, err);
	return code;
}

static int classify_place(
	struct store_conn *h, const struct marker_survey *s, bool create, struct error *err)
{
	const char *name = h->store->name;

	if (!s->has_content && !create)
		return MARKER_NONE;
	if (!s->has_content || (s->has_version && s->foreign.n == 0))
		return write_marker(h, err);
	if (s->foreign.n > 0)
		error_set(err, -ERR_UNSUPPORTED,
			"%s has no " STORE_MARKER
			" and holds '%.300s', which is no part of a store, so nothing is removed there: move away what is foreign, or write " STORE_MARKER
			" (stagerun-store(5))",
			name, s->foreign.first);
	else
		error_set(err, -ERR_UNSUPPORTED,
			"%s has no " STORE_MARKER
			" and no version of a datastore, so nothing is removed there (stagerun-store(5))",
			name);
	return MARKER_UNKNOWN;
}

int store_marker_classify(struct store_conn *h, bool create, struct error *err)
{
	struct marker_survey s = {0};
	int code = read_marker(h, err);

	if (code != 0)
		return code < 0 ? code : MARKER_THERE;
	code = survey_place(h, &s, err);
	if (code == 0)
		code = classify_place(h, &s, create, err);
	layout_foreign_done(&s.foreign);
	return code;
}

int store_claim(struct store_conn *h, struct error *err)
{
	struct error why;
	int code = store_marker_classify(h, true, &why);

	if (code < 0 && err != NULL)
		*err = why;
	return code < 0 ? code : 0;
}

/* Operations, in terms of the few functions that a backend implements. */

enum {
	KEY_MAX = 800,           /* S3's limit is 1024 bytes, including the store's prefix */
	FIRST_READ_BYTES = 65536 /* one request is then enough for most small objects */
};

static const struct {
	const char *scheme;
	int (*new_store)(const struct store_env *env, struct store **ret, struct error *err);
} backends[] = {
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
	for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
		if (strncasecmp(env->url, backends[i].scheme, strlen(backends[i].scheme)) == 0)
			return backends[i].new_store(env, ret, err);
	}
	if (env->url[0] == '\0')
		return error_set(err, -ERR_USAGE,
			"no store is configured: give --store URL, set STAGERUN_STORE, or store in agent.ini");
	if (has_scheme(env->url)) {
		_free_ char *shown = source_display(env->url);

		return error_set(err, -ERR_USAGE,
			"'%s' is no store: use s3://bucket/prefix, file:///directory or a path",
			shown);
	}
	return store_file_new(env, ret, err);
}

void store_free(struct store *s)
{
	if (s == NULL)
		return;
	free(s->name);
	free(s->written_name);
	pthread_mutex_destroy(&s->mutex);
	s->ops->free(s);
}

bool store_is_absent(const struct store *s)
{
	return s->ops->is_absent != NULL && s->ops->is_absent(s);
}

const char *store_name(const struct store *s)
{
	return s->name;
}

void store_note_written(struct store *s, const char *name, unsigned version)
{
	pthread_mutex_lock(&s->mutex);
	free(s->written_name);
	s->written_name = text_copy(name);
	s->written_version = version;
	pthread_mutex_unlock(&s->mutex);
}

char *store_written(struct store *s, unsigned *ret_version)
{
	char *name;

	pthread_mutex_lock(&s->mutex);
	name = text_copy(s->written_name);
	*ret_version = s->written_version;
	pthread_mutex_unlock(&s->mutex);
	return name;
}

int store_missing(const struct store_conn *h, const char *key, struct error *err)
{
	return error_set(err, -ENOENT, "'%s' is not in the store %s", key, h->store->name);
}

void store_random(char ret[static 17])
{
	uint64_t n = 0;

	/* random_fill() cannot fail, but may be weak: a name that collides is refused, and the
	 * caller retries. */
	random_fill(&n, sizeof(n));
	snprintf(ret, 17, "%016llx", (unsigned long long)n);
}

int store_conn_open(
	struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err)
{
	struct store_conn *h = NULL;
	int code = s->ops->conn_open(s, cancel, &h, err);

	if (code < 0)
		return code;
	h->store = s;
	h->cancel = cancel;
	*ret = h;
	return 0;
}

void store_conn_close(struct store_conn *h)
{
	if (h != NULL)
		h->store->ops->conn_close(h);
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

static int check_key(const struct store_conn *h, const char *key, struct error *err)
{
	if (!store_key_is_valid(key))
		return error_set(err, -ERR_FORMAT, "'%.300s' is not a key of a store", key);
	if (cancel_requested(h->cancel))
		return error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
	return 0;
}

int store_get(struct store_conn *h, const char *key, uint64_t offset, void *buf, size_t len,
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

/* Reads at most len bytes from the start of an object into a new buffer (heap, NUL-terminated),
 * r->buf, also on failure. */
static int read_head(
	struct store_conn *h, const char *key, size_t len, struct store_read *r, struct error *err)
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
	struct store_conn *h, const char *key, size_t max, struct store_read *r, struct error *err)
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

int store_get_all(struct store_conn *h, const char *key, size_t max, char **ret, size_t *ret_len,
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

int store_has(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err)
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
	struct store_conn *h, const char *key, const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, key, err);

	return code < 0 ? code : h->store->ops->put(h, key, bytes, len, false, err);
}

int store_put_if_absent(
	struct store_conn *h, const char *key, const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, key, err);

	return code < 0 ? code : h->store->ops->put(h, key, bytes, len, true, err);
}

int store_delete(struct store_conn *h, const char *const *keys, size_t n, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < n && code == 0; i++)
		code = check_key(h, keys[i], err);
	return code < 0 || n == 0 ? code : h->store->ops->remove(h, keys, n, err);
}

struct store_listing {
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err);
	void *ctx;
};

/* Objects whose names are not valid keys do not belong to a store. */
static int on_listed(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	const struct store_listing *l = ctx;

	return store_key_is_valid(key) ? l->each(l->ctx, key, size, modified, err) : 0;
}

int store_list(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	struct store_listing l = {.each = each, .ctx = ctx};

	if (cancel_requested(h->cancel))
		return error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
	return h->store->ops->list(h, prefix, on_listed, &l, err);
}

int store_upload_begin(
	struct store_conn *h, const char *key, struct store_upload **ret, struct error *err)
{
	int code = check_key(h, key, err);

	if (code == 0)
		code = h->store->ops->upload_begin(h, key, ret, err);
	if (code == 0) {
		(*ret)->key = text_copy(key);
		(*ret)->store = h->store;
	}
	return code;
}

int store_upload_part(struct store_conn *h, struct store_upload *u, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	int code = check_key(h, u->key, err);

	return code < 0 ? code : h->store->ops->upload_part(h, u, number, bytes, len, err);
}

int store_upload_complete(struct store_conn *h, struct store_upload *u, struct error *err)
{
	int code = check_key(h, u->key, err);

	return code < 0 ? code : h->store->ops->upload_complete(h, u, err);
}

void store_upload_abort(struct store_conn *h, struct store_upload *u)
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

/* The probe: does the store let exactly one of two writers win? Some servers accept If-None-Match
 * and ignore it (old servers; Ceph, in a bucket with versioning). Two creators would then get the
 * same number, and one of them would silently lose its data. */

static int probe_conditional_put(struct store_conn *h, struct error *err)
{
	_free_ char *key = lease_new_key(LEASE_PROBE);
	int code, second = -EEXIST;

	code = store_put_if_absent(h, key, "1", 1, err);
	/* The key is unique, so -EEXIST means that our own request was sent twice. */
	if (code == -EEXIST)
		code = 0;
	if (code == 0)
		second = store_put_if_absent(h, key, "2", 1, err);
	(void)store_delete(h, (const char *const[]){key}, 1, NULL);
	if (code < 0 || second == -EEXIST)
		return code;
	return second < 0 ? second : h->store->ops->refuse(h, err);
}

int store_probe(struct store_conn *h, struct error *err)
{
	struct store *s = h->store;
	/* The probe writes nothing into a store of a newer stagerun. */
	int code = store_marker_check(h, err);

	if (code < 0)
		return code;
	pthread_mutex_lock(&s->mutex);
	code = s->probed ? 0 : probe_conditional_put(h, err);
	if (code == 0)
		s->probed = true;
	pthread_mutex_unlock(&s->mutex);
	return code;
}
