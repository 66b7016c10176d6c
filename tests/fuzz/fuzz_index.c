/* SPDX-License-Identifier: MIT */
/* Fuzzes the decoder of the parts of a version's index. The input is used as it is, and as the
 * text in a valid zstd frame, which a fuzzer would hardly ever generate. Checks the properties
 * that index.h promises for the entries that were read. */
#include "fuzz.h"
#include "index.h"
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static void check_content(const struct index_part *p, const struct index_entry *e)
{
	uint64_t left = e->size + e->skip;

	if (e->type != INDEX_FILE && e->type != INDEX_HARDLINK)
		return;
	if (e->size == 0) {
		if (e->frame != INDEX_NO_FRAME)
			abort();
		return;
	}
	for (size_t i = e->frame; left > 0; i++) {
		if (i >= p->n_frames || p->frames[i].object >= p->n_objects)
			abort();
		left -= left < p->frames[i].raw ? left : p->frames[i].raw;
	}
}

static void check_entry(const struct index_part *p, const struct index_entry *e)
{
	if (e->path[0] == '/' || e->path[0] == '\0' || strcmp(e->path, "..") == 0 ||
		strncmp(e->path, "../", 3) == 0 || strstr(e->path, "/../") != NULL)
		abort();
	if (e->sha256 != NULL && strlen(e->sha256) != 64)
		abort();
	if (e->type == INDEX_HARDLINK && e->target[0] == '/')
		abort();
	check_content(p, e);
}

static void decode(const void *bytes, size_t len)
{
	struct index_part part = {0};
	struct error err = {0};

	if (index_part_decode(bytes, len, &part, &err) < 0) {
		if (part.text != NULL || err.msg[0] == '\0')
			abort();
		return;
	}
	for (size_t i = 0; i < part.n_entries; i++)
		check_entry(&part, &part.entries[i]);
	index_part_done(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	size_t room = ZSTD_compressBound(len);
	void *framed = malloc(room);

	decode(bytes, len);
	decode(framed, ZSTD_compress(framed, room, bytes, len, -5));
	free(framed);
	return 0;
}
