/* SPDX-License-Identifier: MIT */
/* Remembers the exact names of entries on file systems that fold names, as a hash table of their
 * hashes. Any thread. */
#include "defer.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* A name that no entry may have. The letter is an e with an acute accent, as one code point and as
 * two. */
#define PROBE       STATE_NAME "-Probe"
#define ACUTE       "\xc3\xa9"
#define ACUTE_PARTS "e\xcc\x81"

struct names {
	pthread_mutex_t mutex;
	/* Under mutex. */
	uint64_t *hashes; /* 0: a free slot; a power of two of slots, at most half of them used */
	size_t n, room;
	struct spool spool; /* the names, in list 0 */
	bool is_read;       /* the spool was read, and accepts no more names */
};

static bool is_there(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool create_probe(int dir_fd, const char *name)
{
	_close_ int fd = -1;

	(void)!unlinkat(dir_fd, name, 0); /* left by a run that was killed during this test */
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd >= 0;
}

/* Whether the file system folds names. Some remove dots from the end of a name; some refuse names
 * that are not ASCII, so there is a second set of names. */
static bool folds_names(int dir_fd)
{
	static const char *const all[] = {PROBE ACUTE, PROBE};
	static const char *const others[][3] = {
		{STATE_NAME "-probe" ACUTE, PROBE ACUTE_PARTS, PROBE ACUTE "."},
		{STATE_NAME "-probe", PROBE ".", PROBE "."},
	};
	bool found = false;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (!create_probe(dir_fd, all[i]))
			continue;
		for (size_t k = 0; k < ARRAY_LEN(others[i]); k++)
			found |= is_there(dir_fd, others[i][k]);
		(void)!unlinkat(dir_fd, all[i], 0);
		break;
	}
	return found;
}

int names_new(int root_fd, int scratch_fd, struct names **ret, struct error *err)
{
	struct names *n;
	int code;

	*ret = NULL;
	if (!folds_names(root_fd))
		return 0;
	n = zalloc(sizeof(*n));
	code = spool_init(&n->spool, scratch_fd, err);
	if (code < 0) {
		spool_done(&n->spool);
		free(n);
		return code;
	}
	pthread_mutex_init(&n->mutex, NULL);
	n->room = 1024;
	n->hashes = zalloc(n->room * sizeof(*n->hashes));
	*ret = n;
	return 0;
}

void names_free(struct names *n)
{
	if (n == NULL)
		return;
	spool_done(&n->spool);
	pthread_mutex_destroy(&n->mutex);
	free(n->hashes);
	free(n);
}

void names_lock(struct names *n)
{
	if (n != NULL)
		pthread_mutex_lock(&n->mutex);
}

void names_unlock(struct names *n)
{
	if (n != NULL)
		pthread_mutex_unlock(&n->mutex);
}

/* FNV-1a, with its upper bits mixed into the lowest ones, which select the slot. Never 0. */
static uint64_t hash_of(const char *path, size_t len)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)path[i]) * 0x100000001b3;
	h ^= h >> 32;
	return h != 0 ? h : 1;
}

/* The slot that h is in, or the free one to put it in. */
static uint64_t *slot_of(const struct names *n, uint64_t h)
{
	size_t i = h & (n->room - 1);

	while (n->hashes[i] != 0 && n->hashes[i] != h)
		i = (i + 1) & (n->room - 1);
	return &n->hashes[i];
}

static void grow(struct names *n)
{
	struct names more = {.room = 2 * n->room};

	more.hashes = zalloc(more.room * sizeof(*more.hashes));
	for (size_t i = 0; i < n->room; i++)
		if (n->hashes[i] != 0)
			*slot_of(&more, n->hashes[i]) = n->hashes[i];
	free(n->hashes);
	n->hashes = more.hashes;
	n->room = more.room;
}

/* Spools a name. Only an error message needs it, so a failure is ignored. */
static void spool_name(struct names *n, const char *path, size_t len)
{
	char end[] = "";
	const struct iovec parts[] = {{(char *)path, len}, {end, sizeof(end)}};

	(void)spool_add(&n->spool, 0, parts, NULL);
}

void names_add_locked(struct names *n, const char *path, size_t len)
{
	uint64_t *slot, h = hash_of(path, len);

	if (n == NULL)
		return;
	slot = slot_of(n, h);
	if (*slot == h)
		return;
	*slot = h;
	if (!n->is_read)
		spool_name(n, path, len);
	if (++n->n > n->room / 2)
		grow(n);
}

bool names_is_other_locked(const struct names *n, const char *path, size_t len)
{
	return n != NULL && *slot_of(n, hash_of(path, len)) == 0;
}

struct name_search {
	const struct tree *tree;
	const char *mine;
	struct stat st; /* of the file found at mine */
	char *found;
};

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_mode == b->st_mode && a->st_size == b->st_size &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Two names that differ by more than the case of ASCII letters are the same if both lead to the
 * same file. */
static int compare_record(void *ctx, const void *record, size_t len, struct error *err)
{
	struct name_search *s = ctx;
	const char *other = record;
	size_t parent = tree_path_parent_len(s->mine);
	struct stat st;

	(void)len, (void)err;
	if (tree_path_parent_len(other) != parent || memcmp(other, s->mine, parent) != 0)
		return 0;
	if (strcasecmp(other, s->mine) != 0 &&
		(fstatat(s->tree->root_fd, other, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!is_same(&st, &s->st)))
		return 0;
	free(s->found);
	s->found = text_copy(other);
	return strcasecmp(other, s->mine) == 0;
}

/* Returns the name under which the file at mine was created, or NULL if that is not known. The
 * caller frees it. */
static char *find_other(const struct tree *t, const char *mine)
{
	struct name_search s = {.tree = t, .mine = mine};

	if (t->names == NULL || fstatat(t->root_fd, mine, &s.st, AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	t->names->is_read = true;
	(void)spool_each(&t->names->spool, 0, NULL, compare_record, &s, NULL);
	return s.found;
}

int names_refuse_locked(const struct tree *t, const char *path, size_t len, struct error *err)
{
	_free_ char *mine = text_format("%.*s", (int)len, path);
	_free_ char *other = find_other(t, mine);

	if (other == NULL)
		return tree_entry_refused(err, mine,
			"another entry has this name, or one that is the same to the destination's file system");
	return tree_entry_refused(err, mine,
		"the destination's file system takes it and '%.300s' for one name (it does not tell upper from lower case, or two Unicode forms of a letter); exclude one of them, or stage onto another file system",
		other);
}

int names_refuse(const struct tree *t, const char *path, size_t len, struct error *err)
{
	int code;

	names_lock(t->names);
	code = names_refuse_locked(t, path, len, err);
	names_unlock(t->names);
	return code;
}
