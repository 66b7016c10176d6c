/* SPDX-License-Identifier: MIT */
/* The real thing: a process in a group with a small limit, that the kernel kills. Needs root, and a
 * machine where groups may be made. */
#include "defer.h"
#include "oom.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LIMIT_BYTES ((size_t)64 << 20)

static bool write_file(const char *dir, const char *name, const char *value)
{
	_free_ char *path = text_format("%s/%s", dir, name);
	_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
}

/* A fresh group with the limit, as a path on the heap; NULL where that is not allowed. */
static char *make_group(void)
{
	static const char *const kinds[][2] = {
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	};
	_free_ char *limit = text_format("%zu", LIMIT_BYTES);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		char *dir = text_format("%s/stagerun-unit-%d", kinds[i][0], (int)getpid());

		if (mkdir(dir, 0755) == 0 && write_file(dir, kinds[i][1], limit))
			return dir;
		rmdir(dir);
		free(dir);
	}
	return NULL;
}

/* Swap would only make it slow: what is locked cannot go there. */
static _Noreturn void eat_memory(void)
{
	char *p = mmap(NULL, 2 * LIMIT_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);

	_exit(p == MAP_FAILED ? 3 : 4);
}

/* In the group: the sentence about a command that ate too much, written to fd. */
static _Noreturn void be_the_agent(const char *group, int fd)
{
	struct cgroup_memory before, after;
	int status = 0;
	pid_t command;
	char *said;

	if (!write_file(group, "cgroup.procs", "0"))
		_exit(2);
	before = cgroup_memory_read("");
	command = fork();
	if (command == 0)
		eat_memory();
	waitpid(command, &status, 0);
	after = cgroup_memory_read("");
	said = oom_sentence(oom_classify(&before, &after, status), &after);
	if (said == NULL)
		said = text_format("nothing: status %d, oom_kill %d", status, (int)after.oom_kills);
	_exit(write(fd, said, strlen(said)) > 0 ? 0 : 1);
}

TEST(a_command_that_the_kernel_kills_for_memory_is_recognised)
{
	_free_ char *group = make_group();
	char said[256] = "";
	int fds[2], status;
	pid_t agent;

	if (group == NULL) {
		print_message("skipped: no memory control group can be made here\n");
		skip();
	}
	assert_int_equal(0, pipe(fds));
	agent = fork();
	if (agent == 0)
		be_the_agent(group, fds[1]);
	waitpid(agent, &status, 0);
	assert_true(read(fds[0], said, sizeof(said) - 1) > 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(0, rmdir(group));
	assert_int_equal(0, status);
	assert_string_equal("killed by the kernel for memory: limit 64 MiB, peak 64 MiB", said);
}
