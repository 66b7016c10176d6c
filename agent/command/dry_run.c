/* SPDX-License-Identifier: MIT */
/* `--dry-run`: the plan, for people. */
#include "dry_run.h"
#include "agent.h"
#include "defer.h"
#include "head.h"
#include "redact.h"
#include "source.h"
#include "supervise.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void dry_run_print(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	s = redact_own(s);
	fputs(s, stdout);
	free(s);
}

static void print_setting(void *ctx, const char *key, const char *value, const char *origin)
{
	(void)ctx;
	dry_run_print("  %-30s %-20s %s\n", key, value[0] != '\0' ? value : "-", origin);
}

static void print_environment(const struct plan *p, const struct settings *s)
{
	const struct strings *e = &p->runfile->environment;

	if (e->n > 0)
		dry_run_print("\nEnvironment added\n");
	for (size_t i = 0; i < e->n; i++) {
		size_t len = strcspn(e->v[i], "=");
		_free_ char *name = format_text("%.*s", (int)len, e->v[i]);

		dry_run_print("  %s=%s  (%s:%u)\n", name,
			settings_is_secret(s, name) ? "***" : e->v[i] + len + 1, p->runfile->path,
			p->runfile->environment_lines[i]);
	}
}

static void print_scratch(const struct runfile *f)
{
	for (size_t i = 0; i < f->n_scratch; i++) {
		char limit[32] = "no limit";

		if (f->scratch[i].size_bytes > 0)
			print_size(f->scratch[i].size_bytes, limit);
		dry_run_print("\nScratch directory\n  %s, %s  (%s:%u)\n", f->scratch[i].mount_path,
			limit, f->path, f->scratch[i].line);
	}
}

static void print_hooks(const struct plan *p, const struct hooks *hooks)
{
	bool any = false;

	for (int point = 0; point < HOOK_POINT_COUNT; point++) {
		const struct hook_list *list = &hooks->at[point];

		if (p->command.n == 0 && hook_point_needs_command((enum hook_point)point))
			continue;
		for (size_t i = 0; i < list->n; i++, any = true)
			dry_run_print("%s  %-20s %s\n", any ? "" : "\nOperators' hooks\n",
				hook_point_name((enum hook_point)point), list->v[i].path);
	}
}

static void print_action(const struct action *a, const char *config_path)
{
	dry_run_print("  %u  %s:%u  ", a->number, config_path, a->line);
	if (a->kind == ACTION_RUN) {
		dry_run_print("run    %.*s\n", (int)strcspn(a->script, "\n"), a->script);
	} else {
		_free_ char *name = source_display(a->stage.sources[0].url);

		dry_run_print("stage  %s -> %s\n", name, a->stage.to);
	}
}

static void print_actions(const struct plan *p, enum lifecycle_point point, size_t first)
{
	const struct actions *a = plan_actions(p, point);

	if (a->n > first)
		dry_run_print("\nThen, one after another (%s)\n", lifecycle_point_name(point));
	for (size_t i = first; i < a->n && p->runfile != NULL; i++)
		print_action(&a->v[i], p->runfile->path);
}

static void print_command(const struct plan *p, const struct hooks *hooks, const struct settings *s)
{
	const char *why = NULL;

	if (p->command.n == 0)
		return;
	dry_run_print("\nThen the command\n ");
	for (size_t i = 0; i < p->command.n; i++)
		dry_run_print(" %s", p->command.v[i]);
	dry_run_print("\n");
	if (supervise_decide(s, p, hooks, &why, NULL) == 0 && why != NULL)
		dry_run_print("  (as a child of the agent, which stays: %s)\n", why);
	if (p->runfile != NULL && p->runfile->params.n > 0)
		dry_run_print("  (the last %zu from hyper_params, %s:%u)\n", p->runfile->params.n,
			p->runfile->path, p->runfile->params_line);
}

static void cancel_probes(void *cancel, bool hard)
{
	(void)hard;
	cancel_request(cancel);
}

static int print_dependencies(struct agent *a, const struct plan *p)
{
	const struct dependencies *d = p->dependencies;
	_free_ char *command = d != NULL ? dependencies_command(d) : NULL;
	struct error err = {0};
	int code;

	if (d == NULL || a->signal != 0)
		return 0;
	dry_run_print("\nDependencies, installed meanwhile\n  %s  (%s)\n", command, d->origin);
	code = agent_check_dependencies(a, d, &p->environment, &err);
	if (code < 0)
		dry_run_print("      cannot be installed: %s\n", err.msg);
	return code;
}

static int probe_and_print(const struct plan *p, const struct settings *s,
	const struct inherited *in, struct error *err)
{
	struct agent agent;
	struct cancel cancel;
	int code = agent_open(&agent, s, in, err), installable = 0;

	cancel_init(&cancel);
	agent.cancel = cancel_probes;
	agent.work = &cancel;
	if (code == 0 && p->n_head > 0)
		code = agent_need_sources(&agent, p->head, p->n_head, err);
	if (code == 0) {
		code = dry_run_head(&agent, p, &cancel);
		installable = print_dependencies(&agent, p);
	}
	agent_close(&agent);
	if (agent.signal != 0)
		return agent_leave(&agent, 128 + agent.signal);
	return code < 0 ? code : installable;
}

int dry_run(const struct plan *p, const struct hooks *hooks, const struct settings *s,
	const struct inherited *in)
{
	struct error err = {0};
	int code;

	dry_run_print("stagerun %s: this is the plan; nothing is touched\n\nSettings\n",
		STAGERUN_VERSION);
	settings_describe(s, print_setting, NULL);
	if (p->runfile != NULL) {
		print_environment(p, s);
		print_scratch(p->runfile);
	}
	print_hooks(p, hooks);
	code = probe_and_print(p, s, in, &err);
	if (code < 0 && err.code != 0)
		dry_run_print("  %s\n", err.msg);
	if (code > 0)
		return code;
	print_actions(p, POINT_EXPERIMENT_START, p->first_action);
	print_command(p, hooks, s);
	print_actions(p, POINT_EXPERIMENT_END, 0);
	return code;
}
