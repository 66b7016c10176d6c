/* SPDX-License-Identifier: MIT */
/* A tree from its empty root to the finished directory: its creation and its end, and what all its
 * writers share: limits, free space, and the sum of its files. Any thread, where nothing else is
 * said. */
#include "cgroup.h"
#include "defer.h"
#include "disk.h"
#include "file_sum.h"
#include "files.h"
#include "text.h"
#include "tree_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Free space, and the error messages of calls that write. */

struct disk_room {
	uint64_t bytes;
	uint64_t inodes, of_inodes; /* free, and all; of_inodes 0: created as needed */
	bool bound_by_memory;       /* by the memory of the control group, not by the file system */
};

/* Returns false if it is not known. */
static bool query_room(int fd, struct disk_room *ret)
{
	struct disk_space space = {.free = UINT64_MAX};
	bool known = disk_space(fd, &space);
	struct statfs kind;
	uint64_t left;

	*ret = (struct disk_room){
		.bytes = space.free, .inodes = space.inodes, .of_inodes = space.of_inodes};
	if (fstatfs(fd, &kind) < 0 || (kind.f_type != TMPFS_MAGIC && kind.f_type != RAMFS_MAGIC))
		return known;
	/* A ramfs has no size, and a tmpfs may have none. */
	left = cgroup_memory_left("");
	ret->bound_by_memory = !known || left < ret->bytes;
	if (ret->bound_by_memory)
		ret->bytes = left;
	return true;
}

/* "12 MB and 3 of 1000 inodes are free"; without the inodes where they are created as needed. */
static const char *print_free(const struct disk_room *room, char *buf, size_t cap)
{
	const char *whose = room->bound_by_memory ? " of the container's memory" : "";
	char size[32];

	units_print_size(room->bytes, size);
	if (room->of_inodes == 0)
		snprintf(buf, cap, "%s%s is free", size, whose);
	else
		snprintf(buf, cap, "%s%s and %llu of %llu inodes are free", size, whose,
			(unsigned long long)room->inodes, (unsigned long long)room->of_inodes);
	return buf;
}

int tree_check_room(struct tree *t, uint64_t bytes, uint64_t entries, struct error *err)
{
	struct disk_room room;
	char size[32], have[128], disk[DISK_TEXT];

	if (t->sink != NULL || t->continued || !query_room(t->root_fd, &room))
		return 0; /* unknown: a write fails if there is no room */
	if (bytes <= room.bytes && (room.of_inodes == 0 || entries <= room.inodes))
		return 0;
	units_print_size(bytes, size);
	print_free(&room, have, sizeof(have));
	disk_describe(t->root_fd, disk);
	if (entries == 0)
		return error_set(err, -ERR_SPACE,
			"%s are needed and only %s%s; free space or stage elsewhere", size, have,
			disk);
	return error_set(err, -ERR_SPACE,
		"%s and %llu inodes are needed and only %s%s; free space or stage elsewhere", size,
		(unsigned long long)entries, have, disk);
}

/* NULL: errnum does not mean that the file system refuses all writes. */
static const char *space_error(int errnum)
{
	switch (errnum) {
	case ENOSPC:
		return "no space left";
	case EDQUOT:
		return "the disk quota is used up";
	case EROFS:
		return "the file system is read-only";
	default:
		return NULL;
	}
}

static int set_disk_error(
	struct error *err, int errnum, int fd, const char *doing, const char *path)
{
	const char *why = space_error(errnum);
	struct disk_room room;
	char have[128], disk[DISK_TEXT];

	errno = errnum;
	if (why == NULL)
		return error_set(err, -errnum, "cannot %s '%.300s': %m", doing, path);
	disk_describe(fd, disk);
	if (errnum == EROFS)
		return error_set(err, -ERR_SPACE,
			"cannot %s '%.300s': %s%s; mount it writable or stage elsewhere", doing,
			path, why, disk);
	if (fd < 0 || !query_room(fd, &room))
		return error_set(err, -ERR_SPACE,
			"cannot %s '%.300s': %s%s; free space or stage elsewhere", doing, path, why,
			disk);
	return error_set(err, -ERR_SPACE,
		"cannot %s '%.300s': %s%s: %s; free space or stage elsewhere", doing, path, why,
		disk, print_free(&room, have, sizeof(have)));
}

int tree_disk_error(struct error *err, int errnum, int fd, const char *doing, const char *path)
{
	int code = set_disk_error(err, errnum, fd, doing, path);

	error_cause(err, errnum, 0);
	return code;
}

/* Limits. Only bytes that are really written, or left as a hole, count against them; a size that an
 * archive declares can only make it fail earlier. */

/* Below this many bytes the ratio is not checked: a small archive of zeros is no bomb. */
#define RATIO_FROM_BYTES (1ull << 30)

int tree_limit_entry(struct writer *w, const char *name, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_entries;

	if (atomic_fetch_add_explicit(&w->tree->entries, 1, memory_order_relaxed) >= max)
		return error_set(err, -ERR_LIMIT,
			"there are more than %llu entries (limits.max_entries), '%.300s' is the next one",
			(unsigned long long)max, name);
	if (w->progress != NULL)
		count(&w->progress->entries, 1);
	return 0;
}

static int too_many_bytes(const struct writer *w, struct error *err)
{
	const struct tree_limits *l = &w->tree->opts.limits;
	char size[32];

	return error_set(err, -ERR_LIMIT, "the files are larger than %s (%s), reached at '%.300s'",
		units_print_size(l->max_bytes, size),
		l->bytes_why ? l->bytes_why : "limits.max_bytes", w->path);
}

int tree_limit_promised(const struct writer *w, uint64_t size, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_bytes, have = counted(&w->tree->bytes);

	if (max == UINT64_MAX || (have <= max && size <= max - have))
		return 0;
	return too_many_bytes(w, err);
}

static int limit_ratio(const struct writer *w, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_ratio;
	uint64_t found = counted(&w->tree->found_bytes); /* read from no source in this run */
	uint64_t expanded = counted(&w->progress->expanded) - found - counted(&w->progress->holes);
	uint64_t consumed = counted(&w->progress->consumed);

	/* consumed is 0 if the source does not count it. */
	if (max == 0 || expanded < RATIO_FROM_BYTES || consumed == 0 || expanded / max <= consumed)
		return 0;
	return error_set(err, -ERR_LIMIT,
		"the archive expands more than %llu times (limits.max_ratio), reached at '%.300s': raise that limit, or set it to 0, if this is what you expect of it",
		(unsigned long long)max, w->path);
}

static int add_bytes(struct writer *w, uint64_t n, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_bytes;
	uint64_t before = atomic_fetch_add_explicit(&w->tree->bytes, n, memory_order_relaxed);

	if (max != UINT64_MAX && (before > max || n > max - before))
		return too_many_bytes(w, err);
	if (w->progress != NULL)
		count(&w->progress->expanded, n);
	return 0;
}

int tree_limit_bytes(struct writer *w, uint64_t n, struct error *err)
{
	int code = add_bytes(w, n, err);

	return code < 0 || w->progress == NULL ? code : limit_ratio(w, err);
}

int tree_limit_hole(struct writer *w, uint64_t n, struct error *err)
{
	/* Counted before the expanded bytes: a thread that compares the two counters must not see
	 * the hole as written bytes. */
	if (w->progress != NULL)
		count(&w->progress->holes, n);
	return add_bytes(w, n, err);
}

int tree_limit_found(struct writer *w, uint64_t n, struct error *err)
{
	int code = add_bytes(w, n, err);

	count(&w->tree->found_bytes, n);
	return code;
}

int tree_check_entries(struct tree *t, uint64_t entries, struct error *err)
{
	uint64_t max = t->opts.limits.max_entries;

	if (entries <= max)
		return 0;
	return error_set(err, -ERR_LIMIT, "it lists more than %llu entries (limits.max_entries)",
		(unsigned long long)max);
}

int tree_reserve_scratch(struct tree *t, uint64_t n, struct error *err)
{
	const struct tree_limits *l = &t->opts.limits;
	uint64_t before = atomic_fetch_add_explicit(&t->scratch, n, memory_order_relaxed);
	char size[32];

	if (l->max_bytes == UINT64_MAX || (before <= l->max_bytes && n <= l->max_bytes - before))
		return 0;
	tree_release_scratch(t, n);
	return error_set(err, -ERR_LIMIT,
		"what has to be stored of it to unpack it is larger than %s (%s)",
		units_print_size(l->max_bytes, size),
		l->bytes_why ? l->bytes_why : "limits.max_bytes");
}

void tree_release_scratch(struct tree *t, uint64_t n)
{
	atomic_fetch_sub_explicit(&t->scratch, n, memory_order_relaxed);
}

/* The sum of the tree's files (file_sum.h). */

bool tree_sum_is_sparse(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

void tree_sum_add(
	const struct writer *w, uint64_t size, bool sparse, const struct timespec *modified)
{
	struct tree *t = w->tree;
	uint64_t mark = file_sum_mark(w->path, size);

	count(sparse ? &t->sum_sparse : &t->sum_dense, mark);
	count(&t->sum_times, file_sum_dated(mark, modified->tv_sec));
}

/* The sum becomes unknown for a file that looks sparse: whether it was added as sparse or as dense
 * is not recorded. */
void tree_sum_remove(const struct writer *w, const struct stat *st)
{
	struct tree *t = w->tree;
	uint64_t mark = file_sum_mark(w->path, (uint64_t)st->st_size);

	if (!S_ISREG(st->st_mode) ||
		(t->continued && writer_time_is_before(&st->st_ctim, &t->since)))
		return; /* it was never added */
	if (tree_sum_is_sparse(st))
		atomic_store(&t->sum_unknown, true);
	atomic_fetch_sub_explicit(&t->sum_dense, mark, memory_order_relaxed);
	atomic_fetch_sub_explicit(
		&t->sum_times, file_sum_dated(mark, st->st_mtim.tv_sec), memory_order_relaxed);
}

struct file_sum tree_file_sum(const struct tree *t)
{
	return (struct file_sum){.known = !atomic_load(&t->sum_unknown),
		.dense = counted(&t->sum_dense),
		.sparse = counted(&t->sum_sparse),
		.has_times = !t->times_doubtful && (t->losses->what & LOSS_TIME) == 0,
		.times = counted(&t->sum_times)};
}

/* The tree of a killed run: it is prepared before this run continues it, and in the end files for
 * which there was no entry are removed. One thread, without writers. Each directory is opened
 * relative to its parent, and no link is followed: any other user who can write above the tree can
 * exchange any name in a path. */

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct leftover_level {
	DIR *dir;
	char name[NAME_MAX + 1]; /* in the level above */
	bool stale;              /* this run had no entry for it */
};

struct leftover_walk {
	struct tree *tree; /* to remove leftovers from; NULL: the tree is being prepared */
	struct leftover_level *levels;
	size_t depth, cap;
};

/* While the tree is prepared, makes the directory writable: the killed run may have set its final
 * mode. */
static int open_directory(const struct leftover_walk *l, int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, OPEN_FLAGS);

	if (fd < 0 && errno == EACCES && l->tree == NULL &&
		fchmodat(dir_fd, name, umask_apply(PARENT_MODE) | WORKING_MODE,
			AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(dir_fd, name, OPEN_FLAGS);
	if (fd >= 0 && l->tree == NULL)
		(void)!fchmod(fd, umask_apply(PARENT_MODE) | WORKING_MODE);
	return fd;
}

static int enter_level(struct leftover_walk *l, int fd, const char *name, bool stale)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct leftover_level *level;

	if (dir == NULL) {
		int code = -errno;

		if (fd >= 0)
			close(fd);
		return code;
	}
	if (l->depth == l->cap) {
		l->cap = l->cap == 0 ? 16 : 2 * l->cap;
		l->levels = realloc(l->levels, l->cap * sizeof(*l->levels));
		if (l->levels == NULL)
			abort();
	}
	level = &l->levels[l->depth++];
	*level = (struct leftover_level){.dir = dir, .stale = stale};
	snprintf(level->name, sizeof(level->name), "%s", name);
	return 0;
}

/* Leaves a directory. One without an entry is removed, but stays if it is not empty. */
static void leave_level(struct leftover_walk *l)
{
	struct leftover_level *level = &l->levels[--l->depth];

	closedir(level->dir);
	if (level->stale && l->depth > 0)
		(void)!unlinkat(dirfd(l->levels[l->depth - 1].dir), level->name, AT_REMOVEDIR);
}

/* Files that this run wrote or accepted were changed (ctime) after it began; the others are
 * removed. All names of a file have one ctime, so while the tree is prepared, all names of a file
 * but one are removed. */
static int visit_name(struct leftover_walk *l, int dir_fd, const char *name)
{
	struct stat st;
	bool stale;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	stale = l->tree != NULL && writer_time_is_before(&st.st_ctim, &l->tree->since);
	if (S_ISDIR(st.st_mode))
		return enter_level(l, open_directory(l, dir_fd, name), name, stale);
	if ((stale || (l->tree == NULL && st.st_nlink > 1)) && unlinkat(dir_fd, name, 0) != 0)
		return -errno;
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int walk_step(struct leftover_walk *l)
{
	DIR *dir = l->levels[l->depth - 1].dir;
	const struct dirent *e;

	errno = 0;
	e = readdir(dir); /* NOLINT(concurrency-mt-unsafe): one thread's stream */
	if (e == NULL && errno != 0)
		return -errno;
	if (e == NULL) {
		leave_level(l);
		return 0;
	}
	return is_dots(e->d_name) ? 0 : visit_name(l, dirfd(dir), e->d_name);
}

static int walk_leftovers(struct leftover_walk *l, int root_fd, struct cancel *cancel)
{
	int code = enter_level(l, openat(root_fd, ".", OPEN_FLAGS), "", false);

	while (code == 0 && l->depth > 0)
		code = cancel_requested(cancel) ? -ECANCELED : walk_step(l);
	while (l->depth > 0)
		closedir(l->levels[--l->depth].dir);
	free(l->levels);
	return code;
}

void tree_prepare_continue(int root_fd, struct cancel *cancel)
{
	struct leftover_walk l = {.tree = NULL};

	/* Errors are ignored: the writer that needs the directory returns them. */
	(void)walk_leftovers(&l, root_fd, cancel);
}

/* Removes from a tree that is continued the files for which this run had no entry. */
static int remove_leftovers(struct tree *t, struct error *err)
{
	struct leftover_walk l = {.tree = t};
	int code = t->continued ? walk_leftovers(&l, t->root_fd, t->opts.cancel) : 0;

	if (code == -ECANCELED)
		return error_set(err, code, "cancelled");
	if (code < 0)
		return tree_disk_error(err, -code, t->root_fd, "remove",
			"what an interrupted run left and no entry speaks of");
	return 0;
}

/* Creation and end of a tree. */

#define MODE_BITS (S_IRWXU | S_IRWXG | S_IRWXO)

static void probe_modes_and_times(struct tree *t, int fd)
{
	static const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
	struct stat st;

	if (fstat(fd, &st) != 0)
		return;
	t->mode_lost = MODE_BITS & ~st.st_mode;
	t->modes_doubtful = fchmod(fd, S_IRUSR) != 0 || fstat(fd, &st) != 0 ||
			    (st.st_mode & MODE_BITS) != S_IRUSR;
	t->times_doubtful = futimens(fd, times) != 0 || fstat(fd, &st) != 0 ||
			    st.st_mtim.tv_sec != times[1].tv_sec;
}

/* The agent's umask is 0, so open() alone sets the mode of a file. With another umask, or a default
 * ACL, a second call is needed for each file; so the effect of setting mode and time is tested
 * once, on a temporary file. */
static void probe_attributes(struct tree *t)
{
	char name[FILES_UNNAMED_TEXT] = "";
	int fd = files_create_unnamed(t->root_fd, MODE_BITS, name);

	t->mode_lost = MODE_BITS;
	t->modes_doubtful = t->times_doubtful = true;
	if (fd < 0)
		return;
	probe_modes_and_times(t, fd);
	if (name[0] != '\0')
		unlinkat(t->root_fd, name, 0);
	close(fd);
}

int tree_new(int root_fd, int scratch_fd, const struct tree_options *opts, struct tree **ret,
	struct error *err)
{
	struct tree *t = zalloc(sizeof(*t));
	unsigned max_path = opts->limits.max_path;
	int code = spool_init(&t->spool, scratch_fd, err);

	t->root_fd = root_fd;
	t->opts = *opts;
	losses_init(&t->own_losses);
	t->losses = opts->losses != NULL ? opts->losses : &t->own_losses;
	t->max_path = max_path < PATH_MAX ? max_path : PATH_MAX - 1;
	t->openat2 = !opts->no_openat2 && parents_has_openat2(root_fd);
	probe_attributes(t);
	t->root_meta.mode = (mode_t)-1;
	t->root_meta.uid = (uid_t)-1;
	t->root_meta.gid = (gid_t)-1;
	pthread_mutex_init(&t->mutex, NULL);
	if (code == 0)
		code = names_new(root_fd, scratch_fd, &t->names, err);
	if (code < 0) {
		tree_free(t);
		return code;
	}
	*ret = t;
	return 0;
}

struct tree *tree_new_sink(const struct tree_sink *sink, void *ctx, const struct tree_options *opts)
{
	struct tree *t = zalloc(sizeof(*t));
	unsigned max_path = opts->limits.max_path;

	t->root_fd = -1;
	t->opts = *opts;
	t->max_path = max_path < PATH_MAX ? max_path : PATH_MAX - 1;
	t->sink = sink;
	t->sink_ctx = ctx;
	pthread_mutex_init(&t->mutex, NULL);
	return t;
}

void tree_free(struct tree *t)
{
	if (t == NULL)
		return;
	if (t->sink == NULL)
		spool_done(&t->spool);
	if (t->sink == NULL)
		losses_done(&t->own_losses);
	names_free(t->names);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}

/* Links are verified first: once a directory has its final mode, a link in it may not be
 * reachable. */
int tree_finish(struct tree *t, struct meta *ret_root_meta, struct error *err)
{
	int code = tree_verify_symlinks(t, err);

	if (code == 0)
		code = remove_leftovers(t, err);
	if (code == 0)
		code = tree_finish_directories(t, err);
	if (code < 0)
		return code;
	losses_warn(&t->own_losses, "the tree", t->root_fd);
	if (ret_root_meta != NULL) {
		*ret_root_meta = t->root_meta;
		metadata_owner(&t->opts, &t->root_meta, &ret_root_meta->uid, &ret_root_meta->gid);
	}
	return 0;
}
