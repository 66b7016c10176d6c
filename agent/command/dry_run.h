/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DRY_RUN_H
#define STAGERUN_DRY_RUN_H

#include "hooks.h"
#include "plan.h"
#include "process.h"
#include "settings.h"

/* Prints the resolved plan on stdout: every setting with its origin, what would be staged from
 * where to where with its size (asked of the server, one byte each), actions and command. Touches
 * nothing. Secrets are hidden. Negative when a source cannot be read, 128+n after signal
 * n. */
int dry_run(const struct plan *p, const struct hooks *hooks, const struct settings *s,
	const struct inherited *in);

/* On stdout, with secrets hidden. */
void dry_run_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Probes all sources of the head at once and prints them in order. Negative when one cannot be read. */
struct agent;
int dry_run_head(struct agent *a, const struct plan *p, struct cancel *cancel);

#endif
