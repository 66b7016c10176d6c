/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_ROLES_H
#define STAGERUN_S3_ROLES_H

#include "chain.h"

/* A profile with role_arn and source_profile stands for a role that the source profile may assume, which
 * may itself stand for a role: a short way back to somebody who has credentials. */

enum { ROLES_MAX = 8 };

enum base_kind {
	BASE_OWN,         /* the profile's keys or process */
	BASE_SOURCE,      /* its credential_source */
	BASE_WEB_IDENTITY /* its web_identity_token_file */
};

struct roles {
	const char *profiles[ROLES_MAX]; /* each has a role_arn to assume, the last one first */
	unsigned n;
	const char *base; /* the profile that has credentials to begin with */
	enum base_kind kind;
};

/* *ret_missing: a profile that is not there; then the result does not matter. */
int roles_find(const struct search *s, const char *profile, struct roles *ret,
	const char **ret_missing, struct error *err);
/* *f: the base's, and in the end the first profile's. Freed on failure. */
int roles_assume(struct search *s, const struct roles *roles, struct found *f, struct error *err);

#endif
