/* SPDX-License-Identifier: MIT */
/* Fuzzes the readers of a store to which anybody may write: keys, leases, manifests, tombstones,
 * uses and store.json. The input is a list of objects, each a line "KEY SECONDS" (its time of
 * modification), its content, and an empty line. Checks the properties of the objects that were
 * read, and that only keys of the layout are written. */
#include "../../agent/store/store_private.h"
#include "defer.h"
#include "fuzz.h"
#include "log.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN_KEY "leases/clock-0123456789abcdef.json"

enum { MAX_OBJECTS = 12 };

struct thing {
	char *key;
	const char *bytes;
	size_t len;
	time_t modified;
};

struct memory {
	struct store base;
	struct thing v[MAX_OBJECTS + 1];
	size_t n;
};

static int conn_open(
	struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err)
{
	(void)s;
	(void)cancel;
	(void)err;
	*ret = zalloc(sizeof(**ret));
	return 0;
}

static void conn_close(struct store_conn *h)
{
	free(h);
}

static const struct thing *find(struct store_conn *h, const char *key)
{
	const struct memory *m = container_of(h->store, struct memory, base);

	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].key, key) == 0)
			return &m->v[i];
	return NULL;
}

static int read_thing(
	struct store_conn *h, const char *key, struct store_read *r, struct error *err)
{
	const struct thing *t = find(h, key);

	if (t == NULL)
		return store_missing(h, key, err);
	r->size = t->len;
	r->got = r->offset < t->len ? t->len - r->offset : 0;
	r->got = r->got < r->len ? r->got : r->len;
	memcpy(r->buf, t->bytes + (r->got > 0 ? r->offset : 0), r->got);
	return 0;
}

static int head_thing(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err)
{
	const struct thing *t = find(h, key);

	if (t == NULL)
		return store_missing(h, key, err);
	*ret_size = t->len;
	return 0;
}

static int put_thing(struct store_conn *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	struct layout_key k;

	(void)bytes;
	(void)len;
	if (layout_parse(key, &k) == LAYOUT_FOREIGN)
		abort();
	return if_absent && find(h, key) != NULL ? error_set(err, -EEXIST, "it is there") : 0;
}

static int list_things(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	const struct memory *m = container_of(h->store, struct memory, base);
	int code = 0;

	for (size_t i = 0; i < m->n && code >= 0; i++)
		if (strncmp(m->v[i].key, prefix, strlen(prefix)) == 0)
			code = each(ctx, m->v[i].key, m->v[i].len, m->v[i].modified, err);
	return code;
}

/* Adds one object, from its line "KEY SECONDS" and its content. */
static void add_thing(struct memory *m, const char *from, const char *end)
{
	const char *newline = memchr(from, '\n', (size_t)(end - from));
	const char *line_end = newline != NULL ? newline : end;
	_free_ char *line = text_format("%.*s", (int)(line_end - from), from);
	char *space = strrchr(line, ' ');

	if (m->n == MAX_OBJECTS || space == NULL)
		return;
	*space = '\0';
	m->v[m->n++] = (struct thing){.key = text_copy(line),
		.bytes = newline != NULL ? newline + 1 : end,
		.len = newline != NULL ? (size_t)(end - newline - 1) : 0,
		.modified = (time_t)strtoll(space + 1, NULL, 10)};
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct thing *)a)->key, ((const struct thing *)b)->key);
}

/* Sorts the objects by key, without duplicates, as a store lists them. */
static void sort(struct memory *m)
{
	size_t n = 0;

	qsort(m->v, m->n, sizeof(m->v[0]), by_key);
	for (size_t i = 0; i < m->n; i++) {
		if (n > 0 && strcmp(m->v[n - 1].key, m->v[i].key) == 0)
			free(m->v[i].key);
		else
			m->v[n++] = m->v[i];
	}
	m->n = n;
}

static void fill(struct memory *m, const char *bytes, size_t len)
{
	const char *end = bytes + len;

	while (bytes < end) {
		const char *gap = memmem(bytes, (size_t)(end - bytes), "\n\n", 2);

		add_thing(m, bytes, gap != NULL ? gap : end);
		bytes = gap != NULL ? gap + 2 : end;
	}
	m->v[m->n++] = (struct thing){.key = text_copy(OWN_KEY), .bytes = "", .modified = 1000};
	sort(m);
}

static void check_key(const char *key)
{
	static const char *const files[] = {[LAYOUT_MANIFEST] = "manifest.json",
		[LAYOUT_DELETED] = "deleted.json",
		[LAYOUT_COLLECTED] = "collected.json"};
	struct layout_key k;
	enum layout_kind kind = layout_parse(key, &k);
	_free_ char *again = NULL;

	(void)layout_is_temporary(key);
	if (kind != k.kind || (kind != LAYOUT_FOREIGN && !store_key_is_valid(key)))
		abort();
	if (kind == LAYOUT_MANIFEST || kind == LAYOUT_DELETED || kind == LAYOUT_COLLECTED) {
		again = version_key(k.name, k.version, files[kind]);
		if (strcmp(again, key) != 0)
			abort();
	}
	if (kind == LAYOUT_USE && (k.name[0] == '\0' || k.version == 0 || k.expires <= 0))
		abort();
}

/* Checks that a manifest is the same after it is printed and parsed again, and that the keys of
 * its objects are valid. */
static void check_manifest(const struct thing *t)
{
	struct manifest *m, *again;
	_free_ char *json = NULL, *json_again = NULL;
	struct error err = {0};

	if (manifest_parse(t->bytes, t->len, &m, &err) < 0) {
		if (err.msg[0] == '\0')
			abort();
		return;
	}
	for (size_t i = 0; i < m->n_objects; i++)
		if (!store_key_is_valid(m->objects[i].key))
			abort();
	for (size_t i = 0; i < m->n_parts; i++)
		free(manifest_part_key(m->parts[i].sha256));
	json = manifest_print(m);
	if (manifest_parse(json, strlen(json), &again, &err) < 0)
		abort();
	json_again = manifest_print(again);
	if (strcmp(json, json_again) != 0 || strcmp(m->sha256, again->sha256) != 0)
		abort();
	manifest_free(m);
	manifest_free(again);
}

static void check_leases(struct store_conn *h)
{
	struct leases all;
	struct error err = {0};

	if (lease_list(h, OWN_KEY, &all, &err) < 0) {
		if (err.msg[0] == '\0')
			abort();
		return;
	}
	for (size_t i = 0; i < all.n; i++) {
		const struct lease_entry *e = &all.v[i];
		bool waited_for = e->kind == LEASE_CREATE || e->kind == LEASE_COLLECT;

		if (e->live && waited_for && (e->who == NULL || e->counts_s <= 0))
			abort();
	}
	(void)lease_find(&all, LEASE_CREATE);
	(void)lease_find(&all, LEASE_COLLECT);
	lease_list_done(&all);
}

static int on_version(void *ctx, const struct manifest *m, struct error *err)
{
	size_t *n = ctx;

	if (m == NULL && err->msg[0] == '\0')
		abort();
	++*n;
	return 0;
}

static void check_versions(struct store_conn *h)
{
	struct versions all = {0};
	struct manifest *m = NULL;
	struct error err = {0};
	size_t n = 0, exist = 0;

	if (versions_list(h, NULL, &all, &err) < 0)
		abort();
	for (size_t i = 0; i < all.n; i++) {
		if (all.v[i].exists && (!all.v[i].has_manifest || all.v[i].deleted))
			abort();
		exist += all.v[i].exists;
	}
	if (datastore_each(h, NULL, on_version, &n, &err) < 0 || n != exist)
		abort();
	if (all.n > 0 && datastore_find(h, all.v[0].name, 0, &m, &err) < 0 && err.msg[0] == '\0')
		abort();
	manifest_free(m);
	(void)datastore_check_limit(h, 1, &err);
	versions_done(&all);
}

static void check_store(struct memory *m)
{
	struct store_conn h = {.store = &m->base};
	struct error err = {0};
	int code;

	for (size_t i = 0; i < m->n; i++) {
		check_key(m->v[i].key);
		check_manifest(&m->v[i]);
	}
	check_leases(&h);
	check_versions(&h);
	code = store_marker_classify(&h, false, &err);
	if (code != MARKER_THERE && code != MARKER_NONE && err.msg[0] == '\0')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const struct store_ops ops = {.conn_open = conn_open,
		.conn_close = conn_close,
		.read = read_thing,
		.head = head_thing,
		.put = put_thing,
		.list = list_things};
	struct memory m = {.base = {.ops = &ops, .name = "memory"}};
	_free_ char *key = text_format("%.*s", (int)len, (const char *)bytes);

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	pthread_mutex_init(&m.base.mutex, NULL);
	check_key(key);
	fill(&m, (const char *)bytes, len);
	check_store(&m);
	for (size_t i = 0; i < m.n; i++)
		free(m.v[i].key);
	free(m.base.written_name);
	pthread_mutex_destroy(&m.base.mutex);
	return 0;
}
