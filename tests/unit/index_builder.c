/* SPDX-License-Identifier: MIT */
#include "index_builder.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

int made_parts_add(void *ctx, const struct index_part_info *part, struct error *err)
{
	struct made_parts *parts = ctx;
	struct made_part *made = &parts->v[parts->n++];

	(void)err;
	assert_true(parts->n <= sizeof(parts->v) / sizeof(*parts->v));
	made->bytes = zalloc(part->len);
	memcpy(made->bytes, part->bytes, part->len);
	made->len = part->len;
	memcpy(made->sha256, part->sha256, sizeof(made->sha256));
	made->entries = part->entries;
	made->first = text_copy(part->first);
	made->last = text_copy(part->last);
	return 0;
}

void made_parts_done(struct made_parts *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].bytes);
		free(p->v[i].first);
		free(p->v[i].last);
	}
	*p = (struct made_parts){0};
}

void *index_text_compress(const char *text, size_t len, size_t *ret_len)
{
	size_t room = ZSTD_compressBound(len);
	void *bytes = zalloc(room);

	*ret_len = ZSTD_compress(bytes, room, text, len, 1);
	assert_false(ZSTD_isError(*ret_len));
	return bytes;
}
