/* SPDX-License-Identifier: MIT */
/* Hard links, and the copies that replace them on file systems without hard links. The writer's
 * thread.
 *
 * A copy has the content with its holes, the mode, mtime, owner and user.* attributes. It is opened
 * and closed as any new file, so limits and cancellation apply, and it is removed on failure. */
#include "defer.h"
#include "log.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COPY_BYTES ((size_t)256 << 10)

void writer_attributes_done(struct attributes *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->values[i]);
	free(a->values);
	free(a->v);
	text_strings_done(&a->names);
}

/* Returns the value: heap. */
static void *read_attribute(int fd, const char *name, size_t *ret_len)
{
	ssize_t n = fgetxattr(fd, name, NULL, 0);
	void *value = zalloc(n > 0 ? (size_t)n : 1);

	if (n > 0)
		n = fgetxattr(fd, name, value, (size_t)n);
	*ret_len = n > 0 ? (size_t)n : 0;
	return value;
}

void writer_attributes_read(int fd, struct attributes *ret)
{
	_free_ char *list = zalloc(XATTR_LIST_MAX + 1);
	ssize_t n = flistxattr(fd, list, XATTR_LIST_MAX);

	*ret = (struct attributes){0};
	for (const char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		if (strncmp(p, "user.", 5) == 0)
			text_strings_add(&ret->names, p);
	}
	if (ret->names.n == 0)
		return;
	ret->v = zalloc(ret->names.n * sizeof(*ret->v));
	ret->values = zalloc(ret->names.n * sizeof(*ret->values));
	for (; ret->n < ret->names.n; ret->n++) {
		struct xattr *x = &ret->v[ret->n];

		x->name = ret->names.v[ret->n];
		x->value = ret->values[ret->n] = read_attribute(fd, x->name, &x->len);
	}
}

/* Copies the bytes between two offsets, or up to the end of the file if that is before. */
static int copy_range(struct writer *w, int fd, uint64_t from, uint64_t to, struct error *err)
{
	_free_ char *buffer = zalloc(COPY_BYTES);
	ssize_t n = 1;
	int code = 0;

	while (from < to && n > 0 && code == 0) {
		n = pread(fd, buffer, to - from < COPY_BYTES ? to - from : COPY_BYTES, (off_t)from);
		if (n < 0)
			return tree_disk_error(err, errno, fd, "read", w->target);
		code = writer_regular_write(w, from, buffer, (size_t)n, err);
		from += (uint64_t)n;
	}
	return code;
}

int writer_copy_content(struct writer *w, int fd, off_t from, off_t to, struct error *err)
{
	off_t data = 0, hole = from;
	int code = 0;

	while (code == 0 && hole < to && (data = lseek(fd, hole, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			hole = to;
		code = copy_range(w, fd, (uint64_t)data, (uint64_t)hole, err);
	}
	if (data < 0 && errno != ENXIO) /* the file system cannot report holes */
		code = copy_range(w, fd, (uint64_t)hole, (uint64_t)to, err);
	return code;
}

/* Creates a copy of the file `from` at w->path. */
static int copy_file(struct writer *w, const struct dir_entry *from, const struct dir_entry *to,
	struct error *err)
{
	_close_ int fd = openat(from->parent_fd, from->base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct attributes attributes;
	struct stat st;
	struct meta m;
	int code;

	if (fd < 0 || fstat(fd, &st) < 0)
		return tree_disk_error(err, errno, from->parent_fd, "copy", w->target);
	writer_attributes_read(fd, &attributes);
	m = (struct meta){
		.mode = st.st_mode, .mtime = st.st_mtim, .uid = st.st_uid, .gid = st.st_gid};
	m.xattrs = attributes.v;
	m.n_xattrs = attributes.n;
	code = writer_regular_open(w, to, &m, (uint64_t)st.st_size, err);
	writer_attributes_done(&attributes);
	if (code < 0)
		return code;
	code = writer_copy_content(w, fd, 0, st.st_size, err);
	if (code < 0) {
		writer_regular_abandon(w);
		return code;
	}
	return writer_regular_close(w, err);
}

/* Hard links to files and symbolic links of the same tree. */

static int target_missing(const struct writer *w, struct error *err)
{
	return tree_entry_refused(err, w->path,
		"it is a hard link to '%.300s', which is not in the tree (was it excluded?)",
		w->target);
}

/* Whether the file found at w->target was created under another name, and so is not the target. */
static bool is_unknown_target(const struct writer *w)
{
	bool unknown;

	names_lock(w->tree->names);
	unknown = names_is_other_locked(w->tree->names, w->target, strlen(w->target));
	names_unlock(w->tree->names);
	return unknown;
}

/* Looks up the target of the link, and its status. */
static int find_target(struct writer *w, const char *target, struct dir_entry *ret,
	struct stat *ret_st, struct error *err)
{
	size_t len, bad_len;
	int fd;

	if (tree_path_normalise(target, w->tree->max_path, w->target, NULL) < 0)
		return tree_entry_refused(err, w->path,
			"it is a hard link to '%.300s', which is not a name in the destination",
			target);
	len = bad_len = tree_path_parent_len(w->target);
	fd = parents_get(&w->parents, w->tree, w->target, len, false, &bad_len);
	if (fd == -ENOENT || fd == -EEXIST || is_unknown_target(w) || fd == -ENOTDIR ||
		fd == -ELOOP)
		return target_missing(w, err);
	if (fd < 0)
		return tree_disk_error(
			err, -fd, w->tree->root_fd, "open the parent directory of", w->target);
	*ret = (struct dir_entry){.parent_fd = fd, .base = tree_path_base(w->target)};
	if (*w->target == '\0')
		ret->base = ".";
	if (fstatat(fd, ret->base, ret_st, AT_SYMLINK_NOFOLLOW) == 0)
		/* A file of a killed run for which this run has seen no entry is not in the
		 * archive. */
		return w->tree->continued && !S_ISDIR(ret_st->st_mode) &&
				       writer_time_is_before(&ret_st->st_ctim, &w->tree->since)
			       ? target_missing(w, err)
			       : 0;
	return errno == ENOENT ? target_missing(w, err)
			       : tree_disk_error(err, errno, fd, "look at", w->target);
}

/* Reads and checks the target of a symbolic link that gets a second name: from another directory,
 * the same text leads to another place. */
static int check_symlink(struct writer *w, const struct dir_entry *from, char *ret_target,
	bool *ret_verify, struct error *err)
{
	ssize_t n = readlinkat(from->parent_fd, from->base, ret_target, PATH_MAX - 1);

	if (n < 0)
		return tree_disk_error(
			err, errno, from->parent_fd, "read symbolic link", w->target);
	ret_target[n] = '\0';
	return tree_path_check_target(w->path, ret_target, w->tree->max_path, ret_verify, err);
}

static bool is_same(const struct dir_entry *at, const struct stat *st)
{
	struct stat there;

	return fstatat(at->parent_fd, at->base, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       there.st_dev == st->st_dev && there.st_ino == st->st_ino;
}

/* Whether the file found at w->path was created under another name. */
static bool is_other(const struct writer *w)
{
	return names_is_other_locked(w->tree->names, w->path, strlen(w->path));
}

/* EMLINK: the file has the largest number of names that it can have; EXDEV: its names must be in
 * one directory (AFS), or within one project quota; the others: the file system has no hard
 * links. */
static bool wants_copy(int errnum)
{
	switch (errnum) {
	case EMLINK:
	case EXDEV:
	case EOPNOTSUPP:
	case EPERM:
	case EACCES:
	case EINVAL:
	case ENOSYS:
		return true;
	default:
		return false;
	}
}

/* Returns 1 if the link cannot be created and a copy must be made. */
static int try_link_locked(struct writer *w, const struct dir_entry *from,
	const struct dir_entry *to, const struct stat *st, struct error *err)
{
	int code;

	while (linkat(from->parent_fd, from->base, to->parent_fd, to->base, 0) < 0) {
		int errnum = errno;

		if ((errnum == EEXIST || wants_copy(errnum)) && is_same(to, st) && !is_other(w))
			return 0; /* a link to itself, or the entry is listed twice */
		if (wants_copy(errnum))
			return 1;
		if (errnum != EEXIST)
			return tree_disk_error(
				err, errnum, to->parent_fd, "create hard link", w->path);
		code = writer_clear_place(w, to, err);
		if (code < 0)
			return code;
	}
	names_add_locked(w->tree->names, w->path, strlen(w->path));
	if (S_ISREG(st->st_mode))
		tree_sum_add(w, (uint64_t)st->st_size, tree_sum_is_sparse(st), &st->st_mtim);
	return 0;
}

static int try_link(struct writer *w, const struct dir_entry *from, const struct dir_entry *to,
	const struct stat *st, struct error *err)
{
	int code;

	names_lock(w->tree->names);
	code = try_link_locked(w, from, to, st, err);
	names_unlock(w->tree->names);
	return code;
}

static void warn_about_links(struct writer *w)
{
	if (!atomic_exchange(&w->tree->warned_links, true))
		log_warn(
			"%s: hard links become copies, because the destination's file system does not take them (first seen: '%s')",
			w->source, w->path);
}

static int link_file(struct writer *w, const struct dir_entry *from, const struct dir_entry *to,
	const struct stat *st, struct error *err)
{
	int code = try_link(w, from, to, st, err);

	if (code <= 0)
		return code;
	warn_about_links(w);
	return copy_file(w, from, to, err);
}

static int link_symlink(struct writer *w, const struct dir_entry *from, const struct dir_entry *to,
	const struct stat *st, struct error *err)
{
	struct meta m = {.mtime = st->st_mtim, .uid = st->st_uid, .gid = st->st_gid};
	char target[PATH_MAX];
	bool verify = false;
	int code = check_symlink(w, from, target, &verify, err);

	if (code < 0)
		return code;
	code = try_link(w, from, to, st, err);
	if (code > 0) {
		warn_about_links(w);
		code = writer_symlink_make(w, to, target, &m, err);
	}
	return code == 0 && verify ? writer_symlink_remember(w, err) : code;
}

static int make_hardlink(struct writer *w, const char *name, const char *target, struct error *err)
{
	struct dir_entry from = {.base = ""}, to = {.base = ""};
	struct stat st = {0};
	int code = writer_begin(w, name, err);

	if (code < 0)
		return code;
	if (w->tree->sink != NULL)
		return writer_sink_hardlink(w, target, err);
	code = find_target(w, target, &from, &st, err);
	if (code == 0)
		code = writer_place(w, &to, err);
	if (code < 0)
		return code;
	/* If the link exists already, it is not known whether this run has added it to the sum. */
	if (w->tree->continued)
		atomic_store(&w->tree->sum_unknown, true);
	if (S_ISREG(st.st_mode))
		return link_file(w, &from, &to, &st, err);
	if (S_ISLNK(st.st_mode))
		return link_symlink(w, &from, &to, &st, err);
	return tree_entry_refused(
		err, w->path, "it is a hard link to '%.300s', which is a directory", target);
}

int writer_hardlink(struct writer *w, const char *name, const char *target, struct error *err)
{
	uint64_t start = now_ns();
	int code = make_hardlink(w, name, target, err);

	writer_count_time(w, start);
	return code;
}
