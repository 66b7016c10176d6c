/* SPDX-License-Identifier: MIT */
/* Growth by measurement: double, look whether it paid, keep it or take it back. Pure arithmetic, so
 * that it can be tested without a network; the loop thread calls it. */
#include "pace.h"

#define INTERVAL_NS 100000000ull  /* the soonest that a growth can be judged */
#define HOLD_NS     2000000000ull /* after growth that did not pay, or trouble */

enum { CONNECTIONS_FIRST = 4 };

void pace_init(struct pace *p, uint64_t now_ns, uint64_t range_bytes)
{
	*p = (struct pace){
		.connections = CONNECTIONS_FIRST,
		.range_bytes = range_bytes,
		.interval_ns = INTERVAL_NS,
		.since_ns = now_ns,
	};
}

void pace_latency(struct pace *p, uint64_t latency_us)
{
	uint64_t seen_after = 2 * latency_us * 1000;

	if (seen_after > p->interval_ns)
		p->interval_ns = seen_after;
}

void pace_range_done(struct pace *p, uint64_t waited_us, uint64_t lasted_us)
{
	p->waited_us += waited_us;
	p->lasted_us += lasted_us;
}

void pace_used(struct pace *p, unsigned connections)
{
	if (connections > p->used)
		p->used = connections;
}

void pace_trouble(struct pace *p, uint64_t now_ns)
{
	/* When a server is short, all ranges tell of it at once: that is one trouble. */
	if (now_ns + HOLD_NS - p->hold_ns < p->interval_ns)
		return;
	p->connections = p->connections > 2 ? p->connections / 2 : 1;
	p->grown = false;
	p->hold_ns = now_ns + HOLD_NS;
}

static uint64_t twice(uint64_t n, uint64_t limit)
{
	return n * 2 < limit ? n * 2 : limit;
}

static void grow(struct pace *p, double rate, const struct pace_limits *limits)
{
	p->before = p->connections;
	p->connections = (unsigned)twice(p->connections, limits->connections);
	p->rate = rate;
	p->grown = true;
	p->range_bytes = twice(p->range_bytes, limits->range_bytes);
}

static void judge(struct pace *p, uint64_t now_ns, double rate, bool all_used,
	const struct pace_limits *limits)
{
	if (p->grown && rate < p->rate * 1.1) {
		p->connections = p->before;
		p->grown = false;
		p->hold_ns = now_ns + HOLD_NS;
		return;
	}
	p->grown = false;
	if (all_used && now_ns >= p->hold_ns && p->connections < limits->connections)
		grow(p, rate, limits);
}

void pace_tick(struct pace *p, uint64_t now_ns, uint64_t slept_ns, const struct pace_limits *limits)
{
	uint64_t elapsed = now_ns - p->since_ns;
	bool starved = (slept_ns - p->slept_ns) * 4 > elapsed;

	if (elapsed < p->interval_ns)
		return;
	/* A range should last eight times as long as the wait for its first byte. */
	if (starved && p->waited_us * 8 > p->lasted_us)
		p->range_bytes = twice(p->range_bytes, limits->range_bytes);
	if (starved)
		judge(p, now_ns, (double)p->bytes * 1e9 / (double)elapsed,
			p->used >= p->connections, limits);
	else
		p->grown = false;
	p->since_ns = now_ns;
	p->slept_ns = slept_ns;
	p->bytes = p->waited_us = p->lasted_us = 0;
	p->used = 0;
}
