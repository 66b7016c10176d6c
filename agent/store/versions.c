/* SPDX-License-Identifier: MIT */
/* The versions of datastores: listing them, reading their manifests, marking them as deleted, and
 * the messages for missing ones. Worker threads. A listing alone decides which versions exist: a
 * version exists if it has a manifest and no tombstone. */
#include "defer.h"
#include "store_private.h"
#include "text.h"
#include "thread.h"
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define ROOT "datastores/"

enum { NAME_BYTES = 128 };

int datastore_name_check(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_BYTES)
		return error_set(err, -ERR_USAGE,
			"the datastore's name '%.200s' must have 1 to %d characters", name,
			NAME_BYTES);
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!letter && (i == 0 || strchr("._-", c) == NULL))
			return error_set(err, -ERR_USAGE,
				"the datastore's name '%s' must begin with a-z or 0-9 and go on with those, '.', '_' or '-': give another with --name",
				name);
	}
	return 0;
}

char *version_key(const char *name, unsigned number, const char *file)
{
	return text_format(ROOT "%s/%u/%s", name, number, file);
}

static struct store_version *add_version(struct versions *all, const char *name, unsigned number)
{
	/* A listing is ordered, so the keys of one version are consecutive. */
	if (all->n > 0 && all->v[all->n - 1].number == number &&
		strcmp(all->v[all->n - 1].name, name) == 0)
		return &all->v[all->n - 1];
	if (all->n == all->cap) {
		all->cap += all->cap / 2 + 64;
		all->v = realloc(all->v, all->cap * sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n] = (struct store_version){.name = text_copy(name), .number = number};
	return &all->v[all->n++];
}

static int on_key(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct store_version *v = add_version(ctx, k->name, k->version);

	(void)key;
	(void)err;
	if (k->kind == LAYOUT_COLLECTED) {
		v->collected = true;
	} else if (k->kind == LAYOUT_DELETED) {
		v->deleted = true;
		v->deleted_at = k->modified;
	} else {
		v->has_manifest = true;
		v->exists = !v->deleted; /* 'deleted.json' is listed before 'manifest.json' */
		v->created = k->modified;
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct store_version *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order != 0)
		return order;
	return x->number < y->number ? -1 : x->number > y->number;
}

int versions_list(struct store_conn *h, const char *name, struct versions *ret, struct error *err)
{
	_free_ char *prefix = name != NULL ? text_format(ROOT "%s/", name) : text_copy(ROOT);
	struct layout_foreign foreign = {0};
	int code = layout_list(h, prefix, on_key, ret, &foreign, err);

	layout_foreign_done(&foreign);
	if (code < 0) {
		versions_done(ret);
		return code;
	}
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare);
	return 0;
}

void versions_done(struct versions *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->v[i].name);
	free(v->v);
	*v = (struct versions){0};
}

static bool has_version(const struct versions *all, unsigned number)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].exists && (number == 0 || all->v[i].number == number))
			return true;
	}
	return false;
}

int version_manifest(struct store_conn *h, const char *name, unsigned number, struct manifest **ret,
	struct error *err)
{
	_free_ char *key = version_key(name, number, "manifest.json");
	_free_ char *json = NULL;
	struct manifest *m = NULL;
	size_t len = 0;
	int code = store_get_all(h, key, MANIFEST_MAX_BYTES, &json, &len, err);

	if (code == 0)
		code = manifest_parse(json, len, &m, err);
	if (code == 0 && (strcmp(m->name, name) != 0 || m->version != number))
		code = error_set(
			err, -ERR_FORMAT, "the manifest is that of %s:%u", m->name, m->version);
	if (code < 0) {
		manifest_free(m);
		error_prefix(err, "datastore %s:%u", name, number);
		return code;
	}
	*ret = m;
	return 0;
}

/* An existing tombstone is kept: the grace time of the readers counts from the first one. */
int version_mark_deleted(struct store_conn *h, const char *name, unsigned number, struct error *err)
{
	_free_ char *key = version_key(name, number, "deleted.json");
	char json[64];
	struct tm tm;
	time_t now = time(NULL);
	int code;

	gmtime_r(&now, &tm);
	strftime(json, sizeof(json), "{\"deleted\": \"%Y-%m-%dT%H:%M:%SZ\"}\n", &tm);
	code = store_put_if_absent(h, key, json, strlen(json), err);
	return code == -EEXIST ? 0 : code;
}

static int resolve_version(struct store_conn *h, const char *name, unsigned version,
	unsigned *ret_version, struct error *err)
{
	struct versions all = {0};
	int code = datastore_name_check(name, err);

	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code < 0)
		return code;
	if (!has_version(&all, version))
		code = versions_missing(h, &all, name, version, err);
	for (size_t i = 0; i < all.n; i++) {
		if (version == 0 && all.v[i].exists)
			*ret_version = all.v[i].number;
	}
	versions_done(&all);
	return code;
}

int datastore_newest(
	struct store_conn *h, const char *name, unsigned *ret_version, struct error *err)
{
	return resolve_version(h, name, 0, ret_version, err);
}

int datastore_find(struct store_conn *h, const char *name, unsigned version, struct manifest **ret,
	struct error *err)
{
	unsigned number = version;
	int code = resolve_version(h, name, version, &number, err);

	return code < 0 ? code : version_manifest(h, name, number, ret, err);
}

/* Manifests of many versions. Several are read in parallel, since each is a round trip; they are
 * passed to the caller in the order of the versions. */

enum { BATCH = 16, THREADS = 8 };

struct manifest_batch {
	/* Set at creation. */
	struct store_conn *h;
	const struct store_version *versions[BATCH];
	size_t n;

	atomic_size_t next;
	/* Each element belongs to the thread that took its index from next. */
	struct manifest *manifests[BATCH]; /* NULL: see errors[] */
	struct error errors[BATCH];
};

static void read_manifests(struct manifest_batch *b, struct store_conn *h)
{
	for (;;) {
		size_t i = atomic_fetch_add(&b->next, 1);

		if (i >= b->n)
			return;
		(void)version_manifest(h, b->versions[i]->name, b->versions[i]->number,
			&b->manifests[i], &b->errors[i]);
	}
}

static void *reader_thread(void *ctx)
{
	struct manifest_batch *b = ctx;
	struct store_conn *h = NULL;

	/* If this thread cannot connect, the other threads read its share. */
	if (store_conn_open(b->h->store, b->h->cancel, &h, NULL) == 0)
		read_manifests(b, h);
	store_conn_close(h);
	return NULL;
}

static void read_batch(struct manifest_batch *b)
{
	pthread_t threads[THREADS];
	unsigned n = 0;

	while (n + 1 < b->n && n < THREADS && thread_start_extra(&threads[n], reader_thread, b))
		n++;
	read_manifests(b, b->h);
	while (n > 0)
		pthread_join(threads[--n], NULL);
}

static int read_and_report_batch(
	struct manifest_batch *b, versions_read_cb *each, void *ctx, struct error *err)
{
	bool err_set = false;
	int code = 0;

	read_batch(b);
	for (size_t i = 0; i < b->n; i++) {
		if (code >= 0)
			code = each(ctx, b->versions[i], b->manifests[i], &b->errors[i]);
		if (code < 0 && err != NULL && !err_set)
			*err = b->errors[i];
		err_set = code < 0;
		manifest_free(b->manifests[i]);
	}
	return code;
}

int versions_read(struct store_conn *h, const struct versions *all,
	bool (*want)(void *ctx, const struct store_version *v), versions_read_cb *each, void *ctx,
	struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < all->n && code == 0;) {
		struct manifest_batch *b = zalloc(sizeof(*b));

		b->h = h;
		for (; i < all->n && b->n < BATCH; i++) {
			if (want(ctx, &all->v[i]))
				b->versions[b->n++] = &all->v[i];
		}
		code = read_and_report_batch(b, each, ctx, err);
		free(b);
	}
	return code;
}

struct each_manifest {
	int (*each)(void *ctx, const struct manifest *m, struct error *err);
	void *ctx;
};

static bool version_exists(void *ctx, const struct store_version *v)
{
	(void)ctx;
	return v->exists;
}

static int on_manifest(
	void *ctx, const struct store_version *v, const struct manifest *m, struct error *err)
{
	const struct each_manifest *s = ctx;

	(void)v;
	/* A version that was purged meanwhile is skipped. */
	if (m == NULL && (err->code == -ENOENT || err->code == -ECANCELED))
		return err->code == -ENOENT ? 0 : err->code;
	return s->each(s->ctx, m, err);
}

int datastore_each(struct store_conn *h, const char *name,
	int (*each)(void *ctx, const struct manifest *m, struct error *err), void *ctx,
	struct error *err)
{
	struct each_manifest s = {.each = each, .ctx = ctx};
	struct versions all = {0};
	int code = name != NULL ? datastore_name_check(name, err) : 0;

	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code == 0)
		code = versions_read(h, &all, version_exists, on_manifest, &s, err);
	versions_done(&all);
	return code;
}

/* Existing versions come first, ordered by age, the oldest one first. */
static int by_age(const void *a, const void *b)
{
	const struct store_version *x = a, *y = b;

	if (x->exists != y->exists)
		return x->exists ? -1 : 1;
	return x->created < y->created ? -1 : x->created > y->created;
}

/* Names the three oldest of the n existing versions: the likely ones to delete. */
static int too_many(struct versions *all, size_t n, unsigned max, struct error *err)
{
	struct text t = {0};
	_free_ char *list = NULL;

	qsort(all->v, all->n, sizeof(*all->v), by_age);
	for (size_t i = 0; i < n && i < 3; i++) {
		const struct store_version *v = &all->v[i];
		char date[32];
		struct tm tm;

		units_date(v->created, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d", &tm);
		text_addf(&t, "%s%s:%u (%s)", i > 0 ? ", " : "", v->name, v->number, date);
	}
	list = text_take(&t);
	return error_set(err, -ERR_LIMIT,
		"there are %zu datastores, counting each version, and max_datastores is %u: delete one; the oldest are %s",
		n, max, list);
}

int datastore_check_limit(struct store_conn *h, unsigned max, struct error *err)
{
	struct versions all = {0};
	size_t n = 0;
	int code = versions_list(h, NULL, &all, err);

	for (size_t i = 0; i < all.n; i++)
		n += all.v[i].exists;
	if (code == 0 && n > 0 && n >= max)
		code = too_many(&all, n, max, err);
	versions_done(&all);
	return code;
}

/* Messages for a datastore or a version that does not exist. */

enum { NAMED_AT_MOST = 12 };

/* "1, 2 and 5"; "" if there is none. If there are many, only the newest are listed, after "...".
 * Heap. */
static char *existing_numbers(const struct versions *all)
{
	struct text t = {0};
	size_t n = 0, i = 0;

	text_add(&t, "");
	for (size_t j = 0; j < all->n; j++)
		n += all->v[j].exists;
	if (n > NAMED_AT_MOST)
		text_add(&t, "...");
	for (size_t j = 0; j < all->n; j++) {
		if (!all->v[j].exists)
			continue;
		i++;
		if (n - i >= NAMED_AT_MOST)
			continue;
		if (t.len > 0)
			text_add(&t, i == n ? " and " : ", ");
		text_addf(&t, "%u", all->v[j].number);
	}
	return text_take(&t);
}

static bool was_deleted(const struct versions *all, unsigned version)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].deleted && (version == 0 || all->v[i].number == version))
			return true;
	}
	return false;
}

static void existing_names(const struct versions *all, struct strings *names)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].exists &&
			(names->n == 0 || strcmp(names->v[names->n - 1], all->v[i].name) != 0))
			text_strings_add(names, all->v[i].name);
	}
}

static int no_such_name(
	struct store_conn *h, const char *name, const struct strings *names, struct error *err)
{
	const char *near = nearest_word(name, (const char *const *)names->v, names->n);
	const char *store = h->store->name;
	_free_ char *list = NULL;
	struct text t = {0};

	if (store_is_absent(h->store))
		return error_set(err, -ENOENT,
			"there is no datastore '%s': the directory of the store %s does not exist; is it mounted here, and is --store or STAGERUN_STORE right?",
			name, store);
	if (names->n == 0)
		return error_set(err, -ENOENT,
			"there is no datastore '%s' in %s, which has none: create one with `stagerun datastore create`",
			name, store);
	if (near != NULL)
		return error_set(err, -ENOENT,
			"there is no datastore '%s' in %s: did you mean '%s'?", name, store, near);
	for (size_t i = 0; i < names->n && i < NAMED_AT_MOST; i++)
		text_addf(&t, "%s%s", i > 0 ? ", " : "", names->v[i]);
	if (names->n > NAMED_AT_MOST)
		text_add(&t, ", ...");
	list = text_take(&t);
	return error_set(
		err, -ENOENT, "there is no datastore '%s' in %s: there is %s", name, store, list);
}

int versions_missing(struct store_conn *h, const struct versions *of_name, const char *name,
	unsigned version, struct error *err)
{
	_free_ char *numbers = existing_numbers(of_name);
	const char *why = was_deleted(of_name, version) ? "was deleted" : "does not exist";
	const char *store = h->store->name;
	struct versions all = {0};
	struct strings names = {0};
	int code;

	if (numbers[0] != '\0')
		return error_set(err, -ENOENT, "version %u of datastore '%s' in %s %s: there is %s",
			version, name, store, why, numbers);
	if (of_name->n > 0)
		return error_set(err, -ENOENT,
			"datastore '%s' in %s has no version any more: all were deleted", name,
			store);
	code = versions_list(h, NULL, &all, err);
	if (code < 0)
		return code;
	existing_names(&all, &names);
	code = no_such_name(h, name, &names, err);
	text_strings_done(&names);
	versions_done(&all);
	return code;
}
