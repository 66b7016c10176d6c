/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TABLE_H
#define STAGERUN_TABLE_H

#include "text.h"
#include <stdio.h>

/* A table for people: columns as wide as what is in them. */

struct table {
	const char *headings; /* "NAME >FILES": those with '>' are aligned to the right */
	struct strings cells; /* row by row */
};

void table_add(struct table *t, const char *cell);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *t, FILE *to);
void table_done(struct table *t);

/* Appends s; for a terminal with its control bytes as \xNN, so that a name cannot draw on it. */
void add_shown(struct text *to, const char *s, bool terminal);
/* Appends s in quotes for JSON. A byte that is not UTF-8 becomes \udcNN, as Python has it in file names. */
void add_json_string(struct text *to, const char *s);

#endif
