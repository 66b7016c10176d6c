/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_SWAP_H
#define STAGERUN_PUBLISH_SWAP_H

#include <stdbool.h>

/* The two names of an entry: hidden before it is published, visible after. Fds are borrowed. */
struct slot {
	int hidden_fd;
	const char *hidden;
	int visible_fd;
	const char *visible;
	int spare_fd;    /* a directory of the agent's, for an exchange in steps */
	bool over_empty; /* an empty directory may lie under the visible name */
};

/* All return 0, or -1 with errno. */

/* From hidden to visible. EEXIST or ENOTEMPTY when something is there. */
int slot_show(const struct slot *s);

/* Exchanges the two: in one step where the file system can. Either may be missing. */
int slot_swap(const struct slot *s);

#endif
