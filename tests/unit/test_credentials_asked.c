/* SPDX-License-Identifier: MIT */
/* Credentials that somebody on the network is asked for: STS, ECS and EKS, EC2. */
#include "aws_fixture.h"
#include "defer.h"
#include "progress.h"
#include "test.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void assert_says(const struct aws *a, const char *part)
{
	if (strstr(a->err.msg, part) == NULL)
		fail_msg("'%s' does not say '%s'", a->err.msg, part);
}

static void assert_form(struct aws *a, unsigned i, const char *name, const char *value)
{
	_free_ char *is = aws_form(a, i, name);

	assert_string_equal(value, is);
}

/* A file with text in it, in the fixture's directory. Heap. */
static char *make_file(const struct aws *a, const char *name, const char *text)
{
	char *path = text_format("%s/%s", a->dir, name);
	_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(strlen(text), write(fd, text, strlen(text)));
	return path;
}

/* STS */

static void with_sts(struct aws *a, const struct route *r)
{
	aws_begin(a);
	aws_set_url(a, "AWS_ENDPOINT_URL_STS", "");
	aws_route(a, r);
}

static const struct route sts = {
	.method = "POST", .path = "/", .keys = KEYS_STS, .name = "ROLE", .lives_s = 3600};

static void with_web_identity(struct aws *a, const struct route *r)
{
	_free_ char *path = NULL;

	with_sts(a, r);
	path = make_file(a, "token", "the.web/token\n");
	aws_set(a, "AWS_WEB_IDENTITY_TOKEN_FILE", path);
	aws_set(a, "AWS_ROLE_ARN", "arn:aws:iam::1:role/r");
}

TEST(credentials_come_from_a_web_identity)
{
	struct aws a;
	struct fake_request q;

	with_web_identity(&a, &sts);
	assert_string_equal("ROLE1", aws_key(&a));
	assert_string_equal("the-secret-of-ROLE", a.value.secret_key);
	assert_string_equal("a-token&of-ROLE", a.value.session_token);
	assert_form(&a, 0, "Action", "AssumeRoleWithWebIdentity");
	assert_form(&a, 0, "Version", "2011-06-15");
	assert_form(&a, 0, "RoleArn", "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr");
	assert_form(&a, 0, "WebIdentityToken", "the.web%2Ftoken");
	assert_form(&a, 0, "RoleSessionName", "stagerun");
	q = fake_http_request(a.server, 0);
	assert_false(fake_has_header(&q, "Authorization"));
	assert_true(fake_header_is(&q, "Content-Type", "application/x-www-form-urlencoded"));
	aws_end(&a);
}

TEST(credentials_of_a_web_identity_win_over_the_shared_files_and_lose_to_the_environment)
{
	struct aws a;

	with_web_identity(&a, &sts);
	aws_credentials(&a, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
	assert_string_equal("ROLE1", aws_key(&a));
	aws_end(&a);

	with_web_identity(&a, &sts);
	aws_set(&a, "AWS_ACCESS_KEY_ID", "ENV");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "s");
	assert_string_equal("ENV", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_of_a_web_identity_that_fails_are_an_error_and_nobody_else_is_asked)
{
	struct route no = {.method = "POST",
		.path = "/",
		.status = 400,
		.body = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</"
			"Code>"
			"<Message>Token expired: 1 is before 2</Message></Error></ErrorResponse>"};
	struct aws a;

	with_web_identity(&a, &no);
	aws_credentials(&a, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "AssumeRoleWithWebIdentity at http://127.0.0.1");
	assert_says(&a, "400 ExpiredTokenException: Token expired: 1 is before 2; the token has "
			"expired");
	assert_null(strstr(a.err.msg, "the.web"));
	aws_end(&a);
}

TEST(credentials_of_a_web_identity_without_its_file_or_role_are_an_error)
{
	struct aws a;

	aws_begin(&a);
	aws_set(&a, "AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
	assert_int_equal(-ERR_CONFIG, aws_get(&a));
	assert_says(&a, "AWS_ROLE_ARN");
	aws_end(&a);

	aws_begin(&a);
	aws_set(&a, "AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
	aws_set(&a, "AWS_ROLE_ARN", "arn");
	assert_int_equal(-ENOENT, aws_get(&a));
	assert_says(&a, "/nonexistent/token");
	aws_end(&a);
}

TEST(credentials_of_sts_are_asked_for_again_when_it_is_overloaded)
{
	struct route busy = sts;
	struct aws a;

	busy.fails_first = 2;
	with_web_identity(&a, &busy);
	assert_string_equal("ROLE3", aws_key(&a));
	aws_end(&a);
}

#define STS_ERROR(code, message) \
	"<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>" message \
	"</Message></Error><RequestId>R</RequestId></ErrorResponse>"

TEST(credentials_of_sts_are_asked_for_again_when_its_answer_of_400_passes)
{
	static const char *const passing[] = {STS_ERROR("Throttling", "Rate exceeded"),
		STS_ERROR("ThrottlingException", "Rate exceeded"),
		STS_ERROR("EC2ThrottledException", "Rate exceeded"),
		STS_ERROR("RequestLimitExceeded", "Rate exceeded"),
		STS_ERROR("IDPCommunicationError", "The identity provider was not reached"),
		STS_ERROR("InvalidIdentityToken", "Couldn't retrieve verification key from your "
						  "identity provider")};

	for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
		struct route busy = sts;
		struct aws a;

		busy.fails_first = 2;
		busy.fail_status = 400;
		busy.fail_body = passing[i];
		with_web_identity(&a, &busy);
		assert_string_equal("ROLE3", aws_key(&a));
		aws_end(&a);
	}
}

TEST(credentials_of_sts_that_stays_busy_are_an_error_with_its_code_and_nobody_else_is_asked)
{
	struct route busy = {.method = "POST",
		.path = "/",
		.status = 400,
		.body = STS_ERROR("Throttling", "Rate exceeded")};
	struct aws a;

	with_web_identity(&a, &busy);
	a.opts.patience_ms = 300;
	aws_credentials(&a, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "400 Throttling: Rate exceeded");
	assert_true(aws_asked(&a, "/") >= 2);
	aws_end(&a);
}

TEST(credentials_of_sts_that_says_no_for_good_are_asked_for_once)
{
	struct route no = {.method = "POST",
		.path = "/",
		.status = 400,
		.body = STS_ERROR("InvalidIdentityToken", "Incorrect token audience")};
	struct aws a;

	with_web_identity(&a, &no);
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_int_equal(1, aws_asked(&a, "/"));
	aws_end(&a);
}

TEST(credentials_come_from_a_web_identity_of_a_profile)
{
	struct aws a;
	_free_ char *path = NULL, *config = NULL;

	with_sts(&a, &sts);
	path = make_file(&a, "token", "tok");
	config = text_format("[profile ci]\nrole_arn = arn:r\nweb_identity_token_file = %s\n"
			     "role_session_name = me\n",
		path);
	aws_config(&a, config);
	aws_set(&a, "AWS_PROFILE", "ci");
	assert_string_equal("ROLE1", aws_key(&a));
	assert_form(&a, 0, "RoleSessionName", "me");
	aws_end(&a);
}

TEST(credentials_come_from_a_role_that_another_profile_assumes)
{
	struct aws a;
	struct fake_request q;

	with_sts(&a, &sts);
	aws_config(&a, "[profile ci]\nrole_arn = arn:r\nsource_profile = me\nexternal_id = x y\n"
		       "duration_seconds = 900\nregion = eu-west-3\n");
	aws_credentials(&a, "[me]\naws_access_key_id = MINE\naws_secret_access_key = s\n"
			    "aws_session_token = t\n");
	aws_set(&a, "AWS_PROFILE", "ci");
	assert_string_equal("ROLE1", aws_key(&a));
	q = fake_http_request(a.server, 0);
	assert_non_null(strstr(q.headers, "Credential=MINE/"));
	assert_non_null(strstr(q.headers, "/eu-west-3/sts/aws4_request"));
	assert_true(fake_header_is(&q, "x-amz-security-token", "t"));
	assert_form(&a, 0, "Action", "AssumeRole");
	assert_form(&a, 0, "ExternalId", "x%20y");
	assert_form(&a, 0, "DurationSeconds", "900");
	aws_end(&a);
}

TEST(credentials_come_through_a_chain_of_roles)
{
	struct aws a;

	with_sts(&a, &sts);
	aws_config(&a, "[profile c]\nrole_arn = arn:c\nsource_profile = b\n"
		       "[profile b]\nrole_arn = arn:b\nsource_profile = b\n"
		       "aws_access_key_id = MINE\naws_secret_access_key = s\n");
	a.opts.profile = "c";
	assert_string_equal("ROLE2", aws_key(&a));
	assert_form(&a, 0, "RoleArn", "arn%3Ab");
	assert_form(&a, 1, "RoleArn", "arn%3Ac");
	assert_non_null(strstr(fake_http_request(a.server, 0).headers, "Credential=MINE/"));
	assert_non_null(strstr(fake_http_request(a.server, 1).headers, "Credential=ROLE1/"));
	aws_end(&a);
}

TEST(credentials_come_from_a_role_that_the_environment_assumes)
{
	struct aws a;

	with_sts(&a, &sts);
	aws_config(&a, "[profile r]\nrole_arn = arn:r\ncredential_source = Environment\n");
	aws_set(&a, "AWS_ACCESS_KEY_ID", "ENV");
	aws_set(&a, "AWS_SECRET_ACCESS_KEY", "s");
	a.opts.profile = "r";
	assert_string_equal("ROLE1", aws_key(&a));
	assert_non_null(strstr(fake_http_request(a.server, 0).headers, "Credential=ENV/"));
	aws_end(&a);
}

TEST(credentials_of_a_role_that_is_refused_are_an_error_with_the_reason)
{
	struct route no = {.method = "POST",
		.path = "/",
		.status = 403,
		.body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: me is not "
			"authorized</Message></Error></ErrorResponse>"};
	struct aws a;

	with_sts(&a, &no);
	aws_config(&a, "[default]\nrole_arn = arn:r\nsource_profile = me\n"
		       "[profile me]\naws_access_key_id = MINE\naws_secret_access_key = s\n");
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "role arn:r: AssumeRole at ");
	assert_says(&a, "403 AccessDenied: User: me is not authorized; the role's trust policy");
	aws_end(&a);
}

static void expect_bad_profile(const char *config, const char *part)
{
	struct aws a;

	aws_begin(&a);
	aws_config(&a, config);
	assert_true(aws_get(&a) < 0);
	assert_says(&a, part);
	aws_end(&a);
}

TEST(credentials_of_roles_that_cannot_work_are_errors)
{
	expect_bad_profile("[default]\nrole_arn = r\n", "nobody to assume it");
	expect_bad_profile("[default]\nrole_arn = r\nsource_profile = gone\n", "no profile 'gone'");
	expect_bad_profile("[default]\nrole_arn = r\nsource_profile = a\n"
			   "[profile a]\nrole_arn = r\nsource_profile = default\n",
		"round and round");
	expect_bad_profile("[default]\nrole_arn = r\ncredential_source = Elsewhere\n",
		"credential_source = Elsewhere is none of");
	expect_bad_profile(
		"[default]\nrole_arn = r\nsource_profile = a\nmfa_serial = m\n", "mfa_serial");
	expect_bad_profile("[default]\nrole_arn = r\nsource_profile = a\n[profile a]\nregion = x\n",
		"profile 'a'");
}

static void with_instance(struct aws *a)
{
	aws_begin(a);
	aws_route(a, &(struct route){
			     .method = "PUT", .path = "/latest/api/token", .body = "imds-token"});
	aws_route(a, &(struct route){.method = "GET",
			     .path = "/latest/meta-data/iam/security-credentials/",
			     .body = "the-role\n"});
	aws_route(a, &(struct route){.method = "GET",
			     .path = "/latest/meta-data/iam/security-credentials/the-role",
			     .keys = KEYS_JSON,
			     .name = "INSTANCE",
			     .lives_s = 3600});
}

/* Containers */

static const struct route container = {
	.method = "GET", .path = "/creds?id=1", .keys = KEYS_JSON, .name = "TASK", .lives_s = 3600};

TEST(credentials_come_from_a_container_service_with_its_token)
{
	struct aws a;
	struct fake_request q;

	aws_begin(&a);
	aws_route(&a, &container);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	aws_set(&a, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc=");
	assert_string_equal("TASK1", aws_key(&a));
	assert_string_equal("a-token-of-TASK", a.value.session_token);
	q = fake_http_request(a.server, 0);
	assert_true(fake_header_is(&q, "Authorization", "Basic abc="));
	aws_end(&a);
}

TEST(credentials_of_a_container_read_the_token_file_anew_and_prefer_it)
{
	struct aws a;
	_free_ char *path = NULL, *again = NULL;
	struct fake_request q;

	aws_begin(&a);
	path = make_file(&a, "token", "first-token\n");
	aws_route(&a, &container);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	aws_set(&a, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "not-this");
	aws_set(&a, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path);
	assert_string_equal("TASK1", aws_key(&a));
	again = make_file(&a, "token", "second-token");
	assert_non_null(again);
	credentials_reject(a.c, "TASK1");
	assert_string_equal("TASK2", aws_key(&a));
	q = fake_http_request(a.server, 0);
	assert_true(fake_header_is(&q, "Authorization", "first-token"));
	q = fake_http_request(a.server, 1);
	assert_true(fake_header_is(&q, "Authorization", "second-token"));
	aws_end(&a);
}

TEST(credentials_of_a_container_are_asked_for_only_nearby)
{
	static const char *const refused[] = {
		"http://example.com/c",
		"http://169.254.170.2@example.com/c",
		"http://127.0.0.1.example.com/c",
		"http://169.254.169.254/c",
		"http://[::2]/c",
		"http://0x7f.1.example.com/c",
		"ftp://localhost/c",
		"nonsense",
	};

	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct aws a;

		aws_begin(&a);
		aws_set(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", refused[i]);
		assert_int_equal(-ERR_CONFIG, aws_get(&a));
		assert_says(&a, "is asked only by https");
		aws_end(&a);
	}
}

TEST(credentials_of_a_container_that_fails_are_an_error)
{
	struct route no = {.method = "GET",
		.path = "/creds",
		.status = 403,
		.body = "{\"message\": \"token is not for you\"}"};
	struct aws a;

	aws_begin(&a);
	aws_route(&a, &no);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds");
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "container (AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1");
	assert_says(&a, "answered 403: {\"message\": \"token is not for you\"}");
	assert_int_equal(1, fake_http_requests(a.server));
	aws_end(&a);
}

TEST(credentials_of_a_container_whose_service_is_not_ready_are_waited_for)
{
	static const int early[] = {404, 408, 425, 429, 500, 502, 503, 504, 520};

	for (size_t i = 0; i < ARRAY_LEN(early); i++) {
		struct route late = container;
		struct aws a;

		late.fails_first = 2;
		late.fail_status = early[i];
		late.fail_body = "not yet";
		aws_begin(&a);
		aws_route(&a, &late);
		aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
		assert_string_equal("TASK3", aws_key(&a));
		aws_end(&a);
	}
}

/* However long its first answer took to come. */
TEST(credentials_of_a_container_whose_service_comes_late_and_is_not_ready_are_waited_for)
{
	struct route late = container;
	struct aws a;

	late.fails_first = 1;
	late.fail_status = 404;
	late.stall_ms = 400;
	aws_begin(&a);
	a.opts.patience_ms = 300;
	aws_route(&a, &late);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	assert_string_equal("TASK2", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_of_a_container_whose_service_never_comes_are_an_error_and_nobody_else_is_asked)
{
	struct aws a;

	with_instance(&a);
	a.opts.patience_ms = 300;
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds");
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "/creds answered 404");
	assert_says(&a, "gave up after");
	assert_int_equal(0, aws_asked(&a, "/latest/api/token"));
	aws_end(&a);
}

TEST(credentials_of_a_container_that_nobody_listens_for_are_tried_as_long_as_patience_lasts)
{
	struct aws a;
	uint64_t start = now_ns();

	aws_begin(&a);
	a.opts.patience_ms = 400;
	aws_set(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/creds");
	assert_int_equal(-EAGAIN, aws_get(&a));
	assert_true(now_ns() - start >= 400000000u);
	assert_says(&a, "container (AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/creds)");
	aws_end(&a);
}

/* EC2 */

TEST(credentials_come_from_an_instances_role_by_token)
{
	struct aws a;
	struct fake_request q;

	with_instance(&a);
	assert_string_equal("INSTANCE1", aws_key(&a));
	q = fake_http_request(a.server, 0);
	assert_true(fake_has_header(&q, "X-aws-ec2-metadata-token-ttl-seconds"));
	for (unsigned i = 1; i < 3; i++) {
		q = fake_http_request(a.server, i);
		assert_true(fake_header_is(&q, "X-aws-ec2-metadata-token", "imds-token"));
	}
	aws_end(&a);
}

TEST(credentials_of_an_instance_are_asked_for_last_and_not_when_disabled)
{
	struct aws a;

	with_instance(&a);
	aws_credentials(&a, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
	assert_string_equal("FILE", aws_key(&a));
	aws_end(&a);

	with_instance(&a);
	aws_set(&a, "AWS_EC2_METADATA_DISABLED", "true");
	assert_int_equal(-ENOKEY, aws_get(&a));
	assert_int_equal(0, fake_http_requests(a.server));
	aws_end(&a);
}

TEST(credentials_of_an_instance_without_a_role_are_nobodys)
{
	struct aws a;

	aws_begin(&a);
	aws_route(&a, &(struct route){
			      .method = "PUT", .path = "/latest/api/token", .body = "imds-token"});
	assert_int_equal(-ENOKEY, aws_get(&a));
	assert_says(&a, "no AWS credentials were found");
	aws_end(&a);
}

TEST(credentials_of_an_instance_whose_service_is_silent_are_given_up_soon)
{
	struct aws a;

	aws_begin(&a);
	/* It would answer well, but nobody waits so long. */
	aws_route(&a, &(struct route){.method = "PUT",
			      .path = "/latest/api/token",
			      .body = "late",
			      .stall_ms = 1300});
	aws_route(&a, &(struct route){.method = "GET",
			      .path = "/latest/meta-data/iam/security-credentials/",
			      .body = "the-role\n"});
	aws_route(&a, &(struct route){.method = "GET",
			      .path = "/latest/meta-data/iam/security-credentials/the-role",
			      .keys = KEYS_JSON,
			      .name = "INSTANCE"});
	assert_int_equal(-ENOKEY, aws_get(&a));
	assert_int_equal(2, aws_asked(&a, "/latest/api/token"));
	assert_says(&a, "no AWS credentials were found: EC2's metadata service takes connections");
	assert_says(&a, "hop-limit 2");
	aws_end(&a);
}

TEST(credentials_of_an_instance_whose_service_is_busy_are_waited_for)
{
	struct aws a;

	with_instance(&a);
	pthread_mutex_lock(&a.lock);
	a.routes[0].fails_first = a.routes[1].fails_first = a.routes[2].fails_first = 1;
	a.routes[2].fail_status = 404;
	pthread_mutex_unlock(&a.lock);
	assert_string_equal("INSTANCE2", aws_key(&a));
	aws_end(&a);
}

TEST(credentials_of_an_instance_whose_service_stays_busy_are_an_error_and_not_nobodys)
{
	struct aws a;

	with_instance(&a);
	a.opts.patience_ms = 200;
	aws_break(&a, 0, 503);
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "/latest/api/token answered 503");
	aws_end(&a);
}

TEST(credentials_of_an_instance_whose_service_is_not_reached_are_an_error_and_not_nobodys)
{
	static const int statuses[] = {408, 425, 507, 520};

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		struct aws a;

		with_instance(&a);
		a.opts.patience_ms = 100;
		aws_break(&a, 0, statuses[i]);
		assert_int_equal(-ERR_HTTP, aws_get(&a));
		assert_says(&a, "/latest/api/token answered");
		aws_end(&a);
	}
}

TEST(credentials_of_an_instance_that_breaks_in_the_middle_are_an_error)
{
	struct aws a;

	with_instance(&a);
	a.opts.patience_ms = 200;
	aws_break(&a, 2, 500); /* the keys */
	assert_int_equal(-ERR_HTTP, aws_get(&a));
	assert_says(&a, "/the-role answered 500");
	aws_end(&a);
}

/* Expiry */

TEST(credentials_that_expire_are_renewed_before_without_anybody_asking)
{
	struct route brief = container;
	struct credentials_value last = {0};
	struct aws a;

	brief.lives_s = 2;
	aws_begin(&a);
	aws_route(&a, &brief);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	assert_string_equal("TASK1", aws_key(&a));
	for (unsigned i = 0; i < 350 && aws_asked(&a, "/creds?id=1") < 2; i++)
		usleep(10000);
	usleep(100000);
	assert_true(credentials_last(a.c, &last));
	assert_string_equal("TASK2", last.access_key);
	credentials_value_done(&last);
	aws_end(&a);
}

TEST(credentials_that_expire_much_later_are_not_asked_for_again)
{
	struct aws a;

	aws_begin(&a);
	aws_route(&a, &container);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	for (unsigned i = 0; i < 20; i++) {
		assert_string_equal("TASK1", aws_key(&a));
		usleep(5000);
	}
	assert_int_equal(1, aws_asked(&a, "/creds?id=1"));
	aws_end(&a);
}

TEST(credentials_that_have_expired_are_not_given_out)
{
	struct route brief = container;
	struct aws a;

	brief.lives_s = -10;
	aws_begin(&a);
	aws_route(&a, &brief);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	assert_true(aws_get(&a) < 0);
	assert_says(&a, "expired");
	aws_end(&a);
}

TEST(credentials_rejected_are_renewed_at_once_without_anybody_asking)
{
	struct credentials_value last = {0};
	struct aws a;
	unsigned i;

	aws_begin(&a);
	aws_route(&a, &container);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	assert_string_equal("TASK1", aws_key(&a));
	credentials_reject(a.c, "TASK1");
	for (i = 0; i < 200; i++) {
		assert_true(credentials_last(a.c, &last));
		if (strcmp(last.access_key, "TASK2") == 0)
			break;
		credentials_value_done(&last);
		usleep(10000);
	}
	assert_true(i < 200);
	credentials_value_done(&last);
	aws_end(&a);
}

TEST(credentials_survive_a_renewal_that_fails_while_they_are_good)
{
	struct route brief = container;
	struct aws a;

	brief.lives_s = 4;
	aws_begin(&a);
	aws_route(&a, &brief);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	assert_string_equal("TASK1", aws_key(&a));
	aws_break(&a, 0, 403);
	for (unsigned i = 0; i < 500 && aws_asked(&a, "/creds?id=1") < 2; i++)
		usleep(10000);
	assert_int_equal(2, aws_asked(&a, "/creds?id=1"));
	usleep(50000);
	assert_string_equal("TASK1", aws_key(&a));
	aws_end(&a);
}

/* Threads */

struct asker {
	struct aws *a;
	pthread_t thread;
	int code;
	char key[32];
};

static void *ask(void *ctx)
{
	struct asker *k = ctx;
	struct credentials_value v = {0};
	struct error err;

	k->code = credentials_get(k->a->c, NULL, &v, &err);
	if (k->code == 0)
		snprintf(k->key, sizeof(k->key), "%s", v.access_key);
	credentials_value_done(&v);
	return NULL;
}

static void ask_at_once(struct aws *a, struct asker askers[static 16])
{
	a->opts.network = &a->network;
	a->opts.environment = a->env.v;
	a->c = credentials_new(&a->opts);
	for (unsigned i = 0; i < 16; i++) {
		askers[i] = (struct asker){.a = a};
		pthread_create(&askers[i].thread, NULL, ask, &askers[i]);
	}
	for (unsigned i = 0; i < 16; i++)
		pthread_join(askers[i].thread, NULL);
}

TEST(credentials_wanted_by_many_threads_are_asked_for_once)
{
	struct route slow = container;
	struct asker askers[16];
	struct aws a;

	slow.stall_ms = 300;
	aws_begin(&a);
	aws_route(&a, &slow);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	ask_at_once(&a, askers);
	for (unsigned i = 0; i < 16; i++)
		assert_string_equal("TASK1", askers[i].key);
	assert_int_equal(1, aws_asked(&a, "/creds?id=1"));
	aws_end(&a);
}

TEST(credentials_that_fail_fail_for_all_threads_that_wait)
{
	struct route no = {
		.method = "GET", .path = "/creds", .status = 403, .stall_ms = 300, .body = ""};
	struct asker askers[16];
	struct aws a;

	aws_begin(&a);
	aws_route(&a, &no);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds");
	ask_at_once(&a, askers);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(-ERR_HTTP, askers[i].code);
	/* But for threads that came only when it was over. */
	assert_in_range(aws_asked(&a, "/creds"), 1, 4);
	aws_end(&a);
}

static void *cancel_soon(void *ctx)
{
	struct aws *a = ctx;

	usleep(100000);
	cancel_request(&a->cancel);
	return NULL;
}

TEST(credentials_are_not_waited_for_when_cancelled)
{
	struct route slow = container;
	struct aws a;
	pthread_t thread;
	uint64_t start;

	slow.stall_ms = 4000;
	aws_begin(&a);
	aws_route(&a, &slow);
	aws_set_url(&a, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/creds?id=1");
	start = now_ns();
	pthread_create(&thread, NULL, cancel_soon, &a);
	assert_int_equal(-ECANCELED, aws_get(&a));
	assert_true(now_ns() - start < 2500000000u);
	pthread_join(thread, NULL);
	aws_end(&a);
}
