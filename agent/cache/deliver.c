/* SPDX-License-Identifier: MIT */
/* Which way an entry comes into a destination. The stage's thread.
 *
 * A link or a mount leaves the files where they are, for any number of them in the same time: for destinations
 * that nobody is to write to. Root could write all the same, through a link or a hard link, into what others
 * use: it gets those only when they are asked for by name. A mount is for the first process of a container,
 * with which it goes: anybody else would leave it behind. */
#include "cache_private.h"
#include "log.h"
#include <errno.h>
#include <unistd.h>

struct way {
	const char *name;
	enum cache_delivery delivery;
	bool keeps; /* the entry is used from where it is */
	/* NULL, or why not. forced: asked for by name. */
	const char *(*why_not)(const struct cache_target *t, bool forced);
	int (*deliver)(
		const struct cache_entry *e, const struct cache_target *t, struct error *err);
};

static const char *unless_read_only(const struct cache_target *t, bool forced)
{
	if (!t->read_only)
		return "the destination is to be written to: only read-only datastores can share "
		       "files with the cache";
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
			print_size(l->max_bytes, size),
			l->bytes_why != NULL ? l->bytes_why : "limits.max_bytes");
	if (e->record->entries > l->max_entries)
		return error_set(err, -ERR_LIMIT,
			"%s: there are more than %llu entries (limits.max_entries)", e->what,
			(unsigned long long)l->max_entries);
	return 0;
}

struct record deliver_record(const struct cache_entry *e, const struct cache_target *t)
{
	struct record record = *e->record;

	record.key = (char *)t->key;
	return record;
}

static int by_mount(const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	struct record record = deliver_record(e, t);
	int code = check_limits(e, t, err);

	return code < 0 ? code : destination_publish_mount(t->to, t->key, e->path, &record, err);
}

static int by_symlink(const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	struct record record = deliver_record(e, t);
	int code = check_limits(e, t, err);

	return code < 0 ? code : destination_publish_link(t->to, t->key, e->path, &record, err);
}

static int by_reflink(const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_SHARE, err);
}

static int by_hardlink(const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_ADOPT, err);
}

static int by_copy(const struct cache_entry *e, const struct cache_target *t, struct error *err)
{
	return deliver_tree(e, t, TREE_COPY, err);
}

/* In the order in which they are tried. */
static const struct way ways[] = {
	{"bind", CACHE_BIND, true, unless_first_process, by_mount},
	{"symlink", CACHE_SYMLINK, true, unless_kept, by_symlink},
	{"reflink", CACHE_REFLINK, false, always, by_reflink},
	{"hardlink", CACHE_HARDLINK, false, unless_read_only, by_hardlink},
	{"copy", CACHE_COPY, false, always, by_copy},
};

/* Another way may work after this failure; others would only fail again. */
static bool is_no_way(const struct way *w, int code)
{
	if (w->keeps)
		return code == -EBUSY || code == -ENOTEMPTY || code == -EPERM || code == -EACCES ||
		       code == -ENOSYS || code == -EINVAL || code == -ENOENT || code == -EXDEV ||
		       code == -EOPNOTSUPP || code == -ENOTDIR;
	return w->delivery != CACHE_COPY &&
	       (code == -EOPNOTSUPP || code == -EXDEV || code == -EINVAL || code == -ENOTTY ||
		       code == -EPERM || code == -EMLINK || code == -ENOSYS || code == -ETXTBSY);
}

static int by_force(const struct cache_entry *e, const struct cache_target *t, const struct way *w,
	struct error *err)
{
	const char *why = w->why_not(t, true);
	int code;

	if (why != NULL)
		return error_set(
			err, -ERR_CONFIG, "cache.deliver = %s cannot be done: %s", w->name, why);
	code = w->deliver(e, t, err);
	return is_no_way(w, code) ? error_prefix(err, "cache.deliver = %s cannot be done", w->name)
				  : code;
}

static int by_itself(const struct cache_entry *e, const struct cache_target *t,
	const struct way **ret, struct error *err)
{
	int code = -EOPNOTSUPP;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		const char *why = ways[i].why_not(t, false);

		if (why != NULL)
			continue;
		*ret = &ways[i];
		code = ways[i].deliver(e, t, err);
		if (!is_no_way(&ways[i], code))
			return code;
		log_debug("no %s from the node cache: %s", ways[i].name, err->msg);
	}
	return code;
}

static const struct way *find_way(enum cache_delivery delivery)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (ways[i].delivery == delivery)
			return &ways[i];
	return NULL;
}

int cache_deliver(struct cache_entry *e, const struct cache_target *t, const char **ret_how,
	bool *ret_keep, struct error *err)
{
	const struct way *w = find_way(e->cache->deliver);
	int code = w != NULL ? by_force(e, t, w, err) : by_itself(e, t, &w, err);

	if (code < 0)
		return code;
	*ret_how = w->name;
	*ret_keep = w->keeps;
	return 0;
}
