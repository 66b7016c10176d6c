/* SPDX-License-Identifier: MIT */
/* Reading and writing the state files. It decides nothing: what a journal means for the file system
 * is in moves.c. */
#include "journal.h"
#include "defer.h"
#include "log.h"
#include "record.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT   1
#define NEW_FILE "journal.new"

static const char *const kind_names[] = {
	[PUBLISH_WHOLE] = "whole", [PUBLISH_MERGE] = "merge", [PUBLISH_UNFINISHED] = "unfinished"};

/* Different for every start of every kernel; "" where it cannot be read. */
static void boot_id(char buf[static 64])
{
	_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, 63);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static int cannot_write(const struct journal_writer *w, struct error *err)
{
	int code = disk_error(err, errno, w->dir_fd, "write", NEW_FILE);

	error_prefix(err, "%s", w->path);
	return code;
}

/* Takes over o. */
static int write_line(struct journal_writer *w, json_t *o, struct error *err)
{
	int failed = json_dumpf(o, w->f, JSON_COMPACT) != 0 || fputc('\n', w->f) == EOF;

	json_decref(o);
	return failed ? cannot_write(w, err) : 0;
}

static json_t *head_to_json(const struct journal_head *head)
{
	json_t *o = record_to_json(head->record);
	char boot[64];

	boot_id(boot);
	json_object_set_new(o, "format", json_integer(FORMAT));
	json_object_set_new(o, "kind", json_string(kind_names[head->kind]));
	json_object_set_new(o, "tree", json_string(head->tree));
	json_object_set_new(o, "boot", json_string(boot));
	return o;
}

int journal_begin(struct journal_writer *w, const struct journal_head *head, struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = openat(head->dir_fd, NEW_FILE, flags, 0644);

	*w = (struct journal_writer){.dir_fd = head->dir_fd, .path = head->path};
	w->name = head->kind == PUBLISH_UNFINISHED ? UNFINISHED_FILE : JOURNAL_FILE;
	if (fd < 0 || (w->f = fdopen(fd, "w")) == NULL)
		return cannot_write(w, err);
	take_fd(&fd);
	return write_line(w, head_to_json(head), err);
}

int journal_add(struct journal_writer *w, const struct journal_entry *e, struct error *err)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", bytes_to_json(e->name));
	json_object_set_new(o, "mode", json_integer(e->inode.mode));
	json_object_set_new(o, "ino", json_integer((json_int_t)e->inode.ino));
	if (e->inode.has_birth)
		json_object_set_new(o, "birth",
			json_pack("[I,I]", (json_int_t)e->inode.birth_sec,
				(json_int_t)e->inode.birth_nsec));
	if (e->replace)
		json_object_set_new(o, "replace", json_true());
	w->n++;
	return write_line(w, o, err);
}

/* Content to the file, and with sync to the disk. */
static int finish_file(struct journal_writer *w, bool sync)
{
	int failed = fflush(w->f) != 0 || (sync && fsync(fileno(w->f)) != 0);

	failed |= fclose(w->f) != 0;
	w->f = NULL;
	return failed;
}

int journal_commit(struct journal_writer *w, bool sync, struct error *err)
{
	int code = write_line(w, json_pack("{s:I}", "end", (json_int_t)w->n), err);

	if (code < 0)
		return code;
	if (finish_file(w, sync) || renameat(w->dir_fd, NEW_FILE, w->dir_fd, w->name) != 0)
		return cannot_write(w, err);
	return sync && fsync(w->dir_fd) != 0 ? cannot_write(w, err) : 0;
}

void journal_abandon(struct journal_writer *w)
{
	if (w->f != NULL)
		fclose(w->f);
	w->f = NULL;
	unlinkat(w->dir_fd, NEW_FILE, 0);
}

int journal_write_one(
	const struct journal_head *head, const struct journal_entry *e, struct error *err)
{
	struct journal_writer w;
	int code = journal_begin(&w, head, err);

	if (code == 0)
		code = journal_add(&w, e, err);
	if (code == 0)
		code = journal_commit(&w, false, err);
	if (code < 0)
		journal_abandon(&w);
	return code;
}

static json_t *read_line(struct journal *j)
{
	ssize_t len = getline(&j->line, &j->line_size, j->f);

	if (len <= 0 || j->line[len - 1] != '\n')
		return NULL;
	return json_loadb(j->line, (size_t)len, JSON_REJECT_DUPLICATES, NULL);
}

static bool is_component(const char *name)
{
	return name != NULL && name[0] != '\0' && strchr(name, '/') == NULL &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool read_kind(const json_t *head, enum publish_kind *ret)
{
	const char *kind = json_string_value(json_object_get(head, "kind"));

	for (size_t i = 0; kind != NULL && i < ARRAY_LEN(kind_names); i++)
		if (strcmp(kind, kind_names[i]) == 0) {
			*ret = (enum publish_kind)i;
			return true;
		}
	return false;
}

static bool read_head(struct journal *j)
{
	json_t *head = read_line(j);
	const char *boot = json_string_value(json_object_get(head, "boot"));
	char now[64];
	bool good;

	boot_id(now);
	j->this_boot = boot != NULL && boot[0] != '\0' && strcmp(boot, now) == 0;
	j->tree = bytes_from_json(json_object_get(head, "tree"));
	j->record = record_from_json(head);
	good = json_integer_value(json_object_get(head, "format")) == FORMAT &&
	       read_kind(head, &j->kind) && is_component(j->tree) && j->record != NULL;
	json_decref(head);
	j->entries_at = ftello(j->f);
	return good;
}

static bool read_birth(const json_t *pair, struct inode *ret)
{
	const json_t *sec = json_array_get(pair, 0), *nsec = json_array_get(pair, 1);

	if (pair == NULL)
		return true;
	ret->has_birth = true;
	ret->birth_sec = json_integer_value(sec);
	ret->birth_nsec = (uint32_t)json_integer_value(nsec);
	return json_is_integer(sec) && json_is_integer(nsec);
}

static bool read_entry(struct journal *j, const json_t *o, struct journal_entry *ret)
{
	const json_t *mode = json_object_get(o, "mode"), *ino = json_object_get(o, "ino");

	free(j->name);
	j->name = bytes_from_json(json_object_get(o, "name"));
	*ret = (struct journal_entry){.name = j->name,
		.inode = {.ino = (uint64_t)json_integer_value(ino),
			.mode = (mode_t)json_integer_value(mode)},
		.replace = json_is_true(json_object_get(o, "replace"))};
	return is_component(j->name) && json_is_integer(mode) && json_is_integer(ino) &&
	       read_birth(json_object_get(o, "birth"), &ret->inode);
}

/* All lines up to {"end": how many}. */
static bool is_complete(struct journal *j)
{
	uint64_t n = 0;

	if (!read_head(j))
		return false;
	for (;; n++) {
		json_t *o = read_line(j);
		const json_t *end = json_object_get(o, "end");
		bool ended = json_is_integer(end) && (uint64_t)json_integer_value(end) == n;
		struct journal_entry e;
		bool good = end == NULL && read_entry(j, o, &e);

		json_decref(o);
		if (!good)
			return ended;
	}
}

int journal_next(struct journal *j, struct journal_entry *ret)
{
	json_t *o = read_line(j);
	int more = json_object_get(o, "end") == NULL && read_entry(j, o, ret);

	json_decref(o);
	return more;
}

void journal_rewind(struct journal *j)
{
	(void)fseeko(j->f, j->entries_at, SEEK_SET);
}

static FILE *open_file(int dir_fd, const char *name)
{
	/* Not to wait, should it be a FIFO. */
	_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (f != NULL)
		take_fd(&fd);
	return f;
}

int journal_open(int dir_fd, const char *name, struct journal **ret)
{
	FILE *f = open_file(dir_fd, name);
	struct journal *j;

	if (f == NULL)
		return -ENOENT;
	j = zalloc(sizeof(*j));
	j->f = f;
	if (!is_complete(j)) {
		log_debug("%s is damaged or not of this version: taken as absent", name);
		journal_close(j);
		return -ENOENT;
	}
	journal_rewind(j);
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	fclose(j->f);
	record_free(j->record);
	free(j->tree);
	free(j->line);
	free(j->name);
	free(j);
}
