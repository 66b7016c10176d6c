/* SPDX-License-Identifier: MIT */
/* What the tests of publishing share: a stage in miniature, children under other users, and
 * children that die at a chosen system call. */
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
	static struct strings kept; /* reachable to the end, so not a leak */
	_free_ char *path = format_text("%s/%s", dir, name);

	strings_add(&kept, path);
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

/* Calls f with every name of s; a directory's without its slash. */
static int each_name(
	const struct staging *s, int (*f)(void *ctx, const char *name, bool is_dir), void *ctx)
{
	_free_ char *names = copy_text(s->names);
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
};

static int fill_one(void *ctx, const char *name, bool is_dir)
{
	const struct filling *f = ctx;

	return is_dir ? fill_directory(f->fd, name, f->s) : put_at(f->fd, name, content_of(f->s));
}

int fill(int root_fd, const struct staging *s)
{
	return each_name(s, fill_one, &(struct filling){s, root_fd});
}

struct record *record_for(const struct staging *s)
{
	struct record *r = zalloc(sizeof(*r));

	*r = (struct record){.key = copy_text(s->key),
		.sources = zalloc(sizeof(*r->sources)),
		.n_sources = 1,
		.bytes = 5000000000,
		.entries = 3,
		.synced = s->synced,
		.staged_at = 1767323045};
	*r->sources = (struct record_source){.key = copy_text("http://host/cats.tar"),
		.name = copy_text("http://host/cats.tar"),
		.identity.size = SIZE_UNKNOWN};
	if (s->etag != NULL)
		snprintf(r->sources->identity.etag, sizeof(r->sources->identity.etag), "\"%s\"",
			s->etag);
	return r;
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
		.mtime = {.tv_sec = 1000000000, .tv_nsec = 7}};
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

	if (code == 0 && is_same_version(destination_holds(d, s->key), record))
		code = WARM;
	else if (code == 0)
		code = unpack_and_publish(d, s, record, err);
	destination_close(d, false);
	record_free(record);
	return code;
}

static int check_one(void *ctx, const char *name, bool is_dir)
{
	const struct staging *s = ctx;
	_free_ char *path = format_text("%s/%s%s", s->to, name, is_dir ? "/inside" : "");
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
	_free_ char *path = format_text("%s/%s", dir, name);

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

/* Death at these is death at the next: they change nothing that others see. */
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

/* 1: the child is about to change something. 0: something else stopped it. */
static int is_about_to_change(pid_t pid, int status)
{
	struct __ptrace_syscall_info info;

	if (WSTOPSIG(status) != (SIGTRAP | 0x80))
		return 0;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return -1;
	return info.op == PTRACE_SYSCALL_INFO_ENTRY && !changes_nothing(info.entry.nr);
}

/* Lets the child go on to its nth change. 1: it is there. 0: it ended before. */
static int run_until(pid_t pid, unsigned n)
{
	int status, stopped;

	while (n > 0) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
			return -1;
		if (!WIFSTOPPED(status))
			return 0;
		stopped = is_about_to_change(pid, status);
		if (stopped < 0)
			return -1;
		n -= (unsigned)stopped;
	}
	return 1;
}

int kill_at_change(unsigned n, int (*f)(void *ctx), void *ctx)
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
	result = run_until(pid, n);
	if (result == 1) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return result;
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
