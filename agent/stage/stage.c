/* SPDX-License-Identifier: MIT */
/* One stage, on its own thread: opens the destination, checks whether it is warm, unpacks all
 * sources into a hidden tree, and publishes it. Also the slots and the results of stages. */
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include "workers.h"
#include <errno.h>
#include <string.h>

/* Slots. No thread waits for one: a stage without a slot is not started yet. */

void stage_slots_init(struct slots *s, unsigned n, uv_async_t *freed)
{
	atomic_init(&s->free, n);
	s->freed = freed;
}

bool stage_slots_take(struct slots *s)
{
	unsigned n = atomic_load(&s->free);

	while (n > 0 && !atomic_compare_exchange_weak(&s->free, &n, n - 1))
		;
	return n > 0;
}

void stage_slots_undo_take(struct slots *s)
{
	atomic_fetch_add(&s->free, 1);
}

void stage_slots_release(struct slots *s)
{
	atomic_fetch_add(&s->free, 1);
	uv_async_send(s->freed);
}

/* Results. */

const char *stage_end_name(enum stage_end e)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		STAGE_ENDS(X)
#undef X
	};

	return names[e];
}

const char *stage_content_path(const struct stage *s)
{
	return s->env->cache_only ? s->to : s->spec->to;
}

void stage_store_versions(struct stage *s, const struct record *r)
{
	if (s->env->on_result == NULL || r == NULL || r->n_sources != s->n_sources)
		return;
	s->bytes = r->bytes;
	s->entries = r->entries;
	s->versions = zalloc(s->n_sources * sizeof(*s->versions));
	for (size_t i = 0; i < s->n_sources; i++) {
		s->versions[i].identity = r->sources[i].identity;
		memcpy(s->versions[i].sha256, r->sources[i].sha256, sizeof(s->versions[i].sha256));
	}
}

static struct stage_result_source result_of_source(const struct stage *s, size_t i)
{
	const struct source_outcome *a = &s->outcomes[i];
	const struct source_version *f = s->versions != NULL ? &s->versions[i] : NULL;
	struct stage_result_source r = {.name = s->progress[i].name,
		.received = counted(&s->progress[i].received),
		.etag = "",
		.last_modified = "",
		.sha256 = "",
		.datastore = a->datastore,
		.version = a->version};

	if (r.datastore != NULL)
		r.sha256 = a->manifest_sha256;
	if (r.datastore != NULL || f == NULL)
		return r;
	r.etag = f->identity.etag;
	r.last_modified = f->identity.last_modified;
	r.sha256 = f->sha256;
	return r;
}

void stage_report_result(const struct stage *s)
{
	struct stage_result_source *sources;
	struct stage_result r = {.to = stage_content_path(s),
		.origin = s->spec->origin,
		.end = s->end,
		.bytes = s->bytes,
		.entries = s->entries,
		.elapsed_ns = s->elapsed_ns,
		.n_sources = s->n_sources};

	if (s->env->on_result == NULL)
		return;
	if (s->code < 0) {
		r.end = s->code == -ECANCELED ? STAGE_CANCELLED : STAGE_FAILED;
		r.err = &s->err;
	}
	r.sources = sources = zalloc(s->n_sources * sizeof(*sources));
	for (size_t i = 0; i < s->n_sources; i++)
		sources[i] = result_of_source(s, i);
	s->env->on_result(s->env->on_result_ctx, &r);
	free(sources);
}

/* The stage itself. */

/* How often a stage starts again if its source changes, or fails where it cannot be resumed; the
 * pause grows with each attempt. */
enum { ATTEMPTS = 3, PAUSE_MS = 250 };

/* The sources of one stage. Its own thread takes one after another, and so does one helper thread
 * for each slot that is free. */
struct source_queue {
	struct stage *stage;
	struct record *record;

	struct workers helpers; /* started under its lock, by any of them */
	size_t next;            /* under the same lock */
};

static bool take_source(struct source_queue *p, size_t *ret)
{
	bool taken;

	pthread_mutex_lock(&p->helpers.mutex);
	taken = p->next < p->stage->n_sources && !workers_must_stop(&p->helpers);
	if (taken)
		*ret = p->next++;
	pthread_mutex_unlock(&p->helpers.mutex);
	return taken;
}

static void *helper_main(void *arg);

/* If no thread can be started, the stage goes on without it. */
static void start_helper(struct source_queue *p)
{
	struct slots *slots = p->stage->slots;

	pthread_mutex_lock(&p->helpers.mutex);
	p->helpers.max_threads = (unsigned)p->stage->n_sources; /* again, after a refusal */
	if (p->next < p->stage->n_sources && stage_slots_take(slots) &&
		!workers_start_extra(&p->helpers, helper_main, p))
		stage_slots_release(slots);
	pthread_mutex_unlock(&p->helpers.mutex);
}

static void unpack_next_sources(struct source_queue *p)
{
	size_t i;

	while (take_source(p, &i)) {
		struct error err;
		int code;

		start_helper(p);
		code = stage_unpack_source(p->stage, i, &p->record->sources[i], &err);
		if (code < 0)
			workers_fail_and_cancel(&p->helpers, code, &err);
	}
}

static void *helper_main(void *arg)
{
	struct source_queue *p = arg;

	unpack_next_sources(p);
	stage_slots_release(p->stage->slots);
	return NULL;
}

static int unpack_sources(struct stage *s, struct record *record, struct error *err)
{
	struct source_queue p = {.stage = s, .record = record};
	int code = 0;

	workers_init(&p.helpers, 0, &s->attempt);
	unpack_next_sources(&p);
	workers_join(&p.helpers);
	/* A cancel request does not matter any more when all sources have been unpacked. */
	if (p.helpers.failed < 0 || p.next < s->n_sources)
		code = workers_outcome(&p.helpers, err);
	workers_done(&p.helpers);
	return code;
}

struct tree_options stage_tree_options(const struct stage *s)
{
	struct tree_options opts = s->env->tree;

	if (s->spec->max_bytes > 0 && s->spec->max_bytes < opts.limits.max_bytes) {
		opts.limits.max_bytes = s->spec->max_bytes;
		opts.limits.bytes_why = s->spec->max_bytes_why;
	}
	opts.several_sources = s->n_sources > 1;
	return opts;
}

static void add_totals(const struct stage *s, struct record *record)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		record->bytes += counted(&s->progress[i].expanded);
		record->entries += counted(&s->progress[i].entries);
	}
	record->staged_at = time(NULL);
	record->synced = s->entry != NULL; /* cache_fill_seal() syncs it */
}

/* This is logged only after the publish, since until then nothing is staged. */
static void report_published(const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++)
		report_source_done(&s->progress[i], s->to, s->outcomes[i].format,
			s->outcomes[i].elapsed_ns, false);
}

/* Errors that only the whole tree shows are attributed to the source if there is only one. */
static int finish_tree(struct stage *s, struct meta *ret_root, struct error *err)
{
	int code = tree_finish(s->tree, ret_root, err);

	if (code < 0 && s->n_sources == 1)
		error_prefix(err, "%s", s->progress[0].name);
	return code;
}

/* A cache entry must have exactly the version under which it is stored. */
static int seal_entry(
	struct stage *s, const struct record *record, struct meta *root, struct error *err)
{
	char version[65];

	if (s->entry == NULL)
		return 0;
	if (!resume_pin_record(s, record, version) || strcmp(version, s->version) != 0)
		return error_set(
			err, -ERR_CHANGED, "%s changed while it was staged", s->progress[0].name);
	return cache_fill_seal(s->entry, s->root_fd, root, record, err);
}

static int fill_and_publish(struct stage *s, struct error *err)
{
	struct record *record = zalloc(sizeof(*record));
	struct meta root;
	int code = stage_open_tree(s, err);

	record->key = text_copy(s->key);
	memcpy(record->lineage, s->lineage, sizeof(record->lineage));
	record->sources = zalloc(s->n_sources * sizeof(*record->sources));
	record->n_sources = s->n_sources;
	if (code == 0)
		code = unpack_sources(s, record, err);
	if (code == 0)
		code = finish_tree(s, &root, err);
	if (code == 0) {
		stage_report_continued(s);
		record->sum = tree_file_sum(s->tree);
	}
	tree_free(take_ptr(&s->tree));
	if (code == 0) {
		add_totals(s, record);
		code = seal_entry(s, record, &root, err);
	}
	if (code == 0)
		code = destination_publish(s->destination, record, &root, err);
	if (code == 0)
		report_published(s);
	publish_record_free(record);
	return code;
}

int stage_begin_attempt(struct stage *s, struct error *err)
{
	atomic_store(&s->attempt.requested, false);
	if (atomic_load(&s->cancel->requested)) {
		atomic_store(&s->attempt.requested, true);
		return error_set(err, -ECANCELED, "cancelled");
	}
	for (size_t i = 0; i < s->n_sources; i++)
		progress_reset(&s->progress[i]);
	return 0;
}

/* Another version belongs into another entry of the cache. */
static bool is_retryable(const struct stage *s, int code)
{
	return code == -ERR_RESTART || (code == -ERR_CHANGED && s->entry == NULL);
}

int stage_fill(struct stage *s, struct error *err)
{
	for (unsigned n = 1;; n++) {
		int code = stage_begin_attempt(s, err);

		if (code == 0)
			code = fill_and_publish(s, err);
		if (!is_retryable(s, code) || n == ATTEMPTS)
			return code;
		s->discard_left = code == -ERR_CHANGED;
		log_warn("%s; starting again (try %u of %u)", err->msg, n + 1, (unsigned)ATTEMPTS);
		usleep(n * PAUSE_MS * 1000);
	}
}

void stage_report_warm(const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++)
		report_source_done(&s->progress[i], s->to, NULL, 0, true);
}

/* Returns 0 instead of code, after a warning, if the user's changes are the reason and are to be
 * kept. */
static int tolerate_kept(struct stage *s, int code, const struct error *err)
{
	if (code != -ERR_KEPT || !s->spec->keep_changed)
		return code;
	s->end = STAGE_KEPT;
	log_warn("%s; it stays as it is", err->msg);
	return 0;
}

static int stage_into_destination(struct stage *s, struct error *err)
{
	const struct destination_options opts = {.replace = s->spec->replace,
		.restore = s->spec->restore,
		.renew = s->spec->renew,
		.alone = s->spec->read_only,
		.keep_replaced = s->spec->keep_replaced,
		.cancel = s->cancel,
		.lock_timeout_ms = s->env->lock_timeout_ms};
	int code = destination_open(s->to, &opts, &s->destination, err);

	if (code < 0)
		return code;
	code = stage_is_warm(s, err);
	s->end = code > 0 ? STAGE_WARM : STAGE_FETCHED;
	if (code > 0)
		stage_report_warm(s);
	else if (code == 0)
		code = stage_from_cache(s, err);
	if (code == 0)
		code = stage_fill(s, err);
	code = tolerate_kept(s, code, err);
	if (code >= 0 && s->env->on_result != NULL)
		stage_store_versions(s, destination_holds(s->destination, s->key));
	destination_close(take_ptr(&s->destination), atomic_load(s->signalled));
	return code < 0 ? code : 0;
}

void stage_run(struct stage *s)
{
	uint64_t started = now_ns();

	s->code = s->env->cache_only ? stage_into_cache(s, &s->err)
				     : stage_into_destination(s, &s->err);
	s->elapsed_ns = now_ns() - started;
	if (s->code >= 0)
		return;
	error_item(&s->err, "%s", s->n_sources == 1 ? s->progress[0].name : s->to);
	if (strstr(s->err.msg, s->to) != NULL)
		error_prefix(&s->err, "%s", s->spec->origin);
	else
		error_prefix(&s->err, "cannot stage into %s (%s)", s->to, s->spec->origin);
}
