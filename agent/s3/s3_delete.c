/* SPDX-License-Identifier: MIT */
/* Removes objects: one by DELETE, many by a list. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <string.h>

/* AWS takes no list without a digest of it. */
static char *content_md5(const char *body, size_t len)
{
	uint8_t digest[MD5_DIGEST_SIZE];
	char base64[BASE64_ENCODE_RAW_LENGTH(MD5_DIGEST_SIZE) + 1] = "";
	struct md5_ctx md5;

	md5_init(&md5);
	md5_update(&md5, len, (const uint8_t *)body);
	md5_digest(&md5, sizeof(digest), digest);
	base64_encode_raw(base64, sizeof(digest), digest);
	return format_text("Content-MD5: %s", base64);
}

static char *list_of(const struct s3_doomed *v, size_t n)
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

/* The first that could not be deleted. */
struct survivor {
	char *key, *code, *message;
	bool is_told;
};

static void set(struct survivor *s, char **field, const char *text)
{
	if (s->is_told)
		return;
	free(*field);
	*field = copy_text(text);
}

static int on_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct survivor *s = ctx;

	(void)err;
	if (strcmp(path, "Error/Key") == 0)
		set(s, &s->key, text);
	else if (strcmp(path, "Error/Code") == 0)
		set(s, &s->code, text);
	else if (strcmp(path, "Error/Message") == 0)
		set(s, &s->message, text);
	else if (strcmp(path, "Error") == 0)
		s->is_told = s->code == NULL || strcmp(s->code, "NoSuchKey") != 0;
	return 0;
}

static int tell(const char *bucket, const struct survivor *s, struct error *err)
{
	bool denied = s->code != NULL && strcmp(s->code, "AccessDenied") == 0;

	if (!s->is_told)
		return 0;
	return error_set(err, denied ? -EACCES : -ERR_HTTP,
		"s3://%s/%.300s: cannot delete it: S3 answered %s%s%.200s%s", bucket,
		s->key != NULL ? s->key : "", s->code != NULL ? s->code : "an error",
		s->message != NULL ? ": " : "", s->message != NULL ? s->message : "",
		denied ? "; its owner has to allow s3:DeleteObject" : "");
}

int s3_delete_page(struct s3_client *c, const char *bucket, const struct s3_doomed *v, size_t n,
	struct error *err)
{
	_free_ char *body = list_of(v, n);
	_free_ char *md5 = content_md5(body, strlen(body));
	const char *const headers[] = {md5, "Content-Type: application/xml", NULL};
	const struct s3_request what = {.method = "POST",
		.doing = "delete from",
		.bucket = bucket,
		.query = "delete=",
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.permission = "s3:DeleteObject"};
	struct survivor survivor = {0};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "DeleteResult", on_field, &survivor, err);
	reply_done(&reply);
	if (code == 0)
		code = tell(bucket, &survivor, err);
	free(survivor.key);
	free(survivor.code);
	free(survivor.message);
	return code;
}

static int delete_one(struct s3_client *c, const char *bucket, const char *key, struct error *err)
{
	const struct s3_request what = {.method = "DELETE",
		.doing = "delete",
		.bucket = bucket,
		.key = key,
		.permission = "s3:DeleteObject"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code == -ENOENT)
		return 0;
	if (code < 0)
		return code;
	reply_done(&reply);
	return 0;
}

/* XML has no way to write the others. */
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
	struct s3_doomed page[S3_PAGE];
	size_t in_page = 0;
	int code = 0;

	if (n == 1)
		return delete_one(c, bucket, keys[0], err);
	for (size_t i = 0; i < n && code == 0; i++) {
		if (!fits_xml(keys[i])) {
			code = delete_one(c, bucket, keys[i], err);
			continue;
		}
		page[in_page++] = (struct s3_doomed){.key = keys[i]};
		if (in_page == S3_PAGE) {
			code = s3_delete_page(c, bucket, page, in_page, err);
			in_page = 0;
		}
	}
	return code == 0 && in_page > 0 ? s3_delete_page(c, bucket, page, in_page, err) : code;
}
