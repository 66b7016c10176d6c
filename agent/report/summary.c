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

static struct log_field text_field(const char *key, const char *value)
{
	return (struct log_field){.key = key, .type = LOG_STRING, .string = value};
}

static struct log_field word_field(const char *key, const char *word)
{
	return (struct log_field){.key = key, .type = LOG_WORD, .string = word};
}

static struct log_field number_field(const char *key, double value)
{
	return (struct log_field){.key = key, .type = LOG_NUMBER, .number = value};
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
		word_field("event", "source_done"),
		text_field("source", p->name),
		text_field("to", to),
		word_field("format", format),
		word_field("result", warm ? "warm" : "staged"),
		word_field("waited_for", warm ? NULL : report_bottleneck_name(waited)),
		number_field("seconds", (double)elapsed_ns / 1e9),
		number_field("bytes", (double)received),
		number_field("bytes_per_second", (double)per_second(received, elapsed_ns)),
		number_field("expanded_bytes", (double)counted(&p->expanded)),
		number_field("entries", (double)counted(&p->entries)),
		number_field("network_seconds", (double)network_ns / 1e9),
		number_field("decode_seconds", (double)decode_ns / 1e9),
		number_field("disk_seconds", (double)disk_ns / 1e9),
	};

	log_fields(LOG_INFO, fields, ARRAY_LEN(fields), "%s", sentence);
}

void report_source_cached(const struct progress *p, const char *to, const char *how)
{
	const struct log_field fields[] = {
		word_field("event", "source_done"),
		text_field("source", p->name),
		text_field("to", to),
		word_field("result", "cached"),
		word_field("delivered_by", how),
	};

	log_fields(LOG_INFO, fields, ARRAY_LEN(fields), "%s -> %s: from the node cache (%s)",
		p->name, to, how);
}
