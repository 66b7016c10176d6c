/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_AHEAD_H
#define STAGERUN_INDEX_AHEAD_H

#include "cancel.h"
#include "index.h"
#include "manifest.h"
#include "store.h"

/* Returns the parts of a version's index in order, which threads of its own fetch and decode ahead.
 * All functions are called by one thread; they may sleep. */

struct index_ahead_env {
	struct store *store;
	struct cancel *cancel;
	const struct manifest *manifest;
	unsigned threads; /* at most INDEX_AHEAD_MAX */
	unsigned window; /* limit for parts that are being read or ready, at most INDEX_AHEAD_MAX */
};
#define INDEX_AHEAD_MAX 16

struct index_ahead;

/* env is copied; what it points to is borrowed until index_ahead_close(). */
int index_ahead_open(
	const struct index_ahead_env *env, struct index_ahead **ret, struct error *err);
/* 1: *ret is the next part, to be freed with index_part_done(). 0: there are no more. Negative: the
 * first failure of any thread; -ENOENT and -ERR_DIGEST when a part is missing or damaged. */
int index_ahead_next(struct index_ahead *a, struct index_part *ret, struct error *err);
void index_ahead_close(struct index_ahead *a); /* accepts NULL; waits for the threads */

#endif
