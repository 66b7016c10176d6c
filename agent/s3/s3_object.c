/* SPDX-License-Identifier: MIT */
/* Single objects: get, head, put. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static uint64_t total_size(const struct reply *r)
{
	const char *range = reply_header(r, "content-range");
	const char *length = reply_header(r, "content-length");
	const char *slash = range != NULL ? strchr(range, '/') : NULL;

	if (slash != NULL && slash[1] != '*')
		return strtoull(slash + 1, NULL, 10);
	return length != NULL && range == NULL ? strtoull(length, NULL, 10) : SIZE_UNKNOWN;
}

static void describe(const struct reply *r, const char *key, struct s3_object *ret)
{
	const char *etag = reply_header(r, "etag");
	const char *modified = reply_header(r, "last-modified");

	*ret = (struct s3_object){.key = key,
		.size = total_size(r),
		.modified = modified != NULL ? s3_time(modified) : 0};
	s3_copy_etag(ret->etag, etag != NULL ? etag : "");
}

/* Whether the bytes are those that were asked for. */
static int check_range(
	const struct s3_request *what, const struct reply *r, uint64_t offset, struct error *err)
{
	const char *range = reply_header(r, "content-range");
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

/* The end was before offset: an answer without bytes. */
static int nothing_there(struct s3_client *c, const struct s3_request *what, const struct reply *r,
	size_t *ret_len, struct s3_object *ret, struct error *err)
{
	(void)r;
	*ret_len = 0;
	return ret != NULL ? s3_head(c, what->bucket, what->key, ret, err) : 0;
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_get(struct s3_client *c, const char *bucket, const char *key, uint64_t offset, void *buf,
	size_t len, const char *if_match, size_t *ret_len, struct s3_object *ret, struct error *err)
{
	_free_ char *range = format_text(
		"Range: bytes=%" PRIu64 "-%" PRIu64, offset, offset + (len > 0 ? len : 1) - 1);
	_free_ char *match = if_match != NULL ? format_text("If-Match: %s", if_match) : NULL;
	const char *const headers[] = {range, match, NULL};
	const struct s3_request what = {.method = "GET",
		.doing = "read",
		.bucket = bucket,
		.key = key,
		.headers = headers,
		.into = buf,
		.into_len = len,
		.permission = "s3:GetObject",
		.also = 416};
	struct reply reply;
	int code;

	if (len == 0)
		return nothing_there(c, &what, NULL, ret_len, ret, err);
	code = s3_perform(c, &what, &reply, NULL, err);
	if (code == -EEXIST)
		return error_set(err, -ERR_CHANGED, "s3://%s/%s was replaced while it was read",
			bucket, key);
	if (code < 0)
		return code;
	if (reply.status == 416) {
		code = nothing_there(c, &what, &reply, ret_len, ret, err);
	} else {
		code = check_range(&what, &reply, offset, err);
		*ret_len = reply.into_len;
		if (ret != NULL)
			describe(&reply, key, ret);
	}
	reply_done(&reply);
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
	describe(&reply, key, ret);
	reply_done(&reply);
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
	reply_done(&reply);
	return 0;
}
