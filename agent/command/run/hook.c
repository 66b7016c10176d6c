/* SPDX-License-Identifier: MIT */
/* `stagerun hook POINT`: runs one lifecycle point of config.yml by hand, as `RUN stagerun hook
 * on_build_end` does in a Dockerfile. Loop thread. */
#include "../agent.h"
#include "../plan.h"
#include "../subcommand.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "run.h"
#include <stdio.h>
#include <string.h>

static const struct option_row *const tables[] = {config_rows, common_rows, NULL};

struct hook_call {
	struct request request;
	struct settings *settings;
	enum lifecycle_point point;
	struct hooks *hooks;
	enum hook_point
		hook_point; /* of the operators' hooks with this name; HOOK_POINT_COUNT: none */
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

/* The point may precede or follow the options. */
static int parse_words(struct hook_call *h, int argc, char **argv, struct error *err)
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
	return runfile_point_parse(word, &h->point, err);
}

static int run_hooks(struct hook_call *h, struct error *err)
{
	return agent_hooks(&h->agent, h->hooks, h->hook_point, &h->plan.environment, err);
}

/* *ret_logged: err was already logged. */
static int run_actions(struct hook_call *h, bool *ret_logged, struct error *err)
{
	struct plan *p = &h->plan;
	int code = run_make_scratch(p->runfile, h->agent.inherited, err);

	if (code == 0 && p->n_head > 0) {
		code = agent_stage(&h->agent, p->head, p->n_head, err);
		*ret_logged = code < 0;
	}
	h->agent.policy.facts.staged = &p->destinations;
	if (code < 0 || p->first_action == plan_actions(p, h->point)->n)
		return code;
	return agent_actions(
		&h->agent, p->runfile, h->point, p->first_action, &p->environment, err);
}

/* The operators' hooks run before the actions; for on_experiment_end they run after them. */
static int run_hooks_and_actions(struct hook_call *h, bool *ret_logged, struct error *err)
{
	bool ends = h->hook_point == HOOK_EXPERIMENT_END;
	int code = ends ? 0 : run_hooks(h, err);

	if (code == 0)
		code = run_actions(h, ret_logged, err);
	return code == 0 && ends ? run_hooks(h, err) : code;
}

static int open_and_run(struct hook_call *h, const struct inherited *in)
{
	struct error err = {0};
	bool logged = false;
	int code = agent_open(&h->agent, h->settings, in, &err);

	h->agent.policy.facts.config_path = h->plan.runfile->path;
	h->agent.policy.environment = &h->plan.environment;
	if (code == 0)
		code = run_hooks_and_actions(h, &logged, &err);
	agent_close(&h->agent);
	if (h->agent.signal != 0)
		return agent_leave(&h->agent, 128 + h->agent.signal);
	if (code < 0 && !logged)
		log_error("%s", err.msg);
	return code < 0 ? EXIT_FAILED : EXIT_DONE;
}

static int run_point(struct hook_call *h, const struct inherited *in)
{
	struct error err = {0};
	int code = request_settings(&h->request, &h->settings, &err);

	if (code == 0)
		code = hooks_find(h->settings, &h->hooks, &err);
	if (code == 0)
		code = plan_make_point(&h->request, h->settings, h->point, &h->plan, &err);
	if (code < 0) {
		log_error("hook: %s", err.msg);
		return code == -ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
	}
	h->hook_point = hook_point_by_name(runfile_point_name(h->point));
	if (plan_actions(&h->plan, h->point)->n == 0 && !hooks_any(h->hooks, h->hook_point)) {
		log_info("%s has no %s actions: nothing to do", h->plan.runfile->path,
			runfile_point_name(h->point));
		return EXIT_DONE;
	}
	return open_and_run(h, in);
}

int command_hook(int argc, char **argv, const struct inherited *in)
{
	struct hook_call h = {0};
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
	hooks_free(h.hooks);
	settings_free(h.settings);
	request_done(&h.request);
	return exit_code;
}
