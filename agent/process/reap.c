/* SPDX-License-Identifier: MIT */
/* Waits for processes: the one who hears SIGCHLD on the loop. Loop thread. Those that somebody here
 * started are waited for by their own pid; the rest is left alone, since it belongs to whoever this
 * process becomes, unless the reaper was told to adopt: as PID 1 or sub-reaper every other process
 * that ends here is an orphan, and nobody else will ever fetch it. */
#include "reap.h"
#include "defer.h"
#include "job.h"
#include "text.h"
#include <assert.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct reaper {
	struct signals *sigchld;
	struct reaped *watched;
	unsigned users; /* who watches, and who adopts */
	bool adopts;
};

static void unlink_watched(struct reaper *reaper, const struct reaped *r)
{
	struct reaped **at = &reaper->watched;

	while (*at != NULL && *at != r)
		at = &(*at)->next;
	if (*at != NULL)
		*at = r->next;
	if (reaper->watched == NULL)
		signals_hold_loop(reaper->sigchld, false);
}

static void tell_stop(struct reaped *r)
{
	siginfo_t info = {0};

	if (r->on_stop == NULL || waitid(P_PID, (id_t)r->pid, &info, WSTOPPED | WNOHANG) < 0)
		return;
	if (info.si_pid == r->pid)
		r->on_stop(r, info.si_status);
}

/* Whether it has ended, and its owner was told: the list may have changed under us. */
static bool tell_end(struct reaper *reaper, struct reaped *r)
{
	int wait_status = 0;
	pid_t pid;

	do {
		pid = waitpid(r->pid, &wait_status, WNOHANG);
	} while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return false;
	if (pid < 0)
		wait_status = 255 << 8; /* not to be called a success */
	unlink_watched(reaper, r);
	r->on_end(r, wait_status);
	return true;
}

/* true: somebody was told, and the list has to be read anew. */
static bool tell_one(struct reaper *reaper)
{
	for (struct reaped *r = reaper->watched; r != NULL; r = r->next)
		if (r->pid != 0 && tell_end(reaper, r))
			return true;
	return false;
}

static bool is_watched(const struct reaper *reaper, pid_t pid)
{
	for (const struct reaped *r = reaper->watched; r != NULL; r = r->next)
		if (r->pid == pid)
			return true;
	return false;
}

/* Looks first (WNOWAIT): one of ours may have ended since its owner was last looked for, and is left
 * to the SIGCHLD that comes with it. */
static void fetch_orphans(const struct reaper *reaper)
{
	for (;;) {
		siginfo_t info = {0};

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
			is_watched(reaper, info.si_pid))
			return;
		waitpid(info.si_pid, NULL, WNOHANG);
	}
}

static void on_sigchld(void *ctx, const struct signalfd_siginfo *info)
{
	uv_loop_t *loop = ctx;
	struct reaper *reaper = loop->data;

	(void)info;
	if (reaper == NULL)
		return; /* the last user left while signals were being heard */
	for (struct reaped *r = reaper->watched; r != NULL; r = r->next)
		if (r->pid != 0)
			tell_stop(r);
	/* Whoever is told may be the last user, and the reaper gone with it. */
	while (loop->data == reaper && tell_one(reaper))
		;
	if (loop->data == reaper && reaper->adopts)
		fetch_orphans(reaper);
}

static void leave(uv_loop_t *loop)
{
	struct reaper *reaper = loop->data;

	assert(reaper != NULL);
	if (--reaper->users > 0)
		return;
	loop->data = NULL;
	signals_close(reaper->sigchld);
	free(reaper);
}

static int join(uv_loop_t *loop, struct error *err)
{
	struct reaper *reaper = loop->data;
	sigset_t which;
	int r;

	if (reaper != NULL) {
		reaper->users++;
		return 0;
	}
	reaper = zalloc(sizeof(*reaper));
	sigemptyset(&which);
	sigaddset(&which, SIGCHLD);
	r = signals_open(loop, &which, on_sigchld, loop, &reaper->sigchld, err);
	if (r < 0) {
		free(reaper);
		return r;
	}
	reaper->users = 1;
	loop->data = reaper;
	return 0;
}

int reap_watch(uv_loop_t *loop, struct reaped *r, struct error *err)
{
	int code = join(loop, err);
	struct reaper *reaper = loop->data;

	if (code < 0)
		return code;
	assert(reaper != NULL);
	if (reaper->watched == NULL)
		signals_hold_loop(reaper->sigchld, true);
	r->next = reaper->watched;
	reaper->watched = r;
	return 0;
}

void reap_forget(uv_loop_t *loop, struct reaped *r)
{
	unlink_watched(loop->data, r);
	leave(loop);
}

int orphans_adopt(uv_loop_t *loop, struct error *err)
{
	struct reaper *reaper;
	int code = join(loop, err);

	if (code < 0)
		return code;
	if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
		leave(loop);
		return error_set(err, -errno, "become the parent of orphans: %m");
	}
	reaper = loop->data;
	assert(reaper != NULL);
	reaper->adopts = true;
	fetch_orphans(reaper); /* a container's first process may be born with some */
	return 0;
}

void orphans_leave(uv_loop_t *loop)
{
	struct reaper *reaper = loop->data;

	assert(reaper != NULL);
	reaper->adopts = false;
	leave(loop);
}
