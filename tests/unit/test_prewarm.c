/* SPDX-License-Identifier: MIT */
/* Lists of what to stage, and the summary for schedulers. */
#include "../../agent/command/plan.h"
#include "../../agent/command/run/run.h"
#include "config_fixture.h"
#include "defer.h"
#include "process.h"
#include "redact.h"
#include "test.h"
#include <jansson.h>
#include <string.h>

/* A plan with one list. */
static int read_list(struct plan *p, const char *content, struct error *err)
{
	_free_ char *path = config_file("list", content);
	struct request r = {0};
	int code;

	*p = (struct plan){0};
	environment_set(&p->environment, "DATA", "/data");
	text_strings_add(&r.lists, path);
	code = plan_lists(p, &r, err);
	text_strings_done(&r.lists);
	return code;
}

TEST(list_has_sources_and_datastores_comments_and_blank_lines)
{
	struct plan p;

	assert_int_equal(0, read_list(&p,
				    "# a comment\n\n  https://h/x.zip?a=/b=${DATA}/x \r\n"
				    "datastore:cats:3=/c/\ngrid:me:dogs:1",
				    NULL));
	assert_int_equal(1, p.n_listed);
	assert_string_equal("https://h/x.zip?a=/b", p.listed[0].sources[0].url);
	assert_string_equal("/data/x", p.listed[0].to);
	assert_non_null(strstr(p.listed[0].origin, "list:3"));
	assert_int_equal(2, p.attached.n);
	assert_string_equal("cats", p.attached.v[0].name);
	assert_string_equal("3", p.attached.v[0].version);
	assert_string_equal("/c", p.attached.v[0].to);
	assert_string_equal("/datastores/dogs", p.attached.v[1].to);
	plan_done(&p);
}

static void refuses(const char *content, const char *says)
{
	struct plan p;
	struct error err = {0};

	assert_true(read_list(&p, content, &err) < 0);
	if (strstr(err.msg, says) == NULL)
		fail_msg("'%s' does not say '%s'", err.msg, says);
	plan_done(&p);
}

TEST(list_names_the_line_that_is_wrong)
{
	refuses("# x\ncats\n", "list:2: 'cats' is not SOURCE=DIR");
	refuses("cats:1", "a datastore is written datastore:NAME");
	refuses("/a=/b\nhttps://u:pw@h/x?sig=1\n", "list:2: 'https://h/x' is not");
	refuses("datastore:", "list:1");
	refuses("/a=${NONE}/b", "NONE");
	refuses("datastore:a=/x\ndatastore:b=/x", "both want /x");
}

static json_t *parsed(const struct prewarm_summary *s, int exit_code, const char *reason)
{
	_free_ char *text = prewarm_summary_text(s, exit_code, reason);
	json_t *o = json_loads(text, 0, NULL);

	if (o == NULL)
		fail_msg("not JSON: %s", text);
	return o;
}

static const char *text_of(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

TEST(summary_of_nothing_is_whole)
{
	struct prewarm_summary s = {0};
	json_t *o, *total;

	prewarm_summary_begin(&s);
	o = parsed(&s, 0, "");
	assert_null(json_object_get(o, "reason"));
	assert_int_equal(0, json_array_size(json_object_get(o, "destinations")));
	total = json_object_get(o, "total");
	assert_int_equal(0, json_integer_value(json_object_get(total, "failed")));
	json_decref(o);
	prewarm_summary_done(&s);
}

TEST(summary_tells_each_destination_and_the_total)
{
	const struct stage_result_source sources[] = {{.name = "https://h/\"x\"",
							      .received = 5,
							      .etag = "\"e\"",
							      .last_modified = "now; 3 ns",
							      .sha256 = ""},
		{.name = "datastore:c", .datastore = "c", .version = 4, .sha256 = "ab"}};
	struct error err = {.msg = "it is the hidden-password"};
	struct stage_result r = {.to = "/d/\xff",
		.origin = "list:1",
		.end = STAGE_FETCHED,
		.bytes = 7,
		.entries = 2,
		.elapsed_ns = 1500000000,
		.sources = sources,
		.n_sources = 2};
	struct prewarm_summary s = {0};
	json_t *o, *first, *total;

	redact_add("hidden-password");
	prewarm_summary_begin(&s);
	prewarm_summary_add(&s, &r);
	r = (struct stage_result){.to = "/e", .end = STAGE_FAILED, .err = &err};
	prewarm_summary_add(&s, &r);
	/* The byte that is no UTF-8 is there as a lone surrogate, which jansson refuses and Python reads. */
	assert_non_null(strstr(s.destinations.s, "\"/d/\\udcff\""));
	memcpy(strstr(s.destinations.s, "\\udcff"), "\\u00ff", 6);
	o = parsed(&s, 1, err.msg);
	assert_null(strstr(text_of(o, "reason"), "hidden"));
	first = json_array_get(json_object_get(o, "destinations"), 0);
	assert_string_equal("staged", text_of(first, "result"));
	assert_string_equal("now",
		text_of(json_array_get(json_object_get(first, "sources"), 0), "last_modified"));
	assert_string_equal("ab",
		text_of(json_array_get(json_object_get(first, "sources"), 1), "manifest_sha256"));
	assert_int_equal(5, json_integer_value(json_object_get(first, "received_bytes")));
	total = json_object_get(o, "total");
	assert_int_equal(2, json_integer_value(json_object_get(total, "destinations")));
	assert_int_equal(1, json_integer_value(json_object_get(total, "failed")));
	assert_int_equal(7, json_integer_value(json_object_get(total, "bytes")));
	json_decref(o);
	prewarm_summary_begin(&s);
	assert_null(s.destinations.s);
	assert_int_equal(0, s.ends[STAGE_FAILED]);
	prewarm_summary_done(&s);
}
