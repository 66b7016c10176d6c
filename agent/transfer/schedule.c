/* SPDX-License-Identifier: MIT */
/* Who goes next: connections and blocks are handed out here and nowhere else. Loop thread.
 *
 * No object can lock out another for ever. A range has all its blocks before it begins, so it ends
 * without anybody's help. An object is let in only with two blocks that nobody else can have; with
 * one in its worker's hands, the other can arrive. Objects for which there are none wait in open().
 * And of the shared blocks a quarter is left for objects that are still to come. */
#include "engine.h"

enum { HEADROOM = 4 };

/* Enough to tell what it is. */
#define SPARING_BYTES ((uint64_t)4096)

bool schedule_reserve(struct http_object *o, unsigned n)
{
	struct transfer *t = o->t;
	unsigned headroom = t->n_blocks / HEADROOM;

	if (headroom < OWN_BLOCKS)
		headroom = OWN_BLOCKS;
	if (!block_pool_reserve(t->pool, n + headroom))
		return false;
	block_pool_unreserve(t->pool, headroom);
	return true;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static unsigned blocks_for(uint64_t len)
{
	return (unsigned)((len + BLOCK_BYTES - 1) / BLOCK_BYTES);
}

static uint64_t position(struct http_object *o)
{
	uint64_t at;

	pthread_mutex_lock(&o->lock);
	at = o->position;
	pthread_mutex_unlock(&o->lock);
	return at;
}

static void append(struct http_object *o, struct range *r)
{
	struct range **at = &o->ranges;

	pthread_mutex_lock(&o->lock);
	while (*at != NULL)
		at = &(*at)->next;
	*at = r;
	pthread_mutex_unlock(&o->lock);
	o->planned = r->end;
}

/* A new range of up to len bytes, with blocks for all of it; NULL: no blocks. */
static struct range *plan(struct http_object *o, uint64_t len)
{
	struct range *r;
	struct block_pool *pool = o->t->pool;
	unsigned n = blocks_for(len);

	while (n > 0 && !schedule_reserve(o, n))
		n /= 2;
	if (n == 0) {
		/* Its own are for the worst case only: when there is nothing else on the way. */
		if (o->planned > position(o))
			return NULL;
		pool = o->own;
		n = blocks_for(len) < OWN_BLOCKS ? blocks_for(len) : OWN_BLOCKS;
		while (n > 0 && !block_pool_reserve(pool, n))
			n--;
		if (n == 0)
			return NULL;
	}
	r = range_new(o, o->planned, o->planned + min_u64(len, (uint64_t)n * BLOCK_BYTES));
	range_keep_blocks(r, pool, n);
	append(o, r);
	return r;
}

/* As long as the pace says, but so that all objects' windows fit into memory, and so that the last
 * bytes come over all connections and not over one. */
static uint64_t next_length(const struct http_object *o)
{
	const struct transfer *t = o->t;
	uint64_t left = o->version.size - o->planned;
	uint64_t least = min_u64(t->opts->range_min, left);
	uint64_t share = (uint64_t)t->n_blocks * BLOCK_BYTES / (2ull * o->pace.connections);
	unsigned objects = 0;
	uint64_t len;

	for (const struct http_object *other = t->objects; other != NULL; other = other->next)
		objects++;
	len = min_u64(o->pace.range_bytes, share / (objects > 0 ? objects : 1));
	len = min_u64(len, left / o->pace.connections);
	return len > least ? len : least;
}

static unsigned in_flight(const struct http_object *o)
{
	unsigned n = 0;

	for (const struct range *r = o->ranges; r != NULL; r = r->next)
		n += r->state != RANGE_COMPLETE;
	return n;
}

static unsigned at_work(const struct http_object *o)
{
	unsigned n = 0;

	for (const struct range *r = o->ranges; r != NULL; r = r->next)
		n += r->state == RANGE_ACTIVE;
	return n;
}

/* Bytes from the worker's position on that it could take without waiting. */
static uint64_t ahead(const struct http_object *o, uint64_t position)
{
	uint64_t arrived = position;

	for (const struct range *r = o->ranges; r != NULL && r->start <= arrived; r = r->next)
		arrived = r->at > arrived ? r->at : arrived;
	return arrived - position;
}

/* Twice the connections' worth of bytes: one half is read while the other arrives. */
static bool may_plan(struct http_object *o)
{
	uint64_t window = 2ull * o->pace.connections * o->pace.range_bytes;
	uint64_t at;

	if (!o->discovered || o->whole || !o->wanted || o->planned >= o->version.size ||
		in_flight(o) >= o->pace.connections)
		return false;
	at = position(o);
	return o->planned - at < window && ahead(o, at) < o->pace.ahead_bytes;
}

static struct range *first_waiting(const struct http_object *o)
{
	struct range *r;

	for (r = o->reads; r != NULL; r = r->next) {
		if (r->state == RANGE_WAITING)
			return r;
	}
	for (r = o->ranges; r != NULL && r->state != RANGE_WAITING; r = r->next)
		;
	return r;
}

static bool has_connection(const struct http_object *o)
{
	const struct transfer *t = o->t;

	return t->active < t->connections && o->host->active < t->opts->connections_per_host;
}

/* What has its blocks goes first; then whoever has the least, and of those the one with the most
 * left. */
static bool goes_before(struct http_object *a, struct http_object *b)
{
	bool a_waits = first_waiting(a) != NULL, b_waits = first_waiting(b) != NULL;

	if (a_waits != b_waits)
		return a_waits;
	if (at_work(a) != at_work(b))
		return at_work(a) < at_work(b);
	return a->version.size - a->planned > b->version.size - b->planned;
}

static bool is_candidate(struct http_object *o)
{
	return !o->full && o->failed == 0 && o->own != NULL && has_connection(o) &&
	       (first_waiting(o) != NULL || may_plan(o));
}

static struct http_object *next_in_line(const struct transfer *t)
{
	struct http_object *best = NULL;

	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		if (is_candidate(o) && (best == NULL || goes_before(o, best)))
			best = o;
	}
	return best;
}

/* In the order in which they came, so that none is overtaken for ever. */
static void admit(struct transfer *t)
{
	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		if (o->own != NULL || o->failed < 0)
			continue;
		if (!block_pool_reserve(t->pool, OWN_BLOCKS))
			return;
		o->own = block_pool_new(BLOCK_BYTES, OWN_BLOCKS, inbox_wake, &t->inbox);
		plan(o, o->probe ? 1 : o->sparing ? SPARING_BYTES : t->opts->range_min);
	}
}

/* Frees ranges that arrived and were read, and wakes streams that found no block. */
static void tidy(struct http_object *o)
{
	struct range *passed = NULL;

	pthread_mutex_lock(&o->lock);
	while (o->ranges != NULL && o->ranges->state == RANGE_COMPLETE &&
		o->ranges->end <= o->position) {
		struct range *r = o->ranges;

		o->ranges = r->next;
		r->next = passed;
		passed = r;
	}
	pthread_mutex_unlock(&o->lock);
	while (passed != NULL) {
		struct range *r = passed;

		passed = r->next;
		range_free(r);
	}
	for (struct range *r = o->ranges; r != NULL; r = r->next)
		range_resume(r);
	o->full = false;
}

void schedule(struct transfer *t)
{
	struct http_object *o;

	for (o = t->objects; o != NULL; o = o->next)
		tidy(o);
	admit(t);
	while ((o = next_in_line(t)) != NULL) {
		struct range *r = first_waiting(o);

		if (r == NULL)
			r = plan(o, next_length(o));
		if (r == NULL)
			o->full = true;
		else
			range_start(r);
	}
	for (o = t->objects; o != NULL; o = o->next)
		pace_used(&o->pace, in_flight(o));
}
