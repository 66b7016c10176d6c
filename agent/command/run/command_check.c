/* SPDX-License-Identifier: MIT */
/* Whether the command is there before anything is staged, so that a word that is misspelt does not
 * cost an hour of staging. Where a hook, an action, dependencies or a stage may bring the command,
 * or PATH, nothing is known. Loop thread. */
#include "defer.h"
#include "run.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether path is a symbolic link, or cannot be looked at: what is behind it is not known. */
static bool leads_elsewhere(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? S_ISLNK(st.st_mode) : errno != ENOENT && errno != ENOTDIR;
}

static char *make_absolute(const char *path)
{
	_free_ char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (path[0] == '/')
		return text_copy(path);
	return cwd != NULL ? text_format("%s/%s", cwd, path) : NULL;
}

/* Returns the real path of the part that exists, with the rest as it is; NULL: not known, as on the
 * way there is a link that leads nowhere yet. Heap. */
static char *real_path(const char *path)
{
	_free_ char *absolute = make_absolute(path);
	_free_ char *head = absolute != NULL ? text_copy(absolute) : NULL;
	char real[PATH_MAX];

	while (head != NULL && realpath(head, real) == NULL) {
		char *slash = strrchr(head, '/');

		if (leads_elsewhere(head) || slash == NULL)
			return NULL;
		slash[slash == head] = '\0';
	}
	if (head == NULL)
		return NULL;
	return text_format("%s%s", strcmp(real, "/") == 0 ? "" : real,
		strcmp(head, "/") == 0 ? absolute : absolute + strlen(head));
}

static bool contains(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	return strncmp(dir, path, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Whether what is staged into `to` may be, or lead to, the program at path. */
static bool may_bring(const char *to, const char *path)
{
	_free_ char *dir = real_path(to), *program = real_path(path);
	_free_ char *absolute = make_absolute(path), *cut = text_without_slashes(to);

	if (dir == NULL || program == NULL || absolute == NULL)
		return true;
	return contains(dir, program) || contains(dir, absolute) || contains(cut, absolute);
}

static const char *staging_bringer(const struct plan *p)
{
	struct strings candidates = {0};
	const char *by = NULL;

	process_candidates(&candidates, p->command.v[0], p->environment.v);
	for (size_t i = 0; i < p->destinations.n && by == NULL; i++)
		for (size_t k = 0; k < candidates.n && by == NULL; k++)
			if (may_bring(p->destinations.v[i], candidates.v[k]))
				by = p->destinations.v[i];
	text_strings_done(&candidates);
	return by;
}

/* What runs before the command and may bring anything, or change PATH. */
static const char *running_bringer(const struct plan *p, const struct hooks *hooks)
{
	if (plan_actions(p, POINT_EXPERIMENT_START)->n > p->first_action)
		return "an action";
	if (p->dependencies != NULL)
		return "the dependencies";
	if (hooks_any(hooks, HOOK_STAGE_START) || hooks_any(hooks, HOOK_STAGE_END) ||
		hooks_any(hooks, HOOK_EXPERIMENT_START))
		return "an operator's hook";
	return NULL;
}

const char *command_check_bringer(const struct plan *p, const struct hooks *hooks)
{
	const char *by = running_bringer(p, hooks);

	return by != NULL ? by : staging_bringer(p);
}

int command_check(
	const struct plan *p, const struct hooks *hooks, char **ret_path, struct error *err)
{
	struct error why = {0};
	_free_ char *path = NULL;
	int missing = process_check(p->command.v, p->environment.v, &path, &why);

	if (missing == 0 && p->n_head == 0 && running_bringer(p, hooks) == NULL)
		*ret_path = take_ptr(&path);
	if (missing == 0 || command_check_bringer(p, hooks) != NULL)
		return 0;
	*err = why;
	return missing;
}
