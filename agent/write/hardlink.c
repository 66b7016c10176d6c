/* SPDX-License-Identifier: MIT */
/* Hard links, to files and symbolic links of the same tree; copies where the file system has none.
 */
#include "log.h"
#include "path.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int not_there(const struct writer *w, struct error *err)
{
	return entry_refused(err, w->path,
		"it is a hard link to '%.300s', which is not in the tree (was it excluded?)",
		w->target);
}

/* The place and kind of what is linked to. */
static int find_target(struct writer *w, const char *target, struct place *ret, struct stat *ret_st,
	struct error *err)
{
	size_t len, bad_len;
	int fd;

	if (path_normalise(target, w->tree->max_path, w->target, NULL) < 0)
		return entry_refused(err, w->path,
			"it is a hard link to '%.300s', which is not a name in the destination",
			target);
	len = bad_len = path_parent_len(w->target);
	fd = parents_get(&w->parents, w->tree, w->target, len, false, &bad_len);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return not_there(w, err);
	if (fd < 0)
		return disk_error(
			err, -fd, w->tree->root_fd, "open the parent directory of", w->target);
	*ret = (struct place){.parent_fd = fd, .base = path_base(w->target)};
	if (*w->target == '\0')
		ret->base = ".";
	if (fstatat(fd, ret->base, ret_st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return errno == ENOENT ? not_there(w, err)
			       : disk_error(err, errno, fd, "look at", w->target);
}

/* The same text leads elsewhere from another place: a second name is checked as a new link is. */
static int check_symlink(struct writer *w, const struct place *from, char *ret_target,
	bool *ret_verify, struct error *err)
{
	ssize_t n = readlinkat(from->parent_fd, from->base, ret_target, PATH_MAX - 1);

	if (n < 0)
		return disk_error(err, errno, from->parent_fd, "read symbolic link", w->target);
	ret_target[n] = '\0';
	return path_check_target(w->path, ret_target, w->tree->max_path, ret_verify, err);
}

static bool is_same(const struct place *at, const struct stat *st)
{
	struct stat there;

	return fstatat(at->parent_fd, at->base, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       there.st_dev == st->st_dev && there.st_ino == st->st_ino;
}

/* EMLINK: this file has as many names as it can have; the others: the file system has no links. */
static bool wants_copy(int errnum)
{
	return errnum == EMLINK || errnum == EOPNOTSUPP || errnum == EPERM || errnum == ENOSYS;
}

/* Returns 1 when there can be no link and a copy is wanted. */
static int try_link(struct writer *w, const struct place *from, const struct place *to,
	const struct stat *st, struct error *err)
{
	int r;

	while (linkat(from->parent_fd, from->base, to->parent_fd, to->base, 0) < 0) {
		int errnum = errno;

		if ((errnum == EEXIST || wants_copy(errnum)) && is_same(to, st))
			return 0; /* to itself, or listed twice */
		if (wants_copy(errnum))
			return 1;
		if (errnum != EEXIST)
			return disk_error(err, errnum, to->parent_fd, "create hard link", w->path);
		if ((r = writer_clear_place(w, to, err)) < 0)
			return r;
	}
	if (S_ISREG(st->st_mode))
		file_sum_add(w, (uint64_t)st->st_size, file_sum_is_sparse(st));
	return 0;
}

static void warn_about_links(struct writer *w)
{
	if (!atomic_exchange(&w->tree->warned_links, true))
		log_warn("%s: hard links become copies, because the destination's file system does "
			 "not "
			 "take them (first seen: '%s')",
			w->source, w->path);
}

static int link_file(struct writer *w, const struct place *from, const struct place *to,
	const struct stat *st, struct error *err)
{
	int r = try_link(w, from, to, st, err);

	if (r <= 0)
		return r;
	warn_about_links(w);
	return copy_file(w, from, to, err);
}

static int link_symlink(struct writer *w, const struct place *from, const struct place *to,
	const struct stat *st, struct error *err)
{
	struct meta m = {.mtime = st->st_mtim, .uid = st->st_uid, .gid = st->st_gid};
	char target[PATH_MAX];
	bool verify = false;
	int r;

	if ((r = check_symlink(w, from, target, &verify, err)) < 0)
		return r;
	if ((r = try_link(w, from, to, st, err)) > 0) {
		warn_about_links(w);
		r = symlink_make(w, to, target, &m, err);
	}
	return r == 0 && verify ? symlink_remember(w, err) : r;
}

static int make(struct writer *w, const char *name, const char *target, struct error *err)
{
	struct place from, to;
	struct stat st = {0};
	int r;

	if ((r = writer_begin(w, name, err)) < 0)
		return r;
	if (w->tree->sink != NULL)
		return sink_hardlink(w, target, err);
	if ((r = find_target(w, target, &from, &st, err)) < 0 ||
		(r = writer_place(w, &to, err)) < 0)
		return r;
	/* One that is there already, was it made by this run? */
	if (w->tree->continued)
		atomic_store(&w->tree->sum_unknown, true);
	if (S_ISREG(st.st_mode))
		return link_file(w, &from, &to, &st, err);
	if (S_ISLNK(st.st_mode))
		return link_symlink(w, &from, &to, &st, err);
	return entry_refused(
		err, w->path, "it is a hard link to '%.300s', which is a directory", target);
}

int writer_hardlink(struct writer *w, const char *name, const char *target, struct error *err)
{
	uint64_t start = now_ns();
	int r = make(w, name, target, err);

	writer_spent(w, start);
	return r;
}
