/* SPDX-License-Identifier: MIT */
/* The tree that a killed agent left, and what is known of it. The stage's thread. It is gone on with only when
 * every word of unfinished.json fits: anything else is removed as any leftover. */
#include "defer.h"
#include "destination.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define TREE_PREFIX "tree."

static bool is_the_tree(const struct destination *d, struct journal *j)
{
	struct journal_entry said;
	struct inode tree;
	bool good = strncmp(j->tree, TREE_PREFIX, strlen(TREE_PREFIX)) == 0 &&
		    journal_next(j, &said) > 0 &&
		    inode_look(d->place.state_fd, j->tree, &tree) == 0 && S_ISDIR(tree.mode) &&
		    inode_same(&tree, &said.inode);

	journal_rewind(j);
	return good;
}

struct journal *unfinished_open(const struct destination *d)
{
	struct journal *j;

	if (d->lock_fd < 0 || journal_open(d->place.state_fd, UNFINISHED_FILE, &j) < 0)
		return NULL;
	if (j->kind == PUBLISH_UNFINISHED && j->this_boot && is_the_tree(d, j))
		return j;
	journal_close(j);
	return NULL;
}

static int write_journal(struct destination *d, const struct record *r, struct error *err)
{
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = PUBLISH_UNFINISHED,
		.tree = d->tree,
		.record = r};
	struct journal_entry e = {.name = d->place.name};
	int code = inode_look(d->place.state_fd, d->tree, &e.inode);

	if (code < 0)
		return disk_error(err, -code, d->place.state_fd, "look into", d->place.state_path);
	e.inode.mode = S_IFDIR | d->tree_mode;
	return journal_write_one(&head, &e, err);
}

int destination_note(struct destination *d, const struct record *r, struct timespec *ret_since,
	struct error *err)
{
	int code = write_journal(d, r, err);
	struct stat st;

	if (code < 0)
		return code;
	if (fstatat(d->place.state_fd, UNFINISHED_FILE, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return disk_error(err, errno, d->place.state_fd, "look into", d->place.state_path);
	*ret_since = st.st_ctim;
	return 0;
}
