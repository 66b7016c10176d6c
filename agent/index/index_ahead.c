/* SPDX-License-Identifier: MIT */
/* Reads the parts of an index ahead. Each thread takes the next part that no other thread has
 * taken, fetches and decodes it, and stores it in the part's slot. No more than a window of parts
 * is being read or waiting in a slot. */
#include "index_ahead.h"
#include "defer.h"
#include "digest.h"
#include "text.h"
#include "workers.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct ahead_slot {
	bool is_filled;
	struct index_part part;
};

struct index_ahead {
	/* Set at creation. */
	struct index_ahead_env env;

	struct workers pool;
	struct workers_condition changed; /* any member below */

	/* Under the pool's lock. */
	size_t taken, delivered; /* numbers of parts */
	struct ahead_slot slots[INDEX_AHEAD_MAX];
};

/* The limit leaves room for a part that does not compress at all. */
static int check_size(const struct manifest_part *p, struct error *err)
{
	if (p->bytes > 0 && p->bytes <= INDEX_TEXT_MAX + (INDEX_TEXT_MAX >> 7))
		return 0;
	return error_set(
		err, -ERR_FORMAT, "a part of the index cannot have %" PRIu64 " bytes", p->bytes);
}

static int check_digest(const struct manifest_part *p, const void *bytes, struct error *err)
{
	char got[65];

	digest_hex(bytes, (size_t)p->bytes, got);
	if (strcmp(got, p->sha256) == 0)
		return 0;
	return error_set(err, -ERR_DIGEST, "it is damaged: its SHA-256 is %s", got);
}

static int decode_part(
	const struct manifest_part *p, const void *bytes, struct index_part *ret, struct error *err)
{
	int code = check_digest(p, bytes, err);

	if (code == 0)
		code = index_part_decode(bytes, (size_t)p->bytes, ret, err);
	if (code == 0 && ret->n_entries != p->entries) {
		index_part_done(ret);
		code = error_set(err, -ERR_FORMAT,
			"it has %zu entries, and the manifest says %" PRIu64, ret->n_entries,
			p->entries);
	}
	return code;
}

static int read_part(struct store_conn *store, const struct manifest_part *p,
	struct index_part *ret, struct error *err)
{
	_free_ char *key = manifest_part_key(p->sha256);
	_free_ void *bytes = NULL;
	int code = check_size(p, err);

	if (code < 0)
		return code;
	bytes = malloc((size_t)p->bytes);
	if (bytes == NULL)
		return error_set(err, -ENOMEM, "no memory for a part of the index");
	code = store_get(store, key, 0, bytes, (size_t)p->bytes, err);
	if (code == -ENOENT)
		return error_set(err, code,
			"%s is not in the store: the version was deleted, or the store is damaged",
			key);
	if (code == 0)
		code = decode_part(p, bytes, ret, err);
	if (code < 0 && strstr(err->msg, key) == NULL)
		error_prefix(err, "%s", key);
	return code;
}

/* Sleeps until the next part lies in the window, and returns its number; false when there is
 * none. */
static bool claim_part(struct index_ahead *a, size_t *ret)
{
	bool claimed;

	pthread_mutex_lock(&a->pool.mutex);
	while (a->taken < a->env.manifest->n_parts && a->taken == a->delivered + a->env.window &&
		!workers_must_stop(&a->pool))
		workers_wait(&a->pool, &a->changed);
	claimed = a->taken < a->env.manifest->n_parts && !workers_must_stop(&a->pool);
	if (claimed)
		*ret = a->taken++;
	pthread_mutex_unlock(&a->pool.mutex);
	return claimed;
}

static void store_in_slot(struct index_ahead *a, size_t i, const struct index_part *part)
{
	pthread_mutex_lock(&a->pool.mutex);
	a->slots[i % a->env.window] = (struct ahead_slot){.is_filled = true, .part = *part};
	workers_wake_all(&a->changed);
	pthread_mutex_unlock(&a->pool.mutex);
}

static int read_parts(struct index_ahead *a, struct store_conn *store, struct error *err)
{
	size_t i;

	while (claim_part(a, &i)) {
		struct index_part part = {0};
		int code = read_part(store, &a->env.manifest->parts[i], &part, err);

		if (code < 0)
			return code;
		store_in_slot(a, i, &part);
	}
	return 0;
}

static void *ahead_main(void *ctx)
{
	struct index_ahead *a = ctx;
	struct store_conn *store = NULL;
	struct error err = {0};
	int code = store_conn_open(a->env.store, a->env.cancel, &store, &err);

	if (code == 0)
		code = read_parts(a, store, &err);
	store_conn_close(store);
	if (code < 0)
		workers_fail(&a->pool, code, &err);
	return NULL;
}

/* Returns n, at least 1 and at most max. */
static unsigned clamp(size_t n, size_t max)
{
	return n < 1 ? 1 : n > max ? (unsigned)max : (unsigned)n;
}

int index_ahead_open(const struct index_ahead_env *env, struct index_ahead **ret, struct error *err)
{
	struct index_ahead *a = zalloc(sizeof(*a));
	size_t parts = env->manifest->n_parts;
	unsigned threads = clamp(env->threads, INDEX_AHEAD_MAX);
	int code;

	a->env = *env;
	a->env.window = clamp(env->window, INDEX_AHEAD_MAX);
	workers_init(&a->pool, threads < parts ? threads : (unsigned)parts, env->cancel);
	workers_add_condition(&a->pool, &a->changed);
	do
		code = workers_start(&a->pool, ahead_main, a, err);
	while (code > 0);
	if (code < 0)
		index_ahead_close(a);
	else
		*ret = a;
	return code;
}

static int next_locked(struct index_ahead *a, struct index_part *ret, struct error *err)
{
	struct ahead_slot *slot = &a->slots[a->delivered % a->env.window];

	if (a->delivered == a->env.manifest->n_parts)
		return 0;
	while (!slot->is_filled && !workers_must_stop(&a->pool))
		workers_wait(&a->pool, &a->changed);
	/* A cancel request does not take back a part that was read; a failure does. */
	if (!slot->is_filled || a->pool.failed < 0)
		return workers_outcome_locked(&a->pool, err);
	*ret = slot->part;
	*slot = (struct ahead_slot){0};
	a->delivered++;
	workers_wake_all(&a->changed);
	return 1;
}

int index_ahead_next(struct index_ahead *a, struct index_part *ret, struct error *err)
{
	int code;

	pthread_mutex_lock(&a->pool.mutex);
	code = next_locked(a, ret, err);
	pthread_mutex_unlock(&a->pool.mutex);
	return code;
}

void index_ahead_close(struct index_ahead *a)
{
	if (a == NULL)
		return;
	workers_stop(&a->pool);
	for (unsigned i = 0; i < INDEX_AHEAD_MAX; i++)
		index_part_done(&a->slots[i].part);
	workers_done(&a->pool);
	free(a);
}
