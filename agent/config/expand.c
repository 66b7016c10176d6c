/* SPDX-License-Identifier: MIT */
/* ${NAME} in the texts of config.yml. No other form of a shell's expansion: what looks like one is
 * refused, so that it is not taken for text. */
#include "defer.h"
#include "runfile.h"
#include <ctype.h>
#include <string.h>

static bool is_variable_name(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return *s == '\0';
}

/* name is what stands between the braces. */
static int add_variable(struct text *t, char *name,
	const char *(*lookup)(void *ctx, const char *name), void *ctx, struct error *err)
{
	const char *value;

	if (!is_variable_name(name))
		return error_set(err, -ERR_CONFIG,
			"${%s} is not ${NAME}; other shell expansions work only in run actions",
			name);
	value = lookup(ctx, name);
	if (value == NULL)
		return error_set(err, -ERR_CONFIG, "${%s}: the environment has no %s", name, name);
	text_add(t, value);
	return 0;
}

int runfile_expand(const char *s, const char *(*lookup)(void *ctx, const char *name), void *ctx,
	char **ret, struct error *err)
{
	struct text t = {0};
	const char *open;
	int code = 0;

	while (code == 0 && (open = strstr(s, "${")) != NULL) {
		const char *close = strchr(open, '}');
		char *name;

		text_add_bytes(&t, s, (size_t)(open - s));
		if (close == NULL) {
			code = error_set(err, -ERR_CONFIG, "a ${ without its }");
			break;
		}
		name = format_text("%.*s", (int)(close - open - 2), open + 2);
		code = add_variable(&t, name, lookup, ctx, err);
		free(name);
		s = close + 1;
	}
	if (code == 0) {
		text_add(&t, s);
		*ret = text_take(&t);
	}
	text_done(&t);
	return code;
}
