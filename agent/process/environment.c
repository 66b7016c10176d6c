/* SPDX-License-Identifier: MIT */
/* An environment that is edited: NAME=VALUE strings, as execve(2) takes them. One thread at a
 * time. */
#include "process.h"
#include <stdlib.h>
#include <string.h>

static const char *value_in(const char *variable, const char *name)
{
	size_t len = strlen(name);

	return strncmp(variable, name, len) == 0 && variable[len] == '=' ? variable + len + 1
									 : NULL;
}

void environment_copy(struct strings *ret, char *const *env)
{
	*ret = (struct strings){0};
	for (; *env != NULL; env++)
		text_strings_add(ret, *env);
}

/* An inherited environment may contain a name twice, and programs differ in which one they read, so
 * all of them are removed. */
void environment_unset(struct strings *env, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; i < env->n; i++) {
		if (value_in(env->v[i], name) != NULL)
			free(env->v[i]);
		else
			env->v[kept++] = env->v[i];
	}
	if (env->n > 0)
		env->v[kept] = NULL;
	env->n = kept;
}

void environment_set(struct strings *env, const char *name, const char *value)
{
	char *variable = text_format("%s=%s", name, value); /* value may point into env */

	environment_unset(env, name);
	text_strings_add(env, variable);
	free(variable);
}

const char *environment_get(const struct strings *env, const char *name)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *value = value_in(env->v[i], name);

		if (value != NULL)
			return value;
	}
	return NULL;
}
