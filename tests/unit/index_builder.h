/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_INDEX_BUILDER_H
#define STAGERUN_TEST_INDEX_BUILDER_H

#include "index.h"

/* The parts that an index writer has passed to made_parts_add(). */
struct made_parts {
	struct made_part {
		void *bytes;
		size_t len;
		char sha256[65];
		uint64_t entries;
		char *first, *last;
	} v[64];
	size_t n;
};

int made_parts_add(void *ctx, const struct index_part_info *part, struct error *err);
void made_parts_done(struct made_parts *p);

/* Compresses a text to the stored form of a part; heap. */
void *index_text_compress(const char *text, size_t len, size_t *ret_len);

#endif
