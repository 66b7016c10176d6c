/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_URL_H
#define STAGERUN_URL_H

#include "text.h"
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/* Text of URLs, split where RFC 3986 splits it. These functions never fail: what cannot be split is
 * kept whole. No I/O, and no knowledge of protocols. Any thread. */

/* The length of "scheme://" at the front; 0: url has none (a plain path). */
size_t url_scheme_len(const char *url);

/* For a misspelt URL: the length of the part in place of "scheme://"; 0: url is not misspelt. */
size_t url_misspelt_len(const char *url);
/* Whether url begins with a user and a password, without a scheme. */
bool url_has_bare_user(const char *url);

/* Whether a plain path may be a URL whose scheme was left out. */
bool url_looks_like_host(const char *path);

/* The following four return heap strings, the caller's to free. */

/* Decodes the first len bytes of s: "%41" becomes "A". A '%' without two hex digits after it is
 * kept. */
char *url_decode(const char *s, size_t len);

/* For messages: no user, password, query or fragment. */
char *url_display(const char *url);
/* Identifies a source in state files: no user and password, no signature parameters (X-Amz-*,
 * X-Goog-*, sig, Signature, ...). */
char *url_key(const char *url);
/* The last path component, percent-decoded. "data" if that is "", "." or "..", or contains a '/'.
 */
char *url_file_name(const char *url);

/* Hides (redact.h) user and password of a URL, also percent-decoded. Without a scheme, the part
 * before the first '/', '?' or '#' is parsed as user, password and host. Accepts NULL. */
void url_redact(const char *given);

/* Adds the names that the URL has for its object: first the last component of its path, and then,
 * if that is the name of a program rather than a file, the values of its parameters. */
void url_names(const char *url, struct strings *ret);

/* url_expired(): a message if the URL's signature (AWS, Google, Azure, CloudFront) has expired
 * at `now`, else NULL; heap. url_is_login(): whether it looks like the URL of a login page. */
char *url_expired(const char *url, time_t now);
bool url_is_login(const char *url);

/* The path of a file:// URL, percent-decoded; NULL: it names another host. Heap string. */
char *url_file_path(const char *url);

#endif
