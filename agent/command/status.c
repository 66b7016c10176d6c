/* SPDX-License-Identifier: MIT */
/* `stagerun status`: what a run is doing, from the files that the runs write. It reads no settings,
 * and so answers whatever is in them. Loop thread. */
#include "command.h"
#include "defer.h"
#include "log.h"
#include "options.h"
#include "run_status.h"
#include "subcommand.h"
#include <string.h>
#include <time.h>

/* The exit codes; stagerun(1) promises them to probes. */
enum { STATUS_READY = 0, STATUS_FAILED = 1, STATUS_STARTING = 3, STATUS_NONE = 4 };

enum { POLL_NS = 200000000 };

struct status_request {
	bool json, wait, all, help;
	const char *run; /* an ID; NULL: the newest */
};

#define MEMBER(kind, member) NULL, kind, offsetof(struct status_request, member)

static const struct option_row status_rows[] = {
	{"json", 0, NULL, "one line of JSON for each run", MEMBER(OPTION_FLAG, json)},
	{"wait", 0, NULL, "until the command runs, or the run has ended or failed",
		MEMBER(OPTION_FLAG, wait)},
	{"run", 0, "ID", "of this run, not of the newest", MEMBER(OPTION_TEXT, run)},
	{"all", 0, NULL, "all that are known, the newest first", MEMBER(OPTION_FLAG, all)},
	{"help", 'h', NULL, "this text", MEMBER(OPTION_FLAG, help)},
	{NULL},
};

static const struct option_row *const tables[] = {status_rows, NULL};

static void print_help(void)
{
	puts("Usage: stagerun status [OPTIONS]\n\n"
	     "Shows what the newest run on this machine, or in this container, is doing.\n"
	     "Exit status: 0 the command runs or has ended, 1 failed, 3 still staging, 4 no run.\n\n"
	     "Options:");
	options_print(tables);
}

static int compare_newest_first(const void *a, const void *b)
{
	const struct run_status *x = a, *y = b;
	int order = strcmp(y->begun, x->begun);

	return order != 0 ? order : strcmp(y->id, x->id);
}

/* Removes the runs that were not asked for. Those of another PID namespace are another container's,
 * which shares a directory with this one. */
static void select_runs(struct run_status_list *l, const struct status_request *r,
	const struct run_status_process *self)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct run_status *s = &l->v[i];
		bool other = run_status_is_alive(&s->process, self) == RUN_ALIVE_UNKNOWN;
		bool wanted = r->run != NULL ? strcmp(s->id, r->run) == 0 : r->all || !other;

		if (wanted)
			l->v[kept++] = *s;
		else
			run_status_done(s);
	}
	l->n = kept;
}

static void read_runs(struct run_status_list *ret)
{
	struct strings places = {0};

	run_status_places(&places);
	for (size_t i = 0; i < places.n; i++) {
		_close_ int fd = run_status_open_directory(places.v[i], false);

		if (fd >= 0)
			run_status_read(fd, ret);
	}
	text_strings_done(&places);
}

static void print_run(const struct run_status *s, enum run_alive alive, bool json, struct text *to)
{
	_free_ char *line = NULL;

	if (!json) {
		run_status_describe(s, to);
		return;
	}
	line = run_status_print(s, alive);
	text_addf(to, "%s\n", line);
}

static int exit_of(const struct run_status *s)
{
	if (s->phase == PHASE_FAILED)
		return STATUS_FAILED;
	if (s->phase == PHASE_WAITING)
		return s->round_failed ? STATUS_FAILED : STATUS_READY;
	return s->phase == PHASE_COMMAND || s->phase == PHASE_DONE ? STATUS_READY : STATUS_STARTING;
}

/* Looks once. *ret_text: what is to be printed; heap. */
static int look(const struct status_request *r, char **ret_text)
{
	struct run_status_process self;
	struct run_status_list runs = {0};
	struct text text = {0};
	int exit_code = STATUS_NONE;

	run_status_self(&self);
	read_runs(&runs);
	select_runs(&runs, r, &self);
	if (runs.n > 1)
		qsort(runs.v, runs.n, sizeof(*runs.v), compare_newest_first);
	for (size_t i = 0; i < (r->all ? runs.n : runs.n > 0); i++) {
		enum run_alive alive = run_status_is_alive(&runs.v[i].process, &self);

		run_status_settle(&runs.v[i], alive);
		print_run(&runs.v[i], alive, r->json, &text);
		if (i == 0)
			exit_code = exit_of(&runs.v[i]);
	}
	run_status_list_done(&runs);
	*ret_text = text_take(&text);
	return exit_code;
}

static int show(const struct status_request *r)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	_free_ char *text = NULL;
	int exit_code = look(r, &text);

	while (r->wait && exit_code == STATUS_STARTING) {
		nanosleep(&pause, NULL);
		free(take_ptr(&text));
		exit_code = look(r, &text);
	}
	fputs(text, stdout);
	if (exit_code == STATUS_NONE && r->run != NULL)
		log_error("status: there is no run %s; --all lists those that are known", r->run);
	else if (exit_code == STATUS_NONE)
		log_error("status: no run is known here");
	return exit_code;
}

int command_status(int argc, char **argv, const struct inherited *in)
{
	struct status_request r = {0};
	struct error err;
	int rest = 0;

	(void)in;
	if (options_parse(argc - 1, argv + 1, tables, &r, &rest, &err) < 0) {
		log_error("status: %s", err.msg);
		return EXIT_USAGE;
	}
	if (argv[1 + rest] != NULL) {
		log_error("status: there is a word '%s'; --run names a run", argv[1 + rest]);
		return EXIT_USAGE;
	}
	if (!r.help)
		return show(&r);
	print_help();
	return EXIT_DONE;
}
