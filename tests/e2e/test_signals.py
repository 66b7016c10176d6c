# SPDX-License-Identifier: MIT
"""A signal stops all work within a second and leaves no process; the next run takes over."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from agent import BINARY, wait_until
from archives import COMPRESS, file, noise, tar
from faultserver import rate, stall, status
from processes import children, held
from stopwatch import Stopwatch
from trees import unpublished_trees

ARCHIVE = tar(file("a", noise(2_000_000)))
LIMIT = 1.0  # seconds, from the signal to the end


def stop(running, number, slowness):
    watch = Stopwatch()
    running.signal(number)
    result = running.wait()
    assert watch.read() < LIMIT * slowness, str(result)
    return result


def command(kind, stagerun, url, dest):
    if kind == "fetch":
        return ["fetch", url, dest]
    if kind == "prewarm":
        return ["prewarm", "--stage", f"{url}={dest}"]
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: "
                             f"[{{stage: {{source: '{url}', to: '{dest}'}}}}]}}}}}}\n")
    return ["run", "--config", config, "--", "touch", "ran"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["fetch", "prewarm", "run"])
def test_a_signal_ends_staging_at_once(stagerun, server, dest, slowness, kind, number):
    served = server.put("/x.tar", ARCHIVE, rate(100_000))
    running = stagerun.start(*command(kind, stagerun, served.url, dest))
    wait_until(lambda: any(r.sent > 50_000 for r in served.requests), what="some bytes")
    assert stop(running, number, slowness).code == 128 + number
    assert stagerun.leftovers() == []
    assert not dest.exists() and not (stagerun.cwd / "ran").exists()


FAULTS = {
    "stalled body": lambda: [stall(10_000, times=None)],
    "server that never answers": lambda: [stall(0, times=None)],
    "long Retry-After": lambda: [status(503, times=None, Retry_After="60")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_signal_ends_every_kind_of_waiting(stagerun, server, dest, slowness, fault):
    stagerun.configure(network={"stall_timeout": "60s"})
    served = server.put("/x.tar", ARCHIVE, *FAULTS[fault]())
    running = stagerun.start("fetch", served.url, dest)
    wait_until(lambda: served.requests, what="a first request")
    time.sleep(0.1)
    assert stop(running, signal.SIGTERM, slowness).code == 143
    assert not dest.exists()


def test_a_signal_ends_waiting_for_another_agent(stagerun, server, dest, slowness):
    served = server.put("/x.tar", ARCHIVE, rate(100_000))
    holder = stagerun.start("fetch", served.url, dest)
    wait_until(lambda: served.requests, what="a first request")
    second = stagerun.start("fetch", served.url, dest)
    wait_until(lambda: "waiting" in second.err(), what="the second agent's wait")
    assert stop(second, signal.SIGTERM, slowness).code == 143
    assert stop(holder, signal.SIGTERM, slowness).code == 143


def test_a_signal_ends_unpacking(stagerun, server, dest, slowness):
    """The archive is all here, and large: the writer is at work."""
    path = stagerun.directory / "x.tar.zst"
    path.write_bytes(COMPRESS["zst"](tar(*(file(f"{i}", bytes(2_000_000)) for i in range(60)))))
    running = stagerun.start("fetch", path, dest)
    wait_until(lambda: unpublished_trees(dest.parent) or running.finished(), what="a tree")
    result = stop(running, signal.SIGTERM, slowness)
    assert result.code in (143, 0)
    # Published before the signal was seen, or not at all; never a part of it.
    assert dest.exists() or result.code == 143
    if dest.exists():
        assert [p.stat().st_size for p in dest.iterdir()] == [2_000_000] * 60


def test_a_signal_ends_an_action_and_what_it_started(stagerun, slowness):
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: "
                             "['touch started; sleep 60 & sleep 60']}}}\n")
    running = stagerun.start("run", "--config", config, "--", "touch", "ran")
    wait_until((stagerun.cwd / "started").exists, what="the action")
    assert stop(running, signal.SIGTERM, slowness).code == 143
    assert stagerun.leftovers() == []
    assert not (stagerun.cwd / "ran").exists()


def test_an_action_that_ignores_the_signal_is_ended_all_the_same(stagerun, slowness):
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: "
                             "['trap \"\" TERM; touch started; sleep 60']}}}\n")
    running = stagerun.start("run", "--config", config, "--", "true")
    wait_until((stagerun.cwd / "started").exists, what="the action")
    running.signal(signal.SIGTERM)
    result = running.wait(limit=10)
    assert result.code == 143
    assert stagerun.leftovers() == []
    assert list(stagerun.tmp.iterdir()) == []  # what $STAGERUN_ENV named


def test_the_next_run_takes_over(stagerun, server, place):
    served = server.put("/x.tar", ARCHIVE, rate(100_000))
    running = stagerun.start("fetch", served.url, place.dest)
    wait_until(lambda: unpublished_trees(place.parent), what="an unfinished tree")
    running.signal(signal.SIGTERM)
    running.wait()
    served.faults.clear()
    stagerun.fetch(served.url, place.dest).ok()
    assert (place.dest / "a").read_bytes() == noise(2_000_000)
    assert unpublished_trees(place.parent) == []
    place.assert_neighbours_untouched()


def test_a_signal_says_why_it_ended(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, rate(100_000))
    running = stagerun.start("fetch", served.url, dest)
    wait_until(lambda: served.requests, what="a first request")
    running.signal(signal.SIGTERM)
    running.wait().failed(143, "signal|SIGTERM|terminated")


def test_an_ignored_signal_stays_ignored(stagerun, server, dest):
    """As under nohup: a closed terminal does not end the staging."""
    served = server.put("/x.tar", tar(file("a", noise(300_000))), rate(600_000))
    running = stagerun.start("fetch", served.url, dest,
                             wrap=["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""])
    wait_until(lambda: served.requests, what="a first request")
    running.signal(signal.SIGHUP)
    running.wait().ok()
    assert (dest / "a").exists()


# Programs on a file system that does not answer.

def is_hung(running):
    """A child that has not become another program."""
    return any(Path(f"/proc/{p.pid}/exe").resolve() == BINARY.resolve() for p in children(running.pid))


def open_pipes(pid):
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed in between
            found += os.readlink(link).startswith("pipe:")
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_hook_that_hangs_before_it_runs_does_not_make_the_agent_deaf(stagerun, tmp_path, number, slowness):
    hook = tmp_path / "hooks/on_stage_start/10-hung"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    stagerun.configure(hooks={"dir": tmp_path / "hooks"})
    with held(hook):
        running = stagerun.start("run", "--", "true")
        wait_until(lambda: is_hung(running), what="a child that hangs")
        running.signal(number)
        result = running.wait(8)
    assert result.code == 128 + number, str(result)
    assert result.seconds < 6 * slowness, str(result)


def test_a_command_that_hangs_before_it_runs_does_not_make_the_agent_deaf(stagerun, tmp_path):
    command = tmp_path / "hung"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = stagerun.config("compute: {train: {actions: {on_experiment_end: [\"true\"]}}}\n")
    with held(command):
        running = stagerun.start("run", "--config", path, "--", command)
        wait_until(lambda: is_hung(running), what="a child that hangs")
        running.signal(signal.SIGTERM)
        result = running.wait(8)
    assert result.code == 128 + signal.SIGTERM, str(result)


def test_a_command_that_cannot_be_executed_after_it_hung_says_so_itself(stagerun, tmp_path):
    command = tmp_path / "hung"
    command.write_text("#!/nowhere/interpreter\n")
    command.chmod(0o755)
    path = stagerun.config("compute: {train: {actions: {on_experiment_end: [\"true\"]}}}\n")
    with held(command):
        running = stagerun.start("run", "--config", path, "--", command)
        wait_until(lambda: is_hung(running), what="a child that hangs")
        before = open_pipes(running.pid)
        wait_until(lambda: open_pipes(running.pid) < before, what="the agent to wait no longer")
    result = running.wait(8)
    assert result.code == 126 and "cannot run" in result.err, str(result)
