/* SPDX-License-Identifier: MIT */
/* One blocking function on a thread of its own, as a step of the agent. Loop thread, but for the function. */
#include "agent.h"
#include "cancel.h"
#include "defer.h"
#include "report.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>

struct work {
	/* Set at creation. */
	agent_work_fn run;
	void *ctx;
	pthread_t thread;

	/* Any thread. */
	struct cancel cancel;
	uv_async_t ended;

	/* The thread's, then the loop's once it has ended. */
	int code;
	struct error err;

	/* Loop thread. */
	struct display *display; /* NULL: none wanted */
	struct outcome *outcome;
};

static void *work_thread_main(void *arg)
{
	struct work *w = arg;

	w->code = w->run(w->ctx, &w->cancel, &w->err);
	uv_async_send(&w->ended);
	return NULL;
}

static void on_ended_closed(uv_handle_t *h)
{
	struct work *w = container_of((uv_async_t *)h, struct work, ended);

	agent_step_done(w->outcome, w->code, &w->err);
}

static void on_ended(uv_async_t *async)
{
	struct work *w = container_of(async, struct work, ended);

	pthread_join(w->thread, NULL);
	display_close(take_ptr(&w->display));
	uv_close((uv_handle_t *)async, on_ended_closed);
}

static void cancel_work(void *work, bool hard)
{
	(void)hard;
	cancel_request(&((struct work *)work)->cancel);
}

/* Signals are the loop thread's business. */
static int start_thread(struct work *w)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&w->thread, NULL, work_thread_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

static void show_progress(struct agent *a, struct work *w, const struct progress *progress)
{
	if (progress == NULL || !a->settings->progress || a->settings->log_format != LOG_TEXT)
		return;
	w->display = display_new(&a->loop, STDERR_FILENO);
	display_add(w->display, progress);
}

static int start_work(struct agent *a, struct work *w, struct error *err)
{
	int code = uv_async_init(&a->loop, &w->ended, on_ended);

	if (code < 0)
		return error_set(err, code, "cannot watch a thread: %s", uv_strerror(code));
	code = start_thread(w);
	if (code == 0)
		return 0;
	uv_close((uv_handle_t *)&w->ended, NULL);
	uv_run(&a->loop, UV_RUN_NOWAIT);
	return error_set(err, -code, "cannot start a thread: %s", strerrordesc_np(code));
}

int agent_work(struct agent *a, agent_work_fn run, void *ctx, const struct progress *progress,
	struct error *err)
{
	struct work *w = zalloc(sizeof(*w));
	int code;

	w->run = run;
	w->ctx = ctx;
	cancel_init(&w->cancel);
	code = start_work(a, w, err);
	if (code < 0) {
		cancel_done(&w->cancel);
		free(w);
		return code;
	}
	show_progress(a, w, progress);
	w->outcome = outcome_new(err);
	a->cancel = cancel_work;
	a->work = w;
	code = agent_await(a, w->outcome);
	if (outcome_free(w->outcome)) {
		cancel_done(&w->cancel);
		free(w);
	}
	return code;
}
