/* SPDX-License-Identifier: MIT */
/* The scheme table: which file opens which URL. Any thread; does no I/O itself. */
#include "source.h"
#include "defer.h"
#include "scheme.h"
#include "url.h"
#include <string.h>
#include <strings.h>

static const struct source_scheme schemes[] = {
	{.prefix = "https://", .check = http_check, .open = http_open},
	{.prefix = "http://", .check = http_check, .open = http_open},
	{.prefix = "s3://", .check = s3_check, .open = s3_source_open},
	{.prefix = "file://", .check = file_check, .open = file_source_open},
};

static const struct source_scheme path = {.prefix = "", .open = file_source_open};

static const char known[] = "https://, http://, s3://, file://, datastore: and plain paths are";

static const struct source_scheme *find(const char *url)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (strncasecmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
			return &schemes[i];
	}
	return url_scheme_len(url) == 0 ? &path : NULL;
}

/* Staged from the store, not opened here; what stands behind the colon is looked at there. */
static bool is_datastore(const char *url)
{
	return strncmp(url, "datastore:", 10) == 0 || strncmp(url, "grid:", 5) == 0;
}

static int unknown(const char *url, struct error *err)
{
	_free_ char *shown = source_display(url);

	return error_set(err, -ERR_USAGE, "source '%s': the scheme '%.*s' is not known; %s", shown,
		(int)url_scheme_len(url), url, known);
}

int source_check(const char *url, struct error *err)
{
	const struct source_scheme *scheme = find(url);

	if (url[0] == '\0')
		return error_set(err, -ERR_USAGE, "the source is empty; %s sources", known);
	if (is_datastore(url))
		return 0;
	if (scheme == NULL)
		return unknown(url, err);
	return scheme->check != NULL ? scheme->check(url, err) : 0;
}

bool source_is_remote(const char *url)
{
	return find(url) != NULL && find(url)->open != file_source_open;
}

int source_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err)
{
	int code = source_check(req->url, err);

	if (code == 0 && is_datastore(req->url))
		return error_set(err, -ERR_UNSUPPORTED, "%s is no stream of bytes", req->url);
	return code < 0 ? code : find(req->url)->open(env, req, ret, err);
}
