/* SPDX-License-Identifier: MIT */
/* Zip files: the directory at the end is read first, at random; then the data is walked through
 * once, in order, as it downloads. The walking thread cuts out each entry's compressed bytes,
 * uncopied where they lie in one block; workers inflate and write them. Large entries it unpacks
 * itself.
 *
 * What waits for a worker never waits for the network too: bytes that have to be gathered from
 * several blocks are copied, so that the network's blocks are free again. */
#include "zip.h"
#include "containers.h"
#include "defer.h"
#include "log.h"
#include "scratch.h"
#include "text.h"
#include "zip_large.h"
#include "zip_stream.h"
#include "zip_workers.h"
#include <errno.h>
#include <string.h>

/* An entry with no more bytes than a part, compressed and not, is a worker's; parts are what most
 * of the memory is for. */
#define PART_MAX ((uint64_t)4 << 20)
#define PART_MIN ((uint64_t)64 << 10)
#define OTHER_BYTES \
	(((uint64_t)1 << 20) + SCRATCH_MEMORY) /* the directory, large entries, scratch */
#define LINK_MAX 65536

struct memory {
	unsigned threads;
	size_t part;
	uint64_t reserved;
};

struct walk {
	const struct unpack_env *env;
	const struct memory *memory;
	struct zip_stream stream;
	struct crew *crew;
	struct writer *writer;       /* the walk's own */
	struct block_pool *gathered; /* entries whose bytes came in several slices */
	struct zip_workers *workers;
};

/* An eighth of what a stage may have: several zips can be unpacked at once. */
static struct memory plan_memory(const struct unpack_env *env)
{
	uint64_t share = budget_stage_half(env->budget) / 8;
	uint64_t most_threads = share / PART_MIN / 2;
	struct memory m = {.threads = env->threads > 0 ? env->threads : 1};
	uint64_t parts, part;

	if (m.threads > most_threads)
		m.threads = most_threads > 0 ? (unsigned)most_threads : 1;
	parts = 2 * (uint64_t)m.threads + 1; /* a worker: one in, one out; the walk: one */
	part = share / parts;
	part = part > PART_MAX ? PART_MAX : part < PART_MIN ? PART_MIN : part;
	m.part = (size_t)part;
	m.reserved = parts * part + m.threads * ZIP_WORKER_BYTES + OTHER_BYTES;
	return m;
}

/* Whether more lies right behind s; then s has both. */
static bool join(struct slice *s, struct slice *more)
{
	if (s->owner == NULL || s->owner != more->owner || s->data + s->len != more->data)
		return false;
	s->len += more->len;
	slice_drop(more);
	return true;
}

/* All the bytes of an entry whose first two slices are these, in b. Takes the two over. */
static int copy_together(struct walk *w, const struct zip_entry *e, struct slice parts[static 2],
	struct block *b, struct error *err)
{
	size_t have = 0;
	int r = 0;

	for (size_t i = 0; i < 2; i++) {
		memcpy(b->data + have, parts[i].data, parts[i].len);
		have += parts[i].len;
		slice_drop(&parts[i]);
	}
	while (r >= 0 && have < e->packed) {
		struct slice s = {0};

		r = zip_stream_next(&w->stream, e->packed - have, &s, err);
		if (r >= 0)
			memcpy(b->data + have, s.data, s.len);
		have += s.len;
		slice_drop(&s);
	}
	return r;
}

static int gather_copy(struct walk *w, const struct zip_entry *e, struct slice parts[static 2],
	struct slice *ret, struct error *err)
{
	struct block *b = block_pool_take(w->gathered, w->env->cancel);
	int r;

	if (b == NULL) {
		slice_drop(&parts[0]);
		slice_drop(&parts[1]);
		return error_set(err, -ECANCELED, "cancelled at '%s'", e->name);
	}
	r = copy_together(w, e, parts, b, err);
	if (r < 0)
		block_unref(b);
	else
		*ret = (struct slice){.data = b->data, .len = (size_t)e->packed, .owner = b};
	return r;
}

/* The entry's compressed bytes, in one slice; a stored file's in two where they lie in two blocks.
 * While it waits for bytes it keeps one block at most, of those that the network goes on with. */
static int gather(
	struct walk *w, const struct zip_entry *e, struct slice ret[static 2], struct error *err)
{
	bool two_will_do = e->method == ZIP_STORED && e->type == S_IFREG;
	struct slice parts[2] = {0};
	int r = e->packed > 0 ? zip_stream_next(&w->stream, e->packed, &parts[0], err) : 0;

	while (r >= 0 && parts[0].len < e->packed && parts[1].len == 0) {
		r = zip_stream_next(&w->stream, e->packed - parts[0].len, &parts[1], err);
		if (r >= 0)
			join(&parts[0], &parts[1]);
	}
	if (r < 0) {
		slice_drop(&parts[0]);
		return r;
	}
	if (parts[0].len + parts[1].len < e->packed || (parts[1].len > 0 && !two_will_do))
		return gather_copy(w, e, parts, &ret[0], err);
	ret[0] = parts[0];
	ret[1] = parts[1];
	return 0;
}

static int hand_to_worker(
	struct walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	struct zip_job job = {
		.name = name,
		.type = e->type,
		.meta = e->meta,
		.method = e->method,
		.crc = e->crc,
		.size = (size_t)e->size,
	};
	int r = gather(w, e, job.packed, err);

	return r < 0 ? r : zip_workers_add(w->workers, &job, err);
}

/* zip_workers_await() also hands on what was added. */
static int unpack_here(
	struct walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	const struct zip_target to = {.writer = w->writer, .name = name, .cancel = w->env->cancel};
	int r = zip_workers_await(w->workers, name, err);

	if (r >= 0)
		r = crew_await(w->crew, name, err);
	return r < 0 ? r : zip_unpack_large(&w->stream, e, &to, err);
}

/* 1: an earlier run has written it, and its bytes are not asked for. */
static int is_there(struct walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	int r;

	if (!tree_is_continued(w->env->tree) || e->type != S_IFREG)
		return 0;
	r = zip_workers_await(w->workers, name, err);
	return r < 0 ? r : crew_has(w->crew, w->writer, name, &e->meta, e->size, err);
}

static int unpack_entry(
	struct walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	int r = is_there(w, e, name, err);

	if (r != 0)
		return r < 0 ? r : 0;
	r = zip_stream_enter(&w->stream, e, err);
	if (r < 0)
		return r;
	if (e->type == S_IFDIR && e->size > 0)
		return error_set(
			err, -ERR_FORMAT, "'%s' is a directory, yet it has content", e->name);
	if (e->type == S_IFDIR)
		return crew_dir(w->crew, w->writer, name, &e->meta, err);
	if (e->type == S_IFLNK && (e->size > LINK_MAX || e->packed > LINK_MAX))
		return error_set(err, -ERR_REFUSED,
			"the target of the symbolic link '%s' is too long", e->name);
	if (e->size <= w->memory->part && e->packed <= w->memory->part)
		return hand_to_worker(w, e, name, err);
	return unpack_here(w, e, name, err);
}

static int walk_entries(struct walk *w, struct zip_directory *d, struct error *err)
{
	const struct zip_entry *e;
	int r;

	while ((r = zip_directory_next(d, &e, err)) > 0) {
		const char *name = selection_apply(w->env->selection, e->name);

		if (name != NULL)
			r = unpack_entry(w, e, name, err);
		if (r < 0)
			break;
	}
	return r;
}

/* What was cut out keeps the network's blocks: it must not lie here while more is waited for. */
static int before_wait(void *ctx, struct error *err)
{
	struct walk *w = ctx;

	return zip_workers_flush(w->workers, err);
}

static int walk_with_workers(
	struct walk *w, const char *source, struct zip_directory *d, struct error *err)
{
	const struct memory *m = w->memory;
	struct zip_workforce force = {
		.source = source, .crew = w->crew, .threads = m->threads, .part = m->part};
	uint64_t bytes;
	int r;

	zip_directory_sum(d, &bytes, &force.entries);
	r = zip_workers_start(w->env, &force, &w->workers, err);
	if (r < 0)
		return r;
	w->stream.before_wait = before_wait;
	w->stream.ctx = w;
	w->writer = writer_new(w->env->tree, source, w->env->progress);
	w->gathered = block_pool_new(m->part, m->threads + 1, NULL, NULL);
	r = walk_entries(w, d, err);
	r = zip_workers_finish(w->workers, r, err);
	block_pool_free(w->gathered);
	writer_close(w->writer);
	zip_stream_done(&w->stream);
	return r;
}

static int walk(struct walk *w, const char *source, struct zip_directory *d, struct error *err)
{
	const struct crew_env crew = {.tree = w->env->tree,
		.source = source,
		.budget = w->env->budget,
		.cancel = w->env->cancel,
		.progress = w->env->progress};

	w->crew = crew_new(&crew);
	return crew_finish(w->crew, walk_with_workers(w, source, d, err), err);
}

static int unpack_object(const struct unpack_env *env, const struct memory *memory,
	const char *source, struct object *o, struct reader *in, struct error *err)
{
	struct walk w = {.env = env, .memory = memory, .stream.in = in};
	struct zip_directory *d = NULL;
	uint64_t bytes, entries;
	struct zip_end end;
	int r = zip_find_end(o, &end, err);

	if (r >= 0)
		r = zip_directory_open(env, o, &end, &d, err);
	if (r < 0)
		return r;
	zip_directory_sum(d, &bytes, &entries);
	r = tree_check_room(env->tree, bytes, entries, err);
	if (r >= 0)
		r = walk(&w, source, d, err);
	zip_directory_close(d);
	return r;
}

static int store_and_unpack(const struct unpack_env *env, const struct memory *memory,
	const struct unpack_input *input, struct error *err)
{
	struct object *copy;
	int r;

	log_info("%s: a zip that cannot be read at random is first stored whole", input->source);
	r = scratch_from_reader(env, input->in, &copy, err);
	if (r < 0)
		return r;
	r = unpack_object(env, memory, input->source, copy, object_stream(copy), err);
	object_close(copy);
	return r;
}

static int zip_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct object *o = input->object;
	struct memory memory = plan_memory(env);
	int r = budget_reserve(env->budget, memory.reserved, env->cancel, err);

	if (r < 0)
		return r;
	r = o->seekable && o->identity.size != SIZE_UNKNOWN
		    ? unpack_object(env, &memory, input->source, o, input->in, err)
		    : store_and_unpack(env, &memory, input, err);
	budget_release(env->budget, memory.reserved);
	return r;
}

/* A local header, an empty zip's end, or the mark of a split zip that came out in one piece. */
static bool zip_matches(const uint8_t *first, size_t len)
{
	return len >= 22 && (memcmp(first, "PK\3\4", 4) == 0 || memcmp(first, "PK\5\6", 4) == 0 ||
				    memcmp(first, "PK\7\10PK\3\4", 8) == 0);
}

const struct unpacker unpack_zip = {
	.name = "zip",
	.matches = zip_matches,
	.unpack = zip_unpack,
	.needs_object = true,
};
