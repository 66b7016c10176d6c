/* SPDX-License-Identifier: MIT */
/* The first program of the bundle: static, so that it runs in any image. It finds the bundle it lies
 * in and executes the agent through the bundle's own loader and libraries. Nothing is put into the
 * environment: the user's command must not see the bundle's libraries.
 *
 * The path comes from AT_EXECFN, as the kernel was given it: /proc need not be mounted. It is
 * relative when it was called so; PATH look-ups give a path with a '/' in it. A symbolic link to the
 * launcher (/usr/local/bin/stagerun) is followed. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* A library that the image preloads for the user's command (an allocator, often) was built for the
 * image's libc, not for ours. The agent puts it back for the command: see main.c. */
static void hide_preload(void)
{
	const char *preload = getenv("LD_PRELOAD");

	if (preload == NULL)
		return;
	setenv("STAGERUN_LD_PRELOAD", preload, 1);
	unsetenv("LD_PRELOAD");
}

#ifndef LOADER
#error "LOADER is the file name of the dynamic loader"
#endif

int main(int argc, char **argv)
{
	const char *self = (const char *)getauxval(AT_EXECFN);
	char bundle[PATH_MAX], loader[PATH_MAX + 64], lib[PATH_MAX + 64], agent[PATH_MAX + 64];
	char **args = calloc((size_t)argc + 8, sizeof(*args));
	int n = 0;

	if (self == NULL || args == NULL || realpath(self, bundle) == NULL) {
		fprintf(stderr, "stagerun: error: cannot find the bundle of %s: %s\n", argv[0],
			strerror(errno));
		return 125;
	}
	for (int up = 0; up < 2; up++) { /* BUNDLE/bin/stagerun -> BUNDLE */
		char *slash = strrchr(bundle, '/');

		if (slash != NULL)
			*slash = '\0';
	}
	snprintf(loader, sizeof(loader), "%s/lib/" LOADER, bundle);
	snprintf(lib, sizeof(lib), "%s/lib", bundle);
	snprintf(agent, sizeof(agent), "%s/libexec/stagerun", bundle);
	args[n++] = loader;
	args[n++] = "--inhibit-cache"; /* the image's own libraries are another libc's, perhaps */
	args[n++] = "--library-path";
	args[n++] = lib;
	args[n++] = "--argv0";
	args[n++] = argc > 0 ? argv[0] : "stagerun";
	args[n++] = agent;
	for (int i = 1; i < argc; i++)
		args[n++] = argv[i];
	hide_preload();
	execv(loader, args);
	fprintf(stderr, "stagerun: error: cannot run %s: %s; was the bundle copied whole?\n",
		loader, strerror(errno));
	return 125;
}
