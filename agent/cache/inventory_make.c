/* SPDX-License-Identifier: MIT */
/* Making the inventory of a tree, and making the tree read-only. The stage's thread; nobody else has the tree.
 * The inventory is the queue of directories still to be looked into, too, so that memory does not grow with
 * their number; only files with several names are remembered. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define NEW_NAME "inventory.new"

/* Beyond this many of them, further names become files of their own. */
#define MAX_LINKS ((size_t)1 << 20)

struct name_of {
	ino_t ino;
	char *path; /* NULL: a free place */
};

struct making {
	int root_fd;
	FILE *out, *in;
	struct inventory_head *head;
	const struct cancel *cancel;
	uint64_t pending; /* directories in the inventory that were not looked into */
	char *line;       /* of in */
	size_t line_size;

	/* The first name of each file with several: a hash table. */
	struct name_of *names;
	size_t n_names, size;
};

static int cannot(const struct making *m, const char *doing, const char *path, struct error *err)
{
	return disk_error(err, errno, m->root_fd, doing, path);
}

static struct name_of *find_place(const struct making *m, ino_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u) & (m->size - 1);

	while (m->names[i].path != NULL && m->names[i].ino != ino)
		i = (i + 1) & (m->size - 1);
	return &m->names[i];
}

static void grow(struct making *m)
{
	struct name_of *old = m->names;
	size_t n = m->size;

	m->size = n == 0 ? 64 : n * 2;
	m->names = zalloc(m->size * sizeof(*m->names));
	for (size_t i = 0; i < n; i++)
		if (old[i].path != NULL)
			*find_place(m, old[i].ino) = old[i];
	free(old);
}

/* The first name of the file, or NULL: this is it. */
static const char *first_name(struct making *m, const struct stat *st, const char *path)
{
	struct name_of *place;

	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return NULL;
	if (m->n_names * 2 >= m->size)
		grow(m);
	place = find_place(m, st->st_ino);
	if (place->path != NULL)
		return place->path;
	if (m->n_names == MAX_LINKS)
		log_warn("%s: more than %zu hard links: further ones become copies when it is "
			 "delivered from the cache",
			m->head->what, MAX_LINKS);
	if (m->n_names <= MAX_LINKS) {
		*place = (struct name_of){.ino = st->st_ino, .path = copy_text(path)};
		m->n_names++;
	}
	return NULL;
}

static void put(struct making *m, char type, const struct stat *st, const char *path)
{
	fprintf(m->out, "%c %o %" PRIu64 " %" PRId64 ".%09ld %s", type, st->st_mode & 07777,
		S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size, (int64_t)st->st_mtim.tv_sec,
		st->st_mtim.tv_nsec, path);
	fputc('\0', m->out);
}

static void put_second(struct making *m, const char *text)
{
	fputs(text, m->out);
	fputc('\0', m->out);
}

static int list_symlink(
	struct making *m, int dir_fd, const char *name, const char *path, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return cannot(m, "read", path, err);
	target[n] = '\0';
	put_second(m, target);
	return 0;
}

static int take_write_bits(const struct making *m, int dir_fd, const char *name,
	const struct stat *st, const char *path, struct error *err)
{
	mode_t mode = inventory_mode(st->st_mode);

	if (S_ISLNK(st->st_mode) || mode == (st->st_mode & 07777) ||
		fchmodat(dir_fd, name, mode, 0) == 0)
		return 0;
	return cannot(m, "set the mode of", path, err);
}

static char type_of(const struct stat *st)
{
	return S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : 'f';
}

static int list_one(
	struct making *m, int dir_fd, const char *name, const char *path, struct error *err)
{
	const char *first;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return cannot(m, "look at", path, err);
	first = first_name(m, &st, path);
	m->head->entries++;
	m->head->links += first != NULL;
	put(m, first != NULL ? 'h' : type_of(&st), &st, path);
	if (first != NULL) {
		put_second(m, first);
		return 0;
	}
	m->pending += S_ISDIR(st.st_mode);
	m->head->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	m->head->disk += (uint64_t)st.st_blocks * 512;
	if (S_ISLNK(st.st_mode))
		return list_symlink(m, dir_fd, name, path, err);
	return take_write_bits(m, dir_fd, name, &st, path, err);
}

static DIR *open_dir(const struct making *m, const char *path)
{
	_close_ int fd = openat(m->root_fd, *path == '\0' ? "." : path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

static int list_dir(struct making *m, const char *path, struct error *err)
{
	_closedir_ DIR *dir = open_dir(m, path);
	const struct dirent *e;
	int code = 0;

	if (dir == NULL)
		return cannot(m, "list", path, err);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while (code == 0 && (errno = 0, e = readdir(dir)) != NULL) {
		_free_ char *below = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (cancel_requested(m->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		below = format_text("%s%s%s", path, *path == '\0' ? "" : "/", e->d_name);
		code = list_one(m, dirfd(dir), e->d_name, below, err);
	}
	return code == 0 && errno != 0 ? cannot(m, "list", path, err) : code;
}

/* The next directory that was listed, from where the last was found. */
static char *next_dir(struct making *m, struct error *err)
{
	if (fflush(m->out) != 0) {
		cannot(m, "write", NEW_NAME, err);
		return NULL;
	}
	while (getdelim(&m->line, &m->line_size, '\0', m->in) > 0) {
		const char *path = m->line;
		char type = *path;

		for (int i = 0; i < 4 && path != NULL; i++)
			path = strchr(path + (i > 0), ' ');
		if (type == 'd' && path != NULL)
			return copy_text(path + 1);
		/* Their second records look like anything. */
		if (type == 'l' || type == 'h')
			(void)!getdelim(&m->line, &m->line_size, '\0', m->in);
	}
	error_set(err, -EIO, "cannot read %s back", NEW_NAME);
	return NULL;
}

static int list_all(struct making *m, struct error *err)
{
	int code = list_dir(m, "", err);

	while (code == 0 && m->pending > 0) {
		_free_ char *path = next_dir(m, err);

		if (path == NULL)
			return -EIO;
		m->pending--;
		code = list_dir(m, path, err);
	}
	return code;
}

static int finish(struct making *m, struct error *err)
{
	char head[INVENTORY_HEAD] = {0};
	struct stat st;

	if (ferror(m->out) || fflush(m->out) != 0 || fstat(fileno(m->out), &st) != 0)
		return cannot(m, "write", NEW_NAME, err);
	m->head->length = (uint64_t)st.st_size;
	m->head->disk += (uint64_t)st.st_blocks * 512;
	if (inventory_head_print(m->head, head, sizeof(head)) < 0)
		return error_set(err, -ERR_LIMIT, "the head of an inventory is too long");
	if (pwrite(fileno(m->out), head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return cannot(m, "write", NEW_NAME, err);
	return 0;
}

static void making_done(struct making *m)
{
	if (m->out != NULL)
		fclose(m->out);
	if (m->in != NULL)
		fclose(m->in);
	for (size_t i = 0; i < m->size; i++)
		free(m->names[i].path);
	free(m->names);
	free(m->line);
}

static FILE *open_stream(int dir_fd, const char *name, int flags, const char *mode)
{
	_close_ int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0644);
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (f == NULL || fseeko(f, INVENTORY_HEAD, SEEK_SET) != 0)
		return NULL;
	take_fd(&fd);
	return f;
}

int inventory_make(int key_fd, int root_fd, struct inventory_head *head,
	const struct cancel *cancel, struct error *err)
{
	struct making m = {.root_fd = root_fd, .head = head, .cancel = cancel};
	int code;

	m.out = open_stream(key_fd, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC, "w");
	m.in = m.out == NULL ? NULL : open_stream(key_fd, NEW_NAME, O_RDONLY, "r");
	code = m.in == NULL ? cannot(&m, "make", NEW_NAME, err) : list_all(&m, err);
	if (code == 0)
		code = finish(&m, err);
	making_done(&m);
	if (code == 0 && renameat(key_fd, NEW_NAME, key_fd, INVENTORY_NAME) != 0)
		code = disk_error(err, errno, key_fd, "rename", NEW_NAME);
	return code;
}
