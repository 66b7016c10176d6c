/* SPDX-License-Identifier: MIT */
/* Applies to new files and links what the archive says of them. In the usual case, no special owner
 * and no attributes, that is nothing beyond the mode given to open() and one futimens().
 * Directories' own metadata waits for tree_finish(). */
#include "metadata.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

mode_t metadata_mode(const struct meta *m)
{
	return m->mode & (S_IRWXU | S_IRWXG | S_IRWXO);
}

mode_t metadata_mode_at_creation(const struct meta *m)
{
	/* Setting an attribute asks the file's mode for leave to write, not the descriptor. */
	return metadata_mode(m) | (m->n_xattrs > 0 ? S_IWUSR : 0);
}

bool metadata_owner(
	const struct tree_options *opts, const struct meta *m, uid_t *ret_uid, gid_t *ret_gid)
{
	uid_t uid = opts->same_owner ? m->uid : (uid_t)-1;
	gid_t gid = opts->same_owner ? m->gid : (gid_t)-1;

	*ret_uid = opts->uid != (uid_t)-1 ? opts->uid : uid;
	*ret_gid = opts->gid != (gid_t)-1 ? opts->gid : gid;
	return *ret_uid != (uid_t)-1 || *ret_gid != (gid_t)-1;
}

void metadata_times(const struct timespec *mtime, struct timespec ret_times[static 2])
{
	long nsec = mtime->tv_nsec;

	ret_times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	ret_times[1] = *mtime;
	/* A number out of range comes from a damaged header, and some are commands to utimensat().
	 */
	if (nsec < 0 || nsec > 999999999)
		ret_times[1].tv_nsec = 0;
}

int metadata_owner_error(struct error *err, int fd, const char *path, uid_t uid, gid_t gid)
{
	if (errno != EPERM)
		return disk_error(err, errno, fd, "set the owner of", path);
	return error_set(err, -EPERM,
		"cannot give '%.300s' to user %d, group %d: only root can; leave same_owner and "
		"owner "
		"unset, or run as root",
		path, (int)uid, (int)gid);
}

static void warn_about_xattrs(struct writer *w)
{
	if (!atomic_exchange(&w->tree->warned_xattrs, true))
		log_warn("%s: extended attributes are left out, because the destination's file "
			 "system "
			 "does not take them (first seen: '%s')",
			w->source, w->path);
}

static int set_xattr(struct writer *w, int fd, const struct xattr *x, struct error *err)
{
	if (strncmp(x->name, "user.", 5) != 0) {
		log_debug("%s: attribute '%s' of '%s' is left out: only user.* is kept", w->source,
			x->name, w->path);
		return 0;
	}
	if (fsetxattr(fd, x->name, x->value, x->len, 0) == 0)
		return 0;
	if (errno != ENOTSUP)
		return disk_error(err, errno, fd, "set an extended attribute of", w->path);
	warn_about_xattrs(w);
	return 0;
}

int metadata_set_xattrs(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < m->n_xattrs && r == 0; i++)
		r = set_xattr(w, fd, &m->xattrs[i], err);
	return r;
}

int metadata_apply(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	mode_t mode = metadata_mode(m), created = metadata_mode_at_creation(m);
	uid_t uid;
	gid_t gid;
	int r;

	if ((r = metadata_set_xattrs(w, fd, m, err)) < 0)
		return r;
	if (metadata_owner(&w->tree->opts, m, &uid, &gid) && fchown(fd, uid, gid) < 0)
		return metadata_owner_error(err, fd, w->path, uid, gid);
	if ((mode != created || (mode & w->tree->mode_lost) != 0) && fchmod(fd, mode) < 0)
		return disk_error(err, errno, fd, "set the mode of", w->path);
	return 0;
}

int metadata_apply_symlink(
	struct writer *w, const struct place *at, const struct meta *m, struct error *err)
{
	struct timespec times[2];
	uid_t uid;
	gid_t gid;

	if (metadata_owner(&w->tree->opts, m, &uid, &gid) &&
		fchownat(at->parent_fd, at->base, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return metadata_owner_error(err, at->parent_fd, w->path, uid, gid);
	metadata_times(&m->mtime, times);
	if (utimensat(at->parent_fd, at->base, times, AT_SYMLINK_NOFOLLOW) < 0)
		return disk_error(err, errno, at->parent_fd, "set the time of", w->path);
	return 0;
}
