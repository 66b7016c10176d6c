/* SPDX-License-Identifier: MIT */
/* Everything of a store, at once: the account is gone. Worker threads. Only what a store can consist of is
 * touched: who names a bucket or a directory by mistake keeps what else is in it. */
#include "backend.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include <string.h>

#include <time.h>

enum {
	DELETE_AT_ONCE = 1000,
	CLOCKS_DIFFER_BY = 7 * 24 * 3600 /* at most, in seconds */
};

static int on_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct strings *keys = ctx;

	(void)size;
	(void)modified;
	(void)err;
	strings_add(keys, key);
	return keys->n < DELETE_AT_ONCE ? 0 : -ERR_LIMIT;
}

/* Up to so many objects are removed; *ret_n is 0 when there were none. */
static int remove_some(struct store_hand *h, const char *root, size_t *ret_n, struct error *err)
{
	struct strings keys = {0};
	int code = store_list(h, root, on_key, &keys, err);

	if (code == -ERR_LIMIT && keys.n == DELETE_AT_ONCE)
		code = 0;
	if (code == 0)
		code = store_delete(h, (const char *const *)keys.v, keys.n, err);
	*ret_n = keys.n;
	strings_done(&keys);
	return code;
}

/* Until a listing finds nothing: who still writes meanwhile is given up on. */
static int remove_all(
	struct store_hand *h, const char *root, uint64_t *ret_objects, struct error *err)
{
	size_t n = 0;
	int code;

	do {
		code = remove_some(h, root, &n, err);
		*ret_objects += n;
	} while (code == 0 && n > 0);
	return code;
}

static int on_foreign(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)size;
	(void)modified;
	(void)err;
	text_add(ctx, key);
	return -ERR_LIMIT;
}

static void tell_of_foreign(struct store_hand *h)
{
	struct text first = {0};

	(void)store_list(h, "", on_foreign, &first, NULL);
	if (first.len > 0)
		log_warn("%s also holds what is no part of a store ('%s' for one): it was left "
			 "there",
			h->store->name, first.s);
	text_done(&first);
}

int store_purge(struct store_hand *h, uint64_t *ret_objects, struct error *err)
{
	uint64_t removed = 0;
	int code = 0;

	for (size_t i = 0; store_roots[i] != NULL && code == 0; i++)
		code = remove_all(h, store_roots[i], &removed, err);
	if (code == 0)
		code = h->store->ops->sweep(h, time(NULL) + CLOCKS_DIFFER_BY, true, err);
	if (code == 0)
		tell_of_foreign(h);
	if (ret_objects != NULL)
		*ret_objects = removed;
	return code;
}
