/* SPDX-License-Identifier: MIT */
/* A large object of a directory's store, sent in parts by several threads. A part goes straight to its
 * place in the one temporary file when all before it are known, so that their sizes are; one that comes
 * too early waits in a file of its own until the end. */
#include "defer.h"
#include "store_file.h"
#include "text.h"
#include "tree.h"
#include <inttypes.h>
#include <string.h>

struct part {
	bool known; /* announced; size is valid */
	uint64_t size;
	int fd; /* its own file, -1: it is in its place */
	char *path;
};

struct file_upload {
	struct store_upload base;
	int fd;
	char *path; /* NULL once it is in its place */
	pthread_mutex_t mutex;
	/* Under the mutex. */
	struct part *parts;
	size_t n, cap;
};

int store_file_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err)
{
	struct file_upload *u = zalloc(sizeof(*u));
	int code = store_file_temporary(h, &u->path, &u->fd, err);

	(void)key;
	if (code < 0) {
		free(u);
		return code;
	}
	pthread_mutex_init(&u->mutex, NULL);
	*ret = &u->base;
	return 0;
}

static void grow_locked(struct file_upload *u, size_t n)
{
	if (n > u->cap) {
		u->cap = n > 2 * u->cap ? n : 2 * u->cap;
		u->parts = realloc(u->parts, u->cap * sizeof(*u->parts));
		if (u->parts == NULL)
			abort();
	}
	for (; u->n < n; u->n++)
		u->parts[u->n] = (struct part){.fd = -1};
}

/* Where part number begins; false while a part before it is not known. */
static bool place_of_locked(const struct file_upload *u, unsigned number, uint64_t *ret)
{
	uint64_t at = 0;

	for (unsigned i = 0; i + 1 < number; i++) {
		if (!u->parts[i].known)
			return false;
		at += u->parts[i].size;
	}
	*ret = at;
	return true;
}

static int write_aside(struct store_hand *h, struct file_upload *u, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	_free_ char *path = NULL;
	_close_ int fd = -1;
	int code = store_file_temporary(h, &path, &fd, err);

	if (code == 0)
		code = store_file_write(fd, path, bytes, len, 0, err);
	if (code < 0) {
		if (path != NULL)
			(void)unlink(path);
		return code;
	}
	pthread_mutex_lock(&u->mutex);
	u->parts[number - 1].fd = take_fd(&fd);
	u->parts[number - 1].path = take_ptr(&path);
	pthread_mutex_unlock(&u->mutex);
	return 0;
}

int store_file_upload_part(struct store_hand *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	struct file_upload *u = container_of(base, struct file_upload, base);
	uint64_t at = 0;
	bool in_place;

	pthread_mutex_lock(&u->mutex);
	grow_locked(u, number);
	u->parts[number - 1].known = true;
	u->parts[number - 1].size = len;
	in_place = place_of_locked(u, number, &at);
	pthread_mutex_unlock(&u->mutex);
	if (in_place)
		return store_file_write(u->fd, u->path, bytes, len, at, err);
	return write_aside(h, u, number, bytes, len, err);
}

static int copy(int to, int from, uint64_t at, uint64_t len)
{
	off_t out = (off_t)at, in = 0;
	char buf[65536];

	while (len > 0) {
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

		if (n > 0) {
			len -= (uint64_t)n;
			continue;
		}
		/* Not on every file system. */
		n = pread(from, buf, len < sizeof(buf) ? len : sizeof(buf), in);
		if (n > 0)
			n = pwrite(to, buf, (size_t)n, out);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		in += n;
		out += n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int gather(struct file_upload *u, struct error *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < u->n; i++) {
		const struct part *p = &u->parts[i];
		int code;

		if (!p->known)
			return error_set(err, -ERR_TRUNCATED, "part %zu of '%s' was not sent",
				i + 1, u->base.key);
		code = p->fd < 0 ? 0 : copy(u->fd, p->fd, at, p->size);
		if (code < 0)
			return disk_error(err, -code, u->fd, "write", u->path);
		at += p->size;
	}
	return 0;
}

int store_file_upload_complete(struct store_hand *h, struct store_upload *base, struct error *err)
{
	struct file_upload *u = container_of(base, struct file_upload, base);
	int code = gather(u, err);

	if (code == 0)
		code = store_file_place(h, u->fd, u->path, base->key, false, err);
	if (code == 0) {
		free(u->path);
		u->path = NULL;
	}
	return code;
}

void store_file_upload_abort(struct store_hand *h, struct store_upload *base)
{
	struct file_upload *u = container_of(base, struct file_upload, base);

	(void)h;
	if (u->path != NULL)
		(void)unlink(u->path);
	free(u->path);
	u->path = NULL;
}

void store_file_upload_free(struct store_upload *base)
{
	struct file_upload *u = container_of(base, struct file_upload, base);

	for (size_t i = 0; i < u->n; i++) {
		if (u->parts[i].fd < 0)
			continue;
		close(u->parts[i].fd);
		(void)unlink(u->parts[i].path);
		free(u->parts[i].path);
	}
	free(u->parts);
	close(u->fd);
	free(u->path);
	pthread_mutex_destroy(&u->mutex);
	free(u);
}
