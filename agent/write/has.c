/* SPDX-License-Identifier: MIT */
/* What an earlier run, which was killed, wrote into this tree already. A file's time is set when its content is
 * all there (file.c), so that a file with the size and the time that it shall have is that file: the kernel that has
 * its bytes still runs, and the archive is of the same version.
 *
 * An archive may have two files of one name, size and time. What this run writes or takes over has a time of
 * change that is not before the run: the second of the two is not taken for the first. */
#include "metadata.h"
#include "path.h"
#include <fcntl.h>
#include <sys/stat.h>

bool time_is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static bool is_exact(
	const struct tree *t, const struct meta *m, uint64_t size, const struct stat *st)
{
	struct timespec times[2];
	uid_t uid;
	gid_t gid;

	metadata_times(&m->mtime, times);
	(void)metadata_owner(&t->opts, m, &uid, &gid);
	return S_ISREG(st->st_mode) && (uint64_t)st->st_size == size &&
	       st->st_mtim.tv_sec == times[1].tv_sec && st->st_mtim.tv_nsec == times[1].tv_nsec &&
	       time_is_before(&st->st_ctim, &t->since) && (uid == (uid_t)-1 || uid == st->st_uid) &&
	       (gid == (gid_t)-1 || gid == st->st_gid);
}

static bool find(struct writer *w, const char *name, struct place *ret)
{
	size_t bad_len, len;

	if (path_normalise(name, w->tree->max_path, w->path, NULL) < 0 || *w->path == '\0')
		return false;
	len = path_parent_len(w->path);
	ret->parent_fd = parents_get(&w->parents, w->tree, w->path, len, false, &bad_len);
	ret->base = path_base(w->path);
	return ret->parent_fd >= 0;
}

/* Either call moves the time of change. */
static bool take_over(const struct place *at, const struct meta *m, const struct stat *st)
{
	struct timespec times[2];

	if ((st->st_mode & 07777) != metadata_mode(m))
		return fchmodat(at->parent_fd, at->base, metadata_mode(m), 0) == 0;
	metadata_times(&m->mtime, times);
	return utimensat(at->parent_fd, at->base, times, AT_SYMLINK_NOFOLLOW) == 0;
}

int writer_has(
	struct writer *w, const char *name, const struct meta *m, uint64_t size, struct error *err)
{
	struct place at;
	struct stat st;
	int r;

	if (!w->tree->continued || size == SIZE_UNKNOWN || !find(w, name, &at))
		return 0;
	if (fstatat(at.parent_fd, at.base, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!is_exact(w->tree, m, size, &st) || !take_over(&at, m, &st))
		return 0;
	if ((r = writer_begin(w, name, err)) < 0 || (r = limit_found(w, size, err)) < 0)
		return r;
	if (file_sum_is_sparse(&st)) /* or compressed by the file system */
		atomic_store(&w->tree->sum_unknown, true);
	file_sum_add(w, size, false);
	count(&w->tree->found, 1);
	return 1;
}

void tree_continue(struct tree *t, const struct timespec *since)
{
	t->since = *since;
	t->continued = true;
}

bool tree_is_continued(const struct tree *t)
{
	return t->continued;
}

uint64_t tree_found(const struct tree *t)
{
	return counted(&t->found);
}
