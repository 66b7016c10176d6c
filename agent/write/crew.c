/* SPDX-License-Identifier: MIT */
/* Decides who writes an entry: the thread that has it, or a hand. */
#include "crew_private.h"
#include "text.h"
#include "tree_private.h"
#include <stdlib.h>
#include <sys/resource.h>

/* A small file on a local disk takes some 20 µs, and one round trip to a server many times that. A
 * journal's commit also holds up a file now and then, hence the count. */
enum { SLOW_FILE_NS = 400000, SMALL_FILE_BYTES = 128 << 10, SLOW_FILES = 12, MOST_SLOW_FILES = 16 };

struct crew *crew_new(const struct crew_env *env)
{
	struct crew *c = zalloc(sizeof(*c));

	c->env = *env;
	c->last = &c->first;
	pthread_mutex_init(&c->mutex, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->room, NULL);
	c->watch_work = (struct cancel_watch){.mutex = &c->mutex, .cond = &c->work};
	c->watch_room = (struct cancel_watch){.mutex = &c->mutex, .cond = &c->room};
	cancel_watch(env->cancel, &c->watch_work);
	cancel_watch(env->cancel, &c->watch_room);
	return c;
}

int crew_finish(struct crew *c, int code, struct error *err)
{
	code = hands_dismiss(c, code, err);
	cancel_unwatch(c->env.cancel, &c->watch_room);
	cancel_unwatch(c->env.cancel, &c->watch_work);
	pthread_cond_destroy(&c->room);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->mutex);
	free(c);
	return code;
}

bool crew_has_hands(const struct crew *c)
{
	return atomic_load_explicit(&c->has_hands, memory_order_acquire);
}

/* How often this thread slept of its own accord: for a disk, not because others had the processor. */
static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/* The count may be off by one when two threads change it at once: no matter. */
static void notice(struct crew *c, bool is_slow)
{
	int slow = atomic_load_explicit(&c->slow, memory_order_relaxed);

	if (!is_slow)
		slow -= slow > 0;
	else if (slow < MOST_SLOW_FILES)
		slow++;
	atomic_store_explicit(&c->slow, slow, memory_order_relaxed);
	if (slow >= SLOW_FILES && !hands_hire(c))
		atomic_store_explicit(&c->slow, 0, memory_order_relaxed); /* ask again later */
}

/* Looks closer, which costs a system call, once files seem slow. */
static int write_and_notice(struct crew *c, struct writer *own, const char *name,
	const struct meta *m, const struct slice *content, struct error *err)
{
	bool closer = atomic_load_explicit(&c->slow, memory_order_relaxed) > 0;
	long before = closer ? sleeps() : 0;
	int r = writer_file(own, name, m, content, err);
	bool is_slow = own->spent_ns >= SLOW_FILE_NS && (!closer || sleeps() > before);

	if (is_slow || closer)
		notice(c, is_slow);
	return r;
}

static bool is_for_hands(const struct meta *m, const struct slice *content)
{
	return m->n_xattrs == 0 && (content == NULL || content->len <= CREW_FILE_MAX);
}

/* Hands job over; NULL: the caller is to write the entry itself, when nothing of its name is under way,
 * and gets 1. */
static int hand_over(struct crew *c, struct crew_job *job, const char *name, struct error *err)
{
	int r;

	if (job != NULL)
		return hands_submit(c, job, err);
	r = crew_await(c, name, err);
	return r < 0 ? r : 1;
}

int crew_dir(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	struct error *err)
{
	struct crew_job *job = NULL;
	int r;

	if (crew_has_hands(c) && is_for_hands(m, NULL))
		job = crew_job_new(JOB_DIR, name, NULL, m, NULL);
	r = hand_over(c, job, name, err);
	return r > 0 ? writer_dir(own, name, m, err) : r;
}

int crew_symlink(struct crew *c, struct writer *own, const char *name, const char *target,
	const struct meta *m, struct error *err)
{
	struct crew_job *job = NULL;
	int r;

	if (crew_has_hands(c))
		job = crew_job_new(JOB_SYMLINK, name, target, m, NULL);
	r = hand_over(c, job, name, err);
	return r > 0 ? writer_symlink(own, name, target, m, err) : r;
}

int crew_hardlink(
	struct crew *c, struct writer *own, const char *name, const char *target, struct error *err)
{
	static const struct meta none;
	struct crew_job *job = NULL;
	int r;

	if (crew_has_hands(c))
		job = crew_job_new(JOB_HARDLINK, name, target, &none, NULL);
	r = hand_over(c, job, name, err);
	if (r > 0)
		r = hand_over(c, NULL, target, err);
	return r > 0 ? writer_hardlink(own, name, target, err) : r;
}

int crew_file(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	const struct slice *content, struct error *err)
{
	struct crew_job *job = NULL;
	int r;

	if (crew_has_hands(c) && is_for_hands(m, content))
		job = crew_job_new(JOB_FILE, name, NULL, m, content);
	r = hand_over(c, job, name, err);
	if (r <= 0)
		return r;
	if (content->len > SMALL_FILE_BYTES || c->env.tree->sink != NULL)
		return writer_file(own, name, m, content, err);
	return write_and_notice(c, own, name, m, content, err);
}

int crew_has(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	uint64_t size, struct error *err)
{
	int r = c->env.tree->continued ? crew_await(c, name, err) : 0;

	return r < 0 ? r : writer_has(own, name, m, size, err);
}

int crew_await(struct crew *c, const char *name, struct error *err)
{
	return crew_has_hands(c) ? hands_await(c, crew_name_hash(name), err) : 0;
}
