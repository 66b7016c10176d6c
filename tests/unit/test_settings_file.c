/* SPDX-License-Identifier: MIT */
/* agent.ini: lines, places in messages, layers and locks. */
#include "../../agent/config/settings_table.h"
#include "config_fixture.h"
#include "defer.h"
#include "test.h"
#include <ctype.h>
#include <string.h>

#define assert_says(err, part) assert_non_null(strstr((err).msg, part))

static const char nowhere[] = "/nonexistent/stagerun/agent.ini";

/* Settings out of one agent.ini with this content. */
static struct settings *settings_of(const char *content)
{
	struct settings *s = settings_new();
	_free_ char *path = config_file("agent.ini", content);
	struct error err = {0};

	if (settings_read_files(s, path, nowhere, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

/* The message for a file that is refused, from its own name on. */
static struct error refusal(const char *content)
{
	struct settings *s = settings_new();
	_free_ char *path = config_file("agent.ini", content);
	struct error err = {0};
	char *at;

	assert_int_equal(-ERR_CONFIG, settings_read_files(s, path, nowhere, &err));
	at = strstr(err.msg, "agent.ini");
	assert_non_null(at);
	memmove(err.msg, at, strlen(at) + 1);
	settings_free(s);
	return err;
}

TEST(settings_file_sets_values_of_every_type)
{
	struct settings *s = settings_of("# a comment\n"
					 "[agent]\n"
					 "log_format = json\n"
					 "progress=no\n"
					 "secret_names = A_*, B_*\n"
					 "; another\n"
					 "\n"
					 "[network]\n"
					 "connections = 3\r\n"
					 "[limits]\n"
					 "max_entries: 12\n"
					 "[stage]\n"
					 "owner = 1:2");

	assert_int_equal(LOG_JSON, s->log_format);
	assert_int_equal(PROGRESS_NONE, s->progress);
	assert_int_equal(2, s->secret_names.n);
	assert_string_equal("B_*", s->secret_names.v[1]);
	assert_int_equal(12, s->limits.max_entries);
	assert_int_equal(2, s->owner_gid);
	settings_free(s);
}

TEST(settings_file_gives_values_their_file_and_line_as_origin)
{
	struct settings *s = settings_of("[network]\n\nretries = 9\n");
	const char *where = s->origins[settings_find("network", "retries")].where;

	assert_non_null(strstr(where, "/agent.ini:3"));
	settings_free(s);
}

TEST(settings_file_takes_lines_of_any_length_whole)
{
	char value[3000], content[3200];
	struct settings *s;

	memset(value, 'x', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	memcpy(value, "https://h/?a=b ;c=d# Cookie: a=1; b=2 ;", 39);
	snprintf(content, sizeof(content), "[network]\nca_file = %s\nretries = 7\n", value);
	s = settings_of(content);
	assert_string_equal(value, s->network.ca_file);
	assert_int_equal(7, s->network.retries);
	settings_free(s);
}

TEST(settings_file_lists_grow_by_repeated_keys_and_indented_lines)
{
	char long_line[1200];
	char content[2000];
	struct settings *s;

	snprintf(long_line, sizeof(long_line), "https://c/ Authorization: %01000d", 7);
	snprintf(content, sizeof(content),
		"[network]\n"
		"headers = https://a/ A: x=1; y\n"
		"headers = https://b/ B: 2\n"
		"    %s\n"
		"# a comment in between\n"
		"\thttps://d/ D: 4\n",
		long_line);
	s = settings_of(content);
	assert_int_equal(4, s->network.headers.n);
	assert_string_equal("https://a/ A: x=1; y", s->network.headers.v[0]);
	assert_string_equal("https://b/ B: 2", s->network.headers.v[1]);
	assert_string_equal(long_line, s->network.headers.v[2]);
	assert_string_equal("https://d/ D: 4", s->network.headers.v[3]);
	settings_free(s);
}

TEST(settings_file_names_the_line_of_what_it_cannot_read)
{
	char content[600];
	struct error err = refusal("[network]\nconnections = lots\n");

	assert_string_equal(
		"agent.ini:2: network.connections: 'lots' is not a whole number", err.msg);
	err = refusal("[network]\nthis is nothing\nconnections = 2\n");
	assert_string_equal("agent.ini:2: neither [section] nor key = value", err.msg);
	/* The first of two mistakes, whoever finds it. */
	err = refusal("[network]\nnothing\nconnections = lots\n");
	assert_says(err, "agent.ini:2:");
	err = refusal("[network]\nconnections = lots\nnothing\n");
	assert_says(err, "agent.ini:2:");
	err = refusal("[network]\nretries = 3\n  connections = 2\n");
	assert_says(err, "agent.ini:3: an indented line continues a list");
	err = refusal("[network]\nretries = 3 ; three\n");
	assert_says(err, "agent.ini:2: network.retries: '3 ; three' is not a whole number (a "
			 "comment needs a line of its own)");
	snprintf(content, sizeof(content), "[network]\n%0500d\n", 1);
	err = refusal(content);
	assert_says(err, "agent.ini:2: neither");
	err = refusal("[network]\nheaders = Authorization: Bearer hunter2\n");
	assert_says(err, "agent.ini:2: network.headers: a header is written");
	assert_null(strstr(err.msg, "hunter2"));
}

TEST(settings_file_with_a_nul_byte_is_refused)
{
	_free_ char *path = config_file("agent.ini", "[agent]\n");
	_fclose_ FILE *f = fopen(path, "ae");
	struct settings *s = settings_new();
	struct error err = {0};

	fwrite("threads = 1\0002\n", 1, 14, f);
	fflush(f);
	assert_int_equal(-ERR_CONFIG, settings_read_files(s, path, nowhere, &err));
	assert_says(err, "agent.ini:2: a NUL byte");
	settings_free(s);
}

TEST(settings_file_warns_of_unknown_keys_with_line_and_nearest)
{
	char *said;

	keep_warnings();
	settings_free(settings_of("[network]\n"
				  "conections = 3\n"
				  "zebra = 3\n"
				  "[netwrk]\n"
				  "retries = 3\n"
				  "[agent]\n"
				  "threads = 1\n"
				  "threads = 2\n"));
	said = kept_warnings();
	assert_non_null(strstr(said, "agent.ini:2: unknown key 'conections' in [network]; did you "
				     "mean 'connections'?"));
	assert_non_null(strstr(said, "agent.ini:3: unknown key 'zebra' in [network]\n"));
	assert_non_null(strstr(said, "agent.ini:5: unknown key 'retries' in [netwrk]; did you mean "
				     "[network]?"));
	assert_non_null(strstr(said, "agent.ini:8: threads is set again; this line wins over "));
	free(said);
}

TEST(settings_file_that_was_named_must_be_there_and_the_systems_need_not)
{
	struct settings *s = settings_new();
	struct error err = {0};

	assert_int_equal(0, settings_read_files(s, NULL, nowhere, &err));
	assert_int_equal(-ENOENT, settings_read_files(s, "/nonexistent/a.ini", nowhere, &err));
	assert_says(err, "/nonexistent/a.ini");
	assert_true(settings_read_files(s, "/", nowhere, &err) < 0);
	set_variable("STAGERUN_AGENT_CONFIG", "/nonexistent/b.ini");
	assert_int_equal(-ENOENT, settings_read_file(s, NULL, &err));
	set_variable("STAGERUN_AGENT_CONFIG", NULL);
	assert_says(err, "/nonexistent/b.ini");
	settings_free(s);
}

TEST(settings_layers_win_in_order_and_lists_are_replaced)
{
	struct settings *s = settings_of("[network]\nretries = 1\nconnections = 1\n"
					 "connections_per_host = 1\nheaders = https://a/ A: 1\n");

	set_variable("STAGERUN_NETWORK_CONNECTIONS", "2");
	set_variable("STAGERUN_NETWORK_CONNECTIONS_PER_HOST", "2");
	set_variable("STAGERUN_NETWORK_HEADERS", "https://b/ B: 2");
	assert_int_equal(0, settings_read_environment(s, NULL));
	set_variable("STAGERUN_NETWORK_CONNECTIONS", NULL);
	set_variable("STAGERUN_NETWORK_CONNECTIONS_PER_HOST", NULL);
	set_variable("STAGERUN_NETWORK_HEADERS", NULL);
	assert_int_equal(0,
		settings_set(s, "network.connections_per_host", "3", ORIGIN_OPTION, "--x", NULL));
	assert_int_equal(1, s->network.retries);
	assert_int_equal(2, s->network.connections);
	assert_int_equal(3, s->network.connections_per_host);
	assert_int_equal(1, s->network.headers.n);
	assert_string_equal("https://b/ B: 2", s->network.headers.v[0]);
	assert_int_equal(ORIGIN_FILE, s->origins[settings_find("network", "retries")].kind);
	assert_int_equal(ORIGIN_ENV, s->origins[settings_find("network", "connections")].kind);
	settings_free(s);
}

TEST(settings_lock_binds_environment_and_options_but_not_its_own_file)
{
	struct settings *s = settings_of("[agent]\nlock = network.retries, limits.*\n"
					 "[network]\nretries = 2\n[limits]\nmax_ratio = 9\n");
	struct error err;

	assert_int_equal(2, s->network.retries);
	assert_int_equal(9, s->limits.max_ratio);
	assert_int_equal(-ERR_CONFIG,
		settings_set(s, "network.retries", "3", ORIGIN_OPTION, "--retries", &err));
	assert_says(err, "--retries: network.retries is locked by ");
	assert_says(err, "agent.ini:2");
	set_variable("STAGERUN_LIMITS_MAX_PATH", "100");
	assert_int_equal(-ERR_CONFIG, settings_read_environment(s, &err));
	set_variable("STAGERUN_LIMITS_MAX_PATH", NULL);
	assert_says(err, "env STAGERUN_LIMITS_MAX_PATH: limits.max_path is locked by ");
	assert_int_equal(
		0, settings_set(s, "network.connections", "3", ORIGIN_OPTION, "--c", &err));
	settings_free(s);
}

TEST(settings_lock_of_the_system_holds_in_a_file_named_by_the_user)
{
	_free_ char *system =
		config_file("system.ini", "[agent]\nlock = network.ca_file limits.*\n"
					  "[network]\nca_file = /ours.pem\nretries = 1\n");
	_free_ char *mine = config_file("mine.ini", "[network]\nconnections = 5\n");
	_free_ char *rebel = config_file("rebel.ini", "[network]\nca_file = /evil.pem\n");
	_free_ char *unlock = config_file("unlock.ini", "[agent]\nlock =\n");
	struct settings *s = settings_new();
	struct error err;

	assert_int_equal(0, settings_read_files(s, mine, system, &err));
	assert_string_equal("/ours.pem", s->network.ca_file);
	assert_int_equal(5, s->network.connections);
	assert_int_equal(5, s->network.retries); /* not locked: the default, not the system's 1 */
	assert_int_equal(
		-ERR_CONFIG, settings_set(s, "limits.max_path", "9", ORIGIN_OPTION, "--x", &err));
	settings_free(s);

	s = settings_new();
	assert_int_equal(-ERR_CONFIG, settings_read_files(s, rebel, system, &err));
	assert_says(err, "rebel.ini:2: network.ca_file is locked by ");
	assert_says(err, "system.ini:2");
	settings_free(s);

	s = settings_new();
	assert_int_equal(0, settings_read_files(s, unlock, system, &err));
	assert_int_equal(-ERR_CONFIG,
		settings_set(s, "network.ca_file", "/evil.pem", ORIGIN_OPTION, "--x", &err));
	settings_free(s);
}

TEST(settings_locks_of_the_system_carry_lists_and_odd_values_over_exactly)
{
	_free_ char *system = config_file("system.ini",
		"[agent]\nlock = *.*\nsecret_names = A B\n[network]\n"
		"headers = https://a/ A: 1, 2; 3\nheaders = https://b/ B: 2\n"
		"stall_timeout = 90001ms\n[limits]\nmax_bytes = 1025\n");
	_free_ char *mine = config_file("mine.ini", "");
	struct settings *s = settings_new();

	assert_int_equal(0, settings_read_files(s, mine, system, NULL));
	assert_int_equal(2, s->secret_names.n);
	assert_int_equal(2, s->network.headers.n);
	assert_string_equal("https://a/ A: 1, 2; 3", s->network.headers.v[0]);
	assert_int_equal(90001, s->network.stall_timeout_ms);
	assert_int_equal(1025, s->limits.max_bytes);
	settings_free(s);
}

TEST(settings_system_file_named_by_hand_is_read_once)
{
	_free_ char *system = config_file(
		"system.ini", "[agent]\nlock = network.retries\n[network]\nretries = 1\n");
	struct settings *s = settings_new();
	struct error err = {0};

	assert_int_equal(0, settings_read_files(s, system, system, &err));
	assert_int_equal(1, s->network.retries);
	settings_free(s);
}

TEST(settings_system_file_that_is_wrong_stops_even_those_who_name_another)
{
	_free_ char *system =
		config_file("system.ini", "[agent]\nlock = network.retries\nnonsense\n");
	_free_ char *mine = config_file("mine.ini", "");
	struct settings *s = settings_new();
	struct error err = {0};

	assert_int_equal(-ERR_CONFIG, settings_read_files(s, mine, system, &err));
	assert_says(err, "system.ini:3");
	settings_free(s);
}

TEST(settings_lock_that_names_nothing_is_warned_about)
{
	char *said;

	keep_warnings();
	settings_free(settings_of("[agent]\nlock = network.ca_fil\n"));
	said = kept_warnings();
	assert_non_null(strstr(said, "agent.ini:2: lock: there is no setting 'network.ca_fil'"));
	free(said);
}

/* agent.ini.example with its defaults uncommented. */
static char *uncommented(void)
{
	_free_ char *example = settings_example();
	struct text t = {0};
	char *rest = NULL;

	for (char *line = strtok_r(example, "\n", &rest); line != NULL;
		line = strtok_r(NULL, "\n", &rest)) {
		bool setting = line[0] == '#' && islower((unsigned char)line[1]);

		text_addf(&t, "%s\n", setting ? line + 1 : line);
	}
	return text_take(&t);
}

static void count_default(void *ctx, const char *key, const char *value, const char *origin)
{
	unsigned *differing = ctx;
	struct settings *plain = settings_new();

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];
		_free_ char *name = text_format("%s.%s", row->section, row->key);
		_free_ char *initial = setting_print(row, plain);

		if (strcmp(name, key) == 0)
			*differing += strcmp(initial, value) != 0 || strcmp(origin, "default") == 0;
	}
	settings_free(plain);
}

TEST(settings_example_uncommented_sets_everything_to_its_default)
{
	_free_ char *content = uncommented();
	unsigned differing = 0;
	struct settings *s;
	char *said;

	keep_warnings();
	s = settings_of(content);
	said = kept_warnings();
	assert_string_equal("", said);
	settings_describe(s, count_default, &differing);
	assert_int_equal(0, differing);
	settings_free(s);
	free(said);
}
