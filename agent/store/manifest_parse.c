/* SPDX-License-Identifier: MIT */
/* Reading manifests. Any thread. Whoever may write to a store may write anything into a manifest, so that
 * nothing in it is believed: other types, missing members, numbers that do not fit and keys that are not of
 * the store's layout are refused. Members that are not known are passed over. */
#include "backend.h"
#include "datastore.h"
#include "defer.h"
#include "json_bytes.h"
#include "manifest_json.h"
#include "text.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

/* Where it is read from, for messages: the first wrong member decides. */
struct source {
	const json_t *object;
	const char *where; /* "objects[3].", "" at the top */
	struct error *err;
	int code;
};

static void wrong(struct source *s, const char *name, const char *what)
{
	if (s->code == 0)
		s->code = error_set(
			s->err, -ERR_FORMAT, "the manifest's %s%s is not %s", s->where, name, what);
}

static uint64_t get_number(struct source *s, const char *name, uint64_t max)
{
	const json_t *value = json_object_get(s->object, name);
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || (uint64_t)n > max)
		wrong(s, name, "a number in its range");
	return (uint64_t)n;
}

static char *get_words(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));

	if (value == NULL)
		wrong(s, name, "text");
	return copy_text(value);
}

static char *get_bytes(struct source *s, const char *name)
{
	char *value = bytes_from_json(json_object_get(s->object, name));

	if (value == NULL)
		wrong(s, name, "text with %XX for what is not ASCII");
	return value;
}

static void get_digest(struct source *s, const char *name, bool optional, char ret[static 65])
{
	const char *value = json_string_value(json_object_get(s->object, name));
	size_t len = value != NULL ? strspn(value, "0123456789abcdef") : 1;

	if (value == NULL || value[len] != '\0' || !(len == 64 || (len == 0 && optional)))
		wrong(s, name, "a SHA-256");
	else
		memcpy(ret, value, len + 1);
}

static time_t get_time(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));
	struct tm tm = {0};
	const char *end = value != NULL ? strptime(value, "%Y-%m-%dT%H:%M:%SZ", &tm) : NULL;

	if (end == NULL || *end != '\0')
		wrong(s, name, "a time as 2026-01-31T12:00:00Z");
	return timegm(&tm);
}

static char *get_key(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));

	if (value == NULL || !store_key_is_valid(value) ||
		(strncmp(value, "packs/", 6) != 0 && strncmp(value, "large/", 6) != 0)) {
		wrong(s, name, "the key of a pack or a large file");
		return NULL;
	}
	return copy_text(value);
}

static void get_part(struct source *s, void *item)
{
	struct manifest_part *p = item;

	get_digest(s, "sha256", false, p->sha256);
	p->bytes = get_number(s, "bytes", INT64_MAX);
	p->entries = get_number(s, "entries", INT64_MAX);
	p->first = get_bytes(s, "first");
	p->last = get_bytes(s, "last");
}

static void get_object(struct source *s, void *item)
{
	struct manifest_object *o = item;

	o->key = get_key(s, "key");
	get_digest(s, "sha256", true, o->sha256);
	o->bytes = get_number(s, "bytes", INT64_MAX);
	o->raw = get_number(s, "raw", INT64_MAX);
	o->live = get_number(s, "live", INT64_MAX);
}

/* Items of size bytes each, zeroed and then filled by get(). */
static void *get_list(struct source *s, const char *name, size_t size, size_t *ret_n,
	void (*get)(struct source *s, void *item))
{
	const json_t *list = json_object_get(s->object, name);
	size_t n = json_array_size(list);
	char *items = n > 0 ? zalloc(n * size) : NULL;

	if (!json_is_array(list))
		wrong(s, name, "a list");
	*ret_n = n;
	for (size_t i = 0; i < n && s->code == 0; i++) {
		char where[64];
		struct source item = {
			.object = json_array_get(list, i), .where = where, .err = s->err};

		snprintf(where, sizeof(where), "%s[%zu].", name, i);
		get(&item, items + i * size);
		s->code = item.code;
	}
	return items;
}

static void get_reference(struct source *s, struct manifest *m)
{
	if (!json_is_null(json_object_get(s->object, "reference")))
		m->reference = get_bytes(s, "reference");
	if (m->reference != NULL && strncmp(m->reference, "s3://", 5) != 0)
		wrong(s, "reference", "an s3:// address");
}

static void fill(struct source *s, struct manifest *m)
{
	m->name = get_words(s, "name");
	if (m->name != NULL && datastore_name_check(m->name, NULL) < 0)
		wrong(s, "name", "a datastore's name");
	m->version = (unsigned)get_number(s, "version", UINT_MAX);
	if (m->version == 0)
		wrong(s, "version", "a number from 1");
	m->created = get_time(s, "created");
	m->creator = get_words(s, "creator");
	m->source = get_words(s, "source");
	m->nonce = get_words(s, "nonce");
	get_reference(s, m);
	m->entries = get_number(s, "entries", INT64_MAX);
	m->files = get_number(s, "files", INT64_MAX);
	m->bytes = get_number(s, "bytes", INT64_MAX);
	m->stored_bytes = get_number(s, "stored_bytes", INT64_MAX);
	m->parts = get_list(s, "index", sizeof(*m->parts), &m->n_parts, get_part);
	m->objects = get_list(s, "objects", sizeof(*m->objects), &m->n_objects, get_object);
}

static int check_format(const json_t *o, struct error *err)
{
	const json_t *format = json_object_get(o, "format");
	json_int_t n = json_integer_value(format);

	if (!json_is_integer(format) || n < 1)
		return error_set(err, -ERR_FORMAT, "this is no manifest of a datastore");
	if (n > MANIFEST_FORMAT)
		return error_set(err, -ERR_UNSUPPORTED,
			"the manifest has format %lld, this stagerun " STAGERUN_VERSION
			" knows formats up to %d: upgrade stagerun",
			(long long)n, MANIFEST_FORMAT);
	return 0;
}

int manifest_parse(const char *json, size_t len, struct manifest **ret, struct error *err)
{
	json_error_t why;
	json_t *o = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
	struct source s = {.object = o, .where = "", .err = err};
	struct manifest *m;

	if (o == NULL)
		return error_set(err, -ERR_FORMAT, "the manifest is not JSON: line %d: %s",
			why.line, why.text);
	m = manifest_new();
	s.code = check_format(o, err);
	if (s.code == 0)
		fill(&s, m);
	json_decref(o);
	if (s.code < 0) {
		manifest_free(m);
		return s.code;
	}
	manifest_identify(m, json, len);
	*ret = m;
	return 0;
}
