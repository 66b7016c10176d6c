/* SPDX-License-Identifier: MIT */
/* The entries of a directory that is a source, in the order of the index, and its hard links. The
 * planner's thread. */
#include "create_private.h"
#include "defer.h"
#include "log.h"
#include "open_beneath.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Hard links: the names of one file are grouped by inode. The groups and the names in them are in
 * the order of the walk and not of inode numbers, so that two copies of a tree have the same
 * index. */

struct link_name {
	struct create_item *item;
	dev_t dev;
	ino_t ino;
	size_t number; /* position in the walk */
	size_t first;  /* number of the first name of this file */
};

static void links_add(struct link_groups *s, struct create_item *i, const struct stat *st)
{
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 64;
		s->names = reallocarray(s->names, s->cap, sizeof(*s->names));
		if (s->names == NULL)
			abort();
	}
	s->names[s->n] =
		(struct link_name){.item = i, .dev = st->st_dev, .ino = st->st_ino, .number = s->n};
	s->n++;
}

static void links_done(struct link_groups *s)
{
	for (size_t i = s->n_returned; i < s->n; i++)
		create_item_free(s->names[i].item);
	free(s->names);
	free(s->first_name);
}

static int by_inode(const void *va, const void *vb)
{
	const struct link_name *a = va, *b = vb;

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

static int by_first_name(const void *va, const void *vb)
{
	const struct link_name *a = va, *b = vb;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

/* After the last links_add(): sorts the names into groups, one per file. */
static void links_group(struct link_groups *s)
{
	struct link_name *all = s->names;

	if (s->n == 0)
		return;
	qsort(all, s->n, sizeof(*all), by_inode);
	for (size_t i = 0; i < s->n; i++) {
		bool again = i > 0 && all[i].dev == all[i - 1].dev && all[i].ino == all[i - 1].ino;

		all[i].first = again ? all[i - 1].first : all[i].number;
	}
	qsort(all, s->n, sizeof(*all), by_first_name);
}

/* Returns each file, followed by its other names as hard links to it; NULL at the end. The item is
 * the caller's. */
static struct create_item *links_next(struct link_groups *s)
{
	const struct link_name *this = s->names + s->n_returned;
	struct create_item *i, *link;

	if (s->n_returned == s->n)
		return NULL;
	i = this->item;
	if (s->n_returned++ == 0 || this[-1].first != this->first) {
		free(s->first_name);
		s->first_name = text_copy(i->path);
		return i;
	}
	link = create_item_new(INDEX_HARDLINK, i->path, s->first_name, NULL);
	link->mode = i->mode;
	link->mtime = i->mtime;
	link->size = i->size;
	create_item_free(i);
	return link;
}

/* Walks a directory, on the planner's thread.
 *
 * The order of the index: as strcmp(), but what is in a directory comes before siblings of the
 * directory whose names are longer than its own. */

static unsigned rank(char c)
{
	return c == '\0' ? 0 : c == '/' ? 1 : 1 + (unsigned char)c;
}

int walk_path_order(const char *a, const char *b)
{
	/* The root comes first. */
	if (strcmp(a, ".") == 0 || strcmp(b, ".") == 0)
		return (strcmp(a, ".") != 0) - (strcmp(b, ".") != 0);
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return (int)rank(*a) - (int)rank(*b);
}

/* From the result of stat() to an entry, or to a refusal. */

int walk_refuse(const char *where, const char *path, mode_t mode, struct error *err)
{
	const char *what = S_ISSOCK(mode)                   ? "socket"
			   : S_ISFIFO(mode)                 ? "fifo"
			   : S_ISCHR(mode) || S_ISBLK(mode) ? "device"
							    : "thing of unknown kind";

	return error_set(err, -ERR_REFUSED,
		"'%s' in %s is a %s: a datastore holds files, directories and links; leave it out (--exclude) or remove it",
		path, where, what);
}

void walk_log_reserved(const char *where, const char *path, const char *base)
{
	log_info("%s%s%s in %s is left out, and so is whatever else is called " STATE_NAME
		 " or " STATE_NAME "-*: the agent keeps its state under these names",
		path, *path != '\0' ? "/" : "", base, where);
}

static void set_metadata(struct create_item *i, const struct stat *st)
{
	i->mode = st->st_mode & 0777;
	i->mtime = st->st_mtim;
	i->ctime = st->st_ctim;
}

struct create_item *walk_file(const char *path, const struct stat *st)
{
	struct create_item *i = create_item_new(INDEX_FILE, path, NULL, NULL);

	set_metadata(i, st);
	i->size = (uint64_t)st->st_size;
	i->dev = st->st_dev;
	i->ino = st->st_ino;
	/* The content of very small files may be in the inode. */
	i->sparse = i->size > 4096 && (uint64_t)st->st_blocks * 512 < i->size;
	return i;
}

/* The walk. A directory is listed completely, with a stat() of each entry, before its entries are
 * returned one by one. So the walk holds the names of one directory for each level, and no file
 * descriptor. */

/* An entry of a directory. */
struct walk_entry {
	char *name;
	char *target; /* symbolic links, else NULL */
	struct stat st;
	struct stat *target_st; /* what the link points to; NULL unless links are dereferenced */
	int target_errno;       /* why the link could not be followed; 0: it could */
};
struct walk_level {
	struct walk_entry *entries;
	size_t n, next;
	size_t path_len; /* of the path of the directory */
	bool through_link;
	dev_t dev;
	ino_t ino;
};

struct walk {
	struct walk_options opts;
	struct walk_level *levels;
	size_t depth, cap;
	char path[2 * PATH_MAX];
	bool begun;
	bool reserved_logged; /* the message about names of the agent's own state was logged */

	struct link_groups links;
	bool at_links;
};

int walk_new(const struct walk_options *opts, struct walk **ret, struct error *err)
{
	struct walk *w;

	if (opts->selection != NULL && opts->selection->strip_components > 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"strip_components is for what is staged; a directory is stored with the names it has");
	w = zalloc(sizeof(*w));
	w->opts = *opts;
	*ret = w;
	return 0;
}

static void level_done(struct walk_level *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->entries[i].name);
		free(l->entries[i].target);
		free(l->entries[i].target_st);
	}
	free(l->entries);
}

void walk_free(struct walk *w)
{
	if (w == NULL)
		return;
	while (w->depth > 0)
		level_done(&w->levels[--w->depth]);
	free(w->levels);
	links_done(&w->links);
	free(w);
}

static void *grow(void *array, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return array;
	*cap = *cap * 2 + 16;
	array = reallocarray(array, *cap, size);
	if (array == NULL)
		abort();
	return array;
}

static int fail_with_errno(const struct walk *w, const char *doing, struct error *err)
{
	return error_set(err, -errno, "%s '%s' in %s: %m", doing, w->path, w->opts.where);
}

static int fail_changed(const struct walk *w, const char *path, struct error *err)
{
	return error_set(err, -ERR_CHANGED,
		"'%s' in %s changed while it was listed: a version must be of one moment; create it again when nothing writes there",
		path, w->opts.where);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct walk_entry *)a)->name, ((const struct walk_entry *)b)->name);
}

static int fail_stat(const struct walk *w, const char *name, struct error *err)
{
	_free_ char *path = text_format("%s%s%s", w->path, *w->path != '\0' ? "/" : "", name);

	if (errno == ENOENT)
		return fail_changed(w, path, err);
	return error_set(err, -errno, "look at '%s' in %s: %m", path, w->opts.where);
}

/* The owner and the target of the link are read from one inode, and the target is resolved from the
 * directory that was listed. So another link cannot take the place of this one in between. */
static int stat_link(
	const struct walk *w, int dir_fd, const char *name, struct walk_entry *e, struct error *err)
{
	_close_ int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char target[PATH_MAX];
	ssize_t n;

	if (fd < 0 || fstat(fd, &e->st) < 0)
		return fail_stat(w, name, err);
	if (!S_ISLNK(e->st.st_mode))
		return 0;
	n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return fail_stat(w, name, err);
	target[n] = '\0';
	e->target = text_copy(target);
	if (!w->opts.dereference)
		return 0;
	e->target_st = zalloc(sizeof(*e->target_st));
	e->target_errno = fstatat(dir_fd, target, e->target_st, 0) < 0 ? errno : 0;
	return 0;
}

/* The root of a file system has a lost+found directory of its own, which only root can read. */
static bool is_lost_and_found(
	const struct walk *w, int dir_fd, const char *name, const struct stat *st)
{
	struct stat here, above;

	if (w->path[0] != '\0' || strcmp(name, "lost+found") != 0 || !S_ISDIR(st->st_mode) ||
		st->st_uid != 0 || (st->st_mode & (S_IRWXG | S_IRWXO)) != 0 ||
		fstat(dir_fd, &here) != 0 || fstatat(dir_fd, "..", &above, 0) != 0 ||
		here.st_dev == above.st_dev)
		return false;
	log_info("lost+found in %s is left out: it is the file system's own", w->opts.where);
	return true;
}

static int stat_entry(struct walk *w, struct walk_level *l, int dir_fd, const char *name,
	size_t *cap, struct error *err)
{
	struct walk_entry e = {0};
	int code = 0;

	if (fstatat(dir_fd, name, &e.st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_stat(w, name, err);
	if (is_lost_and_found(w, dir_fd, name, &e.st))
		return 0;
	if (S_ISLNK(e.st.st_mode))
		code = stat_link(w, dir_fd, name, &e, err);
	e.name = text_copy(name);
	l->entries = grow(l->entries, l->n, cap, sizeof(*l->entries));
	l->entries[l->n++] = e;
	return code;
}

static bool is_left_out(struct walk *w, const char *name)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	if (!text_is_reserved_name(name))
		return false;
	if (!w->reserved_logged)
		walk_log_reserved(w->opts.where, w->path, name);
	w->reserved_logged = true;
	return true;
}

static int list_dir(struct walk *w, struct walk_level *l, DIR *dir, struct error *err)
{
	struct dirent *d;
	size_t cap = 0;
	int code = 0;

	while (code == 0 && (errno = 0, d = readdir(dir)) != NULL)
		if (!is_left_out(w, d->d_name))
			code = stat_entry(w, l, dirfd(dir), d->d_name, &cap, err);
	if (code == 0 && errno != 0)
		code = fail_with_errno(w, "list", err);
	if (l->n > 0)
		qsort(l->entries, l->n, sizeof(*l->entries), by_name);
	return code;
}

/* A link that is followed may lead back to a directory that the walk is in. */
static int check_loop(const struct walk *w, const struct stat *st, struct error *err)
{
	for (size_t i = 0; i < w->depth; i++)
		if (w->levels[i].dev == st->st_dev && w->levels[i].ino == st->st_ino)
			return error_set(err, -ERR_REFUSED,
				"'%s' in %s is a link to a directory that it lies in: followed, it would never end",
				w->path, w->opts.where);
	return 0;
}

/* The file at w->path, after links that are followed. */
struct walk_node {
	const struct stat *st;
	bool through_link; /* the path contains a link that is followed */
};

/* If no link is followed, then a link that takes the place of the directory meanwhile is not
 * followed either. If one is, then it must still lead to the directory that stat() saw. */
static int open_dir(const struct walk *w, const struct walk_node *here, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = open_beneath(w->opts.root_fd, w->path, flags);
	struct stat st;

	if (fd < 0 && here->through_link) {
		fd = openat(w->opts.root_fd, w->path, flags);
		if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_dev != here->st->st_dev ||
				       st.st_ino != here->st->st_ino)) {
			close(fd);
			fd = -ENOTDIR;
		} else if (fd < 0) {
			fd = -errno;
		}
	}
	errno = -fd;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return fail_changed(w, w->path, err);
	return fd < 0 ? fail_with_errno(w, "list", err) : fd;
}

/* Enters the directory at w->path. */
static int descend(struct walk *w, const struct walk_node *here, struct error *err)
{
	_closedir_ DIR *dir = NULL;
	struct walk_level *l;
	int fd, code = check_loop(w, here->st, err);

	if (code < 0)
		return code;
	fd = open_dir(w, here, err);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (dir == NULL)
		return fail_with_errno(w, "list", err);
	w->levels = grow(w->levels, w->depth, &w->cap, sizeof(*w->levels));
	l = &w->levels[w->depth++];
	*l = (struct walk_level){.path_len = strlen(w->path),
		.through_link = here->through_link,
		.dev = here->st->st_dev,
		.ino = here->st->st_ino};
	return list_dir(w, l, dir, err);
}

static int visit_file(struct walk *w, const struct walk_node *here, struct create_item **ret)
{
	struct create_item *i = walk_file(w->path, here->st);

	i->through_link = here->through_link;
	if (here->st->st_nlink > 1) {
		links_add(&w->links, i, here->st);
		return 0;
	}
	*ret = i;
	return 1;
}

static int visit_dir(struct walk *w, const struct walk_node *here, bool wanted,
	struct create_item **ret, struct error *err)
{
	int code = descend(w, here, err);

	if (code < 0 || !wanted)
		return code;
	*ret = create_item_new(INDEX_DIR, *w->path != '\0' ? w->path : ".", NULL, NULL);
	set_metadata(*ret, here->st);
	return 1;
}

/* Checks a link that leaves the tree. Root follows a link of another user only to what belongs to
 * the same user: otherwise anybody who may write to the directory could make root read a file that
 * they may not read themselves. */
static int check_follow(const struct walk *w, const struct walk_entry *e, struct error *err)
{
	if (!w->opts.dereference)
		return error_set(err, -ERR_REFUSED,
			"'%s' in %s is a symbolic link to '%s', outside of it: a datastore must be whole by itself; --dereference stores what such links point to",
			w->path, w->opts.where, e->target);
	if (e->target_errno != 0) {
		errno = e->target_errno;
		return error_set(err, -ERR_REFUSED,
			"'%s' in %s is a symbolic link to '%s', which cannot be followed: %m",
			w->path, w->opts.where, e->target);
	}
	if (geteuid() != 0 || e->st.st_uid == 0 || e->st.st_uid == e->target_st->st_uid)
		return 0;
	return error_set(err, -ERR_REFUSED,
		"'%s' in %s is a symbolic link of uid %u to '%s', which belongs to uid %u: root does not follow such links; create the datastore as uid %u, or leave the link out (--exclude)",
		w->path, w->opts.where, (unsigned)e->st.st_uid, e->target,
		(unsigned)e->target_st->st_uid, (unsigned)e->st.st_uid);
}

/* Whether path is a directory and has no symbolic link among its components. */
static bool is_real_dir(void *ctx, char *path)
{
	const struct walk *w = ctx;
	_close_ int fd = open_beneath(w->opts.root_fd, path, O_PATH | O_DIRECTORY);

	return fd >= 0;
}

/* 1: *ret is the link itself. 0: the link is followed, and *here is set to what it points to. */
static int visit_link(struct walk *w, const struct walk_entry *e, struct walk_node *here,
	struct create_item **ret, struct error *err)
{
	char at[TREE_LINK_TEXT];

	if (tree_link_leaves(w->path, e->target, is_real_dir, w, at)) {
		*here = (struct walk_node){.st = e->target_st, .through_link = true};
		return check_follow(w, e, err);
	}
	*ret = create_item_new(INDEX_SYMLINK, w->path, e->target, NULL);
	set_metadata(*ret, &e->st);
	(*ret)->mode = 0777;
	return 1;
}

/* Visits the entry e at w->path. 1 and *ret, or 0 when it has nothing to return, or not yet. */
static int visit(
	struct walk *w, const struct walk_entry *e, struct create_item **ret, struct error *err)
{
	bool wanted = *w->path == '\0' || select_apply(w->opts.selection, w->path) != NULL;
	struct walk_node here = {
		.st = &e->st, .through_link = w->depth > 0 && w->levels[w->depth - 1].through_link};

	if (S_ISDIR(e->st.st_mode))
		return visit_dir(w, &here, wanted, ret, err);
	if (!wanted)
		return 0;
	if (S_ISLNK(e->st.st_mode)) {
		int found = visit_link(w, e, &here, ret, err);

		if (found != 0)
			return found;
	}
	if (S_ISDIR(here.st->st_mode))
		return visit_dir(w, &here, true, ret, err);
	return S_ISREG(here.st->st_mode)
		       ? visit_file(w, &here, ret)
		       : walk_refuse(w->opts.where, w->path, here.st->st_mode, err);
}

/* Sets w->path and *ret to the next entry of the current directory. At its end leaves the directory
 * and returns false. */
static bool next_entry(struct walk *w, const struct walk_entry **ret, struct error *err, int *code)
{
	struct walk_level *l = &w->levels[w->depth - 1];
	struct walk_entry *e;
	size_t len = l->path_len;

	if (l->next == l->n) {
		level_done(l);
		w->depth--;
		return false;
	}
	e = &l->entries[l->next++];
	w->path[len] = '\0';
	if (len + 1 + strlen(e->name) >= PATH_MAX)
		*code = error_set(err, -ENAMETOOLONG,
			"'%.200s...' in %s: the path is longer than %d bytes", w->path,
			w->opts.where, PATH_MAX - 1);
	else
		sprintf(w->path + len, "%s%s", len > 0 ? "/" : "", e->name);
	*ret = e;
	return true;
}

static int visit_root(struct walk *w, struct create_item **ret, struct error *err)
{
	struct walk_entry root = {0};

	w->begun = true;
	if (fstat(w->opts.root_fd, &root.st) < 0)
		return fail_with_errno(w, "look at", err);
	return visit(w, &root, ret, err);
}

bool walk_is_at_links(const struct walk *w)
{
	return w->at_links;
}

int walk_next(struct walk *w, struct create_item **ret, struct error *err)
{
	int found = w->begun ? 0 : visit_root(w, ret, err); /* 1: *ret */

	while (found == 0 && w->depth > 0) {
		const struct walk_entry *e;
		int code = 0;

		if (cancel_requested(w->opts.cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (!next_entry(w, &e, err, &code))
			continue;
		found = code < 0 ? code : visit(w, e, ret, err);
	}
	if (found != 0)
		return found;
	if (!w->at_links) {
		w->at_links = true;
		links_group(&w->links);
	}
	*ret = links_next(&w->links);
	return *ret != NULL;
}
