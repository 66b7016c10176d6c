/* SPDX-License-Identifier: MIT */
/* The agent as the command's parent. Loop thread. */
#include "supervise.h"
#include "defer.h"
#include "log.h"
#include <string.h>

enum { HURRY_MS = 1000, PATIENCE_MS = 1000 };

/* The budget and its signals. */

static uint64_t now_ms(const struct supervision *s)
{
	return uv_now(&s->agent->loop);
}

static void at_moment(struct supervision *s, uint64_t moment_ms, uv_timer_cb do_this)
{
	uint64_t now = now_ms(s);

	uv_timer_start(&s->budget, do_this, moment_ms > now ? moment_ms - now : 0, 0);
}

static void kill_command(struct supervision *s)
{
	s->killed = s->killed || !s->ended;
	job_kill(s->job);
}

static void on_command_share_over(uv_timer_t *h)
{
	struct supervision *s = h->data;
	char share[32], period[32];

	log_warn("%s did not end within %s, 70 %% of the grace period of %s: killing it",
		s->ended ? "the command's group" : "the command",
		print_duration(
			(grace_command_ends(&s->grace) - s->grace.began_ms) * 1000000, share),
		print_duration(s->grace.period_ms * 1000000, period));
	kill_command(s);
}

static void on_actions_killed(uv_timer_t *h)
{
	const struct supervision *s = h->data;

	if (s->agent->cancel != NULL)
		s->agent->cancel(s->agent->work, true);
}

static void on_actions_end(uv_timer_t *h)
{
	struct supervision *s = h->data;

	s->agent->cancelled = true;
	if (s->agent->cancel != NULL)
		s->agent->cancel(s->agent->work, false);
	at_moment(s, grace_actions_killed(&s->grace), on_actions_killed);
}

static void watch_budget(struct supervision *s)
{
	if (!s->grace.running)
		return;
	if (s->job != NULL)
		at_moment(s, grace_command_ends(&s->grace), on_command_share_over);
	else
		at_moment(s, grace_actions_end(&s->grace), on_actions_end);
	agent_limit(s->agent,
		grace_over(&s->grace) > now_ms(s) ? grace_over(&s->grace) - now_ms(s) : 0);
}

static void begin_grace(struct supervision *s, int signum)
{
	char period[32];

	grace_begin(&s->grace, now_ms(s));
	log_info("SIG%s: everything ends within %s", sigabbrev_np(signum),
		print_duration(s->grace.period_ms * 1000000, period));
	watch_budget(s);
}

static void on_hurry_over(uv_timer_t *h)
{
	struct supervision *s = h->data;

	if (s->job != NULL)
		kill_command(s);
	else if (s->agent->skip != NULL)
		s->agent->skip(s->agent->work, true);
}

static void hurry_up(struct supervision *s, int signum)
{
	log_info("SIG%s again: the step under way has 1 s", sigabbrev_np(signum));
	if (s->job == NULL && s->agent->skip != NULL)
		s->agent->skip(s->agent->work, false);
	uv_timer_start(&s->hurry, on_hurry_over, HURRY_MS, 0);
}

/* SIGINT and the like are the command's business (an interactive one goes on after them): only SIGTERM
 * begins the budget while it runs. Afterwards, or when it was never started, there is nothing else that
 * they could be about. */
static void heed(struct supervision *s, int signum)
{
	bool same = s->asked != 0 && now_ms(s) - s->asked_ms < SAME_SIGNAL_MS;

	s->asked = signum;
	s->asked_ms = now_ms(s);
	if (!s->grace.running && (signum == SIGTERM || s->ended || s->job == NULL))
		begin_grace(s, signum);
	else if (s->grace.running && !same && (signum == SIGTERM || signum == SIGINT))
		hurry_up(s, signum);
}

static void on_signal(void *ctx, const struct signalfd_siginfo *info)
{
	struct supervision *s = ctx;
	int signum = (int)info->ssi_signo;

	if (s->job != NULL)
		job_signal(s->job, info);
	else if (signum == SIGTSTP || signum == SIGTTIN || signum == SIGTTOU)
		signals_stop_here(signum, false);
	if (signal_asks_to_end(signum))
		heed(s, signum);
}

/* Opening and closing. */

static void adopt_timer(struct supervision *s, uv_timer_t *timer)
{
	uv_timer_init(&s->agent->loop, timer);
	uv_unref((uv_handle_t *)timer);
	timer->data = s;
}

/* A signal ended the start, at once; whoever sent it waits for the whole grace period. */
static void resume_grace(struct supervision *s)
{
	uv_update_time(&s->agent->loop);
	s->asked = s->agent->signal;
	s->asked_ms = s->agent->signal_ms;
	s->agent->cancelled = false;
	grace_begin(&s->grace, s->agent->signal_ms);
	watch_budget(s);
}

void supervision_open(struct supervision *s, struct agent *a)
{
	*s = (struct supervision){.agent = a,
		.settings = a->settings,
		.grace = {.period_ms = a->settings->grace_period_ms}};
	adopt_timer(s, &s->budget);
	adopt_timer(s, &s->hurry);
	a->on_signal = on_signal;
	a->on_signal_ctx = s;
	if (a->signal != 0)
		resume_grace(s);
}

static void on_timer_closed(uv_handle_t *h)
{
	struct supervision *s = h->data;

	s->timers_closed = ++s->n_closed == 2;
}

void supervision_close(struct supervision *s)
{
	s->agent->on_signal = NULL;
	uv_close((uv_handle_t *)&s->budget, on_timer_closed);
	uv_close((uv_handle_t *)&s->hurry, on_timer_closed);
	agent_run_until(s->agent, &s->timers_closed);
}

/* The command. */

static void on_command_end(void *ctx, int wait_status)
{
	struct supervision *s = ctx;

	s->ended = true;
	s->ended_by = s->asked;
	s->terminated = s->grace.running;
	s->wait_status = wait_status;
}

static void on_group_gone(void *ctx, bool left)
{
	struct supervision *s = ctx;

	s->gone = true;
	if (left)
		log_warn("the command left processes in its group, which were ended");
}

/* Killed, and the time is up, but it or its group has not gone: the kernel holds it, or a debugger does. */
static void abandon_command(struct supervision *s)
{
	log_warn("%s was killed, but is still there: is it stuck in a driver or a file system?",
		s->ended ? "the command's group" : "the command");
	if (!s->ended)
		on_command_end(s, SIGKILL);
	s->job = NULL;
	s->agent->abandoned = true;
}

static int start_command(
	struct supervision *s, const struct plan *p, int *ret_exit_code, struct error *err)
{
	const struct job_options opts = {.loop = &s->agent->loop,
		.argv = p->command.v,
		.env = p->environment.v,
		.inherited = s->agent->inherited,
		.forward_group = s->settings->forward == FORWARD_GROUP,
		.group_wait_ms = s->settings->group_wait_ms,
		.on_end = on_command_end,
		.on_gone = on_group_gone,
		.ctx = s};

	return job_start(&opts, &s->job, ret_exit_code, err);
}

static void deliver_kept(struct supervision *s)
{
	for (size_t i = 0; i < s->agent->n_kept; i++)
		job_signal(s->job, &s->agent->kept[i]);
	s->agent->n_kept = 0;
}

static void judge(
	const struct supervision *s, const struct cgroup_memory *before, struct ending *ret)
{
	struct cgroup_memory after = cgroup_memory_read("");
	enum oom_verdict verdict = s->killed ? OOM_NONE : oom_judge(before, &after, s->wait_status);
	_free_ char *why = oom_sentence(verdict, &after);

	ending_judge(s, verdict, why, ret);
}

int supervise_command(
	struct supervision *s, const struct plan *p, struct ending *ret, struct error *err)
{
	struct cgroup_memory before = cgroup_memory_read("");
	int code = start_command(s, p, &ret->exit_code, err);

	if (code < 0)
		return code;
	deliver_kept(s);
	process_trim();
	agent_run_until(s->agent, &s->gone);
	uv_timer_stop(&s->hurry);
	uv_timer_stop(&s->budget);
	if (s->gone)
		job_free(take_ptr(&s->job));
	else
		abandon_command(s);
	watch_budget(s);
	judge(s, &before, ret);
	return 0;
}

/* What comes after it. */

void supervise_end_actions(struct supervision *s, struct plan *p)
{
	char period[32], why[96];

	if (plan_actions(p, POINT_EXPERIMENT_END)->n == 0)
		return;
	snprintf(why, sizeof(why), "the grace period of %s is over",
		print_duration(s->grace.period_ms * 1000000, period));
	agent_all_actions(s->agent, p->runfile, POINT_EXPERIMENT_END, &p->environment, why);
	agent_rest(s->agent);
}

uint64_t supervision_patience_ms(const struct supervision *s)
{
	uint64_t over = grace_over(&s->grace), now = now_ms(s);
	uint64_t half = over > now ? (over - now) / 2 : 0;

	return half < PATIENCE_MS ? half : PATIENCE_MS;
}
