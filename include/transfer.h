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
 * once, each as parallel ranges, from one pool of blocks and with one limit on connections, and
 * delivers the bytes of each object in order to its worker.
 *
 * Threads: the engine lives on the loop thread; transfer_object_open() and the objects it returns
 * are for worker threads. Only the inbox and each object's window are shared, each under its own
 * lock. */

typedef struct uv_loop_s uv_loop_t;
struct throttle;
struct patience;

struct transfer_options {
	unsigned connections;          /* limit for all hosts together */
	unsigned connections_per_host; /* limit for one host:port */
	uint64_t range_min, range_max; /* bytes of one ranged GET: at first, and at most */
	uint64_t connect_timeout_ms;   /* for TCP, TLS and proxy, each attempt */
	/* An attempt fails if no response begins within this time after the request; 0:
	 * stall_timeout_ms applies. */
	uint64_t first_byte_timeout_ms;
	uint64_t stall_timeout_ms; /* an attempt fails if no byte arrives for this long */
	/* A host that has not answered yet is retried for this long. */
	uint64_t patience_ms;
	/* Attempts after the first, for each range, without progress. */
	unsigned retries;
	uint64_t retry_base_ms, retry_max_ms; /* backoff: doubled each time, full jitter */
	const char *ca_file;                  /* PEM; NULL: the system's, searched for */
	const char *netrc_file;               /* NULL: none */
	/* "URL-PREFIX NAME: VALUE": sent with requests whose URL has the prefix, but not to another
	 * origin (scheme, host, port) after a redirect. The same applies to netrc and to the user
	 * and password of a URL. */
	const char *const *headers; /* NULL-terminated, or NULL */
	struct throttle *throttle;  /* for all received bodies, those of call.h too; NULL: none */
	/* For all requests, those of call.h too; NULL: only attempts count. */
	struct patience *patience;
};

struct transfer;

/* Loop thread. opts and its strings are borrowed until the engine is closed. network_bytes: memory
 * for blocks. */
int transfer_new(uv_loop_t *loop, const struct transfer_options *opts, uint64_t network_bytes,
	struct transfer **ret, struct error *err);

/* Loop thread. Every object must be closed, or its cancel requested and its worker ended. Cuts all
 * connections and closes the handles; closed() is called when the loop runs afterwards. */
void transfer_close(struct transfer *t, void (*closed)(void *ctx), void *ctx);

/* Signs the requests for an object (S3), and classifies refusals. */

struct http_keys { /* heap strings; session_token NULL: none */
	char *access_key, *secret_key, *session_token;
};

struct http_refusal {
	long status;
	bool in_transfer; /* the object is open already */
	const char *body; /* its first 4 KiB, NUL-terminated */
	size_t body_len;
	/* x-amz-request-id, x-amz-bucket-region, Date; "": not in the response */
	const char *request_id, *region, *date;
	const char *access_key; /* the key that signed the request; "": not signed */
};

struct http_signer {
	const char *scope;   /* "aws:amz:us-east-1:s3", for libcurl; copied */
	const char *ca_file; /* NULL: as for all requests; copied */
	/* Loop thread; must not sleep. keys() returns the keys for the next request; false: it is
	 * not signed. refused() sets the error and returns whether to retry: with the usual
	 * backoff, and not before *ret_after_ms if it sets that. */
	bool (*keys)(void *ctx, struct http_keys *ret);
	bool (*refused)(
		void *ctx, const struct http_refusal *r, uint64_t *ret_after_ms, struct error *err);
	/* release() is called last, by any thread, also if the object could not be opened. */
	void (*release)(void *ctx);
	void *ctx;
};

struct http_request {
	const char *url;
	const char *name;            /* display name for messages; copied */
	const struct identity *have; /* sent as If-None-Match or If-Modified-Since; may be NULL */
	enum object_want want;     /* WANT_IDENTITY: one byte is requested, for size and identity */
	struct progress *progress; /* may be NULL */
	struct cancel *cancel;
	const struct http_signer *signer; /* NULL: none; copied */
};

/* Worker threads. The first ranged GET also discovers size and identity; there is no HEAD. Returns
 * when its headers are in, or when all retries have failed. *ret is the caller's to close. */
int transfer_object_open(
	struct transfer *t, const struct http_request *req, struct object **ret, struct error *err);

#endif
