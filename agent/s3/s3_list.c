/* SPDX-License-Identifier: MIT */
/* The objects of a bucket, a page after the other. Worker threads. */
#include "defer.h"
#include "s3_private.h"
#include <errno.h>
#include <string.h>

/* What was read of one page, before anybody hears of it. */
struct page {
	struct listed {
		struct s3_object object;
		char *key; /* object.key points to it */
	} * v;
	size_t n, cap;
	struct listed now; /* being read */
	char *next;        /* continuation token */
	bool truncated;
	bool encoded;
};

static void page_done(struct page *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].key);
	free(p->v);
	free(p->now.key);
	free(p->next);
}

static void add(struct page *p)
{
	if (p->now.key == NULL)
		return;
	if (p->n == p->cap) {
		p->cap = p->cap > 0 ? p->cap * 2 : S3_PAGE;
		p->v = realloc(p->v, p->cap * sizeof(*p->v));
		if (p->v == NULL)
			abort();
	}
	p->v[p->n++] = p->now;
	p->now = (struct listed){0};
}

static void set_key(struct page *p, const char *text, uint64_t size)
{
	free(p->now.key);
	p->now.key = copy_text(text);
	p->now.object.size = size;
}

static int on_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct page *p = ctx;

	(void)err;
	if (strcmp(path, "Contents/Key") == 0)
		set_key(p, text, 0);
	else if (strcmp(path, "Contents/Size") == 0)
		p->now.object.size = strtoull(text, NULL, 10);
	else if (strcmp(path, "Contents/ETag") == 0)
		s3_copy_etag(p->now.object.etag, text);
	else if (strcmp(path, "Contents/LastModified") == 0)
		p->now.object.modified = s3_time(text);
	else if (strcmp(path, "CommonPrefixes/Prefix") == 0)
		set_key(p, text, SIZE_UNKNOWN);
	else if (strcmp(path, "Contents") == 0 || strcmp(path, "CommonPrefixes") == 0)
		add(p);
	else if (strcmp(path, "IsTruncated") == 0)
		p->truncated = strcmp(text, "true") == 0;
	else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	else if (strcmp(path, "NextContinuationToken") == 0) {
		free(p->next);
		p->next = copy_text(text);
	}
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->key, ((const struct listed *)b)->key);
}

/* Keys in clear, and in order: common prefixes come after the objects. */
static int tidy(struct page *p, const struct s3_request *what, struct error *err)
{
	for (size_t i = 0; i < p->n; i++) {
		struct listed *l = &p->v[i];
		char *clear = p->encoded ? s3_decode(l->key) : copy_text(l->key);

		if (clear == NULL)
			return error_set(err, -ERR_FORMAT,
				"s3://%s: cannot list it: the key '%.300s' has a NUL in it",
				what->bucket, l->key);
		free(l->key);
		l->key = clear;
		l->object.key = clear;
	}
	if (p->n > 0)
		qsort(p->v, p->n, sizeof(*p->v), by_key);
	if (p->truncated && (p->next == NULL || p->next[0] == '\0'))
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot list it: the server says that there is more, but not "
			"where "
			"(its list-type=2 is broken)",
			what->bucket);
	return 0;
}

static char *query_of(
	const char *prefix, const char *start_after, char delimiter, const char *token)
{
	const char delimiters[2] = {delimiter, '\0'};
	struct text q = {0};

	if (token != NULL)
		s3_query_add(&q, "continuation-token", token);
	if (delimiter != '\0')
		s3_query_add(&q, "delimiter", delimiters);
	s3_query_add(&q, "encoding-type", "url");
	s3_query_add(&q, "list-type", "2");
	if (prefix != NULL && prefix[0] != '\0')
		s3_query_add(&q, "prefix", prefix);
	if (start_after != NULL && start_after[0] != '\0' && token == NULL)
		s3_query_add(&q, "start-after", start_after);
	return text_take(&q);
}

static int read_page(struct s3_client *c, const char *bucket, const char *query, struct page *ret,
	struct error *err)
{
	const struct s3_request what = {.method = "GET",
		.doing = "list",
		.bucket = bucket,
		.query = query,
		.permission = "s3:ListBucket"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(&what, &reply, "ListBucketResult", on_field, ret, err);
	reply_done(&reply);
	return code < 0 ? code : tidy(ret, &what, err);
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_list(struct s3_client *c, const char *bucket, const char *prefix, const char *start_after,
	char delimiter, int (*each)(void *ctx, const struct s3_object *o, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *token = NULL;
	bool more = true;
	int code = 0;

	while (code >= 0 && more) {
		_free_ char *query = query_of(prefix, start_after, delimiter, token);
		struct page page = {0};

		code = read_page(c, bucket, query, &page, err);
		for (size_t i = 0; i < page.n && code >= 0; i++)
			code = each(ctx, &page.v[i].object, err);
		more = page.truncated;
		free(token);
		token = take_ptr(&page.next);
		page_done(&page);
	}
	return code < 0 ? code : 0;
}
