/* SPDX-License-Identifier: MIT */
/* Directories, and directory markers. The writer's thread, where nothing else is said.
 *
 * A directory marker is an empty file that stands for a directory: object stores, and some programs
 * that write zip archives, list a directory under a name without a slash at its end. A file that
 * another writer has just created is empty, too, so files that will stay empty are recorded, as one
 * bit for a hash of the name; the file system decides then. */
#include "log.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned bit_of(const char *path)
{
	uint32_t h = 0x811c9dc5; /* FNV-1a */

	for (; *path != '\0'; path++)
		h = (h ^ (unsigned char)*path) * 0x01000193;
	return (h ^ h >> 16) % (MARKER_WORDS * 64);
}

void writer_marker_note(struct tree *t, const char *path)
{
	unsigned bit = bit_of(path);

	atomic_fetch_or(&t->markers[bit / 64], 1ull << bit % 64);
}

static bool is_noted(const struct tree *t, const char *path)
{
	unsigned bit = bit_of(path);

	return (atomic_load(&t->markers[bit / 64]) >> bit % 64 & 1) != 0;
}

static void warn_about_marker(const struct writer *w, const char *path)
{
	if (!atomic_exchange(&w->tree->warned_markers, true))
		log_warn(
			"%s: '%.300s' is listed as an empty file, and there are entries below it: it is taken for a directory",
			w->source, path);
}

/* As writer_marker_remove(), for w->path, which was truncated. */
static bool remove_marker(struct writer *w)
{
	size_t bad_len;
	struct stat st;
	int dir = parents_get(
		&w->parents, w->tree, w->path, tree_path_parent_len(w->path), false, &bad_len);

	if (dir < 0 || !is_noted(w->tree, w->path))
		return false;
	if (fstatat(dir, tree_path_base(w->path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT; /* another writer removed it meanwhile */
	if (S_ISDIR(st.st_mode))
		return true;
	if (!S_ISREG(st.st_mode) || st.st_size > 0)
		return false;
	if (unlinkat(dir, tree_path_base(w->path), 0) < 0)
		return errno == ENOENT || errno == EISDIR;
	tree_sum_remove(w, &st);
	warn_about_marker(w, w->path);
	return true;
}

bool writer_marker_remove(struct writer *w, size_t len)
{
	char behind = w->path[len];
	bool done;

	w->path[len] = '\0';
	done = remove_marker(w);
	w->path[len] = behind;
	return done;
}

bool writer_marker_is_directory(struct writer *w, const struct dir_entry *at)
{
	struct stat st;

	if (fstatat(at->parent_fd, at->base, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!S_ISDIR(st.st_mode) ||
		names_is_other_locked(w->tree->names, w->path, strlen(w->path)))
		return false;
	warn_about_marker(w, w->path);
	return true;
}

/* Directories. They are created with WORKING_MODE; the mode, time and owner of their entries are
 * spooled, and applied when nothing more will be created: the deepest first, since a mode may make
 * everything below inaccessible, and in the archive's order at each depth, since the last entry for
 * a directory wins. */

struct directory_record {
	struct metadata_wanted want;
	/* The path and its NUL follow. */
};

static int spool_metadata(struct writer *w, const struct meta *m, bool made, struct error *err)
{
	mode_t mode = metadata_mode(m);
	struct directory_record rec;
	struct iovec parts[] = {{&rec, sizeof(rec)}, {w->path, strlen(w->path) + 1}};

	memset(&rec, 0, sizeof(rec)); /* also the padding, which is written to a file */
	rec.want.mtime = m->mtime;
	rec.want.mode = mode;
	/* Not needed if the directory was created with this mode. */
	rec.want.set_mode = !made || (mode & WORKING_MODE) != WORKING_MODE;
	metadata_owner(&w->tree->opts, m, &rec.want.uid, &rec.want.gid);
	return spool_add(&w->tree->spool, tree_path_depth(w->path), parts, err);
}

static int check_is_dir(struct writer *w, const struct dir_entry *at, struct error *err)
{
	struct stat st;

	if (fstatat(at->parent_fd, at->base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return tree_disk_error(err, errno, at->parent_fd, "look at", w->path);
	if (!S_ISDIR(st.st_mode))
		return tree_entry_refused(
			err, w->path, "it is a directory and would replace something else");
	return 0;
}

static int set_xattrs(
	struct writer *w, const struct dir_entry *at, const struct meta *m, struct error *err)
{
	int fd, code;

	if (m->n_xattrs == 0)
		return 0;
	fd = openat(at->parent_fd, at->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return tree_disk_error(err, errno, at->parent_fd, "open", w->path);
	code = metadata_set_xattrs(w, fd, m, err);
	close(fd);
	return code;
}

static int store_root_meta(struct writer *w, const struct meta *m, struct error *err)
{
	struct tree *t = w->tree;
	struct dir_entry at = {.parent_fd = t->root_fd, .base = "."};

	pthread_mutex_lock(&t->mutex);
	t->root_meta = *m;
	t->root_meta.mode = metadata_mode(m);
	t->root_meta.xattrs = NULL;
	t->root_meta.n_xattrs = 0;
	pthread_mutex_unlock(&t->mutex);
	return set_xattrs(w, &at, m, err);
}

/* Returns 0 or -errno. *ret_is_other: -EEXIST, and the entry there has another name. */
static int mkdir_at(
	const struct writer *w, const struct dir_entry *at, mode_t mode, bool *ret_is_other)
{
	struct names *names = w->tree->names;
	size_t len = strlen(w->path);
	int code;

	names_lock(names);
	code = parents_mkdir_beneath(w->tree, at->parent_fd, at->base, mode);
	*ret_is_other = code == -EEXIST && names_is_other_locked(names, w->path, len);
	if (code == 0)
		names_add_locked(names, w->path, len);
	names_unlock(names);
	return code;
}

static bool has_new_ctime(const struct writer *w, const struct dir_entry *at)
{
	struct stat st;

	return fstatat(at->parent_fd, at->base, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !writer_time_is_before(&st.st_ctim, &w->tree->since);
}

/* There is an entry for a directory that a killed run created: changes its ctime, so that it is not
 * removed as a leftover, by whichever call has that effect on this file system. If none has, an
 * empty directory is created again; one that is not empty is not removed anyway. */
static void renew_ctime(const struct writer *w, const struct dir_entry *at, mode_t mode)
{
	(void)!utimensat(at->parent_fd, at->base, NULL, AT_SYMLINK_NOFOLLOW);
	if (!has_new_ctime(w, at))
		(void)!fchmodat(at->parent_fd, at->base, mode, 0);
	if (!has_new_ctime(w, at) && unlinkat(at->parent_fd, at->base, AT_REMOVEDIR) == 0)
		(void)!mkdirat(at->parent_fd, at->base, mode);
}

static int make_directory(
	struct writer *w, const char *name, const struct meta *m, struct error *err)
{
	bool is_other = false;
	struct dir_entry at;
	int made, code = writer_begin(w, name, err);

	if (code < 0)
		return code;
	if (w->tree->sink != NULL)
		return w->tree->sink->dir(w->tree->sink_ctx, w->path, m, err);
	if (*w->path == '\0')
		return store_root_meta(w, m, err);
	code = writer_place(w, &at, err);
	if (code < 0)
		return code;
	made = mkdir_at(w, &at, metadata_mode(m) | WORKING_MODE, &is_other);
	if (is_other)
		return names_refuse(w->tree, w->path, strlen(w->path), err);
	if (made < 0 && made != -EEXIST)
		return tree_disk_error(err, -made, at.parent_fd, "create directory", w->path);
	if (made == -EEXIST)
		code = check_is_dir(w, &at, err);
	if (code < 0)
		return code;
	if (made == -EEXIST && w->tree->continued)
		renew_ctime(w, &at, metadata_mode(m) | WORKING_MODE);
	code = set_xattrs(w, &at, m, err);
	return code < 0 ? code : spool_metadata(w, m, made == 0, err);
}

int writer_dir(struct writer *w, const char *name, const struct meta *m, struct error *err)
{
	uint64_t start = now_ns();
	int code = make_directory(w, name, m, err);

	writer_count_time(w, start);
	return code;
}

struct finish {
	struct tree *tree;
	struct parents parents;
};

static int apply_record(void *ctx, const void *record, size_t len, struct error *err)
{
	const char *path = (const char *)record + sizeof(struct directory_record);
	struct finish *f = ctx;
	size_t bad_len;
	struct directory_record rec;
	int fd;

	(void)len;
	memcpy(&rec, record, sizeof(rec)); /* records in the spool are not aligned */
	fd = parents_get(&f->parents, f->tree, path, tree_path_parent_len(path), false, &bad_len);
	if (fd < 0)
		return tree_disk_error(
			err, -fd, f->tree->root_fd, "open the parent directory of", path);
	return metadata_apply_at(f->tree, fd, path, &rec.want, err);
}

int tree_finish_directories(struct tree *t, struct error *err)
{
	struct finish f = {.tree = t};
	int code = 0;

	for (size_t depth = spool_lists(&t->spool); depth-- > SYMLINKS_LIST + 1 && code == 0;)
		code = spool_each(&t->spool, depth, t->opts.cancel, apply_record, &f, err);
	parents_done(&f.parents);
	return code;
}
