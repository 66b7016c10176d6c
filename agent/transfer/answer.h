/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_ANSWER_H
#define STAGERUN_TRANSFER_ANSWER_H

#include "error.h"
#include "object.h"
#include <stdbool.h>
#include <stdint.h>

/* What a server answered, and what that means for the range that was asked for. No I/O. */

/* What names a version of an object, as the first response said it. */
struct version {
	char etag[256]; /* as sent, also when weak */
	char last_modified[64];
	uint64_t size; /* SIZE_UNKNOWN without one */
};

struct answer {
	int status; /* 0 until a status line came */
	char reason[64];
	struct version version;
	uint64_t first, last; /* Content-Range, both inclusive; meaningless without has_range */
	bool has_range;
	uint64_t content_length;   /* SIZE_UNKNOWN without one */
	uint64_t retry_after_ms;   /* 0 without one */
	char content_encoding[32]; /* "" without one */
	char request_id[96], region[32],
		date[64]; /* x-amz-request-id, x-amz-bucket-region, Date; or "" */
	char text[4096];  /* the beginning of an error's body */
	size_t text_len;
};

/* What was asked for, and what is known. */
struct answer_wanted {
	const char *name;  /* of the object, for messages */
	uint64_t from, to; /* asked for bytes [from, to); with plain: everything */
	bool plain;
	bool conditional;              /* 304 is an answer */
	const struct version *version; /* what the first response said; NULL: this is the first */
};

enum verdict {
	VERDICT_NONE,
	VERDICT_RANGE, /* the body is bytes [first, last] */
	VERDICT_WHOLE, /* the body is all there is: no ranges here */
	VERDICT_NOT_MODIFIED,
	VERDICT_REDIRECT,
	VERDICT_PLAIN, /* ask again without Range */
	VERDICT_RETRY, /* ask again later; the error is what to say when that was in vain */
	VERDICT_FAIL,  /* give up */
	VERDICT_DENIED /* give up, unless the URL came from a redirect and can be asked for anew */
};

void answer_reset(struct answer *a);
/* One header line as it came, or the status line, which starts anew. */
void answer_header(struct answer *a, const char *line, size_t len);
/* Keeps the beginning of an error's body. */
void answer_text(struct answer *a, const char *bytes, size_t len);

/* For 200 and 206: as soon as the headers are in; for others: when the body is, too. The error is
 * set for RETRY, FAIL and DENIED. */
enum verdict answer_judge(const struct answer *a, const struct answer_wanted *w, struct error *err);

bool etag_is_strong(const char *etag);

#endif
