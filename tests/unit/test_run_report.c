/* SPDX-License-Identifier: MIT */
/* The reports of a run, from timelines that are made up. With STAGERUN_REPORT_SAMPLES=DIR they are
 * left in DIR, for a look at the page: build/unit '*samples*'. */
#include "../../agent/report/report_private.h"
#include "defer.h"
#include "progress.h"
#include "run_report.h"
#include "test.h"
#include "timeline.h"
#include "timeline_fixture.h"
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef void print_fn(struct timeline *t, struct text *ret);

#define NS ((uint64_t)1000000000)

static char *print(struct timeline *(*make)(void), print_fn *report)
{
	struct timeline *t = make();
	struct text text = {0};

	report(t, &text);
	timeline_free(t);
	return text_take(&text);
}

static json_t *print_and_parse(struct timeline *(*make)(void), print_fn *report)
{
	_free_ char *text = print(make, report);
	json_t *parsed = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(parsed);
	return parsed;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s != NULL ? s : "(none)";
}

static double number_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void check_headline(struct timeline *(*make)(void), const char *line, const char *sentence)
{
	json_t *report = print_and_parse(make, report_json);
	const json_t *start = json_object_get(report, "start");

	assert_string_equal(line, text_of(start, "headline"));
	assert_string_equal(sentence, text_of(start, "explanation"));
	json_decref(report);
}

TEST(run_report_says_first_what_made_the_start_slow)
{
	check_headline(timeline_of_cold_start, "Ready in 48.2 s",
		"41.0 s waiting for the network at imagenet.tar");
	check_headline(timeline_of_slow_disk, "Ready in 2 min 22 s",
		"2 min 1 s waiting for the disk at coco.zip");
	check_headline(timeline_of_warm_start, "Ready in 44 ms", "everything was there already");
	check_headline(timeline_of_failed_start, "Failed after 812 ms",
		"https://data.example.org/sets/imagnet.tar: the server answered 404 Not Found; is the name right?");
}

TEST(run_report_splits_the_time_of_the_start_without_a_rest)
{
	for (const struct timeline_sample *s = timeline_samples; s->name != NULL; s++) {
		json_t *report = print_and_parse(s->make, report_json);
		const json_t *spent =
			json_object_get(json_object_get(report, "start"), "spent_seconds");
		const json_t *run = json_object_get(report, "run");
		double sum = 0, whole = number_of(run, "ready_seconds");
		const char *cause;
		json_t *seconds;

		json_object_foreach((json_t *)spent, cause, seconds) sum +=
			json_number_value(seconds);
		if (whole <= 0)
			whole = number_of(run, "seconds");
		assert_true(sum > whole - 1e-6 && sum < whole + 1e-6);
		json_decref(report);
	}
}

TEST(run_report_has_sources_with_rate_and_waits)
{
	json_t *report = print_and_parse(timeline_of_cold_start, report_json);
	const json_t *source = json_array_get(json_object_get(report, "sources"), 0);
	const json_t *waits = json_object_get(source, "waits");

	assert_string_equal("stagerun.report/1", text_of(report, "schema"));
	assert_string_equal("/data/imagenet", text_of(source, "stage"));
	assert_string_equal("network", text_of(source, "bottleneck"));
	assert_true(number_of(waits, "network") > 0.86 && number_of(waits, "network") < 0.88);
	assert_int_equal(242205726,
		(long)number_of(source, "rate_bytes_per_second")); /* 11.42 GB in 47.15 s */
	assert_true(number_of(source, "ranges") > 50);
	assert_int_equal(2, json_array_size(json_object_get(report, "warnings")));
	assert_int_equal(3, json_array_size(json_object_get(report, "stages")));
	assert_string_equal("stagerun run (pid 4711 on node-3)",
		text_of(json_array_get(json_object_get(report, "lock_waits"), 0), "holder"));
	json_decref(report);
}

/* Ends of the tracks, by tid. */
enum { TRACKS_MAX = 64 };

/* A source that worked for one second, after its stage had waited three for another agent. */
static struct timeline *timeline_of_a_lock(void)
{
	struct timeline *t = timeline_new();
	uint64_t begin_ns = now_ns() - 10 * NS;
	unsigned run = timeline_begin_at(t, 0, SPAN_RUN, "stagerun", begin_ns);
	unsigned stage = timeline_begin_at(t, run, SPAN_STAGE, "/data", begin_ns);
	unsigned lock = timeline_begin_at(t, stage, SPAN_LOCK, "process 7", begin_ns);
	unsigned source = timeline_begin_at(t, stage, SPAN_SOURCE, "cats.tar", begin_ns + 3 * NS);

	timeline_end_at(t, lock, SPAN_OK, NULL, begin_ns + 3 * NS);
	timeline_set_number(t, source, "network_ns", NS);
	timeline_set_number(t, source, "lock_ns", 3 * NS);
	timeline_end_at(t, source, SPAN_OK, NULL, begin_ns + 4 * NS);
	timeline_end_at(t, stage, SPAN_OK, NULL, begin_ns + 4 * NS);
	timeline_set_number(t, run, "ready_ns", 4 * NS);
	return t;
}

TEST(run_report_adds_the_wait_for_another_agent_to_the_time_of_a_source)
{
	json_t *report = print_and_parse(timeline_of_a_lock, report_json);
	const json_t *source = json_array_get(json_object_get(report, "sources"), 0);
	const json_t *waits = json_object_get(source, "waits");
	const json_t *spent = json_object_get(json_object_get(report, "start"), "spent_seconds");

	assert_int_equal(75, (int)(number_of(waits, "lock") * 100 + 0.5));
	assert_int_equal(25, (int)(number_of(waits, "network") * 100 + 0.5));
	assert_int_equal(300, (int)(number_of(spent, "lock") * 100 + 0.5));
	assert_int_equal(100, (int)(number_of(spent, "network") * 100 + 0.5));
	json_decref(report);
}

static void check_event(const json_t *event, double ends[TRACKS_MAX], bool named[TRACKS_MAX])
{
	json_int_t tid = json_integer_value(json_object_get(event, "tid"));

	assert_in_range(tid, 0, TRACKS_MAX - 1);
	if (strcmp(text_of(event, "ph"), "X") != 0) {
		assert_string_equal("M", text_of(event, "ph"));
		named[tid] |= strcmp(text_of(event, "name"), "thread_name") == 0;
		return;
	}
	assert_true(json_is_real(json_object_get(event, "ts")));
	assert_true(number_of(event, "dur") >= 0);
	assert_true(number_of(event, "ts") >= ends[tid]);
	ends[tid] = number_of(event, "ts") + number_of(event, "dur") - 0.01;
}

TEST(run_report_trace_has_named_tracks_on_which_nothing_overlaps)
{
	for (const struct timeline_sample *s = timeline_samples; s->name != NULL; s++) {
		json_t *trace = print_and_parse(s->make, report_trace);
		double ends[TRACKS_MAX] = {0};
		bool named[TRACKS_MAX] = {false};
		size_t i;
		json_t *event;

		json_array_foreach(json_object_get(trace, "traceEvents"), i, event)
			check_event(event, ends, named);
		for (i = 1; i < TRACKS_MAX; i++)
			assert_true(ends[i] <= 0 || named[i]);
		json_decref(trace);
	}
}

TEST(run_report_page_is_a_page_that_loads_and_runs_nothing)
{
	static const char *const wanted[] = {"<!DOCTYPE html>", "default-src 'none'",
		"Ready in 48.2 s", "more connections: the server gives each 60 MB/s",
		"labels, version 3", "stagerun run (pid 4711 on node-3)", "/scratch is not there"};
	_free_ char *page = print(timeline_of_cold_start, report_html);

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		assert_non_null(strstr(page, wanted[i]));
	assert_null(strstr(page, "<script"));
	assert_null(strstr(page, "src="));
	assert_null(strstr(page, "@import"));
	assert_null(strstr(page, "href="));
}

TEST(run_report_page_escapes_hostile_names)
{
	_free_ char *page = print(timeline_of_hostile_names, report_html);

	assert_null(strstr(page, "<script"));
	assert_null(strstr(page, "\x1b"));
	assert_null(strstr(page, "\xff"));
	assert_null(strstr(page, "\"' onload"));
	assert_non_null(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=a"));
	assert_non_null(strstr(page, "&amp;amp;"));
	assert_null(strstr(page, "\xe2\x80\xae"));
	assert_non_null(strstr(page, "\\u202egpj.tar"));
}

TEST(run_report_samples_can_be_looked_at)
{
	const char *kept = getenv("STAGERUN_REPORT_SAMPLES"); /* NOLINT(concurrency-mt-unsafe) */
	_free_ char *own = kept == NULL ? test_directory() : NULL;
	const char *dir = kept != NULL ? kept : own;
	static const char *const endings[] = {"html", "json", "trace.json"};

	for (const struct timeline_sample *s = timeline_samples; s->name != NULL; s++) {
		struct timeline *t = s->make();

		for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
			_free_ char *path = text_format("%s/%s.%s", dir, s->name, endings[i]);
			struct stat st;

			report_write(path, t);
			assert_int_equal(0, stat(path, &st));
			assert_true(st.st_size > 400);
		}
		timeline_free(t);
	}
}

/* Files. */

TEST(run_report_formats_are_told_by_their_ending)
{
	struct error err;

	assert_int_equal(0, report_check_path("x.json", &err));
	assert_int_equal(0, report_check_path("/a/b.trace.json", &err));
	assert_int_equal(0, report_check_path("x.html", &err));
	assert_int_equal(0, report_check_path("/dev/stdout", &err));
	assert_int_equal(-ERR_USAGE, report_check_path("x.txt", &err));
	assert_non_null(strstr(err.msg, ".trace.json"));
	assert_int_equal(-ERR_USAGE, report_check_path(".json", &err));
	assert_int_equal(-ERR_USAGE, report_check_path("", &err));
}

TEST(run_report_replaces_a_file_whole)
{
	_free_ char *dir = test_directory(), *path = text_format("%s/r.json", dir);
	struct timeline *t = timeline_of_warm_start();
	struct stat before, after;

	report_write(path, t);
	assert_int_equal(0, stat(path, &before));
	report_write(path, t);
	assert_int_equal(0, stat(path, &after));
	assert_int_not_equal(
		before.st_ino, after.st_ino); /* by rename: readers have one or the other */
	timeline_free(t);
}

TEST(run_report_replaces_the_file_that_a_link_leads_to)
{
	_free_ char *dir = test_directory(), *path = text_format("%s/r.json", dir);
	_free_ char *link = text_format("%s/link.json", dir);
	struct timeline *t = timeline_of_warm_start();
	struct stat st;

	assert_int_equal(0, close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
	assert_int_equal(0, symlink("r.json", link));
	report_write(link, t);
	assert_int_equal(0, lstat(link, &st));
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(0, stat(path, &st));
	assert_true(st.st_size > 400);
	timeline_free(t);
}

TEST(run_report_is_written_into_what_is_no_regular_file)
{
	_free_ char *dir = test_directory(), *path = text_format("%s/r.json", dir);
	struct timeline *t = timeline_of_warm_start();
	struct stat st;
	char bytes[64] = "";
	int reader;

	assert_int_equal(0, mkfifo(path, 0600));
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	report_write(path, t);
	assert_true(read(reader, bytes, sizeof(bytes) - 1) > 0);
	assert_non_null(strstr(bytes, "stagerun.report/1"));
	assert_int_equal(0, stat(path, &st));
	assert_true(S_ISFIFO(st.st_mode));
	close(reader);
	report_write(path, t); /* nobody reads: a warning */
	report_write("/nonexistent/r.json", t);
	timeline_free(t);
}
