/* SPDX-License-Identifier: MIT */
/* Runs a command and writes what it took as one JSON object: wall time, CPU time of the command and
 * all the processes it waited for (a shell's whole pipeline), and the resident peak of the largest of
 * them. A program of its own, because a process starts its life with the peak of whoever started it,
 * and an interpreter's would hide a small program's.
 *
 *     measure RESULT COMMAND [ARG...]      exits 0 when the command ran; its status is in RESULT */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void die(const char *what)
{
	perror(what);
	exit(1); /* NOLINT(concurrency-mt-unsafe): nothing is registered with atexit() */
}

int main(int argc, char **argv)
{
	struct rusage usage;
	double began, ended;
	FILE *result;
	int status;
	pid_t pid;

	if (argc < 3) {
		fputs("usage: measure RESULT COMMAND [ARG...]\n", stderr);
		return 2;
	}
	result = fopen(argv[1], "we");
	if (result == NULL)
		die(argv[1]);
	began = now();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	if (wait4(pid, &status, 0, &usage) < 0)
		die("wait4");
	ended = now();
	fprintf(result,
		"{\"began\": %.9f, \"wall\": %.6f, \"user\": %.6f, \"system\": %.6f, "
		"\"rss\": %ld, \"status\": %d}\n",
		began, ended - began, seconds(usage.ru_utime), seconds(usage.ru_stime),
		usage.ru_maxrss * 1024,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return fclose(result) == 0 ? 0 : 1;
}
