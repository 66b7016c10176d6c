/* SPDX-License-Identifier: MIT */
/* What lies around the text of an index. The bytes are foreign: their size is known, and bounded, before they are
 * decoded. */
#include "index_bytes.h"
#include "index.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

int index_decompress(const void *bytes, size_t len, char **ret, size_t *ret_len, struct error *err)
{
	unsigned long long size = ZSTD_getFrameContentSize(bytes, len);
	char *text;
	size_t got;

	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
		return error_set(err, -ERR_FORMAT, "the index is no zstd frame of known size");
	if (size > INDEX_TEXT_MAX)
		return error_set(err, -ERR_FORMAT,
			"the index would have %llu bytes, and %zu is the limit", size,
			INDEX_TEXT_MAX);
	text = malloc((size_t)size + 1);
	if (text == NULL)
		return error_set(err, -ENOMEM, "no memory for an index of %llu bytes", size);
	got = ZSTD_decompress(text, (size_t)size, bytes, len);
	if (ZSTD_isError(got) || got != size) {
		free(text);
		return error_set(err, -ERR_FORMAT, "the index is damaged: %s",
			ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
	}
	text[got] = '\0';
	if (strlen(text) != got) {
		free(text);
		return error_set(err, -ERR_FORMAT, "the index has a NUL in it");
	}
	*ret = text;
	*ret_len = got;
	return 0;
}
