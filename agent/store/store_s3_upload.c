/* SPDX-License-Identifier: MIT */
/* A large object of a store in S3, as a multipart upload whose parts come from several threads. */
#include "defer.h"
#include "store_s3.h"
#include "text.h"
#include <string.h>

struct upload_s3 {
	struct store_upload base;
	char *id, *key; /* with the prefix */
	bool ended;
	pthread_mutex_t mutex;
	/* Under the mutex. */
	char (*etags)[128]; /* "": not sent yet */
	unsigned n;
};

int store_s3_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err)
{
	struct upload_s3 *u = zalloc(sizeof(*u));
	int code;

	u->key = store_s3_key(h, key);
	code = s3_upload_begin(store_s3_client(h), store_s3_of(h)->bucket, u->key, &u->id, err);
	if (code < 0) {
		free(u->key);
		free(u);
		return code;
	}
	pthread_mutex_init(&u->mutex, NULL);
	*ret = &u->base;
	return 0;
}

static void remember_part(struct upload_s3 *u, unsigned number, const char etag[static 128])
{
	pthread_mutex_lock(&u->mutex);
	if (number > u->n) {
		u->etags = realloc(u->etags, number * sizeof(*u->etags));
		if (u->etags == NULL)
			abort();
		memset(u->etags + u->n, 0, (number - u->n) * sizeof(*u->etags));
		u->n = number;
	}
	memcpy(u->etags[number - 1], etag, sizeof(*u->etags));
	pthread_mutex_unlock(&u->mutex);
}

int store_s3_upload_part(struct store_hand *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);
	char etag[128] = "";
	int code = s3_upload_part(store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id, number,
		bytes, len, etag, err);

	if (code == 0)
		remember_part(u, number, etag);
	return code;
}

int store_s3_upload_complete(struct store_hand *h, struct store_upload *base, struct error *err)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);
	int code;

	for (unsigned i = 0; i < u->n; i++) {
		if (u->etags[i][0] == '\0')
			return error_set(
				err, -ERR_TRUNCATED, "part %u of '%s' was not sent", i + 1, u->key);
	}
	code = s3_upload_complete(store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id,
		(const char(*)[128])u->etags, u->n, err);
	u->ended = code == 0;
	return code;
}

void store_s3_upload_abort(struct store_hand *h, struct store_upload *base)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);

	if (!u->ended)
		(void)s3_upload_abort(
			store_s3_client(h), store_s3_of(h)->bucket, u->key, u->id, NULL);
	u->ended = true;
}

void store_s3_upload_free(struct store_upload *base)
{
	struct upload_s3 *u = container_of(base, struct upload_s3, base);

	pthread_mutex_destroy(&u->mutex);
	free(u->etags);
	free(u->id);
	free(u->key);
	free(u);
}
