/* SPDX-License-Identifier: MIT */
/* One source on its way into the tree: source -> digest -> decode -> unpack. Straight-line blocking
 * code on a worker thread; the rooms it calls do the work. */
#include "decode.h"
#include "defer.h"
#include "keep.h"
#include "log.h"
#include "prefix.h"
#include "source.h"
#include "stage_datastore.h"
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

/* One source on its way. */
struct passage {
	struct stage *stage;
	size_t i;
	struct object *object;
	const struct decoder *decoder; /* NULL: not compressed */
	const char *container;         /* what it turned out to be */
};

/* Puts the decoder around *in, which is consumed in any case, and gives it a thread of its own. */
static int decode(struct passage *p, struct reader **in, struct error *err)
{
	struct stage *s = p->stage;
	const struct decode_env env = {.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[p->i],
		.threads = s->threads};
	struct reader *decoded = NULL;
	int code = decode_open(*in, &env, &decoded, &p->decoder, err);

	if (code == 0 && p->decoder != NULL)
		decoded = reader_ahead(decoded, AHEAD_SLICES, &s->attempt, &s->progress[p->i]);
	*in = decoded;
	return code;
}

/* What a single file is called: the name in the URL, without the suffix of its compression. */
static char *single_file_name(const struct passage *p)
{
	_free_ char *name = source_file_name(p->stage->sources[p->i].url);

	return p->decoder != NULL ? decode_strip_suffix(p->decoder, name) : take_ptr(&name);
}

static int unpack_stream(struct passage *p, struct reader *in, struct error *err)
{
	struct stage *s = p->stage;
	const struct stage_spec *spec = s->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components};
	const struct unpack_env env = {.tree = s->tree,
		.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[p->i],
		.selection = &selection,
		.threads = s->threads,
		.scratch_fd = s->state_fd};
	_free_ char *file_name = single_file_name(p);
	const struct unpack_input input = {.in = in,
		.object = p->decoder == NULL ? p->object : NULL,
		.source = s->progress[p->i].name,
		.file_name = file_name,
		.extract = !spec->no_extract,
		.mtime = last_modified(&p->object->identity)};

	return unpack(&env, &input, &p->container, err);
}

/* Of a zip, what is missing is fetched, and of what cannot be told from another version nothing is used again. */
static bool is_kept(const struct passage *p, struct reader *in)
{
	const struct stage *s = p->stage;
	struct error ignored; /* sticky: told when it is read */
	char first[2] = {0};

	return s->env->keep_download && s->n_sources == 1 && p->object->seekable &&
	       identity_pins(&p->object->identity) && source_is_remote(s->sources[p->i].url) &&
	       reader_peek(in, first, sizeof(first), &ignored) == sizeof(first) &&
	       memcmp(first, "PK", sizeof(first)) != 0;
}

/* Everything between an open object and its last entry written and its digest checked. */
static int pass_through(struct passage *p, struct error *err)
{
	const char *sha256 = p->stage->sources[p->i].sha256;
	struct reader *in = object_stream(p->object);
	int code = 0;

	if (is_kept(p, in))
		in = stage_keep(
			&(struct keep_env){p->stage->state_fd, &p->stage->attempt}, p->object, in);
	if (sha256 != NULL)
		in = reader_sha256(in, sha256);
	if (!p->stage->spec->no_extract)
		code = decode(p, &in, err);
	if (code == 0)
		code = unpack_stream(p, in, err);
	if (code == 0)
		code = reader_drain(in, err);
	reader_close(in);
	return code;
}

/* "tar.gz": the container and the first suffix of its compression. */
static char *format_name(const struct passage *p)
{
	const char *suffix = p->decoder != NULL ? p->decoder->suffixes : "";

	return format_text("%s%.*s", p->container, (int)strcspn(suffix, " "), suffix);
}

static void remember(
	const struct stage *s, size_t i, const struct identity *id, struct record_source *ret)
{
	const char *sha256 = s->sources[i].sha256;

	*ret = (struct record_source){.key = source_key(s->sources[i].url),
		.name = copy_text(s->progress[i].name),
		.identity = *id};
	if (sha256 != NULL)
		memcpy(ret->sha256, sha256, sizeof(ret->sha256));
}

/* A selection that selects nothing is a slip of the hand: training would start on nothing. */
static int check_selection(const struct stage *s, size_t i, struct error *err)
{
	const struct stage_spec *spec = s->spec;

	if (counted(&s->progress[i].entries) > 0 ||
		(spec->include.n == 0 && spec->exclude.n == 0 && spec->strip_components == 0))
		return 0;
	return error_set(err, -ERR_CONFIG,
		"nothing in %s is left by include, exclude and strip_components; globs match whole "
		"names "
		"in the archive, before stripping",
		s->progress[i].name);
}

/* A login page or an error page, perhaps, where an archive was expected. */
static void warn_of_misnomer(const struct passage *p)
{
	static const char *const endings[] = {".zip", ".tar", ".tgz", ".7z", ".tar.gz", ".tar.zst",
		".tar.xz", ".tar.lz4", ".tar.bz2", ".rar"};
	const char *name = p->stage->progress[p->i].name;

	if (p->stage->spec->no_extract || strcmp(p->container, "file") != 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		size_t len = strlen(endings[i]);

		if (strlen(name) > len && strcmp(name + strlen(name) - len, endings[i]) == 0) {
			log_warn("%s is no archive that can be unpacked, whatever its name says; "
				 "it is "
				 "stored as a file",
				name);
			return;
		}
	}
}

static int open_and_unpack(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const bool continued = destination_continued(s->destination) != NULL;
	const struct source_request request = {.url = s->sources[i].url,
		.want = continued ? WANT_PARTS : WANT_ALL,
		.progress = &s->progress[i]};
	struct passage p = {.stage = s, .i = i};
	uint64_t started = now_ns();
	int code = source_open(&env, &request, &p.object, err);

	if (code < 0)
		return code;
	code = stage_continue(s, &p.object->identity, err);
	if (code == 0)
		code = pass_through(&p, err);
	if (code == 0)
		code = check_selection(s, i, err);
	if (code == 0) {
		warn_of_misnomer(&p);
		remember(s, i, &p.object->identity, ret);
		free(s->arrivals[i].format); /* of an earlier attempt */
		s->arrivals[i].format = format_name(&p);
		s->arrivals[i].elapsed_ns = now_ns() - started;
	}
	object_close(p.object);
	return code;
}

/* What is no stream of bytes but brings its entries itself. */
static int fetch_entries(struct stage *s, size_t i,
	int (*fetch)(struct stage *s, size_t i, struct identity *ret, struct error *err),
	struct record_source *ret, struct error *err)
{
	uint64_t started = now_ns();
	struct identity id;
	int code = fetch(s, i, &id, err);

	if (code == 0)
		code = check_selection(s, i, err);
	if (code < 0)
		return code;
	remember(s, i, &id, ret);
	free(s->arrivals[i].format); /* of an earlier attempt */
	s->arrivals[i].format = copy_text(fetch == stage_prefix ? "objects" : "datastore");
	s->arrivals[i].elapsed_ns = now_ns() - started;
	return 0;
}

static int fetch_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const char *url = s->sources[i].url;

	if (stage_is_datastore(url))
		return fetch_entries(s, i, stage_datastore_fetch, ret, err);
	/* Archives among the objects of a prefix stay what they are. */
	if (stage_is_prefix(url))
		return fetch_entries(s, i, stage_prefix, ret, err);
	return open_and_unpack(s, i, ret, err);
}

int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	int code = slots_take(s->slots, &s->attempt, err);

	if (code < 0)
		return code;
	code = fetch_source(s, i, ret, err);
	slots_give(s->slots);
	if (code < 0)
		error_item(err, "%s", s->progress[i].name);
	/* The rooms that read bytes name their source; those that see entries do not know it. */
	if (code < 0 && strstr(err->msg, s->progress[i].name) == NULL)
		error_prefix(err, "%s", s->progress[i].name);
	return code;
}
