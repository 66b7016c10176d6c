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

/* On stdout, with secrets hidden. */
static __attribute__((format(printf, 1, 2))) void print(const char *fmt, ...)
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
	print("  %-30s %-20s %s\n", key, value[0] != '\0' ? value : "-", origin);
}

static void print_environment(const struct plan *p, const struct settings *s)
{
	const struct strings *e = &p->runfile->environment;

	if (e->n > 0)
		print("\nEnvironment added\n");
	for (size_t i = 0; i < e->n; i++) {
		size_t len = strcspn(e->v[i], "=");
		_free_ char *name = format_text("%.*s", (int)len, e->v[i]);

		print("  %s=%s  (%s:%u)\n", name,
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
		print("\nScratch directory\n  %s, %s  (%s:%u)\n", f->scratch[i].mount_path, limit,
			f->path, f->scratch[i].line);
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
			print("%s  %-20s %s\n", any ? "" : "\nOperators' hooks\n",
				hook_point_name((enum hook_point)point), list->v[i].path);
	}
}

static void print_action(const struct action *a, const char *config_path)
{
	print("  %u  %s:%u  ", a->number, config_path, a->line);
	if (a->kind == ACTION_RUN) {
		print("run    %.*s\n", (int)strcspn(a->script, "\n"), a->script);
	} else {
		_free_ char *name = source_display(a->stage.sources[0].url);

		print("stage  %s -> %s\n", name, a->stage.to);
	}
}

static void print_actions(const struct plan *p, enum lifecycle_point point, size_t first)
{
	const struct actions *a = plan_actions(p, point);

	if (a->n > first)
		print("\nThen, one after another (%s)\n", lifecycle_point_name(point));
	for (size_t i = first; i < a->n && p->runfile != NULL; i++)
		print_action(&a->v[i], p->runfile->path);
}

static void print_command(const struct plan *p, const struct hooks *hooks, const struct settings *s)
{
	const char *why = NULL;

	if (p->command.n == 0)
		return;
	print("\nThen the command\n ");
	for (size_t i = 0; i < p->command.n; i++)
		print(" %s", p->command.v[i]);
	print("\n");
	if (supervise_decide(s, p, hooks, &why, NULL) == 0 && why != NULL)
		print("  (as a child of the agent, which stays: %s)\n", why);
	if (p->runfile != NULL && p->runfile->params.n > 0)
		print("  (the last %zu from hyper_params, %s:%u)\n", p->runfile->params.n,
			p->runfile->path, p->runfile->params_line);
}

/* One source that is asked for its size, on a thread of libuv's pool. */
struct probe {
	uv_work_t work;
	struct source_env env;
	const char *url;
	struct identity identity;
	struct error err;
	int code;
	bool done; /* loop thread */
};

static void on_probed(uv_work_t *work, int status)
{
	struct probe *p = container_of(work, struct probe, work);

	(void)status;
	p->done = true;
}

static void probe_source(uv_work_t *work)
{
	struct probe *p = container_of(work, struct probe, work);
	const struct source_request request = {.url = p->url, .probe = true};
	struct object *o;

	p->code = source_open(&p->env, &request, &o, &p->err);
	if (p->code < 0)
		return;
	p->identity = o->identity;
	object_close(o);
}

static void print_globs(const char *key, const struct strings *globs)
{
	for (size_t i = 0; i < globs->n; i++)
		print("      %s %s\n", key, globs->v[i]);
}

/* All of these are from the place that asked for the stage. */
static void print_options(const struct stage_spec *spec)
{
	if (spec->sources[0].sha256 != NULL)
		print("      sha256 %s\n", spec->sources[0].sha256);
	print_globs("include", &spec->include);
	print_globs("exclude", &spec->exclude);
	if (spec->strip_components > 0)
		print("      strip_components %u\n", spec->strip_components);
	if (spec->no_extract)
		print("      stored as it is\n");
	if (spec->replace)
		print("      replaces what is there\n");
}

static void print_source(const struct probe *p, const struct stage_spec *spec)
{
	_free_ char *name = source_display(p->url);
	char size[32] = "size unknown";

	print("  %s -> %s  (%s)\n", name, spec->to, spec->origin);
	print_options(spec);
	print("      ");
	if (p->code < 0) {
		print("cannot be read: %s\n", p->err.msg);
		return;
	}
	if (p->identity.size != SIZE_UNKNOWN)
		print_size(p->identity.size, size);
	print("%s%s%s\n", size, p->identity.etag[0] != '\0' ? ", ETag " : "", p->identity.etag);
}

/* Probes all sources of the head at once and prints them in order. */
static int print_head(struct agent *a, const struct plan *p, struct cancel *cancel)
{
	struct probe *probes = zalloc(p->n_head * sizeof(*probes));
	int code = 0;

	if (p->n_head > 0)
		print("\nStaged first, all at once\n");
	for (size_t i = 0; i < p->n_head; i++) {
		probes[i].env =
			(struct source_env){.transfer = a->transfer, .s3 = a->s3, .cancel = cancel};
		probes[i].url = p->head[i].sources[0].url;
		uv_queue_work(&a->loop, &probes[i].work, probe_source, on_probed);
	}
	for (size_t i = 0; i < p->n_head && !a->out_of_time; i++) {
		while (!probes[i].done && !a->out_of_time)
			uv_run(&a->loop, UV_RUN_ONCE);
		if (!probes[i].done)
			break;
		print_source(&probes[i], &p->head[i]);
		if (probes[i].code < 0)
			code = probes[i].code;
	}
	if (!a->out_of_time)
		free(probes);
	return code;
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
	print("\nDependencies, installed meanwhile\n  %s  (%s)\n", command, d->origin);
	code = agent_check_dependencies(a, d, &p->environment, &err);
	if (code < 0)
		print("      cannot be installed: %s\n", err.msg);
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
		code = agent_need_transfer(&agent, err);
	if (code == 0) {
		code = print_head(&agent, p, &cancel);
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

	print("stagerun %s: this is the plan; nothing is touched\n\nSettings\n", STAGERUN_VERSION);
	settings_describe(s, print_setting, NULL);
	if (p->runfile != NULL) {
		print_environment(p, s);
		print_scratch(p->runfile);
	}
	print_hooks(p, hooks);
	code = probe_and_print(p, s, in, &err);
	if (code < 0 && err.code != 0)
		print("  %s\n", err.msg);
	if (code > 0)
		return code;
	print_actions(p, POINT_EXPERIMENT_START, p->first_action);
	print_command(p, hooks, s);
	print_actions(p, POINT_EXPERIMENT_END, 0);
	return code;
}
