/* SPDX-License-Identifier: MIT */
/* Opens and closes destinations. Worker threads. Before a byte is fetched, destination_open() has
 * chosen a state directory (beside DEST if possible, otherwise inside, otherwise only to read its
 * records), has shown that the destination can be staged into, and has recovered from interrupted
 * runs. */
#include "defer.h"
#include "disk.h"
#include "inode.h"
#include "publish_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ENTER_TRIES 100

/* Whether an interrupted agent left work for the next run. */
static bool is_under_way(const struct destination *d)
{
	static const char *const files[] = {JOURNAL_FILE, UNFINISHED_FILE};
	struct inode ignored;

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (inode_stat(d->place.state_fd, files[i], &ignored) != -ENOENT)
			return true;
	return false;
}

static bool holds_records(const struct destination *d)
{
	struct inode ignored;

	return inode_stat(d->place.state_fd, MERGED_DIR, &ignored) != -ENOENT ||
	       inode_stat(d->place.state_fd, WHOLE_FILE, &ignored) != -ENOENT;
}

/* Unless a run was interrupted: packs the records of a DEST that contains its own state, and
 * removes a state directory without records. The lock must be held. */
static void tidy(struct destination *d)
{
	struct state_dir *p = &d->place;

	unlinkat(p->state_fd, MERGED_DIR, AT_REMOVEDIR);
	crash_check_remove_stale_link(d);
	if (is_under_way(d))
		return;
	if (p->inside)
		state_dir_pack(p);
	unlinkat(p->state_fd, MADE_LINK, 0);
	if (holds_records(d))
		return;
	owner_release(take_ptr(&d->owner));
	if (unlinkat(p->state_fd, LOCK_FILE, 0) == 0)
		state_dir_remove_state(p);
}

/* Releases the lock and closes the state directory; removes it if it holds no record. */
static void leave_state_dir(struct destination *d)
{
	if (d->lock_fd >= 0) {
		tidy(d);
		owner_release(take_ptr(&d->owner));
		close(d->lock_fd);
	}
	d->lock_fd = -1;
	state_dir_close_state(&d->place);
}

int destination_check_owner(const struct destination *d, struct error *err)
{
	int code = d->owner != NULL ? owner_check(d->owner, err) : 0;

	if (code < 0)
		error_prefix(err, "cannot publish %s", d->place.path);
	return code;
}

/* An agent removes a state directory without records when it leaves. So the directory may disappear
 * while this agent waits for the lock. */
static int enter_state_dir(struct destination *d, bool inside, struct error *err)
{
	int code = -ENOENT;

	for (int i = 0; i < ENTER_TRIES && code == -ENOENT; i++) {
		code = state_dir_open_state(&d->place, inside, err);
		if (code < 0)
			continue;
		code = owner_acquire(&d->place, &d->opts, &d->lock_fd, &d->owner, err);
		if (code < 0)
			leave_state_dir(d);
	}
	if (code == 0) {
		state_dir_load_packed(&d->place);
		resolve_note_made(&d->place.made, d->place.state_fd);
	}
	return code;
}

/* Staged trees become visible by a rename. Without it, others would see them half done. */
static int refuse_file_system(const struct destination *d, int errnum, struct error *err)
{
	char disk[DISK_TEXT];

	disk_describe(d->place.state_fd, disk);
	return error_set(err, -EOPNOTSUPP,
		"cannot stage into %s: its file system%s does not rename directories that have something in them (%s), which is how a whole stage is shown at once; stage into a directory on a local disk",
		d->place.path, disk, strerrordesc_np(errnum));
}

static int check_renames(struct destination *d, struct error *err)
{
	_close_ int dest_fd = -1;
	enum dest_kind kind = DEST_OTHER;
	bool moves_files;
	int code = destination_classify(d, &kind, err);

	if (code == 0 && kind == DEST_OTHER)
		code = destination_open_directory(d, &dest_fd, err);
	if (code < 0)
		return code;
	code = state_dir_probe(
		&d->place, dest_fd >= 0 ? dest_fd : d->place.parent_fd, &moves_files);
	if (code == 0)
		return 0;
	if (moves_files)
		return refuse_file_system(d, -code, err);
	if (resolve_is_refusal(-code))
		return error_set(
			err, code, "cannot rename a directory out of %s", d->place.state_path);
	return tree_disk_error(
		err, -code, d->place.state_fd, "rename a directory out of", d->place.state_path);
}

static int try_state_dir(struct destination *d, bool inside, struct error *err)
{
	int code = enter_state_dir(d, inside, err);

	if (code == 0)
		code = check_renames(d, err);
	if (code < 0)
		leave_state_dir(d);
	return code;
}

static bool holds_whole(struct destination *d)
{
	struct record *record = holdings_whole(d);

	publish_record_free(record);
	return record != NULL;
}

/* This user cannot write here, but the wanted version may be here already: a volume that was filled
 * before and is now mounted read-only. */
static bool try_read_only(
	struct destination *d, bool inside, bool (*suffices)(struct destination *))
{
	for (enum state_dir_name n = 0; n < STATE_DIR_NAMES; n++) {
		if (state_dir_open_existing(&d->place, inside, n) == 0 && suffices(d))
			return true;
		state_dir_close_state(&d->place);
	}
	return false;
}

/* A record of root counts as warm as one of this user does. */
static bool is_staged_by_root(struct destination *d)
{
	struct record *record;
	struct text what = {0};

	if (state_dir_open_existing(&d->place, false, STATE_DIR_COMMON) < 0)
		return false;
	record = state_dir_is_ours(&d->place) ? NULL : holdings_whole(d);
	if (record == NULL) {
		state_dir_close_state(&d->place);
		return false;
	}
	publish_record_describe(record, &what);
	error_set(&d->refusal, -EACCES,
		"%s was staged by another user (uid 0), who alone can replace it, and holds %s, which is not what is asked for now; remove it or stage elsewhere",
		d->place.path, what.s);
	text_done(&what);
	publish_record_free(record);
	return true;
}

/* Another user's record is not believed: it may contain anything, and its owner may have changed
 * the files since. */
static int refuse_foreign(struct destination *d, struct error *err)
{
	uid_t uid;
	bool holds = state_dir_open_foreign(&d->place, &uid) == 0 && holds_whole(d);

	state_dir_close_state(&d->place);
	if (!holds || d->opts.replace)
		return 0;
	return error_set(err, -EACCES,
		"%s was staged by another user (uid %u), whose word for what it holds is not taken; remove it or stage elsewhere",
		d->place.path, (unsigned)uid);
}

static int refuse(const struct destination *d, int code, struct error *err)
{
	const struct state_dir *p = &d->place;
	struct inode dest;
	char why[64];

	resolve_describe_refusal(-code, why);
	if (inode_stat(p->parent_fd, p->name, &dest) == 0)
		return error_set(err, code,
			"cannot stage into %s: it is %s; mount a writable volume there or stage elsewhere",
			p->path, why);
	return error_set(err, code,
		"cannot make %s: %s is %s; mount a volume at %s or stage elsewhere", p->path,
		p->parent, why, p->path);
}

/* DEST exists. code: the error of staging beside it. */
static int choose_inside(struct destination *d, int code, struct error *err)
{
	bool readable = try_read_only(d, false, holds_whole);

	if (!readable) {
		code = try_state_dir(d, true, err);
		if (code == 0 || !resolve_is_refusal(-code))
			return code;
		readable = try_read_only(d, false, holdings_any) ||
			   try_read_only(d, true, holdings_any);
	}
	if (!readable)
		return refuse(d, code, err);
	(void)refuse(d, code, &d->refusal);
	return 0;
}

/* Whether a file system is mounted at dir_fd/name. */
static bool is_mount_root(int dir_fd, const char *name)
{
	const int flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT;
	struct statx st;
	struct stat above, here;

	if (statx(dir_fd, name, flags, STATX_TYPE, &st) == 0 &&
		(st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0)
		return (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;

	/* Before Linux 5.8. A bind mount within one file system is not detected here, but later,
	 * when a directory cannot be renamed next to it. */
	return fstat(dir_fd, &above) == 0 && fstatat(dir_fd, name, &here, flags) == 0 &&
	       above.st_dev != here.st_dev;
}

/* Chooses and locks the state directory, and checks that it can be used. If this user cannot
 * write, but records can be read: returns 0 with lock_fd -1 and refusal set. */
static int choose_state_dir(struct destination *d, struct error *err)
{
	const struct state_dir *p = &d->place;
	struct inode dest;
	bool exists = inode_stat(p->parent_fd, p->name, &dest) == 0;
	int code;

	if (exists && is_mount_root(p->parent_fd, p->name))
		return choose_inside(d, -EXDEV, err);
	if (exists && is_staged_by_root(d))
		return 0;
	code = exists ? refuse_foreign(d, err) : 0;
	if (code < 0)
		return code;
	code = try_state_dir(d, false, err);
	if (code == 0 || !resolve_is_refusal(-code))
		return code;
	return exists ? choose_inside(d, code, err) : refuse(d, code, err);
}

/* Opening and closing. */

enum { RESOLVE_TRIES = 5 };

const char *destination_path(const struct destination *d)
{
	return d->place.path;
}

struct losses *destination_losses(struct destination *d)
{
	return d->losses;
}

int destination_open_directory(const struct destination *d, int *ret_fd, struct error *err)
{
	int fd = openat(
		d->place.parent_fd, d->place.name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %m", d->place.path);
	*ret_fd = fd;
	return 0;
}

static bool is_empty(const struct destination *d)
{
	_closedir_ DIR *dir = publish_listing_open(d->place.parent_fd, d->place.name);

	return dir != NULL && publish_listing_next(dir) == NULL && errno == 0;
}

/* An empty directory is replaced by a rename, unless that would leave a process (a shell, the
 * user's command) in a directory that was removed, or a sticky parent forbids it. */
static bool may_be_replaced(const struct destination *d, const struct inode *dest)
{
	struct inode cwd, parent;
	uid_t me = geteuid();

	if (inode_stat(AT_FDCWD, ".", &cwd) == 0 && inode_same(&cwd, dest))
		return false;
	if (inode_stat(d->place.parent_fd, "", &parent) < 0)
		return false;
	return (parent.mode & S_ISVTX) == 0 || me == 0 || me == parent.uid || me == dest->uid;
}

/* If inode numbers cannot show whether the directory is that of the record, an empty one is taken
 * for a new one. */
static bool is_recreated(const struct destination *d, const struct record *whole)
{
	return whole != NULL && whole->condition == RECORD_TOUCHED && whole->entries > 0 &&
	       !d->place.inside && is_empty(d);
}

static bool is_link(const struct destination *d)
{
	_free_ char *link = link_read_target(d->place.parent_fd, d->place.name);

	return link != NULL;
}

int destination_classify(struct destination *d, enum dest_kind *ret, struct error *err)
{
	struct inode dest = {0};
	struct record *whole;
	int code = inode_stat(d->place.parent_fd, d->place.name, &dest);

	if (code < 0 && code != -ENOENT) {
		errno = -code;
		return error_set(err, code, "cannot look at %s: %m", d->place.path);
	}
	if (code == 0 && !S_ISDIR(dest.mode) && !is_link(d))
		return error_set(err, -ENOTDIR,
			"cannot stage into %s: it is not a directory; remove it or stage elsewhere",
			d->place.path);
	whole = code == 0 ? holdings_whole(d) : NULL;
	if (is_recreated(d, whole))
		publish_record_free(take_ptr(&whole));
	if (code < 0)
		*ret = DEST_ABSENT;
	else if (whole != NULL)
		*ret = DEST_OURS;
	else if (S_ISLNK(dest.mode))
		*ret = DEST_LINK;
	else if (!d->place.inside && is_empty(d) && may_be_replaced(d, &dest))
		*ret = DEST_EMPTY;
	else
		*ret = DEST_OTHER;
	publish_record_free(whole);
	return 0;
}

static int recover(struct destination *d, struct error *err)
{
	struct journal *unfinished;
	int code;

	if (d->lock_fd < 0)
		return 0;
	moves_resume(d);
	holdings_renumber(d);
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	unfinished = leftovers_open_unfinished(d);
	code = leftovers_remove(d, unfinished, d->opts.cancel, err);
	journal_close(unfinished);
	return code;
}

static struct destination *destination_new(const struct destination_options *opts)
{
	struct destination *d = zalloc(sizeof(*d));

	*d = (struct destination){.opts = *opts, .lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
	d->conditions[PUBLISH_WHOLE] = d->conditions[PUBLISH_MERGE] = RECORD_UNKNOWN;
	state_dir_init(&d->place);
	d->losses = zalloc(sizeof(*d->losses));
	losses_init(d->losses);
	return d;
}

/* Another stage that shared a parent directory and failed may remove that parent before this one
 * has put anything into it. */
static int resolve_and_choose(struct destination *d, const char *dir, struct error *err)
{
	int code = -ENOENT;

	for (int i = 0; i < RESOLVE_TRIES && code == -ENOENT; i++) {
		struct made made = d->place.made;

		state_dir_done(&d->place);
		state_dir_init(&d->place);
		d->place.made = made;
		code = state_dir_resolve(&d->place, dir, true, err);
		if (code == -ENOENT)
			break;
		if (code == 0)
			code = choose_state_dir(d, err);
	}
	return code;
}

/* code: the result of choosing the state directory. */
static int finish_open(struct destination *d, int code, struct destination **ret, struct error *err)
{
	if (code == 0)
		code = recover(d, err);
	if (code < 0) {
		destination_close(d, cancel_requested(d->opts.cancel));
		return code;
	}
	*ret = d;
	return 0;
}

int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err)
{
	struct destination *d = destination_new(opts);
	int code = nest_check_above(dir, err);

	if (code == 0)
		code = resolve_and_choose(d, dir, err);
	return finish_open(d, code, ret, err);
}

int destination_open_in(int parent_fd, const char *path, const struct destination_options *opts,
	struct destination **ret, struct error *err)
{
	struct destination *d = destination_new(opts);
	int code = state_dir_resolve_at(&d->place, parent_fd, path);

	if (code < 0)
		error_set(err, code, "cannot open %s: %s", path, strerrordesc_np(-code));
	else
		code = choose_state_dir(d, err);
	return finish_open(d, code, ret, err);
}

/* Looking, without changing anything. */

/* 0 or -errno. */
static int check_writable(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, W_OK | X_OK, AT_EACCESS) == 0 ? 0 : -errno;
}

static bool holds_any_or_is_ours(struct destination *d)
{
	return holdings_any(d) || state_dir_is_ours(&d->place);
}

/* As choose_inside(); code: the error of staging beside DEST. */
static int look_inside(struct destination *d, int code)
{
	if (try_read_only(d, false, holds_whole)) {
		(void)refuse(d, code, &d->refusal);
		return 0;
	}
	code = check_writable(d->place.parent_fd, d->place.name);
	if (code < 0) {
		(void)refuse(d, code, &d->refusal);
		if (try_read_only(d, false, holdings_any))
			return 0;
	}
	(void)try_read_only(d, true, holds_any_or_is_ours);
	d->place.inside = true;
	return 0;
}

/* As choose_state_dir(). */
static int look_for_state_dir(struct destination *d, struct error *err)
{
	const struct state_dir *p = &d->place;
	struct inode dest;
	bool exists = inode_stat(p->parent_fd, p->name, &dest) == 0;
	int code;

	if (exists && is_mount_root(p->parent_fd, p->name))
		return look_inside(d, -EXDEV);
	if (exists && is_staged_by_root(d))
		return 0;
	code = exists ? refuse_foreign(d, err) : 0;
	if (code < 0)
		return code;
	code = check_writable(p->parent_fd, ".");
	if (code < 0 && exists)
		return look_inside(d, code);
	if (code < 0)
		(void)refuse(d, code, &d->refusal);
	(void)try_read_only(d, false, holds_any_or_is_ours);
	d->place.inside = false;
	return 0;
}

/* The parent does not exist. Instead of it, uses the directory in which a stage would create what
 * is missing. */
static int look_above(struct destination *d, struct error *err)
{
	struct state_dir *p = &d->place;
	int code;

	while (p->parent_fd < 0 && strcmp(p->parent, "/") != 0) {
		char *slash = strrchr(p->parent, '/');

		slash[slash == p->parent] = '\0';
		p->parent_fd = open(p->parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (p->parent_fd < 0)
		return error_set(err, -errno, "cannot look at %s: %m", p->path);
	p->name = p->path + strlen(p->parent);
	p->name += *p->name == '/';
	code = check_writable(p->parent_fd, ".");
	if (code < 0)
		(void)refuse(d, code, &d->refusal);
	return 0;
}

int destination_look(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err)
{
	struct destination *d = destination_new(opts);
	int code = nest_check_above(dir, err);

	d->looks = true;
	if (code == 0)
		code = state_dir_resolve(&d->place, dir, false, err);
	if (code == 0)
		code = look_for_state_dir(d, err);
	else if (code == -ENOENT && d->place.parent != NULL)
		code = look_above(d, err);
	if (code < 0) {
		destination_close(d, true);
		return code;
	}
	*ret = d;
	return 0;
}

static bool has_unfinished(const struct destination *d, const char *key)
{
	struct journal *j = NULL;
	bool has = journal_open(d->place.state_fd, UNFINISHED_FILE, &j) == 0 &&
		   strcmp(j->record->key, key) == 0;

	journal_close(j);
	return has;
}

/* Lists the entries that this stage may not replace. */
static void list_others(const struct destination *d, struct destination_outlook *o)
{
	enum { SHOWN = 3 };
	_closedir_ DIR *dir = publish_listing_open(d->dest_fd, ".");
	const char *name;

	while (dir != NULL && (name = publish_listing_next(dir)) != NULL) {
		struct inode there;

		if (text_is_reserved_name(name) || inode_stat(d->dest_fd, name, &there) < 0 ||
			replace_is_owned(d, name, &there))
			continue;
		if (o->names.n < SHOWN)
			text_strings_add(&o->names, name);
		else
			o->n_more++;
	}
}

void destination_outlook(
	const struct destination *d, const char *key, struct destination_outlook *ret)
{
	*ret = (struct destination_outlook){
		.disk_fd = d->dest_fd >= 0 ? d->dest_fd : d->place.parent_fd,
		.continues = has_unfinished(d, key)};
	if (d->kind == DEST_OTHER && d->dest_fd >= 0)
		list_others(d, ret);
}

const struct record *destination_holds(struct destination *d, const char *key)
{
	publish_record_free(d->held);
	d->held = holdings_sound(d, key);
	return d->held;
}

void destination_close(struct destination *d, bool leave_tree)
{
	if (d == NULL)
		return;
	publish_discard_tree(d, leave_tree);
	leave_state_dir(d);
	state_dir_remove_parents(&d->place); /* only those that are empty */
	state_dir_done(&d->place);
	publish_record_free(d->held);
	free(d->link);
	losses_done(d->losses);
	free(d->losses);
	free(d);
}

/* Uses the first state directory that has a record of DEST. */
struct record *destination_peek(const char *dir)
{
	struct destination d = {.lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
	struct record *record = NULL;

	state_dir_init(&d.place);
	if (state_dir_resolve(&d.place, dir, false, NULL) == 0)
		for (enum state_dir_name n = 0; n < STATE_DIR_NAMES && record == NULL; n++) {
			if (state_dir_open_existing(&d.place, false, n) == 0)
				record = holdings_whole(&d);
			state_dir_close_state(&d.place);
		}
	state_dir_done(&d.place);
	return record;
}

/* holdings_whole() treats a record that cannot be read as absent, so this opens the record itself
 * first. */
static int read_whole_record(struct destination *d, struct record **ret)
{
	struct journal *j = NULL;
	int code = state_dir_open_existing(&d->place, false, STATE_DIR_COMMON);

	if (code == 0)
		code = journal_open(d->place.state_fd, WHOLE_FILE, &j);
	journal_close(j);
	if (code < 0)
		/* If there is a link or a file in its place, there is no record of ours. */
		return code == -ENOENT || code == -ENOTDIR || code == -ELOOP ? 0 : code;
	*ret = holdings_whole(d);
	return 0;
}

int destination_peek_in(int parent_fd, const char *path, struct record **ret, struct error *err)
{
	struct destination d = {.lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
	int code;

	*ret = NULL;
	state_dir_init(&d.place);
	code = state_dir_resolve_at(&d.place, parent_fd, path);
	if (code == 0)
		code = read_whole_record(&d, ret);
	state_dir_done(&d.place);
	return code < 0 ? error_set(err, code, "cannot read what %s holds: %s", path,
				  strerrordesc_np(-code))
			: 0;
}
