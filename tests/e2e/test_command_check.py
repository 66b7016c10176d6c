# SPDX-License-Identifier: MIT
"""A command that is not there is an error before anything is staged, unless something may bring it."""

import json

import pytest
from archives import file, tar

TRAIN = tar(file("train", b"#!/bin/sh\necho trained\n", mode=0o755))


@pytest.fixture
def run(stagerun, server, dest):
    """Stages TRAIN into dest, then runs the command."""
    served = server.put("/x.tar", TRAIN)

    def start(*command, to=dest, **how):
        result = stagerun.run("run", "--stage", f"{served.url}={to}", *how.pop("options", ()), "--", *command, **how)
        return result, served
    return start


def test_a_command_that_nothing_brings_fails_before_anything_is_staged(run, dest):
    result, served = run("no-such-command")
    result.failed(127, "cannot run 'no-such-command': not found in PATH")
    assert served.requests == [] and not dest.exists()


def test_one_that_may_not_be_executed_fails_before_anything_is_staged(run, stagerun, dest):
    (stagerun.cwd / "train.py").write_text("print()\n")
    result, served = run("./train.py")
    result.failed(126, r"train\.py", "permission")
    assert served.requests == [] and not dest.exists()


def test_the_termination_message_says_that_the_start_of_the_command_failed(run, tmp_path):
    run("no-such-command", env={"STAGERUN_TERMINATION_LOG": str(tmp_path / "log")})
    said = json.loads((tmp_path / "log").read_text())
    assert (said["phase"], said["exit_code"], said["item"]) == ("exec", 127, "no-such-command")


def test_a_stage_into_a_directory_of_path_may_bring_it(run, stagerun, dest):
    result, _ = run("train", env={"PATH": f"{dest}:{stagerun.env['PATH']}"})
    assert result.ok().out == "trained\n"


def test_a_stage_above_a_directory_of_path_may_bring_it(run, stagerun, dest):
    result, served = run("train", env={"PATH": f"{dest}/bin:{stagerun.env['PATH']}"})
    result.failed(127)
    assert served.requests and (dest / "train").exists()


def test_a_stage_may_bring_the_path_that_the_command_is(run, dest):
    assert run(f"{dest}/train")[0].ok().out == "trained\n"


def test_a_link_of_path_into_what_is_staged_may_bring_it(run, stagerun, dest, tmp_path):
    (tmp_path / "current").symlink_to(dest)
    result, _ = run("train", env={"PATH": f"{tmp_path}/current:{stagerun.env['PATH']}"})
    assert result.ok().out == "trained\n"


def test_a_link_that_leads_nowhere_yet_may_be_the_command(run, stagerun, dest, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/learn").symlink_to(dest / "train")
    result, _ = run("learn", env={"PATH": f"{tmp_path}/bin:{stagerun.env['PATH']}"})
    assert result.ok().out == "trained\n"


def test_an_action_may_bring_it(run, stagerun, tmp_path):
    (tmp_path / "bin").mkdir()
    config = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start:\n"
                             f"        - printf 'echo made\\n' > {tmp_path}/bin/made; chmod +x {tmp_path}/bin/made\n")
    result, _ = run("made", options=["--config", config], env={"PATH": f"{tmp_path}/bin:{stagerun.env['PATH']}"})
    assert result.ok().out == "made\n"


def test_an_end_action_brings_nothing(run, stagerun, dest):
    config = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_end:\n        - 'true'\n")
    result, served = run("no-such-command", options=["--config", config])
    result.failed(127)
    assert served.requests == [] and not dest.exists()
