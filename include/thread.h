/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_THREAD_H
#define STAGERUN_THREAD_H

#include "error.h"
#include <pthread.h>
#include <stdbool.h>

/* Starts threads, and explains why the kernel refuses one. A thread starts with all signals
 * blocked: signals are for the threads that wait for them. Any thread. */

/* Starts a required thread. 0, or -errno: the error names the limit. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *arg, struct error *err);

/* Starts an optional thread. Returns false also when a control group has hardly any process ids
 * left: those are for required threads and for children. */
bool thread_start_extra(pthread_t *ret, void *(*run)(void *), void *arg);

/* Starts one of several equal workers, of which `running` have been started; only the first is
 * required. 1: started. 0: not started, and it is no use to try more. -errno: the first one
 * failed. */
int thread_start_next(
	pthread_t *ret, size_t running, void *(*run)(void *), void *arg, struct error *err);

/* Explains why the kernel refused a thread or a child (fork()) with errnum: the system's message,
 * and the limit that was reached or the seccomp profile that forbids it. Preserves errno. Returns
 * buf. */
enum { THREAD_WHY_SIZE = 400 };
const char *thread_explain_start(int errnum, char buf[static THREAD_WHY_SIZE]);

/* The same for another system call, named by `call`. */
const char *thread_explain_call(int errnum, const char *call, char buf[static THREAD_WHY_SIZE]);

#endif
