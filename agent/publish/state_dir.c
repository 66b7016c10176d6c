/* SPDX-License-Identifier: MIT */
/* The state directory of a destination: its names, its creation, and the packing of its records.
 * Worker threads. Several users may share PARENT, and one of them may be hostile, so a state
 * directory is used only if it is owned by this user. */
#include "defer.h"
#include "inode.h"
#include "publish_private.h"
#include "random.h"
#include "text.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Others may read it, so that files that root has staged are warm for everybody; the tree itself is
 * 0700. The owner's bits are set whatever the umask is, since the agent has to work there. */
#define STATE_MODE 0755
#define ENTER      (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define LIST       (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define OTHERS     (S_IWGRP | S_IWOTH)

/* Two agents that create a random name at the same time both see the other's name after this
 * time. */
#define NAME_RACE_NS (20L * 1000 * 1000)

void state_dir_init(struct state_dir *p)
{
	*p = (struct state_dir){.parent_fd = -1, .host_fd = -1, .base_fd = -1, .state_fd = -1};
	packed_init(&p->packed);
	packed_init(&p->roots);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void state_dir_close_state(struct state_dir *p)
{
	packed_done(&p->packed);
	packed_done(&p->roots);
	close_fd(&p->state_fd);
	close_fd(&p->base_fd);
	close_fd(&p->host_fd);
	free(take_ptr(&p->state_path));
}

void state_dir_done(struct state_dir *p)
{
	state_dir_close_state(p);
	close_fd(&p->parent_fd);
	free(take_ptr(&p->path));
	free(take_ptr(&p->parent));
}

int state_dir_resolve(struct state_dir *p, const char *dir, bool make, struct error *err)
{
	size_t len;
	int code = resolve_path(dir, &p->path, err);

	if (code < 0)
		return code;
	p->name = strrchr(p->path, '/') + 1;
	len = (size_t)(p->name - p->path) - 1;
	p->parent = text_format("%.*s", len > 0 ? (int)len : 1, p->path);
	return resolve_parents(p->parent, p->path, make ? &p->made : NULL, &p->parent_fd, err);
}

int state_dir_resolve_at(struct state_dir *p, int parent_fd, const char *path)
{
	size_t len;

	p->path = text_copy(path);
	p->name = strrchr(p->path, '/') + 1;
	len = (size_t)(p->name - p->path) - 1;
	p->parent = text_format("%.*s", len > 0 ? (int)len : 1, p->path);
	p->parent_fd = fcntl(parent_fd, F_DUPFD_CLOEXEC, 3);
	return p->parent_fd < 0 ? -errno : 0;
}

static int open_host(struct state_dir *p, bool inside)
{
	p->inside = inside;
	p->host_fd = inside ? openat(p->parent_fd, p->name, ENTER)
			    : fcntl(p->parent_fd, F_DUPFD_CLOEXEC, 3);
	return p->host_fd < 0 ? -errno : 0;
}

static const char *host_path(const struct state_dir *p)
{
	return p->inside ? p->path : p->parent;
}

static void set_state_path(struct state_dir *p, const char *sub)
{
	const char *host = host_path(p);

	free(p->state_path);
	p->state_path =
		text_format("%s%s%s/%s", host, strcmp(host, "/") == 0 ? "" : "/", p->base, sub);
}

/* Inside of DEST, which may itself be the PARENT of other destinations, the state directory must
 * have a name that none of those could have. */
static const char *state_name(const struct state_dir *p)
{
	return p->inside ? STATE_NAME : p->name;
}

static int make_and_enter(int dir_fd, const char *name, int flags)
{
	int fd = openat(dir_fd, name, flags);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(dir_fd, name, umask_apply(STATE_MODE) | S_IRWXU) != 0 && errno != EEXIST)
		return -1;
	return openat(dir_fd, name, flags);
}

static enum trust trust_of(int fd)
{
	struct inode inode;

	return inode_stat(fd, "", &inode) < 0 ? TRUST_FOREIGN : trust_inode(&inode, fd);
}

bool state_dir_is_ours(const struct state_dir *p)
{
	return trust_of(p->base_fd) == TRUST_OURS;
}

static int refuse_base(const struct state_dir *p, const char *what, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"%s/%s is %s: the agent would keep its state there; remove it or stage elsewhere",
		host_path(p), p->base, what);
}

static int refuse_open(const char *path, int fd, struct error *err)
{
	struct inode inode = {0};

	inode_stat(fd, "", &inode);
	return error_set(err, -ERR_REFUSED,
		"others may write to %s (mode %o), so nothing that it says of what was staged is believed: chmod go-w it, or remove it",
		path, (unsigned)inode.mode & 07777);
}

/* The name is taken by something that is not a directory. Returns 0 if another name may be
 * tried. */
static int check_not_directory(const struct state_dir *p, struct error *err)
{
	struct inode inode;

	if (packed_is_one(p->host_fd, p->base) || inode_stat(p->host_fd, p->base, &inode) < 0 ||
		!trust_is_good(trust_inode(&inode, -1)))
		return 0;
	return refuse_base(p, "a file or a symbolic link, not a directory", err);
}

/* Returns 1 if base_fd is open and ours, 0 if the name belongs to another user. */
static int open_base(struct state_dir *p, struct error *err)
{
	_free_ char *path = text_format("%s/%s", host_path(p), p->base);

	close_fd(&p->base_fd);
	p->base_fd = make_and_enter(p->host_fd, p->base, ENTER);
	if (p->base_fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return check_not_directory(p, err);
	if (p->base_fd < 0)
		return error_set(err, -errno, "cannot make %s: %m", path);
	switch (trust_of(p->base_fd)) {
	case TRUST_OURS:
		return 1;
	case TRUST_OPEN:
		return refuse_open(path, p->base_fd, err);
	default:
		return 0;
	}
}

static void own_prefix(char *buf, size_t size, const char *end)
{
	snprintf(buf, size, "%s-%u%s", STATE_NAME, (unsigned)geteuid(), end);
}

/* Finds the oldest of this user's random names; they begin with the time. */
static bool find_random(struct state_dir *p)
{
	_closedir_ DIR *dir = publish_listing_open(p->host_fd, ".");
	char prefix[sizeof(p->base)], found[sizeof(p->base)] = "";
	const char *name;

	own_prefix(prefix, sizeof(prefix), "-");
	while (dir != NULL && (name = publish_listing_next(dir)) != NULL) {
		_close_ int fd = -1;

		if (strncmp(name, prefix, strlen(prefix)) != 0 || strlen(name) >= sizeof(found) ||
			(found[0] != '\0' && strcmp(name, found) >= 0))
			continue;
		fd = openat(p->host_fd, name, ENTER);
		if (fd >= 0 && trust_of(fd) == TRUST_OURS)
			snprintf(found, sizeof(found), "%s", name);
	}
	snprintf(p->base, sizeof(p->base), "%s", found);
	return found[0] != '\0';
}

static void random_hex(char hex[static 9])
{
	uint32_t number = 0;

	/* If the number is not random enough, it can be guessed, and names collide. */
	random_fill(&number, sizeof(number));
	snprintf(hex, 9, "%08" PRIx32, number);
}

static int make_random(struct state_dir *p, struct error *err)
{
	const struct timespec pause = {.tv_nsec = NAME_RACE_NS};
	char prefix[32], hex[9], name[sizeof(p->base)];
	struct timespec now;

	own_prefix(prefix, sizeof(prefix), "-");
	random_hex(hex);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, sizeof(name), "%s%010" PRIx64 "%08lx%s", prefix, (uint64_t)now.tv_sec,
		(unsigned long)now.tv_nsec, hex);
	if (mkdirat(p->host_fd, name, umask_apply(STATE_MODE) | S_IRWXU) != 0)
		return error_set(err, -errno, "cannot make %s/%s: %m", host_path(p), name);
	nanosleep(&pause, NULL);
	if (!find_random(p))
		return error_set(err, -ENOENT, "%s/%s was removed at once", host_path(p), name);
	if (strcmp(p->base, name) != 0)
		unlinkat(p->host_fd, name, AT_REMOVEDIR);
	return 0;
}

/* Other users can take the names only where they can create entries. */
static bool others_make_names(const struct state_dir *p)
{
	struct inode host;

	return inode_stat(p->host_fd, "", &host) < 0 || (host.mode & OTHERS) != 0 ||
	       (host.uid != geteuid() && host.uid != 0);
}

/* Sets p->base. Returns false if there is no name of that kind. */
static bool name_base(struct state_dir *p, enum state_dir_name n)
{
	if (n == STATE_DIR_RANDOM)
		return others_make_names(p) && find_random(p);
	if (n == STATE_DIR_COMMON)
		snprintf(p->base, sizeof(p->base), "%s", STATE_NAME);
	else
		own_prefix(p->base, sizeof(p->base), "");
	return true;
}

static bool has_state(struct state_dir *p, enum state_dir_name n)
{
	_free_ char *sub = NULL;
	_close_ int fd = -1;

	if (!name_base(p, n))
		return false;
	sub = text_format("%s/%s", p->base, state_name(p));
	fd = openat(p->host_fd, sub, ENTER);
	return fd >= 0 && trust_of(fd) == TRUST_OURS;
}

/* Existing state is used again, whatever names have become free since. The common name is only for
 * state beside DEST; inside of DEST it is the name of the packed records. */
static enum state_dir_name first_name(struct state_dir *p)
{
	enum state_dir_name first = p->inside ? STATE_DIR_OWN : STATE_DIR_COMMON;

	for (enum state_dir_name n = first; n <= STATE_DIR_OWN; n++)
		if (has_state(p, n))
			return n;
	return has_state(p, STATE_DIR_RANDOM) ? STATE_DIR_RANDOM : first;
}

static int open_own_base(struct state_dir *p, struct error *err)
{
	int code = 0;

	for (enum state_dir_name n = first_name(p); n <= STATE_DIR_OWN && code == 0; n++) {
		name_base(p, n);
		code = open_base(p, err);
	}
	if (code != 0)
		return code;
	if (!find_random(p))
		code = make_random(p, err);
	if (code == 0)
		code = open_base(p, err);
	return code != 0 ? code : refuse_base(p, "another user's directory", err);
}

/* Earlier versions, without packed records, had their state inside under the common name. It is
 * moved, with its lock and with whatever is under way in it. */
static void adopt_older_state(const struct state_dir *p)
{
	_close_ int fd = openat(p->host_fd, STATE_NAME, ENTER);

	if (fd < 0 || trust_of(fd) != TRUST_OURS)
		return;
	(void)!renameat(fd, STATE_NAME, p->base_fd, STATE_NAME);
	unlinkat(p->host_fd, STATE_NAME, AT_REMOVEDIR);
}

static int open_state(struct state_dir *p, bool inside, struct error *err)
{
	int code = open_host(p, inside);

	if (code < 0)
		return error_set(err, code, "cannot open %s: %m", p->path);
	code = open_own_base(p, err);
	if (code < 0)
		return code;
	if (inside)
		adopt_older_state(p);
	set_state_path(p, state_name(p));
	p->state_fd = make_and_enter(p->base_fd, state_name(p), LIST);
	if (p->state_fd < 0)
		return error_set(err, -errno, "cannot make %s: %m", p->state_path);
	if (trust_of(p->state_fd) != TRUST_OURS)
		return refuse_open(p->state_path, p->state_fd, err);
	return 0;
}

int state_dir_open_state(struct state_dir *p, bool inside, struct error *err)
{
	int code = open_state(p, inside, err);

	if (code < 0)
		state_dir_close_state(p);
	return code;
}

/* The name of the packed records if the common one is taken. */
static void own_packed_name(char buf[static 64])
{
	own_prefix(buf, 64, ".records");
}

static void load_packed(struct state_dir *p, bool roots_too)
{
	char own[64];

	packed_done(&p->packed);
	packed_done(&p->roots);
	if (!p->inside)
		return;
	own_packed_name(own);
	packed_load(&p->packed, p->host_fd, STATE_NAME, roots_too);
	if (p->packed.n_fds == 0)
		packed_load(&p->roots, p->host_fd, STATE_NAME, true);
	packed_load(&p->packed, p->host_fd, own, false);
}

void state_dir_load_packed(struct state_dir *p)
{
	load_packed(p, false);
}

static bool is_believed(const struct state_dir *p)
{
	return trust_is_good(trust_of(p->base_fd)) && trust_is_good(trust_of(p->state_fd));
}

static int open_existing(struct state_dir *p, bool inside, enum state_dir_name n)
{
	int code = open_host(p, inside);

	if (code < 0)
		return code;
	if (!name_base(p, n))
		return -ENOENT;
	p->base_fd = openat(p->host_fd, p->base, ENTER);
	if (p->base_fd < 0)
		return -errno;
	set_state_path(p, state_name(p));
	p->state_fd = openat(p->base_fd, state_name(p), LIST);
	return p->state_fd < 0 ? -errno : 0;
}

int state_dir_open_existing(struct state_dir *p, bool inside, enum state_dir_name n)
{
	int code = open_existing(p, inside, n);

	if (code == 0 && !is_believed(p)) {
		close_fd(&p->state_fd);
		code = -ENOENT;
	}
	if (p->host_fd >= 0)
		load_packed(p, true);
	if (code < 0 && p->packed.n > 0) {
		set_state_path(p, state_name(p));
		return 0;
	}
	if (code < 0)
		state_dir_close_state(p);
	return code;
}

int state_dir_open_foreign(struct state_dir *p, uid_t *ret_uid)
{
	struct inode state = {0};
	int code = open_existing(p, false, STATE_DIR_COMMON);

	if (code == 0 && ((trust_of(p->base_fd) != TRUST_FOREIGN &&
				  trust_of(p->state_fd) != TRUST_FOREIGN) ||
				 inode_stat(p->state_fd, "", &state) < 0))
		code = -ENOENT;
	if (code < 0)
		state_dir_close_state(p);
	else
		*ret_uid = state.uid;
	return code;
}

#define PROBE  "probe"
#define PROBED "probed" /* a symbolic link whose text is the probe's name */
#define INNER  "inner"  /* in the probe: some file systems can rename only empty directories */

static void remove_probe_at(int dir_fd, const char *name)
{
	_close_ int fd = openat(dir_fd, name, ENTER);

	if (fd >= 0)
		unlinkat(fd, INNER, AT_REMOVEDIR);
	unlinkat(dir_fd, name, AT_REMOVEDIR);
}

/* Removes the probe of a killed agent from PARENT and DEST, since it may be in either. */
static void state_dir_remove_probe(const struct state_dir *p)
{
	char name[64] = "";
	_close_ int dest_fd = -1;

	if (readlinkat(p->state_fd, PROBED, name, sizeof(name) - 1) <= 0)
		return;
	dest_fd = openat(p->parent_fd, p->name, ENTER);
	if (text_is_reserved_name(name) && strchr(name, '/') == NULL) {
		remove_probe_at(p->parent_fd, name);
		if (dest_fd >= 0)
			remove_probe_at(dest_fd, name);
	}
	unlinkat(p->state_fd, PROBED, 0);
}

/* Creates a directory with another one in it. 0 or -errno. */
static int make_probe(const struct state_dir *p)
{
	_close_ int fd = -1;

	if (mkdirat(p->state_fd, PROBE, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = openat(p->state_fd, PROBE, ENTER);
	return fd >= 0 && (mkdirat(fd, INNER, 0700) == 0 || errno == EEXIST) ? 0 : -errno;
}

/* Whether a file can be renamed to where the directory could not. */
static bool moves_files(const struct state_dir *p, int target_fd, const char *name)
{
	_close_ int fd = -1;
	bool moved;

	remove_probe_at(p->state_fd, PROBE);
	fd = openat(p->state_fd, PROBE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	moved = fd >= 0 && renameat(p->state_fd, PROBE, target_fd, name) == 0;
	unlinkat(moved ? target_fd : p->state_fd, moved ? name : PROBE, 0);
	return moved;
}

/* The name is random, so that nobody can take it first; and it is written down, so that the probe
 * of a killed agent can be removed. */
int state_dir_probe(const struct state_dir *p, int target_fd, bool *ret_moves_files)
{
	char hex[9], more[9];
	_free_ char *name = NULL;
	int code;

	*ret_moves_files = false;
	state_dir_remove_probe(p);
	random_hex(hex);
	random_hex(more);
	name = text_format(STATE_NAME "-probe-%s%s", hex, more);
	(void)!symlinkat(name, p->state_fd, PROBED);
	code = make_probe(p);
	if (code == 0 && renameat(p->state_fd, PROBE, target_fd, name) != 0) {
		code = -errno;
		*ret_moves_files = moves_files(p, target_fd, name);
	}
	remove_probe_at(p->state_fd, PROBE);
	remove_probe_at(target_fd, name);
	unlinkat(p->state_fd, PROBED, 0);
	return code;
}

static bool is_overlay(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC;
}

/* No rename replaces a directory that is not empty, so the trial changes nothing; but overlayfs
 * checks first whether the directory can be renamed at all. */
bool state_dir_can_move(const struct state_dir *p, int dir_fd, const char *name)
{
	bool can = true;

	if (!is_overlay(dir_fd))
		return true;
	if (make_probe(p) == 0)
		can = renameat(dir_fd, name, p->state_fd, PROBE) == 0 || errno != EXDEV;
	remove_probe_at(p->state_fd, PROBE);
	return can;
}

void state_dir_remove_state(const struct state_dir *p)
{
	unlinkat(p->base_fd, state_name(p), AT_REMOVEDIR);
	unlinkat(p->host_fd, p->base, AT_REMOVEDIR);
}

/* Returns 0; -1 if the name is another user's file or a directory. */
static int install_packed(const struct state_dir *p, const char *name)
{
	struct inode there;

	if (inode_stat(p->host_fd, name, &there) == 0 &&
		(!S_ISREG(there.mode) || trust_inode(&there, p->base_fd) != TRUST_OURS ||
			!packed_is_one(p->host_fd, name)))
		return -1;
	return renameat(p->state_fd, PACKED_NEW, p->host_fd, name);
}

static void remove_merged(const struct state_dir *p, int merged_fd)
{
	_closedir_ DIR *dir = publish_listing_open(merged_fd, ".");
	const char *name;

	while (dir != NULL && (name = publish_listing_next(dir)) != NULL)
		unlinkat(merged_fd, name, 0);
	unlinkat(p->state_fd, MERGED_DIR, AT_REMOVEDIR);
}

bool state_dir_pack(struct state_dir *p)
{
	_close_ int merged_fd = openat(p->state_fd, MERGED_DIR, LIST);
	char own[64];

	own_packed_name(own);
	if (merged_fd < 0)
		return true;
	if (packed_write(&p->packed, p->host_fd, p->state_fd, merged_fd) != 0)
		return false;
	if (install_packed(p, STATE_NAME) == 0)
		unlinkat(p->host_fd, own, 0);
	else if (install_packed(p, own) != 0) {
		unlinkat(p->state_fd, PACKED_NEW, 0);
		return false;
	}
	/* From here on both have the same records, and it does not matter which is found. */
	remove_merged(p, merged_fd);
	return true;
}

void state_dir_remove_parents(struct state_dir *p)
{
	if (p->made.n > 0 && p->parent != NULL)
		resolve_remove_made(p->parent, &p->made);
	p->made.n = 0;
}
