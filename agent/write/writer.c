/* SPDX-License-Identifier: MIT */
/* A writer, and what all kinds of entries have in common: the look at cancel and limits, the
 * checked name, the open parent, and the rule for names that come twice. One thread at a time. */
#include "path.h"
#include "text.h"
#include "tree_private.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
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
	file_abandon(w);
	sink_file_abandon(w);
	parents_done(&w->parents);
	free(w);
}

void writer_spent(struct writer *w, uint64_t start_ns)
{
	w->spent_ns = now_ns() - start_ns;
	if (w->progress != NULL && !w->awaited)
		count(&w->progress->disk_ns, w->spent_ns);
}

void writer_is_awaited(struct writer *w)
{
	w->awaited = true;
}

/* Asks whether a top-level name may be created, when it is not the one asked about last. */
static int accept_top_name(struct writer *w, struct error *err)
{
	const struct tree_options *opts = &w->tree->opts;
	size_t len = strcspn(w->path, "/");
	char name[NAME_MAX + 1];
	int r;

	if (opts->accept_top_name == NULL || len == 0)
		return 0;
	if (strncmp(w->top, w->path, len) == 0 && w->top[len] == '\0')
		return 0;
	*(char *)mempcpy(name, w->path, len) = '\0';
	if ((r = opts->accept_top_name(opts->accept_ctx, name, err)) == 0)
		memcpy(w->top, name, len + 1);
	return r;
}

int writer_begin(struct writer *w, const char *name, struct error *err)
{
	int r;

	assert(w->file.fd < 0 && w->file.in_sink == NULL);
	if (cancel_requested(w->tree->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	if ((r = limit_entry(w, name, err)) < 0)
		return r;
	if ((r = path_normalise(name, w->tree->max_path, w->path, err)) < 0)
		return r;
	return accept_top_name(w, err);
}

int writer_place(struct writer *w, struct place *ret, struct error *err)
{
	size_t len = path_parent_len(w->path), bad_len = len;
	int fd;

	if (*w->path == '\0')
		return entry_refused(err, ".", "only a directory can be the root");
	fd = parents_get(&w->parents, w->tree, w->path, len, true, &bad_len);
	if (fd == -ENOTDIR || fd == -ELOOP)
		return entry_refused(err, w->path, "its parent '%.*s' is not a directory",
			bad_len < 300 ? (int)bad_len : 300, w->path);
	if (fd < 0)
		return disk_error(
			err, -fd, w->tree->root_fd, "open the parent directory of", w->path);
	*ret = (struct place){.parent_fd = fd, .base = path_base(w->path)};
	return 0;
}

int writer_clear_place(struct writer *w, const struct place *at, struct error *err)
{
	struct stat old;
	bool has_old;

	if (w->tree->opts.several_sources)
		return entry_refused(
			err, w->path, "two sources, or one of them twice, have this name");
	has_old = fstatat(at->parent_fd, at->base, &old, AT_SYMLINK_NOFOLLOW) == 0;
	if (unlinkat(at->parent_fd, at->base, 0) == 0) {
		if (has_old)
			file_sum_remove(w, &old);
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return entry_refused(err, w->path, "it would replace a directory");
	return disk_error(err, errno, at->parent_fd, "replace", w->path);
}
