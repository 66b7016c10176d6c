/* SPDX-License-Identifier: MIT */
/* The stages and the install of dependencies side by side: one step, which is over when both are. Loop
 * thread. */
#include "head.h"
#include "defer.h"
#include "log.h"
#include <errno.h>

struct head {
	struct stage_set *set;
	struct install *install;
	bool staging, installing;
	int code; /* of the first failure that is not the echo of another */
	struct error err;
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
		h->err = *err;
	}
	cancel_head(h, false);
}

static void finish_part(struct head *h, int code, const struct error *err)
{
	if (code < 0)
		note_failure(h, code, err);
	if (!h->staging && !h->installing)
		agent_step_done(&h->outcome, h->code, &h->err);
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
	code = agent_need_sources(a, specs, n, err);
	agent_fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = on_staged;
	env.on_done_ctx = h;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &h->set, err);
	h->staging = code == 0;
	return code;
}

/* Both, or the one, that was started; to their end. Only a thread that does not stop in time is left behind. */
static int await_head(struct agent *a, struct head *h)
{
	if (!h->staging && !h->installing)
		return h->code;
	a->cancel = cancel_head;
	a->work = h;
	return agent_await(a, &h->outcome);
}

/* What was abandoned keeps what it uses. */
static void head_free(struct head *h)
{
	if (!h->installing)
		install_free(h->install);
	if (!h->staging)
		stage_set_free(h->set);
	if (!h->installing && !h->staging)
		free(h);
}

int agent_head(struct agent *a, const struct stage_spec *specs, size_t n,
	const struct dependencies *d, const struct strings *environment, struct error *err)
{
	struct install_env env;
	struct error why = {0};
	struct head *h;
	int code;

	if (d == NULL)
		return n == 0 ? 0 : agent_stage(a, specs, n, err);
	h = zalloc(sizeof(*h));
	h->outcome.err = err;
	env = install_env(a, environment, h);
	code = start_stages(a, specs, n, h, &why);
	if (code == 0) {
		code = dependencies_install(&env, d, &h->install, &why);
		h->installing = code == 0;
	}
	if (code < 0) {
		log_error("%s", why.msg);
		note_failure(h, code, &why);
		*err = why;
	}
	code = await_head(a, h);
	head_free(h);
	return code;
}

static void cancel_check(void *work, bool hard)
{
	install_cancel(work, hard);
}

int agent_check_dependencies(struct agent *a, const struct dependencies *d,
	const struct strings *environment, struct error *err)
{
	struct outcome *outcome = outcome_new(err);
	struct install *check = NULL;
	const struct install_env env = {.loop = &a->loop,
		.inherited = a->inherited,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = outcome};
	int code = d == NULL ? 0 : dependencies_check(&env, d, &check, err);

	if (check == NULL) {
		free(outcome);
		return code;
	}
	a->cancel = cancel_check;
	a->work = check;
	code = agent_await(a, outcome);
	if (outcome_free(outcome))
		install_free(check);
	return code;
}
