/* SPDX-License-Identifier: MIT */
/* `stagerun datastore ...`: picks the subcommand, and what all of them have in common. */
#include "command.h"
#include "datastore_call.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TABLES(name, ...) \
	static const struct option_row *const name[] = {__VA_ARGS__ store_rows, common_rows, NULL}

TABLES(create_tables, create_rows, select_rows, json_rows, );
TABLES(list_tables, json_rows, );
TABLES(get_tables, select_rows, get_rows, );
TABLES(delete_tables, delete_rows, json_rows, );
TABLES(purge_tables, purge_rows, json_rows, );
TABLES(policy_tables, policy_rows, );

static const struct subcommand {
	const char *name, *words, *help;
	const char *more; /* NULL: help says it all */
	const struct option_row *const *tables;
	size_t min_words, max_words;
	int (*run)(struct datastore_call *c, struct error *err);
} subcommands[] = {
	{"create", "SOURCE", "a new version of a datastore",
		"SOURCE is a directory, a file, an http(s) URL, or s3://bucket/prefix/. Only files "
		"that\nchanged since the version before are sent. An archive on a disk stays one "
		"file;\nof an archive by URL the content is taken.",
		create_tables, 1, 1, datastore_command_create},
	{"list", "[NAME]", "the versions there are", NULL, list_tables, 0, 1,
		datastore_command_list},
	{"files", "NAME[:V] [GLOB...]", "the files in a version", NULL, list_tables, 1, SIZE_MAX,
		datastore_command_files},
	{"get", "NAME[:V] DIR", "bring a version into a directory", NULL, get_tables, 2, 2,
		datastore_command_get},
	{"delete", "NAME[:V]", "remove a version, or all of a name",
		"What no other version needs is removed once the store's grace time is over.",
		delete_tables, 1, 1, datastore_command_delete},
	{"purge", "--yes", "remove the whole store, at once and for good", NULL, purge_tables, 0, 0,
		datastore_command_purge},
	{"policy", "--role ARN", "print the bucket policy that lets somebody read", NULL,
		policy_tables, 0, 0, datastore_command_policy},
};

static int print_help(void)
{
	puts("Usage: stagerun datastore SUBCOMMAND ...\n\n"
	     "Named, numbered, immutable datasets in a store: an S3 bucket, or a directory.\n");
	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
		printf("  %-8s %-20s %s\n", subcommands[i].name, subcommands[i].words,
			subcommands[i].help);
	puts("\nstagerun datastore SUBCOMMAND --help tells more.");
	return EXIT_DONE;
}

static int print_subcommand_help(const struct subcommand *s)
{
	printf("Usage: stagerun datastore %s %s [OPTIONS]\n\n%s.\n%s%s%s\nOptions:\n", s->name,
		s->words, s->help, s->more != NULL ? "\n" : "", s->more != NULL ? s->more : "",
		s->more != NULL ? "\n" : "");
	options_print(s->tables);
	return EXIT_DONE;
}

static int unknown_subcommand(const char *word)
{
	const char *names[ARRAY_LEN(subcommands)], *nearest;

	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
		names[i] = subcommands[i].name;
	nearest = nearest_word(word, names, ARRAY_LEN(names));
	if (nearest != NULL)
		log_error("datastore: unknown subcommand '%s'; did you mean %s?", word, nearest);
	else
		log_error("datastore: unknown subcommand '%s'; stagerun datastore --help lists "
			  "them",
			word);
	return EXIT_USAGE;
}

/* A reader that went away (files | head) has what it wanted. */
static int tell(const struct subcommand *s, int code, const struct error *err)
{
	if (code >= 0 && fflush(stdout) == 0)
		return EXIT_DONE;
	if (code >= 0 && errno != EPIPE)
		log_error("datastore %s: cannot write the output: %s", s->name,
			strerrordesc_np(errno));
	else if (code < 0 && code != -EPIPE)
		log_error("datastore %s: %s", s->name, err->msg);
	return code == -ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

static int run_subcommand(
	const struct subcommand *s, struct datastore_call *c, const struct inherited *in)
{
	struct error err = {0};
	int exit_code, code = request_settings(&c->request, &c->settings, &err);

	if (code < 0)
		return tell(s, code, &err);
	code = agent_open(&c->agent, c->settings, in, &err);
	if (code == 0)
		code = s->run(c, &err);
	agent_close(&c->agent);
	if (c->agent.signal != 0)
		exit_code = 128 + c->agent.signal;
	else
		exit_code = c->logged ? EXIT_FAILED : tell(s, code, &err);
	return agent_leave(&c->agent, exit_code);
}

static int parse_and_run(
	const struct subcommand *s, int argc, char **argv, const struct inherited *in)
{
	struct datastore_call c = {0};
	struct error err = {0};
	int exit_code = EXIT_USAGE;
	int code = options_parse_all(argc, argv, s->tables, &c.request, &c.words, &err);

	if (code < 0)
		log_error("datastore %s: %s", s->name, err.msg);
	else if (c.request.help)
		exit_code = print_subcommand_help(s);
	else if (c.words.n < s->min_words || c.words.n > s->max_words)
		log_error("datastore %s: usage: stagerun datastore %s %s [OPTIONS]", s->name,
			s->name, s->words);
	else
		exit_code = run_subcommand(s, &c, in);
	settings_free(c.settings);
	strings_done(&c.words);
	request_done(&c.request);
	return exit_code;
}

int command_datastore(int argc, char **argv, const struct inherited *in)
{
	if (argc < 2) {
		log_error("datastore: no subcommand; stagerun datastore --help lists them");
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return print_help();
	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return parse_and_run(&subcommands[i], argc - 2, argv + 2, in);
	}
	return unknown_subcommand(argv[1]);
}
