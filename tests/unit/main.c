/* SPDX-License-Identifier: MIT */
/* unit [-j N] [GLOB]: runs all tests of this binary, or those whose names match, in N concurrent
 * processes; most tests spend most of their time waiting. The output of each process is printed
 * after that of the processes before it. */
#include "fake_http.h"
#include "libcurl.h"
#include "test.h"
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct CMUnitTest tests[2048];
static size_t n_tests;
static char root[64];

/* Otherwise the threads of a server would go on with what a failed test had on its stack. */
static int stop_servers(void **state)
{
	(void)state;
	fake_http_stop_all();
	return 0;
}

void test_register(const char *name, CMUnitTestFunction f)
{
	if (n_tests == sizeof(tests) / sizeof(tests[0]))
		abort();
	tests[n_tests++] =
		(struct CMUnitTest){.name = name, .test_func = f, .teardown_func = stop_servers};
}

char *test_directory(void)
{
	char *path = NULL;

	if (asprintf(&path, "%s/XXXXXX", root) < 0 || mkdtemp(path) == NULL)
		abort();
	return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int run(const char *glob, size_t first, size_t step)
{
	size_t n = 0;

	for (size_t i = first; i < n_tests; i += step)
		tests[n++] = tests[i];
	if (glob != NULL)
		cmocka_set_test_filter(glob);
	return _cmocka_run_group_tests("stagerun", tests, n, NULL, NULL) != 0;
}

struct process {
	pid_t pid;
	FILE *output;
};

static struct process start(const char *glob, size_t first, size_t step)
{
	struct process p = {.output = tmpfile()};

	if (p.output == NULL || fflush(NULL) != 0 || (p.pid = fork()) < 0)
		abort();
	if (p.pid > 0)
		return p;
	dup2(fileno(p.output), STDOUT_FILENO);
	dup2(fileno(p.output), STDERR_FILENO);
	exit(run(glob, first, step)); /* NOLINT(concurrency-mt-unsafe): the only thread */
}

static int finish(const struct process *p)
{
	int status, c;

	waitpid(p->pid, &status, 0);
	rewind(p->output);
	while ((c = getc(p->output)) != EOF)
		putchar(c);
	fclose(p->output);
	if (WIFSIGNALED(status))
		printf("[  FAILED  ] a signal ended the process of these tests: %d\n",
			WTERMSIG(status));
	return status != 0;
}

static int run_at_once(const char *glob, size_t n)
{
	struct process processes[64];
	int failed = 0;

	for (size_t i = 0; i < n; i++)
		processes[i] = start(glob, i, n);
	for (size_t i = 0; i < n; i++)
		failed |= finish(&processes[i]);
	return failed;
}

static void pass_over(int number)
{
	(void)number;
}

/* The tests and their child processes need the default dispositions and an empty signal mask, but
 * a parent may have changed them: nohup ignores SIGHUP, and a shell ignores SIGINT in the
 * background. An ignored signal gets a handler that does nothing, because exec resets a handler
 * to the default. */
static void default_dispositions(void)
{
	const struct sigaction nothing = {.sa_handler = pass_over, .sa_flags = SA_RESTART};
	struct sigaction inherited;
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		if (sigaction(s, NULL, &inherited) == 0 && inherited.sa_handler == SIG_IGN)
			sigaction(s, &nothing, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int main(int argc, char **argv)
{
	struct error err;
	size_t n = 1;
	int failed;

	default_dispositions();
	/* Otherwise a test that needs libcurl would depend on an earlier test that loads it. */
	if (libcurl_load(&err) < 0)
		fprintf(stderr, "%s\n", err.msg);
	if (argc > 2 && strcmp(argv[1], "-j") == 0) {
		n = strtoul(argv[2], NULL, 10);
		argv += 2;
	}
	snprintf(root, sizeof(root), "/tmp/stagerun-unit-XXXXXX");
	if (n < 1 || n > 64 || mkdtemp(root) == NULL)
		return 1;
	failed = n > 1 ? run_at_once(argv[1], n) : run(argv[1], 0, 1);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}
