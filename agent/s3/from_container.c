/* SPDX-License-Identifier: MIT */
/* The service that ECS and EKS put beside a container. Its address comes from the environment, and gets a
 * token: so plain http goes only to where such services are. */
#include "chain.h"
#include "defer.h"
#include "libcurl.h"
#include "redact.h"
#include <curl/curl.h>
#include <string.h>

#define ECS "http://169.254.170.2"

enum { TIMEOUT_MS = 2000 };

static char *source(const struct search *s)
{
	char *const *environment = s->opts->environment;
	const char *relative = aws_variable(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = aws_variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");

	if (relative != NULL)
		return format_text("container (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=%.*s)",
			(int)strcspn(relative, "?"), relative);
	if (full != NULL)
		return format_text("container (AWS_CONTAINER_CREDENTIALS_FULL_URI=%.*s)",
			(int)strcspn(full, "?"), full);
	return NULL;
}

static bool is_near(const char *host)
{
	static const char *const hosts[] = {
		"localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
	unsigned byte;
	int len = 0;

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (strcmp(host, hosts[i]) == 0)
			return true;
	return sscanf(host, "127.%3u.%3u.%3u%n", &byte, &byte, &byte, &len) == 3 &&
	       host[len] == '\0';
}

/* As curl understands the URL, which will ask for it. */
static bool is_allowed(const char *url, bool *ret_https)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL;
	bool allowed = false;

	*ret_https = false;
	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		*ret_https = strcmp(scheme, "https") == 0;
		allowed = *ret_https || (strcmp(scheme, "http") == 0 && is_near(host));
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return allowed;
}

static int read_authorization(const struct search *s, char **ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *file = aws_variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = aws_variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN");

	*ret = NULL;
	if (file != NULL)
		return search_read_token(file, ret, err);
	if (token == NULL)
		return 0;
	if (strpbrk(token, "\r\n") != NULL)
		return error_set(err, -ERR_CONFIG,
			"AWS_CONTAINER_AUTHORIZATION_TOKEN has more than one line");
	redact_add(token);
	*ret = copy_text(token);
	return 0;
}

static int ask(struct search *s, const char *url, const char *authorization, struct found *ret,
	struct error *err)
{
	_free_ char *header =
		authorization != NULL ? format_text("Authorization: %s", authorization) : NULL;
	struct question q = {.call = {.method = "GET",
				     .url = url,
				     .headers = (const char *[]){header, NULL},
				     .timeout_ms = TIMEOUT_MS},
		.tries = 3};
	struct reply reply;
	bool https;
	int code;

	if (!is_allowed(url, &https))
		return error_set(err, -ERR_CONFIG,
			"%.*s is asked only by https, or at loopback and the addresses of ECS and "
			"EKS (169.254.170.2, 169.254.170.23, [fd00:ec2::23])",
			(int)strcspn(url, "?"), url);
	q.call.no_proxy = !https;
	code = search_ask(s, &q, &reply, err);
	if (code < 0)
		return code;
	code = found_parse(reply.body.s, reply.body.len, "Token", ret, err);
	reply_done(&reply);
	return code;
}

static int find(struct search *s, struct found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *relative = aws_variable(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = aws_variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	_free_ char *authorization = NULL, *url = NULL;
	int code = libcurl_load(err);

	if (relative == NULL && full == NULL)
		return error_set(err, -ERR_CONFIG,
			"neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set");
	if (code == 0)
		code = read_authorization(s, &authorization, err);
	if (code < 0)
		return code;
	url = relative != NULL ? format_text(ECS "%s%s", *relative == '/' ? "" : "/", relative)
			       : copy_text(full);
	return ask(s, url, authorization, ret, err);
}

const struct provider from_container = {
	.source = source, .find = find, .looked_at = "AWS_CONTAINER_CREDENTIALS_*"};
