/* SPDX-License-Identifier: MIT */
/* Which records still tell the truth. Worker threads. A record is believed only while every entry
 * it names is the very file that was published; it is never mended. */
#include "defer.h"
#include "destination.h"
#include "listing.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static bool entry_holds(int dir_fd, const struct journal_entry *e, const char *name)
{
	struct inode now;

	return inode_look(dir_fd, name, &now) == 0 && inode_same(&now, &e->inode);
}

static struct record *take_record(struct journal *j)
{
	return take_ptr(&j->record);
}

/* A link into a node cache whose tree is no longer there holds nothing. */
static bool leads_somewhere(const struct destination *d, const struct journal_entry *e)
{
	return !S_ISLNK(e->inode.mode) ||
	       faccessat(d->place.parent_fd, d->place.name, F_OK, 0) == 0;
}

struct record *holdings_whole(const struct destination *d)
{
	struct record *record = NULL;
	struct journal_entry e;
	struct journal *j;

	if (d->place.inside)
		return NULL;
	if (journal_open(d->place.state_fd, WHOLE_FILE, &j) < 0)
		return doubt_lost(d);
	if (j->kind == PUBLISH_WHOLE && journal_next(j, &e) > 0 &&
		entry_holds(d->place.parent_fd, &e, d->place.name) && leads_somewhere(d, &e)) {
		journal_rewind(j);
		doubt(d, j, WHOLE_FILE);
		record = take_record(j);
	}
	journal_close(j);
	return record != NULL ? record : doubt_lost(d);
}

static struct journal *open_merged(const struct destination *d, const char *file)
{
	_free_ char *path = format_text(MERGED_DIR "/%s", file);
	struct journal *j = NULL;

	if (journal_open(d->place.state_fd, path, &j) < 0)
		return NULL;
	if (j->kind == PUBLISH_MERGE)
		return j;
	journal_close(j);
	return NULL;
}

static struct journal *open_merged_key(const struct destination *d, const char *key)
{
	_free_ char *file = format_text("%s.json", key);

	assert(strchr(key, '/') == NULL);
	return open_merged(d, file);
}

static bool merged_holds(struct journal *j, int dest_fd)
{
	struct journal_entry e;

	while (journal_next(j, &e) > 0)
		if (!entry_holds(dest_fd, &e, e.name))
			return false;
	return true;
}

static struct record *take_merged(const struct destination *d, struct journal *j)
{
	_free_ char *name = format_text(MERGED_DIR "/%s.json", j->record->key);

	journal_rewind(j);
	doubt(d, j, name);
	return take_record(j);
}

struct record *holdings_find(const struct destination *d, const char *key)
{
	struct record *record = holdings_whole(d);
	_close_ int dest_fd = -1;
	struct journal *j;

	if (record != NULL && strcmp(record->key, key) == 0)
		return record;
	record_free(record);
	if (dest_open(d, &dest_fd, NULL) < 0)
		return NULL;
	j = open_merged_key(d, key);
	record = j != NULL && merged_holds(j, dest_fd) ? take_merged(d, j) : NULL;
	journal_close(j);
	return record;
}

struct record *holdings_sound(const struct destination *d, const char *key)
{
	struct record *record = holdings_find(d, key);

	if (record == NULL || record->doubt == RECORD_SOUND)
		return record;
	record_free(record);
	return NULL;
}

/* The record of the first journal among the merged ones that satisfies. */
static struct record *find_merged(const struct destination *d, const char *name,
	bool (*satisfies)(struct journal *j, int dest_fd, const char *name))
{
	_close_ int dest_fd = -1;
	_closedir_ DIR *dir = listing_open(d->place.state_fd, MERGED_DIR);
	struct record *found = NULL;
	const char *file;

	if (dir == NULL || dest_open(d, &dest_fd, NULL) < 0)
		return NULL;
	while (found == NULL && (file = listing_next(dir)) != NULL) {
		struct journal *j = open_merged(d, file);

		if (j != NULL && satisfies(j, dest_fd, name))
			found = take_record(j);
		journal_close(j);
	}
	return found;
}

static bool owns(struct journal *j, int dest_fd, const char *name)
{
	struct journal_entry e;

	while (journal_next(j, &e) > 0)
		if (strcmp(e.name, name) == 0)
			return entry_holds(dest_fd, &e, name);
	return false;
}

struct record *holdings_owner(const struct destination *d, const char *name)
{
	return find_merged(d, name, owns);
}

static bool holds(struct journal *j, int dest_fd, const char *name)
{
	(void)name;
	return merged_holds(j, dest_fd);
}

bool holdings_any(const struct destination *d)
{
	struct record *record = holdings_whole(d);

	if (record == NULL)
		record = find_merged(d, NULL, holds);
	record_free(record);
	return record != NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void holdings_names(const struct destination *d, const char *key, struct strings *ret)
{
	struct journal *j = open_merged_key(d, key);
	struct journal_entry e;

	while (j != NULL && journal_next(j, &e) > 0)
		strings_add(ret, e.name);
	journal_close(j);
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
}
