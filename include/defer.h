/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DEFER_H
#define STAGERUN_DEFER_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Scope cleanup. `_free_ char *s` frees s when the scope ends, `_close_ int fd` closes fd >= 0.
 * take_ptr() and take_fd() move ownership out of the scope. The cleanup preserves errno. */

static inline void defer_free(void *p)
{
	int saved = errno;

	free(*(void **)p);
	errno = saved;
}

static inline void defer_close(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void defer_closedir(DIR **dir)
{
	if (*dir != NULL)
		closedir(*dir);
}

static inline void defer_fclose(FILE **f)
{
	if (*f != NULL)
		fclose(*f);
}

#define _free_     __attribute__((cleanup(defer_free)))
#define _close_    __attribute__((cleanup(defer_close)))
#define _closedir_ __attribute__((cleanup(defer_closedir)))
#define _fclose_   __attribute__((cleanup(defer_fclose)))

static inline void *take_ptr_(void **p)
{
	void *taken = *p;

	*p = NULL;
	return taken;
}

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define take_ptr(p) ((__typeof__(*(p)))take_ptr_((void **)(p)))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))

#endif
