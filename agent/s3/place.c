/* SPDX-License-Identifier: MIT */
/* s3://bucket/key. A key may hold any character: nothing in it is a query, a fragment or encoded. Pure. */
#include "defer.h"
#include "s3.h"
#include "text.h"
#include <string.h>
#include <strings.h>

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

int s3_place_parse(const char *url, struct s3_place *ret, struct error *err)
{
	const char *bucket = url + 5;
	size_t len;

	if (strncasecmp(url, "s3://", 5) != 0)
		return error_set(err, -ERR_USAGE, "'%s' is not s3://bucket/key", url);
	len = strcspn(bucket, "/");
	if (!is_bucket_name(bucket, len))
		return error_set(err, -ERR_USAGE,
			"'%s': '%.*s' is no name of a bucket (3 and more letters, digits, '-', '.' "
			"and "
			"'_'); write s3://bucket/key",
			url, (int)len, bucket);
	/* S3 takes 1024; more cannot be a key, and would be told by a server in its own way. */
	if (strlen(bucket) > len + 1 + 1024)
		return error_set(err, -ERR_USAGE,
			"'s3://%.*s/...': a key has at most 1024 bytes, this one %zu", (int)len,
			bucket, strlen(bucket) - len - 1);
	*ret = (struct s3_place){.bucket = format_text("%.*s", (int)len, bucket),
		.key = copy_text(bucket + len + (bucket[len] == '/'))};
	return 0;
}

bool s3_place_is_prefix(const struct s3_place *p)
{
	size_t len = strlen(p->key);

	return len == 0 || p->key[len - 1] == '/';
}

void s3_place_done(struct s3_place *p)
{
	free(p->bucket);
	free(p->key);
	*p = (struct s3_place){0};
}
