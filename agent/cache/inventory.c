/* SPDX-License-Identifier: MIT */
/* Reads and writes inventories, and opens the parent directories of the paths in them. Other
 * processes of the same user may write to the tree: no link in it is ever followed, at any place in
 * a path. */
#include "inventory.h"
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include "open_beneath.h"
#include "text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

static int open_directory(struct parent_lookup *r, const char *path, size_t len)
{
	_free_ char *dir = text_format("%.*s", (int)len, path);
	int fd = open_beneath(r->root_fd, dir, O_PATH | O_DIRECTORY);

	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	cache_lookup_done(r);
	r->fd = fd;
	r->dir = take_ptr(&dir);
	return fd;
}

int cache_lookup_parent(struct parent_lookup *r, const char *path, const char **ret_base)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*ret_base = slash != NULL ? slash + 1 : path;
	if (**ret_base == '\0' || strcmp(*ret_base, ".") == 0 || strcmp(*ret_base, "..") == 0) {
		errno = ENOENT; /* no name in an inventory is like this */
		return -1;
	}
	if (len == 0)
		return r->root_fd;
	if (r->fd >= 0 && strncmp(r->dir, path, len) == 0 && r->dir[len] == '\0')
		return r->fd;
	return open_directory(r, path, len);
}

void cache_lookup_done(struct parent_lookup *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	free(take_ptr(&r->dir));
}

/* Reading inventories. An open inventory belongs to one thread at a time. */

#define FIRST_WORDS "stagerun cache inventory "
#define FORMAT      2

mode_t inventory_mode(mode_t mode)
{
	return (mode & 0555) | (S_ISDIR(mode) ? 0500 : 0400);
}

int inventory_head_print(const struct inventory_head *h, char *buf, size_t size)
{
	int n = snprintf(buf, size,
		FIRST_WORDS "%d\nlength %" PRIu64 "\nbytes %" PRIu64 "\nentries %" PRIu64
			    "\ndisk %" PRIu64 "\nlinks %" PRIu64 "\nmade %" PRId64
			    "\nroot %o %" PRId64 ".%09ld %u %u\ntop %" PRId64 ".%09ld\nwhat %s\n",
		FORMAT, h->length, h->bytes, h->entries, h->disk, h->links, h->made, h->root_mode,
		h->root_sec, h->root_nsec, h->root_uid, h->root_gid, (int64_t)h->top.tv_sec,
		h->top.tv_nsec, h->what);

	return n > 0 && (size_t)n < size ? 0 : -ERR_LIMIT;
}

static bool parse_numbers(const char *text, struct inventory_head *h, int *ret_format)
{
	int at = 0;

	/* NOLINTBEGIN(cert-err34-c): a number out of range was not written by us */
	if (sscanf(text,
		    FIRST_WORDS "%d length %" SCNu64 " bytes %" SCNu64 " entries %" SCNu64
				" disk %" SCNu64 " links %" SCNu64 " made %" SCNd64
				" root %o %" SCNd64 ".%ld %u %u%n",
		    ret_format, &h->length, &h->bytes, &h->entries, &h->disk, &h->links, &h->made,
		    &h->root_mode, &h->root_sec, &h->root_nsec, &h->root_uid, &h->root_gid,
		    &at) != 12)
		return false;
	return *ret_format == 1 ||
	       sscanf(text + at, " top %" SCNd64 ".%ld", &h->top.tv_sec, &h->top.tv_nsec) == 2;
	/* NOLINTEND(cert-err34-c) */
}

static bool head_parse(const char *text, struct inventory_head *h)
{
	const char *what;
	int format = 0;

	if (!parse_numbers(text, h, &format) || (format != 1 && format != FORMAT))
		return false;
	h->marked = format != 1;
	what = strstr(text, "\nwhat ");
	if (what == NULL)
		return false;
	what += strlen("\nwhat ");
	snprintf(h->what, sizeof(h->what), "%.*s", (int)strcspn(what, "\n"), what);
	return true;
}

int inventory_open_file(int key_fd, const char *name, int flags)
{
	/* O_NONBLOCK: the open must not block if it is a FIFO. */
	_close_ int fd = openat(key_fd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EPERM : -errno;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
		destination_is_open_to_others(fd, key_fd))
		return -EPERM;
	return take_fd(&fd);
}

static int read_head(int fd, struct inventory_head *ret)
{
	char text[INVENTORY_HEAD + 1];
	ssize_t n = pread(fd, text, INVENTORY_HEAD, 0);
	struct stat st;

	if (n < 0 || fstat(fd, &st) != 0)
		return -errno;
	if (n != INVENTORY_HEAD)
		return -ESTALE;
	text[n] = '\0';
	return head_parse(text, ret) && (uint64_t)st.st_size == ret->length &&
			       ret->length >= INVENTORY_HEAD
		       ? 0
		       : -ESTALE;
}

int inventory_head_read(int key_fd, struct inventory_head *ret)
{
	_close_ int fd = inventory_open_file(key_fd, INVENTORY_NAME, O_RDONLY);

	return fd < 0 ? fd : read_head(fd, ret);
}

static int open_stream(int key_fd, struct inventory *l)
{
	_close_ int fd = inventory_open_file(key_fd, INVENTORY_NAME, O_RDONLY);
	int code = fd < 0 ? fd : read_head(fd, &l->head);

	if (code < 0)
		return code;
	l->f = fdopen(fd, "r");
	if (l->f == NULL)
		return -errno;
	take_fd(&fd);
	return 0;
}

int inventory_open(int key_fd, struct inventory **ret)
{
	struct inventory *l = zalloc(sizeof(*l));
	int code = open_stream(key_fd, l);

	if (code < 0) {
		inventory_close(l);
		return code;
	}
	l->line = zalloc(INVENTORY_RECORD);
	l->second = zalloc(INVENTORY_RECORD);
	inventory_rewind(l);
	*ret = l;
	return 0;
}

void inventory_close(struct inventory *l)
{
	if (l == NULL)
		return;
	if (l->f != NULL)
		fclose(l->f);
	free(l->line);
	free(l->second);
	free(l);
}

void inventory_rewind(struct inventory *l)
{
	(void)fseeko(l->f, INVENTORY_HEAD, SEEK_SET);
}

static bool parse(char *line, struct inventory_entry *e)
{
	int at = 0;
	unsigned mode;

	*e = (struct inventory_entry){0};
	if (sscanf(line, /* NOLINT(cert-err34-c) */
		    "%c %o %" SCNu64 " %" SCNd64 ".%ld%n", &e->type, &mode, &e->size,
		    &e->mtime.tv_sec, &e->mtime.tv_nsec, &at) != 5 ||
		line[at] != ' ' || line[at + 1] == '\0' || strchr("fdlh", e->type) == NULL)
		return false;
	e->mode = mode;
	e->path = line + at + 1;
	return true;
}

/* Reads up to the next NUL. record has INVENTORY_RECORD bytes. Returns 1, 0 at the end of the file,
 * -ESTALE if the record is incomplete or too long, or -EIO. */
static int inventory_read_record(FILE *f, char *record)
{
	size_t n = 0;
	int c;

	while ((c = getc_unlocked(f)) > 0 && n < INVENTORY_RECORD - 1)
		record[n++] = (char)c;
	record[n] = '\0';
	if (c == EOF && ferror(f))
		return -EIO;
	if (c == EOF && n == 0)
		return 0;
	return c == '\0' && n > 0 ? 1 : -ESTALE;
}

int inventory_next(struct inventory *l, struct inventory_entry *ret)
{
	int code = inventory_read_record(l->f, l->line);

	if (code <= 0)
		return code;
	if (!parse(l->line, ret))
		return -ESTALE;
	if (ret->type != 'l' && ret->type != 'h')
		return 1;
	code = inventory_read_record(l->f, l->second);
	if (code <= 0)
		return code < 0 ? code : -ESTALE;
	if (l->head.marked && l->second[0] != INVENTORY_MARK)
		return -ESTALE;
	ret->target = l->second + l->head.marked;
	return 1;
}

bool inventory_seek(struct inventory *l, double share)
{
	off_t at = INVENTORY_HEAD + (off_t)((double)(l->head.length - INVENTORY_HEAD) * share);
	off_t here;

	if (fseeko(l->f, at > INVENTORY_HEAD ? at - 1 : at, SEEK_SET) != 0)
		return false;
	/* Skips the rest of the record that the byte before the position is in; that is only its
	 * NUL if the position is the start of a record. */
	if (at > INVENTORY_HEAD)
		for (int c; (c = getc_unlocked(l->f)) != '\0';)
			if (c == EOF)
				return false;
	here = ftello(l->f);
	if (getc_unlocked(l->f) == INVENTORY_MARK && inventory_read_record(l->f, l->line) > 0)
		here = ftello(l->f);
	return fseeko(l->f, here, SEEK_SET) == 0;
}

/* Writing the inventory of a tree, and making the tree read-only. The stage's thread; no other
 * thread uses the tree. The inventory also is the queue of directories that are not listed yet, so
 * that memory does not grow with their number; only files with several names are kept in memory. */

/* The most files with several names that are kept in memory; names of any other file are listed as
 * files of their own. */
#define MAX_LINKS ((size_t)1 << 20)

struct file_name {
	ino_t ino;
	char *path; /* NULL: a free slot */
};

struct inventory_making {
	int root_fd;
	FILE *out, *in; /* the inventory, written and read back */
	struct inventory_head *head;
	const struct cancel *cancel;
	uint64_t pending; /* directories in the inventory that are not listed yet */
	char *line;       /* a record of in: INVENTORY_RECORD bytes */

	/* The first name of each file with several: a hash table. */
	struct file_name *names;
	size_t n_names, size;
};

static int disk_failure(
	const struct inventory_making *m, const char *doing, const char *path, struct error *err)
{
	return tree_disk_error(err, errno, m->root_fd, doing, path);
}

static struct file_name *find_slot(const struct inventory_making *m, ino_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u) & (m->size - 1);

	while (m->names[i].path != NULL && m->names[i].ino != ino)
		i = (i + 1) & (m->size - 1);
	return &m->names[i];
}

static void grow(struct inventory_making *m)
{
	struct file_name *old = m->names;
	size_t n = m->size;

	m->size = n == 0 ? 64 : n * 2;
	m->names = zalloc(m->size * sizeof(*m->names));
	for (size_t i = 0; i < n; i++)
		if (old[i].path != NULL)
			*find_slot(m, old[i].ino) = old[i];
	free(old);
}

/* Returns the first name of the file, or NULL if path is its first name. */
static const char *first_name(struct inventory_making *m, const struct stat *st, const char *path)
{
	struct file_name *slot;

	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return NULL;
	if (m->n_names * 2 >= m->size)
		grow(m);
	slot = find_slot(m, st->st_ino);
	if (slot->path != NULL)
		return slot->path;
	if (m->n_names == MAX_LINKS)
		log_warn(
			"%s: more than %zu hard links: further ones become copies when it is delivered from the cache",
			m->head->what, MAX_LINKS);
	if (m->n_names <= MAX_LINKS) {
		*slot = (struct file_name){.ino = st->st_ino, .path = text_copy(path)};
		m->n_names++;
	}
	return NULL;
}

static void write_record(
	struct inventory_making *m, char type, const struct stat *st, const char *path)
{
	fprintf(m->out, "%c %o %" PRIu64 " %" PRId64 ".%09ld %s", type, st->st_mode & 07777,
		S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size, (int64_t)st->st_mtim.tv_sec,
		st->st_mtim.tv_nsec, path);
	fputc('\0', m->out);
}

static void write_second(struct inventory_making *m, const char *text)
{
	fputc(INVENTORY_MARK, m->out);
	fputs(text, m->out);
	fputc('\0', m->out);
}

static int list_symlink(struct inventory_making *m, int dir_fd, const char *name, const char *path,
	struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return disk_failure(m, "read", path, err);
	target[n] = '\0';
	write_second(m, target);
	return 0;
}

static int remove_write_bits(const struct inventory_making *m, int dir_fd, const char *name,
	const struct stat *st, const char *path, struct error *err)
{
	mode_t mode = inventory_mode(st->st_mode);

	if (S_ISLNK(st->st_mode) || mode == (st->st_mode & 07777) ||
		fchmodat(dir_fd, name, mode, 0) == 0)
		return 0;
	return disk_failure(m, "set the mode of", path, err);
}

static char type_of(const struct stat *st)
{
	return S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : 'f';
}

static int list_one(struct inventory_making *m, int dir_fd, const char *name, const char *path,
	struct error *err)
{
	const char *first;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return disk_failure(m, "look at", path, err);
	first = first_name(m, &st, path);
	m->head->entries++;
	m->head->links += first != NULL;
	write_record(m, first != NULL ? 'h' : type_of(&st), &st, path);
	if (first != NULL) {
		write_second(m, first);
		return 0;
	}
	m->pending += S_ISDIR(st.st_mode);
	m->head->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	m->head->disk += (uint64_t)st.st_blocks * 512;
	if (S_ISLNK(st.st_mode))
		return list_symlink(m, dir_fd, name, path, err);
	return remove_write_bits(m, dir_fd, name, &st, path, err);
}

static DIR *open_dir(const struct inventory_making *m, const char *path)
{
	_close_ int fd = openat(m->root_fd, *path == '\0' ? "." : path,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

static int list_dir(struct inventory_making *m, const char *path, struct error *err)
{
	_closedir_ DIR *dir = open_dir(m, path);
	const struct dirent *e;
	int code = 0;

	if (dir == NULL)
		return disk_failure(m, "list", path, err);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while (code == 0 && (errno = 0, e = readdir(dir)) != NULL) {
		_free_ char *below = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (cancel_requested(m->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		below = text_format("%s%s%s", path, *path == '\0' ? "" : "/", e->d_name);
		code = list_one(m, dirfd(dir), e->d_name, below, err);
	}
	return code == 0 && errno != 0 ? disk_failure(m, "list", path, err) : code;
}

/* Returns the path of the next directory in the inventory, which the caller frees; NULL on
 * failure. */
static char *next_dir(struct inventory_making *m, struct error *err)
{
	if (fflush(m->out) != 0) {
		disk_failure(m, "write", INVENTORY_NEW, err);
		return NULL;
	}
	while (inventory_read_record(m->in, m->line) > 0) {
		const char *path = m->line;
		char type = *path;

		for (int i = 0; i < 4 && path != NULL; i++)
			path = strchr(path + (i > 0), ' ');
		if (type == 'd' && path != NULL)
			return text_copy(path + 1);
	}
	error_set(err, -EIO, "cannot read %s back", INVENTORY_NEW);
	return NULL;
}

static int list_all(struct inventory_making *m, struct error *err)
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

static int finish_inventory(struct inventory_making *m, struct error *err)
{
	char head[INVENTORY_HEAD] = {0};
	struct stat st;

	if (ferror(m->out) || fflush(m->out) != 0 || fstat(fileno(m->out), &st) != 0)
		return disk_failure(m, "write", INVENTORY_NEW, err);
	m->head->length = (uint64_t)st.st_size;
	m->head->disk += (uint64_t)st.st_blocks * 512;
	if (inventory_head_print(m->head, head, sizeof(head)) < 0)
		return error_set(err, -ERR_LIMIT, "the head of an inventory is too long");
	if (pwrite(fileno(m->out), head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return disk_failure(m, "write", INVENTORY_NEW, err);
	return 0;
}

static void making_done(struct inventory_making *m)
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

static FILE *open_written(int dir_fd, const char *name, int flags, const char *mode)
{
	_close_ int fd = inventory_open_file(dir_fd, name, flags);
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (fd < 0)
		errno = -fd;
	if (f == NULL)
		return NULL;
	take_fd(&fd);
	if (fseeko(f, INVENTORY_HEAD, SEEK_SET) == 0)
		return f;
	fclose(f);
	return NULL;
}

int inventory_make(int key_fd, int root_fd, struct inventory_head *head,
	const struct cancel *cancel, struct error *err)
{
	struct inventory_making m = {.root_fd = root_fd, .head = head, .cancel = cancel};
	int code;

	m.line = zalloc(INVENTORY_RECORD);
	m.out = open_written(key_fd, INVENTORY_NEW, O_WRONLY | O_CREAT | O_TRUNC, "w");
	m.in = m.out == NULL ? NULL : open_written(key_fd, INVENTORY_NEW, O_RDONLY, "r");
	code = m.in == NULL ? disk_failure(&m, "make", INVENTORY_NEW, err) : list_all(&m, err);
	if (code == 0)
		code = finish_inventory(&m, err);
	making_done(&m);
	if (code == 0 && renameat(key_fd, INVENTORY_NEW, key_fd, INVENTORY_NAME) != 0)
		code = tree_disk_error(err, errno, key_fd, "rename", INVENTORY_NEW);
	return code;
}
