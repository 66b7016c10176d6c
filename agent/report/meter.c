/* SPDX-License-Identifier: MIT */
/* Rates and waits of sources. Loop thread. */
#include "defer.h"
#include "redact.h"
#include "report_private.h"
#include "utf8.h"
#include <string.h>

/* Below this time, the difference of two samples says nothing about a rate. */
#define SAMPLE_NS 90000000ULL

/* What happened earlier than this has little influence on an average. */
static const double average_seconds = 5;

void meter_init(struct meter *m, struct progress *p)
{
	_free_ char *shown = redact_own(text_copy(p->name));
	struct text name = {0};

	utf8_add_clean(&name, shown);
	*m = (struct meter){.progress = p, .name = text_take(&name)};
}

void meter_done(struct meter *m)
{
	free(m->name);
}

/* Returns by how much the counter has grown. A stage that starts again resets its counters to
 * zero. */
static uint64_t increase(uint64_t *last, uint64_t now)
{
	uint64_t more = now > *last ? now - *last : 0;

	*last = now;
	return more;
}

/* With the wait that has not ended yet. */
static uint64_t waited_for_network(const struct progress *p, uint64_t at_ns)
{
	uint64_t since = counted(&p->network_since_ns);

	return counted(&p->network_ns) + (since > 0 && since < at_ns ? at_ns - since : 0);
}

/* Forgets what was before the source became active. */
static void activate(struct meter *m, uint64_t at_ns)
{
	m->active_ns = m->grown_ns = m->sampled_ns = at_ns;
	m->received = counted(&m->progress->received);
	m->network_ns = waited_for_network(m->progress, at_ns);
	m->decode_ns = counted(&m->progress->decode_ns);
	m->disk_ns = counted(&m->progress->disk_ns);
}

static void average(double *value, double newest, double weight)
{
	*value += (newest - *value) * weight;
}

/* In the first seconds all samples weigh the same; later the newest counts as much of the average's
 * period as it is long. */
static double weight_of(const struct meter *m, double seconds, uint64_t at_ns)
{
	double active_seconds = (double)(at_ns - m->active_ns) / 1e9;

	return seconds / (active_seconds < average_seconds ? active_seconds : average_seconds);
}

void meter_sample(struct meter *m, uint64_t at_ns)
{
	double wall_ns, weight;
	uint64_t grown;

	if (m->active_ns == 0 && progress_state(m->progress) != PROGRESS_ACTIVE)
		return;
	if (m->active_ns == 0)
		activate(m, at_ns);
	if (at_ns - m->sampled_ns < SAMPLE_NS)
		return;
	wall_ns = (double)(at_ns - m->sampled_ns);
	weight = weight_of(m, wall_ns / 1e9, at_ns);
	if (weight > 1)
		weight = 1;
	m->sampled_ns = at_ns;
	grown = increase(&m->received, counted(&m->progress->received));
	if (grown > 0)
		m->grown_ns = at_ns;
	average(&m->bytes_per_second, (double)grown * 1e9 / wall_ns, weight);
	average(&m->network,
		(double)increase(&m->network_ns, waited_for_network(m->progress, at_ns)) / wall_ns,
		weight);
	average(&m->decode,
		(double)increase(&m->decode_ns, counted(&m->progress->decode_ns)) / wall_ns,
		weight);
	average(&m->disk, (double)increase(&m->disk_ns, counted(&m->progress->disk_ns)) / wall_ns,
		weight);
}

enum bottleneck meter_waits_for(const struct meter *m)
{
	static const double wall = 1e6;

	return report_bottleneck((uint64_t)(m->network * wall), (uint64_t)(m->decode * wall),
		(uint64_t)(m->disk * wall), (uint64_t)wall);
}

static double seconds_for(uint64_t received, uint64_t total, double bytes_per_second)
{
	if (total == 0 || bytes_per_second < 1)
		return -1;
	return received >= total ? 0 : (double)(total - received) / bytes_per_second;
}

double meter_seconds_left(const struct meter *m)
{
	return seconds_for(
		counted(&m->progress->received), counted(&m->progress->total), m->bytes_per_second);
}

/* A source whose end cannot be foreseen is slower than all others. */
static bool is_slower(const struct meter *m, const struct meter *than)
{
	double left = meter_seconds_left(m), left_than = meter_seconds_left(than);

	return left_than >= 0 && (left < 0 || left > left_than);
}

static void add_active(const struct meter *m, struct meter_total *t)
{
	t->active++;
	t->bytes_per_second += m->bytes_per_second;
	if (t->slowest == NULL || is_slower(m, t->slowest))
		t->slowest = m;
}

void meter_add_up(const struct meter *meters, size_t n, struct meter_total *ret)
{
	bool known = true;

	*ret = (struct meter_total){0};
	for (size_t i = 0; i < n; i++) {
		enum progress_state state = progress_state(meters[i].progress);
		uint64_t received = counted(&meters[i].progress->received);
		uint64_t total = counted(&meters[i].progress->total);

		if (state == PROGRESS_ACTIVE)
			add_active(&meters[i], ret);
		else if (state == PROGRESS_QUEUED)
			ret->queued++;
		else
			ret->done++;
		known = known && (total > 0 || state == PROGRESS_DONE);
		ret->received += received;
		ret->total += state == PROGRESS_DONE ? received : total;
	}
	if (!known)
		ret->total = 0;
	ret->seconds_left = seconds_for(ret->received, ret->total, ret->bytes_per_second);
}

char *meter_print_percent(uint64_t done, uint64_t total)
{
	if (total == 0)
		return text_copy("");
	return text_format(
		"%u%%", done >= total ? 100U : (unsigned)((double)done * 100 / (double)total));
}

/* The unit stands once where both have the same. */
char *meter_print_amount(uint64_t done, uint64_t total)
{
	char first[32], second[32];
	const char *unit, *of_unit;

	units_print_size(done, first);
	if (total == 0)
		return text_copy(first);
	units_print_size(total, second);
	unit = strchr(first, ' ');
	of_unit = strchr(second, ' ');
	if (unit != NULL && of_unit != NULL && strcmp(unit, of_unit) == 0)
		first[unit - first] = '\0';
	return text_format("%s of %s", first, second);
}

char *meter_print_left(double seconds)
{
	if (seconds < 0)
		return text_copy("");
	if (seconds < 60)
		return text_format("%.0f s left", seconds);
	if (seconds < 3600)
		return text_format("%.0f min left", seconds / 60);
	return text_format("%.1f h left", seconds / 3600);
}

char *meter_print_rate(double bytes_per_second)
{
	char buf[32];

	return text_format("%s/s", units_print_size((uint64_t)bytes_per_second, buf));
}
