/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TESTS_TREE_FIXTURE_H
#define STAGERUN_TESTS_TREE_FIXTURE_H

#include "test.h"
#include "tree.h"
#include <sys/stat.h>

/* A tree in a new directory, with one writer. Paths are relative to the tree's root. */
struct fixture {
	struct tree_options opts;
	int root_fd, scratch_fd;
	struct tree *tree;
	struct writer *w;
	struct progress progress;
	struct cancel cancel;
	struct error err;
};

/* TREE_TEST(a_sentence) { ... f ... }: the test runs twice, once with openat2(), and once without
 * it, with the walk that replaces it. */
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

/* Replaces the tree and the writer by new ones for the same root, after f->opts or the root
 * changed. */
void fixture_reopen(struct fixture *f);

/* Closes the writer and finishes the tree. */
int fixture_finish(struct fixture *f, struct meta *ret_root);

/* Create entries with a fixed time. The put functions return the writer's result. */
struct meta meta_of(mode_t mode);
int put_file(struct fixture *f, const char *name, const char *content);
int put_dir(struct fixture *f, const char *name, mode_t mode);
int put_symlink(struct fixture *f, const char *name, const char *target);
int put_hardlink(struct fixture *f, const char *name, const char *target);

struct stat stat_of(struct fixture *f, const char *path); /* lstat; fails the test if it fails */
bool is_there(struct fixture *f, const char *path);
void assert_content(struct fixture *f, const char *path, const char *want);
void assert_target(struct fixture *f, const char *path, const char *want);

/* Asserts that r is code, and that the message of f->err contains words. */
void assert_failed(struct fixture *f, int r, int code, const char *words);
void assert_ok(struct fixture *f, int r);

/* Runs fn on a thread in which a system call fails with errnum, by a seccomp filter. If bits is
 * not 0, only calls whose argument number `arg` has all these bits fail. fn must not assert.
 * Skips the test if seccomp filters are not permitted. */
struct refusal {
	int syscall;
	int errnum;
	unsigned arg;
	uint32_t bits; /* 0: every call */
};
void with_refusal(const struct refusal *refusal, void (*fn)(void *), void *ctx);

/* Between the two calls, this process has the file access rights of an ordinary user, who becomes
 * the owner of the tree's root. */
void become_nobody(struct fixture *f);
void become_root(void);

/* Redirects the log to memory, until log_captured() returns the lines; heap. */
void log_capture(struct fixture *f);
char *log_captured(struct fixture *f);

/* Replaces the root by an empty tmpfs with this many bytes and inodes. Skips the test if mounting
 * is not permitted. */
void root_on_tmpfs(struct fixture *f, const char *size, const char *inodes);

#endif
