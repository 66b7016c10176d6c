/* SPDX-License-Identifier: MIT */
/* Clearing the state directory. Worker threads. It is called with the lock held, so whatever a tree
 * there belonged to is dead; journals are seen to before. */
#include "defer.h"
#include "destination.h"
#include "listing.h"
#include "lock.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static bool is_kept(const struct destination *d, const char *name, const struct journal *unfinished)
{
	static const char *const kept[] = {LOCK_FILE, WHOLE_FILE, MERGED_DIR, PUBLISHED_LINK};

	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (strcmp(name, kept[i]) == 0)
			return true;
	if (strcmp(name, KEPT_FILE) == 0)
		return unfinished != NULL || d->keep_download;
	return unfinished != NULL &&
	       (strcmp(name, UNFINISHED_FILE) == 0 || strcmp(name, unfinished->tree) == 0);
}

static int remove_one(
	const struct destination *d, const char *name, struct cancel *cancel, struct error *err)
{
	struct error why;
	int code = 0;

	if (unlinkat(d->place.state_fd, name, 0) != 0 && errno != ENOENT)
		code = remove_tree(d->place.state_fd, name, cancel, &why);
	if (code == -ECANCELED)
		return error_set(err, code, "%s", why.msg);
	if (code < 0)
		log_warn("what an earlier run left is still there: %s/%s: %s", d->place.state_path,
			name, why.msg);
	return 0;
}

int leftovers_remove(const struct destination *d, const struct journal *unfinished,
	struct cancel *cancel, struct error *err)
{
	_closedir_ DIR *dir = listing_open(d->place.state_fd, ".");
	struct inode journal;
	const char *name;
	int code = 0;

	/* First of all: a tree that is half removed is no tree to go on with. */
	if (unfinished == NULL)
		unlinkat(d->place.state_fd, UNFINISHED_FILE, 0);
	/* What it speaks of is still needed. */
	if (inode_look(d->place.state_fd, JOURNAL_FILE, &journal) == 0)
		return 0;
	while (dir != NULL && code == 0 && (name = listing_next(dir)) != NULL)
		if (!is_kept(d, name, unfinished))
			code = remove_one(d, name, cancel, err);
	return code;
}

void leftovers_forget(const struct destination *d)
{
	unlinkat(d->place.state_fd, UNFINISHED_FILE, 0);
	unlinkat(d->place.state_fd, KEPT_FILE, 0);
}

void leftovers_tidy(const struct destination *d)
{
	int state_fd = d->place.state_fd;
	struct inode ignored;

	unlinkat(state_fd, MERGED_DIR, AT_REMOVEDIR);
	doubt_tidy(d);
	if (inode_look(state_fd, MERGED_DIR, &ignored) == -ENOENT &&
		inode_look(state_fd, WHOLE_FILE, &ignored) == -ENOENT &&
		inode_look(state_fd, JOURNAL_FILE, &ignored) == -ENOENT &&
		unlinkat(state_fd, LOCK_FILE, 0) == 0)
		place_remove_state(&d->place);
}
