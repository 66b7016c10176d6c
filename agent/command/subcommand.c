/* SPDX-License-Identifier: MIT */
/* Lists of subcommands: finds the word, prints the help, parses the rest, and runs it with settings
 * and an agent. At the end: the list of stagerun itself. Loop thread. */
#include "subcommand.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SUBCOMMANDS_MAX = 16 };

static void print_help(const struct subcommand_list *l, FILE *to)
{
	fprintf(to, "%s\n", l->usage);
	for (size_t i = 0; i < l->n; i++)
		fprintf(to, "  %-*s %-*s%s%s\n", l->name_columns, l->v[i].name, l->word_columns,
			l->v[i].words, l->word_columns > 0 ? " " : "", l->v[i].help);
	fprintf(to, "%s\n", l->more);
}

static int print_subcommand_help(const struct subcommand_list *l, const struct subcommand *s)
{
	printf("Usage: stagerun %s %s %s [OPTIONS]\n\n%s.\n%s%s%s\nOptions:\n", l->name, s->name,
		s->words, s->help, s->more != NULL ? "\n" : "", s->more != NULL ? s->more : "",
		s->more != NULL ? "\n" : "");
	options_print(s->tables);
	return EXIT_DONE;
}

static const char *find_nearest(const struct subcommand_list *l, const char *word)
{
	const char *names[SUBCOMMANDS_MAX];
	size_t n = l->n < SUBCOMMANDS_MAX ? l->n : SUBCOMMANDS_MAX;

	for (size_t i = 0; i < n; i++)
		names[i] = l->v[i].name;
	return nearest_word(word, names, n);
}

/* Prints the list for who does not know it, on stderr since it was not asked for. */
static int refuse_none(const struct subcommand_list *l)
{
	bool nested = l->name[0] != '\0';

	print_help(l, stderr);
	log_error("%s%sno %s", l->name, nested ? ": " : "", nested ? "subcommand" : "command");
	return EXIT_USAGE;
}

static int refuse_option(const struct subcommand_list *l, const char *word)
{
	bool nested = l->name[0] != '\0';

	log_error("%s%soptions go behind the %s: stagerun %s%s%s %s", l->name, nested ? ": " : "",
		nested ? "subcommand" : "command", l->name, nested ? " " : "",
		nested ? "SUBCOMMAND" : "COMMAND", word);
	return EXIT_USAGE;
}

static int refuse_word(const struct subcommand_list *l, const char *word)
{
	bool nested = l->name[0] != '\0';
	const char *kind = nested ? "subcommand" : "command";
	const char *nearest = find_nearest(l, word);
	_free_ char *what = text_format("unknown %s '%s'", kind, word);
	_free_ char *advice = nearest != NULL ? text_format("did you mean %s?", nearest)
					      : text_format("stagerun%s%s --help lists them",
							nested ? " " : "", l->name);

	log_error("%s%s%s; %s", l->name, nested ? ": " : "", what, advice);
	return EXIT_USAGE;
}

/* One call. */

static int report(const struct subcommand_list *l, const struct subcommand *s, int code,
	const struct error *err)
{
	if (code >= 0)
		return EXIT_DONE;
	if (code != -EPIPE) /* output_end() logs it */
		log_error("%s %s: %s", l->name, s->name, err->msg);
	return code == -ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

static int run_call(const struct subcommand_list *l, const struct subcommand *s,
	struct subcommand_call *c, const struct inherited *in)
{
	struct error err = {0};
	int exit_code, code = request_settings(&c->request, &c->settings, &err);

	if (code < 0)
		return report(l, s, code, &err);
	code = agent_open(&c->agent, c->settings, in, &err);
	if (code == 0)
		code = s->run(c, &err);
	agent_close(&c->agent);
	if (c->agent.signal != 0)
		exit_code = 128 + c->agent.signal;
	else
		exit_code = c->logged ? EXIT_FAILED : report(l, s, code, &err);
	if (exit_code == EXIT_DONE && c->incomplete)
		exit_code = EXIT_FAILED;
	return agent_leave(&c->agent, exit_code);
}

static int parse_and_run(const struct subcommand_list *l, const struct subcommand *s, int argc,
	char **argv, const struct inherited *in)
{
	struct subcommand_call c = {.request.evict_to = UINT64_MAX};
	struct error err = {0};
	int exit_code = EXIT_USAGE;
	int code = options_parse_all(argc, argv, s->tables, &c.request, &c.words, &err);

	if (code < 0)
		log_error("%s %s: %s", l->name, s->name, err.msg);
	else if (c.request.help)
		exit_code = print_subcommand_help(l, s);
	else if (c.words.n < s->min_words || c.words.n > s->max_words)
		log_error("%s %s: usage: stagerun %s %s%s%s [OPTIONS]", l->name, s->name, l->name,
			s->name, s->words[0] != '\0' ? " " : "", s->words);
	else
		exit_code = run_call(l, s, &c, in);
	settings_free(c.settings);
	text_strings_done(&c.words);
	request_done(&c.request);
	return exit_code;
}

int subcommand_dispatch(
	const struct subcommand_list *l, int argc, char **argv, const struct inherited *in)
{
	if (argc < 2)
		return refuse_none(l);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(l, stdout);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < l->n; i++) {
		const struct subcommand *s = &l->v[i];

		if (strcmp(argv[1], s->name) != 0)
			continue;
		return s->main != NULL ? s->main(argc - 1, argv + 1, in)
				       : parse_and_run(l, s, argc - 2, argv + 2, in);
	}
	return argv[1][0] == '-' ? refuse_option(l, argv[1]) : refuse_word(l, argv[1]);
}

/* The commands of stagerun. */

static const struct subcommand commands[] = {
	{"run", "", "stage, run the actions, then the command", .main = command_run},
	{"prewarm", "", "stage only", .main = command_prewarm},
	{"fetch", "", "stage one source, no config at all", .main = command_fetch},
	{"datastore", "", "create, list, get and delete datastores", .main = command_datastore},
	{"cache", "", "what the node keeps of what was staged: list, evict, verify, clear",
		.main = command_cache},
	{"status", "", "what the newest run is doing; for people and probes",
		.main = command_status},
	{"hook", "", "run one lifecycle point of config.yml by hand", .main = command_hook},
};

static const struct subcommand_list program = {
	.name = "",
	.usage = "Usage: stagerun COMMAND ...\n\n"
		 "Brings a run's data to where it is read, then becomes the run's command.\n",
	.more = "\nstagerun COMMAND --help tells more. stagerun --version (-V) tells the version.",
	.name_columns = 10,
	.v = commands,
	.n = ARRAY_LEN(commands),
};

int command_dispatch(int argc, char **argv, const struct inherited *in)
{
	if (argc < 2 || (strcmp(argv[1], "--version") != 0 && strcmp(argv[1], "-V") != 0))
		return subcommand_dispatch(&program, argc, argv, in);
	puts("stagerun " STAGERUN_VERSION);
	return EXIT_DONE;
}
