/* SPDX-License-Identifier: MIT */
/* libcurl 7.88 opens some descriptors without CLOEXEC that no callback hands to us: its multi
 * handle's wake-up pair and the socket pairs of its resolver threads. A child that is started
 * meanwhile would get them. So: whatever lacks CLOEXEC and was not inherited gets it. Loop thread,
 * as is starting children. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <fcntl.h>
#include <stdlib.h>

static void each_leaking(void (*visit)(void *ctx, int fd), void *ctx)
{
	/* One thread reads this DIR. NOLINTBEGIN(concurrency-mt-unsafe) */
	_closedir_ DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10); /* "." and ".." read as 0 */
		int flags = fcntl(fd, F_GETFD);

		if (fd > 2 && flags >= 0 && (flags & FD_CLOEXEC) == 0)
			visit(ctx, fd);
	}
	/* NOLINTEND(concurrency-mt-unsafe) */
}

struct list {
	int *fds;
	size_t n;
};

static void remember(void *ctx, int fd)
{
	struct list *l = ctx;
	int *fds = reallocarray(l->fds, l->n + 2, sizeof(*fds));

	if (fds == NULL)
		abort();
	l->fds = fds;
	l->fds[l->n++] = fd;
	l->fds[l->n] = -1;
}

int *cloexec_inherited(void)
{
	struct list l = {.fds = zalloc(sizeof(int))};

	l.fds[0] = -1;
	each_leaking(remember, &l);
	return l.fds;
}

static void seal(void *ctx, int fd)
{
	for (const int *inherited = ctx; *inherited >= 0; inherited++) {
		if (*inherited == fd)
			return;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void cloexec_sweep(const int *inherited)
{
	each_leaking(seal, (void *)inherited);
}
