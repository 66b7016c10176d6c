/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_COMPLAINT_H
#define STAGERUN_HOOKS_COMPLAINT_H

#include <stdbool.h>
#include <stddef.h>

/* What a package manager complained of, picked out of everything that it printed. Start with a zeroed
 * one. */
struct complaint {
	char *error;     /* its last line that tells an error, without "ERROR: "; NULL: none yet */
	char *last;      /* its last line that is not blank */
	char *package;   /* what pip could not find; NULL */
	bool continues;  /* error ends in ':': the next line belongs to it */
	bool is_managed; /* PEP 668: pip may not install here */
};

void complaint_add(struct complaint *c, const char *line, size_t len);

/* The best there is to tell; NULL: it said nothing. */
const char *complaint_text(const struct complaint *c);
void complaint_done(struct complaint *c);

#endif
