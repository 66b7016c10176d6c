/* SPDX-License-Identifier: MIT */
/* What the programs that measure a floor share. */
#include "floor.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256 };

void floor_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1); /* NOLINT(concurrency-mt-unsafe): nothing is registered with atexit() */
}

struct mapping floor_map(const char *path)
{
	struct mapping m;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		floor_die("open %s: %m", path);
	m.size = (size_t)st.st_size;
	m.data = mmap(NULL, m.size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (m.data == MAP_FAILED)
		floor_die("map %s: %m", path);
	close(fd);
	return m;
}

void floor_threads(int n, void *(*work)(void *), void *ctx)
{
	pthread_t threads[MAX_THREADS];

	if (n < 1 || n > MAX_THREADS)
		floor_die("%d threads: from 1 to %d", n, MAX_THREADS);
	for (int i = 0; i < n; i++) {
		if (pthread_create(&threads[i], NULL, work, ctx) != 0)
			floor_die("cannot start a thread");
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

int floor_write_all(int fd, const void *data, size_t size)
{
	const char *from = data;

	while (size > 0) {
		ssize_t n = write(fd, from, size);

		if (n < 0)
			return -1;
		from += n;
		size -= (size_t)n;
	}
	return 0;
}

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct stopwatch stopwatch_start(void)
{
	return (struct stopwatch){
		.wall = seconds(CLOCK_MONOTONIC), .cpu = seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

void stopwatch_print(struct stopwatch since)
{
	struct stopwatch now = stopwatch_start();

	printf("{\"wall\": %.6f, \"cpu\": %.6f}\n", now.wall - since.wall, now.cpu - since.cpu);
}
