/* SPDX-License-Identifier: MIT */
#include "cgroup.h"
#include "defer.h"
#include "fake_file.h"
#include "oom.h"
#include "test.h"
#include "text.h"
#include <signal.h>
#include <string.h>

#define EXITED(status)   ((status) << 8)
#define KILLED_BY(signo) (signo)

TEST(memory_of_a_v2_group_is_read_from_its_own_files)
{
	_free_ char *root = test_directory();
	struct cgroup_memory m;

	fake_file(root, "proc/self/cgroup", "0::/a\n");
	fake_file(root, "sys/fs/cgroup/a/memory.max", "1073741824\n");
	fake_file(root, "sys/fs/cgroup/a/memory.peak", "536870912\n");
	fake_file(root, "sys/fs/cgroup/a/memory.events",
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n");
	m = cgroup_memory_read(root);
	assert_int_equal(1 << 30, m.tree_limit_bytes);
	assert_int_equal(512 << 20, m.peak_bytes);
	assert_true(m.counts_kills);
	assert_int_equal(2, m.oom_kills);
}

TEST(memory_of_a_v1_group_is_read_from_its_own_files)
{
	_free_ char *root = test_directory();
	struct cgroup_memory m;

	fake_file(root, "proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/1\n0::/x\n");
	fake_file(root, "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "536870912\n");
	fake_file(root, "sys/fs/cgroup/memory/docker/1/memory.max_usage_in_bytes", "536870000\n");
	fake_file(root, "sys/fs/cgroup/memory/docker/1/memory.oom_control",
		"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
	m = cgroup_memory_read(root);
	assert_int_equal(512 << 20, m.tree_limit_bytes);
	assert_int_equal(536870000, m.peak_bytes);
	assert_true(m.counts_kills);
	assert_int_equal(7, m.oom_kills);
}

TEST(memory_of_a_container_is_read_at_the_mounts_root)
{
	_free_ char *root = test_directory();
	struct cgroup_memory m;

	fake_file(root, "proc/self/cgroup", "4:memory:/docker/not/mounted/here\n");
	fake_file(root, "sys/fs/cgroup/memory/memory.max_usage_in_bytes", "4096\n");
	fake_file(root, "sys/fs/cgroup/memory/memory.oom_control", "oom_kill 1\n");
	m = cgroup_memory_read(root);
	assert_int_equal(4096, m.peak_bytes);
	assert_int_equal(1, m.oom_kills);
}

TEST(the_largest_number_of_a_v1_group_is_no_limit)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "4:memory:/a\n");
	fake_file(root, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
	assert_true(cgroup_memory_limit(root) == UINT64_MAX);
}

TEST(what_a_group_has_left_is_the_least_of_it_and_its_ancestors_without_cached_files)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/a/b\n");
	fake_file(root, "sys/fs/cgroup/a/b/memory.max", "1000000\n");
	fake_file(root, "sys/fs/cgroup/a/b/memory.current", "900000\n");
	fake_file(root, "sys/fs/cgroup/a/b/memory.stat",
		"anon 100000\nfile 800000\nshmem 200000\ninactive_file 500000\nactive_file "
		"100000\n");
	assert_int_equal(700000, cgroup_memory_left(root));
	fake_file(root, "sys/fs/cgroup/a/memory.max", "1200000\n");
	fake_file(root, "sys/fs/cgroup/a/memory.current", "1100000\n");
	assert_int_equal(100000, cgroup_memory_left(root));
	fake_file(root, "sys/fs/cgroup/a/memory.current", "1300000\n");
	assert_int_equal(0, cgroup_memory_left(root));
}

TEST(what_a_v1_group_has_left_counts_the_groups_below_it)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "4:memory:/a\n");
	fake_file(root, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000000\n");
	fake_file(root, "sys/fs/cgroup/memory/a/memory.usage_in_bytes", "900000\n");
	fake_file(root, "sys/fs/cgroup/memory/a/memory.stat",
		"inactive_file 1\ntotal_inactive_file 400000\ntotal_active_file 100000\n");
	assert_int_equal(600000, cgroup_memory_left(root));
}

TEST(a_group_without_a_limit_has_no_end_left)
{
	_free_ char *root = test_directory();

	assert_true(cgroup_memory_left(root) == UINT64_MAX);
	fake_file(root, "proc/self/cgroup", "0::/a\n");
	fake_file(root, "sys/fs/cgroup/a/memory.max", "max\n");
	fake_file(root, "sys/fs/cgroup/a/memory.current", "900000\n");
	assert_true(cgroup_memory_left(root) == UINT64_MAX);
}

TEST(a_group_without_memory_files_counts_nothing)
{
	_free_ char *root = test_directory();
	struct cgroup_memory m;

	fake_file(root, "proc/self/cgroup", "0::/\n");
	m = cgroup_memory_read(root);
	assert_true(m.tree_limit_bytes == UINT64_MAX);
	assert_int_equal(0, m.peak_bytes);
	assert_false(m.counts_kills);
}

static enum oom_verdict judge(uint64_t kills_before, uint64_t kills_after, int wait_status)
{
	struct cgroup_memory before = {.counts_kills = true, .oom_kills = kills_before};
	struct cgroup_memory after = {.counts_kills = true, .oom_kills = kills_after};

	return oom_classify(&before, &after, wait_status);
}

TEST(a_command_that_died_of_sigkill_while_the_counter_rose_was_killed_for_memory)
{
	assert_int_equal(OOM_COMMAND, judge(3, 4, KILLED_BY(SIGKILL)));
}

TEST(exit_status_137_of_a_wrapper_counts_as_sigkill)
{
	assert_int_equal(OOM_COMMAND, judge(0, 1, EXITED(137)));
}

TEST(sigkill_alone_is_not_about_memory)
{
	assert_int_equal(OOM_NONE, judge(3, 3, KILLED_BY(SIGKILL)));
}

TEST(a_command_that_failed_otherwise_while_the_counter_rose_lost_a_worker)
{
	assert_int_equal(OOM_WORKER, judge(0, 1, EXITED(1)));
	assert_int_equal(OOM_WORKER, judge(0, 1, KILLED_BY(SIGABRT)));
}

TEST(without_a_counter_nothing_is_said_about_memory)
{
	const struct cgroup_memory none = {0}, some = {.counts_kills = true, .oom_kills = 5};

	assert_int_equal(OOM_NONE, oom_classify(&none, &some, KILLED_BY(SIGKILL)));
	assert_int_equal(OOM_NONE, oom_classify(&some, &none, KILLED_BY(SIGKILL)));
}

static void check_sentence(
	enum oom_verdict verdict, uint64_t limit, uint64_t peak, const char *expected)
{
	const struct cgroup_memory m = {.tree_limit_bytes = limit, .peak_bytes = peak};
	_free_ char *s = oom_sentence(verdict, &m);

	assert_string_equal(expected, s);
}

TEST(the_sentence_names_limit_and_peak)
{
	check_sentence(OOM_COMMAND, 8ull << 30, 8ull << 30,
		"killed by the kernel for memory: limit 8 GiB, peak 8 GiB");
	check_sentence(OOM_WORKER, 1536ull << 20, 1530ull << 20,
		"a process of the run was killed by the kernel for memory: limit 1.5 GiB, peak "
		"1.5 GiB");
}

TEST(the_sentence_leaves_out_a_peak_that_the_kernel_does_not_tell)
{
	check_sentence(
		OOM_COMMAND, 512ull << 20, 0, "killed by the kernel for memory: limit 512 MiB");
}

TEST(the_sentence_says_when_the_limit_was_not_what_killed)
{
	check_sentence(OOM_COMMAND, 8ull << 30, 3ull << 30,
		"killed by the kernel for memory: limit 8 GiB, peak 3 GiB (the machine itself, or "
		"a group above this one, ran out)");
	check_sentence(OOM_COMMAND, UINT64_MAX, 3ull << 30,
		"killed by the kernel for memory: no limit of its own, peak 3 GiB (the machine "
		"itself, or a group above this one, ran out)");
}

TEST(no_verdict_has_no_sentence)
{
	const struct cgroup_memory m = {0};

	assert_null(oom_sentence(OOM_NONE, &m));
}

TEST(memory_is_printed_in_powers_of_1024)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1 KiB"},
		{1536ull << 20, "1.5 GiB"},
		{(1ull << 30) - 1, "1 GiB"},
		{1000000000, "953.7 MiB"},
		{UINT64_MAX, "16 EiB"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[32];

		assert_string_equal(cases[i].text, units_print_memory(cases[i].bytes, buf));
	}
}
