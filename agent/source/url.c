/* SPDX-License-Identifier: MIT */
/* URLs as text: what may be shown, what names a source in state files, what a file is called. Does
 * no I/O and knows no protocol; secrets are cut out here, so it must be right for malformed URLs
 * too. */
#include "url.h"
#include "defer.h"
#include "source.h"
#include "text.h"
#include <ctype.h>
#include <fnmatch.h>
#include <string.h>
#include <strings.h>

size_t url_scheme_len(const char *url)
{
	size_t n = 0;

	while (isalnum((unsigned char)url[n]) || (n > 0 && url[n] != '\0' && strchr("+-.", url[n])))
		n++;
	return n > 0 && strncmp(url + n, "://", 3) == 0 ? n + 3 : 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *percent_decode(const char *s, size_t len)
{
	struct text t = {0};

	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '%' && i + 2 < len && hex_digit(s[i + 1]) >= 0 &&
			hex_digit(s[i + 2]) >= 0) {
			c = (char)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2]));
			i += 2;
		}
		text_add_bytes(&t, &c, 1);
	}
	return text_take(&t);
}

/* scheme://user:password@host:port/path?query#fragment, as offsets. */
struct parts {
	size_t authority, host, path, query, end; /* query: of the '?', or end; end: of the '#' */
};

/* A key may hold any character; nobody's name or password is before the bucket. */
static struct parts split_s3(const char *url)
{
	size_t end = strlen(url);

	return (struct parts){.authority = 5,
		.host = 5,
		.path = 5 + strcspn(url + 5, "/"),
		.query = end,
		.end = end};
}

static bool is_s3(const struct parts *p, const char *url)
{
	return p->authority == 5 && strncasecmp(url, "s3://", 5) == 0;
}

static struct parts split(const char *url)
{
	struct parts p = {.authority = url_scheme_len(url)};
	const char *at;

	if (strncasecmp(url, "s3://", 5) == 0)
		return split_s3(url);
	p.path = p.authority + strcspn(url + p.authority, "/?#");
	p.end = strcspn(url, "#");
	p.query = strcspn(url, "?#");
	at = memrchr(url + p.authority, '@', p.path - p.authority);
	p.host = at != NULL ? (size_t)(at - url) + 1 : p.authority;
	return p;
}

char *source_display(const char *url)
{
	struct parts p = split(url);

	if (p.authority == 0)
		return copy_text(url);
	return format_text(
		"%.*s%.*s", (int)p.authority, url, (int)(p.query - p.host), url + p.host);
}

/* Parameters that sign a request, and so differ each time although the object is the same. Those of
 * the second list are ordinary words: they count only beside the signature that they belong to. */
static const char *const signing[] = {"x-amz-*", "x-goog-*", "sig", "signature", "key-pair-id",
	"awsaccesskeyid", "googleaccessid", "x-oss-*", "x-cos-*"};
static const char *const signing_beside[] = {"expires", "policy", "se", "sp", "sv", "sr", "st",
	"spr", "sip", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv", "security-token"};

static bool is_among(const char *name, const char *const *globs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fnmatch(globs[i], name, FNM_CASEFOLD) == 0)
			return true;
	}
	return false;
}

static bool is_signature(const char *name)
{
	return strcasecmp(name, "sig") == 0 || strcasecmp(name, "signature") == 0;
}

static bool has_signature(const char *query)
{
	_free_ char *copy = copy_text(query);
	char *save, *param;

	for (param = strtok_r(copy, "&", &save); param != NULL;
		param = strtok_r(NULL, "&", &save)) {
		param[strcspn(param, "=")] = '\0';
		if (is_signature(param))
			return true;
	}
	return false;
}

static void add_unsigned_query(struct text *t, const char *query)
{
	_free_ char *copy = copy_text(query);
	bool is_signed = has_signature(query);
	char *save, *param;
	char before = '?';

	for (param = strtok_r(copy, "&", &save); param != NULL;
		param = strtok_r(NULL, "&", &save)) {
		_free_ char *name = format_text("%.*s", (int)strcspn(param, "="), param);

		if (is_among(name, signing, ARRAY_LEN(signing)) ||
			(is_signed && is_among(name, signing_beside, ARRAY_LEN(signing_beside))))
			continue;
		text_addf(t, "%c%s", before, param);
		before = '&';
	}
}

char *source_key(const char *url)
{
	struct parts p = split(url);
	struct text t = {0};
	_free_ char *query = NULL;

	if (p.authority == 0)
		return copy_text(url);
	for (size_t i = 0; i < p.query; i++) {
		/* Scheme and host are the same in any case, the path is not. */
		char c = i < p.path ? (char)tolower((unsigned char)url[i]) : url[i];

		if (i < p.authority || i >= p.host)
			text_add_bytes(&t, &c, 1);
	}
	if (p.query < p.end) {
		query = format_text("%.*s", (int)(p.end - p.query - 1), url + p.query + 1);
		add_unsigned_query(&t, query);
	}
	return text_take(&t);
}

char *source_file_name(const char *url)
{
	struct parts p = split(url);
	size_t end = p.authority > 0 ? p.query : strlen(url);
	size_t begin;
	char *name;

	if (p.authority > 0 && p.path >= end)
		return copy_text("data");
	while (end > 0 && url[end - 1] == '/')
		end--;
	begin = end;
	while (begin > 0 && url[begin - 1] != '/')
		begin--;
	if (p.authority > 0 && begin < p.path)
		begin = end = p.path;
	name = p.authority > 0 && !is_s3(&p, url)
		       ? percent_decode(url + begin, end - begin)
		       : format_text("%.*s", (int)(end - begin), url + begin);
	if (name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0)
		return name;
	free(name);
	return copy_text("data");
}

char *url_file_path(const char *url)
{
	struct parts p = split(url);
	size_t host_len = p.path - p.authority;

	if (host_len != 0 && (host_len != 9 || strncasecmp(url + p.authority, "localhost", 9) != 0))
		return NULL;
	return percent_decode(url + p.path, strlen(url + p.path));
}
