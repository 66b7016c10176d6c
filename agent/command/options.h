/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OPTIONS_H
#define STAGERUN_OPTIONS_H

#include "error.h"
#include "text.h"
#include <stdbool.h>

/* Command-line options, by tables: the same rows parse and print the help, so the two cannot
 * disagree. Every row is "--name VALUE", "--name=VALUE" or, without a metavar, a switch; '_' and
 * '-' in names are one. Options end at "--" or at the first word that is not one. */

struct option_row {
	const char *name;    /* "config"; NULL ends a table */
	char letter;         /* 'v', or 0 */
	const char *metavar; /* "FILE"; NULL: a switch */
	const char *help;
	/* value is NULL for a switch. -ERR_USAGE with a sentence. */
	int (*take)(void *into, const char *value, struct error *err);
};

/* tables: NULL-terminated. *ret_rest: the index of the first word that was not taken. */
int options_parse(int argc, char **argv, const struct option_row *const *tables, void *into,
	int *ret_rest, struct error *err);

/* The same for a command without a command of its own behind it: options may come after words, which all go to
 * *ret_words. */
int options_parse_all(int argc, char **argv, const struct option_row *const *tables, void *into,
	struct strings *ret_words, struct error *err);

/* One line for each row, to stdout. */
void options_print(const struct option_row *const *tables);

#endif
