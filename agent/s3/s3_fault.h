/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_FAULT_H
#define STAGERUN_S3_FAULT_H

#include "error.h"
#include <stddef.h>
#include <time.h>

/* An answer of S3's that is no success: what it says, what follows from it, and how it is told. No I/O. */

struct s3_fault {
	long status;
	char code[64], message[256]; /* "" without a body */
	char request_id[96];
	char region[32]; /* where the bucket is, if the answer says so */
	time_t date;     /* the server's clock; 0: it did not say */
};

/* What the sentence needs to know of the request. */
struct s3_subject {
	const char *doing;        /* "read" */
	const char *bucket, *key; /* key NULL: the bucket itself */
	const char *permission;   /* "s3:GetObject" */
	const char *endpoint, *region;
	const char *who; /* credentials' source, or why there are none */
	int is_signed;
};

enum s3_verdict {
	S3_FINAL,  /* it will not get better */
	S3_LATER,  /* transient */
	S3_SLOWER, /* transient, and the server asks for less */
	S3_RENEW,  /* with new credentials */
	S3_MOVED,  /* in fault.region */
};

/* body: of the error, may be empty; date, request_id and region: headers, may be NULL. */
void s3_fault_read(struct s3_fault *f, long status, const char *body, size_t len);
void s3_fault_headers(
	struct s3_fault *f, const char *request_id, const char *region, const char *date);
enum s3_verdict s3_fault_judge(const struct s3_fault *f, const char *asked_region);
/* Sets and returns the error: -ENOENT, -EEXIST, -EACCES or -ERR_HTTP. */
int s3_fault_tell(const struct s3_fault *f, const struct s3_subject *what, struct error *err);

/* What to try: continues the sentence, "" for nothing. Heap. */
char *s3_advice(const struct s3_fault *f, const struct s3_subject *what);

#endif
