/* SPDX-License-Identifier: MIT */
/* The order of a walk, told from two paths: as strcmp(), but what is in a directory comes before the
 * neighbours whose names are longer than its own. Pure. */
#include "walk.h"
#include <string.h>

static unsigned rank(char c)
{
	return c == '\0' ? 0 : c == '/' ? 1 : 1 + (unsigned char)c;
}

int path_order(const char *a, const char *b)
{
	/* The root is before all. */
	if (strcmp(a, ".") == 0 || strcmp(b, ".") == 0)
		return (strcmp(a, ".") != 0) - (strcmp(b, ".") != 0);
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return (int)rank(*a) - (int)rank(*b);
}
