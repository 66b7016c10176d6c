/* SPDX-License-Identifier: MIT */
/* A datastore of what is in one object: an archive, or a file. It is read once and nothing of it is stored here,
 * but for a zip that cannot be read at random. */
#include "create.h"
#include "decode.h"
#include "defer.h"
#include "source.h"
#include "stream.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Decoded blocks that may wait for the unpacker. */
enum { AHEAD_SLICES = 4 };

struct streaming {
	struct director *d;
	const struct create_options *opts;
	const struct create_source *source;
	struct object *object;
	const struct decoder *decoder; /* NULL: not compressed */
	struct tree *tree;
	int scratch_fd;
};

/* Last-Modified as seconds, 0 when there is none to be had. */
static time_t modified(const struct streaming *x)
{
	struct tm tm = {0};

	if (strptime(x->object->identity.last_modified, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return 0;
	return timegm(&tm);
}

static char *file_name(const struct streaming *x)
{
	_free_ char *name = source_file_name(x->opts->source);

	return x->decoder != NULL ? decode_strip_suffix(x->decoder, name) : take_ptr(&name);
}

static int decode(struct streaming *x, struct reader **in, struct error *err)
{
	const struct create_options *o = x->opts;
	const struct decode_env env = {.budget = o->budget,
		.cancel = o->cancel,
		.progress = o->progress,
		.threads = o->threads > 0 ? o->threads : 1};
	struct reader *decoded = NULL;
	int r = decode_open(*in, &env, &decoded, &x->decoder, err);

	if (r == 0 && x->decoder != NULL)
		decoded = reader_ahead(decoded, AHEAD_SLICES, o->cancel, o->progress);
	*in = decoded;
	return r;
}

static int unpack_it(struct streaming *x, struct reader *in, struct error *err)
{
	const struct create_options *o = x->opts;
	const struct unpack_env env = {.tree = x->tree,
		.budget = o->budget,
		.cancel = o->cancel,
		.progress = o->progress,
		.selection = o->selection,
		.threads = o->threads > 0 ? o->threads : 1,
		.scratch_fd = x->scratch_fd};
	_free_ char *name = file_name(x);
	const struct unpack_input input = {.in = in,
		.object = x->decoder == NULL ? x->object : NULL,
		.source = x->source->display,
		.file_name = name,
		.extract = !o->no_extract,
		.mtime = modified(x)};
	const char *format;

	return unpack(&env, &input, &format, err);
}

static int pass_through(struct streaming *x, struct error *err)
{
	struct reader *in = object_stream(x->object);
	int r = x->opts->no_extract ? 0 : decode(x, &in, err);

	if (r == 0)
		r = unpack_it(x, in, err);
	if (r == 0)
		r = reader_drain(in, err);
	reader_close(in);
	return r;
}

static int stream_object(struct streaming *x, struct error *err)
{
	const struct tree_options options = {.limits = {.max_bytes = UINT64_MAX,
						     .max_entries = UINT64_MAX,
						     .max_path = PATH_MAX - 1},
		.cancel = x->opts->cancel};
	struct stream s;
	int r;

	stream_init(&s, x->d);
	x->tree = tree_new_sink(&stream_sink, &s, &options);
	r = pass_through(x, err);
	tree_free(x->tree);
	if (r == 0)
		r = stream_finish(&s, err);
	/* Hands may still be at work for what the stream frees. */
	if (r < 0)
		makers_stop(take_ptr(&x->d->hands));
	stream_done(&s);
	return r;
}

/* Where a zip is stored that cannot be read at random, without a name. */
static int scratch_open(int *ret_fd, struct error *err)
{
	const char *dir = getenv("TMPDIR");

	if (dir == NULL || *dir == '\0')
		dir = "/tmp";
	*ret_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? error_set(err, -errno,
				     "open %s, the directory for temporary files: %m", dir)
			   : 0;
}

int create_feed_object(struct director *d, const struct create_source *source, struct error *err)
{
	const struct create_options *o = d->creation->opts;
	struct streaming x = {.d = d, .opts = o, .source = source};
	const struct source_env env = {.transfer = o->transfer, .s3 = o->s3, .cancel = o->cancel};
	const struct source_request request = {
		.url = source->path != NULL ? source->path : o->source, .progress = o->progress};
	int r = source_open(&env, &request, &x.object, err);

	if (r < 0)
		return r;
	r = scratch_open(&x.scratch_fd, err);
	if (r == 0) {
		r = stream_object(&x, err);
		close(x.scratch_fd);
	}
	object_close(x.object);
	return r;
}
