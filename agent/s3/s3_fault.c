/* SPDX-License-Identifier: MIT */
/* Classifies the errors of S3 and STS, and words them with advice. Pure.
 *
 * Advice is chosen by the error code and, where a code has several meanings, by words of the
 * message; by the status only if there is no code. */
#include "defer.h"
#include "s3_private.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

#define REGION  "the region is wrong: set [s3] region, or AWS_REGION"
#define EXPIRED "the session that these credentials are of has expired: get new ones"
#define VIRTUAL "this service wants the bucket in the host's name: set style = virtual in [s3]"
#define KMS \
	"it is encrypted with a KMS key: allow kms:Decrypt (to write also kms:GenerateDataKey) " \
	"on that " \
	"key, in its key policy and to these credentials"
#define KMS_STATE \
	"the KMS key that it is encrypted with is disabled, deleted or not there: ask its owner"
#define ENCRYPTION \
	"the bucket's policy wants encryption headers (x-amz-server-side-encryption), which are " \
	"not " \
	"sent: set default encryption on the bucket, and let the policy allow requests without " \
	"them"
#define LOCKED \
	"Object Lock (a retention, a legal hold) protects it: it can be removed when that has " \
	"ended, or " \
	"by who may lift it"
#define PAYER \
	"the bucket is one where the requester pays, and x-amz-request-payer is not sent: ask " \
	"its owner " \
	"for a copy, or copy it to a bucket of your own (aws s3 cp --request-payer requester)"
#define ARCHIVED \
	"it is archived (Glacier, Deep Archive): restore it first (aws s3api restore-object), or " \
	"leave " \
	"it out with exclude"

/* The first row that matches is used. */
static const struct advice_row {
	enum s3_service service;
	const char *code; /* "x.*": codes that begin with "x."; NULL: any code */
	const char *says; /* a word of the message, case-insensitive; NULL: any message */
	const char *advice;
} table[] = {
	{S3_STS, "AccessDenied", NULL,
		"the role's trust policy must allow whoever asks to assume it"},
	{S3_STS, "ExpiredTokenException", NULL, "the token has expired, get a new one"},
	{S3_STS, "ExpiredToken", NULL, "the credentials that ask have expired"},
	{S3_STS, "InvalidIdentityToken", "retrieve verification key",
		"STS cannot fetch the keys of the token's issuer: is its address public, and up?"},
	{S3_STS, "InvalidIdentityToken", NULL,
		"the token's issuer must be an identity provider of the account"},
	{S3_STS, "IDPCommunicationError", NULL,
		"STS does not reach the token's issuer: is its address public, and up?"},
	{S3_STS, "IDPRejectedClaim", NULL,
		"the token's issuer refuses it: is it expired, or revoked?"},
	{S3_STS, "SignatureDoesNotMatch", NULL, "check the secret key, and this machine's clock"},
	{S3_STS, "InvalidClientTokenId", NULL, "the access key is not known there"},
	{S3_STS, "RegionDisabledException", NULL,
		"switch STS on in that region, or set AWS_REGION to another"},
	{S3_STS, "Throttling*", NULL, "too many ask at once: start fewer, or later"},
	{S3_STS, "RequestLimitExceeded", NULL, "too many ask at once: start fewer, or later"},

	/* Rows by message come first: their codes are too general. */
	{S3_S3, NULL, "kms:", KMS},
	{S3_S3, NULL, "server-side-encryption", ENCRYPTION},
	{S3_S3, NULL, "object lock", LOCKED},
	{S3_S3, NULL, "WORM", LOCKED},
	{S3_S3, NULL, "requester pays", PAYER},
	{S3_S3, NULL, "requester-pays", PAYER},
	{S3_S3, "KMS.*", NULL, KMS_STATE},
	{S3_S3, "ObjectLocked", NULL, LOCKED},
	{S3_S3, "FileImmutable", NULL, LOCKED},
	{S3_S3, "UserProjectMissing", NULL, PAYER},
	{S3_S3, "InvalidPayer", NULL, PAYER},
	{S3_S3, "InvalidObjectState", NULL, ARCHIVED},
	{S3_S3, "SecondLevelDomainForbidden", NULL, VIRTUAL},
	{S3_S3, "PathStyleDomainForbidden", NULL, VIRTUAL},
	{S3_S3, "InvalidPathAccess", NULL, VIRTUAL},
	{S3_S3, "VirtualHostDomainRequired", NULL, VIRTUAL},
	{S3_S3, "ExpiredToken", NULL, EXPIRED},
	{S3_S3, "ExpiredTokenException", NULL, EXPIRED},
	{S3_S3, "TokenRefreshRequired", NULL, EXPIRED},
	{S3_S3, "InvalidToken", NULL,
		"the session token does not belong to the key, or has ended: get new credentials"},
	{S3_S3, "InvalidAccessKeyId", NULL,
		"this service does not know the access key: check it, and whether the endpoint is the one that it is for; for a public bucket, set sign = no in [s3]"},
	{S3_S3, "SignatureDoesNotMatch", NULL,
		"the secret key does not belong to the access key (AWS_SECRET_ACCESS_KEY), or a proxy changes requests"},
	{S3_S3, "XAmzContentSHA256Mismatch", NULL, "a proxy before it changes requests"},
	{S3_S3, "AllAccessDisabled", NULL,
		"all access to this bucket has been switched off, by AWS or its owner: is its name right? ask its owner"},
	{S3_S3, "AccountProblem", NULL,
		"something is wrong with the account that the bucket or the key belongs to, such as an unpaid bill: its owner has to ask the provider's support"},
	{S3_S3, "NotSignedUp", NULL, "the account has not signed up for S3: its owner has to"},
	{S3_S3, "UserDisable", NULL, "the account is switched off, such as for an unpaid bill"},
	{S3_S3, "UserSuspended", NULL, "the account is suspended: ask who runs the service"},
	{S3_S3, "UserNoRegion", NULL, REGION},
	{S3_S3, "NoSuchBucket", NULL,
		"check the spelling of the bucket, and whether the endpoint is the right one"},
	{S3_S3, "InvalidBucketName", NULL,
		"this service has no buckets with such names: check the spelling"},
	{S3_S3, "NoSuchKey", NULL,
		"check the spelling of the key; a directory of objects is written with a '/' at its end"},
	{S3_S3, "NoSuchUpload", NULL, "the upload was completed or aborted by somebody else"},
	{S3_S3, "SlowDown", NULL,
		"the server limits its clients: use fewer connections (network.connections)"},
	{S3_S3, "EntityTooLarge", NULL, "it is larger than the service takes"},
	{S3_S3, "QuotaExceeded", NULL, "the account's quota is used up"},
	{S3_S3, "XMinioStorageFull", NULL, "the server's disks are full"},
	{S3_S3, "AuthorizationHeaderMalformed", NULL, REGION},
	{S3_S3, "InvalidRegion", NULL, REGION},
	{S3_S3, "InvalidRegionName", NULL, REGION},
	{S3_S3, "PermanentRedirect", NULL, REGION},
	{S3_S3, "TemporaryRedirect", NULL, REGION},
	{S3_S3, "IllegalLocationConstraintException", NULL, REGION},
	{S3_S3, "IncorrectEndpoint", NULL, REGION},
	{S3_S3, "MethodNotAllowed", NULL, "is the endpoint one of S3's?"},
	{S3_S3, "NotImplemented", NULL, "this service does not know such requests"},
};

static bool has_code(const struct advice_row *r, const char *code)
{
	size_t len = r->code != NULL ? strlen(r->code) : 0;

	if (r->code == NULL || strcmp(r->code, code) == 0)
		return true;
	return r->code[len - 1] == '*' && strncmp(r->code, code, len - 1) == 0;
}

const char *s3_advice_on(enum s3_service service, const char *code, const char *message)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const struct advice_row *r = &table[i];

		if (r->service == service && has_code(r, code) &&
			(r->says == NULL || strcasestr(message, r->says) != NULL))
			return r->advice;
	}
	return NULL;
}

static char *clock_advice(const struct s3_fault *f)
{
	char difference[32];
	time_t now = time(NULL);

	if (f->date == 0)
		return text_copy("this machine's clock is wrong; set it (NTP)");
	units_print_duration((uint64_t)llabs((long long)(now - f->date)) * 1000000000, difference);
	return text_format("this machine's clock is %s %s the server's; set it (NTP)", difference,
		now > f->date ? "ahead of" : "behind");
}

bool s3_is_directory_bucket(const char *bucket)
{
	static const char suffix[] = "--x-s3";
	size_t len = strlen(bucket);

	return len > strlen(suffix) && strcmp(bucket + len - strlen(suffix), suffix) == 0;
}

static char *denied_advice(const struct s3_subject *what)
{
	bool of_bucket = what->key == NULL;
	bool is_object = strcmp(what->permission, "s3:GetObject") == 0;
	const char *more = "";

	if (!what->is_signed)
		return text_format("anonymous readers may not: give credentials that have %s",
			what->permission);
	if (is_object)
		more = "; without s3:ListBucket, an object that is not there looks the same; if the bucket is public, set sign = no in [s3]";
	else if (strcmp(what->permission, "s3:ListBucket") == 0)
		more = "; if the bucket is public, set sign = no in [s3]";
	else if (strcmp(what->permission, "s3:PutObject") == 0)
		more = "; a policy of the bucket that wants encryption headers (x-amz-server-side-encryption) also answers so: they are not sent";
	else if (strcmp(what->permission, "s3:DeleteObject") == 0)
		more = "; Object Lock (a retention, a legal hold) also answers so";
	return text_format("its owner has to allow %s on arn:aws:s3:::%s%s%s", what->permission,
		what->bucket, of_bucket ? "" : "/*", more);
}

static char *choose_advice(const struct s3_fault *f, const struct s3_subject *what)
{
	const char *known = s3_advice_on(S3_S3, f->code, f->message);

	if (strcmp(f->code, "RequestTimeTooSkewed") == 0)
		return clock_advice(f);
	if (s3_is_directory_bucket(what->bucket))
		return text_copy(S3_DIRECTORY_BUCKET);
	if (known != NULL)
		return text_copy(known);
	if (f->status == 403)
		return denied_advice(what);
	if (f->status == 404)
		return text_copy("check the spelling of bucket and key");
	if (f->status == 401)
		return text_copy("give credentials");
	if (f->status == 301)
		return text_copy(REGION);
	return text_copy(f->status >= 500 ? "the fault is the server's" : "");
}

/* Returns the advice as the end of a sentence, with "; " in front, or "". Heap. */
static char *s3_advice(const struct s3_fault *f, const struct s3_subject *what)
{
	_free_ char *what_to_do = choose_advice(f, what);

	return text_format("%s%s", what_to_do[0] != '\0' ? "; " : "", what_to_do);
}

/* Classifying answers. This is pure, so every answer of a server is a test of a few lines. */

static void copy_field(char *to, size_t size, const char *from)
{
	size_t n = 0;

	/* Control characters become spaces, so that messages stay on one line. */
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
	/* A proxy's error page is not S3's XML; then only the status counts. If the body was
	 * truncated, the fields parsed before the end are kept. */
	if (len > 0)
		s3_xml_read(body, len, "Error", on_field, f, NULL);
	f->is_page = len > 0 && f->code[0] == '\0';
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

enum s3_verdict s3_fault_classify(const struct s3_fault *f, const char *asked_region)
{
	static const char *const expired[] = {"ExpiredToken", "ExpiredTokenException",
		"TokenRefreshRequired", "InvalidToken", NULL};
	static const char *const slower[] = {"SlowDown", "Throttling", "ThrottlingException",
		"RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable", NULL};
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

/* Servers without a request answer 501 or 405, as they should, or 400. */
bool s3_fault_is_unknown(const struct s3_fault *f, const char *asked_region)
{
	static const char *const others[] = {"AuthorizationHeaderMalformed", "InvalidRegion",
		"InvalidBucketName", "IncorrectEndpoint", "SecondLevelDomainForbidden", NULL};

	if (strcmp(f->code, "NotImplemented") == 0 || f->status == 501 || f->status == 405)
		return true;
	return f->status == 400 && s3_fault_classify(f, asked_region) == S3_FINAL &&
	       !is_one_of(f->code, others);
}

/* -ENOENT requires a proof, because callers may remove data when an object does not exist: the
 * answer must come from S3, not from a proxy, and mean the object, not the bucket. The answer to a
 * HEAD has no body, and so no code. */
static bool says_absent(const struct s3_fault *f, const struct s3_subject *what)
{
	static const char *const codes[] = {
		"", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound", NULL};

	return f->status == 404 && what->key != NULL && !f->is_page && is_one_of(f->code, codes);
}

static int code_of(const struct s3_fault *f, const struct s3_subject *what)
{
	if (says_absent(f, what))
		return -ENOENT;
	if (f->status == 412)
		return -EEXIST;
	return f->status == 403 ? -EACCES : -ERR_HTTP;
}

int s3_fault_error(const struct s3_fault *f, const struct s3_subject *what, struct error *err)
{
	_free_ char *advice = s3_advice(f, what);
	_free_ char *place = what->key != NULL
				     ? text_format("s3://%s/%.300s", what->bucket, what->key)
				     : text_format("s3://%s", what->bucket);

	error_set(err, code_of(f, what),
		"%s: cannot %s it: S3 answered %ld%s%s%s%s%s (%s%s%sendpoint %s, region %s, %s%.300s)%s",
		place, what->doing, f->status, f->code[0] != '\0' ? " " : "", f->code,
		f->message[0] != '\0' ? " '" : "", f->message, f->message[0] != '\0' ? "'" : "",
		f->request_id[0] != '\0' ? "request " : "", f->request_id,
		f->request_id[0] != '\0' ? ", " : "", what->endpoint, what->region,
		what->is_signed ? "credentials: " : "not signed: ", what->who, advice);
	error_cause(err, 0, f->status);
	return code_of(f, what);
}
