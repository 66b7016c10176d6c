/* SPDX-License-Identifier: MIT */
/* The stages and the install of dependencies side by side: one step, which is over when both are. Loop
 * thread. */
#include "head.h"
#include "defer.h"
#include "log.h"
#include <errno.h>

/* What ignored the signal is killed, and its temporary files are removed. */
enum { KILL_MS = 150 };

struct head {
	struct stage_set *set;
	struct install *install;
	bool staging, installing;
	bool installed; /* its child is gone */
	int code;       /* of the first failure that is not the echo of another */
	struct outcome outcome;
};

static void cancel_head(void *work, bool hard)
{
	struct head *h = work;

	if (h->staging)
		stage_set_cancel(h->set);
	if (h->installing)
		install_cancel(h->install, hard);
}

static void note_failure(struct head *h, int code, const struct error *err)
{
	if (h->code == 0 || h->code == -ECANCELED) {
		h->code = code;
		*h->outcome.err = *err;
	}
	cancel_head(h, false);
}

static void finish_part(struct head *h, int code, const struct error *err)
{
	if (code < 0)
		note_failure(h, code, err);
	if (!h->staging && !h->installing)
		agent_step_done(&h->outcome, h->code, h->outcome.err);
}

static void on_staged(void *ctx, int code, const struct error *err)
{
	struct head *h = ctx;

	h->staging = false;
	finish_part(h, code, err);
}

static void on_installed(void *ctx, int code, const struct error *err)
{
	struct head *h = ctx;

	if (code < 0 && code != -ECANCELED)
		log_error("%s", err->msg);
	h->installing = false;
	h->installed = true;
	finish_part(h, code, err);
}

static struct install_env install_env(
	struct agent *a, const struct strings *environment, struct head *h)
{
	return (struct install_env){.loop = &a->loop,
		.inherited = a->inherited,
		.environment = environment,
		.on_done = on_installed,
		.on_done_ctx = h};
}

static int start_stages(struct agent *a, const struct stage_spec *specs, size_t n, struct head *h,
	struct error *err)
{
	struct stage_env env;
	int code;

	if (n == 0)
		return 0;
	code = agent_need_transfer(a, err);
	agent_fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = on_staged;
	env.on_done_ctx = h;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &h->set, err);
	h->staging = code == 0;
	return code;
}

static void kill_install(
	struct agent *a, struct install *i, const bool *gone, const struct outcome *o)
{
	install_cancel(i, true);
	agent_limit(a, KILL_MS);
	agent_run_until(a, gone);
	a->out_of_time = !o->done;
}

/* Whatever has started is waited for; only a thread that does not stop in time is left behind. */
static void await_head(struct agent *a, struct head *h)
{
	a->cancel = a->skip = cancel_head;
	a->work = h;
	agent_await(a, &h->outcome);
	if (!h->outcome.done && h->installing)
		kill_install(a, h->install, &h->installed, &h->outcome);
}

/* Both, or the one, that was started; to their end. */
static int finish_head(struct agent *a, struct head *h)
{
	if (h->staging || h->installing)
		await_head(a, h);
	if (!h->installing)
		install_free(h->install);
	if (!h->staging)
		stage_set_free(h->set);
	return h->outcome.err->code;
}

int agent_head(struct agent *a, const struct stage_spec *specs, size_t n,
	const struct dependencies *d, const struct strings *environment, struct error *err)
{
	struct error why = {0};
	struct head h = {.outcome = {.err = &why}};
	const struct install_env env = install_env(a, environment, &h);
	int code;

	if (d == NULL)
		return n == 0 ? 0 : agent_stage(a, specs, n, err);
	code = start_stages(a, specs, n, &h, &why);
	if (code == 0) {
		code = dependencies_install(&env, d, &h.install, &why);
		h.installing = code == 0;
	}
	if (code < 0) {
		log_error("%s", why.msg);
		note_failure(&h, code, &why);
	}
	code = finish_head(a, &h);
	if (code < 0 && err != NULL)
		*err = why;
	return code;
}

static void cancel_check(void *work, bool hard)
{
	install_cancel(work, hard);
}

int agent_check_dependencies(struct agent *a, const struct dependencies *d,
	const struct strings *environment, struct error *err)
{
	struct outcome outcome = {.err = err};
	struct install *check = NULL;
	const struct install_env env = {.loop = &a->loop,
		.inherited = a->inherited,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = &outcome};
	int code = d == NULL ? 0 : dependencies_check(&env, d, &check, err);

	if (check == NULL)
		return code;
	a->cancel = a->skip = cancel_check;
	a->work = check;
	code = agent_await(a, &outcome);
	if (!outcome.done)
		kill_install(a, check, &outcome.done, &outcome);
	if (outcome.done)
		install_free(check);
	return code;
}
