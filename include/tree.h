/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TREE_H
#define STAGERUN_TREE_H

#include "cancel.h"
#include "error.h"
#include "file_sum.h"
#include "losses.h"
#include "progress.h"
#include "reader.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* A tree is one directory that is being filled. This is the only code that creates files,
 * directories and links for the entries of an archive. It treats names and link targets as hostile:
 * nothing is ever created outside the directory (openat2 with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS;
 * where the kernel or a seccomp profile lacks it, a walk with O_NOFOLLOW does the same), and no
 * entry can lead out of the directory later.
 *
 * Rules for entries (a refused entry fails the stage with -ERR_REFUSED, its name, and the reason):
 *   names       any bytes but NUL and '/'; "./" and repeated or trailing slashes are removed;
 *               absolute names, "..", names longer than the limit and names that the agent uses for
 *               its own files are refused
 *   parents     are created if missing (0755); a parent that is not a real directory is refused,
 *               even if it is a symbolic link to a directory inside the tree
 *   duplicates  the later file, link or metadata wins, as with tar; but a directory never replaces
 *               another kind of entry, nor the reverse; with tree_options.several_sources any
 *               second file of the same name is refused
 *   folding     names that the file system takes for the same name, because it ignores case or
 *               normalises Unicode, are refused; this includes names of directories
 *   symlinks    are refused if their target is absolute or climbs above the root; ".." after a name
 *               in the target is allowed only if that name is a real directory when the tree is
 *               finished; a dangling link inside the tree is kept
 *   hard links  may point to a regular file of this tree, or to a symbolic link, whose target is
 *               checked again for the new name; where the file system has no hard links, a copy is
 *               made, and one warning is logged for the tree
 *   modes       setuid, setgid and sticky bits are cleared; the owner is the running user unless
 *               same_owner or uid and gid are set
 *   xattrs      user.* only
 *   losses      modes, owners, times and xattrs that the file system refuses or silently ignores
 *               are left out (losses.h)
 *
 * Threads: any number of threads share a tree, each with a writer of its own. */

struct tree_limits {
	/* Content of all files, and separately of all temporary files; UINT64_MAX: no limit. */
	uint64_t max_bytes;
	uint64_t max_entries;
	/* Expanded bytes, without holes, by compressed bytes; checked from 1 GiB of expanded bytes
	 * on; 0: no limit. */
	uint64_t max_ratio;
	unsigned max_path; /* bytes of one entry's name or link target; at most PATH_MAX - 1 */
	/* The name of max_bytes in error messages ("limits.max_bytes", "scratch.size_gb in
	 * config.yml:12"); NULL: limits.max_bytes. */
	const char *bytes_why;
};

struct tree_options {
	struct tree_limits limits;
	bool same_owner;
	uid_t uid; /* (uid_t)-1: not set */
	gid_t gid;
	bool several_sources;
	bool unique_names; /* every entry has a name of its own: a file already there is refused */
	bool no_openat2;   /* use the fallback walk (tests) */
	/* Called for each top-level name, at least once before it is created; an error refuses it.
	 * NULL: all names are accepted. Runs on any thread that has a writer. */
	int (*accept_top_name)(void *ctx, const char *name, struct error *err);
	void *accept_ctx;
	struct cancel *cancel;
	/* Borrowed; its owner logs the warning. NULL: tree_finish() logs it. */
	struct losses *losses;
};

/* The metadata of an entry in an archive, besides its name. */
struct meta {
	mode_t mode; /* permission bits */
	struct timespec mtime;
	uid_t uid;
	gid_t gid;
	const struct xattr *xattrs; /* borrowed for the call */
	size_t n_xattrs;
};

struct xattr {
	const char *name;
	const void *value;
	size_t len;
};

struct tree;
struct writer;

/* The process's umask should be 0; any other one costs one more system call for each file.
 *
 * root_fd: the directory, which is empty; borrowed until tree_free(). scratch_fd: a directory on
 * any file system, for unnamed temporary files (the times of directories are stored in a file, so
 * that memory does not grow with their number). */
int tree_new(int root_fd, int scratch_fd, const struct tree_options *opts, struct tree **ret,
	struct error *err);

/* A sink receives entries that do not become files. Names are checked and normalised ("" is the
 * root). Each function is called by the writer function of that name, on its thread, so several
 * threads may call at once. The sink itself must check what depends on other entries: whether the
 * target of a hard link exists, and duplicate names. */
struct tree_sink_file { /* the arguments of writer_file_open() */
	const char *path;
	const struct meta *meta;
	uint64_t size;
	bool existing;
};
struct tree_sink {
	int (*dir)(void *ctx, const char *path, const struct meta *m, struct error *err);
	/* verify: a ".." in the target follows a name in the target, which must be a directory. */
	int (*symlink)(void *ctx, const char *path, const char *target, bool verify,
		const struct meta *m, struct error *err);
	int (*hardlink)(void *ctx, const char *path, const char *target, struct error *err);
	int (*file_open)(
		void *ctx, const struct tree_sink_file *file, void **ret, struct error *err);
	/* Offsets rise; bytes in between are zeros. */
	int (*file_write)(
		void *file, uint64_t offset, const void *bytes, size_t len, struct error *err);
	int (*file_close)(void *file, struct error *err); /* frees file, also on failure */
	void (*file_abandon)(void *file);
};
/* A tree that passes all entries to sink. Never fails. tree_finish() must not be called for it. */
struct tree *tree_new_sink(
	const struct tree_sink *sink, void *ctx, const struct tree_options *opts);
void tree_free(struct tree *t); /* accepts NULL; all writers must be closed */

/* To be called before the first entry, if the directory is not empty but contains what a killed run
 * left of the same entries. This run changes nothing in it before `since`, measured by the clock of
 * its file system (st_ctim of struct stat). tree_finish() must be called only after all entries
 * were seen again: it removes files for which there was no entry. Not with several_sources, and
 * only if tree_can_continue(): where the file system folds names, a file of a killed run does not
 * show under which name it was created. */
void tree_continue(struct tree *t, const struct timespec *since);
bool tree_can_continue(const struct tree *t);
/* To be called before the time that is passed to tree_continue(). Makes every directory in root_fd
 * writable, and removes all names but one of files that have several: it would not be possible
 * later to find out which of them were written again. */
void tree_prepare_continue(int root_fd, struct cancel *cancel);
/* The sum of all files written or found so far. Not known after a hard link that carried content
 * for its other names. */
struct file_sum tree_file_sum(const struct tree *t);
bool tree_is_continued(const struct tree *t);
uint64_t tree_found(const struct tree *t); /* number of files that writer_has() found */

/* To be called after the last entry, with all writers closed: verifies what only the complete tree
 * shows, and sets the modes and times of directories. *ret_root_meta (may be NULL) is the metadata
 * of the root itself, which the publisher applies; its mode is (mode_t)-1 if the archive has no
 * entry for it ("./"). Its uid and gid are the owner to set, (uid_t)-1 and (gid_t)-1 to leave them
 * unchanged. Once set, a mode may forbid renaming directories in the tree, and so any of them that
 * the publisher moves. */
int tree_finish(struct tree *t, struct meta *ret_root_meta, struct error *err);

/* Returns -ERR_SPACE, with the needed and the free space, if the file system has no room for so
 * many more bytes and entries (0: not known). Returns 0 for a tree that is continued, since most
 * files may exist already. */
int tree_check_room(struct tree *t, uint64_t bytes, uint64_t entries, struct error *err);

/* To be called before the first entry of an archive that lists so many: -ERR_LIMIT if they exceed
 * the limit. */
int tree_check_entries(struct tree *t, uint64_t entries, struct error *err);

/* Temporary files are limited by max_bytes, too: the sum of those that exist at one time.
 * tree_reserve_scratch() must be called before n bytes are written to one, and returns -ERR_LIMIT
 * if the sum would be too large. Any thread. */
int tree_reserve_scratch(struct tree *t, uint64_t n, struct error *err);
void tree_release_scratch(struct tree *t, uint64_t n);

/* A writer belongs to one thread at a time. source: for messages; borrowed. progress may be
 * NULL. */
struct writer *writer_new(struct tree *t, const char *source, struct progress *progress);
void writer_close(struct writer *w); /* accepts NULL */

int writer_dir(struct writer *w, const char *name, const struct meta *m, struct error *err);
int writer_symlink(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err);
int writer_hardlink(struct writer *w, const char *name, const char *target, struct error *err);

/* The rule for symbolic links, without I/O: whether target leads out of the tree from a link at
 * path. is_dir() returns whether path and all its parents are directories and no links; it may
 * modify path during the call. at: if is_dir() returned false, the path that is no directory. Any
 * thread. */
#define TREE_LINK_TEXT ((size_t)2 * PATH_MAX)
bool tree_link_leaves(const char *path, const char *target, bool (*is_dir)(void *ctx, char *path),
	void *ctx, char at[static TREE_LINK_TEXT]);

/* A regular file: open, write at rising offsets (gaps become holes), close. size is the size that
 * the archive declares, or SIZE_UNKNOWN; if it is known, writer_file_close() extends the file to it
 * (with a hole at the end). One open file for each writer; on failure the file is removed.
 * existing: the name is a hard link that was just created, and its content follows (cpio). */
int writer_file_open(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err);
int writer_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err);
int writer_file_close(struct writer *w, struct error *err);

/* Returns 1 if exactly this regular file exists from before tree_continue() (it then counts as
 * written), 0 if it must be written, or an error. No other thread may be writing a file of this
 * name, since that file would not be found. */
int writer_has(
	struct writer *w, const char *name, const struct meta *m, uint64_t size, struct error *err);

/* Returns the target of the symbolic link that exists from before tree_continue(), as a string that
 * the caller frees, or NULL if there is no link whose target has size bytes. The caller must check
 * that it is the right target. */
char *writer_find_link(struct writer *w, const char *name, uint64_t size);

/* Writes a whole small file from memory. content is borrowed for the call. */
int writer_file(struct writer *w, const char *name, const struct meta *m,
	const struct slice *content, struct error *err);

/* How writer_clone() transfers content. */
enum clone_way {
	CLONE_SHARE, /* both files share their blocks until one is written to (FICLONE) */
	CLONE_COPY,  /* copied, inside the kernel where that is possible; holes are kept */
};

struct clone_source {
	int fd;             /* a file that does not change meanwhile, or a directory */
	uint64_t size;      /* bytes that the file must have; ignored for a directory */
	enum clone_way way; /* ignored for a directory */
};

/* Creates a file or directory like the source, with its user.* attributes; those in m are ignored.
 * -EOPNOTSUPP, -EXDEV or a similar errno if the file system does not support CLONE_SHARE.
 * -ERR_CHANGED if the source changed. */
int writer_clone(struct writer *w, const char *name, const struct meta *m,
	const struct clone_source *from, struct error *err);

/* Creates name as a hard link to the file `from` in from_fd, which is on the same file system and
 * outside of the tree. -EXDEV, -EMLINK or -EPERM if the file system does not allow it. */
int writer_adopt(struct writer *w, const char *name, int from_fd, const char *from, uint64_t size,
	struct error *err);

/* Removes a directory tree in dir_fd without following links, whatever its modes and depth. name is
 * one component. Returns 0 if it does not exist. Stops with -ECANCELED, or with -EBUSY where
 * something is mounted in it. */
int remove_tree(int dir_fd, const char *name, struct cancel *cancel, struct error *err);

/* Sets err for an errno of a call that writes to path. ENOSPC, EDQUOT and EROFS become -ERR_SPACE,
 * and the message has the free space (of the file system of fd) and advice. */
int tree_disk_error(struct error *err, int errnum, int fd, const char *doing, const char *path);

#endif
