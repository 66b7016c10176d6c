/* SPDX-License-Identifier: MIT */
/* Follows a run and writes its status. Loop thread. */
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "run.h"
#include <string.h>

#define INTERVAL_NS 1000000000ULL

void status_writer_open(struct status_writer *w, bool is_prewarm)
{
	*w = (struct status_writer){.opened = true, .directory_fd = -1, .begin_ns = now_ns()};
	w->status.is_prewarm = is_prewarm;
	w->status.exit_code = RUN_STATUS_EXIT_UNKNOWN;
	run_status_time(0, w->status.begun);
}

void status_writer_close(struct status_writer *w)
{
	if (!w->opened)
		return;
	if (w->directory_fd >= 0)
		close(w->directory_fd);
	run_status_done(&w->status);
	*w = (struct status_writer){0};
}

/* Tries one place. Returns 0, or a negative code. */
static int write_first(struct status_writer *w, const char *place, const char *line)
{
	_close_ int fd = run_status_open_directory(place, true);
	int code = fd < 0 ? fd : run_status_write(fd, w->status.id, line, true);

	if (code < 0)
		return code;
	run_status_clean(fd, &w->status.process, w->status.phase == PHASE_COMMAND);
	w->directory_fd = take_fd(&fd);
	return 0;
}

static void find_place(struct status_writer *w, const char *line)
{
	struct strings places = {0};
	struct text reasons = {0};
	int code = -ENOENT;

	run_status_places(&places);
	for (size_t i = 0; i < places.n && code < 0; i++) {
		code = write_first(w, places.v[i], line);
		if (code < 0)
			text_addf(&reasons, "; %s: %s", places.v[i], strerrordesc_np(-code));
	}
	w->refused = code < 0;
	if (w->refused)
		log_debug("no status is written%s", reasons.s);
	text_strings_done(&places);
	text_done(&reasons);
}

static void identify(struct run_status *s)
{
	run_status_self(&s->process);
	snprintf(s->id, sizeof(s->id), "%d-%llu", s->process.pid,
		(unsigned long long)s->process.start_ticks);
}

static void write_status(struct status_writer *w)
{
	_free_ char *line = NULL;
	int code;

	if (!w->opened || w->refused)
		return;
	if (w->status.id[0] == '\0')
		identify(&w->status);
	run_status_time(0, w->status.updated);
	line = run_status_print(&w->status, RUN_ALIVE_UNKNOWN);
	w->written_ns = now_ns();
	if (w->directory_fd < 0) {
		find_place(w, line);
		return;
	}
	code = run_status_write(w->directory_fd, w->status.id, line, false);
	if (code < 0)
		log_debug("the status cannot be written: %s", strerrordesc_np(-code));
}

/* Progress. */

static void add_source(void *ctx, const struct monitor_source *source)
{
	run_status_add_source(ctx, source);
}

/* Sources that were removed stay in front; those that are watched follow for this time only. */
static void write_progress(struct status_writer *w)
{
	size_t n = w->status.n_sources;
	uint64_t total = w->status.sources_total;

	monitor_each(w->agent->monitor, add_source, &w->status);
	write_status(w);
	run_status_drop_sources(&w->status, n);
	w->status.sources_total = total;
}

static void on_progress(void *ctx, const struct monitor_source *removed)
{
	struct status_writer *w = ctx;

	if (removed != NULL)
		run_status_add_source(&w->status, removed);
	else if (now_ns() - w->written_ns >= INTERVAL_NS)
		write_progress(w);
}

void status_writer_watch(struct status_writer *w, struct agent *a)
{
	if (!w->opened)
		return;
	w->agent = a;
	a->policy.on_progress = on_progress;
	a->policy.on_progress_ctx = w;
}

/* Phases. */

static void set_text(char **to, const char *s)
{
	free(*to);
	*to = s != NULL && *s != '\0' ? redact_own(text_copy(s)) : NULL;
}

static void note_ready(struct status_writer *w)
{
	w->status.is_ready = true;
	w->status.ready_ns = now_ns() - w->begin_ns;
}

void status_writer_enter(struct status_writer *w, enum run_phase phase)
{
	if (!w->opened)
		return;
	w->status.phase = phase;
	w->status.next_look[0] = '\0';
	if (phase == PHASE_STAGE)
		run_status_drop_sources(&w->status, 0); /* those of the round before */
	if (phase == PHASE_COMMAND)
		note_ready(w);
	write_status(w);
}

void status_writer_round(struct status_writer *w, const char *message, uint64_t next_ms)
{
	if (!w->opened)
		return;
	w->status.phase = PHASE_WAITING;
	w->status.round_failed = message != NULL;
	set_text(&w->status.message, message);
	if (message == NULL && !w->status.is_ready)
		note_ready(w);
	run_status_time(0, w->status.last_round);
	run_status_time(next_ms, w->status.next_look);
	write_status(w);
}

void status_writer_end(
	struct status_writer *w, int exit_code, const char *phase, const char *message)
{
	bool failed = exit_code != 0;

	if (!w->opened)
		return;
	w->status.phase = failed ? PHASE_FAILED : PHASE_DONE;
	w->status.exit_code = exit_code;
	w->status.next_look[0] = '\0';
	set_text(&w->status.failed_phase, failed ? phase : NULL);
	set_text(&w->status.message, failed ? message : NULL);
	if (!failed && !w->status.is_ready)
		note_ready(w);
	write_status(w);
}
