/* SPDX-License-Identifier: MIT */
/* Buckets that keep old versions of their objects: whether they do, and how to be rid of them. Worker threads. */
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
	reply_done(&reply);
	return code;
}

struct page {
	struct s3_doomed v[S3_PAGE];
	size_t n;
	char *key, *version; /* being read */
	bool truncated, encoded;
};

static void set(char **field, const char *text)
{
	free(*field);
	*field = copy_text(text);
}

static void add(struct page *p)
{
	if (p->n == S3_PAGE || p->key == NULL || p->version == NULL)
		return;
	p->v[p->n].key = take_ptr(&p->key);
	p->v[p->n++].version = take_ptr(&p->version);
}

static int on_field(void *ctx, const char *path, const char *text, struct error *err)
{
	const char *field = strchr(path, '/');
	struct page *p = ctx;

	(void)err;
	if (strcmp(path, "IsTruncated") == 0)
		p->truncated = strcmp(text, "true") == 0;
	else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	else if (strncmp(path, "Version", 7) != 0 && strncmp(path, "DeleteMarker", 12) != 0)
		return 0;
	else if (field == NULL)
		add(p);
	else if (strcmp(field, "/Key") == 0)
		set(&p->key, text);
	else if (strcmp(field, "/VersionId") == 0)
		set(&p->version, text);
	return 0;
}

static void page_free(struct page *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free((char *)p->v[i].key);
		free((char *)p->v[i].version);
	}
	free(p->key);
	free(p->version);
	free(p);
}

static int read_page(struct s3_client *c, const char *bucket, const char *prefix, struct page *ret,
	struct error *err)
{
	struct text query = {0};
	struct s3_request what = {.method = "GET",
		.doing = "list the versions in",
		.bucket = bucket,
		.permission = "s3:ListBucketVersions"};
	struct reply reply;
	int code;

	s3_query_add(&query, "encoding-type", "url");
	if (prefix[0] != '\0')
		s3_query_add(&query, "prefix", prefix);
	s3_query_add(&query, "versions", "");
	what.query = query.s;
	code = s3_perform(c, &what, &reply, NULL, err);
	text_done(&query);
	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "ListVersionsResult", on_field, ret, err);
	reply_done(&reply);
	return code;
}

static int decode_keys(struct page *p, const char *bucket, struct error *err)
{
	for (size_t i = 0; i < p->n && p->encoded; i++) {
		char *clear = s3_decode(p->v[i].key);

		if (clear == NULL)
			return error_set(err, -ERR_FORMAT,
				"s3://%s: the key '%.300s' has a NUL in it", bucket, p->v[i].key);
		free((char *)p->v[i].key);
		p->v[i].key = clear;
	}
	return 0;
}

/* Always the first page: what it named is gone before the next look. */
int s3_delete_versions(
	struct s3_client *c, const char *bucket, const char *prefix, struct error *err)
{
	bool more = true;
	int code = 0;

	while (code == 0 && more) {
		struct page *page = zalloc(sizeof(*page));

		code = read_page(c, bucket, prefix, page, err);
		if (code == 0)
			code = decode_keys(page, bucket, err);
		if (code == 0 && page->n > 0)
			code = s3_delete_page(c, bucket, page->v, page->n, err);
		more = page->truncated && page->n > 0;
		page_free(page);
	}
	return code;
}
