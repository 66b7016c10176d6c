/* SPDX-License-Identifier: MIT */
/* From an empty hidden tree to a published one: checks what the tree may replace, creates it, and
 * writes the journal of the renames that moves.c carries out. The stage's thread;
 * destination_accepts() any. Until moves_carry_out(), nothing visible changes. */
#include "defer.h"
#include "inode.h"
#include "journal.h"
#include "log.h"
#include "publish_private.h"
#include "random.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_TRIES 100

static void remove_unfinished(const struct destination *d)
{
	if (d->lock_fd >= 0 && !d->keeps_replaced)
		(void)leftovers_remove(d, NULL, NULL, NULL);
}

void publish_discard_tree(struct destination *d, bool leave_tree)
{
	if (d->tree_fd >= 0)
		close(d->tree_fd);
	if (d->dest_fd >= 0)
		close(d->dest_fd);
	d->tree_fd = d->dest_fd = -1;
	replace_forget_owned(d);
	publish_record_free(take_ptr(&d->continued));
	if (!leave_tree)
		remove_unfinished(d);
	d->tree[0] = '\0';
}

static void random_name(char *name, size_t size)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	unsigned char bytes[6] = {0};
	char suffix[sizeof(bytes) + 1] = {0};

	/* If the bytes are not random enough, names collide, and another is tried. */
	random_fill(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		suffix[i] = letters[bytes[i] % 32];
	snprintf(name, size, "tree.%s", suffix);
}

/* Returns 0, or -1 with errno. */
static int make_hidden(int state_fd, const char *name, const char *link)
{
	return link != NULL ? symlinkat(link, state_fd, name)
			    : mkdirat(state_fd, name, umask_apply(0755));
}

int publish_make_tree(struct destination *d, const char *link, struct error *err)
{
	int state_fd = d->place.state_fd, code = -1;

	remove_unfinished(d);
	for (int i = 0; i < NAME_TRIES && code != 0; i++) {
		random_name(d->tree, sizeof(d->tree));
		code = make_hidden(state_fd, d->tree, link);
		if (code != 0 && errno != EEXIST)
			break;
	}
	if (code != 0)
		return tree_disk_error(
			err, errno, state_fd, "make a directory in", d->place.state_path);
	return 0;
}

static int open_tree(struct destination *d, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

	d->tree_fd = openat(d->place.state_fd, d->tree, flags);
	if (d->tree_fd < 0)
		return tree_disk_error(err, errno, d->place.state_fd, "open", d->place.state_path);
	/* No other user may see the tree while it is unfinished. A file system that refuses the
	 * mode has no modes, and all users can see everything. */
	if (fchmod(d->tree_fd, 0700) != 0 && losses_record(d->losses, LOSS_MODE, ".", errno) < 0)
		return tree_disk_error(err, errno, d->place.state_fd, "open", d->place.state_path);
	return 0;
}

static int make_tree(struct destination *d, struct error *err)
{
	int state_fd = d->place.state_fd, code = publish_make_tree(d, NULL, err);
	struct inode tree;

	if (code < 0)
		return code;
	if (inode_stat(state_fd, d->tree, &tree) < 0)
		return tree_disk_error(err, errno, state_fd, "look into", d->place.state_path);
	d->tree_mode = tree.mode & 07777;
	return open_tree(d, err);
}

/* Returns 1 if d continues the tree that j describes, 0 if it does not. */
static int resume_tree(struct destination *d, struct journal *j, const char *key, struct error *err)
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
		tree_prepare_continue(d->tree_fd, d->opts.cancel);
	return code < 0 ? code : 1;
}

int publish_may_begin(struct destination *d, const char *key, struct error *err)
{
	int code;

	if (d->lock_fd < 0 && (!d->looks || d->refusal.code != 0))
		return error_set(err, d->refusal.code, "%s", d->refusal.msg);
	publish_discard_tree(d, true);
	d->replace = d->opts.replace;
	code = destination_classify(d, &d->kind, err);
	if (code == 0 && d->kind == DEST_OURS)
		code = replace_whole(d, key, err);
	else if (code == 0 && d->kind == DEST_LINK)
		(void)inode_stat(d->place.parent_fd, d->place.name, &d->old);
	return code;
}

static int check_begin(struct destination *d, const char *key, struct error *err)
{
	int code = publish_may_begin(d, key, err);

	if (code == 0 && d->kind == DEST_OTHER && d->opts.alone)
		code = nest_check_below(d, err);
	if (code == 0 && d->kind == DEST_OTHER)
		code = replace_entries(d, key, NULL, err);
	return code;
}

/* Checks again, right before the renames, since DEST may have changed while the tree was filled.
 * DEST must be of the same kind as before. */
static int check_again(struct destination *d, const struct record *record, struct error *err)
{
	enum dest_kind kind;
	int code = destination_classify(d, &kind, err);

	/* In the other cases nothing is replaced, and the rename itself fails if DEST exists
	 * now. */
	if (code < 0 || (d->kind != DEST_OURS && d->kind != DEST_OTHER))
		return code;
	if (kind != d->kind && kind != DEST_ABSENT)
		return error_set(err, -EEXIST,
			"cannot publish %s: somebody else has changed it meanwhile; nothing was replaced",
			d->place.path);
	d->surveyed = false;
	if (d->kind == DEST_OURS)
		return replace_whole(d, record->key, err);
	replace_forget_owned(d);
	close(take_fd(&d->dest_fd));
	return replace_entries(d, record->key, record->lineage, err);
}

int destination_begin(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err)
{
	int code = check_begin(d, key, err);

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
	int code = check_begin(d, key, err);
	struct journal *j = code == 0 ? leftovers_open_unfinished(d) : NULL;

	if (code == 0)
		code = resume_tree(d, j, key, err);
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
	return check_begin(d, key, err);
}

const struct record *destination_continued(const struct destination *d)
{
	return d->continued;
}

/* Appends who may have staged the entry, as far as its owner and another user's records show. A
 * volume that is mounted here may have been staged into under another name: then its records are
 * not below this mount point. */
static void describe_stranger(const struct destination *d, const char *name, struct text *t)
{
	struct inode there, records;

	text_add(t, "it was not staged by this agent");
	if (inode_stat(d->dest_fd, name, &there) == 0 && there.uid != geteuid())
		text_addf(t, ", and belongs to user %u", (unsigned)there.uid);
	if (d->place.inside && inode_stat(d->dest_fd, STATE_NAME, &records) == 0 &&
		records.uid != geteuid() && S_ISREG(records.mode))
		text_addf(t, ": user %u has staged into this directory", (unsigned)records.uid);
	else if (d->place.inside)
		text_add(t, ", or not by way of this mount point");
}

static int refuse_name(const struct destination *d, const char *name, struct error *err)
{
	struct record *owner = holdings_owner(d, name);
	struct text what = {0};

	if (owner != NULL) {
		text_add(&what, "it is from ");
		publish_record_describe(owner, &what);
	} else {
		describe_stranger(d, name, &what);
	}
	error_set(err, -EEXIST,
		"%s/%s exists (%s); --replace (or replace: true) replaces it, or stage into another directory",
		d->place.path, name, what.s);
	text_done(&what);
	publish_record_free(owner);
	return -EEXIST;
}

int destination_accepts(struct destination *d, const char *top_name, struct error *err)
{
	struct inode there;

	if (text_is_reserved_name(top_name))
		return error_set(err, -ERR_REFUSED,
			"an entry called %s is refused: the agent keeps its own files under such names",
			top_name);
	if (d->kind != DEST_OTHER || inode_stat(d->dest_fd, top_name, &there) == -ENOENT)
		return 0;
	return d->replace || replace_is_owned(d, top_name, &there) ? 0
								   : refuse_name(d, top_name, err);
}

/* The journal of the renames. */

static int cannot_finish(const struct destination *d, struct error *err)
{
	return tree_disk_error(err, errno, d->tree_fd, "set the attributes of", d->place.path);
}

/* Copies owner and mode of the empty directory that is replaced. The archive may set others later.
 * Returns the mode; without such a directory, that of a new one. */
static mode_t inherit_attributes(const struct destination *d)
{
	struct inode old, tree;

	if (d->kind != DEST_EMPTY || inode_stat(d->place.parent_fd, d->place.name, &old) < 0 ||
		inode_stat(d->tree_fd, "", &tree) < 0)
		return d->tree_mode;
	/* Only root can change the owner; for others the tree keeps theirs. */
	if (tree.uid == geteuid() && (old.uid != tree.uid || old.gid != tree.gid))
		(void)!fchown(d->tree_fd, old.uid, old.gid);
	return old.mode & 07777;
}

/* The file system refused an attribute of the tree: notes the loss, or fails. */
static int accept_loss(struct destination *d, enum loss what, struct error *err)
{
	int errnum = errno;

	if (losses_record(d->losses, what, ".", errnum) == 0)
		return 0;
	errno = errnum;
	return cannot_finish(d, err);
}

static int set_root_mode(struct destination *d, mode_t mode, struct error *err)
{
	struct stat st;

	if (fchmod(d->tree_fd, mode) != 0)
		return accept_loss(d, LOSS_MODE, err);
	if (fstat(d->tree_fd, &st) == 0)
		losses_mode(d->losses, ".", &st, mode);
	return 0;
}

/* Sets the tree's owner, mode and time to those of DEST. A mode that would forbid the rename is
 * returned in *ret_mode only, and set after it. */
static int set_root_attributes(
	struct destination *d, const struct meta *root, mode_t *ret_mode, struct error *err)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, root->mtime};
	bool specified = root->mode != (mode_t)-1;
	mode_t mode = inherit_attributes(d);
	int code = 0;

	if ((root->uid != (uid_t)-1 || root->gid != (gid_t)-1) &&
		fchown(d->tree_fd, root->uid, root->gid) != 0)
		code = accept_loss(d, LOSS_OWNER, err);
	if (specified)
		mode = root->mode & 0777;
	if (code == 0 && (mode & S_IWUSR) != 0)
		code = set_root_mode(d, mode, err);
	if (code == 0 && specified && futimens(d->tree_fd, times) != 0)
		code = accept_loss(d, LOSS_TIME, err);
	*ret_mode = mode;
	return code;
}

static int list_root(
	const struct destination *d, mode_t mode, struct journal_writer *w, struct error *err)
{
	struct journal_entry e = {.name = d->place.name,
		.replace = d->kind == DEST_OURS || d->kind == DEST_LINK,
		.old = d->old};

	if (inode_stat(d->tree_fd, "", &e.inode) < 0)
		return cannot_finish(d, err);
	crash_check_write_link(d, &e.inode);
	e.inode.mode = S_IFDIR | mode;
	return journal_add(w, &e, err);
}

/* replace_is_owned() entries were surveyed already; others that are replaced are surveyed here. */
static int list_entry(struct destination *d, const char *name, struct survey *foreign,
	struct journal_writer *w, struct error *err)
{
	struct journal_entry e = {.name = name};
	int code = destination_accepts(d, name, err);

	if (code < 0)
		return code;
	e.replace = inode_stat(d->dest_fd, name, &e.old) == 0;
	if (e.replace && !replace_is_owned(d, name, &e.old))
		code = replace_foreign(d, foreign, name, err);
	if (code < 0)
		return code;
	code = inode_stat(d->tree_fd, name, &e.inode);
	if (code == 0)
		return journal_add(w, &e, err);
	errno = -code;
	return error_set(
		err, code, "cannot look at %s/%s/%s: %m", d->place.state_path, d->tree, name);
}

/* Adds the entries of an earlier version that this one does not have. */
static int list_gone(struct destination *d, struct journal_writer *w, struct error *err)
{
	struct inode kept;
	int code = 0;

	for (size_t i = 0; i < d->n_owned && code == 0; i++) {
		const struct journal_entry e = {
			.name = d->owned[i].name, .inode = d->owned[i].inode, .gone = true};

		if (inode_stat(d->tree_fd, e.name, &kept) == -ENOENT)
			code = journal_add(w, &e, err);
	}
	return code;
}

static int list_entries(struct destination *d, const struct record *record,
	struct journal_writer *w, struct error *err)
{
	_closedir_ DIR *dir = publish_listing_open(d->tree_fd, ".");
	struct survey foreign;
	const char *name;
	int code = 0;

	replace_survey_init(&foreign, d, &(struct marks){0}, record);
	while (dir != NULL && code == 0 && (name = publish_listing_next(dir)) != NULL)
		code = list_entry(d, name, &foreign, w, err);
	replace_survey_done(&foreign);
	if (dir == NULL || (code == 0 && errno != 0))
		return error_set(
			err, -errno, "cannot list %s/%s: %m", d->place.state_path, d->tree);
	return code == 0 ? list_gone(d, w, err) : code;
}

static int write_journal(struct destination *d, const struct record *record,
	const struct meta *root, struct error *err)
{
	bool merge = d->kind == DEST_OTHER;
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = merge ? PUBLISH_MERGE : PUBLISH_WHOLE,
		.tree = d->tree,
		.record = record};
	struct journal_writer w;
	mode_t mode = 0;
	int code = merge ? 0 : set_root_attributes(d, root, &mode, err);

	if (code < 0)
		return code;
	code = journal_begin(&w, &head, err);
	if (code == 0)
		code = merge ? list_entries(d, record, &w, err) : list_root(d, mode, &w, err);
	/* A single rename is not synced. Several are: otherwise a crash of the machine could leave
	 * entries that no journal describes. */
	if (code == 0)
		code = journal_commit(&w, merge, err);
	if (code < 0)
		journal_abandon(&w);
	return code;
}

int destination_publish(struct destination *d, const struct record *record, const struct meta *root,
	struct error *err)
{
	int code;

	/* Once the journal exists, the next run would complete the publish. */
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled before publishing %s", d->place.path);
	code = destination_check_owner(d, err);
	if (code == 0)
		code = check_again(d, record, err);
	if (code == 0)
		code = write_journal(d, record, root, err);
	if (code == 0) {
		leftovers_forget_unfinished(d); /* the journal describes the tree now */
		code = moves_carry_out(d, err);
	}
	/* The replaced tree is in the state directory now. If that is inside of DEST, listing DEST
	 * would show it. */
	d->keeps_replaced = code == 0 && d->opts.keep_replaced && !d->place.inside;
	if (code == 0) {
		losses_warn(d->losses, d->place.path, d->place.state_fd);
		publish_discard_tree(d, false);
	}
	return code;
}
