/* SPDX-License-Identifier: MIT */
/* What stat() says of a file becomes an entry, or is refused. */
#include "walk.h"

int walk_refuse(const char *where, const char *path, mode_t mode, struct error *err)
{
	const char *what = S_ISSOCK(mode)                   ? "socket"
			   : S_ISFIFO(mode)                 ? "fifo"
			   : S_ISCHR(mode) || S_ISBLK(mode) ? "device"
							    : "thing of unknown kind";

	return error_set(err, -ERR_REFUSED,
		"'%s' in %s is a %s: a datastore holds files, directories and links; leave it out "
		"(--exclude) "
		"or remove it",
		path, where, what);
}

void walk_describe(struct item *i, const struct stat *st)
{
	i->mode = st->st_mode & 0777;
	i->mtime = st->st_mtim;
	i->ctime = st->st_ctim;
}

struct item *walk_file(const char *path, const struct stat *st)
{
	struct item *i = item_new(INDEX_FILE, path, NULL, NULL);

	walk_describe(i, st);
	i->size = (uint64_t)st->st_size;
	/* Very small files may lie in their inode. */
	i->sparse = i->size > 4096 && (uint64_t)st->st_blocks * 512 < i->size;
	return i;
}
