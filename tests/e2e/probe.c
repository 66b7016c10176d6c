/* SPDX-License-Identifier: MIT */
/* The tests' command: prints as one JSON object what it was started with. Bytes above 0x7f are printed
 * as the code points of the same number (Latin-1), so that any argument survives the way.
 *
 *	{"argv": [...], "cwd": "...", "environment": ["NAME=VALUE", ...], "fds": {"0": "/dev/null", ...},
 *	 "blocked": [SIGNAL, ...], "ignored": [...], "umask": "0022", "nofile": [SOFT, HARD]}
 *
 * The C library would hide some of it (its own signals): blocked and ignored come from /proc.
 *
 * With "+signals N" instead it prints "ready" and then a line for each of the N signals that it receives,
 * "NUMBER" or, for those sent with a value, "NUMBER VALUE". With "+orphans N" it makes N orphans that end at
 * once, prints "made" and waits for a signal to end it. */
#include <dirent.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void print_string(const char *s)
{
	putchar('"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_strings(const char *key, char *const *v)
{
	printf("\"%s\": [", key);
	for (size_t i = 0; v[i] != NULL; i++) {
		fputs(i > 0 ? ", " : "", stdout);
		print_string(v[i]);
	}
	puts("],");
}

static void print_cwd(void)
{
	char path[PATH_MAX];

	fputs("\"cwd\": ", stdout);
	print_string(getcwd(path, sizeof(path)) != NULL ? path : "");
	puts(",");
}

static int print_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;
	const char *comma = "";

	if (dir == NULL)
		return -1;
	fputs("\"fds\": {", stdout);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	while ((e = readdir(dir)) != NULL) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir))
			continue;
		target[n < 0 ? 0 : n] = '\0';
		printf("%s\"%s\": ", comma, e->d_name);
		print_string(target);
		comma = ", ";
	}
	puts("},");
	return closedir(dir);
}

static void print_signals(const char *key, unsigned long long set)
{
	const char *comma = "";

	printf("\"%s\": [", key);
	for (int s = 1; s <= 64; s++) {
		if ((set >> (s - 1) & 1) == 0)
			continue;
		printf("%s%d", comma, s);
		comma = ", ";
	}
	puts("],");
}

static int print_signal_sets(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[512];

	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "SigBlk:", 7) == 0)
			print_signals("blocked", strtoull(line + 7, NULL, 16));
		else if (strncmp(line, "SigIgn:", 7) == 0)
			print_signals("ignored", strtoull(line + 7, NULL, 16));
	}
	return fclose(f);
}

static int receive_signals(int n)
{
	sigset_t all;
	siginfo_t info;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL); /* NOLINT(concurrency-mt-unsafe): one thread */
	puts("ready");
	fflush(stdout);
	while (n-- > 0 && sigwaitinfo(&all, &info) > 0) {
		if (info.si_code == SI_QUEUE)
			printf("%d %d\n", info.si_signo, info.si_value.sival_int);
		else
			printf("%d\n", info.si_signo);
		fflush(stdout);
	}
	return 0;
}

static int end_at_once(void *unused)
{
	(void)unused;
	return 0;
}

/* The children of a child that does not wait for them. They share its memory: copying that takes longer than
 * all the rest. */
static void neglect(int n)
{
	static char stacks[100][4096];

	while (n-- > 0)
		clone(end_at_once, stacks[n] + sizeof(stacks[n]), CLONE_VM | SIGCHLD, NULL);
	_exit(0);
}

static int make_orphans(int n)
{
	for (; n > 0; n -= 100) {
		pid_t parent = fork();

		if (parent == 0)
			neglect(n < 100 ? n : 100);
		if (parent < 0 || waitpid(parent, NULL, 0) != parent)
			return 2;
	}
	puts("made");
	fflush(stdout);
	pause();
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files;

	if (argc == 3 && strcmp(argv[1], "+signals") == 0)
		return receive_signals(atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "+orphans") == 0)
		return make_orphans(atoi(argv[2]));
	puts("{");
	print_strings("argv", argv);
	print_cwd();
	print_strings("environment", environ);
	printf("\"umask\": \"%04o\",\n", (unsigned)umask(0));
	if (print_fds() < 0 || print_signal_sets() < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 2;
	printf("\"nofile\": [%lld, %lld]\n}\n", (long long)files.rlim_cur,
		(long long)files.rlim_max);
	return fflush(stdout) == 0 ? 0 : 2;
}
