/* SPDX-License-Identifier: MIT */
/* The real path of a destination. Worker threads. Symbolic links in the user's path are followed
 * once, here; after that no part of the path is followed again. */
#include "defer.h"
#include "destination.h"
#include "publish_private.h"
#include "text.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define PARENT_MODE 0755

int resolve_is_refusal(int errnum)
{
	return errnum == EACCES || errnum == EPERM || errnum == EROFS || errnum == EXDEV;
}

const char *resolve_describe_refusal(int errnum, char buf[static 64])
{
	if (errnum == EROFS)
		snprintf(buf, 64, "read-only");
	else if (errnum == EXDEV)
		snprintf(buf, 64, "on another file system than its entries");
	else
		snprintf(buf, 64, "not writable by uid %u", (unsigned)geteuid());
	return buf;
}

static int make_absolute(const char *dir, char **ret, struct error *err)
{
	char cwd[PATH_MAX];

	if (dir[0] == '\0')
		return error_set(err, -ERR_USAGE, "the destination directory has an empty name");
	if (dir[0] == '/') {
		*ret = text_copy(dir);
		return 0;
	}
	if (getcwd(cwd, sizeof(cwd)) == NULL)
		return error_set(err, -errno,
			"cannot stage into %s: the current directory is not known: %m", dir);
	*ret = text_format("%s/%s", cwd, dir);
	return 0;
}

/* Returns the length of path without its last component: "/a" of "/a/b//"; 1 for "/". */
static size_t parent_length(const char *path, size_t len)
{
	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 1 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	return len;
}

/* Resolves the longest beginning of path that exists; *ret_len is its length. */
static int resolve_existing(
	const char *path, char real[static PATH_MAX], size_t *ret_len, struct error *err)
{
	_free_ char *head = text_copy(path);
	size_t len = strlen(head);
	struct stat st;

	while (realpath(head, real) == NULL) {
		if (errno != ENOENT)
			return error_set(err, -errno, "cannot resolve %s: %s: %m", path, head);
		while (len > 1 && head[len - 1] == '/')
			head[--len] = '\0';
		if (lstat(head, &st) == 0 && S_ISLNK(st.st_mode))
			return error_set(err, -ENOENT,
				"cannot resolve %s: %s is a symbolic link to something that does not exist",
				path, head);
		/* Another stage may have created it meanwhile. */
		if (lstat(head, &st) == 0)
			continue;
		len = parent_length(head, len);
		head[len] = '\0';
	}
	*ret_len = len;
	return 0;
}

static int append_missing(struct text *real, char *rest, const char *dir, struct error *err)
{
	char *state = NULL;

	for (char *name = strtok_r(rest, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state)) {
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0)
			return error_set(err, -ERR_USAGE,
				"cannot resolve %s: \"..\" after a directory that does not exist",
				dir);
		if (real->s[real->len - 1] != '/')
			text_add(real, "/");
		text_add(real, name);
	}
	return 0;
}

static int refuse_own_names(const char *path, const char *dir, struct error *err)
{
	_free_ char *copy = text_copy(path);
	char *state = NULL;

	for (char *name = strtok_r(copy, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state))
		if (text_is_reserved_name(name))
			return error_set(err, -ERR_USAGE,
				"cannot stage into %s: the agent keeps its own files in %s", dir,
				name);
	return 0;
}

static int join_missing(char *real, char *rest, const char *dir, char **ret_path, struct error *err)
{
	struct text path = {0};
	int code;

	text_add(&path, real);
	code = append_missing(&path, rest, dir, err);
	if (code == 0 && strcmp(path.s, "/") == 0)
		code = error_set(err, -ERR_USAGE, "cannot stage into /: name a directory in it");
	if (code == 0 && path.len >= PATH_MAX)
		code = error_set(
			err, -ENAMETOOLONG, "cannot resolve %s: the path is too long", dir);
	if (code == 0)
		code = refuse_own_names(path.s, dir, err);
	if (code == 0)
		*ret_path = text_take(&path);
	text_done(&path);
	return code;
}

/* The length of the part of path to resolve: a link into a node cache is itself the destination, so
 * it is not followed. */
static size_t beginning_length(const char *path)
{
	size_t len = strlen(path);

	return destination_is_link(path) ? parent_length(path, len) : len;
}

int resolve_path(const char *dir, char **ret_path, struct error *err)
{
	_free_ char *path = NULL, *beginning = NULL;
	char real[PATH_MAX];
	size_t len = 0;
	int code = make_absolute(dir, &path, err);

	if (path == NULL)
		return code;
	beginning = text_format("%.*s", (int)beginning_length(path), path);
	code = resolve_existing(beginning, real, &len, err);
	return code < 0 ? code : join_missing(real, path + len, dir, ret_path, err);
}

int destination_canonical_path(const char *dir, char **ret_path, struct error *err)
{
	_free_ char *path = NULL, *head = NULL;
	char real[PATH_MAX];
	size_t len;
	int code = make_absolute(dir, &path, err);

	if (path == NULL)
		return code;
	for (len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	len = beginning_length(path);
	head = text_format("%.*s", (int)len, path);
	while (len > 1 && realpath(head, real) == NULL) {
		len = parent_length(head, len);
		head[len] = '\0';
	}
	if (len == 1) {
		*ret_path = take_ptr(&path);
		return 0;
	}
	while (path[len] == '/' && path[len + 1] == '/')
		len++;
	*ret_path = text_format(
		"%s%s", path[len] == '/' && strcmp(real, "/") == 0 ? "" : real, path + len);
	return 0;
}

/* made: length of the part of path that exists. name: the component that cannot be created in
 * it. */
static int cannot_make(
	const char *path, size_t made, const char *name, const char *dest, struct error *err)
{
	int errnum = errno;
	char why[64];
	_free_ char *there = text_format("%.*s", made > 0 ? (int)made : 1, path);
	_free_ char *missing = text_format("%s%s%s", there, made > 0 ? "/" : "", name);

	if (resolve_is_refusal(errnum))
		return error_set(err, -errnum,
			"cannot make %s: %s does not exist and %s is %s; mount a volume at %s or stage elsewhere",
			dest, missing, there, resolve_describe_refusal(errnum, why), missing);
	errno = errnum;
	return error_set(err, -errnum, "cannot make %s: %s: %m", dest, missing);
}

static int enter_directory(int dir_fd, const char *name, struct made *made)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, name, flags);
	bool is_made;

	if (fd >= 0 || errno != ENOENT || made == NULL)
		return fd;
	is_made = mkdirat(dir_fd, name, umask_apply(PARENT_MODE)) == 0;
	/* Another process may have created it first, which is as good. */
	if (!is_made && errno != EEXIST)
		return -1;
	fd = openat(dir_fd, name, flags);
	if (fd >= 0 && is_made && made->n < MADE_MAX) {
		memmove(made->v + 1, made->v, made->n * sizeof(*made->v));
		made->n += inode_stat(fd, "", &made->v[0]) == 0;
	}
	return fd;
}

int resolve_parents(
	const char *path, const char *dest, struct made *made, int *ret_fd, struct error *err)
{
	_close_ int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_free_ char *copy = text_copy(path);
	char *state = NULL;
	size_t len = 0;

	if (fd < 0)
		return error_set(err, -errno, "cannot make %s: open '/': %m", dest);
	for (char *name = strtok_r(copy, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state)) {
		int next = enter_directory(fd, name, made);

		if (next < 0)
			return cannot_make(path, len, name, dest, err);
		close(fd);
		fd = next;
		len += strlen(name) + 1;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Prints m as text for made_read(). Returns false if it does not fit. */
static bool made_print(const struct made *m, char *buf, size_t size)
{
	struct text t = {0};
	bool fits;

	for (size_t i = 0; i < m->n; i++)
		text_addf(&t, "%" PRIu64 " %d %" PRId64 " %" PRIu32 "\n", m->v[i].ino,
			m->v[i].has_birth, m->v[i].birth_sec, m->v[i].birth_nsec);
	fits = t.len < size;
	snprintf(buf, size, "%s", t.s != NULL ? t.s : "");
	text_done(&t);
	return fits;
}

static void made_read(struct made *m, const char *text)
{
	struct inode i = {.mode = S_IFDIR};
	int birth, used;

	m->n = 0;
	while (m->n < MADE_MAX && /* NOLINTNEXTLINE(cert-err34-c): what is no inode fits none */
		sscanf(text, "%" SCNu64 " %d %" SCNd64 " %" SCNu32 "\n%n", &i.ino, &birth,
			&i.birth_sec, &i.birth_nsec, &used) == 4) {
		i.has_birth = birth != 0;
		m->v[m->n++] = i;
		text += used;
	}
}

void resolve_note_made(struct made *m, int state_fd)
{
	char text[4000] = ""; /* file systems limit the text of a link to a page */

	if (m->n == 0 && readlinkat(state_fd, MADE_LINK, text, sizeof(text) - 1) > 0)
		made_read(m, text);
	else if (m->n > 0 && made_print(m, text, sizeof(text)))
		(void)!symlinkat(text, state_fd, MADE_LINK);
}

/* Removes the deepest directory of path, opened by way of its parent, and cuts it off path. Returns
 * false if it is another inode than made, or not empty. */
static bool remove_deepest(char *path, const struct inode *made)
{
	char *slash = strrchr(path, '/');
	_close_ int above_fd = -1;
	struct inode now;

	if (slash == NULL || slash[1] == '\0')
		return false;
	*slash = '\0';
	if (resolve_parents(path, path, NULL, &above_fd, NULL) < 0)
		return false;
	return inode_stat(above_fd, slash + 1, &now) == 0 && inode_same(&now, made) &&
	       unlinkat(above_fd, slash + 1, AT_REMOVEDIR) == 0;
}

void resolve_remove_made(const char *path, const struct made *m)
{
	_free_ char *copy = text_copy(path);

	for (size_t i = 0; i < m->n; i++)
		if (!remove_deepest(copy, &m->v[i]))
			return;
}
