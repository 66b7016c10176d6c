/* SPDX-License-Identifier: MIT */
/* Renames that never lose what they find. Worker threads. Not every file system has the flags of
 * renameat2(2) (NFS and many in user space do not): each has a way without. */
#include "swap.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define SPARE "replaced"

static bool flag_is_missing(void)
{
	return errno == EINVAL || errno == ENOSYS || errno == ENOTSUP;
}

/* Without the flag there is a moment in which another process could make the name; of ours there is
 * only one, since the lock is held. */
static int rename_if_absent(int from_fd, const char *from, int to_fd, const char *to)
{
	if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (!flag_is_missing())
		return -1;
	if (faccessat(to_fd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return errno == ENOENT ? renameat(from_fd, from, to_fd, to) : -1;
}

int slot_show(const struct slot *s)
{
	/* A plain rename of a directory replaces an empty directory and nothing else. */
	if (s->over_empty)
		return renameat(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
	return rename_if_absent(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
}

/* Between the first two renames nothing is visible; should the agent die there, the journal still
 * shows what is hidden, and what was replaced is removed. */
static int swap_in_steps(const struct slot *s)
{
	if (renameat(s->visible_fd, s->visible, s->spare_fd, SPARE) != 0)
		return -1;
	if (renameat(s->hidden_fd, s->hidden, s->visible_fd, s->visible) != 0) {
		int errnum = errno;

		renameat(s->spare_fd, SPARE, s->visible_fd, s->visible);
		errno = errnum;
		return -1;
	}
	return renameat(s->spare_fd, SPARE, s->hidden_fd, s->hidden);
}

static bool is_absent(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

int slot_swap(const struct slot *s)
{
	if (is_absent(s->visible_fd, s->visible))
		return rename_if_absent(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
	if (is_absent(s->hidden_fd, s->hidden))
		return rename_if_absent(s->visible_fd, s->visible, s->hidden_fd, s->hidden);
	if (renameat2(s->hidden_fd, s->hidden, s->visible_fd, s->visible, RENAME_EXCHANGE) == 0)
		return 0;
	return flag_is_missing() ? swap_in_steps(s) : -1;
}
