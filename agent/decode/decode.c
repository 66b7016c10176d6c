/* SPDX-License-Identifier: MIT */
/* The table of compressions, and the choice among them by a stream's first bytes. Worker threads.
 * The choice is made once per stream: the result is not inspected again. */
#include "decode.h"
#include "codec.h"
#include "text.h"
#include <string.h>
#include <strings.h>

#define MAGIC_MAX 16

static const struct decoder *const decoders[] = {
	&gzip_decoder,
	&zstd_decoder,
	&xz_decoder,
	&lz4_decoder,
	&bzip2_decoder,
};

static const struct decoder *find_decoder(const uint8_t *first, size_t len)
{
	for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++) {
		const struct decoder *d = decoders[i];

		if (len >= d->magic_bytes && d->matches(first, len))
			return d;
	}
	return NULL;
}

/* Skips skippable frames. zstd and lz4 have these in common, and both skip them: only what follows
 * shows which of the two it is. first then has the bytes that follow; *passed is increased by the
 * number of skipped bytes. */
static int skip_skippable(struct reader *in, uint8_t first[static MAGIC_MAX], int *len,
	uint64_t *passed, struct error *err)
{
	int code;

	while (*len >= CODEC_SKIPPABLE_HEADER && codec_is_skippable(first, (size_t)*len)) {
		uint64_t size = first[4] | (uint64_t)first[5] << 8 | (uint64_t)first[6] << 16 |
				(uint64_t)first[7] << 24;

		code = reader_skip(in, CODEC_SKIPPABLE_HEADER + size, err);
		if (code < 0)
			return code;
		*passed += CODEC_SKIPPABLE_HEADER + size;
		*len = reader_peek(in, first, MAGIC_MAX, err);
		if (*len < 0)
			return *len;
	}
	return 0;
}

/* Bytes behind skippable frames must be zstd or lz4: the skipped frames are consumed, so the stream
 * cannot be stored as a file of another kind. */
static const struct decoder *find_after_skippable(const uint8_t *first, size_t len, uint64_t passed)
{
	if (passed == 0)
		return find_decoder(first, len);
	return len > 0 && lz4_decoder.matches(first, len) && !codec_is_skippable(first, len)
		       ? &lz4_decoder
		       : &zstd_decoder;
}

int decode_open(struct reader *in, const struct decode_env *env, struct reader **ret,
	const struct decoder **ret_decoder, struct error *err)
{
	struct decode_env behind = *env;
	uint8_t first[MAGIC_MAX];
	const struct decoder *d;
	struct reader *decoded;
	int len, code;

	len = reader_peek(in, first, sizeof(first), err);
	code = len < 0 ? len : skip_skippable(in, first, &len, &behind.passed, err);
	if (code < 0) {
		reader_close(in);
		return code;
	}
	decoded = in;
	d = find_after_skippable(first, (size_t)len, behind.passed);
	/* otherwise, the stream has only such frames */
	if (d != NULL && (len > 0 || behind.passed == 0)) {
		code = d->open(in, &behind, &decoded, err);
		if (code < 0)
			return code;
	}
	*ret = decoded;
	*ret_decoder = d;
	return 0;
}

char *decode_strip_suffix(const struct decoder *d, const char *name)
{
	size_t name_len = strlen(name);
	const char *at = d != NULL ? d->suffixes : "";

	while (*at != '\0') {
		size_t len = strcspn(at, " ");

		if (len < name_len && strncasecmp(name + name_len - len, at, len) == 0)
			return text_format("%.*s", (int)(name_len - len), name);
		at += len;
		at += strspn(at, " ");
	}
	return text_copy(name);
}

const struct decoder *decode_find(const uint8_t *first, size_t len)
{
	return find_decoder(first, len);
}

const struct decoder *decode_bare(enum decode_bare what)
{
	static const struct decoder *const bare[] = {
		[BARE_DEFLATE64] = &deflate64_decoder,
		[BARE_LZMA] = &lzma_decoder,
		[BARE_LZMA_WITH_END] = &lzma_with_end_decoder,
	};

	return bare[what];
}

const struct decoder *decode_by_name(const char *name)
{
	size_t i = 0;

	while (strcmp(decoders[i]->name, name) != 0)
		i++;
	return decoders[i];
}
