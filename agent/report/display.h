/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_DISPLAY_H
#define STAGERUN_REPORT_DISPLAY_H

#include "meter.h"

/* The live display on a terminal. Loop thread. Log lines of any thread are written above it. At
 * most one exists at a time. */

struct display;

/* Whether fd is a terminal on which the cursor may be moved: TERM is set and not "dumb", NO_COLOR
 * is not set or is empty. */
bool display_is_possible(int fd);

struct display *display_new(int fd);
void display_draw(struct display *d, const struct meter *meters, size_t n);
void display_close(struct display *d); /* erases it; accepts NULL */

#endif
