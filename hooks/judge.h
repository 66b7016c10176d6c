/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_JUDGE_H
#define STAGERUN_HOOKS_JUDGE_H

#include "error.h"
#include <stdbool.h>

/* Whether a hook may run as this user: only root and the user itself can have put it there. -ERR_CONFIG
 * says what is wrong and what to do. Looks only. */
int judge_directory(const char *path, struct error *err);
int judge_hook(const char *path, struct error *err);

/* Also where there is no /dev/null. */
bool is_link_to_null(const char *path);

#endif
