/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_GROUP_H
#define STAGERUN_PROCESS_GROUP_H

#include <stdbool.h>
#include <sys/types.h>

/* A child's process group, by its number; the child that led it has been waited for. */

/* Whether none of its processes runs any more. Fetches those that became children of this process.
 */
bool group_is_gone(pid_t group);

void group_signal(pid_t group, int signal);

#endif
