/* SPDX-License-Identifier: MIT */
/* Which process a run is, and whether it still lives: its number alone could be another's. */
#include "defer.h"
#include "run_status.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Returns the number of bytes, or -1. */
static ssize_t read_file(const char *path, char *buf, size_t size)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n;
}

/* Reads the state and the 22nd word of /proc/PID/stat, counted from the parenthesis after the name.
 * Returns false if it cannot be read. */
static bool read_stat(const char *path, char *ret_state, uint64_t *ret_ticks)
{
	char buf[1024];
	const char *at;

	if (read_file(path, buf, sizeof(buf)) <= 0)
		return false;
	at = strrchr(buf, ')');
	if (at == NULL || at[1] != ' ')
		return false;
	*ret_state = at[2];
	for (int word = 2; at != NULL && word < 22; word++)
		at = strchr(at + 1, ' ');
	*ret_ticks = at != NULL ? strtoull(at, NULL, 10) : 0;
	return at != NULL;
}

void run_status_self(struct run_status_process *ret)
{
	struct stat st;
	char state;

	*ret = (struct run_status_process){.pid = getpid()};
	if (!read_stat("/proc/self/stat", &state, &ret->start_ticks))
		ret->start_ticks = 0;
	if (stat("/proc/self/ns/pid", &st) == 0)
		ret->pid_namespace = st.st_ino;
	read_file("/proc/sys/kernel/random/boot_id", ret->boot, sizeof(ret->boot));
	ret->boot[strcspn(ret->boot, "\n")] = '\0';
}

/* /proc may be hidden from this user, or not mounted. */
static bool exists(pid_t pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

enum run_alive run_status_is_alive(
	const struct run_status_process *p, const struct run_status_process *self)
{
	uint64_t ticks = 0;
	char path[32], state = 0;

	if (strcmp(p->boot, self->boot) != 0)
		return RUN_DEAD;
	if (p->pid_namespace != self->pid_namespace)
		return RUN_ALIVE_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%d/stat", p->pid);
	if (!read_stat(path, &state, &ticks))
		return exists(p->pid) ? RUN_ALIVE : RUN_DEAD;
	if (state == 'Z' || state == 'X')
		return RUN_DEAD;
	return p->start_ticks == 0 || ticks == p->start_ticks ? RUN_ALIVE : RUN_DEAD;
}

void run_status_settle(struct run_status *s, enum run_alive alive)
{
	if (alive != RUN_DEAD || s->phase == PHASE_DONE || s->phase == PHASE_FAILED)
		return;
	if (s->phase == PHASE_COMMAND || s->phase == PHASE_WAITING) {
		s->phase = PHASE_DONE;
		return;
	}
	free(s->failed_phase);
	s->failed_phase = text_copy(run_status_phase_name(s->phase));
	free(s->message);
	s->message = text_copy("it ended without a word, as by SIGKILL");
	s->phase = PHASE_FAILED;
}
