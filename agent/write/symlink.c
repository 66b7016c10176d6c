/* SPDX-License-Identifier: MIT */
/* Symbolic links. None may lead out of the tree, however they are combined: the text of a target
 * says whether it stays inside as long as ".." undoes a real directory. Where a target goes up from
 * a name of its own, that is known only when the tree is finished, and then judged. */
#include "beneath.h"
#include "metadata.h"
#include "path.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int symlink_make(struct writer *w, const struct place *at, const char *target, const struct meta *m,
	struct error *err)
{
	int r;

	while (symlinkat(target, at->parent_fd, at->base) < 0) {
		if (errno != EEXIST)
			return disk_error(
				err, errno, at->parent_fd, "create symbolic link", w->path);
		if ((r = writer_clear_place(w, at, err)) < 0)
			return r;
	}
	r = metadata_apply_symlink(w, at, m, err);
	if (r == -ENOENT)
		return 0; /* another writer's entry of this name took the place meanwhile */
	if (r < 0)
		unlinkat(at->parent_fd, at->base, 0);
	return r;
}

int symlink_remember(struct writer *w, struct error *err)
{
	char end[] = "";
	struct iovec parts[] = {{w->path, strlen(w->path)}, {end, sizeof(end)}};

	return spool_add(&w->tree->spool, SYMLINKS_LIST, parts, err);
}

static int make(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err)
{
	struct place at;
	bool verify;
	int r;

	if ((r = writer_begin(w, name, err)) < 0 ||
		(r = path_check_target(w->path, target, w->tree->max_path, &verify, err)) < 0)
		return r;
	if (w->tree->sink != NULL)
		return w->tree->sink->symlink(w->tree->sink_ctx, w->path, target, verify, m, err);
	if ((r = writer_place(w, &at, err)) < 0)
		return r;
	if ((r = symlink_make(w, &at, target, m, err)) < 0)
		return r;
	return verify ? symlink_remember(w, err) : 0;
}

int writer_symlink(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err)
{
	uint64_t start = now_ns();
	int r = make(w, name, target, m, err);

	writer_spent(w, start);
	return r;
}

static bool is_real_dir(const struct tree *t, const char *path)
{
	size_t bad_len;
	int fd = beneath_open(t, path, false, &bad_len);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Follows target from the directory whose path is in at, which has room for both. */
static int judge_target(
	const struct tree *t, const char *link, char *at, const char *target, struct error *err)
{
	const char *rest = target;
	bool named = false; /* the end of at comes from target and was not looked at yet */
	struct component c;

	while (path_next(&rest, &c)) {
		if (component_is(&c, "."))
			continue;
		if (!component_is(&c, "..")) {
			char *end = at + strlen(at);

			if (end != at)
				*end++ = '/';
			*(char *)mempcpy(end, c.s, c.len) = '\0';
			named = true;
			continue;
		}
		if (named && !is_real_dir(t, at))
			return entry_refused(err, link,
				"its target '%.300s' goes up from '%.300s', which is not a "
				"directory",
				target, at);
		named = false;
		at[path_parent_len(at)] = '\0';
	}
	return 0;
}

/* A name may have got another meaning since it was noted: what counts is what is there now. */
static int judge(void *ctx, const void *record, size_t len, struct error *err)
{
	const struct tree *t = ctx;
	const char *link = record;
	size_t parent_len = path_parent_len(link), bad_len;
	char at[2 * PATH_MAX], target[PATH_MAX];
	int parent = t->root_fd;
	ssize_t n;

	(void)len;
	*(char *)mempcpy(at, link, parent_len) = '\0';
	if (parent_len > 0 && (parent = beneath_open(t, at, false, &bad_len)) < 0)
		return disk_error(err, -parent, t->root_fd, "open the parent directory of", link);
	n = readlinkat(parent, path_base(link), target, sizeof(target) - 1);
	if (parent != t->root_fd)
		close(parent);
	if (n < 0)
		return 0; /* no symbolic link any more */
	target[n] = '\0';
	return judge_target(t, link, at, target, err);
}

int symlinks_judge(struct tree *t, struct error *err)
{
	return spool_each(&t->spool, SYMLINKS_LIST, t->opts.cancel, judge, t, err);
}
