/* SPDX-License-Identifier: MIT */
/* `stagerun cache list|evict|verify|clear`: what the node cache holds, and what of it goes. */
#include "agent.h"
#include "cache_call.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include <stdio.h>
#include <string.h>

static const struct option_row *const list_tables[] = {json_rows, cache_rows, common_rows, NULL};
static const struct option_row *const evict_tables[] = {
	evict_rows, json_rows, cache_rows, common_rows, NULL};
static const struct option_row *const verify_tables[] = {
	verify_rows, json_rows, cache_rows, common_rows, NULL};

static const struct subcommand {
	const char *name, *words, *help;
	const struct option_row *const *tables;
	size_t max_words;
	agent_work_fn work;
	void (*print)(const struct cache_call *c);
} subcommands[] = {
	{"list", "[KEY...]", "what is in the node cache, the least recently used first",
		list_tables, SIZE_MAX, cache_call_list, cache_print_list},
	{"evict", "[KEY...]", "remove down to cache.max_size and cache.min_free, or these entries",
		evict_tables, SIZE_MAX, cache_call_evict, cache_print_evicted},
	{"verify", "[KEY...]", "compare entries with what they were, and remove the damaged ones",
		verify_tables, SIZE_MAX, cache_call_verify, cache_print_verified},
	{"clear", "", "remove all that is not in use", list_tables, 0, cache_call_clear,
		cache_print_evicted},
};

static int print_help(void)
{
	puts("Usage: stagerun cache SUBCOMMAND ...\n\n"
	     "The node cache (cache.dir), where what was staged is kept for later runs.\n");
	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
		printf("  %-7s %-9s %s\n", subcommands[i].name, subcommands[i].words,
			subcommands[i].help);
	puts("\nstagerun cache SUBCOMMAND --help tells more.");
	return EXIT_DONE;
}

static int print_subcommand_help(const struct subcommand *s)
{
	printf("Usage: stagerun cache %s %s [OPTIONS]\n\n%s.\n\nOptions:\n", s->name, s->words,
		s->help);
	options_print(s->tables);
	return EXIT_DONE;
}

static void cache_call_free(struct cache_call *c)
{
	cache_close(c->cache);
	table_done(&c->table);
	json_decref(c->array);
	strings_done(&c->keys);
	request_done(&c->request);
	free(c);
}

static int open_cache(const struct settings *s, struct cache_call *c, struct error *err)
{
	const struct cache_options opts = {
		.dir = s->cache_dir, .max_size = s->cache_max_size, .min_free = s->cache_min_free};

	if (s->cache_dir[0] == '\0')
		return error_set(err, -ERR_CONFIG,
			"there is no node cache: name it with --dir, $STAGERUN_CACHE_DIR or "
			"cache.dir in agent.ini");
	c->max_size = s->cache_max_size;
	c->array = json_array();
	return cache_open(&opts, &c->cache, err);
}

/* The exit code. c is freed, unless a thread still uses it. */
static int run_subcommand(const struct subcommand *s, struct cache_call *c, struct agent *a)
{
	struct error err = {0};
	int code = open_cache(a->settings, c, &err);
	bool bad = false;

	if (code == 0)
		code = agent_work(a, s->work, c, NULL, &err);
	if (a->abandoned)
		return EXIT_FAILED;
	if (code == 0)
		s->print(c);
	else
		log_error("cache %s: %s", s->name, err.msg);
	bad = c->damaged > 0;
	cache_call_free(c);
	return code < 0 || bad ? EXIT_FAILED : EXIT_DONE;
}

static int run_call(const struct subcommand *s, struct cache_call *c, const struct inherited *in)
{
	struct settings *settings = NULL;
	struct agent agent = {0};
	struct error err = {0};
	int exit_code = EXIT_FAILED;

	if (request_settings(&c->request, &settings, &err) < 0 ||
		agent_open(&agent, settings, in, &err) < 0) {
		log_error("cache %s: %s", s->name, err.msg);
		cache_call_free(c);
	} else {
		exit_code = run_subcommand(s, c, &agent);
	}
	agent_close(&agent);
	if (agent.signal != 0)
		exit_code = 128 + agent.signal;
	exit_code = agent_leave(&agent, exit_code);
	settings_free(settings);
	return exit_code;
}

static int parse_and_run(
	const struct subcommand *s, int argc, char **argv, const struct inherited *in)
{
	struct cache_call *c = zalloc(sizeof(*c));
	struct error err = {0};
	int exit_code = EXIT_USAGE;

	c->request.evict_to = UINT64_MAX;
	if (options_parse_all(argc, argv, s->tables, &c->request, &c->keys, &err) < 0)
		log_error("cache %s: %s", s->name, err.msg);
	else if (c->request.help)
		exit_code = print_subcommand_help(s);
	else if (c->keys.n > s->max_words)
		log_error("cache %s: usage: stagerun cache %s [OPTIONS]", s->name, s->name);
	else
		return run_call(s, c, in);
	cache_call_free(c);
	return exit_code;
}

int command_cache(int argc, char **argv, const struct inherited *in)
{
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return print_help();
	for (size_t i = 0; i < ARRAY_LEN(subcommands) && argc >= 2; i++) {
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return parse_and_run(&subcommands[i], argc - 2, argv + 2, in);
	}
	log_error("cache: %s; stagerun cache --help lists what there is",
		argc < 2 ? "no subcommand" : "unknown subcommand");
	return EXIT_USAGE;
}
