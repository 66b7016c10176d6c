/* SPDX-License-Identifier: MIT */
/* What commands print: tables for people, JSON for programs, and the end of standard output. */
#include "command.h"
#include "defer.h"
#include "json_bytes.h"
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
	if (terminal)
		text_add_shown(to, s);
	else
		text_add(to, s);
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
	json_add_text(to, value);
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
