/* SPDX-License-Identifier: MIT */
/* The provider for the credential services of ECS and EKS. Worker threads. The service's address
 * comes from the environment, and requests to it carry a token; therefore plain HTTP is only used
 * for addresses where such services run. */
#include "credentials_private.h"
#include "defer.h"
#include "libcurl.h"
#include "redact.h"
#include "url.h"
#include <curl/curl.h>
#include <string.h>

#define ECS "http://169.254.170.2"

/* On EKS the service is a pod on the node, on ECS an agent that fetches the keys on request: both
 * may become ready later than this container. */
enum { TIMEOUT_MS = 2000, TRIES = 5, PATIENCE_S = 15 };

static bool is_not_there_yet(const struct reply *r, char ret_code[static 64])
{
	ret_code[0] = '\0';
	return r->status == 404;
}

static char *source(const struct credentials_search *s)
{
	char *const *environment = s->opts->environment;
	const char *relative =
		credentials_variable(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = credentials_variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");

	if (relative != NULL)
		return text_format("container (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=%.*s)",
			(int)strcspn(relative, "?"), relative);
	if (full != NULL) {
		_free_ char *shown = url_display(full);

		return text_format("container (AWS_CONTAINER_CREDENTIALS_FULL_URI=%s)", shown);
	}
	return NULL;
}

static bool is_local_service(const char *host)
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

/* Parses the URL with curl, which will send the request, so that both understand it alike. */
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
		allowed = *ret_https || (strcmp(scheme, "http") == 0 && is_local_service(host));
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return allowed;
}

static int read_authorization(const struct credentials_search *s, char **ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *file =
		credentials_variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = credentials_variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN");

	*ret = NULL;
	if (file != NULL)
		return credentials_search_read_token(
			file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ret, err);
	if (token == NULL)
		return 0;
	redact_add(token);
	*ret = text_copy(token);
	return 0;
}

static int request_credentials(struct credentials_search *s, const char *url,
	const char *authorization, struct credentials_found *ret, struct error *err)
{
	_free_ char *header =
		authorization != NULL ? text_format("Authorization: %s", authorization) : NULL;
	struct service_request q = {.call = {.method = "GET",
					    .url = url,
					    .headers = (const char *[]){header, NULL},
					    .timeout_ms = TIMEOUT_MS},
		.patience_s = PATIENCE_S,
		.tries = TRIES,
		.is_transient = is_not_there_yet};
	struct reply reply;
	bool https;
	int code;

	if (!is_allowed(url, &https)) {
		_free_ char *shown = url_display(url);

		return error_set(err, -ERR_CONFIG,
			"%s is asked only by https, or at loopback and the addresses of ECS and EKS (169.254.170.2, 169.254.170.23, [fd00:ec2::23])",
			shown);
	}
	q.call.no_proxy = !https;
	code = credentials_search_ask(s, &q, &reply, err);
	if (code < 0)
		return code;
	code = credentials_found_parse(reply.body.s, reply.body.len, "Token", ret, err);
	call_reply_done(&reply);
	return code;
}

static int find_in_container(
	struct credentials_search *s, struct credentials_found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *relative =
		credentials_variable(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = credentials_variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	_free_ char *authorization = NULL, *url = NULL;
	int code = libcurl_load(err);

	if (relative == NULL && full == NULL)
		return error_set(err, -ERR_CONFIG,
			"neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set");
	if (code == 0)
		code = read_authorization(s, &authorization, err);
	if (code < 0)
		return code;
	url = relative != NULL ? text_format(ECS "%s%s", *relative == '/' ? "" : "/", relative)
			       : text_copy(full);
	return request_credentials(s, url, authorization, ret, err);
}

const struct provider from_container = {
	.source = source, .find = find_in_container, .looked_at = "AWS_CONTAINER_CREDENTIALS_*"};
