/* SPDX-License-Identifier: MIT */
/* What the subcommands of `stagerun datastore` share. */
#include "datastore_call.h"
#include "defer.h"
#include "log.h"
#include "runfile.h"
#include <string.h>

int datastore_target_parse(const char *word, struct datastore_target *ret, struct error *err)
{
	struct datastore_ref ref = {0};
	uint64_t version = 0;
	const char *name = "";
	int code = datastore_ref_parse(word, &ref, err);

	if (code == 0) {
		name = datastore_ref_plain_name(ref.name);
		code = datastore_name_check(name, err);
	}
	if (code == 0 && ref.mount_dir != NULL)
		code = error_set(err, -ERR_USAGE, "'%s' is not NAME[:VERSION]", word);
	if (code == 0 && ref.version != NULL &&
		parse_uint(ref.version, INT32_MAX, &version, err) < 0)
		code = error_set(err, -ERR_USAGE, "'%s': there is no such version", word);
	if (code == 0)
		*ret = (struct datastore_target){copy_text(name), (unsigned)version};
	datastore_ref_done(&ref);
	return code;
}

/* On the heap, as its thread may outlive the wait for it. */
struct job_of_call {
	struct datastore_work work;
	struct store *store;
	void *ctx;
};

static int run_with_hand(void *ctx, struct cancel *cancel, struct error *err)
{
	struct job_of_call *job = ctx;
	struct store_hand *hand = NULL;
	int code = store_hand_open(job->store, cancel, &hand, err);

	if (code == 0)
		code = job->work.work(job->ctx, hand, cancel, err);
	store_hand_close(hand);
	return code;
}

int datastore_call_work(
	struct datastore_call *c, const struct datastore_work *w, void *ctx, struct error *err)
{
	struct job_of_call *job = zalloc(sizeof(*job));
	int code = agent_need_store(&c->agent, err);

	*job = (struct job_of_call){.work = *w, .store = c->agent.store, .ctx = ctx};
	if (code == 0)
		code = agent_work(&c->agent, run_with_hand, job, w->progress, err);
	if (c->agent.abandoned)
		return code;
	if (code == 0 && w->print != NULL)
		w->print(ctx, c);
	w->done(ctx);
	free(job);
	return code;
}
