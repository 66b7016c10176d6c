/* SPDX-License-Identifier: MIT */
/* One source on its way into the tree: source -> digest -> decode -> unpack. Straight-line blocking
 * code on a worker thread; the rooms it calls do the work. */
#include "decode.h"
#include "defer.h"
#include "report.h"
#include "source.h"
#include "stage_private.h"
#include "unpack.h"
#include <string.h>

/* Decoded blocks that may wait for the unpacker. */
enum { AHEAD_SLICES = 4 };

/* Last-Modified as seconds, 0 when there is none to be had. */
static time_t last_modified(const struct identity *id)
{
	struct tm tm = {0};

	if (strptime(id->last_modified, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return 0;
	return timegm(&tm);
}

static int decode(struct stage *s, size_t i, struct reader **in, const struct decoder **ret_decoder,
	struct error *err)
{
	const struct decode_env env = {.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[i],
		.threads = s->threads};
	struct reader *decoded;
	int code = decode_open(*in, &env, &decoded, ret_decoder, err);

	*in = NULL; /* consumed in any case */
	if (code < 0)
		return code;
	*in = *ret_decoder == NULL
		      ? decoded
		      : reader_ahead(decoded, AHEAD_SLICES, &s->attempt, &s->progress[i]);
	return 0;
}

static int unpack_stream(struct stage *s, size_t i, struct reader *in, struct object *o,
	const struct decoder *decoder, const char **ret_format, struct error *err)
{
	const struct stage_spec *spec = s->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components};
	const struct unpack_env env = {.tree = s->tree,
		.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[i],
		.selection = &selection,
		.threads = s->threads,
		.scratch_fd = s->state_fd};
	_free_ char *name = source_file_name(s->sources[i].url);
	_free_ char *stripped =
		decoder != NULL ? decode_strip_suffix(decoder, name) : copy_text(name);
	const struct unpack_input input = {.in = in,
		.object = decoder == NULL ? o : NULL,
		.source = s->progress[i].name,
		.file_name = stripped,
		.extract = !spec->no_extract,
		.mtime = last_modified(&o->identity)};

	return unpack(&env, &input, ret_format, err);
}

/* "tar.gz": the container and the first suffix of its compression. */
static char *format_name(const char *container, const struct decoder *decoder)
{
	const char *suffix = decoder != NULL ? decoder->suffixes : "";

	return format_text("%s%.*s", container, (int)strcspn(suffix, " "), suffix);
}

/* Everything between an open object and its last entry written and its digest checked. *ret_format
 * is on the heap. */
static int pass_through(
	struct stage *s, size_t i, struct object *o, char **ret_format, struct error *err)
{
	const char *container = NULL;
	const struct decoder *decoder = NULL;
	struct reader *in = object_stream(o);
	int code = 0;

	if (s->sources[i].sha256 != NULL)
		in = reader_sha256(in, s->sources[i].sha256);
	if (!s->spec->no_extract)
		code = decode(s, i, &in, &decoder, err);
	if (code == 0)
		code = unpack_stream(s, i, in, o, decoder, &container, err);
	if (code == 0)
		code = reader_drain(in, err);
	if (code == 0)
		*ret_format = format_name(container, decoder);
	reader_close(in);
	return code;
}

static void remember(
	const struct stage *s, size_t i, const struct object *o, struct record_source *ret)
{
	const char *sha256 = s->sources[i].sha256;

	*ret = (struct record_source){.key = source_key(s->sources[i].url),
		.name = copy_text(s->progress[i].name),
		.identity = o->identity};
	if (sha256 != NULL)
		memcpy(ret->sha256, sha256, sizeof(ret->sha256));
}

static int open_and_unpack(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const struct source_env env = {.transfer = s->env->transfer, .cancel = &s->attempt};
	const struct source_request request = {
		.url = s->sources[i].url, .progress = &s->progress[i]};
	uint64_t started = now_ns();
	_free_ char *format = NULL;
	struct object *o;
	int code = source_open(&env, &request, &o, err);

	if (code < 0)
		return code;
	code = pass_through(s, i, o, &format, err);
	if (code == 0) {
		remember(s, i, o, ret);
		report_source_done(&s->progress[i], s->to, format, now_ns() - started, false);
	}
	object_close(o);
	return code;
}

int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	int code = slots_take(s->slots, &s->attempt, err);

	if (code < 0)
		return code;
	code = open_and_unpack(s, i, ret, err);
	slots_give(s->slots);
	/* The rooms that read bytes name their source; those that see entries do not know it. */
	if (code < 0 && strstr(err->msg, s->progress[i].name) == NULL)
		error_prefix(err, "%s", s->progress[i].name);
	return code;
}
