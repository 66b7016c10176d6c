/* SPDX-License-Identifier: MIT */
/* The metadata of entries, and a record of the attributes that a file system does not support. Any
 * thread. Only this file decides which errnos mean "not supported"; any other errno is a
 * failure. */
#include "defer.h"
#include "disk.h"
#include "log.h"
#include "losses.h"
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* FAT stores times with a resolution of two seconds. */
#define COARSE_S 2

void losses_init(struct losses *l)
{
	*l = (struct losses){.what = 0};
	pthread_mutex_init(&l->mutex, NULL);
}

void losses_done(struct losses *l)
{
	pthread_mutex_destroy(&l->mutex);
}

static void record_loss(struct losses *l, enum loss what, const char *path, int errnum)
{
	pthread_mutex_lock(&l->mutex);
	if (l->what == 0) {
		l->first = what;
		l->errnum = errnum;
		snprintf(l->path, sizeof(l->path), "%.*s", (int)sizeof(l->path) - 1, path);
	}
	l->what |= what;
	pthread_mutex_unlock(&l->mutex);
}

static bool is_unsupported(enum loss what, int errnum)
{
	switch (errnum) {
	case EPERM:
	case EACCES:
	case EINVAL: /* also for an owner that is not mapped in the user namespace */
	case ENOSYS:
	case ENOTTY:
	case EOPNOTSUPP:
	case EOVERFLOW:
		return true;
	/* File systems limit the size of the attributes of one file, and may have a quota for
	 * them. */
	case ENOSPC:
	case E2BIG:
	case EDQUOT:
	case ERANGE:
	case ENAMETOOLONG:
		return what == LOSS_XATTR;
	default:
		return false;
	}
}

int losses_record(struct losses *l, enum loss what, const char *path, int errnum)
{
	if (!is_unsupported(what, errnum))
		return -errnum;
	record_loss(l, what, path, errnum);
	return 0;
}

/* A call that sets the attribute succeeded. Returns true for the first such call, whose effect the
 * caller then checks. */
static bool losses_first_check(struct losses *l, enum loss what)
{
	unsigned bit = what;
	bool first;

	pthread_mutex_lock(&l->mutex);
	first = (l->checked & bit) == 0;
	l->checked |= bit;
	pthread_mutex_unlock(&l->mutex);
	return first;
}

void losses_mode(struct losses *l, const char *path, const struct stat *st, mode_t want)
{
	if ((st->st_mode & 0777) != (want & 0777))
		record_loss(l, LOSS_MODE, path, 0);
}

static void losses_owner(
	struct losses *l, const char *path, const struct stat *st, uid_t uid, gid_t gid)
{
	if ((uid != (uid_t)-1 && uid != st->st_uid) || (gid != (gid_t)-1 && gid != st->st_gid))
		record_loss(l, LOSS_OWNER, path, 0);
}

static void losses_time(
	struct losses *l, const char *path, const struct stat *st, const struct timespec *want)
{
	if (st->st_mtim.tv_sec > want->tv_sec + COARSE_S ||
		st->st_mtim.tv_sec < want->tv_sec - COARSE_S)
		record_loss(l, LOSS_TIME, path, 0);
}

static const struct {
	enum loss what;
	const char *all, *one;
} names[] = {
	{LOSS_MODE, "modes", "the mode"},
	{LOSS_OWNER, "owners", "the owner"},
	{LOSS_TIME, "times", "the time"},
	{LOSS_XATTR, "extended attributes", "an extended attribute"},
};

/* Appends, for example, "modes, owners and times"; *ret_first: "the mode". */
static void print_kinds(const struct losses *l, struct text *t, const char **ret_first)
{
	unsigned left = l->what;

	*ret_first = "";
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (names[i].what == l->first)
			*ret_first = names[i].one;
		if ((left & names[i].what) == 0)
			continue;
		left &= ~(unsigned)names[i].what;
		text_addf(t, "%s%s", names[i].all,
			left == 0                  ? ""
			: (left & (left - 1)) == 0 ? " and "
						   : ", ");
	}
}

void losses_warn(struct losses *l, const char *where, int fd)
{
	bool not_root = (l->what & LOSS_OWNER) != 0 && geteuid() != 0;
	struct text what = {0};
	const char *first;
	char disk[DISK_TEXT];

	if (l->what == 0)
		return;
	print_kinds(l, &what, &first);
	log_warn(
		"%s: %s are left out, because the destination's file system%s does not take them (first seen: %s of '%s': %s)%s",
		where, what.s, disk_describe(fd, disk), first, l->path,
		l->errnum != 0 ? strerrordesc_np(l->errnum) : "is said to be set, but is not",
		not_root
			? "; only root can give files to others: leave same_owner and owner unset, or run as root"
			: "");
	text_done(&what);
	l->what = 0;
}

/* Applies the archive's metadata to new files and links. In the usual case, without an owner and
 * without extended attributes, the mode given to open() and one futimens() are enough. The metadata
 * of directories is applied by tree_finish(). */

mode_t metadata_mode(const struct meta *m)
{
	return m->mode & (S_IRWXU | S_IRWXG | S_IRWXO);
}

mode_t metadata_mode_at_creation(const struct meta *m)
{
	/* To set an attribute the kernel checks write permission by the file's mode, not by the
	 * descriptor. */
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
	/* A number out of range comes from a damaged header, and some have a special meaning to
	 * utimensat(). */
	if (nsec < 0 || nsec > 999999999)
		ret_times[1].tv_nsec = 0;
}

static struct losses *losses_of(const struct writer *w)
{
	return w->tree->losses;
}

static int loss_or_error(
	struct losses *l, enum loss what, int errnum, int fd, const char *path, struct error *err)
{
	static const char *const doing[] = {[LOSS_MODE] = "set the mode of",
		[LOSS_OWNER] = "set the owner of",
		[LOSS_TIME] = "set the time of",
		[LOSS_XATTR] = "set an extended attribute of"};

	return losses_record(l, what, path, errnum) == 0
		       ? 0
		       : tree_disk_error(err, errnum, fd, doing[what], path);
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
	return loss_or_error(losses_of(w), LOSS_XATTR, errno, fd, w->path, err);
}

int metadata_set_xattrs(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < m->n_xattrs && code == 0; i++)
		code = set_xattr(w, fd, &m->xattrs[i], err);
	return code;
}

static int set_owner(struct writer *w, int fd, uid_t uid, gid_t gid, struct error *err)
{
	struct losses *l = losses_of(w);
	struct stat st;

	if (fchown(fd, uid, gid) < 0)
		return loss_or_error(l, LOSS_OWNER, errno, fd, w->path, err);
	if (losses_first_check(l, LOSS_OWNER) && fstat(fd, &st) == 0)
		losses_owner(l, w->path, &st, uid, gid);
	return 0;
}

int metadata_set_mode(struct writer *w, int fd, mode_t mode, struct error *err)
{
	struct stat st;

	if (fchmod(fd, mode) < 0)
		return loss_or_error(losses_of(w), LOSS_MODE, errno, fd, w->path, err);
	if (w->tree->modes_doubtful && fstat(fd, &st) == 0)
		losses_mode(losses_of(w), w->path, &st, mode);
	return 0;
}

/* open() has set the mode: records a loss if it had no effect. */
static int check_mode(struct writer *w, int fd, mode_t mode)
{
	struct stat st;

	if (w->tree->modes_doubtful && fstat(fd, &st) == 0)
		losses_mode(losses_of(w), w->path, &st, mode);
	return 0;
}

int metadata_apply(struct writer *w, int fd, const struct meta *m, struct error *err)
{
	mode_t mode = metadata_mode(m), created = metadata_mode_at_creation(m);
	bool to_set = mode != created || (mode & w->tree->mode_lost) != 0;
	uid_t uid;
	gid_t gid;
	int code = metadata_set_xattrs(w, fd, m, err);

	if (code == 0 && metadata_owner(&w->tree->opts, m, &uid, &gid))
		code = set_owner(w, fd, uid, gid, err);
	if (code < 0)
		return code;
	return to_set ? metadata_set_mode(w, fd, mode, err) : check_mode(w, fd, mode);
}

int metadata_set_mtime(struct writer *w, int fd, const struct timespec *mtime, struct error *err)
{
	struct losses *l = losses_of(w);
	struct timespec times[2];
	struct stat st;

	metadata_times(mtime, times);
	if (futimens(fd, times) < 0)
		return loss_or_error(l, LOSS_TIME, errno, fd, w->path, err);
	if (w->tree->times_doubtful && fstat(fd, &st) == 0)
		losses_time(l, w->path, &st, &times[1]);
	return 0;
}

int metadata_apply_at(const struct tree *t, int parent_fd, const char *path,
	const struct metadata_wanted *m, struct error *err)
{
	struct losses *l = t->losses;
	const char *base = tree_path_base(path);
	struct timespec times[2];
	struct stat st;
	int code = 0;

	if ((m->uid != (uid_t)-1 || m->gid != (gid_t)-1) &&
		fchownat(parent_fd, base, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		code = loss_or_error(l, LOSS_OWNER, errno, parent_fd, path, err);
	if (code == 0 && m->set_mode && fchmodat(parent_fd, base, m->mode, 0) < 0)
		code = loss_or_error(l, LOSS_MODE, errno, parent_fd, path, err);
	metadata_times(&m->mtime, times);
	if (code == 0 && utimensat(parent_fd, base, times, AT_SYMLINK_NOFOLLOW) < 0)
		code = loss_or_error(l, LOSS_TIME, errno, parent_fd, path, err);
	if (code == 0 && m->set_mode && t->modes_doubtful &&
		fstatat(parent_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0)
		losses_mode(l, path, &st, m->mode);
	return code;
}

int metadata_apply_symlink(
	struct writer *w, const struct dir_entry *at, const struct meta *m, struct error *err)
{
	struct metadata_wanted want = {.mtime = m->mtime};

	metadata_owner(&w->tree->opts, m, &want.uid, &want.gid);
	return metadata_apply_at(w->tree, at->parent_fd, w->path, &want, err);
}
