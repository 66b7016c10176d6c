/* SPDX-License-Identifier: MIT */
/* A second copy of a file of the tree, where a second name was wanted: content with its holes,
 * mode, mtime, owner and user.* attributes. It goes the way of every new file, and so is limited,
 * cancelled and taken away on failure as one. */
#include "defer.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define COPY_BYTES ((size_t)256 << 10)

void attributes_done(struct attributes *a)
{
	for (size_t i = 0; i < a->n; i++)
		free((void *)a->v[i].value);
	free(a->v);
	strings_done(&a->names);
}

static void read_one(int fd, const char *name, struct xattr *ret)
{
	ssize_t n = fgetxattr(fd, name, NULL, 0);
	void *value = zalloc(n > 0 ? (size_t)n : 1);

	if (n > 0)
		n = fgetxattr(fd, name, value, (size_t)n);
	*ret = (struct xattr){.name = name, .value = value, .len = n > 0 ? (size_t)n : 0};
}

void attributes_read(int fd, struct attributes *ret)
{
	_free_ char *list = zalloc(XATTR_LIST_MAX + 1);
	ssize_t n = flistxattr(fd, list, XATTR_LIST_MAX);

	*ret = (struct attributes){0};
	for (const char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		if (strncmp(p, "user.", 5) == 0)
			strings_add(&ret->names, p);
	}
	if (ret->names.n == 0)
		return;
	ret->v = zalloc(ret->names.n * sizeof(*ret->v));
	for (; ret->n < ret->names.n; ret->n++)
		read_one(fd, ret->names.v[ret->n], &ret->v[ret->n]);
}

/* Copies from one offset to another; a file that ends before is as long as it is. */
static int copy_range(struct writer *w, int fd, uint64_t from, uint64_t to, struct error *err)
{
	_free_ char *buffer = zalloc(COPY_BYTES);
	ssize_t n = 1;
	int r = 0;

	while (from < to && n > 0 && r == 0) {
		n = pread(fd, buffer, to - from < COPY_BYTES ? to - from : COPY_BYTES, (off_t)from);
		if (n < 0)
			return disk_error(err, errno, fd, "read", w->target);
		r = file_write(w, from, buffer, (size_t)n, err);
		from += (uint64_t)n;
	}
	return r;
}

int copy_content(struct writer *w, int fd, off_t size, struct error *err)
{
	off_t data = 0, hole = 0;
	int r = 0;

	while (r == 0 && hole < size && (data = lseek(fd, hole, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			hole = size;
		r = copy_range(w, fd, (uint64_t)data, (uint64_t)hole, err);
	}
	if (data < 0 && errno != ENXIO) /* a file system that does not tell about holes */
		r = copy_range(w, fd, 0, (uint64_t)size, err);
	return r;
}

int copy_file(struct writer *w, const struct place *from, const struct place *to, struct error *err)
{
	_close_ int fd = openat(from->parent_fd, from->base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct attributes attributes;
	struct stat st;
	struct meta m;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return disk_error(err, errno, from->parent_fd, "copy", w->target);
	attributes_read(fd, &attributes);
	m = (struct meta){
		.mode = st.st_mode, .mtime = st.st_mtim, .uid = st.st_uid, .gid = st.st_gid};
	m.xattrs = attributes.v;
	m.n_xattrs = attributes.n;
	r = file_open(w, to, &m, (uint64_t)st.st_size, err);
	attributes_done(&attributes);
	if (r < 0)
		return r;
	if ((r = copy_content(w, fd, st.st_size, err)) < 0) {
		file_abandon(w);
		return r;
	}
	return file_close(w, err);
}
