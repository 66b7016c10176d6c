/* SPDX-License-Identifier: MIT */
/* Leases as objects of the store. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "lease.h"
#include "text.h"
#include <jansson.h>
#include <string.h>
#include <time.h>

static const char *const prefixes[] = {
	[LEASE_CREATE] = "leases/create-",
	[LEASE_COLLECT] = "leases/collect-",
	[LEASE_CLOCK] = "leases/clock-",
	[LEASE_PROBE] = "leases/probe-",
};

uint64_t lease_clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

char *lease_new_key(enum lease_kind kind)
{
	char random[17];

	store_random(random);
	return format_text("%s%s.json", prefixes[kind], random);
}

int lease_write(struct store_hand *h, const char *key, const char *name, uint64_t life_ms,
	struct error *err)
{
	char host[65] = "";
	json_t *o = json_object();
	_free_ char *json = NULL;

	(void)gethostname(host, sizeof(host) - 1);
	json_object_set_new(o, "name", name != NULL ? json_string(name) : json_null());
	json_object_set_new(
		o, "expires", json_integer((json_int_t)time(NULL) + (json_int_t)(life_ms / 1000)));
	json_object_set_new(o, "host", json_string(host));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (json == NULL)
		abort(); /* out of memory */
	return store_put(h, key, json, strlen(json), err);
}

void lease_remove(struct store_hand *h, const char *key)
{
	(void)store_delete(h, &key, 1, NULL);
}

static bool kind_of(const char *key, enum lease_kind *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0) {
			*ret = (enum lease_kind)i;
			return true;
		}
	}
	return false;
}

struct listing {
	struct leases *all;
	const char *own_key;
};

static int on_lease(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	const struct listing *l = ctx;
	struct leases *all = l->all;
	enum lease_kind kind;

	(void)size;
	(void)err;
	if (strcmp(key, l->own_key) == 0) {
		all->now = modified;
		return 0;
	}
	if (!kind_of(key, &kind))
		return 0;
	if (all->n == all->cap) {
		all->cap = all->cap > 0 ? 2 * all->cap : 16;
		all->v = realloc(all->v, all->cap * sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n++] =
		(struct lease_entry){.key = copy_text(key), .kind = kind, .modified = modified};
	return 0;
}

int leases_list(struct store_hand *h, const char *own_key, uint64_t life_ms, struct leases *ret,
	struct error *err)
{
	struct listing l = {.all = ret, .own_key = own_key};
	/* Times are cut to whole seconds: a difference may be one short. */
	time_t dead_after = (time_t)((life_ms + 999) / 1000) + 1;
	int code;

	*ret = (struct leases){0};
	code = store_list(h, "leases/", on_lease, &l, err);
	if (code == 0 && ret->now == 0)
		code = error_set(err, -ERR_RESTART,
			"somebody removed the lease '%s' from the store %s: is it being purged?",
			own_key, h->store->name);
	if (code < 0) {
		leases_done(ret);
		return code;
	}
	for (size_t i = 0; i < ret->n; i++)
		ret->v[i].live = ret->now - ret->v[i].modified < dead_after;
	return 0;
}

bool leases_have(const struct leases *all, enum lease_kind kind)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].live && all->v[i].kind == kind)
			return true;
	}
	return false;
}

void leases_done(struct leases *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->v[i].key);
	free(all->v);
	*all = (struct leases){0};
}

void lease_describe(struct store_hand *h, const char *key, char **ret_name, char **ret_who)
{
	_free_ char *text = NULL;
	json_t *o = NULL;
	const char *host;

	if (store_get_all(h, key, 4096, &text, NULL, NULL) == 0)
		o = json_loads(text, 0, NULL);
	host = json_string_value(json_object_get(o, "host"));
	*ret_name = copy_text(json_string_value(json_object_get(o, "name")));
	*ret_who = format_text("%s (process %lld)", host != NULL ? host : "an unknown host",
		(long long)json_integer_value(json_object_get(o, "pid")));
	json_decref(o);
}
