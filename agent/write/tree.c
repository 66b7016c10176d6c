/* SPDX-License-Identifier: MIT */
/* A tree from its empty root to the finished directory: what all its writers share, and what can
 * only be done after the last of them. */
#include "beneath.h"
#include "metadata.h"
#include "text.h"
#include "tree_private.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_BITS (S_IRWXU | S_IRWXG | S_IRWXO)

/* The agent's umask is 0, and then open() alone gives a file its mode. Under another one, or a
 * default ACL, it takes a second call for each file; so look once what becomes of a file's mode. */
static mode_t find_mode_lost(int root_fd)
{
	mode_t lost = MODE_BITS;
	int fd = unnamed_file(root_fd, MODE_BITS);
	struct stat st;

	if (fd < 0)
		return lost;
	if (fstat(fd, &st) == 0)
		lost = MODE_BITS & ~st.st_mode;
	close(fd);
	return lost;
}

int tree_new(int root_fd, int scratch_fd, const struct tree_options *opts, struct tree **ret,
	struct error *err)
{
	struct tree *t = zalloc(sizeof(*t));
	unsigned max_path = opts->limits.max_path;
	int r = spool_init(&t->spool, scratch_fd, err);

	t->root_fd = root_fd;
	t->opts = *opts;
	t->max_path = max_path < PATH_MAX ? max_path : PATH_MAX - 1;
	t->openat2 = !opts->no_openat2 && beneath_has_openat2(root_fd);
	t->mode_lost = find_mode_lost(root_fd);
	t->root_meta.mode = (mode_t)-1;
	pthread_mutex_init(&t->mutex, NULL);
	if (r < 0) {
		tree_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct tree *tree_new_sink(const struct tree_sink *sink, void *ctx, const struct tree_options *opts)
{
	struct tree *t = zalloc(sizeof(*t));
	unsigned max_path = opts->limits.max_path;

	t->root_fd = -1;
	t->opts = *opts;
	t->max_path = max_path < PATH_MAX ? max_path : PATH_MAX - 1;
	t->sink = sink;
	t->sink_ctx = ctx;
	pthread_mutex_init(&t->mutex, NULL);
	return t;
}

void tree_free(struct tree *t)
{
	if (t == NULL)
		return;
	if (t->sink == NULL)
		spool_done(&t->spool);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}

/* Links are judged first: a directory that may not be entered could hide one. */
int tree_finish(struct tree *t, struct meta *ret_root_meta, struct error *err)
{
	int r;

	if ((r = symlinks_judge(t, err)) < 0 || (r = directories_finish(t, err)) < 0)
		return r;
	if (ret_root_meta != NULL) {
		*ret_root_meta = t->root_meta;
		metadata_owner(&t->opts, &t->root_meta, &ret_root_meta->uid, &ret_root_meta->gid);
	}
	return 0;
}
