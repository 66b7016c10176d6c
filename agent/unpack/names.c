/* SPDX-License-Identifier: MIT */
/* Taking names apart. Pure; any thread. It does not judge whether a name is safe: that is the
 * tree's. */
#include "names.h"
#include "text.h"
#include <string.h>

const char *name_next_component(const char **name, size_t *ret_len)
{
	for (;;) {
		const char *start = *name + strspn(*name, "/");
		size_t len = strcspn(start, "/");

		if (len == 0)
			return NULL;
		*name = start + len;
		if (len == 1 && start[0] == '.')
			continue;
		*ret_len = len;
		return start;
	}
}

char *name_plain(const char *name)
{
	struct text plain = {0};
	const char *part;
	size_t len;

	while ((part = name_next_component(&name, &len)) != NULL) {
		if (plain.len > 0)
			text_add(&plain, "/");
		text_add_bytes(&plain, part, len);
	}
	return text_take(&plain);
}

uint64_t name_hash(const char *name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	const char *part;
	size_t len;

	while ((part = name_next_component(&name, &len)) != NULL)
		for (size_t i = 0; i <= len; i++) {
			hash ^= i < len ? (uint8_t)part[i] : '/';
			hash *= UINT64_C(0x100000001b3);
		}
	return hash;
}
