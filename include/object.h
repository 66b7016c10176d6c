/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OBJECT_H
#define STAGERUN_OBJECT_H

#include "error.h"
#include "reader.h"
#include <stdbool.h>
#include <stdint.h>

/* An open object: one version of the bytes of a source. Worker threads; one thread at a time,
 * except that object_read_at() may be called while another thread reads the stream. */

/* Identifies a version (RFC 9110 section 8.8). */
struct identity {
	char etag[256];         /* strong ETag as sent, with quotes; "": none, or weak */
	char last_modified[64]; /* as sent; "": none */
	uint64_t size;          /* SIZE_UNKNOWN: none */
	/* last_modified was so recent in the response that another version may still get the same
	 * date. */
	bool recent;
};

/* Whether id identifies a version: a strong ETag, or the size with a Last-Modified that is not
 * recent. */
bool object_identity_pins(const struct identity *id);
/* Whether a and b identify, by the same fields, the same version. */
bool object_identity_same(const struct identity *a, const struct identity *b);

/* How much of an object is going to be read. */
enum object_want {
	WANT_ALL,
	/* By object_read_at(): hardly anything is fetched in advance. */
	WANT_PARTS,
	WANT_IDENTITY, /* no body */
};

/* What a server says about an object besides its version; "": nothing. */
struct said {
	char disposition[512]; /* Content-Disposition, may contain a name */
	char media_type[64];   /* Content-Type */
};

struct object;

struct object_ops {
	struct reader *(*stream)(struct object *o);
	int (*read_at)(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err);
	void (*close)(struct object *o);
};

struct object {
	const struct object_ops *ops;
	/* For messages: the URL without user, password and query; owned by the object. */
	const char *name;
	struct identity identity;
	struct said said;
	bool seekable;     /* object_read_at() works, and the stream can skip cheaply */
	bool not_modified; /* the version that the opener has is current: no stream */
};

/* Returns a reader of all bytes in order. May be called once; the reader belongs to the object and
 * is closed before it.
 *
 * Its errors: -ERR_CHANGED when the object was replaced meanwhile, and -ERR_RESTART when it broke
 * and cannot be continued: both ask the stage to start again from zero. Transient failures have
 * been retried already. */
struct reader *object_stream(struct object *o);

/* Reads exactly len bytes at offset, of the same version. Seekable objects only. */
int object_read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err);

void object_close(struct object *o); /* accepts NULL; cancels its requests */

#endif
