/* SPDX-License-Identifier: MIT */
/* Reads lines of an untrusted file. One thread for each reader. */
#include "lines.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_BYTES = 4096 };

int lines_open_file(int dir_fd, const char *name)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	_close_ int fd = openat(dir_fd, name, flags);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		errno = ENOENT;
		return -1;
	}
	return take_fd(&fd);
}

void lines_init(struct lines *l, int fd, off_t at, off_t len)
{
	*l = (struct lines){.fd = fd, .at = at, .end = at + len};
}

void lines_done(struct lines *l)
{
	free(l->buf);
	*l = (struct lines){.fd = -1};
}

off_t lines_tell(const struct lines *l)
{
	return l->at - (off_t)(l->have - l->from);
}

void lines_seek(struct lines *l, off_t at)
{
	l->at = at;
	l->from = l->have = 0;
}

/* Makes room in buf after the bytes in it. False: the line is too long. */
static bool make_room(struct lines *l)
{
	char *bigger;

	if (l->from > 0) {
		memmove(l->buf, l->buf + l->from, l->have - l->from);
		l->have -= l->from;
		l->from = 0;
	}
	if (l->have < l->cap)
		return true;
	if (l->cap >= LINE_BYTES_MAX)
		return false;
	bigger = realloc(l->buf, l->cap == 0 ? FIRST_BYTES : 2 * l->cap);
	if (bigger == NULL)
		abort();
	l->buf = bigger;
	l->cap = l->cap == 0 ? FIRST_BYTES : 2 * l->cap;
	return true;
}

static bool read_more(struct lines *l)
{
	size_t want;
	ssize_t n;

	if (l->at >= l->end || !make_room(l))
		return false;
	want = l->cap - l->have;
	if ((off_t)want > l->end - l->at)
		want = (size_t)(l->end - l->at);
	do {
		n = pread(l->fd, l->buf + l->have, want, l->at);
	} while (n < 0 && errno == EINTR);
	l->failed = n < 0;
	if (n <= 0)
		return false;
	l->have += (size_t)n;
	l->at += n;
	return true;
}

int lines_next(struct lines *l, const char **ret, size_t *ret_len)
{
	size_t looked = 0;

	for (;;) {
		const char *start = NULL, *end = NULL;
		size_t there = l->have - l->from;

		if (there > looked) { /* buf is NULL before the first read */
			start = l->buf + l->from;
			end = memchr(start + looked, '\n', there - looked);
		}
		if (end != NULL) {
			*ret = start;
			*ret_len = (size_t)(end - start) + 1;
			l->from += *ret_len;
			return 1;
		}
		looked = there;
		if (!read_more(l))
			return 0;
	}
}
