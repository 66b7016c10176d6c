/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_MANIFEST_JSON_H
#define STAGERUN_MANIFEST_JSON_H

#include "manifest.h"

/* A manifest without its parts and objects: what is left of a version whose content is gone. */
void manifest_forget_content(struct manifest *m);
/* Sets sha256. */
void manifest_identify(struct manifest *m, const char *json, size_t len);

/* "index/DD/DIGEST.zst"; heap. */
char *manifest_part_key(const struct manifest_part *p);

#endif
