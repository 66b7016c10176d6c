/* SPDX-License-Identifier: MIT */
/* Waiting, as a step of the agent. Loop thread. */
#include "agent.h"
#include "defer.h"

struct pause {
	uv_timer_t timer;
	struct outcome *outcome;
};

static void on_pause_closed(uv_handle_t *h)
{
	struct pause *p = container_of((uv_timer_t *)h, struct pause, timer);

	agent_step_done(p->outcome, 0, NULL);
}

static void on_pause_over(uv_timer_t *timer)
{
	if (!uv_is_closing((uv_handle_t *)timer))
		uv_close((uv_handle_t *)timer, on_pause_closed);
}

static void cancel_pause(void *pause, bool hard)
{
	(void)hard;
	on_pause_over(&((struct pause *)pause)->timer);
}

void agent_pause(struct agent *a, uint64_t ms)
{
	struct pause *p = zalloc(sizeof(*p));

	p->outcome = outcome_new(NULL);
	uv_timer_init(&a->loop, &p->timer);
	uv_update_time(&a->loop);
	uv_timer_start(&p->timer, on_pause_over, ms, 0);
	a->cancel = cancel_pause;
	a->work = p;
	(void)agent_await(a, p->outcome);
	if (outcome_free(p->outcome))
		free(p);
}
