/* SPDX-License-Identifier: MIT */
/* Regular files, and regular files and links that a killed run left complete. The writer's thread,
 * where nothing else is said. */
#include "disk.h"
#include "files.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files of a killed run. A file's mtime is set after all its content is written, so a file that has
 * the size and mtime of the entry is complete: the kernel that has its bytes still runs, and the
 * archive is of the same version.
 *
 * An archive may have two files of the same name, size and time. A file that this run has written
 * or accepted has a ctime that is not before the run, so the second of the two is not mistaken for
 * the first. */

bool writer_time_is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static bool is_exact(
	const struct tree *t, const struct meta *m, uint64_t size, const struct stat *st)
{
	struct timespec times[2];
	uid_t uid;
	gid_t gid;

	metadata_times(&m->mtime, times);
	(void)metadata_owner(&t->opts, m, &uid, &gid);
	return S_ISREG(st->st_mode) && (uint64_t)st->st_size == size &&
	       st->st_mtim.tv_sec == times[1].tv_sec && st->st_mtim.tv_nsec == times[1].tv_nsec &&
	       writer_time_is_before(&st->st_ctim, &t->since) &&
	       (uid == (uid_t)-1 || uid == st->st_uid) && (gid == (gid_t)-1 || gid == st->st_gid);
}

static bool find_place(struct writer *w, const char *name, struct dir_entry *ret)
{
	size_t bad_len, len;

	if (tree_path_normalise(name, w->tree->max_path, w->path, NULL) < 0 || *w->path == '\0')
		return false;
	len = tree_path_parent_len(w->path);
	ret->parent_fd = parents_get(&w->parents, w->tree, w->path, len, false, &bad_len);
	ret->base = tree_path_base(w->path);
	return ret->parent_fd >= 0;
}

/* Sets the mode or, if that is right, the mtime, and so changes the ctime. On a file system that
 * supports neither the ctime stays, and the file must be written again: false. */
static bool accept_file(const struct tree *t, const struct dir_entry *at, const struct meta *m,
	const struct stat *st)
{
	struct timespec times[2];
	struct stat now;

	metadata_times(&m->mtime, times);
	if ((st->st_mode & 07777) == metadata_mode(m) ||
		fchmodat(at->parent_fd, at->base, metadata_mode(m), 0) != 0)
		(void)!utimensat(at->parent_fd, at->base, times, AT_SYMLINK_NOFOLLOW);
	return fstatat(at->parent_fd, at->base, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !writer_time_is_before(&now.st_ctim, &t->since);
}

int writer_has(
	struct writer *w, const char *name, const struct meta *m, uint64_t size, struct error *err)
{
	struct dir_entry at;
	struct stat st;
	int code;

	if (!w->tree->continued || size == SIZE_UNKNOWN || !find_place(w, name, &at))
		return 0;
	if (fstatat(at.parent_fd, at.base, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!is_exact(w->tree, m, size, &st) || !accept_file(w->tree, &at, m, &st))
		return 0;
	code = writer_begin(w, name, err);
	if (code == 0)
		code = tree_limit_found(w, size, err);
	if (code < 0)
		return code;
	if (tree_sum_is_sparse(&st)) /* or compressed by the file system */
		atomic_store(&w->tree->sum_unknown, true);
	tree_sum_add(w, size, false, &m->mtime);
	count(&w->tree->found, 1);
	return 1;
}

char *writer_find_link(struct writer *w, const char *name, uint64_t size)
{
	char target[PATH_MAX];
	struct dir_entry at;
	ssize_t n;

	if (!w->tree->continued || size >= sizeof(target) || !find_place(w, name, &at))
		return NULL;
	n = readlinkat(at.parent_fd, at.base, target, sizeof(target));
	return n < 0 || (uint64_t)n != size ? NULL : text_format("%.*s", (int)n, target);
}

bool tree_can_continue(const struct tree *t)
{
	return t->names == NULL;
}

void tree_continue(struct tree *t, const struct timespec *since)
{
	t->since = *since;
	t->continued = true;
}

bool tree_is_continued(const struct tree *t)
{
	return t->continued;
}

uint64_t tree_found(const struct tree *t)
{
	return counted(&t->found);
}

/* Regular files. A small one costs four system calls: open, write, set the time, close. Gaps
 * between writes become holes. A file that fails half-way is removed. */

/* When this much of a file is written, the free space is compared with the rest. Its declared size
 * alone is not enough to do so earlier: the file may be mostly holes. */
#define ROOM_CHECK_BYTES (64ull << 20)

static void unlink_path(struct writer *w)
{
	size_t bad_len;
	int parent;

	parent = parents_get(
		&w->parents, w->tree, w->path, tree_path_parent_len(w->path), false, &bad_len);
	if (parent >= 0)
		unlinkat(parent, tree_path_base(w->path), 0);
}

void writer_regular_abandon(struct writer *w)
{
	if (w->tree->sink != NULL && w->file.in_sink != NULL)
		w->tree->sink->file_abandon(w->file.in_sink);
	w->file.in_sink = NULL;
	if (w->file.fd < 0)
		return;
	close(w->file.fd);
	w->file.fd = -1;
	if (!w->file.is_marker)
		unlink_path(w);
}

/* -EISDIR: the file is empty, and stands for the directory that exists there. */
static int create_locked(
	struct writer *w, const struct dir_entry *at, mode_t mode, bool empty, struct error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd, code;

	while ((fd = openat(at->parent_fd, at->base, flags, mode)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EEXIST)
			return tree_disk_error(err, errno, at->parent_fd, "create", w->path);
		if (empty && writer_marker_is_directory(w, at))
			return -EISDIR;
		code = writer_clear_place(w, at, err);
		if (code < 0)
			return code;
	}
	names_add_locked(w->tree->names, w->path, strlen(w->path));
	return fd;
}

static int create(
	struct writer *w, const struct dir_entry *at, mode_t mode, bool empty, struct error *err)
{
	int fd;

	if (empty)
		writer_marker_note(w->tree, w->path);
	names_lock(w->tree->names);
	fd = create_locked(w, at, mode, empty, err);
	names_unlock(w->tree->names);
	return fd;
}

/* Takes ownership of fd, a file at w->path, also on failure. */
static int begin_file(
	struct writer *w, int fd, const struct meta *m, uint64_t size, struct error *err)
{
	int code;

	w->file = (struct open_file){.fd = fd, .mtime = m->mtime, .size = size};
	code = metadata_apply(w, fd, m, err);
	if (code < 0)
		writer_regular_abandon(w);
	return code;
}

/* The open file of a directory marker; nothing will be written to it. */
static int open_marker(struct writer *w, const struct dir_entry *at, struct error *err)
{
	int fd = openat(at->parent_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return tree_disk_error(err, errno, at->parent_fd, "open", w->path);
	w->file = (struct open_file){.fd = fd, .is_marker = true};
	return 0;
}

int writer_regular_open(struct writer *w, const struct dir_entry *at, const struct meta *m,
	uint64_t size, struct error *err)
{
	int fd, code = size != SIZE_UNKNOWN ? tree_limit_promised(w, size, err) : 0;

	if (code < 0)
		return code;
	fd = create(w, at, metadata_mode_at_creation(m), size == 0, err);
	if (fd == -EISDIR)
		return open_marker(w, at, err);
	return fd < 0 ? fd : begin_file(w, fd, m, size, err);
}

/* Empties a hard link that was just created, for the content that follows. That is also the content
 * of the file's other names, so the link must not have become a copy. */
static int empty_link(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return tree_disk_error(err, errno, fd, "look at", w->path);
	if (!S_ISREG(st.st_mode) || st.st_nlink < 2)
		return tree_entry_refused(err, w->path,
			"it is a hard link that brings content for all its names, and the destination's file system does not take hard links");
	if (ftruncate(fd, 0) < 0)
		return tree_disk_error(err, errno, fd, "write", w->path);
	return metadata_set_mode(w, fd, metadata_mode_at_creation(m), err);
}

static int open_link(struct writer *w, const struct dir_entry *at, const struct meta *m,
	uint64_t size, struct error *err)
{
	int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int fd = openat(at->parent_fd, at->base, flags), code;

	/* The entry of its first name may have made it read-only. */
	if (fd < 0 && errno == EACCES &&
		fchmodat(at->parent_fd, at->base, S_IRUSR | S_IWUSR, 0) == 0)
		fd = openat(at->parent_fd, at->base, flags);
	if (fd < 0 && errno == ELOOP)
		return tree_entry_refused(err, w->path, "it brings content for a symbolic link");
	if (fd < 0)
		return tree_disk_error(err, errno, at->parent_fd, "open", w->path);
	code = empty_link(w, fd, m, err);
	if (code < 0) {
		close(fd);
		return code;
	}
	return begin_file(w, fd, m, size, err);
}

/* Checks a part against the end of the last one and the declared size. */
static int check_offset(const struct writer *w, uint64_t offset, size_t len, struct error *err)
{
	const struct open_file *f = &w->file;

	if (offset < f->end)
		return error_set(err, -ERR_FORMAT, "the parts of '%.300s' overlap", w->path);
	if (f->size != SIZE_UNKNOWN && (len > f->size || offset > f->size - len))
		return error_set(err, -ERR_FORMAT,
			"'%.300s' is longer than the %llu bytes that the archive declares", w->path,
			(unsigned long long)f->size);
	if (offset > (uint64_t)INT64_MAX - len)
		return error_set(err, -EFBIG, "'%.300s' is larger than any file can be", w->path);
	return 0;
}

static int check_room(struct writer *w, struct error *err)
{
	struct open_file *f = &w->file;
	int code;

	if (f->room_checked || f->has_gap || f->end < ROOM_CHECK_BYTES || f->size == SIZE_UNKNOWN)
		return 0;
	f->room_checked = true;
	code = tree_check_room(w->tree, f->size - f->end, 0, err);
	if (code < 0)
		error_prefix(err, "cannot write the rest of '%.300s'", w->path);
	return code;
}

static int put_part(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	const struct open_file *f = &w->file;
	int code;

	if (w->tree->sink != NULL)
		return w->tree->sink->file_write(f->in_sink, offset, bytes, len, err);
	code = files_write_all(f->fd, bytes, len, offset);
	return code < 0 ? tree_disk_error(err, -code, f->fd, "write", w->path) : 0;
}

static int write_part(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	struct open_file *f = &w->file;
	int code;

	if (cancel_requested(w->tree->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	code = check_offset(w, offset, len, err);
	if (code == 0)
		code = tree_limit_hole(w, offset - f->end, err);
	if (code == 0)
		code = tree_limit_bytes(w, len, err);
	if (code == 0)
		code = put_part(w, offset, bytes, len, err);
	if (code < 0)
		return code;
	f->has_gap |= offset > f->end;
	f->end = offset + len;
	return check_room(w, err);
}

int writer_regular_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	int code = len == 0 ? 0 : write_part(w, offset, bytes, len, err);

	if (code < 0)
		writer_regular_abandon(w);
	return code;
}

/* Extends the file to its declared size: a hole at the end is never written. */
static int extend_to_size(struct writer *w, struct error *err)
{
	struct open_file *f = &w->file;
	int code;

	if (f->size == SIZE_UNKNOWN || f->end == f->size)
		return 0;
	if (f->size > INT64_MAX)
		return error_set(err, -EFBIG, "'%.300s' is larger than any file can be", w->path);
	code = tree_limit_hole(w, f->size - f->end, err);
	if (code < 0)
		return code;
	if (ftruncate(f->fd, (off_t)f->size) < 0)
		return tree_disk_error(err, errno, f->fd, "write", w->path);
	f->has_gap = true;
	return 0;
}

/* A file with holes is written to the disk: after a crash of the machine, missing bytes could not
 * be told from one more hole. */
static int sync_if_sparse(const struct writer *w, struct error *err)
{
	if (!w->file.has_gap || disk_sync(w->file.fd, true) == 0)
		return 0;
	return tree_disk_error(err, errno, w->file.fd, "write", w->path);
}

static int finish_file(struct writer *w, struct error *err)
{
	int code = extend_to_size(w, err);

	if (code == 0)
		code = sync_if_sparse(w, err);
	return code < 0 ? code : metadata_set_mtime(w, w->file.fd, &w->file.mtime, err);
}

int writer_regular_close(struct writer *w, struct error *err)
{
	int code, fd = w->file.fd;

	if (w->tree->sink != NULL)
		return writer_sink_close(w, err);
	if (w->file.is_marker) {
		writer_regular_abandon(w);
		return 0;
	}
	code = finish_file(w, err);
	w->file.fd = -1;
	/* Network file systems may report a full disk only here. */
	if (close(fd) < 0 && errno != EINTR && code == 0)
		code = tree_disk_error(err, errno, w->tree->root_fd, "write", w->path);
	if (code < 0)
		unlink_path(w);
	else
		tree_sum_add(w,
			w->file.has_gap && w->file.size != SIZE_UNKNOWN ? w->file.size
									: w->file.end,
			w->file.has_gap, &w->file.mtime);
	return code;
}

static int open_entry(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err)
{
	struct dir_entry at;
	int code = writer_begin(w, name, err);

	if (code < 0)
		return code;
	if (w->tree->sink != NULL)
		return writer_sink_open(w, m, size, existing, err);
	code = writer_place(w, &at, err);
	if (code < 0)
		return code;
	if (existing)
		atomic_store(&w->tree->sum_unknown, true);
	return existing ? open_link(w, &at, m, size, err)
			: writer_regular_open(w, &at, m, size, err);
}

int writer_file_open(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = open_entry(w, name, m, size, existing, err);

	writer_count_time(w, start_ns);
	return code;
}

int writer_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = writer_regular_write(w, offset, bytes, len, err);

	writer_count_time(w, start_ns);
	return code;
}

int writer_file_close(struct writer *w, struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = writer_regular_close(w, err);

	writer_count_time(w, start_ns);
	return code;
}

int writer_file(struct writer *w, const char *name, const struct meta *m,
	const struct slice *content, struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = open_entry(w, name, m, content->len, false, err);

	if (code == 0)
		code = writer_regular_write(w, 0, content->data, content->len, err);
	if (code == 0)
		code = writer_regular_close(w, err);
	writer_count_time(w, start_ns);
	return code;
}
