/* SPDX-License-Identifier: MIT */
/* `stagerun prewarm`: stages what a run would stage and starts no command; once, or repeatedly to
 * follow changed sources. Its summary is built as text, without jansson, because file names need
 * not be UTF-8. Loop thread. */
#include "../options.h"
#include "../subcommand.h"
#include "command.h"
#include "defer.h"
#include "json_bytes.h"
#include "log.h"
#include "metrics.h"
#include "process.h"
#include "progress.h"
#include "random.h"
#include "redact.h"
#include "run.h"
#include "source.h"
#include <stdio.h>
#include <string.h>

void prewarm_summary_done(struct prewarm_summary *s)
{
	text_done(&s->destinations);
	*s = (struct prewarm_summary){0};
}

void prewarm_summary_begin(struct prewarm_summary *s)
{
	prewarm_summary_done(s);
	s->began_ns = now_ns();
}

static void add_member(struct text *t, const char *key, const char *value)
{
	_free_ char *shown = value != NULL ? redact_own(text_copy(value)) : NULL;

	if (shown != NULL && *shown != '\0')
		output_json_text(t, key, shown);
}

static void add_counts(
	struct text *t, uint64_t received, uint64_t bytes, uint64_t entries, uint64_t ns)
{
	output_json_number(t, "received_bytes", received);
	output_json_number(t, "bytes", bytes);
	output_json_number(t, "entries", entries);
	text_addf(t, ",\"seconds\":%.3f", (double)ns / 1e9);
}

/* For a local file, value contains more than the time. */
static void add_last_modified(struct text *t, const char *value)
{
	_free_ char *time = text_format("%.*s", (int)strcspn(value, ";"), value);

	add_member(t, "last_modified", time);
}

static void add_source(struct text *t, const struct stage_result_source *s)
{
	text_add(t, "{\"source\":");
	json_add_text(t, s->name);
	if (s->datastore != NULL) {
		add_member(t, "datastore", s->datastore);
		output_json_number(t, "version", s->version);
		add_member(t, "manifest_sha256", s->sha256);
	} else {
		add_member(t, "etag", s->etag);
		add_last_modified(t, s->last_modified);
		add_member(t, "sha256", s->sha256);
	}
	output_json_number(t, "received_bytes", s->received);
	text_add(t, "}");
}

void prewarm_summary_add(void *summary, const struct stage_result *r)
{
	struct prewarm_summary *s = summary;
	struct text *t = &s->destinations;
	uint64_t received = 0;

	s->ends[r->end]++;
	text_addf(t, "%s{\"to\":", t->len > 0 ? "," : "");
	json_add_text(t, r->to);
	add_member(t, "origin", r->origin);
	output_json_text(t, "result", stage_end_name(r->end));
	if (r->end == STAGE_FAILED)
		add_member(t, "reason", r->err->msg);
	text_add(t, ",\"sources\":[");
	for (size_t i = 0; i < r->n_sources; i++) {
		text_add(t, i > 0 ? "," : "");
		add_source(t, &r->sources[i]);
		received += r->sources[i].received;
	}
	text_add(t, "]");
	add_counts(t, received, r->bytes, r->entries, r->elapsed_ns);
	text_add(t, "}");
	s->received += received;
	s->bytes += r->bytes;
	s->entries += r->entries;
}

static unsigned count_ends(const struct prewarm_summary *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_LEN(s->ends); i++)
		n += s->ends[i];
	return n;
}

char *prewarm_summary_text(const struct prewarm_summary *s, int exit_code, const char *reason)
{
	struct text t = {0};

	text_addf(&t, "{\"exit_code\":%d", exit_code);
	add_member(&t, "reason", reason);
	text_addf(&t, ",\"destinations\":[%s],\"total\":{\"destinations\":%u",
		s->destinations.s != NULL ? s->destinations.s : "", count_ends(s));
	for (size_t i = 0; i < ARRAY_LEN(s->ends); i++)
		output_json_number(&t, stage_end_name((enum stage_end)i), s->ends[i]);
	add_counts(&t, s->received, s->bytes, s->entries, now_ns() - s->began_ns);
	text_add(&t, "}}");
	return text_take(&t);
}

/* The command. */

static const struct option_row *const shown_tables[] = {
	config_rows, run_rows, prewarm_rows, rate_rows, store_rows, common_rows, NULL};

/* Those of the command are accepted, so that a run and its prewarm can have the same options, but
 * do nothing here. */
static const struct option_row *const tables[] = {config_rows, run_rows, prewarm_rows, rate_rows,
	store_rows, common_rows, command_rows, NULL};

struct prewarm {
	struct run run;
	struct prewarm_summary summary;
	struct metrics metrics;
};

static void print_help(void)
{
	puts("Usage: stagerun prewarm [OPTIONS]\n\n"
	     "Stages data, and runs no actions and no command.\n\nOptions:");
	options_print(shown_tables);
}

/* Logs that staging stops before the first shell action. */
static void mention_actions(const struct run *r)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);
	size_t left = start->n - r->plan.first_action;

	if (left > 0)
		log_info(
			"prewarm stages the head of on_experiment_start only: action%s %u (%s:%u) %s",
			left > 1 ? "s from" : "", start->v[r->plan.first_action].number,
			r->plan.runfile->path, start->v[r->plan.first_action].line,
			left > 1 ? "on are left to the run" : "is left to the run");
}

/* code: 0, or why the round failed. */
static void write_metrics(struct prewarm *p, int code)
{
	metrics_end_round(&p->metrics, code, p->run.agent.resources.cache);
}

static void add_result(void *prewarm, const struct stage_result *r)
{
	struct prewarm *p = prewarm;

	prewarm_summary_add(&p->summary, r);
	metrics_add(&p->metrics, r);
}

static void print_summary(const struct prewarm *p, int exit_code, const char *reason)
{
	_free_ char *line = NULL;

	if (!p->run.request.json)
		return;
	line = prewarm_summary_text(&p->summary, exit_code, reason);
	puts(line);
	if (p->run.request.keep_fresh_ms > 0)
		fflush(stdout); /* output_end() reports errors */
}

/* *ret_logged: err was already logged. */
static int stage_all(struct prewarm *p, bool *ret_logged, struct error *err)
{
	struct run *r = &p->run;
	int code;

	environment_unset(&r->plan.environment, "STAGERUN_DATASTORES"); /* of the previous round */
	prewarm_summary_begin(&p->summary);
	metrics_begin_round(&p->metrics);
	code = run_stage(r, ret_logged, err);
	registration_remove(&r->registration, &r->agent);
	registration_done(&r->registration);
	agent_release_resources(&r->agent);
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
	if (r->agent.signal == 0)
		write_metrics(p, code);
	print_summary(p, exit_code, r->why.msg);
	return exit_code;
}

/* Varies the interval by a tenth, so that not all nodes send their requests at the same time. */
static uint64_t next_round_ms(uint64_t duration_ms)
{
	uint64_t random = 0, spread = duration_ms / 5 + 1;

	random_fill(&random, sizeof(random));
	return duration_ms - duration_ms / 10 + random % spread;
}

/* A failure is logged, and the next round, after next_ms, tries again. */
static void stage_round(struct prewarm *p, uint64_t next_ms)
{
	struct run *r = &p->run;
	bool logged = false;
	struct error err = {0};
	int code = stage_all(p, &logged, &err);

	if (r->agent.signal != 0)
		return;
	if (code < 0 && !logged)
		log_error("%s", err.msg);
	write_metrics(p, code);
	print_summary(p, code < 0 ? EXIT_FAILED : EXIT_DONE, code < 0 ? err.msg : NULL);
	status_writer_round(&r->status, code < 0 ? err.msg : NULL, next_ms);
}

/* Runs until a signal ends it, which is no failure. The hooks of end points that are due run
 * last. */
static int keep_fresh(struct prewarm *p)
{
	struct run *r = &p->run;
	struct supervision s;

	mention_actions(r);
	while (r->agent.signal == 0) {
		uint64_t ms = next_round_ms(r->request.keep_fresh_ms);
		char buf[32];

		stage_round(p, ms);
		if (r->agent.signal != 0)
			break;
		log_debug("sources are looked at again in %s",
			units_print_duration(ms * 1000000, buf));
		agent_pause(&r->agent, ms);
	}
	supervise_open(&s, &r->agent);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	supervise_close(&s);
	return EXIT_DONE;
}

/* Without --replace, files that a user has changed are not replaced. With --keep-fresh (stays) that
 * is no failure. */
static void follow_versions(struct plan *p, bool stays)
{
	for (size_t i = 0; i < p->n_head; i++) {
		p->head[i].renew = p->head[i].keep_replaced = true;
		p->head[i].keep_changed = stays;
	}
}

static void lower_priority(void)
{
	struct error err;

	if (process_lower_priority(&err) < 0)
		log_warn("%s", err.msg);
}

static int open_agent(struct run *r, const struct inherited *in, struct error *err)
{
	int code = agent_open(&r->agent, r->settings, in, err);

	if (code < 0 || !r->request.cache_only)
		return code;
	r->agent.policy.cache_only = true;
	agent_need_cache(&r->agent);
	if (r->agent.resources.cache != NULL)
		return 0;
	return error_set(err, -ERR_CONFIG,
		"--cache-only: there is no node cache that can be used%s",
		r->settings->cache_dir[0] == '\0'
			? "; name its directory in agent.ini (dir of [cache]) or $STAGERUN_CACHE_DIR"
			: "");
}

static int open_and_stage(struct prewarm *p, const struct inherited *in)
{
	struct run *r = &p->run;
	bool stays = r->request.keep_fresh_ms > 0;
	struct error err = {0};
	int exit_code, code;

	if (r->request.low_priority)
		lower_priority();
	code = open_agent(r, in, &err);
	if (code < 0) {
		agent_close(&r->agent);
		write_metrics(p, code);
		exit_code = run_fail(r, EXIT_FAILED, &err, false);
		print_summary(p, exit_code, err.msg);
		return exit_code;
	}
	r->agent.policy.keep_going = true;
	status_writer_watch(&r->status, &r->agent);
	r->agent.policy.on_result = add_result;
	r->agent.policy.on_result_ctx = p;
	exit_code = stays ? keep_fresh(p) : stage_once(p);
	agent_close(&r->agent);
	if (!stays && exit_code == EXIT_DONE && r->agent.signal != 0)
		exit_code = run_end_by_signal(r);
	if (exit_code == EXIT_DONE)
		status_writer_end(&r->status, exit_code, NULL, NULL);
	return agent_leave(&r->agent, exit_code);
}

static int prepare_and_work(struct prewarm *p, const struct inherited *in)
{
	char *const no_command[] = {NULL};
	struct run *r = &p->run;
	struct error err = {0};
	int exit_code, code;

	prewarm_summary_begin(&p->summary);
	if (!r->request.dry_run)
		status_writer_open(&r->status, true);
	metrics_open(&p->metrics, r->request.dry_run ? NULL : r->request.metrics_file);
	metrics_begin_round(&p->metrics);
	code = run_prepare(r, no_command, &err);
	if (code < 0) {
		/* Without settings it was the value of an option. */
		exit_code = code == -ERR_USAGE && r->settings == NULL ? EXIT_USAGE : EXIT_FAILED;
		write_metrics(p, code);
		if (r->request.dry_run)
			dry_run_fail(r, &err);
		else
			print_summary(p, exit_code, err.msg);
		return run_fail_early(r, exit_code, &err, in);
	}
	if (r->request.keep_fresh_ms > 0 || r->request.refresh)
		follow_versions(&r->plan, r->request.keep_fresh_ms > 0);
	return r->request.dry_run ? dry_run(r, in) : open_and_stage(p, in);
}

static int fail_usage(const struct error *err)
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
		exit_code = fail_usage(&err);
	} else if (p.run.request.help) {
		print_help();
	} else if (metrics_check_path(p.run.request.metrics_file, &err) < 0) {
		exit_code = fail_usage(&err);
	} else if (argv[1 + rest] != NULL) {
		_free_ char *shown = source_display(argv[1 + rest]); /* a forgotten --stage */

		error_set(&err, -ERR_USAGE, "prewarm runs no command, but there is '%s'", shown);
		exit_code = fail_usage(&err);
	} else {
		exit_code = prepare_and_work(&p, in);
	}
	prewarm_summary_done(&p.summary);
	metrics_close(&p.metrics);
	run_done(&p.run);
	return exit_code;
}
