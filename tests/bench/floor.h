/* SPDX-License-Identifier: MIT */
/* What the programs that measure a floor share: files in memory, threads, a stopwatch. They run on
 * archives of our own making and end at the first surprise. */
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>

struct mapping {
	const char *data;
	size_t size;
};

/* The whole file, its pages already there. Lives as long as the process. */
struct mapping floor_map(const char *path);

/* Runs n threads of it to their end. */
void floor_threads(int n, void *(*work)(void *), void *ctx);

/* -1 with errno on failure. */
int floor_write_all(int fd, const void *data, size_t size);

/* Says why on stderr and exits with 1. */
_Noreturn void floor_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Wall time, and CPU time of the whole process. */
struct stopwatch {
	double wall, cpu;
};

struct stopwatch stopwatch_start(void);

/* Writes {"wall": seconds, "cpu": seconds} since the start to stdout. */
void stopwatch_print(struct stopwatch since);

#endif
