/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREDENTIALS_H
#define STAGERUN_CREDENTIALS_H

#include "cancel.h"
#include "error.h"
#include "transfer.h"
#include <stdbool.h>

/* Who asks S3, found as the AWS SDKs do. The first provider that has something decides; one that is
 * configured but fails is an error, never a reason to be somebody else:
 *
 *   profile       [s3] profile of agent.ini, in the shared files
 *   environment   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   web identity  AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN: AssumeRoleWithWebIdentity of STS
 *   shared files  AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_PROFILE: keys, credential_process,
 *                 role_arn with source_profile or credential_source, web_identity_token_file
 *   container     AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (https, loopback, and the ECS and
 *                 EKS addresses only), AWS_CONTAINER_AUTHORIZATION_TOKEN(_FILE)
 *   instance      EC2's IMDSv2, unless AWS_EC2_METADATA_DISABLED
 *
 * Those that expire are renewed by a thread of their own well before they do, and never written anywhere;
 * secrets are hidden in the log (redact.h). */

struct credentials;

struct credentials_options {
	const char *profile; /* agent.ini's; "" or NULL: AWS_PROFILE, "default" */
	const char *region;  /* for STS's address; may be NULL */
	const struct transfer_options *network;
	char *const *environment; /* NAME=VALUE strings, NULL-terminated; borrowed while it lives */
};

/* A copy; the holder's. */
struct credentials_value {
	char *access_key, *secret_key;
	char *session_token; /* NULL: none */
};
void credentials_value_done(struct credentials_value *v);

/* No I/O. opts' strings outlive it. Never NULL. */
struct credentials *credentials_new(const struct credentials_options *opts);
void credentials_free(struct credentials *c); /* accepts NULL; nobody uses it any more */

/* Worker threads. The present ones; finds or renews them first when there are none or they have expired.
 * One thread asks, the others wait. -ENOKEY when no provider has any: the sentence lists what was
 * looked at. */
int credentials_get(struct credentials *c, struct cancel *cancel, struct credentials_value *ret,
	struct error *err);
/* Any thread, never sleeps: those of the last credentials_get() or renewal, also when expired. False when
 * there are none. */
bool credentials_last(struct credentials *c, struct credentials_value *ret);
/* Any thread, never sleeps: S3 called the last ones expired or unknown: the next credentials_get() renews
 * them, and so does the thread, at once. */
void credentials_reject(struct credentials *c, const char *access_key);

/* Where they come from, for messages and dry runs: "environment (AWS_ACCESS_KEY_ID)", "profile 'ci' of
 * /root/.aws/credentials". Heap string. Without I/O beyond reading the files. */
char *credentials_describe(struct credentials *c);

#endif
