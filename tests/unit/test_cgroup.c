/* SPDX-License-Identifier: MIT */
/* Control groups as they are found in containers: what they say about processors and processes. */
#include "cgroup.h"
#include "defer.h"
#include "fake_file.h"
#include "test.h"

TEST(half_a_processor_is_one)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/a\n");
	fake_file(root, "sys/fs/cgroup/a/cpu.max", "50000 100000\n");
	assert_int_equal(1, cgroup_processors(root));
}

TEST(processors_of_a_quota_are_rounded_up)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/\n");
	fake_file(root, "sys/fs/cgroup/cpu.max", "150000 100000\n");
	assert_int_equal(2, cgroup_processors(root));
}

TEST(group_without_a_quota_has_that_of_the_strictest_above_it)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/pods/pod/container\n");
	fake_file(root, "sys/fs/cgroup/pods/pod/container/cpu.max", "max 100000\n");
	fake_file(root, "sys/fs/cgroup/pods/pod/cpu.max", "300000 100000\n");
	fake_file(root, "sys/fs/cgroup/pods/cpu.max", "800000 100000\n");
	assert_int_equal(3, cgroup_processors(root));
}

TEST(quota_of_v1_is_found_where_controllers_are_mounted_together)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "9:cpuset:/x\n5:cpu,cpuacct:/docker/1\n0::/\n");
	fake_file(root, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "400000\n");
	fake_file(root, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
	assert_int_equal(4, cgroup_processors(root));
}

TEST(quota_of_v1_inside_a_container_is_at_the_mounts_root)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "3:cpuacct,cpu:/kubepods/burstable/pod1/c1\n");
	fake_file(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
	fake_file(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	assert_int_equal(2, cgroup_processors(root));
}

TEST(quota_of_minus_one_is_none)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "5:cpu:/\n");
	fake_file(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
	fake_file(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	assert_true(cgroup_processors(root) == UINT64_MAX);
}

TEST(v2_beside_v1_is_in_a_directory_of_its_own)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "4:memory:/\n0::/a\n");
	fake_file(root, "sys/fs/cgroup/unified/a/cpu.max", "100000 100000\n");
	assert_int_equal(1, cgroup_processors(root));
}

TEST(processes_that_are_left_are_those_of_the_fullest_group)
{
	_free_ char *root = test_directory();
	struct cgroup_pids pids;

	fake_file(root, "proc/self/cgroup", "8:pids:/pod/container\n");
	fake_file(root, "sys/fs/cgroup/pids/pod/container/pids.max", "1000\n");
	fake_file(root, "sys/fs/cgroup/pids/pod/container/pids.current", "10\n");
	fake_file(root, "sys/fs/cgroup/pids/pod/pids.max", "2000\n");
	fake_file(root, "sys/fs/cgroup/pids/pod/pids.current", "1998\n");
	pids = cgroup_pids_read(root);
	assert_int_equal(2, pids.left);
	assert_int_equal(2000, pids.limit);
}

TEST(processes_without_a_limit_are_unlimited)
{
	_free_ char *root = test_directory();

	fake_file(root, "proc/self/cgroup", "0::/\n");
	fake_file(root, "sys/fs/cgroup/pids.max", "max\n");
	assert_true(cgroup_pids_read(root).left == UINT64_MAX);
}
