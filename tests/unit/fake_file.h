/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FAKE_FILE_H
#define STAGERUN_FAKE_FILE_H

/* Writes a file below a fake root, with its directories. */
void fake_file(const char *root, const char *path, const char *content);

#endif
