/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEXT_H
#define STAGERUN_TEXT_H

#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A string that grows. Always NUL-terminated once anything was added; s is NULL before. Running out
 * of memory for text aborts: there is nothing sensible left to say. Any thread, one at a time. */
struct text {
	char *s;
	size_t len, cap;
};

void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const void *bytes, size_t len);
void text_addf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_done(struct text *t);  /* frees; accepts a zeroed one */
char *text_take(struct text *t); /* the string (never NULL), the caller's to free */

/* A growing NULL-terminated array of owned strings. */
struct strings {
	char **v; /* NULL while n == 0 */
	size_t n, cap;
};

void strings_add(struct strings *a, const char *s);
void strings_done(struct strings *a);

char *format_text(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* never NULL */
char *copy_text(const char *s); /* strdup that aborts instead of NULL; accepts NULL (gives NULL) */
void *zalloc(size_t size);      /* zeroed memory, aborts instead of NULL */

/* "64M", "1.5GiB", "100k", "12": powers of 1024, an optional B/iB. -ERR_CONFIG. */
int parse_size(const char *s, uint64_t *ret_bytes, struct error *err);
/* "90", "90s", "10m", "2h", "1d", "250ms", "1h30m": a bare number is seconds. */
int parse_duration(const char *s, uint64_t *ret_ms, struct error *err);
int parse_uint(const char *s, uint64_t max, uint64_t *ret, struct error *err);
int parse_bool(const char *s, bool *ret, struct error *err); /* yes/no true/false on/off 1/0 */

/* For people: "1.36 GB" (powers of 1000, as disks and networks are sold), "812 ms", "3.2 s", "4 min 2 s".
 * Return buf. */
const char *print_size(uint64_t bytes, char buf[static 32]);
/* Memory, in powers of 1024 as limits are set: "8 GiB", "1.5 GiB", "512 MiB". Returns buf. */
const char *print_memory(uint64_t bytes, char buf[static 32]);
const char *print_duration(uint64_t ns, char buf[static 32]);

/* The nearest of the n candidates to word by edit distance, when near enough to be a slip of the
 * hand (at most a third of its letters, and at least one allowed); else NULL. */
const char *nearest_word(const char *word, const char *const *candidates, size_t n);

#endif
