# SPDX-License-Identifier: MIT
"""The node cache: what was staged once on a node is not fetched again, whoever wants it."""

import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from agent import wait_until
from archives import directory, file, hardlink, noise, symlink, tar, untar
from faultserver import header, rate
from stopwatch import SOON, Stopwatch
from trees import assert_same, snapshot

ARCHIVE = tar(directory("d", mode=0o750), file("d/a", noise(600_000), mode=0o640), file("b", b"b\n", mode=0o444),
              file("d/run", b"#!/bin/sh\n", mode=0o755), symlink("d/s", "a"), hardlink("c", "b"), directory("empty"))


@pytest.fixture
def cache(stagerun, tmp_path):
    stagerun.configure(cache={"dir": tmp_path / "cache", "min_free": "none"})
    return tmp_path / "cache"


@pytest.fixture
def expected(tmp_path):
    untar(ARCHIVE, tmp_path / "expected")
    return tmp_path / "expected"


def entries(cache):
    return sorted(p for p in (cache / "v1").iterdir() if re.fullmatch(r"[0-9a-f]{32}-[0-9a-f]{32}", p.name))


def in_use(entry):
    with open(entry / "use", "rb") as use:
        try:
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def damage(path):
    """As root or its owner can, though nobody may write there."""
    path.parent.chmod(0o755)
    path.chmod(0o644)
    return path


# What is fetched, and what comes out.

def test_a_second_destination_moves_no_body_and_is_exact(stagerun, server, place, cache, expected):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    before, fetched = len(served.requests), served.body_bytes
    result = stagerun.fetch(served.url, place.parent / "two").ok()
    assert "from the node cache" in result.err
    assert [r.status for r in served.requests[before:]] == [304] and served.body_bytes == fetched
    assert_same(expected, place.parent / "one")
    assert_same(expected, place.parent / "two")


def test_a_pinned_digest_makes_no_request_at_all(stagerun, server, place, cache):
    served = server.put("/x.tar", ARCHIVE, etag=None)
    pin = ("--sha256", hashlib.sha256(ARCHIVE).hexdigest())
    stagerun.fetch(served.url, place.parent / "one", *pin).ok()
    before = len(served.requests)
    stagerun.fetch(served.url, place.parent / "two", *pin).ok()
    assert served.requests[before:] == []


def test_a_copy_is_warm_by_itself(stagerun, server, dest, cache):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    shutil.rmtree(cache)
    assert "already there" in stagerun.fetch(served.url, dest).ok().err


@pytest.mark.parametrize("etag", [None, 'W/"1"'], ids=["none", "weak"])
def test_what_has_no_certain_version_is_not_kept(stagerun, server, dest, cache, etag):
    stagerun.fetch(server.put("/x.tar", ARCHIVE, etag=etag).url, dest).ok()
    assert (dest / "b").exists() and entries(cache) == []


def test_a_new_version_is_another_entry(stagerun, server, place, cache):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    served.replace(tar(file("new")))
    stagerun.fetch(served.url, place.parent / "two").ok()
    assert sorted(os.listdir(place.parent / "two")) == ["new"] and len(entries(cache)) == 2


def test_a_version_that_comes_in_the_middle_is_the_one_that_is_kept(stagerun, server, place, cache):
    served = server.put("/x.tar", tar(file("a", noise(2_000_000))))
    new = tar(file("a", noise(2_000_000, seed=2)))
    served.replace(new, after=3, last_modified="Fri, 06 Mar 2026 10:00:00 GMT")
    stagerun.fetch(served.url, place.parent / "one").ok()
    fetched = served.body_bytes
    stagerun.fetch(served.url, place.parent / "two").ok()
    for name in ("one", "two"):
        assert (place.parent / name / "a").read_bytes() == noise(2_000_000, seed=2)
    assert served.body_bytes == fetched


def test_of_servers_that_disagree_on_the_etag_nothing_is_kept_under_a_wrong_name(
        stagerun, server, place, cache):
    served = server.put("/x.tar", tar(file("a", noise(2_000_000))))
    served.replace(tar(file("a", noise(2_000_000, seed=2))), after=3)
    for name in ("one", "two"):
        stagerun.fetch(served.url, place.parent / name).ok()
        assert (place.parent / name / "a").read_bytes() == noise(2_000_000, seed=2)


def test_options_that_change_the_result_make_another_entry(stagerun, server, place, cache):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    stagerun.fetch(served.url, place.parent / "two", "--include", "b").ok()
    assert sorted(os.listdir(place.parent / "two")) == ["b"] and len(entries(cache)) == 2


def test_several_sources_are_one_entry(stagerun, server, place, cache):
    one, two = server.put("/1.tar", tar(file("one"))), server.put("/2.tar", tar(file("two")))
    for name in ("x", "y"):
        to = place.parent / name
        stagerun.run("run", "--stage", f"{one.url}={to}", "--stage", f"{two.url}={to}", "true").ok()
        assert sorted(os.listdir(to)) == ["one", "two"]
    assert len(entries(cache)) == 1 and one.body_bytes <= len(one.body) + 2


def test_entries_have_no_write_bits(stagerun, server, dest, cache):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    tree = entries(cache)[0] / "tree"
    for path in (tree, *tree.rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & 0o222 == 0, path


def test_what_would_be_refused_is_refused_before_it_is_fetched(stagerun, server, dest, cache):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    other = server.put("/y.tar", ARCHIVE)
    stagerun.fetch(other.url, dest).failed(1, "--replace")
    assert other.body_bytes <= 1


# Read-only destinations.

@pytest.fixture
def cats(stagerun, store, tmp_path):
    source = tmp_path / "cats"
    (source / "train").mkdir(parents=True)
    for i in range(20):
        (source / f"train/{i}").write_bytes(noise(5000, seed=i))
    stagerun.run("datastore", "create", source).ok()
    return source


def attach(stagerun, to, *command, **how):
    return stagerun.run("run", "--datastore", f"cats={to}", "--", *command, **how)


def test_a_forced_link_leads_into_the_cache_which_is_in_use_as_long_as_the_command(stagerun, cats, dest, cache):
    stagerun.configure(cache={"deliver": "symlink"})
    running = stagerun.start("run", "--datastore", f"cats={dest}", "--", "sh", "-c", "echo ready; exec sleep 60")
    wait_until(lambda: "ready" in running.out(), what="the command")
    (entry,) = entries(cache)
    assert os.readlink(dest) == str(entry / "tree") and in_use(entry)
    running.signal(signal.SIGKILL)
    running.wait()
    wait_until(lambda: not in_use(entry), what="the end of the use")
    result = attach(stagerun, dest, "cat", dest / "train/7").ok()
    assert "already there" in result.err and result.out.encode("utf-8", "surrogateescape")[:9] == noise(5000, seed=7)[:9]


def test_a_supervised_command_does_not_see_the_lock(stagerun, cats, dest, cache):
    stagerun.configure(cache={"deliver": "symlink"}, process={"supervise": "always"})
    out = attach(stagerun, dest, "sh", "-c", "ls /proc/$$/fd | tr '\\n' ' '").ok().out
    assert max(int(fd) for fd in out.split()) < 900
    stagerun.configure(process={"supervise": "never"})
    out = attach(stagerun, dest, "sh", "-c", "ls /proc/$$/fd | tr '\\n' ' '").ok().out
    assert sum(int(fd) >= 900 for fd in out.split()) == 1


@pytest.mark.parametrize("way", ["symlink", "hardlink", "copy"])
def test_each_way_gives_the_same_tree(stagerun, cats, dest, cache, way):
    stagerun.configure(cache={"deliver": way})
    attach(stagerun, dest, "true").ok()
    assert sorted(os.listdir(dest / "train")) == sorted(os.listdir(cats / "train"))
    for i in range(20):
        assert (dest / f"train/{i}").read_bytes() == noise(5000, seed=i)
        assert (dest / f"train/{i}").stat().st_mode & 0o777 == 0o444
    same = (dest / "train/1").stat().st_ino == (entries(cache)[0] / "tree/train/1").stat().st_ino
    assert same == (way != "copy")


def test_reflink_where_there_is_none_says_so(stagerun, server, dest, cache):
    stagerun.configure(cache={"deliver": "reflink"})
    result = stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest)
    if result.code == 0:
        pytest.skip("this file system has them")
    result.failed(1, "cache.deliver = reflink cannot be done")
    assert not dest.exists()


@pytest.mark.parametrize("way", ["symlink", "hardlink", "bind"])
def test_what_is_to_be_written_to_shares_nothing(stagerun, server, dest, cache, way):
    stagerun.configure(cache={"deliver": way})
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).failed(1, f"cache.deliver = {way}.*written to")
    assert not dest.exists()


def test_a_forced_bind_mounts_it_read_only(stagerun, cats, dest, cache, root):
    stagerun.configure(cache={"deliver": "bind"})
    script = f"touch {dest}/new 2>&1; ls {dest}/train | wc -l"
    for _ in range(2):
        out = attach(stagerun, dest, "sh", "-c", script, wrap=("unshare", "-m")).ok().out
        assert "Read-only file system" in out and "\n20\n" in out
    assert os.listdir(dest) == []


def test_the_first_process_of_a_container_binds_by_itself(stagerun, cats, dest, cache, pid_1):
    out = attach(stagerun, dest, "sh", "-c", f"grep -c ' {dest} ro' /proc/self/mountinfo",
                 wrap=("unshare", "-m", "-p", "--fork", "--mount-proc", "--kill-child")).ok().out
    assert out == "1\n"


def test_a_link_whose_entry_is_gone_is_staged_again(stagerun, cats, dest, cache):
    stagerun.configure(cache={"deliver": "symlink"})
    attach(stagerun, dest, "true").ok()
    shutil.rmtree(cache)
    attach(stagerun, dest, "test", "-f", dest / "train/7").ok()
    stagerun.configure(cache={"dir": ""})
    shutil.rmtree(cache)
    attach(stagerun, dest, "test", "-f", dest / "train/7").ok()
    assert not dest.is_symlink()


def test_a_start_with_nothing_to_fetch_does_not_load_what_fetches(stagerun, cats, dest, cache):
    stagerun.configure(cache={"deliver": "symlink"})
    argv = ("run", "--datastore", f"cats:1={dest}", "--", "true")
    stagerun.run(*argv).ok()
    assert "libcurl" not in stagerun.run(*argv, env={"LD_DEBUG": "libs"}).ok().err


# Damage.

def test_a_damaged_entry_is_fetched_again_with_a_warning(stagerun, server, place, cache, expected):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    for harm in (lambda p: p.unlink(), lambda p: os.truncate(p, 10)):
        harm(damage(entries(cache)[0] / "tree/d/a"))
        before = served.body_bytes
        to = place.parent / f"again-{before}"
        assert "is damaged" in stagerun.fetch(served.url, to).ok().err
        assert served.body_bytes - before >= len(ARCHIVE)
        assert_same(expected, to)


def test_a_link_to_a_damaged_entry_is_mended(stagerun, cats, dest, cache):
    stagerun.configure(cache={"deliver": "symlink"})
    attach(stagerun, dest, "true").ok()
    damage(dest.resolve() / "train/7").unlink()
    result = attach(stagerun, dest, "test", "-f", dest / "train/7").ok()
    assert dest.is_symlink()
    assert "damaged" in result.err


def test_a_cache_of_another_user_is_not_used(stagerun, server, dest, cache):
    cache.mkdir()
    cache.chmod(0o777)
    result = stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    assert "without the node cache" in result.err and "others may write" in result.err
    assert os.listdir(cache) == []
    cache.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(cache, 65534, 65534)
        assert "belongs to user 65534" in stagerun.fetch(server.put("/y.tar", ARCHIVE).url, f"{dest}2").ok().err


# Many at once.

def start_many(stagerun, served, place, n):
    return [stagerun.start("fetch", served.url, place.parent / f"many-{i}") for i in range(n)]


def test_many_at_once_fetch_it_once(stagerun, server, place, cache):
    served = server.put("/x.tar", tar(file("a", noise(3_000_000))))
    started = start_many(stagerun, served, place, 16)
    results = [r.wait(60).ok() for r in started]
    assert served.body_bytes <= len(served.body) + 16
    assert sum("from the node cache" in r.err for r in results) == 15
    for i in range(16):
        assert (place.parent / f"many-{i}/a").read_bytes() == noise(3_000_000)


def test_who_waits_sees_how_far_it_is(stagerun, server, place, cache, slowness):
    # Without ranges there is one connection, and so a time that is known.
    served = server.put("/x.tar", tar(file("a", noise(3_000_000))), rate(600_000 // min(slowness, 2)), ranges=False)
    first = stagerun.start("fetch", served.url, place.parent / "one")
    wait_until(lambda: served.body_bytes > 100_000, what="the download")
    time.sleep(0.3)
    second = stagerun.start("fetch", served.url, place.parent / "two")
    first.wait().ok()
    assert re.search(r"waiting for process \d+ on .*, which stages .* of 3.0\d MB", second.wait().ok().err)


def test_whoever_is_killed_the_others_take_over(stagerun, server, place, cache):
    served = server.put("/x.tar", tar(file("a", noise(2_000_000))), rate(2_000_000))
    started = start_many(stagerun, served, place, 12)
    chance = random.Random(7)
    victims = chance.sample(range(12), 4)
    for i in victims:
        time.sleep(chance.random() * 0.5)
        started[i].signal(signal.SIGKILL)
    for i, running in enumerate(started):
        result = running.wait(60)
        if i not in victims:
            result.ok()
            assert (place.parent / f"many-{i}/a").read_bytes() == noise(2_000_000)
    (entry,) = entries(cache)
    assert (entry / "tree/a").stat().st_size == 2_000_000
    assert sorted(os.listdir(entry)) == [".stagerun", "inventory", "tree", "use"]


def test_sigterm_ends_who_waits(stagerun, server, place, cache):
    served = server.put("/x.tar", tar(file("a", noise(3_000_000))), rate(300_000))
    first = stagerun.start("fetch", served.url, place.parent / "one")
    wait_until(lambda: served.body_bytes > 100_000, what="the download")
    second = stagerun.start("fetch", served.url, place.parent / "two")
    wait_until(lambda: "waiting for" in second.err(), what="the second")
    watch = Stopwatch()
    second.signal(signal.SIGTERM)
    second.wait().failed(143)
    assert watch.read() < SOON
    first.stop()


# Room.

def disk_usage(path):
    return sum(os.lstat(os.path.join(d, n)).st_blocks * 512 for d, _, names in os.walk(path) for n in names)


def test_it_never_becomes_larger_than_it_may_and_keeps_what_is_in_use(stagerun, server, store, place, cache, cats):
    stagerun.configure(cache={"deliver": "symlink"})
    running = stagerun.start("run", "--datastore", f"cats={place.parent}/cats", "--", "sh", "-c",
                             "echo ready; exec sleep 60")
    wait_until(lambda: "ready" in running.out(), what="the command")
    (used,) = entries(cache)
    stagerun.configure(cache={"deliver": "copy", "max_size": "5M"})
    for i in range(8):
        served = server.put(f"/{i}.tar", tar(file("a", noise(1_000_000, seed=i))))
        stagerun.fetch(served.url, place.parent / f"{i}").ok()
        assert disk_usage(cache) <= 5 * 1024 * 1024
        assert used in entries(cache)
    assert 3 <= len(entries(cache)) <= 5
    running.stop()
    before = len(server.requests("/7.tar"))
    stagerun.fetch(server.url("/7.tar"), place.parent / "last").ok()
    assert [r.status for r in server.requests("/7.tar")[before:]] == [304]


def test_what_does_not_fit_is_staged_without_it(stagerun, server, dest, cache):
    stagerun.configure(cache={"max_size": "1M"})
    result = stagerun.fetch(server.put("/x.tar", tar(file("a", noise(2_000_000)))).url, dest).ok()
    assert "without the node cache" in result.err and (dest / "a").stat().st_size == 2_000_000
    assert not any((e / "tree").exists() for e in entries(cache))


def test_the_filesystem_keeps_what_must_stay_free(stagerun, server, dest, cache):
    stagerun.configure(cache={"min_free": "1000T"})
    result = stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    assert "without the node cache" in result.err and snapshot(dest)


def test_a_header_may_not_be_needed_for_what_is_there(stagerun, server, place, cache):
    """A server that answers the question for the version with a failure fails the stage, with or without cache."""
    served = server.put("/x.tar", ARCHIVE, header("X-A", "b"))
    stagerun.fetch(served.url, place.parent / "one").ok()
    server.objects.pop("/x.tar")
    stagerun.fetch(served.url, place.parent / "two").failed(1, "404")


# The command.

def test_list_tells_what_is_there(stagerun, server, dest, cache):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    (listed,) = json.loads(stagerun.run("cache", "list", "--json").ok().out)
    assert (listed["source"], listed["entries"], listed["complete"], listed["in_use"]) == (served.url, 7, True, False)
    assert listed["key"] in stagerun.run("cache", "list").ok().out


def test_evict_and_clear_remove_but_not_what_is_in_use(stagerun, server, cats, place, cache):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, place.parent / "x").ok()
    (other,) = entries(cache)
    stagerun.configure(cache={"deliver": "symlink"})
    running = stagerun.start("run", "--datastore", f"cats={place.parent}/cats", "--", "sh", "-c",
                             "echo ready; exec sleep 60")
    wait_until(lambda: "ready" in running.out(), what="the command")
    (used,) = set(entries(cache)) - {other}
    stagerun.run("cache", "evict", used.name).failed(1, "in use")
    stagerun.run("cache", "evict", "--to", "1T").ok()
    assert len(entries(cache)) == 2
    assert json.loads(stagerun.run("cache", "clear", "--json").ok().out)["evicted"] == 1
    assert entries(cache) == [used]
    running.stop()
    stagerun.run("cache", "evict", "--to", "0").ok()
    assert os.listdir(cache / "v1") == ["room"]


def test_verify_shows_its_progress(stagerun, server, tmp_path, place, cache):
    """A gigabyte of zeros takes a moment to digest, and as a hole none to stage."""
    with open(tmp_path / "zeros", "wb") as f:
        f.truncate(1_000_000_000)
    subprocess.run(["tar", "-cSf", tmp_path / "x.tar", "-C", tmp_path, "zeros"], check=True)
    stagerun.fetch(server.put("/x.tar", (tmp_path / "x.tar").read_bytes()).url, place.parent / "one").ok()
    lines = stagerun.run("cache", "verify", "--deep").ok().err.splitlines()
    assert re.search(rf"verify {cache}: started, 1.00 GB$", lines[0]), lines
    assert stagerun.run("cache", "verify", "--deep", "--quiet").ok().err == ""


def test_verify_finds_what_is_damaged_and_removes_it(stagerun, server, place, cache):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    stagerun.run("cache", "verify", "--deep").ok()
    path = damage(entries(cache)[0] / "tree/d/a")
    times = path.stat()
    with open(path, "r+b") as content:
        content.seek(300_000)
        content.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stagerun.run("cache", "verify").ok().out == "1 verified, 0 damaged\n"
    stagerun.run("cache", "verify", "--deep").failed(1, "content of 'd/a' has changed", "removed")
    assert entries(cache) == []


def everything(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*"))


@pytest.mark.parametrize("name", ["{victim}", "../../victim", "../victim", "room", ".", "..", "", "{key}/tree", "{key}/",
                                  "mine", "{link}", "{file}", "{bare}", "0" * 32 + "-" + "0" * 32])
def test_evict_refuses_every_name_that_is_no_entry(stagerun, server, dest, cache, tmp_path, name):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    (entry,) = entries(cache)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "cat.jpg").write_bytes(b"miaow")
    (cache / "v1/mine").mkdir()
    link, plain, bare = ("-".join([letter * 32, "c" * 32]) for letter in "1fb")
    (cache / "v1" / link).symlink_to(victim)
    (cache / "v1" / plain).write_bytes(b"x")
    (cache / "v1" / bare).mkdir()
    (cache / "v1" / bare / "notes").write_bytes(b"x")
    before = everything(tmp_path / "cache"), everything(victim)
    words = name.format(victim=victim, key=entry.name, link=link, file=plain, bare=bare)
    result = stagerun.run("cache", "evict", "--", words).failed(1, "no entry|not an entry")
    assert result.out == "evicted 0, 0 B\n"
    assert (everything(tmp_path / "cache"), everything(victim)) == before
    stagerun.run("cache", "clear").ok()
    assert (victim / "cat.jpg").exists() and (cache / "v1" / bare / "notes").exists()


def test_an_entry_that_holds_what_the_agent_did_not_put_there_stays(stagerun, server, dest, cache):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    (entry,) = entries(cache)
    (entry / "thesis.tex").write_bytes(b"x")
    stagerun.run("cache", "evict", entry.name).failed(1, "'thesis.tex', which the agent did not put there")
    assert "thesis.tex" in stagerun.run("cache", "clear").ok().err
    assert (entry / "thesis.tex").exists()


def test_evict_tells_what_it_removed_and_a_wrong_key_does_not_keep_the_others(stagerun, server, dest, cache):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    (entry,) = entries(cache)
    result = stagerun.run("cache", "evict", "--json", "nothing", entry.name).failed(1, "no entry 'nothing'")
    told = json.loads(result.out)
    assert told["evicted"] == 1 and told["bytes"] >= 600_000
    assert entries(cache) == []


@pytest.mark.parametrize("words", [["list"], ["verify"], ["verify", "--deep"], ["list", "--json"]])
def test_an_entry_that_is_not_there_is_an_error(stagerun, server, dest, cache, words):
    stagerun.fetch(server.put("/x.tar", ARCHIVE).url, dest).ok()
    stagerun.run("cache", *words, entries(cache)[0].name).ok()
    stagerun.run("cache", *words, "f" * 32 + "-" + "f" * 32).failed(1, "no entry 'ffff")
    stagerun.run("cache", *words, entries(cache)[0].name, "x").failed(1, "no entry 'x'")


@pytest.mark.parametrize("words", [["list"], ["verify"], ["evict"], ["evict", "x"], ["clear"]])
def test_a_misspelt_cache_is_an_error_and_is_not_made(stagerun, tmp_path, words):
    missing = tmp_path / "scartch/cache"
    stagerun.run("cache", words[0], "--dir", missing, *words[1:]).failed(1, "there is no node cache")
    assert not missing.parent.exists()
    missing.mkdir(parents=True)
    stagerun.run("cache", words[0], "--dir", missing, *words[1:])
    assert os.listdir(missing) == []


@pytest.mark.parametrize("where", [".", "d", "empty"])
def test_a_use_finds_what_was_added_to_a_small_entry(stagerun, server, place, cache, expected, where):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    directory = entries(cache)[0] / "tree" / where
    directory.chmod(0o755)
    (directory / "added").write_bytes(b"x")
    result = stagerun.fetch(served.url, place.parent / "two").ok()
    assert "damaged" in result.err and "added" in result.err
    assert_same(expected, place.parent / "two")


def test_targets_of_links_that_look_like_records_are_no_damage(stagerun, server, place, cache):
    links = [symlink(f"l{i}", "f 644 1 0.000000000 nofile") for i in range(400)]
    served = server.put("/x.tar", tar(*links))
    stagerun.fetch(served.url, place.parent / "one").ok()
    for name in ("two", "three"):
        assert "damaged" not in stagerun.fetch(served.url, place.parent / name).ok().err
    stagerun.run("cache", "verify").ok()


def test_an_entry_that_cannot_be_read_is_neither_used_nor_removed(stagerun, server, place, cache, expected):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, place.parent / "one").ok()
    (entry,) = entries(cache)
    (entry / "inventory").unlink()
    os.mkfifo(entry / "inventory")
    result = stagerun.fetch(served.url, place.parent / "two").ok()
    assert "without the node cache" in result.err and "damaged" not in result.err
    assert_same(expected, place.parent / "two")
    stagerun.run("cache", "verify").failed(1, "could not be verified: .*it stays")
    stagerun.run("cache", "list").failed(1, "cannot look at")
    stagerun.run("cache", "evict", entry.name).failed(1, "it stays")
    stagerun.run("cache", "clear")
    assert (entry / "tree/d/a").exists()


@pytest.mark.parametrize("words, code, says", [
    (["list"], 1, "there is no node cache"),
    (["drop"], 2, "unknown subcommand"),
    (["lst"], 2, "did you mean list"),
    ([], 2, "no subcommand"),
    (["clear", "x"], 2, "usage"),
    (["evict", "--to", "much"], 2, "--to"),
])
def test_what_is_wrong_with_the_command_is_said(stagerun, words, code, says):
    stagerun.run("cache", *words).failed(code, says)
