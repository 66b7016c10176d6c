/* SPDX-License-Identifier: MIT */
/* Does the store let one of two writers win? Some accept If-None-Match and do not look at it (old servers;
 * Ceph, in a bucket with versioning): two creators would then have one number, and one of them lost its data
 * without a word. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "lease.h"

static int probe(struct store_hand *h, struct error *err)
{
	_free_ char *key = lease_new_key(LEASE_PROBE);
	int code, second = -EEXIST;

	code = store_put_if_absent(h, key, "1", 1, err);
	/* Nobody else has this key: it was a request that was sent again. */
	if (code == -EEXIST)
		code = 0;
	if (code == 0)
		second = store_put_if_absent(h, key, "2", 1, err);
	(void)store_delete(h, (const char *const[]){key}, 1, NULL);
	if (code < 0 || second == -EEXIST)
		return code;
	return second < 0 ? second : h->store->ops->refuse(h, err);
}

int store_probe(struct store_hand *h, struct error *err)
{
	struct store *s = h->store;
	int code;

	pthread_mutex_lock(&s->mutex);
	code = s->probed ? 0 : probe(h, err);
	if (code == 0)
		s->probed = true;
	pthread_mutex_unlock(&s->mutex);
	return code;
}
