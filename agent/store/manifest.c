/* SPDX-License-Identifier: MIT */
/* Manifests in memory, and written as JSON. Any thread. */
#include "manifest.h"
#include "defer.h"
#include "digest.h"
#include "json_bytes.h"
#include "manifest_json.h"
#include "text.h"
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

void manifest_identify(struct manifest *m, const char *json, size_t len)
{
	digest_hex(json, len, m->sha256);
}

/* Text for people: what is not UTF-8 loses its foreign bytes. */
static json_t *words(const char *s)
{
	json_t *value = json_string(s != NULL ? s : "");

	if (value == NULL) {
		_free_ char *ascii = copy_text(s);

		for (char *p = ascii; *p != '\0'; p++) {
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		}
		value = json_string(ascii);
	}
	return value;
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *print_time(time_t t)
{
	char buf[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(buf);
}

static json_t *print_part(const struct manifest_part *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "sha256", json_string(p->sha256));
	json_object_set_new(o, "bytes", number(p->bytes));
	json_object_set_new(o, "entries", number(p->entries));
	json_object_set_new(o, "first", bytes_to_json(p->first));
	json_object_set_new(o, "last", bytes_to_json(p->last));
	return o;
}

static json_t *print_object(const struct manifest_object *m)
{
	json_t *o = json_object();

	json_object_set_new(o, "key", json_string(m->key));
	json_object_set_new(o, "sha256", json_string(m->sha256));
	json_object_set_new(o, "bytes", number(m->bytes));
	json_object_set_new(o, "raw", number(m->raw));
	json_object_set_new(o, "live", number(m->live));
	return o;
}

static void print_lists(const struct manifest *m, json_t *o)
{
	json_t *parts = json_array(), *objects = json_array();

	for (size_t i = 0; i < m->n_parts; i++)
		json_array_append_new(parts, print_part(&m->parts[i]));
	for (size_t i = 0; i < m->n_objects; i++)
		json_array_append_new(objects, print_object(&m->objects[i]));
	json_object_set_new(o, "index", parts);
	json_object_set_new(o, "objects", objects);
}

char *manifest_print(struct manifest *m)
{
	json_t *o = json_object();
	char *json;

	json_object_set_new(o, "format", json_integer(MANIFEST_FORMAT));
	json_object_set_new(o, "name", json_string(m->name));
	json_object_set_new(o, "version", number(m->version));
	json_object_set_new(o, "created", print_time(m->created));
	json_object_set_new(o, "creator", words(m->creator));
	json_object_set_new(o, "source", words(m->source));
	json_object_set_new(o, "nonce", json_string(m->nonce));
	json_object_set_new(
		o, "reference", m->reference != NULL ? bytes_to_json(m->reference) : json_null());
	json_object_set_new(o, "entries", number(m->entries));
	json_object_set_new(o, "files", number(m->files));
	json_object_set_new(o, "bytes", number(m->bytes));
	json_object_set_new(o, "stored_bytes", number(m->stored_bytes));
	print_lists(m, o);
	json = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	if (json == NULL)
		abort(); /* out of memory: all of it is text */
	manifest_identify(m, json, strlen(json));
	return json;
}

char *manifest_part_key(const struct manifest_part *p)
{
	return format_text("index/%.2s/%s.zst", p->sha256, p->sha256);
}
