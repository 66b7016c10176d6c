/* SPDX-License-Identifier: MIT */
/* The hidden tree, and what it may replace. The stage's thread; destination_accepts() any. Nothing
 * visible changes here. */
#include "defer.h"
#include "destination.h"
#include "log.h"
#include "record.h"
#include "resolve.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NAME_TRIES 100

static void remove_unfinished(const struct destination *d)
{
	if (d->lock_fd >= 0 && !d->keeps_replaced)
		(void)leftovers_remove(d, NULL, NULL, NULL);
}

void begin_undo(struct destination *d, bool leave_tree)
{
	if (d->tree_fd >= 0)
		close(d->tree_fd);
	if (d->dest_fd >= 0)
		close(d->dest_fd);
	d->tree_fd = d->dest_fd = -1;
	strings_done(&d->mine);
	record_free(take_ptr(&d->continued));
	if (!leave_tree)
		remove_unfinished(d);
	d->tree[0] = '\0';
}

/* Nobody can tell whether the source has changed: it is fetched again, and may take its own place.
 */
static bool is_fetched_again(const struct record *old, const char *key)
{
	return strcmp(old->key, key) == 0 && !record_is_pinned(old);
}

static int refuse_touched(const struct destination *d, const struct record *old, struct error *err)
{
	struct text what = {0};

	record_describe(old, &what);
	error_set(err, -EEXIST,
		"%s holds %s, which was not on the disk for certain when this machine went down, "
		"and "
		"files in it have changed since; --replace (or replace: true) stages it anew",
		d->place.path, what.s);
	text_done(&what);
	return -EEXIST;
}

/* What a crash of the machine has damaged may be replaced, unless there is somebody's work in it. */
static int is_lost(const struct destination *d, const struct record *old, struct error *err)
{
	if (old->doubt == RECORD_TOUCHED)
		return refuse_touched(d, old, err);
	if (old->doubt == RECORD_LOST)
		log_warn("%s is not as it was staged before this machine went down: it is staged "
			 "anew",
			d->place.path);
	return old->doubt == RECORD_LOST;
}

static int refuse_whole(const struct destination *d, const struct record *old, struct error *err)
{
	struct text what = {0};

	record_describe(old, &what);
	error_set(err, -EEXIST, "%s holds %s; --replace (or replace: true) replaces it",
		d->place.path, what.s);
	text_done(&what);
	return -EEXIST;
}

static int may_replace_whole(struct destination *d, const char *key, struct error *err)
{
	struct record *old = holdings_whole(d);
	int code = 0;

	d->replace = true;
	if (old != NULL && !d->opts.replace && !d->opts.renew && !is_fetched_again(old, key)) {
		code = is_lost(d, old, err);
		if (code == 0)
			code = refuse_whole(d, old, err);
	}
	record_free(old);
	return code < 0 ? code : 0;
}

static int prepare_merge(struct destination *d, const char *key, struct error *err)
{
	struct record *old = holdings_find(d, key);
	int code = 0;

	if (old != NULL && !d->opts.replace && !d->opts.renew && !is_fetched_again(old, key))
		code = is_lost(d, old, err);
	if (old != NULL && (code > 0 || d->opts.renew || is_fetched_again(old, key)))
		holdings_names(d, key, &d->mine);
	record_free(old);
	return code < 0 ? code : dest_open(d, &d->dest_fd, err);
}

static void random_name(char *name, size_t size)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	unsigned char bytes[6] = {0};
	char suffix[sizeof(bytes) + 1] = {0};

	/* What is not random enough collides, and is tried again. */
	(void)!getrandom(bytes, sizeof(bytes), GRND_NONBLOCK);
	for (size_t i = 0; i < sizeof(bytes); i++)
		suffix[i] = letters[bytes[i] % 32];
	snprintf(name, size, "tree.%s", suffix);
}

/* 0, or -1 and errno. */
static int make_at(int state_fd, const char *name, const char *link)
{
	return link != NULL ? symlinkat(link, state_fd, name) : mkdirat(state_fd, name, 0755);
}

int begin_make(struct destination *d, const char *link, struct error *err)
{
	int state_fd = d->place.state_fd, code = -1;

	remove_unfinished(d);
	for (int i = 0; i < NAME_TRIES && code != 0; i++) {
		random_name(d->tree, sizeof(d->tree));
		code = make_at(state_fd, d->tree, link);
		if (code != 0 && errno != EEXIST)
			break;
	}
	if (code != 0)
		return disk_error(err, errno, state_fd, "make a directory in", d->place.state_path);
	return 0;
}

static int open_tree(struct destination *d, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

	d->tree_fd = openat(d->place.state_fd, d->tree, flags);
	if (d->tree_fd < 0 || fchmod(d->tree_fd, 0700) != 0)
		return disk_error(err, errno, d->place.state_fd, "open", d->place.state_path);
	return 0;
}

static int make_tree(struct destination *d, struct error *err)
{
	int state_fd = d->place.state_fd, code = begin_make(d, NULL, err);
	struct inode tree;

	if (code < 0)
		return code;
	if (inode_look(state_fd, d->tree, &tree) < 0)
		return disk_error(err, errno, state_fd, "look into", d->place.state_path);
	d->tree_mode = tree.mode & 07777;
	return open_tree(d, err);
}

/* The modes that a run which was almost done has set may keep this one from working in them. Those that no entry
 * speaks of keep what they get here. */
static void open_directories(const struct destination *d)
{
	_free_ char *path = format_text("%s/%s", d->place.state_path, d->tree);
	const int how = FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT | FTS_XDEV;
	FTS *fts = fts_open((char *const[]){path, NULL}, how, NULL);
	FTSENT *e;

	while (fts != NULL && (e = fts_read(fts)) != NULL)
		if (e->fts_info == FTS_D && e->fts_level > 0)
			(void)!chmod(e->fts_accpath, 0755);
	if (fts != NULL)
		fts_close(fts);
}

/* 1: the tree that j speaks of is d's now. */
static int take_up(struct destination *d, struct journal *j, const char *key, struct error *err)
{
	struct journal_entry tree;
	int code;

	if (j == NULL || strcmp(j->record->key, key) != 0 || strlen(j->tree) >= sizeof(d->tree) ||
		journal_next(j, &tree) == 0)
		return 0;
	snprintf(d->tree, sizeof(d->tree), "%s", j->tree);
	d->tree_mode = tree.inode.mode & 07777;
	d->continued = take_ptr(&j->record);
	code = open_tree(d, err);
	if (code == 0)
		open_directories(d);
	return code < 0 ? code : 1;
}

int begin_judge(struct destination *d, const char *key, struct error *err)
{
	int code;

	if (d->lock_fd < 0)
		return error_set(err, d->refusal.code, "%s", d->refusal.msg);
	begin_undo(d, true);
	d->replace = d->opts.replace;
	code = dest_look(d, &d->kind, err);
	if (code == 0 && d->kind == DEST_OURS)
		code = may_replace_whole(d, key, err);
	return code;
}

static int prepare(struct destination *d, const char *key, struct error *err)
{
	int code = begin_judge(d, key, err);

	if (code == 0 && d->kind == DEST_OTHER)
		code = prepare_merge(d, key, err);
	return code;
}

int destination_begin(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err)
{
	int code = prepare(d, key, err);

	if (code == 0)
		code = make_tree(d, err);
	if (code < 0)
		return code;
	*ret_root_fd = d->tree_fd;
	*ret_state_fd = d->place.state_fd;
	return 0;
}

int destination_continue(struct destination *d, const char *key, int *ret_root_fd,
	int *ret_state_fd, struct error *err)
{
	int code = prepare(d, key, err);
	struct journal *j = code == 0 ? unfinished_open(d) : NULL;

	if (code == 0)
		code = take_up(d, j, key, err);
	journal_close(j);
	if (code == 0)
		code = make_tree(d, err);
	if (code < 0)
		return code;
	*ret_root_fd = d->tree_fd;
	*ret_state_fd = d->place.state_fd;
	return 0;
}

int destination_restart(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err)
{
	int code;

	d->keep_download = true;
	code = destination_begin(d, key, ret_root_fd, ret_state_fd, err);
	d->keep_download = false;
	return code;
}

int destination_check(struct destination *d, const char *key, struct error *err)
{
	return prepare(d, key, err);
}

const struct record *destination_continued(const struct destination *d)
{
	return d->continued;
}

static bool is_mine(const struct destination *d, const char *name)
{
	size_t low = 0, high = d->mine.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, d->mine.v[middle]);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static int refuse_name(const struct destination *d, const char *name, struct error *err)
{
	struct record *owner = holdings_owner(d, name);
	struct text what = {0};

	if (owner != NULL) {
		text_add(&what, "it is from ");
		record_describe(owner, &what);
	} else {
		text_add(&what, "it was not staged by this agent");
	}
	error_set(err, -EEXIST,
		"%s/%s exists (%s); --replace (or replace: true) replaces it, or stage into "
		"another "
		"directory",
		d->place.path, name, what.s);
	text_done(&what);
	record_free(owner);
	return -EEXIST;
}

int destination_accepts(struct destination *d, const char *top_name, struct error *err)
{
	struct inode there;

	if (resolve_is_own_name(top_name))
		return error_set(err, -ERR_REFUSED,
			"an entry called %s is refused: the agent keeps its own files under such "
			"names",
			top_name);
	if (d->kind != DEST_OTHER || inode_look(d->dest_fd, top_name, &there) == -ENOENT)
		return 0;
	return d->replace || is_mine(d, top_name) ? 0 : refuse_name(d, top_name, err);
}
