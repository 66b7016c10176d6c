/* SPDX-License-Identifier: MIT */
/* `stagerun prewarm`: stages what a run would, and starts nothing; once, or again and again to follow what
 * changes. */
#include "command.h"
#include "defer.h"
#include "dry_run.h"
#include "log.h"
#include "process.h"
#include "run.h"
#include "source.h"
#include "summary.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

static const struct option_row *const tables[] = {
	config_rows, run_rows, prewarm_rows, store_rows, common_rows, NULL};

struct prewarm {
	struct run run;
	struct summary summary;
};

static void print_help(void)
{
	puts("Usage: stagerun prewarm [OPTIONS]\n\n"
	     "Stages data, and runs no actions and no command.\n\nOptions:");
	options_print(tables);
}

/* It stops before the first shell action, and says so. */
static void mention_actions(const struct run *r)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);
	size_t left = start->n - r->plan.first_action;

	if (left > 0)
		log_info("prewarm stages the head of on_experiment_start only: action%s %u (%s:%u) "
			 "%s",
			left > 1 ? "s from" : "", start->v[r->plan.first_action].number,
			r->plan.runfile->path, start->v[r->plan.first_action].line,
			left > 1 ? "on are left to the run" : "is left to the run");
}

static void print_summary(const struct prewarm *p, int exit_code, const char *reason)
{
	_free_ char *line = NULL;

	if (!p->run.request.json)
		return;
	line = summary_text(&p->summary, exit_code, reason);
	puts(line);
	if (fflush(stdout) != 0)
		log_warn("the summary cannot be written: %m");
}

/* *ret_logged: err was told already. */
static int stage_all(struct prewarm *p, bool *ret_logged, struct error *err)
{
	struct run *r = &p->run;
	int code;

	environment_unset(&r->plan.environment, "STAGERUN_DATASTORES"); /* the round's before */
	summary_begin(&p->summary);
	code = run_stage(r, ret_logged, err);
	registration_remove(&r->registration, &r->agent);
	registration_done(&r->registration);
	agent_rest(&r->agent);
	return code;
}

static int stage_once(struct prewarm *p)
{
	struct run *r = &p->run;
	bool logged = false;
	struct error err = {0};
	int exit_code = EXIT_DONE, code = stage_all(p, &logged, &err);

	if (code < 0 || r->agent.signal != 0)
		exit_code = run_end_start(r, EXIT_FAILED, &err, logged);
	else
		mention_actions(r);
	print_summary(p, exit_code, r->why.msg);
	return exit_code;
}

/* A tenth more or less, or all nodes would ask at the same moment. */
static uint64_t next_round_ms(uint64_t duration_ms)
{
	uint64_t random = 0, spread = duration_ms / 5 + 1;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = now_ns();
	return duration_ms - duration_ms / 10 + random % spread;
}

/* A round that fails is told, and the next one tries again. */
static void stage_round(struct prewarm *p)
{
	struct run *r = &p->run;
	bool logged = false;
	struct error err = {0};
	int code = stage_all(p, &logged, &err);

	if (r->agent.signal != 0)
		return;
	if (code < 0 && !logged)
		log_error("%s", err.msg);
	print_summary(p, code < 0 ? EXIT_FAILED : EXIT_DONE, code < 0 ? err.msg : NULL);
}

/* Ends with a signal: that is how it is asked to. Hooks whose beginning was reached get their end. */
static int keep_fresh(struct prewarm *p)
{
	struct run *r = &p->run;
	struct supervision s;

	mention_actions(r);
	while (r->agent.signal == 0) {
		uint64_t ms = next_round_ms(r->request.keep_fresh_ms);
		char buf[32];

		stage_round(p);
		if (r->agent.signal != 0)
			break;
		log_debug("sources are looked at again in %s", print_duration(ms * 1000000, buf));
		agent_pause(&r->agent, ms);
	}
	supervision_open(&s, &r->agent);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	supervision_close(&s);
	return EXIT_DONE;
}

static void follow_versions(struct plan *p)
{
	for (size_t i = 0; i < p->n_head; i++)
		p->head[i].renew = p->head[i].keep_replaced = true;
}

static void make_way(void)
{
	struct error err;

	if (process_make_way(&err) < 0)
		log_warn("%s", err.msg);
}

static int open_agent(struct run *r, const struct inherited *in, struct error *err)
{
	int code = agent_open(&r->agent, r->settings, in, err);

	if (code < 0 || !r->request.cache_only)
		return code;
	r->agent.cache_only = true;
	agent_need_cache(&r->agent);
	if (r->agent.cache != NULL)
		return 0;
	return error_set(err, -ERR_CONFIG,
		"--cache-only: there is no node cache that can be used%s",
		r->settings->cache_dir[0] == '\0' ? "; name its directory in agent.ini (dir of "
						    "[cache]) or $STAGERUN_CACHE_DIR"
						  : "");
}

static int work(struct prewarm *p, const struct inherited *in)
{
	struct run *r = &p->run;
	bool stays = r->request.keep_fresh_ms > 0;
	struct error err = {0};
	int exit_code;

	if (stays || r->request.refresh)
		follow_versions(&r->plan);
	if (r->request.low_priority)
		make_way();
	if (open_agent(r, in, &err) < 0) {
		agent_close(&r->agent);
		exit_code = run_fail(r, EXIT_FAILED, &err, false);
		print_summary(p, exit_code, err.msg);
		return exit_code;
	}
	r->agent.keep_going = true;
	r->agent.on_result = summary_add;
	r->agent.on_result_ctx = &p->summary;
	exit_code = stays ? keep_fresh(p) : stage_once(p);
	agent_close(&r->agent);
	if (!stays && exit_code == EXIT_DONE && r->agent.signal != 0)
		exit_code = run_end_by_signal(r);
	return agent_leave(&r->agent, exit_code);
}

static int prepare_and_work(struct prewarm *p, const struct inherited *in)
{
	char *const no_command[] = {NULL};
	struct run *r = &p->run;
	struct error err = {0};

	summary_begin(&p->summary);
	if (run_prepare(r, no_command, &err) < 0) {
		print_summary(p, EXIT_FAILED, err.msg);
		return run_fail_early(r, EXIT_FAILED, &err, in);
	}
	if (r->request.dry_run) {
		int code = dry_run(&r->plan, r->hooks.found, r->settings, in);

		return code < 0 ? EXIT_FAILED : code;
	}
	return work(p, in);
}

static int usage(const struct error *err)
{
	log_error("%s", err->msg);
	return EXIT_USAGE;
}

int command_prewarm(int argc, char **argv, const struct inherited *in)
{
	struct prewarm p = {.run.phase = "config"};
	struct error err;
	int rest = 0, exit_code = EXIT_DONE;

	if (options_parse(argc - 1, argv + 1, tables, &p.run.request, &rest, &err) < 0) {
		exit_code = usage(&err);
	} else if (p.run.request.help) {
		print_help();
	} else if (argv[1 + rest] != NULL) {
		_free_ char *shown = source_display(argv[1 + rest]); /* a forgotten --stage */

		error_set(&err, -ERR_USAGE, "prewarm runs no command, but there is '%s'", shown);
		exit_code = usage(&err);
	} else {
		exit_code = prepare_and_work(&p, in);
	}
	summary_done(&p.summary);
	run_done(&p.run);
	return exit_code;
}
