/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TESTS_TREE_FIXTURE_H
#define STAGERUN_TESTS_TREE_FIXTURE_H

#include "test.h"
#include "tree.h"
#include <sys/stat.h>

/* A tree over a fresh directory, with one writer. Paths are relative to the tree's root. */
struct fixture {
	struct tree_options opts;
	int root_fd, scratch_fd;
	struct tree *tree;
	struct writer *w;
	struct progress progress;
	struct cancel cancel;
	struct error err;
};

/* TREE_TEST(a_sentence) { ... f ... }: the test runs twice, with openat2 and with the walk. */
#define TREE_TEST(name) \
	static void name##_in(struct fixture *f); \
	TEST(name) \
	{ \
		fixture_run(name##_in, false); \
	} \
	TEST(name##_without_openat2) \
	{ \
		fixture_run(name##_in, true); \
	} \
	static void name##_in(struct fixture *f)

void fixture_run(void (*test)(struct fixture *f), bool no_openat2);

/* Another tree and writer over the same root, after f->opts (or the root) changed. */
void fixture_reopen(struct fixture *f);

/* Closes the writer and finishes the tree. */
int fixture_finish(struct fixture *f, struct meta *ret_root);

/* Entries with a fixed time; the writer's results. */
struct meta meta_of(mode_t mode);
int put_file(struct fixture *f, const char *name, const char *content);
int put_dir(struct fixture *f, const char *name, mode_t mode);
int put_symlink(struct fixture *f, const char *name, const char *target);
int put_hardlink(struct fixture *f, const char *name, const char *target);

struct stat stat_of(struct fixture *f, const char *path); /* lstat; fails the test when absent */
bool is_there(struct fixture *f, const char *path);
void assert_content(struct fixture *f, const char *path, const char *want);
void assert_target(struct fixture *f, const char *path, const char *want);

/* r is code, and the sentence contains words. */
void assert_failed(struct fixture *f, int r, int code, const char *words);
void assert_ok(struct fixture *f, int r);

/* Runs fn on a thread for which a system call fails with errnum: seccomp. fn may not assert. flag:
 * only calls whose argument number `arg` has all these bits. Skips the test where filters are not
 * allowed. */
struct refusal {
	int syscall;
	int errnum;
	unsigned arg;
	uint32_t bits; /* 0: every call */
};
void with_refusal(const struct refusal *refusal, void (*fn)(void *), void *ctx);

/* Everything in between is done with the file access rights of an ordinary user, who is made the
 * owner of the tree's root. */
void become_nobody(struct fixture *f);
void become_root(void);

/* What is logged in between, as one string. The caller frees it. */
void log_capture(struct fixture *f);
char *log_captured(struct fixture *f);

/* An empty tmpfs with so many bytes and inodes for the root. Skips where mounting is not allowed.
 */
void root_on_tmpfs(struct fixture *f, const char *size, const char *inodes);

#endif
