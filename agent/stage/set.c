/* SPDX-License-Identifier: MIT */
/* A set of stages. Loop thread. Starts one thread per stage, as many as may run at once, joins
 * those that have ended, starts the next, and cancels the rest when one fails. */
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include "thread.h"
#include <errno.h>
#include <string.h>
#include <uv.h>

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

	stage_run(t->stage);
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
static void on_failure(struct stage_set *set, int code, const struct error *err)
{
	if (set->code == 0 || set->code == -ECANCELED) {
		set->code = code;
		set->err = *err;
	}
	if (code != -ECANCELED && set->env.log_failures)
		log_error("%s", err->msg);
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
			.to = stage_content_path(s)};

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
		on_failure(set, t->stage->code, &t->stage->err);
	else
		report_datastores(set, t->stage);
	stage_report_result(t->stage);
}

/* The result is reported like any other, at the next event. */
static void end_unstarted(struct stage_thread *t)
{
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
		s->code = error_prefix(&s->err, "cannot stage into %s", s->to);
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
			stage_slots_undo_take(&set->slots);
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
		if (set->env.cache_only) {
			free(set->stages[i].to);
			set->stages[i].to = text_copy("the node cache");
		}
		set->stages[i].env = &set->env;
		set->stages[i].cancel = &set->cancel;
		set->stages[i].signalled = &set->signalled;
		set->stages[i].slots = &set->slots;
		set->stages[i].threads = threads;
		set->threads[i].set = set;
		set->threads[i].stage = &set->stages[i];
	}
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
	if (code == 0 && (code = uv_async_init(env->loop, &set->ended, on_ended)) < 0)
		error_set(err, code, "cannot watch the stages: %s", uv_strerror(code));
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
