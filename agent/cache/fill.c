/* SPDX-License-Identifier: MIT */
/* Filling an entry: room, the seal, and what follows publishing. The stage's thread. */
#include "cache_private.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int cache_fill_begin(struct cache_entry *e, uint64_t bytes, const struct progress *progress,
	size_t n, struct error *err)
{
	return filling_start(e, bytes, progress, n, err);
}

struct destination *cache_fill_destination(struct cache_entry *e)
{
	return e->to;
}

/* Its names as one line. */
static void describe(const struct record *record, char *buf, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < record->n_sources && at < size; i++)
		at += (size_t)snprintf(
			buf + at, size - at, "%s%s", i > 0 ? ", " : "", record->sources[i].name);
	for (char *p = buf; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = '?';
}

/* The root's own mode is the publisher's to set. */
static void note_root(int root_fd, struct meta *root, struct inventory_head *head)
{
	struct stat st;

	head->root_mode = root->mode;
	head->root_sec = root->mtime.tv_sec;
	head->root_nsec = root->mtime.tv_nsec;
	head->root_uid = root->uid;
	head->root_gid = root->gid;
	if (root->mode == (mode_t)-1) {
		root->mode = 0755;
		if (fstat(root_fd, &st) == 0)
			root->mtime = st.st_mtim;
	}
	root->mode = inventory_mode(S_IFDIR | root->mode);
}

int cache_fill_seal(struct cache_entry *e, int root_fd, struct meta *root,
	const struct record *record, struct error *err)
{
	struct inventory_head head = {.made = record->staged_at};
	int code;

	describe(record, head.what, sizeof(head.what));
	note_root(root_fd, root, &head);
	code = inventory_make(e->key_fd, root_fd, &head, e->cancel, err);
	if (code < 0)
		return code;
	/* After a crash what has a record must be there: so the bytes go first. */
	if (syncfs(root_fd) != 0)
		return disk_error(err, errno, root_fd, "write to the disk:", e->path);
	return 0;
}

int cache_fill_end(struct cache_entry *e, bool ok, struct error *err)
{
	filling_stop(e, ok);
	if (!ok)
		return 0;
	destination_close(take_ptr(&e->to), false);
	e->record = destination_peek(e->path);
	if (e->record == NULL)
		return error_set(err, -EIO, "what was staged into %s is not there", e->path);
	return 0;
}
