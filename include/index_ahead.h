/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_AHEAD_H
#define STAGERUN_INDEX_AHEAD_H

#include "cancel.h"
#include "index.h"
#include "manifest.h"
#include "store.h"

/* The parts of a version's index, in order, fetched and decoded ahead on threads. One thread's, but for those. */

struct index_ahead_env {
	struct store *store;
	struct cancel *cancel;
	const struct manifest *manifest;
	unsigned threads; /* at most INDEX_AHEAD_MAX */
	unsigned window;  /* parts that are ready or under way, at most INDEX_AHEAD_MAX */
};
#define INDEX_AHEAD_MAX 16

struct index_ahead;

int index_ahead_open(
	const struct index_ahead_env *env, struct index_ahead **ret, struct error *err);
/* 1: *ret is the next part, the caller's. 0: that was the last one. Negative: the first failure. */
int index_ahead_next(struct index_ahead *a, struct index_part *ret, struct error *err);
void index_ahead_close(struct index_ahead *a); /* accepts NULL; waits for the threads */

#endif
