/* SPDX-License-Identifier: MIT */
/* Garbage collection: removes the objects that no version of a datastore needs, from a place that
 * is known to be a store. Worker threads.
 *
 * The collection holds a lease. While it runs no creation starts, so that no creation relies on an
 * object that is about to be removed. A failed lookup does not count as absence, and versions that
 * a listing omits are looked up once more: on any doubt nothing is removed at all. */
#include "defer.h"
#include "store_private.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

/* The content of a deleted version is kept for the grace time, for its
 * readers. An object that no manifest names may come from a creation that was killed; it is kept
 * for a while so that the next creation can reuse it.
 *
 * The manifest of a version whose content has been removed stays, without the lists of its content,
 * so that the version's number is never reused; a mark beside it (collected.json) saves the next
 * collection from reading the manifest. */

enum { DELETE_BATCH = 1000 };

struct collection {
	struct store_conn *h;
	const struct collect_options *opts;
	struct lease *lease;
	uint64_t begun_ms;
	time_t now; /* the store's clock */
	struct versions versions;
	/* Keys named by versions that exist or are within the grace time; by those that are
	 * gone. */
	struct key_set needed, gone;
	struct strings garbage;
	uint64_t garbage_bytes;
	struct layout_foreign foreign;
	/* A version that this process published or deleted; NULL: none. */
	char *own_name;
	unsigned own_version;
	/* A removal request got no answer: it may still be in progress in the store. */
	bool removal_unanswered;
	struct collected *total;
};

static bool must_stop(const struct collection *c)
{
	return lease_clock_ms() - c->begun_ms > COLLECT_MOST_MS || lease_check(c->lease, NULL) < 0;
}

static bool is_gone(const struct collection *c, const struct store_version *v)
{
	return v->deleted && c->now - v->deleted_at >= (time_t)(c->opts->grace_ms / 1000);
}

static void add_manifest_keys(const struct manifest *m, struct key_set *to)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		_free_ char *key = manifest_part_key(m->parts[i].sha256);

		layout_key_set_add(to, key);
	}
	for (size_t i = 0; i < m->n_objects; i++)
		layout_key_set_add(to, m->objects[i].key);
}

static bool names_content(void *ctx, const struct store_version *v)
{
	(void)ctx;
	return v->has_manifest && !(v->deleted && v->collected);
}

/* A manifest that cannot be read may name any object, so nothing is removed. The exception is a
 * version whose grace time is over: it needs none of the objects that its manifest names. */
static int on_manifest(
	void *ctx, const struct store_version *v, const struct manifest *m, struct error *err)
{
	struct collection *c = ctx;

	if (m == NULL)
		return err->code == -ERR_FORMAT && is_gone(c, v) ? 0 : err->code;
	add_manifest_keys(m, is_gone(c, v) ? &c->gone : &c->needed);
	return 0;
}

static int incomplete_listing_error(
	const struct collection *c, const char *name, unsigned version, struct error *err)
{
	return error_set(err, -ERR_CHANGED,
		"%s lists its versions without %s:%u, which is there: nothing is removed on such an answer",
		c->h->store->name, name, version);
}

/* The listing shows no manifest of this version: checks that the store really has none. */
static int confirm_absence(
	struct collection *c, const char *name, unsigned version, struct error *err)
{
	_free_ char *key = version_key(name, version, "manifest.json");
	int code = store_has(c->h, key, NULL, err);

	return code > 0 ? incomplete_listing_error(c, name, version, err) : code;
}

enum { GAP_MAX = 1000 };

/* Manifests are never removed and version numbers rise by one, so each number up to this version's
 * that the listing omits is looked up. */
static int confirm_gap(struct collection *c, size_t i, struct error *err)
{
	const struct store_version *v = &c->versions.v[i], *before = i > 0 ? v - 1 : NULL;
	bool same_name = before != NULL && strcmp(before->name, v->name) == 0;
	unsigned from = same_name ? before->number + 1 : 1;
	int code = 0;

	if (v->number - from > GAP_MAX)
		return error_set(err, -ERR_LIMIT,
			"%s lists version %u of '%s', but not the %u before it: nothing is removed on such an answer",
			c->h->store->name, v->number, v->name, v->number - from);
	for (unsigned n = from; n < v->number && code == 0; n++)
		code = confirm_absence(c, v->name, n, err);
	return code == 0 && !v->has_manifest ? confirm_absence(c, v->name, v->number, err) : code;
}

static int confirm_time(
	const struct collection *c, const struct store_version *v, struct error *err)
{
	if (!v->deleted || v->deleted_at > 0)
		return 0;
	return error_set(err, -ERR_FORMAT, "%s does not say when %s:%u was deleted",
		c->h->store->name, v->name, v->number);
}

static bool is_listed(const struct collection *c, const char *name, unsigned version)
{
	for (size_t i = 0; i < c->versions.n; i++) {
		const struct store_version *v = &c->versions.v[i];

		if (v->has_manifest && strcmp(v->name, name) == 0 && v->number == version)
			return true;
	}
	return false;
}

static int confirm_versions(struct collection *c, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < c->versions.n && code == 0; i++) {
		code = confirm_gap(c, i, err);
		if (code == 0)
			code = confirm_time(c, &c->versions.v[i], err);
	}
	if (code == 0 && c->own_name != NULL && !is_listed(c, c->own_name, c->own_version))
		code = incomplete_listing_error(c, c->own_name, c->own_version, err);
	return code;
}

static time_t orphan_seconds(const struct collection *c)
{
	uint64_t ms =
		c->opts->grace_ms > c->opts->orphan_ms ? c->opts->grace_ms : c->opts->orphan_ms;

	return (time_t)(ms / 1000);
}

static int on_object(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct collection *c = ctx;

	if (layout_key_set_has(&c->needed, key))
		return 0;
	if (k->modified <= 0)
		return error_set(err, -ERR_FORMAT, "%s does not say of when '%s' is",
			c->h->store->name, key);
	if (!layout_key_set_has(&c->gone, key) && c->now - k->modified <= orphan_seconds(c))
		return 0;
	text_strings_add(&c->garbage, key);
	c->garbage_bytes += k->size;
	return 0;
}

/* The key of a registered run contains its expiry time. A registration that has not expired must
 * name a version that exists. */
static int on_use(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	struct collection *c = ctx;

	if (k->expires < c->now)
		text_strings_add(&c->garbage, key);
	else if (!is_listed(c, k->name, k->version))
		return confirm_absence(c, k->name, k->version, err);
	return 0;
}

/* Each request is limited to LEASE_REMOVAL_MS, so that it ends long before the lease expires and no
 * other process can take the lease for dead meanwhile. */
static int remove_batch(struct collection *c, size_t first, size_t n, struct error *err)
{
	int code;

	if (must_stop(c))
		return error_set(err, -ERR_RESTART,
			"removing what nobody needs from %s takes too long: the rest is for the next time",
			c->h->store->name);
	code = lease_begin_removing(c->lease, c->h, err);
	if (code < 0)
		return code;
	c->h->limit_ms = LEASE_REMOVAL_MS;
	code = store_delete(c->h, (const char *const *)c->garbage.v + first, n, err);
	c->h->limit_ms = 0;
	c->removal_unanswered = code < 0 && code != -EACCES;
	return code;
}

static int remove_garbage(struct collection *c, struct error *err)
{
	for (size_t i = 0; i < c->garbage.n; i += DELETE_BATCH) {
		size_t n = c->garbage.n - i < DELETE_BATCH ? c->garbage.n - i : DELETE_BATCH;
		int code = remove_batch(c, i, n, err);

		if (code < 0)
			return code;
		c->total->objects += n;
	}
	c->total->bytes += c->garbage_bytes;
	return 0;
}

static int find_garbage(struct collection *c, struct error *err)
{
	static const char *const roots[] = {"packs/", "large/", "index/"};
	int code = 0;

	for (size_t i = 0; i < ARRAY_LEN(roots) && code == 0; i++)
		code = layout_list(c->h, roots[i], on_object, c, &c->foreign, err);
	if (code == 0)
		code = layout_list(c->h, "uses/", on_use, c, &c->foreign, err);
	return code;
}

/* Called only after every object that the manifest named has been removed: until then the manifest
 * is the record of the objects that are still to be removed. */
static int forget_content(struct collection *c, const struct store_version *v, struct error *err)
{
	_free_ char *key = version_key(v->name, v->number, "manifest.json");
	_free_ char *mark = version_key(v->name, v->number, "collected.json");
	_free_ char *json = NULL;
	struct manifest *m = NULL;
	int code = version_manifest(c->h, v->name, v->number, &m, err);

	/* A manifest that cannot be read stays as it is. */
	if (code < 0 && code != -ERR_FORMAT)
		return code;
	if (code == 0) {
		manifest_forget_content(m);
		json = manifest_print(m);
		manifest_free(m);
		code = store_put(c->h, key, json, strlen(json), err);
	} else {
		code = 0;
	}
	return code < 0 ? code : store_put(c->h, mark, "{}\n", 3, err);
}

static int forget_contents(struct collection *c, struct error *err)
{
	for (size_t i = 0; i < c->versions.n; i++) {
		int code;

		if (!is_gone(c, &c->versions.v[i]) || c->versions.v[i].collected ||
			!c->versions.v[i].has_manifest)
			continue;
		if (must_stop(c))
			return 0;
		code = forget_content(c, &c->versions.v[i], err);
		if (code < 0)
			return code;
	}
	return 0;
}

static void remove_dead_leases(struct collection *c, const struct leases *all)
{
	for (size_t i = 0; i < all->n; i++) {
		if (!all->v[i].live)
			lease_remove(c->h, all->v[i].key);
	}
}

static int sweep_leftovers(struct collection *c, struct error *err)
{
	return c->h->store->ops->sweep(c->h, store_roots, c->now - orphan_seconds(c), false, err);
}

static int collect_leased(struct collection *c, struct error *err)
{
	int code = versions_list(c->h, NULL, &c->versions, err);

	if (code == 0)
		code = confirm_versions(c, err);
	if (code == 0)
		code = versions_read(c->h, &c->versions, names_content, on_manifest, c, err);
	if (code == 0)
		code = find_garbage(c, err);
	if (code == 0)
		code = remove_garbage(c, err);
	if (code == 0)
		code = forget_contents(c, err);
	if (code == 0)
		code = sweep_leftovers(c, err);
	layout_foreign_warn(&c->foreign, c->h);
	layout_foreign_done(&c->foreign);
	versions_done(&c->versions);
	layout_key_set_done(&c->needed);
	layout_key_set_done(&c->gone);
	text_strings_done(&c->garbage);
	return code;
}

/* Nothing is removed from a place that is not known to be a store. */
static int check_place(struct store_conn *h, struct error *err)
{
	int state = store_marker_classify(h, false, err);

	return state == MARKER_UNKNOWN ? -ERR_UNSUPPORTED : state;
}

int collect_with(struct store_conn *h, const struct collect_options *opts, struct collected *ret,
	struct error *err)
{
	struct collection c = {.h = h, .opts = opts, .total = ret, .begun_ms = lease_clock_ms()};
	struct leases others = {0};
	int code = check_place(h, err);

	if (code < 0 || code == MARKER_NONE)
		return code;
	c.own_name = store_written(h->store, &c.own_version);
	code = lease_take_for_collection(h, &c.lease, &others, err);
	c.now = others.now;
	if (code == 0 && c.lease != NULL) {
		remove_dead_leases(&c, &others);
		code = collect_leased(&c, err);
	}
	lease_list_done(&others);
	free(c.own_name);
	if (c.removal_unanswered)
		lease_abandon(c.lease);
	else
		lease_release_with(c.lease, h);
	return code;
}

int datastore_collect(struct store_conn *h, uint64_t grace_ms, uint64_t *ret_objects,
	uint64_t *ret_bytes, struct error *err)
{
	struct collect_options opts = {.grace_ms = grace_ms, .orphan_ms = COLLECT_ORPHAN_MS};
	struct collected total = {0};
	int code = collect_with(h, &opts, &total, err);

	if (ret_objects != NULL)
		*ret_objects = total.objects;
	if (ret_bytes != NULL)
		*ret_bytes = total.bytes;
	return code == -ERR_RESTART ? 0 : code;
}
