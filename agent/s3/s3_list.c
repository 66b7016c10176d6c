/* SPDX-License-Identifier: MIT */
/* Lists the objects of a bucket and the unfinished multipart uploads. Worker threads. The tally and
 * the cursor are pure. */
#include "defer.h"
#include "digest.h"
#include "s3.h"
#include "s3_private.h"
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <string.h>
#include <strings.h>

/* The tally: a digest over the names and ETags of a listing, which identifies the state of a
 * prefix. */

struct s3_tally {
	struct sha256_ctx sha256;
	uint64_t bytes;
};

struct s3_tally *s3_tally_new(void)
{
	struct s3_tally *t = zalloc(sizeof(*t));

	sha256_init(&t->sha256);
	return t;
}

void s3_tally_add(struct s3_tally *t, const struct s3_object *o)
{
	_free_ char *line = text_format("%s%c%s%c%" PRIu64, o->key, '\n', o->etag, '\n', o->size);

	sha256_update(&t->sha256, strlen(line) + 1, (const uint8_t *)line);
	t->bytes += o->size;
}

void s3_tally_free(struct s3_tally *t, struct identity *ret)
{
	char hex[65];

	digest_finish(&t->sha256, hex);
	*ret = (struct identity){.size = t->bytes};
	snprintf(ret->etag, sizeof(ret->etag), "\"%s\"", hex);
	free(t);
}

/* The cursor: checks that a listing advances from page to page. */

/* Consecutive pages that may end at the same key: they can be empty, or end within the versions or
 * uploads of one key. */
enum { STALLED_MAX = 1000 };

static bool is_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int s3_cursor_move(struct s3_cursor *at, const char *key, const char *more,
	const struct s3_request *what, struct error *err)
{
	bool begun = at->key != NULL || at->more != NULL;
	int order = at->key != NULL && key != NULL ? strcmp(key, at->key) : key != NULL;
	char *next_key;

	at->stalled = order > 0 ? 0 : at->stalled + 1;
	if (begun &&
		(order < 0 || (order == 0 && is_same(more, at->more)) || at->stalled > STALLED_MAX))
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot %s it: the server, or a proxy before it, sends the same page again and again",
			what->bucket, what->doing);
	next_key = text_copy(key);
	s3_cursor_done(at);
	at->key = next_key;
	at->more = text_copy(more);
	return 0;
}

void s3_cursor_done(struct s3_cursor *at)
{
	free(take_ptr(&at->key));
	free(take_ptr(&at->more));
}

/* Listing objects, page by page. */

/* One page. It is parsed and checked completely before the caller gets any object of it. */
struct page {
	struct listed {
		struct s3_object object;
		char *key; /* owned; object.key points to it */
	} * v;
	size_t n, cap;
	struct listed now; /* the element that is being parsed */
	bool restored;     /* the element in now has been restored from the archive */
	/* Storage classes are named by the server's operator and say nothing about archives. */
	bool own_classes;
	char *next;           /* continuation token */
	bool truncated, ends; /* IsTruncated is true or false; neither is set: it is missing */
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

static void add_object(struct page *p)
{
	bool restored = p->restored;

	p->restored = false;
	if (p->now.key == NULL)
		return;
	if (restored || p->own_classes)
		p->now.object.archive[0] = '\0';
	if (p->n == p->cap) {
		p->cap = p->cap > 0 ? p->cap * 2 : S3_PAGE;
		p->v = realloc(p->v, p->cap * sizeof(*p->v));
		if (p->v == NULL)
			abort();
	}
	p->v[p->n++] = p->now;
	p->now = (struct listed){0};
}

/* Archive classes of AWS and Alibaba. Classes that are slow or expensive but can be read at once
 * (GLACIER_IR, and Google's ARCHIVE) are not among them. */
static void set_class(struct page *p, const char *name)
{
	static const char *const archives[] = {
		"GLACIER", "DEEP_ARCHIVE", "Archive", "ColdArchive", "DeepColdArchive"};

	for (size_t i = 0; i < ARRAY_LEN(archives); i++)
		if (strcmp(name, archives[i]) == 0)
			snprintf(p->now.object.archive, sizeof(p->now.object.archive), "%s", name);
}

static void set_restore(struct page *p, const char *in_progress)
{
	p->now.object.restoring = strcasecmp(in_progress, "true") == 0;
	p->restored = strcasecmp(in_progress, "false") == 0;
}

int s3_object_check_archive(const char *bucket, const struct s3_object *o, struct error *err)
{
	if (o->archive[0] == '\0')
		return 0;
	return error_set(err, -ERR_UNSUPPORTED,
		"s3://%s/%.300s: it is archived (storage class %s), and S3 sends no byte of it before it is restored; %s, or leave it out with exclude",
		bucket, o->key, o->archive,
		o->restoring ? "that is under way: try again when it is done"
			     : "restore it (aws s3api restore-object), which takes hours");
}

static void set_key(struct page *p, const char *text, uint64_t size)
{
	free(p->now.key);
	p->now.key = text_copy(text);
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
	else if (strcmp(path, "Contents/StorageClass") == 0)
		set_class(p, text);
	else if (strcmp(path, "Contents/RestoreStatus/IsRestoreInProgress") == 0)
		set_restore(p, text);
	else if (strcmp(path, "CommonPrefixes/Prefix") == 0)
		set_key(p, text, SIZE_UNKNOWN);
	else if (strcmp(path, "Contents") == 0 || strcmp(path, "CommonPrefixes") == 0)
		add_object(p);
	else if (strcmp(path, "IsTruncated") == 0) {
		p->truncated = strcmp(text, "true") == 0;
		p->ends = strcmp(text, "false") == 0;
	} else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	else if (strcmp(path, "NextContinuationToken") == 0) {
		free(p->next);
		p->next = text_copy(text);
	}
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->key, ((const struct listed *)b)->key);
}

/* Decodes and checks the keys, and sorts them: in an answer, the common prefixes come after the
 * objects. */
static int decode_and_sort(
	struct page *p, const struct s3_request *what, const char *prefix, struct error *err)
{
	for (size_t i = 0; i < p->n; i++) {
		struct listed *l = &p->v[i];
		char *clear = p->encoded ? s3_decode(l->key) : text_copy(l->key);

		if (clear == NULL)
			return error_set(err, -ERR_FORMAT,
				"s3://%s: cannot list it: the key '%.300s' has a NUL in it",
				what->bucket, l->key);
		free(l->key);
		l->key = clear;
		l->object.key = clear;
		if (prefix != NULL && strncmp(clear, prefix, strlen(prefix)) != 0)
			return error_set(err, -ERR_HTTP,
				"s3://%s/%s: cannot list it: the server lists '%.300s', which is not below it (does a proxy before it ignore the query?)",
				what->bucket, prefix, clear);
	}
	if (p->n > 0)
		qsort(p->v, p->n, sizeof(*p->v), compare_keys);
	return 0;
}

/* A truncated listing must not be taken for a complete one. */
static int check_end(const struct page *p, const struct s3_request *what, struct error *err)
{
	if (p->truncated && (p->next == NULL || p->next[0] == '\0'))
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot list it: the server says that there is more, but not where (its list-type=2 is broken)",
			what->bucket);
	if (!p->truncated && !p->ends)
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot list it: the server does not say whether there is more (IsTruncated is missing)",
			what->bucket);
	return 0;
}

/* Checks that this page begins after the last key of the previous one. */
static int advance(struct s3_cursor *at, const struct page *p, const struct s3_request *what,
	struct error *err)
{
	if (p->n > 0 && at->key != NULL && strcmp(p->v[0].key, at->key) <= 0)
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot list it: the server lists '%.300s' after '%.300s' (does it, or a proxy before it, send one page again?)",
			what->bucket, p->v[0].key, at->key);
	return p->truncated ? s3_cursor_move(at, p->n > 0 ? p->v[p->n - 1].key : at->key, p->next,
				      what, err)
			    : 0;
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

struct object_list {
	struct s3_client *client;
	const char *bucket, *prefix, *start_after;
	char delimiter;
	struct s3_cursor at;
	char *token;
};

/* The names of MinIO's tiers and Ceph's storage classes are chosen by their operator, and all of
 * them can be read like any other object. */
static bool has_own_classes(const struct reply *r)
{
	const char *server = call_reply_header(r, "server");

	return server != NULL &&
	       (strcasestr(server, "minio") != NULL || strcasestr(server, "ceph") != NULL);
}

static int read_page(struct object_list *l, struct page *ret, struct error *err)
{
	_free_ char *query = query_of(l->prefix, l->start_after, l->delimiter, l->token);
	/* Asks whether archived objects have been restored. Only AWS supports this header. */
	static const char *const headers[] = {
		"x-amz-optional-object-attributes: RestoreStatus", NULL};
	_free_ char *region = s3_region_of(l->client->s3, l->bucket);
	const struct s3_request what = {.method = "GET",
		.doing = "list",
		.bucket = l->bucket,
		.query = query,
		.headers = region != NULL && s3_is_aws(l->client->s3) ? headers : NULL,
		.permission = "s3:ListBucket"};
	struct reply reply;
	int code = s3_perform(l->client, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	ret->own_classes = has_own_classes(&reply);
	code = s3_xml_answer(&what, &reply, "ListBucketResult", on_field, ret, err);
	call_reply_done(&reply);
	if (code == 0)
		code = decode_and_sort(ret, &what, l->prefix, err);
	if (code == 0)
		code = check_end(ret, &what, err);
	return code < 0 ? code : advance(&l->at, ret, &what, err);
}

/* NOLINTNEXTLINE(readability-function-size): its parameters, which have nothing in common */
int s3_list(struct s3_client *c, const char *bucket, const char *prefix, const char *start_after,
	char delimiter, int (*each)(void *ctx, const struct s3_object *o, struct error *err),
	void *ctx, struct error *err)
{
	struct object_list l = {.client = c,
		.bucket = bucket,
		.prefix = prefix,
		.start_after = start_after,
		.delimiter = delimiter};
	bool more = true;
	int code = 0;

	while (code >= 0 && more) {
		struct page page = {0};

		code = read_page(&l, &page, err);
		if (page.n > 0)
			page.v[page.n - 1].object.ends_page = true;
		for (size_t i = 0; i < page.n && code >= 0; i++)
			code = each(ctx, &page.v[i].object, err);
		more = page.truncated;
		free(l.token);
		l.token = take_ptr(&page.next);
		page_done(&page);
	}
	free(l.token);
	s3_cursor_done(&l.at);
	return code < 0 ? code : 0;
}

/* Listing multipart uploads that are neither completed nor aborted, page by page. */

struct upload {
	char *key, *id;
	time_t begun;
};

struct uploads_page {
	struct upload *v;
	size_t n, cap;
	struct upload now;
	char *next_key, *next_id;
	bool truncated, ends, encoded;
};

static void upload_done(struct upload *u)
{
	free(u->key);
	free(u->id);
}

static void uploads_page_done(struct uploads_page *p)
{
	for (size_t i = 0; i < p->n; i++)
		upload_done(&p->v[i]);
	free(p->v);
	upload_done(&p->now);
	free(p->next_key);
	free(p->next_id);
}

static void add_upload(struct uploads_page *p)
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

static void set_upload(char **field, const char *text)
{
	free(*field);
	*field = text_copy(text);
}

static int on_upload_field(void *ctx, const char *path, const char *text, struct error *err)
{
	struct uploads_page *p = ctx;

	(void)err;
	if (strcmp(path, "Upload/Key") == 0)
		set_upload(&p->now.key, text);
	else if (strcmp(path, "Upload/UploadId") == 0)
		set_upload(&p->now.id, text);
	else if (strcmp(path, "Upload/Initiated") == 0)
		p->now.begun = s3_time(text);
	else if (strcmp(path, "Upload") == 0)
		add_upload(p);
	else if (strcmp(path, "NextKeyMarker") == 0)
		set_upload(&p->next_key, text);
	else if (strcmp(path, "NextUploadIdMarker") == 0)
		set_upload(&p->next_id, text);
	else if (strcmp(path, "IsTruncated") == 0) {
		p->truncated = strcmp(text, "true") == 0;
		p->ends = strcmp(text, "false") == 0;
	} else if (strcmp(path, "EncodingType") == 0)
		p->encoded = strcmp(text, "url") == 0;
	return 0;
}

static char *uploads_query(const char *prefix, const char *key, const char *id)
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

static char *decode_key(const struct uploads_page *p, const char *key)
{
	return p->encoded && key != NULL ? s3_decode(key) : text_copy(key);
}

static int report_uploads(const struct uploads_page *p,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < p->n && code >= 0; i++) {
		_free_ char *key = decode_key(p, p->v[i].key);

		if (key != NULL)
			code = each(ctx, key, p->v[i].id, p->v[i].begun, err);
	}
	return code;
}

static int advance_uploads(struct s3_cursor *at, const struct uploads_page *p,
	const struct s3_request *what, struct error *err)
{
	_free_ char *next = decode_key(p, p->next_key);

	if (p->truncated == p->ends || (p->truncated && next == NULL))
		return error_set(err, -ERR_HTTP,
			"s3://%s: cannot %s it: the server does not say whether there is more, or where",
			what->bucket, what->doing);
	return p->truncated ? s3_cursor_move(at, next, p->next_id, what, err) : 0;
}

static int read_uploads(struct s3_client *c, const char *bucket, const char *prefix,
	struct s3_cursor *at, struct uploads_page *ret, struct error *err)
{
	_free_ char *query = uploads_query(prefix, at->key, at->more);
	const struct s3_request what = {.method = "GET",
		.doing = "list the uploads to",
		.bucket = bucket,
		.query = query,
		.permission = "s3:ListBucketMultipartUploads"};
	struct reply reply;
	int code = s3_perform(c, &what, &reply, NULL, err);

	if (code < 0)
		return code;
	code = s3_xml_answer(
		&what, &reply, "ListMultipartUploadsResult", on_upload_field, ret, err);
	call_reply_done(&reply);
	return code < 0 ? code : advance_uploads(at, ret, &what, err);
}

int s3_uploads(struct s3_client *c, const char *bucket, const char *prefix,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err)
{
	struct s3_cursor at = {0};
	bool more = true;
	int code = 0;

	while (code >= 0 && more) {
		struct uploads_page page = {0};

		code = read_uploads(c, bucket, prefix, &at, &page, err);
		if (code >= 0)
			code = report_uploads(&page, each, ctx, err);
		more = page.truncated;
		uploads_page_done(&page);
	}
	s3_cursor_done(&at);
	return code < 0 ? code : 0;
}
