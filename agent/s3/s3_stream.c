/* SPDX-License-Identifier: MIT */
/* Reads one object through the transfer engine, whose requests are signed here with the credentials
 * of the moment: credentials that are renewed during a transfer apply to the rest of it. Opened by
 * worker threads; the engine calls back on the loop thread. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* During a transfer: the wait before a refused request is sent again with renewed credentials. */
enum { RENEWAL_MS = 1000 };

/* The state of one object, shared by the object and the function that opens it. Constant, except
 * for the data that struct s3 guards itself. */
struct s3_signer {
	struct s3 *s3;
	char *bucket, *key, *region, *endpoint, *who;
	bool is_signed;

	/* Any thread. */
	atomic_uint refs;
	atomic_bool again; /* open it again: in another region, or with other credentials */
};

static void signer_unref(void *ctx)
{
	struct s3_signer *p = ctx;

	if (atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	free(p->bucket);
	free(p->key);
	free(p->region);
	free(p->endpoint);
	free(p->who);
	free(p);
}

static bool on_keys(void *ctx, struct http_keys *ret)
{
	const struct s3_signer *p = ctx;
	struct credentials_value v;

	if (!p->is_signed || !credentials_last(p->s3->credentials, &v))
		return false;
	*ret = (struct http_keys){.access_key = take_ptr(&v.access_key),
		.secret_key = take_ptr(&v.secret_key),
		.session_token = take_ptr(&v.session_token)};
	return true;
}

static const char *or_null(const char *s)
{
	return s[0] != '\0' ? s : NULL;
}

/* Requests new credentials. The thread that opens the object waits for them in the next attempt;
 * the loop thread must not wait, so it retries later. */
static bool reject_keys(struct s3_signer *p, const struct http_refusal *r, uint64_t *ret_after_ms)
{
	if (!p->is_signed)
		return false;
	credentials_reject(p->s3->credentials, r->access_key);
	*ret_after_ms = RENEWAL_MS;
	atomic_store(&p->again, true);
	return r->in_transfer;
}

static bool is_worth_another(struct s3_signer *p, const struct s3_fault *f,
	const struct http_refusal *r, uint64_t *ret_after_ms)
{
	switch (s3_fault_classify(f, p->region)) {
	case S3_LATER:
	case S3_SLOWER:
		return true;
	case S3_RENEW:
		return reject_keys(p, r, ret_after_ms);
	case S3_MOVED:
		if (s3_set_region(p->s3, p->bucket, f->region))
			atomic_store(&p->again, true);
		return false;
	case S3_FINAL:
		break;
	}
	return false;
}

static bool on_refused(
	void *ctx, const struct http_refusal *r, uint64_t *ret_after_ms, struct error *err)
{
	struct s3_signer *p = ctx;
	const struct s3_subject subject = {.doing = "read",
		.bucket = p->bucket,
		.key = p->key,
		.permission = "s3:GetObject",
		.endpoint = p->endpoint,
		.region = p->region,
		.who = p->who,
		.is_signed = p->is_signed};
	struct s3_fault fault;

	s3_fault_read(&fault, r->status, r->body, r->body_len);
	s3_fault_headers(&fault, or_null(r->request_id), or_null(r->region), or_null(r->date));
	s3_fault_error(&fault, &subject, err);
	return is_worth_another(p, &fault, r, ret_after_ms);
}

static struct s3_signer *signer_new(
	struct s3 *s, const char *bucket, const char *key, const char *region, bool is_signed)
{
	struct s3_signer *p = zalloc(sizeof(*p));

	*p = (struct s3_signer){.s3 = s,
		.bucket = text_copy(bucket),
		.key = text_copy(key),
		.region = text_copy(region),
		.endpoint = s3_shown_endpoint(s, region),
		.who = s3_credentials_source(s),
		.is_signed = is_signed,
		.refs = 2};
	return p;
}

/* The object to open, independent of the region. */
struct wanted_object {
	struct s3 *s3;
	struct transfer *transfer;
	const char *bucket, *key;
	struct http_request request;
};

/* *ret_again: the attempt failed, and another one may succeed. */
static int open_once(
	const struct wanted_object *w, struct object **ret, bool *ret_again, struct error *err)
{
	_free_ char *region = s3_region_of(w->s3, w->bucket);
	_free_ char *url = s3_url(w->s3, region, w->bucket, w->key, NULL);
	_free_ char *scope = text_format("aws:amz:%s:s3", region);
	struct http_request request = w->request;
	struct credentials_value now = {0};
	int code = s3_check_bucket(w->s3, w->bucket, err);
	struct s3_signer *p;
	struct http_signer signer = {.scope = scope,
		.ca_file = w->s3->ca_file,
		.keys = on_keys,
		.refused = on_refused,
		.release = signer_unref};

	if (code == 0)
		code = s3_keys(w->s3, w->request.cancel, &now, err);
	if (code < 0)
		return code;
	/* the loop thread calls credentials_last(), which does not wait */
	credentials_value_done(&now);
	p = signer_new(w->s3, w->bucket, w->key, region, code > 0);
	signer.ctx = p;
	request.url = url;
	request.signer = &signer;
	code = transfer_object_open(w->transfer, &request, ret, err);
	*ret_again = code < 0 && code != -ECANCELED && atomic_load(&p->again);
	signer_unref(p);
	return code;
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_object_open(struct s3 *s, struct transfer *t, const char *bucket, const char *key,
	const struct identity *have, enum object_want want, struct progress *progress,
	struct cancel *cancel, struct object **ret, struct error *err)
{
	_free_ char *name = text_format("s3://%s/%s", bucket, key);
	struct wanted_object w = {.s3 = s, .transfer = t, .bucket = bucket, .key = key};
	bool again = true;
	int code = 0;

	w.request = (struct http_request){
		.name = name, .have = have, .want = want, .progress = progress, .cancel = cancel};
	/* One retry for the region, one for the credentials. */
	for (unsigned n = 0; again && n < 3; n++) {
		again = false;
		code = open_once(&w, ret, &again, err);
	}
	return code;
}
