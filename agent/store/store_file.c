/* SPDX-License-Identifier: MIT */
/* A store in a directory: an object is a file, named by its key. Directories come and go with what is in them. */
#include "store_file.h"
#include "defer.h"
#include "source.h"
#include "text.h"
#include "tree.h"
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

const char *store_file_root(const struct store_hand *h)
{
	return container_of(h->store, struct store_file, base)->root;
}

char *store_file_path(const struct store_hand *h, const char *key)
{
	return format_text("%s/%s", store_file_root(h), key);
}

static int file_put(struct store_hand *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	_free_ char *temporary = NULL;
	_close_ int fd = -1;
	int code = store_file_temporary(h, &temporary, &fd, err);

	if (temporary == NULL)
		return code;
	code = store_file_write(fd, temporary, bytes, len, 0, err);
	if (code == 0)
		code = store_file_place(h, fd, temporary, key, if_absent, err);
	/* A rename took it. */
	if (code < 0 || if_absent)
		(void)unlink(temporary);
	return code;
}

static int open_object(const struct store_hand *h, const char *key, int *ret_fd, uint64_t *ret_size,
	struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return store_missing(h, key, err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return disk_error(err, errno, -1, "read", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_FORMAT, "'%s' is no regular file", path);
	*ret_size = (uint64_t)st.st_size;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int file_read(struct store_hand *h, const char *key, struct store_read *r, struct error *err)
{
	_close_ int fd = -1;
	int code = open_object(h, key, &fd, &r->size, err);

	if (code < 0)
		return code;
	while (r->got < r->len) {
		ssize_t n = pread(
			fd, (char *)r->buf + r->got, r->len - r->got, (off_t)(r->offset + r->got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return disk_error(err, errno, -1, "read", key);
		if (n == 0)
			break;
		r->got += (size_t)n;
	}
	return 0;
}

static int file_head(struct store_hand *h, const char *key, uint64_t *ret_size, struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return store_missing(h, key, err);
		return disk_error(err, errno, -1, "read", path);
	}
	if (!S_ISREG(st.st_mode))
		return store_missing(h, key, err);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* Directories that are empty now; whoever just made one to put something in makes it again. */
static void remove_empty_parents(char *path, size_t root_len)
{
	for (char *slash = strrchr(path, '/'); slash != NULL && (size_t)(slash - path) > root_len;
		slash = strrchr(path, '/')) {
		*slash = '\0';
		if (rmdir(path) < 0)
			return;
	}
}

static int file_remove(struct store_hand *h, const char *const *keys, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		_free_ char *path = store_file_path(h, keys[i]);

		if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
			return disk_error(err, errno, -1, "remove", path);
		remove_empty_parents(path, strlen(store_file_root(h)));
	}
	return 0;
}

static int file_sweep(struct store_hand *h, time_t before, bool all, struct error *err)
{
	_free_ char *dir = store_file_path(h, STORE_FILE_TEMPORARY);
	_closedir_ DIR *entries = opendir(dir);
	const struct dirent *e;

	(void)all;
	(void)err;
	while (entries != NULL && (e = readdir(entries)) != NULL) {
		struct stat st;

		/* Somebody else may sweep too. */
		if (fstatat(dirfd(entries), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode) && st.st_mtime < before)
			(void)unlinkat(dirfd(entries), e->d_name, 0);
	}
	if (entries != NULL)
		(void)rmdir(dir);
	return 0;
}

static int file_refuse(struct store_hand *h, struct error *err)
{
	return error_set(err, -ERR_UNSUPPORTED,
		"the store %s cannot tell which of two creators comes first: a second link() to "
		"one name "
		"succeeded; use a directory on another file system",
		h->store->name);
}

static int file_hand_open(
	struct store *s, struct cancel *cancel, struct store_hand **ret, struct error *err)
{
	(void)s;
	(void)cancel;
	(void)err;
	*ret = zalloc(sizeof(**ret));
	return 0;
}

static void file_hand_close(struct store_hand *h)
{
	free(h);
}

static void file_free(struct store *s)
{
	struct store_file *f = container_of(s, struct store_file, base);

	free(f->root);
	free(f);
}

static const struct store_ops file_ops = {
	.free = file_free,
	.hand_open = file_hand_open,
	.hand_close = file_hand_close,
	.read = file_read,
	.head = file_head,
	.put = file_put,
	.remove = file_remove,
	.list = store_file_list,
	.upload_begin = store_file_upload_begin,
	.upload_part = store_file_upload_part,
	.upload_complete = store_file_upload_complete,
	.upload_abort = store_file_upload_abort,
	.upload_free = store_file_upload_free,
	.sweep = file_sweep,
	.refuse = file_refuse,
};

/* Absolute, so that it stays the same place and has one name in state files. */
static char *absolute(const char *url)
{
	_free_ char *path =
		strncasecmp(url, "file://", 7) == 0 ? url_file_path(url) : copy_text(url);
	_free_ char *here = NULL;

	if (path == NULL || path[0] == '/')
		return take_ptr(&path);
	here = getcwd(NULL, 0);
	return here == NULL ? NULL : format_text("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
}

int store_file_new(const struct store_env *env, struct store **ret, struct error *err)
{
	_free_ char *root = absolute(env->url);
	struct store_file *f;
	size_t len;

	if (root == NULL)
		return error_set(err, -ERR_USAGE,
			"'%s' is no directory of this machine: write file:///path", env->url);
	len = strlen(root);
	while (len > 0 && root[len - 1] == '/')
		root[--len] = '\0';
	if (len == 0)
		return error_set(err, -ERR_USAGE, "the root directory cannot be a store");
	f = zalloc(sizeof(*f));
	f->base.ops = &file_ops;
	f->base.name = format_text("file://%s", root);
	pthread_mutex_init(&f->base.mutex, NULL);
	f->root = take_ptr(&root);
	*ret = &f->base;
	return 0;
}
