/* SPDX-License-Identifier: MIT */
/* Stages, each on its own thread, and sets of them, on the loop thread. A stage opens its
 * destination, checks whether it is warm, unpacks all sources into a hidden tree, and publishes it.
 * A set starts one thread per stage, as many as may run at once, joins those that have ended,
 * starts the next, and cancels the rest when one fails. */
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include "thread.h"
#include "workers.h"
#include <errno.h>
#include <string.h>
#include <uv.h>

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

/* Releases a slot that was just taken, without waking the loop. */
static void slots_undo_take(struct slots *s)
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

/* The path of the content, as the user has given it; with cache_only, the entry's path, or "the
 * node cache" if there is no complete entry. Borrowed. */
static const char *content_path(const struct stage *s)
{
	if (!s->env->cache_only)
		return s->spec->to;
	return s->entry_path != NULL ? s->entry_path : s->shown;
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
		.network_ns = counted(&s->progress[i].network_ns),
		.decode_ns = counted(&s->progress[i].decode_ns),
		.disk_ns = counted(&s->progress[i].disk_ns),
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

/* Loop thread: calls on_result. */
static void report_result(const struct stage *s)
{
	struct stage_result_source *sources;
	struct stage_result r = {.to = content_path(s),
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
		report_source_done(&s->progress[i], s->shown, s->outcomes[i].format,
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

static int publish_tree(
	struct stage *s, const struct record *record, const struct meta *root, struct error *err)
{
	unsigned span = stage_span_publish(s);
	int code = destination_publish(s->destination, record, root, err);

	stage_span_published(s, span, code, err);
	return code;
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
		code = publish_tree(s, record, &root, err);
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

/* The address of its one source; NULL: it has several. */
static const char *only_source(const struct stage *s)
{
	return s->n_sources == 1 ? s->progress[0].name : NULL;
}

static void log_restart(const struct stage *s, unsigned attempt, const struct error *err)
{
	const struct log_field fields[] = {log_field_text("source", only_source(s)),
		log_field_text("to", s->shown), log_field_text("why", err->msg),
		log_field_errno(err), log_field_http_status(err)};

	log_event(LOG_WARN, EVENT_STAGE_RETRIED, fields, ARRAY_LEN(fields),
		"%s; starting again (try %u of %u)", err->msg, attempt, (unsigned)ATTEMPTS);
}

static void log_failure(const struct stage *s, const struct error *err)
{
	const struct log_field fields[] = {log_field_text("source", only_source(s)),
		log_field_text("to", s->shown), log_field_errno(err), log_field_http_status(err)};

	log_event(LOG_ERROR, EVENT_STAGE_FAILED, fields, ARRAY_LEN(fields), "%s", err->msg);
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
		log_restart(s, n + 1, err);
		usleep(n * PAUSE_MS * 1000);
	}
}

void stage_report_warm(const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++)
		report_source_done(&s->progress[i], s->shown, NULL, 0, true);
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
		.timeline = s->env->timeline,
		.span = s->span,
		.lock_ns = &s->lock_ns,
		.lock_limit = s->env->lock_limit};
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

/* Stores the result in s->code and s->err. */
static void stage_and_explain(struct stage *s)
{
	uint64_t started = now_ns();

	s->code = s->env->cache_only ? stage_into_cache(s, &s->err)
				     : stage_into_destination(s, &s->err);
	s->elapsed_ns = now_ns() - started;
	if (s->code >= 0)
		return;
	error_item(&s->err, "%s", s->n_sources == 1 ? s->progress[0].name : s->shown);
	if (strstr(s->err.msg, s->shown) != NULL)
		error_prefix(&s->err, "%s", s->spec->origin);
	else
		error_prefix(&s->err, "cannot stage into %s (%s)", s->shown, s->spec->origin);
}

/* Stage thread: all of the stage. */
static void run_stage(struct stage *s)
{
	stage_span_begin(s);
	stage_and_explain(s);
	stage_span_end(s);
}

/* A set of stages. Loop thread. */

struct stage_thread {
	struct stage_set *set;
	struct stage *stage;
	pthread_t thread;
	bool started, has_slot;
	bool reaped;       /* loop thread: its result was reported */
	atomic_bool ended; /* set right before uv_async_send() */
};

struct stage_set {
	/* Set by stage_set_start() and constant. */
	struct stage_env env;
	struct stage *stages;
	struct stage_thread *threads;
	size_t n;

	/* Any thread. */
	struct cancel cancel;
	atomic_bool signalled;
	struct slots slots;
	uv_async_t ended;

	/* Loop thread. */
	size_t next;    /* the first that was not started */
	size_t running; /* not ended yet, started or not */
	int code;       /* of the first failure */
	struct error err;
};

static void *stage_thread_main(void *arg)
{
	struct stage_thread *t = arg;

	run_stage(t->stage);
	atomic_store(&t->ended, true);
	uv_async_send(&t->set->ended);
	return NULL;
}

static void cancel_stages(struct stage_set *set)
{
	cancel_request(&set->cancel);
	for (size_t i = 0; i < set->n; i++)
		cancel_request(&set->stages[i].attempt);
}

void stage_set_cancel(struct stage_set *set)
{
	atomic_store(&set->signalled, true);
	cancel_stages(set);
}

/* A cancelled stage is the consequence of a signal or of another failure, so it is not logged. */
static void on_failure(struct stage_set *set, const struct stage *s)
{
	const struct error *err = &s->err;
	int code = s->code;

	if (set->code == 0 || set->code == -ECANCELED) {
		set->code = code;
		set->err = *err;
	}
	if (code != -ECANCELED && set->env.log_failures)
		log_failure(s, err);
	if (!set->env.keep_going)
		cancel_stages(set);
}

static void report_datastores(const struct stage_set *set, const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources && set->env.on_datastore != NULL; i++) {
		const struct source_outcome *a = &s->outcomes[i];
		const struct stage_datastore d = {.name = a->datastore,
			.version = a->version,
			.manifest_sha256 = a->manifest_sha256,
			.to = content_path(s)};

		if (a->datastore != NULL)
			set->env.on_datastore(set->env.on_datastore_ctx, &d);
	}
}

static void reap_thread(struct stage_set *set, struct stage_thread *t)
{
	if (t->reaped || !atomic_load(&t->ended))
		return;
	t->reaped = true;
	if (t->started)
		pthread_join(t->thread, NULL);
	if (t->has_slot)
		stage_slots_release(&set->slots);
	set->running--;
	if (t->stage->code < 0)
		on_failure(set, t->stage);
	else
		report_datastores(set, t->stage);
	report_result(t->stage);
}

/* The result is reported like any other, at the next event. */
static void end_unstarted(struct stage_thread *t)
{
	stage_span_begin(t->stage);
	stage_span_end(t->stage);
	atomic_store(&t->ended, true);
	uv_async_send(&t->set->ended);
}

static size_t count_running(const struct stage_set *set)
{
	size_t n = 0;

	for (size_t i = 0; i < set->next; i++)
		n += set->threads[i].started && !set->threads[i].reaped;
	return n;
}

/* Returns false if there are no more threads; then the stage has to wait until another one ends. */
static bool start_stage(struct stage_thread *t)
{
	struct stage *s = t->stage;
	int code =
		thread_start_next(&t->thread, count_running(t->set), stage_thread_main, t, &s->err);

	t->started = code > 0;
	t->has_slot = code != 0;
	if (code < 0) {
		s->code = error_prefix(&s->err, "cannot stage into %s", s->shown);
		end_unstarted(t);
	}
	return code != 0;
}

static void cancel_unstarted(struct stage_thread *t)
{
	t->stage->code = error_set(&t->stage->err, -ECANCELED, "cancelled");
	end_unstarted(t);
}

static void start_stages(struct stage_set *set)
{
	for (; set->next < set->n; set->next++) {
		struct stage_thread *t = &set->threads[set->next];

		if (cancel_requested(&set->cancel)) {
			cancel_unstarted(t);
		} else if (!stage_slots_take(&set->slots)) {
			return;
		} else if (!start_stage(t)) {
			slots_undo_take(&set->slots);
			return;
		}
	}
}

static void on_closed(uv_handle_t *h)
{
	struct stage_set *set = container_of((uv_async_t *)h, struct stage_set, ended);

	set->env.on_done(set->env.on_done_ctx, set->code, &set->err);
}

static void watch_sources(struct stage_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		for (size_t k = 0; k < set->stages[i].n_sources; k++)
			monitor_add(set->env.monitor, &set->stages[i].progress[k]);
}

static void unwatch_sources(struct stage_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		for (size_t k = 0; k < set->stages[i].n_sources; k++)
			monitor_remove(set->env.monitor, &set->stages[i].progress[k]);
}

static void on_ended(uv_async_t *async)
{
	struct stage_set *set = container_of(async, struct stage_set, ended);

	for (size_t i = 0; i < set->n; i++)
		reap_thread(set, &set->threads[i]);
	start_stages(set);
	if (set->running > 0 || uv_is_closing((uv_handle_t *)async))
		return;
	unwatch_sources(set);
	uv_close((uv_handle_t *)async, on_closed);
}

/* Decoding threads for each source if as many sources run as may. */
static unsigned threads_per_source(const struct stage_set *set)
{
	size_t sources = 0, at_once;

	for (size_t i = 0; i < set->n; i++)
		sources += set->stages[i].n_sources;
	at_once = sources < set->env.parallel ? sources : set->env.parallel;
	return at_once > 1 && set->env.threads > at_once ? set->env.threads / (unsigned)at_once
	       : at_once > 1                             ? 1
							 : set->env.threads;
}

static void init_stages(struct stage_set *set)
{
	unsigned threads = threads_per_source(set);

	for (size_t i = 0; i < set->n; i++) {
		set->stages[i].shown = set->env.cache_only ? "the node cache" : set->stages[i].to;
		set->stages[i].env = &set->env;
		set->stages[i].cancel = &set->cancel;
		set->stages[i].signalled = &set->signalled;
		set->stages[i].slots = &set->slots;
		set->stages[i].threads = threads;
		set->threads[i].set = set;
		set->threads[i].stage = &set->stages[i];
	}
}

static int watch_stages(struct stage_set *set, struct error *err)
{
	int code = uv_async_init(set->env.loop, &set->ended, on_ended);

	if (code < 0)
		error_set(err, code, "cannot watch the stages: %s", uv_strerror(code));
	return code;
}

int stage_set_start(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage_set **ret, struct error *err)
{
	struct stage_set *set = zalloc(sizeof(*set));
	int code;

	set->env = *env;
	cancel_init(&set->cancel);
	stage_slots_init(&set->slots, env->parallel, &set->ended);
	code = stage_join(env, specs, n, &set->stages, &set->n, err);
	if (code == 0)
		code = watch_stages(set, err);
	if (code < 0) {
		stage_set_free(set);
		return code;
	}
	set->threads = zalloc(set->n * sizeof(*set->threads));
	init_stages(set);
	set->running = set->n;
	watch_sources(set);
	start_stages(set);
	uv_async_send(&set->ended); /* also ends an empty set */
	*ret = set;
	return 0;
}

void stage_set_free(struct stage_set *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->n; i++)
		stage_done(&set->stages[i]);
	free(set->stages);
	free(set->threads);
	cancel_done(&set->cancel);
	free(set);
}
