/* SPDX-License-Identifier: MIT */
/* Walks a directory. A directory is listed and looked at as a whole, then its entries come one by one, and so
 * the walk keeps names of one directory for each level, and no descriptor. */
#include "walk.h"
#include "defer.h"
#include "several.h"
#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* What is in one directory. */
struct found {
	char *name;
	struct stat st;
};
struct level {
	struct found *found;
	size_t n, next;
	size_t path_len; /* of the directory */
	dev_t dev;
	ino_t ino;
};

struct walk {
	struct walk_options opts;
	struct level *levels;
	size_t depth, cap;
	char path[2 * PATH_MAX];
	bool begun;

	struct several several;
	bool at_links;
};

int walk_new(const struct walk_options *opts, struct walk **ret, struct error *err)
{
	struct walk *w;

	if (opts->selection != NULL && opts->selection->strip_components > 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"strip_components is for what is staged; a directory is stored with the "
			"names it has");
	w = zalloc(sizeof(*w));
	w->opts = *opts;
	*ret = w;
	return 0;
}

static void level_done(struct level *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->found[i].name);
	free(l->found);
}

void walk_free(struct walk *w)
{
	if (w == NULL)
		return;
	while (w->depth > 0)
		level_done(&w->levels[--w->depth]);
	free(w->levels);
	several_done(&w->several);
	free(w);
}

static void *with_room(void *array, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return array;
	*cap = *cap * 2 + 16;
	array = reallocarray(array, *cap, size);
	if (array == NULL)
		abort();
	return array;
}

static int failed(const struct walk *w, const char *doing, struct error *err)
{
	return error_set(err, -errno, "%s '%s' in %s: %m", doing, w->path, w->opts.where);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static int look_at(struct walk *w, struct level *l, int dir_fd, const char *name, size_t *cap,
	struct error *err)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, errno == ENOENT ? -ERR_CHANGED : -errno,
			"look at '%s/%s' in %s: %m", w->path, name, w->opts.where);
	l->found = with_room(l->found, l->n, cap, sizeof(*l->found));
	l->found[l->n++] = (struct found){.name = copy_text(name), .st = st};
	return 0;
}

static int list(struct walk *w, struct level *l, DIR *dir, struct error *err)
{
	struct dirent *d;
	size_t cap = 0;
	int r = 0;

	while (r == 0 && (errno = 0, d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = look_at(w, l, dirfd(dir), d->d_name, &cap, err);
	if (r == 0 && errno != 0)
		r = failed(w, "list", err);
	if (l->n > 0)
		qsort(l->found, l->n, sizeof(*l->found), by_name);
	return r;
}

/* A followed link may lead back to where the walk comes from. */
static int check_loop(const struct walk *w, const struct stat *st, struct error *err)
{
	for (size_t i = 0; i < w->depth; i++)
		if (w->levels[i].dev == st->st_dev && w->levels[i].ino == st->st_ino)
			return error_set(err, -ERR_REFUSED,
				"'%s' in %s is a link to a directory that it lies in: followed, it "
				"would "
				"never end",
				w->path, w->opts.where);
	return 0;
}

/* Goes into the directory at w->path, which is st. */
static int descend(struct walk *w, const struct stat *st, struct error *err)
{
	_closedir_ DIR *dir = NULL;
	struct level *l;
	int fd, r;

	if ((r = check_loop(w, st, err)) < 0)
		return r;
	fd = openat(w->opts.root_fd, *w->path != '\0' ? w->path : ".",
		O_RDONLY | O_DIRECTORY | O_CLOEXEC | (w->opts.dereference ? 0 : O_NOFOLLOW));
	if (fd < 0 || (dir = fdopendir(fd)) == NULL)
		return failed(w, "list", err);
	w->levels = with_room(w->levels, w->depth, &w->cap, sizeof(*w->levels));
	l = &w->levels[w->depth++];
	*l = (struct level){.path_len = strlen(w->path), .dev = st->st_dev, .ino = st->st_ino};
	return list(w, l, dir, err);
}

static int found_file(struct walk *w, const struct stat *st, struct item **ret)
{
	struct item *i = walk_file(w->path, st);

	if (st->st_nlink > 1) {
		several_keep(&w->several, i, st);
		return 0;
	}
	*ret = i;
	return 1;
}

static int found_dir(
	struct walk *w, const struct stat *st, bool wanted, struct item **ret, struct error *err)
{
	int r = descend(w, st, err);

	if (r < 0 || !wanted)
		return r;
	*ret = item_new(INDEX_DIR, *w->path != '\0' ? w->path : ".", NULL, NULL);
	walk_describe(*ret, st);
	return 1;
}

static int refuse_link(const struct walk *w, const char *target, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"'%s' in %s is a symbolic link to '%s', outside of it: a datastore must be whole "
		"by itself; "
		"--dereference stores what such links point to",
		w->path, w->opts.where, target);
}

/* A link that leaves: *st becomes what it points to. */
static int follow(const struct walk *w, const char *target, struct stat *st, struct error *err)
{
	if (!w->opts.dereference)
		return refuse_link(w, target, err);
	if (fstatat(w->opts.root_fd, w->path, st, 0) == 0)
		return 0;
	return error_set(err, -ERR_REFUSED,
		"'%s' in %s is a symbolic link to '%s', which cannot be followed: %m", w->path,
		w->opts.where, target);
}

/* Whether every component of path is a directory, and none a link. */
static bool is_real_dir(void *ctx, char *path)
{
	const struct walk *w = ctx;

	for (char *end = path; *end != '\0';) {
		struct stat st;
		char kept;
		int r;

		end = strchrnul(end + 1, '/');
		kept = *end;
		*end = '\0';
		r = fstatat(w->opts.root_fd, path, &st, AT_SYMLINK_NOFOLLOW);
		*end = kept;
		if (r < 0 || !S_ISDIR(st.st_mode))
			return false;
	}
	return true;
}

/* 1: *ret is the link. 0: it was followed, and *st is what it points to. */
static int found_link(struct walk *w, struct stat *st, struct item **ret, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(w->opts.root_fd, w->path, target, sizeof(target) - 1);

	if (n < 0)
		return failed(w, "read the link", err);
	target[n] = '\0';
	if (link_leaves(w->path, target, is_real_dir, w))
		return follow(w, target, st, err);
	*ret = item_new(INDEX_SYMLINK, w->path, target, NULL);
	walk_describe(*ret, st);
	(*ret)->mode = 0777;
	return 1;
}

/* What stands at w->path: 1 and *ret, or 0 when it is not to be told (yet). */
static int tell(struct walk *w, struct stat *st, struct item **ret, struct error *err)
{
	bool wanted = *w->path == '\0' || selection_apply(w->opts.selection, w->path) != NULL;
	int r;

	if (S_ISDIR(st->st_mode))
		return found_dir(w, st, wanted, ret, err);
	if (!wanted)
		return 0;
	if (S_ISLNK(st->st_mode) && (r = found_link(w, st, ret, err)) != 0)
		return r;
	if (S_ISDIR(st->st_mode))
		return found_dir(w, st, true, ret, err);
	return S_ISREG(st->st_mode) ? found_file(w, st, ret)
				    : walk_refuse(w->opts.where, w->path, st->st_mode, err);
}

/* Sets w->path to the next entry in the directory; false when there is none any more. */
static bool next_path(struct walk *w, struct stat *ret, struct error *err, int *code)
{
	struct level *l = &w->levels[w->depth - 1];
	struct found *f;
	size_t len = l->path_len;

	if (l->next == l->n) {
		level_done(l);
		w->depth--;
		return false;
	}
	f = &l->found[l->next++];
	w->path[len] = '\0';
	if (len + 1 + strlen(f->name) >= PATH_MAX)
		*code = error_set(err, -ENAMETOOLONG,
			"'%.200s...' in %s: the path is longer than %d bytes", w->path,
			w->opts.where, PATH_MAX - 1);
	else
		sprintf(w->path + len, "%s%s", len > 0 ? "/" : "", f->name);
	*ret = f->st;
	return true;
}

static int begin(struct walk *w, struct item **ret, struct error *err)
{
	struct stat st;

	w->begun = true;
	if (fstat(w->opts.root_fd, &st) < 0)
		return failed(w, "look at", err);
	return tell(w, &st, ret, err);
}

bool walk_is_at_links(const struct walk *w)
{
	return w->at_links;
}

int walk_next(struct walk *w, struct item **ret, struct error *err)
{
	int r = 0;

	if (!w->begun && (r = begin(w, ret, err)) != 0)
		return r;
	while (w->depth > 0) {
		struct stat st;

		if (cancel_requested(w->opts.cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (!next_path(w, &st, err, &r))
			continue;
		if (r < 0 || (r = tell(w, &st, ret, err)) != 0)
			return r;
	}
	if (!w->at_links) {
		w->at_links = true;
		several_group(&w->several);
	}
	*ret = several_next(&w->several);
	return *ret != NULL;
}
