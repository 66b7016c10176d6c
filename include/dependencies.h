/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DEPENDENCIES_H
#define STAGERUN_DEPENDENCIES_H

#include "error.h"
#include "process.h"
#include "text.h"

/* The install of what the command depends on: a requirements file by pip, an environment file by conda,
 * into the environment that the command will use. Found when the run is planned, checked before
 * anything is staged, installed while it is. Loop thread. */

struct dependencies {
	char *file;           /* as it was named */
	char *origin;         /* who asked: "config.yml:7", "--dependency_file" */
	const char *manager;  /* "pip", "conda", "mamba", "micromamba" */
	struct strings argv;  /* the install: absolute program first, if PATH is */
	struct strings check; /* what must succeed before; none for conda */
};

/* manager: "pip", "conda", or NULL: by the file's name (.txt pip, .yml and .yaml conda). Looks for the
 * file, and for its package manager on the environment's PATH: pip is a module of the python3 there, or
 * python; conda (else mamba, else micromamba) gets the environment that this python is in, or that
 * $CONDA_PREFIX names. Runs nothing. -ERR_CONFIG with what to do about it; err's item is the file. */
int dependencies_find(const char *file, const char *manager, const char *origin,
	const struct strings *environment, struct dependencies **ret, struct error *err);
/* The same for what hooks have made of the environment: the command may find another python by now. On failure *d
 * stays what it was. */
int dependencies_find_again(
	struct dependencies **d, const struct strings *environment, struct error *err);
void dependencies_free(struct dependencies *d); /* accepts NULL */

/* The install as one would type it. Heap. */
char *dependencies_command(const struct dependencies *d);

struct install_env {
	uv_loop_t *loop;
	const struct inherited *inherited;
	const struct strings *environment; /* the run's; not needed after the start */
	/* Exactly once, from the loop: 0, or -ERR_COMMAND with "dependencies: pip could not install
	 * 'nosuchpkg==9' (requirements.txt): exit status 1: ...", or -ECANCELED. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct install;

/* Whether the package manager is really there: python3 without pip is common. Does nothing, and is not
 * to be waited for, when *ret is NULL after it. */
int dependencies_check(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err);

/* Prints what the package manager prints, each line behind "[dependencies] ". d outlives it. */
int dependencies_install(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err);

/* Idempotent. Sends SIGTERM, and SIGKILL 5 s later (at once when hard); on_done follows. */
void install_cancel(struct install *i, bool hard);
void install_free(struct install *i); /* in or after on_done; accepts NULL */

#endif
