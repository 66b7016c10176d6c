/* SPDX-License-Identifier: MIT */
/* Helpers for the tests of trees: a tree in a new directory, entries with common metadata, and
 * ways to make system calls fail. */
#include "tree_fixture.h"
#include "log.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY    65534
#define LOG_BYTES ((size_t)64 << 10)

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

void fixture_reopen(struct fixture *f)
{
	writer_close(f->w);
	tree_free(f->tree);
	f->w = NULL;
	f->tree = NULL;
	assert_ok(f, tree_new(f->root_fd, f->scratch_fd, &f->opts, &f->tree, &f->err));
	f->w = writer_new(f->tree, "test.tar", &f->progress);
}

void fixture_run(void (*test)(struct fixture *f), bool no_openat2)
{
	char *root = test_directory(), *scratch = test_directory();
	struct fixture f = {
		.opts = {.limits = {.max_bytes = UINT64_MAX,
				 .max_entries = UINT64_MAX,
				 .max_path = 4096},
			.uid = (uid_t)-1,
			.gid = (gid_t)-1,
			.no_openat2 = no_openat2},
		.root_fd = open_dir(root),
		.scratch_fd = open_dir(scratch),
	};

	become_root(); /* a failed test may have left another user's ids */
	cancel_init(&f.cancel);
	f.opts.cancel = &f.cancel;
	fixture_reopen(&f);
	test(&f);
	writer_close(f.w);
	tree_free(f.tree);
	cancel_done(&f.cancel);
	close(f.root_fd);
	close(f.scratch_fd);
	free(root);
	free(scratch);
}

int fixture_finish(struct fixture *f, struct meta *ret_root)
{
	writer_close(f->w);
	f->w = NULL;
	return tree_finish(f->tree, ret_root, &f->err);
}

struct meta meta_of(mode_t mode)
{
	return (struct meta){.mode = mode, .mtime = {1000000000, 123456789}};
}

int put_file(struct fixture *f, const char *name, const char *content)
{
	struct slice s = {.data = (const uint8_t *)content, .len = strlen(content)};
	struct meta m = meta_of(0644);

	return writer_file(f->w, name, &m, &s, &f->err);
}

int put_dir(struct fixture *f, const char *name, mode_t mode)
{
	struct meta m = meta_of(mode);

	return writer_dir(f->w, name, &m, &f->err);
}

int put_symlink(struct fixture *f, const char *name, const char *target)
{
	struct meta m = meta_of(0777);

	return writer_symlink(f->w, name, target, &m, &f->err);
}

int put_hardlink(struct fixture *f, const char *name, const char *target)
{
	return writer_hardlink(f->w, name, target, &f->err);
}

struct stat stat_of(struct fixture *f, const char *path)
{
	struct stat st;

	if (fstatat(f->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("'%s' is not there", path);
	return st;
}

bool is_there(struct fixture *f, const char *path)
{
	struct stat st;

	return fstatat(f->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

void assert_content(struct fixture *f, const char *path, const char *want)
{
	char have[4096];
	int fd = openat(f->root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		fail_msg("cannot open '%s'", path);
	n = read(fd, have, sizeof(have) - 1);
	close(fd);
	assert_true(n >= 0);
	have[n] = '\0';
	assert_string_equal(have, want);
}

void assert_target(struct fixture *f, const char *path, const char *want)
{
	char have[PATH_MAX];
	ssize_t n = readlinkat(f->root_fd, path, have, sizeof(have) - 1);

	if (n < 0)
		fail_msg("'%s' is no symbolic link", path);
	have[n] = '\0';
	assert_string_equal(have, want);
}

void assert_failed(struct fixture *f, int r, int code, const char *words)
{
	if (r != code || f->err.code != code)
		fail_msg("returned %d (error %d: %s), wanted %d", r, f->err.code, f->err.msg, code);
	if (strstr(f->err.msg, words) == NULL)
		fail_msg("'%s' does not say '%s'", f->err.msg, words);
}

void assert_ok(struct fixture *f, int r)
{
	if (r != 0)
		fail_msg("%d: %s", r, f->err.msg);
}

struct refused_call {
	const struct refusal *refusal;
	void (*fn)(void *);
	void *ctx;
	bool filtered;
};

static bool install(const struct refusal *refusal)
{
	uint32_t action = SECCOMP_RET_ERRNO | (uint32_t)refusal->errnum;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusal->syscall, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, args) + 8u * (size_t)refusal->arg),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, refusal->bits),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal->bits, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void *filtered_thread(void *arg)
{
	struct refused_call *call = arg;

	call->filtered = install(call->refusal);
	if (call->filtered)
		call->fn(call->ctx);
	return NULL;
}

/* A seccomp filter applies to one thread, and cannot be removed. */
void with_refusal(const struct refusal *refusal, void (*fn)(void *), void *ctx)
{
	struct refused_call call = {.refusal = refusal, .fn = fn, .ctx = ctx};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, filtered_thread, &call), 0);
	pthread_join(thread, NULL);
	if (!call.filtered)
		skip();
}

void become_nobody(struct fixture *f)
{
	if (geteuid() != 0)
		return;
	assert_int_equal(fchown(f->root_fd, NOBODY, NOBODY), 0);
	assert_int_equal(fchown(f->scratch_fd, NOBODY, NOBODY), 0);
	setfsgid(NOBODY);
	setfsuid(NOBODY);
}

void become_root(void)
{
	setfsuid(geteuid());
	setfsgid(getegid());
}

static int log_fd = -1;

void log_capture(struct fixture *f)
{
	log_fd = openat(f->scratch_fd, "log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(log_fd >= 0);
	log_setup(LOG_WARN, LOG_TEXT, log_fd);
}

char *log_captured(struct fixture *f)
{
	char *all = zalloc(LOG_BYTES);

	(void)f;
	log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
	assert_true(pread(log_fd, all, LOG_BYTES - 1, 0) >= 0);
	close(log_fd);
	log_fd = -1;
	return all;
}

void root_on_tmpfs(struct fixture *f, const char *size, const char *inodes)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mount = -1;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) == 0 &&
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0) == 0 &&
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (fs >= 0)
		close(fs);
	if (mount < 0)
		skip();
	close(f->root_fd);
	f->root_fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(mount);
	assert_true(f->root_fd >= 0);
	fixture_reopen(f);
}
