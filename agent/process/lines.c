/* SPDX-License-Identifier: MIT */
/* Cuts what a child prints into lines. Only an unfinished line is kept; a whole one is handed on
 * from where it arrived. Loop thread. */
#include "lines.h"
#include <string.h>

static void keep(struct lines *l, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t room = sizeof(l->pending) - l->len;
		size_t n = len < room ? len : room;

		if (room == 0) {
			lines_end(l);
			continue;
		}
		memcpy(l->pending + l->len, bytes, n);
		l->len += n;
		bytes += n;
		len -= n;
	}
}

void lines_add(struct lines *l, const char *bytes, size_t len)
{
	const char *newline;

	while ((newline = memchr(bytes, '\n', len)) != NULL) {
		size_t n = (size_t)(newline - bytes);

		if (l->len == 0 && n <= sizeof(l->pending)) {
			l->on_line(l->ctx, bytes, n);
		} else {
			keep(l, bytes, n);
			lines_end(l);
		}
		bytes += n + 1;
		len -= n + 1;
	}
	keep(l, bytes, len);
}

void lines_end(struct lines *l)
{
	size_t len = l->len;

	if (len == 0)
		return;
	l->len = 0;
	l->on_line(l->ctx, l->pending, len);
}
