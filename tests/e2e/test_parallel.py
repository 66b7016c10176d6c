# SPDX-License-Identifier: MIT
"""Threads, descriptors and memory follow how many sources are worked on at once, not how many there are;
and agents that share destinations do not wait for each other for ever."""

import resource
import signal

import pytest
from agent import wait_until
from archives import file, noise, tar
from faultserver import rate, status

MIB = 1 << 20


def sources(directory, n):
    """So many archives of one small file."""
    for i in range(n):
        (directory / f"{i}.tar").write_bytes(tar(file("data", b"%d" % i)))
    return [directory / f"{i}.tar" for i in range(n)]


def stages(paths, dest, start=0):
    return [arg for i, path in enumerate(paths, start)
            for arg in ("--stage", f"{path}={dest}/{i}")]


def limited(descriptors):
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE,
                                                     (descriptors, descriptors))}


@pytest.mark.parametrize("descriptors", [256, 1024])
def test_four_hundred_sources_need_descriptors_for_eight(stagerun, dest, descriptors):
    paths = sources(stagerun.directory, 400)
    stagerun.run("prewarm", *stages(paths, dest), limit=60, **limited(descriptors)).ok()
    for i in range(400):
        assert (dest / f"{i}/data").read_bytes() == b"%d" % i


def test_four_hundred_sources_over_http_need_descriptors_for_eight(stagerun, server, dest):
    served = [server.put(f"/{i}.tar", tar(file("data", b"%d" % i))).url for i in range(400)]
    stagerun.run("prewarm", *stages(served, dest), limit=60, **limited(256)).ok()
    for i in range(400):
        assert (dest / f"{i}/data").read_bytes() == b"%d" % i


def test_two_hundred_sources_of_one_destination_need_descriptors_for_eight(stagerun, dest):
    paths = []
    for i in range(200):
        paths.append(stagerun.directory / f"{i}.tar")
        paths[-1].write_bytes(tar(file(f"data-{i}", b"%d" % i)))
    args = [arg for path in paths for arg in ("--stage", f"{path}={dest}")]
    stagerun.run("prewarm", *args, limit=60, **limited(128)).ok()
    assert {p.name for p in dest.iterdir() if p.name[0] != "."} == {f"data-{i}" for i in range(200)}


@pytest.mark.usefixtures("plain_build")
def test_hundreds_of_sources_take_the_memory_of_a_few(stagerun, dest):
    stagerun.configure(agent={"parallel_stages": 1, "memory_budget": "16M"})
    paths = sources(stagerun.directory, 800)
    few = stagerun.run("prewarm", *stages(paths[:20], f"{dest}-few"), limit=60).ok()
    many = stagerun.run("prewarm", *stages(paths, dest), limit=55).ok()
    print(f"20 sources: {few.rss / MIB:.1f} MiB, 800: {many.rss / MIB:.1f} MiB")
    assert many.rss < max(few.rss, 8 * MIB) + 16 * MIB  # few may have ended between two looks


def test_no_more_sources_are_open_than_may_be_at_once(stagerun, server, dest):
    stagerun.configure(agent={"parallel_stages": 2}, network={"connections_per_host": 1})
    served = [server.put(f"/{i}.tar", tar(file(f"{i}", noise(60_000, i))), rate(200_000))
              for i in range(6)]
    args = [arg for s in served[:3] for arg in ("--stage", f"{s.url}={dest}/joined")]
    args += [arg for s in served[3:] for arg in ("--stage", f"{s.url}={dest}/{s.path[1]}")]
    stagerun.run("prewarm", *args).ok()
    assert sorted(p.name for p in (dest / "joined").iterdir() if p.name[0] != ".") == ["0", "1", "2"]


def test_two_agents_with_one_slot_each_stage_two_destinations_in_opposite_order(stagerun, server,
                                                                                dest):
    stagerun.configure(agent={"parallel_stages": 1})
    served = [server.put(f"/{i}.tar", tar(file(f"{i}", noise(100_000, i))), rate(400_000))
              for i in range(4)]
    # Each destination of two sources: who has its lock needs a turn for the second, too.
    one = [("--stage", f"{s.url}={dest}/one") for s in served[:2]]
    two = [("--stage", f"{s.url}={dest}/two") for s in served[2:]]
    agents = [stagerun.start("prewarm", *(arg for pair in order for arg in pair))
              for order in (one + two, two + one)]
    for agent in agents:
        agent.wait().ok()
    for name, of in (("one", "01"), ("two", "23")):
        assert sorted(p.name for p in (dest / name).iterdir() if p.name[0] != ".") == list(of)


def test_what_has_not_begun_is_left_out_when_one_source_fails(stagerun, server, dest):
    stagerun.configure(agent={"parallel_stages": 1})
    server.put("/gone.tar", b"", status(404, times=None))
    late = [server.put(f"/{i}.tar", tar(file("data"))) for i in range(3)]
    result = stagerun.run("run", *stages([server.url("/gone.tar")], dest),
                          *stages([s.url for s in late], dest, 1), "--", "true")
    result.failed(125, r"/gone\.tar", "404")
    assert not any(s.requests for s in late)
    assert result.err.count("error") == 1


def test_sources_that_have_not_begun_end_with_a_signal(stagerun, server, dest):
    stagerun.configure(agent={"parallel_stages": 1})
    served = [server.put(f"/{i}.tar", tar(file("data", noise(200_000))), rate(20_000))
              for i in range(5)]
    running = stagerun.start("prewarm", *stages([s.url for s in served], dest))
    wait_until(lambda: served[0].requests)
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143
    assert not any(s.requests for s in served[1:])
