/* SPDX-License-Identifier: MIT */
/* A walk of a directory in which somebody else writes: no link that appears is followed, whenever it appears. The
 * tests change the tree between two steps of the walk, or between the walk and the reading. */
#include "../../agent/create/create_private.h"
#include "defer.h"
#include "open_beneath.h"
#include "test.h"
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct scene {
	char *dir; /* source/, and what is outside of it */
	struct walk_options options;
	struct walk *walk;
	struct create_item *item;
	struct creation creation;
	struct worker worker;
	struct cancel cancel;
	struct error err;
};

static void sh(const struct scene *s, const char *script)
{
	_free_ char *command = text_format("set -e; cd '%s'; %s", s->dir, script);

	assert_int_equal(0, system(command));
}

static void begin(struct scene *s, bool dereference, const char *script)
{
	_free_ char *source = NULL;

	*s = (struct scene){.dir = test_directory()};
	cancel_init(&s->cancel);
	source = text_format("%s/source", s->dir);
	sh(s, "mkdir source outside; echo secret > outside/file; mkdir outside/sub");
	sh(s, script);
	s->options =
		(struct walk_options){.root_fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			.where = "source",
			.dereference = dereference,
			.cancel = &s->cancel};
	s->creation = (struct creation){.root_fd = s->options.root_fd, .where = "source"};
	s->worker = (struct worker){.creation = &s->creation};
	assert_int_equal(0, walk_new(&s->options, &s->walk, &s->err));
}

static void end(struct scene *s)
{
	create_item_free(s->item);
	walk_free(s->walk);
	close(s->options.root_fd);
	cancel_done(&s->cancel);
	free(s->dir);
}

static int step(struct scene *s)
{
	create_item_free(take_ptr(&s->item));
	return walk_next(s->walk, &s->item, &s->err);
}

/* Steps until path comes. */
static void walk_to(struct scene *s, const char *path)
{
	do {
		if (step(s) != 1)
			fail_msg("'%s' does not come: %s", path, s->err.msg);
	} while (strcmp(s->item->path, path) != 0);
}

static int read_item(struct scene *s, char *buf, size_t len)
{
	struct content from;
	int r = content_from_files.open(&s->worker, s->item, &from, &s->err);

	if (r < 0)
		return r;
	r = content_from_files.read(&from, 0, buf, len, &s->err);
	if (r == 0)
		r = content_from_files.check(&from, &s->err);
	content_from_files.close(&from);
	return r;
}

static void directory_becomes_a_link(void *ctx)
{
	struct scene *s = ctx;

	begin(s, false, "mkdir source/a source/b; echo > source/b/file");
	walk_to(s, "a");
	sh(s, "mv source/b was; ln -s ../outside source/b");
	assert_int_equal(-ERR_CHANGED, step(s));
	assert_non_null(strstr(s->err.msg, "'b' in source changed"));
	end(s);
}

TEST(create_does_not_list_a_link_that_took_a_directorys_place)
{
	struct scene s;

	directory_becomes_a_link(&s);
}

static void component_becomes_a_link(void *ctx)
{
	struct scene *s = ctx;
	char buf[16];

	begin(s, false, "mkdir -p source/a/sub; cp outside/file source/a/sub/file");
	walk_to(s, "a/sub/file");
	assert_int_equal(0, read_item(s, buf, 7));
	/* The same file by another way: only how it is reached says that it is not to be read. */
	sh(s, "mv source/a was; ln -s ../was source/a");
	assert_int_equal(-ERR_CHANGED, read_item(s, buf, 7));
	assert_non_null(strstr(s->err.msg, "'a/sub/file'"));
	end(s);
}

TEST(create_does_not_read_through_a_link_that_took_a_directorys_place)
{
	struct scene s;

	component_becomes_a_link(&s);
}

static void both(void *ctx)
{
	directory_becomes_a_link(ctx);
	component_becomes_a_link(ctx);
}

TEST(create_follows_no_link_where_the_kernel_has_no_openat2)
{
	struct refusal refusal = {.syscall = 437 /* openat2 */, .errnum = ENOSYS};
	struct scene s;

	with_refusal(&refusal, both, &s);
}

TEST(create_does_not_read_a_link_that_took_a_files_place)
{
	struct scene s;
	char buf[16];

	begin(&s, false, "cp outside/file source/file");
	walk_to(&s, "file");
	sh(&s, "mv source/file was; ln -s ../was source/file");
	assert_int_equal(-ERR_CHANGED, read_item(&s, buf, 7));
	end(&s);
}

TEST(create_does_not_wait_for_a_fifo_that_took_a_files_place)
{
	struct scene s;
	char buf[16];

	begin(&s, false, "echo 123456 > source/file");
	walk_to(&s, "file");
	sh(&s, "rm source/file; mkfifo source/file");
	assert_int_equal(-ERR_CHANGED, read_item(&s, buf, 7));
	end(&s);
}

TEST(create_stores_the_target_that_a_link_had_when_its_directory_was_listed)
{
	struct scene s;

	begin(&s, false, "mkdir source/a; ln -s file source/a/link; : > source/a/file");
	walk_to(&s, "a/file");
	sh(&s, "mv source/a was; mkdir private; ln -s secret private/link; ln -s ../private "
	       "source/a");
	assert_int_equal(1, step(&s));
	assert_string_equal("file", s.item->target);
	end(&s);
}

TEST(dereferenced_link_that_is_another_by_the_time_it_is_read_is_a_change)
{
	struct scene s;
	char buf[16];

	begin(&s, true, "echo public > public; ln -s ../public source/link; cp -p public other");
	walk_to(&s, "link");
	assert_int_equal(0, read_item(&s, buf, 7));
	assert_memory_equal("public\n", buf, 7);
	sh(&s, "ln -sfn ../other source/link");
	assert_int_equal(-ERR_CHANGED, read_item(&s, buf, 7));
	end(&s);
}

TEST(dereferenced_directory_that_is_another_by_the_time_it_is_listed_is_a_change)
{
	struct scene s;

	begin(&s, true, "mkdir public source/a; ln -s ../public source/b");
	walk_to(&s, "a");
	sh(&s, "ln -sfn ../outside source/b");
	assert_int_equal(-ERR_CHANGED, step(&s));
	end(&s);
}

TEST(dereferencing_still_follows_no_link_where_the_walk_saw_none)
{
	struct scene s;
	char buf[16];

	begin(&s, true, "mkdir source/a; echo 123456 > source/a/file");
	walk_to(&s, "a/file");
	sh(&s, "mv source/a was; ln -s ../was source/a");
	assert_int_equal(-ERR_CHANGED, read_item(&s, buf, 7));
	end(&s);
}

TEST(root_dereferences_links_of_others_only_to_what_is_theirs)
{
	struct scene s;

	if (geteuid() != 0)
		skip();
	begin(&s, true,
		"echo mine > mine; chown 4001 mine; ln -s ../mine source/a; ln -s ../outside/file "
		"source/b; chown -h 4001 source/a source/b");
	walk_to(&s, "a");
	assert_int_equal(-ERR_REFUSED, step(&s));
	assert_non_null(strstr(s.err.msg, "'b' in source is a symbolic link of uid 4001"));
	end(&s);
}

TEST(open_beneath_opens_what_real_directories_lead_to)
{
	struct scene s;
	static const char *const paths[] = {"", ".", "a", "a/b", "a//b/", "a/b/file"};

	begin(&s, false, "mkdir -p source/a/b; : > source/a/b/file; ln -s a source/link");
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		int fd = open_beneath(s.options.root_fd, paths[i], O_RDONLY);

		if (fd < 0)
			fail_msg("'%s': %s", paths[i], strerror(-fd));
		close(fd);
	}
	assert_int_equal(-ENOENT, open_beneath(s.options.root_fd, "a/c", O_RDONLY));
	assert_int_equal(-ENOTDIR, open_beneath(s.options.root_fd, "link/b", O_RDONLY));
	assert_int_equal(-ELOOP, open_beneath(s.options.root_fd, "link", O_RDONLY));
	end(&s);
}

TEST(create_leaves_out_the_agents_state_at_every_depth)
{
	struct scene s;

	begin(&s, false,
		"cd source; mkdir -p .stagerun/cats d/.stagerun-4001/x d/e; : > d/e/.stagerun; : > "
		"d/e/.stagerunner");
	walk_to(&s, ".");
	walk_to(&s, "d");
	assert_int_equal(1, step(&s));
	assert_string_equal("d/e", s.item->path);
	assert_int_equal(1, step(&s));
	assert_string_equal("d/e/.stagerunner", s.item->path);
	assert_int_equal(0, step(&s));
	end(&s);
}
