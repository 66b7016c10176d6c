/* SPDX-License-Identifier: MIT */
/* Making way for others. */
#include "process.h"
#include <errno.h>
#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICE = 10, LOWEST = 7 };

/* Not the idle class: on a disk that is never idle its work would never be done. */
int process_make_way(struct error *err)
{
	int io = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, LOWEST);

	errno = 0;
	if (getpriority(PRIO_PROCESS, 0) < NICE && setpriority(PRIO_PROCESS, 0, NICE) != 0)
		return error_set(err, -errno, "cannot lower the priority: %m");
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, io) != 0)
		return error_set(err, -errno, "cannot lower the priority of I/O: %m");
	return 0;
}
