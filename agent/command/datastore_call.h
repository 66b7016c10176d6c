/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_CALL_H
#define STAGERUN_DATASTORE_CALL_H

#include "agent.h"
#include "datastore.h"
#include "datastore_create.h"
#include "datastore_fetch.h"
#include "request.h"

/* One call of `stagerun datastore ...`, as its subcommands see it. Loop thread, but for what
 * datastore_call_work() runs. */

struct datastore_call {
	struct request request;
	struct strings words;
	struct settings *settings;
	struct agent agent; /* opened */
	bool logged;        /* the error was told already */
};

/* NAME[:VERSION]; version 0: not said. */
struct datastore_target {
	char *name;
	unsigned version;
};

/* -ERR_USAGE */
int datastore_target_parse(const char *word, struct datastore_target *ret, struct error *err);

/* Runs work on a thread, with a hand of the store. ctx is on the heap and belongs to the call: done(ctx) frees it,
 * unless it is still in use by work that did not end in time. ctx->... is read by print(), which may be NULL,
 * after work has succeeded. */
struct datastore_work {
	int (*work)(void *ctx, struct store_hand *h, struct cancel *cancel, struct error *err);
	void (*print)(void *ctx, const struct datastore_call *c);
	void (*done)(void *ctx);
	const struct progress *progress; /* NULL: none is shown */
};
int datastore_call_work(
	struct datastore_call *c, const struct datastore_work *w, void *ctx, struct error *err);

/* The subcommands. */
int datastore_command_create(struct datastore_call *c, struct error *err);
int datastore_command_list(struct datastore_call *c, struct error *err);
int datastore_command_files(struct datastore_call *c, struct error *err);
int datastore_command_get(struct datastore_call *c, struct error *err);
int datastore_command_delete(struct datastore_call *c, struct error *err);
int datastore_command_purge(struct datastore_call *c, struct error *err);
int datastore_command_policy(struct datastore_call *c, struct error *err);

/* The name that a source gives a datastore: its last part up to the first '.', in lower case. Heap. */
char *datastore_default_name(const char *source);
/* The bucket policy that lets role read the store at url. Heap JSON. -ERR_USAGE. */
int datastore_policy(const char *url, const char *role, char **ret, struct error *err);

#endif
