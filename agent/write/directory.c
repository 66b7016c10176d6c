/* SPDX-License-Identifier: MIT */
/* Directories. They are made so that they can be worked in; what their entries say of mode, time
 * and owner is spooled, and applied when nothing more is created: the deepest first, since a mode
 * may close the way to what is below, and in the archive's order at each depth, since the last word
 * on a directory wins. */
#include "beneath.h"
#include "metadata.h"
#include "path.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct record {
	struct timespec mtime;
	uid_t uid; /* (uid_t)-1, (gid_t)-1: stays */
	gid_t gid;
	mode_t mode;
	bool mode_is_set; /* the directory was made with it */
			  /* The path and its NUL follow. */
};

static int remember(struct writer *w, const struct meta *m, bool made, struct error *err)
{
	mode_t mode = metadata_mode(m);
	struct record rec;
	struct iovec parts[] = {{&rec, sizeof(rec)}, {w->path, strlen(w->path) + 1}};

	memset(&rec, 0, sizeof(rec)); /* also the padding: it goes to a file */
	rec.mtime = m->mtime;
	rec.mode = mode;
	rec.mode_is_set = made && (mode & WORKING_MODE) == WORKING_MODE;
	metadata_owner(&w->tree->opts, m, &rec.uid, &rec.gid);
	return spool_add(&w->tree->spool, path_depth(w->path), parts, err);
}

static int check_is_dir(struct writer *w, const struct place *at, struct error *err)
{
	struct stat st;

	if (fstatat(at->parent_fd, at->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return disk_error(err, errno, at->parent_fd, "look at", w->path);
	if (!S_ISDIR(st.st_mode))
		return entry_refused(
			err, w->path, "it is a directory and would replace something else");
	return 0;
}

static int set_xattrs(
	struct writer *w, const struct place *at, const struct meta *m, struct error *err)
{
	int fd, r;

	if (m->n_xattrs == 0)
		return 0;
	fd = openat(at->parent_fd, at->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return disk_error(err, errno, at->parent_fd, "open", w->path);
	r = metadata_set_xattrs(w, fd, m, err);
	close(fd);
	return r;
}

static int remember_root(struct writer *w, const struct meta *m, struct error *err)
{
	struct tree *t = w->tree;
	struct place at = {.parent_fd = t->root_fd, .base = "."};

	pthread_mutex_lock(&t->mutex);
	t->root_meta = *m;
	t->root_meta.mode = metadata_mode(m);
	t->root_meta.xattrs = NULL;
	t->root_meta.n_xattrs = 0;
	pthread_mutex_unlock(&t->mutex);
	return set_xattrs(w, &at, m, err);
}

static int make(struct writer *w, const char *name, const struct meta *m, struct error *err)
{
	struct place at;
	int made, r;

	if ((r = writer_begin(w, name, err)) < 0)
		return r;
	if (w->tree->sink != NULL)
		return w->tree->sink->dir(w->tree->sink_ctx, w->path, m, err);
	if (*w->path == '\0')
		return remember_root(w, m, err);
	if ((r = writer_place(w, &at, err)) < 0)
		return r;
	made = beneath_mkdir(w->tree, at.parent_fd, at.base, metadata_mode(m) | WORKING_MODE);
	if (made < 0 && made != -EEXIST)
		return disk_error(err, -made, at.parent_fd, "create directory", w->path);
	if (made == -EEXIST && (r = check_is_dir(w, &at, err)) < 0)
		return r;
	if ((r = set_xattrs(w, &at, m, err)) < 0)
		return r;
	return remember(w, m, made == 0, err);
}

int writer_dir(struct writer *w, const char *name, const struct meta *m, struct error *err)
{
	uint64_t start = now_ns();
	int r = make(w, name, m, err);

	writer_spent(w, start);
	return r;
}

struct finish {
	struct tree *tree;
	struct parents parents;
};

static int apply(int parent_fd, const char *path, const struct record *rec, struct error *err)
{
	const char *base = path_base(path);
	struct timespec times[2];

	if ((rec->uid != (uid_t)-1 || rec->gid != (gid_t)-1) &&
		fchownat(parent_fd, base, rec->uid, rec->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return metadata_owner_error(err, parent_fd, path, rec->uid, rec->gid);
	if (!rec->mode_is_set && fchmodat(parent_fd, base, rec->mode, 0) < 0)
		return disk_error(err, errno, parent_fd, "set the mode of", path);
	metadata_times(&rec->mtime, times);
	if (utimensat(parent_fd, base, times, AT_SYMLINK_NOFOLLOW) < 0)
		return disk_error(err, errno, parent_fd, "set the time of", path);
	return 0;
}

static int visit(void *ctx, const void *record, size_t len, struct error *err)
{
	const char *path = (const char *)record + sizeof(struct record);
	struct finish *f = ctx;
	size_t bad_len;
	struct record rec;
	int fd;

	(void)len;
	memcpy(&rec, record, sizeof(rec)); /* the spool aligns nothing */
	fd = parents_get(&f->parents, f->tree, path, path_parent_len(path), false, &bad_len);
	if (fd < 0)
		return disk_error(err, -fd, f->tree->root_fd, "open the parent directory of", path);
	return apply(fd, path, &rec, err);
}

int directories_finish(struct tree *t, struct error *err)
{
	struct finish f = {.tree = t};
	int r = 0;

	for (size_t depth = spool_lists(&t->spool); depth-- > SYMLINKS_LIST + 1 && r == 0;)
		r = spool_each(&t->spool, depth, t->opts.cancel, visit, &f, err);
	parents_done(&f.parents);
	return r;
}
