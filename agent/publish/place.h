/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_PLACE_H
#define STAGERUN_PUBLISH_PLACE_H

#include "error.h"
#include <stdbool.h>

/* A destination's name, and where its state directory is. */
struct place {
	char *path;       /* DEST */
	char *parent;     /* PARENT */
	const char *name; /* NAME; in path */
	int parent_fd;    /* O_PATH */

	/* Set by place_open_state(). */
	bool inside; /* the state directory is in DEST: entries are merged */
	int host_fd; /* O_PATH; the directory that base is in: PARENT or DEST */
	char base[32];
	int base_fd; /* O_PATH */
	int state_fd;
	char *state_path;
};

void place_init(struct place *p);
void place_done(struct place *p);

/* Resolves dir and makes missing parents. */
int place_resolve(struct place *p, const char *dir, struct error *err);

/* Opens the state directory beside or inside DEST, making it. -ENOENT when somebody removed a part
 * of it meanwhile: try again. A code of resolve_is_refusal(): not here. */
int place_open_state(struct place *p, bool inside, struct error *err);

/* Opens a state directory that exists, to read what it says of DEST. Only one that belongs to root,
 * to this user or to DEST's owner, who could change DEST itself, is believed. own: the one named
 * for this user. 0 or -ENOENT. */
int place_open_existing(struct place *p, bool inside, bool own);

/* Whether the directory around the opened state directory is this user's. */
bool place_is_ours(const struct place *p);

void place_close_state(struct place *p);

/* Proves that a directory made in the state directory can be renamed into the directory target_fd.
 * 0 or -errno. The lock is held: the names it uses are this destination's. */
int place_probe(const struct place *p, int target_fd);

/* Removes the state directory, and the one around it, if they are empty. */
void place_remove_state(const struct place *p);

#endif
