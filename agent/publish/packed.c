/* SPDX-License-Identifier: MIT */
/* Packed records: all records of a DEST in one file. One thread at a time; packed_open(): any
 * thread. This file does not decide where that file is and when it is written: see
 * state_dir_pack(). */
#include "defer.h"
#include "disk.h"
#include "inode.h"
#include "journal.h"
#include "publish_private.h"
#include "text.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#define HOME_TEXT (2 * INODE_TEXT + 2)
#define TITLE     "{\"stagerun\": \"records\", \"format\": 1}\n"
#define SUFFIX    ".json"
#define MAX_KEYS  100000

void packed_init(struct packed_records *p)
{
	*p = (struct packed_records){.n_fds = 0};
}

void packed_done(struct packed_records *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].key);
	free(p->v);
	for (size_t i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	packed_init(p);
}

static bool has_title(struct lines *l)
{
	const char *line;
	size_t len;

	return lines_next(l, &line, &len) && len == strlen(TITLE) && memcmp(line, TITLE, len) == 0;
}

bool packed_is_one(int dir_fd, const char *name)
{
	_close_ int fd = lines_open_file(dir_fd, name);
	struct lines l;
	bool is;

	if (fd < 0)
		return false;
	lines_init(&l, fd, 0, (off_t)strlen(TITLE));
	is = has_title(&l);
	lines_done(&l);
	return is;
}

static const struct packed_item *find_item(const struct packed_records *p, const char *key)
{
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->v[i].key, key) == 0)
			return &p->v[i];
	return NULL;
}

static void add_item(struct packed_records *p, const struct packed_item *item)
{
	p->v = realloc(p->v, (p->n + 1) * sizeof(*p->v));
	if (p->v == NULL)
		abort();
	memmove(p->v + 1, p->v, p->n * sizeof(*p->v));
	p->v[0] = *item;
	p->n++;
}

/* Prints the inodes of the file and its directory, which show whether records are still where they
 * were written. Returns false if they cannot be read. */
static bool print_home(int fd, int dir_fd, char buf[static HOME_TEXT])
{
	char file_text[INODE_TEXT], dir_text[INODE_TEXT];
	struct inode file, dir;

	if (inode_stat(fd, "", &file) < 0 || inode_stat(dir_fd, "", &dir) < 0)
		return false;
	inode_print(&file, file_text);
	inode_print(&dir, dir_text);
	snprintf(buf, HOME_TEXT, "%s, %s", file_text, dir_text);
	return true;
}

static bool read_item(const json_t *o, const char *home_now, struct packed_item *ret)
{
	const char *home = json_string_value(json_object_get(o, "home"));
	const json_t *bytes = json_object_get(o, "bytes"), *written = json_object_get(o, "written");
	const json_t *sec = json_array_get(written, 0), *nsec = json_array_get(written, 1);
	const char *key = json_string_value(json_object_get(o, "key"));

	if (!publish_key_is_valid(key) || !json_is_integer(bytes) || !json_is_integer(sec) ||
		!json_is_integer(nsec))
		return false;
	ret->key = text_copy(key);
	ret->renumbered = home != NULL && strcmp(home, home_now) != 0;
	ret->len = (off_t)json_integer_value(bytes);
	ret->written = (struct timespec){.tv_sec = (time_t)json_integer_value(sec),
		.tv_nsec = (long)json_integer_value(nsec)};
	return true;
}

/* Returns false if the file ends here, or is damaged from here on. */
static bool next_item(
	struct packed_records *p, struct lines *l, int fd, off_t size, const char *home)
{
	struct packed_item item = {.fd = fd};
	const char *line;
	size_t len;
	json_t *o = lines_next(l, &line, &len) ? json_loadb(line, len, 0, NULL) : NULL;
	bool good = read_item(o, home, &item);

	json_decref(o);
	if (!good)
		return false;
	item.at = lines_tell(l);
	if (item.len <= 0 || item.len > size - item.at || p->n >= MAX_KEYS) {
		free(item.key);
		return false;
	}
	add_item(p, &item);
	lines_seek(l, item.at + item.len);
	return true;
}

static bool is_believed(int dir_fd, int fd, bool roots_too)
{
	struct inode inode;
	enum trust t =
		inode_stat(fd, "", &inode) == 0 ? trust_inode(&inode, dir_fd) : TRUST_FOREIGN;

	return t == TRUST_OURS || (roots_too && t == TRUST_ROOTS);
}

void packed_load(struct packed_records *p, int dir_fd, const char *name, bool roots_too)
{
	_close_ int fd = lines_open_file(dir_fd, name);
	char home[HOME_TEXT];
	struct lines l;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || p->n_fds == 2 || !is_believed(dir_fd, fd, roots_too) ||
		!print_home(fd, dir_fd, home))
		return;
	lines_init(&l, fd, 0, st.st_size);
	if (has_title(&l)) {
		while (next_item(p, &l, fd, st.st_size, home)) {
		}
		p->fds[p->n_fds++] = take_fd(&fd);
	}
	lines_done(&l);
}

int packed_open(const struct packed_records *p, const char *key, struct journal **ret)
{
	const struct packed_item *item = find_item(p, key);
	struct journal_part part;

	if (item == NULL)
		return -ENOENT;
	part = (struct journal_part){.fd = item->fd,
		.at = item->at,
		.len = item->len,
		.modified = item->written,
		.changed = item->written,
		.renumbered = item->renumbered};
	return journal_open_part(&part, ret);
}

static bool copy_part(FILE *to, const char *home, const struct packed_item *item)
{
	char buf[16384];
	off_t at = item->at, end = item->at + item->len;

	if (fprintf(to,
		    "{\"key\": \"%s\", \"bytes\": %jd, \"written\": [%jd, %ld], \"home\": \"%s\"}\n",
		    item->key, (intmax_t)item->len, (intmax_t)item->written.tv_sec,
		    item->written.tv_nsec, item->renumbered ? "moved" : home) < 0)
		return false;
	while (at < end) {
		size_t want = (size_t)(end - at) < sizeof(buf) ? (size_t)(end - at) : sizeof(buf);
		ssize_t n = pread(item->fd, buf, want, at);

		if (n <= 0 || fwrite(buf, 1, (size_t)n, to) != (size_t)n)
			return false;
		at += n;
	}
	return true;
}

/* Copies only files that can be read back as a journal; skips others. */
static bool copy_file(FILE *to, const char *home, int state_fd, const char *name, const char *key)
{
	_free_ char *path = text_format(MERGED_DIR "/%s", name);
	struct packed_item item = {.key = (char *)key};
	_close_ int fd = lines_open_file(state_fd, path);
	struct journal *j;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || journal_open(state_fd, path, &j) < 0)
		return true;
	item.fd = fd;
	item.len = st.st_size;
	item.written = j->marks.published;
	item.renumbered = j->renumbered;
	journal_close(j);
	return copy_part(to, home, &item);
}

static bool copy_merged(FILE *to, const char *home, int state_fd, int merged_fd)
{
	_closedir_ DIR *dir = publish_listing_open(merged_fd, ".");
	bool good = true;
	const char *name;

	while (dir != NULL && good && (name = publish_listing_next(dir)) != NULL) {
		size_t len = strlen(name), suffix = strlen(SUFFIX);
		_free_ char *key =
			len > suffix ? text_format("%.*s", (int)(len - suffix), name) : NULL;

		if (key != NULL && strcmp(name + len - suffix, SUFFIX) == 0 &&
			publish_key_is_valid(key))
			good = copy_file(to, home, state_fd, name, key);
	}
	return good && dir != NULL;
}

/* Copies those records of p that have no newer record of the same key. */
static bool copy_packed(FILE *to, const char *home, const struct packed_records *p, int merged_fd)
{
	bool good = true;

	for (size_t i = 0; i < p->n && good; i++) {
		const struct packed_item *item = &p->v[i];
		_free_ char *name = text_format("%s" SUFFIX, item->key);

		if (find_item(p, item->key) == item &&
			faccessat(merged_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			good = copy_part(to, home, item);
	}
	return good;
}

int packed_write(const struct packed_records *p, int host_fd, int state_fd, int merged_fd)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = -1;
	char home[HOME_TEXT];
	FILE *f;
	bool good;

	unlinkat(state_fd, PACKED_NEW, 0);
	fd = openat(state_fd, PACKED_NEW, flags, umask_apply(0644) | S_IRUSR | S_IWUSR);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (f == NULL)
		return -1;
	take_fd(&fd);
	good = print_home(fileno(f), host_fd, home) && fputs(TITLE, f) != EOF &&
	       (merged_fd < 0 || copy_merged(f, home, state_fd, merged_fd)) &&
	       copy_packed(f, home, p, merged_fd) && fflush(f) == 0 &&
	       disk_sync(fileno(f), false) == 0;
	good = fclose(f) == 0 && good;
	if (!good)
		unlinkat(state_fd, PACKED_NEW, 0);
	return good ? 0 : -1;
}
