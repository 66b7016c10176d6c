/* SPDX-License-Identifier: MIT */
/* Deleting versions: a tombstone at once, the content when nobody can still read it. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "lease.h"
#include "text.h"
#include "uses.h"
#include "versions.h"
#include <inttypes.h>
#include <string.h>

static int in_use(const char *name, const char *who, struct error *err)
{
	return error_set(err, -EBUSY, "datastore '%s' is in use: %s; wait, or delete with --force",
		name, who);
}

/* Also asks the store for its time. */
static int check_creations(
	struct store_hand *h, const char *name, time_t *ret_now, struct error *err)
{
	_free_ char *own = lease_new_key(LEASE_CLOCK);
	struct leases all = {0};
	int code = lease_write(h, own, NULL, LEASE_LIFE_MS, err);

	if (code == 0)
		code = leases_list(h, own, LEASE_LIFE_MS, &all, err);
	lease_remove(h, own);
	*ret_now = all.now;
	for (size_t i = 0; i < all.n && code == 0; i++) {
		_free_ char *its_name = NULL, *who = NULL, *why = NULL;

		if (!all.v[i].live || all.v[i].kind != LEASE_CREATE)
			continue;
		lease_describe(h, all.v[i].key, &its_name, &who);
		why = format_text("%s is creating a version of it", who);
		if (its_name != NULL && strcmp(its_name, name) == 0)
			code = in_use(name, why, err);
	}
	leases_done(&all);
	return code;
}

static bool is_chosen(const struct version *v, unsigned version)
{
	return v->exists && (version == 0 || v->number == version);
}

struct uses {
	const struct versions *all;
	unsigned version; /* 0: any */
	size_t prefix_len;
	time_t now;
	/* Of the first version that is in use. */
	unsigned used;
	size_t n;
	time_t until;
};

static bool is_chosen_number(const struct uses *u, unsigned number)
{
	for (size_t i = 0; i < u->all->n; i++) {
		if (u->all->v[i].number == number)
			return is_chosen(&u->all->v[i], u->version);
	}
	return false;
}

static int on_use(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct uses *u = ctx;
	unsigned number = (unsigned)strtoul(key + u->prefix_len, NULL, 10);
	time_t expires = use_expires(key);

	(void)size;
	(void)modified;
	(void)err;
	if (expires < u->now || (u->n > 0 && number != u->used) || !is_chosen_number(u, number))
		return 0;
	u->used = number;
	u->n++;
	u->until = expires > u->until ? expires : u->until;
	return 0;
}

static int check_uses(struct store_hand *h, const char *name, struct uses *uses, struct error *err)
{
	_free_ char *prefix = format_text("uses/%s/", name);
	_free_ char *why = NULL;
	char date[64];
	struct tm tm;
	int code;

	uses->prefix_len = strlen(prefix);
	code = store_list(h, prefix, on_use, uses, err);
	if (code < 0 || uses->n == 0)
		return code;
	gmtime_r(&uses->until, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &tm);
	why = format_text("%zu %s registered for version %u, until %s at most", uses->n,
		uses->n == 1 ? "run is" : "runs are", uses->used, date);
	return in_use(name, why, err);
}

static int check_unused(struct store_hand *h, const char *name, const struct versions *all,
	unsigned version, struct error *err)
{
	struct uses uses = {.all = all, .version = version};
	int code = check_creations(h, name, &uses.now, err);

	return code < 0 ? code : check_uses(h, name, &uses, err);
}

/* The first one counts: its age is the grace time of the readers. */
int version_bury(struct store_hand *h, const char *name, unsigned number, struct error *err)
{
	_free_ char *key = version_key(name, number, "deleted.json");
	char json[64];
	struct tm tm;
	time_t now = time(NULL);
	int code;

	gmtime_r(&now, &tm);
	strftime(json, sizeof(json), "{\"deleted\": \"%Y-%m-%dT%H:%M:%SZ\"}\n", &tm);
	code = store_put_if_absent(h, key, json, strlen(json), err);
	return code == -EEXIST ? 0 : code;
}

static int bury_chosen(struct store_hand *h, const char *name, const struct versions *all,
	unsigned version, struct error *err)
{
	bool found = false;

	for (size_t i = 0; i < all->n; i++) {
		int code;

		if (!is_chosen(&all->v[i], version))
			continue;
		found = true;
		code = version_bury(h, name, all->v[i].number, err);
		if (code < 0)
			return code;
	}
	return found ? 0 : versions_missing(h, all, name, version, err);
}

int datastore_delete(struct store_hand *h, const char *name, unsigned version,
	const struct datastore_delete_options *opts, struct error *err)
{
	struct versions all = {0};
	int code = datastore_name_check(name, err);

	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code == 0 && !opts->force)
		code = check_unused(h, name, &all, version, err);
	if (code == 0)
		code = bury_chosen(h, name, &all, version, err);
	versions_done(&all);
	return code;
}
