/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_PACK_TAR_H
#define STAGERUN_CREATE_PACK_TAR_H

#include "create_private.h"

/* The tar members of packs: ustar, and pax records for what it has no room for (long names, times with
 * fractions, large files). No owners: a datastore has none. Pure; any thread. */

#define TAR_BLOCK 512
#define TAR_END   1024 /* zeros at the end of an archive */

/* Everything before the content of i's member, a multiple of TAR_BLOCK. */
void tar_header(struct text *out, const struct item *i);
/* All of the member: header, content, padding. */
uint64_t tar_member_size(const struct item *i);
uint64_t tar_padding(uint64_t size);

#endif
