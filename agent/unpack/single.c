/* SPDX-License-Identifier: MIT */
/* A stream that is no archive, or shall not be taken for one: one file. Worker thread. Selection
 * does not apply to it: it has no name inside an archive. */
#include "containers.h"
#include "object.h"
#include "reader.h"
#include <errno.h>

struct timespec input_mtime(const struct unpack_input *input)
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
	int r;

	while ((r = reader_next(in, &s, err)) > 0) {
		r = cancel_requested(env->cancel)
			    ? error_set(err, -ECANCELED, "cancelled")
			    : writer_file_write(w, offset, s.data, s.len, err);
		offset += s.len;
		slice_drop(&s);
		if (r < 0)
			break;
	}
	return r;
}

int unpack_single_file(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct writer *w = writer_new(env->tree, input->source, env->progress);
	const struct meta meta = {
		.mode = 0644,
		.mtime = input_mtime(input),
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
	};
	int r;

	r = writer_file_open(w, input->file_name, &meta, SIZE_UNKNOWN, false, err);
	if (r >= 0)
		r = copy_stream(env, input->in, w, err);
	if (r >= 0)
		r = writer_file_close(w, err);
	writer_close(w);
	return r;
}
