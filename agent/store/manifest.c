/* SPDX-License-Identifier: MIT */
/* Manifests: in memory, printed as JSON and parsed from it. Any thread, no I/O. */
#include "manifest.h"
#include "datastore.h"
#include "defer.h"
#include "digest.h"
#include "json_bytes.h"
#include "store_private.h"
#include "text.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

struct manifest *manifest_new(void)
{
	return zalloc(sizeof(struct manifest));
}

void manifest_free(struct manifest *m)
{
	if (m == NULL)
		return;
	manifest_forget_content(m);
	free(m->name);
	free(m->creator);
	free(m->source);
	free(m->nonce);
	free(m->reference);
	free(m);
}

void manifest_forget_content(struct manifest *m)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		free(m->parts[i].first);
		free(m->parts[i].last);
	}
	for (size_t i = 0; i < m->n_objects; i++)
		free(m->objects[i].key);
	free(m->parts);
	free(m->objects);
	m->parts = NULL;
	m->objects = NULL;
	m->n_parts = m->n_objects = 0;
}

/* Sets m->sha256, the identity of the manifest. */
static void set_identity(struct manifest *m, const char *json, size_t len)
{
	digest_hex(json, len, m->sha256);
}

/* Text for display only. */
static json_t *text_value(const char *s)
{
	return json_from_text(s != NULL ? s : "", JSON_ODD_QUESTION);
}

static json_t *number_value(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *time_value(time_t t)
{
	char buf[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(buf);
}

static json_t *part_value(const struct manifest_part *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "sha256", json_string(p->sha256));
	json_object_set_new(o, "bytes", number_value(p->bytes));
	json_object_set_new(o, "entries", number_value(p->entries));
	json_object_set_new(o, "first", json_from_bytes(p->first));
	json_object_set_new(o, "last", json_from_bytes(p->last));
	return o;
}

static json_t *object_value(const struct manifest_object *m)
{
	json_t *o = json_object();

	json_object_set_new(o, "key", json_string(m->key));
	json_object_set_new(o, "sha256", json_string(m->sha256));
	json_object_set_new(o, "bytes", number_value(m->bytes));
	json_object_set_new(o, "raw", number_value(m->raw));
	json_object_set_new(o, "live", number_value(m->live));
	return o;
}

static void add_lists(const struct manifest *m, json_t *o)
{
	json_t *parts = json_array(), *objects = json_array();

	for (size_t i = 0; i < m->n_parts; i++)
		json_array_append_new(parts, part_value(&m->parts[i]));
	for (size_t i = 0; i < m->n_objects; i++)
		json_array_append_new(objects, object_value(&m->objects[i]));
	json_object_set_new(o, "index", parts);
	json_object_set_new(o, "objects", objects);
}

char *manifest_print(struct manifest *m)
{
	json_t *o = json_object();
	char *json;

	json_object_set_new(o, "format", json_integer(MANIFEST_FORMAT));
	json_object_set_new(o, "name", json_string(m->name));
	json_object_set_new(o, "version", number_value(m->version));
	json_object_set_new(o, "created", time_value(m->created));
	json_object_set_new(o, "creator", text_value(m->creator));
	json_object_set_new(o, "source", text_value(m->source));
	json_object_set_new(o, "nonce", json_string(m->nonce));
	json_object_set_new(
		o, "reference", m->reference != NULL ? json_from_bytes(m->reference) : json_null());
	json_object_set_new(o, "entries", number_value(m->entries));
	json_object_set_new(o, "files", number_value(m->files));
	json_object_set_new(o, "bytes", number_value(m->bytes));
	json_object_set_new(o, "stored_bytes", number_value(m->stored_bytes));
	add_lists(m, o);
	json = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	if (json == NULL)
		abort(); /* out of memory, the only error: all strings are UTF-8 */
	set_identity(m, json, strlen(json));
	return json;
}

char *manifest_part_key(const char *sha256)
{
	return text_format("index/%.2s/%s.zst", sha256, sha256);
}

/* Parsing. Everybody with write access to a store can write any bytes into a manifest, so nothing
 * in it is trusted: members of another type, missing members, numbers out of range and keys that
 * are not of the store's layout are refused. Unknown members are ignored. */

/* A JSON object that is parsed, and its path for messages. Only the first error is kept. */
struct source {
	const json_t *object;
	const char *where; /* "objects[3].", "" at the top */
	struct error *err;
	int code;
};

static void set_error(struct source *s, const char *name, const char *what)
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
		set_error(s, name, "a number in its range");
	return (uint64_t)n;
}

static char *get_text(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));

	if (value == NULL)
		set_error(s, name, "text");
	return text_copy(value);
}

static char *get_bytes(struct source *s, const char *name)
{
	char *value = json_to_bytes(json_object_get(s->object, name));

	if (value == NULL)
		set_error(s, name, "text with %XX for what is not ASCII");
	return value;
}

static void get_digest(struct source *s, const char *name, bool optional, char ret[static 65])
{
	const char *value = json_string_value(json_object_get(s->object, name));
	size_t len = value != NULL ? strspn(value, "0123456789abcdef") : 1;

	if (value == NULL || value[len] != '\0' || !(len == 64 || (len == 0 && optional)))
		set_error(s, name, "a SHA-256");
	else
		memcpy(ret, value, len + 1);
}

static time_t get_time(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));
	struct tm tm = {0};
	const char *end = value != NULL ? strptime(value, "%Y-%m-%dT%H:%M:%SZ", &tm) : NULL;

	if (end == NULL || *end != '\0')
		set_error(s, name, "a time as 2026-01-31T12:00:00Z");
	return timegm(&tm);
}

static char *get_key(struct source *s, const char *name)
{
	const char *value = json_string_value(json_object_get(s->object, name));

	if (value == NULL || !store_key_is_valid(value) ||
		(strncmp(value, "packs/", 6) != 0 && strncmp(value, "large/", 6) != 0)) {
		set_error(s, name, "the key of a pack or a large file");
		return NULL;
	}
	return text_copy(value);
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

/* Returns a heap array of items of size bytes each, zeroed and then filled by get(). */
static void *get_list(struct source *s, const char *name, size_t size, size_t *ret_n,
	void (*get)(struct source *s, void *item))
{
	const json_t *list = json_object_get(s->object, name);
	size_t n = json_array_size(list);
	char *items = n > 0 ? zalloc(n * size) : NULL;

	if (!json_is_array(list))
		set_error(s, name, "a list");
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
		set_error(s, "reference", "an s3:// address");
}

static void parse_members(struct source *s, struct manifest *m)
{
	m->name = get_text(s, "name");
	if (m->name != NULL && datastore_name_check(m->name, NULL) < 0)
		set_error(s, "name", "a datastore's name");
	m->version = (unsigned)get_number(s, "version", UINT_MAX);
	if (m->version == 0)
		set_error(s, "version", "a number from 1");
	m->created = get_time(s, "created");
	m->creator = get_text(s, "creator");
	m->source = get_text(s, "source");
	m->nonce = get_text(s, "nonce");
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
		parse_members(&s, m);
	json_decref(o);
	if (s.code < 0) {
		manifest_free(m);
		return s.code;
	}
	set_identity(m, json, len);
	*ret = m;
	return 0;
}
