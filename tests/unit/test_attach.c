/* SPDX-License-Identifier: MIT */
/* Which datastores a run attaches, and where. */
#include "../../agent/command/plan.h"
#include "config_fixture.h"
#include "datastore.h"
#include "defer.h"
#include "process.h"
#include "test.h"
#include <string.h>

struct run {
	struct attachments all;
	struct strings command;
	struct error err;
};

static const char *there; /* the one path that exists */
static bool ours;         /* because it was staged */

static bool is_taken(const char *path, const char *dir)
{
	(void)dir;
	return there != NULL && strcmp(path, there) == 0 && !ours;
}

static bool is_there(const char *path)
{
	return there != NULL && strcmp(path, there) == 0;
}

static int attach(struct run *r, const char *text, enum attach_rank rank, const char *origin)
{
	struct datastore_ref ref = {0};
	int code;

	assert_int_equal(0, datastore_ref_parse(text, &ref, NULL));
	code = attach_add(&r->all, &ref, rank, origin, "/work", &r->err);
	datastore_ref_done(&ref);
	return code;
}

/* The words of the command are those of line. */
static int resolve(struct run *r, const char *line, bool store)
{
	const struct attach_paths paths = {
		.wanted = store, .is_taken = is_taken, .is_there = is_there};
	_free_ char *copy = text_copy(line);
	char *state = NULL;

	text_strings_done(&r->command);
	r->command = (struct strings){0};
	for (char *w = strtok_r(copy, " ", &state); w != NULL; w = strtok_r(NULL, " ", &state))
		text_strings_add(&r->command, w);
	return attach_arguments(&r->all, &r->command, &paths, &r->err);
}

static void assert_attached(const struct run *r, const char *expected)
{
	struct text t = {0};

	for (size_t i = 0; i < r->all.n; i++) {
		const struct attachment *a = &r->all.v[i];

		text_addf(&t, "%s%s:%s=%s", i > 0 ? " " : "", a->name,
			a->version != NULL ? a->version : "newest", a->to);
	}
	text_add(&t, "");
	assert_string_equal(expected, t.s);
	text_done(&t);
}

static void assert_command(const struct run *r, const char *expected)
{
	struct text t = {0};

	for (size_t i = 0; i < r->command.n; i++)
		text_addf(&t, "%s%s", i > 0 ? " " : "", r->command.v[i]);
	assert_string_equal(expected, t.s);
	text_done(&t);
}

static void done(struct run *r)
{
	attach_done(&r->all);
	text_strings_done(&r->command);
	there = NULL;
	ours = false;
}

TEST(a_datastore_is_attached_below_datastores_unless_a_directory_is_said)
{
	struct run r = {0};

	assert_int_equal(0, attach(&r, "cats", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, attach(&r, "cats:2=/opt/cats/", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, attach(&r, "dogs=data/dogs", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, attach(&r, "ann:birds", ATTACH_OPTION, "--datastore"));
	assert_attached(&r, "cats:newest=/datastores/cats cats:2=/opt/cats "
			    "dogs:newest=/work/data/dogs birds:newest=/datastores/birds");
	done(&r);
}

TEST(two_versions_for_one_directory_are_refused_and_the_same_twice_is_one)
{
	struct run r = {0};

	assert_int_equal(0, attach(&r, "cats:1", ATTACH_CONFIG, "config.yml:3"));
	assert_int_equal(0, attach(&r, "cats:1=/datastores/cats/", ATTACH_CONFIG, "config.yml:4"));
	assert_int_equal(-ERR_USAGE, attach(&r, "cats", ATTACH_CONFIG, "config.yml:5"));
	assert_string_equal(
		"config.yml:3 (datastore cats, 1) and config.yml:5 (datastore cats, the "
		"newest version) both want /datastores/cats; give one of them another "
		"directory: --datastore NAME:VERSION=DIR",
		r.err.msg);
	assert_attached(&r, "cats:1=/datastores/cats");
	done(&r);
}

TEST(an_option_wins_over_config_yml_for_a_directory_in_either_order)
{
	struct run r = {0};

	keep_warnings();
	assert_int_equal(0, attach(&r, "cats:1", ATTACH_CONFIG, "config.yml:3"));
	assert_int_equal(0, attach(&r, "cats:2", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, attach(&r, "cats:3", ATTACH_CONFIG, "config.yml:4"));
	free(kept_warnings());
	assert_attached(&r, "cats:2=/datastores/cats");
	assert_string_equal("--datastore", r.all.v[0].origin);
	done(&r);
}

TEST(a_name_that_cannot_be_one_is_refused_with_its_origin)
{
	struct run r = {0};

	assert_int_equal(-ERR_USAGE, attach(&r, "Cats", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, strncmp(r.err.msg, "--datastore: ", 13));
	assert_int_equal(0, r.all.n);
	done(&r);
}

TEST(references_in_arguments_become_directories)
{
	struct run r = {0};

	assert_int_equal(0,
		resolve(&r, "python datastore:cats --x=grid:dogs:2 datastore:ann:fish:1", false));
	assert_command(&r, "python /datastores/cats --x=/datastores/dogs /datastores/fish");
	assert_attached(&r, "cats:newest=/datastores/cats dogs:2=/datastores/dogs "
			    "fish:1=/datastores/fish");
	done(&r);
}

TEST(a_reference_finds_what_is_attached_already)
{
	struct run r = {0};

	assert_int_equal(0, attach(&r, "cats:2=/opt/cats", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, resolve(&r, "python grid:cats:2 datastore:cats grid:cats:1", false));
	assert_command(&r, "python /opt/cats /opt/cats /datastores/cats");
	assert_attached(&r, "cats:2=/opt/cats cats:1=/datastores/cats");
	done(&r);
}

TEST(what_only_looks_like_a_reference_is_left_alone)
{
	static const char words[] =
		"grid:cats:1 xdatastore:cats --flag grid:cats grid:8080/x datastore: "
		"datastore://h/db -d=datastore:cats x=datastore:cats grid:a:0";
	struct run r = {0};

	assert_int_equal(0, resolve(&r, words, true)); /* the first word is the command */
	assert_command(&r, words);
	assert_attached(&r, "");
	done(&r);
}

TEST(a_path_below_datastores_attaches_what_it_names_where_it_says)
{
	struct run r = {0};

	assert_int_equal(0, resolve(&r,
				    "python /datastores/cats/1 --d=/datastores/dogs/train/a "
				    "/datastores/cats/1/val /datastores/fish/ /datastores",
				    true));
	assert_command(&r, "python /datastores/cats/1 --d=/datastores/dogs/train/a "
			   "/datastores/cats/1/val /datastores/fish/ /datastores");
	assert_attached(&r, "cats:1=/datastores/cats/1 dogs:newest=/datastores/dogs "
			    "fish:newest=/datastores/fish");
	done(&r);
}

TEST(a_path_inside_what_is_attached_attaches_nothing_more)
{
	struct run r = {0};

	assert_int_equal(0, attach(&r, "cats", ATTACH_CONFIG, "config.yml:3"));
	assert_int_equal(0, resolve(&r, "python /datastores/cats /datastores/cats/1/x", true));
	assert_attached(&r, "cats:newest=/datastores/cats");
	done(&r);
}

TEST(a_path_that_exists_is_no_datastore_unless_one_was_staged_there)
{
	struct run r = {0};

	there = "/datastores/cats/a";
	assert_int_equal(0, resolve(&r, "python /datastores/cats/a", true));
	assert_attached(&r, "");
	ours = true;
	assert_int_equal(0, resolve(&r, "python /datastores/cats/a", true));
	assert_attached(&r, "cats:newest=/datastores/cats");
	done(&r);
}

TEST(without_a_store_paths_are_left_alone)
{
	struct run r = {0};

	assert_int_equal(0, resolve(&r, "python /datastores/cats/1", false));
	assert_attached(&r, "");
	done(&r);
}

TEST(an_argument_loses_against_what_was_attached_there)
{
	struct run r = {0};

	keep_warnings();
	assert_int_equal(0, attach(&r, "cats:2", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, resolve(&r, "python grid:cats:1", true));
	free(kept_warnings());
	assert_attached(&r, "cats:2=/datastores/cats");
	done(&r);
}

TEST(what_is_attached_is_staged_read_only_and_may_replace_an_older_version)
{
	struct run r = {0};
	struct stage_spec spec;

	assert_int_equal(0, attach(&r, "cats:2", ATTACH_OPTION, "--datastore"));
	attach_spec(&r.all.v[0], &spec);
	assert_string_equal("datastore:cats:2", spec.sources[0].url);
	assert_string_equal("/datastores/cats", spec.to);
	assert_true(spec.read_only);
	assert_true(spec.renew);
	assert_false(spec.replace);
	stage_spec_done(&spec);
	done(&r);
}

TEST(the_environment_names_the_directory_of_each_datastore)
{
	struct run r = {0};
	struct strings env = {0};

	assert_int_equal(0, attach(&r, "my-cats.2=/a", ATTACH_OPTION, "--datastore"));
	assert_int_equal(0, attach(&r, "my-cats.2:1=/b", ATTACH_OPTION, "--datastore"));
	attach_set_directories(&r.all, &env);
	assert_string_equal("/a", environment_get(&env, "STAGERUN_DATASTORE_MY_CATS_2"));
	assert_int_equal(1, env.n);
	text_strings_done(&env);
	done(&r);
}

TEST(the_environment_lists_the_versions_that_were_staged)
{
	struct strings env = {0};

	attach_add_provenance(
		&(struct stage_datastore){
			.name = "cats", .version = 3, .manifest_sha256 = "ab", .to = "/d"},
		&env);
	attach_add_provenance(
		&(struct stage_datastore){
			.name = "dogs", .version = 1, .manifest_sha256 = "cd", .to = "/e"},
		&env);
	assert_string_equal(
		"{\"name\":\"cats\",\"version\":3,\"manifest_sha256\":\"ab\",\"directory\":\"/"
		"d\"}\n"
		"{\"name\":\"dogs\",\"version\":1,\"manifest_sha256\":\"cd\",\"directory\":\"/e\"}",
		environment_get(&env, "STAGERUN_DATASTORES"));
	text_strings_done(&env);
}
