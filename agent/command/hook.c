/* SPDX-License-Identifier: MIT */
/* `stagerun hook POINT`: run one lifecycle point of config.yml by hand, as `RUN stagerun hook
 * on_build_end` does in a Dockerfile. */
#include "agent.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "plan.h"
#include "scratch.h"
#include <stdio.h>
#include <string.h>

static const struct option_row *const tables[] = {config_rows, common_rows, NULL};

struct by_hand {
	struct request request;
	struct settings *settings;
	enum lifecycle_point point;
	struct plan plan;
	struct agent agent;
};

static void print_variable(void *ctx, const char *name, const char *where, const char *meaning)
{
	const char **heading = ctx;

	if (*heading == NULL || strcmp(*heading, where) != 0)
		printf("\n%s:\n", where);
	*heading = where;
	printf("  %-25s %s\n", name, meaning);
}

static void print_help(void)
{
	const char *heading = NULL;

	puts("Usage: stagerun hook POINT [OPTIONS]\n\n"
	     "Runs the actions of one lifecycle point of config.yml: on_build_start, on_build,\n"
	     "on_build_end, on_experiment_start or on_experiment_end.\n\nOptions:");
	options_print(tables);
	puts("\nVariables");
	contract_describe(print_variable, &heading);
}

/* The point may stand before the options, or after them. */
static int parse_words(struct by_hand *h, int argc, char **argv, struct error *err)
{
	int rest = 0, more = 0, code;
	const char *word;

	code = options_parse(argc, argv, tables, &h->request, &rest, err);
	if (code < 0 || h->request.help)
		return code;
	if (rest == argc)
		return error_set(err, -ERR_USAGE, "no point; usage: stagerun hook POINT [OPTIONS]");
	word = argv[rest++];
	code = options_parse(argc - rest, argv + rest, tables, &h->request, &more, err);
	if (code < 0 || h->request.help)
		return code;
	if (rest + more < argc)
		return error_set(err, -ERR_USAGE, "one point at a time, but there is also '%s'",
			argv[rest + more]);
	return lifecycle_point_parse(word, &h->point, err);
}

static int work(struct by_hand *h, const struct inherited *in)
{
	struct plan *p = &h->plan;
	struct error err = {0};
	bool logged = false;
	int code = agent_open(&h->agent, h->settings, in, &err);

	h->agent.facts.config_path = p->runfile->path;
	if (code == 0)
		code = make_scratch(p->runfile, in, &err);
	if (code == 0 && p->n_head > 0) {
		code = agent_stage(&h->agent, p->head, p->n_head, &err);
		logged = code < 0;
	}
	h->agent.facts.staged = &p->destinations;
	if (code == 0 && p->first_action < plan_actions(p, h->point)->n)
		code = agent_actions(
			&h->agent, p->runfile, h->point, p->first_action, &p->environment, &err);
	agent_close(&h->agent);
	if (h->agent.signal != 0)
		return agent_leave(&h->agent, 128 + h->agent.signal);
	if (code < 0 && !logged)
		log_error("%s", err.msg);
	return code < 0 ? EXIT_FAILED : EXIT_DONE;
}

static int run_point(struct by_hand *h, const struct inherited *in)
{
	struct error err = {0};
	int code = request_settings(&h->request, &h->settings, &err);

	if (code == 0)
		code = plan_make_point(&h->request, h->settings, h->point, &h->plan, &err);
	if (code < 0) {
		log_error("hook: %s", err.msg);
		return code == -ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
	}
	if (plan_actions(&h->plan, h->point)->n == 0) {
		log_info("%s has no %s actions: nothing to do", h->plan.runfile->path,
			lifecycle_point_name(h->point));
		return EXIT_DONE;
	}
	return work(h, in);
}

int command_hook(int argc, char **argv, const struct inherited *in)
{
	struct by_hand h = {0};
	struct error err;
	int exit_code = EXIT_DONE;

	if (parse_words(&h, argc - 1, argv + 1, &err) < 0) {
		log_error("hook: %s", err.msg);
		exit_code = EXIT_USAGE;
	} else if (h.request.help) {
		print_help();
	} else {
		exit_code = run_point(&h, in);
	}
	plan_done(&h.plan);
	settings_free(h.settings);
	request_done(&h.request);
	return exit_code;
}
