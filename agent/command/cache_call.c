/* SPDX-License-Identifier: MIT */
/* What the subcommands of `stagerun cache` do, on a thread of their own, and print. */
#include "cache_call.h"
#include "defer.h"
#include "json_bytes.h"
#include "log.h"
#include <errno.h>
#include <string.h>

/* Names may be any bytes. */
static json_t *text_to_json(const char *text)
{
	json_t *value = json_string(text);

	return value != NULL ? value : bytes_to_json(text);
}

static bool is_wanted(const struct cache_call *c, const char *key)
{
	for (size_t i = 0; i < c->keys.n; i++)
		if (strcmp(c->keys.v[i], key) == 0)
			return true;
	return c->keys.n == 0;
}

/* For people or for machines. */
static void print_time(time_t t, bool json, char buf[static 32])
{
	struct tm tm;

	buf[0] = '\0';
	if (t != 0 && json)
		strftime(buf, 32, "%FT%TZ", gmtime_r(&t, &tm));
	else if (t != 0)
		strftime(buf, 32, "%F %R", gmtime_r(&t, &tm));
}

/* list */

static void list_json(struct cache_call *c, const struct cache_info *i)
{
	char made[32], used[32];

	print_time(i->made, true, made);
	print_time(i->used, true, used);
	json_array_append_new(c->array,
		json_pack("{s:s, s:o, s:I, s:I, s:I, s:s, s:s, s:b, s:b}", "key", i->key, "source",
			text_to_json(i->what), "disk_bytes", (json_int_t)i->disk, "bytes",
			(json_int_t)i->bytes, "entries", (json_int_t)i->entries, "made", made,
			"used", used, "complete", i->complete, "in_use", i->in_use));
}

static int list_one(void *ctx, const struct cache_info *i, struct error *err)
{
	struct cache_call *c = ctx;
	char buf[32];

	(void)err;
	if (!is_wanted(c, i->key))
		return 0;
	if (c->request.json) {
		list_json(c, i);
		return 0;
	}
	table_add(&c->table, i->key);
	table_add(&c->table, print_size(i->disk, buf));
	table_addf(&c->table, "%llu", (unsigned long long)i->entries);
	print_time(i->used, false, buf);
	table_add(&c->table, buf);
	table_add(&c->table, !i->complete ? "unfinished" : i->in_use ? "in use" : "");
	table_add(&c->table, i->what);
	return 0;
}

int cache_call_list(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;

	(void)cancel;
	c->table.headings = "KEY >SIZE >ENTRIES USED STATE SOURCE";
	return cache_each(c->cache, list_one, c, err);
}

void cache_print_list(const struct cache_call *c)
{
	if (c->request.json) {
		json_dumpf(c->array, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (c->table.cells.n == 0) {
		log_info("there is nothing in the node cache %s", cache_dir(c->cache));
	} else {
		table_print(&c->table, stdout);
	}
}

/* evict, clear */

static int evict_keys(struct cache_call *c, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < c->keys.n && code == 0; i++) {
		uint64_t n = 0, bytes = 0;

		code = cache_evict(c->cache, 0, c->keys.v[i], &n, &bytes, err);
		c->evicted += n;
		c->evicted_bytes += bytes;
	}
	return code;
}

int cache_call_evict(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;
	uint64_t keep = c->request.evict_to != UINT64_MAX ? c->request.evict_to
			: c->max_size > 0                 ? c->max_size
							  : UINT64_MAX;

	(void)cancel;
	if (c->keys.n > 0)
		return evict_keys(c, err);
	return cache_evict(c->cache, keep, NULL, &c->evicted, &c->evicted_bytes, err);
}

int cache_call_clear(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;

	(void)cancel;
	return cache_evict(c->cache, 0, NULL, &c->evicted, &c->evicted_bytes, err);
}

void cache_print_evicted(const struct cache_call *c)
{
	char size[32];

	if (c->request.json)
		printf("{\"evicted\": %llu, \"bytes\": %llu}\n", (unsigned long long)c->evicted,
			(unsigned long long)c->evicted_bytes);
	else
		printf("evicted %llu, %s\n", (unsigned long long)c->evicted,
			print_size(c->evicted_bytes, size));
}

/* verify */

static int note_key(void *ctx, const struct cache_info *i, struct error *err)
{
	struct strings *keys = ctx;

	(void)err;
	if (i->complete)
		strings_add(keys, i->key);
	return 0;
}

/* What is in use stays: whoever wants it next finds the damage, too. */
static void report_damage(struct cache_call *c, const char *key, const struct error *why)
{
	uint64_t n = 0, bytes;
	bool removed = cache_evict(c->cache, 0, key, &n, &bytes, NULL) == 0;

	c->damaged++;
	log_error("%s is damaged: %s; it %s", key, why->msg,
		removed ? "was removed, and is fetched again when it is wanted"
			: "stays while it is in use");
	json_array_append_new(c->array, json_pack("{s:s, s:o, s:b}", "key", key, "damage",
						text_to_json(why->msg), "removed", removed));
}

static int verify_one(
	struct cache_call *c, const char *key, struct cancel *cancel, struct error *err)
{
	int code = cache_verify(c->cache, key, c->request.deep, cancel, err);

	if (code != -ESTALE)
		return code;
	report_damage(c, key, err);
	return 0;
}

int cache_call_verify(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;
	struct strings all = {0};
	int code = cache_each(c->cache, note_key, &all, err);

	for (size_t i = 0; i < all.n && code == 0; i++) {
		if (!is_wanted(c, all.v[i]))
			continue;
		c->verified++;
		code = verify_one(c, all.v[i], cancel, err);
	}
	strings_done(&all);
	return code;
}

void cache_print_verified(const struct cache_call *c)
{
	if (c->request.json) {
		printf("{\"verified\": %llu, \"damaged\": ", (unsigned long long)c->verified);
		json_dumpf(c->array, stdout, JSON_COMPACT);
		puts("}");
	} else {
		printf("%llu verified, %llu damaged\n", (unsigned long long)c->verified,
			(unsigned long long)c->damaged);
	}
}
