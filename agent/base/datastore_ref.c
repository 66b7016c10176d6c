/* SPDX-License-Identifier: MIT */
/* References to datastores, as people write them and as sources. */
#include "datastore_ref.h"
#include "defer.h"
#include "text.h"
#include <limits.h>
#include <string.h>
#include <strings.h>

#define SCHEME      "datastore:"
#define GRID_SCHEME "grid:"

void datastore_ref_done(struct datastore_ref *d)
{
	free(d->name);
	free(d->version);
	free(d->mount_dir);
	*d = (struct datastore_ref){0};
}

/* Whether s is a number, or contains a variable that may expand to one. */
static bool looks_like_version(const char *s)
{
	return strstr(s, "${") != NULL || (*s != '\0' && s[strspn(s, "0123456789")] == '\0');
}

bool datastore_ref_is_version(const char *s)
{
	return looks_like_version(s) && *s != '0';
}

bool datastore_ref_is_number(const char *s, size_t len)
{
	return len > 0 && s[0] != '0' && strspn(s, "0123456789") >= len;
}

static unsigned count_colons(const char *s)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == ':';
	return n;
}

bool datastore_ref_is_name(const char *s)
{
	size_t user = strcspn(s, ":");

	return count_colons(s) <= 1 && user > 0 && s[strlen(s) - 1] != ':';
}

/* Splits "NAME[:VERSION]" in place, and returns the version or NULL. If there is only one ':', it
 * may be the one of "user:name". */
static const char *cut_version(char *name)
{
	char *last = strrchr(name, ':');

	if (last == NULL || (count_colons(name) == 1 && !looks_like_version(last + 1)))
		return NULL;
	*last = '\0';
	return last + 1;
}

/* The version that other tools would mean: ":latest" and ":v1" are not "user:name". */
static const char *find_foreign_version(const char *name)
{
	const char *colon = strrchr(name, ':'), *v = colon != NULL ? colon + 1 : "";

	if (strcasecmp(v, "latest") == 0 || strcasecmp(v, "newest") == 0 ||
		(*v == 'v' && datastore_ref_is_number(v + 1, strlen(v + 1))))
		return v;
	return NULL;
}

static int refuse_foreign_version(
	const char *arg, const char *name, const char *version, struct error *err)
{
	int len = (int)(version - name) - 1;

	if (*version == 'v')
		return error_set(err, -ERR_USAGE,
			"'%s': a version is a plain number: write %.*s:%s", arg, len, name,
			version + 1);
	return error_set(err, -ERR_USAGE,
		"'%s': a version is a number, such as %.*s:3; the newest is what %.*s alone means",
		arg, len, name, len, name);
}

int datastore_ref_parse(const char *arg, struct datastore_ref *ret, struct error *err)
{
	size_t len = strcspn(arg, "=");
	const char *dir = arg[len] == '=' ? arg + len + 1 : NULL;
	_free_ char *name = text_format("%.*s", (int)len, arg);
	const char *foreign = find_foreign_version(name), *version;

	if (foreign != NULL && foreign > name + 1)
		return refuse_foreign_version(arg, name, foreign, err);
	version = cut_version(name);
	if (!datastore_ref_is_name(name) ||
		(version != NULL && !datastore_ref_is_version(version)) ||
		(dir != NULL && *dir == '\0'))
		return error_set(err, -ERR_USAGE,
			"'%s' is not NAME[:VERSION][=DIR], with a version from 1", arg);
	*ret = (struct datastore_ref){.name = text_copy(name),
		.version = text_copy(version),
		.mount_dir = dir != NULL ? text_without_slashes(dir) : NULL};
	return 0;
}

const char *datastore_ref_plain_name(const char *name)
{
	const char *colon = name != NULL ? strchr(name, ':') : NULL;

	return colon != NULL ? colon + 1 : name;
}

/* Sources. */

bool datastore_ref_is_source(const char *source)
{
	return text_begins(source, SCHEME);
}

bool datastore_ref_is_written_source(const char *source)
{
	return datastore_ref_is_source(source) || text_begins(source, GRID_SCHEME);
}

char *datastore_ref_source(const char *name, const char *version)
{
	return text_format(
		SCHEME "%s%s%s", name, version != NULL ? ":" : "", version != NULL ? version : "");
}

int datastore_ref_normalize(char **source, struct error *err)
{
	struct datastore_ref ref = {0};
	int code;

	if (!datastore_ref_is_written_source(*source))
		return 0;
	code = datastore_ref_parse(strchr(*source, ':') + 1, &ref, err);
	if (code == 0 && ref.mount_dir != NULL)
		code = error_set(err, -ERR_USAGE, "'%s' is not datastore:NAME[:VERSION]", *source);
	if (code == 0) {
		free(*source);
		*source = datastore_ref_source(datastore_ref_plain_name(ref.name), ref.version);
	}
	datastore_ref_done(&ref);
	return code;
}

char *datastore_ref_source_name(const char *source)
{
	const char *name = source + strlen(SCHEME);

	return text_format("%.*s", (int)strcspn(name, ":"), name);
}

int datastore_ref_source_version(const char *source, unsigned *ret, struct error *err)
{
	const char *colon = strchr(source + strlen(SCHEME), ':');
	uint64_t version = 0;
	int code = colon != NULL ? units_parse_uint(colon + 1, UINT_MAX, &version, err) : 0;

	if (code == 0 && colon != NULL && version == 0)
		code = error_set(err, -ERR_USAGE, "versions count from 1");
	if (code == 0)
		*ret = (unsigned)version;
	return code;
}
