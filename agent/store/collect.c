/* SPDX-License-Identifier: MIT */
/* Removes what no version needs. Worker threads. It holds a lease: while it works nobody creates, so that
 * nobody counts on what it is about to remove. A version that was deleted keeps its content for the grace
 * time, for who reads it; what no manifest names may be the beginning of a creation that was killed, and is
 * kept for a while so that the next one goes on from there.
 *
 * The manifest of a version whose content is gone stays, without the lists of its content, so that its number
 * is never used again; a mark beside it spares the next collection to read it. */
#include "collect.h"
#include "backend.h"
#include "defer.h"
#include "log.h"
#include "manifest_json.h"
#include "text.h"
#include "uses.h"
#include "versions.h"
#include <string.h>

enum { DELETE_AT_ONCE = 1000 };

struct collection {
	struct store_hand *h;
	const struct collect_options *opts;
	char *lease;
	uint64_t begun_ms;
	time_t now; /* the store's */
	struct versions versions;
	struct key_set needed, gone; /* named by versions that are there; by those that are not */
	struct strings doomed;
	uint64_t doomed_bytes;
	struct collected *total;
};

/* Half a life is left then: nobody takes the lease for dead while a last request is under way. */
static bool must_stop(const struct collection *c)
{
	return lease_clock_ms() - c->begun_ms > c->opts->life_ms / 2;
}

static bool is_gone(const struct collection *c, const struct version *v)
{
	return v->deleted && c->now - v->deleted_at >= (time_t)(c->opts->grace_ms / 1000);
}

static void add_keys(const struct manifest *m, struct key_set *to)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		_free_ char *key = manifest_part_key(&m->parts[i]);

		key_set_add(to, key);
	}
	for (size_t i = 0; i < m->n_objects; i++)
		key_set_add(to, m->objects[i].key);
}

static bool names_content(void *ctx, const struct version *v)
{
	(void)ctx;
	return (v->exists || v->deleted) && !v->collected;
}

static int on_manifest(
	void *ctx, const struct version *v, const struct manifest *m, struct error *err)
{
	struct collection *c = ctx;

	(void)err;
	add_keys(m, is_gone(c, v) ? &c->gone : &c->needed);
	return 0;
}

/* A manifest that cannot be read may name anything: then nothing is removed. */
static int learn_keys(struct collection *c, struct error *err)
{
	return versions_read(c->h, &c->versions, names_content, on_manifest, c, err);
}

static time_t orphan_seconds(const struct collection *c)
{
	uint64_t ms =
		c->opts->grace_ms > c->opts->orphan_ms ? c->opts->grace_ms : c->opts->orphan_ms;

	return (time_t)(ms / 1000);
}

static int on_object(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct collection *c = ctx;

	(void)err;
	if (key_set_has(&c->needed, key))
		return 0;
	if (!key_set_has(&c->gone, key) && c->now - modified <= orphan_seconds(c))
		return 0;
	strings_add(&c->doomed, key);
	c->doomed_bytes += size;
	return 0;
}

/* Those of runs say in their names until when: "uses/NAME/V/SECONDS-ID.json". */
static int on_use(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct collection *c = ctx;

	(void)size;
	(void)modified;
	(void)err;
	if (use_expires(key) < c->now)
		strings_add(&c->doomed, key);
	return 0;
}

static int remove_doomed(struct collection *c, struct error *err)
{
	for (size_t i = 0; i < c->doomed.n; i += DELETE_AT_ONCE) {
		size_t n = c->doomed.n - i < DELETE_AT_ONCE ? c->doomed.n - i : DELETE_AT_ONCE;
		int code;

		if (must_stop(c))
			return error_set(err, -ERR_RESTART,
				"removing what nobody needs from %s takes too long: the rest is "
				"for "
				"the next time",
				c->h->store->name);
		code = store_delete(c->h, (const char *const *)c->doomed.v + i, n, err);
		if (code < 0)
			return code;
		c->total->objects += n;
	}
	c->total->bytes += c->doomed_bytes;
	return 0;
}

static int remove_unneeded(struct collection *c, struct error *err)
{
	static const char *const prefixes[] = {"packs/", "large/", "index/"};
	int code = 0;

	for (size_t i = 0; i < ARRAY_LEN(prefixes) && code == 0; i++)
		code = store_list(c->h, prefixes[i], on_object, c, err);
	if (code == 0)
		code = store_list(c->h, "uses/", on_use, c, err);
	return code < 0 ? code : remove_doomed(c, err);
}

/* Only when all it named is gone: until then it says what is still to be removed. */
static int slim_manifest(struct collection *c, const struct version *v, struct error *err)
{
	_free_ char *key = version_key(v->name, v->number, "manifest.json");
	_free_ char *mark = version_key(v->name, v->number, "collected.json");
	_free_ char *json = NULL;
	struct manifest *m = NULL;
	int code = version_manifest(c->h, v->name, v->number, &m, err);

	if (code < 0)
		return code == -ENOENT ? 0 : code;
	manifest_forget_content(m);
	json = manifest_print(m);
	manifest_free(m);
	code = store_put(c->h, key, json, strlen(json), err);
	return code < 0 ? code : store_put(c->h, mark, "{}\n", 3, err);
}

static int slim_manifests(struct collection *c, struct error *err)
{
	for (size_t i = 0; i < c->versions.n; i++) {
		int code;

		if (!is_gone(c, &c->versions.v[i]) || c->versions.v[i].collected)
			continue;
		if (must_stop(c))
			return 0;
		code = slim_manifest(c, &c->versions.v[i], err);
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

static int collect_leased(struct collection *c, struct error *err)
{
	int code = versions_list(c->h, NULL, &c->versions, err);

	if (code == 0)
		code = learn_keys(c, err);
	if (code == 0)
		code = remove_unneeded(c, err);
	if (code == 0)
		code = slim_manifests(c, err);
	if (code == 0)
		code = c->h->store->ops->sweep(c->h, c->now - orphan_seconds(c), false, err);
	versions_done(&c->versions);
	key_set_done(&c->needed);
	key_set_done(&c->gone);
	strings_done(&c->doomed);
	return code;
}

int collect_with(struct store_hand *h, const struct collect_options *opts, struct collected *ret,
	struct error *err)
{
	_free_ char *lease = lease_new_key(LEASE_COLLECT);
	struct collection c = {.h = h, .opts = opts, .lease = lease, .total = ret};
	struct leases others = {0};
	int code;

	c.begun_ms = lease_clock_ms();
	code = lease_write(h, lease, NULL, opts->life_ms, err);
	if (code == 0)
		code = leases_list(h, lease, opts->life_ms, &others, err);
	c.now = others.now;
	/* Another collection does the same, and creations come first. */
	if (code == 0 && !leases_have(&others, LEASE_CREATE) &&
		!leases_have(&others, LEASE_COLLECT)) {
		remove_dead_leases(&c, &others);
		code = collect_leased(&c, err);
	}
	leases_done(&others);
	lease_remove(h, lease);
	return code;
}

int datastore_collect(struct store_hand *h, uint64_t grace_ms, uint64_t *ret_objects,
	uint64_t *ret_bytes, struct error *err)
{
	struct collect_options opts = {
		.grace_ms = grace_ms, .orphan_ms = COLLECT_ORPHAN_MS, .life_ms = LEASE_LIFE_MS};
	struct collected total = {0};
	int code = collect_with(h, &opts, &total, err);

	if (ret_objects != NULL)
		*ret_objects = total.objects;
	if (ret_bytes != NULL)
		*ret_bytes = total.bytes;
	return code == -ERR_RESTART ? 0 : code;
}
