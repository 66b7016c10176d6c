/* SPDX-License-Identifier: MIT */
/* The reaper: the only code that handles SIGCHLD (loop thread). Before it, what it and the orphans
 * need to know about processes from /proc (any thread). */
#include "defer.h"
#include "job.h"
#include "log.h"
#include "process_private.h"
#include "text.h"
#include "thread.h"
#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A line of stat is "PID (NAME) STATE PPID GROUP ... THREADS ...". NAME may contain any byte. */
int process_stat_read(const char *pid, struct process_stat *ret)
{
	_free_ char *path = text_format("/proc/%s/stat", pid);
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
		/* If the first thread has ended, the state is Z although other threads run. */
		.runs = (state != 'Z' && state != 'X') || threads > 1};
	return 0;
}

/* The descendants of this process, found through the parents in /proc. Any thread. */

struct process_entry {
	pid_t pid, parent, group;
	bool descends; /* from this process */
};

struct process_list {
	struct process_entry *v;
	size_t n, cap;
};

static void list_add(struct process_list *list, const struct process_stat *p)
{
	if (list->n == list->cap) {
		list->cap = list->cap * 2 + 64;
		list->v = realloc(list->v, list->cap * sizeof(*list->v));
		if (list->v == NULL)
			abort();
	}
	list->v[list->n++] =
		(struct process_entry){.pid = p->pid, .parent = p->parent, .group = p->group};
}

static void list_processes(struct process_list *list)
{
	_closedir_ DIR *proc = opendir("/proc");
	const struct dirent *entry;
	struct process_stat p;

	if (proc == NULL)
		return;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while ((entry = readdir(proc)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) &&
			process_stat_read(entry->d_name, &p) == 0 && p.runs)
			list_add(list, &p);
}

static bool descends_from_this(const struct process_list *list, pid_t parent)
{
	if (parent == getpid())
		return true;
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i].pid == parent)
			return list->v[i].descends;
	return false;
}

/* Marks the children of marked processes. Returns false when there was nothing more to mark. */
static bool mark_children(struct process_list *list)
{
	bool more = false;

	for (size_t i = 0; i < list->n; i++) {
		if (list->v[i].descends || !descends_from_this(list, list->v[i].parent))
			continue;
		list->v[i].descends = true;
		more = true;
	}
	return more;
}

size_t process_orphans_signal_outside(pid_t group, int signal)
{
	struct process_list list = {0};
	size_t n = 0;

	list_processes(&list);
	while (mark_children(&list))
		;
	for (size_t i = 0; i < list.n; i++)
		if (list.v[i].descends && list.v[i].group != group)
			n += kill(list.v[i].pid, signal) == 0;
	free(list.v);
	return n;
}

void process_orphans_signal(int signal)
{
	if (getpid() == 1)
		kill(-1, signal); /* to all but this process */
	else
		(void)process_orphans_signal_outside(0, signal); /* no process has group 0 */
}

bool process_orphans_are_gone(void)
{
	siginfo_t info = {0};

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* The reaper. Loop thread. Watched processes are waited for by their own pid. Other children are
 * left alone, since they belong to the program that this process will become; but after
 * process_orphans_adopt() every other child is an orphan, which no other code would ever wait
 * for. */

struct reaper {
	struct signals *sigchld;
	struct reaped *watched;
	unsigned users; /* watched processes, and 1 for process_orphans_adopt() */
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

static void report_stop(struct reaped *r)
{
	siginfo_t info = {0};

	if (r->on_stop == NULL || waitid(P_PID, (id_t)r->pid, &info, WSTOPPED | WNOHANG) < 0)
		return;
	if (info.si_pid == r->pid)
		r->on_stop(r, info.si_status);
}

/* Returns whether the process has ended. Its on_end was called then, and may have changed the
 * list. */
static bool report_end(struct reaper *reaper, struct reaped *r)
{
	int wait_status = 0;
	pid_t pid;

	do {
		pid = waitpid(r->pid, &wait_status, WNOHANG);
	} while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return false;
	if (pid < 0)
		wait_status = 255 << 8; /* so that it does not count as success */
	unlink_watched(reaper, r);
	r->on_end(r, wait_status);
	return true;
}

/* Returns true when an on_end was called: the list must be read again. */
static bool report_one_end(struct reaper *reaper)
{
	for (struct reaped *r = reaper->watched; r != NULL; r = r->next)
		if (r->pid != 0 && report_end(reaper, r))
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

/* WNOWAIT, because a watched process may have ended since its own check: it is left to the SIGCHLD
 * that follows. */
static void reap_orphans(const struct reaper *reaper)
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
		return; /* the last user left while signals were being read */
	for (struct reaped *r = reaper->watched; r != NULL; r = r->next)
		if (r->pid != 0)
			report_stop(r);
	/* A callback may have been the last user, which frees the reaper. */
	while (loop->data == reaper && report_one_end(reaper))
		;
	if (loop->data == reaper && reaper->adopts)
		reap_orphans(reaper);
}

static void release_reaper(uv_loop_t *loop)
{
	struct reaper *reaper = loop->data;

	assert(reaper != NULL);
	if (--reaper->users > 0)
		return;
	loop->data = NULL;
	signals_close(reaper->sigchld);
	free(reaper);
}

static int acquire_reaper(uv_loop_t *loop, struct error *err)
{
	struct reaper *reaper = loop->data;
	sigset_t which;
	int code;

	if (reaper != NULL) {
		reaper->users++;
		return 0;
	}
	reaper = zalloc(sizeof(*reaper));
	sigemptyset(&which);
	sigaddset(&which, SIGCHLD);
	code = signals_open(loop, &which, on_sigchld, loop, &reaper->sigchld, err);
	if (code < 0) {
		free(reaper);
		return code;
	}
	reaper->users = 1;
	loop->data = reaper;
	return 0;
}

int reap_watch(uv_loop_t *loop, struct reaped *r, struct error *err)
{
	int code = acquire_reaper(loop, err);
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
	release_reaper(loop);
}

int process_orphans_adopt(uv_loop_t *loop, struct error *err)
{
	char why[THREAD_WHY_SIZE];
	struct reaper *reaper;
	int code = acquire_reaper(loop, err);

	if (code < 0)
		return code;
	if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		log_warn(
			"processes that the command leaves in sessions of their own are not seen: %s",
			thread_explain_call(errno, "prctl()", why));
	reaper = loop->data;
	assert(reaper != NULL);
	reaper->adopts = true;
	reap_orphans(reaper); /* a container's first process may already have some */
	return 0;
}

void process_orphans_leave(uv_loop_t *loop)
{
	struct reaper *reaper = loop->data;

	assert(reaper != NULL);
	reaper->adopts = false;
	release_reaper(loop);
}
