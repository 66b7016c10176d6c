/* SPDX-License-Identifier: MIT */
/* One process's line in /proc: "PID (NAME) STATE PPID GROUP ... THREADS ...". The name may hold
 * anything. Any thread. */
#include "stat.h"
#include "defer.h"
#include "text.h"
#include <string.h>

int process_stat_read(const char *pid, struct process_stat *ret)
{
	_free_ char *path = format_text("/proc/%s/stat", pid);
	_fclose_ FILE *f = fopen(path, "re");
	char line[1024] = "", state = 'X';
	const char *rest;
	int parent = 0, group = 0;
	long threads = 0;

	if (f == NULL || fgets(line, sizeof(line), f) == NULL ||
		(rest = strrchr(line, ')')) == NULL)
		return -1;
	if (sscanf(rest + 1,
		    " %c %d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &state,
		    &parent, &group, &threads) != 4)
		return -1;
	*ret = (struct process_stat){.pid = (pid_t)strtol(pid, NULL, 10),
		.parent = parent,
		.group = group,
		/* One whose first thread has ended is listed as a zombie while others run. */
		.runs = (state != 'Z' && state != 'X') || threads > 1};
	return 0;
}
