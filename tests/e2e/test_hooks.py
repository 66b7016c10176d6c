# SPDX-License-Identifier: MIT
"""Operators' hooks: when they run, what they are told, and what their failure does."""

import json
import os
import signal
import time

import pytest
from agent import wait_until
from archives import file, tar
from faultserver import rate
from stopwatch import Stopwatch

POINTS = ["on_stage_start", "on_stage_end", "on_experiment_start", "on_experiment_end", "on_failure"]
SEE = 'echo "$STAGERUN_POINT/${0##*/}" >> "$SEEN"'


class Operator:
    """An operator who installs hooks. Every hook can append to the file seen."""

    def __init__(self, stagerun):
        self.dir = stagerun.directory / "hooks"
        self.dir.mkdir(mode=0o755)
        self.stagerun = stagerun
        stagerun.configure(hooks={"dir": self.dir})
        stagerun.env["SEEN"] = str(stagerun.directory / "seen")

    def hook(self, name, script=SEE, directory=None, mode=0o755):
        path = (directory or self.dir) / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return path

    def hook_everywhere(self, script=SEE):
        for point in POINTS:
            self.hook(f"{point}/10-a", script)

    def seen(self):
        path = self.stagerun.directory / "seen"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def operator(stagerun):
    os.umask(0o022)
    return Operator(stagerun)


def config(stagerun, start=(), end=(), more=""):
    """config.yml with these actions, each a shell line."""
    def point(name, lines):
        return f"      {name}:\n" + "".join(f"        - {line}\n" for line in lines) if lines else ""
    return stagerun.config("compute:\n  train:\n    actions:\n"
                           + point("on_experiment_start", start) + point("on_experiment_end", end)
                           + more)


def put_tree(server):
    return server.put("/x.tar", tar(file("a")))


# When they run.

def test_hooks_run_around_staging_and_before_the_command(stagerun, operator, server, dest):
    operator.hook("on_stage_start/10-a", f"test ! -e {dest} && {SEE}")
    operator.hook("on_stage_end/10-a", f"test -e {dest}/a && {SEE}")
    operator.hook("on_experiment_start/10-a")
    stagerun.run("run", "--stage", f"{put_tree(server).url}={dest}", "--", "sh", "-c",
                 'echo command >> "$SEEN"').ok()
    assert operator.seen() == ["on_stage_start/10-a", "on_stage_end/10-a",
                               "on_experiment_start/10-a", "command"]


def test_stage_hooks_run_also_when_nothing_is_staged(stagerun, operator):
    operator.hook_everywhere()
    stagerun.run("run", "--", "true").ok()
    assert operator.seen()[:2] == ["on_stage_start/10-a", "on_stage_end/10-a"]


def test_operators_come_before_the_users_start_actions(stagerun, operator):
    operator.hook("on_experiment_start/10-a")
    path = config(stagerun, ["echo action >> $SEEN"])
    stagerun.run("run", "--config", path, "--", "true").ok()
    assert operator.seen() == ["on_experiment_start/10-a", "action"]


def test_hooks_run_in_the_order_of_their_names_over_all_directories(stagerun, operator):
    later = stagerun.directory / "later"
    operator.hook("on_stage_start/30-c")
    operator.hook("on_stage_start/10-a", "exit 1")
    operator.hook("on_stage_start/20-b", directory=later)
    operator.hook("on_stage_start/10-a", directory=later)
    stagerun.configure(hooks={"dir": [operator.dir, later]})
    stagerun.run("run", "--", "true").ok()
    assert operator.seen() == [f"on_stage_start/{name}" for name in ("10-a", "20-b", "30-c")]


def test_a_link_to_dev_null_disables_a_hook(stagerun, operator):
    later = stagerun.directory / "later"
    operator.hook("on_stage_start/10-a")
    operator.hook("on_stage_start/20-b", directory=later)
    (later / "on_stage_start/10-a").symlink_to("/dev/null")
    stagerun.configure(hooks={"dir": [operator.dir, later]})
    stagerun.run("run", "--", "true").ok()
    assert operator.seen() == ["on_stage_start/20-b"]


def test_prewarm_runs_the_hooks_of_staging_only(stagerun, operator):
    operator.hook_everywhere()
    stagerun.run("prewarm").ok()
    assert operator.seen() == ["on_stage_start/10-a", "on_stage_end/10-a"]


def test_a_dry_run_runs_no_hook_and_lists_them(stagerun, operator):
    operator.hook_everywhere()
    result = stagerun.run("run", "--dry-run", "--", "true").ok()
    assert operator.seen() == []
    for point in POINTS:
        assert f"{operator.dir}/{point}/10-a" in result.out


def test_fetch_runs_no_hook(stagerun, operator, server, dest):
    operator.hook_everywhere()
    stagerun.fetch(put_tree(server).url, dest).ok()
    assert operator.seen() == []


# What is refused.

@pytest.mark.parametrize("mode, advice", [(0o644, "chmod 755"), (0o775, "chmod go-w"),
                                          (0o757, "chmod go-w")])
def test_a_hook_with_a_wrong_mode_is_refused_before_anything_starts(stagerun, operator, mode, advice):
    operator.hook("on_stage_start/05-first")
    path = operator.hook("on_failure/10-a", mode=mode)
    stagerun.run("run", "--", "touch", "ran").failed(125, str(path), advice)
    assert not (stagerun.cwd / "ran").exists() and operator.seen() == []


def test_a_hooks_directory_that_others_can_write_to_is_refused(stagerun, operator):
    operator.hook("on_stage_start/10-a")
    operator.dir.chmod(0o777)
    stagerun.run("run", "--", "true").failed(125, str(operator.dir), "chmod go-w")
    assert operator.seen() == []


def test_a_hook_of_another_user_is_refused(stagerun, operator):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path = operator.hook("on_stage_start/10-a")
    os.chown(path, 12345, 0)
    stagerun.run("run", "--", "true").failed(125, str(path), "user 12345")


def test_modes_do_not_matter_on_a_read_only_mount(stagerun, operator, root):
    operator.hook("on_stage_start/10-a")
    operator.dir.chmod(0o777)
    stagerun.run("run", "--", "true", wrap=[
        "unshare", "-m", "sh", "-c",
        f"mount --bind {operator.dir} {operator.dir} && "
        f"mount -o remount,bind,ro {operator.dir} && exec \"$@\"", "sh"]).ok()
    assert operator.seen() == ["on_stage_start/10-a"]


def test_a_user_cannot_turn_locked_hooks_off(stagerun, operator):
    stagerun.configure(agent={"lock": "hooks.*"})
    operator.hook("on_stage_start/10-a")
    stagerun.run("run", "--", "true", env={"STAGERUN_HOOKS_DIR": "/nowhere"}).failed(125, "locked")


# What they are told.

def told(stagerun, operator, point, run=("run", "--", "true"), code=0, **how):
    """The STAGERUN_ variables of a hook of the point, beside those that the agent was started with."""
    out = stagerun.directory / "told"
    operator.hook(f"{point}/50-told", f"env -0 > {out}")
    result = stagerun.run(*run, **how)
    assert result.code == code, str(result)
    variables = dict(v.split("=", 1) for v in out.read_text().split("\0") if v)
    return {k: v for k, v in variables.items()
            if k.startswith("STAGERUN_") and k not in stagerun.env and k != "STAGERUN_ENV"}


@pytest.mark.parametrize("point", ["on_stage_start", "on_stage_end", "on_experiment_start"])
def test_hooks_before_the_command_are_told_where_they_are(stagerun, operator, point):
    staged = {} if point == "on_stage_start" else {"STAGERUN_STAGED": ""}
    assert told(stagerun, operator, point) == {"STAGERUN_POINT": point, **staged}


def test_hooks_are_told_the_config(stagerun, operator):
    path = config(stagerun, ["'true'"], more="    environment: {GRID_USER_ID: u1, COLOUR: red}\n")
    variables = told(stagerun, operator, "on_stage_start", ("run", "--config", path, "--", "true"))
    assert variables["STAGERUN_RUN_CONFIG"] == str(path)
    assert variables["STAGERUN_USER_ID"] == "u1"


def test_hooks_after_staging_are_told_the_directories(stagerun, operator, server, dest):
    url = put_tree(server).url
    variables = told(stagerun, operator, "on_stage_end",
                     ("run", "--stage", f"{url}={dest}/b", "--stage", f"{url}={dest}/a a",
                      "--", "true"))
    assert variables["STAGERUN_STAGED"] == f"{dest}/b\n{dest}/a a"


def test_hooks_set_variables_for_actions_and_the_command(stagerun, operator):
    operator.hook("on_stage_start/10-a", "echo FROM_HOOK=two words >> $STAGERUN_ENV")
    path = config(stagerun, ['echo "action $FROM_HOOK"'])
    result = stagerun.run("run", "--config", path, "--", "sh", "-c",
                          'echo "command: $FROM_HOOK ${STAGERUN_POINT-none}"').ok()
    assert result.out == "action two words\ncommand: two words none\n"
    assert list(stagerun.tmp.iterdir()) == []


def test_a_failure_hook_is_told_why(stagerun, operator, server, dest):
    variables = told(stagerun, operator, "on_failure",
                     ("run", "--stage", f"{server.url('/gone')}={dest}", "--", "true"), code=125)
    message = variables.pop("STAGERUN_FAILURE_MESSAGE")
    assert "/gone" in message and "404" in message
    variables.pop("STAGERUN_STAGED", None)
    assert variables == {"STAGERUN_POINT": "on_failure", "STAGERUN_EXIT_CODE": "125",
                         "STAGERUN_EXIT_REASON": "start_failed", "STAGERUN_FAILURE_PHASE": "stage"}


def test_a_failure_hook_hears_of_a_wrong_config(stagerun, operator):
    variables = told(stagerun, operator, "on_failure",
                     ("run", "--config", stagerun.config("a: [1"), "--", "true"), code=125)
    assert variables["STAGERUN_FAILURE_PHASE"] == "config"
    assert "config.yml" in variables["STAGERUN_FAILURE_MESSAGE"]


# Their failure.

@pytest.mark.parametrize("point, phase", [("on_stage_start", "stage"), ("on_experiment_start", "start")])
def test_a_start_hook_that_fails_fails_the_run(stagerun, operator, point, phase):
    log = stagerun.directory / "termination"
    hook = operator.hook(f"{point}/10-a", "exit 3")
    operator.hook(f"{point}/20-b")
    stagerun.run("run", "--", "touch", "ran", env={"STAGERUN_TERMINATION_LOG": str(log)}).failed(
        125, f"{point} hook {hook} failed: exit status 3")
    assert not (stagerun.cwd / "ran").exists() and operator.seen() == []
    why = json.loads(log.read_text())
    assert why["phase"] == phase and str(hook) in why["item"]


def test_a_start_hook_that_fails_can_be_warned_of(stagerun, operator):
    stagerun.configure(hooks={"on_stage_start": "warn"})
    operator.hook("on_stage_start/10-a", "exit 3")
    operator.hook("on_stage_start/20-b")
    result = stagerun.run("run", "--", "true").ok()
    assert "10-a failed: exit status 3" in result.err
    assert operator.seen() == ["on_stage_start/20-b"]


def test_a_failure_after_staging_is_warned_of(stagerun, operator):
    operator.hook("on_stage_end/10-a", "exit 3")
    assert "10-a failed: exit status 3" in stagerun.run("run", "--", "true").ok().err


def test_a_failure_after_staging_can_fail_the_run(stagerun, operator):
    stagerun.configure(hooks={"on_stage_end": "fail"})
    operator.hook("on_stage_end/10-a", "exit 3")
    stagerun.run("run", "--", "true").failed(125, "10-a failed: exit status 3")


def test_a_failed_prewarm_exits_with_1(stagerun, operator):
    operator.hook("on_stage_start/10-a", "exit 3")
    operator.hook("on_failure/10-a")
    stagerun.run("prewarm").failed(1, "10-a failed")
    assert operator.seen() == ["on_failure/10-a"]


def test_a_hook_that_takes_too_long_is_ended_with_all_it_started(stagerun, operator, slowness):
    stagerun.configure(hooks={"timeout": "300ms"})
    operator.hook("on_stage_start/10-a", "sleep 60 & sleep 60")
    result = stagerun.run("run", "--", "true").failed(125, "10-a", "timeout of 300 ms")
    assert result.seconds < 5 * slowness and stagerun.leftovers() == []


def test_a_hook_leaves_no_process_behind(stagerun, operator):
    operator.hook("on_stage_start/10-a", "sleep 300 >/dev/null 2>&1 &")
    stagerun.run("run", "--", "true").ok()
    assert stagerun.leftovers() == []


def test_a_failure_hook_that_fails_changes_nothing(stagerun, operator):
    operator.hook("on_failure/10-a", "exit 3")
    operator.hook("on_failure/20-b")
    path = config(stagerun, ["exit 9"])
    stagerun.run("run", "--config", path, "--", "true").failed(125, "action 1", "10-a failed")
    assert operator.seen() == ["on_failure/20-b"]


# The end of a start that failed.

def test_after_a_failed_start_the_ends_of_what_began_run_in_reverse(stagerun, operator):
    operator.hook_everywhere()
    for point in ("on_stage_end", "on_experiment_end"):
        operator.hook(f"{point}/20-b")
    path = config(stagerun, ["exit 9"], end=["echo user >> $SEEN"])
    stagerun.run("run", "--config", path, "--", "true").failed(125, "action 1")
    assert operator.seen() == [
        "on_stage_start/10-a", "on_stage_end/20-b", "on_stage_end/10-a", "on_experiment_start/10-a",
        "on_failure/10-a", "on_experiment_end/20-b", "on_experiment_end/10-a"]


def test_after_failed_staging_only_staging_is_ended(stagerun, operator, server, dest):
    operator.hook_everywhere()
    stagerun.run("run", "--stage", f"{server.url('/gone')}={dest}", "--", "true").failed(125, "404")
    assert operator.seen() == ["on_stage_start/10-a", "on_failure/10-a", "on_stage_end/10-a"]


def test_after_a_wrong_config_nothing_has_begun_that_would_be_ended(stagerun, operator):
    operator.hook_everywhere()
    stagerun.run("run", "--config", "nowhere.yml", "--", "true").failed(125, "nowhere.yml")
    assert operator.seen() == ["on_failure/10-a"]


def test_a_failure_hook_runs_when_the_command_is_not_found(stagerun, operator):
    operator.hook("on_failure/10-a", 'echo "$STAGERUN_FAILURE_PHASE:$STAGERUN_EXIT_CODE" >> $SEEN')
    stagerun.run("run", "--", "no-such-command").failed(127, "no-such-command")
    assert operator.seen() == ["exec:127"]


# After the command.

def test_operators_come_after_the_users_end_actions_in_reverse(stagerun, operator):
    operator.hook("on_experiment_end/10-a")
    operator.hook("on_experiment_end/20-b")
    path = config(stagerun, end=["echo one >> $SEEN", "echo two >> $SEEN"])
    stagerun.run("run", "--config", path, "--", "true").ok()
    assert operator.seen() == ["one", "two", "on_experiment_end/20-b", "on_experiment_end/10-a"]


def test_after_a_command_that_failed_its_hooks_run_before_the_end(stagerun, operator):
    operator.hook("on_failure/10-a")
    operator.hook("on_experiment_end/10-a")
    path = config(stagerun, end=["echo user >> $SEEN"])
    stagerun.run("run", "--config", path, "--", "sh", "-c", "exit 4").failed(4)
    assert operator.seen() == ["on_failure/10-a", "user", "on_experiment_end/10-a"]


def test_after_a_command_that_succeeded_no_failure_hook_runs(stagerun, operator):
    operator.hook("on_failure/10-a")
    stagerun.run("run", "--", "true").ok()
    assert operator.seen() == []


@pytest.mark.parametrize("script, code, expected", [
    ("exit 0", 0, {"EXIT_CODE": "0", "EXIT_REASON": "completed"}),
    ("exit 7", 7, {"EXIT_CODE": "7", "EXIT_REASON": "failed", "FAILURE_PHASE": "command"}),
    ("kill -KILL $$", 137, {"EXIT_CODE": "137", "EXIT_SIGNAL": "9", "EXIT_REASON": "signaled",
                            "FAILURE_PHASE": "command"})])
def test_hooks_after_the_command_are_told_how_it_ended(stagerun, operator, script, code, expected):
    variables = told(stagerun, operator, "on_experiment_end", ("run", "--", "sh", "-c", script), code)
    assert ("STAGERUN_FAILURE_MESSAGE" in variables) == (code != 0)
    variables.pop("STAGERUN_FAILURE_MESSAGE", None)
    assert variables == {"STAGERUN_POINT": "on_experiment_end", "STAGERUN_STAGED": "",
                         **{f"STAGERUN_{name}": value for name, value in expected.items()}}


def test_an_end_hook_never_changes_the_exit_status(stagerun, operator):
    operator.hook("on_experiment_end/10-a", "exit 9")
    operator.hook("on_failure/10-a", "exit 9")
    assert stagerun.run("run", "--", "true").code == 0
    assert stagerun.run("run", "--", "sh", "-c", "exit 3").code == 3


def test_without_a_parent_end_hooks_are_refused(stagerun, operator):
    path = operator.hook("on_experiment_end/10-a")
    stagerun.run("run", "--supervise", "never", "--", "touch", "ran").failed(
        125, "on_experiment_end hooks", str(path), "process.supervise")
    assert not (stagerun.cwd / "ran").exists()


def test_without_a_parent_failure_hooks_hear_of_the_start_only(stagerun, operator):
    operator.hook("on_failure/10-a")
    stagerun.run("run", "--supervise", "never", "--", "sh", "-c", "exit 4").failed(4)
    assert operator.seen() == []
    stagerun.run("run", "--supervise", "never", "--config", config(stagerun, ["exit 9"]), "--",
                 "true").failed(125)
    assert operator.seen() == ["on_failure/10-a"]


def test_hooks_of_the_start_need_no_parent(stagerun, operator):
    for point in ("on_stage_start", "on_stage_end", "on_experiment_start"):
        operator.hook(f"{point}/10-a")
    running = stagerun.start("run", "--", "sh", "-c", "echo $$")
    assert running.wait().ok().out == f"{running.pid}\n"


def test_prewarm_leaves_the_end_to_the_run(stagerun, operator):
    operator.hook_everywhere()
    stagerun.run("prewarm", "--config", config(stagerun, end=["echo user >> $SEEN"])).ok()
    assert operator.seen() == ["on_stage_start/10-a", "on_stage_end/10-a"]


# Signals.

def test_a_signal_ends_the_hook_under_way(stagerun, operator):
    operator.hook("on_stage_start/10-a", f"{SEE}; sleep 60")
    running = stagerun.start("run", "--", "true")
    wait_until(operator.seen)
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    assert running.wait(10).code == 143
    assert watch.read() < 5
    assert stagerun.leftovers() == []


def test_after_a_signal_while_staging_the_hooks_of_its_end_run(stagerun, operator, server, dest):
    operator.hook_everywhere('echo "$STAGERUN_POINT:$STAGERUN_EXIT_REASON:$STAGERUN_EXIT_CODE" >> $SEEN')
    slow = server.put("/slow.tar", tar(file("a", b"x" * 1_000_000)), rate(50_000))
    running = stagerun.start("run", "--stage", f"{slow.url}={dest}", "--", "true")
    wait_until(lambda: slow.requests)
    running.signal(signal.SIGTERM)
    assert running.wait(10).code == 143
    assert operator.seen() == ["on_stage_start::", "on_failure:terminated:143",
                               "on_stage_end:terminated:143"]


def test_after_a_signal_end_hooks_have_the_grace_period_and_no_more(stagerun, operator, slowness):
    stagerun.configure(process={"grace_period": f"{2 + 2 * slowness}s"})
    operator.hook("on_experiment_start/10-a", f"{SEE}; sleep 60")
    operator.hook("on_experiment_end/20-b", f"sleep 0.2; {SEE}")
    operator.hook("on_experiment_end/10-a", f"{SEE}; sleep 60")
    running = stagerun.start("run", "--", "true")
    wait_until(operator.seen)
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    result = running.wait(20)
    assert result.code == 143 and watch.read() < 2 * slowness + 3
    assert operator.seen()[1:] == ["on_experiment_end/20-b", "on_experiment_end/10-a"]
    assert "on_experiment_end/10-a" in result.err.splitlines()[-1]
    assert stagerun.leftovers() == []


def test_a_second_signal_ends_the_end_hook_under_way(stagerun, operator):
    operator.hook("on_experiment_end/20-b", f"{SEE}; sleep 60")
    operator.hook("on_experiment_end/10-a")
    running = stagerun.start("run", "--", "true")
    wait_until(operator.seen)
    running.signal(signal.SIGTERM)
    time.sleep(0.5)
    running.signal(signal.SIGTERM)
    running.wait(10).ok()
    assert operator.seen() == ["on_experiment_end/20-b", "on_experiment_end/10-a"]


def test_what_comes_after_the_hook_that_was_hurried_has_its_time(stagerun, operator):
    operator.hook("on_experiment_end/20-b", f"trap 'exit 0' TERM; {SEE}; while :; do sleep 0.02; done")
    operator.hook("on_experiment_end/10-a", f"sleep 1.5; {SEE}")
    running = stagerun.start("run", "--", "true")
    wait_until(operator.seen)
    running.signal(signal.SIGTERM)
    time.sleep(0.5)
    running.signal(signal.SIGTERM)
    running.wait(10).ok()
    assert operator.seen() == ["on_experiment_end/20-b", "on_experiment_end/10-a"]


def test_end_hooks_that_the_grace_period_cuts_short_are_asked_first(stagerun, operator, slowness):
    stagerun.configure(process={"grace_period": f"{2 + 2 * slowness}s"})
    operator.hook("on_experiment_start/10-a", f"{SEE}; sleep 60")
    operator.hook("on_failure/10-a", "trap 'echo asked >> $SEEN; exit' TERM; while :; do sleep 0.02; done")
    operator.hook("on_experiment_end/10-a")
    running = stagerun.start("run", "--", "true")
    wait_until(operator.seen)
    running.signal(signal.SIGTERM)
    result = running.wait(20)
    assert operator.seen()[1:] == ["asked"], str(result)
    assert "on_experiment_end/10-a was not run" in result.err


def test_a_signal_after_a_failed_start_leaves_its_end_the_grace_period(stagerun, operator):
    operator.hook("on_failure/10-a", f"{SEE}; sleep 1.5; echo failed >> $SEEN")
    operator.hook("on_experiment_end/10-a")
    running = stagerun.start("run", "--config", config(stagerun, ["exit 9"]), "--", "true")
    wait_until(operator.seen)
    running.signal(signal.SIGTERM)
    running.wait(10).failed(125)
    assert operator.seen()[1:] == ["failed", "on_experiment_end/10-a"]


def test_ctrl_c_after_a_command_that_was_not_found_ends_the_hooks(stagerun, operator, slowness):
    stagerun.configure(process={"grace_period": f"{slowness}s"})
    operator.hook("on_failure/10-a", f"{SEE}; sleep 60")
    running = stagerun.start("run", "--", "no-such-command")
    wait_until(operator.seen)
    running.signal(signal.SIGINT)
    assert running.wait(5).code == 127
