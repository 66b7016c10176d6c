/* SPDX-License-Identifier: MIT */
/* What is left below this process, found by its parents in /proc. Any thread. */
#include "defer.h"
#include "job.h"
#include "stat.h"
#include <ctype.h>
#include <string.h>
#include <sys/wait.h>

struct found {
	pid_t pid, parent;
	bool below; /* it descends from us */
};

struct census {
	struct found *v;
	size_t n, cap;
};

static void add(struct census *c, const struct process_stat *p)
{
	if (c->n == c->cap) {
		c->cap = c->cap * 2 + 64;
		c->v = realloc(c->v, c->cap * sizeof(*c->v));
		if (c->v == NULL)
			abort();
	}
	c->v[c->n++] = (struct found){.pid = p->pid, .parent = p->parent};
}

static void take_census(struct census *c)
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
			add(c, &p);
}

static bool is_below(const struct census *c, pid_t parent)
{
	if (parent == getpid())
		return true;
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].pid == parent)
			return c->v[i].below;
	return false;
}

/* One generation further down; false: there is none. */
static bool mark_more(struct census *c)
{
	bool more = false;

	for (size_t i = 0; i < c->n; i++) {
		if (c->v[i].below || !is_below(c, c->v[i].parent))
			continue;
		c->v[i].below = true;
		more = true;
	}
	return more;
}

static void signal_descendants(int signal)
{
	struct census census = {0};

	take_census(&census);
	while (mark_more(&census))
		;
	for (size_t i = 0; i < census.n; i++)
		if (census.v[i].below)
			kill(census.v[i].pid, signal);
	free(census.v);
}

void orphans_signal(int signal)
{
	if (getpid() == 1)
		kill(-1, signal); /* not to ourselves */
	else
		signal_descendants(signal);
}

bool orphans_are_gone(void)
{
	siginfo_t info = {0};

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}
