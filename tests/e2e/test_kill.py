# SPDX-License-Identifier: MIT
"""kill -9 at random moments: the destination is absent or complete, and a rerun completes. The seed is
printed; STAGERUN_TEST_SEED=N repeats a run."""

import os
import random

import pytest
from agent import slowness
from archives import COMPRESS, directory, file, noise, symlink, tar
from faultserver import rate
from trees import differences, snapshot, unpublished_trees

KILLS = max(4, 20 // slowness())
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


class Killer:
    """Runs fetches and kills each at a random moment, most often near its end."""

    def __init__(self, agent, moments):
        self.agent, self.moments = agent, moments
        self.seconds = 0  # what the fastest fetch so far took
        self.killed = 0  # how many were still running at their moment

    def fetch(self, *args):
        running = self.agent.start("fetch", *args)
        if running.finished(self.moments.triangular(0, self.seconds * 1.1, self.seconds)):
            self.seconds = min(self.seconds, running.wait().ok().seconds.wall)
            return
        running.stop()
        self.killed += 1


@pytest.fixture
def killer(stagerun, moments):
    return Killer(stagerun, moments)


@pytest.fixture
def complete(stagerun, killer, served, place):
    """What a run that nobody kills publishes."""
    reference = place.parent / "outside/reference"
    killer.seconds = stagerun.fetch(served.url, reference).ok().seconds.wall
    return snapshot(reference)


def set_aside(path, place, moments):
    os.rename(path, place.parent / "outside" / f"{moments.random()}")


def without_times_of_parents(entries):
    """Directories that no entry of the archive describes have the time they were made."""
    return {n: {k: v for k, v in e.items() if k != "mtime_ns"} if e["kind"] == "directory" else e
            for n, e in entries.items()}


def without_probe(entries):
    """Whether directories can be renamed into DEST is tried with an empty one, which the next stage removes."""
    return {name: entry for name, entry in entries.items() if not name.startswith(b".stagerun-probe-")}


def assert_same_entries(expected, actual):
    found = differences(without_times_of_parents(expected), without_times_of_parents(actual))
    assert not found, "\n".join(found[:20])


def test_the_destination_is_absent_or_complete_whenever_the_agent_dies(
        stagerun, killer, served, place, complete, moments):
    while killer.killed < KILLS:
        killer.fetch(served.url, place.dest)
        if place.dest.exists():
            assert_same_entries(complete, snapshot(place.dest))
            set_aside(place.dest, place, moments)
    stagerun.fetch(served.url, place.dest).ok()
    assert_same_entries(complete, snapshot(place.dest))
    assert unpublished_trees(place.parent) == []


def test_entries_of_a_merge_are_absent_or_complete_whenever_the_agent_dies(
        stagerun, killer, served, place, complete, moments):
    place.dest.mkdir()
    (place.dest / "mine").write_text("mine\n")
    while killer.killed < KILLS:
        killer.fetch(served.url, place.dest)
        found = without_probe(snapshot(place.dest, without=(".stagerun", "mine")))
        tops = {name.split(b"/")[0] for name in found}
        assert_same_entries({n: e for n, e in complete.items() if n.split(b"/")[0] in tops}, found)
        if found.keys() == complete.keys():
            for top in tops:
                set_aside(place.dest / os.fsdecode(top), place, moments)
    stagerun.fetch(served.url, place.dest).ok()
    assert_same_entries(complete, snapshot(place.dest, without=(".stagerun", "mine")))
    assert (place.dest / "mine").read_text() == "mine\n"
    assert unpublished_trees(place.parent) == []


def test_a_replacement_is_the_old_or_the_new_whenever_the_agent_dies(
        stagerun, server, killer, served, place, complete):
    old = server.put("/old.tar", tar(file("old", b"old\n")))
    while killer.killed < KILLS:
        stagerun.fetch(old.url, place.dest, "--replace").ok()
        before = snapshot(place.dest)
        killer.fetch("--replace", served.url, place.dest)
        found = snapshot(place.dest)
        if b"old" in found:
            assert found == before
        else:
            assert_same_entries(complete, found)
    stagerun.fetch(served.url, place.dest, "--replace").ok()
    assert_same_entries(complete, snapshot(place.dest))
    assert unpublished_trees(place.parent) == []
