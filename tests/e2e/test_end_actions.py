# SPDX-License-Identifier: MIT
"""on_experiment_end: what runs after the command, what it is told, and that it changes nothing."""

import json
import signal

import pytest
from agent import wait_until
from archives import file, tar

REASONS = 'echo "$STAGERUN_EXIT_CODE,${STAGERUN_EXIT_SIGNAL-},$STAGERUN_EXIT_REASON"'


def lifecycle(end=(), start=()):
    """A config.yml with these actions; each is YAML of its own or a shell line."""
    def items(lines):
        return "".join(f"        - {json.dumps(line) if isinstance(line, str) else json.dumps(line)}\n"
                       for line in lines)
    text = "compute:\n  train:\n    actions:\n"
    if start:
        text += "      on_experiment_start:\n" + items(start)
    return text + ("      on_experiment_end:\n" + items(end) if end else "")


def run(stagerun, end, *command, start=(), **how):
    return stagerun.run("run", "--config", stagerun.config(lifecycle(end, start)), "--", *command, **how)


@pytest.mark.parametrize("command, told", [
    ("true", "0,,completed"),
    ("exit 3", "3,,failed"),
    ("kill -9 $$", "137,9,signaled"),
    ("kill -USR1 $$", "138,10,signaled"),
])
def test_they_are_told_how_the_command_ended(stagerun, command, told):
    result = run(stagerun, [REASONS], "sh", "-c", command)
    assert result.out == told + "\n" and result.code == int(told.split(",", 1)[0])


def test_one_that_is_asked_to_end_is_terminated_even_when_it_ends_well(stagerun):
    config = stagerun.config(lifecycle([REASONS]))
    running = stagerun.start("run", "--config", config, "--", "sh", "-c",
                             "trap 'echo saved; exit 0' TERM; touch ready; while :; do sleep 0.01; done")
    wait_until((stagerun.cwd / "ready").exists, what="the command")
    running.signal(signal.SIGTERM)
    assert running.wait().ok().out == "saved\n0,,terminated\n"


def test_they_run_as_written_and_one_after_another(stagerun):
    result = run(stagerun, ["sleep 0.1; echo one", "echo two", "echo three"], "echo", "zero").ok()
    assert result.out == "zero\none\ntwo\nthree\n"


def test_the_next_one_runs_after_one_that_failed(stagerun):
    result = run(stagerun, ["exit 5", "echo still"], "true").ok()
    assert result.out == "still\n"
    assert "on_experiment_end action 1" in result.err and "exit status 5" in result.err


def test_they_never_change_the_exit_status(stagerun):
    assert run(stagerun, ["exit 1"], "true").code == 0
    assert run(stagerun, ["exit 0"], "sh", "-c", "exit 9").code == 9


def test_they_do_not_run_when_the_command_cannot_be_executed(stagerun):
    result = run(stagerun, ["echo ended"], "no-such-command").failed(127, "no-such-command", "not found")
    assert "ended" not in result.out


def test_they_do_not_run_after_a_failed_start(stagerun):
    result = run(stagerun, ["echo ended"], "touch", "ran", start=["false"])
    assert result.code == 125 and result.out == "" and not (stagerun.cwd / "ran").exists()


def test_a_stage_among_them_works(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", b"late\n")))
    end = [{"stage": {"source": served.url, "to": str(dest)}}, f"cat {dest}/a"]
    assert run(stagerun, end, "echo", "first").ok().out == "first\nlate\n"


def test_a_timeout_ends_one_and_all_that_it_started(stagerun):
    result = run(stagerun, [{"run": "sleep 60 & sleep 60", "timeout": "200ms"}, "echo next"], "true").ok()
    assert result.out == "next\n" and "timeout of 200 ms" in result.err
    assert stagerun.leftovers() == []


def test_variables_of_the_start_reach_them(stagerun):
    result = run(stagerun, ["echo got $X"], "true", start=["echo X=1 >> $STAGERUN_ENV"]).ok()
    assert result.out == "got 1\n"


def test_the_command_does_not_see_how_it_will_end(stagerun):
    assert "STAGERUN_EXIT" not in run(stagerun, ["true"], "env").ok().out


def test_without_them_the_command_takes_the_agents_place(stagerun):
    running = stagerun.start("run", "--", "sh", "-c", "echo $$")
    assert running.wait().ok().out == f"{running.pid}\n"


def test_never_supervising_is_refused_with_them(stagerun):
    config = stagerun.config(lifecycle(["true"]))
    stagerun.run("run", "--supervise", "never", "--config", config, "--", "touch", "ran").failed(
        125, r"on_experiment_end", r"config\.yml:5", "process.supervise")
    assert not (stagerun.cwd / "ran").exists()


@pytest.mark.parametrize("writes", [False, True], ids=["silent", "telling"])
def test_the_termination_message_is_the_commands_own_if_it_wrote_one(stagerun, writes):
    path = stagerun.directory / "termination"
    path.write_text("")
    command = f"echo 'my own words' > {path}; exit 3" if writes else "exit 3"
    assert run(stagerun, ["true"], "sh", "-c", command,
               env={"STAGERUN_TERMINATION_LOG": str(path)}).code == 3
    if writes:
        assert path.read_text() == "my own words\n"
    else:
        told = json.loads(path.read_text())
        assert (told["phase"], told["exit_code"], told["reason"]) == ("command", 3, "failed")
        assert "exit status 3" in told["message"]


def test_a_dry_run_says_that_the_agent_stays_and_why(stagerun):
    config = stagerun.config(lifecycle(["echo ended"]))
    out = stagerun.run("run", "--dry-run", "--config", config, "--", "true").ok().out
    assert "as a child of the agent" in out and "on_experiment_end" in out and "echo ended" in out
