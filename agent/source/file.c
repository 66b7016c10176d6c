/* SPDX-License-Identifier: MIT */
/* file:// URLs and plain paths: regular files, which can be read at any offset, and pipes, which
 * cannot. Worker threads. Reads into a small pool of its own, which is not charged to the
 * budget. */
#include "block.h"
#include "defer.h"
#include "files.h"
#include "source_private.h"
#include "text.h"
#include "url.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	BLOCK_BYTES = 512 * 1024,
	BLOCKS = 4,
	CANCEL_POLL_MS = 50 /* how often a read from a silent pipe checks for a cancel */
};

struct file_object {
	struct object base;
	struct reader reader;
	char *name;
	int fd;
	uint64_t position;
	struct block_pool *pool;
	struct cancel *cancel;
	struct progress *progress;
};

/* The date as HTTP prints it, followed by nanoseconds and inode: they distinguish a file that was
 * written twice within a second, and one that was replaced by another of the same date and size. */
static struct identity identity_of_stat(const struct stat *st)
{
	struct identity id = {.size = (uint64_t)st->st_size};
	char date[32];

	snprintf(id.last_modified, sizeof(id.last_modified), "%s; %ld ns; %ju",
		units_print_http_date(st->st_mtime, date), st->st_mtim.tv_nsec,
		(uintmax_t)st->st_ino);
	return id;
}

static int set_changed(const struct file_object *f, struct error *err)
{
	return error_set(err, -ERR_CHANGED, "%s changed while it was read", f->name);
}

/* At the end of the stream: fails if the file is not the version that was opened. */
static int check_end(const struct file_object *f, struct error *err)
{
	struct identity now;
	struct stat st;

	if (!f->base.seekable)
		return 0;
	if (fstat(f->fd, &st) < 0)
		return error_set(err, -errno, "%s: stat: %m", f->name);
	now = identity_of_stat(&st);
	return object_identity_same(&now, &f->base.identity) ? 0 : set_changed(f, err);
}

/* Waits until the pipe has bytes to read, or its writer has closed it. */
static int await_pipe(const struct file_object *f, struct error *err)
{
	struct pollfd p = {.fd = f->fd, .events = POLLIN};

	if (f->base.seekable)
		return 0;
	for (;;) {
		int n = poll(&p, 1, CANCEL_POLL_MS);

		if (cancel_requested(f->cancel))
			return error_set(err, -ECANCELED, "%s: cancelled", f->name);
		if (n < 0 && errno != EINTR)
			return error_set(err, -errno, "%s: poll: %m", f->name);
		if (n > 0)
			return 0;
	}
}

static ssize_t read_some(struct file_object *f, void *buf, size_t len, struct error *err)
{
	int code = await_pipe(f, err);
	ssize_t n = -1;

	while (code == 0 && (n = read(f->fd, buf, len)) < 0) {
		if (errno == EAGAIN)
			code = await_pipe(f, err);
		else if (errno != EINTR)
			return error_set(err, -errno, "read %s: %m", f->name);
	}
	return code < 0 ? code : n;
}

static int deliver(struct file_object *f, struct block *b, size_t len, struct slice *ret)
{
	f->position += len;
	if (f->progress != NULL) {
		count(&f->progress->received, len);
		count(&f->progress->consumed, len);
	}
	*ret = (struct slice){.data = b->data, .len = len, .owner = b};
	return 1;
}

static int file_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct file_object *f = container_of(r, struct file_object, reader);
	struct block *b = block_pool_take(f->pool, f->cancel);
	ssize_t n;

	if (b == NULL)
		return cancel_requested(f->cancel)
			       ? error_set(err, -ECANCELED, "%s: cancelled", f->name)
			       : error_set(err, -ENOMEM, "%s: out of memory", f->name);
	n = read_some(f, b->data, b->capacity, err);
	if (n > 0 && f->position + (uint64_t)n <= f->base.identity.size)
		return deliver(f, b, (size_t)n, ret);
	block_unref(b);
	if (n > 0)
		return set_changed(f, err); /* the file has grown */
	return n < 0 ? (int)n : check_end(f, err);
}

static int64_t file_skip(struct reader *r, uint64_t n, struct error *err)
{
	struct file_object *f = container_of(r, struct file_object, reader);
	uint64_t left = f->base.identity.size - f->position;

	if (!f->base.seekable)
		return 0;
	if (n > left)
		n = left;
	if (lseek(f->fd, (off_t)(f->position + n), SEEK_SET) < 0)
		return error_set(err, -errno, "seek in %s: %m", f->name);
	f->position += n;
	if (f->progress != NULL)
		count(&f->progress->consumed, n);
	return (int64_t)n;
}

/* The reader is part of its object, which frees it. */
static void file_reader_close(struct reader *r)
{
	(void)r;
}

static struct reader *file_stream(struct object *o)
{
	return &container_of(o, struct file_object, base)->reader;
}

static int file_read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	struct file_object *f = container_of(o, struct file_object, base);
	ssize_t n;

	if (offset > o->identity.size || len > o->identity.size - offset)
		return error_set(err, -ERR_TRUNCATED,
			"%s: %zu bytes at %" PRIu64 " are wanted, but it ends at %" PRIu64, f->name,
			len, offset, o->identity.size);
	n = files_read_at(f->fd, buf, len, offset);
	if (n < 0)
		return error_set(err, (int)n, "read %s: %m", f->name);
	return (size_t)n == len ? 0 : set_changed(f, err);
}

static void file_close(struct object *o)
{
	struct file_object *f = container_of(o, struct file_object, base);

	block_pool_free(f->pool);
	close(f->fd);
	free(f->name);
	free(f);
}

/* Does not wait for a pipe's writer: reading does, where a cancel is noticed. */
static int open_path(const char *path, const char *name, struct stat *ret_st, struct error *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == ENOENT && url_looks_like_host(path))
		return error_set(err, -ENOENT,
			"open %s: %m; if it is a host's, write https:// before it", name);
	if (fd < 0)
		return error_set(err, -errno, "open %s: %m", name);
	if (fstat(fd, ret_st) < 0)
		return error_set(err, -errno, "%s: stat: %m", name);
	if (S_ISDIR(ret_st->st_mode))
		return error_set(err, -EISDIR,
			"%s is a directory; a source is one file, such as an archive of that directory",
			name);
	if (S_ISREG(ret_st->st_mode))
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return take_fd(&fd);
}

static struct file_object *file_new(const struct source_env *env, const struct source_request *req,
	int fd, const struct stat *st)
{
	static const struct object_ops ops = {
		.stream = file_stream, .read_at = file_read_at, .close = file_close};
	static const struct reader_ops reader_ops = {
		.next = file_next, .skip = file_skip, .close = file_reader_close};
	struct file_object *f = zalloc(sizeof(*f));

	f->name = url_display(req->url);
	f->fd = fd;
	f->pool = block_pool_new(BLOCK_BYTES, BLOCKS, NULL, NULL);
	f->cancel = env->cancel;
	f->progress = req->progress;
	f->base = (struct object){.ops = &ops, .name = f->name, .identity.size = SIZE_UNKNOWN};
	f->base.seekable = S_ISREG(st->st_mode);
	reader_init(&f->reader, &reader_ops, f->name);
	if (!f->base.seekable)
		return f;
	f->base.identity = identity_of_stat(st);
	f->base.not_modified =
		req->have != NULL && object_identity_same(req->have, &f->base.identity);
	if (f->progress != NULL)
		atomic_store(&f->progress->total, f->base.identity.size);
	return f;
}

static int file_check(const char *url, struct error *err)
{
	_free_ char *decoded = url_file_path(url);
	_free_ char *shown = url_display(url);

	if (decoded == NULL || decoded[0] != '/')
		return error_set(err, -ERR_USAGE,
			"source '%s' does not name a file of this machine; write file:///absolute/path",
			shown);
	return 0;
}

static int file_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err)
{
	_free_ char *path =
		url_scheme_len(req->url) > 0 ? url_file_path(req->url) : text_copy(req->url);
	_free_ char *name = url_display(req->url);
	struct stat st = {0};
	int fd = open_path(path, name, &st, err);

	if (fd < 0)
		return fd;
	*ret = &file_new(env, req, fd, &st)->base;
	return 0;
}

const struct source_scheme source_file = {
	.prefix = "file://", .check = file_check, .open = file_source_open};
const struct source_scheme source_path = {.prefix = "", .open = file_source_open};
