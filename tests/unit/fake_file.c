/* SPDX-License-Identifier: MIT */
#include "fake_file.h"
#include "defer.h"
#include "test.h"
#include "text.h"
#include <string.h>
#include <sys/stat.h>

void fake_file(const char *root, const char *path, const char *content)
{
	_free_ char *full = text_format("%s/%s", root, path);
	FILE *f;

	for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(full, 0755);
		*p = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(content, f);
	fclose(f);
}
