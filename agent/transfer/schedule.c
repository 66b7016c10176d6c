/* SPDX-License-Identifier: MIT */
/* Assigns connections and blocks to objects; nothing else does. Loop thread.
 *
 * No object can lock out another forever. A range gets all its blocks before its request starts, so
 * it completes without anything else being freed. An object is admitted only with two blocks of its
 * own: while its worker holds one, the other can be filled. Objects for which there are none wait
 * in open(). A quarter of the shared blocks is left free for objects that are opened later. */
#include "engine.h"

enum { HEADROOM = 4 };

/* Enough to detect the format. */
#define PARTS_BYTES ((uint64_t)4096)

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

static uint64_t worker_position(struct http_object *o)
{
	uint64_t at;

	pthread_mutex_lock(&o->lock);
	at = o->position;
	pthread_mutex_unlock(&o->lock);
	return at;
}

static void append_range(struct http_object *o, struct range *r)
{
	struct range **at = &o->ranges;

	pthread_mutex_lock(&o->lock);
	while (*at != NULL)
		at = &(*at)->next;
	*at = r;
	pthread_mutex_unlock(&o->lock);
	o->planned = r->end;
}

/* Creates a range of up to len bytes, with blocks for all of it. NULL: no blocks are free. */
static struct range *plan_range(struct http_object *o, uint64_t len)
{
	struct range *r;
	struct block_pool *pool = o->t->pool;
	unsigned n = blocks_for(len);

	while (n > 0 && !schedule_reserve(o, n))
		n /= 2;
	if (n == 0) {
		/* The object's own blocks are the last resort: they are used only if nothing else
		 * of it is fetched or buffered. */
		if (o->planned > worker_position(o))
			return NULL;
		pool = o->own;
		n = blocks_for(len) < OWN_BLOCKS ? blocks_for(len) : OWN_BLOCKS;
		while (n > 0 && !block_pool_reserve(pool, n))
			n--;
		if (n == 0)
			return NULL;
	}
	r = range_new(o, o->planned, o->planned + min_u64(len, (uint64_t)n * BLOCK_BYTES));
	range_assign_blocks(r, pool, n);
	append_range(o, r);
	return r;
}

/* The length that the pace asks for, but short enough for the windows of all objects to fit into
 * memory, and for the last bytes to come over all connections and not over one. */
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

static unsigned count_incomplete(const struct http_object *o)
{
	unsigned n = 0;

	for (const struct range *r = o->ranges; r != NULL; r = r->next)
		n += r->state != RANGE_COMPLETE;
	return n;
}

static unsigned count_active(const struct http_object *o)
{
	unsigned n = 0;

	for (const struct range *r = o->ranges; r != NULL; r = r->next)
		n += r->state == RANGE_ACTIVE;
	return n;
}

/* Number of bytes from the worker's position on that it could read without waiting. */
static uint64_t bytes_ahead(const struct http_object *o, uint64_t position)
{
	uint64_t arrived = position;

	for (const struct range *r = o->ranges; r != NULL && r->start <= arrived; r = r->next)
		arrived = r->at > arrived ? r->at : arrived;
	return arrived - position;
}

/* The window has twice the bytes that the connections fetch at once: one half is read while the
 * other arrives. */
static bool may_plan(struct http_object *o)
{
	uint64_t window = 2ull * o->pace.connections * o->pace.range_bytes;
	uint64_t at;

	if (!o->discovered || o->whole || !o->wanted || o->planned >= o->version.size ||
		count_incomplete(o) >= o->pace.connections)
		return false;
	at = worker_position(o);
	return o->planned - at < window && bytes_ahead(o, at) < o->pace.ahead_bytes;
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

	return t->active < t->connections && o->host->active < t->opts->connections_per_host &&
	       crowd_admits(o, now_ns());
}

/* Objects with a waiting range, which has its blocks already, go first; then the object with the
 * fewest active connections, and among those the one with the most bytes left. */
static bool goes_before(struct http_object *a, struct http_object *b)
{
	bool a_waits = first_waiting(a) != NULL, b_waits = first_waiting(b) != NULL;

	if (a_waits != b_waits)
		return a_waits;
	if (count_active(a) != count_active(b))
		return count_active(a) < count_active(b);
	return a->version.size - a->planned > b->version.size - b->planned;
}

static bool is_candidate(struct http_object *o)
{
	return !o->starved && o->failed == 0 && o->own != NULL && has_connection(o) &&
	       (first_waiting(o) != NULL || may_plan(o));
}

static struct http_object *next_object(const struct transfer *t)
{
	struct http_object *best = NULL;

	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		if (is_candidate(o) && (best == NULL || goes_before(o, best)))
			best = o;
	}
	return best;
}

/* Admits objects in the order in which they were opened, so that none is overtaken forever. */
static void admit(struct transfer *t)
{
	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		if (o->own != NULL || o->failed < 0)
			continue;
		if (!block_pool_reserve(t->pool, OWN_BLOCKS))
			return;
		o->own = block_pool_new(BLOCK_BYTES, OWN_BLOCKS, engine_wake_loop, &t->inbox);
		plan_range(o, o->probe ? 1 : o->parts_only ? PARTS_BYTES : t->opts->range_min);
	}
}

/* Frees complete ranges that were consumed, and resumes streams that found no block. */
static void free_consumed_ranges(struct http_object *o)
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
	o->starved = false;
}

void schedule(struct transfer *t)
{
	struct http_object *o;

	for (o = t->objects; o != NULL; o = o->next)
		free_consumed_ranges(o);
	admit(t);
	while ((o = next_object(t)) != NULL) {
		struct range *r = first_waiting(o);

		if (r == NULL)
			r = plan_range(o, next_length(o));
		if (r == NULL)
			o->starved = true;
		else
			range_start(r);
	}
	for (o = t->objects; o != NULL; o = o->next)
		pace_used(&o->pace, count_incomplete(o));
}
