/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SUBCOMMAND_H
#define STAGERUN_SUBCOMMAND_H

#include "agent.h"
#include "options.h"
#include <stdbool.h>

/* What the first words of a command line stand for: `stagerun WORD`, `stagerun cache WORD` and
 * `stagerun datastore WORD`, each a list of rows. Loop thread.
 *
 * subcommand_dispatch() finds the row, or prints the help of the list, or logs what is wrong. A row
 * with main() gets the rest of the command line as it is. For the others the rest is parsed, and
 * run() is called with settings and an opened agent. */

/* One call of a row with run(). */
struct subcommand_call {
	struct request request;
	struct strings words; /* those that are no options */
	struct settings *settings;
	struct agent agent; /* opened */
	bool logged;        /* the error was already logged */
	bool incomplete; /* a part failed, which was logged, and the rest was done: exit status 1 */
};

struct subcommand {
	const char *name;
	const char *words; /* that follow it, for people: "NAME[:V] DIR"; "": none */
	const char *help;
	const char *more; /* a further paragraph of its help; NULL: none */
	const struct option_row *const *tables;
	size_t min_words, max_words;
	int (*run)(struct subcommand_call *c, struct error *err); /* returns 0 or a negative code */
	int (*main)(int argc, char **argv, const struct inherited *in); /* returns the exit code */
};

struct subcommand_list {
	const char *name;               /* "datastore"; "": of stagerun itself */
	const char *usage, *more;       /* the first and the last lines of its help */
	int name_columns, word_columns; /* widths in the help */
	const struct subcommand *v;
	size_t n;
};

/* argv[0] is the list's own word. Returns the exit code. */
int subcommand_dispatch(
	const struct subcommand_list *l, int argc, char **argv, const struct inherited *in);

/* The rows of `stagerun`. argv[0] is the subcommand's name. Each returns the exit code of the
 * process, and is called once. */
int command_run(int argc, char **argv, const struct inherited *in);
int command_prewarm(int argc, char **argv, const struct inherited *in);
int command_fetch(int argc, char **argv, const struct inherited *in);
int command_datastore(int argc, char **argv, const struct inherited *in);
int command_cache(int argc, char **argv, const struct inherited *in);
int command_status(int argc, char **argv, const struct inherited *in);
int command_hook(int argc, char **argv, const struct inherited *in);

#endif
