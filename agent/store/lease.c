/* SPDX-License-Identifier: MIT */
/* Leases: whether the process that wrote one is gone (any thread), leases as objects of the store
 * (worker threads), and the leases that this process holds, each renewed by its own thread. */
#include "defer.h"
#include "log.h"
#include "store_private.h"
#include "text.h"
#include "thread.h"
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* Reads the first line of a small file, or the target of a symbolic link. */
static bool read_line(const char *path, bool is_link, char *buf, size_t size)
{
	_close_ int fd = is_link ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = is_link ? readlink(path, buf, size - 1) : read(fd, buf, size - 1);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/* Containers share the boot ID and often the host name. A PID is only meaningful within its PID
 * namespace, and a start time only within its time namespace. */
void lease_scope(char ret[static LEASE_SCOPE_SIZE])
{
	char boot[64], pids[64], times[64] = "";

	ret[0] = '\0';
	if (!read_line("/proc/sys/kernel/random/boot_id", false, boot, sizeof(boot)) ||
		!read_line("/proc/self/ns/pid", true, pids, sizeof(pids)))
		return;
	(void)read_line("/proc/self/ns/time", true, times, sizeof(times)); /* Linux 5.6 */
	snprintf(ret, LEASE_SCOPE_SIZE, "%s %s %s", boot, pids, times);
}

struct stat_line {
	char state;
	long threads;
	unsigned long long start;
};

static bool read_stat(pid_t pid, struct stat_line *ret)
{
	_free_ char *path = text_format("/proc/%d/stat", (int)pid);
	char line[1024];
	const char *rest;

	return read_line(path, false, line, sizeof(line)) && (rest = strrchr(line, ')')) != NULL &&
	       sscanf(rest + 1,
		       " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu",
		       &ret->state, &ret->threads, &ret->start) == 3;
}

uint64_t lease_process_start(pid_t pid)
{
	struct stat_line s;

	return read_stat(pid, &s) ? s.start : 0;
}

uint64_t lease_own_start(void)
{
	return lease_process_start(getpid());
}

static bool lease_process_is_gone(const struct lease_process *p)
{
	char scope[LEASE_SCOPE_SIZE], host[65] = "";
	struct stat_line s;

	lease_scope(scope);
	(void)gethostname(host, sizeof(host) - 1);
	if (scope[0] == '\0' || strcmp(p->scope, scope) != 0 || strcmp(p->host, host) != 0 ||
		p->pid <= 0 || p->start == 0)
		return false;
	/* kill() also detects processes that /proc hides (hidepid). */
	if (kill(p->pid, 0) < 0 && errno == ESRCH)
		return true;
	if (!read_stat(p->pid, &s))
		return false;
	/* A zombie without other threads has ended, and its parent does not reap it. With other
	 * threads, only the main thread has ended. */
	return s.start != p->start || ((s.state == 'Z' || s.state == 'X') && s.threads <= 1);
}

/* Leases as objects of the store. Worker threads. */

enum { LEASE_MAX_BYTES = 4096 };

static const char *const kinds[] = {
	[LEASE_CREATE] = "create-",
	[LEASE_COLLECT] = "collect-",
	[LEASE_CLOCK] = "clock-",
	[LEASE_PROBE] = "probe-",
};

uint64_t lease_clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool lease_parse_kind(const char **s, enum lease_kind *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (strncmp(*s, kinds[i], strlen(kinds[i])) == 0) {
			*s += strlen(kinds[i]);
			*ret = (enum lease_kind)i;
			return true;
		}
	}
	return false;
}

char *lease_new_key(enum lease_kind kind)
{
	char random[17];

	store_random(random);
	return text_format("leases/%s%s.json", kinds[kind], random);
}

int lease_write(struct store_conn *h, const char *key, const struct lease_content *content,
	struct error *err)
{
	char host[65] = "", scope[LEASE_SCOPE_SIZE];
	json_t *o = json_object();
	_free_ char *json = NULL;

	(void)gethostname(host, sizeof(host) - 1);
	lease_scope(scope);
	json_object_set_new(
		o, "name", content->name != NULL ? json_string(content->name) : json_null());
	/* Older agents read only name, host and pid. */
	json_object_set_new(o, "host", json_string(host));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "scope", json_string(scope));
	json_object_set_new(o, "start", json_integer((json_int_t)lease_own_start()));
	json_object_set_new(o, "uid", json_integer((json_int_t)geteuid()));
	json_object_set_new(o, "since", json_integer((json_int_t)content->since));
	json_object_set_new(o, "life_ms", json_integer((json_int_t)content->life_ms));
	json_object_set_new(o, "removes", json_boolean(content->removes));
	json = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (json == NULL)
		abort(); /* out of memory */
	return store_put(h, key, json, strlen(json), err);
}

void lease_remove(struct store_conn *h, const char *key)
{
	struct store_conn *other = NULL;

	if (!cancel_requested(h->cancel)) {
		(void)store_delete(h, &key, 1, NULL);
		return;
	}
	/* Other processes wait as long as the object exists. */
	if (store_conn_open(h->store, NULL, &other, NULL) == 0)
		(void)store_delete(other, &key, 1, NULL);
	store_conn_close(other);
}

struct lease_listing {
	struct leases *all;
	const char *own_key;
};

static int on_lease(void *ctx, const char *key, const struct layout_key *k, struct error *err)
{
	const struct lease_listing *l = ctx;
	struct leases *all = l->all;

	if (k->modified <= 0)
		return error_set(err, -ERR_FORMAT, "the store does not say of when '%s' is", key);
	if (strcmp(key, l->own_key) == 0) {
		all->now = k->modified;
		return 0;
	}
	if (all->n == all->cap) {
		all->cap = all->cap > 0 ? 2 * all->cap : 16;
		all->v = realloc(all->v, all->cap * sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n++] = (struct lease_entry){
		.key = text_copy(key), .kind = k->lease, .modified = k->modified};
	return 0;
}

/* The lifetime in ms. A lease without one, or with a value that no agent writes, has the longest
 * lifetime. */
static uint64_t parse_life(const json_t *o)
{
	json_int_t life = json_integer_value(json_object_get(o, "life_ms"));

	return life > 0 && (uint64_t)life < LEASE_LIFE_MS ? (uint64_t)life : LEASE_LIFE_MS;
}

static bool holder_is_gone(const json_t *o)
{
	const char *host = json_string_value(json_object_get(o, "host"));
	const char *scope = json_string_value(json_object_get(o, "scope"));
	json_int_t pid = json_integer_value(json_object_get(o, "pid"));
	const struct lease_process p = {.host = host,
		.scope = scope,
		.pid = pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0,
		.start = (uint64_t)json_integer_value(json_object_get(o, "start"))};

	return host != NULL && scope != NULL && lease_process_is_gone(&p);
}

static char *describe_holder(const json_t *o)
{
	const char *host = json_string_value(json_object_get(o, "host"));
	const json_t *uid = json_object_get(o, "uid");
	time_t since = (time_t)json_integer_value(json_object_get(o, "since"));
	struct text t = {0};
	char date[64];
	struct tm tm;

	text_addf(&t, "%.64s (process %lld", host != NULL ? host : "an unknown host",
		(long long)json_integer_value(json_object_get(o, "pid")));
	if (json_is_integer(uid))
		text_addf(&t, " of user %lld", (long long)json_integer_value(uid));
	text_add(&t, ")");
	if (since > 0 && gmtime_r(&since, &tm) != NULL) {
		strftime(date, sizeof(date), ", since %Y-%m-%d %H:%M:%S UTC", &tm);
		text_add(&t, date);
	}
	return text_take(&t);
}

static void evaluate_entry(struct lease_entry *e, time_t now, const json_t *o)
{
	bool removes = e->kind == LEASE_COLLECT && !json_is_false(json_object_get(o, "removes"));
	uint64_t life = parse_life(o), settle = removes ? LEASE_SETTLE_MS : 0;
	time_t age = now - e->modified;

	if (settle < life && holder_is_gone(o))
		life = settle;
	/* Times are truncated to whole seconds, so a difference may be one second short. */
	e->counts_s = life == 0 ? 0 : (time_t)((life + 999) / 1000) + 1 - age;
	e->live = e->counts_s > 0;
	if (!e->live)
		return;
	e->name = text_copy(json_string_value(json_object_get(o, "name")));
	e->who = describe_holder(o);
}

static int read_entry(struct store_conn *h, struct lease_entry *e, time_t now, struct error *err)
{
	_free_ char *text = NULL;
	json_t *o;
	size_t len = 0;
	int code;

	/* No lease has a longer lifetime, and clock and probe leases block nothing: neither needs
	 * to be read. */
	if (now - e->modified > (time_t)(LEASE_LIFE_MS / 1000) ||
		(e->kind != LEASE_CREATE && e->kind != LEASE_COLLECT)) {
		e->live = now - e->modified <= (time_t)(LEASE_LIFE_MS / 1000);
		return 0;
	}
	code = store_get_all(h, e->key, LEASE_MAX_BYTES, &text, &len, err);
	if (code == -ENOENT)
		return 0; /* released since it was listed */
	if (code < 0 && code != -ERR_LIMIT)
		return code;
	o = json_loadb(text != NULL ? text : "", len, 0, NULL);
	evaluate_entry(e, now, o);
	json_decref(o);
	return 0;
}

int lease_list(struct store_conn *h, const char *own_key, struct leases *ret, struct error *err)
{
	struct lease_listing l = {.all = ret, .own_key = own_key};
	struct layout_foreign foreign = {0};
	int code;

	*ret = (struct leases){0};
	code = layout_list(h, "leases/", on_lease, &l, &foreign, err);
	layout_foreign_done(&foreign);
	if (code == 0 && ret->now == 0)
		code = error_set(err, -ERR_RESTART,
			"somebody removed the lease '%s' from the store %s: is it being purged?",
			own_key, h->store->name);
	for (size_t i = 0; i < ret->n && code == 0; i++)
		code = read_entry(h, &ret->v[i], ret->now, err);
	if (code < 0)
		lease_list_done(ret);
	return code;
}

const struct lease_entry *lease_find(const struct leases *all, enum lease_kind kind)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].live && all->v[i].kind == kind)
			return &all->v[i];
	}
	return NULL;
}

void lease_list_done(struct leases *all)
{
	for (size_t i = 0; i < all->n; i++) {
		free(all->v[i].key);
		free(all->v[i].name);
		free(all->v[i].who);
	}
	free(all->v);
	*all = (struct leases){0};
}

/* Leases that this process holds: acquired, renewed by a thread of their own, checked and
 * released. */

enum {
	POLL_MS = 500,       /* interval between checks whether the collection has ended */
	LOG_AFTER_MS = 2000, /* the first message about a wait; then one each minute */
	LOG_EVERY_MS = 60000,
	/* Renewals within a creation's lifetime. Fewer than a collection's, because there are many
	 * creations and no process waits for them to end. */
	RENEWALS = 3,
	COLLECT_RENEWALS = 6, /* renewals within a collection's lifetime */
	/* The last fifth of the lifetime is left for the request that publishes a manifest. */
	MARGIN_DIVISOR = 5,
	/* A failed renewal is retried after a thirtieth of the lifetime. */
	RETRY_DIVISOR = 30
};

struct lease {
	/* Set at creation. */
	struct store *store;
	enum lease_kind kind;
	char *key, *name;
	uint64_t life_ms;
	time_t since;
	struct cancel cancel; /* aborts the thread's requests */
	pthread_t thread;
	bool running;

	/* Serializes renewals, so that the store receives them in the order in which they were
	 * started. */
	pthread_mutex_t writing;
	pthread_mutex_t mutex;
	pthread_cond_t cond; /* uses CLOCK_MONOTONIC */
	/* Under the mutex. */
	bool stop;
	bool removes;
	/* The lease once was too old: objects may have been collected since. */
	bool lost;
	/* Start of the last successful renewal, by lease_clock_ms(). 0: none counts yet. */
	uint64_t renewed_ms;
};

static struct lease *lease_new(
	struct store *s, enum lease_kind kind, const char *name, uint64_t life_ms)
{
	struct lease *l = zalloc(sizeof(*l));
	pthread_condattr_t attr;

	l->store = s;
	l->kind = kind;
	l->name = text_copy(name);
	l->key = lease_new_key(kind);
	l->life_ms = life_ms;
	l->since = time(NULL);
	cancel_init(&l->cancel);
	pthread_mutex_init(&l->writing, NULL);
	pthread_mutex_init(&l->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->cond, &attr);
	pthread_condattr_destroy(&attr);
	return l;
}

static void lease_free(struct lease *l)
{
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mutex);
	pthread_mutex_destroy(&l->writing);
	cancel_done(&l->cancel);
	free(l->key);
	free(l->name);
	free(l);
}

/* A lease that was not renewed in time is lost for good. */
static void update_lost_locked(struct lease *l)
{
	if (lease_clock_ms() - l->renewed_ms > l->life_ms - l->life_ms / MARGIN_DIVISOR)
		l->lost = true;
}

static int renew_serialized(struct lease *l, struct store_conn *h, struct error *err)
{
	struct lease_content words = {.name = l->name, .life_ms = l->life_ms, .since = l->since};
	uint64_t begun = lease_clock_ms();
	int code;

	pthread_mutex_lock(&l->mutex);
	words.removes = l->removes;
	pthread_mutex_unlock(&l->mutex);
	code = lease_write(h, l->key, &words, err);
	if (code < 0)
		return code;
	pthread_mutex_lock(&l->mutex);
	if (l->renewed_ms != 0)
		update_lost_locked(l);
	l->renewed_ms = begun;
	pthread_mutex_unlock(&l->mutex);
	return 0;
}

static int renew(struct lease *l, struct store_conn *h, struct error *err)
{
	int code;

	pthread_mutex_lock(&l->writing);
	code = renew_serialized(l, h, err);
	pthread_mutex_unlock(&l->writing);
	return code;
}

/* Sleeps until ms have passed, l->stop is set or the watched cancel is requested. May return
 * early. */
static void sleep_locked(struct lease *l, uint64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&l->cond, &l->mutex, &until);
}

static void renew_until_stopped(struct lease *l, struct store_conn *h)
{
	const char *whose = l->kind == LEASE_CREATE ? "creation" : "collection";
	uint64_t usual_ms = l->life_ms / (l->kind == LEASE_CREATE ? RENEWALS : COLLECT_RENEWALS);
	uint64_t wait_ms = usual_ms;
	bool warned = false;

	for (;;) {
		struct error err;
		bool stop;
		int code;

		pthread_mutex_lock(&l->mutex);
		if (!l->stop)
			sleep_locked(l, wait_ms);
		stop = l->stop;
		pthread_mutex_unlock(&l->mutex);
		if (stop)
			return;
		code = renew(l, h, &err);
		wait_ms = code < 0 ? l->life_ms / RETRY_DIVISOR : usual_ms;
		if (code < 0 && code != -ECANCELED && !warned)
			log_warn("the lease of this %s was not renewed, trying again: %s", whose,
				err.msg);
		warned = code < 0;
	}
}

static void *renewal_thread(void *ctx)
{
	struct lease *l = ctx;
	struct store_conn *h = NULL;
	struct error err;

	/* Without renewals the lease becomes too old, and lease_check() then fails. */
	if (store_conn_open(l->store, &l->cancel, &h, &err) < 0)
		log_warn("the lease on %s cannot be renewed: %s", l->store->name, err.msg);
	else
		renew_until_stopped(l, h);
	store_conn_close(h);
	return NULL;
}

static void sleep_for_collector(struct lease *l, struct cancel *cancel)
{
	struct cancel_watch watch = {.mutex = &l->mutex, .cond = &l->cond};

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&l->mutex);
	if (!cancel_requested(cancel))
		sleep_locked(l, POLL_MS);
	pthread_mutex_unlock(&l->mutex);
	cancel_unwatch(cancel, &watch);
}

/* The wait of a creation for a collection to end. */
struct collection_wait {
	uint64_t begun_ms, next_ms;
	struct wait_limit limit;
};

static int check_wait(struct collection_wait *p, const struct lease *l, const struct lease_entry *e,
	struct error *err)
{
	uint64_t waited_ms = lease_clock_ms() - p->begun_ms;
	char limit[32];

	if (p->limit.limited && waited_ms >= p->limit.ms)
		return error_set(err, -EBUSY,
			"%s removes from %s what nobody needs, and was waited for as long as lock_timeout in agent.ini allows (%s)",
			e->who, l->store->name, units_print_duration(p->limit.ms * 1000000, limit));
	if (waited_ms < p->next_ms)
		return 1;
	p->next_ms = waited_ms + LOG_EVERY_MS;
	log_info(
		"waiting for %s, which removes from %s what nobody needs: until it has ended, or for %lld s without a sign of life from it",
		e->who, l->store->name, (long long)e->counts_s);
	return 1;
}

/* 1: a collection is in progress. */
static int check_for_collection(
	struct lease *l, struct store_conn *h, struct collection_wait *p, struct error *err)
{
	const struct lease_entry *collector;
	struct leases all;
	int code;

	/* A gap before this renewal does no harm: the creation has not relied on any object yet. */
	l->renewed_ms = 0;
	code = renew(l, h, err);
	if (code == 0)
		code = lease_list(h, l->key, &all, err);
	if (code < 0)
		return code;
	collector = lease_find(&all, LEASE_COLLECT);
	if (collector != NULL)
		code = check_wait(p, l, collector, err);
	lease_list_done(&all);
	return code;
}

static int await_collection(struct lease *l, struct store_conn *h, const struct wait_limit *limit,
	struct cancel *cancel, struct error *err)
{
	struct collection_wait p = {
		.begun_ms = lease_clock_ms(), .next_ms = LOG_AFTER_MS, .limit = *limit};

	for (;;) {
		int code = check_for_collection(l, h, &p, err);

		if (code <= 0)
			return code;
		sleep_for_collector(l, cancel);
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
	}
}

static int start_renewing(struct lease *l, struct error *err)
{
	int code = thread_start(&l->thread, renewal_thread, l, err);

	l->running = code == 0;
	return code;
}

int lease_take_for(struct store *s, const char *name, const struct lease_times *times,
	struct cancel *cancel, struct lease **ret, struct error *err)
{
	struct lease *l = lease_new(s, LEASE_CREATE, name, times->life_ms);
	struct store_conn *h = NULL;
	int code = store_conn_open(s, cancel, &h, err);

	if (code == 0)
		code = await_collection(l, h, &times->limit, cancel, err);
	store_conn_close(h);
	if (code == 0)
		code = start_renewing(l, err);
	if (code < 0) {
		lease_release(l);
		return code;
	}
	*ret = l;
	return 0;
}

int lease_take_for_collection(
	struct store_conn *h, struct lease **ret, struct leases *others, struct error *err)
{
	struct lease *l = lease_new(h->store, LEASE_COLLECT, NULL, LEASE_COLLECT_LIFE_MS);
	int code = renew(l, h, err);

	*others = (struct leases){0};
	if (code == 0)
		code = lease_list(h, l->key, others, err);
	/* A concurrent collection makes the same check, so at most one goes on; creations have
	 * priority. */
	if (code == 0 && lease_find(others, LEASE_CREATE) == NULL &&
		lease_find(others, LEASE_COLLECT) == NULL) {
		code = start_renewing(l, err);
		if (code == 0) {
			*ret = l;
			return 0;
		}
	}
	lease_release_with(l, h);
	return code;
}

int lease_begin_removing(struct lease *l, struct store_conn *h, struct error *err)
{
	int code;

	pthread_mutex_lock(&l->mutex);
	l->removes = true;
	pthread_mutex_unlock(&l->mutex);
	code = renew(l, h, err);
	return code < 0 ? code : lease_check(l, err);
}

int lease_take(struct store *s, const char *name, const struct wait_limit *limit,
	struct cancel *cancel, struct lease **ret, struct error *err)
{
	struct lease_times times = {.life_ms = LEASE_LIFE_MS};

	if (limit != NULL)
		times.limit = *limit;
	return lease_take_for(s, name, &times, cancel, ret, err);
}

int lease_check(struct lease *l, struct error *err)
{
	bool lost;

	pthread_mutex_lock(&l->mutex);
	update_lost_locked(l);
	lost = l->lost;
	pthread_mutex_unlock(&l->mutex);
	if (!lost)
		return 0;
	if (l->kind == LEASE_COLLECT)
		return error_set(err, -ERR_RESTART,
			"the collection's lease on %s was not renewed in time: the rest is for the next time",
			l->store->name);
	return error_set(err, -ERR_RESTART,
		"the creation's lease on %s was not renewed in time (the store did not answer, or this machine slept), and what it counted on may have been removed: create again, what is still there is not sent twice",
		l->store->name);
}

static void stop_thread(struct lease *l)
{
	if (!l->running)
		return;
	pthread_mutex_lock(&l->mutex);
	l->stop = true;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->mutex);
	cancel_request(&l->cancel);
	pthread_join(l->thread, NULL);
}

void lease_abandon(struct lease *l)
{
	if (l == NULL)
		return;
	stop_thread(l);
	lease_free(l);
}

void lease_release_with(struct lease *l, struct store_conn *h)
{
	if (l == NULL)
		return;
	stop_thread(l);
	lease_remove(h, l->key);
	lease_free(l);
}

void lease_release(struct lease *l)
{
	struct store_conn *h = NULL;

	if (l == NULL)
		return;
	stop_thread(l);
	/* This is also done after a cancel, on a connection of its own: as long as the object
	 * exists no version of that name can be deleted and nothing can be collected. */
	if (store_conn_open(l->store, NULL, &h, NULL) == 0)
		lease_remove(h, l->key);
	store_conn_close(h);
	lease_free(l);
}
