/* SPDX-License-Identifier: MIT */
/* The search for credentials: the variables of the environment, the table of providers and the
 * order in which they are queried, and what the providers share (parsing answers, requests with
 * retries, token files). One worker thread for each search. */
#include "credentials_private.h"
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "random.h"
#include "redact.h"
#include "s3_private.h"
#include "text.h"
#include "url.h"
#include <fcntl.h>
#include <jansson.h>
#include <string.h>

/* Variables that are read here are cleaned first. A Kubernetes Secret that was made with echo has a
 * newline at the end of each value, and a signature with it is refused with a misleading
 * message. */

static const char *const of_credentials[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_ENDPOINT_URL_STS", NULL};
static const char *const of_requests[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL",
	"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE",
	NULL};

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

/* Returns the variable, or a cleaned copy that v owns. A value that cannot be cleaned is returned
 * as it is: v->fault then prevents any request. */
static char *clean_variable(struct s3_variables *v, char *variable, bool sign)
{
	size_t len = strcspn(variable, "=");
	_free_ char *name = text_format("%.*s", (int)len, variable);
	_free_ char *value = NULL, *both = NULL;
	bool is_read = is_one_of(name, of_requests) || (sign && is_one_of(name, of_credentials));

	if (!is_read || variable[len] != '=' || variable[len + 1] == '\0' ||
		text_clean_value(name, variable + len + 1, "", &value, &v->fault) < 0 ||
		strcmp(value, variable + len + 1) == 0)
		return variable;
	both = text_format("%s=%s", name, value);
	text_strings_add(&v->cut, both);
	return v->cut.v[v->cut.n - 1];
}

void s3_variables_init(struct s3_variables *v, char *const *environment, bool sign)
{
	size_t n = 0;

	while (environment != NULL && environment[n] != NULL)
		n++;
	*v = (struct s3_variables){.environment = zalloc((n + 1) * sizeof(char *))};
	for (size_t i = 0; i < n; i++)
		v->environment[i] = clean_variable(v, environment[i], sign);
}

void s3_variables_done(struct s3_variables *v)
{
	text_strings_done(&v->cut);
	free(v->environment);
}

/* Credentials that were found, and the JSON that three of the providers receive. */

void credentials_value_done(struct credentials_value *v)
{
	char *all[] = {v->access_key, v->secret_key, v->session_token};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i] != NULL)
			explicit_bzero(all[i], strlen(all[i]));
		free(all[i]);
	}
	*v = (struct credentials_value){0};
}

void credentials_found_set(struct credentials_found *f, const char *access_key,
	const char *secret_key, const char *session_token, time_t expires)
{
	if (session_token != NULL && *session_token == '\0')
		session_token = NULL;
	redact_add(secret_key);
	if (session_token != NULL)
		redact_add(session_token);
	*f = (struct credentials_found){.value = {.access_key = text_copy(access_key),
						.secret_key = text_copy(secret_key),
						.session_token = text_copy(session_token)},
		.expires = expires};
}

void credentials_found_done(struct credentials_found *f)
{
	credentials_value_done(&f->value);
}

/* -ERR_CONFIG for control characters, which no HTTP header can contain, from any provider. */
static int check_found(const struct credentials_found *f, struct error *err)
{
	const struct {
		const char *what, *value;
	} all[] = {{"the access key", f->value.access_key}, {"the secret key", f->value.secret_key},
		{"the session token", f->value.session_token}};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (const char *c = all[i].value; c != NULL && *c != '\0'; c++)
			if ((unsigned char)*c < ' ' || *c == 127)
				return error_set(err, -ERR_CONFIG,
					"%s has a control character (0x%02x) in it", all[i].what,
					(unsigned char)*c);
	return 0;
}

int credentials_parse_time(const char *s, time_t *ret, struct error *err)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours = 0, minutes = 0;
	time_t offset;

	if (rest != NULL && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (rest == NULL ||
		(strcmp(rest, "Z") != 0 && sscanf(rest, "%3d:%2d", &hours, &minutes) != 2))
		return error_set(err, -ERR_FORMAT, "'%s' is not a time", s);
	offset = (time_t)hours * 3600 + (time_t)(*rest == '-' ? -minutes : minutes) * 60;
	*ret = timegm(&tm) - offset;
	return 0;
}

/* The value of a member, or NULL; empty strings count as missing. */
static const char *field(json_t *root, const char *name)
{
	const char *value = json_string_value(json_object_get(root, name));

	return value != NULL && *value != '\0' ? value : NULL;
}

static int parse_fields(
	json_t *root, const char *token, struct credentials_found *ret, struct error *err)
{
	const char *key = field(root, "AccessKeyId");
	const char *secret = field(root, "SecretAccessKey");
	const char *expiration = field(root, "Expiration");
	time_t expires = 0;
	int code = 0;

	if (key == NULL || secret == NULL)
		return error_set(
			err, -ERR_FORMAT, "the answer has no AccessKeyId and SecretAccessKey");
	if (expiration != NULL)
		code = credentials_parse_time(expiration, &expires, err);
	if (code == 0)
		credentials_found_set(ret, key, secret, field(root, token), expires);
	return code;
}

int credentials_found_parse(const char *json, size_t len, const char *token,
	struct credentials_found *ret, struct error *err)
{
	json_error_t where;
	json_t *root = json_loadb(json != NULL ? json : "", len, 0, &where);
	int code;

	/* The message quotes nothing of the answer, which may contain the secret. */
	if (root == NULL)
		return error_set(err, -ERR_FORMAT, "the answer is not JSON (line %d)", where.line);
	code = parse_fields(root, token, ret, err);
	json_decref(root);
	return code;
}

/* The provider of keys in the environment. */

static char *source(const struct credentials_search *s)
{
	if (credentials_variable(s->opts->environment, "AWS_ACCESS_KEY_ID") != NULL)
		return text_copy("environment (AWS_ACCESS_KEY_ID)");
	if (credentials_variable(s->opts->environment, "AWS_SECRET_ACCESS_KEY") != NULL)
		return text_copy("environment (AWS_SECRET_ACCESS_KEY)");
	return NULL;
}

static int find_in_environment(
	struct credentials_search *s, struct credentials_found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *key = credentials_variable(environment, "AWS_ACCESS_KEY_ID");
	const char *secret = credentials_variable(environment, "AWS_SECRET_ACCESS_KEY");

	if (key == NULL || secret == NULL)
		return error_set(err, -ERR_CONFIG, "%s is not set; set both, or neither",
			key == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
	credentials_found_set(
		ret, key, secret, credentials_variable(environment, "AWS_SESSION_TOKEN"), 0);
	return 0;
}

const struct provider from_environment = {
	.source = source, .find = find_in_environment, .looked_at = "AWS_ACCESS_KEY_ID"};

/* The providers, in the order of the AWS SDKs. Where the SDKs differ: a profile named in the
 * environment is intended by the user, so it comes before the web identity that a cluster injects
 * into every pod, as in the SDKs for Go and JavaScript; keys in the environment come before the
 * profile, as in botocore. */

static const struct provider *const providers[] = {
	&from_chosen_profile,
	&from_environment,
	&from_named_profile,
	&from_web_identity,
	&from_shared_files,
	&from_container,
	&from_instance,
};

static void search_init(
	struct credentials_search *s, const struct credentials_options *opts, struct cancel *cancel)
{
	*s = (struct credentials_search){.opts = opts, .cancel = cancel};
	if (profile_files_read(opts->environment, &s->files, &s->files_err) == 0)
		profile_files_warn_skipped(s->files, opts->warned_of_files);
}

static void search_done(struct credentials_search *s)
{
	profile_files_free(s->files);
	call_caller_free(s->caller);
}

static int no_credentials_error(const struct credentials_search *s, struct error *err)
{
	struct text looked = {0};
	_free_ char *files =
		s->files != NULL ? profile_files_names(s->files) : text_copy("no file");
	int code;

	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (providers[i]->looked_at != NULL)
			text_addf(&looked, "%s%s", looked.len > 0 ? ", " : "",
				providers[i]->looked_at);
	code = error_set(err, -ENOKEY,
		"no AWS credentials were found%s%s; looked at %s (files: %s, profile '%s'); give some, or set sign = no in [s3] of agent.ini for what is public",
		s->note != NULL ? ": " : "", s->note != NULL ? s->note : "", looked.s, files,
		profile_name(s->opts->environment, s->opts->profile));
	text_done(&looked);
	return code;
}

static int ask_providers(struct credentials_search *s, struct credentials_found *ret,
	char **ret_source, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++) {
		_free_ char *source = providers[i]->source(s);
		int code = source != NULL ? providers[i]->find(s, ret, err) : NOTHING_FOUND;

		if (code == NOTHING_FOUND)
			continue;
		if (code == -ECANCELED)
			return code;
		if (code < 0)
			return error_prefix(err, "credentials from %s", source);
		code = check_found(ret, err);
		if (code < 0) {
			credentials_found_done(ret);
			return error_prefix(err, "credentials from %s", source);
		}
		log_debug("credentials from %s", source);
		*ret_source = take_ptr(&source);
		return 0;
	}
	return no_credentials_error(s, err);
}

int chain_find(const struct credentials_options *opts, struct cancel *cancel,
	struct credentials_found *ret, char **ret_source, struct error *err)
{
	struct credentials_search s;
	int code;

	search_init(&s, opts, cancel);
	code = ask_providers(&s, ret, ret_source, err);
	search_done(&s);
	return code;
}

char *chain_describe(const struct credentials_options *opts)
{
	struct credentials_search s;
	_free_ char *source = NULL;
	const char *caveat = NULL;

	search_init(&s, opts, NULL);
	for (size_t i = 0; i < ARRAY_LEN(providers) && source == NULL; i++) {
		source = providers[i]->source(&s);
		caveat = providers[i]->caveat;
	}
	search_done(&s);
	if (source == NULL)
		return text_copy("none");
	return text_format("%s%s", source, caveat != NULL ? caveat : "");
}

/* Requests to services of credentials, with retries. */

enum { PAUSE_MS = 200, PAUSE_MAX_MS = 3000 };

/* One request, over all its attempts. */
struct service_attempts {
	struct credentials_search *search;
	const struct service_request *request;
	struct reply *reply;
	struct error why; /* of the last attempt */
	uint64_t patience_ns;
	uint64_t answered_ns; /* time of the first transient refusal; 0: none yet */
	unsigned tries;
	struct tried in_vain; /* attempts without any answer */
	bool warned;          /* the retry has been logged */
};

bool credentials_search_is_busy(long status)
{
	return status == 408 || patience_is_busy(status) ||
	       (status >= 500 && status != 501 && status != 505);
}

static bool is_transient(
	const struct service_request *q, const struct reply *r, char ret_code[static 64])
{
	ret_code[0] = '\0';
	if (q->is_transient != NULL && q->is_transient(r, ret_code))
		return true;
	return credentials_search_is_busy(r->status);
}

/* Sets and returns the error for a refusal. name: the code in the answer, or "". With a code, the
 * body, which may be long XML, is not quoted. */
static int refused_error(struct service_attempts *a, const char *name)
{
	const struct call *c = &a->request->call;
	_free_ char *shown = url_display(c->url);

	return error_set(&a->why, -ERR_HTTP, "%s %s answered %ld%s%.200s", c->method, shown,
		a->reply->status, name[0] != '\0' ? " " : ": ",
		name[0] != '\0'            ? name
		: a->reply->body.s != NULL ? a->reply->body.s
					   : "nothing else");
}

/* Sends the request once. 0: it was answered; 1: a retry may succeed, a->why holds the error;
 * negative: permanent failure. */
static int try_once(struct service_attempts *a)
{
	const struct service_request *q = a->request;
	char name[64];
	int code = call(a->search->caller, &q->call, a->reply, &a->why);

	a->tries++;
	if (code < 0)
		return call_is_transient(code) ? 1 : code;
	if (a->reply->status >= 200 && a->reply->status < 300)
		return 0;
	if (is_transient(q, a->reply, name)) {
		refused_error(a, name);
		if (a->answered_ns == 0)
			a->answered_ns = now_ns();
		return 1;
	}
	if (q->takes_any_status)
		return 0;
	code = refused_error(a, "");
	call_reply_done(a->reply);
	return code;
}

static bool had_no_answer(const struct service_attempts *a)
{
	return a->why.code != -ERR_HTTP;
}

static bool is_worth_another(struct service_attempts *a)
{
	const struct service_request *q = a->request;

	if (!had_no_answer(a))
		return now_ns() - a->answered_ns < a->patience_ns;
	if (q->may_be_absent)
		return a->tries < q->tries;
	return call_again(a->search->caller, q->call.url, &a->in_vain, q->tries - 1, 0, a->why.msg);
}

/* The pause before the next attempt, 0 if there is none. It grows with each attempt, and is random
 * between half of its limit and the limit. */
static unsigned next_pause_ms(struct service_attempts *a)
{
	unsigned most = PAUSE_MS;

	if (!is_worth_another(a))
		return 0;
	for (unsigned i = 1; i < a->tries && most < PAUSE_MAX_MS; i++)
		most *= 2;
	if (most > PAUSE_MAX_MS)
		most = PAUSE_MAX_MS;
	return most / 2 + (unsigned)random_below(most / 2);
}

static void sleep_ms(const struct credentials_search *s, unsigned ms)
{
	uint64_t end = now_ns() + ms * 1000000ull, now;

	while (!cancel_requested(s->cancel) && (now = now_ns()) < end)
		usleep((useconds_t)((end - now < 50000000 ? end - now : 50000000) / 1000) + 1);
}

static void warn_once(struct service_attempts *a)
{
	if (had_no_answer(a) || a->warned)
		return;
	a->warned = true;
	log_warn("credentials: %s; trying for %g s", a->why.msg, (double)a->patience_ns / 1e9);
}

static int give_up_error(struct service_attempts *a, struct error *err)
{
	bool answered = !had_no_answer(a);

	if (answered && a->request->takes_any_status)
		return 0;
	if (answered)
		call_reply_done(a->reply);
	return error_set(err, a->why.code, "%s (gave up after %u attempts)", a->why.msg, a->tries);
}

static int ask_until_answered(struct service_attempts *a, struct error *err)
{
	int code;

	while ((code = try_once(a)) > 0) {
		unsigned ms = next_pause_ms(a);

		if (ms == 0)
			return give_up_error(a, err);
		warn_once(a);
		if (!had_no_answer(a))
			call_reply_done(a->reply);
		sleep_ms(a->search, ms);
	}
	return code == 0 ? 0 : error_set(err, a->why.code, "%s", a->why.msg);
}

int credentials_search_ask(struct credentials_search *s, const struct service_request *q,
	struct reply *ret, struct error *err)
{
	struct service_attempts a = {.search = s,
		.request = q,
		.reply = ret,
		.patience_ns = s->opts->patience_ms > 0 ? s->opts->patience_ms * 1000000
							: q->patience_s * 1000000000ull};
	int code = 0;

	if (s->caller == NULL)
		code = call_caller_new(s->opts->network, s->cancel, &s->caller, err);
	return code < 0 ? code : ask_until_answered(&a, err);
}

/* A single newline at the end of the file is normal and removed silently; text_clean_value()
 * removes other surrounding space with a warning. */
int credentials_search_read_token(
	const char *path, const char *named_by, char **ret, struct error *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_free_ char *what = text_format("'%s' (%s)", path, named_by);
	char buf[16384];
	ssize_t len = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
	int code;

	if (len < 0)
		return error_set(err, -errno, "read the token in %s: %m", what);
	if (len > 0 && buf[len - 1] == '\n')
		len--;
	buf[len] = '\0';
	redact_add(buf);
	code = strlen(buf) < (size_t)len
		       ? error_set(err, -ERR_FORMAT, "%s has a NUL in it, and so is no token", what)
		       : text_clean_value(what, buf, "", ret, err);
	explicit_bzero(buf, sizeof(buf));
	if (code == 0 && **ret == '\0') {
		free(take_ptr(ret));
		code = error_set(err, -ERR_FORMAT, "%s holds no token", what);
	}
	return code;
}
