/* SPDX-License-Identifier: MIT */
/* The providers, in the order of the AWS SDKs, and how they are asked. */
#include "chain.h"
#include "defer.h"
#include "log.h"
#include "redact.h"
#include <fcntl.h>
#include <string.h>

static const struct provider *const providers[] = {
	&from_chosen_profile,
	&from_environment,
	&from_web_identity,
	&from_shared_files,
	&from_container,
	&from_instance,
};

static void begin(struct search *s, const struct credentials_options *opts, struct cancel *cancel)
{
	*s = (struct search){.opts = opts, .cancel = cancel};
	shared_files_read(opts->environment, &s->files, &s->files_err);
}

static void end(struct search *s)
{
	shared_files_free(s->files);
	caller_free(s->caller);
}

static int nobody_has_any(const struct search *s, struct error *err)
{
	struct text looked = {0};
	_free_ char *files = s->files != NULL ? shared_files_names(s->files) : copy_text("no file");
	int code;

	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (providers[i]->looked_at != NULL)
			text_addf(&looked, "%s%s", looked.len > 0 ? ", " : "",
				providers[i]->looked_at);
	code = error_set(err, -ENOKEY,
		"no AWS credentials were found; looked at %s (files: %s, profile '%s'); give "
		"some, or set sign = no in [s3] of agent.ini for what is public",
		looked.s, files, profile_name(s->opts->environment, s->opts->profile));
	text_done(&looked);
	return code;
}

static int ask_all(struct search *s, struct found *ret, char **ret_source, struct error *err)
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
		log_debug("credentials from %s", source);
		*ret_source = take_ptr(&source);
		return 0;
	}
	return nobody_has_any(s, err);
}

int chain_find(const struct credentials_options *opts, struct cancel *cancel, struct found *ret,
	char **ret_source, struct error *err)
{
	struct search s;
	int code;

	begin(&s, opts, cancel);
	code = ask_all(&s, ret, ret_source, err);
	end(&s);
	return code;
}

char *chain_describe(const struct credentials_options *opts)
{
	struct search s;
	_free_ char *source = NULL;
	const char *doubt = NULL;

	begin(&s, opts, NULL);
	for (size_t i = 0; i < ARRAY_LEN(providers) && source == NULL; i++) {
		source = providers[i]->source(&s);
		doubt = providers[i]->doubt;
	}
	end(&s);
	if (source == NULL)
		return copy_text("none");
	return format_text("%s%s", source, doubt != NULL ? doubt : "");
}

/* What providers that ask somebody need. */

static void nap(const struct search *s, unsigned ms)
{
	for (unsigned slept = 0; slept < ms && !cancel_requested(s->cancel); slept += 50)
		usleep(50000);
}

static bool is_answer(const struct question *q, const struct reply *r)
{
	if (r->status >= 200 && r->status < 300)
		return true;
	return q->takes_any_status && r->status != 429 && r->status < 500;
}

/* One try: 1 when it may be tried again. */
static int try_once(
	struct search *s, const struct question *q, struct reply *ret, struct error *err)
{
	int code = call(s->caller, &q->call, ret, err);

	if (code < 0)
		return call_is_transient(code) ? 1 : code;
	if (is_answer(q, ret))
		return 0;
	error_set(err, -ERR_HTTP, "%s %.*s answered %ld: %.200s", q->call.method,
		(int)strcspn(q->call.url, "?"), q->call.url, ret->status,
		ret->body.s != NULL ? ret->body.s : "nothing else");
	code = ret->status == 429 || ret->status >= 500 ? 1 : -ERR_HTTP;
	reply_done(ret);
	return code;
}

int search_ask(struct search *s, const struct question *q, struct reply *ret, struct error *err)
{
	struct error why = {0};
	int code = 0;

	if (s->caller == NULL)
		code = caller_new(s->opts->network, s->cancel, &s->caller, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < q->tries; i++) {
		if (i > 0)
			nap(s, 100u << i);
		code = try_once(s, q, ret, &why);
		if (code <= 0)
			break;
	}
	return code == 0 ? 0 : error_set(err, why.code, "%s", why.msg);
}

int search_read_token(const char *path, char **ret, struct error *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char buf[16384];
	ssize_t len = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;

	if (len < 0)
		return error_set(err, -errno, "read the token in '%s': %m", path);
	while (len > 0 && strchr(" \t\r\n", buf[len - 1]) != NULL)
		len--;
	buf[len] = '\0';
	if (len == 0 || strpbrk(buf, "\r\n") != NULL)
		return error_set(err, -ERR_FORMAT, "'%s' does not hold one line, the token", path);
	redact_add(buf);
	*ret = copy_text(buf);
	explicit_bzero(buf, sizeof(buf));
	return 0;
}
