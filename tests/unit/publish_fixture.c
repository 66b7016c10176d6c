/* SPDX-License-Identifier: MIT */
/* Helpers for the tests of publishing: a minimal stage, child processes of other users, and child
 * processes that are killed at a chosen system call. */
#include "publish_fixture.h"
#include "defer.h"
#include "test.h"
#include "text.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

char *in(const char *dir, const char *name)
{
	static struct strings kept; /* still reachable at exit, so not a leak */
	_free_ char *path = text_format("%s/%s", dir, name);

	text_strings_add(&kept, path);
	return kept.v[kept.n - 1];
}

static int put_at(int dir_fd, const char *name, const char *content)
{
	_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t len = strlen(content);

	return fd >= 0 && write(fd, content, len) == (ssize_t)len ? 0 : -errno;
}

void put_text(const char *path, const char *content)
{
	assert_int_equal(0, put_at(AT_FDCWD, path, content));
}

static const char *content_of(const struct staging *s)
{
	return s->etag != NULL ? s->etag : "no version";
}

static int fill_directory(int root_fd, const char *name, const struct staging *s)
{
	_close_ int fd = mkdirat(root_fd, name, 0755) != 0
				 ? -1
				 : openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int code = fd < 0 ? -errno : put_at(fd, "inside", content_of(s));

	if (code == 0 && s->dir_mode != 0 && fchmod(fd, s->dir_mode) != 0)
		return -errno;
	return code;
}

/* Calls f with each name of s; the name of a directory is passed without its slash. */
static int each_name(
	const struct staging *s, int (*f)(void *ctx, const char *name, bool is_dir), void *ctx)
{
	_free_ char *names = text_copy(s->names);
	char *state = NULL;
	int code = 0;

	for (char *name = strtok_r(names, " ", &state); name != NULL && code == 0;
		name = strtok_r(NULL, " ", &state)) {
		size_t len = strlen(name);
		bool is_dir = name[len - 1] == '/';

		name[len - is_dir] = '\0';
		code = f(ctx, name, is_dir);
	}
	return code;
}

struct filling {
	const struct staging *s;
	int fd;
	struct file_sum sum;
};

static int fill_one(void *ctx, const char *name, bool is_dir)
{
	const struct filling *f = ctx;

	return is_dir ? fill_directory(f->fd, name, f->s) : put_at(f->fd, name, content_of(f->s));
}

int fill(int root_fd, const struct staging *s)
{
	return each_name(s, fill_one, &(struct filling){.s = s, .fd = root_fd});
}

struct record *record_for(const struct staging *s)
{
	struct record *r = zalloc(sizeof(*r));

	*r = (struct record){.key = text_copy(s->key),
		.sources = zalloc(sizeof(*r->sources)),
		.n_sources = 1,
		.bytes = 5000000000,
		.entries = 3,
		.synced = s->synced,
		.staged_at = 1767323045};
	*r->sources = (struct record_source){
		.name = text_copy("http://host/cats.tar"), .identity.size = SIZE_UNKNOWN};
	if (s->lineage != NULL)
		snprintf(r->lineage, sizeof(r->lineage), "%s", s->lineage);
	if (s->etag != NULL)
		snprintf(r->sources->identity.etag, sizeof(r->sources->identity.etag), "\"%s\"",
			s->etag);
	return r;
}

static int add_mark(void *ctx, const char *name, bool is_dir)
{
	struct filling *f = ctx;
	_free_ char *path = text_format("%s%s", name, is_dir ? "/inside" : "");

	f->sum.dense += file_sum_mark(path, strlen(content_of(f->s)));
	return 0;
}

static struct file_sum sum_of(const struct staging *s)
{
	struct filling f = {.s = s, .sum.known = s->summed};

	(void)each_name(s, add_mark, &f);
	return f.sum;
}

static bool is_same_version(const struct record *have, const struct record *want)
{
	return have != NULL && want->sources->identity.etag[0] != '\0' &&
	       strcmp(have->sources->identity.etag, want->sources->identity.etag) == 0;
}

static int accept_one(void *ctx, const char *name, bool is_dir)
{
	(void)is_dir;
	return destination_accepts(ctx, name, NULL);
}

static int unpack_and_publish(struct destination *d, const struct staging *s,
	const struct record *record, struct error *err)
{
	const struct meta root = {.mode = s->root_mode != 0 ? s->root_mode : (mode_t)-1,
		.mtime = {.tv_sec = 1000000000, .tv_nsec = 7},
		.uid = (uid_t)-1,
		.gid = (gid_t)-1};
	int root_fd, state_fd;
	int code = destination_begin(d, s->key, &root_fd, &state_fd, err);

	if (code == 0)
		code = each_name(s, accept_one, d) < 0 ? -EEXIST : 0;
	if (code < 0)
		return code;
	code = fill(root_fd, s);
	return code < 0 ? code : destination_publish(d, record, &root, err);
}

int stage(const struct staging *s, struct error *err)
{
	const struct destination_options opts = {.replace = s->replace,
		.renew = s->renew,
		.keep_replaced = s->renew,
		.cancel = s->cancel};
	struct record *record = record_for(s);
	struct destination *d = NULL;
	int code = destination_open(s->to, &opts, &d, err);

	record->sum = sum_of(s);
	if (code == 0 && is_same_version(destination_holds(d, s->key), record))
		code = WARM;
	else if (code == 0)
		code = unpack_and_publish(d, s, record, err);
	destination_close(d, false);
	publish_record_free(record);
	return code;
}

static int check_one(void *ctx, const char *name, bool is_dir)
{
	const struct staging *s = ctx;
	_free_ char *path = text_format("%s/%s%s", s->to, name, is_dir ? "/inside" : "");
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char content[64] = {0};

	if (fd < 0 || read(fd, content, sizeof(content) - 1) < 0)
		return -errno;
	return strcmp(content, content_of(s)) == 0 ? 0 : -EINVAL;
}

bool is_complete(const struct staging *s)
{
	struct staging copy = *s;

	return each_name(s, check_one, &copy) == 0;
}

bool exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool name_exists(const char *dir, const char *name)
{
	_free_ char *path = text_format("%s/%s", dir, name);

	return exists(path);
}

static int is_listed(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

char *list(const char *dir)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_listed, alphasort);
	struct text t = {0};

	for (int i = 0; i < n; i++) {
		text_addf(&t, "%s%s", i > 0 ? " " : "", names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return text_take(&t);
}

void expect(bool good, unsigned line)
{
	if (!good)
		_exit((int)(line % 250) + 1);
}

int in_child(uid_t uid, int (*f)(void *ctx), void *ctx)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (uid != geteuid() && (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 ||
						setresuid(uid, uid, uid) != 0))
			_exit(254);
		_exit(f(ctx));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* These calls change nothing that other processes see. To be killed at one of them is the same as
 * to be killed at the next call that does. */
static bool changes_nothing(uint64_t number)
{
	static const uint64_t calls[] = {SYS_read, SYS_close, SYS_lseek, SYS_fstat, SYS_newfstatat,
		SYS_statx, SYS_fcntl, SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise,
		SYS_getdents64, SYS_getcwd, SYS_readlinkat, SYS_faccessat, SYS_faccessat2,
		SYS_geteuid, SYS_getpid, SYS_gettid, SYS_rt_sigprocmask, SYS_futex};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (calls[i] == number)
			return true;
	return false;
}

static bool is_no_rename(uint64_t number)
{
	return number != SYS_rename && number != SYS_renameat && number != SYS_renameat2;
}

/* Whether the child is stopped at the entry of a system call for which passes() is false. -1: the
 * call cannot be determined. */
static int is_about_to_change(pid_t pid, int status, bool (*passes)(uint64_t number))
{
	struct __ptrace_syscall_info info;

	if (WSTOPSIG(status) != (SIGTRAP | 0x80))
		return 0;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return -1;
	return info.op == PTRACE_SYSCALL_INFO_ENTRY && !passes(info.entry.nr);
}

/* Lets the child run to its nth call for which passes() is false. Returns 1 if it is stopped
 * there, 0 if it ended before, -1 if it cannot be traced. */
static int run_until(pid_t pid, unsigned n, bool (*passes)(uint64_t number))
{
	int status, stopped;

	while (n > 0) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
			return -1;
		if (!WIFSTOPPED(status))
			return 0;
		stopped = is_about_to_change(pid, status, passes);
		if (stopped < 0)
			return -1;
		n -= (unsigned)stopped;
	}
	return 1;
}

static int kill_at(unsigned n, bool (*passes)(uint64_t number), int (*f)(void *ctx), void *ctx)
{
	pid_t pid = fork();
	int status, result;

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(255);
		raise(SIGSTOP);
		_exit(f(ctx));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
	result = run_until(pid, n, passes);
	if (result == 1) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return result;
}

int kill_at_change(unsigned n, int (*f)(void *ctx), void *ctx)
{
	return kill_at(n, changes_nothing, f, ctx);
}

int kill_at_rename(unsigned n, int (*f)(void *ctx), void *ctx)
{
	return kill_at(n, is_no_rename, f, ctx);
}

void publish_age(const char *path)
{
	static const char mark[] = "\"boot\":\"";
	_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	char content[4096] = {0}, *boot;
	struct stat st;

	if (fd < 0)
		return;
	assert_true(read(fd, content, sizeof(content) - 1) > 0);
	boot = strstr(content, mark);
	assert_non_null(boot);
	boot += strlen(mark);
	assert_int_equal(0, fstat(fd, &st));
	assert_int_equal(1, pwrite(fd, *boot == '0' ? "1" : "0", 1, boot - content));
	assert_int_equal(0, futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim}));
}

char *shared_directory(void)
{
	char *dir = test_directory();

	assert_int_equal(0, chmod(in(dir, ".."), 0755));
	assert_int_equal(0, chmod(dir, 0755));
	return dir;
}

int refuse_system_call(unsigned number, int errnum)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0
		       ? 0
		       : -errno;
}
