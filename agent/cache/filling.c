/* SPDX-License-Identifier: MIT */
/* While an entry is filled: a thread of its own writes down how far it has come, for those who wait, and makes
 * more room when what was set aside will not do. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define TICK_MS 200

/* What the file system adds to each entry, roughly. */
#define ENTRY_BYTES 2048

/* Room is set aside in steps, ahead of what is written. */
#define STEP_BYTES ((uint64_t)64 << 20)

struct filling {
	/* Set at creation. */
	struct room room;
	char key[CACHE_KEY_LEN + 1];
	const char *what;
	const struct progress *progress;
	size_t n;
	int fd;
	char who[96];
	pthread_t thread;
	bool started;

	/* Under mutex. */
	pthread_mutex_t mutex;
	pthread_cond_t ended;
	bool stop;

	/* Whoever calls evict_for(): the creator, then the thread. */
	uint64_t reserved;
	bool over; /* there is no more room: said once */
};

bool filling_read(int key_fd, struct filling_state *ret)
{
	_close_ int fd = openat(key_fd, FILLING_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[256] = {0};

	*ret = (struct filling_state){0};
	return fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 &&
	       sscanf(text, /* NOLINT(cert-err34-c) */
		       "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %95[^\n]",
		       &ret->received, &ret->total, &ret->expanded, &ret->entries, &ret->reserved,
		       ret->who) == 6;
}

static struct filling_state sum_up(const struct filling *f)
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

/* One write of constant length: who reads it sees this state or the one before. */
static int write_down(const struct filling *f)
{
	struct filling_state s = sum_up(f);
	char text[256] = {0};
	int n = snprintf(text, sizeof(text),
		"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", s.received,
		s.total, s.expanded, s.entries, s.reserved, f->who);

	return n > 0 && pwrite(f->fd, text, sizeof(text), 0) == sizeof(text) ? 0 : -errno;
}

static int set_aside(void *ctx, uint64_t bytes)
{
	struct filling *f = ctx;

	f->reserved = bytes;
	return write_down(f);
}

static uint64_t step_of(const struct filling *f)
{
	uint64_t max_size = f->room.cache->max_size, sixteenth = max_size / 16;

	return max_size > 0 && sixteenth < STEP_BYTES ? sixteenth : STEP_BYTES;
}

static void make_more_room(struct filling *f)
{
	struct filling_state s = sum_up(f);
	uint64_t have = s.expanded + s.entries * ENTRY_BYTES, step = step_of(f);
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
		(void)write_down(f);
		make_more_room(f);
	}
	return NULL;
}

static void start_thread(struct filling *f)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	f->started = pthread_create(&f->thread, NULL, thread_main, f) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
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
	char host[64] = "this node";

	*f = (struct filling){.what = e->what, .progress = progress, .n = n};
	snprintf(f->key, sizeof(f->key), "%s", e->key);
	f->room = (struct room){
		.cache = e->cache, .key = f->key, .cancel = e->cancel, .set = set_aside, .ctx = f};
	(void)gethostname(host, sizeof(host) - 1);
	snprintf(f->who, sizeof(f->who), "process %ld on %s", (long)getpid(), host);
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->ended, NULL);
	f->fd = openat(e->key_fd, FILLING_NAME, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	return f;
}

int filling_start(struct cache_entry *e, uint64_t bytes, const struct progress *progress, size_t n,
	struct error *err)
{
	struct filling *f = filling_new(e, progress, n);
	int code = f->fd < 0 ? disk_error(err, errno, e->key_fd, "make", FILLING_NAME)
			     : evict_for(&f->room, bytes, err);

	if (code < 0) {
		filling_free(f);
		return code;
	}
	start_thread(f);
	e->filling = f;
	return 0;
}

void filling_stop(struct cache_entry *e, bool ok)
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
