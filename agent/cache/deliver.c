/* SPDX-License-Identifier: MIT */
/* Delivers an entry into a destination, by the first method that works or the one that is set: a
 * mount, a symbolic link, or a tree of the destination's own. The stage's thread, and several
 * threads for the files of a tree. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include "workers.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tree of the destination's own: each file shares its blocks with the entry's file, is a hard
 * link to it, or is a copy. Each thread takes batches of entries from the inventory. */

#define BATCH       32
#define MAX_THREADS 16

/* One more thread is started for so many entries. */
#define ENTRIES_PER_THREAD 64

struct delivery {
	/* Set at creation. */
	const struct cache_target *target;
	struct tree *tree;
	int from_fd; /* the entry's tree */
	enum tree_way way;

	struct workers helpers; /* of the stage's thread */

	/* Under the helpers' lock. */
	struct inventory *inventory;
	bool links; /* the second pass over the inventory: only further names of files */
};

struct delivery_batch {
	struct inventory_entry v[BATCH]; /* the batch owns their strings */
	size_t n;
};

/* The destination's record. Its strings are borrowed from the entry and the target. */
static struct record deliver_record(const struct cache_entry *e, const struct cache_target *t)
{
	struct record record = *e->record;

	record.key = (char *)t->key;
	return record;
}

static void batch_done(struct delivery_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->v[i].path);
		free(b->v[i].target);
	}
	b->n = 0;
}

static void fill_batch_locked(struct delivery *d, struct delivery_batch *b)
{
	struct inventory_entry e;
	struct error err;
	int more = 0;

	while (!workers_must_stop(&d->helpers) && b->n < BATCH &&
		(more = inventory_next(d->inventory, &e)) > 0) {
		/* A further name of a file is created after its first name. */
		if ((e.type == 'h') != d->links)
			continue;
		b->v[b->n] = e;
		b->v[b->n].path = text_copy(e.path);
		b->v[b->n++].target = text_copy(e.target);
	}
	if (more < 0)
		workers_fail_locked(&d->helpers, entry_inventory_failed(more, &err), &err);
}

static bool next_batch(struct delivery *d, struct delivery_batch *b)
{
	pthread_mutex_lock(&d->helpers.mutex);
	fill_batch_locked(d, b);
	pthread_mutex_unlock(&d->helpers.mutex);
	return b->n > 0;
}

static struct meta meta_for(
	const struct delivery *d, const struct inventory_entry *e, const struct stat *st)
{
	return (struct meta){.mode = d->target->read_only ? e->mode & ~0222u : e->mode,
		.mtime = e->mtime,
		.uid = st->st_uid,
		.gid = st->st_gid};
}

/* Belongs to one thread. */
struct delivery_worker {
	struct delivery *delivery;
	struct writer *writer;
	struct parent_lookup from;
};

static int deliver_symlink(const struct delivery_worker *b, const struct inventory_entry *e,
	int dir_fd, const char *base, struct error *err)
{
	const struct delivery *d = b->delivery;
	struct stat st;
	struct meta m;

	if (fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return entry_access_failed(err, e->path);
	m = meta_for(d, e, &st);
	return writer_symlink(b->writer, e->path, e->target, &m, err);
}

/* fd is the opened file or directory. */
static int deliver_content(const struct delivery_worker *b, const struct inventory_entry *e, int fd,
	const struct stat *st, struct error *err)
{
	const struct delivery *d = b->delivery;
	const struct clone_source from = {
		.fd = fd, .size = e->size, .way = d->way == TREE_SHARE ? CLONE_SHARE : CLONE_COPY};
	struct meta m = meta_for(d, e, st);

	return writer_clone(b->writer, e->path, &m, &from, err);
}

static int deliver_opened(const struct delivery_worker *b, const struct inventory_entry *e,
	int dir_fd, const char *base, struct error *err)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_close_ int fd = openat(dir_fd, base, flags | (e->type == 'd' ? O_DIRECTORY : 0));
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return entry_access_failed(err, e->path);
	if (e->type == 'f' && ((uint64_t)st.st_size != e->size || !S_ISREG(st.st_mode)))
		return entry_damaged(err, "'%.300s' has %lld bytes instead of %llu", e->path,
			(long long)st.st_size, (unsigned long long)e->size);
	if (e->type == 'f' && b->delivery->way == TREE_ADOPT)
		return writer_adopt(b->writer, e->path, dir_fd, base, e->size, err);
	return deliver_content(b, e, fd, &st, err);
}

static int deliver_one(
	struct delivery_worker *b, const struct inventory_entry *e, struct error *err)
{
	const char *base;
	int dir_fd;

	if (e->type == 'h')
		return writer_hardlink(b->writer, e->path, e->target, err);
	dir_fd = cache_lookup_parent(&b->from, e->path, &base);
	if (dir_fd < 0)
		return entry_access_failed(err, e->path);
	return e->type == 'l' ? deliver_symlink(b, e, dir_fd, base, err)
			      : deliver_opened(b, e, dir_fd, base, err);
}

static void deliver_batches(struct delivery *d)
{
	struct delivery_worker b = {.delivery = d,
		.writer = writer_new(d->tree, "the node cache", d->target->progress),
		.from = PARENT_LOOKUP(d->from_fd)};
	struct delivery_batch batch = {0};
	struct error err;

	while (next_batch(d, &batch)) {
		int code = 0;

		for (size_t i = 0; i < batch.n && code == 0; i++)
			code = deliver_one(&b, &batch.v[i], &err);
		batch_done(&batch);
		if (code < 0)
			workers_fail(&d->helpers, code, &err);
	}
	cache_lookup_done(&b.from);
	writer_close(b.writer);
}

static void *thread_main(void *ctx)
{
	deliver_batches(ctx);
	return NULL;
}

/* This thread delivers batches, too. */
static void deliver_entries(struct delivery *d)
{
	uint64_t useful = d->inventory->head.entries / ENTRIES_PER_THREAD;
	unsigned want = d->target->threads < MAX_THREADS ? d->target->threads : MAX_THREADS, n = 0;

	while (n + 1 < want && n < useful && workers_start_extra(&d->helpers, thread_main, d))
		n++;
	deliver_batches(d);
	workers_join(&d->helpers);
}

static void deliver_links(struct delivery *d)
{
	if (workers_must_stop(&d->helpers) || d->inventory->head.links == 0)
		return;
	inventory_rewind(d->inventory);
	d->links = true;
	deliver_batches(d);
}

static int accept_top_name(void *destination, const char *name, struct error *err)
{
	return destination_accepts(destination, name, err);
}

static void set_root_meta(
	const struct cache_target *t, const struct inventory_head *head, struct meta *root)
{
	*root = (struct meta){.mode = head->root_mode,
		.mtime = {.tv_sec = head->root_sec, .tv_nsec = head->root_nsec},
		.uid = head->root_uid,
		.gid = head->root_gid};
	if (t->read_only && root->mode != (mode_t)-1)
		root->mode &= ~0222u;
}

static int fill_tree(struct delivery *d, struct error *err)
{
	int code;

	workers_init(&d->helpers, MAX_THREADS, NULL);
	deliver_entries(d);
	deliver_links(d);
	code = workers_outcome(&d->helpers, err);
	workers_done(&d->helpers);
	return code == 0 ? tree_finish(d->tree, NULL, err) : code;
}

static int open_tree_for(const struct cache_target *t, struct tree **ret, struct error *err)
{
	struct tree_options opts = t->tree;
	int root_fd, state_fd;
	int code = destination_begin(t->to, t->key, &root_fd, &state_fd, err);

	opts.accept_top_name = accept_top_name;
	opts.accept_ctx = t->to;
	opts.losses = destination_losses(t->to);
	opts.cancel = t->cancel;
	/* Names in more than one source were refused when the entry was filled. */
	opts.several_sources = false;
	return code < 0 ? code : tree_new(root_fd, state_fd, &opts, ret, err);
}

static int fill_and_publish(const struct cache_entry *e, struct delivery *d, struct error *err)
{
	struct record record = deliver_record(e, d->target);
	struct meta root;
	int code = open_tree_for(d->target, &d->tree, err);

	if (code == 0)
		code = fill_tree(d, err);
	record.synced = false;
	record.shared = d->way == TREE_ADOPT;
	if (code == 0)
		record.sum = tree_file_sum(d->tree);
	tree_free(d->tree);
	if (code < 0)
		return code;
	set_root_meta(d->target, &d->inventory->head, &root);
	return destination_publish(d->target->to, &record, &root, err);
}

static int deliver_tree(const struct cache_entry *e, const struct cache_target *t,
	enum tree_way way, struct error *err)
{
	_close_ int from_fd =
		openat(e->key_fd, CACHE_TREE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct delivery d = {.target = t, .from_fd = from_fd, .way = way};
	int code;

	if (from_fd < 0)
		return entry_access_failed(err, CACHE_TREE_NAME);
	code = inventory_open(e->key_fd, &d.inventory);
	if (code < 0)
		return entry_inventory_failed(code, err);
	if (t->progress != NULL)
		progress_reset(t->progress);
	code = fill_and_publish(e, &d, err);
	inventory_close(d.inventory);
	return code;
}

/* The methods. The stage's thread.
 *
 * A link or a mount takes the same time for any number of files, since it leaves them where they
 * are: it is used for destinations that are read-only. Root could write nevertheless, through a
 * link or a hard link, into files that others use: so root gets these only if the settings name
 * them. A mount is for the first process of a container, since it disappears with that container;
 * any other process would leave it behind. */

struct delivery_way {
	const char *name;
	enum cache_delivery delivery;
	bool keeps; /* the destination refers to the entry, which must be kept */
	/* Returns NULL, or the reason why the method cannot be used. forced: the settings name
	 * it. */
	const char *(*why_not)(const struct cache_target *t, bool forced);
	int (*deliver)(
		const struct cache_entry *e, const struct cache_target *t, struct error *err);
};

static const char *unless_read_only(const struct cache_target *t, bool forced)
{
	if (!t->read_only)
		return "the destination is to be written to: only read-only datastores can share files with the cache";
	if (!forced && geteuid() == 0)
		return "root could write into the cache";
	return NULL;
}

static const char *unless_kept(const struct cache_target *t, bool forced)
{
	const char *why = unless_read_only(t, forced);

	if (why == NULL && !forced && !t->keeps)
		return "nobody goes on to use it";
	return why;
}

static const char *unless_first_process(const struct cache_target *t, bool forced)
{
	if (!t->read_only)
		return unless_read_only(t, forced);
	if (!forced && (!t->keeps || getpid() != 1))
		return "this is not the first process of a container";
	return NULL;
}

static const char *always(const struct cache_target *t, bool forced)
{
	(void)t;
	(void)forced;
	return NULL;
}

static int check_limits(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	const struct tree_limits *l = &t->tree.limits;
	char size[32];

	if (e->record->bytes > l->max_bytes)
		return error_set(err, -ERR_LIMIT, "%s: the files are larger than %s (%s)", e->what,
			units_print_size(l->max_bytes, size),
			l->bytes_why != NULL ? l->bytes_why : "limits.max_bytes");
	if (e->record->entries > l->max_entries)
		return error_set(err, -ERR_LIMIT,
			"%s: there are more than %llu entries (limits.max_entries)", e->what,
			(unsigned long long)l->max_entries);
	return 0;
}

static int deliver_by_mount(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	struct record record = deliver_record(e, t);
	int code = check_limits(e, t, err);

	return code < 0 ? code : destination_publish_mount(t->to, t->key, e->path, &record, err);
}

static int deliver_by_symlink(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	struct record record = deliver_record(e, t);
	int code = check_limits(e, t, err);

	return code < 0 ? code : destination_publish_link(t->to, t->key, e->path, &record, err);
}

static int deliver_by_reflink(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_SHARE, err);
}

static int deliver_by_hardlink(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_ADOPT, err);
}

static int deliver_by_copy(
	const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_COPY, err);
}

/* In the order in which they are tried. */
static const struct delivery_way ways[] = {
	{"bind", CACHE_BIND, true, unless_first_process, deliver_by_mount},
	{"symlink", CACHE_SYMLINK, true, unless_kept, deliver_by_symlink},
	{"reflink", CACHE_REFLINK, false, always, deliver_by_reflink},
	{"hardlink", CACHE_HARDLINK, false, unless_read_only, deliver_by_hardlink},
	{"copy", CACHE_COPY, false, always, deliver_by_copy},
};

/* Whether this failure means that the method does not work here, so that another one may. */
static bool is_unsupported(const struct delivery_way *w, int code)
{
	if (w->keeps)
		return code == -EBUSY || code == -ENOTEMPTY || code == -EPERM || code == -EACCES ||
		       code == -ENOSYS || code == -EINVAL || code == -ENOENT || code == -EXDEV ||
		       code == -EOPNOTSUPP || code == -ENOTDIR;
	return w->delivery != CACHE_COPY &&
	       (code == -EOPNOTSUPP || code == -EXDEV || code == -EINVAL || code == -ENOTTY ||
		       code == -EPERM || code == -EMLINK || code == -ENOSYS || code == -ETXTBSY);
}

static int deliver_as_set(const struct cache_entry *e, const struct cache_target *t,
	const struct delivery_way *w, struct error *err)
{
	const char *why = w->why_not(t, true);
	int code;

	if (why != NULL)
		return error_set(
			err, -ERR_CONFIG, "cache.deliver = %s cannot be done: %s", w->name, why);
	code = w->deliver(e, t, err);
	return is_unsupported(w, code)
		       ? error_prefix(err, "cache.deliver = %s cannot be done", w->name)
		       : code;
}

static int deliver_first_possible(const struct cache_entry *e, const struct cache_target *t,
	const struct delivery_way **ret, struct error *err)
{
	int code = -EOPNOTSUPP;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		const char *why = ways[i].why_not(t, false);

		if (why != NULL)
			continue;
		*ret = &ways[i];
		code = ways[i].deliver(e, t, err);
		if (!is_unsupported(&ways[i], code))
			return code;
		log_debug("no %s from the node cache: %s", ways[i].name, err->msg);
	}
	return code;
}

static const struct delivery_way *way_of(enum cache_delivery delivery)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (ways[i].delivery == delivery)
			return &ways[i];
	return NULL;
}

int cache_deliver(struct cache_entry *e, const struct cache_target *t, const char **ret_how,
	bool *ret_keep, struct error *err)
{
	const struct delivery_way *w = way_of(e->cache->deliver);
	int code = w != NULL ? deliver_as_set(e, t, w, err) : deliver_first_possible(e, t, &w, err);

	if (code < 0)
		return code;
	*ret_how = w->name;
	*ret_keep = w->keeps;
	return 0;
}
