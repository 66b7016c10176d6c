/* SPDX-License-Identifier: MIT */
/* What was staged, as JSON and in words. Any thread. It knows nothing of files: journal.c reads and
 * writes those. */
#include "record.h"
#include "defer.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIGEST_LEN 64

void record_free(struct record *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_sources; i++) {
		free(r->sources[i].key);
		free(r->sources[i].name);
	}
	free(r->sources);
	free(r->key);
	free(r);
}

static json_t *source_to_json(const struct record_source *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "key", bytes_to_json(s->key));
	json_object_set_new(o, "name", bytes_to_json(s->name));
	json_object_set_new(o, "etag", bytes_to_json(s->identity.etag));
	json_object_set_new(o, "last_modified", bytes_to_json(s->identity.last_modified));
	json_object_set_new(o, "sha256", bytes_to_json(s->sha256));
	if (s->identity.size != SIZE_UNKNOWN)
		json_object_set_new(o, "size", json_integer((json_int_t)s->identity.size));
	return o;
}

static void sum_to_json(const struct record *r, json_t *o)
{
	char sum[2 * 16 + 2];

	if (r->synced)
		json_object_set_new(o, "synced", json_true());
	if (!r->sum.known)
		return;
	snprintf(sum, sizeof(sum), "%016" PRIx64 "-%016" PRIx64, r->sum.dense, r->sum.sparse);
	json_object_set_new(o, "sum", json_string(sum));
}

/* What is missing or damaged is not known. */
static struct file_sum sum_from_json(const json_t *o)
{
	const char *sum = json_string_value(json_object_get(o, "sum"));
	struct file_sum s = {0};

	s.known = sum != NULL && strlen(sum) == 2 * 16 + 1 &&
		  sscanf(sum, "%16" SCNx64 "-%16" SCNx64, &s.dense,
			  &s.sparse) == /* NOLINT(cert-err34-c) */
			  2;
	return s;
}

json_t *record_to_json(const struct record *r)
{
	json_t *o = json_object(), *sources = json_array();

	for (size_t i = 0; i < r->n_sources; i++)
		json_array_append_new(sources, source_to_json(&r->sources[i]));
	json_object_set_new(o, "key", bytes_to_json(r->key));
	json_object_set_new(o, "sources", sources);
	json_object_set_new(o, "bytes", json_integer((json_int_t)r->bytes));
	json_object_set_new(o, "entries", json_integer((json_int_t)r->entries));
	json_object_set_new(o, "staged_at", json_integer((json_int_t)r->staged_at));
	sum_to_json(r, o);
	if (o == NULL || sources == NULL)
		abort();
	return o;
}

/* Copies a text member into a fixed field; false when it is missing or too long for it. */
static bool read_text(const json_t *o, const char *key, char *field, size_t size)
{
	_free_ char *bytes = bytes_from_json(json_object_get(o, key));

	if (bytes == NULL || strlen(bytes) >= size)
		return false;
	memcpy(field, bytes, strlen(bytes) + 1);
	return true;
}

static bool source_from_json(const json_t *o, struct record_source *ret)
{
	const json_t *size = json_object_get(o, "size");

	ret->key = bytes_from_json(json_object_get(o, "key"));
	ret->name = bytes_from_json(json_object_get(o, "name"));
	ret->identity.size = size != NULL ? (uint64_t)json_integer_value(size) : SIZE_UNKNOWN;
	return ret->key != NULL && ret->name != NULL && (size == NULL || json_is_integer(size)) &&
	       read_text(o, "etag", ret->identity.etag, sizeof(ret->identity.etag)) &&
	       read_text(o, "last_modified", ret->identity.last_modified,
		       sizeof(ret->identity.last_modified)) &&
	       read_text(o, "sha256", ret->sha256, DIGEST_LEN + 1);
}

static bool sources_from_json(const json_t *array, struct record *r)
{
	if (!json_is_array(array))
		return false;
	r->n_sources = json_array_size(array);
	r->sources = zalloc(r->n_sources * sizeof(*r->sources));
	for (size_t i = 0; i < r->n_sources; i++)
		if (!source_from_json(json_array_get(array, i), &r->sources[i]))
			return false;
	return true;
}

struct record *record_from_json(const json_t *object)
{
	struct record *r = zalloc(sizeof(*r));
	const json_t *bytes = json_object_get(object, "bytes");
	const json_t *entries = json_object_get(object, "entries");
	const json_t *staged_at = json_object_get(object, "staged_at");

	r->key = bytes_from_json(json_object_get(object, "key"));
	r->bytes = (uint64_t)json_integer_value(bytes);
	r->entries = (uint64_t)json_integer_value(entries);
	r->staged_at = (time_t)json_integer_value(staged_at);
	r->synced = json_is_true(json_object_get(object, "synced"));
	r->sum = sum_from_json(object);
	if (sources_from_json(json_object_get(object, "sources"), r) && r->key != NULL &&
		strchr(r->key, '/') == NULL && json_is_integer(bytes) && json_is_integer(entries) &&
		json_is_integer(staged_at))
		return r;
	record_free(r);
	return NULL;
}

bool record_is_pinned(const struct record *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (r->sources[i].sha256[0] == '\0' && !identity_pins(&r->sources[i].identity))
			return false;
	return true;
}

static void describe_version(const struct record_source *s, struct text *t)
{
	if (s->sha256[0] != '\0')
		text_addf(t, " (sha256 %.12s)", s->sha256);
	else if (s->identity.etag[0] != '\0')
		text_addf(t, " (etag %s)", s->identity.etag);
	else if (s->identity.last_modified[0] != '\0')
		text_addf(t, " (last modified %s)", s->identity.last_modified);
}

void record_describe(const struct record *r, struct text *t)
{
	char when[32] = "an unknown time";
	struct tm tm;

	if (gmtime_r(&r->staged_at, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	text_add(t, r->n_sources > 0 ? r->sources[0].name : "nothing");
	if (r->n_sources > 1)
		text_addf(t, " and %zu more", r->n_sources - 1);
	text_addf(t, " staged at %s", when);
	if (r->n_sources > 0)
		describe_version(&r->sources[0], t);
}
