/* SPDX-License-Identifier: MIT */
/* Going on where a killed run was interrupted. Stage thread. The tree is known by what was asked for, and by the
 * version of what it came from; only when both are the same is a file in it taken for what the archive has. */
#include "defer.h"
#include "log.h"
#include "source.h"
#include "stage_datastore.h"
#include "stage_private.h"
#include <inttypes.h>

static int accept_top_name(void *destination, const char *name, struct error *err)
{
	return destination_accepts(destination, name, err);
}

static int new_tree(struct stage *s, struct error *err)
{
	struct tree_options opts = stage_tree_options(s);

	opts.cancel = &s->attempt;
	opts.accept_top_name = accept_top_name;
	opts.accept_ctx = s->destination;
	return tree_new(s->root_fd, s->state_fd, &opts, &s->tree, err);
}

/* Of several sources, a name that is there already is an error, and whose it is nobody would know. */
static bool can_continue(const struct stage *s)
{
	return s->n_sources == 1 && !s->anew;
}

int stage_open_tree(struct stage *s, struct error *err)
{
	int code = can_continue(s) ? destination_continue(
					     s->destination, s->key, &s->root_fd, &s->state_fd, err)
				   : destination_begin(s->destination, s->key, &s->root_fd,
					     &s->state_fd, err);

	return code < 0 ? code : new_tree(s, err);
}

/* In an empty tree. keep: what was kept of the download is of this version. */
static int begin_anew(struct stage *s, bool keep, struct error *err)
{
	int code;

	if (!keep)
		log_info("%s has changed since an earlier run was interrupted: nothing of that is "
			 "used",
			s->progress[0].name);
	tree_free(take_ptr(&s->tree));
	code = keep ? destination_restart(s->destination, s->key, &s->root_fd, &s->state_fd, err)
		    : destination_begin(s->destination, s->key, &s->root_fd, &s->state_fd, err);
	return code < 0 ? code : new_tree(s, err);
}

/* Until a digest of the whole is compared, nothing says that the files are what they should be: those of an
 * earlier run were never compared. The files of a datastore were, each. */
static bool is_digested_at_the_end(const struct stage *s)
{
	return s->sources[0].sha256 != NULL && !stage_is_datastore(s->sources[0].url);
}

static int note(
	struct stage *s, const struct identity *id, struct timespec *ret_since, struct error *err)
{
	_free_ char *key = source_key(s->sources[0].url);
	struct record_source source = {
		.key = key, .name = (char *)s->progress[0].name, .identity = *id};
	const struct record r = {.key = s->key, .sources = &source, .n_sources = 1};

	return destination_note(s->destination, &r, ret_since, err);
}

int stage_continue(struct stage *s, const struct identity *id, struct error *err)
{
	const struct record *left = destination_continued(s->destination);
	bool same = left != NULL && left->n_sources == 1 &&
		    identity_same(&left->sources[0].identity, id);
	bool go_on = same && !is_digested_at_the_end(s);
	struct timespec since;
	int code = 0;

	if (s->n_sources > 1)
		return 0;
	if (left != NULL && !go_on)
		code = begin_anew(s, same, err);
	if (code < 0 || !identity_pins(id))
		return code;
	code = note(s, id, &since, err);
	if (code == 0 && go_on)
		tree_continue(s->tree, &since);
	return code;
}

void stage_tell_continued(const struct stage *s)
{
	uint64_t found = tree_found(s->tree);

	if (found > 0)
		log_info("%s: %" PRIu64 " of %" PRIu64
			 " entries were there already, from a run that was interrupted",
			s->progress[0].name, found, counted(&s->progress[0].entries));
}
