/* SPDX-License-Identifier: MIT */
/* Creates files that are like a file outside of the tree: they share its blocks, are copies, or are
 * hard links to it. Clones and copies are opened and closed as any new file, so limits and
 * cancellation apply, and they are removed on failure. The writer's thread. */
#include "files.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes copied between two checks for cancellation. */
#define PIECE_BYTES ((size_t)16 << 20)

/* A file of at most this size is read and written as a whole: finding its holes would cost as
 * much. */
#define SMALL_BYTES ((size_t)64 << 10)

static int source_changed(const struct writer *w, struct error *err)
{
	return error_set(err, -ERR_CHANGED, "'%.300s' changed while it was copied", w->path);
}

static int share_blocks(struct writer *w, int from_fd, uint64_t size, struct error *err)
{
	int code = tree_limit_bytes(w, size, err);

	if (code < 0)
		return code;
	if (size > 0 && ioctl(w->file.fd, FICLONE, from_fd) != 0)
		return tree_disk_error(err, errno, w->file.fd, "share the blocks of", w->path);
	w->file.end = size;
	return 0;
}

static int copy_small(struct writer *w, int from_fd, size_t size, struct error *err)
{
	char buffer[SMALL_BYTES];
	ssize_t n = files_read_at(from_fd, buffer, size, 0);

	if (n < 0)
		return tree_disk_error(err, (int)-n, from_fd, "read", w->path);
	if ((size_t)n < size)
		return source_changed(w, err);
	return writer_regular_write(w, 0, buffer, size, err);
}

/* Returns 1 if copy_file_range() fails for a reason of its own, as with older kernels and some file
 * systems: the bytes from *at on must then be read and written. */
static int copy_piece(struct writer *w, int from_fd, off_t *at, size_t len, struct error *err)
{
	off_t to = *at;
	ssize_t n;

	if (cancel_requested(w->tree->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	n = copy_file_range(from_fd, at, w->file.fd, &to, len, 0);
	if (n == 0)
		return source_changed(w, err);
	if (n < 0 && errno != EINTR)
		return errno == ENOSPC || errno == EDQUOT || errno == EIO
			       ? tree_disk_error(err, errno, w->file.fd, "write", w->path)
			       : 1;
	w->file.end = (uint64_t)*at;
	return n < 0 ? 0 : tree_limit_bytes(w, (uint64_t)n, err);
}

static int copy_large(struct writer *w, int from_fd, off_t size, struct error *err)
{
	off_t at = 0;
	int code = 0;

	while (code == 0 && at < size) {
		off_t left = size - at;

		code = copy_piece(w, from_fd, &at,
			left < (off_t)PIECE_BYTES ? (size_t)left : PIECE_BYTES, err);
	}
	return code == 1 ? writer_copy_content(w, from_fd, at, size, err) : code;
}

static int transfer_content(
	struct writer *w, const struct clone_source *from, const struct stat *st, struct error *err)
{
	bool holes = (uint64_t)st->st_blocks * 512 < from->size;

	if (from->way == CLONE_SHARE) {
		w->file.has_gap = holes;
		return share_blocks(w, from->fd, from->size, err);
	}
	if (from->size <= SMALL_BYTES)
		return copy_small(w, from->fd, (size_t)from->size, err);
	return holes ? writer_copy_content(w, from->fd, 0, st->st_size, err)
		     : copy_large(w, from->fd, st->st_size, err);
}

static int clone_file(struct writer *w, const char *name, const struct meta *m,
	const struct clone_source *from, const struct stat *st, struct error *err)
{
	struct dir_entry at;
	int code;

	if ((uint64_t)st->st_size != from->size)
		return error_set(err, -ERR_CHANGED, "'%.300s' has %lld bytes instead of %llu", name,
			(long long)st->st_size, (unsigned long long)from->size);
	code = writer_begin(w, name, err);
	if (code == 0)
		code = writer_place(w, &at, err);
	if (code == 0)
		code = writer_regular_open(w, &at, m, from->size, err);
	if (code < 0)
		return code;
	code = transfer_content(w, from, st, err);
	if (code == 0)
		return writer_regular_close(w, err);
	writer_regular_abandon(w);
	return code;
}

static int clone_any(struct writer *w, const char *name, const struct meta *m,
	const struct clone_source *from, struct error *err)
{
	struct meta with = *m;
	struct attributes attributes;
	struct stat st;
	int code;

	if (fstat(from->fd, &st) < 0)
		return tree_disk_error(err, errno, from->fd, "look at", name);
	writer_attributes_read(from->fd, &attributes);
	with.xattrs = attributes.v;
	with.n_xattrs = attributes.n;
	code = S_ISDIR(st.st_mode) ? writer_dir(w, name, &with, err)
				   : clone_file(w, name, &with, from, &st, err);
	writer_attributes_done(&attributes);
	return code;
}

int writer_clone(struct writer *w, const char *name, const struct meta *m,
	const struct clone_source *from, struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = clone_any(w, name, m, from, err);

	writer_count_time(w, start_ns);
	return code;
}

static int link_outside_file(struct writer *w, const char *name, int from_fd, const char *from,
	uint64_t size, struct error *err)
{
	struct dir_entry at;
	int code = writer_begin(w, name, err);

	if (code == 0)
		code = tree_limit_bytes(w, size, err);
	if (code == 0)
		code = writer_place(w, &at, err);
	if (code != 0)
		return code;
	names_lock(w->tree->names);
	code = linkat(from_fd, from, at.parent_fd, at.base, 0) == 0 ? 0 : -errno;
	if (code == 0)
		names_add_locked(w->tree->names, w->path, strlen(w->path));
	names_unlock(w->tree->names);
	if (code == 0) {
		/* Whether the file has holes is not known. */
		atomic_store(&w->tree->sum_unknown, true);
		return 0;
	}
	if (code == -EEXIST)
		return names_refuse(w->tree, w->path, strlen(w->path), err);
	return tree_disk_error(err, -code, at.parent_fd, "create hard link", w->path);
}

int writer_adopt(struct writer *w, const char *name, int from_fd, const char *from, uint64_t size,
	struct error *err)
{
	uint64_t start_ns = now_ns();
	int code = link_outside_file(w, name, from_fd, from, size, err);

	writer_count_time(w, start_ns);
	return code;
}
