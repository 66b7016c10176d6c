/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REDACT_H
#define STAGERUN_REDACT_H

#include <stddef.h>

/* Values that must not appear in the agent's own output. Process-wide, like the log, which hides
 * them in every line; other output has to pass through redact(). Any thread. */

/* A shorter value would hide ordinary words. */
enum { REDACT_MIN_BYTES = 6 };

/* Hides value from now on: each of its lines that has at least REDACT_MIN_BYTES without the blanks
 * around it, also as it would be spelled in a JSON string. Cannot be undone. The value is
 * copied. */
void redact_add(const char *value);

/* Returns a copy of the len bytes at s, on the heap and NUL-terminated, with "***" for every secret
 * in it: the longest one where several begin, and one for several that overlap. NULL: it contains
 * no secret; that is cheap while no secret is known. ret_len may be NULL. */
char *redact(const char *s, size_t len, size_t *ret_len);

/* The same for a heap string that the caller owns: returns s, or frees s and returns the copy. */
char *redact_own(char *s);

#endif
