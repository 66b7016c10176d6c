/* SPDX-License-Identifier: MIT */
/* The very end: nothing that the run started outlives the agent. Loop thread. */
#include "agent.h"
#include "log.h"

enum { TICK_MS = 20, KILLED_MS = 1000 };

/* Whether they have ended is looked at by the clock, not by SIGCHLD: each that ends may leave others. */
struct watch {
	uv_timer_t tick;
	unsigned ticks, kill_at;
	bool done, closed;
};

static void on_tick(uv_timer_t *h)
{
	struct watch *w = h->data;

	w->done = orphans_are_gone() || w->ticks >= w->kill_at + KILLED_MS / TICK_MS;
	if (w->done) {
		uv_timer_stop(h); /* or the loop would sleep until the next tick */
		return;
	}
	if (w->ticks == 0)
		orphans_signal(SIGTERM);
	if (w->ticks >= w->kill_at)
		orphans_signal(SIGKILL); /* again and again: some may just have been born */
	w->ticks++;
}

static void on_closed(uv_handle_t *h)
{
	((struct watch *)h->data)->closed = true;
}

void agent_end_remains(struct agent *a, uint64_t term_ms)
{
	struct watch w = {.kill_at = (unsigned)(term_ms / TICK_MS)};

	if (a->out_of_time) {
		orphans_signal(SIGKILL);
		return;
	}
	if (orphans_are_gone())
		return;
	uv_timer_init(&a->loop, &w.tick);
	w.tick.data = &w;
	uv_timer_start(&w.tick, on_tick, 0, TICK_MS);
	agent_run_until(a, &w.done);
	uv_close((uv_handle_t *)&w.tick, on_closed);
	while (!w.closed)
		uv_run(&a->loop, UV_RUN_ONCE);
	if (w.ticks > 0)
		log_info("processes that had left the command's group were ended with the run");
}
