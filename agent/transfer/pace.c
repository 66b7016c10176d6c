/* SPDX-License-Identifier: MIT */
/* Growth by measurement: double, measure whether the rate rose, keep it or undo it. Pure
 * arithmetic, so that it can be tested without a network; called on the loop thread. */
#include "pace.h"

#define INTERVAL_NS 100000000ull  /* growth is not evaluated sooner */
#define HOLD_NS     2000000000ull /* after growth that was undone, or a refusal */

/* for a worker that is slower than the network: more would only grow old */
#define AHEAD_BYTES (8ull << 20)

/* A connection that carries 1.6 Gb/s is hardly the bottleneck. More of them are tried all the same,
 * but not soon: a short transfer would pay for the trial and end before it can gain by it. Bytes
 * per microsecond. */
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

void pace_refused(struct pace *p, uint64_t now_ns)
{
	/* When a server is overloaded, all ranges meet it at once: that counts as one event. */
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

static void undo_growth(struct pace *p)
{
	p->connections = p->connections_before;
	p->range_bytes = p->range_bytes_before;
}

/* Growth that did not raise the rate is undone, whether the network or the worker is the slower one
 * now: a gain for the worker would show in the rate. */
static void evaluate_growth(struct pace *p, uint64_t now_ns, double rate)
{
	if (p->grown && rate < p->rate * 1.1) {
		undo_growth(p);
		p->hold_ns = now_ns + HOLD_NS;
	}
	p->grown = false;
}

/* AHEAD_BYTES evens out irregularities; twice the bytes that are read while a request waits come on
 * top. */
static void update_ahead(struct pace *p, double rate)
{
	if (p->ranges > 0)
		p->ahead_bytes = AHEAD_BYTES + (uint64_t)rate * p->waited_us / 500000;
}

static void adjust(struct pace *p, uint64_t now_ns, bool starved, double rate,
	const struct pace_limits *limits)
{
	evaluate_growth(p, now_ns, rate);
	update_ahead(p, rate);
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
	/* Compared with the rate of the measurement in which bytes began to arrive, any growth
	 * would seem to pay. */
	if (p->begun_ns > 0)
		adjust(p, now_ns, starved, rate, limits);
	else if (p->bytes > 0)
		p->begun_ns = now_ns;
	p->since_ns = now_ns;
	p->slept_ns = slept_ns;
	p->bytes = p->lasted_us = 0;
	p->used = p->ranges = 0;
}
