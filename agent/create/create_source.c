/* SPDX-License-Identifier: MIT */
/* The kinds of sources of a datastore, on the planner's thread.
 *
 * First kind: one object, which is an archive or a single file. It is read once, as a stream; only
 * a zip whose source does not support random reads is stored locally, in a temporary file. */
#include "create_private.h"
#include "decode.h"
#include "defer.h"
#include "log.h"
#include "open_beneath.h"
#include "source.h"
#include "temporary.h"
#include "url.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* Decoded blocks that may wait for the unpacker. */
enum { AHEAD_SLICES = 4 };

struct streaming {
	struct planner *p;
	const struct create_options *opts;
	const struct create_source *source;
	struct object *object;
	const struct decoder *decoder; /* NULL: not compressed */
	struct tree *tree;
	int scratch_fd;
};

static char *single_file_name(const struct streaming *x)
{
	_free_ char *name = source_file_name(x->opts->source);

	return x->decoder != NULL ? decode_strip_suffix(x->decoder, name) : take_ptr(&name);
}

static int open_decoder(struct streaming *x, struct reader **in, struct error *err)
{
	const struct create_options *o = x->opts;
	const struct decode_env env = {.budget = o->budget,
		.cancel = o->cancel,
		.progress = o->progress,
		.threads = o->threads > 0 ? o->threads : 1};
	struct reader *decoded = NULL;
	int r = decode_open(*in, &env, &decoded, &x->decoder, err);

	if (r == 0 && x->decoder != NULL)
		decoded = ahead_reader(decoded, AHEAD_SLICES, o->cancel, o->progress);
	*in = decoded;
	return r;
}

static int unpack_stream(struct streaming *x, struct reader *in, struct error *err)
{
	const struct create_options *o = x->opts;
	const struct unpack_env env = {.tree = x->tree,
		.budget = o->budget,
		.cancel = o->cancel,
		.progress = o->progress,
		.selection = o->selection,
		.threads = o->threads > 0 ? o->threads : 1,
		.scratch_fd = x->scratch_fd};
	_free_ char *name = single_file_name(x);
	const struct unpack_input input = {.in = in,
		.object = x->decoder == NULL ? x->object : NULL,
		.source = x->source->display,
		.url = o->source,
		.said = &x->object->said,
		.compression = x->decoder != NULL ? x->decoder->name : NULL,
		.file_name = name,
		.extract = !o->no_extract,
		.mtime = units_parse_http_date(x->object->identity.last_modified)};
	const char *format;

	return unpack(&env, &input, &format, err);
}

static int decode_and_unpack(struct streaming *x, struct error *err)
{
	struct reader *in = object_stream(x->object);
	int r = x->opts->no_extract ? 0 : open_decoder(x, &in, err);

	if (r == 0)
		r = unpack_stream(x, in, err);
	if (r == 0)
		r = reader_drain(in, err);
	reader_close(in);
	return r;
}

static int stream_object(struct streaming *x, struct error *err)
{
	const struct tree_options options = {.limits = {.max_bytes = UINT64_MAX,
						     .max_entries = UINT64_MAX,
						     .max_path = PATH_MAX - 1},
		.cancel = x->opts->cancel};
	struct stream s;
	int r;

	stream_init(&s, x->p);
	x->tree = tree_new_sink(&stream_sink, &s, &options);
	r = decode_and_unpack(x, err);
	tree_free(x->tree);
	if (r == 0)
		r = stream_finish(&s, err);
	/* Workers may still use what stream_done() frees. */
	if (r < 0)
		workers_stop(take_ptr(&x->p->workers));
	stream_done(&s);
	return r;
}

/* Opens the directory for the unnamed temporary file of a zip. */
static int scratch_open(int *ret_fd, struct error *err)
{
	const struct temporary_request wish = {.tmpdir = getenv("TMPDIR"), .home = getenv("HOME")};
	_free_ char *dir = NULL;
	int code = temporary_directory(&wish, &dir, NULL, err);

	/* Few sources need it: without a usable directory, /tmp is tried before this is an
	 * error. */
	*ret_fd = open(code == 0 ? dir : "/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0 && code < 0)
		return code;
	return *ret_fd < 0 ? error_set(err, -errno,
				     "open %s, the directory for temporary files: %m", dir)
			   : 0;
}

static int feed_object(struct planner *p, const struct create_source *source, struct error *err)
{
	const struct create_options *o = p->creation->opts;
	struct streaming x = {.p = p, .opts = o, .source = source};
	const struct source_env env = {.transfer = o->transfer, .s3 = o->s3, .cancel = o->cancel};
	const struct source_request request = {
		.url = source->path != NULL ? source->path : o->source, .progress = o->progress};
	int r = source_open(&env, &request, &x.object, err);

	if (r < 0)
		return r;
	r = scratch_open(&x.scratch_fd, err);
	if (r == 0) {
		r = stream_object(&x, err);
		close(x.scratch_fd);
	}
	object_close(x.object);
	return r;
}

/* Second kind: the objects below an S3 prefix. They are copied, or (--no-copy) the index only
 * refers to them. S3 lists whole keys by their bytes, where '-' and '.' come before '/'; so the
 * listing is read to its end, and then sorted into the order of the index. */

struct prefix_listing {
	const struct create_options *opts;
	const struct creation *creation;
	size_t prefix_len;
	bool reserved_logged;
	struct create_item **items;
	size_t n, cap;
};

static void add_item(struct prefix_listing *l, struct create_item *i)
{
	if (l->n == l->cap) {
		l->cap = l->cap * 2 + 1024;
		l->items = reallocarray(l->items, l->cap, sizeof(struct create_item *));
		if (l->items == NULL)
			abort();
	}
	l->items[l->n++] = i;
}

/* An object whose key ends with '/' represents a directory. */
static struct create_item *item_from_object(
	const struct prefix_listing *l, const struct s3_object *o, char *path, size_t len)
{
	struct create_item *i;

	if (path[len - 1] == '/') {
		path[len - 1] = '\0';
		i = create_item_new(INDEX_DIR, path, NULL, NULL);
		i->mode = 0755;
	} else {
		i = create_item_new(l->opts->no_copy ? INDEX_REFERENCE : INDEX_FILE, path,
			l->opts->no_copy ? o->key : NULL, o->etag);
		i->mode = 0644;
		i->size = o->size;
	}
	i->mtime.tv_sec = o->modified;
	return i;
}

static bool is_left_out(struct prefix_listing *l, const char *path)
{
	for (const char *name = path; *name != '\0';) {
		if (text_is_reserved_name(name)) {
			if (!l->reserved_logged)
				walk_log_reserved(l->creation->where, "", path);
			l->reserved_logged = true;
			return true;
		}
		name += strcspn(name, "/");
		name += *name == '/';
	}
	return false;
}

static int on_object(void *ctx, const struct s3_object *o, struct error *err)
{
	struct prefix_listing *l = ctx;
	_free_ char *path = text_copy(o->key + l->prefix_len);
	struct create_item *i;

	if (*path == '\0' || is_left_out(l, path))
		return 0; /* the directory marker of the prefix itself, or the agent's state */
	i = item_from_object(l, o, path, strlen(path));
	if (!index_path_is_plain(i->path)) {
		create_item_free(i);
		return error_set(err, -ERR_REFUSED,
			"the key '%s' is no path that a directory could have (an empty, '.' or '..' component, or too long); rename the object, or exclude it",
			o->key);
	}
	if (select_apply(l->opts->selection, i->path) == NULL) {
		create_item_free(i);
		return 0;
	}
	add_item(l, i);
	return s3_object_check_archive(l->creation->place.bucket, o, err);
}

static int by_path(const void *a, const void *b)
{
	return walk_path_order(
		(*(struct create_item *const *)a)->path, (*(struct create_item *const *)b)->path);
}

/* Some programs represent a directory by an empty object whose key has no '/' at its end. */
static void turn_into_dir(struct create_item *i)
{
	log_warn(
		"'%s' is an empty object, and there are others beneath it: it is taken for a directory",
		i->path);
	i->type = INDEX_DIR;
	i->mode = 0755;
	i->target = i->etag = NULL;
}

static bool lies_beneath(const struct create_item *i, const struct create_item *above)
{
	size_t len = strlen(above->path);

	return strncmp(i->path, above->path, len) == 0 && i->path[len] == '/';
}

/* The items are sorted: entries below a file would follow it directly. */
static int check_tree(const struct prefix_listing *l, struct error *err)
{
	struct create_item *above = NULL;

	for (size_t n = 0; n < l->n; n++) {
		struct create_item *i = l->items[n];
		size_t len = above != NULL ? strlen(above->path) : 0;

		if (above != NULL && above->type != INDEX_DIR && above->size == 0 &&
			lies_beneath(i, above))
			turn_into_dir(above);
		if (above != NULL && above->type != INDEX_DIR &&
			strncmp(i->path, above->path, len) == 0 &&
			(i->path[len] == '/' || i->path[len] == '\0'))
			return error_set(err, -ERR_REFUSED,
				"'%s' is an object and has others beneath it, or comes twice: no directory can be like that; exclude one of them",
				above->path);
		above = i;
	}
	return 0;
}

static int list_prefix(struct prefix_listing *l, struct error *err)
{
	struct s3_client *client = NULL;
	int r = s3_client_new(l->opts->s3, l->opts->cancel, &client, err);

	if (r < 0)
		return r;
	r = s3_list(client, l->creation->place.bucket, l->creation->place.key, NULL, '\0',
		on_object, l, err);
	s3_client_free(client);
	if (r < 0)
		return r;
	if (l->n == 0)
		return error_set(err, -ENOENT, "there is nothing below %s", l->creation->where);
	qsort(l->items, l->n, sizeof(struct create_item *), by_path);
	return check_tree(l, err);
}

static int add_all(struct planner *p, struct prefix_listing *l, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < l->n && r == 0; n++) {
		struct create_item *i = l->items[n];

		l->items[n] = NULL;
		r = planner_add(p, i, err);
	}
	return r;
}

static int feed_prefix(struct planner *p, struct error *err)
{
	struct prefix_listing l = {.opts = p->creation->opts,
		.creation = p->creation,
		.prefix_len = strlen(p->creation->place.key)};
	int r = list_prefix(&l, err);

	if (r == 0 && l.opts->no_copy)
		p->manifest->reference = text_copy(l.opts->source);
	if (r == 0)
		r = add_all(p, &l, err);
	for (size_t n = 0; n < l.n; n++)
		create_item_free(l.items[n]);
	free(l.items);
	return r;
}

/* All kinds: which one a source is, and the two local ones, a directory and a single file. */

static bool has_prefix(const char *s, const char *prefix)
{
	return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_remote(const char *s)
{
	return has_prefix(s, "http://") || has_prefix(s, "https://") || has_prefix(s, "s3://");
}

/* path is a realpath(): symbolic links that were put into it since are not followed. */
static int open_dir(const char *path, const char *display, int *ret_fd, struct error *err)
{
	_close_ int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (top < 0)
		return error_set(err, -errno, "open /: %m");
	fd = open_beneath(top, path + 1, O_RDONLY | O_DIRECTORY);
	errno = -fd;
	if (fd < 0)
		return error_set(err, fd, "open %s: %m", display);
	*ret_fd = fd;
	return 0;
}

/* A single file is opened relative to its directory. */
static int open_parent(struct create_source *s, struct error *err)
{
	_free_ char *parent = text_copy(s->path);
	char *slash = strrchr(parent, '/');

	s->kind = CREATE_FILE;
	slash[slash == parent] = '\0';
	return open_dir(parent, s->display, &s->root_fd, err);
}

static int open_local(const char *path, bool extract, struct create_source *s, struct error *err)
{
	struct stat st;

	s->path = realpath(path, NULL);
	s->display = text_copy(s->path != NULL ? s->path : path);
	if (s->path == NULL || stat(s->path, &st) < 0)
		return error_set(err, -errno, "open %s: %m", path);
	if (S_ISDIR(st.st_mode))
		return open_dir(s->path, s->display, &s->root_fd, err);
	if (!S_ISREG(st.st_mode))
		return walk_refuse("", s->path, st.st_mode, err);
	if (extract) {
		s->kind = CREATE_OBJECT;
		return 0;
	}
	return open_parent(s, err);
}

int create_source_open(
	const struct create_options *opts, struct create_source *ret, struct error *err)
{
	const char *url = opts->source;
	_free_ char *path = NULL;

	*ret = (struct create_source){.root_fd = -1};
	if (is_remote(url)) {
		size_t len = strlen(url);

		ret->display = source_display(url);
		ret->kind = has_prefix(url, "s3://") && url[len - 1] == '/' ? CREATE_PREFIX
									    : CREATE_OBJECT;
		return 0;
	}
	path = has_prefix(url, "file://") ? url_file_path(url) : text_copy(url);
	if (path == NULL)
		return error_set(err, -ERR_USAGE, "%s: a file:// URL of another host", url);
	return open_local(path, opts->extract, ret, err);
}

void create_source_close(struct create_source *s)
{
	if (s->root_fd >= 0)
		close(s->root_fd);
	free(s->path);
	free(s->display);
}

static int feed_walk(struct planner *p, struct walk *w, struct error *err)
{
	bool at_links = false;
	struct create_item *i;
	int r;

	while ((r = walk_next(w, &i, err)) > 0) {
		if (walk_is_at_links(w) && !at_links) {
			at_links = true;
			r = planner_skip_to_links(p, err);
		}
		if (r < 0) {
			create_item_free(i);
			return r;
		}
		if ((r = planner_add(p, i, err)) < 0)
			return r;
	}
	return r;
}

static int feed_directory(struct planner *p, const struct create_source *s, struct error *err)
{
	const struct create_options *o = p->creation->opts;
	const struct walk_options options = {.root_fd = s->root_fd,
		.where = s->display,
		.selection = o->selection,
		.dereference = o->dereference,
		.cancel = o->cancel};
	struct walk *w;
	int r = walk_new(&options, &w, err);

	if (r < 0)
		return r;
	r = feed_walk(p, w, err);
	walk_free(w);
	return r;
}

static int feed_file(struct planner *p, const struct create_source *s, struct error *err)
{
	const char *name = strrchr(s->path, '/') + 1;
	struct stat st;

	if (text_is_reserved_name(name))
		return error_set(err, -ERR_REFUSED,
			"%s: the agent keeps its state under such names, and no datastore holds them",
			s->display);
	if (fstatat(s->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "open %s: %m", s->display);
	return planner_add(p, walk_file(name, &st), err);
}

int create_feed(struct planner *p, const struct create_source *s, struct error *err)
{
	p->creation->content_ops = &content_from_files;
	switch (s->kind) {
	case CREATE_DIRECTORY:
		return feed_directory(p, s, err);
	case CREATE_FILE:
		return feed_file(p, s, err);
	case CREATE_PREFIX:
		p->creation->content_ops = &content_from_s3;
		return feed_prefix(p, err);
	default:
		return feed_object(p, s, err);
	}
}
