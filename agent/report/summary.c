/* SPDX-License-Identifier: MIT */
/* The log line about a source that is done, and the bottleneck of a stage. Any thread. */
#include "defer.h"
#include "log.h"
#include "report.h"
#include "text.h"

enum bottleneck report_bottleneck(
	uint64_t network_ns, uint64_t decode_ns, uint64_t disk_ns, uint64_t wall_ns)
{
	uint64_t notable = wall_ns / 10;

	if (network_ns > wall_ns / 2)
		return WAITED_FOR_NETWORK;
	if (decode_ns > notable && decode_ns >= disk_ns)
		return WAITED_FOR_DECODING;
	if (disk_ns > notable)
		return WAITED_FOR_DISK;
	return network_ns > notable ? WAITED_FOR_NETWORK : WAITED_LITTLE;
}

const char *report_bottleneck_name(enum bottleneck b)
{
	static const char *const names[] = {
		[WAITED_LITTLE] = "little",
		[WAITED_FOR_NETWORK] = "network",
		[WAITED_FOR_DECODING] = "decode",
		[WAITED_FOR_DISK] = "disk",
	};

	return names[b];
}

static const char *describe_bottleneck(enum bottleneck b)
{
	static const char *const words[] = {
		[WAITED_LITTLE] = "waited for little",
		[WAITED_FOR_NETWORK] = "waited for the network",
		[WAITED_FOR_DECODING] = "waited for decoding",
		[WAITED_FOR_DISK] = "waited for the disk",
	};

	return words[b];
}

static uint64_t per_second(uint64_t bytes, uint64_t ns)
{
	return ns > 0 ? (uint64_t)((double)bytes * 1e9 / (double)ns) : 0;
}

static char *describe_staged(
	const struct progress *p, const char *to, uint64_t elapsed_ns, enum bottleneck waited)
{
	uint64_t received = counted(&p->received), entries = counted(&p->entries);
	char size[32], time[32], rate[32], expanded[32];

	return text_format("%s -> %s: %s in %s (%s/s), %llu %s of %s, %s", p->name, to,
		units_print_size(received, size), units_print_duration(elapsed_ns, time),
		units_print_size(per_second(received, elapsed_ns), rate),
		(unsigned long long)entries, entries == 1 ? "entry" : "entries",
		units_print_size(counted(&p->expanded), expanded), describe_bottleneck(waited));
}

void report_source_done(const struct progress *p, const char *to, const char *format,
	uint64_t elapsed_ns, bool warm)
{
	uint64_t network_ns = counted(&p->network_ns), decode_ns = counted(&p->decode_ns),
		 disk_ns = counted(&p->disk_ns), received = counted(&p->received);
	enum bottleneck waited = report_bottleneck(network_ns, decode_ns, disk_ns, elapsed_ns);
	_free_ char *sentence =
		warm ? text_format("%s -> %s: already there, nothing to fetch", p->name, to)
		     : describe_staged(p, to, elapsed_ns, waited);
	const struct log_field fields[] = {
		log_field_text("source", p->name),
		log_field_text("to", to),
		log_field_word("format", format),
		log_field_word("result", warm ? "warm" : "staged"),
		log_field_word("waited_for", warm ? NULL : report_bottleneck_name(waited)),
		log_field_ns("seconds", elapsed_ns),
		log_field_integer("bytes", received),
		log_field_integer("bytes_per_second", per_second(received, elapsed_ns)),
		log_field_integer("expanded_bytes", counted(&p->expanded)),
		log_field_integer("entries", counted(&p->entries)),
		log_field_ns("network_seconds", network_ns),
		log_field_ns("decode_seconds", decode_ns),
		log_field_ns("disk_seconds", disk_ns),
	};

	log_event(LOG_INFO, EVENT_STAGE_DONE, fields, ARRAY_LEN(fields), "%s", sentence);
}

void report_source_cached(const struct progress *p, const char *to, const char *how)
{
	const struct log_field fields[] = {
		log_field_text("source", p->name),
		log_field_text("to", to),
		log_field_word("result", "cached"),
		log_field_word("delivered_by", how),
	};

	log_event(LOG_INFO, EVENT_STAGE_DONE, fields, ARRAY_LEN(fields),
		"%s -> %s: from the node cache (%s)", p->name, to, how);
}
