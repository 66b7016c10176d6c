/* SPDX-License-Identifier: MIT */
/* Finds out whether a run would work: asks the sources at the same time, on the threads of libuv's
 * pool, which are few, and looks at everything else that may be missing. Loop thread, except for
 * the work on the pool. */
#include "datastore_ref.h"
#include "defer.h"
#include "dry_run.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void __attribute__((format(printf, 2, 3)))
add_problem(struct dry_run *d, const char *fmt, ...)
{
	_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	text_strings_add(&d->problems, s);
}

/* The sources and destinations. */

/* One question: to a source, or, once all sources of a stage have answered, to its destination. */
struct question {
	uv_work_t work;
	struct inquiry *inquiry;
	size_t stage, source;
};

struct inquiry {
	struct outlook *outlook;
	uv_loop_t *loop;
	struct question *sources, *stages;
	size_t *unanswered; /* for each stage */
	size_t n_open;      /* stages that were not looked at yet */
};

static void look(uv_work_t *work)
{
	const struct question *q = container_of(work, struct question, work);

	outlook_look(q->inquiry->outlook, q->stage);
}

static void on_looked(uv_work_t *work, int status)
{
	struct question *q = container_of(work, struct question, work);

	(void)status;
	q->inquiry->n_open--;
}

static void ask(uv_work_t *work)
{
	const struct question *q = container_of(work, struct question, work);

	outlook_ask(q->inquiry->outlook, q->stage, q->source);
}

static void on_answered(uv_work_t *work, int status)
{
	struct question *q = container_of(work, struct question, work);
	struct inquiry *all = q->inquiry;

	(void)status;
	if (--all->unanswered[q->stage] == 0)
		uv_queue_work(all->loop, &all->stages[q->stage].work, look, on_looked);
}

static void inquiry_begin(struct inquiry *all)
{
	const struct outlook_stage *stages = outlook_stages(all->outlook, &all->n_open);
	size_t n = all->n_open, n_sources = 0, next = 0;

	for (size_t i = 0; i < n; i++)
		n_sources += stages[i].n_sources;
	all->stages = zalloc(n * sizeof(*all->stages));
	all->unanswered = zalloc(n * sizeof(*all->unanswered));
	all->sources = zalloc(n_sources * sizeof(*all->sources));
	for (size_t i = 0; i < n; i++) {
		all->stages[i] = (struct question){.inquiry = all, .stage = i};
		all->unanswered[i] = stages[i].n_sources;
		for (size_t k = 0; k < stages[i].n_sources; k++, next++) {
			all->sources[next] =
				(struct question){.inquiry = all, .stage = i, .source = k};
			uv_queue_work(all->loop, &all->sources[next].work, ask, on_answered);
		}
	}
}

static void cancel_inquiry(void *outlook, bool hard)
{
	(void)hard;
	outlook_cancel(outlook);
}

/* After time is over, the threads still use everything. */
static void ask_outlook(struct dry_run *d, struct agent *a)
{
	static const struct step_ops ops = {.cancel = cancel_inquiry};
	struct inquiry *all = zalloc(sizeof(*all));

	*all = (struct inquiry){.outlook = d->outlook, .loop = &a->loop};
	a->step = (struct agent_step){.ops = &ops, .work = d->outlook};
	inquiry_begin(all);
	while (all->n_open > 0 && !a->out_of_time)
		uv_run(&a->loop, UV_RUN_ONCE);
	a->step = (struct agent_step){0};
	if (a->out_of_time)
		return;
	free(all->sources);
	free(all->stages);
	free(all->unanswered);
	free(all);
}

/* Opens the node cache, but makes none. */
static void open_cache(struct dry_run *d, struct agent *a)
{
	struct cache_options opts = agent_cache_options(d->settings);
	struct error err;
	int code;

	a->resources.cache_refused = true; /* so that nothing else opens it */
	if (opts.dir[0] == '\0') {
		if (d->request->cache_only)
			add_problem(d,
				"--cache-only: there is no node cache that can be used; name its directory in agent.ini (dir of [cache]) or $STAGERUN_CACHE_DIR");
		return;
	}
	code = cache_open(&opts, &a->resources.cache, &err);
	if (code == 0 || code == -ENOENT) {
		d->cache = text_copy(opts.dir);
		return;
	}
	d->cache_why = text_copy(err.msg);
	if (d->request->cache_only)
		add_problem(
			d, "--cache-only: there is no node cache that can be used: %s", err.msg);
}

/* The store, and the credentials that would be used. */
static void describe_store(struct dry_run *d, const struct agent *a)
{
	const struct agent_resources *r = &a->resources;

	if (r->store != NULL)
		d->store = text_copy(store_name(r->store));
	if (r->s3 != NULL && (d->store == NULL || strncmp(d->store, "s3://", 5) == 0))
		d->s3 = s3_describe(r->s3);
}

static void ask_stages(struct dry_run *d, struct agent *a)
{
	const struct plan *p = d->plan;
	struct stage_env env;
	struct error err;
	int code;

	open_cache(d, a);
	if (p->n_head == 0)
		return;
	code = agent_need_sources(a, p->head, p->n_head, &err);
	if (code == 0) {
		a->policy.cache_only = d->request->cache_only;
		agent_fill_stage_env(a, &env);
		code = outlook_new(&env, p->head, p->n_head, &d->outlook, &err);
	}
	describe_store(d, a);
	if (code < 0)
		add_problem(d, "%s", err.msg);
	else
		ask_outlook(d, a);
}

/* What would fail. */

static void check_source(
	struct dry_run *d, const struct outlook_stage *s, const struct outlook_source *q)
{
	bool named = strstr(q->err.msg, q->name) != NULL;

	add_problem(d, "%s (%s): %s%s%s", s->spec->to, dry_run_spec(d, q)->origin,
		named ? "" : q->name, named ? "" : ": ", q->err.msg);
}

static void check_sources(struct dry_run *d, const struct outlook_stage *s)
{
	for (size_t k = 0; k < s->n_sources && s->asked; k++)
		if (s->sources[k].code < 0)
			check_source(d, s, &s->sources[k]);
}

/* The bytes of a datastore are known; those of an archive are its compressed ones. */
static void check_limit(struct dry_run *d, const struct outlook_stage *s)
{
	char bytes[32], limit[32];

	for (size_t k = 0; k < s->n_sources; k++)
		if (s->sources[k].manifest == NULL)
			return;
	if (s->bytes > s->max_bytes)
		add_problem(d, "%s (%s): it needs %s, and may have %s (%s)", s->spec->to,
			s->spec->origin, units_print_size(s->bytes, bytes),
			units_print_size(s->max_bytes, limit),
			s->max_bytes_why != NULL ? s->max_bytes_why : "limits.max_bytes");
}

/* Whether the stage needs room that is not there already. */
static bool needs_room(const struct outlook_stage *s)
{
	return s->result == OUTLOOK_FETCH && s->knows_space && !s->continues;
}

/* With a node cache, its file system may have the room instead. */
static bool cache_has_room(const struct dry_run *d, uint64_t bytes, uint64_t files)
{
	_close_ int fd = d->cache != NULL ? open(d->cache, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct disk_space space;

	if (d->cache == NULL)
		return false;
	return fd < 0 || !disk_space(fd, &space) ||
	       (bytes <= space.free && (space.of_inodes == 0 || files <= space.inodes));
}

/* The stages at v[first] and after it that share its file system. */
static void check_disk(struct dry_run *d, const struct outlook_stage *v, size_t first, size_t n)
{
	const struct outlook_stage *s = &v[first];
	uint64_t bytes = 0, files = 0;
	char need[32], have[32];
	unsigned others = 0;
	_free_ char *with = NULL;

	for (size_t i = first; i < n; i++) {
		if (!needs_room(&v[i]) || v[i].disk != s->disk)
			continue;
		bytes += v[i].bytes;
		files += v[i].files;
		others += i > first;
	}
	if (cache_has_room(d, bytes, files))
		return;
	with = others == 0 ? text_copy("") : text_format(" and %u more on its file system", others);
	if (bytes > s->space.free)
		add_problem(d,
			"%s%s: at least %s would be needed, and %s are free; make room, or stage elsewhere",
			s->spec->to, with, units_print_size(bytes, need),
			units_print_size(s->space.free, have));
	if (s->space.of_inodes > 0 && files > s->space.inodes)
		add_problem(d,
			"%s%s: %llu files would need an inode each, and %llu are free; make room, or stage elsewhere",
			s->spec->to, with, (unsigned long long)files,
			(unsigned long long)s->space.inodes);
}

static void check_room(struct dry_run *d, const struct outlook_stage *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool seen = !needs_room(&v[i]);

		for (size_t k = 0; k < i && !seen; k++)
			seen = needs_room(&v[k]) && v[k].disk == v[i].disk;
		if (!seen)
			check_disk(d, v, i, n);
	}
}

static void check_stages(struct dry_run *d)
{
	size_t n = 0;
	const struct outlook_stage *v = d->outlook != NULL ? outlook_stages(d->outlook, &n) : NULL;

	for (size_t i = 0; i < n; i++) {
		check_sources(d, &v[i]);
		if (v[i].err.code < 0)
			add_problem(
				d, "%s (%s): %s", v[i].spec->to, v[i].spec->origin, v[i].err.msg);
		if (v[i].result == OUTLOOK_FETCH)
			check_limit(d, &v[i]);
	}
	check_room(d, v, n);
}

static void check_scratch(struct dry_run *d)
{
	const struct runfile *f = d->request->cache_only ? NULL : d->plan->runfile;

	for (size_t i = 0; f != NULL && i < f->n_scratch; i++) {
		const char *path = f->scratch[i].mount_path;
		const char *slash = strrchr(path, '/');
		_free_ char *parent = slash == NULL
					      ? text_copy(".")
					      : text_format("%.*s", (int)(slash - path) + 1, path);

		if (access(path, F_OK) != 0 &&
			faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) != 0)
			add_problem(d,
				"%s:%u: the scratch directory %s could not be made in %s: %s; mount a volume there",
				f->path, f->scratch[i].line, path, parent, strerrordesc_np(errno));
	}
}

static void check_dependencies(struct dry_run *d, struct agent *a)
{
	const struct dependencies *wanted = d->plan->dependencies;

	if (wanted == NULL || a->signal != 0)
		return;
	d->dependencies = dependencies_command(wanted);
	if (agent_check_dependencies(a, wanted, &d->plan->environment, &d->dependencies_err) < 0)
		add_problem(d, "%s: the dependencies cannot be installed: %s", wanted->origin,
			d->dependencies_err.msg);
}

static void check_command(struct dry_run *d)
{
	const struct plan *p = d->plan;

	if (p->command.n == 0)
		return;
	d->command = process_find(p->command.v[0], p->environment.v);
	d->command_code = process_check(p->command.v, p->environment.v, NULL, &d->command_err);
	d->bringer = command_check_bringer(p, d->hooks);
	if (d->command_code != 0 && d->bringer == NULL)
		add_problem(d, "%s", d->command_err.msg);
}

int dry_run_ask(struct dry_run *d, const struct inherited *in)
{
	struct settings impatient = *d->settings; /* no retries: the plan is wanted now */
	struct agent a;
	struct error err;

	impatient.network.patience_ms = 0;
	if (agent_open(&a, &impatient, in, &err) < 0) {
		add_problem(d, "%s", err.msg);
	} else {
		ask_stages(d, &a);
		check_dependencies(d, &a);
	}
	agent_close(&a);
	if (a.signal != 0)
		return agent_leave(&a, 128 + a.signal);
	check_stages(d);
	check_scratch(d);
	check_command(d);
	return 0;
}

void dry_run_done(struct dry_run *d)
{
	outlook_free(d->outlook);
	free(d->store);
	free(d->s3);
	free(d->cache);
	free(d->cache_why);
	free(d->dependencies);
	free(d->command);
	text_strings_done(&d->problems);
}

bool dry_run_is_verbose(const struct dry_run *d)
{
	return d->settings->log_level == LOG_DEBUG;
}

const struct stage_spec *dry_run_spec(const struct dry_run *d, const struct outlook_source *q)
{
	const struct plan *p = d->plan;

	for (size_t i = 0; i < p->n_head; i++)
		for (size_t k = 0; k < p->head[i].n_sources; k++)
			if (p->head[i].sources[k].url == q->source->url)
				return &p->head[i];
	return &p->head[0]; /* every source is of a spec */
}

const char *dry_run_result_name(enum outlook_result r)
{
	static const char *const names[] = {[OUTLOOK_FETCH] = "fetch",
		[OUTLOOK_WARM] = "warm",
		[OUTLOOK_CACHED] = "cached",
		[OUTLOOK_KEPT] = "kept",
		[OUTLOOK_REFUSED] = "refused"};

	return names[r];
}
