/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREDENTIALS_H
#define STAGERUN_CREDENTIALS_H

#include "cancel.h"
#include "error.h"
#include "transfer.h"
#include <stdatomic.h>
#include <stdbool.h>

/* AWS credentials, found as the AWS SDKs find them. The first provider that has credentials is
 * used. If a provider that is configured fails, that is an error: the next ones are not tried,
 * because requests would then be made under another identity. The order:
 *
 *   profile       the profile of agent.ini, in the shared files
 *   environment   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   profile       AWS_PROFILE, in the shared files: a user who sets it means it, while a cluster
 *                 injects the next provider into every container
 *   web identity  AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN: AssumeRoleWithWebIdentity of STS
 *   shared files  AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, [default]: keys,
 *                 credential_process, role_arn with source_profile or credential_source,
 *                 web_identity_token_file
 *   container     AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (only https, loopback, and
 *                 the ECS and EKS addresses), AWS_CONTAINER_AUTHORIZATION_TOKEN(_FILE)
 *   instance      EC2's IMDSv2, unless AWS_EC2_METADATA_DISABLED
 *
 * Credentials that expire are renewed in time by a thread of their own. They are never written
 * anywhere; secrets are hidden in the log (redact.h). */

struct credentials;

struct credentials_options {
	const char *profile; /* agent.ini's; "" or NULL: AWS_PROFILE, or "default" */
	const char *region;  /* for the address of STS; may be NULL */
	const struct transfer_options *network;
	/* How long busy or late services are retried; 0: each provider's default. */
	uint64_t patience_ms;
	/* Set when a warning of skipped files is logged, and checked before; NULL: no warning. */
	atomic_bool *warned_of_files;
	char *const *environment; /* "NAME=VALUE" strings, NULL-terminated */
};

/* A copy, owned by the holder. */
struct credentials_value {
	char *access_key, *secret_key;
	char *session_token; /* NULL: none */
};
void credentials_value_done(struct credentials_value *v); /* overwrites and frees the strings */

/* Does no I/O, and never returns NULL. The pointers in opts must outlive the result. */
struct credentials *credentials_new(const struct credentials_options *opts);
/* Accepts NULL. No other thread may use c any more. */
void credentials_free(struct credentials *c);

/* Worker threads, sleeps. Copies the current credentials into *ret; searches or renews them first
 * if there are none or they have expired. One thread searches while the others wait. -ENOKEY if no
 * provider has any: the message lists what was searched. */
int credentials_get(struct credentials *c, struct cancel *cancel, struct credentials_value *ret,
	struct error *err);
/* Any thread, never sleeps. Copies the credentials of the last credentials_get() or renewal, even
 * if they have expired. False: there are none. */
bool credentials_last(struct credentials *c, struct credentials_value *ret);
/* Any thread, never sleeps. It is called when S3 rejects credentials as expired or unknown: the
 * next credentials_get() renews them, or the renewal thread, which starts at once. */
void credentials_reject(struct credentials *c, const char *access_key);

/* Describes where the credentials come from, for messages and dry runs (heap): "environment
 * (AWS_ACCESS_KEY_ID)", "profile 'ci' of /root/.aws/credentials". It reads the shared files, and
 * does no other I/O. */
char *credentials_describe(struct credentials *c);

#endif
