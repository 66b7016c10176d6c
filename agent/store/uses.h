/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_USES_H
#define STAGERUN_USES_H

#include <time.h>

/* What runs register: "uses/NAME/V/SECONDS-ID.json". The time in its name, until which it holds, spares a
 * request for each. */

/* 0: not such a name, so over. */
time_t use_expires(const char *key);

#endif
