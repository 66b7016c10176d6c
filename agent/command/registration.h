/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REGISTRATION_H
#define STAGERUN_REGISTRATION_H

#include "agent.h"
#include "attach.h"

/* A run that says in the store which versions it uses, so that nobody deletes them under it: at best, as many
 * may read a store and not write to it. Loop thread. */

struct registration {
	struct strings keys; /* of what it left in the store */
};

/* Before staging. Does nothing unless the setting store.register_runs asks for it. */
void registration_make(struct registration *r, struct agent *a, const struct attachments *attached);
void registration_remove(struct registration *r, struct agent *a);
void registration_done(struct registration *r);

#endif
