/* SPDX-License-Identifier: MIT */
/* The table of formats, and the choice of one for a stream of decoded bytes. Worker thread. The
 * choice is made once, by the first bytes, so an archive inside an archive stays one file; the name
 * only says what the content should be. A stream of none of these formats is stored as one file.
 * Also the whole way of an object: its stream, the decoder, reading ahead, unpacking. */
#include "decode.h"
#include "defer.h"
#include "object.h"
#include "reader.h"
#include "source.h"
#include "umask.h"
#include "unpack_private.h"
#include "zip_private.h"
#include <errno.h>
#include <string.h>

struct timespec unpack_input_mtime(const struct unpack_input *input)
{
	struct timespec now;

	if (input->mtime != 0)
		return (struct timespec){.tv_sec = input->mtime};
	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

static int copy_stream(
	const struct unpack_env *env, struct reader *in, struct writer *w, struct error *err)
{
	struct slice s = {0};
	uint64_t offset = 0;
	int got;

	while ((got = reader_next(in, &s, err)) > 0) {
		int code = cancel_requested(env->cancel)
				   ? error_set(err, -ECANCELED, "cancelled")
				   : writer_file_write(w, offset, s.data, s.len, err);

		offset += s.len;
		slice_drop(&s);
		if (code < 0)
			return code;
	}
	return got;
}

/* Stores the whole stream as one file called input->file_name. A selection that leaves this file
 * out would leave nothing, so that is an error. */
static int unpack_single_file(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct writer *w;
	const struct meta meta = {
		.mode = umask_apply(0644), /* there is no archive that has a mode */
		.mtime = unpack_input_mtime(input),
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
	};
	int code;

	if (select_apply(env->selection, input->file_name) == NULL)
		return error_set(err, -ERR_CONFIG,
			"it is one file, '%s', which include, exclude and strip_components leave out",
			input->file_name);
	w = writer_new(env->tree, input->source, env->progress);
	code = writer_file_open(w, input->file_name, &meta, SIZE_UNKNOWN, false, err);
	if (code == 0)
		code = copy_stream(env, input->in, w, err);
	if (code == 0)
		code = writer_file_close(w, err);
	writer_close(w);
	return code;
}

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

/* Whether the content ends like a zip although it begins like something else: a self-extracting
 * program, or a zip with something put in front of it. If the name is a zip's, that is enough
 * reason to check; otherwise only content of an unknown kind is checked. 1, 0 or negative. */
static int ends_like_zip(const struct unpack_input *input, const struct promise *p,
	const struct promise_bytes *b, struct error *err)
{
	struct object *o = input->object;

	if (o == NULL ||
		(p->is_zip ? promise_content_is_placeholder(b) : promise_content_is_known(b)))
		return 0;
	if (o->seekable && o->identity.size != SIZE_UNKNOWN)
		return zip_is_at_end(o, !p->is_zip, err);
	return p->is_zip && promise_content_is_program(b);
}

static int check_single_file(const struct unpack_input *input, const struct promise *p,
	const struct unpacker **ret, struct error *err)
{
	uint8_t first[PROMISE_PEEK];
	struct promise_bytes bytes = {.first = first};
	int len = reader_peek(input->in, first, sizeof(first), err), is_zip;

	if (len < 0)
		return len;
	bytes.len = (size_t)len;
	is_zip = ends_like_zip(input, p, &bytes, err);
	if (is_zip > 0)
		*ret = &unpack_zip;
	return is_zip != 0 ? is_zip : promise_check(p, input, &bytes, err);
}

/* A tar without entries is only an end marker, which consists of zeros: only its name can say that
 * it is a tar. */
static bool is_zeros(const uint8_t *bytes, size_t len)
{
	return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static int choose_unpacker(const struct unpack_input *input, const struct promise *p,
	const struct unpacker **ret, struct error *err)
{
	uint8_t first[512];
	int len = reader_peek(input->in, first, sizeof(first), err);

	if (len < 0)
		return len;
	*ret = find_unpacker(input, first, (size_t)len);
	if (*ret == NULL && p->is_tar && is_zeros(first, (size_t)len))
		*ret = &unpack_tar;
	return *ret != NULL ? 0 : check_single_file(input, p, ret, err);
}

int unpack(const struct unpack_env *env, const struct unpack_input *input, const char **ret_format,
	struct error *err)
{
	const struct promise p = promise_of(input);
	const struct unpacker *u = NULL;
	/* Worker threads copy their errors to err, so it must not be NULL below. */
	struct error ignored = {0};
	int code;

	err = err != NULL ? err : &ignored;
	code = input->extract ? choose_unpacker(input, &p, &u, err) : 0;
	if (code >= 0)
		code = u != NULL ? u->unpack(env, input, err) : unpack_single_file(env, input, err);
	/* A digest over the stream is only checked at its end. */
	if (code >= 0)
		code = reader_drain(input->in, err);
	if (code == -ERR_TRUNCATED || (code == -ERR_FORMAT && u != NULL))
		promise_explain(&p, err);
	if (code < 0)
		return code;
	*ret_format = u != NULL ? u->name : "file";
	return 0;
}

/* From an object to entries in the tree. */

/* Decoded blocks that may wait for the unpacker. */
enum { AHEAD_SLICES = 4 };

/* Replaces *in, which is consumed in any case, by a reader that decodes it on a thread of its own.
 * *ret: NULL if it is not compressed. */
static int start_decoding(const struct unpack_env *env, struct reader **in,
	const struct decoder **ret, struct error *err)
{
	const struct decode_env how = {.budget = env->budget,
		.cancel = env->cancel,
		.progress = env->progress,
		.threads = env->threads};
	struct reader *decoded = NULL;
	int r = decode_open(*in, &how, &decoded, ret, err);

	if (r == 0 && *ret != NULL)
		decoded = ahead_reader(decoded, AHEAD_SLICES, env->cancel, env->progress);
	*in = decoded;
	return r;
}

/* A single file has the name that is in the URL, without the suffix of the compression. */
static int unpack_stream(const struct unpack_env *env, const struct unpack_object *from,
	struct reader *in, const struct decoder *decoder, char **ret_format, struct error *err)
{
	_free_ char *url_name = source_file_name(from->url);
	_free_ char *file_name = decode_strip_suffix(decoder, url_name);
	const struct unpack_input input = {.in = in,
		.object = decoder == NULL ? from->object : NULL,
		.source = from->source,
		.url = from->url,
		.said = &from->object->said,
		.compression = decoder != NULL ? decoder->name : NULL,
		.file_name = file_name,
		.extract = from->extract,
		.mtime = units_parse_http_date(from->object->identity.last_modified)};
	const char *suffix = decoder != NULL ? decoder->suffixes : "", *container;
	int r = unpack(env, &input, &container, err);

	if (r == 0)
		*ret_format = text_format("%s%.*s", container, (int)strcspn(suffix, " "), suffix);
	return r;
}

int unpack_decoded(const struct unpack_env *env, const struct unpack_object *from,
	char **ret_format, struct error *err)
{
	const struct decoder *decoder = NULL;
	struct reader *in = from->in;
	int r = from->extract ? start_decoding(env, &in, &decoder, err) : 0;

	if (r == 0)
		r = unpack_stream(env, from, in, decoder, ret_format, err);
	reader_close(in);
	return r;
}
