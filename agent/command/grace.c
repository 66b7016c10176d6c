/* SPDX-License-Identifier: MIT */
/* How the grace budget is shared. Nothing but arithmetic. */
#include "grace.h"

enum {
	COMMAND_PERCENT = 70,
	LAST_WORDS_MS = 2000,  /* kept for the end of end actions, the reason and the orphans */
	LAST_WORDS_SHARE = 10, /* but of a short period only a tenth */
};

void grace_begin(struct grace *g, uint64_t now_ms)
{
	if (g->running)
		return;
	g->running = true;
	g->began_ms = now_ms;
}

static uint64_t last_words_ms(const struct grace *g)
{
	uint64_t share = g->period_ms / LAST_WORDS_SHARE;

	return share < LAST_WORDS_MS ? share : LAST_WORDS_MS;
}

static uint64_t moment(const struct grace *g, uint64_t after_ms)
{
	return g->running ? g->began_ms + after_ms : UINT64_MAX;
}

uint64_t grace_command_ends(const struct grace *g)
{
	return moment(g, g->period_ms * COMMAND_PERCENT / 100);
}

uint64_t grace_actions_end(const struct grace *g)
{
	return moment(g, g->period_ms - last_words_ms(g));
}

uint64_t grace_actions_killed(const struct grace *g)
{
	return moment(g, g->period_ms - last_words_ms(g) / 2);
}

uint64_t grace_over(const struct grace *g)
{
	return moment(g, g->period_ms);
}
