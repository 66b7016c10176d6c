/* SPDX-License-Identifier: MIT */
/* Records the spans of a run. Any thread. */
#include "defer.h"
#include "progress.h"
#include "redact.h"
#include "report_private.h"
#include "text.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct timeline {
	/* Constant. */
	uint64_t unix_ns, monotonic_ns; /* the same moment by two clocks */

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct span *spans; /* the span of an id is at id - 1 */
	size_t n, cap;
	uint64_t dropped;
};

struct timeline *timeline_new(void)
{
	struct timeline *t = zalloc(sizeof(*t));
	struct timespec now;

	pthread_mutex_init(&t->mutex, NULL);
	clock_gettime(CLOCK_REALTIME, &now);
	t->unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	t->monotonic_ns = now_ns();
	return t;
}

static void span_done(struct span *s)
{
	for (size_t i = 0; i < s->n_facts; i++)
		free(s->facts[i].text);
	free(s->facts);
	free(s->name);
	free(s->why);
}

void timeline_free(struct timeline *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++)
		span_done(&t->spans[i]);
	free(t->spans);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}

static void *grow(void *array, size_t n, size_t size)
{
	void *more = reallocarray(array, n, size);

	if (more == NULL)
		abort();
	return more;
}

/* Requests may be many; they must not take the room of what comes after them. */
static bool has_room(const struct timeline *t, enum span_kind kind)
{
	return t->n < (kind == SPAN_RANGE ? TIMELINE_SPANS_MAX / 2 : TIMELINE_SPANS_MAX);
}

/* Takes the span. Returns its id, 0 if there are too many. Call it with the mutex locked. */
static unsigned add_span(struct timeline *t, struct span *s)
{
	if (!has_room(t, s->kind)) {
		t->dropped++;
		span_done(s);
		return 0;
	}
	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 64 : 2 * t->cap;
		t->spans = grow(t->spans, t->cap, sizeof(*t->spans));
	}
	t->spans[t->n++] = *s;
	return (unsigned)t->n;
}

unsigned timeline_begin_at(struct timeline *t, unsigned parent, enum span_kind kind,
	const char *name, uint64_t begin_ns)
{
	struct span s = {.parent = parent, .kind = kind, .begin_ns = begin_ns};
	unsigned id;

	if (t == NULL)
		return 0;
	s.name = redact_own(text_copy(name));
	pthread_mutex_lock(&t->mutex);
	id = add_span(t, &s);
	pthread_mutex_unlock(&t->mutex);
	return id;
}

unsigned timeline_begin(struct timeline *t, unsigned parent, enum span_kind kind, const char *name)
{
	return timeline_begin_at(t, parent, kind, name, now_ns());
}

/* The fact of this key, which is added if there is none. Call it with the mutex locked. */
static struct span_fact *span_fact(struct span *s, const char *key)
{
	for (size_t i = 0; i < s->n_facts; i++)
		if (strcmp(s->facts[i].key, key) == 0)
			return &s->facts[i];
	s->facts = grow(s->facts, s->n_facts + 1, sizeof(*s->facts));
	s->facts[s->n_facts] = (struct span_fact){.key = key};
	return &s->facts[s->n_facts++];
}

/* Takes text. */
static void set_fact(struct timeline *t, unsigned id, const char *key, uint64_t number, char *text)
{
	struct span_fact *f;

	pthread_mutex_lock(&t->mutex);
	f = span_fact(&t->spans[id - 1], key);
	free(f->text);
	f->text = text;
	f->number = number;
	pthread_mutex_unlock(&t->mutex);
}

void timeline_set_number(struct timeline *t, unsigned id, const char *key, uint64_t number)
{
	if (t != NULL && id != 0)
		set_fact(t, id, key, number, NULL);
}

void timeline_set_text(struct timeline *t, unsigned id, const char *key, const char *text)
{
	if (t != NULL && id != 0 && text != NULL)
		set_fact(t, id, key, 0, redact_own(text_copy(text)));
}

void timeline_end_at(
	struct timeline *t, unsigned id, enum span_end end, const char *why, uint64_t ended_ns)
{
	_free_ char *shown = NULL;
	struct span *s;

	if (t == NULL || id == 0)
		return;
	shown = why != NULL ? redact_own(text_copy(why)) : NULL;
	pthread_mutex_lock(&t->mutex);
	s = &t->spans[id - 1];
	if (s->end == SPAN_OPEN) {
		s->end = end;
		s->ended_ns = ended_ns;
		s->why = take_ptr(&shown);
	}
	pthread_mutex_unlock(&t->mutex);
}

void timeline_end(struct timeline *t, unsigned id, enum span_end end, const char *why)
{
	timeline_end_at(t, id, end, why, now_ns());
}

void timeline_each(
	struct timeline *t, void (*fn)(void *ctx, unsigned id, const struct span *s), void *ctx)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->mutex);
	for (size_t i = 0; i < t->n; i++)
		fn(ctx, (unsigned)i + 1, &t->spans[i]);
	pthread_mutex_unlock(&t->mutex);
}

uint64_t timeline_dropped(struct timeline *t)
{
	uint64_t n;

	if (t == NULL)
		return 0;
	pthread_mutex_lock(&t->mutex);
	n = t->dropped;
	pthread_mutex_unlock(&t->mutex);
	return n;
}

uint64_t timeline_unix_ns(const struct timeline *t, uint64_t monotonic_ns)
{
	return t->unix_ns + monotonic_ns - t->monotonic_ns;
}

const char *timeline_kind_name(enum span_kind k)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		SPAN_KINDS(X)
#undef X
	};

	return names[k];
}

const char *timeline_end_name(enum span_end e)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		SPAN_ENDS(X)
#undef X
	};

	return names[e];
}

static const struct span_fact *find_fact(const struct span *s, const char *key)
{
	for (size_t i = 0; i < s->n_facts; i++)
		if (strcmp(s->facts[i].key, key) == 0)
			return &s->facts[i];
	return NULL;
}

const char *timeline_text(const struct span *s, const char *key)
{
	const struct span_fact *f = find_fact(s, key);

	return f != NULL ? f->text : NULL;
}

uint64_t timeline_number(const struct span *s, const char *key)
{
	const struct span_fact *f = find_fact(s, key);

	return f != NULL ? f->number : 0;
}
