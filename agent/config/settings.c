/* SPDX-License-Identifier: MIT */
/* The settings as a whole: defaults, taking a value from any layer, locks, and what is told about
 * them. Files and the environment are read elsewhere. Loop thread, before any other starts. */
#include "settings.h"
#include "defer.h"
#include "redact.h"
#include "settings_table.h"
#include <fnmatch.h>
#include <limits.h>
#include <string.h>

static const char *origin_text(const struct origin *o)
{
	return o->where != NULL ? o->where : "default";
}

/* Fields that others follow from. */
static void derive(struct settings *s)
{
	s->network.ca_file = *s->ca_file != '\0' ? s->ca_file : NULL;
	s->network.netrc_file = *s->netrc_file != '\0' ? s->netrc_file : NULL;
	s->network.headers = (const char *const *)s->headers.v;
	s->owner_uid = (uid_t)-1;
	s->owner_gid = (gid_t)-1;
	if (*s->owner != '\0')
		settings_parse_owner(s->owner, &s->owner_uid, &s->owner_gid, NULL);
}

struct settings *settings_new(void)
{
	struct settings *s = zalloc(sizeof(*s));

	s->origins = zalloc(settings_count * sizeof(*s->origins));
	for (size_t i = 0; i < settings_count; i++) {
		if (setting_parse(&settings_table[i], s, settings_table[i].initial, false, NULL) <
			0)
			abort(); /* our own table is wrong */
	}
	derive(s);
	return s;
}

void settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < settings_count; i++) {
		setting_clear(&settings_table[i], s);
		free(s->origins[i].where);
		free(s->origins[i].locked_by);
	}
	free(s->origins);
	free(s);
}

static int refuse_row(const struct setting *row, const struct origin *current,
	const struct origin *from, struct error *err)
{
	if (current->locked_by != NULL)
		return error_set(err, -ERR_CONFIG,
			"%s: %s.%s is locked by %s; leave it out or ask who runs this machine",
			from->where, row->section, row->key, current->locked_by);
	if (row->file_only && from->kind != ORIGIN_FILE)
		return error_set(err, -ERR_CONFIG, "%s: %s.%s can only be set in agent.ini",
			from->where, row->section, row->key);
	return 0;
}

int settings_assign(struct settings *s, size_t i, const char *value, const struct origin *from,
	struct error *err)
{
	const struct setting *row = &settings_table[i];
	struct origin *origin = &s->origins[i];
	int code = refuse_row(row, origin, from, err);

	if (code < 0)
		return code;
	code = setting_parse(row, s, value, origin->kind == from->kind, err);
	if (code < 0) {
		error_prefix(err, "%s: %s.%s", from->where, row->section, row->key);
		return code;
	}
	derive(s);
	origin->kind = from->kind;
	free(origin->where);
	origin->where = copy_text(from->where);
	return 0;
}

/* "section.key" -> its row, or -1. */
static int find_dotted(const char *dotted)
{
	const char *dot = strchr(dotted, '.');
	_free_ char *section = NULL;

	if (dot == NULL)
		return -1;
	section = format_text("%.*s", (int)(dot - dotted), dotted);
	return settings_find(section, dot + 1);
}

int settings_set(struct settings *s, const char *key, const char *value, enum origin_kind kind,
	const char *where, struct error *err)
{
	struct origin from = {.kind = kind, .where = (char *)where};
	int i = find_dotted(key);

	if (i < 0)
		return error_set(err, -ERR_CONFIG, "%s: there is no setting '%s'", where, key);
	return settings_assign(s, (size_t)i, value, &from, err);
}

static bool lock_matching(struct settings *s, const char *glob, const char *locked_by)
{
	bool matched = false;

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];
		_free_ char *name = format_text("%s.%s", row->section, row->key);

		if (fnmatch(glob, name, 0) != 0)
			continue;
		matched = true;
		if (s->origins[i].locked_by == NULL)
			s->origins[i].locked_by = copy_text(locked_by);
	}
	return matched;
}

void settings_lock(struct settings *s)
{
	const char *where = origin_text(&s->origins[settings_find("agent", "lock")]);

	for (size_t i = 0; i < s->lock.n; i++) {
		if (!lock_matching(s, s->lock.v[i], where))
			log_warn("%s: lock: there is no setting '%s'", where, s->lock.v[i]);
	}
}

int settings_parse_owner(const char *s, uid_t *ret_uid, gid_t *ret_gid, struct error *err)
{
	const char *colon = strchr(s, ':');
	_free_ char *user = format_text("%.*s", colon != NULL ? (int)(colon - s) : 0, s);
	uint64_t uid, gid;

	/* The largest id is the system's word for "none". */
	if (colon == NULL || parse_uint(user, UINT_MAX - 1, &uid, NULL) < 0 ||
		parse_uint(colon + 1, UINT_MAX - 1, &gid, NULL) < 0)
		return error_set(err, -ERR_CONFIG, "'%s' is not uid:gid, two numbers", s);
	*ret_uid = (uid_t)uid;
	*ret_gid = (gid_t)gid;
	return 0;
}

static int contradiction(const struct settings *s, const char *section, const char *a,
	const char *is, const char *b, struct error *err)
{
	int ia = settings_find(section, a), ib = settings_find(section, b);
	_free_ char *value_a = setting_print(&settings_table[ia], s);
	_free_ char *value_b = setting_print(&settings_table[ib], s);

	return error_set(err, -ERR_CONFIG, "%s.%s = %s (%s) %s %s.%s = %s (%s)", section, a,
		value_a, origin_text(&s->origins[ia]), is, section, b, value_b,
		origin_text(&s->origins[ib]));
}

int settings_check(const struct settings *s, struct error *err)
{
	if (s->network.range_min > s->network.range_max)
		return contradiction(s, "network", "range_min", "is above", "range_max", err);
	if (s->network.retry_base_ms > s->network.retry_max_ms)
		return contradiction(s, "network", "retry_base", "is above", "retry_max", err);
	if (s->same_owner && *s->owner != '\0')
		return contradiction(s, "stage", "same_owner", "contradicts", "owner", err);
	return 0;
}

/* What may be told of a value: in lists, item by item. */
static char *redacted(const struct setting *row, const struct settings *s)
{
	char *value = setting_print(row, s);
	_free_ char *secret = row->redact != NULL ? value : NULL;
	struct text t = {0};
	char *rest = NULL;

	if (row->redact == NULL)
		return value;
	for (char *line = strtok_r(secret, "\n", &rest); line != NULL;
		line = strtok_r(NULL, "\n", &rest)) {
		_free_ char *shown = row->redact(line);

		text_addf(&t, "%s%s", t.len > 0 ? "\n" : "", shown);
	}
	return text_take(&t);
}

void settings_describe(const struct settings *s,
	void (*row)(void *ctx, const char *key, const char *value, const char *origin), void *ctx)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *setting = &settings_table[i];
		_free_ char *key = format_text("%s.%s", setting->section, setting->key);
		_free_ char *value = redacted(setting, s);

		row(ctx, key, value, origin_text(&s->origins[i]));
	}
}

bool settings_is_secret(const struct settings *s, const char *name)
{
	static const char *const always[] = {"*TOKEN*", "*SECRET*", "*PASSWORD*", "*KEY*"};

	for (size_t i = 0; i < ARRAY_LEN(always); i++) {
		if (fnmatch(always[i], name, FNM_CASEFOLD) == 0)
			return true;
	}
	for (size_t i = 0; s != NULL && i < s->secret_names.n; i++) {
		if (fnmatch(s->secret_names.v[i], name, FNM_CASEFOLD) == 0)
			return true;
	}
	return false;
}

void settings_hide_secrets(const struct settings *s, char *const *env)
{
	for (; env != NULL && *env != NULL; env++) {
		size_t len = strcspn(*env, "=");
		_free_ char *name = format_text("%.*s", (int)len, *env);

		if ((*env)[len] == '=' && settings_is_secret(s, name))
			redact_add(*env + len + 1);
	}
}
