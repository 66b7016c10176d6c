/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_ANSWER_H
#define STAGERUN_TRANSFER_ANSWER_H

#include "error.h"
#include "object.h"
#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

/* Parses a server's response and classifies it for the range that was requested; explains curl's
 * own failures. No I/O; any thread. */

/* The fields that identify a version of an object, from the first response. */
struct object_version {
	char etag[256]; /* as sent; may be weak */
	char last_modified[64];
	uint64_t size; /* SIZE_UNKNOWN: not in the response */
};

struct answer {
	int status; /* 0: no status line yet */
	char reason[64];
	struct object_version version;
	uint64_t first, last; /* Content-Range, both inclusive; undefined unless has_range */
	bool has_range;
	uint64_t content_length;   /* SIZE_UNKNOWN without one */
	uint64_t retry_after_ms;   /* 0: not in the response */
	char content_encoding[64]; /* "": not in the response */
	struct said said;
	/* x-amz-request-id, x-amz-bucket-region, Date; "": not in the response. */
	char request_id[96], region[32], date[64];
	char text[4096]; /* the first bytes of an error's body */
	size_t text_len;
};

/* The request, and what earlier responses said. */
struct answer_wanted {
	const char *name;  /* of the object, for messages; borrowed */
	uint64_t from, to; /* bytes [from, to) were requested; with plain: everything */
	bool plain;
	bool conditional; /* the request had a condition that 304 answers */
	bool varies;      /* responses from this URL are known to differ in their ETag only */
	/* From the first response; NULL: this is the first. Borrowed. */
	const struct object_version *version;
};

enum verdict {
	VERDICT_NONE,
	VERDICT_RANGE, /* the body is bytes [first, last] */
	VERDICT_WHOLE, /* the body is the whole object: the server ignores ranges */
	VERDICT_NOT_MODIFIED,
	VERDICT_REDIRECT,
	VERDICT_PLAIN,  /* retry without Range */
	VERDICT_RANGES, /* retry with Range: the server has recovered */
	/* Like VERDICT_RETRY: the whole object came where a range was requested. After the last
	 * attempt the object is read again in one response. */
	VERDICT_UNRANGED,
	VERDICT_RETRY, /* retry later; the error is reported if all attempts fail */
	VERDICT_FAIL,  /* give up */
	/* Give up, unless the URL came from a redirect that can be resolved again. */
	VERDICT_DENIED
};

void answer_reset(struct answer *a);
/* Parses one header line as received; a status line resets the answer. */
void answer_header(struct answer *a, const char *line, size_t len);
/* Appends to the stored part of an error's body. */
void answer_text(struct answer *a, const char *bytes, size_t len);

/* Call for 200 and 206 as soon as the headers are in, and for other statuses after the body. Sets
 * the error for RETRY, FAIL and DENIED. */
enum verdict answer_classify(
	const struct answer *a, const struct answer_wanted *w, struct error *err);

/* Whether a refusal may concern the range rather than the object. */
bool answer_may_refuse_range(const struct answer *a);

bool answer_etag_is_strong(const char *etag);

/* Whether another version, written within the same second, may still get the same Last-Modified
 * (RFC 9110 section 8.8.2.2). */
bool answer_is_recent(const struct answer *a);

/* What curl says of a request that failed: said is its message, "" if it has none. */

/* Advice for a failure that a retry would meet again; NULL: it may be transient. */
const char *answer_permanent_advice(CURLcode result, const char *said);
/* curl's message without user and password. Heap. */
char *answer_curl_sentence(CURLcode result, const char *said);
/* The host name that could not be resolved; NULL: that was not the failure. Heap. */
char *answer_unresolved_name(CURLcode result, const char *said);
/* What a proxy's refusal to connect means; *ret_final: a retry will not help. */
const char *answer_proxy_sentence(long status, bool *ret_final);

#endif
