/* SPDX-License-Identifier: MIT */
/* What commands print: tables for people, JSON for programs, and the end of standard output. */
#include "command.h"
#include "defer.h"
#include "log.h"
#include "options.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_COLUMNS = 8 };

void output_table_add(struct table *t, const char *cell)
{
	text_strings_add(&t->cells, cell);
}

void output_table_addf(struct table *t, const char *fmt, ...)
{
	_free_ char *cell = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&cell, fmt, ap) < 0)
		abort();
	va_end(ap);
	output_table_add(t, cell);
}

struct column {
	const char *heading;
	size_t len, width;
	bool right;
};

static size_t find_columns(const char *headings, struct column columns[static MOST_COLUMNS])
{
	size_t n = 0;

	for (const char *s = headings; *s != '\0' && n < MOST_COLUMNS; n++) {
		struct column *c = &columns[n];

		c->right = *s == '>';
		c->heading = s + c->right;
		c->width = c->len = strcspn(c->heading, " ");
		s = c->heading + c->len;
		s += strspn(s, " ");
	}
	return n;
}

static void widen(struct column *columns, size_t n, const struct strings *cells)
{
	for (size_t i = 0; i < cells->n && n > 0; i++) {
		size_t width = strlen(cells->v[i]);

		if (width > columns[i % n].width)
			columns[i % n].width = width;
	}
}

/* The last column is not padded. */
static void print_cell(const struct column *c, const char *cell, size_t len, bool last, FILE *to)
{
	size_t pad = c->width > len ? c->width - len : 0;

	fprintf(to, "%*s%.*s%*s%s", c->right ? (int)pad : 0, "", (int)len, cell,
		c->right || last ? 0 : (int)pad, "", last ? "\n" : "  ");
}

void output_table_print(const struct table *t, FILE *to)
{
	struct column columns[MOST_COLUMNS];
	size_t n = find_columns(t->headings, columns);
	bool terminal = isatty(fileno(to)) != 0;

	widen(columns, n, &t->cells);
	for (size_t i = 0; i < n; i++)
		print_cell(&columns[i], columns[i].heading, columns[i].len, i + 1 == n, to);
	for (size_t i = 0; i < t->cells.n && n > 0; i++) {
		struct text shown = {0};

		output_add_shown(&shown, t->cells.v[i], terminal);
		text_add(&shown, "");
		print_cell(&columns[i % n], shown.s, shown.len, (i + 1) % n == 0, to);
		text_done(&shown);
	}
}

void output_table_done(struct table *t)
{
	text_strings_done(&t->cells);
}

void output_add_shown(struct text *to, const char *s, bool terminal)
{
	while (terminal) {
		const char *c = s;

		while ((unsigned char)*c >= 0x20 && *c != 0x7f)
			c++;
		text_add_bytes(to, s, (size_t)(c - s));
		if (*c == '\0')
			return;
		text_addf(to, "\\x%02x", (unsigned char)*c);
		s = c + 1;
	}
	text_add(to, s);
}

/* Well-formed UTF-8: the range of the first byte, that of the second, and the number of bytes;
 * table 3-7 of the Unicode standard. The third and fourth byte are always 80 to bf. */
static const struct utf8_row {
	unsigned char first, last, second_min, second_max;
	size_t len;
} utf8_rows[] = {
	{0x00, 0x7f, 0, 0, 1},
	{0xc2, 0xdf, 0x80, 0xbf, 2},
	{0xe0, 0xe0, 0xa0, 0xbf, 3},
	{0xe1, 0xec, 0x80, 0xbf, 3},
	{0xed, 0xed, 0x80, 0x9f, 3},
	{0xee, 0xef, 0x80, 0xbf, 3},
	{0xf0, 0xf0, 0x90, 0xbf, 4},
	{0xf1, 0xf3, 0x80, 0xbf, 4},
	{0xf4, 0xf4, 0x80, 0x8f, 4},
};

static bool has_valid_tail(const struct utf8_row *row, const unsigned char *s)
{
	if (row->len > 1 && (s[1] < row->second_min || s[1] > row->second_max))
		return false;
	for (size_t i = 2; i < row->len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return false;
	}
	return true;
}

/* Returns the number of bytes of the character at s; 0: it is not UTF-8. */
static size_t utf8_len(const unsigned char *s)
{
	for (size_t i = 0; i < ARRAY_LEN(utf8_rows); i++) {
		const struct utf8_row *row = &utf8_rows[i];

		if (*s >= row->first && *s <= row->last)
			return has_valid_tail(row, s) ? row->len : 0;
	}
	return 0;
}

static size_t plain_len(const char *s)
{
	size_t len = 0;

	while ((unsigned char)s[len] >= 0x20 && (unsigned char)s[len] < 0x7f && s[len] != '"' &&
		s[len] != '\\')
		len++;
	return len;
}

void output_json_string(struct text *to, const char *s)
{
	text_add_bytes(to, "\"", 1);
	while (true) {
		size_t len = plain_len(s);

		text_add_bytes(to, s, len);
		s += len;
		if (*s == '\0')
			break;
		len = utf8_len((const unsigned char *)s);
		if (*s == '"' || *s == '\\')
			text_addf(to, "\\%c", *s);
		else if (len > 1)
			text_add_bytes(to, s, len);
		else
			text_addf(to, "\\u%s%02x", len == 0 ? "dc" : "00", (unsigned char)*s);
		s += len > 0 ? len : 1;
	}
	text_add_bytes(to, "\"", 1);
}

static void add_key(struct text *to, const char *key)
{
	text_addf(to, "%s\"%s\":", to->len > 0 && to->s[to->len - 1] == '{' ? "" : ",", key);
}

void output_json_text(struct text *to, const char *key, const char *value)
{
	if (value == NULL)
		return;
	add_key(to, key);
	output_json_string(to, value);
}

void output_json_number(struct text *to, const char *key, uint64_t value)
{
	add_key(to, key);
	text_addf(to, "%llu", (unsigned long long)value);
}

void output_json_bool(struct text *to, const char *key, bool value)
{
	add_key(to, key);
	text_add(to, value ? "true" : "false");
}

/* The end of standard output. */

/* A reader that closed the pipe (stagerun datastore files | head) needs no message. */
static bool reader_closed_pipe(void)
{
	struct pollfd p = {.fd = STDOUT_FILENO};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

int output_end(int exit_code)
{
	int flushed = fflush(stdout), errnum = errno;

	if (flushed == 0 && ferror(stdout) == 0)
		return exit_code;
	if (!reader_closed_pipe())
		log_error("standard output cannot be written%s%s", flushed != 0 ? ": " : "",
			flushed != 0 ? strerrordesc_np(errnum) : "");
	return exit_code == EXIT_DONE ? EXIT_FAILED : exit_code;
}
