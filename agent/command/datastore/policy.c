/* SPDX-License-Identifier: MIT */
/* `stagerun datastore policy`: prints the policy that the owner of a bucket applies to it so that
 * another account can read the store. Loop thread.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html */
#include "datastore_call.h"
#include "defer.h"
#include <jansson.h>
#include <string.h>

/* "arn:PARTITION:iam::ACCOUNT:role/NAME"; Ceph has users and tenants instead of accounts. */
static int check_role(const char *role, char **ret_partition, struct error *err)
{
	const char *partition = role + 4, *service;
	size_t len;

	if (strncmp(role, "arn:", 4) == 0) {
		len = strcspn(partition, ":");
		service = partition + len;
		if (len > 0 &&
			(strncmp(service, ":iam:", 5) == 0 || strncmp(service, ":sts:", 5) == 0)) {
			*ret_partition = text_format("%.*s", (int)len, partition);
			return 0;
		}
	}
	return error_set(err, -ERR_USAGE,
		"--role '%s' is not the ARN of a role or user, such as arn:aws:iam::123456789012:role/training",
		role);
}

static json_t *statement(const char *sid, const char *role, json_t *actions, char *resource)
{
	json_t *s = json_pack("{s:s, s:s, s:{s:s}, s:o, s:s}", "Sid", sid, "Effect", "Allow",
		"Principal", "AWS", role, "Action", actions, "Resource", resource);

	free(resource);
	return s;
}

/* Allows to list only the keys below the prefix. */
static json_t *list_statement(
	const char *role, const char *partition, const struct s3_bucket_key *at)
{
	json_t *s = statement("StagerunList", role, json_pack("[s]", "s3:ListBucket"),
		text_format("arn:%s:s3:::%s", partition, at->bucket));
	_free_ char *below = text_format("%s/*", at->key);

	if (at->key[0] != '\0')
		json_object_set_new(
			s, "Condition", json_pack("{s:{s:[s]}}", "StringLike", "s3:prefix", below));
	return s;
}

static json_t *policy(const char *role, const char *partition, const struct s3_bucket_key *at)
{
	json_t *locate = statement("StagerunLocate", role, json_pack("[s]", "s3:GetBucketLocation"),
		text_format("arn:%s:s3:::%s", partition, at->bucket));
	json_t *get = statement("StagerunGet", role, json_pack("[s]", "s3:GetObject"),
		text_format("arn:%s:s3:::%s/%s%s*", partition, at->bucket, at->key,
			at->key[0] != '\0' ? "/" : ""));

	return json_pack("{s:s, s:[o, o, o]}", "Version", "2012-10-17", "Statement",
		list_statement(role, partition, at), locate, get);
}

int datastore_policy(const char *url, const char *role, char **ret, struct error *err)
{
	struct s3_bucket_key at = {0};
	_free_ char *partition = NULL;
	json_t *o;
	int code = check_role(role, &partition, err);

	if (code < 0)
		return code;
	if (strncmp(url, "s3://", 5) != 0)
		return error_set(err, -ERR_USAGE,
			"the store is %s: only buckets have policies; a directory has permissions (chmod, setfacl)",
			url);
	code = s3_bucket_key_parse(url, &at, err);
	if (code < 0)
		return code;
	for (size_t len = strlen(at.key); len > 0 && at.key[len - 1] == '/'; len--)
		at.key[len - 1] = '\0';
	o = policy(role, partition, &at);
	*ret = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
	json_decref(o);
	s3_bucket_key_done(&at);
	return *ret != NULL
		       ? 0
		       : error_set(err, -ERR_USAGE,
				 "--role or the store's address has bytes that are not UTF-8, which no policy can have");
}

int datastore_command_policy(struct subcommand_call *c, struct error *err)
{
	_free_ char *url = agent_store_url(c->settings);
	_free_ char *json = NULL;
	int code;

	if (c->request.role == NULL)
		return error_set(err, -ERR_USAGE, "usage: stagerun datastore policy --role ARN");
	code = datastore_policy(url != NULL ? url : "not there", c->request.role, &json, err);
	if (code == 0)
		puts(json);
	return code;
}
