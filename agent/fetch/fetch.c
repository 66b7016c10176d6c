/* SPDX-License-Identifier: MIT */
/* A version, or a part of it, into a tree: shares out the memory, walks through the index, and waits for the
 * workers. The calling thread's. */
#include "defer.h"
#include "fetch_private.h"
#include "index_ahead.h"
#include "s3.h"
#include "text.h"
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* A part of the index in memory; and how many of them there are room for among so much. */
#define PART_BYTES     (8 * MIB)
#define BYTES_FOR_PART (32 * MIB)
#define DECODER_BYTES \
	(32 * MIB) /* for each processor: what it decodes, and what arrives meanwhile */
#define SPAN_MOST  (8 * MIB)
#define SPAN_LEAST (1 * MIB)
enum { PARTS_MOST = 4 };

/* Several datastores at once should not wait for each other: content with less when there is no more. */
static int reserve(struct fetch *f, struct error *err)
{
	struct budget *b = f->opts->budget;
	uint64_t most = BYTES_FOR_PART + f->decoders_max * DECODER_BYTES;
	uint64_t half = budget_stage_half(b), wanted = most < half ? most : half;
	int r = 0;

	f->reserved = wanted;
	if (!budget_try_reserve(b, f->reserved)) {
		f->reserved = wanted / 2;
		if (!budget_try_reserve(b, f->reserved)) {
			f->reserved = wanted / 4;
			r = budget_reserve(b, f->reserved, f->opts->cancel, err);
		}
	}
	if (r < 0)
		f->reserved = 0;
	return r;
}

static void share_memory(struct fetch *f)
{
	uint64_t parts = f->reserved / BYTES_FOR_PART, span;

	f->parts_max = parts < 1 ? 1 : parts > PARTS_MOST ? PARTS_MOST : (unsigned)parts;
	f->capacity = f->reserved / 2;
	if (f->reserved > 2 * PART_BYTES * (f->parts_max + 1))
		f->capacity = f->reserved - PART_BYTES * (f->parts_max + 1);
	span = f->capacity / (2 * f->decoders_max + 1);
	f->span_max = span < SPAN_LEAST ? SPAN_LEAST : span > SPAN_MOST ? SPAN_MOST : span;
}

static int open_bucket(struct fetch *f, struct error *err)
{
	struct s3_place place = {0};
	int r;

	if (f->manifest->reference == NULL)
		return 0;
	r = s3_place_parse(f->manifest->reference, &place, err);
	if (r == 0)
		f->bucket = copy_text(place.bucket);
	s3_place_done(&place);
	return r;
}

static int plan_part(struct fetch *f, struct index_part *index, struct error *err)
{
	struct fetch_part *p = fetch_part_new(f, index);
	int r = fetch_plan_part(p, err);

	if (r == 0)
		r = fetch_links(p, err);
	fetch_part_unref(p);
	return r;
}

static int walk_parts(struct fetch *f, struct index_ahead *ahead, struct error *err)
{
	struct index_part index;
	int r;

	while ((r = fetch_await_part(f, err)) == 0 &&
		(r = index_ahead_next(ahead, &index, err)) > 0) {
		r = plan_part(f, &index, err);
		if (r < 0)
			break;
	}
	return r;
}

static int walk(struct fetch *f, struct error *err)
{
	const struct index_ahead_env env = {.store = f->opts->store,
		.cancel = f->opts->cancel,
		.manifest = f->manifest,
		.threads = 1,
		.window = 1};
	struct index_ahead *ahead = NULL;
	int r = index_ahead_open(&env, &ahead, err);

	if (r == 0)
		r = walk_parts(f, ahead, err);
	index_ahead_close(ahead);
	if (r == 0 && f->opts->progress != NULL)
		atomic_store(&f->opts->progress->total, f->total);
	return r;
}

/* The first failure wins, the walk's or a worker's. */
static int walk_with_workers(struct fetch *f, struct error *err)
{
	int r;

	fetch_queue_init(f);
	f->writer = writer_new(f->tree, f->name, f->opts->progress);
	r = walk(f, err);
	if (r < 0)
		fetch_fail(f, r, err);
	fetch_close(f);
	fetch_dismiss(f);
	writer_close(f->writer);
	r = fetch_outcome(f, err);
	fetch_queue_done(f);
	return r;
}

static int fetch_all(struct fetch *f, struct error *err)
{
	const struct fetch_options *opts = f->opts;
	const struct crew_env crew = {.tree = f->tree,
		.source = f->name,
		.budget = opts->budget,
		.cancel = opts->cancel,
		.progress = opts->progress};

	share_memory(f);
	f->crew = crew_new(&crew);
	return crew_finish(f->crew, walk_with_workers(f, err), err);
}

/* What a part of a version needs is known when it is there. */
static int check_room(const struct fetch *f, struct error *err)
{
	const struct selection *s = f->opts->selection;
	bool is_whole = f->opts->shard.world <= 1 &&
			(s == NULL || (s->include == NULL && s->exclude == NULL &&
					      s->strip_components == 0));

	if (!is_whole)
		return 0;
	if (f->opts->progress != NULL)
		atomic_store(&f->opts->progress->total, f->manifest->stored_bytes);
	return tree_check_room(f->tree, f->manifest->bytes, f->manifest->entries, err);
}

static int check_shard(const struct shard *s, struct error *err)
{
	if (s->world == 0 || s->rank < s->world)
		return 0;
	return error_set(err, -ERR_USAGE, "there is no rank %u among %u: ranks count from 0",
		s->rank, s->world);
}

int datastore_fetch(const struct fetch_options *opts, const struct manifest *m, struct tree *tree,
	struct error *err)
{
	struct fetch *f = zalloc(sizeof(*f));
	int r = check_shard(&opts->shard, err);

	f->opts = opts;
	f->manifest = m;
	f->tree = tree;
	f->uid = geteuid();
	f->gid = getegid();
	f->name = format_text("datastore %s:%u", m->name, m->version);
	f->decoders_max = opts->threads > 0 ? opts->threads : 1;
	f->workers_max = opts->connections > 0 ? opts->connections : 1;
	if (f->workers_max > FETCH_WORKERS_MAX)
		f->workers_max = FETCH_WORKERS_MAX;
	if (r == 0)
		r = open_bucket(f, err);
	if (r == 0)
		r = check_room(f, err);
	if (r == 0)
		r = reserve(f, err);
	if (r == 0)
		r = fetch_all(f, err);
	if (f->reserved > 0)
		budget_release(opts->budget, f->reserved);
	fetch_parents_done(f);
	free(f->bucket);
	free(f->name);
	free(f);
	return r;
}
