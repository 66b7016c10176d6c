/* SPDX-License-Identifier: MIT */
/* The table of compressions, and the choice among them by a stream's first bytes. Worker threads.
 * Looks once and wraps once: what comes out is not looked at again. */
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

static const struct decoder *find(const uint8_t *first, size_t len)
{
	for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++) {
		const struct decoder *d = decoders[i];

		if (len >= d->magic_bytes && d->matches(first, len))
			return d;
	}
	return NULL;
}

int decode_open(struct reader *in, const struct decode_env *env, struct reader **ret,
	const struct decoder **ret_decoder, struct error *err)
{
	uint8_t first[MAGIC_MAX];
	const struct decoder *d;
	struct reader *decoded;
	int len, code;

	len = reader_peek(in, first, sizeof(first), err);
	if (len < 0) {
		reader_close(in);
		return len;
	}
	decoded = in;
	d = find(first, (size_t)len);
	if (d != NULL) {
		code = d->open(in, env, &decoded, err);
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
			return format_text("%.*s", (int)(name_len - len), name);
		at += len;
		at += strspn(at, " ");
	}
	return copy_text(name);
}
