/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CALL_H
#define STAGERUN_CALL_H

#include "cancel.h"
#include "error.h"
#include "text.h"
#include "transfer.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One HTTP request and its whole answer, on the thread that asks (libcurl's easy interface): for what is
 * small, or is sent. Data that is streamed comes through the transfer engine.
 *
 * A caller keeps its connections between calls; one thread at a time uses it. Nothing is retried here,
 * but for a kept connection that the server had closed: who calls knows what may be sent twice. */

struct caller;

/* Worker threads. network (timeouts, ca_file) and cancel (may be NULL) outlive the caller. */
int caller_new(const struct transfer_options *network, struct cancel *cancel, struct caller **ret,
	struct error *err);
void caller_free(struct caller *c); /* accepts NULL */

/* AWS Signature Version 4, made by libcurl. */
struct call_signature {
	const char *region, *service; /* "us-east-1", "s3" */
	const char *access_key, *secret_key;
	const char *session_token; /* NULL: none; is signed in */
};

struct call {
	const char *method; /* "GET", "PUT", "HEAD", ... */
	const char *url;    /* query sorted, "?uploads=" not "?uploads", '/' in values as %2F */
	const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
	const void *body;           /* of PUT and POST; NULL: none */
	size_t body_len;
	const struct call_signature *signature; /* NULL: not signed */
	uint64_t timeout_ms; /* for all of it; 0: only connect_timeout and stall_timeout */
	bool no_proxy;       /* link-local and loopback services */
	void *into;          /* where a 2xx body goes, if it fits; NULL: into reply.body */
	size_t into_len;
};

struct reply {
	long status;            /* 0: no answer came, see the error */
	struct text body;       /* up to 16 MiB; of an error also when into is given */
	size_t into_len;        /* bytes in call.into */
	struct strings headers; /* "name: value", names in lower case, of the last answer */
};

/* 0 when an answer came, whatever its status: then *ret is filled and the caller's. Negative: none came
 * (-ECANCELED; -ERR_HTTP for a certificate or a URL that will not get better; else -EAGAIN-like transient,
 * told by call_is_transient()). */
int call(struct caller *c, const struct call *what, struct reply *ret, struct error *err);
bool call_is_transient(int code);
const char *reply_header(const struct reply *r, const char *name); /* value, or NULL */
void reply_done(struct reply *r);

#endif
