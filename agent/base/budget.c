/* SPDX-License-Identifier: MIT */
/* The agent's memory budget: one half for the network, one half for the stages. Only counts;
 * nothing is allocated here. Any thread. */
#include "budget.h"
#include "cgroup.h"
#include "progress.h"
#include "text.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

struct budget {
	/* Set at creation. */
	uint64_t total, half;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t released;
	uint64_t reserved; /* of the stages' half */
};

#define MIB ((uint64_t)1 << 20)

static uint64_t default_total(void)
{
	uint64_t quarter = cgroup_memory_limit("") / 4;

	return quarter < 256 * MIB ? quarter : 256 * MIB;
}

struct budget *budget_new(uint64_t total_bytes)
{
	struct budget *b = zalloc(sizeof(*b));

	b->total = total_bytes > 0 ? total_bytes : default_total();
	if (b->total < 16 * MIB)
		b->total = 16 * MIB;
	b->half = b->total / 2;
	pthread_mutex_init(&b->mutex, NULL);
	pthread_cond_init(&b->released, NULL);
	return b;
}

void budget_free(struct budget *b)
{
	if (b == NULL)
		return;
	assert(b->reserved == 0);
	pthread_cond_destroy(&b->released);
	pthread_mutex_destroy(&b->mutex);
	free(b);
}

uint64_t budget_total(const struct budget *b)
{
	return b->total;
}

uint64_t budget_stage_half(const struct budget *b)
{
	return b->half;
}

uint64_t budget_network_half(const struct budget *b)
{
	return b->total - b->half;
}

static bool reserve_locked(struct budget *b, uint64_t bytes)
{
	if (bytes > b->half - b->reserved)
		return false;
	b->reserved += bytes;
	return true;
}

bool budget_try_reserve(struct budget *b, uint64_t bytes)
{
	bool done;

	pthread_mutex_lock(&b->mutex);
	done = reserve_locked(b, bytes);
	pthread_mutex_unlock(&b->mutex);
	return done;
}

/* Sleeps until so many bytes were reserved, or cancel is requested. Returns whether they were. */
static bool await_bytes_locked(struct budget *b, uint64_t bytes, const struct cancel *cancel)
{
	while (!cancel_requested(cancel)) {
		if (reserve_locked(b, bytes))
			return true;
		pthread_cond_wait(&b->released, &b->mutex);
	}
	return false;
}

int budget_reserve(struct budget *b, uint64_t bytes, struct cancel *cancel, struct error *err)
{
	return budget_reserve_counted(b, bytes, cancel, NULL, err);
}

int budget_reserve_counted(struct budget *b, uint64_t bytes, struct cancel *cancel,
	atomic_ullong *waited_ns, struct error *err)
{
	struct cancel_watch watch = {.mutex = &b->mutex, .cond = &b->released};
	char need[32], have[32];
	bool done;

	if (bytes > b->half)
		return error_set(err, -ERR_LIMIT,
			"needs %s of memory, and memory_budget leaves %s for decoding; set memory_budget (in agent.ini or STAGERUN_AGENT_MEMORY_BUDGET) to at least %" PRIu64
			"M",
			units_print_size(bytes, need), units_print_size(b->half, have),
			bytes / (MIB / 2) + 2);
	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&b->mutex);
	done = !cancel_requested(cancel) && reserve_locked(b, bytes);
	if (!done) {
		uint64_t since_ns = now_ns();

		done = await_bytes_locked(b, bytes, cancel);
		if (waited_ns != NULL)
			count(waited_ns, now_ns() - since_ns);
	}
	pthread_mutex_unlock(&b->mutex);
	cancel_unwatch(cancel, &watch);
	return done ? 0 : error_set(err, -ECANCELED, "cancelled");
}

void budget_release(struct budget *b, uint64_t bytes)
{
	pthread_mutex_lock(&b->mutex);
	assert(b->reserved >= bytes);
	b->reserved -= bytes;
	pthread_cond_broadcast(&b->released);
	pthread_mutex_unlock(&b->mutex);
}
