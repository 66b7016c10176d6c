/* SPDX-License-Identifier: MIT */
/* `--dry-run`: prints the plan for people. The sources of the plan's head are probed at the same
 * time, on threads of libuv's pool, and printed in order. Loop thread, except for
 * probe_source(). */
#include "../agent.h"
#include "datastore.h"
#include "datastore_ref.h"
#include "defer.h"
#include "redact.h"
#include "run.h"
#include "source.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Prints to stdout, with secrets hidden. */
static void __attribute__((format(printf, 1, 2))) dry_run_print(const char *fmt, ...)
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

/* One source that is probed for its size. */
struct probe {
	uv_work_t work;
	struct source_env env;
	struct store *store; /* for datastores */
	const char *url;
	struct identity identity;
	struct manifest *manifest; /* of a datastore */
	struct error err;
	int code;
	bool done; /* used by the loop thread only */
};

static void on_probed(uv_work_t *work, int status)
{
	struct probe *p = container_of(work, struct probe, work);

	(void)status;
	p->done = true;
}

static int find_version(struct probe *p, struct store_conn *h, struct error *err)
{
	_free_ char *name = datastore_ref_source_name(p->url);
	unsigned version = 0;
	int code = datastore_ref_source_version(p->url, &version, err);

	return code < 0 ? code : datastore_find(h, name, version, &p->manifest, err);
}

static int probe_datastore(struct probe *p, struct error *err)
{
	struct store_conn *h = NULL;
	int code = store_conn_open(p->store, p->env.cancel, &h, err);

	if (code == 0)
		code = find_version(p, h, err);
	store_conn_close(h);
	return code;
}

static int probe_stream(struct probe *p, struct error *err)
{
	const struct source_request request = {.url = p->url, .want = WANT_IDENTITY};
	struct object *o;
	int code = source_open(&p->env, &request, &o, err);

	if (code < 0)
		return code;
	p->identity = o->identity;
	object_close(o);
	return 0;
}

static void probe_source(uv_work_t *work)
{
	struct probe *p = container_of(work, struct probe, work);

	p->code = datastore_ref_is_source(p->url) ? probe_datastore(p, &p->err)
						  : probe_stream(p, &p->err);
}

static void print_globs(const char *key, const struct strings *globs)
{
	for (size_t i = 0; i < globs->n; i++)
		dry_run_print("      %s %s\n", key, globs->v[i]);
}

static void print_options(const struct stage_spec *spec)
{
	if (spec->sources[0].sha256 != NULL)
		dry_run_print("      sha256 %s\n", spec->sources[0].sha256);
	print_globs("include", &spec->include);
	print_globs("exclude", &spec->exclude);
	if (spec->strip_components > 0)
		dry_run_print("      strip_components %u\n", spec->strip_components);
	if (spec->no_extract)
		dry_run_print("      stored as it is\n");
	if (spec->replace)
		dry_run_print("      replaces what is there\n");
	if (spec->shard_world > 0)
		dry_run_print("      shard %u of %u\n", spec->shard_rank, spec->shard_world);
}

static void print_manifest(const struct manifest *m)
{
	char bytes[32], stored[32];

	dry_run_print("version %u, %llu files, %s (%s in the store), manifest sha256 %s\n",
		m->version, (unsigned long long)m->files, units_print_size(m->bytes, bytes),
		units_print_size(m->stored_bytes, stored), m->sha256);
}

static void print_source(const struct probe *p, const struct stage_spec *spec)
{
	_free_ char *name = source_display(p->url);
	char size[32] = "size unknown";

	dry_run_print("  %s -> %s  (%s)\n", name, spec->to, spec->origin);
	print_options(spec);
	dry_run_print("      ");
	if (p->code < 0) {
		dry_run_print("cannot be read: %s\n", p->err.msg);
		return;
	}
	if (p->manifest != NULL) {
		print_manifest(p->manifest);
		return;
	}
	if (p->identity.size != SIZE_UNKNOWN)
		units_print_size(p->identity.size, size);
	dry_run_print(
		"%s%s%s\n", size, p->identity.etag[0] != '\0' ? ", ETag " : "", p->identity.etag);
}

/* The store and the S3 credentials that would be used. */
static void print_store(const struct agent *a)
{
	_free_ char *s3 = a->resources.s3 != NULL ? s3_describe(a->resources.s3) : NULL;
	bool remote = a->resources.store == NULL ||
		      strncmp(store_name(a->resources.store), "s3://", 5) == 0;

	if (a->resources.store != NULL)
		dry_run_print("\nStore\n  %s\n", store_name(a->resources.store));
	if (s3 != NULL && remote)
		dry_run_print("%s  %s\n", a->resources.store == NULL ? "\nS3\n" : "", s3);
}

static int dry_run_head(struct agent *a, const struct plan *p, struct cancel *cancel)
{
	struct probe *probes = zalloc(p->n_head * sizeof(*probes));
	int code = 0;

	print_store(a);
	if (p->n_head > 0)
		dry_run_print("\nStaged first, all at once\n");
	for (size_t i = 0; i < p->n_head; i++) {
		probes[i].env = (struct source_env){
			.transfer = a->resources.transfer, .s3 = a->resources.s3, .cancel = cancel};
		probes[i].store = a->resources.store;
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
	for (size_t i = 0; i < p->n_head && !a->out_of_time; i++)
		manifest_free(probes[i].manifest);
	if (!a->out_of_time)
		free(probes);
	return code;
}

/* The rest of the plan. */

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
		_free_ char *name = text_format("%.*s", (int)len, e->v[i]);

		dry_run_print("  %s=%s  (%s:%u)\n", name,
			settings_is_secret_value(s, name, e->v[i] + len + 1) ? "***"
									     : e->v[i] + len + 1,
			p->runfile->path, p->runfile->environment_lines[i]);
	}
}

static void print_scratch(const struct runfile *f)
{
	for (size_t i = 0; i < f->n_scratch; i++) {
		char limit[32] = "no limit";

		if (f->scratch[i].size_bytes > 0)
			units_print_size(f->scratch[i].size_bytes, limit);
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
		_free_ char *url = agent_stage_url(&a->stage);
		_free_ char *name = source_display(url);

		dry_run_print("stage  %s -> %s\n", name, a->stage.to);
	}
}

static void print_actions(const struct plan *p, enum lifecycle_point point, size_t first)
{
	const struct actions *a = plan_actions(p, point);

	if (a->n > first)
		dry_run_print("\nThen, one after another (%s)\n", runfile_point_name(point));
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
	static const struct step_ops ops = {.cancel = cancel_probes};
	struct settings impatient = *s; /* no retries: the plan is wanted now */
	struct agent agent;
	struct cancel cancel;
	int code, installable = 0;

	impatient.network.patience_ms = 0;
	code = agent_open(&agent, &impatient, in, err);
	cancel_init(&cancel);
	agent.step = (struct agent_step){.ops = &ops, .work = &cancel};
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
