/* SPDX-License-Identifier: MIT */
/* `stagerun fetch SOURCE DIR`: stages one source, without config.yml. Loop thread. */
#include "agent.h"
#include "command.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "options.h"
#include "source.h"
#include "subcommand.h"
#include <ctype.h>
#include <stdio.h>

static const struct option_row *const tables[] = {
	select_rows, fetch_rows, rate_rows, store_rows, common_rows, NULL};

static void print_help(void)
{
	puts("Usage: stagerun fetch [OPTIONS] SOURCE DIR\n"
	     "       stagerun fetch --join [OPTIONS] SOURCE SOURCE ... DIR\n\n"
	     "Stages SOURCE (an http, https, s3 or file URL, a path, or datastore:NAME[:V])\n"
	     "into DIR.\n\nOptions:");
	options_print(tables);
}

/* The last word is the directory. */
static int fill_spec(struct request *r, char *const *words, int n, struct error *err)
{
	_free_ char *source = n > 2 ? source_join(words, (size_t)n - 1) : text_copy(words[0]);
	const char *dir = words[n - 1];
	char lower[65] = "";
	int code =
		source != NULL
			? source_check(source, err)
			: error_set(err, -ERR_USAGE,
				  "join: a part is no URL or path: it is empty, or has a line feed in it");

	if (code == 0)
		code = datastore_ref_normalize(&source, err);
	if (code < 0)
		return code;

	for (size_t i = 0; r->sha256 != NULL && i < 64; i++)
		lower[i] = (char)tolower((unsigned char)r->sha256[i]);
	stage_spec_add_source(&r->fetch, source, r->sha256 != NULL ? lower : NULL);
	r->fetch.to = text_copy(dir);
	r->fetch.origin = text_copy("fetch");
	r->fetch.restore = r->fetch.replace;
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
		return code == -ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
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
	} else if (r.join && argc - 1 - rest < 3) {
		log_error(
			"fetch: --join needs all parts of a split file, in their order: stagerun fetch --join SOURCE SOURCE ... DIR");
	} else if (argc - 1 - rest != 2 && !r.join) {
		log_error("fetch: usage: stagerun fetch [OPTIONS] SOURCE DIR");
	} else if (fill_spec(&r, words, argc - 1 - rest, &err) < 0) {
		log_error("fetch: %s", err.msg);
	} else {
		exit_code = fetch(&r, in);
	}
	request_done(&r);
	return exit_code;
}
