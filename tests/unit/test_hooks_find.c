/* SPDX-License-Identifier: MIT */
/* Which hooks are found, in which order, and which are refused before anything starts. */
#include "defer.h"
#include "hooks_fixture.h"
#include "test.h"
#include <string.h>
#include <sys/stat.h>

static void assert_found(struct hooks_fixture *f, enum hook_point point, const char *expected)
{
	_free_ char *names = NULL;

	if (hooks_fixture_find(f) < 0)
		fail_msg("%s", f->err.msg);
	names = hooks_fixture_names(f, point);
	assert_string_equal(expected, names);
}

static void assert_refused(struct hooks_fixture *f, const char *path, const char *why)
{
	assert_int_equal(-ERR_CONFIG, hooks_fixture_find(f));
	assert_null(f->hooks);
	assert_non_null(strstr(f->err.msg, path));
	if (strstr(f->err.msg, why) == NULL)
		fail_msg("'%s' does not say '%s'", f->err.msg, why);
}

static void link_to(const char *target, const char *dir, const char *name)
{
	_free_ char *path = text_format("%s/%s", dir, name);

	unlink(path);
	assert_int_equal(0, symlink(target, path));
}

TEST(hooks_are_ordered_by_the_bytes_of_their_names)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_stage_start/b", ":");
	hooks_fixture_put(f.dir, "on_stage_start/20-x", ":");
	hooks_fixture_put(f.dir, "on_stage_start/100-x.sh", ":");
	hooks_fixture_put(f.dir, "on_stage_start/B", ":");
	assert_found(&f, HOOK_STAGE_START, "100-x.sh 20-x B b ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_of_all_directories_are_one_order)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_set(&f, "hooks.dir", f.later);
	hooks_fixture_put(f.dir, "on_failure/30-c", ":");
	hooks_fixture_put(f.dir, "on_failure/10-a", ":");
	hooks_fixture_put(f.later, "on_failure/20-b", ":");
	assert_found(&f, HOOK_FAILURE, "10-a 20-b 30-c ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_of_an_end_are_in_reverse_order)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	for (const char *name = "on_stage_end\0on_experiment_end\0"; *name != '\0';
		name += strlen(name) + 1) {
		_free_ char *a = text_format("%s/10-a", name), *b = text_format("%s/20-b", name);

		hooks_fixture_put(f.dir, a, ":");
		hooks_fixture_put(f.dir, b, ":");
	}
	assert_found(&f, HOOK_STAGE_END, "20-b 10-a ");
	hooks_free(take_ptr(&f.hooks));
	assert_found(&f, HOOK_EXPERIMENT_END, "20-b 10-a ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_of_the_same_name_in_a_later_directory_override)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_set(&f, "hooks.dir", f.later);
	hooks_fixture_put(f.dir, "on_stage_start/10-a", ":");
	hooks_fixture_put(f.later, "on_stage_start/10-a", ":");
	assert_found(&f, HOOK_STAGE_START, "10-a ");
	assert_int_equal(
		0, strncmp(f.later, f.hooks->at[HOOK_STAGE_START].v[0].path, strlen(f.later)));
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_are_overridden_need_not_be_in_order)
{
	struct hooks_fixture f;
	_free_ char *bad = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_set(&f, "hooks.dir", f.later);
	bad = hooks_fixture_add(f.dir, "on_stage_start/10-a", ":");
	chmod(bad, 0666);
	hooks_fixture_put(f.later, "on_stage_start/10-a", ":");
	assert_found(&f, HOOK_STAGE_START, "10-a ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_are_links_to_dev_null_are_disabled)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_set(&f, "hooks.dir", f.later);
	hooks_fixture_put(f.dir, "on_stage_start/10-a", ":");
	hooks_fixture_put(f.later, "on_stage_start/20-b", ":");
	link_to("/dev/null", f.later, "on_stage_start/10-a");
	assert_found(&f, HOOK_STAGE_START, "20-b ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_leave_out_what_editors_and_package_managers_left)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_stage_start/.hidden", ":");
	hooks_fixture_put(f.dir, "on_stage_start/10-a~", ":");
	hooks_fixture_put(f.dir, "on_stage_start/10-a.bak", ":");
	hooks_fixture_put(f.dir, "on_stage_start/10-a.dpkg-old", ":");
	hooks_fixture_put(f.dir, "on_stage_start/10-a.rpmsave", ":");
	hooks_fixture_put(f.dir, "on_stage_start/#10-a#", ":");
	hooks_fixture_put(f.dir, "on_stage_start/10-a", ":");
	assert_found(&f, HOOK_STAGE_START, "10-a ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_leave_out_directories)
{
	struct hooks_fixture f;
	_free_ char *lib = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_stage_start/10-a", ":");
	lib = text_format("%s/on_stage_start/lib", f.dir);
	assert_int_equal(0, mkdir(lib, 0755));
	assert_found(&f, HOOK_STAGE_START, "10-a ");
	hooks_fixture_teardown(&f);
}

TEST(hooks_are_none_where_a_point_has_no_directory)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	assert_found(&f, HOOK_STAGE_START, "");
	assert_false(hooks_any(f.hooks, HOOK_STAGE_START));
	assert_false(hooks_any(NULL, HOOK_STAGE_START));
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_are_not_executable_are_refused)
{
	struct hooks_fixture f;
	_free_ char *path = NULL;

	hooks_fixture_setup(&f);
	path = hooks_fixture_add(f.dir, "on_failure/10-a", ":");
	chmod(path, 0644);
	assert_refused(&f, path, "chmod 755");
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_others_can_write_to_are_refused)
{
	struct hooks_fixture f;
	_free_ char *path = NULL;

	hooks_fixture_setup(&f);
	path = hooks_fixture_add(f.dir, "on_failure/10-a", ":");
	chmod(path, 0757);
	assert_refused(&f, path, "chmod go-w");
	chmod(path, 0775);
	assert_refused(&f, path, "chmod go-w");
	hooks_fixture_teardown(&f);
}

TEST(hooks_in_a_directory_that_others_can_write_to_are_refused)
{
	struct hooks_fixture f;
	_free_ char *point = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_failure/10-a", ":");
	point = text_format("%s/on_failure", f.dir);
	chmod(point, 0777);
	assert_refused(&f, point, "chmod go-w");
	chmod(point, 0755);
	chmod(f.dir, 0770);
	assert_refused(&f, f.dir, "chmod go-w");
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_link_into_a_directory_that_others_can_write_to_are_refused)
{
	struct hooks_fixture f;
	_free_ char *target = NULL;

	hooks_fixture_setup(&f);
	target = hooks_fixture_add(f.later, "anything/script", ":");
	hooks_fixture_put(f.dir, "on_failure/20-b", ":");
	link_to(target, f.dir, "on_failure/10-a");
	assert_found(&f, HOOK_FAILURE, "10-a 20-b ");
	hooks_free(take_ptr(&f.hooks));
	*strrchr(target, '/') = '\0';
	chmod(target, 0777);
	assert_refused(&f, target, "chmod go-w");
	hooks_fixture_teardown(&f);
}

/* dir/inner/hooks, a hooks directory of the settings: inner's mode and owner are the test's. Heap. */
static char *put_deeper(struct hooks_fixture *f)
{
	_free_ char *hooks = text_format("%s/inner/hooks", f->dir);
	char *inner = text_format("%s/inner", f->dir);

	assert_int_equal(0, mkdir(inner, 0755));
	assert_int_equal(0, mkdir(hooks, 0755));
	hooks_fixture_put(hooks, "on_failure/10-a", ":");
	hooks_fixture_set(f, "hooks.dir", hooks);
	return inner;
}

TEST(hooks_beneath_a_directory_that_others_can_write_to_are_refused)
{
	struct hooks_fixture f;
	_free_ char *inner = NULL;

	hooks_fixture_setup(&f);
	inner = put_deeper(&f);
	assert_found(&f, HOOK_FAILURE, "10-a ");
	hooks_free(take_ptr(&f.hooks));
	chmod(inner, 0777);
	assert_refused(&f, inner, "chmod go-w");
	chmod(inner, 0775);
	assert_refused(&f, inner, "chmod go-w");
	/* In a sticky one nobody else can exchange what is ours. */
	chmod(inner, 01777);
	assert_found(&f, HOOK_FAILURE, "10-a ");
	if (geteuid() == 0) {
		hooks_free(take_ptr(&f.hooks));
		chmod(inner, 0755);
		assert_int_equal(0, chown(inner, 12345, 0));
		assert_refused(&f, inner, "belongs to user 12345");
	}
	hooks_fixture_teardown(&f);
}

TEST(hooks_behind_a_link_that_others_can_exchange_are_refused)
{
	struct hooks_fixture f;
	_free_ char *open_dir = NULL, *link = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.later, "on_failure/10-a", ":");
	open_dir = text_format("%s/open", f.dir);
	link = text_format("%s/open/hooks", f.dir);
	assert_int_equal(0, mkdir(open_dir, 0755));
	assert_int_equal(0, symlink(f.later, link));
	hooks_fixture_set(&f, "hooks.dir", link);
	assert_found(&f, HOOK_FAILURE, "10-a ");
	hooks_free(take_ptr(&f.hooks));
	chmod(open_dir, 0777);
	assert_refused(&f, open_dir, "chmod go-w");
	if (geteuid() == 0) {
		chmod(open_dir, 01777);
		assert_int_equal(0, lchown(link, 12345, 0));
		assert_refused(&f, open_dir, "belongs to user 12345, who can exchange it");
	}
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_link_through_a_directory_that_others_can_write_to_are_refused)
{
	struct hooks_fixture f;
	_free_ char *target = NULL, *open_dir = NULL;

	hooks_fixture_setup(&f);
	open_dir = text_format("%s/open", f.later);
	assert_int_equal(0, mkdir(open_dir, 0755));
	target = hooks_fixture_add(open_dir, "inner/script", ":");
	hooks_fixture_put(f.dir, "on_failure/20-b", ":");
	link_to(target, f.dir, "on_failure/10-a");
	assert_found(&f, HOOK_FAILURE, "10-a 20-b ");
	hooks_free(take_ptr(&f.hooks));
	chmod(open_dir, 0777);
	assert_refused(&f, open_dir, "chmod go-w");
	hooks_fixture_teardown(&f);
}

TEST(hooks_of_another_user_are_refused)
{
	struct hooks_fixture f;
	_free_ char *path = NULL;

	if (geteuid() != 0)
		skip(); /* only root can give files away */
	hooks_fixture_setup(&f);
	path = hooks_fixture_add(f.dir, "on_failure/10-a", ":");
	assert_int_equal(0, chown(path, 12345, 0));
	assert_refused(&f, path, "belongs to user 12345");
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_link_to_nothing_are_refused)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_failure/20-b", ":");
	link_to("/nowhere/at/all", f.dir, "on_failure/10-a");
	assert_refused(&f, "on_failure/10-a", "/dev/null to disable");
	hooks_fixture_teardown(&f);
}

TEST(hooks_that_are_no_files_are_refused)
{
	struct hooks_fixture f;
	_free_ char *pipe = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_failure/20-b", ":");
	pipe = text_format("%s/on_failure/10-a", f.dir);
	assert_int_equal(0, mkfifo(pipe, 0755));
	assert_refused(&f, pipe, "not a file");
	hooks_fixture_teardown(&f);
}

TEST(hooks_directories_that_were_asked_for_must_exist)
{
	struct hooks_fixture f;

	hooks_fixture_setup(&f);
	hooks_fixture_set(&f, "hooks.dir", "/nowhere/at/all");
	assert_refused(&f, "/nowhere/at/all", "agent.ini");
	hooks_fixture_teardown(&f);
}

TEST(hooks_in_a_directory_with_a_misspelt_name_are_warned_of)
{
	struct hooks_fixture f;
	_free_ char *log = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "on_experiment_strat/10-a", ":");
	assert_int_equal(0, hooks_fixture_find(&f));
	log = hooks_fixture_log(&f);
	assert_non_null(strstr(log, "on_experiment_strat"));
	assert_non_null(strstr(log, "did you mean on_experiment_start?"));
	hooks_fixture_teardown(&f);
}

TEST(hooks_beside_a_library_are_not_warned_of)
{
	struct hooks_fixture f;
	_free_ char *log = NULL;

	hooks_fixture_setup(&f);
	hooks_fixture_put(f.dir, "lib/common.sh", ":");
	hooks_fixture_put(f.dir, "on_failure/10-a", ":");
	assert_int_equal(0, hooks_fixture_find(&f));
	log = hooks_fixture_log(&f);
	assert_string_equal("", log);
	hooks_fixture_teardown(&f);
}
