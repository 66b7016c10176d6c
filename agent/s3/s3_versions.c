/* SPDX-License-Identifier: MIT */
/* Buckets with versioning: whether a bucket has it, and deleting old versions of objects. Worker
 * threads. */
#include "defer.h"
#include "s3_private.h"
#include <string.h>

static int on_status(void *ctx, const char *path, const char *text, struct error *err)
{
	bool *versioned = ctx;

	(void)err;
	if (strcmp(path, "Status") == 0)
		*versioned = strcmp(text, "Enabled") == 0 || strcmp(text, "Suspended") == 0;
	return 0;
}

int s3_is_versioned(struct s3_client *c, const char *bucket, bool *ret, struct error *err)
{
	const struct s3_request what = {.method = "GET",
		.doing = "ask for the versioning of",
		.bucket = bucket,
		.query = "versioning=",
		.permission = "s3:GetBucketVersioning"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	*ret = false;
	code = s3_xml_answer(&what, &reply, "VersioningConfiguration", on_status, ret, err);
	call_reply_done(&reply);
	return code;
}

struct old_version {
	char *key, *version;
};

struct versions_page {
	struct old_version v[S3_PAGE];
	size_t n;
	char *key, *version; /* of the element that is being parsed */
	char *next_key, *next_version;
	bool truncated, ends, encoded;
};

static void set_version(char **field, const char *text)
{
	free(*field);
	*field = text_copy(text);
}

static void add_version(struct versions_page *p)
{
	if (p->n == S3_PAGE || p->key == NULL || p->version == NULL)
		return;
	p->v[p->n].key = take_ptr(&p->key);
	p->v[p->n++].version = take_ptr(&p->version);
}

static int on_version_field(void *ctx, const char *path, const char *text, struct error *err)
{
	const char *field = strchr(path, '/');
	struct versions_page *p = ctx;

	(void)err;
	if (strcmp(path, "IsTruncated") == 0) {
		p->truncated = strcmp(text, "true") == 0;
		p->ends = strcmp(text, "false") == 0;
	} else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	else if (strcmp(path, "NextKeyMarker") == 0)
		set_version(&p->next_key, text);
	else if (strcmp(path, "NextVersionIdMarker") == 0)
		set_version(&p->next_version, text);
	else if (strncmp(path, "Version", 7) != 0 && strncmp(path, "DeleteMarker", 12) != 0)
		return 0;
	else if (field == NULL)
		add_version(p);
	else if (strcmp(field, "/Key") == 0)
		set_version(&p->key, text);
	else if (strcmp(field, "/VersionId") == 0)
		set_version(&p->version, text);
	return 0;
}

static void page_free(struct versions_page *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].key);
		free(p->v[i].version);
	}
	free(p->key);
	free(p->version);
	free(p->next_key);
	free(p->next_version);
	free(p);
}

static char *versions_query(const char *prefix, const struct s3_cursor *at)
{
	struct text query = {0};

	s3_query_add(&query, "encoding-type", "url");
	if (at->key != NULL)
		s3_query_add(&query, "key-marker", at->key);
	if (prefix[0] != '\0')
		s3_query_add(&query, "prefix", prefix);
	if (at->more != NULL)
		s3_query_add(&query, "version-id-marker", at->more);
	s3_query_add(&query, "versions", "");
	return text_take(&query);
}

static int decode_keys(struct versions_page *p, const char *bucket, struct error *err)
{
	for (size_t i = 0; i < p->n && p->encoded; i++) {
		char *clear = s3_decode(p->v[i].key);

		if (clear == NULL)
			return error_set(err, -ERR_FORMAT,
				"s3://%s: the key '%.300s' has a NUL in it", bucket, p->v[i].key);
		free(p->v[i].key);
		p->v[i].key = clear;
	}
	return 0;
}

static int advance_versions(struct s3_cursor *at, const struct versions_page *p,
	const struct s3_request *what, struct error *err)
{
	_free_ char *next =
		p->encoded && p->next_key != NULL ? s3_decode(p->next_key) : text_copy(p->next_key);

	if (p->truncated == p->ends || (p->truncated && next == NULL))
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot %s it: the server does not say whether there is more, or where",
			what->bucket, what->doing);
	return p->truncated ? s3_cursor_move(at, next, p->next_version, what, err) : 0;
}

static int read_versions(struct s3_client *c, const char *bucket, const char *prefix,
	struct s3_cursor *at, struct versions_page *ret, struct error *err)
{
	_free_ char *query = versions_query(prefix, at);
	struct s3_request what = {.method = "GET",
		.doing = "list the versions in",
		.bucket = bucket,
		.query = query,
		.permission = "s3:ListBucketVersions"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "ListVersionsResult", on_version_field, ret, err);
	call_reply_done(&reply);
	if (code == 0)
		code = decode_keys(ret, bucket, err);
	return code < 0 ? code : advance_versions(at, ret, &what, err);
}

/* Deletes the versions of one page that the caller chooses. */
static int delete_chosen(struct s3_client *c, const char *bucket, const struct versions_page *p,
	const struct s3_chooser *which, struct error *err)
{
	struct s3_deletion chosen[S3_PAGE];
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (which->is_chosen(which->ctx, p->v[i].key))
			chosen[n++] = (struct s3_deletion){
				.key = p->v[i].key, .version = p->v[i].version};
	}
	return n > 0 ? s3_delete_page(c, bucket, chosen, n, err) : 0;
}

int s3_delete_versions(struct s3_client *c, const char *bucket, const char *prefix,
	const struct s3_chooser *which, struct error *err)
{
	struct s3_cursor at = {0};
	bool more = true;
	int code = 0;

	while (code == 0 && more) {
		struct versions_page *page = zalloc(sizeof(*page));

		code = read_versions(c, bucket, prefix, &at, page, err);
		if (code == 0)
			code = delete_chosen(c, bucket, page, which, err);
		more = page->truncated;
		page_free(page);
	}
	s3_cursor_done(&at);
	return code;
}
