/* SPDX-License-Identifier: MIT */
/* An entry as a tree of the destination's own: each file shares its blocks with the entry's, is the same file,
 * or is a copy. Several threads; what they hand out to each other is the inventory. */
#include "cache_private.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH       32
#define MAX_THREADS 16

/* Fewer entries are not worth a thread. */
#define ENTRIES_PER_THREAD 64

struct delivery {
	/* Set at creation. */
	const struct cache_target *target;
	struct tree *tree;
	int from_fd; /* the entry's tree */
	enum tree_way way;

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct inventory *inventory;
	bool links; /* the second time through: only further names of files */
	int code;
	struct error err;
};

struct batch {
	struct inventory_entry v[BATCH]; /* their strings are the batch's */
	size_t n;
};

static void batch_done(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->v[i].path);
		free(b->v[i].target);
	}
	b->n = 0;
}

static void fail(struct delivery *d, int code, const struct error *err)
{
	pthread_mutex_lock(&d->mutex);
	if (d->code == 0) {
		d->code = code;
		d->err = *err;
	}
	pthread_mutex_unlock(&d->mutex);
}

static void fill_batch_locked(struct delivery *d, struct batch *b)
{
	struct inventory_entry e;
	int more = 0;

	while (d->code == 0 && b->n < BATCH && (more = inventory_next(d->inventory, &e)) > 0) {
		/* One more name of a file comes when its first is there. */
		if ((e.type == 'h') != d->links)
			continue;
		b->v[b->n] = e;
		b->v[b->n].path = copy_text(e.path);
		b->v[b->n++].target = copy_text(e.target);
	}
	if (more < 0)
		d->code = entry_damaged(&d->err, "its inventory is damaged");
}

static bool next_batch(struct delivery *d, struct batch *b)
{
	pthread_mutex_lock(&d->mutex);
	fill_batch_locked(d, b);
	pthread_mutex_unlock(&d->mutex);
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

static int missing(const struct inventory_entry *e, struct error *err)
{
	return entry_damaged(err, "cannot open '%.300s': %m", e->path);
}

static int bring_symlink(
	struct delivery *d, struct writer *w, const struct inventory_entry *e, struct error *err)
{
	struct stat st;
	struct meta m;

	if (fstatat(d->from_fd, e->path, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return missing(e, err);
	m = meta_for(d, e, &st);
	return writer_symlink(w, e->path, e->target, &m, err);
}

static int bring_content(struct delivery *d, struct writer *w, const struct inventory_entry *e,
	int fd, const struct stat *st, struct error *err)
{
	const struct clone_source from = {
		.fd = fd, .size = e->size, .way = d->way == TREE_SHARE ? CLONE_SHARE : CLONE_COPY};
	struct meta m = meta_for(d, e, st);

	if (e->type == 'f' && ((uint64_t)st->st_size != e->size || !S_ISREG(st->st_mode)))
		return entry_damaged(err, "'%.300s' has %lld bytes instead of %llu", e->path,
			(long long)st->st_size, (unsigned long long)e->size);
	if (e->type == 'f' && d->way == TREE_ADOPT)
		return writer_adopt(w, e->path, d->from_fd, e->path, e->size, err);
	return writer_clone(w, e->path, &m, &from, err);
}

static int bring(
	struct delivery *d, struct writer *w, const struct inventory_entry *e, struct error *err)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_close_ int fd = -1;
	struct stat st;

	if (e->type == 'l')
		return bring_symlink(d, w, e, err);
	if (e->type == 'h')
		return writer_hardlink(w, e->path, e->target, err);
	fd = openat(d->from_fd, e->path, flags | (e->type == 'd' ? O_DIRECTORY : 0));
	if (fd < 0 || fstat(fd, &st) != 0)
		return missing(e, err);
	return bring_content(d, w, e, fd, &st, err);
}

static void bring_batches(struct delivery *d)
{
	struct writer *w = writer_new(d->tree, "the node cache", d->target->progress);
	struct batch b = {0};
	struct error err;

	while (next_batch(d, &b)) {
		int code = 0;

		for (size_t i = 0; i < b.n && code == 0; i++)
			code = bring(d, w, &b.v[i], &err);
		batch_done(&b);
		if (code < 0)
			fail(d, code, &err);
	}
	writer_close(w);
}

static void *thread_main(void *ctx)
{
	bring_batches(ctx);
	return NULL;
}

/* This thread works, too. */
static void bring_all(struct delivery *d)
{
	uint64_t useful = d->inventory->head.entries / ENTRIES_PER_THREAD;
	unsigned want = d->target->threads < MAX_THREADS ? d->target->threads : MAX_THREADS, n = 0;
	pthread_t threads[MAX_THREADS];

	for (; n + 1 < want && n < useful; n++)
		if (pthread_create(&threads[n], NULL, thread_main, d) != 0)
			break;
	bring_batches(d);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static void bring_links(struct delivery *d)
{
	if (d->code != 0 || d->inventory->head.links == 0)
		return;
	inventory_rewind(d->inventory);
	d->links = true;
	bring_batches(d);
}

static int accept_top_name(void *destination, const char *name, struct error *err)
{
	return destination_accepts(destination, name, err);
}

static void dress_root(
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
	pthread_mutex_init(&d->mutex, NULL);
	bring_all(d);
	bring_links(d);
	pthread_mutex_destroy(&d->mutex);
	if (d->code < 0)
		*err = d->err;
	return d->code < 0 ? d->code : tree_finish(d->tree, NULL, err);
}

static int open_tree_for(const struct cache_target *t, struct tree **ret, struct error *err)
{
	struct tree_options opts = t->tree;
	int root_fd, state_fd;
	int code = destination_begin(t->to, t->key, &root_fd, &state_fd, err);

	opts.accept_top_name = accept_top_name;
	opts.accept_ctx = t->to;
	opts.cancel = t->cancel;
	opts.several_sources = false; /* what they have in common was refused before */
	return code < 0 ? code : tree_new(root_fd, state_fd, &opts, ret, err);
}

static int deliver(const struct cache_entry *e, struct delivery *d, struct error *err)
{
	struct record record = deliver_record(e, d->target);
	struct meta root;
	int code = open_tree_for(d->target, &d->tree, err);

	if (code == 0)
		code = fill_tree(d, err);
	record.synced = false;
	if (code == 0)
		record.sum = tree_file_sum(d->tree);
	tree_free(d->tree);
	if (code < 0)
		return code;
	dress_root(d->target, &d->inventory->head, &root);
	return destination_publish(d->target->to, &record, &root, err);
}

int deliver_tree(const struct cache_entry *e, const struct cache_target *t, enum tree_way way,
	struct error *err)
{
	_close_ int from_fd =
		openat(e->key_fd, TREE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct delivery d = {.target = t, .from_fd = from_fd, .way = way};
	int code;

	if (from_fd < 0 || inventory_open(e->key_fd, &d.inventory) < 0)
		return entry_damaged(err, "its tree or its inventory is missing");
	if (t->progress != NULL)
		progress_reset(t->progress);
	code = deliver(e, &d, err);
	inventory_close(d.inventory);
	return code;
}
