/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_BACKEND_H
#define STAGERUN_STORE_BACKEND_H

#include "store.h"
#include <pthread.h>

/* What a kind of store implements. Keys and prefixes have been checked; each backend embeds these
 * structures in its own, and its hand_open() and new() fill all but what they say. */

struct store_read {
	uint64_t offset;
	void *buf;
	size_t len;
	size_t got;    /* filled: bytes in buf; fewer than len only at the object's end */
	uint64_t size; /* filled: of the whole object */
};

struct store_ops {
	void (*free)(struct store *s); /* not the name */
	int (*hand_open)(
		struct store *s, struct cancel *cancel, struct store_hand **ret, struct error *err);
	void (*hand_close)(struct store_hand *h);

	int (*read)(struct store_hand *h, const char *key, struct store_read *r, struct error *err);
	int (*head)(struct store_hand *h, const char *key, uint64_t *ret_size, struct error *err);
	int (*put)(struct store_hand *h, const char *key, const void *bytes, size_t len,
		bool if_absent, struct error *err);
	int (*remove)(struct store_hand *h, const char *const *keys, size_t n, struct error *err);
	int (*list)(struct store_hand *h, const char *prefix,
		int (*each)(void *ctx, const char *key, uint64_t size, time_t modified,
			struct error *err),
		void *ctx, struct error *err);

	int (*upload_begin)(struct store_hand *h, const char *key, struct store_upload **ret,
		struct error *err);
	int (*upload_part)(struct store_hand *h, struct store_upload *u, unsigned number,
		const void *bytes, size_t len, struct error *err);
	int (*upload_complete)(struct store_hand *h, struct store_upload *u, struct error *err);
	void (*upload_abort)(struct store_hand *h, struct store_upload *u);
	void (*upload_free)(struct store_upload *u);

	/* What no listing shows: uploads and temporary files begun before that time; when all, old
	 * versions of objects too. */
	int (*sweep)(struct store_hand *h, time_t before, bool all, struct error *err);
	/* Why put_if_absent() does not hold here, and what to do: -ERR_UNSUPPORTED. */
	int (*refuse)(struct store_hand *h, struct error *err);
};

struct store {
	const struct store_ops *ops;
	char *name;
	pthread_mutex_t mutex; /* guards probed */
	bool probed;
};

struct store_hand {
	struct store *store;
	struct cancel *cancel;
};

struct store_upload {
	struct store *store;
	char *key;
};

int store_file_new(const struct store_env *env, struct store **ret, struct error *err);
int store_s3_new(const struct store_env *env, struct store **ret, struct error *err);

/* -ENOENT, saying what is not where. */
int store_missing(const struct store_hand *h, const char *key, struct error *err);

/* Keys may come out of a manifest, which anybody may have written. */
bool store_key_is_valid(const char *key);

/* With what keys begin: "packs/" and so on; NULL-terminated. */
extern const char *const store_roots[];

/* 16 random hex digits. */
void store_random(char ret[static 17]);

#endif
