/* SPDX-License-Identifier: MIT */
/* How one source looks on the terminal. It knows columns but no terminal. Loop thread. */
#include "row.h"
#include "defer.h"
#include "redact.h"
#include "utf8.h"
#include <string.h>

/* Below this, two samples say nothing about a rate. */
#define SAMPLE_NS 90000000ULL

/* The weight of the newest sample: what was seen two seconds ago hardly counts. */
static const double newest_weight = 0.15;

void row_init(struct row *r, const struct progress *p, uint64_t at_ns)
{
	_free_ char *shown = redact_own(copy_text(p->name));
	struct text name = {0};

	utf8_add_clean(&name, shown);
	*r = (struct row){.progress = p,
		.name = text_take(&name),
		.sampled_ns = at_ns,
		.received = counted(&p->received),
		.network_ns = counted(&p->network_ns),
		.decode_ns = counted(&p->decode_ns),
		.disk_ns = counted(&p->disk_ns)};
}

void row_done(struct row *r)
{
	free(r->name);
}

/* A stage that starts over counts from zero again. */
static uint64_t since(uint64_t *last, const atomic_ullong *counter)
{
	uint64_t now = counted(counter), more = now > *last ? now - *last : 0;

	*last = now;
	return more;
}

void row_sample(struct row *r, uint64_t at_ns)
{
	uint64_t wall_ns = at_ns - r->sampled_ns;
	uint64_t network_ns, decode_ns, disk_ns;
	double rate;

	if (wall_ns < SAMPLE_NS)
		return;
	rate = (double)since(&r->received, &r->progress->received) * 1e9 / (double)wall_ns;
	r->bytes_per_second +=
		r->bytes_per_second > 0 ? (rate - r->bytes_per_second) * newest_weight : rate;
	network_ns = since(&r->network_ns, &r->progress->network_ns);
	decode_ns = since(&r->decode_ns, &r->progress->decode_ns);
	disk_ns = since(&r->disk_ns, &r->progress->disk_ns);
	r->waits_for = bottleneck_of(network_ns, decode_ns, disk_ns, wall_ns);
	r->sampled_ns = at_ns;
}

static char *percent(const struct row *r)
{
	uint64_t total = counted(&r->progress->total), received = counted(&r->progress->received);

	if (total == 0)
		return copy_text("    ");
	return format_text("%3u%%",
		received >= total ? 100U : (unsigned)((double)received * 100 / (double)total));
}

static char *amount(const struct row *r)
{
	uint64_t total = counted(&r->progress->total);
	char received[32], of[32];

	print_size(counted(&r->progress->received), received);
	return total == 0 ? copy_text(received)
			  : format_text("%s of %s", received, print_size(total, of));
}

static char *rate(const struct row *r)
{
	char buf[32];

	return format_text("%s/s", print_size((uint64_t)r->bytes_per_second, buf));
}

static char *unpacked(const struct row *r)
{
	unsigned long long entries = counted(&r->progress->entries);
	char buf[32];

	return entries == 0
		       ? copy_text("")
		       : format_text("%llu %s of %s", entries, entries == 1 ? "entry" : "entries",
				 print_size(counted(&r->progress->expanded), buf));
}

static char *waiting(const struct row *r)
{
	return r->waits_for == WAITED_LITTLE ? copy_text("")
					     : copy_text(bottleneck_name(r->waits_for));
}

/* The most important first, and so from left to right. Widths keep the columns still while the numbers
 * in them change. */
static const struct field {
	char *(*print)(const struct row *r);
	int columns;
} fields[] = {
	{percent, 4},
	{amount, 18},
	{rate, 9},
	{unpacked, 24},
	{waiting, 7},
};

/* A long name loses its middle: what tells sources apart is mostly at the end. */
static void draw_name(const char *name, size_t columns, struct text *to)
{
	size_t width = utf8_columns(name), head = (columns - 2) / 3, cut = head + 2;
	const char *tail = name;

	if (width <= columns) {
		text_addf(to, "%s%*s", name, (int)(columns - width), "");
	} else if (columns < 3) {
		text_add_bytes(to, name, utf8_fitting(name, columns));
	} else {
		text_add_bytes(to, name, utf8_fitting(name, head));
		text_add(to, "..");
		while (width > columns - cut)
			width -= utf8_step(&tail);
		text_addf(to, "%s%*s", tail, (int)(columns - cut - width), "");
	}
}

void row_draw(const struct row *r, size_t columns, size_t name_columns, struct text *to)
{
	size_t left = columns;

	if (name_columns > left)
		name_columns = left;
	draw_name(r->name, name_columns, to);
	left -= name_columns;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		_free_ char *field = fields[i].print(r);
		size_t width = (size_t)fields[i].columns;

		if (strlen(field) > width)
			width = strlen(field);
		if (width + 2 > left)
			return;
		text_addf(to, "  %*s", (int)width, field);
		left -= width + 2;
	}
}
