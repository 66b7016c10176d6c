/* SPDX-License-Identifier: MIT */
/* `stagerun fetch SOURCE DIR`: stage one source, no config at all. */
#include "agent.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "request.h"
#include "runfile.h"
#include "source.h"
#include <ctype.h>
#include <stdio.h>

static const struct option_row *const tables[] = {
	select_rows, fetch_rows, store_rows, common_rows, NULL};

static void print_help(void)
{
	puts("Usage: stagerun fetch [OPTIONS] SOURCE DIR\n\n"
	     "Stages SOURCE (an http, https, s3 or file URL, a path, or datastore:NAME[:V])\n"
	     "into DIR.\n\nOptions:");
	options_print(tables);
}

static int fill_spec(struct request *r, const char *word, const char *dir, struct error *err)
{
	_free_ char *source = copy_text(word);
	char lower[65] = "";
	int code = source_check(source, err);

	if (code == 0)
		code = datastore_source(&source, err);
	if (code < 0)
		return code;

	for (size_t i = 0; r->sha256 != NULL && i < 64; i++)
		lower[i] = (char)tolower((unsigned char)r->sha256[i]);
	stage_spec_add_source(&r->fetch, source, r->sha256 != NULL ? lower : NULL);
	r->fetch.to = copy_text(dir);
	r->fetch.origin = copy_text("fetch");
	return 0;
}

static int fetch(struct request *r, const struct inherited *in)
{
	struct settings *settings = NULL;
	struct error err = {0};
	struct agent agent = {0};
	int exit_code, code = request_settings(r, &settings, &err);

	if (code < 0) {
		log_error("%s", err.msg);
		return EXIT_FAILED;
	}
	code = agent_open(&agent, settings, in, &err);
	if (code < 0)
		log_error("%s", err.msg);
	else
		code = agent_stage(&agent, &r->fetch, 1, &err);
	agent_close(&agent);
	if (agent.signal != 0)
		exit_code = agent_leave(&agent, 128 + agent.signal);
	else
		exit_code = code < 0 ? EXIT_FAILED : EXIT_DONE;
	settings_free(settings);
	return exit_code;
}

int command_fetch(int argc, char **argv, const struct inherited *in)
{
	struct request r = {0};
	struct error err;
	int rest = 0, exit_code = EXIT_USAGE;
	char **words;

	if (options_parse(argc - 1, argv + 1, tables, &r, &rest, &err) < 0) {
		log_error("fetch: %s", err.msg);
	} else if (words = argv + 1 + rest, r.help) {
		print_help();
		exit_code = EXIT_DONE;
	} else if (argc - 1 - rest > 2 && words[2][0] == '-') {
		log_error("fetch: options go before SOURCE: stagerun fetch %s ... SOURCE DIR",
			words[2]);
	} else if (argc - 1 - rest != 2) {
		log_error("fetch: usage: stagerun fetch [OPTIONS] SOURCE DIR");
	} else if (fill_spec(&r, words[0], words[1], &err) < 0) {
		log_error("fetch: %s", err.msg);
	} else {
		exit_code = fetch(&r, in);
	}
	request_done(&r);
	return exit_code;
}
