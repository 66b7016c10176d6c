/* SPDX-License-Identifier: MIT */
/* Finds an entry, or the right to fill it. Worker threads. An agent that has an entry open holds a
 * shared lock of its use file, so that it is not evicted; the agent that fills it also holds the
 * lock of its destination. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_TRIES 3
#define LOG_MS    5000

int entry_damaged(struct error *err, const char *fmt, ...)
{
	char buf[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return error_set(err, -ESTALE, "%s", buf);
}

int entry_access_failed(struct error *err, const char *path)
{
	switch (errno) {
	case ENOENT:
		return entry_damaged(err, "'%.300s' is missing", path);
	case ENOTDIR:
	case ELOOP:
	case EXDEV:
		return entry_damaged(err, "'%.300s' is not what it was", path);
	default:
		return error_set(err, -EIO, "cannot read '%.300s': %m", path);
	}
}

int entry_inventory_failed(int code, struct error *err)
{
	if (code == -ENOENT)
		return entry_damaged(err, "its inventory is missing");
	if (code == -ESTALE)
		return entry_damaged(err, "its inventory is damaged");
	return error_set(err, -EIO, "cannot read its inventory: %s",
		code == -EPERM ? "it is not a file of this user's" : strerrordesc_np(-code));
}

/* Waiting for the agent that fills an entry. */

struct waiting {
	struct cache_entry *entry;
	struct progress *progress;
	uint64_t began_ns, logged_ns; /* 0: not yet */
};

static void show_progress(struct progress *p, const struct filling_state *s)
{
	if (p == NULL)
		return;
	atomic_store(&p->total, s->total);
	atomic_store(&p->received, s->received);
	atomic_store(&p->expanded, s->expanded);
	atomic_store(&p->entries, s->entries);
}

static char *describe_amount(const struct filling_state *s)
{
	char have[32], all[32];

	return s->total == 0 ? text_copy("")
			     : text_format(": %s of %s", units_print_size(s->received, have),
				       units_print_size(s->total, all));
}

static void on_wait(void *ctx)
{
	struct waiting *w = ctx;
	struct filling_state state;
	uint64_t now = now_ns();
	_free_ char *amount = NULL;

	if (fill_read(w->entry->key_fd, &state) < 0)
		state = (struct filling_state){.who = "another agent"};
	show_progress(w->progress, &state);
	if (w->began_ns == 0)
		w->began_ns = now;
	if (w->logged_ns != 0 && now - w->logged_ns < (uint64_t)LOG_MS * 1000000)
		return;
	w->logged_ns = now;
	amount = describe_amount(&state);
	log_event(LOG_INFO, EVENT_STAGE_WAITS,
		(const struct log_field[]){log_field_text("source", w->entry->what),
			log_field_text("holder", state.who),
			log_field_ns("seconds", now - w->began_ns),
			log_field_integer("received_bytes", state.received),
			log_field_known("total_bytes", state.total)},
		5, "waiting for %s, which stages %s into the node cache%s", state.who,
		w->entry->what, amount);
}

/* Opening an entry. */

int entry_read_record(struct cache_entry *e, struct error *err)
{
	int code;

	publish_record_free(take_ptr(&e->record));
	code = destination_peek_in(e->key_fd, e->path, &e->record, err);
	return code < 0 ? error_prefix(err, "the record in the node cache") : 0;
}

/* Returns 1 if the entry is complete, 0 if it does not exist, -ESTALE if it is damaged; another
 * code: it cannot be read. */
static int check_entry(struct cache_entry *e, struct error *err)
{
	int code = entry_read_record(e, err);

	if (code < 0 || e->record == NULL)
		return code;
	code = verify_sample(e->key_fd, err);
	return code < 0 ? code : 1;
}

static int check_no_tree(const struct cache_entry *e, struct error *err)
{
	if (faccessat(e->key_fd, CACHE_TREE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return entry_damaged(err, "nothing says what it holds");
	return errno == ENOENT ? 0 : entry_access_failed(err, CACHE_TREE_NAME);
}

/* The caller holds the destination's lock, so no other agent fills the entry. An entry with a tree
 * but no record was left by a crash of the machine. */
static int check_locked(struct cache_entry *e, struct error *err)
{
	int code = check_entry(e, err);

	if (code == 0)
		code = check_no_tree(e, err);
	if (code != 0)
		destination_close(take_ptr(&e->to), false);
	return code;
}

static int lock_to_fill(struct cache_entry *e, const struct cache_request *wish, struct error *err)
{
	struct waiting waiting = {.entry = e, .progress = wish->progress};
	const struct destination_options opts = {.cancel = wish->cancel,
		.on_wait = on_wait,
		.on_wait_ctx = &waiting,
		.timeline = wish->timeline,
		.span = wish->span,
		.lock_ns = wish->lock_ns,
		.lock_limit = wish->lock_limit};
	int code = destination_open_in(e->key_fd, e->path, &opts, &e->to, err);

	return code < 0 ? code : check_locked(e, err);
}

static void touch(const struct cache_entry *e)
{
	(void)!futimens(e->use_fd, NULL);
}

static struct cache_entry *entry_new(struct cache *c, const struct cache_request *wish)
{
	struct cache_entry *e = zalloc(sizeof(*e));

	*e = (struct cache_entry){.cache = c,
		.what = text_copy(wish->what),
		.cancel = wish->cancel,
		.key_fd = -1,
		.use_fd = -1};
	snprintf(e->key, sizeof(e->key), "%.*s-%.*s", CACHE_KEY_DIGITS, wish->asked,
		CACHE_KEY_DIGITS, wish->version);
	e->path = text_format("%s/" CACHE_TREES_NAME "/%s/" CACHE_TREE_NAME, c->dir, e->key);
	return e;
}

/* Returns 0 with a complete entry or with one that is locked to be filled, or -ESTALE if the entry
 * is damaged. *ret is set also on failure. */
static int try_open(struct cache *c, const struct cache_request *wish, struct cache_entry **ret,
	struct error *err)
{
	struct cache_entry *e = entry_new(c, wish);
	struct use_lock use = {-1, -1};
	int code = cache_use_lock(c, e->key, true, wish->cancel, &use, err);

	e->key_fd = use.key_fd;
	e->use_fd = use.fd;
	if (code == 0) {
		touch(e);
		code = check_entry(e, err);
	}
	if (code == 0)
		code = lock_to_fill(e, wish, err);
	*ret = e;
	return code > 0 ? 0 : code;
}

int cache_entry_open(struct cache *c, const struct cache_request *wish, struct cache_entry **ret,
	struct error *err)
{
	struct cache_entry *e = NULL;
	int code = -ESTALE;

	for (int i = 0; i < MAX_TRIES && code == -ESTALE; i++) {
		code = try_open(c, wish, &e, err);
		if (code == 0) {
			*ret = e;
			return 0;
		}
		if (code == -ESTALE) {
			log_warn("the node cache's copy of %s is damaged: %s; it is fetched again",
				wish->what, err->msg);
			if (!cache_entry_discard(e))
				return error_set(err, -EBUSY,
					"the damaged copy in the node cache is in use");
		} else {
			cache_entry_close(e, false, cancel_requested(wish->cancel));
		}
	}
	return code;
}

const struct record *cache_entry_record(const struct cache_entry *e)
{
	return e->record;
}

static void entry_free(struct cache_entry *e)
{
	if (e->key_fd >= 0)
		close(e->key_fd);
	publish_record_free(e->record);
	free(e->what);
	free(e->path);
	free(e);
}

void cache_entry_close(struct cache_entry *e, bool keep, bool leave_tree)
{
	if (e == NULL)
		return;
	fill_stop(e, false);
	destination_close(e->to, leave_tree);
	if (e->use_fd >= 0 && keep)
		cache_use_hold(e->cache, e->use_fd);
	else if (e->use_fd >= 0)
		close(e->use_fd);
	entry_free(e);
}

bool cache_entry_discard(struct cache_entry *e)
{
	struct cache *c = e->cache;
	struct cancel *cancel = e->cancel;
	char key[sizeof(e->key)];
	struct use_lock lock;
	int code;

	memcpy(key, e->key, sizeof(key));
	cache_entry_close(e, false, false);
	code = cache_use_lock_exclusive(c, key, &lock, NULL);
	if (code < 0)
		return code == -ENOENT;
	code = evict_entry(c, key, &lock, cancel, NULL);
	return code == 0 || code == -ECANCELED; /* in both cases it was renamed away */
}

const char *cache_entry_path(const struct cache_entry *e)
{
	return e->path;
}

/* Destinations that are links to the tree of an entry, or mounts of it. */

static bool is_same_tree(const struct cache_entry *e, const char *path)
{
	struct stat tree, there;

	return stat(e->path, &tree) == 0 && stat(path, &there) == 0 &&
	       tree.st_ino == there.st_ino && tree.st_dev == there.st_dev;
}

bool cache_hold_shared(
	struct cache *c, const struct cache_request *wish, const char *path, bool keep)
{
	struct cache_entry *e = entry_new(c, wish);
	struct use_lock use;
	bool whole = true, mine;

	mine = is_same_tree(e, path);
	if (mine && cache_use_lock(c, e->key, false, wish->cancel, &use, NULL) == 0) {
		e->key_fd = use.key_fd;
		e->use_fd = use.fd;
		touch(e);
		whole = verify_sample(e->key_fd, NULL) == 0;
	} else {
		whole = !mine; /* mine: it was evicted just now */
	}
	cache_entry_close(e, keep && whole, false);
	return whole;
}

static int64_t last_use(const struct cache *c, const char *key)
{
	_free_ char *path = text_format("%s/" USE_NAME, key);
	struct stat st;

	return fstatat(c->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0
		       ? (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec
		       : 0;
}

struct record *cache_newest(const struct cache *c, const char *asked)
{
	_close_ int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	_free_ char *path = NULL;
	char key[CACHE_KEY_LEN + 1] = "";
	const struct dirent *d;
	int64_t newest = 0;

	if (dir != NULL)
		take_fd(&fd);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while (dir != NULL && (d = readdir(dir)) != NULL) {
		int64_t used;

		if (strncmp(d->d_name, asked, CACHE_KEY_DIGITS) != 0 || !cache_is_key(d->d_name))
			continue;
		used = last_use(c, d->d_name);
		if (used < newest)
			continue;
		newest = used;
		snprintf(key, sizeof(key), "%.*s", CACHE_KEY_LEN, d->d_name);
	}
	path = text_format("%s/" CACHE_TREES_NAME "/%s/" CACHE_TREE_NAME, c->dir, key);
	return key[0] != '\0' ? destination_peek(path) : NULL;
}
