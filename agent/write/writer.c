/* SPDX-License-Identifier: MIT */
/* A writer, and the steps that all kinds of entries have in common: the check for cancellation and
 * limits, the checked name, the open parent directory, and the rule for duplicate names. One thread
 * at a time for each writer. */
#include "text.h"
#include "tree_private.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct writer *writer_new(struct tree *t, const char *source, struct progress *progress)
{
	struct writer *w = zalloc(sizeof(*w));

	w->tree = t;
	w->source = source;
	w->progress = progress;
	w->file.fd = -1;
	return w;
}

void writer_close(struct writer *w)
{
	if (w == NULL)
		return;
	writer_regular_abandon(w);
	parents_done(&w->parents);
	free(w);
}

void writer_count_time(struct writer *w, uint64_t start_ns)
{
	w->spent_ns = now_ns() - start_ns;
	if (w->progress != NULL && !w->untimed)
		count(&w->progress->disk_ns, w->spent_ns);
}

void writer_set_untimed(struct writer *w)
{
	w->untimed = true;
}

/* Calls accept_top_name() for the entry's top-level name, unless it was the last one accepted. */
static int accept_top_name(struct writer *w, struct error *err)
{
	const struct tree_options *opts = &w->tree->opts;
	size_t len = strcspn(w->path, "/");
	char name[NAME_MAX + 1];
	int code;

	if (opts->accept_top_name == NULL || len == 0)
		return 0;
	if (strncmp(w->top, w->path, len) == 0 && w->top[len] == '\0')
		return 0;
	*(char *)mempcpy(name, w->path, len) = '\0';
	code = opts->accept_top_name(opts->accept_ctx, name, err);
	if (code == 0)
		memcpy(w->top, name, len + 1);
	return code;
}

int writer_begin(struct writer *w, const char *name, struct error *err)
{
	int code;

	assert(w->file.fd < 0 && w->file.in_sink == NULL);
	if (cancel_requested(w->tree->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	code = tree_limit_entry(w, name, err);
	if (code == 0)
		code = tree_path_normalise(name, w->tree->max_path, w->path, err);
	return code < 0 ? code : accept_top_name(w, err);
}

int writer_place(struct writer *w, struct dir_entry *ret, struct error *err)
{
	size_t len = tree_path_parent_len(w->path), bad_len = len;
	int fd;

	if (*w->path == '\0')
		return tree_entry_refused(err, ".", "only a directory can be the root");
	do {
		fd = parents_get(&w->parents, w->tree, w->path, len, true, &bad_len);
	} while (fd == -ENOTDIR && writer_marker_remove(w, bad_len));
	if (fd == -ENOTDIR || fd == -ELOOP)
		return tree_entry_refused(err, w->path, "its parent '%.*s' is not a directory",
			bad_len < 300 ? (int)bad_len : 300, w->path);
	if (fd == -EEXIST)
		return names_refuse(w->tree, w->path, bad_len, err);
	if (fd < 0)
		return tree_disk_error(
			err, -fd, w->tree->root_fd, "open the parent directory of", w->path);
	*ret = (struct dir_entry){.parent_fd = fd, .base = tree_path_base(w->path)};
	return 0;
}

int writer_clear_place(struct writer *w, const struct dir_entry *at, struct error *err)
{
	struct stat old;
	bool has_old;

	if (names_is_other_locked(w->tree->names, w->path, strlen(w->path)) ||
		(w->tree->opts.unique_names && !w->tree->continued))
		return names_refuse_locked(w->tree, w->path, strlen(w->path), err);
	if (w->tree->opts.several_sources)
		return tree_entry_refused(
			err, w->path, "two sources, or one of them twice, have this name");
	has_old = fstatat(at->parent_fd, at->base, &old, AT_SYMLINK_NOFOLLOW) == 0;
	if (unlinkat(at->parent_fd, at->base, 0) == 0) {
		if (has_old)
			tree_sum_remove(w, &old);
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return tree_entry_refused(err, w->path, "it would replace a directory");
	return tree_disk_error(err, errno, at->parent_fd, "replace", w->path);
}

/* Entries of a tree that has a sink: they are checked as in any tree, then passed to the sink. */

int writer_sink_open(
	struct writer *w, const struct meta *m, uint64_t size, bool existing, struct error *err)
{
	const struct tree_sink_file file = {
		.path = w->path, .meta = m, .size = size, .existing = existing};
	const struct tree *t = w->tree;
	int code = 0;

	if (*w->path == '\0')
		return tree_entry_refused(err, ".", "only a directory can be the root");
	if (size != SIZE_UNKNOWN)
		code = tree_limit_promised(w, size, err);
	if (code < 0)
		return code;
	w->file = (struct open_file){.fd = -1, .size = size};
	return t->sink->file_open(t->sink_ctx, &file, &w->file.in_sink, err);
}

int writer_sink_close(struct writer *w, struct error *err)
{
	void *file = w->file.in_sink;
	int code = 0;

	if (w->file.size != SIZE_UNKNOWN && w->file.end < w->file.size)
		code = tree_limit_hole(w, w->file.size - w->file.end, err);
	if (code < 0) {
		writer_regular_abandon(w);
		return code;
	}
	w->file.in_sink = NULL;
	return w->tree->sink->file_close(file, err);
}

int writer_sink_hardlink(struct writer *w, const char *target, struct error *err)
{
	if (*w->path == '\0')
		return tree_entry_refused(err, ".", "only a directory can be the root");
	if (tree_path_normalise(target, w->tree->max_path, w->target, NULL) < 0)
		return tree_entry_refused(err, w->path,
			"it is a hard link to '%.300s', which is not a name in the datastore",
			target);
	return w->tree->sink->hardlink(w->tree->sink_ctx, w->path, w->target, err);
}
