/* SPDX-License-Identifier: MIT */
/* Content of files beneath a directory. What changes while it is read is found by size and times, before and
 * after. Holes are not read. */
#include "create_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int file_open(struct hand *h, const struct item *i, struct content *ret, struct error *err)
{
	const struct creation *c = h->creation;
	int fd = openat(c->root_fd, i->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return item_changed(c, i, err);
	if (fd < 0)
		return error_set(err, -errno, "read '%s' in %s: %m", i->path, c->where);
	*ret = (struct content){.hand = h, .item = i, .fd = fd};
	return 0;
}

/* How many of len bytes at offset are in a hole. */
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
	size_t done = hole_len(c, offset, len);

	memset(buf, 0, done);
	while (done < len) {
		ssize_t n = pread(c->fd, (char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "read '%s' in %s: %m", c->item->path,
				c->hand->creation->where);
		if (n == 0)
			return item_changed(c->hand->creation, c->item, err);
		done += (size_t)n;
	}
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int file_check(struct content *c, struct error *err)
{
	const struct item *i = c->item;
	struct stat st;

	if (fstat(c->fd, &st) < 0)
		return error_set(
			err, -errno, "read '%s' in %s: %m", i->path, c->hand->creation->where);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != i->size ||
		!same_time(&st.st_mtim, &i->mtime) || !same_time(&st.st_ctim, &i->ctime))
		return item_changed(c->hand->creation, i, err);
	return 0;
}

static void file_close(struct content *c)
{
	close(c->fd);
}

const struct contents contents_of_files = {
	.open = file_open, .read = file_read, .check = file_check, .close = file_close};
