/* SPDX-License-Identifier: MIT */
/* Finding an entry, or the right to fill it. Worker threads. Who has it open has its use lock, so that it is not
 * evicted; who fills it has the lock of its destination, too. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_TRIES  3
#define KEY_DIGITS 32
#define TELL_MS    5000

int entry_damaged(struct error *err, const char *fmt, ...)
{
	char buf[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return error_set(err, -ESTALE, "%s", buf);
}

/* Waiting for whoever fills it. */

struct waiting {
	struct cache_entry *entry;
	struct progress *progress;
	uint64_t told_ns;
};

static void show_in_line(struct progress *p, const struct filling_state *s)
{
	if (p == NULL)
		return;
	atomic_store(&p->total, s->total);
	atomic_store(&p->received, s->received);
	atomic_store(&p->expanded, s->expanded);
	atomic_store(&p->entries, s->entries);
}

static void on_wait(void *ctx)
{
	struct waiting *w = ctx;
	struct filling_state state;
	uint64_t now = now_ns();
	char have[32], all[32];

	if (!filling_read(w->entry->key_fd, &state))
		state = (struct filling_state){.who = "another agent"};
	show_in_line(w->progress, &state);
	if (w->told_ns != 0 && now - w->told_ns < (uint64_t)TELL_MS * 1000000)
		return;
	w->told_ns = now;
	if (state.total > 0)
		log_info("waiting for %s, which stages %s into the node cache: %s of %s", state.who,
			w->entry->what, print_size(state.received, have),
			print_size(state.total, all));
	else
		log_info("waiting for %s, which stages %s into the node cache", state.who,
			w->entry->what);
}

/* Opening. */

static bool has_tree(const struct cache_entry *e)
{
	return faccessat(e->key_fd, TREE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* 1: it is whole. 0: there is none. -ESTALE. */
static int look(struct cache_entry *e, struct error *err)
{
	record_free(e->record);
	e->record = destination_peek(e->path);
	if (e->record == NULL)
		return 0;
	return verify_spots(e->key_fd, err) < 0 ? -ESTALE : 1;
}

/* It has the destination's lock: nobody else fills it. An entry with a tree and no record is what a crash
 * of the machine left. */
static int look_again(struct cache_entry *e, struct error *err)
{
	int code = look(e, err);

	if (code == 0 && has_tree(e))
		code = entry_damaged(err, "nothing says what it holds");
	if (code != 0)
		destination_close(take_ptr(&e->to), false);
	return code;
}

static int lock_to_fill(struct cache_entry *e, const struct cache_wish *wish, struct error *err)
{
	struct waiting waiting = {.entry = e, .progress = wish->progress};
	const struct destination_options opts = {
		.cancel = wish->cancel, .on_wait = on_wait, .on_wait_ctx = &waiting};
	int code = destination_open(e->path, &opts, &e->to, err);

	return code < 0 ? code : look_again(e, err);
}

static void touch(const struct cache_entry *e)
{
	(void)!futimens(e->use_fd, NULL);
}

static struct cache_entry *entry_new(struct cache *c, const struct cache_wish *wish)
{
	struct cache_entry *e = zalloc(sizeof(*e));

	*e = (struct cache_entry){.cache = c,
		.what = copy_text(wish->what),
		.cancel = wish->cancel,
		.key_fd = -1,
		.use_fd = -1};
	snprintf(e->key, sizeof(e->key), "%.*s-%.*s", KEY_DIGITS, wish->asked, KEY_DIGITS,
		wish->version);
	e->path = format_text("%s/v1/%s/" TREE_NAME, c->dir, e->key);
	return e;
}

/* Returns 0, or -ESTALE when it is damaged. */
static int try_open(
	struct cache *c, const struct cache_wish *wish, struct cache_entry **ret, struct error *err)
{
	struct cache_entry *e = entry_new(c, wish);
	struct use use = {-1, -1};
	int code = use_take(c, e->key, true, wish->cancel, &use, err);

	e->key_fd = use.key_fd;
	e->use_fd = use.fd;
	if (code == 0) {
		touch(e);
		code = look(e, err);
	}
	if (code == 0)
		code = lock_to_fill(e, wish, err);
	*ret = e;
	return code > 0 ? 0 : code;
}

int cache_entry_open(
	struct cache *c, const struct cache_wish *wish, struct cache_entry **ret, struct error *err)
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
	record_free(e->record);
	free(e->what);
	free(e->path);
	free(e);
}

void cache_entry_close(struct cache_entry *e, bool keep, bool leave_tree)
{
	if (e == NULL)
		return;
	filling_stop(e, false);
	destination_close(e->to, leave_tree);
	if (e->use_fd >= 0 && keep)
		use_keep(e->cache, e->use_fd);
	else if (e->use_fd >= 0)
		close(e->use_fd);
	entry_free(e);
}

bool cache_entry_discard(struct cache_entry *e)
{
	struct cache *c = e->cache;
	struct cancel *cancel = e->cancel;
	char key[sizeof(e->key)];
	int fd, code;

	memcpy(key, e->key, sizeof(key));
	cache_entry_close(e, false, false);
	fd = use_take_alone(c, key);
	if (fd < 0)
		return fd == -ENOENT;
	code = evict_alone(c, key, fd, cancel, NULL);
	return code == 0 || code == -ECANCELED; /* it has its name no more */
}

const char *cache_entry_path(const struct cache_entry *e)
{
	return e->path;
}

/* Destinations that are the entry itself. */

static bool is_same_tree(const struct cache_entry *e, const char *path)
{
	struct stat tree, there;

	return stat(e->path, &tree) == 0 && stat(path, &there) == 0 &&
	       tree.st_ino == there.st_ino && tree.st_dev == there.st_dev;
}

bool cache_keep_shared(struct cache *c, const struct cache_wish *wish, const char *path, bool keep)
{
	struct cache_entry *e = entry_new(c, wish);
	struct use use;
	bool whole = true, mine;

	mine = is_same_tree(e, path);
	if (mine && use_take(c, e->key, false, wish->cancel, &use, NULL) == 0) {
		e->key_fd = use.key_fd;
		e->use_fd = use.fd;
		touch(e);
		whole = verify_spots(e->key_fd, NULL) == 0;
	} else {
		whole = !mine; /* evicted just now */
	}
	cache_entry_close(e, keep && whole, false);
	return whole;
}

static int64_t last_use(const struct cache *c, const char *key)
{
	_free_ char *path = format_text("%s/" USE_NAME, key);
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

		if (strncmp(d->d_name, asked, KEY_DIGITS) != 0 || !use_is_key(d->d_name))
			continue;
		used = last_use(c, d->d_name);
		if (used < newest)
			continue;
		newest = used;
		snprintf(key, sizeof(key), "%.*s", CACHE_KEY_LEN, d->d_name);
	}
	path = format_text("%s/v1/%s/" TREE_NAME, c->dir, key);
	return key[0] != '\0' ? destination_peek(path) : NULL;
}
