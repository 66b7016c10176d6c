/* SPDX-License-Identifier: MIT */
/* What this process was started with, and how to give it back. Taken first thing in main(),
 * restored between fork and exec or right before the last exec. Descriptors are not kept here:
 * whatever the agent opens is close-on-exec, so the inherited ones are the only ones that pass. */
#include "job.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Many sources, each with connections and directories open, pass the usual soft limit of 1024. */
enum { AGENT_OPEN_FILES = 65536 };

/* A closed standard stream would make some file of the agent's descriptor 2, and its log would be
 * written into that file. Close-on-exec, so that the command finds the stream as closed as we did.
 */
static void occupy_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void raise_open_files(const struct rlimit *inherited)
{
	struct rlimit raised = *inherited;

	raised.rlim_cur = raised.rlim_max < AGENT_OPEN_FILES ? raised.rlim_max : AGENT_OPEN_FILES;
	if (raised.rlim_cur > inherited->rlim_cur)
		setrlimit(RLIMIT_NOFILE, &raised);
}

static void set_disposition(int signal, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	/* Fails for SIGKILL, SIGSTOP and the two that the C library keeps to itself: as it should.
	 */
	sigaction(signal, &action, NULL);
}

void inherited_take(struct inherited *in)
{
	sigset_t heard;

	memset(in, 0, sizeof(*in));
	occupy_standard_streams();
	for (int s = 1; s < NSIG; s++)
		sigaction(s, NULL, &in->actions[s]);
	set_disposition(SIGPIPE, SIG_IGN);
	set_disposition(SIGCHLD, SIG_DFL); /* when ignored, children vanish with their status */
	/* The kernel throws away what PID 1 neither handles nor blocks: a stop that comes before anybody
	 * listens would be lost. */
	if (getpid() == 1)
		signals_forwardable(in, &heard);
	else
		sigemptyset(&heard);
	/* The reaper reads it from a descriptor; a thread that did not block it would swallow it. */
	sigaddset(&heard, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &heard, &in->mask);
	in->umask = umask(0);
	if (getrlimit(RLIMIT_NOFILE, &in->nofile) == 0)
		raise_open_files(&in->nofile);
}

void inherited_restore(const struct inherited *in)
{
	if (in->nofile.rlim_max != 0)
		setrlimit(RLIMIT_NOFILE, &in->nofile);
	umask(in->umask);
	for (int s = 1; s < NSIG; s++)
		set_disposition(s, in->actions[s].sa_handler == SIG_IGN ? SIG_IGN : SIG_DFL);
	/* Last: a signal that was waiting finds the disposition it would have found without us. */
	pthread_sigmask(SIG_SETMASK, &in->mask, NULL);
}
