/* SPDX-License-Identifier: MIT */
/* Reads the content of items, on the workers.
 *
 * Files below a directory: a change during the read is detected by size and times, which are
 * checked before and after it. Holes are not read. */
#include "create_private.h"
#include "defer.h"
#include "files.h"
#include "open_beneath.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int set_changed(const struct creation *c, const struct create_item *i, struct error *err)
{
	return error_set(err, -ERR_CHANGED,
		"'%s' in %s changed while it was read: a version must be of one moment; create it again when nothing writes there (what was sent is not sent again)",
		i->path, c->where);
}

static bool is_absence(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int file_check(struct content *c, struct error *err)
{
	const struct create_item *i = c->item;
	struct stat st;

	if (fstat(c->fd, &st) < 0)
		return error_set(
			err, -errno, "read '%s' in %s: %m", i->path, c->worker->creation->where);
	if (!S_ISREG(st.st_mode) || st.st_dev != i->dev ||
		(i->through_link && st.st_ino != i->ino) || (uint64_t)st.st_size != i->size ||
		!same_time(&st.st_mtim, &i->mtime) || !same_time(&st.st_ctim, &i->ctime))
		return set_changed(c->worker->creation, i, err);
	return 0;
}

/* If the walk followed no link to this file, then a link that was put into the path since is not
 * followed. If it followed some, file_check() makes sure that the file is still the same. It
 * compares inode numbers in this case only, because some file systems (FUSE) change them. */
static int file_open(
	struct worker *worker, const struct create_item *i, struct content *ret, struct error *err)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	const struct creation *c = worker->creation;
	int fd = i->through_link ? openat(c->root_fd, i->path, flags)
				 : open_beneath(c->root_fd, i->path, flags);
	int code;

	if (fd < 0 && !i->through_link)
		errno = -fd;
	if (fd < 0 && is_absence(errno))
		return set_changed(c, i, err);
	if (fd < 0)
		return error_set(err, -errno, "read '%s' in %s: %m", i->path, c->where);
	*ret = (struct content){.worker = worker, .item = i, .fd = fd};
	code = file_check(ret, err);
	if (code < 0)
		close(fd);
	return code;
}

/* How many of the len bytes at offset lie in a hole. */
static size_t hole_len(const struct content *c, uint64_t offset, size_t len)
{
	off_t data;

	if (!c->item->sparse)
		return 0;
	data = lseek(c->fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? len : 0;
	return (uint64_t)data - offset < len ? (size_t)((uint64_t)data - offset) : len;
}

static int file_read(struct content *c, uint64_t offset, void *buf, size_t len, struct error *err)
{
	size_t hole = hole_len(c, offset, len);
	ssize_t n;

	memset(buf, 0, hole);
	n = files_read_at(c->fd, (char *)buf + hole, len - hole, offset + hole);
	if (n < 0)
		return error_set(err, (int)n, "read '%s' in %s: %m", c->item->path,
			c->worker->creation->where);
	if ((size_t)n < len - hole)
		return set_changed(c->worker->creation, c->item, err);
	return 0;
}

static void file_close(struct content *c)
{
	close(c->fd);
}

const struct content_ops content_from_files = {
	.open = file_open, .read = file_read, .check = file_check, .close = file_close};

/* S3 objects: each range that is read must belong to the version of the object that was listed. */

static char *key_of(const struct worker *worker, const struct create_item *i)
{
	return text_format("%s%s", worker->creation->place.key, i->path);
}

static int s3_content_open(
	struct worker *worker, const struct create_item *i, struct content *ret, struct error *err)
{
	const struct create_options *o = worker->creation->opts;
	int code = worker->s3 == NULL ? s3_client_new(o->s3, o->cancel, &worker->s3, err) : 0;

	*ret = (struct content){.worker = worker, .item = i, .fd = -1};
	return code;
}

static int s3_content_read(
	struct content *c, uint64_t offset, void *buf, size_t len, struct error *err)
{
	const struct creation *creation = c->worker->creation;
	_free_ char *key = key_of(c->worker, c->item);
	struct s3_object listed = {.size = c->item->size};
	size_t got;
	int code;

	snprintf(listed.etag, sizeof(listed.etag), "%s", c->item->etag);
	code = s3_get(c->worker->s3, creation->place.bucket, key, offset, buf, len, &listed, &got,
		NULL, err);
	if (code == -ERR_CHANGED || code == -ENOENT || (code == 0 && got < len))
		return set_changed(creation, c->item, err);
	return code;
}

static int s3_content_check(struct content *c, struct error *err)
{
	(void)c;
	(void)err;
	return 0;
}

static void s3_content_close(struct content *c)
{
	(void)c;
}

const struct content_ops content_from_s3 = {.open = s3_content_open,
	.read = s3_content_read,
	.check = s3_content_check,
	.close = s3_content_close};
