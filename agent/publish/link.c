/* SPDX-License-Identifier: MIT */
/* Destinations that are no tree of their own: a symbolic link to the tree of a node cache, or that tree
 * mounted. Worker threads. Either way nothing is copied, and a record says what is there. */
#include "defer.h"
#include "destination.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* Where a node cache keeps a tree: see cache.h. */
#define TREE_PLACE "/v1/"
#define TREE_NAME  "/tree"

/* A digest of what was asked for, and one of the version that it is. */
#define KEY_DIGITS ((size_t)32)

static bool is_key(const char *s)
{
	for (size_t i = 0; i < 2 * KEY_DIGITS + 1; i++)
		if (i == KEY_DIGITS ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

/* By its text alone: the cache may be gone, and so may the record. */
static bool is_cache_tree(const char *target)
{
	size_t tail = strlen(TREE_PLACE) + 2 * KEY_DIGITS + 1 + strlen(TREE_NAME);
	size_t len = strlen(target);
	const char *place = target + len - tail;

	return target[0] == '/' && len > tail &&
	       strncmp(place, TREE_PLACE, strlen(TREE_PLACE)) == 0 &&
	       is_key(place + strlen(TREE_PLACE)) &&
	       strcmp(target + len - strlen(TREE_NAME), TREE_NAME) == 0;
}

char *link_look(int dir_fd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (n < 0)
		return NULL;
	target[n] = '\0';
	return is_cache_tree(target) ? copy_text(target) : NULL;
}

bool destination_is_link(const char *path)
{
	_free_ char *bare = copy_text(path);
	_free_ char *link = NULL;

	/* With a slash at its end the name would stand for what the link leads to. */
	for (size_t len = strlen(bare); len > 1 && bare[len - 1] == '/'; len--)
		bare[len - 1] = '\0';
	link = link_look(AT_FDCWD, bare);
	return link != NULL;
}

const char *destination_link(struct destination *d)
{
	free(d->link);
	d->link = link_look(d->place.parent_fd, d->place.name);
	return d->link;
}

/* Whether something that is no directory of entries can take DEST's place. */
static int judge(struct destination *d, const char *key, struct error *err)
{
	int code = begin_judge(d, key, err);

	if (code < 0)
		return code;
	if (d->place.inside)
		return error_set(err, -EBUSY,
			"%s is a mount or lies in a directory that is not writable", d->place.path);
	if (d->kind == DEST_OTHER)
		return error_set(err, -ENOTEMPTY,
			"%s is there and is not empty, or is somebody's current directory",
			d->place.path);
	return 0;
}

/* Writes journal.json with DEST's own entry alone. */
static int write_journal(const struct destination *d, const struct record *record,
	const struct inode *inode, struct error *err)
{
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = PUBLISH_WHOLE,
		.tree = d->tree,
		.record = record};
	const struct journal_entry e = {.name = d->place.name,
		.inode = *inode,
		.replace = d->kind == DEST_OURS || d->kind == DEST_LINK};

	return journal_write_one(&head, &e, err);
}

/* No link can be renamed over a directory. */
static int clear_empty(const struct destination *d, struct error *err)
{
	if (d->kind != DEST_EMPTY || unlinkat(d->place.parent_fd, d->place.name, AT_REMOVEDIR) == 0)
		return 0;
	return error_set(err, -errno, "cannot replace the empty directory %s: %m", d->place.path);
}

static int show_link(
	struct destination *d, const char *target, const struct record *record, struct error *err)
{
	struct inode link;
	int code = begin_make(d, target, err);

	if (code < 0)
		return code;
	if (inode_look(d->place.state_fd, d->tree, &link) < 0)
		return disk_error(
			err, errno, d->place.state_fd, "make a link in", d->place.state_path);
	code = clear_empty(d, err);
	if (code == 0)
		code = write_journal(d, record, &link, err);
	return code == 0 ? moves_carry_out(d, err) : code;
}

int destination_publish_link(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err)
{
	int code = judge(d, key, err);

	if (code == 0)
		code = show_link(d, target, record, err);
	begin_undo(d, false);
	return code;
}

/* Read-only from its first moment. */
static int mount_tree(const struct destination *d, int tree_fd, struct error *err)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	_close_ int fd =
		open_tree(tree_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0 &&
		move_mount(fd, "", d->place.parent_fd, d->place.name, MOVE_MOUNT_F_EMPTY_PATH) == 0)
		return 0;
	return error_set(err, -errno, "cannot mount on %s: %m", d->place.path);
}

/* The record first: without the mount it speaks of a directory that is not there, which is no record. */
static int show_mount(
	struct destination *d, int tree_fd, const struct record *record, struct error *err)
{
	int state_fd = d->place.state_fd, code;
	struct inode tree;

	if (inode_look(tree_fd, "", &tree) < 0)
		return error_set(err, -errno, "cannot look at what is to be mounted on %s: %m",
			d->place.path);
	if (mkdirat(d->place.parent_fd, d->place.name, 0755) != 0 && errno != EEXIST)
		return disk_error(err, errno, d->place.parent_fd, "make", d->place.path);
	snprintf(d->tree, sizeof(d->tree), "mount");
	code = write_journal(d, record, &tree, err);
	if (code == 0 && renameat(state_fd, JOURNAL_FILE, state_fd, WHOLE_FILE) != 0)
		code = disk_error(err, errno, state_fd, "rename", JOURNAL_FILE);
	if (code == 0)
		code = mount_tree(d, tree_fd, err);
	if (code < 0) {
		unlinkat(state_fd, WHOLE_FILE, 0);
		if (d->kind == DEST_ABSENT)
			unlinkat(d->place.parent_fd, d->place.name, AT_REMOVEDIR);
	}
	return code;
}

int destination_publish_mount(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err)
{
	_close_ int tree_fd = open(target, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code = tree_fd < 0 ? error_set(err, -errno, "cannot open %s: %m", target)
			       : judge(d, key, err);

	if (code == 0 && d->kind != DEST_ABSENT && d->kind != DEST_EMPTY)
		code = error_set(err, -ENOTEMPTY, "%s is there and is not empty", d->place.path);
	if (code == 0)
		code = show_mount(d, tree_fd, record, err);
	begin_undo(d, false);
	return code;
}
