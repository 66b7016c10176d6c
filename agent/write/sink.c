/* SPDX-License-Identifier: MIT */
/* Entries of a tree that become no files: what is checked of them is checked as for any tree, then the sink
 * gets them. */
#include "path.h"
#include "tree_private.h"
#include <errno.h>
#include <stddef.h>

int sink_file_open(
	struct writer *w, const struct meta *m, uint64_t size, bool existing, struct error *err)
{
	const struct tree_sink_file file = {
		.path = w->path, .meta = m, .size = size, .existing = existing};
	const struct tree *t = w->tree;
	int r;

	if (*w->path == '\0')
		return entry_refused(err, ".", "only a directory can be the root");
	if (size != SIZE_UNKNOWN && (r = limit_promised(w, size, err)) < 0)
		return r;
	w->file = (struct open_file){.fd = -1, .size = size};
	return t->sink->file_open(t->sink_ctx, &file, &w->file.in_sink, err);
}

void sink_file_abandon(struct writer *w)
{
	if (w->file.in_sink != NULL)
		w->tree->sink->file_abandon(w->file.in_sink);
	w->file.in_sink = NULL;
}

static int write_part(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	struct open_file *f = &w->file;
	int r;

	if (cancel_requested(w->tree->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	if ((r = file_check_offset(w, offset, len, err)) < 0 ||
		(r = limit_bytes(w, offset + len - f->end, err)) < 0)
		return r;
	f->end = offset + len;
	return w->tree->sink->file_write(f->in_sink, offset, bytes, len, err);
}

int sink_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	int r = len == 0 ? 0 : write_part(w, offset, bytes, len, err);

	if (r < 0)
		sink_file_abandon(w);
	return r;
}

int sink_file_close(struct writer *w, struct error *err)
{
	void *file = w->file.in_sink;
	int r = 0;

	if (w->file.size != SIZE_UNKNOWN && w->file.end < w->file.size)
		r = limit_bytes(w, w->file.size - w->file.end, err); /* a hole at its end */
	if (r < 0) {
		sink_file_abandon(w);
		return r;
	}
	w->file.in_sink = NULL;
	return w->tree->sink->file_close(file, err);
}

int sink_hardlink(struct writer *w, const char *target, struct error *err)
{
	if (*w->path == '\0')
		return entry_refused(err, ".", "only a directory can be the root");
	if (path_normalise(target, w->tree->max_path, w->target, NULL) < 0)
		return entry_refused(err, w->path,
			"it is a hard link to '%.300s', which is not a name in the datastore",
			target);
	return w->tree->sink->hardlink(w->tree->sink_ctx, w->path, w->target, err);
}
