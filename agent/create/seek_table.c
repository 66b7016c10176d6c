/* SPDX-License-Identifier: MIT */
/* The table of frames at the end of each object, as zstd's contrib/seekable_format describes it. The name of
 * a pack says what it holds and not how it was compressed: who finds it there reads its table, and needs no
 * equal compressor. */
#include "defer.h"
#include "frames.h"
#include <errno.h>
#include <string.h>

#define SKIPPABLE_MAGIC 0x184D2A5Eu /* one of sixteen */
#define SEEKABLE_MAGIC  0x8F92EAB1u

static uint8_t *put32(uint8_t *to, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		*to++ = (uint8_t)(n >> 8 * i);
	return to;
}

static uint32_t get32(const uint8_t *from)
{
	return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

void seek_table_write(uint8_t *out, const struct index_frame *list, size_t n)
{
	out = put32(out, SKIPPABLE_MAGIC);
	out = put32(out, (uint32_t)(SEEK_TABLE_SIZE(n) - 8));
	for (size_t i = 0; i < n; i++) {
		out = put32(out, list[i].length);
		out = put32(out, list[i].raw);
	}
	out = put32(out, (uint32_t)n);
	*out++ = 0; /* no checksums: each frame has its own */
	put32(out, SEEKABLE_MAGIC);
}

void skippable_write(uint8_t *out, size_t len)
{
	put32(put32(out, SKIPPABLE_MAGIC + 1), (uint32_t)(len - 8));
	memset(out + 8, 0, len - 8);
}

/* Whether table (of n frames) is one, and all frames together with it are size bytes. */
static bool parse(const uint8_t *table, size_t n, uint64_t size, struct index_frame *ret)
{
	uint64_t at = 0;

	if (get32(table) != SKIPPABLE_MAGIC || get32(table + 4) != SEEK_TABLE_SIZE(n) - 8)
		return false;
	table += 8;
	for (size_t i = 0; i < n; i++, table += 8) {
		ret[i] = (struct index_frame){
			.offset = at, .length = get32(table), .raw = get32(table + 4)};
		at += ret[i].length;
	}
	return at + SEEK_TABLE_SIZE(n) == size;
}

int seek_table_read(struct store_hand *h, const char *key, uint64_t size, struct index_frame **ret,
	size_t *ret_n, struct error *err)
{
	uint8_t footer[9];
	_free_ uint8_t *table = NULL;
	_free_ struct index_frame *list = NULL;
	size_t n;
	int r;

	if (size < SEEK_TABLE_SIZE(0))
		return error_set(err, -ERR_FORMAT, "%s is too short to be a pack", key);
	if ((r = store_get(h, key, size - sizeof(footer), footer, sizeof(footer), err)) < 0)
		return r;
	n = get32(footer);
	if (get32(footer + 5) != SEEKABLE_MAGIC || footer[4] != 0 || SEEK_TABLE_SIZE(n) > size)
		return error_set(err, -ERR_FORMAT, "%s has no table of its frames", key);
	table = zalloc(SEEK_TABLE_SIZE(n));
	list = zalloc((n + 1) * sizeof(*list));
	if ((r = store_get(h, key, size - SEEK_TABLE_SIZE(n), table, SEEK_TABLE_SIZE(n), err)) < 0)
		return r;
	if (!parse(table, n, size, list))
		return error_set(err, -ERR_FORMAT, "the table of frames of %s is damaged", key);
	*ret = take_ptr(&list);
	*ret_n = n;
	return 0;
}
