/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REDACT_H
#define STAGERUN_REDACT_H

#include <stddef.h>

/* Values that must not be seen in anything the agent itself prints. Process-wide, beside the log,
 * which hides them in every line; whoever prints in another way calls redact() for it. Any thread. */

/* A shorter value would blank out ordinary words. */
enum { REDACT_MIN_BYTES = 6 };

/* Hides value from now on: each of its lines, without the blanks around it, when it has at least
 * REDACT_MIN_BYTES; also as a JSON string would spell it. There is no way back. */
void redact_add(const char *value);

/* A copy of the len bytes at s, on the heap and with a NUL behind it, with "***" for every secret in
 * it, the longest where several begin, one for several that overlap; NULL when there is none in it,
 * which costs next to nothing while no secret is known. ret_len may be NULL. */
char *redact(const char *s, size_t len, size_t *ret_len);

/* The same for a string that is the caller's own on the heap: s itself, or s is freed. */
char *redact_own(char *s);

#endif
