/* SPDX-License-Identifier: MIT */
/* State files: records as JSON, and journals, which are a record and a list of entries. One thread
 * at a time for each journal. This file decides nothing: moves.c interprets journals. */
#include "journal.h"
#include "defer.h"
#include "disk.h"
#include "log.h"
#include "publish_private.h"
#include "umask.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DIGEST_LEN 64

void publish_record_free(struct record *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_sources; i++) {
		free(r->sources[i].name);
	}
	free(r->sources);
	free(r->key);
	free(r);
}

/* The URL is not written: its query may contain a secret, and others may read records. (In records
 * of earlier versions the URL is "key".) */
static json_t *source_to_json(const struct record_source *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_from_bytes(s->name));
	json_object_set_new(o, "etag", json_from_bytes(s->identity.etag));
	json_object_set_new(o, "last_modified", json_from_bytes(s->identity.last_modified));
	json_object_set_new(o, "sha256", json_from_bytes(s->sha256));
	if (s->identity.recent)
		json_object_set_new(o, "recent", json_true());
	if (s->identity.size != SIZE_UNKNOWN)
		json_object_set_new(o, "size", json_integer((json_int_t)s->identity.size));
	return o;
}

static void sum_to_json(const struct record *r, json_t *o)
{
	char sum[2 * 16 + 2], times[16 + 1];

	if (r->synced)
		json_object_set_new(o, "synced", json_true());
	if (r->shared)
		json_object_set_new(o, "shared", json_true());
	if (r->condition == RECORD_TOUCHED)
		json_object_set_new(o, "touched", json_true());
	if (!r->sum.known)
		return;
	snprintf(sum, sizeof(sum), "%016" PRIx64 "-%016" PRIx64, r->sum.dense, r->sum.sparse);
	json_object_set_new(o, "sum", json_string(sum));
	if (!r->sum.has_times)
		return;
	snprintf(times, sizeof(times), "%016" PRIx64, r->sum.times);
	json_object_set_new(o, "times", json_string(times));
}

/* A sum that is missing or damaged is not known. */
static struct file_sum sum_from_json(const json_t *o)
{
	const char *sum = json_string_value(json_object_get(o, "sum"));
	const char *times = json_string_value(json_object_get(o, "times"));
	struct file_sum s = {0};

	s.known = sum != NULL && strlen(sum) == 2 * 16 + 1 &&
		  sscanf(sum, "%16" SCNx64 "-%16" SCNx64, &s.dense,
			  &s.sparse) == /* NOLINT(cert-err34-c) */
			  2;
	s.has_times = times != NULL && strlen(times) == 16 &&
		      sscanf(times, "%16" SCNx64, &s.times) == 1; /* NOLINT(cert-err34-c) */
	return s;
}

/* Returns a new reference; never NULL. */
static json_t *record_to_json(const struct record *r)
{
	json_t *o = json_object(), *sources = json_array();

	for (size_t i = 0; i < r->n_sources; i++)
		json_array_append_new(sources, source_to_json(&r->sources[i]));
	json_object_set_new(o, "key", json_from_bytes(r->key));
	json_object_set_new(o, "lineage", json_string(r->lineage));
	json_object_set_new(o, "sources", sources);
	json_object_set_new(o, "bytes", json_integer((json_int_t)r->bytes));
	json_object_set_new(o, "entries", json_integer((json_int_t)r->entries));
	json_object_set_new(o, "staged_at", json_integer((json_int_t)r->staged_at));
	sum_to_json(r, o);
	if (o == NULL || sources == NULL)
		abort();
	return o;
}

/* Copies a text member into a field of fixed size; returns false if it is missing or does not
 * fit. */
static bool read_text(const json_t *o, const char *key, char *field, size_t size)
{
	_free_ char *bytes = json_to_bytes(json_object_get(o, key));

	if (bytes == NULL || strlen(bytes) >= size)
		return false;
	memcpy(field, bytes, strlen(bytes) + 1);
	return true;
}

static bool source_from_json(const json_t *o, struct record_source *ret)
{
	const json_t *size = json_object_get(o, "size");

	ret->name = json_to_bytes(json_object_get(o, "name"));
	ret->identity.recent = json_is_true(json_object_get(o, "recent"));
	ret->identity.size = size != NULL ? (uint64_t)json_integer_value(size) : SIZE_UNKNOWN;
	return ret->name != NULL && (size == NULL || json_is_integer(size)) &&
	       read_text(o, "etag", ret->identity.etag, sizeof(ret->identity.etag)) &&
	       read_text(o, "last_modified", ret->identity.last_modified,
		       sizeof(ret->identity.last_modified)) &&
	       read_text(o, "sha256", ret->sha256, DIGEST_LEN + 1);
}

static bool sources_from_json(const json_t *array, struct record *r)
{
	if (!json_is_array(array))
		return false;
	r->n_sources = json_array_size(array);
	r->sources = zalloc(r->n_sources * sizeof(*r->sources));
	for (size_t i = 0; i < r->n_sources; i++)
		if (!source_from_json(json_array_get(array, i), &r->sources[i]))
			return false;
	return true;
}

bool publish_key_is_valid(const char *key)
{
	static const char bytes[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	return key != NULL && key[0] != '\0' && key[strspn(key, bytes)] == '\0';
}

/* Returns NULL if a mandatory member is missing or of another type. Ignores unknown members. */
static struct record *record_from_json(const json_t *object)
{
	struct record *r = zalloc(sizeof(*r));
	const json_t *bytes = json_object_get(object, "bytes");
	const json_t *entries = json_object_get(object, "entries");
	const json_t *staged_at = json_object_get(object, "staged_at");

	r->key = json_to_bytes(json_object_get(object, "key"));
	r->bytes = (uint64_t)json_integer_value(bytes);
	r->entries = (uint64_t)json_integer_value(entries);
	r->staged_at = (time_t)json_integer_value(staged_at);
	(void)read_text(object, "lineage", r->lineage, sizeof(r->lineage));
	r->synced = json_is_true(json_object_get(object, "synced"));
	r->shared = json_is_true(json_object_get(object, "shared"));
	if (json_is_true(json_object_get(object, "touched")))
		r->condition = RECORD_TOUCHED;
	r->sum = sum_from_json(object);
	/* A record without sources would not say what was staged. */
	if (sources_from_json(json_object_get(object, "sources"), r) && r->n_sources > 0 &&
		publish_key_is_valid(r->key) && json_is_integer(bytes) &&
		json_is_integer(entries) && json_is_integer(staged_at))
		return r;
	publish_record_free(r);
	return NULL;
}

bool publish_record_is_pinned(const struct record *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (r->sources[i].sha256[0] == '\0' &&
			!object_identity_pins(&r->sources[i].identity))
			return false;
	return true;
}

static void describe_version(const struct record_source *s, struct text *t)
{
	if (s->sha256[0] != '\0')
		text_addf(t, " (sha256 %.12s)", s->sha256);
	else if (s->identity.etag[0] != '\0')
		text_addf(t, " (etag %s)", s->identity.etag);
	else if (s->identity.last_modified[0] != '\0')
		text_addf(t, " (last modified %s)", s->identity.last_modified);
}

void publish_record_describe(const struct record *r, struct text *t)
{
	char when[32] = "an unknown time";
	struct tm tm;

	if (gmtime_r(&r->staged_at, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	text_add(t, r->n_sources > 0 ? r->sources[0].name : "nothing");
	if (r->n_sources > 1)
		text_addf(t, " and %zu more", r->n_sources - 1);
	text_addf(t, " staged at %s", when);
	if (r->n_sources > 0)
		describe_version(&r->sources[0], t);
}

/* Reading and writing journals. */

#define FORMAT   1
#define NEW_FILE "journal.new"

static const char *const kind_names[] = {
	[PUBLISH_WHOLE] = "whole", [PUBLISH_MERGE] = "merge", [PUBLISH_UNFINISHED] = "unfinished"};

static int cannot_write(const struct journal_writer *w, struct error *err)
{
	int code = tree_disk_error(err, errno, w->dir_fd, "write", NEW_FILE);

	error_prefix(err, "%s", w->path);
	return code;
}

/* Consumes o. */
static int write_line(struct journal_writer *w, json_t *o, struct error *err)
{
	_free_ char *line = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	if (line == NULL)
		abort();
	if (strlen(line) >= LINE_BYTES_MAX)
		return error_set(err, -ERR_LIMIT,
			"%s: what was staged from so many sources cannot be recorded: stage them into several directories",
			w->path);
	return fputs(line, w->f) == EOF || fputc('\n', w->f) == EOF ? cannot_write(w, err) : 0;
}

static json_t *head_to_json(const struct journal_head *head, const struct timespec *finished)
{
	json_t *o = record_to_json(head->record);
	char boot[64], numbers[INODE_TEXT];
	struct inode home;

	publish_boot_id(boot);
	if (inode_stat(head->dir_fd, "", &home) == 0) {
		inode_print(&home, numbers);
		json_object_set_new(o, "home", json_string(numbers));
	}
	json_object_set_new(o, "format", json_integer(FORMAT));
	json_object_set_new(o, "kind", json_string(kind_names[head->kind]));
	json_object_set_new(o, "tree", json_string(head->tree));
	json_object_set_new(o, "boot", json_string(boot));
	json_object_set_new(o, "finished",
		json_pack("[I,I]", (json_int_t)finished->tv_sec, (json_int_t)finished->tv_nsec));
	return o;
}

/* The file is new, so its mtime is the present time of the file system's clock. */
static struct timespec time_now(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

int journal_begin(struct journal_writer *w, const struct journal_head *head, struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = -1;

	struct timespec finished;

	unlinkat(head->dir_fd, NEW_FILE, 0); /* whatever is there */
	fd = openat(head->dir_fd, NEW_FILE, flags, umask_apply(0644) | S_IRUSR | S_IWUSR);
	*w = (struct journal_writer){
		.dir_fd = head->dir_fd, .path = head->path, .marks = head->marks};
	w->name = head->kind == PUBLISH_UNFINISHED ? UNFINISHED_FILE : JOURNAL_FILE;
	if (fd < 0 || (w->f = fdopen(fd, "w")) == NULL)
		return cannot_write(w, err);
	finished = head->marks != NULL ? head->marks->finished : time_now(fd);
	take_fd(&fd);
	return write_line(w, head_to_json(head, &finished), err);
}

static void inode_to_json(const struct inode *inode, json_t *o)
{
	json_object_set_new(o, "mode", json_integer(inode->mode));
	json_object_set_new(o, "ino", json_integer((json_int_t)inode->ino));
	if (inode->has_birth)
		json_object_set_new(o, "birth",
			json_pack("[I,I]", (json_int_t)inode->birth_sec,
				(json_int_t)inode->birth_nsec));
}

int journal_add(struct journal_writer *w, const struct journal_entry *e, struct error *err)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_from_bytes(e->name));
	inode_to_json(&e->inode, o);
	if (e->replace) {
		json_t *was = json_object();

		inode_to_json(&e->old, was);
		json_object_set_new(o, "replace", json_true());
		json_object_set_new(o, "was", was);
	}
	if (e->gone)
		json_object_set_new(o, "gone", json_true());
	w->n++;
	return write_line(w, o, err);
}

/* A file system may report success without having set the time, so the time is read back. */
static bool set_published(int fd, const struct timespec *published)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, *published};
	struct stat st;

	return futimens(fd, times) == 0 && fstat(fd, &st) == 0 &&
	       st.st_mtim.tv_sec == published->tv_sec && st.st_mtim.tv_nsec == published->tv_nsec;
}

/* Flushes the file, and, if sync is set, syncs it to the disk. */
static int flush_file(struct journal_writer *w, bool sync)
{
	int failed = fflush(w->f) != 0;

	if (!failed && w->marks != NULL)
		failed = !set_published(fileno(w->f), &w->marks->published);
	failed |= !failed && sync && disk_sync(fileno(w->f), false) != 0;
	failed |= fclose(w->f) != 0;
	w->f = NULL;
	return failed;
}

int journal_commit(struct journal_writer *w, bool sync, struct error *err)
{
	int code = write_line(w, json_pack("{s:I}", "end", (json_int_t)w->n), err);

	if (code < 0)
		return code;
	if (flush_file(w, sync) || renameat(w->dir_fd, NEW_FILE, w->dir_fd, w->name) != 0)
		return cannot_write(w, err);
	return sync && disk_sync(w->dir_fd, false) != 0 ? cannot_write(w, err) : 0;
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
	const char *line;
	size_t len;

	if (!lines_next(&j->lines, &line, &len))
		return NULL;
	return json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
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

/* Older files have no marks. For them, the ctime that the rename to a record has set stands for
 * both. */
static bool read_marks(struct journal *j, const struct journal_part *part, const json_t *finished)
{
	const json_t *sec = json_array_get(finished, 0), *nsec = json_array_get(finished, 1);

	j->marks = (struct marks){.finished = part->changed, .published = part->changed};
	if (finished == NULL)
		return true;
	j->marks.finished.tv_sec = (time_t)json_integer_value(sec);
	j->marks.finished.tv_nsec = (long)json_integer_value(nsec);
	j->marks.published = part->modified;
	return json_is_integer(sec) && json_is_integer(nsec);
}

static bool read_head(struct journal *j, const struct journal_part *part)
{
	json_t *head = read_line(j);
	const char *boot = json_string_value(json_object_get(head, "boot"));
	const char *home = json_string_value(json_object_get(head, "home"));
	char now[64];
	bool good;

	j->renumbered = part->home == NULL ? part->renumbered
					   : home != NULL && strcmp(home, part->home) != 0;
	publish_boot_id(now);
	j->this_boot = boot != NULL && boot[0] != '\0' && strcmp(boot, now) == 0;
	j->tree = json_to_bytes(json_object_get(head, "tree"));
	j->record = record_from_json(head);
	good = json_integer_value(json_object_get(head, "format")) == FORMAT &&
	       read_kind(head, &j->kind) && is_component(j->tree) && j->record != NULL &&
	       read_marks(j, part, json_object_get(head, "finished"));
	json_decref(head);
	j->entries_at = lines_tell(&j->lines);
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

static bool read_inode(const json_t *o, struct inode *ret)
{
	const json_t *mode = json_object_get(o, "mode"), *ino = json_object_get(o, "ino");

	*ret = (struct inode){
		.ino = (uint64_t)json_integer_value(ino), .mode = (mode_t)json_integer_value(mode)};
	return json_is_integer(mode) && json_is_integer(ino) &&
	       read_birth(json_object_get(o, "birth"), ret);
}

static bool read_entry(struct journal *j, const json_t *o, struct journal_entry *ret)
{
	const json_t *was = json_object_get(o, "was");

	free(j->name);
	j->name = json_to_bytes(json_object_get(o, "name"));
	*ret = (struct journal_entry){.name = j->name,
		.replace = json_is_true(json_object_get(o, "replace")),
		.gone = json_is_true(json_object_get(o, "gone"))};
	return is_component(j->name) && read_inode(o, &ret->inode) &&
	       (was == NULL || read_inode(was, &ret->old));
}

/* Reads all lines up to {"end": N} and checks N. */
static bool is_complete(struct journal *j, const struct journal_part *part)
{
	uint64_t n = 0;

	if (!read_head(j, part))
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
	lines_seek(&j->lines, j->entries_at);
}

/* Takes over own_fd. */
static int open_part(const struct journal_part *part, int own_fd, struct journal **ret)
{
	struct journal *j = zalloc(sizeof(*j));

	j->own_fd = own_fd;
	lines_init(&j->lines, part->fd, part->at, part->len);
	if (!is_complete(j, part)) {
		int code = j->lines.failed ? -EIO : -ENOENT;

		journal_close(j);
		return code;
	}
	journal_rewind(j);
	*ret = j;
	return 0;
}

int journal_open_part(const struct journal_part *part, struct journal **ret)
{
	return open_part(part, -1, ret);
}

int journal_open(int dir_fd, const char *name, struct journal **ret)
{
	int fd = lines_open_file(dir_fd, name), code;
	char numbers[INODE_TEXT];
	struct inode home;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0) {
		code = -errno;
		close(fd);
		return code;
	}
	code = inode_stat(dir_fd, "", &home);
	if (code == 0)
		inode_print(&home, numbers);
	code = open_part(&(struct journal_part){.fd = fd,
				 .len = st.st_size,
				 .modified = st.st_mtim,
				 .changed = st.st_ctim,
				 .home = code == 0 ? numbers : NULL},
		fd, ret);
	if (code == -ENOENT)
		log_debug("%s is damaged or not of this version: taken as absent", name);
	return code;
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	lines_done(&j->lines);
	if (j->own_fd >= 0)
		close(j->own_fd);
	publish_record_free(j->record);
	free(j->tree);
	free(j->name);
	free(j);
}
