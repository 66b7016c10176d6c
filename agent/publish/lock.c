/* SPDX-License-Identifier: MIT */
/* One agent at a time for a destination. Worker threads. The lock is a flock: the kernel drops it
 * when its holder dies or becomes the user's command, so there are no stale locks and no pids. */
#include "lock.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define FIRST_SLEEP_MS 10
#define MAX_SLEEP_MS   250

/* flock() cannot be woken by a cancel without a signal, so this polls. */
static int wait_for(
	int fd, const struct place *p, const struct destination_options *opts, struct error *err)
{
	long sleep_ms = FIRST_SLEEP_MS;

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		struct timespec pause = {.tv_nsec = sleep_ms * 1000 * 1000};

		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_set(err, -errno,
				"cannot lock %s/" LOCK_FILE
				": %m; mount the file system with locks "
				"(Lustre: -o flock) or stage elsewhere",
				p->state_path);
		if (cancel_requested(opts->cancel))
			return error_set(err, -ECANCELED,
				"cancelled while waiting for another agent that is staging %s",
				p->path);
		if (opts->on_wait != NULL)
			opts->on_wait(opts->on_wait_ctx);
		else if (sleep_ms == FIRST_SLEEP_MS)
			log_info("waiting for another agent that is staging %s", p->path);
		nanosleep(&pause, NULL);
		sleep_ms = sleep_ms * 2 < MAX_SLEEP_MS ? sleep_ms * 2 : MAX_SLEEP_MS;
	}
	return 0;
}

/* Whoever had the lock may have removed the file with the whole directory; then it protects
 * nothing. */
static int is_current(int fd, const struct place *p)
{
	_free_ char *path = format_text("%s/" LOCK_FILE, p->state_path);
	struct stat held, there;

	return fstat(fd, &held) == 0 && lstat(path, &there) == 0 && held.st_ino == there.st_ino &&
	       held.st_dev == there.st_dev;
}

int lock_take(const struct place *p, const struct destination_options *opts, int *ret_fd,
	struct error *err)
{
	const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = openat(p->state_fd, LOCK_FILE, flags, 0600);
	int code;

	if (fd < 0)
		return error_set(err, -errno, "cannot make %s/" LOCK_FILE ": %m", p->state_path);
	code = wait_for(fd, p, opts, err);
	if (code < 0)
		return code;
	if (!is_current(fd, p))
		return error_set(err, -ENOENT, "%s was removed while it was in use", p->state_path);
	*ret_fd = take_fd(&fd);
	return 0;
}
