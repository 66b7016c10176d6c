/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HTML_H
#define STAGERUN_HTML_H

#include "text.h"
#include "view.h"

/* The parts of the page for people. Whatever comes from outside goes through html_add() or
 * html_add_name(). Loop thread.
 *
 *   html_page.c       the page, and how its text is escaped
 *   html_style.c      its style sheet
 *   html_waterfall.c  the start, span by span, along one axis of time
 *   html_tables.c     sources, waits for others, steps, warnings, versions */

/* Appends s with everything that HTML or a terminal could understand escaped. */
void html_add(struct text *t, const char *s);
/* The same for a name, whose direction of writing must not reorder what is around it. */
void html_add_name(struct text *t, const char *s);
void html_add_duration(struct text *t, uint64_t ns);

/* What the source waited for most; CAUSE_UNPACK if nothing took a tenth of its time. */
enum view_cause html_source_cause(const struct view *v, const struct span *source);
/* A part of a bar of shares; nothing for what is not a hundredth of whole_ns. */
void html_add_share(struct text *t, enum view_cause c, uint64_t ns, uint64_t whole_ns);

extern const char html_style[];

void html_add_waterfall(struct text *t, const struct view *v);
void html_add_sources(struct text *t, const struct view *v);
void html_add_lock_waits(struct text *t, const struct view *v);
void html_add_steps(struct text *t, const struct view *v);
void html_add_warnings(struct text *t, const struct view *v);
void html_add_versions(struct text *t, const struct view *v);

#endif
