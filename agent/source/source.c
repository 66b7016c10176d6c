/* SPDX-License-Identifier: MIT */
/* The scheme table, which maps a URL to its implementation. Any thread; no I/O of its own. */
#include "source.h"
#include "datastore_ref.h"
#include "defer.h"
#include "source_private.h"
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

static const struct source_scheme *find_scheme(const char *url)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (strncasecmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
			return &schemes[i];
	}
	return url_scheme_len(url) == 0 ? &path : NULL;
}

static int set_unknown_scheme(const char *url, struct error *err)
{
	_free_ char *shown = source_display(url);

	return error_set(err, -ERR_USAGE, "source '%s': the scheme '%.*s' is not known; %s", shown,
		(int)url_scheme_len(url), url, known);
}

/* A misspelt URL is not accepted as a path: hardly any file has such a name, and a password in it
 * would be displayed as part of the path. */
static int set_misspelt(const char *url, struct error *err)
{
	_free_ char *shown = source_display(url);
	size_t before = url_misspelt_len(url), blanks = strspn(url, " \t\r\n");
	size_t word = strcspn(url + blanks, ":;/\\");

	if (before == 0 || word == 0)
		return error_set(err, -ERR_USAGE,
			"source '%s' has a user and no scheme: write https://USER:PASSWORD@HOST/... for a URL, or ./... for a file",
			shown);
	if (blanks > 0)
		return error_set(
			err, -ERR_USAGE, "source '%s' begins with a blank: take it out", shown);
	return error_set(err, -ERR_USAGE,
		"source '%s' is no URL: after '%.*s' come a colon and two slashes, as in %.*s://HOST/...; a file of that name is written ./...",
		shown, (int)word, url, (int)word, url);
}

int source_check(const char *url, struct error *err)
{
	const struct source_scheme *scheme;

	if (joined_is(url))
		return joined_check(url, err);
	scheme = find_scheme(url);
	if (url[0] == '\0')
		return error_set(err, -ERR_USAGE, "the source is empty; %s sources", known);
	if (datastore_ref_is_written_source(url))
		return 0; /* the stage reads it from the store, and checks what follows the colon */
	if (url_scheme_len(url) == 0 && (url_misspelt_len(url) > 0 || url_has_bare_user(url)))
		return set_misspelt(url, err);
	if (scheme == NULL)
		return set_unknown_scheme(url, err);
	return scheme->check != NULL ? scheme->check(url, err) : 0;
}

bool source_begins(const char *url, const char *prefix)
{
	return joined_is(url) ? joined_begins(url, prefix)
			      : strncasecmp(url, prefix, strlen(prefix)) == 0;
}

bool source_is_remote(const char *url)
{
	if (joined_is(url))
		return joined_is_remote(url);
	return find_scheme(url) != NULL && find_scheme(url)->open != file_source_open;
}

int source_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err)
{
	int code = source_check(req->url, err);

	if (code == 0 && datastore_ref_is_written_source(req->url))
		return error_set(err, -ERR_UNSUPPORTED, "%s is no stream of bytes", req->url);
	if (code == 0 && joined_is(req->url))
		return joined_open(env, req, ret, err);
	return code < 0 ? code : find_scheme(req->url)->open(env, req, ret, err);
}

/* Several parts are one URL, which url.h does not know. */

char *source_display(const char *url)
{
	return joined_is(url) ? joined_display(url) : url_display(url);
}

char *source_key(const char *url)
{
	return joined_is(url) ? joined_key(url) : url_key(url);
}

char *source_file_name(const char *url)
{
	return joined_is(url) ? joined_file_name(url) : url_file_name(url);
}

void source_names(const char *url, struct strings *ret)
{
	_free_ char *name = NULL;

	if (!joined_is(url)) {
		url_names(url, ret);
		return;
	}
	name = joined_file_name(url);
	text_strings_add(ret, name);
}
