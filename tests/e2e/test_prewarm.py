# SPDX-License-Identifier: MIT
"""`stagerun prewarm`: what it stages, how gently, what it tells, and how it follows what changes."""

import json
import os
import signal

import pytest
from agent import wait_until
from archives import file, noise, tar
from faultserver import delay, rate, status
from stopwatch import SOON, Stopwatch
from trees import unpublished_trees

SMALL = tar(file("a", noise(1000)))


def summary(result):
    """The one object on stdout."""
    assert result.out.count("\n") == 1, str(result)
    return json.loads(result.out)


def create(stagerun, source, name="cats"):
    stagerun.run("datastore", "create", source, "--name", name).ok()


@pytest.fixture
def cats(tmp_path):
    root = tmp_path / "cats"
    root.mkdir()
    (root / "a.txt").write_text("one")
    return root


# Lists.

def test_a_list_names_sources_and_datastores(stagerun, server, store, cats, dest, tmp_path):
    create(stagerun, cats)
    served = server.put("/x.tar", SMALL)
    listed = tmp_path / "list"
    listed.write_text(f"# what this node needs\r\n\n  {served.url}={dest}/x  \n"
                      f"datastore:cats=${{WHERE}}/cats\n\t# datastore:dogs\n"
                      f"grid:cats:1={dest}/old")
    stagerun.run("prewarm", "--list", listed, env={"WHERE": str(dest)}).ok()
    assert (dest / "x/a").stat().st_size == 1000
    assert (dest / "cats/a.txt").read_text() == (dest / "old/a.txt").read_text() == "one"


def test_a_list_comes_from_standard_input_too(stagerun, server, dest, tmp_path):
    listed = tmp_path / "list"
    listed.write_text(f"{server.put('/x.tar', SMALL).url}={dest}\n")
    with open(listed, "rb") as stdin:
        stagerun.run("prewarm", "--list", "-", stdin=stdin).ok()
    assert (dest / "a").exists()


@pytest.mark.parametrize("line, says", [
    ("cats:1", "'cats:1' is not SOURCE=DIR.*a datastore is written datastore:NAME"),
    ("https://host/x.zip", "is not SOURCE=DIR, where DIR begins with"),
    ("x://host/x=/tmp/x", "the scheme 'x://' is not known"),
    ("datastore:Cats", "'Cats'"),
    ("datastore:=/x", "'=/x' is not NAME"),
    ("${NOT_THERE}=/tmp/x", "NOT_THERE"),
    ("a\0b=/tmp/x", "zero byte"),
])
def test_a_wrong_line_is_named_before_anything_is_staged(stagerun, server, dest, tmp_path, line, says):
    served = server.put("/x.tar", SMALL)
    listed = tmp_path / "list"
    listed.write_text(f"{served.url}={dest}\n{line}\n")
    stagerun.run("prewarm", "--list", listed).failed(1, f"{listed}:2: .*{says}")
    assert served.requests == []


def test_a_list_that_is_not_there_is_an_error(stagerun):
    stagerun.run("prewarm", "--list", "/nonexistent").failed(1, "--list: cannot open /nonexistent: No such")


# Gentleness.

def test_max_rate_is_for_all_downloads_together(stagerun, server, dest):
    stages = []
    for i in range(4):
        served = server.put(f"/{i}.tar", tar(file("a", noise(500_000, seed=i))))
        stages += ["--stage", f"{served.url}={dest}/{i}"]
    result = stagerun.run("prewarm", "--max-rate", "2M", *stages).ok()
    assert 0.8 < result.seconds, str(result)
    assert sum(r.sent for r in server.requests()) < 2_300_000


def test_jobs_is_how_many_sources_are_staged_at_once(stagerun, server, dest):
    stages, served = [], []
    for i in range(4):
        served.append(server.put(f"/{i}.tar", SMALL, delay(0.1)))
        stages += ["--stage", f"{served[i].url}={dest}/{i}"]
    stagerun.run("prewarm", "--jobs", "1", *stages).ok()
    begun = sorted(s.requests[0].at for s in served)
    assert all(b - a > 0.09 for a, b in zip(begun, begun[1:])), begun


def test_low_priority_is_that_of_every_thread(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", noise(400_000))), rate(100_000))
    running = stagerun.start("prewarm", "--low-priority", "--stage", f"{served.url}={dest}")
    wait_until(lambda: any(r.sent > 20_000 for r in served.requests), what="some bytes")
    threads = os.listdir(f"/proc/{running.pid}/task")
    nice = [os.getpriority(os.PRIO_PROCESS, int(t)) for t in threads]
    # Who started the tests may have lowered theirs further.
    assert len(nice) > 1 and set(nice) == {max(10, os.nice(0))}
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143


# What it tells.

def test_the_summary_says_of_each_destination_what_it_got(stagerun, server, store, cats, dest):
    create(stagerun, cats)
    served = server.put("/x.tar", SMALL)
    bad = server.put("/no.tar", SMALL, status(404, times=None))
    args = ["prewarm", "--json", "--datastore", f"cats={dest}/cats", "--stage", f"{served.url}={dest}/x",
            "--stage", f"{bad.url}?token=hidden={dest}/no"]
    result = stagerun.run(*args).failed(1, "404")
    told = summary(result)
    assert told["exit_code"] == 1 and "404" in told["reason"]
    by_name = {d["to"].rpartition("/")[2]: d for d in told["destinations"]}
    assert by_name["x"]["result"] == "staged" and by_name["x"]["entries"] == 1
    assert by_name["x"]["bytes"] == 1000 and by_name["x"]["received_bytes"] == len(SMALL)
    assert by_name["x"]["sources"][0]["etag"] == served.etag
    assert by_name["x"]["sources"][0]["source"] == served.url
    source = by_name["cats"]["sources"][0]
    assert (source["datastore"], source["version"], len(source["manifest_sha256"])) == ("cats", 1, 64)
    assert by_name["no"]["result"] == "failed" and "404" in by_name["no"]["reason"]
    assert "hidden" not in result.out + result.err
    total = told["total"]
    assert [total[k] for k in ("destinations", "warm", "staged", "failed")] == [3, 0, 2, 1]

    again = summary(stagerun.run(*args[:-2]).ok())
    assert {d["result"] for d in again["destinations"]} == {"warm"}
    assert again["exit_code"] == 0 and "reason" not in again
    assert again["total"]["received_bytes"] == 0 and again["total"]["entries"] == 3
    assert again["destinations"][0]["sources"][0].keys() >= {"source"}


def test_the_summary_is_there_when_nothing_could_begin(stagerun, tmp_path):
    told = summary(stagerun.run("prewarm", "--json", "--config", "/nonexistent.yml").failed(1, "nonexistent"))
    assert told["destinations"] == [] and "nonexistent" in told["reason"]


def test_the_summary_tells_of_a_signal(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", noise(400_000))), rate(50_000))
    running = stagerun.start("prewarm", "--json", "--stage", f"{served.url}={dest}")
    wait_until(lambda: any(r.sent > 20_000 for r in served.requests), what="some bytes")
    running.signal(signal.SIGTERM)
    told = summary(running.wait())
    assert told["exit_code"] == 143 and told["destinations"][0]["result"] == "cancelled"


def test_a_source_that_fails_does_not_end_the_others(stagerun, server, dest):
    bad = server.put("/no.tar", SMALL, status(404, times=None))
    slow = server.put("/x.tar", SMALL, delay(0.3))
    stagerun.run("prewarm", "--stage", f"{bad.url}={dest}/no", "--stage",
                 f"{slow.url}={dest}/x").failed(1, "404")
    assert (dest / "x/a").exists() and not (dest / "no").exists()


# Later versions.

def test_a_changed_source_is_an_error_unless_it_is_to_be_refreshed(stagerun, server, dest):
    served = server.put("/x.tar", SMALL)
    stage = ["--stage", f"{served.url}={dest}"]
    stagerun.run("prewarm", *stage).ok()
    served.replace(tar(file("b")))
    stagerun.run("prewarm", *stage).failed(1, "--replace")
    stagerun.run("prewarm", "--refresh", *stage).ok()
    assert os.listdir(dest) == ["b"]


def test_refresh_replaces_only_what_was_staged_before(stagerun, server, dest):
    """A list may name another source for a directory; what somebody else put there stays."""
    one, two = server.put("/1.tar", SMALL), server.put("/2.tar", tar(file("b")))
    stagerun.run("prewarm", "--stage", f"{one.url}={dest}").ok()
    stagerun.run("prewarm", "--refresh", "--stage", f"{two.url}={dest}").ok()
    assert os.listdir(dest) == ["b"]
    mine = dest.parent / "mine"
    mine.mkdir()
    (mine / "a").write_text("mine")
    stagerun.run("prewarm", "--refresh", "--stage", f"{one.url}={mine}").failed(1, "a exists")
    assert (mine / "a").read_text() == "mine"


def keeping_fresh(stagerun, *args):
    return stagerun.start("prewarm", "--keep-fresh", "100ms", *args)


def rounds(running):
    return [json.loads(line) for line in running.out().splitlines()]


def stop(running, slowness):
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    result = running.wait()
    assert watch.read() < SOON * slowness, str(result)
    return result.ok()


def test_keep_fresh_follows_a_changed_source_and_ends_with_0(stagerun, server, dest, slowness):
    served = server.put("/x.tar", SMALL)
    running = keeping_fresh(stagerun, "--json", "--stage", f"{served.url}={dest}")
    wait_until((dest / "a").exists)
    served.replace(tar(file("b")))
    wait_until((dest / "b").exists)
    seen = len(served.requests)
    wait_until(lambda: len(served.requests) > seen + 2, what="further looks")
    stop(running, slowness)
    assert os.listdir(dest) == ["b"]
    assert [r["total"]["staged"] for r in rounds(running)].count(1) == 2
    assert all(r.status == 304 for r in served.requests[seen:])


def test_keep_fresh_follows_a_datastore_but_not_a_version_of_it(stagerun, store, cats, dest, slowness):
    create(stagerun, cats)
    running = keeping_fresh(stagerun, "--datastore", f"cats={dest}/newest", "--datastore",
                            f"cats:1={dest}/first")
    wait_until((dest / "newest/a.txt").exists)
    (cats / "a.txt").write_text("two")
    create(stagerun, cats)
    wait_until(lambda: (dest / "newest/a.txt").read_text() == "two", what="version 2")
    stop(running, slowness)
    assert (dest / "first/a.txt").read_text() == "one"


def test_who_reads_the_old_version_is_not_disturbed(stagerun, server, dest, slowness):
    """It reads on from the directory that it had opened."""
    names = [f"{i}.bin" for i in range(5)]
    served = server.put("/x.tar", tar(*(file(n, b"old") for n in names)))
    arguments = ["--stage", f"{served.url}={dest}"]
    running = stagerun.start("prewarm", "--keep-fresh", "1s", *arguments)
    wait_until((dest / names[0]).exists)
    reader = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
    served.replace(tar(*(file(n, b"new") for n in names)))
    wait_until(lambda: (dest / names[0]).read_bytes() == b"new", what="the new version")
    for name in names:
        assert read_below(reader, name) == b"old"
    os.close(reader)
    stop(running, slowness)
    stagerun.run("prewarm", *arguments).ok()
    assert unpublished_trees(dest.parent) == []


def read_below(directory, name):
    fd = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_at_every_moment_a_whole_version_is_there(stagerun, server, dest, slowness):
    served = server.put("/x.tar", tar(file("v", b"0"), file("w", b"0")))
    running = keeping_fresh(stagerun, "--stage", f"{served.url}={dest}")
    wait_until((dest / "v").exists)
    for version in range(1, 4):
        body = str(version).encode()
        served.replace(tar(file("v", body), file("w", body)))
        while True:
            there = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
            pair = [read_below(there, name) for name in ("v", "w")]
            os.close(there)
            assert pair[0] == pair[1]
            if pair[0] == body:
                break
    stop(running, slowness)


def test_a_round_that_fails_is_told_and_the_next_one_tries_again(stagerun, server, dest, slowness):
    served = server.put("/x.tar", SMALL, status(404, times=1))
    other = server.put("/y.tar", SMALL)
    running = keeping_fresh(stagerun, "--json", "--stage", f"{served.url}={dest}/x", "--stage",
                            f"{other.url}={dest}/y")
    wait_until((dest / "x/a").exists)
    wait_until(lambda: len(rounds(running)) > 1)
    result = stop(running, slowness)
    assert "404" in result.err
    first, second = rounds(running)[:2]
    assert first["exit_code"] == 1 and first["total"]["staged"] == 1
    assert second["exit_code"] == 0 and second["total"]["staged"] == 1


def test_keep_fresh_ends_at_once_in_the_middle_of_a_download(stagerun, server, dest, slowness):
    served = server.put("/x.tar", tar(file("a", noise(400_000))), rate(50_000))
    running = keeping_fresh(stagerun, "--stage", f"{served.url}={dest}")
    wait_until(lambda: any(r.sent > 20_000 for r in served.requests), what="some bytes")
    stop(running, slowness)
    assert not dest.exists() and stagerun.leftovers() == []


def test_every_round_has_its_hooks_which_are_told_of_that_round(stagerun, store, cats, dest, tmp_path, slowness):
    create(stagerun, cats)
    hook = tmp_path / "hooks/on_stage_end/10-a"
    hook.parent.mkdir(parents=True)
    hook.write_text(f'#!/bin/sh\necho "$STAGERUN_DATASTORES" | wc -l >>{tmp_path}/lines\n')
    for path in (hook, hook.parent, hook.parent.parent):
        path.chmod(0o755)
    stagerun.configure(hooks={"dir": hook.parent.parent})
    running = keeping_fresh(stagerun, "--json", "--datastore", f"cats={dest}")
    wait_until(lambda: len(rounds(running)) > 2)
    stop(running, slowness)
    lines = (tmp_path / "lines").read_text().split()
    assert len(lines) > 2 and set(lines) == {"1"}


@pytest.mark.parametrize("args, says", [
    (["--keep-fresh", "soon"], "--keep-fresh"),
    (["--keep-fresh", "0"], "too short"),
])
def test_a_wrong_duration_is_a_usage_error(stagerun, args, says):
    stagerun.run("prewarm", *args).failed(2, says)


def test_a_wrong_rate_or_number_of_jobs_is_named(stagerun):
    stagerun.run("prewarm", "--max-rate", "fast").failed(2, "--max-rate.*fast")
    stagerun.run("prewarm", "--jobs", "0").failed(2, "--jobs")


# The node cache alone.

@pytest.fixture
def cache(stagerun, tmp_path):
    stagerun.configure(cache={"dir": tmp_path / "cache", "min_free": "none"})
    return tmp_path / "cache"


def test_cache_only_makes_no_directory_and_the_run_is_warm(stagerun, server, store, cats, cache, dest, tmp_path):
    create(stagerun, cats)
    served = server.put("/x.tar", tar(file("a", noise(400_000))))
    args = ["--stage", f"{served.url}={dest}/x", "--datastore", f"cats={dest}/cats"]
    told = summary(stagerun.run("prewarm", "--cache-only", "--json", *args).ok())
    assert not dest.exists() and sorted(os.listdir(tmp_path / "agent/cwd")) == []
    assert {d["result"] for d in told["destinations"]} == {"staged"}
    assert all(d["to"].startswith(str(cache)) for d in told["destinations"])
    versions = [s.get("version") for d in told["destinations"] for s in d["sources"]]
    assert sorted(versions, key=str) == [1, None]
    again = summary(stagerun.run("prewarm", "--cache-only", "--json", *args).ok())
    assert again["total"]["warm"] == 2 and again["total"]["entries"] == told["total"]["entries"] > 2
    before = served.body_bytes
    stagerun.run("run", *args, "--", "true").ok()
    assert served.body_bytes - before <= 1
    assert (dest / "x/a").read_bytes() == noise(400_000) and (dest / "cats/a.txt").exists()


def test_a_prewarm_with_a_cache_fills_that_too_and_says_what_came_from_it(stagerun, server, cache, dest):
    served = server.put("/x.tar", SMALL)
    told = summary(stagerun.run("prewarm", "--json", "--stage", f"{served.url}={dest}/1").ok())
    assert told["destinations"][0]["result"] == "staged"
    told = summary(stagerun.run("prewarm", "--json", "--stage", f"{served.url}={dest}/2").ok())
    assert told["destinations"][0]["result"] == "cached" and told["total"]["received_bytes"] == 0
    assert (dest / "2/a").exists()


def test_cache_only_says_what_cannot_be_kept(stagerun, server, cache, dest):
    weak = server.put("/x.tar", SMALL, etag=None)
    stagerun.run("prewarm", "--cache-only", "--stage", f"{weak.url}={dest}").failed(
        1, "cannot be kept in the node cache: nothing names its version")
    assert not dest.exists()


def test_cache_only_needs_a_cache(stagerun, server, dest, tmp_path):
    served = server.put("/x.tar", SMALL)
    args = ["prewarm", "--cache-only", "--stage", f"{served.url}={dest}"]
    stagerun.run(*args).failed(1, "no node cache.*STAGERUN_CACHE_DIR")
    (tmp_path / "file").write_text("")
    stagerun.run(*args, env={"STAGERUN_CACHE_DIR": str(tmp_path / "file")}).failed(1, "no node cache")
    assert served.requests == []


def test_keep_fresh_fills_the_cache_with_each_version(stagerun, server, cache, dest, slowness):
    served = server.put("/x.tar", SMALL)
    running = keeping_fresh(stagerun, "--json", "--cache-only", "--stage", f"{served.url}={dest}")
    wait_until(lambda: rounds(running))
    served.replace(tar(file("b")))
    wait_until(lambda: sum(r["total"]["staged"] for r in rounds(running)) == 2, what="the second version")
    stop(running, slowness)
    before = served.body_bytes
    stagerun.run("prewarm", "--stage", f"{served.url}={dest}").ok()
    assert os.listdir(dest) == ["b"] and served.body_bytes - before <= 1
