/* SPDX-License-Identifier: MIT */
/* URLs as text: what may be displayed, the key of a source in state files, the name of a file. No
 * I/O, and no knowledge of protocols. Secrets are removed here, so malformed URLs must be handled
 * correctly, too. Any thread. */
#include "url.h"
#include "defer.h"
#include "redact.h"
#include "text.h"
#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

size_t url_scheme_len(const char *url)
{
	size_t n = 0;

	while (isalnum((unsigned char)url[n]) || (n > 0 && url[n] != '\0' && strchr("+-.", url[n])))
		n++;
	return n > 0 && strncmp(url + n, "://", 3) == 0 ? n + 3 : 0;
}

/* Recognizes misspelt schemes: "http:/", "https:", "http//", " http://" and so on, or two slashes
 * before an authority with a user. Returns the length up to the host. */
size_t url_misspelt_len(const char *url)
{
	static const char *const schemes[] = {"https", "http", "s3", "file", "ftps", "ftp", "sftp",
		"ssh", "gs", "gcs", "az", "azure", "abfss", "abfs", "wasbs", "wasb", "hf", "oci",
		"hdfs", "webdavs", "webdav", "davs", "dav", "rsync", "git"};
	size_t blanks = strspn(url, " \t\r\n"), word = blanks;
	const char *rest;

	while (isalnum((unsigned char)url[word]))
		word++;
	rest = url + word;
	if (blanks == 0 && word == 0 && strncmp(url, "//", 2) == 0)
		return memchr(url, '@', 2 + strcspn(url + 2, "/?#")) != NULL ? 2 : 0;
	/* A path may begin with a directory "s3" and two slashes. */
	if (*rest != ':' && (strncasecmp(url + blanks, "http", 4) != 0 ||
				    (strchr(";\\", *rest) == NULL && strncmp(rest, "//", 2) != 0)))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (strncasecmp(url + blanks, schemes[i], word - blanks) == 0 &&
			schemes[i][word - blanks] == '\0')
			return word + strspn(rest, ":;/\\");
	return 0;
}

/* "user:password@host/x", as it is written for a proxy. */
bool url_has_bare_user(const char *url)
{
	const char *at = memchr(url, '@', strcspn(url, "/?#"));

	return at != NULL && memchr(url, ':', (size_t)(at - url)) != NULL;
}

/* "data.example/x.tar", "localhost:8000/x.tar", "10.0.0.1/x.tar" */
bool url_looks_like_host(const char *path)
{
	size_t len = strcspn(path, "/"), host = strcspn(path, ":/");
	const char *dot = memrchr(path, '.', host);

	if (path[len] != '/' || host == 0 || path[0] == '.' ||
		strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") <
			host)
		return false;
	if (host < len)
		return strspn(path + host + 1, "0123456789") == len - host - 1;
	return dot != NULL && dot + 1 < path + host;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *url_decode(const char *s, size_t len)
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

static bool has_odd_port(const char *url, const struct parts *p)
{
	const char *colon = memchr(url + p->authority, ':', p->path - p->authority);

	return colon != NULL && url[p->authority] != '[' &&
	       strspn(colon + 1, "0123456789") < (size_t)(url + p->path - colon - 1);
}

static size_t host_at(const char *url, const struct parts *p)
{
	const char *at = memrchr(url + p->authority, '@', p->path - p->authority);

	/* If a password contains a '/', '?' or '#', the authority ends there, and has an invalid
	 * port. */
	if (at == NULL && p->authority > 0 && has_odd_port(url, p))
		at = strrchr(url + p->path, '@');
	return at != NULL ? (size_t)(at - url) + 1 : p->authority;
}

/* An S3 key may contain any character. Some tools accept an access key and its secret before the
 * bucket: "s3://AKIA...:secret@bucket/key". */
static struct parts split_s3(const char *url)
{
	size_t end = strlen(url);
	struct parts p = {
		.authority = 5, .path = 5 + strcspn(url + 5, "/"), .query = end, .end = end};

	p.host = host_at(url, &p);
	if (memchr(url + p.authority, ':', p.host - p.authority) == NULL)
		p.host = p.authority;
	return p;
}

static bool is_s3(const struct parts *p, const char *url)
{
	return p->authority == 5 && strncasecmp(url, "s3://", 5) == 0;
}

static struct parts split_url(const char *url)
{
	struct parts p = {.authority = url_scheme_len(url)};

	if (strncasecmp(url, "s3://", 5) == 0)
		return split_s3(url);
	if (p.authority == 0)
		p.authority = url_misspelt_len(url);
	else if (strncasecmp(url, "http", 4) == 0)
		p.authority += strspn(url + p.authority, "/");
	p.path = p.authority + strcspn(url + p.authority, "/?#");
	p.host = host_at(url, &p);
	if (p.host > p.path)
		p.path = p.host + strcspn(url + p.host, "/?#");
	p.end = p.path + strcspn(url + p.path, "#");
	p.query = p.path + strcspn(url + p.path, "?#");
	return p;
}

char *url_display(const char *url)
{
	struct parts p = split_url(url);

	if (p.authority == 0)
		return text_copy(url_has_bare_user(url) ? url + p.host : url);
	return text_format(
		"%.*s%.*s", (int)p.authority, url, (int)(p.query - p.host), url + p.host);
}

void url_redact(const char *given)
{
	const char *url = given != NULL ? given : "";
	struct parts p = split_url(url);
	const char *colon = memchr(url + p.authority, ':', p.host - p.authority);
	const char *from[] = {url + p.authority, colon != NULL ? colon + 1 : NULL};

	for (size_t i = 0; p.host > p.authority && i < ARRAY_LEN(from) && from[i] != NULL; i++) {
		size_t len = (size_t)(url + p.host - 1 - from[i]);
		_free_ char *raw = text_format("%.*s", (int)len, from[i]);
		_free_ char *decoded = url_decode(from[i], len);

		redact_add(raw);
		redact_add(decoded);
	}
}

/* Parameters that sign a request: they differ each time although the object is the same. Those of
 * the second list are ordinary words, and count only together with a signature. */
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
	_free_ char *copy = text_copy(query);
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
	_free_ char *copy = text_copy(query);
	bool is_signed = has_signature(query);
	char *save, *param;
	char before = '?';

	for (param = strtok_r(copy, "&", &save); param != NULL;
		param = strtok_r(NULL, "&", &save)) {
		_free_ char *name = text_format("%.*s", (int)strcspn(param, "="), param);

		if (is_among(name, signing, ARRAY_LEN(signing)) ||
			(is_signed && is_among(name, signing_beside, ARRAY_LEN(signing_beside))))
			continue;
		text_addf(t, "%c%s", before, param);
		before = '&';
	}
}

char *url_key(const char *url)
{
	struct parts p = split_url(url);
	struct text t = {0};
	_free_ char *query = NULL;

	if (p.authority == 0)
		return text_copy(url);
	for (size_t i = 0; i < p.query; i++) {
		/* Scheme and host are case-insensitive, the path is not. */
		char c = i < p.path ? (char)tolower((unsigned char)url[i]) : url[i];

		if (i < p.authority || i >= p.host)
			text_add_bytes(&t, &c, 1);
	}
	if (p.query < p.end) {
		query = text_format("%.*s", (int)(p.end - p.query - 1), url + p.query + 1);
		add_unsigned_query(&t, query);
	}
	return text_take(&t);
}

char *url_file_name(const char *url)
{
	struct parts p = split_url(url);
	size_t end = p.authority > 0 ? p.query : strlen(url);
	size_t begin;
	char *name;

	if (p.authority > 0 && p.path >= end)
		return text_copy("data");
	while (end > 0 && url[end - 1] == '/')
		end--;
	begin = end;
	while (begin > 0 && url[begin - 1] != '/')
		begin--;
	if (p.authority > 0 && begin < p.path)
		begin = end = p.path;
	name = p.authority > 0 && !is_s3(&p, url)
		       ? url_decode(url + begin, end - begin)
		       : text_format("%.*s", (int)(end - begin), url + begin);
	if (name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0)
		return name;
	free(name);
	return text_copy("data");
}

/* "download", "get.php": not a file, but the program that sends it. */
static bool is_program_name(const char *name)
{
	static const char *const programs[] = {"php", "asp", "aspx", "ashx", "jsp", "do", "cgi",
		"pl", "py", "action", "file", "dll"};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot != NULL && i < ARRAY_LEN(programs); i++)
		if (strcasecmp(dot + 1, programs[i]) == 0)
			return true;
	return dot == NULL;
}

void url_names(const char *url, struct strings *ret)
{
	struct parts p = split_url(url);
	_free_ char *name = url_file_name(url), *query = NULL;
	char *save, *param;

	text_strings_add(ret, name);
	if (p.authority == 0 || p.query >= p.end || !is_program_name(name))
		return;
	query = text_format("%.*s", (int)(p.end - p.query - 1), url + p.query + 1);
	for (param = strtok_r(query, "&", &save); param != NULL;
		param = strtok_r(NULL, "&", &save)) {
		const char *value = param + strcspn(param, "=");
		_free_ char *decoded = url_decode(value, strlen(value));

		text_strings_add(ret, decoded);
	}
}

char *url_file_path(const char *url)
{
	struct parts p = split_url(url);
	size_t host_len = p.path - p.authority;

	if (host_len != 0 && (host_len != 9 || strncasecmp(url + p.authority, "localhost", 9) != 0))
		return NULL;
	return url_decode(url + p.path, strlen(url + p.path));
}

/* What a URL says about why it is refused: when its signature expires, and whether it is a login
 * page's. */

/* A parameter of the query, percent-decoded; NULL: there is none of that name. Heap. */
static char *query_parameter(const char *url, const char *name)
{
	const char *at = strchr(url, '?');
	size_t len = strlen(name);

	while (at != NULL) {
		at++;
		if (strncasecmp(at, name, len) == 0 && at[len] == '=') {
			const char *value = at + len + 1;

			return url_decode(value, strcspn(value, "&#"));
		}
		at = strpbrk(at, "&#");
		if (at != NULL && *at == '#')
			at = NULL;
	}
	return NULL;
}

/* "20261130T010203Z", "2026-11-30T01:02:03Z", also without seconds or without a time; 0: none of
 * these. */
static time_t parse_date(const char *s)
{
	static const char *const formats[] = {
		"%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"};

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		struct tm tm = {0};
		const char *end = strptime(s, formats[i], &tm);

		if (end != NULL && *end == '\0')
			return timegm(&tm);
	}
	return 0;
}

/* AWS and services with the same signatures; Google. */
static time_t expiry_of_v4(const char *url, const char *date_name, const char *expires_name)
{
	_free_ char *date = query_parameter(url, date_name),
		    *expires = query_parameter(url, expires_name);
	time_t end = date != NULL ? parse_date(date) : 0;

	if (end == 0 || expires == NULL ||
		__builtin_add_overflow(end, strtoll(expires, NULL, 10), &end))
		return 0;
	return end;
}

/* Azure. */
static time_t expiry_of_sas(const char *url)
{
	_free_ char *end = query_parameter(url, "se"), *signature = query_parameter(url, "sig");

	return end != NULL && signature != NULL ? parse_date(end) : 0;
}

/* The older signatures of AWS and Google, CloudFront, Aliyun. */
static time_t expiry_of_v2(const char *url)
{
	_free_ char *end = query_parameter(url, "Expires"),
		    *signature = query_parameter(url, "Signature");

	return end != NULL && signature != NULL ? (time_t)strtoll(end, NULL, 10) : 0;
}

static time_t expiry_of(const char *url)
{
	time_t end = expiry_of_v4(url, "X-Amz-Date", "X-Amz-Expires");

	if (end == 0)
		end = expiry_of_v4(url, "X-Goog-Date", "X-Goog-Expires");
	if (end == 0)
		end = expiry_of_sas(url);
	return end != 0 ? end : expiry_of_v2(url);
}

char *url_expired(const char *url, time_t now)
{
	time_t end = expiry_of(url);
	char when[32] = "", ago[32];
	struct tm tm;

	if (end <= 0 || now <= end || gmtime_r(&end, &tm) == NULL)
		return NULL;
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	units_print_duration((uint64_t)(now - end) * 1000000000, ago);
	return text_format("the presigned URL expired %s ago, at %s: get a new one", ago, when);
}

/* Checks host and path only: the query may contain the URL of the requested page. */
bool url_is_login(const char *url)
{
	static const char *const words[] = {"login", "logon", "signin", "sign-in", "sign_in", "sso",
		"saml", "oauth", "oauth2", "openid-connect", "authorize", "accounts", "auth", "cas",
		"adfs", "idp", "session"};
	size_t end = strcspn(url, "?#");

	for (size_t i = 0; i < end; i++) {
		size_t len = strcspn(url + i, "/.:?#");

		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			if (strlen(words[k]) == len && strncasecmp(url + i, words[k], len) == 0)
				return true;
		i += len;
	}
	return false;
}
