/* SPDX-License-Identifier: MIT */
/* Who could have written a hook. Loop thread, before anything starts. */
#include "judge.h"
#include "defer.h"
#include "text.h"
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Nobody writes to what is mounted read-only, whatever the modes are: those of a Kubernetes ConfigMap
 * are open to all. */
static bool is_read_only(const char *path)
{
	struct statvfs fs;

	return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0;
}

static int judge_owner(const char *what, const char *path, const struct stat *st, struct error *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return error_set(err, -ERR_CONFIG,
			"%s '%s' belongs to user %u, neither root nor this user (%u); try: chown "
			"root '%s'",
			what, path, st->st_uid, geteuid(), path);
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0 && !is_read_only(path))
		return error_set(err, -ERR_CONFIG,
			"%s '%s' can be written to by others (mode %04o); try: chmod go-w '%s'",
			what, path, st->st_mode & 07777, path);
	return 0;
}

int judge_directory(const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(err, -ERR_CONFIG,
			"hooks directory '%s': %m (it is named by dir of [hooks] in agent.ini)",
			path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ERR_CONFIG,
			"hooks directory '%s' is not a directory; hooks are files in POINT/ of a "
			"hooks directory",
			path);
	return judge_owner("hooks directory", path, &st, err);
}

/* The directory in which the file really lies, when the hook is a link to it. */
static int judge_target(const char *path, struct error *err)
{
	_free_ char *real = realpath(path, NULL);
	char *slash = real != NULL ? strrchr(real, '/') : NULL;
	struct stat st;

	if (slash == NULL)
		return error_set(err, -ERR_CONFIG, "hook '%s': %m", path);
	slash[slash == real ? 1 : 0] = '\0';
	if (stat(real, &st) < 0)
		return error_set(err, -ERR_CONFIG, "hook '%s': '%s': %m", path, real);
	return judge_owner("the directory that a hook is linked to,", real, &st, err);
}

static int judge_executable(const char *path, const struct stat *st, struct error *err)
{
	struct statvfs fs;

	if (access(path, X_OK) == 0)
		return 0;
	if ((st->st_mode & 0111) != 0 && statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0)
		return error_set(err, -ERR_CONFIG,
			"hook '%s' cannot be executed: its file system is mounted noexec; copy the "
			"hooks elsewhere",
			path);
	return error_set(err, -ERR_CONFIG,
		"hook '%s' is not executable; try: chmod 755 '%s' (of a Kubernetes ConfigMap: "
		"defaultMode: 0755), or remove it",
		path, path);
}

int judge_hook(const char *path, struct error *err)
{
	struct stat st, link;
	int code;

	if (lstat(path, &link) < 0 || stat(path, &st) < 0)
		return error_set(err, -ERR_CONFIG,
			"hook '%s': %m; remove it, or link it to /dev/null to disable it", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_CONFIG,
			"hook '%s' is not a file; remove it, or link it to /dev/null to disable it",
			path);
	code = judge_owner("hook", path, &st, err);
	if (code == 0 && S_ISLNK(link.st_mode))
		code = judge_target(path, err);
	return code < 0 ? code : judge_executable(path, &st, err);
}

bool is_link_to_null(const char *path)
{
	char target[16];
	ssize_t len = readlink(path, target, sizeof(target));

	return len == 9 && memcmp(target, "/dev/null", 9) == 0;
}
