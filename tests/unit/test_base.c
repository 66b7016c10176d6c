/* SPDX-License-Identifier: MIT */
#include "block.h"
#include "budget.h"
#include "cgroup.h"
#include "defer.h"
#include "fake_file.h"
#include "reader.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <string.h>

static uint64_t size_of(const char *s)
{
	uint64_t n = 0;

	assert_int_equal(0, units_parse_size(s, &n, NULL));
	return n;
}

TEST(size_with_a_binary_prefix_is_read)
{
	assert_int_equal(12, size_of("12"));
	assert_int_equal(64 << 20, size_of("64M"));
	assert_int_equal(3 << 19, size_of("1.5 MiB"));
	assert_int_equal(2048, size_of("2kB"));
}

TEST(size_that_is_none_is_refused_with_its_text)
{
	static const char *const bad[] = {"", "x", "-1", "1Q", "12 34", "0x10", "nan", "99999999T"};
	struct error err;
	uint64_t n = 7;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(-ERR_CONFIG, units_parse_size(bad[i], &n, &err));
		assert_non_null(strstr(err.msg, bad[i]));
	}
	assert_int_equal(7, n);
}

TEST(duration_is_a_sum_of_units_and_a_bare_number_is_seconds)
{
	uint64_t ms = 0;

	assert_int_equal(0, units_parse_duration("1h30m", &ms, NULL));
	assert_int_equal(5400000, ms);
	assert_int_equal(0, units_parse_duration("250ms", &ms, NULL));
	assert_int_equal(250, ms);
	assert_int_equal(0, units_parse_duration("1.5", &ms, NULL));
	assert_int_equal(1500, ms);
	assert_int_equal(-ERR_CONFIG, units_parse_duration("10x", &ms, NULL));
	assert_int_equal(-ERR_CONFIG, units_parse_duration("", &ms, NULL));
}

TEST(number_over_its_maximum_is_refused)
{
	uint64_t n = 0;

	assert_int_equal(0, units_parse_uint("64", 64, &n, NULL));
	assert_int_equal(-ERR_CONFIG, units_parse_uint("65", 64, &n, NULL));
	assert_int_equal(
		-ERR_CONFIG, units_parse_uint("99999999999999999999", UINT64_MAX, &n, NULL));
	assert_int_equal(-ERR_CONFIG, units_parse_uint("-1", 64, &n, NULL));
}

TEST(sizes_and_durations_are_printed_for_people)
{
	char buf[32];

	assert_string_equal("999 B", units_print_size(999, buf));
	assert_string_equal("1.36 GB", units_print_size(1364000000, buf));
	assert_string_equal("138 MB", units_print_size(138000000, buf));
	assert_string_equal("812 ms", units_print_duration(812000000, buf));
	assert_string_equal("3.20 s", units_print_duration(3200000000, buf));
	assert_string_equal("4 min 2 s", units_print_duration(242000000000, buf));
}

TEST(nearest_word_is_a_slip_of_the_hand_or_nothing)
{
	static const char *const words[] = {"connections", "range_min", "retries"};

	assert_string_equal("retries", nearest_word("retrys", words, 3));
	assert_string_equal("range_min", nearest_word("range-min", words, 3));
	assert_string_equal("retries", nearest_word("retreis", words, 3));
	assert_null(nearest_word("colour", words, 3));
}

TEST(nearest_word_knows_other_words_for_beginning_and_end)
{
	static const char *const points[] = {
		"on_build_start", "on_build_end", "on_experiment_start", "on_experiment_end"};

	assert_string_equal("on_experiment_start", nearest_word("on_experiment_begin", points, 4));
	assert_string_equal("on_experiment_start", nearest_word("on_experment_begin", points, 4));
	assert_string_equal("on_build_end", nearest_word("on_build_finish", points, 4));
	assert_string_equal("on_experiment_end", nearest_word("on_experiment_stop", points, 4));
}

TEST(block_goes_back_to_its_pool_with_its_last_reference)
{
	struct block_pool *pool = block_pool_new(100, 1, NULL, NULL);
	struct block *b = block_pool_take(pool, NULL);

	block_ref(b);
	block_unref(b);
	assert_false(block_pool_reserve(pool, 1));
	block_unref(b);
	assert_true(block_pool_reserve(pool, 1));
	assert_ptr_equal(b, block_pool_take_reserved(pool));
	block_unref(b);
	block_pool_free(pool);
}

TEST(blocks_of_a_pool_do_not_overlap)
{
	struct block_pool *pool = block_pool_new(100, 3, NULL, NULL);
	struct block *b[3];

	for (uint8_t i = 0; i < 3; i++) {
		b[i] = block_pool_take(pool, NULL);
		memset(b[i]->data, i, b[i]->capacity);
	}
	for (uint8_t i = 0; i < 3; i++) {
		assert_int_equal(100, b[i]->capacity);
		assert_int_equal(i, b[i]->data[0]);
		assert_int_equal(i, b[i]->data[99]);
		block_unref(b[i]);
	}
	block_pool_free(pool);
}

TEST(block_that_is_still_out_outlives_its_pool)
{
	struct block_pool *pool = block_pool_new(100, 2, NULL, NULL);
	struct block *b = block_pool_take(pool, NULL);

	block_pool_free(pool);
	memset(b->data, 1, b->capacity);
	block_unref(b);
}

static void *request_cancel(void *c)
{
	usleep(20000);
	cancel_request(c);
	return NULL;
}

TEST(cancel_wakes_a_taker_of_an_exhausted_pool)
{
	struct block_pool *pool = block_pool_new(100, 1, NULL, NULL);
	struct block *b = block_pool_take(pool, NULL);
	struct cancel cancel;
	pthread_t thread;

	cancel_init(&cancel);
	pthread_create(&thread, NULL, request_cancel, &cancel);
	assert_null(block_pool_take(pool, &cancel));
	pthread_join(thread, NULL);
	cancel_done(&cancel);
	block_unref(b);
	block_pool_free(pool);
}

TEST(budget_never_gives_more_than_the_stages_half)
{
	struct budget *b = budget_new(64 << 20);
	struct error err;

	assert_int_equal(32 << 20, budget_stage_half(b));
	assert_true(budget_try_reserve(b, 30 << 20));
	assert_false(budget_try_reserve(b, 3 << 20));
	budget_release(b, 30 << 20);
	assert_int_equal(-ERR_LIMIT, budget_reserve(b, 33 << 20, NULL, &err));
	assert_non_null(strstr(err.msg, "memory_budget"));
	budget_free(b);
}

TEST(budget_counts_the_wait_for_memory_and_nothing_else)
{
	struct budget *b = budget_new(64 << 20);
	struct cancel cancel;
	atomic_ullong waited_ns = 0;
	pthread_t thread;

	cancel_init(&cancel);
	assert_int_equal(0, budget_reserve_counted(b, 32 << 20, &cancel, &waited_ns, NULL));
	assert_int_equal(0, waited_ns);
	pthread_create(&thread, NULL, request_cancel, &cancel);
	assert_int_equal(-ECANCELED, budget_reserve_counted(b, 1, &cancel, &waited_ns, NULL));
	pthread_join(thread, NULL);
	assert_true(waited_ns > 1000000);
	budget_release(b, 32 << 20);
	cancel_done(&cancel);
	budget_free(b);
}

TEST(cancel_wakes_a_stage_that_waits_for_memory)
{
	struct budget *b = budget_new(64 << 20);
	struct cancel cancel;
	pthread_t thread;

	cancel_init(&cancel);
	assert_true(budget_try_reserve(b, 32 << 20));
	pthread_create(&thread, NULL, request_cancel, &cancel);
	assert_int_equal(-ECANCELED, budget_reserve(b, 1, &cancel, NULL));
	pthread_join(thread, NULL);
	budget_release(b, 32 << 20);
	cancel_done(&cancel);
	budget_free(b);
}

TEST(memory_limit_is_the_smallest_of_a_v2_group_and_its_ancestors)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/a/b\n");
	fake_file(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
	fake_file(root, "sys/fs/cgroup/a/memory.max", "1073741824\n");
	assert_int_equal(1 << 30, cgroup_memory_limit(root));
}

TEST(memory_limit_inside_a_container_is_read_at_the_mounts_root)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/not/mounted/here\n");
	fake_file(root, "sys/fs/cgroup/memory.max", "2147483648\n");
	assert_int_equal(2u << 30, cgroup_memory_limit(root));
}

TEST(memory_limit_of_a_v1_group_is_read)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/1\n");
	fake_file(root, "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "536870912\n");
	assert_int_equal(512 << 20, cgroup_memory_limit(root));
}

TEST(memory_without_a_limit_is_unlimited)
{
	_free_ char *root = test_directory();

	assert_true(cgroup_memory_limit(root) == UINT64_MAX);
}

TEST(peek_leaves_the_stream_as_it_was)
{
	struct reader *r = reader_from_memory("hello world", 11, "greeting");
	char buf[16];

	assert_int_equal(5, reader_peek(r, buf, 5, NULL));
	assert_int_equal(11, reader_peek(r, buf, 16, NULL));
	assert_int_equal(0, reader_skip(r, 6, NULL));
	assert_int_equal(0, reader_read(r, buf, 5, NULL));
	assert_memory_equal("world", buf, 5);
	reader_close(r);
}

TEST(read_past_the_end_says_that_the_stream_ends_early)
{
	struct reader *r = reader_from_memory("abc", 3, "cats.tar");
	struct error err;
	char buf[4];

	assert_int_equal(-ERR_TRUNCATED, reader_read(r, buf, 4, &err));
	assert_non_null(strstr(err.msg, "cats.tar"));
	reader_close(r);
}

TEST(copied_and_grown_strings_hold_what_was_added)
{
	struct strings a = {0};
	struct text t = {0};
	_free_ char *s = NULL;

	for (int i = 0; i < 100; i++) {
		text_addf(&t, "%d,", i % 10);
		text_strings_add(&a, t.s);
	}
	assert_string_equal("0,1,", a.v[1]);
	assert_null(a.v[100]);
	text_strings_done(&a);
	s = text_take(&t);
	assert_int_equal(200, strlen(s));
}

TEST(name_of_the_agents_state_is_reserved_and_names_like_it_are_not)
{
	assert_true(text_is_reserved_name(".stagerun"));
	assert_true(text_is_reserved_name(".stagerun/cats"));
	assert_true(text_is_reserved_name(".stagerun-4001"));
	assert_true(text_is_reserved_name(".StageRun"));
	assert_false(text_is_reserved_name(".stagerunner"));
	assert_false(text_is_reserved_name("stagerun"));
	assert_false(text_is_reserved_name(".stage"));
	assert_false(text_is_reserved_name(""));
}

TEST(error_keeps_the_innermost_name_of_what_failed)
{
	struct error err;

	error_set(&err, -ERR_HTTP, "404");
	error_item(&err, "https://host/x");
	error_item(&err, "on_experiment_start action 2");
	error_prefix(&err, "stage");
	assert_string_equal("https://host/x", err.item);
	error_set(&err, -ERR_HTTP, "another");
	assert_string_equal("", err.item);
	error_item(NULL, "nothing");
}

TEST(any_number_is_a_date)
{
	struct tm tm;
	char buf[32];

	strftime(buf, sizeof(buf), "%F %R", units_date(1767323045, &tm));
	assert_string_equal("2026-01-02 03:04", buf);
	strftime(buf, sizeof(buf), "%F %T", units_date(INT64_MAX, &tm));
	assert_string_equal("9999-12-31 23:59:59", buf);
	assert_int_equal(-1900, units_date(INT64_MIN, &tm)->tm_year);
}

TEST(date_of_a_header_is_read_as_it_is_printed)
{
	char buf[32];

	assert_string_equal(
		"Wed, 25 Nov 2026 19:10:04 GMT", units_print_http_date(1795633804, buf));
	assert_int_equal(1795633804, units_parse_http_date(buf));
	assert_int_equal(1795633804, units_parse_http_date("Wed, 25 Nov 2026 19:10:04 GMT; 5 ns"));
	assert_int_equal(0, units_parse_http_date("2026-11-25T19:10:04Z"));
	assert_int_equal(0, units_parse_http_date(""));
}
