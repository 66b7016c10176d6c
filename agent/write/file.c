/* SPDX-License-Identifier: MIT */
/* Regular files. A small one costs four system calls: open, write, set the time, close. Gaps
 * between writes become holes. A file that fails half-way is taken away. */
#include "metadata.h"
#include "path.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* When this much of a file is there, it is worth a look whether the rest will fit. Its declared
 * size alone says nothing: it may be mostly holes. */
#define ROOM_CHECK_BYTES (64ull << 20)

static void take_away(struct writer *w)
{
	size_t bad_len;
	int parent;

	parent = parents_get(
		&w->parents, w->tree, w->path, path_parent_len(w->path), false, &bad_len);
	if (parent >= 0)
		unlinkat(parent, path_base(w->path), 0);
}

void file_abandon(struct writer *w)
{
	if (w->file.fd < 0)
		return;
	close(w->file.fd);
	w->file.fd = -1;
	take_away(w);
}

static int create(struct writer *w, const struct place *at, mode_t mode, struct error *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd, r;

	while ((fd = openat(at->parent_fd, at->base, flags, mode)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EEXIST)
			return disk_error(err, errno, at->parent_fd, "create", w->path);
		if ((r = writer_clear_place(w, at, err)) < 0)
			return r;
	}
	return fd;
}

/* Takes over fd, a file at w->path. */
static int begin(struct writer *w, int fd, const struct meta *m, uint64_t size, struct error *err)
{
	int r;

	w->file = (struct open_file){.fd = fd, .mtime = m->mtime, .size = size};
	if ((r = metadata_apply(w, fd, m, err)) < 0)
		file_abandon(w);
	return r;
}

int file_open(struct writer *w, const struct place *at, const struct meta *m, uint64_t size,
	struct error *err)
{
	int fd;

	if (size != SIZE_UNKNOWN && (fd = limit_promised(w, size, err)) < 0)
		return fd;
	fd = create(w, at, metadata_mode_at_creation(m), err);
	return fd < 0 ? fd : begin(w, fd, m, size, err);
}

/* Empties a hard link just made, for the content that follows. It is the other names' content too,
 * and so must not be a copy. */
static int empty_link(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return disk_error(err, errno, fd, "look at", w->path);
	if (!S_ISREG(st.st_mode) || st.st_nlink < 2)
		return entry_refused(err, w->path,
			"it is a hard link that brings content for all its "
			"names, and the destination's file system does not take hard links");
	if (ftruncate(fd, 0) < 0 || fchmod(fd, metadata_mode_at_creation(m)) < 0)
		return disk_error(err, errno, fd, "write", w->path);
	return 0;
}

static int open_link(struct writer *w, const struct place *at, const struct meta *m, uint64_t size,
	struct error *err)
{
	int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int fd = openat(at->parent_fd, at->base, flags), r;

	/* Its first name may have made it read-only. */
	if (fd < 0 && errno == EACCES &&
		fchmodat(at->parent_fd, at->base, S_IRUSR | S_IWUSR, 0) == 0)
		fd = openat(at->parent_fd, at->base, flags);
	if (fd < 0 && errno == ELOOP)
		return entry_refused(err, w->path, "it brings content for a symbolic link");
	if (fd < 0)
		return disk_error(err, errno, at->parent_fd, "open", w->path);
	if ((r = empty_link(w, fd, m, err)) < 0) {
		close(fd);
		return r;
	}
	return begin(w, fd, m, size, err);
}

static int pwrite_all(int fd, const uint8_t *p, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			offset += (size_t)n;
		}
	}
	return 0;
}

int file_check_offset(const struct writer *w, uint64_t offset, size_t len, struct error *err)
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
	int r;

	if (f->room_checked || f->has_gap || f->end < ROOM_CHECK_BYTES || f->size == SIZE_UNKNOWN)
		return 0;
	f->room_checked = true;
	if ((r = tree_check_room(w->tree, f->size - f->end, 0, err)) < 0)
		error_prefix(err, "cannot write the rest of '%.300s'", w->path);
	return r;
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
	if ((r = pwrite_all(f->fd, bytes, len, offset)) < 0)
		return disk_error(err, -r, f->fd, "write", w->path);
	f->has_gap |= offset > f->end;
	f->end = offset + len;
	return check_room(w, err);
}

int file_write(struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	int r;

	if (w->tree->sink != NULL)
		return sink_file_write(w, offset, bytes, len, err);
	r = len == 0 ? 0 : write_part(w, offset, bytes, len, err);
	if (r < 0)
		file_abandon(w);
	return r;
}

/* A hole at the end is not written by anyone. */
static int fill_up(struct writer *w, struct error *err)
{
	struct open_file *f = &w->file;
	int r;

	if (f->size == SIZE_UNKNOWN || f->end == f->size)
		return 0;
	if (f->size > INT64_MAX)
		return error_set(err, -EFBIG, "'%.300s' is larger than any file can be", w->path);
	if ((r = limit_bytes(w, f->size - f->end, err)) < 0)
		return r;
	if (ftruncate(f->fd, (off_t)f->size) < 0)
		return disk_error(err, errno, f->fd, "write", w->path);
	f->has_gap = true;
	return 0;
}

/* After a crash of the machine, what the disk lacks would look like one more hole. */
static int secure(const struct writer *w, struct error *err)
{
	if (!w->file.has_gap || fdatasync(w->file.fd) == 0 || errno == EINVAL || errno == EROFS)
		return 0;
	return disk_error(err, errno, w->file.fd, "write", w->path);
}

static int finish(struct writer *w, struct error *err)
{
	struct timespec times[2];
	int r = fill_up(w, err);

	if (r == 0)
		r = secure(w, err);
	if (r < 0)
		return r;
	metadata_times(&w->file.mtime, times);
	if (futimens(w->file.fd, times) < 0)
		return disk_error(err, errno, w->file.fd, "set the time of", w->path);
	return 0;
}

int file_close(struct writer *w, struct error *err)
{
	int r, fd = w->file.fd;

	if (w->tree->sink != NULL)
		return sink_file_close(w, err);
	r = finish(w, err);
	w->file.fd = -1;
	/* Network file systems report here that the disk was full. */
	if (close(fd) < 0 && errno != EINTR && r == 0)
		r = disk_error(err, errno, w->tree->root_fd, "write", w->path);
	if (r < 0)
		take_away(w);
	else
		file_sum_add(w,
			w->file.has_gap && w->file.size != SIZE_UNKNOWN ? w->file.size
									: w->file.end,
			w->file.has_gap);
	return r;
}

static int start(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err)
{
	struct place at;
	int r;

	if ((r = writer_begin(w, name, err)) < 0)
		return r;
	if (w->tree->sink != NULL)
		return sink_file_open(w, m, size, existing, err);
	if ((r = writer_place(w, &at, err)) < 0)
		return r;
	if (existing)
		atomic_store(&w->tree->sum_unknown, true);
	return existing ? open_link(w, &at, m, size, err) : file_open(w, &at, m, size, err);
}

int writer_file_open(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err)
{
	uint64_t start_ns = now_ns();
	int r = start(w, name, m, size, existing, err);

	writer_spent(w, start_ns);
	return r;
}

int writer_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	uint64_t start_ns = now_ns();
	int r = file_write(w, offset, bytes, len, err);

	writer_spent(w, start_ns);
	return r;
}

int writer_file_close(struct writer *w, struct error *err)
{
	uint64_t start_ns = now_ns();
	int r = file_close(w, err);

	writer_spent(w, start_ns);
	return r;
}

int writer_file(struct writer *w, const char *name, const struct meta *m,
	const struct slice *content, struct error *err)
{
	uint64_t start_ns = now_ns();
	int r = start(w, name, m, content->len, false, err);

	if (r == 0)
		r = file_write(w, 0, content->data, content->len, err);
	if (r == 0)
		r = file_close(w, err);
	writer_spent(w, start_ns);
	return r;
}
