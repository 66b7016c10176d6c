/* SPDX-License-Identifier: MIT */
/* One object through the transfer engine, whose requests are signed by what is here: with the credentials of
 * the moment, so that those renewed in the middle of a transfer apply to the rest of it. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <string.h>

/* Of one object; goes with it. Constant, but for what s3 guards itself. */
struct passage {
	struct s3 *s3;
	char *bucket, *key, *region, *endpoint, *who;
	bool is_signed;
};

static void release(void *ctx)
{
	struct passage *p = ctx;

	free(p->bucket);
	free(p->key);
	free(p->region);
	free(p->endpoint);
	free(p->who);
	free(p);
}

static bool keys(void *ctx, struct http_keys *ret)
{
	const struct passage *p = ctx;
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

static bool refused(void *ctx, const struct http_refusal *r, struct error *err)
{
	const struct passage *p = ctx;
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
	s3_fault_tell(&fault, &subject, err);
	switch (s3_fault_judge(&fault, p->region)) {
	case S3_LATER:
	case S3_SLOWER:
		return true;
	case S3_RENEW:
		if (!p->is_signed)
			return false;
		credentials_reject(p->s3->credentials, r->access_key);
		return true;
	case S3_MOVED: /* whoever opens it looks */
		s3_found_region(p->s3, p->bucket, fault.region);
		return false;
	case S3_FINAL:
		break;
	}
	return false;
}

static struct passage *passage_new(
	struct s3 *s, const char *bucket, const char *key, const char *region, bool is_signed)
{
	struct passage *p = zalloc(sizeof(*p));

	*p = (struct passage){.s3 = s,
		.bucket = copy_text(bucket),
		.key = copy_text(key),
		.region = copy_text(region),
		.endpoint = s3_endpoint_of(s, region),
		.who = s3_who(s),
		.is_signed = is_signed};
	return p;
}

/* What is asked for, in whichever region. */
struct wanted {
	struct s3 *s3;
	struct transfer *transfer;
	const char *bucket, *key;
	struct http_request request;
};

static int open_in(
	const struct wanted *w, const char *region, struct object **ret, struct error *err)
{
	struct credentials_value now = {0};
	struct http_request request = w->request;
	int is_signed = s3_keys(w->s3, w->request.cancel, &now, err);
	_free_ char *scope = format_text("aws:amz:%s:s3", region);
	_free_ char *url = NULL;
	struct http_signer signer = {.scope = scope,
		.ca_file = w->s3->ca_file,
		.keys = keys,
		.refused = refused,
		.release = release};

	if (is_signed < 0)
		return is_signed;
	credentials_value_done(&now); /* the loop thread asks for them anew, without waiting */
	url = s3_url(w->s3, region, w->bucket, w->key, NULL);
	signer.ctx = passage_new(w->s3, w->bucket, w->key, region, is_signed > 0);
	request.url = url;
	request.signer = &signer;
	return http_object_open(w->transfer, &request, ret, err);
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_object_open(struct s3 *s, struct transfer *t, const char *bucket, const char *key,
	const struct identity *have, bool probe, struct progress *progress, struct cancel *cancel,
	struct object **ret, struct error *err)
{
	_free_ char *name = format_text("s3://%s/%s", bucket, key);
	_free_ char *region = s3_region_of(s, bucket);
	_free_ char *found = NULL;
	struct wanted w = {.s3 = s, .transfer = t, .bucket = bucket, .key = key};
	int code;

	w.request = (struct http_request){
		.name = name, .have = have, .probe = probe, .progress = progress, .cancel = cancel};
	code = open_in(&w, region, ret, err);
	if (code == 0 || code == -ECANCELED)
		return code;
	found = s3_region_of(s, bucket);
	return strcmp(found, region) == 0 ? code : open_in(&w, found, ret, err);
}
