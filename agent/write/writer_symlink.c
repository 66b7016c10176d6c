/* SPDX-License-Identifier: MIT */
/* Symbolic links. None may lead out of the tree, however they are combined. The text of a target
 * shows whether it stays inside, provided that each ".." follows a real directory. If a target has
 * ".." after a name of its own, that is known only when the tree is finished, and is verified then.
 * Links are created on the writer's thread. */
#include "disk.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static int create_error(const struct writer *w, int parent_fd, int errnum, struct error *err)
{
	char disk[DISK_TEXT];

	/* SMB, object stores and exFAT have no symbolic links. A copy of the target's content
	 * instead would be a different tree. */
	if (errnum != EPERM && errnum != EOPNOTSUPP && errnum != ENOSYS && errnum != EINVAL)
		return tree_disk_error(err, errnum, parent_fd, "create symbolic link", w->path);
	return error_set(err, -errnum,
		"cannot create symbolic link '%.300s': the destination's file system%s does not take any (%s); leave it out (exclude), or stage elsewhere",
		w->path, disk_describe(parent_fd, disk), strerrordesc_np(errnum));
}

static int create_link_locked(
	struct writer *w, const struct dir_entry *at, const char *target, struct error *err)
{
	int code;

	while (symlinkat(target, at->parent_fd, at->base) < 0) {
		if (errno != EEXIST)
			return create_error(w, at->parent_fd, errno, err);
		code = writer_clear_place(w, at, err);
		if (code < 0)
			return code;
	}
	names_add_locked(w->tree->names, w->path, strlen(w->path));
	return 0;
}

int writer_symlink_make(struct writer *w, const struct dir_entry *at, const char *target,
	const struct meta *m, struct error *err)
{
	int code;

	names_lock(w->tree->names);
	code = create_link_locked(w, at, target, err);
	names_unlock(w->tree->names);
	if (code < 0)
		return code;
	code = metadata_apply_symlink(w, at, m, err);
	if (code == -ENOENT)
		return 0; /* another writer's entry of this name has replaced it meanwhile */
	if (code < 0)
		unlinkat(at->parent_fd, at->base, 0);
	return code;
}

int writer_symlink_remember(struct writer *w, struct error *err)
{
	char end[] = "";
	struct iovec parts[] = {{w->path, strlen(w->path)}, {end, sizeof(end)}};

	return spool_add(&w->tree->spool, SYMLINKS_LIST, parts, err);
}

static int make_symlink(struct writer *w, const char *name, const char *target,
	const struct meta *m, struct error *err)
{
	struct dir_entry at;
	bool verify = false;
	int code = writer_begin(w, name, err);

	if (code == 0)
		code = tree_path_check_target(w->path, target, w->tree->max_path, &verify, err);
	if (code < 0)
		return code;
	if (w->tree->sink != NULL)
		return w->tree->sink->symlink(w->tree->sink_ctx, w->path, target, verify, m, err);
	code = writer_place(w, &at, err);
	if (code == 0)
		code = writer_symlink_make(w, &at, target, m, err);
	return code == 0 && verify ? writer_symlink_remember(w, err) : code;
}

int writer_symlink(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err)
{
	uint64_t start = now_ns();
	int code = make_symlink(w, name, target, m, err);

	writer_count_time(w, start);
	return code;
}

static bool is_real_dir(void *ctx, char *path)
{
	size_t bad_len;
	int fd = parents_open_beneath(ctx, path, false, &bad_len);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Verifies one spooled link. It may have been replaced since it was spooled: only its present
 * target is verified. */
static int verify_link(void *ctx, const void *record, size_t len, struct error *err)
{
	struct tree *t = ctx;
	const char *link = record;
	size_t parent_len = tree_path_parent_len(link), bad_len;
	char at[TREE_LINK_TEXT], target[PATH_MAX];
	int parent = t->root_fd;
	ssize_t n;

	(void)len;
	*(char *)mempcpy(at, link, parent_len) = '\0';
	if (parent_len > 0)
		parent = parents_open_beneath(t, at, false, &bad_len);
	if (parent < 0)
		return tree_disk_error(
			err, -parent, t->root_fd, "open the parent directory of", link);
	n = readlinkat(parent, tree_path_base(link), target, sizeof(target) - 1);
	if (parent != t->root_fd)
		close(parent);
	if (n < 0)
		return 0; /* no longer a symbolic link */
	target[n] = '\0';
	if (!tree_link_leaves(link, target, is_real_dir, t, at))
		return 0;
	return tree_entry_refused(err, link,
		"its target '%.300s' goes up from '%.300s', which is not a directory", target, at);
}

int tree_verify_symlinks(struct tree *t, struct error *err)
{
	return spool_each(&t->spool, SYMLINKS_LIST, t->opts.cancel, verify_link, t, err);
}
