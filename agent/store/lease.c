/* SPDX-License-Identifier: MIT */
/* The lease of a creation: taken, renewed by a thread of its own, asked for, released. */
#include "lease.h"
#include "backend.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include <string.h>

enum {
	POLL_MS = 500,       /* how often to look whether the collection has ended */
	SAY_AFTER_MS = 2000, /* of waiting */
	RENEWALS = 3,        /* tried in a lifetime */
	MARGIN_DIVISOR = 5,  /* of the lifetime, in which a manifest must be published */
	RETRY_DIVISOR = 30   /* of the lifetime, after a renewal that failed */
};

struct lease {
	/* Set at creation. */
	struct store *store;
	char *key, *name;
	uint64_t life_ms;
	struct cancel cancel; /* ends the thread's requests */
	pthread_t thread;
	bool running;

	pthread_mutex_t mutex;
	pthread_cond_t cond; /* by CLOCK_MONOTONIC */
	/* Under the mutex. */
	bool stop;
	bool lost;           /* it was too old once: something may have been collected then */
	uint64_t renewed_ms; /* when the last renewal that succeeded was begun */
};

static struct lease *lease_new(struct store *s, const char *name, uint64_t life_ms)
{
	struct lease *l = zalloc(sizeof(*l));
	pthread_condattr_t attr;

	l->store = s;
	l->name = copy_text(name);
	l->key = lease_new_key(LEASE_CREATE);
	l->life_ms = life_ms;
	cancel_init(&l->cancel);
	pthread_mutex_init(&l->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->cond, &attr);
	pthread_condattr_destroy(&attr);
	return l;
}

static void lease_free(struct lease *l)
{
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mutex);
	cancel_done(&l->cancel);
	free(l->key);
	free(l->name);
	free(l);
}

static bool is_too_old_locked(struct lease *l)
{
	if (lease_clock_ms() - l->renewed_ms > l->life_ms - l->life_ms / MARGIN_DIVISOR)
		l->lost = true;
	return l->lost;
}

static int renew(struct lease *l, struct store_hand *h, struct error *err)
{
	uint64_t begun = lease_clock_ms();
	int code = lease_write(h, l->key, l->name, l->life_ms, err);

	if (code < 0)
		return code;
	pthread_mutex_lock(&l->mutex);
	if (l->renewed_ms != 0)
		(void)is_too_old_locked(l);
	l->renewed_ms = begun;
	pthread_mutex_unlock(&l->mutex);
	return 0;
}

/* Until ms have passed, or stop or the cancel is requested. */
static void sleep_locked(struct lease *l, uint64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&l->cond, &l->mutex, &until);
}

static void keep_renewing(struct lease *l, struct store_hand *h)
{
	uint64_t wait_ms = l->life_ms / RENEWALS;
	bool said = false;

	for (;;) {
		struct error err;
		bool stop;
		int code;

		pthread_mutex_lock(&l->mutex);
		if (!l->stop)
			sleep_locked(l, wait_ms);
		stop = l->stop;
		pthread_mutex_unlock(&l->mutex);
		if (stop)
			return;
		code = renew(l, h, &err);
		wait_ms = l->life_ms / (code < 0 ? RETRY_DIVISOR : RENEWALS);
		if (code < 0 && code != -ECANCELED && !said)
			log_warn("the lease of this creation was not renewed, trying again: %s",
				err.msg);
		said = code < 0;
	}
}

static void *renewer(void *ctx)
{
	struct lease *l = ctx;
	struct store_hand *h = NULL;
	struct error err;

	/* Without it the lease is too old in the end, and lease_check() says so. */
	if (store_hand_open(l->store, &l->cancel, &h, &err) < 0)
		log_warn("the lease of this creation cannot be renewed: %s", err.msg);
	else
		keep_renewing(l, h);
	store_hand_close(h);
	return NULL;
}

static void sleep_for_collector(struct lease *l, struct cancel *cancel)
{
	struct cancel_watch watch = {.mutex = &l->mutex, .cond = &l->cond};

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&l->mutex);
	if (!cancel_requested(cancel))
		sleep_locked(l, POLL_MS);
	pthread_mutex_unlock(&l->mutex);
	cancel_unwatch(cancel, &watch);
}

static int collection_is_live(struct lease *l, struct store_hand *h, struct error *err)
{
	struct leases all;
	int code;

	/* What happened before now does not matter yet. */
	l->renewed_ms = 0;
	code = renew(l, h, err);

	if (code == 0)
		code = leases_list(h, l->key, l->life_ms, &all, err);
	if (code < 0)
		return code;
	code = leases_have(&all, LEASE_COLLECT);
	leases_done(&all);
	return code;
}

static int await_collection(
	struct lease *l, struct store_hand *h, struct cancel *cancel, struct error *err)
{
	uint64_t begun = lease_clock_ms();
	bool said = false;

	for (;;) {
		int code = collection_is_live(l, h, err);

		if (code <= 0)
			return code;
		if (!said && lease_clock_ms() - begun >= SAY_AFTER_MS) {
			said = true;
			log_info(
				"waiting until what nobody needs any more has been removed from %s",
				l->store->name);
		}
		sleep_for_collector(l, cancel);
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
	}
}

int lease_take_for(struct store *s, const char *name, uint64_t life_ms, struct cancel *cancel,
	struct lease **ret, struct error *err)
{
	struct lease *l = lease_new(s, name, life_ms);
	struct store_hand *h = NULL;
	int code = store_hand_open(s, cancel, &h, err);

	if (code == 0)
		code = await_collection(l, h, cancel, err);
	store_hand_close(h);
	if (code == 0) {
		code = -pthread_create(&l->thread, NULL, renewer, l);
		l->running = code == 0;
		errno = -code;
		if (code < 0)
			error_set(err, code, "cannot start a thread: %m");
	}
	if (code < 0) {
		lease_release(l);
		return code;
	}
	*ret = l;
	return 0;
}

int lease_take(struct store *s, const char *name, struct cancel *cancel, struct lease **ret,
	struct error *err)
{
	return lease_take_for(s, name, LEASE_LIFE_MS, cancel, ret, err);
}

int lease_check(struct lease *l, struct error *err)
{
	bool lost;

	pthread_mutex_lock(&l->mutex);
	lost = is_too_old_locked(l);
	pthread_mutex_unlock(&l->mutex);
	if (!lost)
		return 0;
	return error_set(err, -ERR_RESTART,
		"the creation's lease on %s was not renewed in time (the store did not answer, or "
		"this "
		"machine slept), and what it counted on may have been removed: create again, what "
		"is "
		"still there is not sent twice",
		l->store->name);
}

static void end_thread(struct lease *l)
{
	if (!l->running)
		return;
	pthread_mutex_lock(&l->mutex);
	l->stop = true;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->mutex);
	cancel_request(&l->cancel);
	pthread_join(l->thread, NULL);
}

void lease_release(struct lease *l)
{
	struct store_hand *h = NULL;

	if (l == NULL)
		return;
	end_thread(l);
	/* Also after a cancel: while it is there nothing can be deleted or collected. */
	if (store_hand_open(l->store, NULL, &h, NULL) == 0)
		lease_remove(h, l->key);
	store_hand_close(h);
	lease_free(l);
}
