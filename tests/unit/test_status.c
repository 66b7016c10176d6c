/* SPDX-License-Identifier: MIT */
/* The file of a run's status: what is written can be read, and nothing else is believed. */
#include "defer.h"
#include "run_status.h"
#include "test.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct run_status example(void)
{
	struct run_status s = {.is_prewarm = true,
		.phase = PHASE_WAITING,
		.is_ready = true,
		.ready_ns = 2500000000u,
		.exit_code = RUN_STATUS_EXIT_UNKNOWN,
		.message = text_copy("it said \x1b[31m, \"quoted\\\" and \xff"),
		.round_failed = true};

	run_status_self(&s.process);
	snprintf(s.id, sizeof(s.id), "%d-%llu", s.process.pid,
		(unsigned long long)s.process.start_ticks);
	run_status_time(0, s.begun);
	run_status_time(0, s.updated);
	run_status_time(0, s.last_round);
	run_status_time(5000, s.next_look);
	run_status_add_source(&s, &(struct monitor_source){.name = "http://host/x.tar",
					  .to = "/data",
					  .state = PROGRESS_ACTIVE,
					  .received = 41,
					  .total = 100,
					  .bytes_per_second = 10.5,
					  .seconds_left = 5.5,
					  .waits_for = WAITED_FOR_DISK});
	run_status_add_source(&s, &(struct monitor_source){.name = "b", .state = PROGRESS_QUEUED});
	return s;
}

static char *print_and_free(struct run_status s)
{
	char *line = run_status_print(&s, RUN_ALIVE_UNKNOWN);

	run_status_done(&s);
	assert_non_null(line);
	return line;
}

static char *example_line(void)
{
	return print_and_free(example());
}

static int parse(const char *line, struct run_status *ret)
{
	return run_status_parse(line, strlen(line), ret, NULL);
}

TEST(status_that_was_printed_can_be_parsed)
{
	_free_ char *line = example_line();
	_free_ char *again = NULL;
	struct run_status s;

	assert_int_equal(0, parse(line, &s));
	assert_int_equal(PHASE_WAITING, s.phase);
	assert_int_equal(2, s.n_sources);
	assert_int_equal(41, s.sources[0].received);
	assert_int_equal(WAITED_FOR_DISK, s.sources[0].waits_for);
	assert_int_equal(PROGRESS_QUEUED, s.sources[1].state);
	assert_null(s.sources[1].to);
	assert_int_equal(RUN_STATUS_EXIT_UNKNOWN, s.exit_code);
	assert_int_equal(2500000000u, s.ready_ns);
	again = print_and_free(s);
	assert_string_equal(line, again);
}

TEST(status_for_people_has_a_line_for_the_run_and_for_each_source)
{
	struct run_status s = example();
	struct text t = {0};

	run_status_describe(&s, &t);
	assert_non_null(strstr(t.s, "waits, last round failed at "));
	assert_non_null(strstr(t.s, "Z: it said \x1b[31m, \"quoted\\\" and \xff\n"));
	assert_non_null(strstr(t.s,
		"\n  http://host/x.tar -> /data: 41% (41 of 100 B), 10 B/s, 6 s left, waits for the disk\n"));
	assert_non_null(strstr(t.s, "\n  b: queued\n"));
	text_done(&t);
	run_status_done(&s);
}

/* The line with the first `from` replaced. Heap. */
static char *change(const char *line, const char *from, const char *to)
{
	const char *at = strstr(line, from);

	assert_non_null(at);
	return text_format("%.*s%s%s", (int)(at - line), line, to, at + strlen(from));
}

static const struct {
	const char *from, *to;
} hostile[] = {
	{"stagerun.status/1", "stagerun.status/2"},
	{"\"phase\":\"waiting\"", "\"phase\":\"dancing\""},
	{"\"phase\":\"waiting\"", "\"phase\":7"},
	{"\"phase\":\"waiting\",", ""},
	{"\"kind\":\"prewarm\"", "\"kind\":\"fetch\""},
	{"\"id\":\"", "\"id\":\"../"},
	{"\"pid\":", "\"pid\":-"},
	{"\"pid\":", "\"pid\":9999999999"},
	{"\"pid\":", "\"pid\":1,\"pid\":"},
	{"\"begun\":\"2", "\"begun\":\"x"},
	{"\"begun\":", "\"beg\":"},
	{"\"sources\":[", "\"sources\":[7,"},
	{"\"sources\":[", "\"sources\":[{},"},
	{"\"sources\":[", "\"sources\":{},\"s\":["},
	{"\"state\":\"active\"", "\"state\":\"\""},
	{"\"waits_for\":\"disk\"", "\"waits_for\":\"godot\""},
	{"{", "["},
	{"{", "{\"a\":\xff,"},
	{"}", ""},
};

TEST(status_of_hostile_content_is_none)
{
	_free_ char *line = example_line();

	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		_free_ char *other = change(line, hostile[i].from, hostile[i].to);
		struct run_status s;

		if (parse(other, &s) == 0)
			fail_msg("believed: %s", other);
	}
	for (size_t len = 0; len < strlen(line); len++) {
		struct run_status s;

		assert_int_equal(-ERR_FORMAT, run_status_parse(line, len, &s, NULL));
	}
}

TEST(status_that_is_parsed_has_no_control_characters)
{
	_free_ char *line = example_line();
	_free_ char *other = change(line, "http://host", "http://\\u001b]0;host\\n");
	struct run_status s;

	assert_int_equal(0, parse(other, &s));
	assert_string_equal("http://\\x1b]0;host\\x0a/x.tar", s.sources[0].name);
	run_status_done(&s);
}

TEST(status_counts_the_sources_that_it_leaves_out)
{
	struct run_status s = {.exit_code = RUN_STATUS_EXIT_UNKNOWN};

	for (unsigned i = 0; i < 300; i++)
		run_status_add_source(&s, &(struct monitor_source){.name = "a"});
	assert_int_equal(RUN_STATUS_SOURCES_MAX, s.n_sources);
	assert_int_equal(300, s.sources_total);
	run_status_done(&s);
}

/* Processes. */

TEST(status_knows_that_this_process_lives)
{
	struct run_status_process self, other;

	run_status_self(&self);
	assert_true(self.start_ticks > 0 && self.pid_namespace > 0);
	assert_int_equal(RUN_ALIVE, run_status_is_alive(&self, &self));
	other = self;
	other.start_ticks++;
	assert_int_equal(RUN_DEAD, run_status_is_alive(&other, &self));
	other = self;
	other.boot[0] = other.boot[0] == 'x' ? 'y' : 'x';
	assert_int_equal(RUN_DEAD, run_status_is_alive(&other, &self));
	other = self;
	other.pid_namespace++;
	assert_int_equal(RUN_ALIVE_UNKNOWN, run_status_is_alive(&other, &self));
}

TEST(status_of_a_zombie_and_of_no_process_is_dead)
{
	struct run_status_process self, child;
	siginfo_t info;

	run_status_self(&self);
	child = self;
	child.start_ticks = 0;
	child.pid = fork();
	if (child.pid == 0)
		_exit(0);
	assert_int_equal(0, waitid(P_PID, (id_t)child.pid, &info, WEXITED | WNOWAIT));
	assert_int_equal(RUN_DEAD, run_status_is_alive(&child, &self));
	assert_int_equal(child.pid, waitpid(child.pid, NULL, 0));
	assert_int_equal(RUN_DEAD, run_status_is_alive(&child, &self));
}

TEST(status_of_a_dead_run_is_done_or_failed)
{
	static const struct {
		enum run_phase before, after;
	} cases[] = {
		{PHASE_STAGE, PHASE_FAILED},
		{PHASE_START, PHASE_FAILED},
		{PHASE_COMMAND, PHASE_DONE},
		{PHASE_WAITING, PHASE_DONE},
		{PHASE_DONE, PHASE_DONE},
		{PHASE_FAILED, PHASE_FAILED},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct run_status s = {.phase = cases[i].before};

		run_status_settle(&s, RUN_ALIVE);
		assert_int_equal(cases[i].before, s.phase);
		run_status_settle(&s, RUN_DEAD);
		assert_int_equal(cases[i].after, s.phase);
		run_status_done(&s);
	}
}

/* The directory. */

/* A state directory. Heap. */
static char *state_directory(int *ret_fd)
{
	_free_ char *parent = test_directory();
	char *path = text_format("%s/stagerun", parent);

	*ret_fd = run_status_open_directory(path, true);
	assert_true(*ret_fd >= 0);
	return path;
}

static void write_example(int fd, char id[static 48])
{
	struct run_status s = example();
	_free_ char *line = run_status_print(&s, RUN_ALIVE_UNKNOWN);

	snprintf(id, 48, "%s", s.id);
	assert_int_equal(0, run_status_write(fd, s.id, line, false));
	run_status_done(&s);
}

static void make_file(int dir_fd, const char *name, const char *content)
{
	_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(strlen(content), write(fd, content, strlen(content)));
}

static size_t count_runs(int fd)
{
	struct run_status_list l = {0};
	size_t n;

	run_status_read(fd, &l);
	n = l.n;
	run_status_list_done(&l);
	return n;
}

TEST(status_file_is_read_back_and_replaced)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	char id[48];
	struct stat st;

	write_example(fd, id);
	write_example(fd, id);
	assert_int_equal(1, count_runs(fd));
	assert_int_equal(0, fstat(fd, &st));
	assert_int_equal(0, st.st_mode & 022);
}

TEST(status_file_replaces_what_a_killed_writer_left)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	_free_ char *name = NULL;
	struct run_status s = example();
	char id[48];

	name = text_format(".%s.new", s.id);
	run_status_done(&s);
	assert_int_equal(0, symlinkat("/nowhere", fd, name));
	write_example(fd, id);
	assert_int_equal(1, count_runs(fd));
}

/* Each start of a run pays for it. */
TEST(status_file_is_first_written_in_its_place)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	_free_ char *line = example_line();
	_free_ char *unfinished = NULL;
	struct run_status s = example();

	unfinished = text_format(".%s.new", s.id);
	make_file(fd, unfinished, "in the way of a rename");
	assert_int_equal(0, run_status_write(fd, s.id, line, true));
	assert_int_equal(0, faccessat(fd, unfinished, F_OK, 0));
	assert_int_equal(1, count_runs(fd));
	/* An agent that an agent became is the same process. */
	assert_int_equal(0, run_status_write(fd, s.id, line, true));
	assert_int_not_equal(0, faccessat(fd, unfinished, F_OK, 0));
	assert_int_equal(1, count_runs(fd));
	run_status_done(&s);
}

TEST(status_directory_that_is_a_link_or_writable_by_others_is_refused)
{
	_free_ char *parent = test_directory();
	_free_ char *link = text_format("%s/link", parent);
	_free_ char *open_to_all = text_format("%s/open", parent);

	assert_int_equal(0, symlink("/tmp", link));
	assert_true(run_status_open_directory(link, true) < 0);
	assert_int_equal(0, mkdir(open_to_all, 0777));
	assert_int_equal(0, chmod(open_to_all, 0777));
	assert_int_equal(-EPERM, run_status_open_directory(open_to_all, true));
	assert_int_equal(-EPERM, run_status_open_directory(open_to_all, false));
}

TEST(status_directory_of_another_user_is_refused)
{
	_free_ char *parent = test_directory();
	_free_ char *path = text_format("%s/other", parent);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(path, 0755));
	assert_int_equal(0, chown(path, 12345, 12345));
	assert_int_equal(-EPERM, run_status_open_directory(path, true));
	assert_int_equal(-EPERM, run_status_open_directory(path, false));
}

TEST(status_files_of_other_kinds_and_names_are_passed_over)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	_free_ char *line = example_line();
	_free_ char *name = NULL;
	char id[48];

	make_file(fd, "1-2.json", line); /* another's name */
	make_file(fd, "3-4.json", "");
	make_file(fd, "5-6.json", "{}");
	make_file(fd, "other.json", line);
	assert_int_equal(0, mkfifoat(fd, "7-8.json", 0644));
	assert_int_equal(0, symlinkat("1-2.json", fd, "9-10.json"));
	assert_int_equal(0, mkdirat(fd, "11-12.json", 0755));
	assert_int_equal(0, count_runs(fd));
	write_example(fd, id);
	assert_int_equal(1, count_runs(fd));
	name = text_format("%s.json", id);
	assert_int_equal(0, fchmodat(fd, name, 0666, 0));
	assert_int_equal(0, count_runs(fd));
}

/* A dead run's file, this old. */
static void make_dead(int fd, unsigned start_ticks, time_t age)
{
	const struct timespec times[2] = {
		{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
	struct run_status s = example();
	_free_ char *line = NULL;
	_free_ char *name = NULL;

	s.process.start_ticks = start_ticks;
	snprintf(s.id, sizeof(s.id), "%d-%u", s.process.pid, start_ticks);
	line = run_status_print(&s, RUN_ALIVE_UNKNOWN);
	name = text_format("%s.json", s.id);
	assert_int_equal(0, run_status_write(fd, s.id, line, true));
	assert_int_equal(0, utimensat(fd, name, times, 0));
	run_status_done(&s);
}

enum { DAY = 24 * 3600 };

TEST(status_files_of_the_dead_go_when_old_or_many)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	struct run_status_process self;
	char id[48];

	run_status_self(&self);
	write_example(fd, id);
	make_dead(fd, 1, DAY + 60);
	make_dead(fd, 2, DAY - 60);
	make_file(fd, "notes.json", "kept");
	run_status_clean(fd, &self, true);
	assert_int_equal(3, count_runs(fd));
	run_status_clean(fd, &self, false);
	assert_int_equal(2, count_runs(fd));
	for (unsigned i = 10; i < 50; i++)
		make_dead(fd, i, i);
	self.start_ticks = 17;
	run_status_clean(fd, &self, true);
	assert_int_equal(42, count_runs(fd));
	self.start_ticks = 16;
	run_status_clean(fd, &self, true);
	assert_int_equal(20, count_runs(fd));
	assert_int_equal(0, faccessat(fd, "notes.json", F_OK, 0));
}

TEST(status_files_of_another_namespace_go_when_old_and_many)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	struct run_status_process self;

	run_status_self(&self);
	for (unsigned i = 0; i < 25; i++)
		make_dead(fd, 1 + i, i < 23 ? (time_t)2 * DAY : 60);
	self.pid_namespace++; /* theirs is another one, from here */
	run_status_clean(fd, &self, false);
	assert_int_equal(20, count_runs(fd));
	for (unsigned i = 0; i < 25; i++)
		make_dead(fd, 100 + i, 60);
	run_status_clean(fd, &self, false);
	assert_int_equal(27, count_runs(fd)); /* those of a minute ago */
}

TEST(status_file_of_a_living_run_stays_however_old)
{
	const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	_free_ char *name = NULL;
	struct run_status_process self;
	char id[48];

	run_status_self(&self);
	write_example(fd, id);
	name = text_format("%s.json", id);
	assert_int_equal(0, utimensat(fd, name, times, 0));
	run_status_clean(fd, &self, false);
	assert_int_equal(1, count_runs(fd));
}

TEST(status_files_of_other_owners_are_neither_read_nor_removed)
{
	_close_ int fd = -1;
	_free_ char *path = state_directory(&fd);
	struct run_status_process self;
	_free_ char *name = NULL;

	if (geteuid() != 0)
		skip();
	run_status_self(&self);
	make_dead(fd, 1, (time_t)2 * DAY);
	name = text_format("%d-1.json", self.pid);
	assert_int_equal(0, fchownat(fd, name, 12345, 12345, 0));
	assert_int_equal(0, count_runs(fd));
	run_status_clean(fd, &self, false);
	assert_int_equal(0, faccessat(fd, name, F_OK, 0));
}
