/* SPDX-License-Identifier: MIT */
/* What a datastore is made of: a directory, a file, one object behind a URL, the objects below a prefix. */
#include "create.h"
#include "defer.h"
#include "source.h"
#include "walk.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

static bool begins(const char *s, const char *prefix)
{
	return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_remote(const char *s)
{
	return begins(s, "http://") || begins(s, "https://") || begins(s, "s3://");
}

static int open_dir(const char *path, const char *display, int *ret_fd, struct error *err)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? error_set(err, -errno, "open %s: %m", display) : 0;
}

/* A file is read beneath the directory that it lies in. */
static int open_parent(struct create_source *s, struct error *err)
{
	_free_ char *parent = copy_text(s->path);
	char *slash = strrchr(parent, '/');

	s->kind = CREATE_FILE;
	slash[slash == parent] = '\0';
	return open_dir(parent, s->display, &s->root_fd, err);
}

static int open_local(const char *path, bool extract, struct create_source *s, struct error *err)
{
	struct stat st;

	s->path = realpath(path, NULL);
	s->display = copy_text(s->path != NULL ? s->path : path);
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
		ret->kind =
			begins(url, "s3://") && url[len - 1] == '/' ? CREATE_PREFIX : CREATE_OBJECT;
		return 0;
	}
	path = begins(url, "file://") ? url_file_path(url) : copy_text(url);
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

static int feed_walk(struct director *d, struct walk *w, struct error *err)
{
	bool at_links = false;
	struct item *i;
	int r;

	while ((r = walk_next(w, &i, err)) > 0) {
		if (walk_is_at_links(w) && !at_links) {
			at_links = true;
			r = director_go_to_links(d, err);
		}
		if (r < 0) {
			item_free(i);
			return r;
		}
		if ((r = director_add(d, i, err)) < 0)
			return r;
	}
	return r;
}

static int feed_directory(struct director *d, const struct create_source *s, struct error *err)
{
	const struct create_options *o = d->creation->opts;
	const struct walk_options options = {.root_fd = s->root_fd,
		.where = s->display,
		.selection = o->selection,
		.dereference = o->dereference,
		.cancel = o->cancel};
	struct walk *w;
	int r = walk_new(&options, &w, err);

	if (r < 0)
		return r;
	r = feed_walk(d, w, err);
	walk_free(w);
	return r;
}

static int feed_file(struct director *d, const struct create_source *s, struct error *err)
{
	const char *name = strrchr(s->path, '/') + 1;
	struct stat st;

	if (fstatat(s->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "open %s: %m", s->display);
	return director_add(d, walk_file(name, &st), err);
}

int create_feed(struct director *d, const struct create_source *s, struct error *err)
{
	d->creation->contents = &contents_of_files;
	switch (s->kind) {
	case CREATE_DIRECTORY:
		return feed_directory(d, s, err);
	case CREATE_FILE:
		return feed_file(d, s, err);
	case CREATE_PREFIX:
		d->creation->contents = &contents_of_s3;
		return create_feed_prefix(d, err);
	default:
		return create_feed_object(d, s, err);
	}
}
