/* SPDX-License-Identifier: MIT */
/* Percent-encoding as Signature Version 4 requires it: everything but RFC 3986's unreserved
 * characters is encoded, so that the URL that is sent is identical to the one that is signed. Also
 * parses S3's dates and ETags. Pure. */
#include "defer.h"
#include "s3_private.h"
#include "url.h"
#include <stdio.h>
#include <string.h>

static bool is_unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c) != NULL);
}

void s3_encode(struct text *t, const char *s, bool keep_slashes)
{
	text_add(t, "");
	for (; *s != '\0'; s++) {
		if (is_unreserved(*s) || (keep_slashes && *s == '/'))
			text_add_bytes(t, s, 1);
		else
			text_addf(t, "%%%02X", (unsigned char)*s);
	}
}

void s3_query_add(struct text *query, const char *name, const char *value)
{
	text_addf(query, "%s%s=", query->len > 0 ? "&" : "", name);
	s3_encode(query, value, false);
}

char *s3_decode(const char *s)
{
	_free_ char *spaced = text_copy(s);

	if (strstr(s, "%00") != NULL)
		return NULL;
	for (char *plus = spaced; (plus = strchr(plus, '+')) != NULL;)
		*plus = ' ';
	return url_decode(spaced, strlen(spaced));
}

time_t s3_time(const char *s)
{
	struct tm tm = {0};

	return strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) != NULL ? timegm(&tm)
							     : units_parse_http_date(s);
}

void s3_copy_etag(char to[static 128], const char *etag)
{
	const char *quote = etag[0] == '"' || etag[0] == '\0' ? "" : "\"";

	if (strlen(etag) + 2 >= 128)
		etag = quote = "";
	snprintf(to, 128, "%s%s%s", quote, etag, quote);
}
