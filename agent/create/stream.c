/* SPDX-License-Identifier: MIT */
/* The sink of a tree that becomes a datastore. Small files are collected in memory and added to the
 * current pack; each frame of a large file is submitted as soon as it is full. These calls come on
 * the threads that unpack the archive. After the last entry, stream_finish() sorts the entries into
 * the order of the index, on the planner's thread. */
#include "create_private.h"
#include "defer.h"
#include "digest.h"
#include "log.h"
#include "reader.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Smaller than other packs (PACK_RAW), because several of them are in memory at a time. */
#define STREAM_PACK_RAW ((uint64_t)16 << 20)

void stream_init(struct stream *s, struct planner *p)
{
	*s = (struct stream){.planner = p};
	pthread_mutex_init(&s->mutex, NULL);
}

static void drop_item(struct stream *s, struct create_item *i)
{
	if (i->content != NULL)
		planner_drop(s->planner, i->content);
	planner_drop(s->planner, i);
}

void stream_done(struct stream *s)
{
	for (size_t n = 0; n < s->n; n++)
		if (s->items[n] != NULL)
			drop_item(s, s->items[n]);
	frame_writer_done(&s->pack);
	free(s->items);
	pthread_mutex_destroy(&s->mutex);
}

static int ensure_workers_locked(struct stream *s, struct error *err)
{
	struct planner *p = s->planner;

	return p->workers == NULL ? create_workers_start(p->creation, &p->workers, err) : 0;
}

/* Any thread. Starts the workers when the first entry arrives: by then the decoder of the archive
 * has made its reservation. */
static int ensure_workers(struct stream *s, struct create_workers **ret, struct error *err)
{
	int code;

	pthread_mutex_lock(&s->mutex);
	code = ensure_workers_locked(s, err);
	*ret = s->planner->workers;
	pthread_mutex_unlock(&s->mutex);
	return code;
}

static void add_item_locked(struct stream *s, struct create_item *i)
{
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 1024;
		s->items = reallocarray(s->items, s->cap, sizeof(struct create_item *));
		if (s->items == NULL)
			abort();
	}
	i->number = s->n;
	s->items[s->n++] = i;
}

/* Adds an item that has its job already. Takes i over. */
static void add_item(struct stream *s, struct create_item *i)
{
	pthread_mutex_lock(&s->mutex);
	add_item_locked(s, i);
	pthread_mutex_unlock(&s->mutex);
}

/* Adds the item to a pack that has room for raw more bytes. */
static int begin_member_locked(
	struct stream *s, struct create_item *i, uint64_t raw, struct error *err)
{
	int code = 0;

	if (s->pack.owner != NULL && s->pack.total + raw > STREAM_PACK_RAW)
		code = frame_writer_end(&s->pack, err);
	if (code < 0)
		return code;
	if (s->pack.owner == NULL)
		frame_writer_begin(&s->pack, s->planner->workers, large_new_pack(), i);
	else
		frame_writer_add_item(&s->pack, i);
	return 0;
}

static int write_member_locked(
	struct stream *s, struct create_item *i, const void *bytes, struct error *err)
{
	uint64_t len = create_item_has_content(i) ? i->size : 0;
	struct text header = {0};
	int code;

	pack_tar_header(&header, i);
	code = frame_writer_make_room(&s->pack, header.len + len + pack_tar_padding(len), err);
	if (code == 0)
		code = frame_writer_put(&s->pack, header.s, header.len, err);
	i->tar_offset = s->pack.total;
	if (code == 0)
		code = frame_writer_put(&s->pack, bytes, len, err);
	if (code == 0)
		code = frame_writer_put(&s->pack, NULL, pack_tar_padding(len), err);
	text_done(&header);
	return code;
}

/* Adds an item with its content, whose digest is set already. Takes i over, also on failure. */
static int stream_add_member(
	struct stream *s, struct create_item *i, const void *bytes, struct error *err)
{
	int code;

	pthread_mutex_lock(&s->mutex);
	add_item_locked(s, i);
	code = ensure_workers_locked(s, err);
	if (code == 0)
		code = begin_member_locked(s, i, pack_tar_member_size(i), err);
	if (code == 0)
		code = write_member_locked(s, i, bytes, err);
	pthread_mutex_unlock(&s->mutex);
	return code;
}

/* Files, which arrive in pieces. */

struct stream_file {
	struct stream *stream;
	struct create_item *item;
	uint64_t size; /* as announced, or SIZE_UNKNOWN */
	uint64_t end;  /* bytes so far */
	struct sha256_ctx sha256;

	uint8_t *bytes; /* small files only: the content */
	size_t cap;

	bool is_large;
	struct frame_writer writer;
	struct create_large *unsized; /* large files of unknown size only */
};

static void file_free(struct stream_file *f)
{
	frame_writer_done(&f->writer);
	free(f->bytes);
	free(f);
}

/* The item of a large file belongs to the stream from the start, because frames that were submitted
 * refer to it. */
static void on_file_abandon(void *file)
{
	struct stream_file *f = file;

	if (!f->is_large)
		create_item_free(f->item);
	file_free(f);
}

static int begin_large(struct stream_file *f, struct create_large *l, struct error *err)
{
	struct create_workers *workers = NULL;
	int code = ensure_workers(f->stream, &workers, err);

	frame_writer_begin(&f->writer, workers, l, f->item);
	add_item(f->stream, f->item);
	f->is_large = true;
	return code;
}

static int begin_sized(struct stream_file *f, struct error *err)
{
	struct text header = {0};
	int code = begin_large(f, large_new_streamed(f->size), err);

	pack_tar_header(&header, f->item);
	f->item->tar_offset = header.len;
	if (code == 0)
		code = frame_writer_put(&f->writer, header.s, header.len, err);
	text_done(&header);
	return code;
}

/* A file of unknown size has become too large for memory. */
static int begin_unsized(struct stream_file *f, struct error *err)
{
	int code;

	f->unsized = large_new_unsized();
	code = begin_large(f, f->unsized, err);
	if (code == 0)
		code = frame_writer_put(&f->writer, f->bytes, f->end, err);
	free(take_ptr(&f->bytes));
	return code;
}

static int on_file_open(void *ctx, const struct tree_sink_file *file, void **ret, struct error *err)
{
	struct stream_file *f = zalloc(sizeof(*f));
	int code = 0;

	f->stream = ctx;
	f->size = file->size;
	f->item = create_item_new(INDEX_FILE, file->path, NULL, NULL);
	f->item->mode = file->meta->mode & 0777;
	f->item->mtime = file->meta->mtime;
	f->item->existing = file->existing;
	sha256_init(&f->sha256);
	if (f->size != SIZE_UNKNOWN)
		f->item->size = f->size;
	if (f->size != SIZE_UNKNOWN && f->size >= LARGE_MIN)
		code = begin_sized(f, err);
	if (code < 0) {
		on_file_abandon(f);
		return code;
	}
	*ret = f;
	return 0;
}

static int reserve_bytes(struct stream_file *f, size_t more, struct error *err)
{
	size_t cap = f->size != SIZE_UNKNOWN ? (size_t)f->size : (size_t)f->end * 2 + more;
	uint8_t *bytes;

	if (f->cap - f->end >= more)
		return 0;
	bytes = realloc(f->bytes, cap);
	if (bytes == NULL)
		return error_set(err, -ENOMEM, "no memory for a file of %zu bytes", cap);
	f->bytes = bytes;
	f->cap = cap;
	return 0;
}

/* bytes NULL: zeros. */
static int add_small(struct stream_file *f, const void *bytes, size_t len, struct error *err)
{
	int code = reserve_bytes(f, len, err);

	if (code < 0 || f->bytes == NULL)
		return code;
	if (bytes != NULL)
		memcpy(f->bytes + f->end, bytes, len);
	else
		memset(f->bytes + f->end, 0, len);
	sha256_update(&f->sha256, len, f->bytes + f->end);
	f->end += len;
	return 0;
}

static int add_bytes(struct stream_file *f, const void *bytes, size_t len, struct error *err)
{
	int code = 0;

	if (!f->is_large && f->size == SIZE_UNKNOWN && f->end + len >= LARGE_MIN)
		code = begin_unsized(f, err);
	if (code < 0 || !f->is_large)
		return code < 0 ? code : add_small(f, bytes, len, err);
	sha256_update(&f->sha256, len, bytes);
	f->end += len;
	return frame_writer_put(&f->writer, bytes, len, err);
}

/* Adds the zeros of a gap between two writes. */
static int add_zeros(struct stream_file *f, uint64_t offset, struct error *err)
{
	static const uint8_t zeros[64 << 10];
	int code = 0;

	while (code == 0 && f->end < offset) {
		uint64_t n = offset - f->end;

		f->item->sparse = true;
		code = add_bytes(f, zeros, n < sizeof(zeros) ? (size_t)n : sizeof(zeros), err);
	}
	return code;
}

static int on_file_write(
	void *file, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	struct stream_file *f = file;
	int code = add_zeros(f, offset, err);

	return code < 0 ? code : add_bytes(f, bytes, len, err);
}

static int end_large(struct stream_file *f, struct error *err)
{
	int code;

	if (f->unsized != NULL)
		large_set_header(f->unsized, f->item);
	code = frame_writer_put(&f->writer, NULL, pack_tar_padding(f->item->size), err);
	return code < 0 ? code : frame_writer_end(&f->writer, err);
}

static int on_file_close(void *file, struct error *err)
{
	struct stream_file *f = file;
	int code = f->size != SIZE_UNKNOWN ? add_zeros(f, f->size, err) : 0;

	if (code < 0) {
		on_file_abandon(f);
		return code;
	}
	f->item->size = f->end;
	sha256_digest(&f->sha256, sizeof(f->item->sha256), f->item->sha256);
	code = f->is_large ? end_large(f, err)
			   : stream_add_member(f->stream, f->item, f->bytes, err);
	file_free(f);
	return code;
}

/* The functions of the sink. */

static int on_dir(void *ctx, const char *path, const struct meta *m, struct error *err)
{
	struct create_item *i = create_item_new(INDEX_DIR, *path != '\0' ? path : ".", NULL, NULL);

	i->mode = m->mode & 0777;
	i->mtime = m->mtime;
	return stream_add_member(ctx, i, NULL, err);
}

static int on_symlink(void *ctx, const char *path, const char *target, bool verify,
	const struct meta *m, struct error *err)
{
	struct create_item *i;

	if (*path == '\0')
		return error_set(err, -ERR_REFUSED, "the root of the archive is a symbolic link");
	i = create_item_new(INDEX_SYMLINK, path, target, NULL);
	i->mode = 0777;
	i->mtime = m->mtime;
	i->verify = verify;
	return stream_add_member(ctx, i, NULL, err);
}

static int on_hardlink(void *ctx, const char *path, const char *target, struct error *err)
{
	return stream_add_member(
		ctx, create_item_new(INDEX_HARDLINK, path, target, NULL), NULL, err);
}

const struct tree_sink stream_sink = {.dir = on_dir,
	.symlink = on_symlink,
	.hardlink = on_hardlink,
	.file_open = on_file_open,
	.file_write = on_file_write,
	.file_close = on_file_close,
	.file_abandon = on_file_abandon};

/* Sorting into the order of the index. Of several entries with one path the last one
 * counts, as with tar; hard links are resolved to their files; symbolic links that need the whole
 * tree to be checked are checked. */

static int by_path(const void *va, const void *vb)
{
	const struct create_item *a = *(struct create_item *const *)va,
				 *b = *(struct create_item *const *)vb;
	int order = walk_path_order(a->path, b->path);

	if (order != 0)
		return order;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* Returns the item of this path, or NULL; *ret_at is where it is or would be. */
static struct create_item *find_item(const struct stream *s, const char *path, size_t *ret_at)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (walk_path_order(s->items[middle]->path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_at = low;
	return low < s->n && strcmp(s->items[low]->path, path) == 0 ? s->items[low] : NULL;
}

/* The content came with another name of the file (cpio); it is the content of all its names. */
static void move_content(struct create_item *to, struct create_item *from)
{
	struct create_job *had = to->job;

	to->job = from->job;
	to->tar_offset = from->tar_offset;
	to->size = from->size;
	to->sparse = from->sparse;
	to->mode = from->mode;
	to->mtime = from->mtime;
	memcpy(to->sha256, from->sha256, sizeof(to->sha256));
	from->job = had;
}

static int refuse_kind(const struct create_item *i, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"'%s' was refused: the archive has it as a directory and as something else",
		i->path);
}

static bool is_same_kind(const struct create_item *a, const struct create_item *b)
{
	return (a->type == INDEX_DIR) == (b->type == INDEX_DIR);
}

/* Some writers list a directory as an empty file. */
static bool is_blank(const struct create_item *i)
{
	return i->type == INDEX_FILE && i->size == 0 && !i->existing;
}

static void warn_of_blank(const struct create_item *i)
{
	log_warn(
		"'%s' is listed as an empty file, and there are entries below it: it is taken for a directory",
		i->path);
}

/* Keeps one item per path. Content for a hard link of the same path stays with the link until links
 * are resolved. */
static int drop_duplicates(struct stream *s, struct error *err)
{
	size_t kept = 0;
	int code = 0;

	for (size_t n = 0; n < s->n; n++) {
		struct create_item *i = s->items[n];
		struct create_item *before = kept > 0 ? s->items[kept - 1] : NULL;

		if (before == NULL || strcmp(before->path, i->path) != 0) {
			s->items[kept++] = i;
		} else if (!is_same_kind(before, i) && is_blank(i)) {
			warn_of_blank(i);
			drop_item(s, i);
		} else if (!is_same_kind(before, i) && is_blank(before)) {
			warn_of_blank(before);
			drop_item(s, before);
			s->items[kept - 1] = i;
		} else if (!is_same_kind(before, i)) {
			code = refuse_kind(i, err);
			s->items[kept++] = i;
		} else if (i->existing && before->type == INDEX_HARDLINK &&
			   before->content == NULL) {
			before->content = i;
		} else {
			drop_item(s, before);
			s->items[kept - 1] = i;
		}
	}
	s->n = kept;
	return code;
}

static int check_parents(const struct stream *s, struct error *err)
{
	struct create_item *above = NULL;

	for (size_t n = 0; n < s->n; n++) {
		struct create_item *i = s->items[n];
		size_t len = above != NULL ? strlen(above->path) : 0;
		bool beneath = above != NULL && strncmp(i->path, above->path, len) == 0 &&
			       i->path[len] == '/';

		if (beneath && is_blank(above)) {
			warn_of_blank(above);
			above->type = INDEX_DIR;
			above->mode = 0755;
			above = NULL;
			beneath = false;
		}
		if (beneath)
			return error_set(err, -ERR_REFUSED,
				"'%s' was refused: its parent '%s' is not a directory", i->path,
				above->path);
		if (i->type != INDEX_DIR)
			above = i;
	}
	return 0;
}

static bool is_dir(void *ctx, char *path)
{
	const struct stream *s = ctx;
	size_t at, len = strlen(path);
	const struct create_item *i = find_item(s, path, &at);

	if (i != NULL)
		return i->type == INDEX_DIR;
	return at < s->n && strncmp(s->items[at]->path, path, len) == 0 &&
	       s->items[at]->path[len] == '/';
}

static int check_symlink(struct stream *s, const struct create_item *i, struct error *err)
{
	char at[TREE_LINK_TEXT];

	if (!tree_link_leaves(i->path, i->target, is_dir, s, at))
		return 0;
	return error_set(err, -ERR_REFUSED,
		"'%s' was refused: its target '%s' leads out of the archive", i->path, i->target);
}

/* Returns the file that a hard link leads to, directly or through other hard links. */
static struct create_item *resolve_target(struct stream *s, const struct create_item *link)
{
	size_t at;
	struct create_item *to = find_item(s, link->target, &at);

	for (int steps = 0; to != NULL && to->type == INDEX_HARDLINK; steps++) {
		if (steps == 1000)
			return NULL;
		to = find_item(s, to->target, &at);
	}
	return to;
}

/* A hard link to a symbolic link becomes a symbolic link. */
static struct create_item *replace_by_symlink(
	struct stream *s, struct create_item *link, const struct create_item *to)
{
	struct create_item *i = create_item_new(INDEX_SYMLINK, link->path, to->target, NULL);

	i->mode = to->mode;
	i->mtime = to->mtime;
	i->verify = true;
	drop_item(s, link);
	return i;
}

static int resolve_link(struct stream *s, size_t n, struct error *err)
{
	struct create_item *link = s->items[n], *content = take_ptr(&link->content);
	struct create_item *to = resolve_target(s, link);

	if (content != NULL && to != NULL && to->type == INDEX_FILE)
		move_content(to, content);
	if (content != NULL)
		drop_item(s, content);
	if (to == NULL || to->type == INDEX_DIR)
		return error_set(err, -ERR_REFUSED,
			"'%s' was refused: it is a hard link to '%s', which is no file of the archive (was it excluded?)",
			link->path, link->target);
	if (to->type == INDEX_SYMLINK) {
		s->items[n] = replace_by_symlink(s, link, to);
		return 0;
	}
	link->link_to = to;
	to->has_links = true;
	return 0;
}

static int resolve_links(struct stream *s, struct error *err)
{
	int code = 0;

	for (size_t n = 0; n < s->n && code == 0; n++)
		if (s->items[n]->type == INDEX_HARDLINK)
			code = resolve_link(s, n, err);
	for (size_t n = 0; n < s->n && code == 0; n++)
		if (s->items[n]->verify)
			code = check_symlink(s, s->items[n], err);
	return code;
}

/* Files with hard links come last, each followed by its links. */
static int by_group(const void *va, const void *vb)
{
	const struct create_item *a = *(struct create_item *const *)va,
				 *b = *(struct create_item *const *)vb;
	bool a_last = a->has_links || a->link_to != NULL,
	     b_last = b->has_links || b->link_to != NULL;
	const struct create_item *a_head = a->link_to != NULL ? a->link_to : a;
	const struct create_item *b_head = b->link_to != NULL ? b->link_to : b;

	if (a_last != b_last)
		return a_last - b_last;
	if (a_head != b_head)
		return walk_path_order(a_head->path, b_head->path);
	if ((a->link_to == NULL) != (b->link_to == NULL))
		return a->link_to == NULL ? -1 : 1;
	return walk_path_order(a->path, b->path);
}

/* In the index the target of a hard link is the path of the file before it. */
static struct create_item *final_item(struct stream *s, struct create_item *i)
{
	struct create_item *named;

	if (i->link_to == NULL)
		return i;
	named = create_item_new(INDEX_HARDLINK, i->path, i->link_to->path, NULL);
	named->mode = i->link_to->mode;
	named->mtime = i->link_to->mtime;
	named->size = i->link_to->size;
	named->job = take_ptr(&i->job);
	drop_item(s, i);
	return named;
}

static int index_all(struct stream *s, struct error *err)
{
	int code = 0;

	for (size_t n = 0; n < s->n; n++) {
		/* First all of them, since items that were added to the index are freed and link_to
		 * would dangle. */
		s->items[n] = final_item(s, s->items[n]);
	}
	for (size_t n = 0; n < s->n && code == 0; n++)
		code = planner_add_placed(s->planner, take_ptr(&s->items[n]), err);
	return code;
}

/* No job may be freed while a worker uses it. */
static int await_jobs(struct stream *s, struct error *err)
{
	int code = s->pack.owner != NULL ? frame_writer_end(&s->pack, err) : 0;

	for (size_t n = 0; n < s->n && code == 0; n++)
		code = create_workers_await(s->planner->workers, s->items[n]->job, err);
	return code;
}

int stream_finish(struct stream *s, struct error *err)
{
	int code = await_jobs(s, err);

	if (code < 0 || s->n == 0)
		return code;
	qsort(s->items, s->n, sizeof(struct create_item *), by_path);
	code = drop_duplicates(s, err);
	if (code == 0)
		code = check_parents(s, err);
	if (code == 0)
		code = resolve_links(s, err);
	if (code < 0)
		return code;
	qsort(s->items, s->n, sizeof(struct create_item *), by_group);
	return index_all(s, err);
}
