/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_FAKE_HTTP_H
#define STAGERUN_TEST_FAKE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A small HTTP/1.1 server on loopback, one thread for each connection. It serves one object of
 * made-up bytes under every path, with ranges, ETag and conditions as a good server does; a script
 * may change any reply into what a bad one does. */

struct fake_request {
	unsigned number;     /* 0 for the first */
	unsigned connection; /* on which it came, 0 for the first */
	char method[16];
	char path[1024];
	char headers[8192]; /* as they came */
	bool has_range;
	uint64_t first, last; /* both inclusive */
	uint64_t body_len;
	char body[4096]; /* its beginning, NUL-terminated */
};

struct fake_reply {
	int status;
	char etag[64], last_modified[64]; /* "": not sent */
	char headers[1024];               /* further lines, each with its \r\n */
	const char *text;                 /* this body and not the object's bytes; NULL: those */
	uint64_t first, len;              /* which bytes of the object */
	uint64_t range_first, range_last, range_total; /* of Content-Range, sent with a 206 */
	uint64_t content_length;        /* FAKE_NONE: not sent, the end closes the connection */
	uint64_t cut_after;             /* body bytes, then the connection is cut */
	uint64_t stall_after, stall_ms; /* body bytes, then silence for so long */
	bool closes;                    /* the connection, though the answer did not say so */
	uint64_t bytes_per_s;           /* 0: as fast as it goes */
	unsigned seed;                  /* what the bytes are made of */
};

#define FAKE_NONE UINT64_MAX

struct fake_options {
	uint64_t size;
	void (*script)(void *ctx, const struct fake_request *req, struct fake_reply *reply);
	void *ctx;
};

struct fake_http;

struct fake_http *fake_http_start(const struct fake_options *opts);
void fake_http_stop(struct fake_http *f);

char *fake_http_url(const struct fake_http *f, const char *path); /* heap */
unsigned fake_http_port(const struct fake_http *f);
unsigned fake_http_requests(struct fake_http *f);
struct fake_request fake_http_request(struct fake_http *f, unsigned i);
unsigned fake_http_peak(struct fake_http *f); /* replies under way at once, at most */

uint8_t fake_byte(unsigned seed, uint64_t offset);
bool fake_header_is(const struct fake_request *req, const char *name, const char *value);
bool fake_has_header(const struct fake_request *req, const char *name);

#endif
