/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_URL_H
#define STAGERUN_SOURCE_URL_H

#include <stddef.h>

/* Text of URLs, cut where RFC 3986 cuts it. Never fails: what cannot be cut is kept whole. */

/* The length of "scheme://" at the front, 0 when url has none (a plain path). */
size_t url_scheme_len(const char *url);

/* "%41" -> "A". A '%' that no two hex digits follow is kept. Heap string. */
char *percent_decode(const char *s, size_t len);

#endif
