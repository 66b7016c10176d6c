/* SPDX-License-Identifier: MIT */
/* Finds a program along PATH and executes it, as a shell would: directories are passed over, a file
 * that may not be executed is remembered while later directories are tried, and a script without a
 * "#!" line is given to /bin/sh. Saying what went wrong is another file's work. */
#include "program.h"
#include "defer.h"
#include "process.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* When PATH is unset: where images without one keep their programs. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *search_path(char *const env[])
{
	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			return *env + 5;
	return DEFAULT_PATH;
}

/* An empty component of PATH is the working directory. */
static void add_candidate(struct strings *to, const char *dir, size_t len, const char *name)
{
	_free_ char *path =
		len == 0 ? format_text("./%s", name) : format_text("%.*s/%s", (int)len, dir, name);

	strings_add(to, path);
}

static void find_candidates(struct strings *to, const char *name, char *const env[])
{
	const char *dir = search_path(env);

	if (name == NULL || *name == '\0')
		return;
	if (strchr(name, '/') != NULL) {
		strings_add(to, name);
		return;
	}
	for (;;) {
		size_t len = strcspn(dir, ":");

		add_candidate(to, dir, len, name);
		if (dir[len] == '\0')
			return;
		dir += len + 1;
	}
}

void program_prepare(struct program *p, char *const argv[], char *const env[], const char *cwd)
{
	size_t argc = 0;

	*p = (struct program){.argv = argv, .env = env, .cwd = cwd};
	find_candidates(&p->candidates, argv[0], env);
	while (argv[argc] != NULL)
		argc++;
	p->shell_argv = zalloc((argc + 3) * sizeof(*p->shell_argv));
	p->shell_argv[0] = "/bin/sh";
	for (size_t i = 1; i < argc; i++)
		p->shell_argv[i + 1] = argv[i];
}

void program_done(struct program *p)
{
	strings_done(&p->candidates);
	free(p->shell_argv);
	*p = (struct program){0};
}

/* A program for another machine must not be read as a shell script: text has no NUL before its
 * first newline. */
static bool looks_like_text(const char *path)
{
	char head[256];
	const char *end;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return false;
	n = read(fd, head, sizeof(head));
	close(fd);
	if (n < 0)
		return false;
	end = memchr(head, '\n', (size_t)n);
	return memchr(head, '\0', end == NULL ? (size_t)n : (size_t)(end - head)) == NULL;
}

static int exec_candidate(struct program *p, char *path)
{
	execve(path, p->argv, p->env);
	if (errno != ENOEXEC || !looks_like_text(path))
		return errno;
	p->shell_argv[1] = path;
	execve(p->shell_argv[0], p->shell_argv, p->env);
	return ENOEXEC;
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum verdict {
	NOT_HERE,    /* nothing of this name: try the next directory */
	NOT_ALLOWED, /* a file, but not for us: remember it, a later one may do */
	FOUND,       /* this is the one, and it failed */
};

static enum verdict judge(const char *path, int error, bool searching)
{
	switch (error) {
	case ENOENT: /* a file that exists lacks its interpreter */
		return access(path, F_OK) == 0 ? NOT_ALLOWED : NOT_HERE;
	case EACCES:
		return searching && (access(path, F_OK) != 0 || is_directory(path)) ? NOT_HERE
										    : NOT_ALLOWED;
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
	case ESTALE:
	case ENODEV:
	case ETIMEDOUT:
		return NOT_HERE;
	default:
		return FOUND;
	}
}

struct exec_failure program_exec(struct program *p)
{
	struct exec_failure f = {.error = ENOENT};
	bool searching = p->argv[0] != NULL && strchr(p->argv[0], '/') == NULL;

	for (size_t i = 0; i < p->candidates.n; i++) {
		int error = exec_candidate(p, p->candidates.v[i]);
		enum verdict v = judge(p->candidates.v[i], error, searching);

		if (v == FOUND)
			return (struct exec_failure){error, i, true};
		if (v == NOT_ALLOWED && !f.found)
			f = (struct exec_failure){error, i, true};
		else if (!searching)
			f.error = error;
	}
	return f;
}

char *process_find(const char *name, char *const env[])
{
	struct strings candidates = {0};
	char *found = NULL;

	find_candidates(&candidates, name, env);
	for (size_t i = 0; i < candidates.n && found == NULL; i++)
		if (access(candidates.v[i], X_OK) == 0 && !is_directory(candidates.v[i]))
			found = copy_text(candidates.v[i]);
	strings_done(&candidates);
	return found;
}
