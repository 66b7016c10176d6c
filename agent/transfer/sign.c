/* SPDX-License-Identifier: MIT */
/* Requests that are signed, each attempt with the keys of its moment, and refusals that their signer reads.
 * Loop thread. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <stdio.h>

static void add_header(struct range *r, const char *name, const char *value)
{
	_free_ char *line = format_text("%s: %s", name, value);
	struct curl_slist *longer = curl_slist_append(r->headers, line);

	if (longer == NULL)
		abort();
	r->headers = longer;
}

/* libcurl signs every header that it is given in a list, so these come before the request is sent off. */
static void use_keys(struct range *r, const struct http_keys *k)
{
	snprintf(r->signed_with, sizeof(r->signed_with), "%s", k->access_key);
	add_header(r, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
	if (k->session_token != NULL && k->session_token[0] != '\0')
		add_header(r, "x-amz-security-token", k->session_token);
	curl_easy_setopt(r->easy, CURLOPT_AWS_SIGV4, r->object->signer.scope);
	curl_easy_setopt(r->easy, CURLOPT_USERNAME, k->access_key);
	curl_easy_setopt(r->easy, CURLOPT_PASSWORD, k->secret_key);
}

void sign_prepare(struct range *r)
{
	const struct http_signer *signer = &r->object->signer;
	struct http_keys keys = {0};

	r->signed_with[0] = '\0';
	if (signer->ctx == NULL)
		return;
	/* A key of S3 may hold "/../". */
	curl_easy_setopt(r->easy, CURLOPT_PATH_AS_IS, 1L);
	if (signer->ca_file != NULL)
		curl_easy_setopt(r->easy, CURLOPT_CAINFO, signer->ca_file);
	if (!signer->keys(signer->ctx, &keys))
		return;
	use_keys(r, &keys);
	free(keys.access_key);
	free(keys.secret_key);
	free(keys.session_token);
}

/* What S3 says in words of its own. */
static enum verdict judge_refusal(struct range *r)
{
	const struct answer *a = &r->answer;
	const struct http_signer *signer = &r->object->signer;
	const struct http_refusal refusal = {.status = a->status,
		.in_transfer = r->object->discovered,
		.body = a->text,
		.body_len = a->text_len,
		.request_id = a->request_id,
		.region = a->region,
		.date = a->date,
		.access_key = r->signed_with};

	uint64_t after_ms = 0;

	if (!signer->refused(signer->ctx, &refusal, &after_ms, &r->why))
		return VERDICT_FAIL;
	if (r->answer.retry_after_ms < after_ms)
		r->answer.retry_after_ms = after_ms;
	return VERDICT_RETRY;
}

enum verdict sign_judge(struct range *r)
{
	struct answer_wanted w = range_wanted(r);
	int status = r->answer.status;

	if (r->object->signer.ctx == NULL || status == 304 || status == 412 || status == 416)
		return answer_judge(&r->answer, &w, &r->why);
	return judge_refusal(r);
}
