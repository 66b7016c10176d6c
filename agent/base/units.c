/* SPDX-License-Identifier: MIT */
/* Values as people write and read them: sizes, durations, switches; and what gets around a value
 * on its way. Any thread. */
#include "defer.h"
#include "log.h"
#include "text.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Parses a non-negative decimal number, without strtod's signs, exponents, hex and "nan". */
static const char *scan_number(const char *s, double *ret)
{
	const char *end = s + strspn(s, "0123456789.");
	char *parsed;

	if (end == s || end - s > 30 || *end == 'x')
		return NULL;
	*ret = strtod(s, &parsed);
	return parsed == end ? end : NULL;
}

static const char *scan_binary_prefix(const char *s, double *factor)
{
	static const char prefixes[] = "kmgtp";
	const char *at = *s != '\0' ? strchr(prefixes, tolower((unsigned char)*s)) : NULL;

	*factor = 1;
	if (at == NULL)
		return s;
	*factor = ldexp(1, 10 * (int)(at - prefixes + 1));
	return s[1] == 'i' ? s + 2 : s + 1;
}

int units_parse_size(const char *s, uint64_t *ret_bytes, struct error *err)
{
	double number, factor;
	const char *rest = scan_number(s, &number);

	if (rest != NULL) {
		while (*rest == ' ')
			rest++;
		rest = scan_binary_prefix(rest, &factor);
		if (*rest == 'B' || *rest == 'b')
			rest++;
	}
	if (rest == NULL || *rest != '\0' || number * factor >= 0x1p63)
		return error_set(err, -ERR_CONFIG,
			"'%s' is not a size (a number with K, M, G or T behind it: 64M)", s);
	*ret_bytes = (uint64_t)(number * factor);
	return 0;
}

static const struct unit {
	const char *name;
	double ms;
} duration_units[] = {
	{"ms", 1},
	{"s", 1e3},
	{"m", 60e3},
	{"h", 3600e3},
	{"d", 86400e3},
	{"", 1e3},
};

static const char *scan_duration_unit(const char *s, double *ms)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz");

	for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
		const char *name = duration_units[i].name;

		if (strlen(name) == len && strncmp(s, name, len) == 0) {
			*ms = duration_units[i].ms;
			return s + len;
		}
	}
	return NULL;
}

int units_parse_duration(const char *s, uint64_t *ret_ms, struct error *err)
{
	const char *rest = s;
	double total = 0;

	do {
		double number, ms;

		rest = scan_number(rest, &number);
		if (rest != NULL)
			rest = scan_duration_unit(rest, &ms);
		if (rest != NULL)
			total += number * ms;
	} while (rest != NULL && *rest != '\0');
	if (rest == NULL || total >= 0x1p53)
		return error_set(err, -ERR_CONFIG,
			"'%s' is not a duration (seconds, or with ms, s, m, h or d: 1h30m)", s);
	*ret_ms = (uint64_t)total;
	return 0;
}

int units_parse_uint(const char *s, uint64_t max, uint64_t *ret, struct error *err)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end != '\0')
		return error_set(err, -ERR_CONFIG, "'%s' is not a whole number", s);
	if (errno == ERANGE || n > max)
		return error_set(err, -ERR_CONFIG, "%s is too large (at most %llu)", s,
			(unsigned long long)max);
	*ret = n;
	return 0;
}

int units_parse_bool(const char *s, bool *ret, struct error *err)
{
	static const char *const words[][2] = {
		{"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		for (int value = 0; value < 2; value++) {
			if (strcasecmp(s, words[i][value]) == 0) {
				*ret = value;
				return 0;
			}
		}
	}
	return error_set(err, -ERR_CONFIG, "'%s' is neither yes nor no", s);
}

const char *units_print_size(uint64_t bytes, char buf[static 32])
{
	static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double n = (double)bytes;
	size_t i = 0;

	while (n >= 999.5 && i + 1 < ARRAY_LEN(names)) {
		n /= 1000;
		i++;
	}
	snprintf(buf, 32,
		i == 0 || n >= 99.95 ? "%.0f %s"
		: n >= 9.995         ? "%.1f %s"
				     : "%.2f %s",
		n, names[i]);
	return buf;
}

const char *units_print_memory(uint64_t bytes, char buf[static 32])
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double n = (double)bytes, tenths;
	size_t i = 0;

	while (n >= 1023.95 && i + 1 < ARRAY_LEN(names)) {
		n /= 1024;
		i++;
	}
	tenths = round(n * 10);
	snprintf(buf, 32, fmod(tenths, 10) == 0 ? "%.0f %s" : "%.1f %s", tenths / 10, names[i]);
	return buf;
}

const char *units_print_duration(uint64_t ns, char buf[static 32])
{
	uint64_t ms = (ns + 500000) / 1000000;
	unsigned long long s = (ms + 500) / 1000;

	if (ms < 1000)
		snprintf(buf, 32, "%u ms", (unsigned)ms);
	else if (ms < 10000)
		snprintf(buf, 32, "%.2f s", (double)ms / 1e3);
	else if (ms < 60000)
		snprintf(buf, 32, "%.1f s", (double)ms / 1e3);
	else if (s < 3600)
		snprintf(buf, 32, "%llu min %llu s", s / 60, s % 60);
	else
		snprintf(buf, 32, "%llu h %llu min", s / 3600, s / 60 % 60);
	return buf;
}

struct tm *units_date(time_t t, struct tm *ret)
{
	const time_t first = -62167219200, last = 253402300799;

	t = t < first ? first : t > last ? last : t;
	return gmtime_r(&t, ret);
}

static const char http_date[] = "%a, %d %b %Y %H:%M:%S GMT";

time_t units_parse_http_date(const char *s)
{
	struct tm tm = {0};

	return strptime(s, http_date, &tm) != NULL ? timegm(&tm) : 0;
}

const char *units_print_http_date(time_t t, char buf[static 32])
{
	struct tm tm;

	strftime(buf, 32, http_date, units_date(t, &tm));
	return buf;
}

/* Trimming: blanks that get around a value when it is copied, read from a file or generated by a
 * template, and bytes that no value contains. */

static const char *const blanks[] = {" ", "\t", "\r", "\n", "\v", "\f", "\xc2\xa0", "\xef\xbb\xbf"};

/* Returns the length of the blank that s begins with; 0: none. */
static size_t blank_at(const char *s)
{
	for (size_t i = 0; i < ARRAY_LEN(blanks); i++)
		if (strncmp(s, blanks[i], strlen(blanks[i])) == 0)
			return strlen(blanks[i]);
	return 0;
}

/* Returns the length of the blank at the end of the first len bytes of s; 0: none. */
static size_t blank_before(const char *s, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(blanks); i++) {
		size_t n = strlen(blanks[i]);

		if (len >= n && memcmp(s + len - n, blanks[i], n) == 0)
			return n;
	}
	return 0;
}

static char *trim(const char *value, bool *ret_cut)
{
	const char *s = value;
	size_t len, n;

	while ((n = blank_at(s)) > 0)
		s += n;
	len = strlen(s);
	while ((n = blank_before(s, len)) > 0)
		len -= n;
	*ret_cut = s != value || s[len] != '\0';
	return text_format("%.*s", (int)len, s);
}

/* Returns the index of the first control character; -1: there is none. */
static int find_control(const char *s, const char *allowed)
{
	for (const char *c = s; *c != '\0'; c++)
		if (((unsigned char)*c < ' ' || *c == 127) && strchr(allowed, *c) == NULL)
			return (int)(c - s);
	return -1;
}

int text_clean_value(
	const char *what, const char *value, const char *allowed, char **ret, struct error *err)
{
	bool was_cut;
	_free_ char *clean = trim(value, &was_cut);
	int at = find_control(clean, allowed);

	if (at >= 0)
		return error_set(err, -ERR_CONFIG,
			"%s: byte %d of its value is a control character (0x%02x), which no such value has; set it anew",
			what, at + 1, (unsigned char)clean[at]);
	if (was_cut)
		log_warn("%s: blanks or line ends around its value are cut off", what);
	*ret = take_ptr(&clean);
	return 0;
}
