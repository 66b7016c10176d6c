/* SPDX-License-Identifier: MIT */
/* What a stream of decoded bytes is, and the way on from there. Worker thread. It does not look at
 * names and it looks once: an archive inside an archive stays one file. */
#include "containers.h"
#include "defer.h"
#include "reader.h"

static const struct unpacker *const unpackers[] = {
	&unpack_zip, &unpack_7z, &unpack_cpio, &unpack_tar};

static const struct unpacker *find_unpacker(
	const struct unpack_input *input, const uint8_t *first, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(unpackers); i++) {
		const struct unpacker *u = unpackers[i];

		if (u->needs_object && input->object == NULL)
			continue;
		if (u->matches(first, len))
			return u;
	}
	return NULL;
}

int unpack(const struct unpack_env *env, const struct unpack_input *input, const char **ret_format,
	struct error *err)
{
	const struct unpacker *u = NULL;
	uint8_t first[512];
	int r;

	if (input->extract) {
		r = reader_peek(input->in, first, sizeof(first), err);
		if (r < 0)
			return r;
		u = find_unpacker(input, first, (size_t)r);
	}
	r = u != NULL ? u->unpack(env, input, err) : unpack_single_file(env, input, err);
	if (r < 0)
		return r;
	/* To the very end: a digest over the stream speaks only there. */
	r = reader_drain(input->in, err);
	if (r < 0)
		return r;
	*ret_format = u != NULL ? u->name : "file";
	return 0;
}
