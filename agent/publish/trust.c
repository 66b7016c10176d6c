/* SPDX-License-Identifier: MIT */
/* Which files are believed. Any thread. Owner and mode are read from a descriptor, or from an inode
 * that was read before; a name proves nothing. */
#include "defer.h"
#include "destination.h"
#include "publish_private.h"
#include "text.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OWNERSHIP_FILE STATE_NAME "-owner"
#define OWNER_TRIES    20
#define OTHERS         (S_IWGRP | S_IWOTH)

/* Without O_TMPFILE the file has a name for a moment. Other agents of this user may create and
 * remove it too. */
static bool stat_named_file(int dir_fd, struct stat *ret)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = -1;
	bool good;

	for (int i = 0; i < OWNER_TRIES && fd < 0; i++) {
		unlinkat(dir_fd, OWNERSHIP_FILE, 0);
		fd = openat(dir_fd, OWNERSHIP_FILE, flags, 0600);
		if (fd < 0 && errno != EEXIST)
			return false;
	}
	/* It is read before it is removed: in a file system in user space, a file without a name
	 * may be gone. */
	good = fd >= 0 && fstat(fd, ret) == 0;
	unlinkat(dir_fd, OWNERSHIP_FILE, 0);
	return good;
}

/* The file is read through the descriptor that created it, so nobody can put another one in its
 * place. */
static bool stat_probe_file(int dir_fd, struct stat *ret)
{
	_close_ int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0 ? fstat(fd, ret) == 0 : stat_named_file(dir_fd, ret);
}

static bool is_read_only(int fd)
{
	struct statvfs fs;

	return fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0;
}

static enum trust classify(bool ours, bool roots, bool open)
{
	if (ours)
		return open ? TRUST_OPEN : TRUST_OURS;
	return roots && !open ? TRUST_ROOTS : TRUST_FOREIGN;
}

static bool is_group_of_ours(gid_t gid)
{
	int n = getgroups(0, NULL);
	_free_ gid_t *groups = zalloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof(*groups));

	n = n > 0 ? getgroups(n, groups) : 0;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return gid == getegid();
}

/* Kubernetes assigns a volume to the pod's group (fsGroup) at each mount: everything gets that
 * group and g+rw, and directories the setgid bit. Without that bit, somebody else made it writable
 * for the group. */
static bool is_opened_to_our_group_alone(const struct inode *inode, int fs_fd)
{
	struct stat dir = {.st_mode = inode->mode, .st_gid = inode->gid};

	if ((inode->mode & S_IWOTH) != 0)
		return false;
	if (!S_ISDIR(inode->mode) && (fs_fd < 0 || fstat(fs_fd, &dir) != 0))
		return false;
	return (dir.st_mode & S_ISGID) != 0 && dir.st_gid == inode->gid &&
	       is_group_of_ours(inode->gid);
}

enum trust trust_inode(const struct inode *inode, int fs_fd)
{
	bool ours = inode->uid == geteuid(), roots = inode->uid == 0;
	bool open = !S_ISLNK(inode->mode) && (inode->mode & OTHERS) != 0 &&
		    !is_opened_to_our_group_alone(inode, fs_fd);
	struct stat made;

	if ((ours && !open) || fs_fd < 0)
		return classify(ours, roots, open);
	if (is_read_only(fs_fd))
		return classify(ours, roots, false);
	if (stat_probe_file(fs_fd, &made)) {
		ours = ours || made.st_uid == inode->uid;
		open = open && (made.st_mode & OTHERS) == 0;
	}
	return classify(ours, roots, open);
}

bool destination_is_open_to_others(int fd, int dir_fd)
{
	struct inode inode;

	return inode_stat(fd, "", &inode) < 0 ||
	       ((inode.mode & OTHERS) != 0 && !is_opened_to_our_group_alone(&inode, dir_fd));
}

bool trust_is_good(enum trust t)
{
	return t == TRUST_OURS || t == TRUST_ROOTS;
}
