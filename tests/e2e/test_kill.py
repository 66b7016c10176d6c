# SPDX-License-Identifier: MIT
"""kill -9 at random moments: the destination is absent or complete, and a rerun completes. The seed is
printed; STAGERUN_TEST_SEED=N repeats a run."""

import os
import random
import time

import pytest
from archives import COMPRESS, directory, file, noise, symlink, tar
from faultserver import rate
from trees import differences, snapshot, unpublished_trees

KILLS = 20
ARCHIVE = COMPRESS["zst"](tar(
    *(file(f"top{i}/small-{j}", noise(3000, i * 100 + j)) for i in range(6) for j in range(40)),
    file("large", noise(400_000)), directory("empty"), symlink("link", "top0/small-0")))


@pytest.fixture
def moments():
    seed = int(os.environ.get("STAGERUN_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def served(server):
    """It takes a few hundred milliseconds to arrive."""
    return server.put("/x.tar.zst", ARCHIVE, rate(len(ARCHIVE)))


@pytest.fixture
def complete(stagerun, served, place):
    """What a run that nobody kills publishes, and how long it takes."""
    began = time.monotonic()
    stagerun.fetch(served.url, place.parent / "outside/reference").ok()
    return snapshot(place.parent / "outside/reference"), time.monotonic() - began


def kill_at(stagerun, moment, *args):
    """True when the agent was still running at that moment; otherwise it must have succeeded."""
    running = stagerun.start(*args)
    if running.finished(moment):
        running.wait().ok()
        return False
    running.stop()
    return True


def without_times_of_parents(entries):
    """Directories that no entry of the archive describes have the time they were made."""
    return {n: {k: v for k, v in e.items() if k != "mtime_ns"} if e["kind"] == "directory" else e
            for n, e in entries.items()}


def assert_same_entries(expected, actual):
    found = differences(without_times_of_parents(expected), without_times_of_parents(actual))
    assert not found, "\n".join(found[:20])


def test_the_destination_is_absent_or_complete_whenever_the_agent_dies(
        stagerun, served, place, complete, moments):
    expected, seconds = complete
    killed = 0
    for _ in range(KILLS):
        killed += kill_at(stagerun, moments.triangular(0, seconds * 1.1, seconds), "fetch", served.url,
                          place.dest)
        if place.dest.exists():
            assert_same_entries(expected, snapshot(place.dest))
            os.rename(place.dest, place.parent / "outside" / f"{moments.random()}")
    assert killed > KILLS // 4
    stagerun.fetch(served.url, place.dest).ok()
    assert_same_entries(expected, snapshot(place.dest))
    assert unpublished_trees(place.parent) == []


def test_entries_of_a_merge_are_absent_or_complete_whenever_the_agent_dies(
        stagerun, served, place, complete, moments):
    expected, seconds = complete
    place.dest.mkdir()
    (place.dest / "mine").write_text("mine\n")
    for _ in range(KILLS):
        kill_at(stagerun, moments.triangular(0, seconds * 1.1, seconds), "fetch", served.url, place.dest)
        found = snapshot(place.dest, without=(".stagerun", "mine"))
        tops = {name.split(b"/")[0] for name in found}
        assert_same_entries({n: e for n, e in expected.items() if n.split(b"/")[0] in tops}, found)
    stagerun.fetch(served.url, place.dest).ok()
    assert_same_entries(expected, snapshot(place.dest, without=(".stagerun", "mine")))
    assert (place.dest / "mine").read_text() == "mine\n"
    assert unpublished_trees(place.parent) == []


def test_a_replacement_is_the_old_or_the_new_whenever_the_agent_dies(
        stagerun, server, served, place, complete, moments):
    expected, seconds = complete
    old = server.put("/old.tar", tar(file("old", b"old\n")))
    for _ in range(KILLS // 2):
        stagerun.fetch(old.url, place.dest, "--replace").ok()
        old_entries = snapshot(place.dest)
        kill_at(stagerun, moments.triangular(0, seconds * 1.1, seconds), "fetch", "--replace", served.url,
                place.dest)
        found = snapshot(place.dest)
        if b"old" in found:
            assert found == old_entries
        else:
            assert_same_entries(expected, found)
    stagerun.fetch(served.url, place.dest, "--replace").ok()
    assert_same_entries(expected, snapshot(place.dest))
    assert unpublished_trees(place.parent) == []
