/* SPDX-License-Identifier: MIT */
/* Finds a program along PATH and executes it as a shell would: directories are skipped, a file that
 * may not be executed is remembered while later directories are tried, and a script without a "#!"
 * line is run by /bin/sh. Then: why a program could not be executed, and how a process ended, in
 * words and as an exit code. Any thread. */
#include "defer.h"
#include "process.h"
#include "process_private.h"
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

/* Used when PATH is unset: the directories with programs in images that set none. */
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
		len == 0 ? text_format("./%s", name) : text_format("%.*s/%s", (int)len, dir, name);

	text_strings_add(to, path);
}

void process_candidates(struct strings *to, const char *name, char *const env[])
{
	const char *dir = search_path(env);

	if (name == NULL || *name == '\0')
		return;
	if (strchr(name, '/') != NULL) {
		text_strings_add(to, name);
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
	process_candidates(&p->candidates, argv[0], env);
	while (argv[argc] != NULL)
		argc++;
	p->shell_argv = zalloc((argc + 3) * sizeof(*p->shell_argv));
	p->shell_argv[0] = "/bin/sh";
	for (size_t i = 1; i < argc; i++)
		p->shell_argv[i + 1] = argv[i];
}

void program_done(struct program *p)
{
	text_strings_done(&p->candidates);
	free(p->shell_argv);
	*p = (struct program){0};
}

/* A shell would run a script as its own even if the script names an interpreter, since the first
 * line is a comment to the shell. */
static bool names_an_interpreter(const char *head, size_t n)
{
	size_t i = 2;

	if (n < 2 || memcmp(head, "#!", 2) != 0)
		return false;
	while (i < n && (head[i] == ' ' || head[i] == '\t'))
		i++;
	return i < n && head[i] != '\n';
}

/* A program for another machine must not be run as a shell script, nor a script whose interpreter
 * is such a program. Text has no NUL before its first newline; a damaged program still has its
 * magic number. */
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
	if (n < 0 || (n >= 4 && memcmp(head, "\177ELF", 4) == 0) ||
		names_an_interpreter(head, (size_t)n))
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

enum program_verdict {
	NOT_HERE,    /* no such file: try the next directory */
	NOT_ALLOWED, /* a file that must not be executed: remember it, and try the next directory */
	FOUND,       /* the program, and exec failed */
};

static enum program_verdict classify_failure(
	const char *path, int error, bool searching, bool executed)
{
	switch (error) {
	case ENOENT: /* a file that exists lacks its interpreter, which a look does not see */
		return executed && access(path, F_OK) == 0 ? NOT_ALLOWED : NOT_HERE;
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

/* As execve() would fail, as far as permissions show it; 0: not at all. */
static int look_at_candidate(const char *path)
{
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
		return errno;
	return is_directory(path) ? EACCES : 0;
}

/* Executes the candidates in their order, or only looks at them. The error is 0 for a program that
 * would run. */
static struct exec_failure try_candidates(struct program *p, bool execute)
{
	struct exec_failure f = {.error = ENOENT};
	bool searching = p->argv[0] != NULL && strchr(p->argv[0], '/') == NULL;

	for (size_t i = 0; i < p->candidates.n; i++) {
		char *path = p->candidates.v[i];
		int error = execute ? exec_candidate(p, path) : look_at_candidate(path);
		enum program_verdict v = classify_failure(path, error, searching, execute);

		if (v == FOUND)
			return (struct exec_failure){error, i, true};
		if (v == NOT_ALLOWED && !f.found)
			f = (struct exec_failure){error, i, true};
		else if (!searching)
			f.error = error;
	}
	return f;
}

struct exec_failure program_exec(struct program *p)
{
	if (p->known != NULL)
		exec_candidate(p, p->known);
	return try_candidates(p, true);
}

int process_check(char *const argv[], char *const env[], char **ret_path, struct error *err)
{
	struct program p;
	struct exec_failure f;
	int code = 0;

	program_prepare(&p, argv, env, NULL);
	f = try_candidates(&p, false);
	if (f.error != 0)
		code = program_explain(&p, &f, err);
	else if (ret_path != NULL)
		*ret_path = text_copy(p.candidates.v[f.candidate]);
	program_done(&p);
	return code;
}

char *process_find(const char *name, char *const env[])
{
	struct strings candidates = {0};
	char *found = NULL;

	process_candidates(&candidates, name, env);
	for (size_t i = 0; i < candidates.n && found == NULL; i++)
		if (access(candidates.v[i], X_OK) == 0 && !is_directory(candidates.v[i]))
			found = text_copy(candidates.v[i]);
	text_strings_done(&candidates);
	return found;
}

/* Why a program could not be executed, in one sentence with advice. The files are inspected again
 * for it; only the failure itself decides between 126 and 127. */

/* Relative paths of the program are relative to the directory that it was to run in. */
static char *path_from_here(const struct program *p, const char *path)
{
	return p->cwd == NULL || *path == '/' ? text_copy(path)
					      : text_format("%s/%s", p->cwd, path);
}

static const char *path_variable(const struct program *p)
{
	for (char *const *e = p->env; e != NULL && *e != NULL; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return *e + 5;
	return "unset";
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* The interpreter for a file with such a name; NULL: unknown. */
static const char *likely_interpreter(const char *name)
{
	if (ends_with(name, ".py"))
		return "python3";
	return ends_with(name, ".sh") ? "sh" : NULL;
}

static void explain_not_found(const struct program *p, int error, struct error *err)
{
	const char *name = p->argv[0] == NULL ? "" : p->argv[0];
	const char *by = likely_interpreter(name);
	_free_ char *here = path_from_here(p, name);

	if (*name == '\0')
		error_set(err, -ENOENT, "cannot run '': the command's name is empty");
	else if (strchr(name, '/') != NULL)
		error_set(err, -error, "cannot run '%s': %s (is it in the image?)", name,
			error == ENOENT ? "no such file" : strerrordesc_np(error));
	else if (by != NULL && access(here, F_OK) == 0)
		error_set(err, -ENOENT,
			"cannot run '%s': not found in PATH (%s); the working directory has one: try %s %s",
			name, path_variable(p), by, name);
	else
		error_set(err, -ENOENT,
			"cannot run '%s': not found in PATH (%s); is it installed in the image?",
			name, path_variable(p));
}

static void explain_permission(const char *path, const char *here, struct error *err)
{
	struct stat st;
	struct statvfs fs;
	const char *by = likely_interpreter(path);

	if (stat(here, &st) == 0 && S_ISDIR(st.st_mode))
		error_set(err, -EACCES, "cannot run '%s': it is a directory", path);
	else if (statvfs(here, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0)
		error_set(err, -EACCES,
			"cannot run '%s': permission denied (its file system is mounted noexec: copy it elsewhere)",
			path);
	else
		error_set(err, -EACCES,
			"cannot run '%s': permission denied (is it executable? try: %s %s)", path,
			by != NULL ? by : "chmod +x", path);
}

/* The file exists, so ENOENT was about the interpreter in its first line or its ELF header. */
static void explain_interpreter(const char *path, const char *here, struct error *err)
{
	_fclose_ FILE *f = fopen(here, "re");
	char line[256] = "";
	char *interpreter = line + 2;

	if (f == NULL || fgets(line, sizeof(line), f) == NULL || strncmp(line, "#!", 2) != 0) {
		error_set(err, -ENOEXEC,
			"cannot run '%s': the loader it was linked for is not in this image (was it built for another C library?)",
			path);
		return;
	}
	interpreter += strspn(interpreter, " \t");
	interpreter[strcspn(interpreter, " \t\n")] = '\0';
	if (ends_with(interpreter, "\r"))
		error_set(err, -ENOEXEC,
			"cannot run '%s': its first line ends in a carriage return (Windows line ends; try: dos2unix %s)",
			path, path);
	else
		error_set(err, -ENOEXEC,
			"cannot run '%s': its interpreter '%s' does not exist in this image", path,
			interpreter);
}

/* ELF machine numbers with the names of uname(2), for 64-bit and 32-bit programs. */
static const struct machine {
	uint16_t number;
	const char *name, *name_32;
} machines[] = {
	{EM_X86_64, "x86_64", "x32"},
	{EM_386, NULL, "i386"},
	{EM_AARCH64, "aarch64", "aarch64 (ILP32)"},
	{EM_ARM, NULL, "arm"},
	{EM_PPC64, "ppc64", NULL},
	{EM_PPC, NULL, "ppc"},
	{EM_S390, "s390x", "s390"},
	{EM_RISCV, "riscv64", "riscv32"},
	{258 /* EM_LOONGARCH */, "loongarch64", "loongarch32"},
	{EM_MIPS, "mips64", "mips"},
	{EM_SPARCV9, "sparc64", NULL},
};

/* Stores the machine that the program was built for; "" when the ELF header is invalid. */
static void name_machine(const Elf64_Ehdr *h, size_t n, char *buf, size_t size)
{
	const unsigned char *bytes = (const unsigned char *)h;
	bool big = h->e_ident[EI_DATA] == ELFDATA2MSB, is_64 = h->e_ident[EI_CLASS] == ELFCLASS64;
	uint16_t number;

	*buf = '\0';
	if (n < offsetof(Elf64_Ehdr, e_version) || (!is_64 && h->e_ident[EI_CLASS] != ELFCLASS32) ||
		(!big && h->e_ident[EI_DATA] != ELFDATA2LSB))
		return;
	number = (uint16_t)(bytes[18 + big] | bytes[19 - big] << 8); /* e_machine */
	for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
		const char *name = is_64 ? machines[i].name : machines[i].name_32;

		if (machines[i].number == number && name != NULL)
			snprintf(buf, size, "%s%s", name, number == EM_PPC64 && !big ? "le" : "");
	}
	if (*buf == '\0')
		snprintf(buf, size, "machine number %u", number);
}

static const char *name_this_machine(char *buf, size_t size)
{
	Elf64_Ehdr self = {0};
	_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, &self, sizeof(self)) : -1;

	name_machine(&self, n > 0 ? (size_t)n : 0, buf, size);
	return *buf != '\0' ? buf : "another machine";
}

static void explain_elf(const char *path, const Elf64_Ehdr *header, size_t n, struct error *err)
{
	char built[48], here[48];

	name_machine(header, n, built, sizeof(built));
	name_this_machine(here, sizeof(here));
	if (*built == '\0' || strcmp(built, here) == 0)
		error_set(err, -ENOEXEC,
			"cannot run '%s': it is a damaged program (was its copy cut off?)", path);
	else
		error_set(err, -ENOEXEC,
			"cannot run '%s': it was built for %s, this is %s; use an image for %s",
			path, built, here, here);
}

/* For ENOEXEC: this kernel does not support the format of the file, or of the interpreter that its
 * first line names. */
static void explain_format(const char *path, const char *here, struct error *err)
{
	Elf64_Ehdr header = {0};
	_close_ int fd = open(here, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd >= 0 ? read(fd, &header, sizeof(header)) : -1;
	const char *magic = (const char *)&header;

	if (n >= SELFMAG && memcmp(magic, ELFMAG, SELFMAG) == 0)
		explain_elf(path, &header, (size_t)n, err);
	else if (n >= 2 && memcmp(magic, "MZ", 2) == 0)
		error_set(err, -ENOEXEC, "cannot run '%s': it is a program for Windows", path);
	else if (n >= 4 && (memcmp(magic, "\xcf\xfa\xed\xfe", 4) == 0 ||
				   memcmp(magic, "\xca\xfe\xba\xbe", 4) == 0))
		error_set(err, -ENOEXEC, "cannot run '%s': it is a program for macOS", path);
	else if (n >= 2 && memcmp(magic, "#!", 2) == 0)
		error_set(err, -ENOEXEC,
			"cannot run '%s': the interpreter that its first line names is not a program for this machine",
			path);
	else
		error_set(err, -ENOEXEC,
			"cannot run '%s': it is neither a program for this machine nor a script",
			path);
}

static void explain_found(const char *path, const char *here, int error, struct error *err)
{
	switch (error) {
	case EACCES:
		explain_permission(path, here, err);
		break;
	case ENOENT:
		explain_interpreter(path, here, err);
		break;
	case ENOEXEC:
		explain_format(path, here, err);
		break;
	case E2BIG:
		error_set(err, -E2BIG,
			"cannot run '%s': its arguments and environment are too long for the system (one may have 128 KiB: put long text into a file)",
			path);
		break;
	default:
		error_set(err, -error, "cannot run '%s': %s", path, strerrordesc_np(error));
	}
}

int program_explain(const struct program *p, const struct exec_failure *f, struct error *err)
{
	_free_ char *here = NULL;

	if (!f->found) {
		explain_not_found(p, f->error, err);
	} else {
		here = path_from_here(p, p->candidates.v[f->candidate]);
		explain_found(p->candidates.v[f->candidate], here, f->error, err);
	}
	error_item(err, "%s", p->argv[0] == NULL ? "" : p->argv[0]);
	return f->found ? EXIT_NOT_EXECUTABLE : EXIT_NOT_FOUND;
}

/* How a process ended. */

char *process_describe_status(int wait_status)
{
	const char *name;
	int signal;

	if (!WIFSIGNALED(wait_status))
		return text_format("exit status %d", WEXITSTATUS(wait_status));
	signal = WTERMSIG(wait_status);
	name = sigdescr_np(signal);
	return name == NULL ? text_format("signal %d", signal)
			    : text_format("signal %d (%s)", signal, name);
}

int process_status_code(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
