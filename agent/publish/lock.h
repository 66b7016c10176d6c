/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_LOCK_H
#define STAGERUN_PUBLISH_LOCK_H

#include "cancel.h"
#include "place.h"

#define LOCK_FILE "lock"

/* Takes the destination's lock, sleeping as long as another agent has it. -ENOENT when the state
 * directory was removed meanwhile: open it again. -ECANCELED within 250 ms of the request. */
int lock_take(const struct place *p, const struct cancel *cancel, int *ret_fd, struct error *err);

#endif
