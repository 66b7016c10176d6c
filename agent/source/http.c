/* SPDX-License-Identifier: MIT */
/* http:// and https:// sources, through the transfer engine. Worker threads. */
#include "defer.h"
#include "libcurl.h"
#include "source_private.h"
#include "transfer.h"
#include "url.h"
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int http_check(const char *url, struct error *err)
{
	_free_ char *shown = url_display(url);
	int loaded = libcurl_load(err);
	CURLUcode code;
	CURLU *u;

	if (loaded < 0)
		return loaded;
	u = curl_url();
	if (u == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	/* libcurl would accept http:///x as the host x, as browsers do. */
	code = url[strcspn(url, ":") + 3] == '/' ? CURLUE_NO_HOST
						 : curl_url_set(u, CURLUPART_URL, url, 0);
	curl_url_cleanup(u);
	if (code != CURLUE_OK)
		return error_set(err, -ERR_USAGE,
			"source '%s' is not a well-formed URL: %s; spaces and other special characters are written as %%20 and so on",
			shown, curl_url_strerror(code));
	return 0;
}

static int http_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err)
{
	_free_ char *name = url_display(req->url);
	struct http_request http = {
		.url = req->url,
		.name = name,
		.have = req->have,
		.want = req->want,
		.progress = req->progress,
		.cancel = env->cancel,
	};

	return transfer_object_open(env->transfer, &http, ret, err);
}

const struct source_scheme source_https = {
	.prefix = "https://", .remote = true, .check = http_check, .open = http_open};
const struct source_scheme source_http = {
	.prefix = "http://", .remote = true, .check = http_check, .open = http_open};
