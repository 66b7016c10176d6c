/* SPDX-License-Identifier: MIT */
/* The status of a run as lines for people. */
#include "defer.h"
#include "report_private.h"
#include "run_status.h"

static void add_exit(struct text *to, const struct run_status *s)
{
	if (s->exit_code == RUN_STATUS_EXIT_UNKNOWN)
		text_add(to, " (exit not known)");
	else
		text_addf(to, ", exit status %d", s->exit_code);
}

static void add_message(struct text *to, const struct run_status *s)
{
	if (s->message != NULL)
		text_addf(to, ": %s", s->message);
}

static void add_ready(struct text *to, const struct run_status *s)
{
	char buf[32];

	if (s->is_ready)
		text_addf(to, ", ready after %s", units_print_duration(s->ready_ns, buf));
}

/* Seconds are enough for people. */
static void add_round(struct text *to, const struct run_status *s)
{
	if (s->last_round[0] == '\0')
		return;
	text_addf(to, ", last round %s at %.19sZ", s->round_failed ? "failed" : "done",
		s->last_round);
	if (s->next_look[0] != '\0')
		text_addf(to, ", next look at %.19sZ", s->next_look);
}

static void add_phase(struct text *to, const struct run_status *s)
{
	switch (s->phase) {
	case PHASE_STAGE:
		text_addf(to, "data is staged");
		add_round(to, s);
		break;
	case PHASE_START:
		text_add(to, "start actions run");
		break;
	case PHASE_COMMAND:
		text_add(to, "the command runs");
		add_ready(to, s);
		break;
	case PHASE_WAITING:
		text_add(to, "waits");
		add_round(to, s);
		add_message(to, s);
		break;
	case PHASE_DONE:
		text_add(to, "done");
		add_exit(to, s);
		break;
	case PHASE_FAILED:
		text_add(to, "failed");
		add_exit(to, s);
		add_message(to, s);
		break;
	}
}

static void add_active(struct text *to, const struct run_status_source *s)
{
	static const char *const waits[] = {
		[WAITED_LITTLE] = "",
		[WAITED_FOR_NETWORK] = ", waits for the network",
		[WAITED_FOR_DECODING] = ", waits for decoding",
		[WAITED_FOR_DISK] = ", waits for the disk",
	};
	_free_ char *percent = meter_print_percent(s->received, s->total);
	_free_ char *amount = meter_print_amount(s->received, s->total);
	_free_ char *rate = meter_print_rate((double)s->bytes_per_second);
	_free_ char *left = meter_print_left(s->seconds_left);

	text_addf(to, "%s%s(%s), %s%s%s%s", percent, percent[0] != '\0' ? " " : "", amount, rate,
		left[0] != '\0' ? ", " : "", left, waits[s->waits_for]);
}

static void add_source(struct text *to, const struct run_status_source *s)
{
	char size[32];

	text_addf(
		to, "  %s%s%s: ", s->name, s->to != NULL ? " -> " : "", s->to != NULL ? s->to : "");
	if (s->state == PROGRESS_ACTIVE)
		add_active(to, s);
	else if (s->state == PROGRESS_QUEUED)
		text_add(to, "queued");
	else
		text_addf(to, "done, %s received", units_print_size(s->received, size));
	text_add(to, "\n");
}

void run_status_describe(const struct run_status *s, struct text *to)
{
	text_addf(to, "%s %s (pid %d, begun %.19sZ): ", s->is_prewarm ? "prewarm" : "run", s->id,
		s->process.pid, s->begun);
	add_phase(to, s);
	text_add(to, "\n");
	for (size_t i = 0; i < s->n_sources; i++)
		add_source(to, &s->sources[i]);
	if (s->sources_total > s->n_sources)
		text_addf(to, "  and %llu more sources\n",
			(unsigned long long)(s->sources_total - s->n_sources));
}
