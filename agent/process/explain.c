/* SPDX-License-Identifier: MIT */
/* Why a program could not be executed, in one sentence that says what to try. Looks at the files
 * again for that, after the fact; only the failure itself decides between 126 and 127. */
#include "defer.h"
#include "process.h"
#include "program.h"
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* The program's relative paths are relative to where it was to run. */
static char *seen_from_here(const struct program *p, const char *path)
{
	return p->cwd == NULL || *path == '/' ? copy_text(path)
					      : format_text("%s/%s", p->cwd, path);
}

static const char *searched(const struct program *p)
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

/* What would read this file, by its name; NULL when that says nothing. */
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
	_free_ char *here = seen_from_here(p, name);

	if (*name == '\0')
		error_set(err, -ENOENT, "cannot run '': the command's name is empty");
	else if (strchr(name, '/') != NULL)
		error_set(err, -error, "cannot run '%s': %s (is it in the image?)", name,
			error == ENOENT ? "no such file" : strerrordesc_np(error));
	else if (by != NULL && access(here, F_OK) == 0)
		error_set(err, -ENOENT,
			"cannot run '%s': not found in PATH (%s); the working directory has one: "
			"try "
			"%s %s",
			name, searched(p), by, name);
	else
		error_set(err, -ENOENT,
			"cannot run '%s': not found in PATH (%s); is it installed in the image?",
			name, searched(p));
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
			"cannot run '%s': permission denied (its file system is mounted noexec: "
			"copy it "
			"elsewhere)",
			path);
	else
		error_set(err, -EACCES,
			"cannot run '%s': permission denied (is it executable? try: %s %s)", path,
			by != NULL ? by : "chmod +x", path);
}

/* The file is there, so ENOENT was about what its first line or its ELF header asks for. */
static void explain_interpreter(const char *path, const char *here, struct error *err)
{
	_fclose_ FILE *f = fopen(here, "re");
	char line[256] = "";
	char *interpreter = line + 2;

	if (f == NULL || fgets(line, sizeof(line), f) == NULL || strncmp(line, "#!", 2) != 0) {
		error_set(err, -ENOEXEC,
			"cannot run '%s': the loader it was linked for is not in this image (was "
			"it built "
			"for another C library?)",
			path);
		return;
	}
	interpreter += strspn(interpreter, " \t");
	interpreter[strcspn(interpreter, " \t\n")] = '\0';
	if (ends_with(interpreter, "\r"))
		error_set(err, -ENOEXEC,
			"cannot run '%s': its first line ends in a carriage return (Windows line "
			"ends; "
			"try: dos2unix %s)",
			path, path);
	else
		error_set(err, -ENOEXEC,
			"cannot run '%s': its interpreter '%s' does not exist in this image", path,
			interpreter);
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
		error_set(err, -ENOEXEC,
			"cannot run '%s': not a program for this machine (was it built for another "
			"processor?)",
			path);
		break;
	case E2BIG:
		error_set(err, -E2BIG,
			"cannot run '%s': its arguments and environment are too long for the "
			"system (one "
			"may have 128 KiB: put long text into a file)",
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
		here = seen_from_here(p, p->candidates.v[f->candidate]);
		explain_found(p->candidates.v[f->candidate], here, f->error, err);
	}
	error_item(err, "%s", p->argv[0] == NULL ? "" : p->argv[0]);
	return f->found ? EXIT_NOT_EXECUTABLE : EXIT_NOT_FOUND;
}
