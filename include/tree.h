/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TREE_H
#define STAGERUN_TREE_H

#include "cancel.h"
#include "error.h"
#include "file_sum.h"
#include "progress.h"
#include "reader.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* One directory that is being filled, and the only code that creates what an archive asks for. It
 * assumes that names and link targets are hostile: nothing is ever created outside the directory
 * (openat2 RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS; where the kernel or a seccomp profile lacks it, a walk
 * with O_NOFOLLOW does the same), and nothing that could lead out of it later.
 *
 * Rules for entries (a refused one fails the stage with -ERR_REFUSED, its name, and why):
 *   names       any bytes but NUL and '/'; "./" and repeated or trailing slashes are normalised away;
 *               absolute names, ".." and names over the limit are refused
 *   parents     are created when missing (0755); a parent that is not a real directory is refused,
 *               also when it is a symbolic link to one inside the tree
 *   twice       the later file, link or metadata wins, as with tar; but a directory never replaces
 *               something else nor the reverse; with tree_options.several_sources any second file
 *               under one name is refused
 *   symlinks    whose target is absolute or climbs above the root are refused; ".." after a name in
 *               the target is allowed only if that name turns out to be a real directory when the
 *               tree is finished; dangling inside is kept
 *   hard links  to a regular file of this tree; to a symbolic link: the target is checked again for
 *               its new place; where links are not supported: a copy, and one warning for the tree
 *   modes       setuid, setgid and sticky are cleared; owner is the running user unless same_owner
 *               or uid/gid say otherwise
 *   xattrs      user.* only; where not supported: one warning for the tree
 *
 * Threads: a tree is shared by any number of threads, each through a writer of its own. */

struct tree_limits {
	uint64_t max_bytes;    /* content of all files; UINT64_MAX: none */
	uint64_t max_entries;  /* entries */
	uint64_t max_ratio;    /* expanded/compressed, looked at once 1 GiB is expanded; 0: none */
	unsigned max_path;     /* bytes of one entry's name or link target; at most PATH_MAX - 1 */
	const char *bytes_why; /* what max_bytes is called in the message ("limits.max_bytes",
				  "scratch.size_gb in config.yml:12"); NULL: limits.max_bytes */
};

struct tree_options {
	struct tree_limits limits;
	bool same_owner;
	uid_t uid; /* (uid_t)-1: not set */
	gid_t gid;
	bool several_sources;
	bool no_openat2; /* use the fallback walk (tests) */
	/* Asked of each top-level name, at least once before it is created; may refuse. NULL: all. Any
	 * thread that has a writer. */
	int (*accept_top_name)(void *ctx, const char *name, struct error *err);
	void *accept_ctx;
	struct cancel *cancel;
};

/* What an archive says of an entry besides its name. */
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

/* The process's umask is to be 0 (another one costs a call more for each file).
 *
 * root_fd: the directory, empty; borrowed until tree_free(). scratch_fd: a directory on any file
 * system for unnamed temporary files (directory times are remembered on disk, so that memory does
 * not grow with their number). */
int tree_new(int root_fd, int scratch_fd, const struct tree_options *opts, struct tree **ret,
	struct error *err);

/* Where entries go that become no files. Names come checked and normalised ("" is the root), each call is the
 * writer's of that name, on its thread: several threads at once. What depends on other entries (whether a hard
 * link's target is there, what comes twice) is the sink's to know. */
struct tree_sink_file { /* what writer_file_open() gets */
	const char *path;
	const struct meta *meta;
	uint64_t size;
	bool existing;
};
struct tree_sink {
	int (*dir)(void *ctx, const char *path, const struct meta *m, struct error *err);
	/* verify: the target goes up again from a name of its own, which must be a directory. */
	int (*symlink)(void *ctx, const char *path, const char *target, bool verify,
		const struct meta *m, struct error *err);
	int (*hardlink)(void *ctx, const char *path, const char *target, struct error *err);
	int (*file_open)(
		void *ctx, const struct tree_sink_file *file, void **ret, struct error *err);
	/* Offsets rise; what lies between is zeros. */
	int (*file_write)(
		void *file, uint64_t offset, const void *bytes, size_t len, struct error *err);
	int (*file_close)(void *file, struct error *err); /* the file is gone, also on failure */
	void (*file_abandon)(void *file);
};
/* A tree that hands all entries to sink. Never fails. tree_finish() is not for it. */
struct tree *tree_new_sink(
	const struct tree_sink *sink, void *ctx, const struct tree_options *opts);
void tree_free(struct tree *t); /* accepts NULL; all writers closed before */

/* Before the first entry: the directory is not empty but what a killed run left of the same entries, and this run
 * changes nothing in it before since, by its file system's clock (struct stat's st_ctim). tree_finish()
 * is to come after all entries have been seen again. Not with several_sources. */
void tree_continue(struct tree *t, const struct timespec *since);
/* Of what was written or found so far. Not known where a hard link brought content for its other names. */
struct file_sum tree_file_sum(const struct tree *t);
bool tree_is_continued(const struct tree *t);
uint64_t tree_found(const struct tree *t); /* files that writer_has() found */

/* After the last entry, with all writers closed: checks what could only be checked now, sets the
 * directories' modes and times. ret_root_meta (may be NULL) says whether the archive spoke of the root
 * itself ("./"), whose own metadata the publisher applies: mode (mode_t)-1 when not. Its uid and gid
 * are those to give it, (uid_t)-1 and (gid_t)-1 to leave them. Once set, a mode may forbid to rename
 * the directories in the tree (and so any of them that the publisher moves). */
int tree_finish(struct tree *t, struct meta *ret_root_meta, struct error *err);

/* -ERR_SPACE when the file system cannot take bytes and entries more (0: not known). Says what is
 * needed and what there is. A tree that is continued may have most of it already: 0. */
int tree_check_room(struct tree *t, uint64_t bytes, uint64_t entries, struct error *err);

/* source: for messages; borrowed. progress may be NULL. */
struct writer *writer_new(struct tree *t, const char *source, struct progress *progress);
void writer_close(struct writer *w); /* accepts NULL */

int writer_dir(struct writer *w, const char *name, const struct meta *m, struct error *err);
int writer_symlink(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err);
int writer_hardlink(struct writer *w, const char *name, const char *target, struct error *err);

/* A regular file: open, write in rising offsets (gaps become holes), close. size is what the archive
 * promises, SIZE_UNKNOWN without one; writer_file_close() makes the file exactly size bytes when it
 * is known (a trailing hole). One file at a time for each writer; on failure it is gone.
 * existing: the name is a hard link just made, whose content follows (cpio). */
int writer_file_open(struct writer *w, const char *name, const struct meta *m, uint64_t size,
	bool existing, struct error *err);
int writer_file_write(
	struct writer *w, uint64_t offset, const void *bytes, size_t len, struct error *err);
int writer_file_close(struct writer *w, struct error *err);

/* Whether this regular file is there already, exactly, from before tree_continue(): 1 (then it counts as
 * written), or 0: it is to be written. A file of this name that is under way would be missed. */
int writer_has(
	struct writer *w, const char *name, const struct meta *m, uint64_t size, struct error *err);

/* A whole small file whose bytes are at hand. The writer takes its own reference to content. */
int writer_file(struct writer *w, const char *name, const struct meta *m,
	const struct slice *content, struct error *err);

/* How writer_clone() brings content. */
enum clone_way {
	CLONE_SHARE, /* the two files share their blocks until one is written to (FICLONE) */
	CLONE_COPY,  /* copied in the kernel where it can be; holes stay holes */
};

struct clone_source {
	int fd; /* a file that does not change meanwhile, or a directory (the rest does not matter) */
	uint64_t size; /* that it must have */
	enum clone_way way;
};

/* A file or directory like the source, with its user.* attributes; m's are ignored. -errno of what the file
 * system cannot do: -EOPNOTSUPP, -EXDEV or the like for CLONE_SHARE. */
int writer_clone(struct writer *w, const char *name, const struct meta *m,
	const struct clone_source *from, struct error *err);

/* One more name for the file from, beneath from_fd, of the same file system and outside of the tree. -EXDEV,
 * -EMLINK or -EPERM when there can be none. */
int writer_adopt(struct writer *w, const char *name, int from_fd, const char *from, uint64_t size,
	struct error *err);

/* Removes a directory tree beneath dir_fd without following links, whatever its modes and depth.
 * name is one component. 0 when it is not there. Stops with -ECANCELED. */
int remove_tree(int dir_fd, const char *name, struct cancel *cancel, struct error *err);

/* Turns an errno of a write-side call on path into one sentence: ENOSPC, EDQUOT and EROFS become
 * -ERR_SPACE and say what is free (asked of fd) and what to do. */
int disk_error(struct error *err, int errnum, int fd, const char *doing, const char *path);

#endif
