# SPDX-License-Identifier: MIT
"""A stop reaches those who have a checkpoint to save, whoever started them, before end actions run."""

import json
import os
import signal
import time

import pytest
from agent import wait_until
from archives import file, tar
from faultserver import rate
from processes import command_is_ready, first_child, lines, start_as_pid_1
from stopwatch import Stopwatch

# A worker that needs a second to save when it is asked to end. It counts how often it is asked.
SAVES = "trap 'echo asked; sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
IGNORES = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def lifecycle(stagerun, end):
    text = "compute:\n  train:\n    actions:\n      on_experiment_end:\n"
    return stagerun.config(text + "".join(f"        - {json.dumps(line)}\n" for line in end))


@pytest.fixture(params=["PID 1", "sub-reaper"])
def launch(request, stagerun):
    """Starts the agent with an end action, and gives a function that sends it a signal."""
    def begin(command, period="20s", end="echo end action"):
        words = ["run", "--config", lifecycle(stagerun, [end]), "--", "sh", "-c", command]
        env = {"STAGERUN_GRACE_PERIOD": period}
        if request.param == "PID 1":
            request.getfixturevalue("pid_1")
            running, pid = start_as_pid_1(stagerun, *words, env=env)
        else:
            running = stagerun.start(*words, env=env)
            pid = running.pid
        command_is_ready(running)
        return running, lambda number=signal.SIGTERM: os.kill(pid, number)
    return begin


def ended(running):
    watch = Stopwatch()
    result = running.wait(limit=40)
    return result, watch.read()


@pytest.mark.parametrize("beside", [f'sh -c "{SAVES}" &', f'setsid sh -c "{SAVES}" &',
                                    f'sh -c \'setsid sh -c "{SAVES.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}" &\''],
                         ids=["its group", "a session of its own", "a daemon"])
def test_what_the_command_leaves_behind_saves_before_the_end_actions(stagerun, launch, slowness, beside):
    stagerun.configure(process={"group_wait": "60s"})
    running, send = launch(f"{beside} wait; exec sleep 60")
    send()
    result, took = ended(running)
    assert result.out.splitlines() == ["ready", "asked", "saved", "end action"], str(result)
    assert took < 5 * slowness, str(result)


def test_without_a_stop_the_group_still_has_its_wait(stagerun, launch):
    stagerun.configure(process={"group_wait": "500ms"})
    running, _ = launch(f'sh -c "{SAVES}" & sleep 0.5')
    result, _ = ended(running)
    assert result.out.splitlines()[:2] == ["ready", "asked"] and result.code == 0, str(result)


def test_a_stop_that_comes_while_the_group_is_waited_for_asks_it_at_once(stagerun, launch, slowness):
    stagerun.configure(process={"group_wait": "60s"})
    running, send = launch(f'sh -c "{SAVES}" & setsid sh -c "{SAVES}" & sleep 0.3; echo over')
    wait_until(lambda: lines(running).count("ready") == 2 and "over" in lines(running), what="both workers")
    time.sleep(0.2)
    send()
    result, took = ended(running)
    assert lines(running).count("asked") == 2 and lines(running).count("saved") == 2, str(result)
    assert result.out.splitlines()[-1] == "end action" and result.code == 0
    assert took < 5 * slowness


@pytest.mark.parametrize("how", ["", "setsid "])
def test_what_ignores_the_stop_is_killed_when_the_commands_share_is_over(stagerun, launch, slowness, how):
    period = 6 + 2 * slowness
    running, send = launch(f'{how}sh -c "{IGNORES}" & wait; exec sleep 60', period=f"{period}s")
    send()
    result, took = ended(running)
    assert result.out.splitlines() == ["ready", "end action"], str(result)
    assert 0.6 * period < took < period + 1
    assert stagerun.leftovers() == []


def test_a_second_signal_hurries_what_was_left_behind_too(stagerun, launch, slowness):
    running, send = launch(f'setsid sh -c "{IGNORES}" & wait; exec sleep 60')
    send()
    time.sleep(0.5)
    send()
    result, took = ended(running)
    assert result.out.splitlines() == ["ready", "end action"] and took < 4 * slowness, str(result)


def test_with_group_forwarding_nobody_is_asked_twice(stagerun, launch):
    stagerun.configure(process={"forward": "group"})
    running, send = launch(f'sh -c "{SAVES}" & trap "exit 0" TERM; wait; exec sleep 60')
    send()
    result, _ = ended(running)
    assert result.out.splitlines() == ["ready", "asked", "saved", "end action"], str(result)


def test_without_forwarding_signals_are_the_launchers_business(stagerun, launch, slowness):
    """As Slurm and systemd do: they signal every process, and a checkpoint is begun once."""
    stagerun.configure(process={"forward": "none"})
    running, send = launch(f"echo $$; {SAVES}")
    pid = int(lines(running)[0])
    send()
    time.sleep(0.3)
    assert "asked" not in lines(running)
    if first_child(running.pid) != pid:  # as PID 1 it has another number here
        pid = first_child(first_child(running.pid))
    os.kill(pid, signal.SIGTERM)
    result, took = ended(running)
    assert lines(running)[1:] == ["ready", "asked", "saved", "end action"], str(result)
    assert took < 5 * slowness


# Signals that come before the command is there.

WARNED = "trap 'echo warned; exit 3' USR1 USR2; echo ready; while :; do sleep 0.02; done"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("supervise", ["auto", "always"])
def test_a_warning_that_comes_while_staging_reaches_the_command(stagerun, server, place, number, supervise):
    served = server.put("/x.tar", tar(file("a", os.urandom(300_000))), rate(300_000))
    running = stagerun.start("run", "--supervise", supervise, "--stage", f"{served.url}={place.dest}", "--",
                             "sh", "-c", f"sleep 0.3; {WARNED}")
    wait_until(lambda: served.requests, what="a request")
    running.signal(number)
    result = running.wait()
    assert result.code == 3 and result.out.splitlines()[-1] == "warned", str(result)
    assert (place.dest / "a").exists()


@pytest.mark.parametrize("command", ["prewarm", "fetch"])
def test_a_warning_does_not_end_what_only_stages(stagerun, server, place, command):
    served = server.put("/x.tar", tar(file("a", os.urandom(300_000))), rate(300_000))
    words = ["--stage", f"{served.url}={place.dest}"] if command == "prewarm" else [served.url, place.dest]
    running = stagerun.start(command, *words)
    wait_until(lambda: served.requests, what="a request")
    running.signal(signal.SIGUSR1)
    running.wait().ok()
    assert (place.dest / "a").exists()


def test_a_warning_that_nobody_may_pass_on_is_told(stagerun, server, place):
    served = server.put("/x.tar", tar(file("a", os.urandom(300_000))), rate(300_000))
    running = stagerun.start("run", "--supervise", "never", "--stage", f"{served.url}={place.dest}", "--", "true")
    wait_until(lambda: served.requests, what="a request")
    running.signal(signal.SIGUSR1)
    assert "SIGUSR1" in running.wait().ok().err
