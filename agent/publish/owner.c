/* SPDX-License-Identifier: MIT */
/* Which agent uses a state directory: the lock, and the owner file beside it. The stage's thread,
 * and one thread for the heartbeat.
 *
 * The lock admits one agent at a time to a destination. It is a flock, which the kernel releases
 * when its holder dies or becomes the user's command, so there are no stale locks and no pids. */
#include "defer.h"
#include "lines.h"
#include "log.h"
#include "progress.h"
#include "publish_private.h"
#include "random.h"
#include "text.h"
#include "thread.h"
#include "timeline.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define DEAD_FILE "owner.dead"
#define FORMAT    "1"

enum {
	BEAT_MS = 1000,
	/* Several beats, since a machine may be busy, and NFS caches attributes for some time. */
	DEAD_MS = 10000,
	POLL_MS = 100,
	TEXT_MAX = 512,
	OWNER_WHO_SIZE = 192,
};

#define FIRST_SLEEP_MS 10
#define MAX_SLEEP_MS   250
#define LOG_EVERY_MS   60000
#define ON_WAIT_MS     250

/* The content of the file: one line of words. */
struct owner_text {
	char boot[64], pidns[32], host[80];
	long pid;
	uint64_t started; /* start of the process, in ticks since the machine was started */
	char nonce[17];
	uint64_t beat;
	int64_t since; /* time of acquisition by the owner's clock, seconds; 0: not in the file */
};

struct owner {
	int state_fd; /* borrowed */
	struct owner_text text;
	bool stop;
	pthread_mutex_t mutex; /* protects stop */
	pthread_cond_t stopped;
	pthread_t heartbeat;
};

/* Reads the 22nd word of /proc/PID/stat, counted from the parenthesis after the name. Returns 0 if
 * there is no such process, or it is a zombie. */
static uint64_t process_start_ticks(long pid)
{
	_free_ char *path = text_format("/proc/%ld/stat", pid);
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[1024];
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	char *at;

	if (n <= 0)
		return 0;
	buf[n] = '\0';
	at = strrchr(buf, ')');
	if (at == NULL || strncmp(at, ") Z", 3) == 0 || strncmp(at, ") X", 3) == 0)
		return 0;
	for (int or_dash = 2; at != NULL && or_dash < 22; or_dash++)
		at = strchr(at + 1, ' ');
	return at != NULL ? strtoull(at, NULL, 10) : 0;
}

static void describe_self(struct owner_text *t)
{
	uint64_t number = 0;
	ssize_t n;

	*t = (struct owner_text){.pid = getpid(), .since = time(NULL)};
	publish_boot_id(t->boot);
	n = readlink("/proc/self/ns/pid", t->pidns, sizeof(t->pidns) - 1);
	t->pidns[n > 0 ? n : 0] = '\0';
	if (gethostname(t->host, sizeof(t->host) - 1) != 0 || t->host[0] == '\0')
		snprintf(t->host, sizeof(t->host), "?");
	for (char *c = t->host; *c != '\0'; c++)
		if (*c <= ' ' || *c == 0x7f)
			*c = '?';
	t->started = process_start_ticks(t->pid);
	random_fill(&number, sizeof(number));
	snprintf(t->nonce, sizeof(t->nonce), "%016" PRIx64,
		number ^ ((uint64_t)t->pid << 32) ^ (uint64_t)(uintptr_t)t);
}

static const char *or_dash(const char *s)
{
	return s[0] != '\0' ? s : "-";
}

static int print_text(const struct owner_text *t, char buf[static TEXT_MAX])
{
	return snprintf(buf, TEXT_MAX,
		FORMAT " %s %s %s %ld %" PRIu64 " %s %020" PRIu64 " %" PRId64 "\n", t->nonce,
		or_dash(t->boot), or_dash(t->pidns), t->pid, t->started, t->host, t->beat,
		t->since);
}

/* Returns false if the file does not exist or cannot be parsed. */
static bool read_text(int state_fd, const char *name, struct owner_text *ret)
{
	_close_ int fd = lines_open_file(state_fd, name);
	char buf[TEXT_MAX];
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	*ret = (struct owner_text){.pid = 0};
	if (n <= 0)
		return false;
	buf[n] = '\0';
	/* NOLINTNEXTLINE(cert-err34-c): what is out of range is no process of ours */
	return sscanf(buf, FORMAT " %16s %63s %31s %ld %" SCNu64 " %79s %" SCNu64 " %" SCNd64,
		       ret->nonce, ret->boot, ret->pidns, &ret->pid, &ret->started, ret->host,
		       &ret->beat, &ret->since) >= 7;
}

/* Prints the owner for messages: "process 12 on node-3, since 2026-01-31 12:00:00 UTC". */
static void describe_owner(int state_fd, char buf[static OWNER_WHO_SIZE])
{
	struct owner_text t;
	char date[64] = "";
	struct tm tm;

	if (!read_text(state_fd, OWNER_FILE, &t)) {
		snprintf(buf, OWNER_WHO_SIZE, "it has not said yet who it is");
		return;
	}
	if (t.since > 0 && gmtime_r(&t.since, &tm) != NULL)
		strftime(date, sizeof(date), ", since %Y-%m-%d %H:%M:%S UTC", &tm);
	snprintf(buf, OWNER_WHO_SIZE, "process %ld on %s%s", t.pid, t.host, date);
}

/* The lock. */

/* One wait for another agent that uses the state directory. */
struct lock_wait {
	/* Set by the caller. */
	const struct state_dir *dir;
	const struct destination_options *opts;
	const char *unless; /* appended to the log line: what else may end the wait; or "" */

	uint64_t started_ms, logged_ms; /* 0: not yet */
	unsigned polls;
	unsigned span; /* 0: not recorded */
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Logs the wait, or calls on_wait. */
static void log_wait(struct lock_wait *w, const char *who, uint64_t now)
{
	uint64_t every = w->opts->log_every_ms > 0 ? w->opts->log_every_ms : LOG_EVERY_MS;
	uint64_t waited_ns = (now - w->started_ms) * 1000000;
	const struct log_field fields[] = {log_field_text("to", w->dir->path),
		log_field_text("holder", who), log_field_ns("seconds", waited_ns)};
	char waited[32];

	if (w->opts->on_wait != NULL)
		every = ON_WAIT_MS;
	if (w->polls > 0 && now - w->logged_ms < every)
		return;
	w->logged_ms = now;
	if (w->opts->on_wait != NULL)
		w->opts->on_wait(w->opts->on_wait_ctx);
	else if (w->polls == 0)
		log_event(LOG_INFO, EVENT_STAGE_WAITS, fields, ARRAY_LEN(fields),
			"waiting for another agent that is staging %s (%s)%s", w->dir->path, who,
			w->unless);
	else
		log_event(LOG_INFO, EVENT_STAGE_WAITS, fields, ARRAY_LEN(fields),
			"still waiting for another agent that is staging %s (%s), for %s now",
			w->dir->path, who, units_print_duration(waited_ns, waited));
}

/* At its beginning the owner has perhaps not said yet who it is. */
static void record_wait(struct lock_wait *w, const char *who)
{
	struct timeline *t = w->opts->timeline;

	if (t == NULL)
		return;
	if (w->polls == 0)
		w->span = timeline_begin(t, w->opts->span, SPAN_LOCK, who);
	timeline_set_text(t, w->span, "holder", who);
}

/* The wait is over: code is its result. */
static void end_wait(struct lock_wait *w, int code, const struct error *err)
{
	enum span_end failed = code == -ECANCELED ? SPAN_CANCELLED : SPAN_FAILED;

	if (w->polls == 0)
		return;
	if (w->opts->lock_ns != NULL)
		count(w->opts->lock_ns, (now_ms() - w->started_ms) * 1000000);
	timeline_end(w->opts->timeline, w->span, code < 0 ? failed : SPAN_OK,
		code < 0 ? err->msg : NULL);
}

/* Reports the wait, then sleeps for ms. 0; -ECANCELED and -EBUSY as owner_acquire(). */
static int lock_sleep(struct lock_wait *w, long ms, struct error *err)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000 * 1000};
	const struct wait_limit *most = &w->opts->lock_limit;
	uint64_t now = now_ms();
	char who[OWNER_WHO_SIZE], limit[32];

	if (w->polls == 0)
		w->started_ms = now;
	describe_owner(w->dir->state_fd, who);
	if (cancel_requested(w->opts->cancel))
		return error_set(err, -ECANCELED,
			"cancelled while waiting for another agent that is staging %s (%s)",
			w->dir->path, who);
	if (most->limited && now - w->started_ms >= most->ms)
		return error_set(err, -EBUSY,
			"another agent is staging %s (%s), and was waited for as long as lock_timeout in agent.ini allows (%s)",
			w->dir->path, who, units_print_duration(most->ms * 1000000, limit));
	log_wait(w, who, now);
	record_wait(w, who);
	w->polls++;
	nanosleep(&pause, NULL);
	return 0;
}

/* A blocking flock() could only be interrupted by a signal, not by a cancel, so this polls. */
static int poll_lock(int fd, struct lock_wait *w, struct error *err)
{
	const struct state_dir *p = w->dir;
	long sleep_ms = FIRST_SLEEP_MS;
	char why[THREAD_WHY_SIZE];

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int code;

		/* It comes from a seccomp profile, never from a file system, and must not be taken
		 * for a refusal of the file system. */
		if (errno == EPERM)
			return error_set(err, -ENOLCK, "cannot lock %s/" LOCK_FILE ": %s",
				p->state_path, thread_explain_call(EPERM, "flock()", why));
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_set(err, -errno,
				"cannot lock %s/" LOCK_FILE
				": %m; mount the file system with locks (Lustre: -o flock) or stage elsewhere",
				p->state_path);
		code = lock_sleep(w, sleep_ms, err);
		if (code < 0)
			return code;
		sleep_ms = sleep_ms * 2 < MAX_SLEEP_MS ? sleep_ms * 2 : MAX_SLEEP_MS;
	}
	return 0;
}

/* The previous holder may have removed the lock file with the whole directory. Then the lock on it
 * protects nothing. */
static int is_current(int fd, const struct state_dir *p)
{
	_free_ char *path = text_format("%s/" LOCK_FILE, p->state_path);
	struct stat held, there;

	return fstat(fd, &held) == 0 && lstat(path, &there) == 0 && held.st_ino == there.st_ino &&
	       held.st_dev == there.st_dev;
}

static int take_lock(const struct state_dir *p, const struct destination_options *opts, int *ret_fd,
	struct error *err)
{
	const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = openat(p->state_fd, LOCK_FILE, flags, 0600);
	struct lock_wait w = {.dir = p, .opts = opts, .unless = ""};
	int code;

	if (fd < 0)
		return error_set(err, -errno, "cannot make %s/" LOCK_FILE ": %m", p->state_path);
	code = poll_lock(fd, &w, err);
	end_wait(&w, code, err);
	if (code < 0)
		return code;
	if (!is_current(fd, p))
		return error_set(err, -ENOENT, "%s was removed while it was in use", p->state_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* The owner file. */

/* The file is closed after each beat, which makes NFS send it to the server. */
static bool write_beat(const struct owner *o, int flags)
{
	_close_ int fd = openat(o->state_fd, OWNER_FILE,
		O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags,
		umask_apply(0644) | S_IRUSR | S_IWUSR);
	char buf[TEXT_MAX];
	int len = print_text(&o->text, buf);

	if (fd < 0)
		return false;
	if (pwrite(fd, buf, (size_t)len, 0) == len)
		return true;
	if (flags != 0) {
		int errnum = errno;

		unlinkat(o->state_fd, OWNER_FILE, 0);
		errno = errnum;
	}
	return false;
}

static bool is_ours(const struct owner *o)
{
	struct owner_text now;

	return read_text(o->state_fd, OWNER_FILE, &now) && strcmp(now.nonce, o->text.nonce) == 0;
}

static void *run_heartbeat(void *arg)
{
	struct owner *o = arg;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&o->mutex);
	while (!o->stop) {
		next.tv_sec += BEAT_MS / 1000;
		while (!o->stop && pthread_cond_timedwait(&o->stopped, &o->mutex, &next) == 0) {
		}
		if (o->stop)
			break;
		pthread_mutex_unlock(&o->mutex);
		o->text.beat++;
		if (is_ours(o))
			(void)write_beat(o, 0);
		clock_gettime(CLOCK_MONOTONIC, &next);
		pthread_mutex_lock(&o->mutex);
	}
	pthread_mutex_unlock(&o->mutex);
	return NULL;
}

/* Whether only this kernel mounts the file system, so that there are no other locks than its
 * own. */
static bool has_local_locks(int state_fd)
{
	static const unsigned long local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
		TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, RAMFS_MAGIC};
	struct statfs fs;

	if (fstatfs(state_fd, &fs) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		if ((unsigned long)fs.f_type == local[i])
			return true;
	return false;
}

enum life { DEAD, LIVING, UNKNOWN };

static enum life classify_life(const struct owner *o, const struct owner_text *other)
{
	const struct owner_text *us = &o->text;

	if (us->boot[0] == '\0' || strcmp(us->boot, other->boot) != 0)
		return UNKNOWN;
	if (us->pidns[0] != '\0' && us->started != 0 && strcmp(us->pidns, other->pidns) == 0)
		return process_start_ticks(other->pid) == other->started ? LIVING : DEAD;
	/* It ran in another container of this machine, and held the lock that this process holds
	 * now. */
	return has_local_locks(o->state_fd) ? DEAD : UNKNOWN;
}

/* Removes the file of a dead owner, unless another agent replaced that owner first: the file is
 * read again after it was renamed. */
static void remove_dead(const struct owner *o, const struct owner_text *dead)
{
	struct owner_text moved;

	if (renameat(o->state_fd, OWNER_FILE, o->state_fd, DEAD_FILE) != 0)
		return;
	if (read_text(o->state_fd, DEAD_FILE, &moved) && strcmp(moved.nonce, dead->nonce) != 0)
		(void)!linkat(o->state_fd, DEAD_FILE, o->state_fd, OWNER_FILE, 0);
	unlinkat(o->state_fd, DEAD_FILE, 0);
}

struct owner_watch {
	struct lock_wait wait;
	struct owner_text seen;
	uint64_t since_ms; /* when the beat changed last, or was first seen */
};

/* Checks the other owner once, and sleeps. Returns 1: check again; 0: the owner was dead, and its
 * file is removed. */
static int watch_once(const struct owner *o, struct owner_watch *w, struct error *err)
{
	struct owner_text now;
	enum life life;
	int code;

	/* The file is being written, or is not an owner file. */
	if (!read_text(o->state_fd, OWNER_FILE, &now))
		snprintf(now.host, sizeof(now.host), "?");
	life = classify_life(o, &now);
	if (w->wait.polls == 0 || strcmp(now.nonce, w->seen.nonce) != 0 || now.beat != w->seen.beat)
		w->since_ms = now_ms();
	w->seen = now;
	if (life == DEAD || (life == UNKNOWN && now_ms() - w->since_ms > DEAD_MS)) {
		remove_dead(o, &now);
		return 0;
	}
	w->wait.unless = life == LIVING ? "" : ", or 10 s if it does not live any more";
	code = lock_sleep(&w->wait, POLL_MS, err);
	return code < 0 ? code : 1;
}

/* Fails if the directory is gone, although its lock file is still locked. */
static int create_file(
	const struct owner *o, const struct state_dir *p, struct owner_watch *w, struct error *err)
{
	for (;;) {
		int code;

		if (write_beat(o, O_CREAT | O_EXCL))
			return 0;
		if (errno == ENOSPC || errno == EDQUOT)
			return tree_disk_error(err, errno, p->state_fd, "write", p->state_path);
		if (errno != EEXIST)
			return error_set(
				err, -errno, "cannot make %s/" OWNER_FILE ": %m", p->state_path);
		code = watch_once(o, w, err);
		if (code < 0)
			return code;
	}
}

static int start_heartbeat(struct owner *o, struct error *err)
{
	pthread_condattr_t attr;
	int code;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&o->stopped, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&o->mutex, NULL);
	code = thread_start(&o->heartbeat, run_heartbeat, o, err);
	if (code == 0)
		return 0;
	pthread_mutex_destroy(&o->mutex);
	pthread_cond_destroy(&o->stopped);
	return code;
}

static int create_owner(const struct state_dir *p, const struct destination_options *opts,
	struct owner **ret, struct error *err)
{
	struct owner *o = zalloc(sizeof(*o));
	struct owner_watch w = {.wait = {.dir = p, .opts = opts}};
	int code;

	o->state_fd = p->state_fd;
	describe_self(&o->text);
	code = create_file(o, p, &w, err);
	end_wait(&w.wait, code, err);
	if (code == 0) {
		code = start_heartbeat(o, err);
		if (code < 0)
			unlinkat(o->state_fd, OWNER_FILE, 0);
	}
	if (code < 0)
		free(o);
	else
		*ret = o;
	return code;
}

int owner_acquire(const struct state_dir *p, const struct destination_options *opts,
	int *ret_lock_fd, struct owner **ret, struct error *err)
{
	_close_ int fd = -1;
	int code = take_lock(p, opts, &fd, err);

	if (code == 0)
		code = create_owner(p, opts, ret, err);
	if (code == 0)
		*ret_lock_fd = take_fd(&fd);
	return code;
}

int owner_check(const struct owner *o, struct error *err)
{
	if (is_ours(o))
		return 0;
	return error_set(err, -ESTALE,
		"another agent took this one for dead, since it had not been heard of for %d s, and stages in its place",
		DEAD_MS / 1000);
}

void owner_release(struct owner *o)
{
	if (o == NULL)
		return;
	pthread_mutex_lock(&o->mutex);
	o->stop = true;
	pthread_cond_signal(&o->stopped);
	pthread_mutex_unlock(&o->mutex);
	pthread_join(o->heartbeat, NULL);
	pthread_mutex_destroy(&o->mutex);
	pthread_cond_destroy(&o->stopped);
	if (is_ours(o))
		unlinkat(o->state_fd, OWNER_FILE, 0);
	free(o);
}
