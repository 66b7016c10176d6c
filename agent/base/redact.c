/* SPDX-License-Identifier: MIT */
/* The secrets, and the search for them in a line: at each byte with which some secret begins, all
 * are compared, the longest first. The usual case, no secret at all, does not take the lock. Any
 * thread. */
#include "redact.h"
#include "defer.h"
#include "text.h"
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct secret {
	char *bytes;
	size_t len;
};

static struct {
	atomic_bool any;

	/* Under lock. */
	pthread_rwlock_t lock;
	struct secret *v; /* the longest first */
	size_t n;
	bool begins[256]; /* whether a secret begins with the byte */
} secrets = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static bool is_known_locked(const char *bytes, size_t len)
{
	for (size_t i = 0; i < secrets.n; i++)
		if (secrets.v[i].len == len && memcmp(secrets.v[i].bytes, bytes, len) == 0)
			return true;
	return false;
}

static void insert_locked(const char *bytes, size_t len)
{
	struct secret *v = reallocarray(secrets.v, secrets.n + 1, sizeof(*v));
	size_t at = 0;

	if (v == NULL)
		abort();
	while (at < secrets.n && v[at].len >= len)
		at++;
	memmove(v + at + 1, v + at, (secrets.n - at) * sizeof(*v));
	v[at] = (struct secret){.bytes = text_format("%.*s", (int)len, bytes), .len = len};
	secrets.v = v;
	secrets.n++;
	secrets.begins[(unsigned char)bytes[0]] = true;
	atomic_store(&secrets.any, true);
}

static void add_secret(const char *bytes, size_t len)
{
	if (len < REDACT_MIN_BYTES)
		return;
	pthread_rwlock_wrlock(&secrets.lock);
	if (!is_known_locked(bytes, len))
		insert_locked(bytes, len);
	pthread_rwlock_unlock(&secrets.lock);
}

/* Adds the line as it appears inside a JSON string, with and without \u for characters outside
 * ASCII. */
static void add_json_forms(const char *line)
{
	static const size_t forms[] = {0, JSON_ENSURE_ASCII};
	json_t *string = json_string(line); /* NULL: not UTF-8, so it has no such form */

	for (size_t i = 0; string != NULL && i < ARRAY_LEN(forms); i++) {
		_free_ char *quoted = json_dumps(string, JSON_ENCODE_ANY | forms[i]);

		if (quoted != NULL)
			add_secret(quoted + 1, strlen(quoted) - 2);
	}
	json_decref(string);
}

void redact_add(const char *value)
{
	static const char blanks[] = " \t\r\n";

	while (*(value += strspn(value, blanks)) != '\0') {
		size_t whole = strcspn(value, "\n"), len = whole;
		_free_ char *line = NULL;

		while (strchr(blanks, value[len - 1]) != NULL)
			len--;
		if (len >= REDACT_MIN_BYTES) {
			line = text_format("%.*s", (int)len, value);
			add_secret(line, len);
			add_json_forms(line);
		}
		value += whole;
	}
}

/* Returns the length of the longest secret that s begins with; 0: none. */
static size_t match_locked(const char *s, size_t len)
{
	if (!secrets.begins[(unsigned char)*s])
		return 0;
	for (size_t i = 0; i < secrets.n; i++)
		if (secrets.v[i].len <= len && memcmp(secrets.v[i].bytes, s, secrets.v[i].len) == 0)
			return secrets.v[i].len;
	return 0;
}

/* Returns the end of the secrets that begin at from, and of those that overlap them; from: there is
 * none. */
static size_t match_end_locked(const char *s, size_t len, size_t from)
{
	size_t end = from + match_locked(s + from, len - from);

	for (size_t i = from + 1; i < end; i++) {
		size_t other = i + match_locked(s + i, len - i);

		if (other > end)
			end = other;
	}
	return end;
}

static void hide_locked(const char *s, size_t len, struct text *to)
{
	size_t copied = 0;

	for (size_t at = 0; at < len;) {
		size_t end = match_end_locked(s, len, at);

		if (end == at) {
			at++;
			continue;
		}
		text_add_bytes(to, s + copied, at - copied);
		text_add(to, "***");
		at = copied = end;
	}
	if (copied > 0)
		text_add_bytes(to, s + copied, len - copied);
}

char *redact(const char *s, size_t len, size_t *ret_len)
{
	struct text t = {0};

	if (!atomic_load(&secrets.any))
		return NULL;
	pthread_rwlock_rdlock(&secrets.lock);
	hide_locked(s, len, &t);
	pthread_rwlock_unlock(&secrets.lock);
	if (t.s != NULL && ret_len != NULL)
		*ret_len = t.len;
	return t.s;
}

char *redact_own(char *s)
{
	char *hidden = redact(s, strlen(s), NULL);

	if (hidden == NULL)
		return s;
	free(s);
	return hidden;
}
