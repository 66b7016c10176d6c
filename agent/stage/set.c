/* SPDX-License-Identifier: MIT */
/* A set of stages, seen from the loop thread: starts a thread for each, hears when they end,
 * cancels the rest when one fails. */
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <uv.h>

struct stage_thread {
	struct stage_set *set;
	struct stage *stage;
	pthread_t thread;
	bool started;
	bool told;         /* loop thread: its outcome was heard */
	atomic_bool ended; /* its last act before uv_async_send() */
};

struct stage_set {
	/* Set at creation. */
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
	struct display *display; /* NULL: none wanted */
	size_t running;
	int code; /* of the first failure */
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

/* A stage that was cancelled is the echo of a signal or of another's failure: nothing to report. */
static void hear_failure(struct stage_set *set, int code, const struct error *err)
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

static void tell_datastores(const struct stage_set *set, const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources && set->env.on_datastore != NULL; i++) {
		const struct arrival *a = &s->arrivals[i];
		const struct stage_datastore d = {.name = a->datastore,
			.version = a->version,
			.manifest_sha256 = a->manifest_sha256,
			.to = stage_place(s)};

		if (a->datastore != NULL)
			set->env.on_datastore(set->env.on_datastore_ctx, &d);
	}
}

static void hear_thread(struct stage_set *set, struct stage_thread *t)
{
	if (t->told || !atomic_load(&t->ended))
		return;
	t->told = true;
	if (t->started)
		pthread_join(t->thread, NULL);
	set->running--;
	if (t->stage->code < 0)
		hear_failure(set, t->stage->code, &t->stage->err);
	else
		tell_datastores(set, t->stage);
	stage_tell_result(t->stage);
}

static void on_closed(uv_handle_t *h)
{
	struct stage_set *set = container_of((uv_async_t *)h, struct stage_set, ended);

	set->env.on_done(set->env.on_done_ctx, set->code, &set->err);
}

static void on_ended(uv_async_t *async)
{
	struct stage_set *set = container_of(async, struct stage_set, ended);

	for (size_t i = 0; i < set->n; i++)
		hear_thread(set, &set->threads[i]);
	if (set->running > 0 || uv_is_closing((uv_handle_t *)async))
		return;
	display_close(take_ptr(&set->display));
	uv_close((uv_handle_t *)async, on_closed);
}

/* Signals are the loop thread's business. */
static int start_thread(struct stage_thread *t)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&t->thread, NULL, stage_thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	t->started = code == 0;
	return code;
}

static void start_stage(struct stage_set *set, size_t i)
{
	struct stage_thread *t = &set->threads[i];
	struct stage *s = &set->stages[i];
	int code;

	t->set = set;
	t->stage = s;
	set->running++;
	for (size_t k = 0; k < s->n_sources && set->display != NULL; k++)
		display_add(set->display, &s->progress[k]);
	code = start_thread(t);
	if (code != 0) {
		s->code = error_set(&s->err, -code, "cannot start a thread for %s: %s", s->to,
			strerrordesc_np(code));
		atomic_store(&t->ended, true);
	}
}

/* Decoding threads for each source, when all run that can. */
static unsigned threads_each(const struct stage_set *set)
{
	size_t sources = 0, at_once;

	for (size_t i = 0; i < set->n; i++)
		sources += set->stages[i].n_sources;
	at_once = sources < set->env.parallel ? sources : set->env.parallel;
	return at_once > 1 && set->env.threads > at_once ? set->env.threads / (unsigned)at_once
	       : at_once > 1                             ? 1
							 : set->env.threads;
}

static void lend_to_stages(struct stage_set *set)
{
	unsigned threads = threads_each(set);

	for (size_t i = 0; i < set->n; i++) {
		if (set->env.cache_only) {
			free(set->stages[i].to);
			set->stages[i].to = copy_text("the node cache");
		}
		set->stages[i].env = &set->env;
		set->stages[i].cancel = &set->cancel;
		set->stages[i].signalled = &set->signalled;
		set->stages[i].slots = &set->slots;
		set->stages[i].threads = threads;
	}
}

int stage_set_start(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage_set **ret, struct error *err)
{
	struct stage_set *set = zalloc(sizeof(*set));
	int code;

	set->env = *env;
	cancel_init(&set->cancel);
	slots_init(&set->slots, env->parallel);
	code = stages_join(env, specs, n, &set->stages, &set->n, err);
	if (code == 0 && (code = uv_async_init(env->loop, &set->ended, on_ended)) < 0)
		error_set(err, code, "cannot watch the stages: %s", uv_strerror(code));
	if (code < 0) {
		stage_set_free(set);
		return code;
	}
	lend_to_stages(set);
	set->threads = zalloc(set->n * sizeof(*set->threads));
	if (env->show_progress)
		set->display = display_new(env->loop, STDERR_FILENO);
	for (size_t i = 0; i < set->n; i++)
		start_stage(set, i);
	uv_async_send(&set->ended); /* for a set of none, and for threads that did not start */
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
	slots_done(&set->slots);
	cancel_done(&set->cancel);
	free(set);
}
