/* SPDX-License-Identifier: MIT */
/* Records which hosts have answered, since when requests to the others have failed, and whether
 * their names exist. libcurl does not distinguish a name that does not exist from a name server
 * that does not answer, so a name that it could not resolve is looked up once more, on a detached
 * thread. Any thread. */
#include "patience.h"
#include "defer.h"
#include "engine.h"
#include "log.h"
#include "text.h"
#include "thread.h"
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* The largest exponent of the backoff: a wait is at most eight times as long as the first. */
enum { STEPS_MAX = 4 };

struct host_origin {
	struct host_origin *next;
	char *name; /* "https://host:443" */
	bool answered;
	bool logged;
	bool lookup_running; /* a lookup of its name is under way */
	bool no_such_name;   /* the result of the last lookup */
	uint64_t since_ns;   /* time of its first failure; 0: none */
};

/* Referenced by its owner and by each lookup that is under way. */
struct patience {
	uint64_t ns; /* how long a host is waited for; set at creation */
	pthread_mutex_t lock;

	/* Under lock. */
	unsigned refs;
	bool closed; /* patience_free() was called */
	struct host_origin *origins;
};

struct name_lookup {
	struct patience *patience;
	struct host_origin *origin;
	char *name, *why;
};

struct patience *patience_new(uint64_t ms)
{
	struct patience *p;

	if (ms == 0)
		return NULL;
	p = zalloc(sizeof(*p));
	p->ns = ms * 1000000;
	p->refs = 1;
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void unref_and_unlock(struct patience *p)
{
	bool last = --p->refs == 0;

	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	while (p->origins != NULL) {
		struct host_origin *o = p->origins;

		p->origins = o->next;
		free(o->name);
		free(o);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void patience_free(struct patience *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->closed = true;
	unref_and_unlock(p);
}

bool patience_is_busy(long status)
{
	/* From 520 on: statuses of CDNs for an origin that they do not reach. */
	return status == 425 || status == 429 || (status >= 502 && status <= 504) ||
	       (status >= 520 && status <= 530);
}

static struct host_origin *get_origin_locked(struct patience *p, const char *url)
{
	_free_ char *name = request_url_origin(url);
	struct host_origin *o = p->origins;

	if (name == NULL)
		name = text_copy(url);
	while (o != NULL && strcmp(o->name, name) != 0)
		o = o->next;
	if (o != NULL)
		return o;
	o = zalloc(sizeof(*o));
	o->name = take_ptr(&name);
	o->next = p->origins;
	p->origins = o;
	return o;
}

void patience_answered(struct patience *p, const char *url, long status)
{
	if (p == NULL || status < 200 || patience_is_busy(status))
		return;
	pthread_mutex_lock(&p->lock);
	get_origin_locked(p, url)->answered = true;
	pthread_mutex_unlock(&p->lock);
}

static void log_unreachable_locked(const struct patience *p, struct host_origin *o, const char *why)
{
	const struct log_field fields[] = {log_field_text("origin", o->name),
		log_field_text("why", why), log_field_ns("patience_seconds", p->ns)};

	if (o->logged || p->closed)
		return;
	o->logged = true;
	log_event(LOG_WARN, EVENT_HOST_LATE, fields, ARRAY_LEN(fields),
		"not reachable yet: %s; trying for %g s", why, (double)p->ns / 1e9);
}

static bool is_no_name(int code)
{
	return code == EAI_NONAME || code == EAI_NODATA;
}

static void *lookup_name(void *ctx)
{
	struct name_lookup *l = ctx;
	struct patience *p = l->patience;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int code = getaddrinfo(l->name, NULL, &hints, &found);

	if (code == 0)
		freeaddrinfo(found);
	pthread_mutex_lock(&p->lock);
	l->origin->lookup_running = false;
	l->origin->no_such_name = is_no_name(code);
	if (code != 0 && !is_no_name(code))
		log_unreachable_locked(p, l->origin, l->why);
	unref_and_unlock(p);
	free(l->name);
	free(l->why);
	free(l);
	return NULL;
}

static void start_lookup_locked(
	struct patience *p, struct host_origin *o, const struct failed_attempt *why)
{
	struct name_lookup *l;
	pthread_t thread;

	if (o->lookup_running)
		return;
	l = zalloc(sizeof(*l));
	*l = (struct name_lookup){.patience = p,
		.origin = o,
		.name = text_copy(why->name),
		.why = text_copy(why->why)};
	if (thread_start_extra(&thread, lookup_name, l)) {
		pthread_detach(thread);
		o->lookup_running = true;
		p->refs++;
	} else {
		free(l->name);
		free(l->why);
		free(l);
	}
}

/* Whether the host has not answered yet but still may. */
static bool is_awaited(
	struct patience *p, const char *url, const struct failed_attempt *why, uint64_t now)
{
	struct host_origin *o;
	bool awaited;

	if (p == NULL || (why->status != 0 && !patience_is_busy(why->status)))
		return false;
	pthread_mutex_lock(&p->lock);
	o = get_origin_locked(p, url);
	if (o->since_ns == 0)
		o->since_ns = now;
	awaited = !o->answered;
	if (awaited && why->name != NULL) {
		awaited = !o->no_such_name;
		start_lookup_locked(p, o, why);
	} else if (awaited) {
		log_unreachable_locked(p, o, why->why);
	}
	pthread_mutex_unlock(&p->lock);
	return awaited;
}

/* The time counts from the host's first failure, whichever request met it. */
static bool has_time(struct patience *p, const char *url, uint64_t now)
{
	bool has;

	pthread_mutex_lock(&p->lock);
	has = now - get_origin_locked(p, url)->since_ns < p->ns;
	pthread_mutex_unlock(&p->lock);
	return has;
}

bool patience_again(struct patience *p, const char *url, struct tried *t, unsigned retries,
	const struct failed_attempt *why)
{
	uint64_t now = now_ns();

	if (t->failed++ == 0)
		t->since_ns = now;
	t->by_time = is_awaited(p, url, why, now);
	if (!t->by_time)
		return t->failed <= retries;
	/* A request that starts when that time is over still gets its own attempts. */
	return has_time(p, url, now) || (t->failed <= retries && now - t->since_ns < p->ns);
}

unsigned patience_step(const struct tried *t)
{
	return t->by_time && t->failed > STEPS_MAX ? STEPS_MAX : t->failed;
}

const char *patience_end(const struct patience *p, const struct tried *t, char buf[static 96])
{
	if (t->by_time)
		snprintf(buf, 96, "gave up after %g s: patience in [network] of agent.ini",
			(double)p->ns / 1e9);
	else
		snprintf(buf, 96, "gave up after %u attempts", t->failed);
	return buf;
}
