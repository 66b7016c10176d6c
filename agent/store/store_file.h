/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_FILE_H
#define STAGERUN_STORE_FILE_H

#include "backend.h"

/* What the files of the directory's backend share. */

struct store_file {
	struct store base;
	char *root; /* absolute, without a '/' at its end */
};

const char *store_file_root(const struct store_hand *h);
char *store_file_path(const struct store_hand *h, const char *key); /* heap */

/* A file that is not in the store yet. Its path (heap) is the caller's, who unlinks it. */
int store_file_temporary(
	const struct store_hand *h, char **ret_path, int *ret_fd, struct error *err);
/* Puts the temporary file in its place, for good: it survives a power cut. */
int store_file_place(const struct store_hand *h, int fd, const char *temporary, const char *key,
	bool if_absent, struct error *err);
/* All of it at the offset. */
int store_file_write(int fd, const char *path, const void *bytes, size_t len, uint64_t offset,
	struct error *err);

int store_file_list(struct store_hand *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err);

int store_file_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err);
int store_file_upload_part(struct store_hand *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err);
int store_file_upload_complete(struct store_hand *h, struct store_upload *base, struct error *err);
void store_file_upload_abort(struct store_hand *h, struct store_upload *base);
void store_file_upload_free(struct store_upload *base);

/* Where temporary files are, below the root; no key begins so. */
#define STORE_FILE_TEMPORARY ".tmp"

#endif
