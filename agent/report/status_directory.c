/* SPDX-License-Identifier: MIT */
/* Where the files of runs are: made, written, read and removed. The directory may lie in one that
 * all users can write, so nothing in it is followed, and nothing of others is believed. */
#include "defer.h"
#include "files.h"
#include "log.h"
#include "run_status.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { FILE_MAX = 1 << 20, READ_MAX = 4096 };

/* What is removed: at most so many files are looked at, and so many of the newest are kept. */
enum { LOOK_MAX = 512, KEPT = 20, TOLERATED = 2 * KEPT };

/* For how long a dead run's file is kept, and one of which that cannot be known. */
enum { KEPT_SECONDS = 24 * 3600, FOREIGN_SECONDS = 3600 };

/* A run in a hurry removes something only now and then. */
enum { HURRIED_SHARE = 16 };

#define ENDING ".json"

void run_status_places(struct strings *to)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"); /* NOLINT(concurrency-mt-unsafe) */
	const char *tmp = getenv("TMPDIR");              /* NOLINT(concurrency-mt-unsafe) */
	_free_ char *in_tmp = text_format(
		"%s/stagerun-%u", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp", geteuid());

	text_strings_add(to, "/run/stagerun");
	if (runtime != NULL && runtime[0] == '/') {
		_free_ char *path = text_format("%s/stagerun", runtime);

		text_strings_add(to, path);
	}
	text_strings_add(to, in_tmp);
}

static bool is_trusted(const struct stat *st, bool own)
{
	return (st->st_uid == geteuid() || (!own && st->st_uid == 0)) &&
	       (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int run_status_open_directory(const char *path, bool create)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = open(path, flags);
	struct stat st;

	if (fd < 0 && errno == ENOENT && create) {
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		fd = open(path, flags);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return is_trusted(&st, create) ? take_fd(&fd) : -EPERM;
}

/* Writes a file that is not there yet. Returns 0 or -errno; -EEXIST if it is. */
static int write_new(int directory_fd, const char *name, const char *text)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = openat(directory_fd, name, flags, 0644);
	int code = fd < 0 ? -errno : files_write_all(fd, text, strlen(text), FILES_POSITION);

	if (fd >= 0 && code < 0)
		unlinkat(directory_fd, name, 0);
	return code;
}

/* By rename, so that a reader sees the file before or this one. */
static int replace(int directory_fd, const char *id, const char *name, const char *text)
{
	_free_ char *unfinished = text_format(".%s.new", id);
	int code = write_new(directory_fd, unfinished, text);

	if (code == -EEXIST && unlinkat(directory_fd, unfinished, 0) == 0)
		code = write_new(directory_fd, unfinished, text);
	if (code == 0 && renameat(directory_fd, unfinished, directory_fd, name) < 0) {
		code = -errno;
		unlinkat(directory_fd, unfinished, 0);
	}
	return code;
}

int run_status_write(int directory_fd, const char *id, const char *line, bool is_first)
{
	_free_ char *name = text_format("%s" ENDING, id);
	_free_ char *text = text_format("%s\n", line);
	int code = -EEXIST;

	/* A rename would cost as much as the write. Who reads the file before it is whole passes it
	 * over, as if he had come before it. */
	if (is_first)
		code = write_new(directory_fd, name, text);
	return code == -EEXIST ? replace(directory_fd, id, name, text) : code;
}

/* "PID-START.json", or ".PID-START.new", which a killed run leaves. */
static bool parse_name(const char *name, struct run_status_process *ret)
{
	bool unfinished = name[0] == '.';
	unsigned pid = 0;
	unsigned long long ticks = 0;
	_free_ char *same = NULL;

	if (sscanf(name + unfinished, "%9u-%19llu", &pid, &ticks) != 2 || pid == 0)
		return false;
	same = text_format(unfinished ? ".%u-%llu.new" : "%u-%llu" ENDING, pid, ticks);
	*ret = (struct run_status_process){.pid = (pid_t)pid, .start_ticks = ticks};
	return strcmp(same, name) == 0;
}

static DIR *list(int directory_fd)
{
	int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL && fd >= 0)
		close(fd);
	return dir;
}

/* Reading. */

/* Returns the content; NULL if it is not believed. */
static char *read_file(int directory_fd, const char *name, size_t *ret_len)
{
	_close_ int fd = openat(
		directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_free_ char *buf = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !is_trusted(&st, false) ||
		st.st_size <= 0 || st.st_size > FILE_MAX)
		return NULL;
	buf = malloc((size_t)st.st_size);
	n = buf != NULL ? read(fd, buf, (size_t)st.st_size) : -1;
	if (n <= 0)
		return NULL;
	*ret_len = (size_t)n;
	return take_ptr(&buf);
}

static bool read_run(int directory_fd, const char *name, struct run_status *ret)
{
	size_t len = 0;
	_free_ char *bytes = read_file(directory_fd, name, &len);
	_free_ char *expected = NULL;

	if (bytes == NULL || run_status_parse(bytes, len, ret, NULL) < 0)
		return false;
	expected = text_format("%s" ENDING, ret->id);
	if (strcmp(expected, name) == 0)
		return true;
	run_status_done(ret);
	return false;
}

void run_status_read(int directory_fd, struct run_status_list *ret)
{
	_closedir_ DIR *dir = list(directory_fd);
	struct run_status_process p;
	struct run_status s;
	struct dirent *entry;

	while (dir != NULL && ret->n < READ_MAX &&
		(entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe) */
		if (entry->d_name[0] == '.' || !parse_name(entry->d_name, &p) ||
			!read_run(directory_fd, entry->d_name, &s))
			continue;
		ret->v = reallocarray(ret->v, ret->n + 1, sizeof(*ret->v));
		if (ret->v == NULL)
			abort();
		ret->v[ret->n++] = s;
	}
}

void run_status_list_done(struct run_status_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		run_status_done(&l->v[i]);
	free(l->v);
	*l = (struct run_status_list){0};
}

/* Removing. */

struct old_file {
	char name[64];
	struct timespec changed;
	struct run_status_process process;
};

struct old_files {
	struct old_file *v;
	size_t n;
};

static void add_file(struct old_files *files, int directory_fd, const char *name)
{
	struct old_file f = {0};
	struct stat st;

	if (!parse_name(name, &f.process) || strlen(name) >= sizeof(f.name) ||
		fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
		st.st_uid != geteuid())
		return;
	snprintf(f.name, sizeof(f.name), "%s", name);
	f.changed = st.st_mtim;
	files->v = reallocarray(files->v, files->n + 1, sizeof(*files->v));
	if (files->v == NULL)
		abort();
	files->v[files->n++] = f;
}

static int compare_newest_first(const void *a, const void *b)
{
	const struct timespec *x = &((const struct old_file *)a)->changed;
	const struct timespec *y = &((const struct old_file *)b)->changed;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? 1 : -1;
	return (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

/* The name has no boot and no namespace, so the content is asked. Of an unfinished file, which has
 * none that counts, only the number is known. */
static enum run_alive is_alive(
	int directory_fd, const struct old_file *f, const struct run_status_process *self)
{
	struct run_status_process process = f->process;
	struct run_status s;

	process.pid_namespace = self->pid_namespace;
	memcpy(process.boot, self->boot, sizeof(process.boot));
	if (f->name[0] != '.' && read_run(directory_fd, f->name, &s)) {
		process = s.process;
		run_status_done(&s);
	}
	return run_status_is_alive(&process, self);
}

static void remove_if_dead(int directory_fd, const struct old_file *f, size_t newer, time_t now,
	const struct run_status_process *self)
{
	time_t age = now - f->changed.tv_sec;
	enum run_alive alive;

	if (age <= KEPT_SECONDS && newer < KEPT)
		return;
	alive = is_alive(directory_fd, f, self);
	if (alive == RUN_DEAD ||
		(alive == RUN_ALIVE_UNKNOWN && newer >= KEPT && age > FOREIGN_SECONDS))
		unlinkat(directory_fd, f->name, 0);
}

/* Reading names is cheap; a look at each file is not. */
static bool has_many(int directory_fd)
{
	_closedir_ DIR *dir = list(directory_fd);
	size_t n = 0;

	while (dir != NULL && n <= TOLERATED &&
		readdir(dir) != NULL) /* NOLINT(concurrency-mt-unsafe) */
		n++;
	return n > TOLERATED;
}

void run_status_clean(int directory_fd, const struct run_status_process *self, bool in_a_hurry)
{
	_closedir_ DIR *dir = NULL;
	struct old_files files = {0};
	struct dirent *entry;
	time_t now = time(NULL);

	if (in_a_hurry && (self->start_ticks % HURRIED_SHARE != 0 || !has_many(directory_fd)))
		return;
	dir = list(directory_fd);
	while (dir != NULL && files.n < LOOK_MAX &&
		(entry = readdir(dir)) != NULL) /* NOLINT(concurrency-mt-unsafe) */
		add_file(&files, directory_fd, entry->d_name);
	if (files.n > 1)
		qsort(files.v, files.n, sizeof(*files.v), compare_newest_first);
	for (size_t i = 0; i < files.n; i++)
		remove_if_dead(directory_fd, &files.v[i], i, now, self);
	free(files.v);
}
