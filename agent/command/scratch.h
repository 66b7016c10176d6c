/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SCRATCH_H
#define STAGERUN_SCRATCH_H

#include "process.h"
#include "runfile.h"

/* A scratch directory that config.yml declares exists when the first action looks for it. f may be
 * NULL: then there are none. */
int make_scratch(const struct runfile *f, const struct inherited *in, struct error *err);

#endif
