/* SPDX-License-Identifier: MIT */
/* Requests for single objects: get, head, put and multipart uploads. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static uint64_t total_size(const struct reply *r)
{
	const char *range = call_reply_header(r, "content-range");
	const char *length = call_reply_header(r, "content-length");
	const char *slash = range != NULL ? strchr(range, '/') : NULL;

	if (slash != NULL && slash[1] != '*')
		return strtoull(slash + 1, NULL, 10);
	return length != NULL && range == NULL ? strtoull(length, NULL, 10) : SIZE_UNKNOWN;
}

static void fill_object(const struct reply *r, const char *key, struct s3_object *ret)
{
	const char *etag = call_reply_header(r, "etag");
	const char *modified = call_reply_header(r, "last-modified");

	*ret = (struct s3_object){.key = key,
		.size = total_size(r),
		.modified = modified != NULL ? s3_time(modified) : 0};
	s3_copy_etag(ret->etag, etag != NULL ? etag : "");
}

/* Checks that the body starts at the requested offset. */
static int check_range(
	const struct s3_request *what, const struct reply *r, uint64_t offset, struct error *err)
{
	const char *range = call_reply_header(r, "content-range");
	uint64_t first = 0;

	if (range != NULL && strncasecmp(range, "bytes ", 6) == 0)
		first = strtoull(range + 6, NULL, 10);
	if (first == offset)
		return 0;
	return error_set(err, -ERR_HTTP,
		"s3://%s/%s: asked for bytes from %" PRIu64 ", the server sent those from %" PRIu64
		"; it or a proxy before it does not honour ranges",
		what->bucket, what->key, offset, first);
}

/* The object ends before the offset: returns 0 bytes, and fills *ret from a HEAD. */
static int empty_answer(struct s3_client *c, const struct s3_request *what, const struct reply *r,
	size_t *ret_len, struct s3_object *ret, struct error *err)
{
	(void)r;
	*ret_len = 0;
	return ret != NULL ? s3_head(c, what->bucket, what->key, ret, err) : 0;
}

bool s3_object_differs(const struct s3_object *is, const struct s3_object *was)
{
	if (is->etag[0] != '\0' && was->etag[0] != '\0' && strcmp(is->etag, was->etag) != 0)
		return true;
	return is->size != SIZE_UNKNOWN && was->size != SIZE_UNKNOWN && is->size != was->size;
}

static int replaced_error(const struct s3_request *what, struct error *err)
{
	return error_set(err, -ERR_CHANGED, "s3://%s/%s was replaced while it was read",
		what->bucket, what->key);
}

/* Fills *ret from the answer, and checks version and offset. A server that ignores If-Match sends
 * another version with 206. */
static int check_reply(const struct s3_request *what, const struct reply *r, uint64_t offset,
	const struct s3_object *expected, struct s3_object *ret, struct error *err)
{
	fill_object(r, what->key, ret);
	if (expected != NULL && s3_object_differs(ret, expected))
		return replaced_error(what, err);
	return check_range(what, r, offset, err);
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_get(struct s3_client *c, const char *bucket, const char *key, uint64_t offset, void *buf,
	size_t len, const struct s3_object *expected, size_t *ret_len, struct s3_object *ret,
	struct error *err)
{
	_free_ char *range = text_format(
		"Range: bytes=%" PRIu64 "-%" PRIu64, offset, offset + (len > 0 ? len : 1) - 1);
	_free_ char *match = expected != NULL && expected->etag[0] != '\0'
				     ? text_format("If-Match: %s", expected->etag)
				     : NULL;
	const char *const headers[] = {range, match, NULL};
	const struct s3_request what = {.method = "GET",
		.doing = "read",
		.bucket = bucket,
		.key = key,
		.headers = headers,
		.into = buf,
		.into_len = len,
		.permission = "s3:GetObject",
		.also_status = 416};
	struct s3_object came;
	struct reply reply;
	int code;

	if (len == 0)
		return empty_answer(c, &what, NULL, ret_len, ret, err);
	code = s3_perform(c, &what, &reply, NULL, err);
	if (code == -EEXIST)
		return replaced_error(&what, err);
	if (code < 0)
		return code;
	if (reply.status == 416) {
		code = empty_answer(c, &what, &reply, ret_len, ret, err);
	} else {
		code = check_reply(&what, &reply, offset, expected, ret != NULL ? ret : &came, err);
		*ret_len = reply.into_len;
	}
	call_reply_done(&reply);
	return code;
}

int s3_head(struct s3_client *c, const char *bucket, const char *key, struct s3_object *ret,
	struct error *err)
{
	const struct s3_request what = {.method = "HEAD",
		.doing = "look at",
		.bucket = bucket,
		.key = key,
		.permission = "s3:GetObject"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	fill_object(&reply, key, ret);
	call_reply_done(&reply);
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_put(struct s3_client *c, const char *bucket, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	static const char *const headers[] = {"If-None-Match: *", NULL};
	const struct s3_request what = {.method = "PUT",
		.doing = "write",
		.bucket = bucket,
		.key = key,
		.headers = if_absent ? headers : NULL,
		.body = bytes,
		.body_len = len,
		.permission = "s3:PutObject"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	call_reply_done(&reply);
	return 0;
}

/* Multipart uploads. */

static int on_begun(void *ctx, const char *path, const char *text, struct error *err)
{
	char **id = ctx;

	(void)err;
	if (strcmp(path, "UploadId") == 0) {
		free(*id);
		*id = text_copy(text);
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
	call_reply_done(&reply);
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
	_free_ char *digits = text_format("%u", number);
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
	s3_copy_etag(ret_etag, call_reply_header(&reply, "etag") ?: "");
	call_reply_done(&reply);
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

/* If an upload does not exist when its completion is retried, an earlier attempt, whose answer was
 * lost, has completed it: then the object exists. */
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
	call_reply_done(&reply);
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
		.also_status = 404};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	call_reply_done(&reply);
	return 0;
}
