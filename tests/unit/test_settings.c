/* SPDX-License-Identifier: MIT */
/* The settings without files: defaults, options, the environment, what is told about them. */
#include "../../agent/command/agent.h"
#include "config_fixture.h"
#include "defer.h"
#include "settings.h"
#include "test.h"
#include <string.h>

#define assert_says(err, part) assert_non_null(strstr((err).msg, part))

struct told {
	const char *key;
	char *value, *origin;
};

static void remember(void *ctx, const char *key, const char *value, const char *origin)
{
	struct told *told = ctx;

	if (strcmp(key, told->key) != 0)
		return;
	told->value = text_copy(value);
	told->origin = text_copy(origin);
}

static void assert_told(
	const struct settings *s, const char *key, const char *value, const char *origin)
{
	struct told told = {.key = key};

	settings_describe(s, remember, &told);
	assert_non_null(told.value);
	assert_string_equal(value, told.value);
	assert_string_equal(origin, told.origin);
	free(told.value);
	free(told.origin);
}

static int set_option(struct settings *s, const char *key, const char *value, struct error *err)
{
	return settings_set(s, key, value, ORIGIN_OPTION, "--option", err);
}

/* The message when key cannot have this value. */
static struct error refusal(const char *key, const char *value)
{
	struct settings *s = settings_new();
	struct error err = {0};
	int code = set_option(s, key, value, &err);

	assert_true(code == -ERR_USAGE || code == -ERR_CONFIG);
	assert_int_equal(code, err.code);
	settings_free(s);
	return err;
}

TEST(settings_begin_with_the_documented_defaults)
{
	struct settings *s = settings_new();

	assert_int_equal(64, s->network.connections);
	assert_int_equal(16, s->network.connections_per_host);
	assert_int_equal(1 << 20, s->network.range_min);
	assert_int_equal(8 << 20, s->network.range_max);
	assert_int_equal(10000, s->network.connect_timeout_ms);
	assert_int_equal(15000, s->network.stall_timeout_ms);
	assert_int_equal(5, s->network.retries);
	assert_int_equal(200, s->network.retry_base_ms);
	assert_int_equal(20000, s->network.retry_max_ms);
	assert_string_equal("", s->network.ca_file);
	assert_int_equal(0, s->network.headers.n);
	assert_true(s->limits.max_bytes == UINT64_MAX);
	assert_int_equal(20000000, s->limits.max_entries);
	assert_int_equal(1100, s->limits.max_ratio);
	assert_int_equal(4096, s->limits.max_path);
	assert_int_equal(LOG_INFO, s->log_level);
	assert_int_equal(LOG_TEXT, s->log_format);
	assert_int_equal(PROGRESS_AUTO, s->progress);
	assert_int_equal(0, s->memory_budget);
	assert_int_equal(8, s->parallel_stages);
	assert_int_equal(0, s->threads);
	assert_string_equal("/dev/termination-log", s->termination_log);
	assert_true(s->owner_uid == (uid_t)-1 && s->owner_gid == (gid_t)-1);
	assert_string_equal("", s->store);
	assert_int_equal(0, s->action_timeout_ms);
	assert_told(s, "network.connections", "64", "default");
	settings_free(s);
}

TEST(settings_read_sizes_durations_and_the_words_for_zero)
{
	struct settings *s = settings_new();

	assert_int_equal(0, set_option(s, "limits.max_bytes", "2G", NULL));
	assert_true(s->limits.max_bytes == 2ULL << 30);
	assert_told(s, "limits.max_bytes", "2G", "--option");
	assert_int_equal(0, set_option(s, "limits.max_bytes", "0", NULL));
	assert_true(s->limits.max_bytes == UINT64_MAX);
	assert_told(s, "limits.max_bytes", "none", "--option");
	assert_int_equal(0, set_option(s, "actions.timeout", "1h30m", NULL));
	assert_int_equal(5400000, s->action_timeout_ms);
	assert_told(s, "actions.timeout", "90m", "--option");
	assert_int_equal(0, set_option(s, "agent.memory_budget", "64M", NULL));
	assert_int_equal(0, set_option(s, "agent.memory_budget", "auto", NULL));
	assert_int_equal(0, s->memory_budget);
	settings_free(s);
}

TEST(settings_refuse_wrong_values_and_keep_the_old_one)
{
	struct settings *s = settings_new();
	struct error err = refusal("network.connections", "many");

	assert_string_equal("--option: network.connections: 'many' is not a whole number", err.msg);
	err = refusal("network.connections", "0");
	assert_says(err, "0 is too small (at least 1)");
	err = refusal("network.connections", "5000");
	assert_says(err, "5000 is too large (at most 4096)");
	err = refusal("agent.memory_budget", "1M");
	assert_says(err, "1M is too small (at least 16M)");
	err = refusal("agent.log_level", "loud");
	assert_says(err, "'loud' is not one of error, warn, info or debug");
	err = refusal("agent.progress", "maybe");
	assert_says(err, "'maybe' is not one of auto, tty, lines, json or none");
	err = refusal("stage.owner", "root:root");
	assert_says(err, "is not uid:gid");
	err = refusal("network.conections", "1");
	assert_says(err, "there is no setting 'network.conections'");
	err = refusal("agent.lock", "limits.*");
	assert_says(err, "can only be set in agent.ini");

	assert_int_equal(-ERR_USAGE, set_option(s, "network.retries", "x", NULL));
	assert_told(s, "network.retries", "5", "default");
	settings_free(s);
}

TEST(settings_follow_through_to_the_options_of_others)
{
	struct settings *s = settings_new();
	struct transfer_options network;

	assert_int_equal(0, set_option(s, "network.ca_file", "/ca.pem", NULL));
	assert_string_equal("/ca.pem", agent_network_options(s).ca_file);
	assert_int_equal(0, set_option(s, "network.ca_file", "", NULL));
	assert_null(agent_network_options(s).ca_file);
	assert_null(agent_network_options(s).headers);
	assert_int_equal(0, set_option(s, "stage.owner", "1000:100", NULL));
	assert_int_equal(1000, agent_tree_options(s).uid);
	assert_int_equal(100, agent_tree_options(s).gid);
	assert_int_equal(0, set_option(s, "network.headers", "https://a/ X: 1", NULL));
	assert_int_equal(0, set_option(s, "network.headers", "https://b/ Y: 2", NULL));
	network = agent_network_options(s);
	assert_string_equal("https://a/ X: 1", network.headers[0]);
	assert_string_equal("https://b/ Y: 2", network.headers[1]);
	assert_null(network.headers[2]);
	settings_free(s);
}

TEST(settings_with_words_for_values_mean_the_same_to_others)
{
	struct settings *s = settings_new();

	assert_int_equal(CACHE_AUTO, agent_cache_options(s).deliver);
	assert_int_equal(0, set_option(s, "cache.deliver", "hardlink", NULL));
	assert_int_equal(CACHE_HARDLINK, agent_cache_options(s).deliver);
	assert_int_equal(0, set_option(s, "cache.deliver", "copy", NULL));
	assert_int_equal(CACHE_COPY, agent_cache_options(s).deliver);
	assert_int_equal(0, set_option(s, "s3.style", "virtual", NULL));
	assert_int_equal(S3_STYLE_VIRTUAL, agent_s3_options(s).style);
	assert_int_equal(0, set_option(s, "s3.sign", "no", NULL));
	assert_int_equal(S3_SIGN_NO, agent_s3_options(s).sign);
	settings_free(s);
}

TEST(settings_never_tell_the_value_of_a_header)
{
	struct settings *s = settings_new();
	struct error err = refusal("network.headers", "Authorization: Bearer hunter2");

	assert_null(strstr(err.msg, "hunter2"));
	set_option(s, "network.headers", "https://a/ Authorization: Bearer hunter2", NULL);
	set_option(s, "network.headers", "https://b/x X-Token:hunter3", NULL);
	assert_told(s, "network.headers", "https://a/ Authorization: ***\nhttps://b/x X-Token: ***",
		"--option");
	set_option(s, "store.url", "https://me:hunter2@host/p", NULL);
	assert_told(s, "store.url", "https://host/p", "--option");
	settings_free(s);
}

TEST(settings_that_contradict_each_other_are_refused_with_both_origins)
{
	struct settings *s = settings_new();
	struct error err;

	assert_int_equal(0, settings_check(s, &err));
	set_option(s, "network.range_min", "16M", NULL);
	assert_int_equal(-ERR_CONFIG, settings_check(s, &err));
	assert_string_equal("network.range_min = 16M (--option) is above "
			    "network.range_max = 8M (default)",
		err.msg);
	set_option(s, "network.range_max", "32M", NULL);
	assert_int_equal(0, settings_check(s, &err));
	set_option(s, "network.retry_base", "1m", NULL);
	assert_int_equal(-ERR_CONFIG, settings_check(s, &err));
	set_option(s, "network.retry_base", "1s", NULL);
	set_option(s, "stage.owner", "1:1", NULL);
	set_option(s, "stage.same_owner", "yes", NULL);
	assert_int_equal(-ERR_CONFIG, settings_check(s, &err));
	settings_free(s);
}

TEST(settings_come_from_the_environment_by_section_and_key_or_short_name)
{
	struct settings *s = settings_new();

	set_variable("STAGERUN_NETWORK_CONNECTIONS", "7");
	set_variable("STAGERUN_NETWORK_HEADERS", "https://a/ X: 1\nhttps://b/ Y: 2");
	set_variable("STAGERUN_NETWORK_RETRIES", "");
	set_variable("STAGERUN_STORE", "file:///short");
	assert_int_equal(0, settings_read_environment(s, NULL));
	assert_int_equal(7, s->network.connections);
	assert_int_equal(2, s->network.headers.n);
	assert_told(s, "network.retries", "5", "default");
	assert_told(s, "network.connections", "7", "env STAGERUN_NETWORK_CONNECTIONS");
	assert_told(s, "store.url", "file:///short", "env STAGERUN_STORE");
	set_variable("STAGERUN_STORE_URL", "file:///long");
	assert_int_equal(0, settings_read_environment(s, NULL));
	assert_told(s, "store.url", "file:///long", "env STAGERUN_STORE_URL");
	set_variable("STAGERUN_NETWORK_CONNECTIONS", NULL);
	set_variable("STAGERUN_NETWORK_HEADERS", NULL);
	set_variable("STAGERUN_NETWORK_RETRIES", NULL);
	set_variable("STAGERUN_STORE", NULL);
	set_variable("STAGERUN_STORE_URL", NULL);
	settings_free(s);
}

TEST(settings_name_the_variable_whose_value_is_wrong)
{
	struct settings *s = settings_new();
	struct error err;

	set_variable("STAGERUN_LIMITS_MAX_PATH", "long");
	assert_int_equal(-ERR_CONFIG, settings_read_environment(s, &err));
	assert_string_equal(
		"env STAGERUN_LIMITS_MAX_PATH: limits.max_path: 'long' is not a whole number",
		err.msg);
	set_variable("STAGERUN_LIMITS_MAX_PATH", NULL);
	settings_free(s);
}

TEST(settings_warn_of_variables_that_look_like_a_setting_and_are_none)
{
	struct settings *s = settings_new();
	char *said;

	set_variable("STAGERUN_NETWORK_CONECTIONS", "7");
	set_variable("STAGERUN_AGENT_CONFIG", "/x");
	set_variable("STAGERUN_DATASTORE_CATS", "/datastores/cats");
	keep_warnings();
	assert_int_equal(0, settings_read_environment(s, NULL));
	said = kept_warnings();
	assert_non_null(strstr(said, "env STAGERUN_NETWORK_CONECTIONS: there is no such setting; "
				     "did you mean STAGERUN_NETWORK_CONNECTIONS?"));
	assert_null(strstr(said, "AGENT_CONFIG"));
	assert_null(strstr(said, "CATS"));
	set_variable("STAGERUN_NETWORK_CONECTIONS", NULL);
	set_variable("STAGERUN_AGENT_CONFIG", NULL);
	set_variable("STAGERUN_DATASTORE_CATS", NULL);
	free(said);
	settings_free(s);
}

TEST(settings_know_secret_names_and_learn_more)
{
	struct settings *s = settings_new();

	assert_true(settings_is_secret(s, "HF_TOKEN"));
	assert_true(settings_is_secret(s, "aws_secret_access_key"));
	assert_true(settings_is_secret(s, "Db_Password"));
	assert_false(settings_is_secret(s, "AWS_WEB_IDENTITY_TOKEN_FILE"));
	assert_false(settings_is_secret(s, "ssh_key_path"));
	assert_false(settings_is_secret(s, "MY_PIN"));
	assert_false(settings_is_secret(s, "HOME"));
	assert_int_equal(0, set_option(s, "agent.secret_names", "*_PIN, WANDB_*", NULL));
	assert_true(settings_is_secret(s, "my_pin"));
	assert_true(settings_is_secret(s, "WANDB_ID"));
	settings_free(s);
}

TEST(settings_hide_no_paths_but_keys_that_look_like_some)
{
	struct settings *s = settings_new();

	assert_false(settings_is_secret_value(s, "MY_TOKEN", "/run/secrets/tokens/hub"));
	assert_false(settings_is_secret_value(s, "SSH_KEY", "/root/.ssh/id_ed25519"));
	assert_false(settings_is_secret_value(s, "KEYBOARD_DIR", "anything"));
	assert_true(settings_is_secret_value(s, "MY_TOKEN", "run/secrets"));
	assert_true(
		settings_is_secret_value(s, "MY_TOKEN", "/K7MDENGbPxRfiCYEXAMPLEKEY9xq/wJalrXUt"));
	assert_true(settings_is_secret_value(s, "MY_TOKEN", "/wJal+rX"));
	assert_true(settings_is_secret_value(s, "AWS_SECRET_ACCESS_KEY", "/abc/def/ghi"));
	assert_true(settings_is_secret_value(s, "DB_PASSWORD", "/two\nlines"));
	settings_free(s);
}

TEST(settings_example_is_the_file_in_the_repository)
{
	_fclose_ FILE *f = fopen("agent.ini.example", "re");
	_free_ char *want = settings_example();
	char *got = zalloc(65536);

	assert_non_null(f);
	assert_true(fread(got, 1, 65535, f) > 0);
	if (strcmp(want, got) != 0)
		print_error("agent.ini.example should be:\n%s", want);
	assert_string_equal(want, got);
	free(got);
}
