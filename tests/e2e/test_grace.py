# SPDX-License-Identifier: MIT
"""From SIGTERM to the end of everything: one budget, and what does not fit into it is said."""

import json
import os
import random
import signal
import time

import pytest
from agent import wait_until
from archives import file, tar
from faultserver import rate
from processes import command_is_ready, start_as_pid_1, traced
from stopwatch import Stopwatch

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def lifecycle(stagerun, end=(), start=()):
    def items(point, lines):
        return f"      {point}:\n" + "".join(f"        - {json.dumps(line)}\n" for line in lines)

    text = "compute:\n  train:\n    actions:\n"
    text += items("on_experiment_start", start) if start else ""
    return stagerun.config(text + items("on_experiment_end", end))


def start(stagerun, period, end, command):
    running = stagerun.start("run", "--config", lifecycle(stagerun, end), "--", "sh", "-c", command,
                             env={"STAGERUN_GRACE_PERIOD": period})
    command_is_ready(running)
    return running


def terminate(running, *pauses):
    """SIGTERM, and another after each pause; the result, and how long it took from the first."""
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    for pause in pauses:
        time.sleep(pause)
        running.signal(signal.SIGTERM)
    result = running.wait()
    return result, watch.read()


def test_a_command_that_ends_when_asked_leaves_the_rest_to_the_end_actions(stagerun, slowness):
    running = start(stagerun, "20s", ["echo $STAGERUN_EXIT_REASON; sleep 0.5; echo done"],
                    "echo ready; exec sleep 60")
    result, took = terminate(running)
    assert result.code == 143 and result.out == "ready\nterminated\ndone\n"
    assert took < 1.5 * slowness


def test_a_command_that_ignores_sigterm_is_killed_after_its_share(stagerun):
    result, took = terminate(start(stagerun, "6s", ["echo still"], STUBBORN))
    assert result.code == 137 and result.out == "ready\nstill\n"
    assert 4 < took < 5
    assert "70 %" in result.err and "did not end" in result.err


def test_its_workers_are_killed_with_it(stagerun):
    stagerun.configure(process={"group_wait": "60s"})
    result, took = terminate(start(stagerun, "2s", ["true"],
                                   "(trap '' TERM; while :; do sleep 0.02; done) & echo ready; exec sleep 60"))
    assert result.code == 143 and 1.3 < took < 3
    assert stagerun.leftovers() == []


def test_end_actions_are_cut_short_and_it_is_said_of_each(stagerun):
    result, took = terminate(start(stagerun, "2s", ["trap '' TERM; sleep 60", "touch second", "touch third"],
                                   "echo ready; exec sleep 60"))
    assert took < 3
    assert "on_experiment_end action 1" in result.err and "ended before it was done" in result.err
    for number in (2, 3):
        assert f"on_experiment_end action {number} (" in result.err
    assert result.err.count("was not run: the grace period of 2.00 s is over") == 2
    assert not (stagerun.cwd / "second").exists()
    assert stagerun.leftovers() == []


def test_without_sigterm_end_actions_have_all_the_time_they_need(stagerun):
    config = lifecycle(stagerun, ["sleep 1; echo done"])
    result = stagerun.run("run", "--config", config, "--", "true",
                          env={"STAGERUN_GRACE_PERIOD": "200ms"}).ok()
    assert result.out == "done\n"


def test_a_sigterm_during_end_actions_starts_the_budget(stagerun):
    running = stagerun.start("run", "--config", lifecycle(stagerun, ["echo ready; sleep 60", "touch next"]),
                             "--", "true", env={"STAGERUN_GRACE_PERIOD": "1s"})
    command_is_ready(running)
    result, took = terminate(running)
    assert result.code == 0 and 0.8 < took < 2
    assert not (stagerun.cwd / "next").exists()


def test_a_second_sigterm_hurries_the_command(stagerun, slowness):
    result, took = terminate(start(stagerun, "20s", ["echo still"], STUBBORN), 0.4)
    assert result.code == 137 and result.out == "ready\nstill\n"
    assert 1.3 < took < 4 * slowness


def test_a_second_signal_hurries_the_action_under_way_and_the_next_one_runs(stagerun, slowness):
    running = stagerun.start("run", "--config", lifecycle(
        stagerun, ["trap '' TERM; echo ready; while :; do sleep 0.02; done", "echo next"]), "--", "true")
    command_is_ready(running)
    result, took = terminate(running, 0.4)
    assert result.code == 0 and result.out == "ready\nnext\n"
    assert 1.3 < took < 4 * slowness


def test_what_comes_after_the_action_that_was_hurried_has_its_time(stagerun):
    running = stagerun.start("run", "--config", lifecycle(
        stagerun, ["trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done",
                   "sleep 1.5; echo next"]), "--", "true")
    command_is_ready(running)
    result, _ = terminate(running, 0.4)
    assert result.code == 0 and result.out == "ready\nnext\n", str(result)


def test_the_same_signal_twice_at_once_does_not_hurry(stagerun):
    """timeout(1) sends it to its child, and then to its group."""
    result, took = terminate(start(stagerun, "20s", ["true"],
                                   "trap 'sleep 1.5; echo saved; exit 0' TERM; echo ready; "
                                   "while :; do sleep 0.02; done"), 0.01)
    assert result.code == 0 and result.out == "ready\nsaved\n" and took > 1.4


def test_the_same_signal_twice_at_once_gives_a_start_action_its_time(stagerun):
    running = stagerun.start("run", "--config", lifecycle(stagerun, ["true"], [
        "trap 'sleep 0.2; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done"]), "--", "true")
    command_is_ready(running)
    result, _ = terminate(running, 0.01)
    assert result.code == 143 and result.out == "ready\nsaved\n", str(result)


def test_a_command_that_does_not_even_end_of_sigkill_is_no_success(stagerun, slowness):
    """As one that the kernel holds: in a driver, on a dead network file system, in a debugger."""
    running = start(stagerun, f"{slowness}s", ["true"], "echo $$; echo ready; exec sleep 60")
    pid = int(running.out().split()[0])
    with traced(pid):
        result, took = terminate(running)
    assert result.code == 137 and took < slowness + 1, str(result)
    assert "did not end" in result.err and "action 1" in result.err, str(result)


def test_sigint_alone_is_the_commands_business(stagerun):
    running = start(stagerun, "300ms", ["true"],
                    "trap 'echo interrupted' INT; echo ready; while ! test -e go; do sleep 0.02; done")
    running.signal(signal.SIGINT)
    wait_until(lambda: "interrupted" in running.out(), what="the signal")
    time.sleep(0.6)
    assert not running.finished()
    (stagerun.cwd / "go").touch()
    assert running.wait().ok().out == "ready\ninterrupted\n"


def test_the_reason_is_written_before_the_end_actions_run(stagerun):
    path = stagerun.directory / "termination"
    config = lifecycle(stagerun, [f"cat {path}"])
    result = stagerun.run("run", "--config", config, "--", "sh", "-c", "exit 3",
                          env={"STAGERUN_TERMINATION_LOG": str(path)})
    assert json.loads(result.out)["reason"] == "failed"


# At any moment.


class Life:
    """One run whose every phase takes about 150 ms and leaves a file when it begins."""

    def __init__(self, stagerun, directory, server, as_pid_1):
        self.cwd = directory
        self.cwd.mkdir()
        served = server.url("/slow.tar")
        config = directory / "config.yml"
        config.write_text(
            "compute: {train: {actions: {on_experiment_start: "
            f"[{{stage: {{source: '{served}', to: '{directory}/data'}}}}, 'touch acting; sleep 0.15'], "
            "on_experiment_end: ['touch ending; sleep 0.1; touch ended', 'touch second']}}}\n")
        args = ["run", "--config", config, "--", "sh", "-c", "touch running; sleep 0.15"]
        how = {"cwd": directory, "env": {"STAGERUN_GRACE_PERIOD": "10s"}}
        self.running, self.agent = (start_as_pid_1(stagerun, *args, **how) if as_pid_1 else
                                    (stagerun.start(*args, **how), None))

    def began(self, name):
        return (self.cwd / name).exists()

    def terminate(self):
        """A signal to a process that has ended, or has not begun to be an agent, is none."""
        try:
            if self.agent is not None:
                os.kill(self.agent, signal.SIGTERM)
            else:
                self.running.signal(signal.SIGTERM)
        except ProcessLookupError:
            pass

    def check(self, limit):
        result = self.running.wait()
        assert time.monotonic() - self.told < limit, str(result)
        # A shell that is told before its first word has begun all the same.
        if not self.began("running") and "the command ended" not in result.err:
            assert not self.began("ending"), str(result)
        elif result.code != 137:
            assert self.began("ended") and self.began("second"), str(result)


@pytest.mark.parametrize("as_pid_1", [False, True], ids=["sub-reaper", "PID 1"])
def test_a_run_can_be_ended_at_any_moment_of_its_life(request, stagerun, server, slowness, as_pid_1):
    if as_pid_1:
        request.getfixturevalue("pid_1")
    server.put("/slow.tar", tar(file("a", os.urandom(30_000))), rate(200_000))
    rng = random.Random(20240711)
    for batch in range(max(2, 5 // slowness)):
        lives = [Life(stagerun, stagerun.directory / f"life-{batch}-{n}", server, as_pid_1)
                 for n in range(5)]
        moments = sorted((life.running.started + rng.uniform(0.02, 0.9 * slowness), n)
                         for n, life in enumerate(lives))
        for moment, n in moments:
            time.sleep(max(0, moment - time.monotonic()))
            lives[n].told = time.monotonic()
            lives[n].terminate()
        for life in lives:
            life.check(3 * slowness)
    assert stagerun.leftovers() == []
