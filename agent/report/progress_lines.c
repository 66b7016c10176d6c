/* SPDX-License-Identifier: MIT */
/* Progress as log lines, for streams that are no terminal. Loop thread. */
#include "defer.h"
#include "log.h"
#include "report_private.h"
#include <string.h>

enum { NOTE_SECONDS = 1, STALL_SECONDS = 5, SIZE_SECONDS = 1 };

static double seconds_since(uint64_t then_ns, uint64_t at_ns)
{
	return (double)(at_ns - then_ns) / 1e9;
}

static void log_progress(bool as_json, enum log_event event, const struct log_field *fields,
	unsigned n, const char *message)
{
	if (as_json)
		log_event_json(LOG_INFO, event, fields, n, "%s", message);
	else
		log_event(LOG_INFO, event, fields, n, "%s", message);
}

static char *describe_start(const struct progress *p, uint64_t total)
{
	_free_ char *to = p->to != NULL ? text_format(" -> %s", p->to) : text_copy("");
	char size[32];

	return text_format("%s%s: started, %s", p->name, to,
		total > 0 ? units_print_size(total, size) : "of unknown size");
}

void progress_lines_start(struct meter *m, uint64_t at_ns, bool as_json)
{
	uint64_t total = counted(&m->progress->total);
	const struct log_field fields[] = {log_field_text("source", m->progress->name),
		log_field_text("to", m->progress->to), log_field_known("total_bytes", total)};
	_free_ char *message = NULL;

	if (m->start_logged || m->active_ns == 0 ||
		(total == 0 && seconds_since(m->active_ns, at_ns) < SIZE_SECONDS))
		return;
	m->start_logged = true;
	message = describe_start(m->progress, total);
	log_progress(as_json, EVENT_STAGE_STARTED, fields, ARRAY_LEN(fields), message);
}

static void log_note(struct meter *m, uint64_t at_ns, bool as_json)
{
	unsigned notes = atomic_load(&m->progress->notes);
	char note[PROGRESS_NOTE_SIZE];
	const struct log_field fields[] = {log_field_text("source", m->progress->name),
		log_field_text("to", m->progress->to), log_field_text("why", note)};

	if (notes == m->notes_logged ||
		(m->note_logged_ns != 0 && seconds_since(m->note_logged_ns, at_ns) < NOTE_SECONDS))
		return;
	progress_last_note(m->progress, note);
	m->notes_logged = notes;
	m->note_logged_ns = at_ns;
	log_progress(as_json, EVENT_STAGE_RETRIED, fields, ARRAY_LEN(fields), note);
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

static char *describe_stall(const struct progress *p, double seconds)
{
	_free_ char *amount = meter_print_amount(counted(&p->received), counted(&p->total));

	return text_format(
		"%s: nothing has arrived for %.0f s (%s so far)", p->name, seconds, amount);
}

static void log_stall(struct meter *m, uint64_t at_ns, bool as_json)
{
	double seconds = seconds_since(m->grown_ns, at_ns);
	const struct log_field fields[] = {log_field_text("source", m->progress->name),
		log_field_text("to", m->progress->to), log_field_seconds("seconds", seconds),
		log_field_integer("received_bytes", counted(&m->progress->received))};
	_free_ char *message = NULL;

	if (seconds < STALL_SECONDS)
		m->stall_logged = false;
	if (m->stall_logged || !is_stalled(m, at_ns))
		return;
	m->stall_logged = true;
	message = describe_stall(m->progress, seconds);
	log_progress(as_json, EVENT_STAGE_STALLED, fields, ARRAY_LEN(fields), message);
}

void progress_lines_incidents(struct meter *m, uint64_t at_ns, bool as_json)
{
	if (m->active_ns == 0)
		return;
	log_note(m, at_ns, as_json);
	log_stall(m, at_ns, as_json);
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

void progress_lines_heartbeat(const struct meter *meters, size_t n, bool as_json)
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
		const char *waits = report_bottleneck_name(meter_waits_for(total.slowest));
		const char *name = total.slowest->progress->name;
		const struct log_field fields[] = {log_field_text("source", n == 1 ? name : NULL),
			log_field_text("slowest", n > 1 ? name : NULL),
			log_field_integer("sources", n),
			log_field_integer("sources_done", total.done),
			log_field_integer("received_bytes", total.received),
			log_field_known("total_bytes", total.total),
			log_field_integer("bytes_per_second", (uint64_t)total.bytes_per_second),
			log_field_seconds("seconds_left", total.seconds_left),
			log_field_word("waits_for", waits)};

		log_progress(as_json, EVENT_STAGE_PROGRESS, fields, ARRAY_LEN(fields), line.s);
	}
	text_done(&line);
}
