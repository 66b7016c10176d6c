/* SPDX-License-Identifier: MIT */
/* Where a bucket is: the endpoint, its region (remembered once it was found), and whether it is named in the
 * host or in the path. Any thread. */
#include "defer.h"
#include "profile.h"
#include "s3_private.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

struct found_region {
	struct found_region *next;
	char *bucket, *region;
};

static const char default_region[] = "us-east-1";

void s3_forget_regions(struct s3 *s)
{
	while (s->found != NULL) {
		struct found_region *f = s->found;

		s->found = f->next;
		free(f->bucket);
		free(f->region);
		free(f);
	}
}

static struct found_region *find_locked(const struct s3 *s, const char *bucket)
{
	struct found_region *f = s->found;

	while (f != NULL && strcmp(f->bucket, bucket) != 0)
		f = f->next;
	return f;
}

bool s3_ignores_endpoints(char *const *environment)
{
	const char *value = aws_variable(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");

	return value != NULL && strcasecmp(value, "true") == 0;
}

char *s3_clean_endpoint(const char *url)
{
	char *copy;

	if (url == NULL)
		return NULL;
	copy = strstr(url, "://") != NULL ? copy_text(url) : format_text("https://%s", url);
	for (size_t n = strlen(copy); n > 0 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	return copy;
}

/* What nobody has said yet is asked of the profile, which is in a file. */
static void settle_locked(struct s3 *s)
{
	_free_ char *endpoint = NULL;

	if (s->settled)
		return;
	s->settled = true;
	if (s->region == NULL)
		s->region = profile_region(s->environment, s->profile);
	if (s->endpoint != NULL || s3_ignores_endpoints(s->environment))
		return;
	endpoint = profile_endpoint(s->environment, s->profile);
	s->endpoint = s3_clean_endpoint(endpoint);
}

char *s3_region_of(struct s3 *s, const char *bucket)
{
	struct found_region *f;
	char *copy;

	pthread_mutex_lock(&s->lock);
	settle_locked(s);
	f = find_locked(s, bucket);
	copy = copy_text(f != NULL ? f->region : s->region != NULL ? s->region : default_region);
	pthread_mutex_unlock(&s->lock);
	return copy;
}

bool s3_found_region(struct s3 *s, const char *bucket, const char *region)
{
	struct found_region *f;
	bool news;

	/* It becomes a part of a host's name. */
	for (const char *c = region; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			return false;
	pthread_mutex_lock(&s->lock);
	f = find_locked(s, bucket);
	if (f == NULL) {
		f = zalloc(sizeof(*f));
		f->bucket = copy_text(bucket);
		f->next = s->found;
		s->found = f;
	}
	news = f->region == NULL || strcmp(f->region, region) != 0;
	free(f->region);
	f->region = copy_text(region);
	pthread_mutex_unlock(&s->lock);
	return news;
}

char *s3_endpoint_of(const struct s3 *s, const char *region)
{
	if (s->endpoint != NULL)
		return copy_text(s->endpoint);
	return format_text("https://s3.%s.amazonaws.com%s", region,
		strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

/* Names that may stand in a host: lower-case, and without dots where a certificate's "*" is to cover them. */
static bool fits_host(const char *bucket, bool tls)
{
	for (const char *c = bucket; *c != '\0'; c++)
		if (isupper((unsigned char)*c) || *c == '_' || (*c == '.' && tls))
			return false;
	return strlen(bucket) <= 63;
}

static bool in_host(const struct s3 *s, const char *endpoint, const char *bucket)
{
	const char *host = strstr(endpoint, "://");
	bool tls = strncasecmp(endpoint, "https:", 6) == 0;

	if (s->style != S3_STYLE_AUTO || host == NULL)
		return s->style == S3_STYLE_VIRTUAL && host != NULL;
	return strstr(host, ".amazonaws.com") != NULL && fits_host(bucket, tls);
}

char *s3_url(const struct s3 *s, const char *region, const char *bucket, const char *key,
	const char *query)
{
	_free_ char *endpoint = s3_endpoint_of(s, region);
	struct text t = {0};

	if (in_host(s, endpoint, bucket)) {
		int scheme = (int)(strstr(endpoint, "://") + 3 - endpoint);

		text_addf(&t, "%.*s%s.%s/", scheme, endpoint, bucket, endpoint + scheme);
	} else {
		text_addf(&t, "%s/%s%s", endpoint, bucket, key != NULL ? "/" : "");
	}
	if (key != NULL)
		s3_encode(&t, key, true);
	if (query != NULL && query[0] != '\0')
		text_addf(&t, "?%s", query);
	return text_take(&t);
}
