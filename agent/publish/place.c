/* SPDX-License-Identifier: MIT */
/* Finding the state directory of a destination. Worker threads. Several users may share PARENT, and
 * one of them may be hostile: a state directory is used only if it is this user's own. */
#include "place.h"
#include "defer.h"
#include "inode.h"
#include "resolve.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Readable for others: what root has staged is warm for everybody. The tree itself is 0700. */
#define STATE_MODE 0755
#define ENTER      (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define PROBE      "probe"

void place_init(struct place *p)
{
	*p = (struct place){.parent_fd = -1, .host_fd = -1, .base_fd = -1, .state_fd = -1};
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void place_close_state(struct place *p)
{
	close_fd(&p->state_fd);
	close_fd(&p->base_fd);
	close_fd(&p->host_fd);
	free(take_ptr(&p->state_path));
}

void place_done(struct place *p)
{
	place_close_state(p);
	close_fd(&p->parent_fd);
	free(take_ptr(&p->path));
	free(take_ptr(&p->parent));
}

int place_resolve(struct place *p, const char *dir, struct error *err)
{
	size_t len;
	int code = resolve_path(dir, &p->path, err);

	if (code < 0)
		return code;
	p->name = strrchr(p->path, '/') + 1;
	len = (size_t)(p->name - p->path) - 1;
	p->parent = format_text("%.*s", len > 0 ? (int)len : 1, p->path);
	return resolve_parents(p->parent, p->path, &p->parent_fd, err);
}

static int open_host(struct place *p, bool inside)
{
	p->inside = inside;
	p->host_fd = inside ? openat(p->parent_fd, p->name, ENTER)
			    : fcntl(p->parent_fd, F_DUPFD_CLOEXEC, 3);
	return p->host_fd < 0 ? -errno : 0;
}

static void set_state_path(struct place *p, const char *sub)
{
	const char *host = p->inside ? p->path : p->parent;

	free(p->state_path);
	p->state_path =
		format_text("%s%s%s/%s", host, strcmp(host, "/") == 0 ? "" : "/", p->base, sub);
}

/* DEST may itself be the PARENT of other destinations: what it calls its own state must not be a
 * name that one of those could have. */
static const char *state_name(const struct place *p)
{
	return p->inside ? STATE_NAME : p->name;
}

static int make_and_enter(int dir_fd, const char *name, int flags)
{
	int fd = openat(dir_fd, name, flags);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(dir_fd, name, STATE_MODE) != 0 && errno != EEXIST)
		return -1;
	return openat(dir_fd, name, flags);
}

/* A file system may give all files to one user, whoever makes them (NFS with squashed root, FUSE).
 * So when base is not ours by its number, make something in it and compare. */
static bool is_ours(int base_fd)
{
	struct inode base, made;
	bool ours = false;

	if (inode_look(base_fd, "", &base) < 0)
		return false;
	if (base.uid == geteuid())
		return true;
	_free_ char *name = format_text(STATE_NAME "-owner-%ld-%p", (long)getpid(), (void *)&base);
	if (mkdirat(base_fd, name, 0700) != 0)
		return false;
	ours = inode_look(base_fd, name, &made) == 0 && made.uid == base.uid;
	unlinkat(base_fd, name, AT_REMOVEDIR);
	return ours;
}

bool place_is_ours(const struct place *p)
{
	return is_ours(p->base_fd);
}

static int refuse_base(const struct place *p, const char *what, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"%s/%s is %s: the agent would keep its state there; remove it or stage elsewhere",
		p->inside ? p->path : p->parent, p->base, what);
}

/* 1: base_fd is open and ours. 0: it belongs to somebody else. */
static int open_base(struct place *p, struct error *err)
{
	close_fd(&p->base_fd);
	p->base_fd = make_and_enter(p->host_fd, p->base, ENTER);
	if (p->base_fd >= 0)
		return is_ours(p->base_fd);
	if (errno == ENOTDIR || errno == ELOOP)
		return refuse_base(p, "a file or a symbolic link, not a directory", err);
	return error_set(
		err, -errno, "cannot make %s/%s: %m", p->inside ? p->path : p->parent, p->base);
}

static void name_base(struct place *p, bool own)
{
	if (own)
		snprintf(p->base, sizeof(p->base), "%s-%u", STATE_NAME, (unsigned)geteuid());
	else
		snprintf(p->base, sizeof(p->base), "%s", STATE_NAME);
}

static int open_own_base(struct place *p, struct error *err)
{
	int code;

	name_base(p, false);
	code = open_base(p, err);
	if (code != 0)
		return code;
	name_base(p, true);
	code = open_base(p, err);
	return code != 0 ? code : refuse_base(p, "another user's directory", err);
}

static int open_state(struct place *p, bool inside, struct error *err)
{
	int code = open_host(p, inside);

	if (code < 0)
		return error_set(err, code, "cannot open %s: %m", p->path);
	code = open_own_base(p, err);
	if (code < 0)
		return code;
	set_state_path(p, state_name(p));
	p->state_fd = make_and_enter(
		p->base_fd, state_name(p), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->state_fd < 0)
		return error_set(err, -errno, "cannot make %s: %m", p->state_path);
	return 0;
}

int place_open_state(struct place *p, bool inside, struct error *err)
{
	int code = open_state(p, inside, err);

	if (code < 0)
		place_close_state(p);
	return code;
}

static bool is_believed(const struct place *p)
{
	struct inode state, dest;

	return inode_look(p->state_fd, "", &state) == 0 &&
	       inode_look(p->parent_fd, p->name, &dest) == 0 &&
	       (state.uid == 0 || state.uid == geteuid() || state.uid == dest.uid);
}

static int open_existing(struct place *p, bool inside, bool own)
{
	if (open_host(p, inside) < 0)
		return -ENOENT;
	name_base(p, own);
	p->base_fd = openat(p->host_fd, p->base, ENTER);
	if (p->base_fd < 0)
		return -ENOENT;
	set_state_path(p, state_name(p));
	p->state_fd =
		openat(p->base_fd, state_name(p), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return p->state_fd >= 0 && is_believed(p) ? 0 : -ENOENT;
}

int place_open_existing(struct place *p, bool inside, bool own)
{
	int code = open_existing(p, inside, own);

	if (code < 0)
		place_close_state(p);
	return code;
}

int place_probe(const struct place *p, int target_fd)
{
	struct inode state;
	int code = inode_look(p->state_fd, "", &state);

	if (code < 0)
		return code;
	/* Always the same name, so that what a killed agent leaves of it is removed by the next. */
	_free_ char *name = format_text(STATE_NAME "-probe-%llu", (unsigned long long)state.ino);
	unlinkat(target_fd, name, AT_REMOVEDIR);
	if (mkdirat(p->state_fd, PROBE, 0700) != 0 && errno != EEXIST)
		return -errno;
	code = renameat(p->state_fd, PROBE, target_fd, name) == 0 ? 0 : -errno;
	unlinkat(p->state_fd, PROBE, AT_REMOVEDIR);
	unlinkat(target_fd, name, AT_REMOVEDIR);
	return code;
}

void place_remove_state(const struct place *p)
{
	unlinkat(p->base_fd, state_name(p), AT_REMOVEDIR);
	unlinkat(p->host_fd, p->base, AT_REMOVEDIR);
}
