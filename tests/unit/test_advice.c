/* SPDX-License-Identifier: MIT */
#include "advice.h"
#include "defer.h"
#include "test.h"
#include <stdlib.h>

#define SEC 1000000000ull
#define MB  1000000ull

static void assert_advice(const char *expected, struct advice_facts f)
{
	_free_ char *sentence = advice_sentence(&f);

	if (expected == NULL)
		assert_null(sentence);
	else
		assert_non_null(sentence);
	if (expected != NULL)
		assert_string_equal(expected, sentence);
}

TEST(advice_is_none_where_little_was_waited)
{
	assert_advice(NULL, (struct advice_facts){0});
	assert_advice(NULL, (struct advice_facts){.wall_ns = 100 * SEC,
				    .network_ns = 9 * SEC,
				    .received = 100 * MB,
				    .connections = 16,
				    .connections_max = 16});
	assert_advice(NULL, (struct advice_facts){.wall_ns = SEC / 10,
				    .network_ns = SEC / 11,
				    .received = 100 * MB,
				    .connections = 16,
				    .connections_max = 16});
}

TEST(advice_on_the_network_at_the_limit_of_connections_is_more_of_them)
{
	assert_advice(
		"more connections (connections_per_host is 16): the server gives each 60.0 MB/s",
		(struct advice_facts){.wall_ns = 10 * SEC,
			.network_ns = 9 * SEC,
			.received = 9600 * MB,
			.connections = 16,
			.connections_max = 16});
}

TEST(advice_on_a_limit_of_one_connection_names_the_setting)
{
	struct advice_facts f = {.wall_ns = 10 * SEC,
		.network_ns = 9 * SEC,
		.received = 600 * MB,
		.connections = 1,
		.connections_max = 16,
		.connections_all = 1};

	assert_advice("more connections (connections is 1): one brought 60.0 MB/s", f);
	f.connections_all = 64;
	f.connections_max = 1;
	assert_advice("more connections (connections_per_host is 1): one brought 60.0 MB/s", f);
	f.connections_all = f.connections = 4;
	f.connections_max = 16;
	assert_advice("more connections (connections is 4): the server gives each 15.0 MB/s", f);
}

TEST(advice_on_the_network_below_the_limit_is_not_more_connections)
{
	assert_advice(
		"a server or a network that is faster: 4 connections brought 60.0 MB/s, and more did not bring more",
		(struct advice_facts){.wall_ns = 10 * SEC,
			.network_ns = 9 * SEC,
			.received = 600 * MB,
			.connections = 4,
			.connections_max = 16});
	assert_advice(
		"a server that serves ranges, or larger files: one connection brought 60.0 MB/s",
		(struct advice_facts){.wall_ns = 10 * SEC,
			.network_ns = 9 * SEC,
			.received = 600 * MB,
			.connections = 1,
			.connections_max = 16});
	assert_advice(NULL, (struct advice_facts){.wall_ns = 10 * SEC,
				    .network_ns = 9 * SEC,
				    .received = 2000,
				    .connections = 4,
				    .connections_max = 16});
}

TEST(advice_on_a_server_that_stalls_is_a_steadier_one)
{
	assert_advice(
		"a steadier server: nothing arrived any more 1 time, until stall_timeout was over",
		(struct advice_facts){.wall_ns = 10 * SEC, .network_ns = 9 * SEC, .stalls = 1});
	assert_advice(
		"a steadier server: nothing arrived any more 3 times, until stall_timeout was over",
		(struct advice_facts){.wall_ns = 10 * SEC,
			.network_ns = 9 * SEC,
			.stalls = 3,
			.received = 9600 * MB,
			.connections = 16,
			.connections_max = 16});
}

TEST(advice_on_a_limited_rate_is_a_higher_limit)
{
	struct advice_facts f = {.wall_ns = 10 * SEC,
		.network_ns = 9 * SEC,
		.received = 95 * MB,
		.connections = 16,
		.connections_max = 16,
		.max_rate = 10 * MB};

	assert_advice("a higher max_rate: it allows 10.0 MB/s", f);
	f.max_rate = 1000 * MB;
	assert_advice(
		"more connections (connections_per_host is 16): the server gives each 594 kB/s", f);
}

TEST(advice_on_a_single_stream_is_a_datastore)
{
	struct advice_facts f = {.wall_ns = 10 * SEC,
		.network_ns = SEC,
		.decode_ns = 8 * SEC,
		.expanded = 1000 * MB,
		.format = "tar.zst"};

	assert_advice("repack as datastore: one zstd frame decodes on one core", f);
	f.format = "gz";
	assert_advice("repack as datastore: gzip decodes on one core", f);
	f.format = "tar.bz2";
	assert_advice("repack as datastore: bzip2 decodes on one core", f);
	f.format = "tar.xz";
	assert_advice("repack as datastore: one xz block decodes on one core", f);
	f.format = "tar.lz4";
	assert_advice("repack as datastore: one lz4 frame decodes on one core", f);
}

TEST(advice_on_what_is_decoded_by_several_threads_is_more_of_them)
{
	struct advice_facts f = {.wall_ns = 10 * SEC,
		.decode_ns = 8 * SEC,
		.expanded = 1000 * MB,
		.format = "datastore"};

	assert_advice("more processors (threads): they decoded 100 MB/s", f);
	f.format = NULL;
	f.expanded = 0;
	assert_advice(NULL, f);
}

TEST(advice_on_the_disk_tells_slow_files_from_slow_bytes)
{
	struct advice_facts f = {.wall_ns = 120 * SEC,
		.disk_ns = 110 * SEC,
		.entries = 100000,
		.expanded = 12000 * MB};

	assert_advice("slow file system: 1.1 ms for a file", f);
	f.entries = 2;
	assert_advice("a faster disk: this one took 100 MB/s", f);
	f.expanded = 10;
	assert_advice(NULL, f);
}

TEST(advice_on_memory_and_on_another_agent)
{
	assert_advice("more memory_budget: 8.00 s were waited for memory",
		(struct advice_facts){.wall_ns = 10 * SEC, .budget_ns = 8 * SEC, .disk_ns = SEC});
	assert_advice(
		"a directory of its own, or a node cache: another agent was waited for, 8.00 s",
		(struct advice_facts){.wall_ns = SEC, .lock_ns = 8 * SEC, .disk_ns = SEC / 2});
}
