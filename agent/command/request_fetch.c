/* SPDX-License-Identifier: MIT */
/* The options of commands that are about one source or one datastore. */
#include "defer.h"
#include "request.h"
#include <string.h>

static int take_sha256(void *into, const char *value, struct error *err)
{
	if (strlen(value) != 64 || strspn(value, "0123456789abcdefABCDEF") != 64)
		return error_set(
			err, -ERR_USAGE, "--sha256 '%s' is not 64 hexadecimal digits", value);
	((struct request *)into)->sha256 = value;
	return 0;
}

static int take_include(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->fetch.include, value);
	return 0;
}

static int take_exclude(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->fetch.exclude, value);
	return 0;
}

static int take_strip_components(void *into, const char *value, struct error *err)
{
	uint64_t n;

	if (parse_uint(value, 1000, &n, err) < 0) {
		error_prefix(err, "--strip-components");
		return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
	}
	((struct request *)into)->fetch.strip_components = (unsigned)n;
	return 0;
}

static int take_no_extract(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->fetch.no_extract = true;
	return 0;
}

static int take_replace(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->fetch.replace = true;
	return 0;
}

const struct option_row select_rows[] = {
	{"include", 0, "GLOB", "only entries that match; repeatable", take_include},
	{"exclude", 0, "GLOB", "no entries that match; repeatable", take_exclude},
	{NULL},
};

const struct option_row fetch_rows[] = {
	{"sha256", 0, "HEX", "the digest the source must have", take_sha256},
	{"strip-components", 0, "N", "cut N leading components of names", take_strip_components},
	{"no-extract", 0, NULL, "store the source as it is", take_no_extract},
	{"replace", 0, NULL, "replace what is there", take_replace},
	{NULL},
};

static int take_name(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->name = value;
	return 0;
}

static int take_role(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->role = value;
	return 0;
}

static int take_extract(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->extract = true;
	return 0;
}

static int take_no_copy(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->no_copy = true;
	return 0;
}

static int take_dereference(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->dereference = true;
	return 0;
}

static int take_json(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->json = true;
	return 0;
}

static int take_force(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->force = true;
	return 0;
}

static int take_yes(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->yes = true;
	return 0;
}

const struct option_row create_rows[] = {
	{"name", 0, "NAME", "(else the last part of SOURCE, up to its first dot)", take_name},
	{"extract", 0, NULL, "what is in the archive, not the archive (as by URL)", take_extract},
	{"no-extract", 0, NULL, "the archive as one file (as from a disk)", take_no_extract},
	{"no-copy", 0, NULL, "s3://bucket/prefix/: only say where the data is", take_no_copy},
	{"dereference", 0, NULL, "instead of links that leave SOURCE, what they point to",
		take_dereference},
	{NULL},
};

const struct option_row get_rows[] = {
	{"replace", 0, NULL, "replace what is there", take_replace},
	{NULL},
};

const struct option_row delete_rows[] = {
	{"force", 0, NULL, "although a run or a creation uses it", take_force},
	{NULL},
};

const struct option_row purge_rows[] = {
	{"yes", 0, NULL, "yes, everything, for good", take_yes},
	{NULL},
};

const struct option_row policy_rows[] = {
	{"role", 0, "ARN", "who may read: arn:aws:iam::ACCOUNT:role/NAME", take_role},
	{NULL},
};

const struct option_row json_rows[] = {
	{"json", 0, NULL, "for machines", take_json},
	{NULL},
};
