/* SPDX-License-Identifier: MIT */
/* Who is asked for credentials, and in which order: what is on this machine. */
#include "aws_fixture.h"
#include "defer.h"
#include "redact.h"
#include "test.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void assert_says(const struct aws *a, const char *part)
{
	if (strstr(a->err.msg, part) == NULL)
		fail_msg("'%s' does not say '%s'", a->err.msg, part);
}

static void assert_source(struct aws *a, const char *part)
{
	_free_ char *source = credentials_describe(a->c);

	if (strstr(source, part) == NULL)
		fail_msg("'%s' does not say '%s'", source, part);
}

TEST(credentials_come_from_the_environment)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_ACCESS_KEY_ID", "AKID");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "the-secret");
	aws_set(&a, "AWS_SESSION_TOKEN", "the-token");
	assert_string_equal("AKID", aws_key(&a));
	assert_string_equal("the-secret", a.value.secret_key);
	assert_string_equal("the-token", a.value.session_token);
	assert_source(&a, "environment (AWS_ACCESS_KEY_ID)");
	aws_end(&a);
}

TEST(credentials_half_in_the_environment_are_an_error)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_ACCESS_KEY_ID", "AKID");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "");
	aws_credentials(&a, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
	assert_int_equal(-ERR_CONFIG, aws_get(&a));
	assert_says(&a, "AWS_SECRET_ACCESS_KEY is not set");
	aws_end(&a);
}

TEST(credentials_are_hidden_from_the_log)
{
	static const char line[] = "a line with secret-of-this-test and token-of-this-test in it";
	struct aws a;
	_free_ char *hidden = NULL;

	aws_begin(&a);
	aws_credentials(&a, "[default]\naws_access_key_id = AKID\n"
			    "aws_secret_access_key = secret-of-this-test\n"
			    "aws_session_token = token-of-this-test\n");
	assert_string_equal("AKID", aws_key(&a));
	hidden = redact(line, strlen(line), NULL);
	assert_string_equal("a line with *** and *** in it", hidden);
	aws_end(&a);
}

TEST(credentials_come_from_the_default_profile)
{
	struct aws a;

	aws_begin(&a);
	aws_credentials(&a, "# a comment\n"
			    "[other]\naws_access_key_id = OTHER\naws_secret_access_key = s\n"
			    "[default]\n"
			    "aws_access_key_id=AKID # the old one\n"
			    "aws_secret_access_key = with=equals/and#hash+;\r\n");
	assert_string_equal("AKID", aws_key(&a));
	assert_string_equal("with=equals/and#hash+;", a.value.secret_key);
	assert_null(a.value.session_token);
	assert_source(&a, "profile 'default' of ");
	assert_source(&a, "/.aws/credentials (aws_access_key_id)");
	aws_end(&a);
}

TEST(credentials_of_the_credentials_file_win_over_those_of_the_config_file)
{
	struct aws a;

	aws_begin(&a);
	aws_config(&a, "[profile ci]\naws_access_key_id = CONFIG\naws_secret_access_key = c\n"
		       "region = eu-west-3\n");
	aws_credentials(&a, "[ci]\naws_access_key_id = AKID\naws_secret_access_key = s\n");
	aws_set(&a, "AWS_PROFILE", "ci");
	assert_string_equal("AKID", aws_key(&a));
	assert_string_equal("s", a.value.secret_key);
	aws_end(&a);
}

TEST(credentials_files_may_be_elsewhere_and_have_lines_of_any_length)
{
	struct aws a;
	struct text text = {0};
	_free_ char *path = NULL;
	char token[5001];

	aws_begin(&a);
	path = text_format("%s/.aws/config", a.dir);
	assert_non_null(path);
	memset(token, 't', 5000);
	token[5000] = '\0';
	text_addf(&text,
		"[a]\naws_access_key_id = AKID\naws_secret_access_key = s\n"
		"aws_session_token = %s\n",
		token);
	aws_config(&a, text.s);
	aws_set(&a, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/config");
	aws_set(&a, "AWS_CONFIG_FILE", "/nonexistent");
	aws_set(&a, "AWS_PROFILE", "a");
	assert_string_equal("AKID", aws_key(&a));
	assert_string_equal(token, a.value.session_token);
	text_done(&text);
	aws_end(&a);
}

TEST(credentials_files_may_begin_with_a_byte_order_mark)
{
	struct aws a;

	aws_begin(&a);
	aws_credentials(&a, "\xEF\xBB\xBF[default]\r\naws_access_key_id = AKID\r\n"
			    "aws_secret_access_key = s\r\n");
	assert_string_equal("AKID", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_files_that_cannot_be_understood_are_an_error_with_the_line)
{
	struct aws a;

	aws_begin(&a);
	aws_credentials(&a, "[default]\nwhat is this\n");
	assert_int_equal(-ERR_CONFIG, aws_get(&a));
	assert_says(&a, "/.aws/credentials:2: neither");
	aws_end(&a);
}

TEST(credentials_of_the_environment_win_over_a_profile_of_the_environment)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_PROFILE", "nobody");
	aws_set(&a, "AWS_ACCESS_KEY_ID", "AKID");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "s");
	assert_string_equal("AKID", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_of_the_chosen_profile_win_over_the_environment)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_ACCESS_KEY_ID", "ENV");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "s");
	aws_set(&a, "AWS_PROFILE", "other");
	aws_credentials(&a, "[chosen]\naws_access_key_id = AKID\naws_secret_access_key = s\n");
	a.opts.profile = "chosen";
	assert_string_equal("AKID", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_of_a_profile_that_is_not_there_are_an_error)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_PROFILE", "nobody");
	aws_credentials(&a, "[default]\naws_access_key_id = AKID\naws_secret_access_key = s\n");
	assert_int_equal(-ERR_CONFIG, aws_get(&a));
	assert_says(&a, "no profile 'nobody'");
	assert_says(&a, "/.aws/credentials and ");
	assert_says(&a, "/.aws/config");
	aws_end(&a);
}

TEST(credentials_of_a_chosen_profile_without_any_are_an_error)
{
	struct aws a;

	aws_begin(&a);
	aws_config(&a, "[profile here]\nregion = us-east-1\n");
	aws_set(&a, "AWS_ACCESS_KEY_ID", "ENV");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "s");
	a.opts.profile = "here";
	assert_int_equal(-ERR_CONFIG, aws_get(&a));
	assert_says(&a, "profile 'here'");
	aws_end(&a);
}

TEST(credentials_of_a_browser_are_an_error_that_tells_the_way_round)
{
	struct aws a;

	aws_begin(&a);
	aws_config(&a, "[default]\nsso_session = corp\nsso_account_id = 1\n[sso-session corp]\n"
		       "sso_start_url = https://x\n");
	assert_int_equal(-ERR_UNSUPPORTED, aws_get(&a));
	assert_says(&a, "signs in by a browser");
	assert_says(&a, "export-credentials --profile default");
	aws_end(&a);
}

TEST(credentials_of_nobody_are_an_error_that_lists_where_was_looked)
{
	struct aws a;

	aws_begin(&a);
	assert_int_equal(-ENOKEY, aws_get(&a));
	assert_says(&a, "AWS_ACCESS_KEY_ID");
	assert_says(&a, "AWS_WEB_IDENTITY_TOKEN_FILE");
	assert_says(&a, "/.aws/credentials");
	assert_says(&a, "profile 'default'");
	assert_says(&a, "AWS_CONTAINER_CREDENTIALS_*");
	assert_says(&a, "EC2 instance metadata");
	aws_end(&a);
}

TEST(credentials_of_nobody_are_not_looked_for_again_at_once)
{
	struct aws a;

	aws_begin(&a);
	assert_int_equal(-ENOKEY, aws_get(&a));
	assert_int_equal(1, fake_http_requests(a.server)); /* EC2's token: 404 */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(-ENOKEY, aws_get(&a));
	assert_int_equal(1, fake_http_requests(a.server));
	assert_says(&a, "AWS_ACCESS_KEY_ID");
	aws_end(&a);
}

TEST(credentials_rejected_are_read_again_from_the_files)
{
	struct aws a;
	struct credentials_value last = {0};

	aws_begin(&a);
	aws_credentials(&a, "[default]\naws_access_key_id = OLD\naws_secret_access_key = s\n");
	assert_string_equal("OLD", aws_key(&a));
	aws_credentials(&a, "[default]\naws_access_key_id = NEW\naws_secret_access_key = s\n");
	assert_string_equal("OLD", aws_key(&a));
	credentials_reject(a.c, "SOMEBODY-ELSES");
	assert_string_equal("OLD", aws_key(&a));
	credentials_reject(a.c, "OLD");
	assert_true(credentials_last(a.c, &last));
	assert_string_equal("OLD", last.access_key);
	assert_string_equal("NEW", aws_key(&a));
	credentials_value_done(&last);
	aws_end(&a);
}

/* credential_process */

static void with_process(struct aws *a, const char *command)
{
	_free_ char *config = text_format("[default]\ncredential_process = %s\n", command);

	aws_begin(a);
	aws_config(a, config);
}

TEST(credentials_come_from_a_process)
{
	struct aws a;

	with_process(&a, "echo '{\"Version\": 1, \"AccessKeyId\": \"'$NAME'\", "
			 "\"SecretAccessKey\": \"s # ;\", \"SessionToken\": \"t\"}' # \"x\"");
	aws_set(&a, "NAME", "AKID");
	assert_string_equal("AKID", aws_key(&a));
	assert_string_equal("s # ;", a.value.secret_key);
	assert_string_equal("t", a.value.session_token);
	assert_source(&a, "(credential_process)");
	aws_end(&a);
}

TEST(credentials_of_a_process_that_fails_are_an_error_with_its_last_words)
{
	struct aws a;

	with_process(&a, "echo first >&2; echo 'cannot log in' >&2; echo; exit 3");
	assert_int_equal(-ERR_COMMAND, aws_get(&a));
	assert_says(&a, "credential_process exited with 3: cannot log in");
	aws_end(&a);
}

TEST(credentials_of_a_process_that_is_killed_are_an_error)
{
	struct aws a;

	with_process(&a, "kill -9 $$");
	assert_int_equal(-ERR_COMMAND, aws_get(&a));
	assert_says(&a, "ended by signal 9");
	aws_end(&a);
}

TEST(credentials_of_a_process_that_prints_something_else_are_an_error_without_its_words)
{
	struct aws a;

	with_process(&a, "echo this-is-secret");
	assert_int_equal(-ERR_FORMAT, aws_get(&a));
	assert_says(&a, "credential_process: the answer is not JSON");
	assert_null(strstr(a.err.msg, "this-is-secret"));
	aws_end(&a);
}

TEST(credentials_of_a_process_of_another_version_are_an_error)
{
	struct aws a;

	with_process(&a, "echo '{\"Version\": 2, \"AccessKeyId\": \"A\", \"SecretAccessKey\": "
			 "\"s\"}'");
	assert_int_equal(-ERR_FORMAT, aws_get(&a));
	assert_says(&a, "not of Version 1");
	aws_end(&a);
}

TEST(credentials_of_a_process_do_not_wait_for_what_it_leaves_behind)
{
	struct aws a;

	with_process(&a, "echo '{\"Version\": 1, \"AccessKeyId\": \"AKID\", "
			 "\"SecretAccessKey\": \"s\"}'; sleep 20 &");
	assert_string_equal("AKID", aws_key(&a));
	aws_end(&a);
}

static void *cancel_soon(void *ctx)
{
	struct aws *a = ctx;

	usleep(100000);
	cancel_request(&a->cancel);
	return NULL;
}

TEST(credentials_of_a_process_are_left_when_cancelled_and_the_process_ends)
{
	struct aws a;
	pthread_t thread;
	_free_ char *command = NULL, *path = NULL;

	aws_begin(&a);
	path = text_format("%s/alive", a.dir);
	command = text_format("[default]\ncredential_process = (sleep 1; touch %s) & wait\n", path);
	aws_config(&a, command);
	pthread_create(&thread, NULL, cancel_soon, &a);
	assert_int_equal(-ECANCELED, aws_get(&a));
	pthread_join(thread, NULL);
	usleep(1300000);
	assert_int_equal(-1, access(path, F_OK));
	aws_end(&a);
}

/* As PID 1 the reaper may be faster: as it is for everybody whose children the kernel reaps. */
TEST(credentials_of_a_process_need_not_have_its_status)
{
	struct aws a;

	with_process(&a, "echo '{\"Version\": 1, \"AccessKeyId\": \"AKID\", "
			 "\"SecretAccessKey\": \"s\"}'; exit 0");
	signal(SIGCHLD, SIG_IGN);
	assert_string_equal("AKID", aws_key(&a));
	signal(SIGCHLD, SIG_DFL);
	aws_end(&a);
}
