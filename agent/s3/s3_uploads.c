/* SPDX-License-Identifier: MIT */
/* Multipart uploads that somebody began and nobody has ended, a page after the other. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <string.h>

struct upload {
	char *key, *id;
	time_t begun;
};

struct page {
	struct upload *v;
	size_t n, cap;
	struct upload now;
	char *next_key, *next_id;
	bool truncated, encoded;
};

static void upload_done(struct upload *u)
{
	free(u->key);
	free(u->id);
}

static void page_done(struct page *p)
{
	for (size_t i = 0; i < p->n; i++)
		upload_done(&p->v[i]);
	free(p->v);
	upload_done(&p->now);
	free(p->next_key);
	free(p->next_id);
}

static void add(struct page *p)
{
	if (p->now.key == NULL || p->now.id == NULL)
		return;
	if (p->n == p->cap) {
		p->cap = p->cap > 0 ? p->cap * 2 : 64;
		p->v = realloc(p->v, p->cap * sizeof(*p->v));
		if (p->v == NULL)
			abort();
	}
	p->v[p->n++] = p->now;
	p->now = (struct upload){0};
}

static void set(char **field, const char *text)
{
	free(*field);
	*field = copy_text(text);
}

static int on_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct page *p = ctx;

	(void)err;
	if (strcmp(path, "Upload/Key") == 0)
		set(&p->now.key, text);
	else if (strcmp(path, "Upload/UploadId") == 0)
		set(&p->now.id, text);
	else if (strcmp(path, "Upload/Initiated") == 0)
		p->now.begun = s3_time(text);
	else if (strcmp(path, "Upload") == 0)
		add(p);
	else if (strcmp(path, "NextKeyMarker") == 0)
		set(&p->next_key, text);
	else if (strcmp(path, "NextUploadIdMarker") == 0)
		set(&p->next_id, text);
	else if (strcmp(path, "IsTruncated") == 0)
		p->truncated = strcmp(text, "true") == 0;
	else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	return 0;
}

static char *query_of(const char *prefix, const char *key, const char *id)
{
	struct text q = {0};

	s3_query_add(&q, "encoding-type", "url");
	if (key != NULL)
		s3_query_add(&q, "key-marker", key);
	if (prefix[0] != '\0')
		s3_query_add(&q, "prefix", prefix);
	if (id != NULL)
		s3_query_add(&q, "upload-id-marker", id);
	s3_query_add(&q, "uploads", "");
	return text_take(&q);
}

static int read_page(struct s3_client *c, const char *bucket, const char *query, struct page *ret,
	struct error *err)
{
	const struct s3_request what = {.method = "GET",
		.doing = "list the uploads to",
		.bucket = bucket,
		.query = query,
		.permission = "s3:ListBucketMultipartUploads"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "ListMultipartUploadsResult", on_field, ret, err);
	reply_done(&reply);
	return code;
}

static char *clear(const struct page *p, const char *key)
{
	return p->encoded && key != NULL ? s3_decode(key) : copy_text(key);
}

static int tell(const struct page *p,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < p->n && code >= 0; i++) {
		_free_ char *key = clear(p, p->v[i].key);

		if (key != NULL)
			code = each(ctx, key, p->v[i].id, p->v[i].begun, err);
	}
	return code;
}

int s3_uploads(struct s3_client *c, const char *bucket, const char *prefix,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *key = NULL;
	_free_ char *id = NULL;
	bool more = true;
	int code = 0;

	while (code >= 0 && more) {
		_free_ char *query = query_of(prefix, key, id);
		struct page page = {0};

		code = read_page(c, bucket, query, &page, err);
		if (code >= 0)
			code = tell(&page, each, ctx, err);
		more = page.truncated && page.next_key != NULL && page.n > 0;
		free(key);
		free(id);
		key = clear(&page, page.next_key);
		id = take_ptr(&page.next_id);
		page_done(&page);
	}
	return code < 0 ? code : 0;
}
