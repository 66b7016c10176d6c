/* SPDX-License-Identifier: MIT */
/* The current credentials: found by the first thread that needs them, cached, and renewed by a
 * thread of their own before they expire. */
#include "credentials.h"
#include "credentials_private.h"
#include "defer.h"
#include "redact.h"
#include "thread.h"
#include <pthread.h>
#include <string.h>

enum {
	RENEW_BEFORE_S = 300,
	/* How long the result "there are none" is cached, because a search takes seconds. */
	NONE_FOUND_FOR_S = 30,
	RETRY_S = 10 /* retry after a failed renewal */
};

struct credentials {
	/* Set at creation. */
	struct credentials_options opts;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool searching;                 /* one thread runs a search */
	unsigned long asks;             /* completed searches, without cancelled ones */
	struct credentials_found found; /* access_key NULL: none yet */
	char *source;
	bool rejected;
	int failed; /* result of the last search, at failed_at */
	struct error why;
	time_t failed_at;

	/* The renewal thread. */
	bool has_thread, stopping; /* under lock */
	time_t renew_at;           /* under lock; 0: never */
	pthread_t thread;
	struct cancel stop;
};

struct credentials *credentials_new(const struct credentials_options *opts)
{
	static const char *const secrets[] = {
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"};
	struct credentials *c = zalloc(sizeof(*c));

	c->opts = *opts;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	cancel_init(&c->stop);
	for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
		const char *value = credentials_variable(opts->environment, secrets[i]);

		if (value != NULL)
			redact_add(value);
	}
	return c;
}

static void stop_thread(struct credentials *c)
{
	bool has_thread;

	cancel_request(&c->stop);
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	has_thread = c->has_thread;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (has_thread)
		pthread_join(c->thread, NULL);
}

void credentials_free(struct credentials *c)
{
	if (c == NULL)
		return;
	stop_thread(c);
	credentials_found_done(&c->found);
	free(c->source);
	cancel_done(&c->stop);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Renewal is due before the expiry by half of the remaining lifetime, but by at most five minutes:
 * in time, and insensitive to a clock that is slightly wrong. */
static time_t when_to_renew(time_t now, time_t expires)
{
	time_t before = (expires - now) / 2;

	if (expires == 0)
		return 0;
	if (before > RENEW_BEFORE_S)
		before = RENEW_BEFORE_S;
	return expires - before > now ? expires - before : now + 1;
}

static bool has_expired(const struct credentials_found *f)
{
	return f->expires != 0 && time(NULL) >= f->expires;
}

static bool is_good_locked(const struct credentials *c)
{
	return c->found.value.access_key != NULL && !c->rejected && !has_expired(&c->found);
}

static void store_found_locked(
	struct credentials *c, const struct credentials_found *f, char *source)
{
	credentials_found_done(&c->found);
	free(c->source);
	c->found = *f;
	c->source = source;
	c->rejected = false;
	c->renew_at = when_to_renew(time(NULL), f->expires);
}

/* Searches for credentials; those that have expired already are an error, from any provider. */
static int find_unexpired(struct credentials *c, struct cancel *cancel,
	struct credentials_found *ret, char **ret_source, struct error *err)
{
	_free_ char *source = NULL;
	int code = chain_find(&c->opts, cancel, ret, &source, err);

	if (code < 0)
		return code;
	if (has_expired(ret)) {
		credentials_found_done(ret);
		return error_set(err, -EACCES,
			"credentials from %s have expired already; check this machine's clock",
			source);
	}
	*ret_source = take_ptr(&source);
	return 0;
}

/* Runs a search, and stores its result. The lock is released during the search. */
static int search_locked(struct credentials *c, struct cancel *cancel)
{
	struct credentials_found f;
	struct error why = {0};
	char *source = NULL;
	int code;

	c->searching = true;
	pthread_mutex_unlock(&c->lock);
	code = find_unexpired(c, cancel, &f, &source, &why);
	pthread_mutex_lock(&c->lock);
	c->searching = false;
	if (code == 0)
		store_found_locked(c, &f, source);
	if (code != -ECANCELED)
		c->asks++;
	c->failed = code;
	c->why = why;
	c->failed_at = time(NULL);
	pthread_cond_broadcast(&c->changed);
	return code;
}

/* --- the renewal thread --- */

static void wait_until_due_locked(struct credentials *c)
{
	struct timespec due;

	for (;;) {
		due = (struct timespec){.tv_sec = c->renew_at};
		if (c->stopping || (!c->searching && time(NULL) >= c->renew_at && c->renew_at != 0))
			return;
		if (c->searching || c->renew_at == 0)
			pthread_cond_wait(&c->changed, &c->lock);
		else
			pthread_cond_timedwait(&c->changed, &c->lock, &due);
	}
}

static void *renewal_thread(void *ctx)
{
	struct credentials *c = ctx;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		wait_until_due_locked(c);
		if (c->stopping)
			break;
		/* The error is stored: credentials_get() returns it when the old credentials have
		 * expired. */
		if (search_locked(c, &c->stop) < 0)
			c->renew_at = time(NULL) + RETRY_S;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void start_thread_locked(struct credentials *c)
{
	if (c->has_thread || c->renew_at == 0 || c->stopping)
		return;
	c->has_thread = thread_start_extra(&c->thread, renewal_thread, c);
}

/* --- requests for credentials --- */

static bool none_found_lately_locked(const struct credentials *c)
{
	return c->failed == -ENOKEY && c->found.value.access_key == NULL && c->asks > 0 &&
	       time(NULL) - c->failed_at < NONE_FOUND_FOR_S;
}

/* Threads that wait for a search share its result. */
static int get_locked(struct credentials *c, struct cancel *cancel)
{
	unsigned long asks = c->asks;

	if (none_found_lately_locked(c))
		return c->failed;
	while (c->searching && c->asks == asks && !is_good_locked(c)) {
		if (cancel_requested(cancel))
			return -ECANCELED;
		pthread_cond_wait(&c->changed, &c->lock);
	}
	if (is_good_locked(c))
		return 0;
	return c->asks != asks ? c->failed : search_locked(c, cancel);
}

static void copy_value(const struct credentials_value *from, struct credentials_value *ret)
{
	*ret = (struct credentials_value){.access_key = text_copy(from->access_key),
		.secret_key = text_copy(from->secret_key),
		.session_token = text_copy(from->session_token)};
}

int credentials_get(struct credentials *c, struct cancel *cancel, struct credentials_value *ret,
	struct error *err)
{
	struct cancel_watch watch = {.mutex = &c->lock, .cond = &c->changed};
	int code;

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&c->lock);
	code = get_locked(c, cancel);
	if (code == 0) {
		start_thread_locked(c);
		copy_value(&c->found.value, ret);
	} else if (code == -ECANCELED) {
		error_set(err, code, "cancelled");
	} else {
		error_set(err, code, "%s", c->why.msg);
	}
	pthread_mutex_unlock(&c->lock);
	cancel_unwatch(cancel, &watch);
	return code;
}

bool credentials_last(struct credentials *c, struct credentials_value *ret)
{
	bool any;

	pthread_mutex_lock(&c->lock);
	any = c->found.value.access_key != NULL;
	if (any)
		copy_value(&c->found.value, ret);
	pthread_mutex_unlock(&c->lock);
	return any;
}

void credentials_reject(struct credentials *c, const char *access_key)
{
	pthread_mutex_lock(&c->lock);
	if (c->found.value.access_key != NULL &&
		strcmp(c->found.value.access_key, access_key) == 0) {
		c->rejected = true;
		if (c->renew_at != 0)
			c->renew_at = time(NULL);
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->lock);
}

char *credentials_describe(struct credentials *c)
{
	char *source;

	pthread_mutex_lock(&c->lock);
	source = text_copy(c->source);
	pthread_mutex_unlock(&c->lock);
	return source != NULL ? source : chain_describe(&c->opts);
}
