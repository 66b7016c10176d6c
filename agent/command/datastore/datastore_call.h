/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_CALL_H
#define STAGERUN_DATASTORE_CALL_H

#include "../subcommand.h"
#include "datastore.h"
#include "datastore_create.h"
#include "datastore_fetch.h"

/* The subcommands of `stagerun datastore`. Loop thread, except for the functions that
 * datastore_call_work() runs.
 *
 *   datastore.c  the table of subcommands, the work in the store, `get`, `delete` and `purge`
 *   create.c     `create`
 *   list.c       `list` and `files`
 *   policy.c     `policy` */

/* NAME[:VERSION]; version 0: none was given. */
struct datastore_target {
	char *name; /* heap; the caller frees it */
	unsigned version;
};

/* Returns 0 or -ERR_USAGE. */
int datastore_target_parse(const char *word, struct datastore_target *ret, struct error *err);

/* Runs work on a thread with a connection to the store, then print (may be NULL) on the loop thread
 * if it succeeded. ctx is on the heap, and this function owns it: done(ctx) frees it, except when
 * the work was abandoned and still uses it. Returns 0 or a negative code. */
struct datastore_work {
	int (*work)(void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err);
	void (*print)(void *ctx, struct subcommand_call *c);
	void (*done)(void *ctx);
	struct progress *progress; /* NULL: none is shown */
};
int datastore_call_work(
	struct subcommand_call *c, const struct datastore_work *w, void *ctx, struct error *err);

/* The subcommands. Each returns 0 or a negative code. */
int datastore_command_create(struct subcommand_call *c, struct error *err);
int datastore_command_list(struct subcommand_call *c, struct error *err);
int datastore_command_files(struct subcommand_call *c, struct error *err);
int datastore_command_policy(struct subcommand_call *c, struct error *err);

/* The default name of a datastore: the last part of its source up to the first '.', in lower case.
 * Heap. */
char *datastore_default_name(const char *source);
/* Makes the bucket policy that allows role to read the store at url. *ret: JSON, heap. Returns 0 or
 * -ERR_USAGE. */
int datastore_policy(const char *url, const char *role, char **ret, struct error *err);

#endif
