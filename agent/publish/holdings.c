/* SPDX-License-Identifier: MIT */
/* What the records hold. Worker threads. A record is believed only while every entry in it is the
 * file that was published. A record that does not hold any more is never repaired. */
#include "defer.h"
#include "inode.h"
#include "publish_private.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* An entry without a time of birth, on a file system that has them, is in no record of ours. */
static bool is_same_entry(int dir_fd, const struct journal_entry *e, const char *name)
{
	struct inode now;

	return !e->gone && inode_stat(dir_fd, name, &now) == 0 && inode_same(&now, &e->inode) &&
	       (e->inode.has_birth || !now.has_birth);
}

/* Whether only this user and root can have changed dir_fd/name. */
static bool entry_is_safe(const struct destination *d, int dir_fd, const char *name)
{
	struct inode now;

	return inode_stat(dir_fd, name, &now) == 0 &&
	       trust_is_good(trust_inode(&now, d->place.state_fd));
}

/* Whether only this user and root can have given a name in dir_fd to another file of theirs. */
static bool names_are_safe(const struct destination *d, int dir_fd)
{
	struct inode dir;

	if (inode_stat(dir_fd, "", &dir) < 0)
		return false;
	if ((dir.mode & S_ISVTX) != 0)
		dir.mode &= ~(mode_t)(S_IWGRP | S_IWOTH);
	return trust_is_good(trust_inode(&dir, d->place.state_fd));
}

bool holdings_entry_matches(const struct destination *d, const struct journal *j, int dir_fd,
	const struct journal_entry *e, const char *name)
{
	struct inode now;

	if (!j->renumbered)
		return is_same_entry(dir_fd, e, name);
	return !e->gone && inode_stat(dir_fd, name, &now) == 0 &&
	       (now.mode & S_IFMT) == (e->inode.mode & S_IFMT) && names_are_safe(d, dir_fd) &&
	       entry_is_safe(d, dir_fd, name);
}

/* Whether the file system of fd may give a file another number when it was dropped from the cache
 * and is looked up again: most file systems in user space, SMB, 9p (gVisor, virtual machines),
 * FAT. */
static bool numbers_change(int fd)
{
	static const unsigned long types[] = {FUSE_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
		SMB_SUPER_MAGIC, V9FS_MAGIC, MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC};
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if ((unsigned long)fs.f_type == types[i])
			return true;
	return false;
}

/* A file system that does not keep its numbers may nevertheless have kept that of the state
 * directory. Then an entry with another number shows it. */
static void detect_renumbering(struct journal *j, int dir_fd, const char *whole)
{
	struct journal_entry e;
	struct inode now;

	if (j->renumbered || !numbers_change(dir_fd))
		return;
	while (!j->renumbered && journal_next(j, &e) > 0) {
		const char *name = whole != NULL ? whole : e.name;

		j->renumbered = !e.gone && inode_stat(dir_fd, name, &now) == 0 &&
				!is_same_entry(dir_fd, &e, name);
	}
	journal_rewind(j);
}

static struct record *take_record(struct journal *j)
{
	return take_ptr(&j->record);
}

/* A link into a node cache whose tree was removed holds nothing. */
static bool link_resolves(const struct destination *d, const struct journal_entry *e)
{
	return !S_ISLNK(e->inode.mode) ||
	       faccessat(d->place.parent_fd, d->place.name, F_OK, 0) == 0;
}

/* Whether DEST has records of its own, because it was also staged into as a mount point, for
 * example of a subPath. Then the record of DEST as a whole is not everything that is known about
 * it. */
static bool has_own_records(const struct destination *d)
{
	_close_ int fd = -1;

	return destination_open_directory(d, &fd, NULL) == 0 && packed_is_one(fd, STATE_NAME);
}

/* For entries that users other than this one and root can write: j's record stays sound only if
 * nothing in them has changed. */
static void check_exposed(const struct destination *d, struct journal *j)
{
	struct survey s;

	replace_survey_init(&s, d, &j->marks, j->record);
	replace_survey_journal(&s, j);
	if (s.changed != NULL || s.partial)
		j->record->condition = RECORD_TOUCHED;
	replace_survey_done(&s);
}

struct journal *holdings_open(struct destination *d)
{
	struct journal_entry e;
	struct journal *j;

	if (d->place.inside || journal_open(d->place.state_fd, WHOLE_FILE, &j) < 0)
		return NULL;
	detect_renumbering(j, d->place.parent_fd, d->place.name);
	if (j->kind == PUBLISH_WHOLE && journal_next(j, &e) > 0 &&
		holdings_entry_matches(d, j, d->place.parent_fd, &e, d->place.name) &&
		link_resolves(d, &e)) {
		journal_rewind(j);
		crash_check_record(d, j, WHOLE_FILE);
		if (!entry_is_safe(d, d->place.parent_fd, d->place.name))
			check_exposed(d, j);
		if (has_own_records(d))
			j->record->condition = RECORD_TOUCHED;
		journal_rewind(j);
		return j;
	}
	journal_close(j);
	return NULL;
}

struct record *holdings_whole(struct destination *d)
{
	struct journal *j = holdings_open(d);
	struct record *record = j != NULL ? take_record(j) : NULL;

	journal_close(j);
	return record != NULL || d->place.inside ? record : crash_check_lost_record(d);
}

static struct journal *take_if_merge(struct journal *j)
{
	if (j->kind == PUBLISH_MERGE)
		return j;
	journal_close(j);
	return NULL;
}

static struct journal *open_merged(const struct destination *d, const char *file)
{
	_free_ char *path = text_format(MERGED_DIR "/%s", file);
	struct journal *j = NULL;

	return journal_open(d->place.state_fd, path, &j) < 0 ? NULL : take_if_merge(j);
}

static struct journal *open_packed(const struct packed_records *p, const char *key)
{
	struct journal *j = NULL;

	return packed_open(p, key, &j) < 0 ? NULL : take_if_merge(j);
}

struct journal *holdings_merged(const struct destination *d, const char *key)
{
	_free_ char *file = text_format("%s.json", key);
	struct journal *j;

	assert(strchr(key, '/') == NULL);
	j = open_merged(d, file);
	return j != NULL ? j : open_packed(&d->place.packed, key);
}

/* A record without entries holds nothing. */
static bool all_entries_match(const struct destination *d, struct journal *j, int dest_fd)
{
	struct journal_entry e;
	uint64_t n = 0;

	for (; journal_next(j, &e) > 0; n++)
		if (!e.gone && !holdings_entry_matches(d, j, dest_fd, &e, e.name))
			return false;
	return n > 0;
}

static bool merged_is_safe(const struct destination *d, struct journal *j, int dest_fd)
{
	struct journal_entry e;

	journal_rewind(j);
	while (journal_next(j, &e) > 0)
		if (!e.gone && !entry_is_safe(d, dest_fd, e.name))
			return false;
	return true;
}

bool holdings_any_entry_left(struct journal *j, int dest_fd)
{
	struct journal_entry e;

	while (journal_next(j, &e) > 0)
		if (is_same_entry(dest_fd, &e, e.name))
			return true;
	return false;
}

static struct record *take_merged(struct destination *d, struct journal *j, int dest_fd)
{
	_free_ char *name = text_format(MERGED_DIR "/%s.json", j->record->key);
	bool safe = merged_is_safe(d, j, dest_fd);

	journal_rewind(j);
	crash_check_record(d, j, name);
	if (!safe)
		check_exposed(d, j);
	return take_record(j);
}

/* The record of key, in whatever condition; NULL if an entry of it is missing or replaced. */
static struct record *find_record(struct destination *d, const char *key)
{
	struct record *record = holdings_whole(d);
	_close_ int dest_fd = -1;
	struct journal *j;

	if (record != NULL && strcmp(record->key, key) == 0)
		return record;
	publish_record_free(record);
	if (destination_open_directory(d, &dest_fd, NULL) < 0)
		return NULL;
	j = holdings_merged(d, key);
	/* A record of root counts as warm as one of this user does. */
	if (j == NULL)
		j = open_packed(&d->place.roots, key);
	record = j != NULL && all_entries_match(d, j, dest_fd) ? take_merged(d, j, dest_fd) : NULL;
	journal_close(j);
	return record;
}

/* The target of a link into a node cache belongs to the cache, and is not surveyed. */
static bool has_changed(struct destination *d, const char *key)
{
	_free_ char *link = link_read_target(d->place.parent_fd, d->place.name);
	struct journal *j = link == NULL ? holdings_open(d) : NULL;
	struct survey s;
	bool changed;

	if (j != NULL && strcmp(j->record->key, key) != 0) {
		journal_close(j);
		j = NULL;
	}
	if (j == NULL && link == NULL)
		j = holdings_merged(d, key);
	if (j == NULL)
		return false;
	replace_survey_init(&s, d, &j->marks, j->record);
	replace_survey_journal(&s, j);
	changed = s.changed != NULL || s.partial ||
		  (j->record->sum.known && !replace_survey_fits(&s, &s.every, &j->record->sum));
	replace_survey_done(&s);
	journal_close(j);
	return changed;
}

struct record *holdings_sound(struct destination *d, const char *key)
{
	struct record *record = find_record(d, key);
	bool sound = record != NULL && record->condition == RECORD_SOUND;

	if (sound && d->opts.replace && d->opts.restore && d->lock_fd >= 0)
		sound = !has_changed(d, key);
	if (record == NULL || sound)
		return record;
	publish_record_free(record);
	return NULL;
}

void holdings_list(const struct destination *d, struct holdings_list *l)
{
	*l = (struct holdings_list){.dir = publish_listing_open(d->place.state_fd, MERGED_DIR)};
}

void holdings_list_done(struct holdings_list *l)
{
	if (l->dir != NULL)
		closedir(l->dir);
	l->dir = NULL;
}

/* A packed record is void if a file of its own has a newer one. */
static bool is_superseded(const struct destination *d, const char *key)
{
	_free_ char *file = text_format("%s.json", key);
	struct journal *j = open_merged(d, file);
	bool is = j != NULL;

	journal_close(j);
	return is;
}

struct journal *holdings_next(const struct destination *d, struct holdings_list *l)
{
	struct journal *j = NULL;
	const char *file;

	while (j == NULL && l->dir != NULL && (file = publish_listing_next(l->dir)) != NULL)
		j = open_merged(d, file);
	while (j == NULL && l->packed < d->place.packed.n) {
		const char *key = d->place.packed.v[l->packed++].key;

		j = is_superseded(d, key) ? NULL : open_packed(&d->place.packed, key);
	}
	return j;
}

typedef bool (*satisfies_fn)(
	const struct destination *d, struct journal *j, int dest_fd, const char *name);

/* Returns the record of the first merge journal that satisfies the condition. */
static struct record *find_merged(
	const struct destination *d, const char *name, satisfies_fn satisfies)
{
	_close_ int dest_fd = -1;
	struct holdings_list list;
	struct record *found = NULL;
	struct journal *j;

	if (destination_open_directory(d, &dest_fd, NULL) < 0)
		return NULL;
	holdings_list(d, &list);
	while (found == NULL && (j = holdings_next(d, &list)) != NULL) {
		if (satisfies(d, j, dest_fd, name))
			found = take_record(j);
		journal_close(j);
	}
	holdings_list_done(&list);
	return found;
}

static bool owns_name(const struct destination *d, struct journal *j, int dest_fd, const char *name)
{
	struct journal_entry e;

	while (journal_next(j, &e) > 0)
		if (!e.gone && strcmp(e.name, name) == 0)
			return holdings_entry_matches(d, j, dest_fd, &e, name);
	return false;
}

struct record *holdings_owner(const struct destination *d, const char *name)
{
	return find_merged(d, name, owns_name);
}

static bool journal_holds_all(
	const struct destination *d, struct journal *j, int dest_fd, const char *name)
{
	(void)name;
	return all_entries_match(d, j, dest_fd);
}

bool holdings_any(struct destination *d)
{
	struct record *record = holdings_whole(d);

	if (record == NULL)
		record = find_merged(d, NULL, journal_holds_all);
	publish_record_free(record);
	return record != NULL;
}

static void renumber_merged(struct destination *d)
{
	_close_ int dest_fd = -1;
	struct holdings_list list;
	struct journal *j;

	if (destination_open_directory(d, &dest_fd, NULL) < 0)
		return;
	holdings_list(d, &list);
	while ((j = holdings_next(d, &list)) != NULL) {
		_free_ char *name = text_format(MERGED_DIR "/%s.json", j->record->key);

		detect_renumbering(j, dest_fd, NULL);
		if (j->renumbered)
			crash_check_record(d, j, name);
		journal_close(j);
	}
	holdings_list_done(&list);
}

void holdings_renumber(struct destination *d)
{
	struct journal *j = holdings_open(d); /* renumbers it */

	journal_close(j);
	renumber_merged(d);
}
