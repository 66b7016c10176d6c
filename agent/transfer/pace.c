/* SPDX-License-Identifier: MIT */
/* Growth by measurement: double, look whether it paid, keep it or take it back. Pure arithmetic, so
 * that it can be tested without a network; the loop thread calls it. */
#include "pace.h"

#define INTERVAL_NS 100000000ull  /* the soonest that a growth can be judged */
#define HOLD_NS     2000000000ull /* after growth that did not pay, or trouble */

#define AHEAD_BYTES (8ull << 20) /* for a worker that is the slower one: more would only grow old */

/* A connection that carries 1.6 Gb/s is hardly what is slow. More of them are tried all the same, but not soon: what is
 * over by then would have had the trial and nothing of its result. Bytes per microsecond. */
#define FAST 200

enum { CONNECTIONS_FIRST = 4 };

void pace_init(struct pace *p, uint64_t now_ns, uint64_t range_bytes)
{
	*p = (struct pace){
		.connections = CONNECTIONS_FIRST,
		.range_bytes = range_bytes,
		.ahead_bytes = AHEAD_BYTES,
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
	if (p->ranges++ == 0 || waited_us < p->waited_us)
		p->waited_us = waited_us;
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

/* A range should last eight times as long as the wait for its first byte. */
static bool ranges_mostly_wait(const struct pace *p)
{
	return p->ranges * p->waited_us * 8 > p->lasted_us;
}

static bool connections_are_fast(const struct pace *p)
{
	return p->ranges > 0 && p->bytes > p->lasted_us * FAST;
}

static bool may_add_connections(const struct pace *p, const struct pace_limits *limits)
{
	return p->used >= p->connections && p->connections < limits->connections &&
	       (!connections_are_fast(p) || p->since_ns >= p->begun_ns + HOLD_NS);
}

static void grow(struct pace *p, double rate, const struct pace_limits *limits)
{
	p->connections_before = p->connections;
	p->range_bytes_before = p->range_bytes;
	if (may_add_connections(p, limits))
		p->connections = (unsigned)twice(p->connections, limits->connections);
	if (ranges_mostly_wait(p))
		p->range_bytes = twice(p->range_bytes, limits->range_bytes);
	p->rate = rate;
	p->grown = p->connections > p->connections_before || p->range_bytes > p->range_bytes_before;
}

static void take_back(struct pace *p)
{
	p->connections = p->connections_before;
	p->range_bytes = p->range_bytes_before;
}

/* Growth that did not pay goes, whoever is the slower one now: what the worker gained by it would
 * show in the rate. */
static void judge(struct pace *p, uint64_t now_ns, double rate)
{
	if (p->grown && rate < p->rate * 1.1) {
		take_back(p);
		p->hold_ns = now_ns + HOLD_NS;
	}
	p->grown = false;
}

/* Besides what makes up for irregularities, twice what is read while a request waits. */
static void look_ahead(struct pace *p, double rate)
{
	if (p->ranges > 0)
		p->ahead_bytes = AHEAD_BYTES + (uint64_t)rate * p->waited_us / 500000;
}

static void look(struct pace *p, uint64_t now_ns, bool starved, double rate,
	const struct pace_limits *limits)
{
	judge(p, now_ns, rate);
	look_ahead(p, rate);
	if (starved && now_ns >= p->hold_ns)
		grow(p, rate, limits);
}

void pace_tick(struct pace *p, uint64_t now_ns, uint64_t slept_ns, const struct pace_limits *limits)
{
	uint64_t elapsed = now_ns - p->since_ns;
	bool starved = (slept_ns - p->slept_ns) * 4 > elapsed;
	double rate = (double)p->bytes * 1e9 / (double)elapsed;

	if (elapsed < p->interval_ns)
		return;
	/* Beside the rate of the look in which bytes began to arrive, any growth would seem to pay. */
	if (p->begun_ns > 0)
		look(p, now_ns, starved, rate, limits);
	else if (p->bytes > 0)
		p->begun_ns = now_ns;
	p->since_ns = now_ns;
	p->slept_ns = slept_ns;
	p->bytes = p->lasted_us = 0;
	p->used = p->ranges = 0;
}
