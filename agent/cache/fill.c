/* SPDX-License-Identifier: MIT */
/* Filling an entry. The stage's thread calls the functions of cache.h; meanwhile a thread of its
 * own writes the progress to KEY/filling, for agents that wait, and makes more room when the
 * reserved room is nearly used. */
#include "cache_private.h"
#include "defer.h"
#include "disk.h"
#include "log.h"
#include "thread.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define TICK_MS    200
#define TEXT_BYTES 320

/* A rough estimate of the bytes that the file system needs for each file besides its content. */
#define ENTRY_BYTES 2048

/* Room is reserved in steps, ahead of the bytes that are written. */
#define STEP_BYTES ((uint64_t)64 << 20)

struct filling {
	/* Set at creation. */
	struct cache_room room;
	char key[CACHE_KEY_LEN + 1];
	const char *what;
	const struct progress *progress;
	size_t n;
	int fd;
	char who[160];
	pthread_t thread;
	bool started;

	/* Under mutex. */
	pthread_mutex_t mutex;
	pthread_cond_t ended;
	bool stop;

	/* The thread that calls evict_for(): first the stage's, then this one. */
	uint64_t reserved; /* bytes */
	bool over;         /* there is no more room, and the warning was logged */
};

int fill_read(int key_fd, struct filling_state *ret)
{
	_close_ int fd = inventory_open_file(key_fd, FILLING_NAME, O_RDONLY);
	char text[TEXT_BYTES] = {0};

	*ret = (struct filling_state){0};
	if (fd < 0)
		return fd;
	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		return -errno;
	return sscanf(text, /* NOLINT(cert-err34-c) */
		       "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %159[^\n]",
		       &ret->received, &ret->total, &ret->expanded, &ret->entries, &ret->reserved,
		       ret->who) == 6
		       ? 0
		       : -ENOENT;
}

static struct filling_state sum_progress(const struct filling *f)
{
	struct filling_state s = {.reserved = f->reserved};

	for (size_t i = 0; i < f->n; i++) {
		s.received += counted(&f->progress[i].received);
		s.total += counted(&f->progress[i].total);
		s.expanded += counted(&f->progress[i].expanded);
		s.entries += counted(&f->progress[i].entries);
	}
	return s;
}

/* One write of constant length, so that a reader sees this state or the previous one. */
static int write_state(const struct filling *f)
{
	struct filling_state s = sum_progress(f);
	char text[TEXT_BYTES] = {0};
	ssize_t written;
	int n = snprintf(text, sizeof(text),
		"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", s.received,
		s.total, s.expanded, s.entries, s.reserved, f->who);

	if (n <= 0)
		return -EINVAL;
	written = pwrite(f->fd, text, sizeof(text), 0);
	if (written < 0)
		return -errno;
	return written == sizeof(text) ? 0 : -ENOSPC;
}

static int record_reservation(void *ctx, uint64_t bytes)
{
	struct filling *f = ctx;

	f->reserved = bytes;
	return write_state(f);
}

static uint64_t reserve_step(const struct filling *f)
{
	uint64_t max_size = f->room.cache->max_size, sixteenth = max_size / 16;

	return max_size > 0 && sixteenth < STEP_BYTES ? sixteenth : STEP_BYTES;
}

static void make_more_room(struct filling *f)
{
	struct filling_state s = sum_progress(f);
	uint64_t have = s.expanded + s.entries * ENTRY_BYTES, step = reserve_step(f);
	struct error why;
	int code;

	if (f->over || have + step / 2 <= f->reserved)
		return;
	code = evict_for(&f->room, have + have / 4 + step, &why);
	if (code == 0 || code == -ECANCELED)
		return;
	f->over = true;
	log_warn("%s goes beyond what the node cache has room for: %s", f->what, why.msg);
}

static bool sleep_or_stop(struct filling *f)
{
	struct timespec until;
	bool stop;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TICK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&f->mutex);
	if (!f->stop)
		pthread_cond_timedwait(&f->ended, &f->mutex, &until);
	stop = f->stop;
	pthread_mutex_unlock(&f->mutex);
	return stop;
}

static void *thread_main(void *ctx)
{
	struct filling *f = ctx;

	while (!sleep_or_stop(f)) {
		(void)write_state(f);
		make_more_room(f);
	}
	return NULL;
}

static void filling_free(struct filling *f)
{
	if (f->fd >= 0)
		close(f->fd);
	pthread_cond_destroy(&f->ended);
	pthread_mutex_destroy(&f->mutex);
	free(f);
}

static struct filling *filling_new(
	const struct cache_entry *e, const struct progress *progress, size_t n)
{
	struct filling *f = zalloc(sizeof(*f));
	char host[64] = "this node", date[32] = "";
	time_t now = time(NULL);
	struct tm tm;

	*f = (struct filling){.what = e->what, .progress = progress, .n = n};
	snprintf(f->key, sizeof(f->key), "%s", e->key);
	f->room = (struct cache_room){.cache = e->cache,
		.key = f->key,
		.cancel = e->cancel,
		.reserve = record_reservation,
		.ctx = f};
	(void)gethostname(host, sizeof(host) - 1);
	if (gmtime_r(&now, &tm) != NULL)
		strftime(date, sizeof(date), ", since %Y-%m-%d %H:%M:%S UTC", &tm);
	snprintf(f->who, sizeof(f->who), "process %ld on %s%s", (long)getpid(), host, date);
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->ended, NULL);
	f->fd = inventory_open_file(e->key_fd, FILLING_NAME, O_WRONLY | O_CREAT);
	return f;
}

static int filling_start(struct cache_entry *e, uint64_t bytes, const struct progress *progress,
	size_t n, struct error *err)
{
	struct filling *f = filling_new(e, progress, n);
	int code = f->fd < 0 ? tree_disk_error(err, -f->fd, e->key_fd, "make", FILLING_NAME)
			     : evict_for(&f->room, bytes, err);

	if (code < 0) {
		filling_free(f);
		return code;
	}
	f->started = thread_start_extra(&f->thread, thread_main, f);
	e->filling = f;
	return 0;
}

void fill_stop(struct cache_entry *e, bool ok)
{
	struct filling *f = take_ptr(&e->filling);

	if (f == NULL)
		return;
	pthread_mutex_lock(&f->mutex);
	f->stop = true;
	pthread_cond_signal(&f->ended);
	pthread_mutex_unlock(&f->mutex);
	if (f->started)
		pthread_join(f->thread, NULL);
	if (ok)
		unlinkat(e->key_fd, FILLING_NAME, 0);
	filling_free(f);
}

/* The stage's thread. */

int cache_fill_begin(struct cache_entry *e, uint64_t bytes, const struct progress *progress,
	size_t n, struct error *err)
{
	return filling_start(e, bytes, progress, n, err);
}

struct destination *cache_fill_destination(struct cache_entry *e)
{
	return e->to;
}

/* The names of the record's sources, as one line without control characters. */
static void describe(const struct record *record, char *buf, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < record->n_sources && at < size; i++)
		at += (size_t)snprintf(
			buf + at, size - at, "%s%s", i > 0 ? ", " : "", record->sources[i].name);
	for (char *p = buf; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = '?';
}

/* Sets the mtime of fd; *mtime becomes the time as the file system stores it, which may be less
 * exact. */
static void set_time(int fd, struct timespec *mtime)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, *mtime};
	struct stat st;

	if (futimens(fd, times) == 0 && fstat(fd, &st) == 0)
		*mtime = st.st_mtim;
}

/* Stores the archive's metadata of the root in head; *root becomes the metadata of the root in the
 * entry, which the publisher applies. */
static void describe_root(int root_fd, struct meta *root, struct inventory_head *head)
{
	struct stat st;

	head->root_mode = root->mode;
	head->root_sec = root->mtime.tv_sec;
	head->root_nsec = root->mtime.tv_nsec;
	head->root_uid = root->uid;
	head->root_gid = root->gid;
	if (root->mode == (mode_t)-1) {
		root->mode = umask_apply(0755);
		if (fstat(root_fd, &st) == 0)
			root->mtime = st.st_mtim;
	}
	root->mode = inventory_mode(S_IFDIR | root->mode);
	set_time(root_fd, &root->mtime);
	head->top = root->mtime;
}

int cache_fill_seal(struct cache_entry *e, int root_fd, struct meta *root,
	const struct record *record, struct error *err)
{
	struct inventory_head head = {.made = record->staged_at};
	int code;

	describe(record, head.what, sizeof(head.what));
	describe_root(root_fd, root, &head);
	code = inventory_make(e->key_fd, root_fd, &head, e->cancel, err);
	if (code < 0)
		return code;
	/* After a crash an entry that has a record must be complete, so its bytes are written to
	 * the disk before the record. */
	if (disk_sync_all(root_fd) != 0)
		return tree_disk_error(err, errno, root_fd, "write to the disk:", e->path);
	return 0;
}

int cache_fill_end(struct cache_entry *e, bool ok, struct error *err)
{
	int code;

	fill_stop(e, ok);
	if (!ok)
		return 0;
	destination_close(take_ptr(&e->to), false);
	code = entry_read_record(e, err);
	if (code == 0 && e->record == NULL)
		code = error_set(err, -EIO, "what was staged into %s is not there", e->path);
	return code;
}
