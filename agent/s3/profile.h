/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_PROFILE_H
#define STAGERUN_S3_PROFILE_H

#include "error.h"
#include <stdbool.h>

/* The files that the AWS tools share: ~/.aws/credentials and ~/.aws/config, or where
 * AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE say. Worker threads.
 * https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html */

struct shared_files;

/* Files that are not there are empty. -ERR_CONFIG for lines that mean nothing. */
int shared_files_read(char *const *environment, struct shared_files **ret, struct error *err);
void shared_files_free(struct shared_files *f); /* accepts NULL */

bool shared_files_have(const struct shared_files *f, const char *profile);
/* A value of the profile, of the credentials file if it is there; NULL: none. "s3.endpoint_url" is
 * endpoint_url below "s3 =". Valid as long as f. */
const char *shared_files_value(const struct shared_files *f, const char *profile, const char *key);
/* The file that has this key of the profile, or the profile: for messages. */
const char *shared_files_where(const struct shared_files *f, const char *profile, const char *key);
/* "/root/.aws/credentials and /root/.aws/config". Heap. */
char *shared_files_names(const struct shared_files *f);

/* Who is asked for: chosen (agent.ini's), else AWS_PROFILE, else "default". */
const char *profile_name(char *const *environment, const char *chosen);
/* What others than the credentials want of it: "region"; "endpoint_url" of the service "s3", from
 * [services], or of the profile. NULL: not set, or the files cannot be read. Heap. */
char *profile_region(char *const *environment, const char *chosen);
char *profile_endpoint(char *const *environment, const char *chosen);

/* The variable's value; NULL when it is not set or empty. */
const char *aws_variable(char *const *environment, const char *name);

#endif
