/* SPDX-License-Identifier: MIT */
/* Comparing an entry with its inventory. Any thread. */
#include "cache_private.h"
#include "defer.h"
#include "digest.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define DIGESTS_NAME "digests"
#define DIGESTS_NEW  "digests.new"

/* As many are looked at whenever an entry is used: a start does not take longer for more entries. */
#define SPOTS 256

static int check_type(const struct inventory_entry *e, const struct stat *st, struct error *err)
{
	mode_t want = e->type == 'd' ? S_IFDIR : e->type == 'l' ? S_IFLNK : S_IFREG;

	/* One more name of a symbolic link is one. */
	if (e->type == 'h' ? !S_ISDIR(st->st_mode) : (st->st_mode & S_IFMT) == want)
		return 0;
	return entry_damaged(err, "'%.300s' is not what it was", e->path);
}

static int check_one(int tree_fd, const struct inventory_entry *e, struct error *err)
{
	struct stat st;
	int code;

	if (fstatat(tree_fd, e->path, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? entry_damaged(err, "'%.300s' is missing", e->path)
			       : entry_damaged(err, "cannot look at '%.300s': %m", e->path);
	code = check_type(e, &st, err);
	if (code == 0 && e->type == 'f' && (uint64_t)st.st_size != e->size)
		return entry_damaged(err, "'%.300s' has %lld bytes instead of %" PRIu64, e->path,
			(long long)st.st_size, e->size);
	if (code == 0 && e->type == 'f' &&
		(st.st_mtim.tv_sec != e->mtime.tv_sec || st.st_mtim.tv_nsec != e->mtime.tv_nsec))
		return entry_damaged(err, "'%.300s' was written to", e->path);
	return code;
}

static int open_both(int key_fd, struct inventory **ret_l, int *ret_tree_fd, struct error *err)
{
	_close_ int fd = openat(key_fd, TREE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return entry_damaged(err, "there is no tree: %m");
	if (inventory_open(key_fd, ret_l) < 0)
		return entry_damaged(err, "its inventory is missing or damaged");
	*ret_tree_fd = take_fd(&fd);
	return 0;
}

static int check_all(struct inventory *l, int tree_fd, struct cancel *cancel, struct error *err)
{
	struct inventory_entry e;
	uint64_t n = 0;
	int more, code = 0;

	while (code == 0 && (more = inventory_next(l, &e)) != 0) {
		if (more < 0)
			return entry_damaged(err, "its inventory is damaged");
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		n++;
		code = check_one(tree_fd, &e, err);
	}
	if (code == 0 && n != l->head.entries)
		return entry_damaged(err, "its inventory is damaged");
	return code;
}

static int check_spread(struct inventory *l, int tree_fd, struct error *err)
{
	/* Others next time. */
	double phase = (double)(now_ns() % 1000) / 1000;
	struct inventory_entry e;
	int code = 0;

	for (int i = 0; i < SPOTS && code == 0; i++)
		if (inventory_seek(l, (i + phase) / SPOTS) && inventory_next(l, &e) > 0)
			code = check_one(tree_fd, &e, err);
	return code;
}

int verify_spots(int key_fd, struct error *err)
{
	_close_ int tree_fd = -1;
	struct inventory *l = NULL;
	int code = open_both(key_fd, &l, &tree_fd, err);

	if (code < 0 || l == NULL)
		return code;
	code = l->head.entries <= SPOTS ? check_all(l, tree_fd, NULL, err)
					: check_spread(l, tree_fd, err);
	inventory_close(l);
	return code;
}

/* Deep: every byte. */

struct digesting {
	int tree_fd;
	struct inventory *inventory;
	FILE *known; /* NULL: it is made */
	FILE *made;
	struct cancel *cancel;
};

static int digest_file(
	const struct digesting *d, const char *path, char hex[static 65], struct error *err)
{
	_close_ int fd = openat(d->tree_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_free_ uint8_t *buffer = zalloc((size_t)1 << 20);
	struct sha256_ctx sha256;
	ssize_t n;

	if (fd < 0)
		return entry_damaged(err, "cannot open '%.300s': %m", path);
	sha256_init(&sha256);
	while ((n = read(fd, buffer, (size_t)1 << 20)) > 0) {
		if (cancel_requested(d->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		sha256_update(&sha256, (size_t)n, buffer);
	}
	if (n < 0)
		return entry_damaged(err, "cannot read '%.300s': %m", path);
	digest_finish(&sha256, hex);
	return 0;
}

static int compare(const struct digesting *d, const char *path, const char *hex, struct error *err)
{
	char known[66] = "";

	if (d->known == NULL)
		return fprintf(d->made, "%s\n", hex) > 0
			       ? 0
			       : error_set(err, -EIO, "cannot write " DIGESTS_NAME);
	if (fgets(known, sizeof(known), d->known) != NULL && strncmp(known, hex, 64) == 0)
		return 0;
	return entry_damaged(err, "the content of '%.300s' has changed", path);
}

static int digest_all(struct digesting *d, struct error *err)
{
	struct inventory_entry e;
	char hex[65];
	int code = 0;

	inventory_rewind(d->inventory);
	while (code == 0 && inventory_next(d->inventory, &e) > 0) {
		if (e.type != 'f')
			continue;
		code = digest_file(d, e.path, hex, err);
		if (code == 0)
			code = compare(d, e.path, hex, err);
	}
	return code;
}

static FILE *open_stream(int dir_fd, const char *name, int flags, const char *mode)
{
	_close_ int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0644);
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (f != NULL)
		take_fd(&fd);
	return f;
}

/* The digests of the first time are what later ones are compared with. */
static int verify_deep(int key_fd, struct digesting *d, struct error *err)
{
	int code;

	d->known = open_stream(key_fd, DIGESTS_NAME, O_RDONLY, "r");
	if (d->known == NULL)
		d->made = open_stream(key_fd, DIGESTS_NEW, O_WRONLY | O_CREAT | O_TRUNC, "w");
	if (d->known == NULL && d->made == NULL)
		return error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	code = digest_all(d, err);
	if (d->known != NULL)
		fclose(d->known);
	if (d->made != NULL && fclose(d->made) != 0 && code == 0)
		code = error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	if (d->made != NULL && code == 0 &&
		renameat(key_fd, DIGESTS_NEW, key_fd, DIGESTS_NAME) != 0)
		code = error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	return code;
}

static int verify_use(const struct use *use, bool deep, struct cancel *cancel, struct error *err)
{
	_close_ int tree_fd = -1;
	struct inventory *l = NULL;
	int code = open_both(use->key_fd, &l, &tree_fd, err);

	if (code == 0 && l != NULL)
		code = check_all(l, tree_fd, cancel, err);
	if (code == 0 && deep)
		code = verify_deep(use->key_fd,
			&(struct digesting){.tree_fd = tree_fd, .inventory = l, .cancel = cancel},
			err);
	inventory_close(l);
	return code;
}

int cache_verify(
	const struct cache *c, const char *key, bool deep, struct cancel *cancel, struct error *err)
{
	struct use use;
	int code = use_take(c, key, false, cancel, &use, err);

	if (code < 0)
		return code;
	code = verify_use(&use, deep, cancel, err);
	close(use.fd);
	close(use.key_fd);
	return code;
}
