# SPDX-License-Identifier: MIT
"""`stagerun hook POINT`: one lifecycle point of config.yml, by hand or in an image build."""

import signal

import pytest
from agent import wait_until
from archives import file, noise, tar
from faultserver import rate


def config(stagerun, point, *items, more=""):
    """config.yml with these actions (YAML of each item) at one point. The first item's line is 5."""
    lines = "\n".join(f"        - {item}" for item in items)
    return stagerun.config(f"compute:\n  train:\n    actions:\n      {point}:\n{lines}\n{more}")


def hook(stagerun, point, *items, **how):
    return stagerun.run("hook", point, "--config", config(stagerun, point, *items), **how)


@pytest.mark.parametrize("point", ["on_build_start", "on_build", "on_build_end",
                                   "on_experiment_start", "on_experiment_end"])
def test_the_actions_of_the_point_run_in_order(stagerun, point):
    assert hook(stagerun, point, "echo one", "echo two").ok().out == "one\ntwo\n"


@pytest.mark.parametrize("older, point", [("on_image_build", "on_build_start"),
                                          ("on_before_training_start", "on_experiment_start"),
                                          ("on_after_training_end", "on_experiment_end")])
def test_older_names_are_the_same_points(stagerun, older, point):
    assert stagerun.run("hook", older, "--config",
                        config(stagerun, point, "echo it")).ok().out == "it\n"
    assert stagerun.run("hook", point, "--config",
                        config(stagerun, older, "echo it")).ok().out == "it\n"


def test_actions_of_other_points_do_not_run(stagerun):
    path = config(stagerun, "on_build", "echo build",
                  more="      on_build_end:\n        - echo end\n")
    assert stagerun.run("hook", "on_build", "--config", path).ok().out == "build\n"


def test_options_may_stand_before_the_point(stagerun):
    path = config(stagerun, "on_build", "echo it")
    assert stagerun.run("hook", "--config", path, "on_build").ok().out == "it\n"


def test_the_config_may_come_from_the_environment(stagerun):
    path = config(stagerun, "on_build", "echo it")
    assert stagerun.run("hook", "on_build", env={"STAGERUN_CONFIG": str(path)}).ok().out == "it\n"


def test_a_failing_item_is_named_and_exits_with_1(stagerun):
    result = hook(stagerun, "on_build_end", "exit 3", "touch ran").failed(
        1, r"on_build_end action 1 \(.*config\.yml:5\) failed: exit status 3")
    assert not (stagerun.cwd / "ran").exists()
    assert len(result.err.splitlines()) == 2


def test_a_failing_line_ends_its_item(stagerun):
    assert hook(stagerun, "on_build", "|\n          false\n          echo never\n").failed(
        1, "action 1").out == ""


def test_an_item_is_ended_after_its_timeout(stagerun):
    hook(stagerun, "on_build", "{run: sleep 60, timeout: 200ms}").failed(1, "timeout of 200 ms")
    assert stagerun.leftovers() == []


def test_an_item_is_tried_again(stagerun):
    result = hook(stagerun, "on_build",
                  "{run: 'echo try; test -e m || { touch m; exit 1; }', retries: 1}").ok()
    assert result.out == "try\ntry\n"


def test_variables_travel_to_later_items(stagerun):
    result = hook(stagerun, "on_build", "echo NAME=a b >> $STAGERUN_ENV", "echo $NAME").ok()
    assert result.out == "a b\n"


def test_items_see_the_environment_of_the_config(stagerun):
    path = config(stagerun, "on_build", "echo $COLOUR $STAGERUN_USER_ID",
                  more="    environment: {COLOUR: red, GRID_USER_ID: u1}\n")
    assert stagerun.run("hook", "on_build", "--config", path).ok().out == "red u1\n"


def test_items_are_told_their_point_and_their_config(stagerun):
    path = config(stagerun, "on_build", 'echo "$STAGERUN_POINT" "$STAGERUN_RUN_CONFIG"')
    path.rename(stagerun.cwd / "config.yml")
    result = stagerun.run("hook", "on_build", "--config", "config.yml").ok()
    assert result.out == f"on_build {stagerun.cwd}/config.yml\n"


def test_stage_items_at_the_head_run_first(stagerun, server, dest):
    slow = server.put("/slow.tar", tar(file("slow", noise(100_000))), rate(250_000))
    fast = server.put("/fast.tar", tar(file("fast")))
    result = hook(stagerun, "on_build_end", f"stage: {{source: '{slow.url}', to: '{dest}/s'}}",
                  f"stage: {{source: '{fast.url}', to: '{dest}/f'}}",
                  f"ls {dest}/s {dest}/f; echo \"$STAGERUN_STAGED\"").ok()
    assert result.out.split() == [f"{dest}/f:", "fast", f"{dest}/s:", "slow", f"{dest}/s",
                                  f"{dest}/f"]


def test_a_stage_item_that_fails_ends_it(stagerun, server, dest):
    hook(stagerun, "on_build", f"stage: {{source: '{server.url('/gone')}', to: '{dest}'}}",
         "touch ran").failed(1, "/gone", "404", r"config\.yml:5")
    assert not (stagerun.cwd / "ran").exists()


def test_a_datastore_item_at_a_build_point_is_staged_from_the_store(stagerun):
    (stagerun.cwd / "src").mkdir()
    (stagerun.cwd / "src" / "a").write_text("a cat")
    stagerun.run("datastore", "create", "src", "--name", "cats").ok()
    hook(stagerun, "on_build", "touch ran", "stage: {datastore: 'cats:1', to: cats}").ok()
    assert (stagerun.cwd / "cats" / "a").read_text() == "a cat"


def test_a_datastore_item_that_is_not_there_fails_with_its_line(stagerun):
    hook(stagerun, "on_build", "stage: {datastore: 'cats:1', to: cats}").failed(1, "cats", r"config\.yml:5")


def test_the_scratch_directory_of_the_config_is_there(stagerun):
    scratch = stagerun.directory / "scratch"
    path = config(stagerun, "on_experiment_start", f"test -d {scratch}",
                  more=f"    scratch: {{mount_path: {scratch}}}\n")
    stagerun.run("hook", "on_experiment_start", "--config", path).ok()


def test_a_point_without_actions_is_said_and_done(stagerun):
    path = config(stagerun, "on_build", "echo build")
    result = stagerun.run("hook", "on_build_end", "--config", path).ok()
    assert "no on_build_end actions" in result.err and result.out == ""


def test_no_config_is_wrong_usage(stagerun):
    stagerun.run("hook", "on_build").failed(2, "no config.yml", "--config")


def test_a_config_that_is_not_there_fails(stagerun):
    stagerun.run("hook", "on_build", "--config", "nowhere.yml").failed(1, "nowhere.yml")


def test_a_misspelt_point_is_corrected(stagerun):
    stagerun.run("hook", "on_biuld").failed(2, "on_biuld", "did you mean on_build")


def test_no_point_is_wrong_usage(stagerun):
    stagerun.run("hook").failed(2, "usage: stagerun hook POINT")


def test_two_points_are_wrong_usage(stagerun):
    stagerun.run("hook", "on_build", "on_build_end").failed(2, "on_build_end")


def test_a_signal_ends_the_item_and_is_the_exit_status(stagerun):
    running = stagerun.start("hook", "on_build", "--config",
                             config(stagerun, "on_build", "touch began; sleep 60"))
    wait_until((stagerun.cwd / "began").exists)
    running.signal(signal.SIGTERM)
    assert running.wait(5).code == 143
    assert stagerun.leftovers() == []


def test_run_says_that_it_leaves_build_points_out(stagerun):
    result = stagerun.run("run", "--config", config(stagerun, "on_build_end", "touch ran"), "--",
                          "true").ok()
    assert "on_build_end" in result.err and not (stagerun.cwd / "ran").exists()


def operators_hook(stagerun, point, script="echo operator"):
    path = stagerun.directory / "hooks" / point / "10-a"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    for p in (path, path.parent, path.parent.parent):
        p.chmod(0o755)
    stagerun.configure(hooks={"dir": path.parent.parent})


@pytest.mark.parametrize("point, out", [("on_experiment_start", "operator\nuser\n"),
                                        ("on_experiment_end", "user\noperator\n")])
def test_operators_hooks_run_around_the_users_actions(stagerun, point, out):
    operators_hook(stagerun, point)
    assert hook(stagerun, point, "echo user").ok().out == out


def test_operators_hooks_run_where_the_user_has_no_actions(stagerun):
    operators_hook(stagerun, "on_experiment_start")
    path = config(stagerun, "on_build", "echo build")
    assert stagerun.run("hook", "on_experiment_start", "--config", path).ok().out == "operator\n"


def test_an_operators_hook_that_fails_is_named_and_exits_with_1(stagerun):
    operators_hook(stagerun, "on_experiment_start", "exit 3")
    assert hook(stagerun, "on_experiment_start", "echo user").failed(
        1, "hooks/on_experiment_start/10-a failed: exit status 3").out == ""
