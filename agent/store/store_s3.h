/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_S3_H
#define STAGERUN_STORE_S3_H

#include "backend.h"
#include "s3.h"

/* What the files of S3's backend share. */

struct store_s3 {
	struct store base;
	struct s3 *s3;
	char *bucket;
	char *prefix; /* "" or with a '/' at its end */
};

struct hand_s3 {
	struct store_hand base;
	struct s3_client *client;
};

struct store_s3 *store_s3_of(const struct store_hand *h);
struct s3_client *store_s3_client(struct store_hand *h);
char *store_s3_key(const struct store_hand *h, const char *key); /* with the store's prefix; heap */

int store_s3_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err);
int store_s3_upload_part(struct store_hand *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err);
int store_s3_upload_complete(struct store_hand *h, struct store_upload *base, struct error *err);
void store_s3_upload_abort(struct store_hand *h, struct store_upload *base);
void store_s3_upload_free(struct store_upload *base);

#endif
