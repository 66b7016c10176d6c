/* SPDX-License-Identifier: MIT */
/* Lists the files of a version from its index, without fetching any content. The calling
 * thread's. */
#include "datastore_fetch.h"
#include "index_ahead.h"
#include "unpack.h"

/* Reading ahead waits for the network more than for the processor; each part needs about 6 MiB of
 * memory. */
enum { FEWEST_THREADS = 4, MOST_THREADS = 8, PARTS_READY = 2 };

struct files_listing {
	const struct selection *selection;
	int (*each)(void *ctx, const struct index_entry *e, struct error *err);
	void *ctx;
};

static int list_part(
	const struct files_listing *l, const struct index_part *part, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < part->n_entries && code >= 0; i++) {
		const struct index_entry *e = &part->entries[i];

		if (select_apply(l->selection, e->path) != NULL)
			code = l->each(l->ctx, e, err);
	}
	return code;
}

static int list_parts(const struct files_listing *l, struct index_ahead *ahead, struct error *err)
{
	struct index_part part;
	int found;

	while ((found = index_ahead_next(ahead, &part, err)) > 0) {
		int code = list_part(l, &part, err);

		index_part_done(&part);
		if (code < 0)
			return code;
	}
	return found;
}

int datastore_files(const struct files_options *opts, const struct manifest *m,
	int (*each)(void *ctx, const struct index_entry *e, struct error *err), void *ctx,
	struct error *err)
{
	const struct files_listing l = {.selection = opts->selection, .each = each, .ctx = ctx};
	struct index_ahead_env env = {.store = opts->store,
		.cancel = opts->cancel,
		.manifest = m,
		.threads = opts->threads};
	struct index_ahead *ahead = NULL;
	int code;

	if (env.threads < FEWEST_THREADS)
		env.threads = FEWEST_THREADS;
	if (env.threads > MOST_THREADS)
		env.threads = MOST_THREADS;
	env.window = env.threads + PARTS_READY;
	code = index_ahead_open(&env, &ahead, err);
	if (code == 0)
		code = list_parts(&l, ahead, err);
	index_ahead_close(ahead);
	return code < 0 ? code : 0;
}
