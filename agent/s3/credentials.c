/* SPDX-License-Identifier: MIT */
/* The credentials in force: found once, by whoever asks first, kept, and renewed before they expire. */
#include "credentials.h"
#include "chain.h"
#include "defer.h"
#include "redact.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum {
	RENEW_BEFORE_S = 300,
	NOBODY_FOR_S = 30, /* that nobody has any is believed so long: to ask again takes seconds */
	RETRY_S = 10       /* after a renewal that failed while the old ones are still good */
};

struct credentials {
	/* Set at creation. */
	struct credentials_options opts;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool searching;     /* one thread asks */
	unsigned long asks; /* searches that have ended, but for those that were cancelled */
	struct found found; /* access_key NULL: none yet */
	char *source;
	bool rejected;
	int failed; /* how the last search ended */
	struct error why;
	time_t failed_at;

	/* The thread that renews. */
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
		const char *value = aws_variable(opts->environment, secrets[i]);

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
	found_done(&c->found);
	free(c->source);
	cancel_done(&c->stop);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Half of what is left, but five minutes of it at most: they come in time, and a clock that is a little
 * off does no harm. */
static time_t when_to_renew(time_t now, time_t expires)
{
	time_t before = (expires - now) / 2;

	if (expires == 0)
		return 0;
	if (before > RENEW_BEFORE_S)
		before = RENEW_BEFORE_S;
	return expires - before > now ? expires - before : now + 1;
}

static bool has_expired(const struct found *f)
{
	return f->expires != 0 && time(NULL) >= f->expires;
}

static bool is_good_locked(const struct credentials *c)
{
	return c->found.value.access_key != NULL && !c->rejected && !has_expired(&c->found);
}

static void *renew_main(void *ctx);

static void start_thread_locked(struct credentials *c)
{
	sigset_t all, before;

	if (c->has_thread || c->renew_at == 0 || c->stopping)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	c->has_thread = pthread_create(&c->thread, NULL, renew_main, c) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void keep_locked(struct credentials *c, const struct found *f, char *source)
{
	found_done(&c->found);
	free(c->source);
	c->found = *f;
	c->source = source;
	c->rejected = false;
	c->renew_at = when_to_renew(time(NULL), f->expires);
}

/* What has expired is as good as nothing, whoever gave it. */
static int find_good(struct credentials *c, struct cancel *cancel, struct found *ret,
	char **ret_source, struct error *err)
{
	_free_ char *source = NULL;
	int code = chain_find(&c->opts, cancel, ret, &source, err);

	if (code < 0)
		return code;
	if (has_expired(ret)) {
		found_done(ret);
		return error_set(err, -EACCES,
			"credentials from %s have expired already; check this machine's clock",
			source);
	}
	*ret_source = take_ptr(&source);
	return 0;
}

/* The lock is given back while it asks. */
static int search_locked(struct credentials *c, struct cancel *cancel)
{
	struct found f;
	struct error why = {0};
	char *source = NULL;
	int code;

	c->searching = true;
	pthread_mutex_unlock(&c->lock);
	code = find_good(c, cancel, &f, &source, &why);
	pthread_mutex_lock(&c->lock);
	c->searching = false;
	if (code == 0)
		keep_locked(c, &f, source);
	if (code != -ECANCELED)
		c->asks++;
	c->failed = code;
	c->why = why;
	c->failed_at = time(NULL);
	pthread_cond_broadcast(&c->changed);
	return code;
}

static bool nobody_lately_locked(const struct credentials *c)
{
	return c->failed == -ENOKEY && c->found.value.access_key == NULL && c->asks > 0 &&
	       time(NULL) - c->failed_at < NOBODY_FOR_S;
}

/* Those who wait for a search share what it finds. */
static int get_locked(struct credentials *c, struct cancel *cancel)
{
	unsigned long asks = c->asks;

	if (nobody_lately_locked(c))
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
	*ret = (struct credentials_value){.access_key = copy_text(from->access_key),
		.secret_key = copy_text(from->secret_key),
		.session_token = copy_text(from->session_token)};
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
	source = copy_text(c->source);
	pthread_mutex_unlock(&c->lock);
	return source != NULL ? source : chain_describe(&c->opts);
}

/* The thread that renews. */

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

static void *renew_main(void *ctx)
{
	struct credentials *c = ctx;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		wait_until_due_locked(c);
		if (c->stopping)
			break;
		/* Why it failed is told to whoever asks when the old ones are no good any more. */
		if (search_locked(c, &c->stop) < 0)
			c->renew_at = time(NULL) + RETRY_S;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}
