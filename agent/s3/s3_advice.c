/* SPDX-License-Identifier: MIT */
/* What to do about an answer of S3's. Pure. */
#include "defer.h"
#include "s3_fault.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *code, *advice;
} fixed[] = {
	{"ExpiredToken", "the session that these credentials are of has expired: get new ones"},
	{"ExpiredTokenException",
		"the session that these credentials are of has expired: get new ones"},
	{"TokenRefreshRequired",
		"the session that these credentials are of has expired: get new ones"},
	{"InvalidToken",
		"the session token does not belong to the key, or has ended: get new credentials"},
	{"InvalidAccessKeyId", "this service does not know the access key: check it, and whether "
			       "the endpoint is the one "
			       "that it is for"},
	{"SignatureDoesNotMatch", "the secret key does not belong to the access key "
				  "(AWS_SECRET_ACCESS_KEY; a blank at its "
				  "end counts), or a proxy changes requests"},
	{"NoSuchBucket",
		"check the spelling of the bucket, and whether the endpoint is the right one"},
	{"NoSuchKey", "check the spelling of the key; a directory of objects is written with a '/' "
		      "at its end"},
	{"NoSuchUpload", "the upload was completed or aborted by somebody else"},
	{"SlowDown", "the server limits its clients: use fewer connections (network.connections)"},
	{"EntityTooLarge", "it is larger than the service takes"},
	{"QuotaExceeded", "the account's quota is used up"},
	{"AuthorizationHeaderMalformed", "the region is wrong: set [s3] region, or AWS_REGION"},
	{"PermanentRedirect", "the region is wrong: set [s3] region, or AWS_REGION"},
	{"IllegalLocationConstraintException",
		"the region is wrong: set [s3] region, or AWS_REGION"},
	{"MethodNotAllowed", "is the endpoint one of S3's?"},
};

static char *skewed(const struct s3_fault *f)
{
	char difference[32];
	time_t now = time(NULL);

	if (f->date == 0)
		return copy_text("this machine's clock is wrong; set it (NTP)");
	print_duration((uint64_t)llabs((long long)(now - f->date)) * 1000000000, difference);
	return format_text("this machine's clock is %s %s the server's; set it (NTP)", difference,
		now > f->date ? "ahead of" : "behind");
}

static char *denied(const struct s3_subject *what)
{
	bool of_bucket = what->key == NULL;

	if (!what->is_signed)
		return format_text("anonymous readers may not: give credentials that have %s",
			what->permission);
	return format_text("its owner has to allow %s on arn:aws:s3:::%s%s%s", what->permission,
		what->bucket, of_bucket ? "" : "/*",
		strcmp(what->permission, "s3:GetObject") == 0
			? "; without s3:ListBucket, an object that is not there looks the same"
			: "");
}

static char *advice(const struct s3_fault *f, const struct s3_subject *what)
{
	if (strcmp(f->code, "RequestTimeTooSkewed") == 0)
		return skewed(f);
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (strcmp(f->code, fixed[i].code) == 0)
			return copy_text(fixed[i].advice);
	if (f->status == 403)
		return denied(what);
	if (f->status == 404)
		return copy_text("check the spelling of bucket and key");
	if (f->status == 401)
		return copy_text("give credentials");
	if (f->status == 301)
		return copy_text("the region is wrong: set [s3] region, or AWS_REGION");
	return copy_text(f->status >= 500 ? "the fault is the server's" : "");
}

char *s3_advice(const struct s3_fault *f, const struct s3_subject *what)
{
	_free_ char *what_to_do = advice(f, what);

	return format_text("%s%s", what_to_do[0] != '\0' ? "; " : "", what_to_do);
}
