/* SPDX-License-Identifier: MIT */
/* Manifests as JSON, from friends and from strangers. */
#include "../../agent/store/store_private.h"
#include "defer.h"
#include "manifest.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <string.h>

static int parse(const char *json, struct manifest **ret, struct error *err)
{
	return manifest_parse(json, strlen(json), ret, err);
}

TEST(a_manifest_is_read_as_it_was_written)
{
	struct manifest *m = store_fixture_manifest("cats", "n1", "packs/aa/one.tar.zst");
	struct manifest *got = NULL;
	_free_ char *json = NULL;

	m->version = 7;
	m->created = 1767312000;
	m->parts[0].last = (free(m->parts[0].last), text_copy("odd \xff\n%41 name"));
	m->reference = text_copy("s3://bucket/pr\xc3\xa9"
				 "fix/");
	json = manifest_print(m);
	assert_int_equal(parse(json, &got, NULL), 0);
	assert_string_equal(got->name, "cats");
	assert_int_equal(got->version, 7);
	assert_int_equal(got->created, 1767312000);
	assert_string_equal(got->creator, m->creator);
	assert_string_equal(got->source, m->source);
	assert_string_equal(got->nonce, "n1");
	assert_string_equal(got->reference, m->reference);
	assert_int_equal(got->entries, m->entries);
	assert_int_equal(got->files, m->files);
	assert_int_equal(got->bytes, m->bytes);
	assert_int_equal(got->stored_bytes, m->stored_bytes);
	assert_int_equal(got->n_parts, 1);
	assert_string_equal(got->parts[0].sha256, m->parts[0].sha256);
	assert_string_equal(got->parts[0].last, "odd \xff\n%41 name");
	assert_int_equal(got->n_objects, 1);
	assert_string_equal(got->objects[0].key, "packs/aa/one.tar.zst");
	assert_int_equal(got->objects[0].live, m->objects[0].live);
	assert_string_equal(got->sha256, m->sha256);
	assert_int_equal(strlen(got->sha256), 64);
	manifest_free(got);
	manifest_free(m);
}

TEST(a_manifest_may_come_from_a_source_whose_name_is_not_utf_8)
{
	struct manifest *m = store_fixture_manifest("cats", "n1", "packs/aa/one.tar.zst");
	struct manifest *got = NULL;
	_free_ char *json = NULL;

	m->version = 1;
	free(m->source);
	m->source = text_copy("/data/\xff"
			      "cats");
	json = manifest_print(m);
	assert_int_equal(parse(json, &got, NULL), 0);
	assert_string_equal(got->source, "/data/?cats");
	manifest_free(got);
	manifest_free(m);
}

TEST(a_manifest_of_a_later_format_is_refused_with_what_to_do)
{
	struct manifest *got = NULL;
	struct error err;

	assert_int_equal(parse("{\"format\": 2}", &got, &err), -ERR_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "upgrade stagerun"));
	assert_null(got);
}

/* JSON with one text replaced by another. */
static char *change(const char *json, const char *from, const char *to)
{
	const char *at = strstr(json, from);

	assert_non_null(at);
	return text_format("%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
}

TEST(a_manifest_that_is_not_as_it_must_be_is_refused)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{"\"format\": 1", "\"format\": \"1\""},
		{"\"format\": 1", "\"format\": 0"},
		{"\"name\": \"cats\"", "\"name\": \"../cats\""},
		{"\"name\": \"cats\"", "\"name\": \"cats\\u0000\""},
		{"\"name\": \"cats\"", "\"name\": 5"},
		{"\"name\": \"cats\"", "\"name\": \"cats\", \"name\": \"dogs\""},
		{"\"version\": 3", "\"version\": 0"},
		{"\"version\": 3", "\"version\": 4294967296"},
		{"\"version\": 3", "\"version\": -1"},
		{"\"version\": 3", "\"version\": 3.0"},
		{"\"version\": 3", "\"other\": 3"},
		{"\"nonce\": \"n1\"", "\"nonce\": null"},
		{"T00:00:00Z", "T00:00:00"},
		{"\"reference\": null", "\"reference\": \"file:///etc\""},
		{"\"reference\": null", "\"reference\": \"s3://b/%0\""},
		{"\"bytes\": 4", "\"bytes\": -4"},
		{"\"bytes\": 4", "\"bytes\": 99999999999999999999"},
		{"packs/aa/", "../../etc/"},
		{"packs/aa/", "packs/../"},
		{"packs/aa/", "datastores/dogs/"},
		{"packs/aa/", "/"},
		{"\"index\": [", "\"index\": [[], "},
		{"\"objects\": [", "\"objects\": [null, "},
		{"\"index\": [", "\"index\": null, \"x\": ["},
		{"\"sha256\": \"aaaa", "\"sha256\": \"AAAA"},
		{"\"sha256\": \"aaaa", "\"sha256\": \"aaaaa"},
		{"\"sha256\": \"aaaa", "\"sha256\": \"\", \"x\": \""},
		{"}\n", "} x\n"},
	};
	struct manifest *m = store_fixture_manifest("cats", "n1", "packs/aa/one.tar.zst");
	_free_ char *json = NULL;

	m->version = 3;
	m->created = 0;
	json = manifest_print(m);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		_free_ char *changed = change(json, changes[i].from, changes[i].to);
		struct manifest *got = NULL;
		struct error err = {0};
		int code = parse(changed, &got, &err);

		if (code != -ERR_FORMAT)
			print_error("%s -> %s: %d\n", changes[i].from, changes[i].to, code);
		assert_int_equal(code, -ERR_FORMAT);
		assert_int_equal(err.code, -ERR_FORMAT);
		assert_null(got);
	}
	manifest_free(m);
}

TEST(a_manifest_that_is_cut_anywhere_is_refused)
{
	struct manifest *m = store_fixture_manifest("cats", "n1", "packs/aa/one.tar.zst");
	_free_ char *json = NULL;
	size_t len;

	m->version = 1;
	json = manifest_print(m);
	len = strlen(json);
	for (size_t i = 0; i < len; i++) {
		_free_ char *cut = zalloc(i + 1);
		struct manifest *got = NULL;

		memcpy(cut, json, i);
		assert_int_equal(manifest_parse(cut, i, &got, NULL), -ERR_FORMAT);
	}
	manifest_free(m);
}
