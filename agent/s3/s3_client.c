/* SPDX-License-Identifier: MIT */
/* The connection of one thread to S3: signs and sends requests, and retries them after transient
 * failures. Worker threads. */
#include "defer.h"
#include "random.h"
#include "s3_private.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

int s3_client_new(struct s3 *s, struct cancel *cancel, struct s3_client **ret, struct error *err)
{
	struct s3_client *c = zalloc(sizeof(*c));
	int code = call_caller_new(&s->network, cancel, &c->caller, err);

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
	call_caller_free(c->caller);
	free(c);
}

void s3_client_limit(struct s3_client *c, uint64_t ms)
{
	c->limit_ms = ms;
}

uint64_t s3_clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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

/* A request in progress, over all its attempts. */
struct attempts {
	struct s3_client *client;
	const struct s3_request *what;
	unsigned sent;      /* attempts sent */
	struct tried tried; /* attempts that count against the retries */
	long status;        /* of the last answer; 0: there was none */
	char *url;
	bool keys_renewed, region_changed;
	/* The wait that the server's Retry-After asked for; 0: none. */
	uint64_t asked_ms;
	uint64_t end_ms; /* deadline by s3_clock_ms(); 0: none */

	/* Of the last attempt. */
	char *region;
	struct credentials_value keys;
	bool is_signed;
};

static void reset_attempt(struct attempts *a)
{
	free(take_ptr(&a->region));
	free(take_ptr(&a->url));
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
	int code;

	reset_attempt(a);
	a->status = 0;
	a->region = s3_region_of(s, what->bucket);
	code = s3_check_bucket(s, what->bucket, err);
	if (code == 0)
		code = s3_keys(s, a->client->cancel, &a->keys, err);
	if (code < 0)
		return code;
	if (a->end_ms != 0) {
		uint64_t now = s3_clock_ms();

		if (now >= a->end_ms)
			return error_set(err, -ETIMEDOUT, "its time was over");
		call_it.timeout_ms = a->end_ms - now;
	}
	a->is_signed = code > 0;
	signature.region = a->region;
	signature.access_key = a->keys.access_key;
	signature.secret_key = a->keys.secret_key;
	signature.session_token = a->keys.session_token;
	if (a->is_signed)
		call_it.signature = &signature;
	a->url = s3_url(s, a->region, what->bucket, what->key, what->query);
	call_it.url = a->url;
	a->sent++;
	return call(a->client->caller, &call_it, ret, err);
}

static int describe_fault(const struct attempts *a, const struct s3_fault *f, struct error *err)
{
	_free_ char *endpoint = s3_shown_endpoint(a->client->s3, a->region);
	_free_ char *who = s3_credentials_source(a->client->s3);
	const struct s3_subject subject = {.doing = a->what->doing,
		.bucket = a->what->bucket,
		.key = a->what->key,
		.permission = a->what->permission,
		.endpoint = endpoint,
		.region = a->region,
		.who = who,
		.is_signed = a->is_signed};

	return s3_fault_error(f, &subject, err);
}

static bool is_success(const struct s3_request *what, const struct reply *r)
{
	if (what->also_status != 0 && r->status == what->also_status)
		return true;
	if (r->status < 200 || r->status >= 300)
		return false;
	return !what->late_error || r->body.len == 0 || strstr(r->body.s, "<Error") == NULL;
}

static void read_fault(struct attempts *a, const struct reply *r, struct s3_fault *ret)
{
	const char *retry_after = call_reply_header(r, "retry-after");
	bool late = r->status >= 200 && r->status < 300;
	uint64_t seconds = retry_after != NULL ? strtoull(retry_after, NULL, 10) : 0;

	/* An error in the body of a 200 answer is a failure of the server. */
	s3_fault_read(ret, late ? 500 : r->status, r->body.s, r->body.len);
	s3_fault_headers(ret, call_reply_header(r, "x-amz-request-id"),
		call_reply_header(r, "x-amz-bucket-region"), call_reply_header(r, "date"));
	a->asked_ms = (seconds < 60 ? seconds : 60) * 1000;
}

/* The upper limit of the wait before the next attempt; 0: there is no next attempt. */
static uint64_t max_wait_ms(struct attempts *a, bool slower, const struct error *why)
{
	const struct transfer_options *o = &a->client->s3->network;
	uint64_t ceiling = o->retry_base_ms * (slower ? 4 : 1),
		 most = o->retry_max_ms * (slower ? 2 : 1);

	if (!call_again(a->client->caller, a->url, &a->tried, o->retries, a->status, why->msg))
		return 0;
	for (unsigned i = 1; i < patience_step(&a->tried) && ceiling < most; i++)
		ceiling *= 2;
	if (ceiling > most)
		ceiling = most;
	return ceiling > 0 ? ceiling : 1;
}

static struct error copy_error(struct error err)
{
	return err;
}

/* Waits for a random time below the limit (full jitter), so that clients that were refused together
 * do not return together. 0: try again. */
static int wait_or_give_up(struct attempts *a, bool slower, struct error *why)
{
	uint64_t most = max_wait_ms(a, slower, why), ms;
	char end[96];

	if (most == 0)
		return error_set(why, why->code, "%s (%s)", copy_error(*why).msg,
			patience_end(a->client->s3->network.patience, &a->tried, end));
	ms = random_below(most + 1);
	/* After SlowDown there is always a wait. */
	if (slower && ms < most / 4)
		ms = most / 4;
	if (ms < a->asked_ms)
		ms = a->asked_ms;
	if (a->end_ms != 0 && s3_clock_ms() + ms >= a->end_ms)
		return error_set(why, why->code,
			"%s (gave up after %u attempts: its time was over)", copy_error(*why).msg,
			a->sent);
	return s3_pause(a->client, ms, why);
}

/* Handles an answer that is no success. 0: try again now; negative: give up. */
static int handle_fault(struct attempts *a, const struct s3_fault *f, struct error *why)
{
	struct s3 *s = a->client->s3;
	int code = describe_fault(a, f, why);

	switch (s3_fault_classify(f, a->region)) {
	case S3_RENEW:
		if (!a->is_signed || a->keys_renewed)
			return code;
		a->keys_renewed = true;
		credentials_reject(s->credentials, a->keys.access_key);
		return 0;
	case S3_MOVED:
		if (a->region_changed)
			return code;
		a->region_changed = true;
		s3_set_region(s, a->what->bucket, f->region);
		return 0;
	case S3_LATER:
		return wait_or_give_up(a, false, why);
	case S3_SLOWER:
		return wait_or_give_up(a, true, why);
	case S3_FINAL:
		if (a->what->ret_unknown != NULL)
			*a->what->ret_unknown = s3_fault_is_unknown(f, a->region);
		break;
	}
	return code;
}

static int handle_no_answer(struct attempts *a, int code, struct error *why)
{
	if (a->sent == 0 || code == -ECANCELED)
		return code;
	error_prefix(why, "s3://%s/%s: cannot %s it", a->what->bucket,
		a->what->key != NULL ? a->what->key : "", a->what->doing);
	return call_is_transient(code) ? wait_or_give_up(a, false, why) : code;
}

/* 1: *ret is the answer; 0: try again; negative: give up. */
static int try_request(struct attempts *a, struct reply *ret, struct error *why)
{
	struct reply reply = {0};
	struct s3_fault fault;
	int code = send_once(a, &reply, why);

	a->asked_ms = 0;
	if (code < 0)
		return handle_no_answer(a, code, why);
	if (is_success(a->what, &reply)) {
		*ret = reply;
		return 1;
	}
	a->status = reply.status;
	read_fault(a, &reply, &fault);
	call_reply_done(&reply);
	return handle_fault(a, &fault, why);
}

int s3_perform(struct s3_client *c, const struct s3_request *what, struct reply *ret,
	unsigned *ret_attempts, struct error *err)
{
	struct attempts a = {.client = c,
		.what = what,
		.end_ms = c->limit_ms > 0 ? s3_clock_ms() + c->limit_ms : 0};
	struct error why = {0};
	int code;

	do
		code = try_request(&a, ret, &why);
	while (code == 0);
	reset_attempt(&a);
	if (ret_attempts != NULL)
		*ret_attempts = a.sent;
	if (code < 0 && err != NULL)
		*err = why;
	return code < 0 ? code : 0;
}
