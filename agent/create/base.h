/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_BASE_H
#define STAGERUN_CREATE_BASE_H

#include "objects.h"

/* The version that a new one is based on: its index is read beside the walk, as both are in the same order,
 * and is never in memory as a whole. The director's. */

struct base;
/* m: borrowed, as are store and objects; NULL: there is none, and nothing is ever found. */
struct base *base_new(struct store_hand *store, struct objects *objects, const struct manifest *m);
void base_free(struct base *b); /* accepts NULL */

/* Sets i->known and i->earlier from the base's entry of the same path, if there is one. Paths rise from call
 * to call; files with several names after base_go_to_links(). */
int base_look_up(struct base *b, struct item *i, struct error *err);
int base_go_to_links(struct base *b, struct error *err);

#endif
