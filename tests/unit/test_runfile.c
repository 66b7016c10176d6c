/* SPDX-License-Identifier: MIT */
/* config.yml: what a run asks for, key by key, and what is said of mistakes. */
#include "config_fixture.h"
#include "defer.h"
#include "runfile.h"
#include "test.h"
#include <string.h>

#define TRAIN "compute:\n  train:\n"

static struct runfile *parse(const char *yaml)
{
	struct runfile *r = NULL;
	struct error err = {0};

	if (runfile_parse("config.yml", yaml, strlen(yaml), &r, &err) < 0)
		fail_msg("%s", err.msg);
	return r;
}

static void assert_refused(const char *yaml, const char *sentence)
{
	struct runfile *r = NULL;
	struct error err = {0};

	assert_int_equal(-ERR_CONFIG, runfile_parse("config.yml", yaml, strlen(yaml), &r, &err));
	assert_null(r);
	assert_string_equal(sentence, err.msg);
}

/* What is warned about while reading yaml. */
static char *warnings_of(const char *yaml)
{
	keep_warnings();
	runfile_free(parse(yaml));
	return kept_warnings();
}

static void assert_words(const struct strings *got, const char *const *want)
{
	size_t i = 0;

	for (; want[i] != NULL; i++) {
		assert_true(i < got->n);
		assert_string_equal(want[i], got->v[i]);
	}
	assert_int_equal(i, got->n);
}

#define assert_list(got, ...) assert_words(got, (const char *const[]){__VA_ARGS__, NULL})

static const char grid_schema[] =
	"compute:\n"
	"  provider: {cluster: prod-2}\n"
	"  train:\n"
	"    framework: lightning\n"
	"    environment: {MY_ENVIRONMENT_VARIABLE: \"example\"}\n"
	"    dependency_file_info: {path: null, package_manager: pip}     # pip | conda\n"
	"    instance: m5a.large\n"
	"    use_spot: False\n"
	"    storage_gb: 100\n"
	"    localdir: False\n"
	"    dockerfile: null\n"
	"    auto_resume: false\n"
	"    datastore_name: null\n"
	"    datastore_version: null          # int; null = newest\n"
	"    datastore_mount_dir: null        # default /datastores/<name>\n"
	"    actions:                         # each a list of strings\n"
	"      on_build: []\n"
	"      on_build_start: []\n"
	"      on_build_end: []\n"
	"      on_experiment_start: []\n"
	"      on_experiment_end: []\n"
	"    scratch: {size_gb: 100, mount_path: /tmp/scratch}\n"
	"hyper_params: {settings: {strategy: grid}, params: {--foo: 1}}\n";

TEST(runfile_reads_every_key_of_grids_schema_without_a_warning)
{
	char *said = warnings_of(grid_schema);
	struct runfile *r = parse(grid_schema);

	assert_string_equal("", said);
	assert_list(&r->environment, "MY_ENVIRONMENT_VARIABLE=example");
	assert_null(r->dependency_file);
	assert_string_equal("pip", r->package_manager);
	assert_int_equal(0, r->n_datastores);
	assert_int_equal(1, r->n_scratch);
	assert_true(r->scratch[0].size_bytes == 100ULL << 30);
	assert_string_equal("/tmp/scratch", r->scratch[0].mount_path);
	assert_int_equal(22, r->scratch[0].line);
	assert_list(&r->params, "--foo", "1");
	for (int i = 0; i < POINT_COUNT; i++)
		assert_int_equal(0, r->actions[i].n);
	free(said);
	runfile_free(r);
}

TEST(runfile_knows_the_keys_of_older_run_files)
{
	char *said =
		warnings_of("compute:\n"
			    "  provider: {credentials: cc-1, region: us-east-1, vendor: aws}\n"
			    "  train: {disk_size: 1, memory: 8G, nodes: 0, max_nodes: 2, name: x,\n"
			    "    scale_down_seconds: 10, gpus: 1, cpus: 1, instance_type: t2}\n");

	assert_string_equal("", said);
	free(said);
}

TEST(runfile_reads_the_tutorials_cifar5_file)
{
	struct runfile *r = parse(TRAIN
		"    actions:\n"
		"      on_image_build:\n"
		"        - apt-get update -y\n"
		"        - apt-get install -y curl unzip\n"
		"      on_before_training_start:\n"
		"        - curl https://pl-flash-data.s3.amazonaws.com/cifar5.zip -o cifar5.zip\n"
		"        - unzip cifar5.zip\n"
		"        - mv cifar5 /tmp/scratch\n"
		"    scratch:\n"
		"      - size_gb: 30\n"
		"        mount_path: /tmp/scratch\n");
	const struct actions *start = &r->actions[POINT_EXPERIMENT_START];

	assert_int_equal(2, r->actions[POINT_BUILD_START].n);
	assert_int_equal(3, start->n);
	assert_int_equal(ACTION_RUN, start->v[1].kind);
	assert_string_equal("unzip cifar5.zip", start->v[1].script);
	assert_int_equal(2, start->v[1].number);
	assert_int_equal(9, start->v[1].line);
	assert_int_equal(1, r->n_scratch);
	runfile_free(r);
}

TEST(runfile_that_is_empty_or_null_asks_for_nothing)
{
	static const char *const files[] = {"", "# only a comment\n", "---\n", "null\n",
		"compute:\n", "compute: {train: null}\n", "compute: {train: {actions: ~}}\n"};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct runfile *r = parse(files[i]);

		assert_int_equal(0, r->n_datastores + r->environment.n + r->params.n);
		runfile_free(r);
	}
}

TEST(runfile_environment_is_a_map_or_assignments)
{
	struct runfile *r = parse(TRAIN "    environment:\n      A: 1\n      B: True\n"
					"      C: null\n      D: \"a=b c\"\n");

	assert_list(&r->environment, "A=1", "B=True", "C=", "D=a=b c");
	runfile_free(r);
	r = parse(TRAIN "    environment: KEY=some=value\n");
	assert_list(&r->environment, "KEY=some=value");
	runfile_free(r);
	r = parse(TRAIN "    environment: [A=1, B=2]\n");
	assert_list(&r->environment, "A=1", "B=2");
	runfile_free(r);
	assert_refused(TRAIN "    environment: KEY\n",
		"config.yml:3:18: compute.train.environment must be a map NAME: VALUE, or text "
		"NAME=VALUE");
	assert_refused(TRAIN "    environment: {A: [1]}\n",
		"config.yml:3:22: compute.train.environment.A must be a single value");
	assert_refused(TRAIN "    environment: =x\n",
		"config.yml:3:18: compute.train.environment: '' cannot be the name of a variable");
}

TEST(runfile_attaches_grids_one_datastore)
{
	struct runfile *r = parse(TRAIN "    datastore_mount_dir: /opt/data/\n"
					"    datastore_name: me:cats\n    datastore_version: 2\n");

	assert_int_equal(1, r->n_datastores);
	assert_string_equal("me:cats", r->datastores[0].name);
	assert_string_equal("2", r->datastores[0].version);
	assert_string_equal("/opt/data", r->datastores[0].mount_dir);
	assert_int_equal(4, r->datastores[0].line);
	runfile_free(r);
	r = parse(TRAIN "    datastore_name: ${DS}\n    datastore_version: ${V}\n"
			"    datastore_mount_dir: ${HOME}/d\n");
	assert_string_equal("${DS}", r->datastores[0].name);
	assert_string_equal("${V}", r->datastores[0].version);
	assert_string_equal("${HOME}/d", r->datastores[0].mount_dir);
	runfile_free(r);
	r = parse(TRAIN "    datastore_version: 2\n    datastore_mount_dir: /\n");
	assert_int_equal(0, r->n_datastores);
	runfile_free(r);
	assert_refused(TRAIN "    datastore_name: a:b:c\n",
		"config.yml:3:21: compute.train.datastore_name must be name or user:name");
	assert_refused(TRAIN "    datastore_name: a\n    datastore_version: latest\n",
		"config.yml:4:24: compute.train.datastore_version must be a whole number from 1, "
		"or null");
	assert_refused(TRAIN "    datastore_name: [a]\n",
		"config.yml:3:21: compute.train.datastore_name must be a single value");
}

TEST(runfile_attaches_a_list_of_datastores)
{
	struct runfile *r = parse(TRAIN "    datastore_name: first\n"
					"    datastores:\n"
					"      - cats\n"
					"      - dogs:3=/data/dogs/\n"
					"      - {name: \"me:birds\", version: 1, mount_dir: /b/}\n"
					"      - {datastore: \"fish:2\", to: ./fish}\n");

	assert_int_equal(5, r->n_datastores);
	assert_string_equal("cats", r->datastores[0].name);
	assert_null(r->datastores[0].version);
	assert_null(r->datastores[0].mount_dir);
	assert_string_equal("3", r->datastores[1].version);
	assert_string_equal("/data/dogs", r->datastores[1].mount_dir);
	assert_string_equal("me:birds", r->datastores[2].name);
	assert_string_equal("/b", r->datastores[2].mount_dir);
	assert_int_equal(7, r->datastores[2].line);
	assert_string_equal("fish", r->datastores[3].name);
	assert_string_equal("2", r->datastores[3].version);
	assert_string_equal("./fish", r->datastores[3].mount_dir);
	assert_string_equal("first", r->datastores[4].name);
	runfile_free(r);
	assert_refused(TRAIN "    datastores: [{name: a, vresion: 1}]\n",
		"config.yml:3:28: unknown key 'vresion' in compute.train.datastores[1]; did you "
		"mean 'version'? The keys are name, datastore, version, mount_dir, to");
	assert_refused(TRAIN "    datastores: [{version: 1}]\n",
		"config.yml:3:18: compute.train.datastores[1] needs a name");
	assert_refused(TRAIN "    datastores: [{datastore: \"a:1\", version: 2}]\n",
		"config.yml:3:18: compute.train.datastores[1]: 'a:1' and another key say the same");
	assert_refused(TRAIN "    datastores: [{name: a, to: /x, mount_dir: /y}]\n",
		"config.yml:3:18: compute.train.datastores[1]: mount_dir and to are the same; keep "
		"one");
}

TEST(datastore_ref_parse_tells_versions_from_users)
{
	static const struct {
		const char *arg, *name, *version, *dir;
	} cases[] = {
		{"cats", "cats", NULL, NULL},
		{"cats:12", "cats", "12", NULL},
		{"me:cats", "me:cats", NULL, NULL},
		{"me:cats:1=/x=y/", "me:cats", "1", "/x=y"},
		{"cats=/", "cats", NULL, "/"},
		{"cats:${V}", "cats", "${V}", NULL},
	};
	static const char *const wrong[] = {
		"", ":1", "cats:", "cats:0", "a:b:c", "a:b:c:1", "cats=", "=x", "cats:1x:"};
	struct error err;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct datastore_ref d = {0};

		assert_int_equal(0, datastore_ref_parse(cases[i].arg, &d, &err));
		assert_string_equal(cases[i].name, d.name);
		assert_int_equal(cases[i].version == NULL, d.version == NULL);
		assert_int_equal(cases[i].dir == NULL, d.mount_dir == NULL);
		if (d.version != NULL)
			assert_string_equal(cases[i].version, d.version);
		if (d.mount_dir != NULL)
			assert_string_equal(cases[i].dir, d.mount_dir);
		datastore_ref_done(&d);
	}
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct datastore_ref d = {0};

		assert_int_equal(-ERR_USAGE, datastore_ref_parse(wrong[i], &d, &err));
		assert_null(d.name);
	}
}

TEST(runfile_scratch_is_one_or_several_of_any_size)
{
	struct runfile *r = parse(TRAIN "    scratch:\n"
					"      - {size_gb: 0.5, mount_path: /fast}\n"
					"      - {size_gb: null}\n");

	assert_int_equal(2, r->n_scratch);
	assert_true(r->scratch[0].size_bytes == 512ULL << 20);
	assert_int_equal(4, r->scratch[0].line);
	assert_int_equal(0, r->scratch[1].size_bytes);
	assert_string_equal("/tmp/scratch", r->scratch[1].mount_path);
	runfile_free(r);
	assert_refused(TRAIN "    scratch: {size_gb: 100G}\n",
		"config.yml:3:24: compute.train.scratch.size_gb must be a number (of gigabytes)");
	assert_refused(TRAIN "    scratch: /tmp/scratch\n",
		"config.yml:3:14: compute.train.scratch must be a map of keys and values");
}

TEST(runfile_dependency_file_and_package_manager)
{
	struct runfile *r =
		parse(TRAIN "    dependency_file_info: {path: env.yml, package_manager: conda}\n");

	assert_string_equal("env.yml", r->dependency_file);
	assert_string_equal("conda", r->package_manager);
	runfile_free(r);
	assert_refused(TRAIN "    dependency_file_info: {package_manager: npm}\n",
		"config.yml:3:45: compute.train.dependency_file_info.package_manager must be pip "
		"or "
		"conda");
}

TEST(runfile_params_become_words)
{
	struct runfile *r = parse("hyper_params:\n  params:\n    --lr: 1e-3\n    --amp: True\n"
				  "    --name: two words\n    --flag: null\n    --empty: ''\n");

	assert_list(&r->params, "--lr", "1e-3", "--amp", "True", "--name", "two words", "--flag",
		"--empty", "");
	runfile_free(r);
	assert_refused("hyper_params: {params: {--lr: [1, 2]}}\n",
		"config.yml:1:31: hyper_params.params.--lr must be a single value; a sweep over "
		"several is several runs");
	assert_refused("hyper_params: {params: --lr}\n",
		"config.yml:1:24: hyper_params.params must be a map of words for the command, such "
		"as --foo: 1");
}

TEST(runfile_warns_of_unknown_keys_with_line_and_nearest)
{
	char *said = warnings_of("compute:\n"
				 "  trainn: {}\n"
				 "  train:\n"
				 "    datastore_nmae: cats\n"
				 "    scratch: {size_mb: 1}\n"
				 "    actions: {on_experiment_begin: [x]}\n"
				 "hyper_parms: {}\n"
				 "zebra: 1\n"
				 "actions: {on_build: [x]}\n");

	assert_non_null(strstr(said,
		"config.yml:2: unknown key 'trainn' in compute is ignored, so nothing under it is staged, set or run; did you mean 'train'?"));
	assert_non_null(strstr(said,
		"config.yml:4: unknown key 'datastore_nmae' in compute.train is "
		"ignored, so no datastore is attached for it; did you mean 'datastore_name'?"));
	assert_non_null(
		strstr(said, "config.yml:5: unknown key 'size_mb' in compute.train.scratch"));
	assert_non_null(
		strstr(said, "config.yml:6: unknown key 'on_experiment_begin' in "
			     "compute.train.actions is ignored, so its actions are not run; "
			     "did you mean 'on_experiment_start'?"));
	assert_non_null(
		strstr(said, "config.yml:7: unknown key 'hyper_parms' is ignored, so its words are "
			     "not added to the command; did you mean 'hyper_params'?"));
	assert_non_null(strstr(
		said, "config.yml:8: unknown key 'zebra' is ignored, so it has no effect\n"));
	assert_non_null(strstr(said,
		"config.yml:9: actions is ignored, so its actions are not run; actions belong under compute.train"));
	free(said);
}

TEST(runfile_says_what_no_point_of_the_lifecycle_will_do)
{
	char *said = warnings_of("compute: {train: {actions: {zebra: [x]}}}\n");

	assert_non_null(strstr(said, "'zebra' in compute.train.actions is ignored, so its actions "
				     "are not run\n"));
	free(said);
}

static void assert_strictly_refused(const char *yaml, const char *sentence)
{
	_free_ char *path = config_file("config.yml", yaml);
	struct runfile *r = NULL;
	struct error err;

	assert_int_equal(-ERR_CONFIG, runfile_read(path, true, &r, &err));
	assert_non_null(strstr(err.msg, sentence));
	assert_null(r);
}

TEST(runfile_refuses_unknown_keys_when_it_is_strict)
{
	assert_strictly_refused("computer: {}\n",
		"config.yml:1:1: unknown key 'computer'; did you mean 'compute'? The keys are "
		"compute, hyper_params, actions");
	assert_strictly_refused("compute: {train: {actions: {on_experiment_begin: [x]}}}\n",
		"config.yml:1:29: unknown key 'on_experiment_begin' in compute.train.actions; did "
		"you mean 'on_experiment_start'?");
	assert_strictly_refused("actions: {on_build: [x]}\n",
		"config.yml:1:1: actions: actions belong under compute.train");
}

TEST(runfile_names_place_and_kind_of_a_wrong_value)
{
	assert_refused("- a\n", "config.yml:1:1: config.yml must be a map of keys and values");
	assert_refused("compute: 5\n", "config.yml:1:10: compute must be a map of keys and values");
	assert_refused(TRAIN "    actions: [a]\n",
		"config.yml:3:14: compute.train.actions must be a map of keys and values");
}

TEST(runfile_reads_aliases_where_values_go)
{
	struct runfile *r = parse(TRAIN "    environment: &env {A: 1}\n"
					"    actions:\n"
					"      on_build: &steps [one, two]\n"
					"      on_experiment_start: *steps\n"
					"hyper_params: {params: *env}\n");

	assert_int_equal(2, r->actions[POINT_EXPERIMENT_START].n);
	assert_list(&r->params, "A", "1");
	runfile_free(r);
}

TEST(runfile_read_says_which_file_it_could_not_read)
{
	_free_ char *path = config_file("config.yml", "compute: 5\n");
	struct runfile *r = NULL;
	struct error err;

	assert_int_equal(-ENOENT, runfile_read("/nonexistent/config.yml", false, &r, &err));
	assert_non_null(strstr(err.msg, "/nonexistent/config.yml"));
	assert_int_equal(-EISDIR, runfile_read("/tmp", false, &r, &err));
	assert_int_equal(-ERR_CONFIG, runfile_read(path, false, &r, &err));
	assert_non_null(strstr(err.msg, "config.yml:1:10: "));
	assert_int_equal(-ERR_CONFIG, runfile_read("/dev/zero", false, &r, &err));
	assert_string_equal("/dev/zero: larger than 1 MiB", err.msg);
	assert_null(r);
}

TEST(runfile_cut_anywhere_is_read_or_refused_but_never_crashes)
{
	static const char full[] = TRAIN
		"    environment: &e {A: \"x\\ty\", B: 'z'}\n"
		"    datastores: [cats:1, {name: dogs, to: /d}]\n"
		"    actions:\n"
		"      on_experiment_start:\n"
		"        - stage: {source: \"https://h/a.zip\", to: /t, include: [\"a/**\"]}\n"
		"        - run: |\n"
		"            echo a: b && ls\n"
		"          timeout: 10m\n"
		"        - >-\n"
		"          folded\n"
		"hyper_params: {params: *e}\n";
	size_t refused = 0;

	for (size_t len = 0; len < sizeof(full); len++) {
		/* Heap memory of that very size, so that a byte too far is seen. */
		_free_ char *cut = malloc(len > 0 ? len : 1);
		struct runfile *r = NULL;
		struct error err = {0};

		assert_non_null(cut);
		memcpy(cut, full, len);
		keep_warnings();
		if (runfile_parse("config.yml", cut, len, &r, &err) < 0) {
			assert_null(r);
			assert_non_null(strstr(err.msg, "config.yml:"));
			refused++;
		}
		free(kept_warnings());
		runfile_free(r);
	}
	assert_true(refused > 100 && refused < sizeof(full) - 10);
}
