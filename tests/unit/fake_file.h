/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FAKE_FILE_H
#define STAGERUN_FAKE_FILE_H

/* Creates a file below a fake root directory, and its parent directories. */
void fake_file(const char *root, const char *path, const char *content);

#endif
