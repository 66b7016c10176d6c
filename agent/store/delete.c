/* SPDX-License-Identifier: MIT */
/* Deletes versions of a datastore, and purges whole stores. Worker threads. Deleting a version
 * writes its tombstone (deleted.json) at once; a later collection removes the content, when no
 * reader can still need it. */
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "store_private.h"
#include "text.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

static int in_use_error(const char *name, const char *who, struct error *err)
{
	return error_set(err, -EBUSY, "datastore '%s' is in use: %s; wait, or delete with --force",
		name, who);
}

/* Also returns the store's time, from the lease that it writes. */
static int check_creations(
	struct store_conn *h, const char *name, time_t *ret_now, struct error *err)
{
	_free_ char *own = lease_new_key(LEASE_CLOCK);
	const struct lease_content words = {.life_ms = LEASE_LIFE_MS};
	struct leases all = {0};
	int code = lease_write(h, own, &words, err);

	if (code == 0)
		code = lease_list(h, own, &all, err);
	lease_remove(h, own);
	*ret_now = all.now;
	for (size_t i = 0; i < all.n && code == 0; i++) {
		const struct lease_entry *e = &all.v[i];
		_free_ char *why = NULL;

		if (!e->live || e->kind != LEASE_CREATE || e->name == NULL ||
			strcmp(e->name, name) != 0)
			continue;
		why = text_format(
			"%s is creating a version of it, and counts as dead after %lld s without a sign of life",
			e->who, (long long)e->counts_s);
		code = in_use_error(name, why, err);
	}
	lease_list_done(&all);
	return code;
}

static bool is_chosen(const struct store_version *v, unsigned version)
{
	return v->exists && (version == 0 || v->number == version);
}

struct uses {
	const struct versions *all;
	unsigned version; /* 0: any */
	time_t now;
	/* The first version found in use, and how many runs use it until when. */
	unsigned used;
	size_t n;
	time_t until;
};

static bool is_chosen_number(const struct uses *u, unsigned number)
{
	for (size_t i = 0; i < u->all->n; i++) {
		if (u->all->v[i].number == number)
			return is_chosen(&u->all->v[i], u->version);
	}
	return false;
}

static int on_use(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct uses *u = ctx;

	(void)key;
	(void)err;
	if (k->expires < u->now || (u->n > 0 && k->version != u->used) ||
		!is_chosen_number(u, k->version))
		return 0;
	u->used = k->version;
	u->n++;
	u->until = k->expires > u->until ? k->expires : u->until;
	return 0;
}

static int check_uses(struct store_conn *h, const char *name, struct uses *uses, struct error *err)
{
	_free_ char *prefix = text_format("uses/%s/", name);
	_free_ char *why = NULL;
	struct layout_foreign foreign = {0};
	char date[64];
	struct tm tm;
	int code = layout_list(h, prefix, on_use, uses, &foreign, err);

	layout_foreign_done(&foreign);
	if (code < 0 || uses->n == 0)
		return code;
	units_date(uses->until, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &tm);
	why = text_format("%zu %s registered for version %u, until %s at most", uses->n,
		uses->n == 1 ? "run is" : "runs are", uses->used, date);
	return in_use_error(name, why, err);
}

static int check_unused(struct store_conn *h, const char *name, const struct versions *all,
	unsigned version, struct error *err)
{
	struct uses uses = {.all = all, .version = version};
	int code = check_creations(h, name, &uses.now, err);

	return code < 0 ? code : check_uses(h, name, &uses, err);
}

/* Runs before anything is written, so that a misspelt store or name leaves no objects behind. */
static int check_exists(struct store_conn *h, const char *name, const struct versions *all,
	unsigned version, struct error *err)
{
	for (size_t i = 0; i < all->n; i++) {
		if (is_chosen(&all->v[i], version))
			return 0;
	}
	return versions_missing(h, all, name, version, err);
}

static int mark_chosen_deleted(struct store_conn *h, const char *name, const struct versions *all,
	unsigned version, struct error *err)
{
	for (size_t i = 0; i < all->n; i++) {
		int code;

		if (!is_chosen(&all->v[i], version))
			continue;
		code = version_mark_deleted(h, name, all->v[i].number, err);
		if (code < 0)
			return code;
		store_note_written(h->store, name, all->v[i].number);
	}
	return 0;
}

/* A request without a version number must not delete several versions, unless opts->all is set. */
static int check_not_ambiguous(
	const struct versions *all, const char *name, unsigned version, struct error *err)
{
	unsigned newest = 0;
	size_t n = 0;

	for (size_t i = 0; i < all->n && version == 0; i++) {
		n += all->v[i].exists;
		if (all->v[i].exists)
			newest = all->v[i].number;
	}
	if (n <= 1)
		return 0;
	return error_set(err, -ERR_USAGE,
		"datastore '%s' has %zu versions: say %s:all (or --yes) to remove all of them, or which, such as %s:%u",
		name, n, name, name, newest);
}

int datastore_delete(struct store_conn *h, const char *name, unsigned version,
	const struct datastore_delete_options *opts, struct error *err)
{
	struct versions all = {0};
	int code = datastore_name_check(name, err);

	if (code == 0)
		code = store_marker_check(h, err);
	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code == 0)
		code = check_exists(h, name, &all, version, err);
	if (code == 0 && !opts->all)
		code = check_not_ambiguous(&all, name, version, err);
	if (code == 0 && !opts->force)
		code = check_unused(h, name, &all, version, err);
	if (code == 0)
		code = mark_chosen_deleted(h, name, &all, version, err);
	versions_done(&all);
	return code;
}

/* Purging removes all objects of a store, after which it is no store any more. Only keys that have
 * exactly the form of a store's are removed, and only from a place that is known to be a store: if
 * a user names a bucket or a directory by mistake, everything else in it is kept. */

enum {
	DELETE_BATCH = 1000,
	/* seconds; the most that the store's clock is assumed to differ from ours */
	CLOCKS_DIFFER_BY = 7 * 24 * 3600,
	PASSES_MAX = 10, /* of listing and removing, while another process still writes */
	FOREIGN_COUNTED = 1000
};

/* What a listing found; sizes has one for each key. */
struct purge_keys {
	struct strings keys;
	uint64_t *sizes;
	size_t room;
	struct progress *progress; /* NULL: nobody wants to know */
};

static void purge_keys_done(struct purge_keys *l)
{
	text_strings_done(&l->keys);
	free(l->sizes);
}

static int on_key(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct purge_keys *l = ctx;

	(void)err;
	if (l->keys.n == l->room) {
		l->room = l->room > 0 ? 2 * l->room : 64;
		l->sizes = reallocarray(l->sizes, l->room, sizeof(*l->sizes));
		if (l->sizes == NULL)
			abort();
	}
	l->sizes[l->keys.n] = k->size;
	text_strings_add(&l->keys, key);
	if (l->progress != NULL) {
		count(&l->progress->total, k->size);
		count(&l->progress->entries_total, 1);
	}
	return 0;
}

/* Adds all keys below the root to *ret. */
static int list_keys(
	struct store_conn *h, const char *root, struct purge_keys *ret, struct error *err)
{
	struct layout_foreign foreign = {0};
	int code = layout_list(h, root, on_key, ret, &foreign, err);

	layout_foreign_done(&foreign);
	return code;
}

static void count_removed(const struct purge_keys *l, size_t first, size_t n)
{
	for (size_t i = first; i < first + n && l->progress != NULL; i++) {
		count(&l->progress->received, l->sizes[i]);
		count(&l->progress->entries, 1);
	}
}

static int remove_keys(struct store_conn *h, const struct purge_keys *l, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < l->keys.n && code == 0; i += DELETE_BATCH) {
		size_t n = l->keys.n - i < DELETE_BATCH ? l->keys.n - i : DELETE_BATCH;

		code = store_delete(h, (const char *const *)l->keys.v + i, n, err);
		if (code == 0)
			count_removed(l, i, n);
	}
	return code;
}

/* Lists and removes until a listing is empty. After PASSES_MAX passes it stops, in case another
 * process keeps writing. */
static int remove_all(struct store_conn *h, const char *root, struct progress *progress,
	uint64_t *ret_objects, struct error *err)
{
	size_t n = 1;
	int code = 0;

	for (unsigned pass = 0; pass < PASSES_MAX && n > 0 && code == 0; pass++) {
		struct purge_keys found = {.progress = progress};

		code = list_keys(h, root, &found, err);
		if (code == 0)
			code = remove_keys(h, &found, err);
		n = found.keys.n;
		*ret_objects += n;
		purge_keys_done(&found);
	}
	return code;
}

static int check_left(struct store_conn *h, struct error *err)
{
	struct purge_keys left = {0};
	int code = 0;

	for (size_t i = 0; store_roots[i] != NULL && code == 0; i++)
		code = list_keys(h, store_roots[i], &left, err);
	if (code == 0 && left.keys.n > 0)
		code = error_set(err, -EBUSY,
			"%s: %zu objects came while it was purged; is something still creating datastores? Run purge again",
			h->store->name, left.keys.n);
	purge_keys_done(&left);
	return code;
}

static int on_any_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct layout_foreign *f = ctx;
	struct layout_key k;

	(void)size;
	(void)modified;
	(void)err;
	if (layout_parse(key, &k) == LAYOUT_FOREIGN && f->n++ == 0)
		f->first = text_copy(key);
	return f->n < FOREIGN_COUNTED ? 0 : -ERR_LIMIT;
}

/* Lists the whole place, not only the store's directories. A failure is ignored: the purge itself
 * is complete. */
static void warn_of_foreign(struct store_conn *h)
{
	struct layout_foreign f = {0};

	(void)h->store->ops->list(h, "", on_any_key, &f, NULL);
	layout_foreign_warn(&f, h);
	layout_foreign_done(&f);
}

/* The marker is removed last: without it an interrupted purge could not be run again. */
static int remove_marker(struct store_conn *h, struct error *err)
{
	static const char *const marker[] = {STORE_MARKER, NULL};
	int code = store_delete(h, marker, 1, err);

	if (code == 0)
		code = h->store->ops->sweep(h, marker, 0, true, err);
	return code;
}

static int purge_objects(
	struct store_conn *h, struct progress *progress, uint64_t *ret_objects, struct error *err)
{
	int code = 0;

	for (size_t i = 0; store_roots[i] != NULL && code == 0; i++)
		code = remove_all(h, store_roots[i], progress, ret_objects, err);
	if (code == 0)
		code = h->store->ops->sweep(
			h, store_roots, time(NULL) + CLOCKS_DIFFER_BY, true, err);
	if (code == 0)
		code = check_left(h, err);
	return code < 0 ? code : remove_marker(h, err);
}

int store_purge(
	struct store_conn *h, struct progress *progress, uint64_t *ret_objects, struct error *err)
{
	uint64_t removed = 0;
	int code = store_marker_classify(h, false, err);

	if (code == MARKER_UNKNOWN)
		code = -ERR_UNSUPPORTED;
	if (code == MARKER_THERE)
		code = purge_objects(h, progress, &removed, err);
	if (code >= 0)
		warn_of_foreign(h);
	if (ret_objects != NULL)
		*ret_objects = removed;
	return code < 0 ? code : 0;
}
