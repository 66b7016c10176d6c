/* SPDX-License-Identifier: MIT */
/* `--dry-run`: the plan for people, and whether it would work. Loop thread. */
#include "dry_run.h"
#include "command.h"
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "source.h"
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

static void print_source(const struct dry_run *d, const struct outlook_source *q)
{
	const struct stage_spec *spec = dry_run_spec(d, q);
	char size[32] = "size unknown";

	dry_run_print("  %s -> %s  (%s)\n", q->name, spec->to, spec->origin);
	print_options(spec);
	dry_run_print("      ");
	if (q->code < 0) {
		dry_run_print("cannot be read: %s\n", q->err.msg);
		return;
	}
	if (q->manifest != NULL) {
		print_manifest(q->manifest);
		return;
	}
	if (q->identity.size != SIZE_UNKNOWN)
		units_print_size(q->identity.size, size);
	dry_run_print(
		"%s%s%s\n", size, q->identity.etag[0] != '\0' ? ", ETag " : "", q->identity.etag);
}

/* What is needed of the disk, and free there. */
static void print_room(const struct outlook_stage *s)
{
	char need[32], have[32];

	if (s->bytes > 0)
		dry_run_print("      needs at least %s", units_print_size(s->bytes, need));
	if (s->bytes > 0 && s->files > 0)
		dry_run_print(" and %llu inodes", (unsigned long long)s->files);
	if (!s->knows_space) {
		dry_run_print("%s", s->bytes > 0 ? "\n" : "");
		return;
	}
	dry_run_print(
		"%s%s free", s->bytes > 0 ? "; " : "      ", units_print_size(s->space.free, have));
	if (s->space.of_inodes > 0)
		dry_run_print(", %llu inodes", (unsigned long long)s->space.inodes);
	dry_run_print("\n");
}

static void print_others(const struct outlook_stage *s)
{
	if (s->names.n == 0)
		return;
	dry_run_print("      others have files there:");
	for (size_t i = 0; i < s->names.n; i++)
		dry_run_print("%s %s", i > 0 ? "," : "", s->names.v[i]);
	if (s->n_more > 0)
		dry_run_print(" and %zu more", s->n_more);
	dry_run_print("; they stay, %s\n",
		s->spec->replace ? "but those of the same names are replaced"
				 : "and one of the same name is an error (--replace replaces it)");
}

static void print_destination(const struct outlook_stage *s)
{
	switch (s->result) {
	case OUTLOOK_WARM:
		dry_run_print("      is there already\n");
		return;
	case OUTLOOK_CACHED:
		dry_run_print("      comes from the node cache\n");
		break;
	case OUTLOOK_KEPT:
		dry_run_print("      others have changed it: it is left as it is\n");
		return;
	case OUTLOOK_REFUSED:
		if (s->err.code < 0)
			dry_run_print("      cannot be staged: %s\n", s->err.msg);
		return;
	case OUTLOOK_FETCH:
		if (s->continues)
			dry_run_print("      an interrupted run is continued\n");
		print_room(s);
		break;
	}
	print_others(s);
}

/* The store, the S3 credentials and the node cache that would be used. */
static void print_store(const struct dry_run *d)
{
	if (d->store != NULL)
		dry_run_print("\nStore\n  %s\n", d->store);
	if (d->s3 != NULL)
		dry_run_print("%s  %s\n", d->store == NULL ? "\nS3\n" : "", d->s3);
	if (d->cache != NULL)
		dry_run_print("\nNode cache\n  %s\n", d->cache);
	if (d->cache_why != NULL)
		dry_run_print("\nNode cache\n  staging goes without it: %s\n", d->cache_why);
}

static void print_head(const struct dry_run *d)
{
	size_t n = 0;
	const struct outlook_stage *v = d->outlook != NULL ? outlook_stages(d->outlook, &n) : NULL;

	if (n > 0)
		dry_run_print("\nStaged first, all at once\n");
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < v[i].n_sources; k++)
			print_source(d, &v[i].sources[k]);
		print_destination(&v[i]);
	}
}

/* The rest of the plan. */

struct settings_printer {
	bool all, any;
};

static void print_setting(void *ctx, const char *key, const char *value, const char *origin)
{
	struct settings_printer *p = ctx;

	if (!p->all && strcmp(origin, "default") == 0)
		return;
	if (!p->any)
		dry_run_print("\nSettings%s\n",
			p->all ? "" : " that are not the default (--verbose: all)");
	p->any = true;
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

/* Where the program is, or what may bring it. */
static void print_program(const struct dry_run *d)
{
	if (d->command_code == 0 && strchr(d->plan->command.v[0], '/') == NULL)
		dry_run_print("  (found as %s)\n", d->command);
	else if (d->command_code != 0 && d->bringer != NULL)
		dry_run_print("  (not there yet; it may come from %s)\n", d->bringer);
	else if (d->command_code != 0)
		dry_run_print("  (%s)\n", d->command_err.msg);
}

static void print_command(const struct dry_run *d)
{
	const struct plan *p = d->plan;
	const char *why = NULL;

	if (p->command.n == 0)
		return;
	dry_run_print("\nThen the command\n ");
	for (size_t i = 0; i < p->command.n; i++)
		dry_run_print(" %s", p->command.v[i]);
	dry_run_print("\n");
	print_program(d);
	if (supervise_decide(d->settings, p, d->hooks, &why, NULL) == 0 && why != NULL)
		dry_run_print("  (as a child of the agent, which stays: %s)\n", why);
	if (p->runfile != NULL && p->runfile->params.n > 0)
		dry_run_print("  (the last %zu from hyper_params, %s:%u)\n", p->runfile->params.n,
			p->runfile->path, p->runfile->params_line);
}

static void print_dependencies(const struct dry_run *d)
{
	if (d->dependencies == NULL)
		return;
	dry_run_print("\nDependencies, installed meanwhile\n  %s  (%s)\n", d->dependencies,
		d->plan->dependencies->origin);
	if (d->dependencies_err.code < 0)
		dry_run_print("      cannot be installed: %s\n", d->dependencies_err.msg);
}

static void print_plan(const struct dry_run *d)
{
	const struct plan *p = d->plan;
	struct settings_printer printer = {.all = dry_run_is_verbose(d)};

	dry_run_print("stagerun %s: this is the plan; nothing is touched\n", STAGERUN_VERSION);
	settings_describe(d->settings, print_setting, &printer);
	if (p->runfile != NULL) {
		print_environment(p, d->settings);
		print_scratch(p->runfile);
	}
	print_hooks(p, d->hooks);
	print_store(d);
	print_head(d);
	print_dependencies(d);
	print_actions(p, POINT_EXPERIMENT_START, p->first_action);
	print_command(d);
	print_actions(p, POINT_EXPERIMENT_END, 0);
	if (d->problems.n == 0)
		dry_run_print("\nNothing is in the way.\n");
	else
		dry_run_print("\nThis would fail, for %zu reason%s (on standard error).\n",
			d->problems.n, d->problems.n > 1 ? "s" : "");
}

static int finish(struct dry_run *d)
{
	int exit_code = d->problems.n == 0 ? EXIT_DONE : EXIT_FAILED;

	if (d->problems.n > 0)
		fflush(stdout); /* before them; output_end() reports errors */
	for (size_t i = 0; i < d->problems.n; i++)
		log_error("%s", d->problems.v[i]);
	return exit_code;
}

static void print_json(const struct dry_run *d)
{
	_free_ char *json = dry_run_json(d);

	puts(json);
}

int dry_run(const struct run *r, const struct inherited *in)
{
	struct dry_run d = {.request = &r->request,
		.plan = &r->plan,
		.hooks = r->hooks.found,
		.settings = r->settings};
	int code = dry_run_ask(&d, in);

	if (code == 0) {
		if (r->request.json)
			print_json(&d);
		else
			print_plan(&d);
		code = finish(&d);
	}
	dry_run_done(&d);
	return code;
}

void dry_run_fail(const struct run *r, const struct error *err)
{
	struct dry_run d = {.request = &r->request, .plan = &r->plan};

	text_strings_add(&d.problems, err->msg);
	if (r->request.json)
		print_json(&d);
	dry_run_done(&d);
}
