/* SPDX-License-Identifier: MIT */
/* The rate limit is one point in time: when all received bytes are paid for. Any thread. */
#include "throttle.h"
#include "text.h"
#include <stdatomic.h>
#include <stdlib.h>

/* A burst compensates for a thread that woke late. A share is the rate in bytes per second that one
 * connection should get. */
enum { BURST_NS = 50000000, SHARE = 256 * 1024, FEWEST_CONNECTIONS = 2 };

struct throttle {
	double ns_per_byte;
	uint64_t bytes_per_s;
	atomic_ullong paid_ns;
};

struct throttle *throttle_new(uint64_t bytes_per_s)
{
	struct throttle *t;

	if (bytes_per_s == 0)
		return NULL;
	t = zalloc(sizeof(*t));
	t->ns_per_byte = 1e9 / (double)bytes_per_s;
	t->bytes_per_s = bytes_per_s;
	return t;
}

void throttle_free(struct throttle *t)
{
	free(t);
}

void throttle_count(struct throttle *t, uint64_t bytes, uint64_t now_ns)
{
	unsigned long long paid, next;

	if (t == NULL)
		return;
	paid = atomic_load_explicit(&t->paid_ns, memory_order_relaxed);
	do {
		next = paid + BURST_NS < now_ns ? now_ns - BURST_NS : paid;
		next += (uint64_t)((double)bytes * t->ns_per_byte);
	} while (!atomic_compare_exchange_weak_explicit(
		&t->paid_ns, &paid, next, memory_order_relaxed, memory_order_relaxed));
}

uint64_t throttle_due_ns(const struct throttle *t, uint64_t now_ns)
{
	uint64_t paid;

	if (t == NULL)
		return 0;
	paid = atomic_load_explicit(&t->paid_ns, memory_order_relaxed);
	return paid > now_ns ? paid : 0;
}

unsigned throttle_connections(const struct throttle *t, unsigned most)
{
	uint64_t n;

	if (t == NULL)
		return most;
	n = t->bytes_per_s / SHARE;
	if (n < FEWEST_CONNECTIONS)
		n = FEWEST_CONNECTIONS;
	return n < most ? (unsigned)n : most;
}
