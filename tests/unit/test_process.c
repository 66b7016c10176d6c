/* SPDX-License-Identifier: MIT */
/* The final exec: what the command inherits, where it is looked for, and what is said when it
 * cannot run. Each test execs in a forked child and looks at what /bin/cat sees of itself in
 * /proc. */
#include "defer.h"
#include "process.h"
#include "publish_fixture.h"
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct outcome {
	int status; /* as of waitpid(2) */
	struct text out;
};

/* Runs scene() in a forked child, and keeps what it writes to descriptor 1. A scene that returns
 * has its result as exit status. */
static void play(int (*scene)(const char *arg), const char *arg, struct outcome *ret)
{
	char bytes[4096];
	int fds[2];
	ssize_t n;
	pid_t pid;

	assert_int_equal(0, pipe(fds));
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		_exit(scene(arg));
	}
	close(fds[1]);
	*ret = (struct outcome){0};
	text_add(&ret->out, "");
	while ((n = read(fds[0], bytes, sizeof(bytes))) > 0)
		text_add_bytes(&ret->out, bytes, (size_t)n);
	close(fds[0]);
	assert_int_equal(pid, waitpid(pid, &ret->status, 0));
}

/* A scene's last act: exec, or print why not and return the exit code. */
static int run(const struct inherited *in, char *const argv[], char *const env[])
{
	struct error err = {0};
	int code = process_exec(in, argv, env, NULL, &err);

	dprintf(STDOUT_FILENO, "%d %s", err.code, err.msg);
	return code;
}

static int run_words(const char *program, const char *path)
{
	_free_ char *path_variable = text_format("PATH=%s", path);
	char *env[] = {path_variable, NULL};
	char *argv[] = {(char *)program, "one", "two words", NULL};
	struct inherited in;

	inherited_record(&in);
	return run(&in, argv, env);
}

static void write_file(const char *dir, const char *name, const char *content, mode_t mode)
{
	_free_ char *path = text_format("%s/%s", dir, name);
	_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(strlen(content), write(fd, content, strlen(content)));
	assert_int_equal(0, fchmod(fd, mode));
}

static char *line_of(const struct outcome *o, const char *name)
{
	const char *line = strstr(o->out.s, name);

	return line == NULL ? NULL : text_format("%.*s", (int)strcspn(line, "\n"), line);
}

static void assert_line(const struct outcome *o, const char *name, const char *expected)
{
	_free_ char *line = line_of(o, name);

	assert_non_null(line);
	assert_string_equal(expected, line);
}

static int see_own_status(const char *arg)
{
	char *argv[] = {"cat", "/proc/self/status", NULL};
	char *env[] = {NULL};
	struct inherited in;
	sigset_t blocked;

	(void)arg;
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL); /* whatever this test was started with */
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGTERM);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	umask(027);
	inherited_record(&in);
	/* What the agent does to itself meanwhile. */
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_IGN);
	sigfillset(&blocked);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	return run(&in, argv, env);
}

TEST(exec_gives_back_the_mask_the_dispositions_and_the_umask)
{
	struct outcome o;
	_free_ char *ignored = NULL;

	play(see_own_status, NULL, &o);
	assert_int_equal(0, o.status);
	assert_line(&o, "Umask:", "Umask:\t0027");
	assert_line(&o, "SigBlk:", "SigBlk:\t0000000000004200"); /* TERM 15, USR1 10 */
	/* CHLD 17, HUP 1. The C library's two own signals, 32 and 33, are not for us to set. */
	ignored = line_of(&o, "SigIgn:");
	assert_int_equal(0x10001, strtoull(ignored + strlen("SigIgn:"), NULL, 16) & 0x7fffffff);
	assert_line(&o, "SigCgt:", "SigCgt:\t0000000000000000");
	text_done(&o.out);
}

static int see_own_limits(const char *arg)
{
	char *argv[] = {"cat", "/proc/self/limits", NULL};
	char *env[] = {NULL};
	struct rlimit limit = {.rlim_cur = 77, .rlim_max = 200}, agents;
	struct inherited in;

	(void)arg;
	setrlimit(RLIMIT_NOFILE, &limit);
	inherited_record(&in);
	getrlimit(RLIMIT_NOFILE, &agents);
	if (agents.rlim_cur != 200)
		return 99;
	return run(&in, argv, env);
}

TEST(exec_gives_back_the_limit_of_open_files_that_the_agent_raised)
{
	struct outcome o;
	_free_ char *line = NULL;
	unsigned soft = 0, hard = 0;

	play(see_own_limits, NULL, &o);
	assert_int_equal(0, o.status);
	line = line_of(&o, "Max open files");
	assert_non_null(line);
	assert_int_equal(2, sscanf(line, "Max open files %u %u", &soft, &hard));
	assert_int_equal(77, soft);
	assert_int_equal(200, hard);
	text_done(&o.out);
}

static int see_own_descriptors(const char *arg)
{
	char *argv[] = {"sh", "-c",
		"for f in 0 1 2 7 8; do [ -e /proc/self/fd/$f ] && echo $f; done; true", NULL};
	char *env[] = {NULL};
	struct inherited in;

	(void)arg;
	close_range(3, ~0U, 0);
	close(STDIN_FILENO);
	dup2(STDOUT_FILENO, STDERR_FILENO);
	dup2(STDOUT_FILENO, 7);
	inherited_record(&in);
	if (fcntl(STDIN_FILENO, F_GETFD) != FD_CLOEXEC)
		return 99; /* the agent's next file would have been its standard input */
	fcntl(open("/dev/zero", O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 8);
	return run(&in, argv, env);
}

TEST(exec_passes_the_inherited_descriptors_and_no_other)
{
	struct outcome o;

	play(see_own_descriptors, NULL, &o);
	assert_int_equal(0, o.status);
	assert_string_equal("1\n2\n7\n", o.out.s);
	text_done(&o.out);
}

/* What a library opens on its own, behind the agent's back. */
static int see_descriptors_but_of_libraries(const char *refused)
{
	char *argv[] = {"sh", "-c",
		"for f in 3 7 8 9 10 11 40; do [ -e /proc/self/fd/$f ] && echo $f; done; true",
		NULL};
	char *env[] = {NULL};
	struct inherited in;

	close_range(3, ~0U, 0);
	dup2(STDOUT_FILENO, 10);
	dup2(STDOUT_FILENO, 7);
	inherited_record(&in);
	for (int fd = 8; fd <= 11; fd++)
		dup2(STDOUT_FILENO, fd);
	dup2(STDOUT_FILENO, 40);
	if (refused != NULL && refuse_system_call(SYS_close_range, ENOSYS) < 0)
		return 99;
	inherited_seal(&in);
	return run(&in, argv, env);
}

TEST(exec_passes_nothing_that_a_library_opened_without_close_on_exec)
{
	for (int refused = 0; refused < 2; refused++) {
		struct outcome o;

		play(see_descriptors_but_of_libraries, refused == 1 ? "refused" : NULL, &o);
		assert_int_equal(0, o.status);
		assert_string_equal("7\n10\n", o.out.s);
		text_done(&o.out);
	}
}

static int take_then_look(const char *arg)
{
	struct inherited in;
	struct sigaction pipe, child;
	sigset_t mask;

	(void)arg;
	signal(SIGCHLD, SIG_IGN);
	sigfillset(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	inherited_record(&in);
	sigaction(SIGPIPE, NULL, &pipe);
	sigaction(SIGCHLD, NULL, &child);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	dprintf(STDOUT_FILENO, "%d %d %d %o", pipe.sa_handler == SIG_IGN,
		child.sa_handler == SIG_DFL, sigismember(&mask, SIGTERM), umask(0));
	return 0;
}

TEST(agent_hears_signals_and_children_whatever_it_was_started_with)
{
	struct outcome o;

	play(take_then_look, NULL, &o);
	assert_string_equal("1 1 0 0", o.out.s);
	text_done(&o.out);
}

/* known is a path that PATH does not have. */
static int exec_known(const char *known)
{
	char *argv[] = {"cat", "/dev/null", NULL};
	char *env[] = {"PATH=/usr/bin:/bin", NULL};
	struct inherited in;
	struct error err = {0};

	inherited_record(&in);
	return process_exec(&in, argv, env, (char *)known, &err);
}

TEST(exec_takes_the_path_that_is_known_and_searches_when_it_fails)
{
	_free_ char *dir = test_directory();
	_free_ char *known = text_format("%s/known", dir);
	struct outcome o;

	write_file(dir, "known", "echo \"known $*\"", 0755);
	play(exec_known, known, &o);
	assert_int_equal(0, o.status);
	assert_string_equal("known /dev/null\n", o.out.s);
	text_done(&o.out);
	assert_int_equal(0, unlink(known));
	play(exec_known, known, &o);
	assert_int_equal(0, o.status);
	assert_string_equal("", o.out.s);
	text_done(&o.out);
}

static int echo_arguments(const char *dir)
{
	return run_words("args", dir);
}

TEST(program_is_found_in_the_path_of_its_environment)
{
	_free_ char *dir = test_directory();
	struct outcome o;

	write_file(dir, "args", "#!/bin/sh\nprintf '%s|' \"$@\"\n", 0755);
	play(echo_arguments, dir, &o);
	assert_int_equal(0, o.status);
	assert_string_equal("one|two words|", o.out.s);
	text_done(&o.out);
}

static int run_in_working_directory(const char *dir)
{
	return chdir(dir) < 0 ? 99 : run_words("args", "/nowhere:");
}

TEST(empty_component_of_path_is_the_working_directory)
{
	_free_ char *dir = test_directory();
	struct outcome o;

	write_file(dir, "args", "#!/bin/sh\necho \"$0\"\n", 0755);
	play(run_in_working_directory, dir, &o);
	assert_int_equal(0, o.status);
	assert_string_equal("./args\n", o.out.s);
	text_done(&o.out);
}

static int run_along_two_directories(const char *dir)
{
	_free_ char *path = text_format("%s/first:%s/second", dir, dir);

	return run_words("tool", path);
}

static char *two_directories(void)
{
	char *dir = test_directory();
	_free_ char *first = text_format("%s/first", dir);
	_free_ char *second = text_format("%s/second", dir);

	assert_int_equal(0, mkdir(first, 0755));
	assert_int_equal(0, mkdir(second, 0755));
	return dir;
}

TEST(directories_and_files_that_may_not_run_are_passed_over_along_path)
{
	static const char *const in_the_way[] = {"a directory", "a plain file"};

	for (size_t i = 0; i < ARRAY_LEN(in_the_way); i++) {
		_free_ char *dir = two_directories();
		_free_ char *tool = text_format("%s/first/tool", dir);
		struct outcome o;

		if (i == 0)
			assert_int_equal(0, mkdir(tool, 0755));
		else
			write_file(dir, "first/tool", "", 0644);
		write_file(dir, "second/tool", "#!/bin/sh\necho second\n", 0755);
		play(run_along_two_directories, dir, &o);
		assert_int_equal(0, o.status);
		assert_string_equal("second\n", o.out.s);
		text_done(&o.out);
	}
}

/* Plays the scene and expects an exit code and a piece of the message. */
static void assert_refused(
	int (*scene)(const char *), const char *arg, int code, const char *message)
{
	struct outcome o;

	play(scene, arg, &o);
	assert_true(WIFEXITED(o.status));
	assert_int_equal(code, WEXITSTATUS(o.status));
	if (strstr(o.out.s, message) == NULL)
		fail_msg("'%s' is not in '%s'", message, o.out.s);
	text_done(&o.out);
}

TEST(file_that_may_not_run_is_remembered_when_path_holds_no_other)
{
	_free_ char *dir = two_directories();

	write_file(dir, "first/tool", "", 0644);
	assert_refused(run_along_two_directories, dir, 126, "/first/tool': permission denied");
}

TEST(directory_alone_along_path_is_not_found)
{
	_free_ char *dir = two_directories();
	_free_ char *tool = text_format("%s/first/tool", dir);

	assert_int_equal(0, mkdir(tool, 0755));
	assert_refused(run_along_two_directories, dir, 127, "cannot run 'tool': not found in PATH");
}

static int run_path(const char *path)
{
	return run_words(path, "/usr/bin:/bin");
}

TEST(command_that_is_nowhere_is_127_and_the_message_has_the_path)
{
	assert_refused(run_path, "no-such-program", 127,
		"-2 cannot run 'no-such-program': not found in PATH (/usr/bin:/bin)");
	assert_refused(run_path, "/no/such/program", 127,
		"-2 cannot run '/no/such/program': no such file");
	assert_refused(run_path, "/etc/passwd/x", 127, "Not a directory");
	assert_refused(run_path, "", 127, "name is empty");
}

static int run_script_by_its_bare_name(const char *dir)
{
	return chdir(dir) < 0 ? 99 : run_words("train.py", "/usr/bin:/bin");
}

TEST(script_that_lies_in_the_working_directory_is_hinted_at)
{
	_free_ char *dir = test_directory();

	write_file(dir, "train.py", "", 0644);
	assert_refused(run_script_by_its_bare_name, dir, 127, "try python3 train.py");
}

TEST(file_that_cannot_be_executed_is_126_with_the_reason)
{
	static const struct {
		const char *name, *content;
		mode_t mode;
		const char *message;
	} cases[] = {
		{"train.py", "", 0644, "permission denied (is it executable? try: python3 "},
		{"tool", "", 0644, "try: chmod +x "},
		{"lost", "#!/no/interpreter -x\n", 0755,
			"its interpreter '/no/interpreter' does not"},
		{"windows", "#!/bin/sh\r\necho\r\n", 0755, "Windows line ends"},
		{"elf", "\177ELF\2", 0755, "it is a damaged program"},
	};
	_free_ char *dir = test_directory();

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_free_ char *path = text_format("%s/%s", dir, cases[i].name);

		/* A NUL after the magic, as in every ELF header. */
		write_file(dir, cases[i].name, cases[i].content, cases[i].mode);
		if (strcmp(cases[i].name, "elf") == 0)
			assert_int_equal(0, truncate(path, 64));
		assert_refused(run_path, path, 126, cases[i].message);
	}
	assert_refused(run_path, dir, 126, "it is a directory");
}

TEST(script_without_an_interpreter_line_is_run_by_the_shell)
{
	_free_ char *dir = test_directory();
	_free_ char *path = text_format("%s/plain", dir);
	struct outcome o;

	write_file(dir, "plain", "echo \"$0|$1|$2\"\n", 0755);
	play(run_path, path, &o);
	assert_int_equal(0, o.status);
	{
		_free_ char *expected = text_format("%s|one|two words\n", path);

		assert_string_equal(expected, o.out.s);
	}
	text_done(&o.out);
}

static int run_with_a_huge_argument(const char *arg)
{
	char *env[] = {NULL};
	char *argv[] = {"true", zalloc(1 << 20), NULL};
	struct inherited in;

	(void)arg;
	memset(argv[1], 'x', (1 << 20) - 1);
	inherited_record(&in);
	return run(&in, argv, env);
}

TEST(arguments_that_are_too_long_are_126_and_said_to_be)
{
	assert_refused(run_with_a_huge_argument, NULL, 126, "too long for the system");
}

TEST(program_is_found_without_running_it)
{
	char *env[] = {"PATH=/nowhere:/usr/bin:/bin", NULL};
	_free_ char *sh = process_find("sh", env);

	assert_non_null(sh);
	assert_string_equal("/usr/bin/sh", sh);
	assert_null(process_find("no-such-program", env));
	assert_null(process_find("", env));
	assert_null(process_find("/usr", env));
}

TEST(what_exec_would_return_is_known_without_running_anything)
{
	char *env[] = {"PATH=/nowhere:/usr/bin:/bin", NULL};
	char *sh[] = {"sh", NULL}, *none[] = {"no-such-program", NULL};
	char *text[] = {"/etc/passwd", NULL}, *dir[] = {"/usr", NULL}, *empty[] = {"", NULL};
	struct error err;
	_free_ char *path = NULL;

	assert_int_equal(0, process_check(sh, env, &path, &err));
	assert_string_equal("/usr/bin/sh", path);
	assert_int_equal(127, process_check(none, env, NULL, &err));
	assert_non_null(strstr(err.msg, "cannot run 'no-such-program': not found in PATH"));
	assert_int_equal(126, process_check(text, env, NULL, &err));
	assert_non_null(strstr(err.msg, "permission denied"));
	assert_int_equal(126, process_check(dir, env, NULL, &err));
	assert_int_equal(127, process_check(empty, env, NULL, &err));
}

TEST(environment_is_edited_by_name)
{
	char *start[] = {"A=1", "AB=2", "A=3", NULL};
	struct strings env = {0};

	environment_copy(&env, start);
	assert_string_equal("1", environment_get(&env, "A"));
	assert_null(environment_get(&env, "B"));
	environment_set(&env, "A", environment_get(&env, "AB"));
	assert_int_equal(2, env.n);
	assert_string_equal("AB=2", env.v[0]);
	assert_string_equal("A=2", env.v[1]);
	assert_null(env.v[2]);
	environment_set(&env, "C", "x=y");
	assert_string_equal("x=y", environment_get(&env, "C"));
	text_strings_done(&env);
}

TEST(wait_status_has_words_and_the_shells_code)
{
	_free_ char *exited = process_describe_status(3 << 8);
	_free_ char *killed = process_describe_status(SIGKILL);
	_free_ char *dumped = process_describe_status(SIGSEGV | 0x80);

	assert_string_equal("exit status 3", exited);
	assert_string_equal("signal 9 (Killed)", killed);
	assert_string_equal("signal 11 (Segmentation fault)", dumped);
	assert_int_equal(3, process_status_code(3 << 8));
	assert_int_equal(137, process_status_code(SIGKILL));
	assert_int_equal(139, process_status_code(SIGSEGV | 0x80));
}
