/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CALL_H
#define STAGERUN_CALL_H

#include "cancel.h"
#include "error.h"
#include "patience.h"
#include "text.h"
#include "transfer.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sends one HTTP request and reads its whole response, on the calling thread, for small objects and
 * for uploads. Streamed data comes through the transfer engine.
 *
 * A caller keeps its connections between calls; one thread at a time uses it. Nothing is retried,
 * except a request on a kept connection that the server had closed: only the calling code knows
 * which requests may be sent twice. */

struct caller;

/* Worker threads. network and cancel (may be NULL) are borrowed and must outlive the caller. */
int call_caller_new(const struct transfer_options *network, struct cancel *cancel,
	struct caller **ret, struct error *err);
void call_caller_free(struct caller *c); /* accepts NULL */

/* AWS Signature Version 4, computed by libcurl. */
struct call_signature {
	const char *region, *service; /* "us-east-1", "s3" */
	const char *access_key, *secret_key;
	const char *session_token; /* NULL: none; it is signed, too */
};

struct call {
	const char *method; /* "GET", "PUT", "HEAD", ... */
	const char *url;    /* query sorted, "?uploads=" not "?uploads", '/' in values as %2F */
	const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
	const void *body;           /* of PUT and POST; NULL: none; borrowed */
	size_t body_len;
	const struct call_signature *signature; /* NULL: not signed */
	/* For the whole call; 0: only connect_timeout, first_byte_timeout and stall_timeout
	 * apply. */
	uint64_t timeout_ms;
	bool no_proxy; /* for link-local and loopback services */
	/* Buffer for the body of a 2xx response; a longer body is an error. NULL: reply.body. */
	void *into;
	size_t into_len;
};

struct reply {
	long status;            /* 0: there was no response */
	struct text body;       /* up to 16 MiB; for other statuses than 2xx even if into is set */
	size_t into_len;        /* bytes stored in call.into */
	struct strings headers; /* "name: value", names in lower case, of the last response */
};

/* 0: there was a response, of any status; *ret is the caller's, until call_reply_done(). Negative:
 * there was none. -ECANCELED; -ERR_HTTP for a certificate or a URL that a retry does not improve; a
 * transient failure, for which call_is_transient() is true. */
int call(struct caller *c, const struct call *what, struct reply *ret, struct error *err);
bool call_is_transient(int code);
/* The last call failed since its name was not found, or nobody took the connection. */
bool call_found_nobody(const struct caller *c);
/* Returns whether to retry a call of url that failed. status: of its response; 0: it had none. */
bool call_again(const struct caller *c, const char *url, struct tried *t, unsigned retries,
	long status, const char *why);
/* Returns the value, borrowed; NULL: there is no such header. */
const char *call_reply_header(const struct reply *r, const char *name);
void call_reply_done(struct reply *r);

#endif
