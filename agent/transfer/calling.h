/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_CALLING_H
#define STAGERUN_TRANSFER_CALLING_H

#include "call.h"
#include <curl/curl.h>

/* One call while it is under way:
 *
 *   call          start, wait, end
 *   call_request  what is sent
 *   call_reply    what comes */

struct caller {
	/* Set at creation. */
	const struct transfer_options *network;
	struct cancel *cancel; /* may be NULL */
	char *ca_file;         /* NULL: curl's own default */
	int *inherited;        /* descriptors without CLOEXEC that are not ours; -1 ends them */
	CURLM *multi;          /* keeps the connections */
	CURL *easy;

	/* The thread that calls. */
	bool looks_up; /* a name look-up has begun: it has descriptors of its own */
};

struct calling {
	struct caller *caller;
	const struct call *what;
	struct reply *reply;
	struct error *err; /* what a callback found wrong */
	int code;          /* of it */
	struct curl_slist *headers;
	bool held;             /* the body waits for the rate */
	uint64_t moved;        /* bytes received so far */
	uint64_t moved_before; /* bytes received and sent, at the last look */
	uint64_t last_ns;      /* when it was seen that one had moved */
	char said[CURL_ERROR_SIZE];
};

/* call_request */
CURLcode calling_prepare(struct calling *c);

/* call_reply */
void calling_expect_reply(struct calling *c);

#endif
