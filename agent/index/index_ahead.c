/* SPDX-License-Identifier: MIT */
/* Reads the parts of an index ahead. Each thread takes the next part that no other thread has
 * taken, fetches and decodes it, and stores it in the part's slot. No more than a window of parts
 * is being read or waiting in a slot. */
#include "index_ahead.h"
#include "defer.h"
#include "digest.h"
#include "text.h"
#include "thread.h"
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
	pthread_t threads[INDEX_AHEAD_MAX];
	unsigned n_threads;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct cancel_watch watch;
	size_t taken, delivered; /* numbers of parts */
	struct ahead_slot slots[INDEX_AHEAD_MAX];
	bool closing;
	int failed; /* the first failure, or 0 */
	struct error why;
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
	int r = check_digest(p, bytes, err);

	if (r == 0)
		r = index_part_decode(bytes, (size_t)p->bytes, ret, err);
	if (r == 0 && ret->n_entries != p->entries) {
		index_part_done(ret);
		r = error_set(err, -ERR_FORMAT,
			"it has %zu entries, and the manifest says %" PRIu64, ret->n_entries,
			p->entries);
	}
	return r;
}

static int read_part(struct store_conn *store, const struct manifest_part *p,
	struct index_part *ret, struct error *err)
{
	_free_ char *key = manifest_part_key(p->sha256);
	_free_ void *bytes = NULL;
	int r = check_size(p, err);

	if (r < 0)
		return r;
	bytes = malloc((size_t)p->bytes);
	if (bytes == NULL)
		return error_set(err, -ENOMEM, "no memory for a part of the index");
	r = store_get(store, key, 0, bytes, (size_t)p->bytes, err);
	if (r == -ENOENT)
		return error_set(err, r,
			"%s is not in the store: the version was deleted, or the store is damaged",
			key);
	if (r == 0)
		r = decode_part(p, bytes, ret, err);
	if (r < 0 && strstr(err->msg, key) == NULL)
		error_prefix(err, "%s", key);
	return r;
}

static void fail_locked(struct index_ahead *a, int code, const struct error *why)
{
	if (a->failed == 0) {
		a->failed = code;
		a->why = *why;
	}
	pthread_cond_broadcast(&a->changed);
}

static bool is_over_locked(const struct index_ahead *a)
{
	return a->closing || a->failed != 0 || cancel_requested(a->env.cancel) ||
	       a->taken == a->env.manifest->n_parts;
}

/* Sleeps until the next part lies in the window, and returns its number; false when there is
 * none. */
static bool claim_part(struct index_ahead *a, size_t *ret)
{
	bool is_over;

	pthread_mutex_lock(&a->mutex);
	while (!is_over_locked(a) && a->taken == a->delivered + a->env.window)
		pthread_cond_wait(&a->changed, &a->mutex);
	is_over = is_over_locked(a);
	if (!is_over)
		*ret = a->taken++;
	pthread_mutex_unlock(&a->mutex);
	return !is_over;
}

static void store_in_slot(struct index_ahead *a, size_t i, const struct index_part *part)
{
	pthread_mutex_lock(&a->mutex);
	a->slots[i % a->env.window] = (struct ahead_slot){.is_filled = true, .part = *part};
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->mutex);
}

static int read_parts(struct index_ahead *a, struct store_conn *store, struct error *err)
{
	size_t i;

	while (claim_part(a, &i)) {
		struct index_part part = {0};
		int r = read_part(store, &a->env.manifest->parts[i], &part, err);

		if (r < 0)
			return r;
		store_in_slot(a, i, &part);
	}
	return 0;
}

static void *ahead_main(void *ctx)
{
	struct index_ahead *a = ctx;
	struct store_conn *store = NULL;
	struct error err = {0};
	int r = store_conn_open(a->env.store, a->env.cancel, &store, &err);

	if (r == 0)
		r = read_parts(a, store, &err);
	store_conn_close(store);
	if (r < 0) {
		pthread_mutex_lock(&a->mutex);
		fail_locked(a, r, &err);
		pthread_mutex_unlock(&a->mutex);
	}
	return NULL;
}

static int start_threads(struct index_ahead *a, struct error *err)
{
	unsigned wanted = a->env.threads;

	if (wanted > a->env.manifest->n_parts)
		wanted = (unsigned)a->env.manifest->n_parts;
	while (a->n_threads < wanted) {
		int r = thread_start_next(
			&a->threads[a->n_threads], a->n_threads, ahead_main, a, err);

		if (r <= 0)
			return r;
		a->n_threads++;
	}
	return 0;
}

int index_ahead_open(const struct index_ahead_env *env, struct index_ahead **ret, struct error *err)
{
	struct index_ahead *a = zalloc(sizeof(*a));
	int r;

	a->env = *env;
	a->env.threads = env->threads < 1 ? 1 : env->threads;
	if (a->env.threads > INDEX_AHEAD_MAX)
		a->env.threads = INDEX_AHEAD_MAX;
	a->env.window = env->window < 1 ? 1 : env->window;
	if (a->env.window > INDEX_AHEAD_MAX)
		a->env.window = INDEX_AHEAD_MAX;
	pthread_mutex_init(&a->mutex, NULL);
	pthread_cond_init(&a->changed, NULL);
	a->watch = (struct cancel_watch){.mutex = &a->mutex, .cond = &a->changed};
	cancel_watch(env->cancel, &a->watch);
	r = start_threads(a, err);
	if (r < 0)
		index_ahead_close(a);
	else
		*ret = a;
	return r;
}

static int next_locked(struct index_ahead *a, struct index_part *ret, struct error *err)
{
	struct ahead_slot *slot = &a->slots[a->delivered % a->env.window];

	if (a->delivered == a->env.manifest->n_parts)
		return 0;
	while (!slot->is_filled && a->failed == 0 && !cancel_requested(a->env.cancel))
		pthread_cond_wait(&a->changed, &a->mutex);
	if (a->failed != 0) {
		if (err != NULL)
			*err = a->why;
		return a->failed;
	}
	if (!slot->is_filled)
		return error_set(err, -ECANCELED, "cancelled");
	*ret = slot->part;
	*slot = (struct ahead_slot){0};
	a->delivered++;
	pthread_cond_broadcast(&a->changed);
	return 1;
}

int index_ahead_next(struct index_ahead *a, struct index_part *ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&a->mutex);
	r = next_locked(a, ret, err);
	pthread_mutex_unlock(&a->mutex);
	return r;
}

void index_ahead_close(struct index_ahead *a)
{
	if (a == NULL)
		return;
	pthread_mutex_lock(&a->mutex);
	a->closing = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->mutex);
	for (unsigned i = 0; i < a->n_threads; i++)
		pthread_join(a->threads[i], NULL);
	for (unsigned i = 0; i < INDEX_AHEAD_MAX; i++)
		index_part_done(&a->slots[i].part);
	cancel_unwatch(a->env.cancel, &a->watch);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->mutex);
	free(a);
}
