/* SPDX-License-Identifier: MIT */
/* One configuration of S3: parses s3://bucket/key, finds the endpoint and the region of a bucket,
 * builds URLs, and decides whether and with which credentials requests are signed. Any thread; no
 * I/O but that of the credentials and the profile. */
#include "s3.h"
#include "credentials_private.h"
#include "defer.h"
#include "s3_private.h"
#include "text.h"
#include "url.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

/* Parsing s3://bucket/key. A key may contain any character: no part of it is a query, a fragment or
 * percent-encoded. */

static bool is_bucket_name(const char *s, size_t len)
{
	if (len < 3 || len > 255)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
			!(s[i] >= '0' && s[i] <= '9') && strchr("-._", s[i]) == NULL)
			return false;
	return s[0] != '.' && s[len - 1] != '.';
}

int s3_bucket_key_parse(const char *url, struct s3_bucket_key *ret, struct error *err)
{
	const char *bucket = url + 5;
	_free_ char *shown = url_display(url);
	size_t len;

	if (strncasecmp(url, "s3://", 5) != 0)
		return error_set(err, -ERR_USAGE, "'%s' is not s3://bucket/key", shown);
	if (strncasecmp(bucket, "arn:", 4) == 0)
		return error_set(err, -ERR_USAGE,
			"'%.200s' names a bucket by its ARN, which is not supported: write the bucket's name or, for an access point, its alias (it ends in -s3alias; aws s3control get-access-point tells it), as in s3://ALIAS/key",
			shown);
	len = strcspn(bucket, "/");
	if (!is_bucket_name(bucket, len))
		return error_set(err, -ERR_USAGE,
			"'%s': what stands before the key is no name of a bucket (3 and more letters, digits, '-', '.' and '_'); write s3://bucket/key",
			shown);
	/* S3's limit is 1024 bytes. Checking it here gives the same message for all servers. */
	if (strlen(bucket) > len + 1 + 1024)
		return error_set(err, -ERR_USAGE,
			"'s3://%.*s/...': a key has at most 1024 bytes, this one %zu", (int)len,
			bucket, strlen(bucket) - len - 1);
	*ret = (struct s3_bucket_key){.bucket = text_format("%.*s", (int)len, bucket),
		.key = text_copy(bucket + len + (bucket[len] == '/'))};
	return 0;
}

bool s3_bucket_key_is_prefix(const struct s3_bucket_key *p)
{
	size_t len = strlen(p->key);

	return len == 0 || p->key[len - 1] == '/';
}

void s3_bucket_key_done(struct s3_bucket_key *p)
{
	free(p->bucket);
	free(p->key);
	*p = (struct s3_bucket_key){0};
}

/* Where a bucket is: the endpoint, the bucket's region (cached once it is known), and whether the
 * URL has the bucket in the host or in the path. */

struct found_region {
	struct found_region *next;
	char *bucket, *region;
};

static const char default_region[] = "us-east-1";

static void s3_forget_regions(struct s3 *s)
{
	while (s->found != NULL) {
		struct found_region *f = s->found;

		s->found = f->next;
		free(f->bucket);
		free(f->region);
		free(f);
	}
}

static struct found_region *find_region_locked(const struct s3 *s, const char *bucket)
{
	struct found_region *f = s->found;

	while (f != NULL && strcmp(f->bucket, bucket) != 0)
		f = f->next;
	return f;
}

bool s3_ignores_endpoints(char *const *environment)
{
	const char *value =
		credentials_variable(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");

	return value != NULL && strcasecmp(value, "true") == 0;
}

static char *s3_clean_endpoint(const char *url)
{
	char *copy;

	if (url == NULL)
		return NULL;
	copy = strstr(url, "://") != NULL ? text_copy(url) : text_format("https://%s", url);
	for (size_t n = strlen(copy); n > 0 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	url_redact(copy);
	return copy;
}

/* Reads the settings that neither agent.ini nor the environment has from the profile in the shared
 * files, once. */
static void read_profile_locked(struct s3 *s)
{
	bool wants_endpoint = s->endpoint == NULL && !s3_ignores_endpoints(s->environment);
	const char *profile = profile_name(s->environment, s->profile);
	struct shared_files *files;

	if (s->profile_read)
		return;
	s->profile_read = true;
	if (s->region != NULL && !wants_endpoint)
		return;
	/* This error is ignored: the search for credentials reads the files again and returns
	 * it. */
	if (profile_files_read(s->environment, &files, NULL) < 0)
		return;
	profile_files_warn_skipped(files, &s->warned_of_files);
	if (s->region == NULL)
		s->region = text_copy(profile_files_value(files, profile, "region"));
	if (wants_endpoint)
		s->endpoint = s3_clean_endpoint(profile_endpoint(files, profile));
	profile_files_free(files);
}

char *s3_region_of(struct s3 *s, const char *bucket)
{
	struct found_region *f;
	char *copy;

	pthread_mutex_lock(&s->lock);
	read_profile_locked(s);
	f = find_region_locked(s, bucket);
	copy = text_copy(f != NULL ? f->region : s->region != NULL ? s->region : default_region);
	pthread_mutex_unlock(&s->lock);
	return copy;
}

bool s3_set_region(struct s3 *s, const char *bucket, const char *region)
{
	struct found_region *f;
	bool news;

	/* The region becomes a part of a host name, so other characters are refused. */
	for (const char *c = region; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			return false;
	pthread_mutex_lock(&s->lock);
	f = find_region_locked(s, bucket);
	if (f == NULL) {
		f = zalloc(sizeof(*f));
		f->bucket = text_copy(bucket);
		f->next = s->found;
		s->found = f;
	}
	news = f->region == NULL || strcmp(f->region, region) != 0;
	free(f->region);
	f->region = text_copy(region);
	pthread_mutex_unlock(&s->lock);
	return news;
}

static char *s3_endpoint_of(const struct s3 *s, const char *region)
{
	if (s->endpoint != NULL)
		return text_copy(s->endpoint);
	return text_format("https://s3.%s.amazonaws.com%s", region,
		strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

char *s3_shown_endpoint(const struct s3 *s, const char *region)
{
	_free_ char *endpoint = s3_endpoint_of(s, region);

	return url_display(endpoint);
}

/* Whether a bucket's name can be a part of a host name: it must be in lower case and, with TLS,
 * without dots, because a certificate's "*" covers only one label. */
static bool fits_in_host(const char *bucket, bool tls)
{
	for (const char *c = bucket; *c != '\0'; c++)
		if (isupper((unsigned char)*c) || *c == '_' || (*c == '.' && tls))
			return false;
	return strlen(bucket) <= 63;
}

static bool is_virtual_style(const struct s3 *s, const char *endpoint, const char *bucket)
{
	const char *host = strstr(endpoint, "://");
	bool tls = strncasecmp(endpoint, "https:", 6) == 0;

	if (s->style != S3_STYLE_AUTO || host == NULL)
		return s->style == S3_STYLE_VIRTUAL && host != NULL;
	return strstr(host, ".amazonaws.com") != NULL && fits_in_host(bucket, tls);
}

char *s3_url(const struct s3 *s, const char *region, const char *bucket, const char *key,
	const char *query)
{
	_free_ char *endpoint = s3_endpoint_of(s, region);
	struct text t = {0};

	if (is_virtual_style(s, endpoint, bucket)) {
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

bool s3_is_aws(const struct s3 *s)
{
	return s->endpoint == NULL || strstr(s->endpoint, ".amazonaws.com") != NULL;
}

int s3_check_bucket(const struct s3 *s, const char *bucket, struct error *err)
{
	/* Other services do not have directory buckets; there such a name is an ordinary one. */
	if (!s3_is_aws(s) || !s3_is_directory_bucket(bucket))
		return 0;
	return error_set(err, -ERR_UNSUPPORTED, "s3://%s: " S3_DIRECTORY_BUCKET, bucket);
}

/* The configuration, and the credentials of requests. */

static const char *const nothing[] = {NULL};

/* Returns the setting, or the first of the variables that is set, or NULL. */
static const char *configured(const struct s3 *s, const char *setting, const char *const *variables)
{
	if (setting != NULL && setting[0] != '\0')
		return setting;
	for (; *variables != NULL; variables++) {
		const char *value = credentials_variable(s->environment, *variables);

		if (value != NULL)
			return value;
	}
	return NULL;
}

static const char *configured_endpoint(const struct s3 *s, const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
	const char *setting = configured(s, opts->endpoint, nothing);

	if (setting != NULL || s3_ignores_endpoints(s->environment))
		return setting;
	return configured(s, NULL, variables);
}

static const char *configured_region(const struct s3 *s, const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};

	return configured(s, opts->region, variables);
}

struct s3 *s3_new(const struct s3_options *opts)
{
	static const char *const ca_variables[] = {"AWS_CA_BUNDLE", NULL};
	struct s3 *s = zalloc(sizeof(*s));
	struct credentials_options who = {.profile = opts->profile,
		.network = &s->network,
		.warned_of_files = &s->warned_of_files};

	s3_variables_init(&s->variables, opts->environment, opts->sign != S3_SIGN_NO);
	s->environment = s->variables.environment;
	s->endpoint = s3_clean_endpoint(configured_endpoint(s, opts));
	s->region = text_copy(configured_region(s, opts));
	s->profile = opts->profile;
	s->style = opts->style;
	s->sign = opts->sign;
	s->network = *opts->network;
	s->ca_file = configured(s, opts->network->ca_file, ca_variables);
	s->network.ca_file = s->ca_file;
	who.region = configured_region(s, opts);
	who.environment = s->environment;
	s->credentials = credentials_new(&who);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void s3_free(struct s3 *s)
{
	if (s == NULL)
		return;
	credentials_free(s->credentials);
	s3_forget_regions(s);
	pthread_mutex_destroy(&s->lock);
	free(s->no_credentials);
	free(s->endpoint);
	free(s->region);
	s3_variables_done(&s->variables);
	free(s);
}

static bool is_known_anonymous(struct s3 *s)
{
	bool known;

	pthread_mutex_lock(&s->lock);
	known = s->no_credentials != NULL;
	pthread_mutex_unlock(&s->lock);
	return known;
}

static void store_anonymous(struct s3 *s, const struct error *why)
{
	pthread_mutex_lock(&s->lock);
	if (s->no_credentials == NULL)
		s->no_credentials = text_copy(why->msg);
	pthread_mutex_unlock(&s->lock);
}

int s3_keys(struct s3 *s, struct cancel *cancel, struct credentials_value *ret, struct error *err)
{
	struct error why = {0};
	int code;

	if (s->variables.fault.code < 0)
		return error_set(err, s->variables.fault.code, "%s", s->variables.fault.msg);
	if (s->sign == S3_SIGN_NO || (s->sign == S3_SIGN_AUTO && is_known_anonymous(s)))
		return 0;
	code = credentials_get(s->credentials, cancel, ret, &why);
	if (code == 0)
		return 1;
	if (code == -ENOKEY && s->sign == S3_SIGN_AUTO) {
		store_anonymous(s, &why);
		return 0;
	}
	if (err != NULL)
		*err = why;
	return code;
}

char *s3_credentials_source(struct s3 *s)
{
	char *who = NULL;

	if (s->sign == S3_SIGN_NO)
		return text_copy("sign = no");
	pthread_mutex_lock(&s->lock);
	who = text_copy(s->no_credentials);
	pthread_mutex_unlock(&s->lock);
	return who != NULL ? who : credentials_describe(s->credentials);
}

char *s3_describe(struct s3 *s)
{
	_free_ char *region = s3_region_of(s, "");
	_free_ char *endpoint = s3_shown_endpoint(s, region);
	_free_ char *who = s3_credentials_source(s);

	return text_format("%s (region %s%s), credentials: %s%s%s", endpoint, region,
		s->region == NULL ? ", or what a bucket says" : "", who,
		s->variables.fault.code < 0 ? "; it will fail: " : "", s->variables.fault.msg);
}
