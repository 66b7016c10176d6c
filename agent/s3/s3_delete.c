/* SPDX-License-Identifier: MIT */
/* Deletes objects: one with DELETE, many with POST ?delete. Some servers do not support the latter
 * (for a long time Google Cloud Storage, and small servers); this is cached for the configuration,
 * and their objects are deleted one by one. Worker threads. */
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "random.h"
#include "s3_private.h"
#include <errno.h>
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <string.h>

/* AWS refuses a list without a digest. */
static char *content_md5(const char *body, size_t len)
{
	uint8_t digest[MD5_DIGEST_SIZE];
	char base64[BASE64_ENCODE_RAW_LENGTH(MD5_DIGEST_SIZE) + 1] = "";
	struct md5_ctx md5;

	md5_init(&md5);
	md5_update(&md5, len, (const uint8_t *)body);
	md5_digest(&md5, sizeof(digest), digest);
	base64_encode_raw(base64, sizeof(digest), digest);
	return text_format("Content-MD5: %s", base64);
}

static char *print_delete_list(const struct s3_deletion *v, size_t n)
{
	struct text t = {0};

	text_add(&t, "<Delete><Quiet>true</Quiet>");
	for (size_t i = 0; i < n; i++) {
		text_add(&t, "<Object><Key>");
		s3_xml_escape(&t, v[i].key);
		text_add(&t, "</Key>");
		if (v[i].version != NULL) {
			text_add(&t, "<VersionId>");
			s3_xml_escape(&t, v[i].version);
			text_add(&t, "</VersionId>");
		}
		text_add(&t, "</Object>");
	}
	text_add(&t, "</Delete>");
	return text_take(&t);
}

/* The first object of a list that could not be deleted. */
struct delete_failure {
	char *key, *code, *message;
	bool is_complete;
};

static void set_failure_field(struct delete_failure *s, char **field, const char *text)
{
	if (s->is_complete)
		return;
	free(*field);
	*field = text_copy(text);
}

static int on_delete_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct delete_failure *s = ctx;

	(void)err;
	if (strcmp(path, "Error/Key") == 0)
		set_failure_field(s, &s->key, text);
	else if (strcmp(path, "Error/Code") == 0)
		set_failure_field(s, &s->code, text);
	else if (strcmp(path, "Error/Message") == 0)
		set_failure_field(s, &s->message, text);
	else if (strcmp(path, "Error") == 0)
		s->is_complete = s->code == NULL || strcmp(s->code, "NoSuchKey") != 0;
	return 0;
}

static int delete_failure_error(
	const char *bucket, const struct delete_failure *s, struct error *err)
{
	bool denied = s->code != NULL && strcmp(s->code, "AccessDenied") == 0;
	const char *advice = s3_advice_on(
		S3_S3, s->code != NULL ? s->code : "", s->message != NULL ? s->message : "");

	if (!s->is_complete)
		return 0;
	if (advice == NULL)
		advice =
			denied ? "its owner has to allow s3:DeleteObject; Object Lock (a retention, a legal hold) also answers so"
			       : "";
	return error_set(err, denied ? -EACCES : -ERR_HTTP,
		"s3://%s/%.300s: cannot delete it: S3 answered %s%s%.200s%s%s", bucket,
		s->key != NULL ? s->key : "", s->code != NULL ? s->code : "an error",
		s->message != NULL ? ": " : "", s->message != NULL ? s->message : "",
		advice[0] != '\0' ? "; " : "", advice);
}

/* Whether a retry may succeed. If the server was too busy to delete one of the keys, S3 reports
 * that in the body of a 200 answer. */
static bool is_transient_failure(const struct delete_failure *s)
{
	struct s3_fault f = {.status = 200};
	enum s3_verdict verdict;

	if (!s->is_complete || s->code == NULL)
		return false;
	snprintf(f.code, sizeof(f.code), "%s", s->code);
	verdict = s3_fault_classify(&f, "");
	return verdict == S3_LATER || verdict == S3_SLOWER;
}

static int send_delete_list(
	struct s3_client *c, const struct s3_request *what, bool *ret_again, struct error *err)
{
	struct delete_failure failure = {0};
	struct reply reply;
	int code = s3_perform(c, what, &reply, NULL, err);

	*ret_again = false;
	if (code < 0)
		return code;
	code = s3_xml_answer(what, &reply, "DeleteResult", on_delete_field, &failure, err);
	call_reply_done(&reply);
	if (code == 0) {
		*ret_again = is_transient_failure(&failure);
		code = delete_failure_error(what->bucket, &failure, err);
	}
	free(failure.key);
	free(failure.code);
	free(failure.message);
	return code;
}

static uint64_t backoff_ms(const struct s3_client *c, unsigned tries)
{
	return random_backoff_ms(
		c->s3->network.retry_base_ms, c->s3->network.retry_max_ms, tries + 1);
}

/* Retries send the whole list: deleting an object that is gone is no error. */
static int delete_list(struct s3_client *c, const char *bucket, const struct s3_deletion *v,
	size_t n,
	/* NOLINTNEXTLINE(readability-non-const-parameter): the callee writes to it */
	bool *ret_unknown, struct error *err)
{
	_free_ char *body = print_delete_list(v, n);
	_free_ char *md5 = content_md5(body, strlen(body));
	const char *const headers[] = {md5, "Content-Type: application/xml", NULL};
	const struct s3_request what = {.method = "POST",
		.doing = "delete from",
		.bucket = bucket,
		.query = "delete=",
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.permission = "s3:DeleteObject",
		.ret_unknown = ret_unknown};
	uint64_t start_ms = s3_clock_ms();
	bool again;

	for (unsigned tries = 0;; tries++) {
		int code = send_delete_list(c, &what, &again, err);

		if (!again || tries >= c->s3->network.retries ||
			(c->limit_ms > 0 && s3_clock_ms() - start_ms > c->limit_ms))
			return code;
		code = s3_pause(c, backoff_ms(c, tries), err);
		if (code < 0)
			return code;
	}
}

static int delete_one(
	struct s3_client *c, const char *bucket, const struct s3_deletion *d, struct error *err)
{
	struct text query = {0};
	struct s3_request what = {.method = "DELETE",
		.doing = "delete",
		.bucket = bucket,
		.key = d->key,
		.permission = "s3:DeleteObject"};
	struct reply reply;
	int code;

	if (d->version != NULL)
		s3_query_add(&query, "versionId", d->version);
	what.query = query.s;
	code = s3_perform(c, &what, &reply, NULL, err);
	text_done(&query);
	if (code == -ENOENT)
		return 0;
	if (code < 0)
		return code;
	call_reply_done(&reply);
	return 0;
}

/* limit_ms applies to all deletions together: a caller that sets it must not rely on its lease for
 * longer. */
static int delete_each(struct s3_client *c, const char *bucket, const struct s3_deletion *v,
	size_t n, struct error *err)
{
	uint64_t start_ms = s3_clock_ms();
	int code = 0;

	for (size_t i = 0; i < n && code == 0; i++) {
		if (c->limit_ms > 0 && s3_clock_ms() - start_ms > c->limit_ms)
			return error_set(err, -ETIMEDOUT,
				"s3://%s: this server takes deletions only one by one, and %zu of %zu were done in the time there was: run it again for the rest",
				bucket, i, n);
		code = delete_one(c, bucket, &v[i], err);
	}
	return code;
}

int s3_delete_page(struct s3_client *c, const char *bucket, const struct s3_deletion *v, size_t n,
	struct error *err)
{
	bool unknown = false;
	int code;

	if (!atomic_load(&c->s3->no_multi_delete)) {
		code = delete_list(c, bucket, v, n, &unknown, err);
		if (!unknown)
			return code;
	}
	code = delete_each(c, bucket, v, n, err);
	if (code == 0 && unknown) {
		atomic_store(&c->s3->no_multi_delete, true);
		log_debug(
			"s3://%s: the server does not know POST ?delete: objects are deleted one by one",
			bucket);
	}
	return code;
}

/* XML 1.0 cannot represent the other control characters. */
static bool fits_xml(const char *key)
{
	for (; *key != '\0'; key++)
		if ((unsigned char)*key < ' ' && strchr("\t\n\r", *key) == NULL)
			return false;
	return true;
}

int s3_delete(struct s3_client *c, const char *bucket, const char *const *keys, size_t n,
	struct error *err)
{
	struct s3_deletion page[S3_PAGE];
	size_t in_page = 0;
	int code = 0;

	if (n == 1)
		return delete_one(c, bucket, &(struct s3_deletion){.key = keys[0]}, err);
	for (size_t i = 0; i < n && code == 0; i++) {
		if (!fits_xml(keys[i])) {
			code = delete_one(c, bucket, &(struct s3_deletion){.key = keys[i]}, err);
			continue;
		}
		page[in_page++] = (struct s3_deletion){.key = keys[i]};
		if (in_page == S3_PAGE) {
			code = s3_delete_page(c, bucket, page, in_page, err);
			in_page = 0;
		}
	}
	return code == 0 && in_page > 0 ? s3_delete_page(c, bucket, page, in_page, err) : code;
}
