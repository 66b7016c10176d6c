/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_UMASK_H
#define STAGERUN_UMASK_H

#include <sys/types.h>

/* The umask that the process was started with. Modes from archives are exact, so the process's own
 * umask is 0. The umask of the caller applies to what the agent itself creates (directories,
 * parents, state, files without a mode in the archive). */

/* Sets the process's umask to 0, stores the previous one and returns it. Before any other thread is
 * started. */
mode_t umask_set_aside(void);

/* Returns mode without the bits of the caller's umask; any thread. Returns mode unchanged before
 * umask_set_aside(): then the kernel applies the umask. */
mode_t umask_apply(mode_t mode);

#endif
