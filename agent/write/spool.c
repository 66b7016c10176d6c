/* SPDX-License-Identifier: MIT */
/* Records in a file, chained into lists: each record begins with the offset of the next one in its
 * list. While records are added, the buffer has the end of the file; afterwards it has the part
 * that was read last: records that follow each other in a list are usually neighbours in the
 * file. */
#include "files.h"
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct spool_link {
	uint64_t next;
	uint64_t len; /* of the record, which follows */
};

int spool_init(struct spool *s, int scratch_fd, struct error *err)
{
	*s = (struct spool){.fd = files_create_temporary(scratch_fd)};
	pthread_mutex_init(&s->mutex, NULL);
	if (s->fd < 0) {
		errno = -s->fd;
		return error_set(err, s->fd,
			"cannot create a temporary file in the directory for temporary files: %m");
	}
	s->buffer = zalloc(SPOOL_BUFFER);
	return 0;
}

void spool_done(struct spool *s)
{
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->mutex);
	free(s->buffer);
	free(s->lists);
}

static int flush_locked(struct spool *s)
{
	int code = files_write_all(s->fd, s->buffer, s->used, s->start);

	if (code < 0)
		return code;
	s->start += s->used;
	s->used = 0;
	s->unwritten = false;
	return 0;
}

static struct spool_list *list_locked(struct spool *s, size_t list)
{
	if (list >= s->n_lists) {
		s->lists = reallocarray(s->lists, list + 1, sizeof(*s->lists));
		if (s->lists == NULL)
			abort();
		for (size_t i = s->n_lists; i <= list; i++)
			s->lists[i] = (struct spool_list){SPOOL_NONE, SPOOL_NONE};
		s->n_lists = list + 1;
	}
	return &s->lists[list];
}

/* Appends the record at offset `at` to the list: stores `at` in the record that was last. */
static int chain_locked(struct spool *s, struct spool_list *l, uint64_t at)
{
	uint64_t last = l->last;

	if (last == SPOOL_NONE)
		l->first = at;
	l->last = at;
	if (last == SPOOL_NONE)
		return 0;
	if (last < s->start)
		return files_write_all(
			s->fd, &at, sizeof(at), last + offsetof(struct spool_link, next));
	memcpy(s->buffer + (last - s->start) + offsetof(struct spool_link, next), &at, sizeof(at));
	return 0;
}

static int add_locked(struct spool *s, size_t list, const struct spool_link *link,
	const struct iovec parts[static 2])
{
	uint8_t *p;
	int code = 0;

	if (sizeof(*link) + link->len > SPOOL_BUFFER - s->used)
		code = flush_locked(s);
	if (code == 0)
		code = chain_locked(s, list_locked(s, list), s->start + s->used);
	if (code < 0)
		return code;
	p = mempcpy(s->buffer + s->used, link, sizeof(*link));
	p = mempcpy(p, parts[0].iov_base, parts[0].iov_len);
	p = mempcpy(p, parts[1].iov_base, parts[1].iov_len);
	s->used = (size_t)(p - s->buffer);
	s->unwritten = true;
	return 0;
}

static int write_failed(struct error *err, int code)
{
	errno = -code;
	return error_set(err, code == -ENOSPC || code == -EDQUOT ? -ERR_SPACE : code,
		"cannot write to the temporary file that remembers directories: %m");
}

int spool_add(struct spool *s, size_t list, const struct iovec parts[static 2], struct error *err)
{
	struct spool_link link = {.next = SPOOL_NONE, .len = parts[0].iov_len + parts[1].iov_len};
	int code;

	if (link.len > SPOOL_RECORD)
		return write_failed(err, -EMSGSIZE);
	pthread_mutex_lock(&s->mutex);
	code = add_locked(s, list, &link, parts);
	pthread_mutex_unlock(&s->mutex);
	return code < 0 ? write_failed(err, code) : 0;
}

size_t spool_lists(const struct spool *s)
{
	return s->n_lists;
}

/* Returns len bytes at offset, in the buffer, reading them if necessary. NULL: they cannot be
 * read. */
static const uint8_t *bytes_at(struct spool *s, uint64_t offset, size_t len)
{
	if (offset < s->start || offset + len > s->start + s->used) {
		ssize_t n = pread(s->fd, s->buffer, SPOOL_BUFFER, (off_t)offset);

		s->start = offset;
		s->used = n < 0 ? 0 : (size_t)n;
	}
	return offset + len > s->start + s->used ? NULL : s->buffer + (offset - s->start);
}

static const uint8_t *record_at(struct spool *s, uint64_t offset, struct spool_link *ret_link)
{
	const uint8_t *p = bytes_at(s, offset, sizeof(*ret_link));

	if (p == NULL)
		return NULL;
	memcpy(ret_link, p, sizeof(*ret_link));
	return bytes_at(s, offset + sizeof(*ret_link), ret_link->len);
}

int spool_each(struct spool *s, size_t list, struct cancel *cancel,
	int (*visit)(void *ctx, const void *record, size_t len, struct error *err), void *ctx,
	struct error *err)
{
	struct spool_link link = {.next = list < s->n_lists ? s->lists[list].first : SPOOL_NONE};
	int code = 0;

	/* Reading another part of the file would lose bytes that only the buffer has. If the buffer
	 * has the whole file, nothing is ever read. */
	if (s->start > 0 && s->unwritten)
		code = flush_locked(s);
	if (code < 0)
		return write_failed(err, code);
	while (link.next != SPOOL_NONE && code == 0) {
		const uint8_t *record = record_at(s, link.next, &link);

		if (record == NULL)
			return write_failed(err, -EIO);
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		code = visit(ctx, record, link.len, err);
	}
	return code;
}
