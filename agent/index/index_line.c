/* SPDX-License-Identifier: MIT */
/* The fields of an index's lines. What is not exactly as the format has it is refused: two readers that
 * understand one index differently would stage two different trees. Pure; any thread. */
#include "index_line.h"
#include <limits.h>
#include <string.h>

size_t line_split(char *line, char **fields, size_t max)
{
	size_t n = 0;

	for (char *next = line; next != NULL; n++) {
		char *tab = strchr(next, '\t');

		if (n == max)
			return max + 1;
		fields[n] = next;
		if (tab != NULL)
			*tab++ = '\0';
		next = tab;
	}
	return n;
}

static bool digits(const char **s, unsigned base, uint64_t max, uint64_t *ret)
{
	const char *p = *s;
	uint64_t n = 0;

	for (; *p >= '0' && (unsigned)(*p - '0') < base; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (digit > max || n > (max - digit) / base)
			return false;
		n = n * base + digit;
	}
	if (p == *s)
		return false;
	*s = p;
	*ret = n;
	return true;
}

bool field_number(const char *s, uint64_t max, uint64_t *ret)
{
	return digits(&s, 10, max, ret) && *s == '\0';
}

bool field_mode(const char *s, mode_t *ret)
{
	uint64_t mode;

	if (!digits(&s, 8, 07777, &mode) || *s != '\0')
		return false;
	*ret = (mode_t)mode;
	return true;
}

bool field_time(const char *s, struct timespec *ret)
{
	bool negative = *s == '-';
	uint64_t seconds, nanoseconds;
	const char *fraction;

	s += negative;
	if (!digits(&s, 10, INT64_MAX, &seconds) || *s != '.')
		return false;
	fraction = ++s;
	if (!digits(&s, 10, 999999999, &nanoseconds) || *s != '\0' || s - fraction != 9)
		return false;
	ret->tv_sec = negative ? -(time_t)seconds : (time_t)seconds;
	ret->tv_nsec = (long)nanoseconds;
	return true;
}

static char meaning(char escaped)
{
	switch (escaped) {
	case 't':
		return '\t';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case '\\':
		return '\\';
	default:
		return '\0';
	}
}

bool field_unescape(char *s)
{
	char *to = strchr(s, '\\');

	if (to == NULL)
		return true;
	for (const char *from = to; *from != '\0'; from++) {
		*to = *from == '\\' ? meaning(*++from) : *from;
		if (*to++ == '\0')
			return false;
	}
	*to = '\0';
	return true;
}

bool field_sha256(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static bool component_is_plain(const char *s, size_t len)
{
	if (len == 0 || len > NAME_MAX)
		return false;
	return s[0] != '.' || !(len == 1 || (len == 2 && s[1] == '.'));
}

bool path_is_plain(const char *path)
{
	const char *s = path;

	if (strcmp(path, ".") == 0)
		return true;
	if (strlen(path) >= PATH_MAX)
		return false;
	for (;;) {
		const char *end = strchrnul(s, '/');

		if (!component_is_plain(s, (size_t)(end - s)))
			return false;
		if (*end == '\0')
			return true;
		s = end + 1;
	}
}

bool key_is_plain(const char *key)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._/-";

	return key[strspn(key, allowed)] == '\0' && path_is_plain(key) && strcmp(key, ".") != 0;
}
