/* SPDX-License-Identifier: MIT */
/* AWS's Security Token Service and compatible ones (Ceph, MinIO): assumes roles, also with a web
 * identity. Worker threads. https://docs.aws.amazon.com/STS/latest/APIReference/ */
#include "credentials_private.h"
#include "defer.h"
#include "s3_private.h"
#include "url.h"
#include <expat.h>
#include <string.h>

/* Answers: the few XML elements that are needed, wherever they stand. */

struct reading {
	struct sts_answer *answer;
	struct text *into; /* the open element; NULL: it is not needed */
};

static struct text *field_for(struct sts_answer *a, const char *element)
{
	const struct {
		const char *name;
		struct text *into;
	} fields[] = {
		{"AccessKeyId", &a->access_key},
		{"SecretAccessKey", &a->secret_key},
		{"SessionToken", &a->session_token},
		{"Expiration", &a->expiration},
		{"Code", &a->code},
		{"Message", &a->message},
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strcmp(element, fields[i].name) == 0)
			return fields[i].into;
	return NULL;
}

static void on_start(void *ctx, const char *element, const char **attributes)
{
	struct reading *r = ctx;

	(void)attributes;
	r->into = field_for(r->answer, element);
}

static void on_end(void *ctx, const char *element)
{
	struct reading *r = ctx;

	(void)element;
	r->into = NULL;
}

static void on_text(void *ctx, const char *s, int len)
{
	struct reading *r = ctx;

	if (r->into != NULL)
		text_add_bytes(r->into, s, (size_t)len);
}

bool sts_answer_parse(const char *xml, size_t len, struct sts_answer *ret)
{
	XML_Parser parser = XML_ParserCreate(NULL);
	struct reading r = {.answer = ret};
	enum XML_Status status;

	if (parser == NULL)
		abort();
	XML_SetUserData(parser, &r);
	XML_SetElementHandler(parser, on_start, on_end);
	XML_SetCharacterDataHandler(parser, on_text);
	status = XML_Parse(parser, xml != NULL ? xml : "", (int)len, 1);
	XML_ParserFree(parser);
	return status == XML_STATUS_OK;
}

void sts_answer_done(struct sts_answer *a)
{
	if (a->secret_key.s != NULL)
		explicit_bzero(a->secret_key.s, a->secret_key.len);
	text_done(&a->access_key);
	text_done(&a->secret_key);
	text_done(&a->session_token);
	text_done(&a->expiration);
	text_done(&a->code);
	text_done(&a->message);
}

/* Requests. */

enum { TRIES = 3, TIMEOUT_MS = 30000, PATIENCE_S = 30 };

/* profile: the region of the profile that assumes the role; NULL: use that of the selected
 * profile. */
static char *region_of(const struct credentials_search *s, const char *profile)
{
	char *const *environment = s->opts->environment;
	const char *region = s->opts->region;

	if (region == NULL || *region == '\0')
		region = credentials_variable(environment, "AWS_REGION");
	if (region == NULL)
		region = credentials_variable(environment, "AWS_DEFAULT_REGION");
	if (region == NULL)
		region = profile;
	if (region == NULL && s->files != NULL)
		region = profile_files_value(
			s->files, profile_name(environment, s->opts->profile), "region");
	return text_copy(region);
}

static char *endpoint_of(const struct credentials_search *s, const char *region)
{
	const char *url = NULL;

	if (!s3_ignores_endpoints(s->opts->environment)) {
		url = credentials_variable(s->opts->environment, "AWS_ENDPOINT_URL_STS");
		if (url == NULL)
			url = credentials_variable(s->opts->environment, "AWS_ENDPOINT_URL");
	}
	if (url != NULL)
		return text_format("%s%s", url, url[strlen(url) - 1] == '/' ? "" : "/");
	if (region == NULL)
		return text_copy("https://sts.amazonaws.com/");
	return text_format("https://sts.%s.amazonaws.com%s/", region,
		strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static char *body_of(const char *action, const char *const *parameters)
{
	struct text t = {0};

	text_addf(&t, "Action=%s&Version=2011-06-15", action);
	for (; parameters[0] != NULL; parameters += 2)
		if (parameters[1] != NULL)
			s3_query_add(&t, parameters[0], parameters[1]);
	return text_take(&t);
}

/* STS reports several transient errors with status 400: throttling, an identity provider that it
 * could not reach, or whose keys it could not fetch (an InvalidIdentityToken with such a
 * message). */
static bool is_transient_code(const char *code, const char *message)
{
	static const char *const codes[] = {"Throttling", "ThrottlingException",
		"ThrottledException", "EC2ThrottledException", "RequestThrottled",
		"RequestThrottledException", "RequestLimitExceeded", "TooManyRequests",
		"TooManyRequestsException", "LimitExceededException", "BandwidthLimitExceeded",
		"SlowDown", "IDPCommunicationError", "IDPCommunicationErrorException",
		"PriorRequestNotComplete", "RequestTimeout", "RequestTimeoutException",
		"TransactionInProgressException", "InternalFailure", "InternalError",
		"ServiceUnavailable", "ServiceUnavailableException"};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return strncmp(code, "InvalidIdentityToken", 20) == 0 &&
	       strstr(message, "retrieve verification key") != NULL;
}

static bool is_transient(const struct reply *r, char ret_code[static 64])
{
	struct sts_answer a = {0};
	bool is;

	sts_answer_parse(r->body.s, r->body.len, &a);
	is = a.code.s != NULL &&
	     is_transient_code(a.code.s, a.message.s != NULL ? a.message.s : "");
	if (a.code.s != NULL)
		snprintf(ret_code, 64, "%s", a.code.s);
	sts_answer_done(&a);
	return is;
}

static int refused_error(const char *url, const char *action, const struct reply *reply,
	const struct sts_answer *a, struct error *err)
{
	const char *code = a->code.s != NULL ? a->code.s : "no code";
	const char *message = a->message.s != NULL ? a->message.s : "no message";
	const char *advice = s3_advice_on(S3_STS, code, message);

	return error_set(err, -ERR_HTTP, "%s at %s was refused: %ld %s: %s%s%s", action, url,
		reply->status, code, message, advice != NULL ? "; " : "",
		advice != NULL ? advice : "");
}

static int parse_answer(const char *url, const char *action, const struct reply *reply,
	struct credentials_found *ret, struct error *err)
{
	struct sts_answer a = {0};
	bool is_xml = sts_answer_parse(reply->body.s, reply->body.len, &a);
	time_t expires = 0;
	int code = 0;

	if (reply->status != 200)
		code = refused_error(url, action, reply, &a, err);
	else if (!is_xml || a.access_key.len == 0 || a.secret_key.len == 0)
		code = error_set(
			err, -ERR_FORMAT, "%s at %s: the answer has no credentials", action, url);
	else if (a.expiration.len > 0)
		code = credentials_parse_time(a.expiration.s, &expires, err);
	if (code == 0)
		credentials_found_set(
			ret, a.access_key.s, a.secret_key.s, a.session_token.s, expires);
	sts_answer_done(&a);
	return code;
}

int sts_ask(struct credentials_search *s, const struct sts_request *asked,
	struct credentials_found *ret, struct error *err)
{
	_free_ char *region = region_of(s, asked->region);
	_free_ char *url = endpoint_of(s, region);
	_free_ char *shown = url_display(url);
	_free_ char *body = body_of(asked->action, asked->parameters);
	const struct credentials_value *signer = asked->signer;
	struct call_signature signature = {
		.region = region != NULL ? region : "us-east-1", .service = "sts"};
	struct service_request q = {.call = {.method = "POST",
					    .url = url,
					    .body = body,
					    .body_len = strlen(body),
					    .timeout_ms = TIMEOUT_MS},
		.tries = TRIES,
		.patience_s = PATIENCE_S,
		.is_transient = is_transient,
		.takes_any_status = true};
	struct reply reply;
	int code;

	if (signer != NULL) {
		signature.access_key = signer->access_key;
		signature.secret_key = signer->secret_key;
		signature.session_token = signer->session_token;
		q.call.signature = &signature;
	}
	code = credentials_search_ask(s, &q, &reply, err);
	explicit_bzero(body, strlen(body)); /* it may contain a web identity token */
	if (code < 0)
		return code;
	code = parse_answer(shown, asked->action, &reply, ret, err);
	call_reply_done(&reply);
	return code;
}

/* Web identity: a token in a file that Kubernetes or a CI system refreshes, exchanged for a
 * role. */

int sts_web_identity_find(struct credentials_search *s, const struct web_identity *w,
	struct credentials_found *ret, struct error *err)
{
	_free_ char *token = NULL;
	int code = credentials_search_read_token(w->token_file, w->named_by, &token, err);
	const char *parameters[] = {"RoleArn", w->role, "RoleSessionName",
		w->session != NULL ? w->session : "stagerun", "WebIdentityToken", token, NULL};
	struct sts_request q = {.action = "AssumeRoleWithWebIdentity",
		.parameters = parameters,
		.region = w->region};

	return code < 0 ? code : sts_ask(s, &q, ret, err);
}

static char *source(const struct credentials_search *s)
{
	const char *file =
		credentials_variable(s->opts->environment, "AWS_WEB_IDENTITY_TOKEN_FILE");
	const char *role = credentials_variable(s->opts->environment, "AWS_ROLE_ARN");

	if (file == NULL)
		return NULL;
	return text_format("web identity (AWS_WEB_IDENTITY_TOKEN_FILE=%s, AWS_ROLE_ARN%s%s)", file,
		role != NULL ? "=" : " is not set", role != NULL ? role : "");
}

static int find_by_variables(
	struct credentials_search *s, struct credentials_found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	struct web_identity w = {
		.token_file = credentials_variable(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"),
		.named_by = "AWS_WEB_IDENTITY_TOKEN_FILE",
		.role = credentials_variable(environment, "AWS_ROLE_ARN"),
		.session = credentials_variable(environment, "AWS_ROLE_SESSION_NAME")};

	if (w.role == NULL)
		return error_set(
			err, -ERR_CONFIG, "set AWS_ROLE_ARN to the role that the token is for");
	return sts_web_identity_find(s, &w, ret, err);
}

const struct provider from_web_identity = {
	.source = source, .find = find_by_variables, .looked_at = "AWS_WEB_IDENTITY_TOKEN_FILE"};
