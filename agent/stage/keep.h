/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_KEEP_H
#define STAGERUN_STAGE_KEEP_H

#include "cancel.h"
#include "object.h"

struct keep_env {
	int state_fd; /* the state directory of a destination whose unfinished tree is of this version */
	struct cancel *cancel;
};

/* Puts around the stream `in` of o, which is seekable, one that also writes it down, and begins with what an
 * earlier run has written. What cannot be written is warned about, and then not kept. Takes `in` over. */
struct reader *stage_keep(const struct keep_env *env, struct object *o, struct reader *in);

#endif
