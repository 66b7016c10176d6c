/* SPDX-License-Identifier: MIT */
#include "random.h"
#include "defer.h"
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static ssize_t read_device(void *buf, size_t len)
{
	_close_ int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : read(fd, buf, len);
}

/* Each word is the finalizer of splitmix64 over a state that no two calls share. */
static void mix(unsigned char *buf, size_t len)
{
	struct timespec now;
	uint64_t state;

	clock_gettime(CLOCK_REALTIME, &now);
	state = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	state ^= (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)&now << 8;
	for (size_t i = 0; i < len; i += sizeof(state)) {
		uint64_t word = state += 0x9e3779b97f4a7c15;

		word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
		word = (word ^ word >> 27) * 0x94d049bb133111eb;
		word ^= word >> 31;
		memcpy(buf + i, &word, len - i < sizeof(word) ? len - i : sizeof(word));
	}
}

void random_fill(void *buf, size_t len)
{
	int saved = errno;

	if (getrandom(buf, len, GRND_NONBLOCK) != (ssize_t)len &&
		read_device(buf, len) != (ssize_t)len)
		mix(buf, len);
	errno = saved;
}

uint64_t random_below(uint64_t n)
{
	uint64_t r;

	random_fill(&r, sizeof(r));
	return r % n;
}

uint64_t random_backoff_ms(uint64_t base_ms, uint64_t max_ms, unsigned failed)
{
	uint64_t ceiling = base_ms;

	while (failed-- > 1 && ceiling < max_ms)
		ceiling *= 2;
	return random_below((ceiling < max_ms ? ceiling : max_ms) + 1);
}
