/* SPDX-License-Identifier: MIT */
/* What earlier runs left in the state directory. Worker threads. The lock is held, so the agent
 * that created a tree there is dead. Pending journals have been carried out or undone before. */
#include "defer.h"
#include "inode.h"
#include "log.h"
#include "publish_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static bool is_kept(const struct destination *d, const char *name, const struct journal *unfinished)
{
	static const char *const kept[] = {
		LOCK_FILE, OWNER_FILE, WHOLE_FILE, MERGED_DIR, PUBLISHED_LINK, MADE_LINK};

	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (strcmp(name, kept[i]) == 0)
			return true;
	if (strcmp(name, KEPT_FILE) == 0 || strcmp(name, KEPT_SUMS_FILE) == 0)
		return unfinished != NULL || d->keep_download;
	return unfinished != NULL &&
	       (strcmp(name, UNFINISHED_FILE) == 0 || strcmp(name, unfinished->tree) == 0);
}

/* Whether name is the inode that the record of DEST describes: DEST was about to be replaced, and
 * meanwhile somebody created another DEST. An unpublished tree is removed, but a published one only
 * if it was replaced. */
static bool is_published(const struct destination *d, const char *name)
{
	struct journal_entry e;
	struct journal *j;
	struct inode there;
	bool same;

	if (d->place.inside || journal_open(d->place.state_fd, WHOLE_FILE, &j) < 0)
		return false;
	same = journal_next(j, &e) > 0 && inode_stat(d->place.state_fd, name, &there) == 0 &&
	       inode_same(&there, &e.inode);
	journal_close(j);
	return same;
}

static int remove_one(
	const struct destination *d, const char *name, struct cancel *cancel, struct error *err)
{
	struct error why;
	int code = 0;

	if (is_published(d, name)) {
		log_warn(
			"what was staged as %s before is in %s/%s: something else has taken its place",
			d->place.path, d->place.state_path, name);
		return 0;
	}
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
	_closedir_ DIR *dir = publish_listing_open(d->place.state_fd, ".");
	struct inode journal;
	const char *name;
	int code = 0;

	/* This comes first: a tree that is partly removed must not be continued. */
	if (unfinished == NULL)
		unlinkat(d->place.state_fd, UNFINISHED_FILE, 0);
	/* The journal still needs everything that it describes. */
	if (inode_stat(d->place.state_fd, JOURNAL_FILE, &journal) == 0)
		return 0;
	while (dir != NULL && code == 0 && (name = publish_listing_next(dir)) != NULL)
		if (!is_kept(d, name, unfinished))
			code = remove_one(d, name, cancel, err);
	return code;
}

void leftovers_forget_unfinished(const struct destination *d)
{
	unlinkat(d->place.state_fd, UNFINISHED_FILE, 0);
	unlinkat(d->place.state_fd, KEPT_FILE, 0);
	unlinkat(d->place.state_fd, KEPT_SUMS_FILE, 0);
}

/* The unfinished tree of a killed agent. Stage thread. A run continues it only if everything in
 * unfinished.json fits; otherwise it is removed like any other leftover. */

#define TREE_PREFIX "tree."

static bool is_the_tree(const struct destination *d, struct journal *j)
{
	struct journal_entry said;
	struct inode tree;
	bool good = strncmp(j->tree, TREE_PREFIX, strlen(TREE_PREFIX)) == 0 &&
		    journal_next(j, &said) > 0 &&
		    inode_stat(d->place.state_fd, j->tree, &tree) == 0 && S_ISDIR(tree.mode) &&
		    (j->renumbered || inode_same(&tree, &said.inode));

	journal_rewind(j);
	return good;
}

struct journal *leftovers_open_unfinished(const struct destination *d)
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
	int code = inode_stat(d->place.state_fd, d->tree, &e.inode);

	if (code < 0)
		return tree_disk_error(
			err, -code, d->place.state_fd, "look into", d->place.state_path);
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
		return tree_disk_error(
			err, errno, d->place.state_fd, "look into", d->place.state_path);
	*ret_since = st.st_ctim;
	return 0;
}
