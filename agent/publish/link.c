/* SPDX-License-Identifier: MIT */
/* Destinations without a tree of their own: a symbolic link to a tree of a node cache, or that tree
 * mounted on DEST. Worker threads. Nothing is copied; a record describes what is there. */
#include "defer.h"
#include "publish_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

bool destination_has_cache_key(const char *s)
{
	static const char digits[] = "0123456789abcdef";

	return strspn(s, digits) == CACHE_KEY_DIGITS && s[CACHE_KEY_DIGITS] == '-' &&
	       strspn(s + CACHE_KEY_DIGITS + 1, digits) == CACHE_KEY_DIGITS;
}

/* Decides by the text alone, since both the cache and the record may be gone. */
static bool is_cache_tree(const char *target)
{
	static const char head[] = "/" CACHE_TREES_NAME "/", end[] = "/" CACHE_TREE_NAME;
	size_t tail = strlen(head) + CACHE_KEY_LEN + strlen(end);
	size_t len = strlen(target);
	const char *dir = target + len - tail;

	return target[0] == '/' && len > tail && strncmp(dir, head, strlen(head)) == 0 &&
	       destination_has_cache_key(dir + strlen(head)) &&
	       strcmp(target + len - strlen(end), end) == 0;
}

char *link_read_target(int dir_fd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (n < 0)
		return NULL;
	target[n] = '\0';
	return is_cache_tree(target) ? text_copy(target) : NULL;
}

bool destination_is_link(const char *path)
{
	_free_ char *bare = text_copy(path);
	_free_ char *link = NULL;

	/* With a trailing slash, readlinkat() would follow the link. */
	for (size_t len = strlen(bare); len > 1 && bare[len - 1] == '/'; len--)
		bare[len - 1] = '\0';
	link = link_read_target(AT_FDCWD, bare);
	return link != NULL;
}

const char *destination_link(struct destination *d)
{
	free(d->link);
	d->link = link_read_target(d->place.parent_fd, d->place.name);
	return d->link;
}

/* Checks whether a link or a mount may replace DEST. */
static int check_replaceable(struct destination *d, const char *key, struct error *err)
{
	int code = destination_check_owner(d, err);

	if (code == 0)
		code = publish_may_begin(d, key, err);
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

/* Writes journal.json with one entry, DEST itself. */
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
		.replace = d->kind == DEST_OURS || d->kind == DEST_LINK,
		.old = d->old};

	return journal_write_one(&head, &e, err);
}

/* A link cannot be renamed over a directory. */
static int remove_empty(const struct destination *d, struct error *err)
{
	if (d->kind != DEST_EMPTY || unlinkat(d->place.parent_fd, d->place.name, AT_REMOVEDIR) == 0)
		return 0;
	return error_set(err, -errno, "cannot replace the empty directory %s: %m", d->place.path);
}

static int publish_link(
	struct destination *d, const char *target, const struct record *record, struct error *err)
{
	struct inode link;
	int code = publish_make_tree(d, target, err);

	if (code < 0)
		return code;
	if (inode_stat(d->place.state_fd, d->tree, &link) < 0)
		return tree_disk_error(
			err, errno, d->place.state_fd, "make a link in", d->place.state_path);
	code = remove_empty(d, err);
	if (code == 0)
		code = write_journal(d, record, &link, err);
	return code == 0 ? moves_carry_out(d, err) : code;
}

int destination_publish_link(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err)
{
	int code = check_replaceable(d, key, err);

	if (code == 0)
		code = publish_link(d, target, record, err);
	publish_discard_tree(d, false);
	return code;
}

/* The mount is read-only before it becomes visible. */
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

/* The record is written first: while the mount is missing, it describes a directory that is not
 * there, and so holds nothing. */
static int publish_mount(
	struct destination *d, int tree_fd, const struct record *record, struct error *err)
{
	int state_fd = d->place.state_fd, code;
	struct inode tree;

	if (inode_stat(tree_fd, "", &tree) < 0)
		return error_set(err, -errno, "cannot look at what is to be mounted on %s: %m",
			d->place.path);
	if (mkdirat(d->place.parent_fd, d->place.name, umask_apply(0755)) != 0 && errno != EEXIST)
		return tree_disk_error(err, errno, d->place.parent_fd, "make", d->place.path);
	snprintf(d->tree, sizeof(d->tree), "mount");
	code = write_journal(d, record, &tree, err);
	if (code == 0 && renameat(state_fd, JOURNAL_FILE, state_fd, WHOLE_FILE) != 0)
		code = tree_disk_error(err, errno, state_fd, "rename", JOURNAL_FILE);
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
			       : check_replaceable(d, key, err);

	if (code == 0 && d->kind != DEST_ABSENT && d->kind != DEST_EMPTY)
		code = error_set(err, -ENOTEMPTY, "%s is there and is not empty", d->place.path);
	if (code == 0)
		code = publish_mount(d, tree_fd, record, err);
	publish_discard_tree(d, false);
	return code;
}
