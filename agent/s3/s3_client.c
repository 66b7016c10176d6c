/* SPDX-License-Identifier: MIT */
/* One thread's requests: signed, sent, and sent again while what went wrong may pass. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int s3_client_new(struct s3 *s, struct cancel *cancel, struct s3_client **ret, struct error *err)
{
	struct s3_client *c = zalloc(sizeof(*c));
	int code = caller_new(&s->network, cancel, &c->caller, err);

	if (code < 0) {
		free(c);
		return code;
	}
	c->s3 = s;
	c->cancel = cancel;
	*ret = c;
	return 0;
}

void s3_client_free(struct s3_client *c)
{
	if (c == NULL)
		return;
	caller_free(c->caller);
	free(c);
}

static uint64_t random_below(uint64_t n)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != (ssize_t)sizeof(r))
		r = now_ns();
	return r % n;
}

int s3_pause(struct s3_client *c, uint64_t ms, struct error *err)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	pthread_condattr_t attr;
	struct cancel_watch watch = {.mutex = &mutex, .cond = &cond};
	struct timespec end;
	int waited = 0;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cond, &attr);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)(ms / 1000);
	end.tv_nsec += (long)(ms % 1000) * 1000000;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	cancel_watch(c->cancel, &watch);
	pthread_mutex_lock(&mutex);
	while (waited != ETIMEDOUT && !cancel_requested(c->cancel))
		waited = pthread_cond_timedwait(&cond, &mutex, &end);
	pthread_mutex_unlock(&mutex);
	cancel_unwatch(c->cancel, &watch);
	pthread_cond_destroy(&cond);
	pthread_condattr_destroy(&attr);
	return cancel_requested(c->cancel) ? error_set(err, -ECANCELED, "cancelled") : 0;
}

/* A request under way, over all its attempts. */
struct attempts {
	struct s3_client *client;
	const struct s3_request *what;
	unsigned sent;   /* in all */
	unsigned failed; /* those that counted */
	bool renewed, moved;
	uint64_t asked_ms; /* by Retry-After */

	/* The last one. */
	char *region;
	struct credentials_value keys;
	bool is_signed;
};

static void forget_last(struct attempts *a)
{
	free(take_ptr(&a->region));
	credentials_value_done(&a->keys);
	a->keys = (struct credentials_value){0};
}

static int send_once(struct attempts *a, struct reply *ret, struct error *err)
{
	const struct s3_request *what = a->what;
	struct s3 *s = a->client->s3;
	struct call_signature signature = {.service = "s3"};
	struct call call_it = {.method = what->method,
		.headers = what->headers,
		.body = what->body,
		.body_len = what->body_len,
		.into = what->into,
		.into_len = what->into_len};
	_free_ char *url = NULL;
	int code;

	forget_last(a);
	a->region = s3_region_of(s, what->bucket);
	code = s3_keys(s, a->client->cancel, &a->keys, err);
	if (code < 0)
		return code;
	a->is_signed = code > 0;
	signature.region = a->region;
	signature.access_key = a->keys.access_key;
	signature.secret_key = a->keys.secret_key;
	signature.session_token = a->keys.session_token;
	if (a->is_signed)
		call_it.signature = &signature;
	url = s3_url(s, a->region, what->bucket, what->key, what->query);
	call_it.url = url;
	a->sent++;
	return call(a->client->caller, &call_it, ret, err);
}

static int tell(const struct attempts *a, const struct s3_fault *f, struct error *err)
{
	_free_ char *endpoint = s3_endpoint_of(a->client->s3, a->region);
	_free_ char *who = s3_who(a->client->s3);
	const struct s3_subject subject = {.doing = a->what->doing,
		.bucket = a->what->bucket,
		.key = a->what->key,
		.permission = a->what->permission,
		.endpoint = endpoint,
		.region = a->region,
		.who = who,
		.is_signed = a->is_signed};

	return s3_fault_tell(f, &subject, err);
}

static bool is_success(const struct s3_request *what, const struct reply *r)
{
	if (what->also != 0 && r->status == what->also)
		return true;
	if (r->status < 200 || r->status >= 300)
		return false;
	return !what->late_error || r->body.len == 0 || strstr(r->body.s, "<Error") == NULL;
}

static void read_fault(struct attempts *a, const struct reply *r, struct s3_fault *ret)
{
	const char *retry_after = reply_header(r, "retry-after");
	bool late = r->status >= 200 && r->status < 300;
	uint64_t seconds = retry_after != NULL ? strtoull(retry_after, NULL, 10) : 0;

	/* An error after a 200 is one of the server's. */
	s3_fault_read(ret, late ? 500 : r->status, r->body.s, r->body.len);
	s3_fault_headers(ret, reply_header(r, "x-amz-request-id"),
		reply_header(r, "x-amz-bucket-region"), reply_header(r, "date"));
	a->asked_ms = (seconds < 60 ? seconds : 60) * 1000;
}

/* How long to wait before the next attempt, at most; 0: there is none. */
static uint64_t patience_ms(struct attempts *a, bool slower)
{
	const struct transfer_options *o = &a->client->s3->network;
	uint64_t ceiling = o->retry_base_ms * (slower ? 4 : 1),
		 most = o->retry_max_ms * (slower ? 2 : 1);

	if (a->failed++ >= o->retries)
		return 0;
	for (unsigned i = 1; i < a->failed && ceiling < most; i++)
		ceiling *= 2;
	if (ceiling > most)
		ceiling = most;
	return ceiling > 0 ? ceiling : 1;
}

static struct error copy_error(struct error err)
{
	return err;
}

/* Anywhere between nothing and what there is patience for: clients that were refused together must not come
 * back together. 0: once more. */
static int wait_or_give_up(struct attempts *a, bool slower, struct error *why)
{
	uint64_t most = patience_ms(a, slower), ms;

	if (most == 0)
		return error_set(why, why->code, "%s (gave up after %u attempts)",
			copy_error(*why).msg, a->sent);
	ms = random_below(most + 1);
	/* Who was told to slow down waits in any case. */
	if (slower && ms < most / 4)
		ms = most / 4;
	return s3_pause(a->client, ms > a->asked_ms ? ms : a->asked_ms, why);
}

/* 0: try again at once. */
static int follow(struct attempts *a, const struct s3_fault *f, struct error *why)
{
	struct s3 *s = a->client->s3;
	int code = tell(a, f, why);

	switch (s3_fault_judge(f, a->region)) {
	case S3_RENEW:
		if (!a->is_signed || a->renewed)
			return code;
		a->renewed = true;
		credentials_reject(s->credentials, a->keys.access_key);
		return 0;
	case S3_MOVED:
		if (a->moved)
			return code;
		a->moved = true;
		s3_found_region(s, a->what->bucket, f->region);
		return 0;
	case S3_LATER:
		return wait_or_give_up(a, false, why);
	case S3_SLOWER:
		return wait_or_give_up(a, true, why);
	case S3_FINAL:
		break;
	}
	return code;
}

static int silence(struct attempts *a, int code, struct error *why)
{
	if (a->sent == 0 || code == -ECANCELED)
		return code;
	error_prefix(why, "s3://%s/%s: cannot %s it", a->what->bucket,
		a->what->key != NULL ? a->what->key : "", a->what->doing);
	return call_is_transient(code) ? wait_or_give_up(a, false, why) : code;
}

/* 1: *ret is an answer; 0: once more. */
static int attempt(struct attempts *a, struct reply *ret, struct error *why)
{
	struct reply reply = {0};
	struct s3_fault fault;
	int code = send_once(a, &reply, why);

	a->asked_ms = 0;
	if (code < 0)
		return silence(a, code, why);
	if (is_success(a->what, &reply)) {
		*ret = reply;
		return 1;
	}
	read_fault(a, &reply, &fault);
	reply_done(&reply);
	return follow(a, &fault, why);
}

int s3_perform(struct s3_client *c, const struct s3_request *what, struct reply *ret,
	unsigned *ret_attempts, struct error *err)
{
	struct attempts a = {.client = c, .what = what};
	struct error why = {0};
	int code;

	do
		code = attempt(&a, ret, &why);
	while (code == 0);
	forget_last(&a);
	if (ret_attempts != NULL)
		*ret_attempts = a.sent;
	if (code < 0 && err != NULL)
		*err = why;
	return code < 0 ? code : 0;
}
