/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_LOCK_H
#define STAGERUN_PUBLISH_LOCK_H

#include "place.h"
#include "publish.h"

#define LOCK_FILE "lock"

/* Takes the destination's lock, sleeping as long as another agent has it; opts' on_wait or a log line says so. -ENOENT when the state
 * directory was removed meanwhile: open it again. -ECANCELED within 250 ms of the request. */
int lock_take(const struct place *p, const struct destination_options *opts, int *ret_fd,
	struct error *err);

#endif
