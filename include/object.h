/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OBJECT_H
#define STAGERUN_OBJECT_H

#include "error.h"
#include "reader.h"
#include <stdbool.h>
#include <stdint.h>

/* One version of the bytes behind a source, opened. Worker threads; one thread at a time, except
 * that read_at() may be called while another thread pulls the stream. */

/* What tells one version from another (RFC 9110 section 8.8). */
struct identity {
	char etag[256]; /* strong ETag as sent, quotes included; "" without one, or when weak */
	char last_modified[64]; /* as sent; "" without one */
	uint64_t size;          /* SIZE_UNKNOWN without one */
};

/* Whether id pins a version: a strong ETag, or Last-Modified together with the size. */
bool identity_pins(const struct identity *id);
/* Whether a and b are both pinned, the same way, to the same version. */
bool identity_same(const struct identity *a, const struct identity *b);

/* How much of an object its opener wants. */
enum object_want {
	WANT_ALL,
	WANT_PARTS,    /* here and there: hardly anything is fetched before it is asked for */
	WANT_IDENTITY, /* no body */
};

struct object;

struct object_ops {
	struct reader *(*stream)(struct object *o);
	int (*read_at)(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err);
	void (*close)(struct object *o);
};

struct object {
	const struct object_ops *ops;
	const char *name; /* for messages: the URL without user, password and query; the object's */
	struct identity identity;
	bool seekable;     /* object_read_at() works, and the stream can skip cheaply */
	bool not_modified; /* the version the opener already has is the current one: no stream */
};

/* All bytes in order, from the first. Once only; the reader is the object's and is closed before it.
 *
 * Its errors: -ERR_CHANGED when the object was replaced meanwhile and -ERR_RESTART when it broke and
 * cannot be continued: both ask the stage to start again from zero. Everything transient was already
 * retried. */
struct reader *object_stream(struct object *o);

/* Exactly len bytes at offset, of the same version; seekable objects only. */
int object_read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err);

void object_close(struct object *o); /* accepts NULL; stops what is under way */

#endif
