/* SPDX-License-Identifier: MIT */
/* Progress as log lines, for streams that are no terminal. Loop thread. */
#include "progress_lines.h"
#include "defer.h"
#include "log.h"
#include <string.h>

enum { NOTE_SECONDS = 1, STALL_SECONDS = 5, SIZE_SECONDS = 1 };

static double seconds_since(uint64_t then_ns, uint64_t at_ns)
{
	return (double)(at_ns - then_ns) / 1e9;
}

static struct log_field text_field(const char *key, const char *value)
{
	return (struct log_field){.key = key, .type = LOG_STRING, .string = value};
}

static struct log_field number_field(const char *key, double value)
{
	return (struct log_field){.key = key, .type = LOG_NUMBER, .number = value};
}

static struct log_field event_field(const char *event)
{
	return (struct log_field){.key = "event", .type = LOG_WORD, .string = event};
}

void progress_lines_start(struct meter *m, uint64_t at_ns)
{
	uint64_t total = counted(&m->progress->total);
	const struct log_field fields[] = {event_field("stage_started"),
		text_field("source", m->progress->name), text_field("to", m->progress->to),
		number_field("total_bytes", (double)total)};
	_free_ char *to =
		m->progress->to != NULL ? text_format(" -> %s", m->progress->to) : text_copy("");
	char size[32];

	if (m->start_logged || m->active_ns == 0 ||
		(total == 0 && seconds_since(m->active_ns, at_ns) < SIZE_SECONDS))
		return;
	m->start_logged = true;
	log_fields(LOG_INFO, fields, ARRAY_LEN(fields), "%s%s: started, %s", m->progress->name, to,
		total > 0 ? units_print_size(total, size) : "of unknown size");
}

static void log_note(struct meter *m, uint64_t at_ns)
{
	unsigned notes = atomic_load(&m->progress->notes);
	char note[PROGRESS_NOTE_SIZE];
	const struct log_field fields[] = {event_field("stage_retried"),
		text_field("source", m->progress->name), text_field("to", m->progress->to),
		text_field("why", note)};

	if (notes == m->notes_logged ||
		(m->note_logged_ns != 0 && seconds_since(m->note_logged_ns, at_ns) < NOTE_SECONDS))
		return;
	progress_last_note(m->progress, note);
	m->notes_logged = notes;
	m->note_logged_ns = at_ns;
	log_fields(LOG_INFO, fields, ARRAY_LEN(fields), "%s", note);
}

/* A source that is active, has not all of its bytes, and whose unpacker waits for them. */
static bool is_stalled(const struct meter *m, uint64_t at_ns)
{
	uint64_t total = counted(&m->progress->total);

	return progress_state(m->progress) == PROGRESS_ACTIVE && m->active_ns != 0 &&
	       (total == 0 || counted(&m->progress->received) < total) &&
	       seconds_since(m->grown_ns, at_ns) >= STALL_SECONDS &&
	       meter_waits_for(m) == WAITED_FOR_NETWORK;
}

static void log_stall(struct meter *m, uint64_t at_ns)
{
	double seconds = seconds_since(m->grown_ns, at_ns);
	const struct log_field fields[] = {event_field("stage_stalled"),
		text_field("source", m->progress->name), text_field("to", m->progress->to),
		number_field("seconds", seconds),
		number_field("received_bytes", (double)counted(&m->progress->received))};
	_free_ char *amount =
		meter_print_amount(counted(&m->progress->received), counted(&m->progress->total));

	if (seconds < STALL_SECONDS)
		m->stall_logged = false;
	if (m->stall_logged || !is_stalled(m, at_ns))
		return;
	m->stall_logged = true;
	log_fields(LOG_INFO, fields, ARRAY_LEN(fields),
		"%s: nothing has arrived for %.0f s (%s so far)", m->progress->name, seconds,
		amount);
}

void progress_lines_incidents(struct meter *m, uint64_t at_ns)
{
	if (m->active_ns == 0)
		return;
	log_note(m, at_ns);
	log_stall(m, at_ns);
}

static const char *last_component(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : name;
}

static char *describe_wait(const struct meter *m)
{
	static const char *const words[] = {
		[WAITED_LITTLE] = "",
		[WAITED_FOR_NETWORK] = ", waits for the network",
		[WAITED_FOR_DECODING] = ", waits for decoding",
		[WAITED_FOR_DISK] = ", waits for the disk",
	};

	return text_copy(words[meter_waits_for(m)]);
}

static void add_rate(struct text *t, double bytes_per_second, double seconds_left)
{
	_free_ char *rate = meter_print_rate(bytes_per_second);
	_free_ char *left = meter_print_left(seconds_left);

	text_addf(t, ", %s%s%s", rate, *left != '\0' ? ", " : "", left);
}

/* "cifar5.tar 41% (6.6 of 16.0 GB, 3 of 9 entries)" */
static void add_amounts(
	struct text *t, const char *name, uint64_t received, uint64_t total, const char *more)
{
	_free_ char *percent = meter_print_percent(received, total);
	_free_ char *amount = meter_print_amount(received, total);

	text_addf(t, "%s%s%s (%s%s)", name, *percent != '\0' ? " " : "", percent, amount, more);
}

static char *describe_entries(const struct progress *p)
{
	unsigned long long total = counted(&p->entries_total);

	return total == 0 ? text_copy("")
			  : text_format(", %llu of %llu files",
				    (unsigned long long)counted(&p->entries), total);
}

static void describe_one(const struct meter *m, struct text *t)
{
	const struct progress *p = m->progress;
	_free_ char *entries = describe_entries(p);
	_free_ char *waits = describe_wait(m);

	add_amounts(t, last_component(m->name), counted(&p->received), counted(&p->total), entries);
	add_rate(t, m->bytes_per_second, meter_seconds_left(m));
	text_add(t, waits);
}

static void describe_all(const struct meter_total *total, size_t n, struct text *t)
{
	const struct meter *m = total->slowest;
	_free_ char *name = text_format("%zu sources", n);
	_free_ char *done = text_format(", %zu of %zu done", total->done, n);
	_free_ char *waits = describe_wait(m);
	_free_ char *percent =
		meter_print_percent(counted(&m->progress->received), counted(&m->progress->total));

	add_amounts(t, name, total->received, total->total, done);
	add_rate(t, total->bytes_per_second, total->seconds_left);
	text_addf(t, "; slowest: %s%s%s%s", last_component(m->name), *percent != '\0' ? " " : "",
		percent, waits);
}

void progress_lines_heartbeat(const struct meter *meters, size_t n)
{
	struct meter_total total;
	struct text line = {0};

	meter_add_up(meters, n, &total);
	if (total.slowest == NULL)
		return;
	if (n == 1)
		describe_one(&meters[0], &line);
	else
		describe_all(&total, n, &line);
	{
		const struct log_field fields[] = {event_field("stage_progress"),
			text_field("source", n == 1 ? meters[0].progress->name : NULL),
			text_field("slowest", n > 1 ? total.slowest->progress->name : NULL),
			number_field("sources", (double)n),
			number_field("sources_done", (double)total.done),
			number_field("received_bytes", (double)total.received),
			number_field("total_bytes", (double)total.total),
			number_field("bytes_per_second", total.bytes_per_second),
			number_field("seconds_left", total.seconds_left),
			{.key = "waits_for",
				.type = LOG_WORD,
				.string = report_bottleneck_name(meter_waits_for(total.slowest))}};

		log_fields(LOG_INFO, fields, ARRAY_LEN(fields), "%s", line.s);
	}
	text_done(&line);
}
