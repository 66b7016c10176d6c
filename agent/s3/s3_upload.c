/* SPDX-License-Identifier: MIT */
/* Multipart uploads. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <string.h>

static int on_begun(void *ctx, const char *path, const char *text, struct error *err)
{
	char **id = ctx;

	(void)err;
	if (strcmp(path, "UploadId") == 0) {
		free(*id);
		*id = copy_text(text);
	}
	return 0;
}

int s3_upload_begin(
	struct s3_client *c, const char *bucket, const char *key, char **ret_id, struct error *err)
{
	const struct s3_request what = {.method = "POST",
		.doing = "begin to write",
		.bucket = bucket,
		.key = key,
		.query = "uploads=",
		.permission = "s3:PutObject"};
	_free_ char *id = NULL;
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "InitiateMultipartUploadResult", on_begun, &id, err);
	reply_done(&reply);
	if (code == 0 && id == NULL)
		code = error_set(err, -ERR_HTTP,
			"s3://%s/%s: the server began an upload without saying its id", bucket,
			key);
	if (code == 0)
		*ret_id = take_ptr(&id);
	return code;
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_upload_part(struct s3_client *c, const char *bucket, const char *key, const char *id,
	unsigned number, const void *bytes, size_t len, char ret_etag[static 128],
	struct error *err)
{
	_free_ char *digits = format_text("%u", number);
	struct text query = {0};
	struct s3_request what = {.method = "PUT",
		.doing = "write a part of",
		.bucket = bucket,
		.key = key,
		.body = bytes,
		.body_len = len,
		.permission = "s3:PutObject"};
	struct reply reply;
	int code;

	s3_query_add(&query, "partNumber", digits);
	s3_query_add(&query, "uploadId", id);
	what.query = query.s;
	code = s3_perform(c, &what, &reply, NULL, err);
	text_done(&query);
	if (code < 0)
		return code;
	s3_copy_etag(ret_etag, reply_header(&reply, "etag") ?: "");
	reply_done(&reply);
	if (ret_etag[0] == '\0')
		return error_set(err, -ERR_HTTP,
			"s3://%s/%s: the server took part %u without giving its ETag", bucket, key,
			number);
	return 0;
}

static char *list_of_parts(const char (*etags)[128], unsigned n)
{
	struct text t = {0};

	text_add(&t, "<CompleteMultipartUpload>");
	for (unsigned i = 0; i < n; i++) {
		text_addf(&t, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
		s3_xml_escape(&t, etags[i]);
		text_add(&t, "</ETag></Part>");
	}
	text_add(&t, "</CompleteMultipartUpload>");
	return text_take(&t);
}

static char *upload_query(const char *id)
{
	struct text query = {0};

	s3_query_add(&query, "uploadId", id);
	return text_take(&query);
}

/* An upload that is gone when it is to be completed once more was completed by an attempt whose answer was
 * lost: then the object is there. */
static bool was_completed(
	struct s3_client *c, const char *bucket, const char *key, int code, unsigned attempts)
{
	struct s3_object object;

	return code == -ENOENT && attempts > 1 && s3_head(c, bucket, key, &object, NULL) == 0;
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_upload_complete(struct s3_client *c, const char *bucket, const char *key, const char *id,
	const char (*etags)[128], unsigned n, struct error *err)
{
	static const char *const headers[] = {"Content-Type: application/xml", NULL};
	_free_ char *body = list_of_parts(etags, n);
	_free_ char *query = upload_query(id);
	const struct s3_request what = {.method = "POST",
		.doing = "complete",
		.bucket = bucket,
		.key = key,
		.query = query,
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.permission = "s3:PutObject",
		.late_error = true};
	struct reply reply;
	unsigned attempts;
	int code = s3_perform(c, &what, &reply, &attempts, err);

	if (code < 0)
		return was_completed(c, bucket, key, code, attempts) ? 0 : code;
	reply_done(&reply);
	return 0;
}

int s3_upload_abort(
	struct s3_client *c, const char *bucket, const char *key, const char *id, struct error *err)
{
	_free_ char *query = upload_query(id);
	const struct s3_request what = {.method = "DELETE",
		.doing = "abort the upload of",
		.bucket = bucket,
		.key = key,
		.query = query,
		.permission = "s3:AbortMultipartUpload",
		.also = 404};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	reply_done(&reply);
	return 0;
}
