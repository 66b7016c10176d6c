/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_TREE_PRIVATE_H
#define STAGERUN_WRITE_TREE_PRIVATE_H

#include "parents.h"
#include "spool.h"
#include "text.h"
#include "tree.h"
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* What the files of this room share: a tree is used by all writers at once, a writer by one thread.
 */

/* The mode of directories that no entry speaks of. */
#define PARENT_MODE 0755

/* No directory may be in the way of what is still to be created in it. */
#define WORKING_MODE 0700

struct tree {
	/* Set at creation. */
	int root_fd; /* borrowed */
	struct tree_options opts;
	size_t max_path; /* opts.limits.max_path, but never more than the kernel takes */
	bool openat2;    /* it works here and may be used */
	bool continued;  /* files of a run that was killed may be there, changed before since */
	struct timespec since;
	mode_t mode_lost; /* bits that the umask or a default ACL takes from a new file */
	const struct tree_sink *sink; /* NULL: entries become files */
	void *sink_ctx;

	/* Any thread. */
	atomic_ullong bytes;
	atomic_ullong entries;
	atomic_ullong found, found_bytes;    /* files that were there already */
	atomic_ullong sum_dense, sum_sparse; /* of struct file_sum */
	atomic_bool sum_unknown;
	atomic_bool warned_links;
	atomic_bool warned_xattrs;
	struct spool spool; /* locks itself */

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct meta root_meta; /* what an entry said of the root; mode (mode_t)-1: none did */
};

/* The file between writer_file_open() and writer_file_close(). */
struct open_file {
	int fd;                /* -1: none */
	void *in_sink;         /* the sink's; NULL: none */
	struct timespec mtime; /* applied at the end, since writing changes it */
	uint64_t size;         /* promised, or SIZE_UNKNOWN */
	uint64_t end;          /* where the last write ended */
	bool has_gap;          /* holes were left, or will be at its end */
	bool room_checked;
};

struct writer {
	/* Set at creation. */
	struct tree *tree;
	const char *source;
	struct progress *progress; /* may be NULL */

	/* The writer's thread. */
	bool awaited;      /* its time is not the source's: who waits for it counts */
	uint64_t spent_ns; /* by the latest call */
	struct parents parents;
	struct open_file file;
	char top[NAME_MAX + 1]; /* the top-level name that was accepted last */
	char path[PATH_MAX];    /* normalised name of the entry under way */
	char target[PATH_MAX];  /* normalised name a hard link points to */
};

/* Where an entry goes. The fd is the writer's, good until two more parents were asked for. */
struct place {
	int parent_fd;
	const char *base;
};

/* writer.c. Every entry starts here: looks at cancel, counts the entry against its limit and
 * normalises its name into w->path. */
int writer_begin(struct writer *w, const char *name, struct error *err);

/* The place of w->path; makes missing parents. The root itself is refused. */
int writer_place(struct writer *w, struct place *ret, struct error *err);

/* Takes away what is in the place of a new file or link, so that the later entry wins: anything but
 * a directory, and nothing at all when several sources share the tree. */
int writer_clear_place(struct writer *w, const struct place *at, struct error *err);

/* From here on whoever waits for this writer counts the time. */
void writer_is_awaited(struct writer *w);

/* Adds the time since start_ns to the source's disk time. */
void writer_spent(struct writer *w, uint64_t start_ns);

/* has.c */
bool time_is_before(const struct timespec *a, const struct timespec *b);

/* file_sum.c: the file at w->path is there with so many bytes, or is no more. */
void file_sum_add(const struct writer *w, uint64_t size, bool sparse);
bool file_sum_is_sparse(const struct stat *st); /* as far as can be told */
void file_sum_remove(const struct writer *w, const struct stat *st);

/* limits.c: 0, or -ERR_LIMIT with the limit's setting, its value and the entry. */
int limit_entry(struct writer *w, const char *name, struct error *err);
int limit_promised(const struct writer *w, uint64_t size, struct error *err);
int limit_bytes(struct writer *w, uint64_t n, struct error *err);
int limit_found(
	struct writer *w, uint64_t n, struct error *err); /* n bytes that were there already */

/* file.c: a file at w->path, as writer_file_open() and its sisters say. */
int file_open(struct writer *w, const struct place *at, const struct meta *m, uint64_t size,
	struct error *err);
int file_write(struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err);
int file_close(struct writer *w, struct error *err);
void file_abandon(struct writer *w); /* no file is open: nothing happens */

/* What writer_file_write() has to be given. */
int file_check_offset(const struct writer *w, uint64_t offset, size_t len, struct error *err);

/* sink.c: the same for a tree that has a sink. */
int sink_file_open(
	struct writer *w, const struct meta *m, uint64_t size, bool existing, struct error *err);
int sink_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err);
int sink_file_close(struct writer *w, struct error *err);
void sink_file_abandon(struct writer *w);
int sink_hardlink(struct writer *w, const char *target, struct error *err);

/* copy.c */

struct attributes {
	struct xattr *v;
	size_t n;
	struct strings names;
};

/* The user.* ones; none where the file system has none. */
void attributes_read(int fd, struct attributes *ret);
void attributes_done(struct attributes *a);

/* The bytes of the first size of fd that are no holes, at the same offsets. */
int copy_content(struct writer *w, int fd, off_t size, struct error *err);

/* A file at w->path like the one at from. */
int copy_file(
	struct writer *w, const struct place *from, const struct place *to, struct error *err);

/* symlink.c: makes a link at w->path whose target was checked; notes one whose target only
 * tree_finish() can judge; judges those. */
int symlink_make(struct writer *w, const struct place *at, const char *target, const struct meta *m,
	struct error *err);
int symlink_remember(struct writer *w, struct error *err);
int symlinks_judge(struct tree *t, struct error *err);

/* directory.c: gives the directories the metadata that entries asked for. */
int directories_finish(struct tree *t, struct error *err);

/* The lists of the spool: symbolic links to judge; directories, by depth, from depth 1 on. */
#define SYMLINKS_LIST 0

#endif
