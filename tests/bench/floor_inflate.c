/* SPDX-License-Identifier: MIT */
/* The floor of decoding a zip: every entry inflated whole by libdeflate and its CRC checked, on all
 * threads, written nowhere. For zips of our own making: no zip64, no encryption.
 *
 *     floor_inflate THREADS ZIP        writes {"wall": seconds, "cpu": seconds} to stdout */
#include "floor.h"
#include <endian.h>
#include <libdeflate.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { END_SIZE = 22, CENTRAL_SIZE = 46, LOCAL_SIZE = 30, STORED = 0, DEFLATED = 8, BATCH = 64 };

struct zip {
	struct mapping file;
	const char **central; /* where each entry's central header is */
	size_t n;
	atomic_size_t next; /* the first entry that nobody has taken */
};

static uint16_t get16(const char *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static void find_entries(struct zip *z)
{
	const char *end = z->file.data + z->file.size - END_SIZE, *at;

	if (memcmp(end, "PK\5\6", 4) != 0)
		floor_die("no end of a zip directory at the file's end");
	z->n = get16(end + 10);
	z->central = calloc(z->n, sizeof(*z->central));
	if (z->central == NULL)
		floor_die("out of memory");
	at = z->file.data + get32(end + 16);
	for (size_t i = 0; i < z->n; i++) {
		z->central[i] = at;
		at += CENTRAL_SIZE + get16(at + 28) + get16(at + 30) + get16(at + 32);
	}
}

static void inflate_entry(
	struct libdeflate_decompressor *d, const struct zip *z, const char *central, char **out)
{
	const char *local = z->file.data + get32(central + 42);
	const char *data = local + LOCAL_SIZE + get16(local + 26) + get16(local + 28);
	size_t packed = get32(central + 20), size = get32(central + 24);
	int method = get16(central + 10);

	if (method == DEFLATED) {
		*out = realloc(*out, size + 1);
		if (*out == NULL || libdeflate_deflate_decompress(d, data, packed, *out, size,
					    NULL) != LIBDEFLATE_SUCCESS)
			floor_die("an entry does not inflate");
		data = *out;
	} else if (method != STORED) {
		floor_die("method %d", method);
	}
	if (libdeflate_crc32(0, data, size) != get32(central + 16))
		floor_die("the CRC of an entry is wrong");
}

static void *work(void *zip)
{
	struct zip *z = zip;
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	char *out = NULL;
	size_t first;

	while (first = atomic_fetch_add(&z->next, BATCH), first < z->n) {
		for (size_t i = first; i < first + BATCH && i < z->n; i++)
			inflate_entry(d, z, z->central[i], &out);
	}
	free(out);
	libdeflate_free_decompressor(d);
	return NULL;
}

int main(int argc, char **argv)
{
	struct zip z = {0};
	struct stopwatch watch;

	if (argc != 3) {
		fputs("usage: floor_inflate THREADS ZIP\n", stderr);
		return 2;
	}
	z.file = floor_map(argv[2]);
	find_entries(&z);
	watch = stopwatch_start();
	floor_threads(atoi(argv[1]), work, &z);
	stopwatch_print(watch);
	return 0;
}
