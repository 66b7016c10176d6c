/* SPDX-License-Identifier: MIT */
#include "defer.h"
#include "error.h"
#include "log.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

/* What say() makes the log write, in one read(2): each line is one write(2). */
static char *logged(enum log_format format, void (*say)(void))
{
	char bytes[2048] = "";
	int fds[2];

	assert_int_equal(0, pipe2(fds, O_DIRECT));
	log_setup(LOG_INFO, format, fds[1]);
	say();
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	assert_true(read(fds[0], bytes, sizeof(bytes) - 1) > 0);
	close(fds[0]);
	close(fds[1]);
	return text_copy(bytes);
}

static json_t *parse(const char *line)
{
	json_t *object = json_loads(line, 0, NULL);

	assert_non_null(object);
	return object;
}

/* d: a digit; any other character stands for itself. */
static void check_shape(const char *shape, const char *s)
{
	assert_true(strlen(s) >= strlen(shape));
	for (size_t i = 0; shape[i] != '\0'; i++)
		if (shape[i] == 'd')
			assert_in_range(s[i], '0', '9');
		else
			assert_int_equal(shape[i], s[i]);
}

static const char *member(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void say_a_line(void)
{
	log_warn("the disk is slow");
}

TEST(log_line_as_json_has_a_time_in_nanoseconds_a_level_an_event_and_a_message)
{
	_free_ char *line = logged(LOG_JSON, say_a_line);
	json_t *object = parse(line);

	check_shape("dddd-dd-ddTdd:dd:dd.dddddddddZ", member(object, "time"));
	assert_int_equal(30, strlen(member(object, "time")));
	assert_string_equal("warning", member(object, "level"));
	assert_string_equal("message", member(object, "event"));
	assert_string_equal("the disk is slow", member(object, "message"));
	assert_int_equal(4, json_object_size(object));
	json_decref(object);
}

static const struct log_field all_kinds[] = {
	{.key = "large", .type = LOG_INTEGER, .integer = 9007199254740993},
	{.key = "too_large", .type = LOG_INTEGER, .integer = UINT64_MAX},
	{.key = "seconds", .type = LOG_REAL, .real = 2},
	{.key = "no_word", .type = LOG_WORD},
	{.key = "no_text", .type = LOG_STRING},
	{.key = "word", .type = LOG_WORD, .string = "disk"},
};

static void say_all_kinds(void)
{
	log_event(LOG_INFO, EVENT_STAGE_DONE, all_kinds, ARRAY_LEN(all_kinds), "done");
}

TEST(log_fields_are_integers_where_they_count_and_reals_where_they_measure)
{
	_free_ char *line = logged(LOG_JSON, say_all_kinds);
	json_t *object = parse(line);

	assert_string_equal("stage_done", member(object, "event"));
	assert_true(json_integer_value(json_object_get(object, "large")) == 9007199254740993);
	assert_true(json_integer_value(json_object_get(object, "too_large")) == INT64_MAX);
	assert_true(json_is_real(json_object_get(object, "seconds")));
	assert_string_equal("disk", member(object, "word"));
	assert_int_equal(4 + 4, json_object_size(object));
	json_decref(object);
}

static void say_unknown(void)
{
	const struct log_field fields[] = {log_field_known("total", 0), log_field_known("n", 3),
		log_field_seconds("left", -1), log_field_ns("seconds", 1500000000)};

	log_event(LOG_INFO, EVENT_STAGE_PROGRESS, fields, ARRAY_LEN(fields), "on its way");
}

TEST(log_fields_that_are_not_known_are_left_out)
{
	_free_ char *line = logged(LOG_JSON, say_unknown);

	assert_non_null(strstr(line, "\"message\":\"on its way\",\"n\":3,\"seconds\":1.5}\n"));
}

static char *logged_with_times(enum log_time when, enum log_format format)
{
	char *line;

	log_set_times(when);
	line = logged(format, say_a_line);
	log_set_times(LOG_TIME_NO);
	return line;
}

TEST(log_line_of_text_begins_with_the_time_if_it_is_asked_for)
{
	_free_ char *with = logged_with_times(LOG_TIME_YES, LOG_TEXT);
	_free_ char *without = logged_with_times(LOG_TIME_NO, LOG_TEXT);

	check_shape("dddd-dd-ddTdd:dd:dd.dddZ ", with);
	assert_string_equal("stagerun: warning: the disk is slow\n", strchr(with, ' ') + 1);
	assert_string_equal("stagerun: warning: the disk is slow\n", without);
}

static void say_causes(void)
{
	struct error disk, server;

	error_set(&disk, -ENOSPC, "full");
	error_set(&server, -ERR_HTTP, "refused");
	error_cause(&server, 0, 404);
	log_event(LOG_ERROR, EVENT_STAGE_FAILED,
		(const struct log_field[]){log_field_errno(&disk), log_field_http_status(&disk),
			log_field_errno(&server), log_field_http_status(&server)},
		4, "failed");
}

TEST(log_fields_of_an_error_are_its_errno_by_name_or_the_status_of_the_answer)
{
	_free_ char *line = logged(LOG_JSON, say_causes);

	assert_non_null(
		strstr(line, "\"message\":\"failed\",\"errno\":\"ENOSPC\",\"http_status\":404}\n"));
}

static void say_json(void)
{
	log_event_json(LOG_INFO, EVENT_STAGE_STARTED, NULL, 0, "it begins");
}

TEST(log_event_may_be_json_where_the_log_is_text)
{
	_free_ char *line = logged(LOG_TEXT, say_json);
	json_t *object = parse(line);

	assert_string_equal("stage_started", member(object, "event"));
	json_decref(object);
}
