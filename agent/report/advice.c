/* SPDX-License-Identifier: MIT */
/* What would make a source faster. Only the longest wait is looked at: a second one would matter
 * once the first is gone. Says nothing rather than something that the facts do not show. Any
 * thread. */
#include "advice.h"
#include "defer.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

/* A shorter wait is not worth a change: a tenth of the time, and a tenth of a second. */
enum { NOTABLE_PART = 10 };
#define NOTABLE_NS 100000000ull

/* A connection of fewer bytes per second says nothing about what another one would bring. */
#define STEADY_BYTES (1ull << 20)

/* A file system on which a small file takes longer is slow by the number of its files. */
#define SLOW_FILE_NS   300000ull
#define SMALL_FILE     (1ull << 20)
#define FILES_AT_LEAST 100

enum wait { NETWORK, DECODE, DISK, BUDGET, LOCK, WAITS };

static uint64_t per_second(uint64_t bytes, uint64_t ns)
{
	return ns > 0 ? (uint64_t)((double)bytes * 1e9 / (double)ns) : 0;
}

/* "60.0 MB/s". Returns buf. */
static const char *print_rate(uint64_t bytes, uint64_t ns, char buf[static 40])
{
	char size[32];

	snprintf(buf, 40, "%s/s", units_print_size(per_second(bytes, ns), size));
	return buf;
}

/* Connections are added only while that raises the rate, so at the limit each still brought as much
 * as those before. NULL: the limit was not reached. */
static char *advise_connections(const struct advice_facts *f)
{
	bool of_all = f->connections_all > 0 && f->connections_all < f->connections_max;
	const char *setting = of_all ? "connections" : "connections_per_host";
	unsigned limit = of_all ? f->connections_all : f->connections_max;
	char each[40];

	if (limit == 0 || f->connections < limit)
		return NULL;
	print_rate(f->received / f->connections, f->wall_ns, each);
	if (limit == 1)
		return text_format("more connections (%s is 1): one brought %s", setting, each);
	return text_format(
		"more connections (%s is %u): the server gives each %s", setting, limit, each);
}

static char *advise_network(const struct advice_facts *f)
{
	char rate[40], each[40];
	char *sentence;

	print_rate(f->received, f->wall_ns, rate);
	if (f->stalls > 0)
		return text_format(
			"a steadier server: nothing arrived any more %llu %s, until stall_timeout was over",
			(unsigned long long)f->stalls, f->stalls == 1 ? "time" : "times");
	if (f->max_rate > 0 && per_second(f->received, f->wall_ns) >= f->max_rate / 10 * 8)
		return text_format("a higher max_rate: it allows %s",
			print_rate(f->max_rate, 1000000000, each));
	if (f->connections == 0 || f->received < STEADY_BYTES * f->connections)
		return NULL;
	sentence = advise_connections(f);
	if (sentence != NULL)
		return sentence;
	if (f->connections == 1)
		return text_format(
			"a server that serves ranges, or larger files: one connection brought %s",
			rate);
	return text_format(
		"a server or a network that is faster: %u connections brought %s, and more did not bring more",
		f->connections, rate);
}

static const char *single_stream(const char *format)
{
	static const struct {
		const char *ending, *sentence;
	} table[] = {
		{"zst", "repack as datastore: one zstd frame decodes on one core"},
		{"gz", "repack as datastore: gzip decodes on one core"},
		{"bz2", "repack as datastore: bzip2 decodes on one core"},
		{"lz4", "repack as datastore: one lz4 frame decodes on one core"},
		{"xz", "repack as datastore: one xz block decodes on one core"},
		{"lzma", "repack as datastore: lzma decodes on one core"},
		{"lzip", "repack as datastore: one lzip member decodes on one core"},
		{"7z", "repack as datastore: a 7z archive decodes on one core"},
	};
	const char *dot = strrchr(format, '.');
	const char *ending = dot != NULL ? dot + 1 : format;

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strcmp(ending, table[i].ending) == 0)
			return table[i].sentence;
	return NULL;
}

static char *advise_decode(const struct advice_facts *f)
{
	const char *sentence = f->format != NULL ? single_stream(f->format) : NULL;
	char rate[40];

	if (sentence != NULL)
		return text_copy(sentence);
	if (f->expanded == 0)
		return NULL;
	return text_format("more processors (threads): they decoded %s",
		print_rate(f->expanded, f->wall_ns, rate));
}

static char *advise_disk(const struct advice_facts *f)
{
	uint64_t each_ns = f->entries > 0 ? f->disk_ns / f->entries : 0;
	char text[40];

	if (f->entries >= FILES_AT_LEAST && each_ns >= SLOW_FILE_NS &&
		f->expanded / f->entries < SMALL_FILE)
		return text_format("slow file system: %.1f ms for a file", (double)each_ns / 1e6);
	if (f->expanded < STEADY_BYTES)
		return NULL;
	return text_format(
		"a faster disk: this one took %s", print_rate(f->expanded, f->wall_ns, text));
}

static char *advise(const struct advice_facts *f, enum wait longest, uint64_t ns)
{
	char time[32];

	units_print_duration(ns, time);
	switch (longest) {
	case NETWORK:
		return advise_network(f);
	case DECODE:
		return advise_decode(f);
	case DISK:
		return advise_disk(f);
	case BUDGET:
		return text_format("more memory_budget: %s were waited for memory", time);
	default:
		return text_format(
			"a directory of its own, or a node cache: another agent was waited for, %s",
			time);
	}
}

char *advice_sentence(const struct advice_facts *f)
{
	const uint64_t waits[WAITS] = {[NETWORK] = f->network_ns,
		[DECODE] = f->decode_ns,
		[DISK] = f->disk_ns,
		[BUDGET] = f->budget_ns,
		[LOCK] = f->lock_ns};
	uint64_t all_ns = f->wall_ns + f->lock_ns;
	enum wait longest = NETWORK;

	for (size_t i = 1; i < WAITS; i++)
		if (waits[i] > waits[longest])
			longest = (enum wait)i;
	if (waits[longest] < NOTABLE_NS || waits[longest] < all_ns / NOTABLE_PART)
		return NULL;
	return advise(f, longest, waits[longest]);
}
