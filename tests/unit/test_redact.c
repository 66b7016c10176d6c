/* SPDX-License-Identifier: MIT */
/* Secrets stay for the life of the process: each test has its own. */
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "settings.h"
#include "test.h"
#include "text.h"
#include <pthread.h>
#include <string.h>

static void check_shown(const char *expected, const char *line)
{
	_free_ char *shown = redact_own(text_copy(line));

	assert_string_equal(expected, shown);
}

TEST(redact_hides_a_secret_wherever_it_stands)
{
	redact_add("tangerine-1");
	check_shown("***", "tangerine-1");
	check_shown("a *** b *** c", "a tangerine-1 b tangerine-1 c");
	check_shown("******", "tangerine-1tangerine-1");
}

TEST(redact_leaves_a_line_without_a_secret_alone)
{
	redact_add("tangerine-2");
	assert_null(redact("tangerine-", 10, NULL));
	assert_null(redact("", 0, NULL));
}

TEST(redact_tells_the_length_of_lines_that_hold_nul_bytes)
{
	const char line[] = "a\0tangerine-3\0b";
	size_t len = 0;
	_free_ char *shown = NULL;

	redact_add("tangerine-3");
	shown = redact(line, sizeof(line) - 1, &len);
	assert_int_equal(7, len);
	assert_memory_equal("a\0***\0b", shown, 8);
}

TEST(redact_takes_the_longest_of_secrets_that_begin_together)
{
	redact_add("grapefruit");
	redact_add("grapefruit-juice");
	check_shown("*** and ***", "grapefruit-juice and grapefruit");
}

TEST(redact_leaves_nothing_of_secrets_that_overlap)
{
	redact_add("kumquat");
	redact_add("quatrains");
	check_shown("my *** here", "my kumquatrains here");
}

TEST(redact_hides_no_ordinary_words)
{
	redact_add("plums");
	redact_add("");
	check_shown("plums", "plums");
}

TEST(redact_hides_each_line_of_a_value_but_its_short_ones)
{
	redact_add("-----BEGIN MELON-----\r\n  bWVsb24tc2VlZHM\n==\n\n-----END MELON-----\n");
	check_shown("x *** y", "x -----BEGIN MELON----- y");
	check_shown("***", "bWVsb24tc2VlZHM");
	check_shown("***", "-----END MELON-----");
	check_shown("a == b", "a == b");
}

TEST(redact_hides_what_a_json_string_makes_of_a_secret)
{
	redact_add("pe\"ar\\tree");
	redact_add("p\xc3\xaa"
		   "che-melba");
	check_shown("{\"k\":\"***\"}", "{\"k\":\"pe\\\"ar\\\\tree\"}");
	check_shown("{\"k\":\"***\"}", "{\"k\":\"p\\u00EAche-melba\"}");
	check_shown("***", "p\xc3\xaa"
			   "che-melba");
}

static void *add_and_redact(void *arg)
{
	_free_ char *own = text_format("mango-of-thread-%d", *(int *)arg);

	for (int i = 0; i < 200; i++) {
		_free_ char *other = text_format("%s-%d", own, i);

		redact_add(other);
		check_shown("[***]", "[papaya-of-all]");
	}
	return NULL;
}

TEST(redact_may_be_called_by_any_thread)
{
	pthread_t threads[4];
	int numbers[ARRAY_LEN(threads)];

	redact_add("papaya-of-all");
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		numbers[i] = (int)i;
		assert_int_equal(0, pthread_create(&threads[i], NULL, add_and_redact, &numbers[i]));
	}
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	check_shown("***", "mango-of-thread-3-199");
}

/* What say() makes the log write. */
static char *logged(enum log_format format, void (*say)(void))
{
	char bytes[1024] = "";
	int fds[2];

	assert_int_equal(0, pipe(fds));
	log_setup(LOG_INFO, format, fds[1]);
	say();
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	assert_true(read(fds[0], bytes, sizeof(bytes) - 1) > 0);
	close(fds[0]);
	close(fds[1]);
	return text_copy(bytes);
}

static void say_a_line(void)
{
	log_error("the server said lych\tee-1");
}

static void say_fields(void)
{
	const struct log_field field = log_field_text("url", "https://host/lych\tee-1");

	log_event(LOG_INFO, EVENT_MESSAGE, &field, 1, "got %s", "lych\tee-1");
}

static void say_output(void)
{
	log_output("[who] ", "my lych\tee-1, still", 13);
}

TEST(redact_hides_secrets_in_every_line_of_the_log)
{
	_free_ char *text = NULL, *json = NULL, *output = NULL;

	redact_add("lych\tee-1");
	text = logged(LOG_TEXT, say_a_line);
	assert_string_equal("stagerun: error: the server said ***\n", text);
	json = logged(LOG_JSON, say_fields);
	assert_non_null(strstr(json, "\"message\":\"got ***\",\"url\":\"https://host/***\""));
	output = logged(LOG_TEXT, say_output);
	assert_string_equal("[who] my ***,\n", output);
}

TEST(settings_hide_the_values_of_variables_with_secret_names)
{
	char *const env[] = {"QUINCE_TOKEN=quince-by-glob", "QUINCE_PIN=quince-by-setting",
		"QUINCE_KEY", "QUINCE=quince-is-plain", NULL};
	struct settings *s = settings_new();

	assert_int_equal(0,
		settings_set(s, "agent.secret_names", "*_PIN", ORIGIN_FILE, "agent.ini:1", NULL));
	settings_hide_secrets(NULL, env);
	check_shown("*** quince-by-setting quince-is-plain",
		"quince-by-glob quince-by-setting quince-is-plain");
	settings_hide_secrets(s, env);
	check_shown("*** *** quince-is-plain", "quince-by-glob quince-by-setting quince-is-plain");
	settings_hide_secrets(s, NULL);
	settings_free(s);
}
