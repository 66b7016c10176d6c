/* SPDX-License-Identifier: MIT */
/* What an answer that is no success means. Pure: every answer of a server is a test of a few lines. */
#include "s3_fault.h"
#include "defer.h"
#include "s3_private.h"
#include <string.h>

static void copy_field(char *to, size_t size, const char *from)
{
	size_t n = 0;

	/* One line, whatever the server sent. */
	for (; *from != '\0' && n < size - 1; from++)
		to[n++] = (unsigned char)*from < ' ' ? ' ' : *from;
	to[n] = '\0';
}

static int on_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct s3_fault *f = ctx;

	(void)err;
	if (strcmp(path, "Code") == 0)
		copy_field(f->code, sizeof(f->code), text);
	else if (strcmp(path, "Message") == 0)
		copy_field(f->message, sizeof(f->message), text);
	else if (strcmp(path, "RequestId") == 0)
		copy_field(f->request_id, sizeof(f->request_id), text);
	else if (strcmp(path, "Region") == 0)
		copy_field(f->region, sizeof(f->region), text);
	return 0;
}

void s3_fault_read(struct s3_fault *f, long status, const char *body, size_t len)
{
	*f = (struct s3_fault){.status = status};
	/* A proxy's page is no XML of S3's: then the status has to do. What was read before a body was cut
	 * is kept. */
	if (len > 0)
		s3_xml_read(body, len, "Error", on_field, f, NULL);
}

void s3_fault_headers(
	struct s3_fault *f, const char *request_id, const char *region, const char *date)
{
	if (f->request_id[0] == '\0' && request_id != NULL)
		copy_field(f->request_id, sizeof(f->request_id), request_id);
	if (region != NULL && region[0] != '\0')
		copy_field(f->region, sizeof(f->region), region);
	f->date = date != NULL ? s3_time(date) : 0;
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strcmp(word, *words) == 0)
			return true;
	return false;
}

enum s3_verdict s3_fault_judge(const struct s3_fault *f, const char *asked_region)
{
	static const char *const expired[] = {"ExpiredToken", "ExpiredTokenException",
		"TokenRefreshRequired", "InvalidToken", NULL};
	static const char *const slower[] = {"SlowDown", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "TooManyRequests", NULL};
	static const char *const later[] = {"RequestTimeout", "InternalError",
		"ConditionalRequestConflict", "OperationAborted", NULL};

	if (is_one_of(f->code, expired))
		return S3_RENEW;
	if (f->region[0] != '\0' && strcmp(f->region, asked_region) != 0)
		return S3_MOVED;
	if (f->status == 429 || f->status == 503 || is_one_of(f->code, slower))
		return S3_SLOWER;
	if (f->status == 408 || f->status == 307 || is_one_of(f->code, later))
		return S3_LATER;
	return f->status >= 500 && f->status != 501 && f->status != 505 ? S3_LATER : S3_FINAL;
}

static int code_of(const struct s3_fault *f)
{
	if (f->status == 404 && strcmp(f->code, "NoSuchBucket") != 0)
		return -ENOENT;
	if (f->status == 412)
		return -EEXIST;
	return f->status == 403 ? -EACCES : -ERR_HTTP;
}

int s3_fault_tell(const struct s3_fault *f, const struct s3_subject *what, struct error *err)
{
	_free_ char *advice = s3_advice(f, what);
	_free_ char *place = what->key != NULL
				     ? format_text("s3://%s/%.300s", what->bucket, what->key)
				     : format_text("s3://%s", what->bucket);

	return error_set(err, code_of(f),
		"%s: cannot %s it: S3 answered %ld%s%s%s%s%s (%s%s%sendpoint %s, region %s, "
		"%s%.300s)%s",
		place, what->doing, f->status, f->code[0] != '\0' ? " " : "", f->code,
		f->message[0] != '\0' ? " '" : "", f->message, f->message[0] != '\0' ? "'" : "",
		f->request_id[0] != '\0' ? "request " : "", f->request_id,
		f->request_id[0] != '\0' ? ", " : "", what->endpoint, what->region,
		what->is_signed ? "credentials: " : "not signed: ", what->who, advice);
}
