/* SPDX-License-Identifier: MIT */
/* What is left of a child's process group after the child. Loop thread. Never waits for more than
 * this group: the status of other children belongs to others. */
#include "group.h"
#include "defer.h"
#include "stat.h"
#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static bool runs_in_group(const char *pid, pid_t group)
{
	struct process_stat p;

	return process_stat_read(pid, &p) == 0 && p.group == group && p.runs;
}

/* Zombies count as members for kill(2) until their parent fetches them, and there are containers
 * whose first process is late to do so, or never does. Only /proc tells them apart. */
static bool only_zombies_are_left(pid_t group)
{
	_closedir_ DIR *proc = opendir("/proc");
	const struct dirent *entry;

	if (proc == NULL)
		return false;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while ((entry = readdir(proc)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) && runs_in_group(entry->d_name, group))
			return false;
	return true;
}

bool group_is_gone(pid_t group)
{
	while (waitpid(-group, NULL, WNOHANG) > 0)
		;
	if (kill(-group, 0) < 0 && errno == ESRCH)
		return true;
	return only_zombies_are_left(group);
}

void group_signal(pid_t group, int signal)
{
	kill(-group, signal);
	if (signal == SIGTERM)
		kill(-group, SIGCONT); /* one that is stopped would not notice */
}
