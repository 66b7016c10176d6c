/* SPDX-License-Identifier: MIT */
/* The directory backend of a store: each object is a file, named by its key. Worker threads. A file
 * is written under a temporary name in the store, synced, and then renamed into place or, where it
 * must not replace another, hard-linked into place. Both are atomic, also over NFS. Directories are
 * created and removed as needed. Modes are limited by the caller's umask. */
#include "defer.h"
#include "files.h"
#include "source.h"
#include "store_private.h"
#include "text.h"
#include "tree.h"
#include "umask.h"
#include "url.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_MODE = 0644,
	DIR_MODE = 0755,
	/* Retries while other processes remove the directory that was just created. */
	PLACE_TRIES = 20
};

static const char *store_file_root(const struct store_conn *h)
{
	return container_of(h->store, struct store_file, base)->root;
}

static char *store_file_path(const struct store_conn *h, const char *key)
{
	return text_format("%s/%s", store_file_root(h), key);
}

/* Interprets errnum, the failure of a stat() or open() of path. Returns 0 if nothing is there,
 * which only ENOENT proves; otherwise an error, but never -ENOENT. A dangling symbolic link is an
 * error, too. */
static int lookup_error(const char *path, int errnum, struct error *err)
{
	struct stat st;

	if (errnum != ENOENT)
		return tree_disk_error(err, errnum, -1, "read", path);
	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : tree_disk_error(err, errno, -1, "read", path);
	if (!S_ISLNK(st.st_mode))
		return 0; /* it was created since; it did not exist at the time */
	return error_set(
		err, -ERR_FORMAT, "cannot read '%s': it is a link that leads nowhere", path);
}

static void sync_directory_of(char *path)
{
	char *slash = strrchr(path, '/');
	_close_ int fd = -1;

	if (slash == path)
		return;
	*slash = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*slash = '/';
	/* Errors are ignored: some file systems cannot sync directories and guarantee nothing
	 * anyway. */
	if (fd >= 0)
		(void)!fsync(fd);
}

/* Creates the directories above path. */
static int make_parents(char *path, struct error *err)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		int made, errnum;

		*slash = '\0';
		made = mkdir(path, umask_apply(DIR_MODE));
		errnum = errno;
		if (made == 0)
			sync_directory_of(path);
		else if (errnum != EEXIST && access(path, F_OK) != 0)
			return tree_disk_error(err, errnum, -1, "create", path);
		*slash = '/';
	}
	return 0;
}

int store_file_temporary(
	const struct store_conn *h, char **ret_path, int *ret_fd, struct error *err)
{
	for (int tries = 0;; tries++) {
		char random[17];
		_free_ char *path = NULL;
		_close_ int fd = -1;
		int code;

		store_random(random);
		path = text_format("%s/" STORE_FILE_TEMPORARY "/%s", store_file_root(h), random);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, umask_apply(FILE_MODE));
		if (fd >= 0) {
			*ret_fd = take_fd(&fd);
			*ret_path = take_ptr(&path);
			return 0;
		}
		if ((errno != ENOENT && errno != EEXIST) || tries == PLACE_TRIES)
			return tree_disk_error(err, errno, -1, "create", path);
		code = make_parents(path, err);
		if (code < 0)
			return code;
	}
}

/* Writes all bytes at the offset. */
static int store_file_write(
	int fd, const char *path, const void *bytes, size_t len, uint64_t offset, struct error *err)
{
	int code = files_write_all(fd, bytes, len, offset);

	return code < 0 ? tree_disk_error(err, -code, fd, "write", path) : 0;
}

static int place_error(int errnum, int fd, const char *path, bool if_absent, struct error *err)
{
	if (if_absent && errnum == EEXIST)
		return error_set(err, -EEXIST, "'%s' exists already", path);
	if (if_absent && (errnum == EPERM || errnum == EOPNOTSUPP || errnum == ENOSYS))
		return error_set(err, -ERR_UNSUPPORTED,
			"the file system of '%s' has no hard links, which decide between creators: use a directory on another one",
			path);
	return tree_disk_error(err, errnum, fd, "create", path);
}

static bool is_in_place(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

/* Returns 0 or a positive errno. An NFS client sends a request again when the answer was lost; the
 * error then comes from the second request: the name exists already, or the file to rename does
 * not. If path is our file, the first request succeeded. */
static int link_or_rename(int fd, const char *temporary, const char *path, bool if_absent)
{
	int errnum;

	if ((if_absent ? link(temporary, path) : rename(temporary, path)) == 0)
		return 0;
	errnum = errno;
	return errnum == (if_absent ? EEXIST : ENOENT) && is_in_place(fd, path) ? 0 : errnum;
}

int store_file_place(const struct store_conn *h, int fd, const char *temporary, const char *key,
	bool if_absent, struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	int tries = 0, errnum;

	if (fsync(fd) < 0)
		return tree_disk_error(err, errno, fd, "write", path);
	while ((errnum = link_or_rename(fd, temporary, path, if_absent)) != 0) {
		int code;

		if (errnum != ENOENT || tries++ == PLACE_TRIES)
			return place_error(errnum, fd, path, if_absent, err);
		code = make_parents(path, err);
		if (code < 0)
			return code;
	}
	sync_directory_of(path);
	return 0;
}

/* Listing: walks over the directories in the order of the keys, with the names of each open
 * directory in memory. A file that disappears meanwhile is skipped; every other failure is an
 * error, because the caller may remove objects that a listing lacks. */

struct dir_level {
	struct strings names; /* sorted; the name of a directory ends in '/', as in keys */
	size_t next;
	size_t key_len; /* length of the directory's key */
};

struct file_walk {
	struct store_conn *h;
	struct text key; /* the key of the present entry */
	struct dir_level *levels;
	size_t n, cap;
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Returns 1, 0 or a negative errno. An entry that is gone, or a link that leads nowhere, counts as
 * a file; visit_name() checks it again. */
static int is_directory(DIR *dir, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN && e->d_type != DT_LNK)
		return e->d_type == DT_DIR;
	if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0)
		return S_ISDIR(st.st_mode);
	return errno == ENOENT ? 0 : -errno;
}

static int read_names(
	DIR *dir, bool is_root, const char *path, struct strings *names, struct error *err)
{
	const struct dirent *e;

	while (errno = 0, (e = readdir(dir)) != NULL) {
		_free_ char *name = NULL;
		int directory;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			(is_root && strcmp(e->d_name, STORE_FILE_TEMPORARY) == 0))
			continue;
		directory = is_directory(dir, e);
		if (directory < 0) {
			name = text_format("%s/%s", path, e->d_name);
			return tree_disk_error(err, -directory, -1, "read", name);
		}
		name = text_format("%s%s", e->d_name, directory ? "/" : "");
		text_strings_add(names, name);
	}
	if (errno != 0)
		return tree_disk_error(err, errno, -1, "read", path);
	if (names->n > 0)
		qsort(names->v, names->n, sizeof(*names->v), compare_names);
	return 0;
}

static char *path_of(const struct file_walk *w)
{
	char *path = store_file_path(w->h, w->key.len > 0 ? w->key.s : "");
	size_t len = strlen(path);

	/* Without the '/', lstat() in lookup_error() sees a dangling link itself. */
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	return path;
}

/* Enters the directory that w->key names ("", or a key that ends in '/'). */
static int enter_directory(struct file_walk *w, struct error *err)
{
	_free_ char *path = path_of(w);
	_closedir_ DIR *dir = opendir(path);
	struct dir_level *l;

	if (dir == NULL)
		return lookup_error(path, errno, err);
	if (w->n == w->cap) {
		w->cap = w->cap > 0 ? 2 * w->cap : 8;
		w->levels = realloc(w->levels, w->cap * sizeof(*w->levels));
		if (w->levels == NULL)
			abort();
	}
	l = &w->levels[w->n++];
	*l = (struct dir_level){.key_len = w->key.len};
	return read_names(dir, w->key.len == 0, path, &l->names, err);
}

static void leave_directory(struct file_walk *w)
{
	text_strings_done(&w->levels[--w->n].names);
}

/* Sets w->key to the next entry of the innermost directory. False: there is none. */
static bool next_name(struct file_walk *w)
{
	struct dir_level *l = &w->levels[w->n - 1];

	if (l->next == l->names.n)
		return false;
	w->key.len = l->key_len;
	text_add(&w->key, l->names.v[l->next++]);
	return true;
}

static int visit_name(struct file_walk *w,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *path = NULL;
	struct layout_key k;
	struct stat st;

	if (w->key.s[w->key.len - 1] == '/')
		return enter_directory(w, err);
	path = path_of(w);
	if (stat(path, &st) < 0)
		return lookup_error(path, errno, err);
	if (!S_ISREG(st.st_mode))
		return layout_parse(w->key.s, &k) == LAYOUT_FOREIGN
			       ? 0
			       : error_set(err, -ERR_FORMAT, "'%s' is no regular file", path);
	return each(ctx, w->key.s, (uint64_t)st.st_size, st.st_mtime, err);
}

static int store_file_list(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	struct file_walk w = {.h = h};
	int code;

	text_add(&w.key, prefix);
	code = enter_directory(&w, err);
	while (code == 0 && w.n > 0) {
		if (cancel_requested(h->cancel))
			code = error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
		else if (next_name(&w))
			code = visit_name(&w, each, ctx, err);
		else
			leave_directory(&w);
	}
	while (w.n > 0)
		leave_directory(&w);
	free(w.levels);
	text_done(&w.key);
	return code;
}

/* Uploads: a large object that several threads write in parts. If all parts before a part are
 * known, so is its offset, and it is written directly into the upload's temporary file. A part that
 * comes too early is written to a file of its own, which is copied at the end. */

struct file_part {
	bool known; /* size is valid */
	uint64_t size;
	int fd; /* a file of its own; -1: the part is in the upload's file */
	char *path;
};

struct file_upload {
	struct store_upload base;
	int fd;
	char *path; /* NULL after it was moved into place or removed */
	pthread_mutex_t mutex;
	/* Under the mutex. */
	struct file_part *parts;
	size_t n, cap;
};

static int store_file_upload_begin(
	struct store_conn *h, const char *key, struct store_upload **ret, struct error *err)
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

static void grow_parts_locked(struct file_upload *u, size_t n)
{
	if (n > u->cap) {
		u->cap = n > 2 * u->cap ? n : 2 * u->cap;
		u->parts = realloc(u->parts, u->cap * sizeof(*u->parts));
		if (u->parts == NULL)
			abort();
	}
	for (; u->n < n; u->n++)
		u->parts[u->n] = (struct file_part){.fd = -1};
}

/* The offset of a part. False if the size of a part before it is unknown. */
static bool part_offset_locked(const struct file_upload *u, unsigned number, uint64_t *ret)
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

static int write_part_file(struct store_conn *h, struct file_upload *u, unsigned number,
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

static int store_file_upload_part(struct store_conn *h, struct store_upload *base, unsigned number,
	const void *bytes, size_t len, struct error *err)
{
	struct file_upload *u = container_of(base, struct file_upload, base);
	uint64_t at = 0;
	bool in_place;

	pthread_mutex_lock(&u->mutex);
	grow_parts_locked(u, number);
	u->parts[number - 1].known = true;
	u->parts[number - 1].size = len;
	in_place = part_offset_locked(u, number, &at);
	pthread_mutex_unlock(&u->mutex);
	if (in_place)
		return store_file_write(u->fd, u->path, bytes, len, at, err);
	return write_part_file(h, u, number, bytes, len, err);
}

static int copy_range(int to, int from, uint64_t at, uint64_t len)
{
	off_t out = (off_t)at, in = 0;
	char buf[65536];

	while (len > 0) {
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);
		int code;

		if (n > 0) {
			len -= (uint64_t)n;
			continue;
		}
		/* Not every file system supports copy_file_range(). */
		n = files_read_at(from, buf, len < sizeof(buf) ? len : sizeof(buf), (uint64_t)in);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		code = files_write_all(to, buf, (size_t)n, (uint64_t)out);
		if (code < 0)
			return code;
		in += n;
		out += n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int copy_parts_into_place(struct file_upload *u, struct error *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < u->n; i++) {
		const struct file_part *p = &u->parts[i];
		int code;

		if (!p->known)
			return error_set(err, -ERR_TRUNCATED, "part %zu of '%s' was not sent",
				i + 1, u->base.key);
		code = p->fd < 0 ? 0 : copy_range(u->fd, p->fd, at, p->size);
		if (code < 0)
			return tree_disk_error(err, -code, u->fd, "write", u->path);
		at += p->size;
	}
	return 0;
}

static int store_file_upload_complete(
	struct store_conn *h, struct store_upload *base, struct error *err)
{
	struct file_upload *u = container_of(base, struct file_upload, base);
	int code = copy_parts_into_place(u, err);

	if (code == 0)
		code = store_file_place(h, u->fd, u->path, base->key, false, err);
	if (code == 0) {
		free(u->path);
		u->path = NULL;
	}
	return code;
}

static void store_file_upload_abort(struct store_conn *h, struct store_upload *base)
{
	struct file_upload *u = container_of(base, struct file_upload, base);

	(void)h;
	if (u->path != NULL)
		(void)unlink(u->path);
	free(u->path);
	u->path = NULL;
}

static void store_file_upload_free(struct store_upload *base)
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

/* --- objects --- */

static int missing_or_error(const struct store_conn *h, const char *key, const char *path,
	int errnum, struct error *err)
{
	int code = lookup_error(path, errnum, err);

	return code < 0 ? code : store_missing(h, key, err);
}

static int file_put(struct store_conn *h, const char *key, const void *bytes, size_t len,
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
	/* rename() has removed the temporary name, link() has not. */
	if (code < 0 || if_absent)
		(void)unlink(temporary);
	return code;
}

static int open_object(const struct store_conn *h, const char *key, int *ret_fd, uint64_t *ret_size,
	struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return missing_or_error(h, key, path, errno, err);
	if (fstat(fd, &st) < 0)
		return tree_disk_error(err, errno, -1, "read", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_FORMAT, "'%s' is no regular file", path);
	*ret_size = (uint64_t)st.st_size;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int file_read(struct store_conn *h, const char *key, struct store_read *r, struct error *err)
{
	_close_ int fd = -1;
	int code = open_object(h, key, &fd, &r->size, err);
	ssize_t n;

	if (code < 0)
		return code;
	n = files_read_at(fd, r->buf, r->len, r->offset);
	if (n < 0)
		return tree_disk_error(err, (int)-n, -1, "read", key);
	r->got = (size_t)n;
	return 0;
}

static int file_head(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	struct stat st;

	if (stat(path, &st) < 0)
		return missing_or_error(h, key, path, errno, err);
	if (S_ISDIR(st.st_mode))
		return store_missing(h, key, err);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_FORMAT, "'%s' is no regular file", path);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* Removes directories that are empty now. A process that has just created one for a new file
 * creates it again. */
static void remove_empty_parents(char *path, size_t root_len)
{
	for (char *slash = strrchr(path, '/'); slash != NULL && (size_t)(slash - path) > root_len;
		slash = strrchr(path, '/')) {
		*slash = '\0';
		if (rmdir(path) < 0)
			return;
	}
}

/* Checks the time limit before each file: a process that was stopped in between (SIGSTOP, suspend)
 * must not continue to remove files when its lease has expired. */
static int file_remove(struct store_conn *h, const char *const *keys, size_t n, struct error *err)
{
	uint64_t begun_ms = lease_clock_ms();

	for (size_t i = 0; i < n; i++) {
		_free_ char *path = store_file_path(h, keys[i]);

		if (h->limit_ms > 0 && lease_clock_ms() - begun_ms > h->limit_ms)
			return error_set(err, -ERR_RESTART,
				"removing files from %s took too long: the rest is for the next time",
				h->store->name);
		if (unlink(path) < 0 && errno != ENOENT)
			return tree_disk_error(err, errno, -1, "remove", path);
		remove_empty_parents(path, strlen(store_file_root(h)));
	}
	return 0;
}

static int sweep_directory(DIR *dir, const char *path, time_t before, struct error *err)
{
	const struct dirent *e;

	while (errno = 0, (e = readdir(dir)) != NULL) {
		struct stat st;

		/* Errors are ignored: another process may sweep at the same time. */
		if (layout_is_temporary(e->d_name) &&
			fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode) && st.st_mtime < before)
			(void)unlinkat(dirfd(dir), e->d_name, 0);
	}
	return errno == 0 ? 0 : tree_disk_error(err, errno, -1, "read", path);
}

static int file_sweep(struct store_conn *h, const char *const *prefixes, time_t before, bool all,
	struct error *err)
{
	_free_ char *path = store_file_path(h, STORE_FILE_TEMPORARY);
	_closedir_ DIR *dir = opendir(path);
	int code;

	(void)prefixes;
	(void)all;
	if (dir == NULL)
		return errno == ENOENT ? 0 : tree_disk_error(err, errno, -1, "read", path);
	code = sweep_directory(dir, path, before, err);
	if (code == 0)
		(void)rmdir(path);
	return code;
}

static int file_refuse(struct store_conn *h, struct error *err)
{
	return error_set(err, -ERR_UNSUPPORTED,
		"the store %s cannot tell which of two creators comes first: a second link() to one name succeeded; use a directory on another file system",
		h->store->name);
}

static int file_hand_open(
	struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err)
{
	(void)s;
	(void)cancel;
	(void)err;
	*ret = zalloc(sizeof(**ret));
	return 0;
}

static void file_hand_close(struct store_conn *h)
{
	free(h);
}

static void file_free(struct store *s)
{
	struct store_file *f = container_of(s, struct store_file, base);

	free(f->root);
	free(f);
}

static bool file_is_absent(const struct store *s)
{
	const struct store_file *f = container_of(s, const struct store_file, base);

	return access(f->root, F_OK) < 0 && errno == ENOENT;
}

static const struct store_ops file_ops = {
	.is_absent = file_is_absent,
	.free = file_free,
	.conn_open = file_hand_open,
	.conn_close = file_hand_close,
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

/* Returns the absolute path (heap), so that the store does not depend on the working directory and
 * has one name in state files. NULL: the URL is not a directory of this machine. */
static char *absolute_path(const char *url)
{
	_free_ char *path =
		strncasecmp(url, "file://", 7) == 0 ? url_file_path(url) : text_copy(url);
	_free_ char *here = NULL;

	if (path == NULL || path[0] == '/')
		return take_ptr(&path);
	here = getcwd(NULL, 0);
	return here == NULL ? NULL : text_format("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
}

int store_file_new(const struct store_env *env, struct store **ret, struct error *err)
{
	_free_ char *root = absolute_path(env->url);
	struct store_file *f;
	size_t len;

	if (root == NULL) {
		_free_ char *shown = source_display(env->url);

		return error_set(err, -ERR_USAGE,
			"'%s' is no directory of this machine: write file:///path", shown);
	}
	len = strlen(root);
	while (len > 0 && root[len - 1] == '/')
		root[--len] = '\0';
	if (len == 0)
		return error_set(err, -ERR_USAGE, "the root directory cannot be a store");
	f = zalloc(sizeof(*f));
	f->base.ops = &file_ops;
	f->base.name = text_format("file://%s", root);
	pthread_mutex_init(&f->base.mutex, NULL);
	f->root = take_ptr(&root);
	*ret = &f->base;
	return 0;
}
