/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PATIENCE_H
#define STAGERUN_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* Decides how often a request is retried. On a fresh node the network, its name server, a sidecar
 * or the server itself may come up later than the agent: until a host has answered once, the
 * elapsed time decides, and from then on the number of attempts. One object for all requests of all
 * threads, so that a host is logged once. Any thread, except for the first two functions; all
 * accept NULL: then only attempts count. */

struct patience;

struct patience *patience_new(uint64_t ms); /* 0: NULL */
/* Does not wait for a lookup of a name that is under way. */
void patience_free(struct patience *p);

/* The consecutive failed attempts of one request. Zero-initialized by the caller. */
struct tried {
	unsigned failed;
	uint64_t since_ns; /* when the first of them ended */
	bool by_time;      /* the last decision was made by time */
};

/* Why an attempt failed. Strings are borrowed. */
struct failed_attempt {
	long status;      /* of the response; 0: there was none */
	const char *name; /* that could not be resolved; NULL: that was not the failure */
	const char *why;  /* the error message */
};

/* Whether a status means that the server is not ready yet, or that a proxy does not reach it. */
bool patience_is_busy(long status);

/* Records that the host of url has answered with this status. */
void patience_answered(struct patience *p, const char *url, long status);

/* After a failed attempt: counts it, and returns whether to retry. A host that has not answered yet
 * is retried for the configured time from its first failure on, which is logged; a name that does
 * not exist gets only the retries. */
bool patience_again(struct patience *p, const char *url, struct tried *t, unsigned retries,
	const struct failed_attempt *why);

/* Returns the exponent of the backoff after the last failure, from 1 on. Waits for a host that has
 * not answered yet stay short, so that it is reached soon after it comes up. */
unsigned patience_step(const struct tried *t);

/* Prints "gave up after 5 attempts", or "gave up after 60 s: patience in [network] of agent.ini".
 * Returns buf. */
const char *patience_end(const struct patience *p, const struct tried *t, char buf[static 96]);

#endif
