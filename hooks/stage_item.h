/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_STAGE_ITEM_H
#define STAGERUN_HOOKS_STAGE_ITEM_H

#include "stage.h"

/* A copy of an item's spec with the "${VAR}" of its sources and its directory expanded from env: what
 * they are when the item runs, not when config.yml was read. */
int stage_item_expand(const struct stage_spec *written, const struct strings *env,
	struct stage_spec *ret, struct error *err);

#endif
