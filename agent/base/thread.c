/* SPDX-License-Identifier: MIT */
/* The cancel request (cancel.h), and the start of threads (thread.h) with the limits that can
 * prevent it. Any thread. */
#include "thread.h"
#include "cancel.h"
#include "cgroup.h"
#include "defer.h"
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

void cancel_init(struct cancel *c)
{
	atomic_init(&c->requested, false);
	pthread_mutex_init(&c->mutex, NULL);
	c->watches = NULL;
}

void cancel_done(struct cancel *c)
{
	assert(c->watches == NULL);
	pthread_mutex_destroy(&c->mutex);
}

void cancel_request(struct cancel *c)
{
	struct cancel_watch *w;

	pthread_mutex_lock(&c->mutex);
	atomic_store(&c->requested, true);
	for (w = c->watches; w != NULL; w = w->next) {
		/* While the mutex is held here, a thread is either asleep, and is woken, or has not
		 * checked yet. */
		pthread_mutex_lock(w->mutex);
		pthread_cond_broadcast(w->cond);
		pthread_mutex_unlock(w->mutex);
	}
	pthread_mutex_unlock(&c->mutex);
}

void cancel_watch(struct cancel *c, struct cancel_watch *w)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	w->next = c->watches;
	c->watches = w;
	pthread_mutex_unlock(&c->mutex);
}

void cancel_unwatch(struct cancel *c, struct cancel_watch *w)
{
	struct cancel_watch **at;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	for (at = &c->watches; *at != NULL; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&c->mutex);
}

/* The only place that starts threads. */

/* Process ids of a control group that are left for required threads and for children. */
#define SPARE_IDS 16

static int start_blocked(pthread_t *ret, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(ret, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

/* Returns a number of /proc/self/status; absent: there is no such line. */
static long status_number(const char *name, long absent)
{
	_fclose_ FILE *f = fopen("/proc/self/status", "re");
	size_t len = strlen(name);
	char line[256];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, len) == 0 && line[len] == ':')
			return strtol(line + len + 1, NULL, 10);
	return absent;
}

/* ulimit -u does not apply to root, but it does to the root of a user namespace. */
static bool is_root_of_the_machine(void)
{
	_fclose_ FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long inside, outside;

	return geteuid() == 0 &&
	       (f == NULL || (fscanf(f, "%lu %lu", &inside, &outside) == 2 && outside == 0));
}

static bool user_limit(uint64_t *ret)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NPROC, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
		is_root_of_the_machine())
		return false;
	*ret = limit.rlim_cur;
	return true;
}

/* Explains EAGAIN. Any limit can be the reason; only the control group shows how much is left. */
static void explain_limit(char *buf, size_t size)
{
	struct cgroup_pids group = cgroup_pids_read("");
	struct rlimit memory;
	uint64_t user;

	if (group.left <= 1)
		snprintf(buf, size,
			": the container's limit of %" PRIu64
			" processes and threads (pids.max) is reached: raise it (docker --pids-limit, Kubernetes podPidsLimit)",
			group.limit);
	else if (user_limit(&user))
		snprintf(buf, size,
			": uid %u may have %" PRIu64
			" processes and threads in all (ulimit -u): raise that limit",
			(unsigned)geteuid(), user);
	else if (getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY)
		snprintf(buf, size,
			": a process may have %" PRIu64
			" KiB of address space (ulimit -v): raise that limit",
			(uint64_t)memory.rlim_cur / 1024);
	else
		snprintf(buf, size,
			": the machine has no more process ids, threads or memory (kernel.pid_max, kernel.threads-max)");
}

const char *thread_explain_call(int errnum, const char *call, char buf[static THREAD_WHY_SIZE])
{
	int saved = errno, n = snprintf(buf, THREAD_WHY_SIZE, "%s", strerrordesc_np(errnum));

	if ((errnum == EPERM || errnum == ENOSYS) && status_number("Seccomp", 0) == 2)
		snprintf(buf + n, THREAD_WHY_SIZE - (size_t)n,
			": a seccomp profile refuses %s: use another profile, or a newer container runtime and libseccomp, which know this call",
			call);
	errno = saved;
	return buf;
}

const char *thread_explain_start(int errnum, char buf[static THREAD_WHY_SIZE])
{
	int saved = errno;

	thread_explain_call(errnum, "clone3() or clone()", buf);
	if (errnum == EAGAIN) {
		size_t n = strlen(buf);

		explain_limit(buf + n, THREAD_WHY_SIZE - n);
	}
	errno = saved;
	return buf;
}

int thread_start(pthread_t *ret, void *(*run)(void *), void *arg, struct error *err)
{
	int code = start_blocked(ret, run, arg);
	char why[THREAD_WHY_SIZE];

	if (code == 0)
		return 0;
	return error_set(err, -code, "cannot start a thread: %s", thread_explain_start(code, why));
}

static bool ids_are_scarce(void)
{
	uint64_t user;

	if (cgroup_pids_read("").left <= SPARE_IDS)
		return true;
	return user_limit(&user) && (uint64_t)status_number("Threads", 1) + SPARE_IDS >= user;
}

bool thread_start_extra(pthread_t *ret, void *(*run)(void *), void *arg)
{
	return !ids_are_scarce() && start_blocked(ret, run, arg) == 0;
}

int thread_start_next(
	pthread_t *ret, size_t running, void *(*run)(void *), void *arg, struct error *err)
{
	int code;

	if (running > 0)
		return thread_start_extra(ret, run, arg);
	code = thread_start(ret, run, arg, err);
	return code == 0 ? 1 : code;
}
