/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TREE_PRIVATE_H
#define STAGERUN_TREE_PRIVATE_H

#include "cancel.h"
#include "error.h"
#include "text.h"
#include "tree.h"
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

/* This room fills one directory, the tree, with the entries of archives. Archives are hostile: each
 * name is normalised and checked, each parent directory is reached without following a link, then
 * the entry is created and given its metadata. Whatever can only be done or checked when all
 * entries are there waits in a spool file until tree_finish().
 *
 *   tree.c              creation and finish of a tree; room on the disk; limits; the sum of its
 *                       files; leftovers of a run that was killed
 *   writer.c            a writer; the steps that all kinds of entries have in common; entries that
 *                       go to a sink
 *   writer_file.c       regular files; files that a killed run left complete
 *   writer_directory.c  directories; empty files that stand for a directory (directory markers)
 *   writer_symlink.c    symbolic links
 *   writer_hardlink.c   hard links; copies where the file system has no links
 *   writer_clone.c      files that are like a file outside of the tree
 *   tree_path.c         the rules for names and link targets, decided from their text
 *   parents.c           opens parent directories, and caches them for each writer
 *   names.c             remembers names where the file system folds them
 *   metadata.c          owner, mode, attributes and times; records what the file system does not
 *                       support (losses.h)
 *   spool.c             lists of records in a temporary file
 *   remove.c            removes a directory tree (remove_tree(), independent of the rest)
 *   crew.c              worker threads that write entries (crew.h, crew_private.h)
 *
 * Threads: the room starts none, except crew.c. A tree is shared by all threads that write into it;
 * a writer belongs to one thread at a time. Before the first writer is opened and after the last
 * one is closed, a tree belongs to one thread. */

struct tree;

/* Where an entry is created. The descriptor belongs to the writer's cache of parents (see
 * parents_get()). */
struct dir_entry {
	int parent_fd;
	const char *base; /* the last component of the path */
};

/* ---- A writer: one thread at a time. ---- */

/* The directories that one writer worked in last, held open: archives list entries directory by
 * directory, so nearly all entries need no look-up from the root. An open directory stays valid,
 * because a tree never removes a directory. */

#define PARENTS_KEPT 16

struct parent {
	char *path; /* NULL: a free slot */
	size_t len;
	int fd;        /* O_PATH */
	uint64_t used; /* the value of the clock at its last use */
};

struct parents {
	struct parent kept[PARENTS_KEPT];
	struct parent *last; /* NULL: none yet */
	uint64_t clock;      /* counts look-ups */
};

/* The file between writer_file_open() and writer_file_close(). */
struct open_file {
	int fd;                /* -1: none */
	void *in_sink;         /* the sink's handle; NULL: none */
	struct timespec mtime; /* applied at the end, since writing changes it */
	uint64_t size;         /* bytes that the archive declares, or SIZE_UNKNOWN */
	uint64_t end;          /* offset at which the last write ended */
	bool is_marker;        /* stands for a directory that exists: no file is created */
	bool has_gap;          /* there are holes, or there will be one at the end */
	bool room_checked;     /* free space was compared with the rest of the file */
};

struct writer {
	/* Set at creation. */
	struct tree *tree;
	const char *source;        /* for messages; borrowed */
	struct progress *progress; /* may be NULL */

	/* The writer's thread. */
	bool untimed; /* its calls do not count as disk time: the thread that waits for it counts */
	uint64_t spent_ns; /* duration of the latest call */
	struct parents parents;
	struct open_file file;
	char top[NAME_MAX + 1]; /* the top-level name that was accepted last */
	char path[PATH_MAX];    /* normalised name of the current entry */
	char target[PATH_MAX];  /* normalised name that a hard link points to */
};

/* ---- A tree: any thread. ---- */

/* Numbered lists of records in one unnamed file: data about directories that must be kept until the
 * tree is finished, in memory that does not grow with their number. First records are added, by any
 * thread; then the lists are read, by one thread. A spool that stays small is never written to the
 * file. */

#define SPOOL_BUFFER ((size_t)64 << 10)
#define SPOOL_RECORD (SPOOL_BUFFER / 4) /* the most bytes of one record */
#define SPOOL_NONE   UINT64_MAX

/* The lists of a tree's spool: symbolic links to verify; directories, by depth, from depth 1 on. */
#define SYMLINKS_LIST 0

struct spool_list {
	uint64_t first, last; /* offsets of records; SPOOL_NONE: the list is empty */
};

struct spool {
	/* Set at creation. */
	int fd;

	/* Under mutex while records are added. */
	pthread_mutex_t mutex;
	uint8_t *buffer; /* the bytes of the file from offset start on */
	uint64_t start;
	size_t used;
	bool unwritten; /* the buffer has bytes that the file lacks */
	struct spool_list *lists;
	size_t n_lists;
};

struct names;

#define MARKER_WORDS 1024

struct tree {
	/* Set at creation. */
	int root_fd; /* borrowed */
	struct tree_options opts;
	size_t max_path; /* opts.limits.max_path, but at most what the kernel accepts */
	bool openat2;    /* openat2() works here and may be used */
	bool continued;  /* files of a killed run may exist; they were last changed before since */
	struct timespec since; /* a ctime of the tree's file system */
	mode_t mode_lost;      /* bits that the umask or a default ACL removes from a new file */
	bool modes_doubtful;   /* setting a mode may fail, or succeed without effect */
	bool times_doubtful;   /* the same of times */
	struct names *names;   /* NULL: the file system does not fold names */
	const struct tree_sink *sink; /* NULL: entries become files */
	void *sink_ctx;

	/* Any thread. */
	atomic_ullong bytes;              /* of content so far, with holes */
	atomic_ullong entries;            /* so far */
	atomic_ullong scratch;            /* bytes of temporary files */
	atomic_ullong found, found_bytes; /* files of a killed run that were accepted as complete */
	atomic_ullong sum_dense, sum_sparse, sum_times; /* of struct file_sum */
	atomic_bool sum_unknown;
	atomic_bool warned_markers, warned_links; /* the warning was logged */
	atomic_ullong markers[MARKER_WORDS];      /* a bit set over the names of empty files */
	struct losses *losses; /* the caller's, or own_losses; has its own mutex */
	struct losses own_losses;
	struct spool spool; /* has its own mutex */

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct meta root_meta; /* of the entry for the root; mode (mode_t)-1: there was none */
};

/* The mode of parent directories that have no entry of their own. */
#define PARENT_MODE 0755

/* Bits that every directory has until the tree is finished, so that entries can be created in
 * it. */
#define WORKING_MODE 0700

/* ---- tree.c ---- */

/* Any thread. These return 0, or -ERR_LIMIT with the name of the limit's setting, its value and the
 * entry. */
int tree_limit_entry(struct writer *w, const char *name, struct error *err); /* counts an entry */
/* Whether size bytes, which the archive declares, could still be written; counts nothing. */
int tree_limit_promised(const struct writer *w, uint64_t size, struct error *err);
int tree_limit_bytes(struct writer *w, uint64_t n, struct error *err); /* counts n bytes written */
int tree_limit_hole(struct writer *w, uint64_t n, struct error *err);  /* n bytes left as a hole */
int tree_limit_found(struct writer *w, uint64_t n, struct error *err); /* n bytes of a killed run */

/* Any thread. Adds the file at w->path, of size bytes, to the tree's sum; removes it, whatever it
 * was. */
void tree_sum_add(
	const struct writer *w, uint64_t size, bool sparse, const struct timespec *modified);
void tree_sum_remove(const struct writer *w, const struct stat *st);
bool tree_sum_is_sparse(const struct stat *st); /* as far as its block count shows */

/* ---- writer.c: the writer's thread. ---- */

/* Each entry starts with this call: checks for cancellation, counts the entry against its limit,
 * normalises its name into w->path, and asks accept_top_name(). */
int writer_begin(struct writer *w, const char *name, struct error *err);

/* Where w->path is to be created; creates missing parents. Refuses the root itself. */
int writer_place(struct writer *w, struct dir_entry *ret, struct error *err);

/* Removes the file or link at w->path, so that the later entry wins. Refuses to remove a directory,
 * a file that an entry of another name created, and anything at all if several sources share the
 * tree. Under names_lock(). */
int writer_clear_place(struct writer *w, const struct dir_entry *at, struct error *err);

/* From now on this writer's calls do not count as disk time: the thread that waits for them counts
 * it. */
void writer_set_untimed(struct writer *w);

/* Stores the time since start_ns in w->spent_ns and adds it to the source's disk time. */
void writer_count_time(struct writer *w, uint64_t start_ns);

/* As writer_regular_open() and writer_regular_close(), for a tree that has a sink. */
int writer_sink_open(
	struct writer *w, const struct meta *m, uint64_t size, bool existing, struct error *err);
int writer_sink_close(struct writer *w, struct error *err);
int writer_sink_hardlink(struct writer *w, const char *target, struct error *err);

/* ---- writer_file.c: the writer's thread. ---- */

/* A file at w->path; see writer_file_open(), writer_file_write() and writer_file_close(). */
int writer_regular_open(struct writer *w, const struct dir_entry *at, const struct meta *m,
	uint64_t size, struct error *err);
int writer_regular_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err);
int writer_regular_close(struct writer *w, struct error *err);
/* Closes and removes the open file, or abandons the sink's; does nothing if none is open. */
void writer_regular_abandon(struct writer *w);

bool writer_time_is_before(const struct timespec *a, const struct timespec *b); /* any thread */

/* ---- writer_directory.c ---- */

/* Directory markers: some archives and object stores list a directory as an empty file, whose name
 * has no slash at its end. An empty file that other entries lie below is taken for a directory, in
 * whichever order they are written, and one warning is logged for the tree. Any thread. */

/* An empty file is about to be created at path. */
void writer_marker_note(struct tree *t, const char *path);
/* The first len bytes of w->path are not a directory, where one is needed. If an empty file that
 * was noted is there, removes it. Returns whether a directory can be there now. */
bool writer_marker_remove(struct writer *w, size_t len);
/* Whether the empty file that is to be created at w->path exists as a directory. */
bool writer_marker_is_directory(struct writer *w, const struct dir_entry *at);

/* One thread, all writers closed. Applies the metadata that entries have for directories. */
int tree_finish_directories(struct tree *t, struct error *err);

/* ---- tree_path.c ---- */

/* Names and link targets as text. Pure functions, any thread. What text alone cannot decide is left
 * to the kernel (parents.c) and to tree_verify_symlinks(). */

struct component {
	const char *s; /* not terminated */
	size_t len;
};

/* Returns the next component of *rest, skipping slashes before it, and advances *rest; false at the
 * end. */
bool tree_path_next(const char **rest, struct component *ret);

/* Converts an archive's name into the one form used from here on: "a/b/c" without empty, "." or
 * ".." components; "" is the root itself. max is at most PATH_MAX - 1; ret_path has max + 1 bytes,
 * whose content is undefined on failure. -ERR_REFUSED if the name may not be created. */
int tree_path_normalise(const char *name, size_t max, char *ret_path, struct error *err);

/* For normalised paths. */
size_t tree_path_depth(const char *path);      /* number of components; 0 for the root */
size_t tree_path_parent_len(const char *path); /* bytes of the parent's path, without the slash */
const char *tree_path_base(const char *path);  /* the last component */

/* Checks whether a symbolic link at `link` may point to target (-ERR_REFUSED). *ret_verify: a ".."
 * in the target follows a name of its own, so only the finished tree can show where it leads. */
int tree_path_check_target(
	const char *link, const char *target, size_t max, bool *ret_verify, struct error *err);

/* -ERR_REFUSED: "'name' was refused: <why>". A name too long for a message is truncated. */
int tree_entry_refused(struct error *err, const char *name, const char *why, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- writer_symlink.c ---- */

/* The writer's thread. Creates a link at w->path whose target was checked. */
int writer_symlink_make(struct writer *w, const struct dir_entry *at, const char *target,
	const struct meta *m, struct error *err);
/* The writer's thread. Spools the link at w->path for tree_verify_symlinks(). */
int writer_symlink_remember(struct writer *w, struct error *err);
/* One thread, all writers closed. Verifies the spooled links. */
int tree_verify_symlinks(struct tree *t, struct error *err);

/* ---- writer_hardlink.c: the writer's thread. ---- */

/* Extended attributes of a file. */
struct attributes {
	struct xattr *v;
	void **values;        /* owns the values in v */
	struct strings names; /* owns the names in v */
	size_t n;
};

/* Reads the user.* attributes of fd; none if the file system has none. Never fails. */
void writer_attributes_read(int fd, struct attributes *ret);
void writer_attributes_done(struct attributes *a);

/* Copies the bytes of fd between two offsets, except its holes, into the open file at the same
 * offsets. */
int writer_copy_content(struct writer *w, int fd, off_t from, off_t to, struct error *err);

/* ---- parents.c ---- */

/* Whether the kernel, and any seccomp filter, supports openat2(). */
bool parents_has_openat2(int root_fd);

/* Any thread. Opens (O_PATH) the directory that a normalised, non-empty path names in the tree: a
 * real directory, reached through real directories only. With create, missing ones are created.
 * Returns the fd, or -errno and in *ret_bad_len the length of the part of path that it failed at:
 * -ENOENT (only without create); -ENOTDIR if that part is something else, including a symbolic link
 * to a directory; -EEXIST if that part was created under another name, on a file system that folds
 * names. */
int parents_open_beneath(const struct tree *t, const char *path, bool create, size_t *ret_bad_len);

/* Any thread. mkdirat() with exactly this mode, whatever the umask or a default ACL. Returns 0 or
 * -errno. */
int parents_mkdir_beneath(const struct tree *t, int parent_fd, const char *base, mode_t mode);

/* The writer's thread. Returns an O_PATH fd of the directory that the first len bytes of path name
 * (0: the root). It belongs to the cache and stays open at least until PARENTS_KEPT other
 * directories were requested. Errors as parents_open_beneath(). */
int parents_get(struct parents *p, const struct tree *t, const char *path, size_t len, bool create,
	size_t *ret_bad_len);

void parents_done(struct parents *p); /* accepts a zeroed one */

/* ---- names.c: any thread. ---- */

/* The exact names created in a tree whose file system folds names: one that takes "README" and
 * "readme", or two Unicode forms of a letter, for the same name. There, the file found at an
 * entry's path may belong to an entry of another name, and must be neither replaced nor used as a
 * parent. Costs 16 to 32 bytes of memory for each entry, and a temporary file with the names
 * themselves, which the error message needs. Nothing is recorded on other file systems. */

/* Tests root_fd; *ret is NULL if the file system does not fold names. */
int names_new(int root_fd, int scratch_fd, struct names **ret, struct error *err);
void names_free(struct names *n); /* accepts NULL */

/* Held from the look-up of a name to its creation. All that follows accepts NULL: no folding. */
void names_lock(struct names *n);
void names_unlock(struct names *n);
/* Records that the first len bytes of the normalised path were created. */
void names_add_locked(struct names *n, const char *path, size_t len);
/* Whether a file found at path, if there is one, was created under another name. */
bool names_is_other_locked(const struct names *n, const char *path, size_t len);

/* -ERR_REFUSED: another entry has this path; the message names that entry. */
int names_refuse_locked(const struct tree *t, const char *path, size_t len, struct error *err);
int names_refuse(const struct tree *t, const char *path, size_t len, struct error *err);

/* ---- metadata.c ---- */

/* Which of an entry's owner, mode, extended attributes and times are applied, and how. An attribute
 * that the file system does not support is recorded in the tree's losses and is not an error. */

/* The permission bits that are kept. */
mode_t metadata_mode(const struct meta *m);

/* The mode to create a file with: its owner can write to it if attributes must be set. */
mode_t metadata_mode_at_creation(const struct meta *m);

/* Returns whether an owner is to be set; (uid_t)-1 and (gid_t)-1 leave that part unchanged. */
bool metadata_owner(
	const struct tree_options *opts, const struct meta *m, uid_t *ret_uid, gid_t *ret_gid);

/* Converts mtime to atime and mtime for utimensat(): atime is left unchanged. */
void metadata_times(const struct timespec *mtime, struct timespec ret_times[static 2]);

/* After open(O_CREAT) with metadata_mode_at_creation(): sets owner, attributes, and the mode if it
 * is not right yet. */
int metadata_apply(struct writer *w, int fd, const struct meta *m, struct error *err);
int metadata_set_xattrs(struct writer *w, int fd, const struct meta *m, struct error *err);
int metadata_set_mode(struct writer *w, int fd, mode_t mode, struct error *err);
/* To be called last, after all content is written. */
int metadata_set_mtime(struct writer *w, int fd, const struct timespec *mtime, struct error *err);

/* Sets owner and mtime of a symbolic link, which has no other metadata. */
int metadata_apply_symlink(
	struct writer *w, const struct dir_entry *at, const struct meta *m, struct error *err);

/* Sets the metadata of a finished entry by its name; owner and time are set without following a
 * link. */
struct metadata_wanted {
	struct timespec mtime;
	uid_t uid; /* (uid_t)-1, (gid_t)-1: unchanged */
	gid_t gid;
	mode_t mode;
	bool set_mode; /* never for a link */
};
int metadata_apply_at(const struct tree *t, int parent_fd, const char *path,
	const struct metadata_wanted *m, struct error *err);

/* ---- spool.c ---- */

int spool_init(struct spool *s, int scratch_fd, struct error *err);
void spool_done(struct spool *s); /* also after spool_init() failed */

/* Any thread. Appends a record, which consists of two parts, to a list. */
int spool_add(struct spool *s, size_t list, const struct iovec parts[static 2], struct error *err);

size_t spool_lists(const struct spool *s); /* the number of the last list in use, plus one */

/* One thread. Calls visit for every record of a list, in the order in which they were added, until
 * it fails. visit may not add records. */
int spool_each(struct spool *s, size_t list, struct cancel *cancel,
	int (*visit)(void *ctx, const void *record, size_t len, struct error *err), void *ctx,
	struct error *err);

#endif
