/* SPDX-License-Identifier: MIT */
/* The manifests of many versions: read some at a time, since each is a round trip, and shown in their
 * order. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "text.h"
#include "versions.h"
#include <stdatomic.h>
#include <string.h>

enum { AT_ONCE = 16, THREADS = 8 };

struct batch {
	/* Set at creation. */
	struct store_hand *h;
	const struct version *versions[AT_ONCE];
	size_t n;

	atomic_size_t next;
	/* Each by the thread that took its number. */
	struct manifest *manifests[AT_ONCE];
	struct error errors[AT_ONCE];
	int codes[AT_ONCE];
};

static void read_some(struct batch *b, struct store_hand *h)
{
	for (;;) {
		size_t i = atomic_fetch_add(&b->next, 1);

		if (i >= b->n)
			return;
		b->codes[i] = version_manifest(h, b->versions[i]->name, b->versions[i]->number,
			&b->manifests[i], &b->errors[i]);
	}
}

static void *reader(void *ctx)
{
	struct batch *b = ctx;
	struct store_hand *h = NULL;

	/* Without a hand of its own the others do its work. */
	if (store_hand_open(b->h->store, b->h->cancel, &h, NULL) == 0)
		read_some(b, h);
	store_hand_close(h);
	return NULL;
}

static void read_batch(struct batch *b)
{
	pthread_t threads[THREADS];
	unsigned n = 0;

	while (n + 1 < b->n && n < THREADS && pthread_create(&threads[n], NULL, reader, b) == 0)
		n++;
	read_some(b, b->h);
	while (n > 0)
		pthread_join(threads[--n], NULL);
}

static int show_batch(struct batch *b, versions_read_cb *each, void *ctx, struct error *err)
{
	int code = 0;

	read_batch(b);
	for (size_t i = 0; i < b->n; i++) {
		/* One that was purged meanwhile is not there. */
		if (code == 0 && b->codes[i] < 0 && b->codes[i] != -ENOENT) {
			code = b->codes[i];
			if (err != NULL)
				*err = b->errors[i];
		}
		if (code == 0 && b->codes[i] == 0)
			code = each(ctx, b->versions[i], b->manifests[i], err);
		manifest_free(b->manifests[i]);
	}
	return code;
}

int versions_read(struct store_hand *h, const struct versions *all,
	bool (*want)(void *ctx, const struct version *v), versions_read_cb *each, void *ctx,
	struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < all->n && code == 0;) {
		struct batch *b = zalloc(sizeof(*b));

		b->h = h;
		for (; i < all->n && b->n < AT_ONCE; i++) {
			if (want(ctx, &all->v[i]))
				b->versions[b->n++] = &all->v[i];
		}
		code = show_batch(b, each, ctx, err);
		free(b);
	}
	return code;
}

struct shower {
	int (*each)(void *ctx, const struct manifest *m, struct error *err);
	void *ctx;
};

static bool exists(void *ctx, const struct version *v)
{
	(void)ctx;
	return v->exists;
}

static int show(void *ctx, const struct version *v, const struct manifest *m, struct error *err)
{
	const struct shower *s = ctx;

	(void)v;
	return s->each(s->ctx, m, err);
}

int datastore_each(struct store_hand *h, const char *name,
	int (*each)(void *ctx, const struct manifest *m, struct error *err), void *ctx,
	struct error *err)
{
	struct shower s = {.each = each, .ctx = ctx};
	struct versions all = {0};
	int code = name != NULL ? datastore_name_check(name, err) : 0;

	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code == 0)
		code = versions_read(h, &all, exists, show, &s, err);
	versions_done(&all);
	return code;
}

/* Those that exist come first, the oldest of them at the front. */
static int by_age(const void *a, const void *b)
{
	const struct version *x = a, *y = b;

	if (x->exists != y->exists)
		return x->exists ? -1 : 1;
	return x->created < y->created ? -1 : x->created > y->created;
}

/* The three oldest of n: what one would delete first. */
static int too_many(struct versions *all, size_t n, unsigned max, struct error *err)
{
	struct text t = {0};
	_free_ char *list = NULL;

	qsort(all->v, all->n, sizeof(*all->v), by_age);
	for (size_t i = 0; i < n && i < 3; i++) {
		const struct version *v = &all->v[i];
		char date[32];
		struct tm tm;

		gmtime_r(&v->created, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d", &tm);
		text_addf(&t, "%s%s:%u (%s)", i > 0 ? ", " : "", v->name, v->number, date);
	}
	list = text_take(&t);
	return error_set(err, -ERR_LIMIT,
		"there are %zu datastores, counting each version, and max_datastores is %u: delete "
		"one; "
		"the oldest are %s",
		n, max, list);
}

int datastore_check_limit(struct store_hand *h, unsigned max, struct error *err)
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
