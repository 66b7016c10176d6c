/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DEPENDENCIES_H
#define STAGERUN_DEPENDENCIES_H

#include "error.h"
#include "process.h"
#include "text.h"

/* Installs the dependencies of the command, a requirements file with pip or an environment file
 * with conda, into the environment that the command will use. They are found when the run is
 * planned, checked before anything is staged, and installed while the data is staged. Loop
 * thread. */

struct dependencies {
	char *file;           /* the path as it was given */
	char *origin;         /* where it was given: "config.yml:7", "--dependency_file" */
	const char *manager;  /* "pip", "conda", "mamba", "micromamba" */
	struct strings argv;  /* of the install; the program's path is absolute if PATH is */
	struct strings check; /* argv of a program that must succeed before; conda: empty */
};

/* Finds the file, its package manager and the environment to install into. manager is "pip",
 * "conda", or NULL to decide by the file's name (.txt: pip; .yml, .yaml: conda). The programs are
 * looked up in the PATH of environment. pip is run as a module of python3 there, or else of
 * python. conda (or else mamba, or else micromamba) installs into the conda environment that
 * contains this python, or else into $CONDA_PREFIX. Runs no program. -ERR_CONFIG with advice; the
 * item of err is the file. The caller frees *ret with dependencies_free(). */
int dependencies_find(const char *file, const char *manager, const char *origin,
	const struct strings *environment, struct dependencies **ret, struct error *err);
/* Replaces *d by the result for the present environment: hooks may have changed it, so that the
 * command would find another python. On failure, *d is unchanged. */
int dependencies_refresh(
	struct dependencies **d, const struct strings *environment, struct error *err);
void dependencies_free(struct dependencies *d); /* accepts NULL */

/* The command line of the install; heap. */
char *dependencies_command(const struct dependencies *d);

struct install_env {
	uv_loop_t *loop;
	const struct inherited *inherited;
	const struct strings *environment; /* of the run; only read by the start functions */
	/* Called exactly once, from the loop. code is 0, -ECANCELED, -ERR_CONFIG if the check
	 * failed, or -ERR_COMMAND if the install failed: "dependencies: pip could not install
	 * 'nosuchpkg==9' (requirements.txt): exit status 1: ...". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct install;

/* Starts to check that the package manager exists: python3 without pip is common. If *ret is NULL
 * after success, there was nothing to run, and on_done is not called. d must outlive *ret. */
int dependencies_check(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err);

/* Starts the install. Logs the output of the package manager, each line with the prefix
 * "[dependencies] ". d must outlive *ret. */
int dependencies_install(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err);

/* Sends SIGTERM, and SIGKILL 5 s later (at once if hard); on_done follows with -ECANCELED.
 * Idempotent. */
void install_cancel(struct install *i, bool hard);
void install_free(struct install *i); /* in or after on_done; accepts NULL */

#endif
