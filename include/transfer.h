/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_H
#define STAGERUN_TRANSFER_H

#include "cancel.h"
#include "error.h"
#include "object.h"
#include "progress.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>

/* The transfer engine: curl's multi interface driven by a libuv loop. It fetches many objects at
 * once, each as parallel ranges, under one pool of blocks and one cap on connections, and hands each
 * object's bytes to its worker in order.
 *
 * Threads: the engine lives on the loop thread; http_object_open() and what it returns are for worker
 * threads. Only the inbox and each object's window are shared, each under its own lock. */

typedef struct uv_loop_s uv_loop_t;
struct throttle;

struct transfer_options {
	unsigned connections;          /* cap for all hosts together */
	unsigned connections_per_host; /* cap for one host:port */
	uint64_t range_min,
		range_max; /* bytes of one ranged GET: where it starts, where growth stops */
	uint64_t connect_timeout_ms; /* TCP, TLS and proxy, each attempt */
	uint64_t stall_timeout_ms;   /* no byte for this long: the attempt is broken */
	unsigned retries; /* attempts after the first, for each range, without progress */
	uint64_t retry_base_ms, retry_max_ms; /* backoff: doubled each time, full jitter */
	const char *ca_file;                  /* PEM; NULL: the system's, probed */
	const char *netrc_file;               /* NULL: none */
	/* "URL-PREFIX NAME: VALUE", sent with requests to URLs that begin so, and never to another
	 * host after a redirect. */
	const char *const *headers; /* NULL-terminated, or NULL */
	struct throttle *throttle;  /* for all bodies that arrive, of call.h too; NULL: none */
};

struct transfer;

/* Loop thread. opts and its strings must outlive the engine. network_bytes: for blocks. */
int transfer_new(uv_loop_t *loop, const struct transfer_options *opts, uint64_t network_bytes,
	struct transfer **ret, struct error *err);

/* Loop thread. Every object must be closed, or its cancel requested and its worker gone. Cuts all
 * connections, closes the handles; run the loop once more afterwards, then closed() is called. */
void transfer_close(struct transfer *t, void (*closed)(void *ctx), void *ctx);

/* What signs the requests for an object (S3), and reads refusals. */

struct http_keys { /* heap strings; session_token NULL: none */
	char *access_key, *secret_key, *session_token;
};

struct http_refusal {
	long status;
	bool in_transfer; /* the object is open already, or will be */
	const char *body; /* its first 4 KiB, NUL-terminated */
	size_t body_len;
	const char *request_id, *region,
		*date;          /* x-amz-request-id, x-amz-bucket-region, Date; "" without */
	const char *access_key; /* what the request was signed with; "" when it was not */
};

struct http_signer {
	const char *scope;   /* "aws:amz:us-east-1:s3", for libcurl; copied */
	const char *ca_file; /* NULL: as everybody; copied */
	/* Loop thread, never sleep. keys(): those for the next request; false: it is not signed. refused():
	 * sets the error, and says whether to try again: later, as for other transient trouble, and not before
	 * *ret_after_ms, if it sets that. */
	bool (*keys)(void *ctx, struct http_keys *ret);
	bool (*refused)(
		void *ctx, const struct http_refusal *r, uint64_t *ret_after_ms, struct error *err);
	void (*release)(
		void *ctx); /* the last call. Any thread; also when the object was not opened */
	void *ctx;
};

struct http_request {
	const char *url;
	const char *name;            /* display name for messages; copied */
	const struct identity *have; /* sends If-None-Match or If-Modified-Since */
	enum object_want want; /* WANT_IDENTITY: asks for one byte, to learn size and identity */
	struct progress *progress; /* may be NULL */
	struct cancel *cancel;
	const struct http_signer *signer; /* NULL: none; copied */
};

/* Worker threads. The first ranged GET is also the discovery: there is no HEAD. Returns when its
 * headers are in (or it was retried in vain). */
int http_object_open(
	struct transfer *t, const struct http_request *req, struct object **ret, struct error *err);

#endif
