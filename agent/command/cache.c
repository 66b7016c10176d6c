/* SPDX-License-Identifier: MIT */
/* `stagerun cache list|evict|verify|clear`: shows the entries of the node cache and removes some.
 * Each subcommand works on a thread of agent_work(), and prints on the loop thread afterwards. */
#include "cache.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "subcommand.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One call. On the heap, because an abandoned thread goes on using it. */
struct cache_call {
	struct strings keys;
	struct cache *cache;
	bool json, deep;
	uint64_t keep; /* evict: down to this size */

	/* The result. */
	struct strings there, chosen; /* keys of all entries; of those to verify */
	uint64_t failed; /* number of keys without an entry, and of unreadable entries */
	struct table table;
	struct text array;               /* elements of a JSON array */
	uint64_t evicted, evicted_bytes; /* evict, clear */
	uint64_t verified, damaged;      /* verify */
	char *shown;                     /* verify: for the progress line; NULL: none is shown */
	struct progress progress;
};

static bool is_one_of(const struct strings *keys, const char *key)
{
	for (size_t i = 0; i < keys->n; i++)
		if (strcmp(keys->v[i], key) == 0)
			return true;
	return false;
}

static bool is_wanted(const struct cache_call *c, const char *key)
{
	return c->keys.n == 0 || is_one_of(&c->keys, key);
}

/* Logs the given keys that have no entry. */
static void check_keys(struct cache_call *c, const struct strings *there)
{
	for (size_t i = 0; i < c->keys.n; i++) {
		if (is_one_of(there, c->keys.v[i]))
			continue;
		c->failed++;
		log_error("the node cache %s has no entry '%.200s'", cache_dir(c->cache),
			c->keys.v[i]);
	}
}

static void print_time(time_t t, bool json, char buf[static 32])
{
	struct tm tm;

	buf[0] = '\0';
	if (t != 0 && json)
		strftime(buf, 32, "%FT%TZ", units_date(t, &tm));
	else if (t != 0)
		strftime(buf, 32, "%F %R", units_date(t, &tm));
}

/* `list` */

static void list_json(struct cache_call *c, const struct cache_info *i)
{
	char made[32], used[32];

	print_time(i->made, true, made);
	print_time(i->used, true, used);
	text_add(&c->array, c->array.len > 0 ? ",\n {" : "{");
	output_json_text(&c->array, "key", i->key);
	output_json_text(&c->array, "source", i->what);
	output_json_number(&c->array, "disk_bytes", i->disk);
	output_json_number(&c->array, "bytes", i->bytes);
	output_json_number(&c->array, "entries", i->entries);
	output_json_text(&c->array, "made", made);
	output_json_text(&c->array, "used", used);
	output_json_bool(&c->array, "complete", i->complete);
	output_json_bool(&c->array, "in_use", i->in_use);
	text_add(&c->array, "}");
}

static const char *state_of(const struct cache_info *i)
{
	if (i->unreadable != NULL)
		return "unreadable";
	if (i->damaged)
		return "damaged";
	if (!i->complete)
		return "unfinished";
	return i->in_use ? "in use" : "";
}

static int list_one(void *ctx, const struct cache_info *i, struct error *err)
{
	struct cache_call *c = ctx;
	char buf[32];

	(void)err;
	text_strings_add(&c->there, i->key);
	if (!is_wanted(c, i->key))
		return 0;
	if (i->unreadable != NULL) {
		log_error("%s", i->unreadable);
		c->failed++;
	}
	if (c->json) {
		list_json(c, i);
		return 0;
	}
	output_table_add(&c->table, i->key);
	output_table_add(&c->table, units_print_size(i->disk, buf));
	output_table_addf(&c->table, "%llu", (unsigned long long)i->entries);
	print_time(i->used, false, buf);
	output_table_add(&c->table, buf);
	output_table_add(&c->table, state_of(i));
	output_table_add(&c->table, i->what);
	return 0;
}

static int list_work(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;
	int code;

	(void)cancel;
	c->table.headings = "KEY >SIZE >ENTRIES USED STATE SOURCE";
	code = cache_each(c->cache, list_one, c, err);
	if (code == 0)
		check_keys(c, &c->there);
	return code;
}

static void print_list(const struct cache_call *c)
{
	if (c->json) {
		printf("[%s]\n", c->array.s != NULL ? c->array.s : "");
	} else if (c->table.cells.n == 0 && c->keys.n == 0) {
		log_info("there is nothing in the node cache %s", cache_dir(c->cache));
	} else if (c->table.cells.n > 0) {
		output_table_print(&c->table, stdout);
	}
}

/* `evict` and `clear` */

/* An entry that cannot be removed does not stop the removal of the others. */
static void evict_keys(struct cache_call *c)
{
	for (size_t i = 0; i < c->keys.n; i++) {
		uint64_t n = 0, bytes = 0;
		struct error why;

		if (cache_evict(c->cache, 0, c->keys.v[i], &n, &bytes, &why) < 0) {
			log_error("cache evict: %s", why.msg);
			c->failed++;
		}
		c->evicted += n;
		c->evicted_bytes += bytes;
	}
}

static int evict_work(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;

	(void)cancel;
	if (c->keys.n > 0) {
		evict_keys(c);
		return 0;
	}
	return cache_evict(c->cache, c->keep, NULL, &c->evicted, &c->evicted_bytes, err);
}

static int clear_work(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;

	(void)cancel;
	return cache_evict(c->cache, 0, NULL, &c->evicted, &c->evicted_bytes, err);
}

static void print_evicted(const struct cache_call *c)
{
	char size[32];

	if (c->json)
		printf("{\"evicted\": %llu, \"bytes\": %llu}\n", (unsigned long long)c->evicted,
			(unsigned long long)c->evicted_bytes);
	else
		printf("evicted %llu, %s\n", (unsigned long long)c->evicted,
			units_print_size(c->evicted_bytes, size));
}

/* `verify` */

static int choose_key(void *ctx, const struct cache_info *i, struct error *err)
{
	struct cache_call *c = ctx;
	bool unfinished = !i->complete && !i->damaged && i->unreadable == NULL;

	(void)err;
	text_strings_add(&c->there, i->key);
	if (!is_wanted(c, i->key))
		return 0;
	if (!unfinished) {
		text_strings_add(&c->chosen, i->key);
		count(&c->progress.total, i->bytes);
	} else if (c->keys.n > 0) {
		log_info("%s is unfinished: there is nothing to verify yet", i->key);
	}
	return 0;
}

/* An entry that is in use is not removed: its next use finds the damage as well. */
static void report_damage(struct cache_call *c, const char *key, const struct error *why)
{
	uint64_t n = 0, bytes;
	struct error kept_err;
	int code = cache_evict(c->cache, 0, key, &n, &bytes, &kept_err);
	bool removed = code == 0;

	c->damaged++;
	if (code < 0 && code != -EBUSY)
		log_error("cannot remove %s: %s", key, kept_err.msg);
	log_error("%s is damaged: %s; it %s", key, why->msg,
		removed          ? "was removed, and is fetched again when it is wanted"
		: code == -EBUSY ? "stays while it is in use"
				 : "stays");
	text_add(&c->array, c->array.len > 0 ? ",{" : "{");
	output_json_text(&c->array, "key", key);
	output_json_text(&c->array, "damage", why->msg);
	output_json_bool(&c->array, "removed", removed);
	text_add(&c->array, "}");
}

/* It is unknown whether the entry is damaged, so it is not removed. */
static void report_unread(struct cache_call *c, const char *key, const struct error *why)
{
	c->failed++;
	log_error("%s could not be verified: %s; it stays", key, why->msg);
}

static int verify_one(
	struct cache_call *c, const char *key, struct cancel *cancel, struct error *err)
{
	int code = cache_verify(c->cache, key, c->deep, &c->progress, cancel, err);

	if (code == -ENOENT && c->keys.n == 0)
		return 0; /* it was evicted meanwhile */
	if (code == -ECANCELED)
		return code;
	c->verified += code == 0 || code == -ESTALE;
	if (code == -ESTALE)
		report_damage(c, key, err);
	else if (code < 0)
		report_unread(c, key, err);
	return 0;
}

static int verify_work(void *ctx, struct cancel *cancel, struct error *err)
{
	struct cache_call *c = ctx;
	int code = cache_each(c->cache, choose_key, c, err);

	if (code == 0)
		check_keys(c, &c->there);
	for (size_t i = 0; i < c->chosen.n && code == 0; i++)
		code = verify_one(c, c->chosen.v[i], cancel, err);
	return code;
}

static void print_verified(const struct cache_call *c)
{
	if (c->json) {
		printf("{\"verified\": %llu, \"damaged\": [%s]}\n", (unsigned long long)c->verified,
			c->array.s != NULL ? c->array.s : "");
	} else {
		printf("%llu verified, %llu damaged\n", (unsigned long long)c->verified,
			(unsigned long long)c->damaged);
	}
}

/* One call. */

static void cache_call_free(struct cache_call *c)
{
	cache_close(c->cache);
	output_table_done(&c->table);
	text_done(&c->array);
	text_strings_done(&c->keys);
	text_strings_done(&c->there);
	text_strings_done(&c->chosen);
	free(c->shown);
	free(c);
}

static int open_cache(const struct settings *s, struct cache_call *c, struct error *err)
{
	const struct cache_options opts = agent_cache_options(s);

	if (s->cache_dir[0] == '\0')
		return error_set(err, -ERR_CONFIG,
			"there is no node cache: name it with --dir, $STAGERUN_CACHE_DIR or cache.dir in agent.ini");
	return cache_open(&opts, &c->cache, err);
}

static struct cache_call *cache_call_new(struct subcommand_call *call)
{
	struct cache_call *c = zalloc(sizeof(*c));
	uint64_t evict_to = call->request.evict_to, max_size = call->settings->cache_max_size;

	c->keys = call->words;
	call->words = (struct strings){0};
	c->json = call->request.json;
	c->deep = call->request.deep;
	c->keep = evict_to != UINT64_MAX ? evict_to : max_size > 0 ? max_size : UINT64_MAX;
	return c;
}

static int cache_call_run(struct subcommand_call *call, agent_work_fn work,
	void (*print)(const struct cache_call *c), struct error *err)
{
	struct cache_call *c = cache_call_new(call);
	int code = open_cache(call->settings, c, err);

	if (code == 0 && work == verify_work) {
		c->shown = text_format("verify %s", cache_dir(c->cache));
		c->progress.name = c->shown;
	}
	if (code == 0)
		code = agent_work(
			&call->agent, work, c, c->shown != NULL ? &c->progress : NULL, err);
	if (call->agent.abandoned)
		return code;
	if (code == 0)
		print(c);
	call->incomplete = c->damaged > 0 || c->failed > 0;
	cache_call_free(c);
	return code;
}

/* The subcommands. */

static int cache_command_list(struct subcommand_call *call, struct error *err)
{
	return cache_call_run(call, list_work, print_list, err);
}

static int cache_command_evict(struct subcommand_call *call, struct error *err)
{
	return cache_call_run(call, evict_work, print_evicted, err);
}

static int cache_command_verify(struct subcommand_call *call, struct error *err)
{
	return cache_call_run(call, verify_work, print_verified, err);
}

static int cache_command_clear(struct subcommand_call *call, struct error *err)
{
	return cache_call_run(call, clear_work, print_evicted, err);
}

static const struct option_row *const list_tables[] = {json_rows, cache_rows, common_rows, NULL};
static const struct option_row *const evict_tables[] = {
	evict_rows, json_rows, cache_rows, common_rows, NULL};
static const struct option_row *const verify_tables[] = {
	verify_rows, json_rows, cache_rows, common_rows, NULL};

static const struct subcommand subcommands[] = {
	{"list", "[KEY...]", "what is in the node cache, the least recently used first", NULL,
		list_tables, 0, SIZE_MAX, cache_command_list},
	{"evict", "[KEY...]", "remove down to cache.max_size and cache.min_free, or these entries",
		NULL, evict_tables, 0, SIZE_MAX, cache_command_evict},
	{"verify", "[KEY...]", "compare entries with what they were, and remove the damaged ones",
		NULL, verify_tables, 0, SIZE_MAX, cache_command_verify},
	{"clear", "", "remove all that is not in use", NULL, list_tables, 0, 0,
		cache_command_clear},
};

static const struct subcommand_list list = {
	.name = "cache",
	.usage = "Usage: stagerun cache SUBCOMMAND ...\n\n"
		 "The node cache (cache.dir), where what was staged is kept for later runs.\n",
	.more = "\nstagerun cache SUBCOMMAND --help tells more.",
	.name_columns = 7,
	.word_columns = 9,
	.v = subcommands,
	.n = ARRAY_LEN(subcommands),
};

int command_cache(int argc, char **argv, const struct inherited *in)
{
	return subcommand_dispatch(&list, argc, argv, in);
}
