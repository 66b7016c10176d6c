/* SPDX-License-Identifier: MIT */
/* Children of the loop: how they end, what they print, and that nothing of them is left. */
#include "../../agent/process/process_private.h"
#include "defer.h"
#include "process.h"
#include "progress.h"
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

struct watch {
	uv_loop_t loop;
	struct child *child;
	struct strings lines;
	size_t longest;
	unsigned exits;
	struct child_end end;
};

static void note_line(void *ctx, const char *line, size_t len)
{
	struct watch *w = ctx;
	_free_ char *copy = text_format("%.*s", (int)len, line);

	assert_int_equal(0, w->exits);
	text_strings_add(&w->lines, copy);
	if (len > w->longest)
		w->longest = len;
}

static void note_exit(void *ctx, const struct child_end *end)
{
	struct watch *w = ctx;

	w->exits++;
	w->end = *end;
	child_free(w->child);
}

static struct inherited as_started(void)
{
	struct inherited in = {.umask = 022};

	sigemptyset(&in.mask);
	return in;
}

static int start_program(struct watch *w, struct child_options *opts, struct error *err)
{
	static struct inherited in;

	in = as_started();
	memset(w, 0, sizeof(*w));
	assert_int_equal(0, uv_loop_init(&w->loop));
	if (opts->env == NULL)
		opts->env = environ;
	opts->inherited = &in;
	opts->on_exit = note_exit;
	opts->ctx = w;
	return child_start(&w->loop, opts, &w->child, err);
}

static void start_script(struct watch *w, const char *script, bool with_lines, uint64_t timeout_ms)
{
	char *argv[] = {"sh", "-c", (char *)script, NULL};
	struct child_options opts = {
		.argv = argv, .timeout_ms = timeout_ms, .on_line = with_lines ? note_line : NULL};

	assert_int_equal(0, start_program(w, &opts, NULL));
}

static void finish(struct watch *w)
{
	assert_int_equal(0, uv_run(&w->loop, UV_RUN_DEFAULT));
	assert_int_equal(0, uv_loop_close(&w->loop));
}

static void run_script(struct watch *w, const char *script, bool with_lines)
{
	start_script(w, script, with_lines, 0);
	assert_int_equal(0, w->exits);
	finish(w);
	assert_int_equal(1, w->exits);
}

TEST(exit_status_of_a_child_is_told_once_from_the_loop)
{
	static const int codes[] = {0, 1, 2, 3, 63, 64, 125, 126, 127, 128, 143, 254, 255};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		_free_ char *script = text_format("exit %d", codes[i]);
		struct watch w;

		run_script(&w, script, false);
		assert_int_equal(codes[i], process_status_code(w.end.wait_status));
		assert_false(w.end.timed_out);
		assert_false(w.end.left_processes);
	}
}

TEST(signal_that_ended_a_child_is_told)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGKILL, SIGUSR1, SIGPIPE, SIGXFSZ};

	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		_free_ char *script = text_format("kill -%d $$", signals[i]);
		struct watch w;

		run_script(&w, script, false);
		assert_true(WIFSIGNALED(w.end.wait_status));
		assert_int_equal(signals[i], WTERMSIG(w.end.wait_status));
	}
}

TEST(two_children_keep_their_own_status)
{
	char *argv[] = {"sh", "-c", "sleep 0.05; exit 7", NULL};
	struct watch first, second;
	struct child_options opts;

	start_script(&first, "exit 5", false, 0);
	memset(&second, 0, sizeof(second));
	opts = (struct child_options){.argv = argv,
		.env = environ,
		.inherited = &(struct inherited){.umask = 022},
		.on_exit = note_exit,
		.ctx = &second};
	assert_int_equal(0, child_start(&first.loop, &opts, &second.child, NULL));
	finish(&first);
	assert_int_equal(5, process_status_code(first.end.wait_status));
	assert_int_equal(7, process_status_code(second.end.wait_status));
}

TEST(child_that_cannot_be_executed_is_an_error_of_the_start)
{
	char *argv[] = {"no-such-program", NULL};
	struct child_options opts = {.argv = argv, .on_line = note_line};
	struct error err;
	struct watch w;

	assert_int_equal(-ENOENT, start_program(&w, &opts, &err));
	assert_non_null(strstr(err.msg, "cannot run 'no-such-program': not found in PATH"));
	assert_int_equal(-1, waitpid(-1, NULL, WNOHANG)); /* and of the fork nothing is left */
	assert_int_equal(ECHILD, errno);
	finish(&w);
	assert_int_equal(0, w.exits);
}

TEST(child_runs_in_the_directory_it_was_given_or_does_not_start)
{
	_free_ char *dir = test_directory();
	char *argv[] = {"pwd", NULL};
	struct child_options opts = {.argv = argv, .cwd = dir, .on_line = note_line};
	struct error err;
	struct watch w;

	assert_int_equal(0, start_program(&w, &opts, NULL));
	finish(&w);
	assert_int_equal(1, w.lines.n);
	assert_string_equal(dir, w.lines.v[0]);
	text_strings_done(&w.lines);

	opts.cwd = "/no/such/directory";
	assert_int_equal(-ENOENT, start_program(&w, &opts, &err));
	assert_string_equal(
		"cannot run 'pwd' in '/no/such/directory': No such file or directory", err.msg);
	finish(&w);
}

TEST(child_leads_its_own_session_and_reads_nothing)
{
	struct watch w;

	run_script(&w,
		"read -r line || echo end; cut -d' ' -f1,5,6 /proc/$$/stat; readlink "
		"/proc/self/fd/0",
		true);
	assert_int_equal(3, w.lines.n);
	assert_string_equal("end", w.lines.v[0]);
	{
		int pid = atoi(w.lines.v[1]);
		_free_ char *own = text_format("%d %d %d", pid, pid, pid); /* pid, group, session */

		assert_string_equal(own, w.lines.v[1]);
	}
	assert_string_equal("/dev/null", w.lines.v[2]);
	text_strings_done(&w.lines);
}

TEST(output_comes_in_lines_from_both_streams_and_to_the_last_byte)
{
	struct watch w;

	run_script(&w, "echo one; echo two >&2; echo; printf partial", true);
	assert_int_equal(4, w.lines.n);
	assert_string_equal("one", w.lines.v[0]);
	assert_string_equal("two", w.lines.v[1]);
	assert_string_equal("", w.lines.v[2]);
	assert_string_equal("partial", w.lines.v[3]);
	text_strings_done(&w.lines);
}

TEST(line_that_is_too_long_comes_in_pieces)
{
	struct watch w;

	/* 65536 and 65537 bytes: one whole line, then one with a byte too many, then a short one.
	 */
	run_script(&w,
		"head -c 65536 /dev/zero | tr '\\0' x; echo; head -c 65537 /dev/zero | tr '\\0' y; "
		"echo; "
		"echo z",
		true);
	assert_int_equal(4, w.lines.n);
	assert_int_equal(65536, strlen(w.lines.v[0]));
	assert_int_equal(65536, strlen(w.lines.v[1]));
	assert_string_equal("y", w.lines.v[2]);
	assert_string_equal("z", w.lines.v[3]);
	text_strings_done(&w.lines);
}

TEST(much_output_arrives_whole_before_the_end_is_told)
{
	struct watch w;

	run_script(&w, "seq 200000", true);
	assert_int_equal(200000, w.lines.n);
	assert_string_equal("200000", w.lines.v[199999]);
	text_strings_done(&w.lines);
}

static bool is_running(pid_t pid)
{
	_free_ char *path = text_format("/proc/%d/stat", (int)pid);
	_fclose_ FILE *f = fopen(path, "re");
	char state = 'X';

	return f != NULL && fscanf(f, "%*d %*s %c", &state) == 1 && state != 'Z' && state != 'X';
}

static uint64_t elapsed_ms(uint64_t since_ns)
{
	return (now_ns() - since_ns) / 1000000;
}

TEST(processes_a_child_leaves_behind_are_ended_with_it)
{
	uint64_t start = now_ns();
	struct watch w;

	run_script(&w, "sleep 100 & echo $!", true);
	assert_int_equal(0, w.end.wait_status);
	assert_true(w.end.left_processes);
	assert_false(is_running(atoi(w.lines.v[0])));
	assert_true(elapsed_ms(start) < 4500); /* SIGTERM was enough: SIGKILL comes after 5 s */
	text_strings_done(&w.lines);
}

TEST(process_left_behind_that_ignores_sigterm_is_killed)
{
	struct watch w;

	run_script(&w, "sh -c 'trap \"\" TERM; echo $$; sleep 30' & sleep 0.2", true);
	assert_true(w.end.left_processes);
	assert_false(is_running(atoi(w.lines.v[0])));
	text_strings_done(&w.lines);
}

/* A parent that never fetches its child, which ended as the only member of its own group. */
static pid_t neglect_a_child(int tell_fd)
{
	pid_t parent = fork(), child;

	if (parent != 0)
		return parent;
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		_exit(0);
	}
	waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT);
	if (write(tell_fd, &child, sizeof(child)) > 0)
		pause();
	_exit(0);
}

TEST(group_of_zombies_that_nobody_fetches_counts_as_gone)
{
	int fds[2], known;
	bool gone;
	pid_t parent, group = 0;

	assert_int_equal(0, pipe(fds));
	parent = neglect_a_child(fds[1]);
	assert_int_equal(sizeof(group), read(fds[0], &group, sizeof(group)));
	known = kill(-group, 0);
	gone = child_group_is_gone(group);
	kill(parent, SIGKILL);
	assert_int_equal(parent, waitpid(parent, NULL, 0));
	assert_int_equal(0, known); /* so says the kernel */
	assert_true(gone);
	assert_false(child_group_is_gone(getpgrp()));
	close(fds[0]);
	close(fds[1]);
}

TEST(time_limit_ends_the_whole_group_whatever_it_ignores)
{
	unsigned limit_ms = 200;
	uint64_t start;
	struct watch w;

	/* On a busy machine the limit may come before there is somebody to ignore anything. */
	for (;; limit_ms *= 4) {
		start = now_ns();
		start_script(&w, "sh -c 'trap \"\" TERM; echo $$; sleep 30' & sleep 100", true,
			limit_ms);
		finish(&w);
		if (w.lines.n > 0 || limit_ms > 10000)
			break;
		text_strings_done(&w.lines);
	}
	assert_true(w.end.timed_out);
	assert_int_equal(SIGTERM, WTERMSIG(w.end.wait_status));
	assert_int_equal(1, w.lines.n);
	assert_false(is_running(atoi(w.lines.v[0])));
	assert_in_range(elapsed_ms(start), limit_ms, limit_ms + 15000);
	text_strings_done(&w.lines);
}

TEST(child_that_ignores_sigterm_is_killed_five_seconds_later)
{
	uint64_t start = now_ns();
	struct watch w;

	start_script(&w, "trap '' TERM; echo ready; sleep 30", true, 0);
	while (w.lines.n == 0)
		uv_run(&w.loop, UV_RUN_ONCE);
	child_kill(w.child, SIGTERM);
	finish(&w);
	assert_false(w.end.timed_out);
	assert_int_equal(SIGKILL, WTERMSIG(w.end.wait_status));
	assert_in_range(elapsed_ms(start), 5000, 20000);
	text_strings_done(&w.lines);
}

TEST(stopped_child_can_be_ended)
{
	uint64_t start = now_ns();
	struct watch w;

	start_script(&w, "kill -STOP $$", false, 100);
	finish(&w);
	assert_true(w.end.timed_out);
	assert_int_equal(SIGTERM, WTERMSIG(w.end.wait_status));
	assert_true(elapsed_ms(start) < 4500);
}

TEST(process_that_left_the_group_but_holds_the_output_is_waited_for_a_second)
{
	uint64_t start = now_ns();
	struct watch w;

	run_script(&w, "echo before; setsid sh -c 'echo $$; exec sleep 30' & sleep 0.3", true);
	assert_in_range(elapsed_ms(start), 1000, 20000);
	assert_int_equal(2, w.lines.n);
	assert_string_equal("before", w.lines.v[0]);
	assert_true(is_running(atoi(w.lines.v[1])));
	assert_int_equal(0, kill(atoi(w.lines.v[1]), SIGKILL));
	text_strings_done(&w.lines);
}

TEST(child_gets_the_inherited_dispositions_mask_and_umask)
{
	char *argv[] = {"grep", "-E", "Umask|SigBlk|SigIgn", "/proc/self/status", NULL};
	struct child_options opts;
	struct inherited in = as_started();
	struct watch w = {0};

	sigaddset(&in.mask, SIGUSR2);
	in.actions[SIGHUP].sa_handler = SIG_IGN;
	in.umask = 077;
	opts = (struct child_options){.argv = argv,
		.env = environ,
		.inherited = &in,
		.on_line = note_line,
		.on_exit = note_exit,
		.ctx = &w};
	assert_int_equal(0, uv_loop_init(&w.loop));
	assert_int_equal(0, child_start(&w.loop, &opts, &w.child, NULL));
	finish(&w);
	assert_int_equal(3, w.lines.n);
	assert_string_equal("Umask:\t0077", w.lines.v[0]);
	assert_string_equal("SigBlk:\t0000000000000800", w.lines.v[1]);
	/* The C library's two own signals, 32 and 33, are not for us to set. */
	assert_int_equal(1, strtoull(w.lines.v[2] + strlen("SigIgn:"), NULL, 16) & 0x7fffffff);
	text_strings_done(&w.lines);
}

TEST(child_gets_the_inherited_descriptors_and_none_that_a_library_opened_meanwhile)
{
	char *argv[] = {"sh", "-c",
		"for f in 61 62 63; do [ -e /proc/self/fd/$f ] && echo $f; done; true", NULL};
	int inherited[] = {62};
	struct inherited in = as_started();
	struct watch w = {0};
	struct child_options opts = {.argv = argv,
		.env = environ,
		.inherited = &in,
		.on_line = note_line,
		.on_exit = note_exit,
		.ctx = &w};

	in.descriptors = inherited;
	in.n_descriptors = 1;
	for (int fd = 61; fd <= 63; fd++)
		assert_int_equal(fd, dup2(STDERR_FILENO, fd));
	assert_int_equal(0, uv_loop_init(&w.loop));
	assert_int_equal(0, child_start(&w.loop, &opts, &w.child, NULL));
	for (int fd = 61; fd <= 63; fd++)
		assert_int_equal(0, fcntl(fd, F_GETFD) & FD_CLOEXEC || close(fd));
	finish(&w);
	assert_int_equal(1, w.lines.n);
	assert_string_equal("62", w.lines.v[0]);
	text_strings_done(&w.lines);
}
