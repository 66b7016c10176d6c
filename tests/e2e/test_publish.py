# SPDX-License-Identifier: MIT
"""The one moment after which a staged directory exists, and what may be there before."""

import os
import shutil
import time
from pathlib import Path

import pytest
from agent import wait_until
from archives import directory, file, noise, tar, zip_entry, zip_of
from faultserver import rate
from trees import snapshot, unpublished_trees

ONE = tar(file("a", b"one\n"), file("d/b", b"one\n"))
TWO = tar(file("a", b"two\n"), file("c", b"two\n"))


def names(root):
    return sorted(os.fsdecode(n) for n in snapshot(root, without=(".stagerun",)))


def test_an_absent_destination_appears_with_its_missing_parents(stagerun, server, place):
    to = place.parent / "new/er/dest"
    stagerun.fetch(server.put("/x", ONE).url, to).ok()
    assert names(to) == ["a", "d", "d/b"]


def test_nothing_of_the_agent_is_inside_what_it_published(stagerun, server, dest):
    stagerun.fetch(server.put("/x", ONE).url, dest).ok()
    assert sorted(os.listdir(dest)) == ["a", "d"]


def test_nothing_is_left_beside_it_but_the_state(stagerun, server, place):
    stagerun.fetch(server.put("/x", ONE).url, place.dest).ok()
    place.assert_neighbours_untouched()
    assert unpublished_trees(place.parent) == []


def test_nothing_is_visible_before_all_is_there(stagerun, server, place):
    served = server.put("/x", tar(*(file(f"{i}", noise(20_000, i)) for i in range(20))),
                        rate(500_000))
    running = stagerun.start("fetch", served.url, place.dest)
    seen = set()
    while not running.finished():
        seen.add(len(os.listdir(place.dest)) if place.dest.exists() else None)
        time.sleep(0.002)
    running.wait().ok()
    assert seen <= {None, 20} and None in seen


def test_an_empty_directory_is_filled_in_place(stagerun, server, dest):
    dest.mkdir()
    stagerun.fetch(server.put("/x", ONE).url, dest).ok()
    assert sorted(os.listdir(dest)) == ["a", "d"]


def test_a_directory_that_is_not_ours_receives_the_entries(stagerun, server, dest):
    dest.mkdir()
    (dest / "mine").write_text("mine\n")
    stagerun.fetch(server.put("/x", ONE).url, dest).ok()
    assert names(dest) == ["a", "d", "d/b", "mine"]
    assert (dest / "mine").read_text() == "mine\n"


def test_a_name_that_exists_is_never_overwritten(stagerun, server, place):
    place.dest.mkdir()
    (place.dest / "d").mkdir()
    (place.dest / "d/mine").write_text("mine\n")
    stagerun.fetch(server.put("/x", ONE).url, place.dest).failed(1, "/d\\b", "--replace")
    assert names(place.dest) == ["d", "d/mine"]
    assert unpublished_trees(place.parent) == []


def test_replace_replaces_the_names_that_exist_and_no_others(stagerun, server, dest):
    dest.mkdir()
    (dest / "d").mkdir()
    (dest / "d/old").write_text("old\n")
    (dest / "mine").write_text("mine\n")
    stagerun.fetch(server.put("/x", ONE).url, dest, "--replace").ok()
    assert names(dest) == ["a", "d", "d/b", "mine"]


def test_another_source_in_the_place_of_the_first_is_an_error(stagerun, server, place):
    stagerun.fetch(server.put("/one", ONE).url, place.dest).ok()
    stagerun.fetch(server.put("/two", TWO).url, place.dest).failed(1, "/one", "--replace")
    assert names(place.dest) == ["a", "d", "d/b"]
    assert unpublished_trees(place.parent) == []


def test_replace_exchanges_the_whole_directory(stagerun, server, place):
    stagerun.fetch(server.put("/one", ONE).url, place.dest).ok()
    stagerun.fetch(server.put("/two", TWO).url, place.dest, "--replace").ok()
    assert names(place.dest) == ["a", "c"]
    assert (place.dest / "a").read_text() == "two\n"
    assert unpublished_trees(place.parent) == []
    place.assert_neighbours_untouched()


def test_a_failed_replacement_leaves_the_old_one(stagerun, server, place):
    stagerun.fetch(server.put("/one", ONE).url, place.dest).ok()
    stagerun.fetch(server.put("/two", TWO[:700]).url, place.dest, "--replace").failed(1, "/two")
    assert (place.dest / "a").read_text() == "one\n"
    assert unpublished_trees(place.parent) == []


def test_other_options_are_another_thing_to_stage(stagerun, server, dest):
    url = server.put("/x", ONE).url
    stagerun.fetch(url, dest).ok()
    stagerun.fetch(url, dest, "--include", "a").failed(1, "--replace")
    stagerun.fetch(url, dest, "--include", "a", "--replace").ok()
    assert names(dest) == ["a"]


def test_a_symlinked_destination_is_where_it_points(stagerun, server, place):
    target = place.parent / "outside" / "real"
    target.mkdir()
    place.dest.symlink_to(target)
    stagerun.fetch(server.put("/x", ONE).url, place.dest).ok()
    assert place.dest.is_symlink()
    assert names(target) == ["a", "d", "d/b"]


def test_the_archives_own_root_gives_mode_and_time(stagerun, server, dest):
    archive = tar(directory(".", mode=0o700, mtime=1_500_000_000), file("./a"))
    stagerun.fetch(server.put("/x", archive).url, dest).ok()
    assert dest.stat().st_mode & 0o7777 == 0o700
    assert dest.stat().st_mtime == 1_500_000_000


def test_a_destination_that_cannot_be_is_refused_before_any_request(stagerun, server, place):
    """Its parent is a file."""
    served = server.put("/x", ONE)
    stagerun.fetch(served.url, place.parent / "victim/dest").failed(1, "victim")
    assert served.requests == []
    place.assert_neighbours_untouched()


def test_a_destination_that_is_a_file_is_refused_before_any_request(stagerun, server, place):
    served = server.put("/x", ONE)
    stagerun.fetch(served.url, place.parent / "victim").failed(1, "victim")
    assert served.requests == []
    place.assert_neighbours_untouched()


def test_two_agents_with_one_destination_both_succeed_and_one_downloads(stagerun, server, dest):
    archive = tar(file("a", noise(600_000)))
    served = server.put("/x", archive, rate(600_000))
    both = [stagerun.start("fetch", served.url, dest) for _ in range(2)]
    for running in both:
        running.wait().ok()
    assert (dest / "a").read_bytes() == noise(600_000)
    assert served.body_bytes < 1.1 * len(archive)


def test_several_sources_can_fill_one_destination(stagerun, server, dest):
    one, two = server.put("/1", tar(file("x/1"))), server.put("/2", tar(file("x/2"), file("y/2")))
    stagerun.run("prewarm", "--stage", f"{one.url}={dest}", "--stage", f"{two.url}={dest}").ok()
    assert names(dest) == ["x", "x/1", "x/2", "y", "y/2"]


# --- file systems of a test's own ---

def in_tmpfs(mounts):
    """To put before a command: mounts is [(directory, options)], seen by the command alone. After the
    command, what there is beneath each directory is printed to stdout."""
    script = "".join(f"mount -t tmpfs -o {options} tmpfs '{where}' || exit 99\n"
                     for where, options in mounts)
    script += '"$@"\ncode=$?\n'
    script += "".join(f"find '{where}' -mindepth 1 | sort\n" for where, _ in mounts)
    return ["unshare", "-m", "sh", "-c", script + "exit $code", "sh"]


@pytest.mark.usefixtures("root")
class TestMounted:
    def test_a_mount_point_receives_the_entries(self, stagerun, server, dest):
        dest.mkdir()
        result = stagerun.fetch(server.put("/x", ONE).url, dest,
                                wrap=in_tmpfs([(dest, "size=20m")])).ok()
        found = [line.removeprefix(f"{dest}/") for line in result.out.splitlines()]
        assert [f for f in found if not f.startswith(".stagerun")] == ["a", "d", "d/b"]
        assert not any("tree." in f for f in found)

    def test_a_read_only_parent_is_refused_before_any_request(self, stagerun, server, place):
        served = server.put("/x", ONE)
        parent = place.parent / "outside"
        result = stagerun.fetch(served.url, parent / "dest",
                                wrap=in_tmpfs([(parent, "ro,size=1m")]))
        result.failed(1, str(parent), "read-only|mount")
        assert served.requests == []

    def test_a_full_disk_says_what_is_free_and_leaves_nothing(self, stagerun, server, place):
        parent = place.parent / "outside"
        archive = tar(*(file(f"{i}", noise(1_000_000, i)) for i in range(30)))
        result = stagerun.fetch(server.put("/x", archive).url, parent / "dest",
                                wrap=in_tmpfs([(parent, "size=20m")]))
        result.failed(1, "space", r"\d[\d.]* [kM]?B\b")
        assert "tree." not in result.out and "/dest" not in result.out

    def test_a_disk_without_inodes_says_so(self, stagerun, server, place):
        parent = place.parent / "outside"
        archive = tar(*(file(f"d/{i}", b"") for i in range(1500)))
        result = stagerun.fetch(server.put("/x", archive).url, parent / "dest",
                                wrap=in_tmpfs([(parent, "size=20m,nr_inodes=1000")]))
        result.failed(1, "inode")
        assert "tree." not in result.out and "/dest" not in result.out

    def test_a_zip_too_large_for_the_disk_is_refused_before_it_is_unpacked(
            self, stagerun, server, place):
        parent = place.parent / "outside"
        served = server.put("/x.zip", zip_of(*(zip_entry(f"{i}", bytes(3_000_000))
                                               for i in range(10)),
                                             zip_entry("n", noise(4_000_000), method=0)))
        stagerun.fetch(served.url, parent / "dest",
                       wrap=in_tmpfs([(parent, "size=20m")])).failed(1, "space", "34|needs?|room")


def test_a_parent_that_may_not_be_written_is_refused_before_any_request(stagerun, server, place):
    served = server.put("/x", ONE)
    place.parent.chmod(0o555)
    # What lets root write everywhere.
    weak = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] \
        if os.geteuid() == 0 else []
    stagerun.fetch(served.url, place.dest, wrap=weak).failed(
        1, str(place.parent), "not writable")
    assert served.requests == []
    assert not place.dest.exists()


@pytest.mark.usefixtures("root")
def test_owners_are_kept_when_asked(stagerun, server, dest):
    archive = tar(file("a", uid=1234, gid=2345))
    url = server.put("/x", archive).url
    stagerun.fetch(url, dest).ok()
    assert (dest / "a").stat().st_uid == os.geteuid()
    stagerun.configure(stage={"same_owner": "yes"})
    stagerun.fetch(url, f"{dest}-same").ok()
    kept = os.stat(f"{dest}-same/a")
    assert (kept.st_uid, kept.st_gid) == (1234, 2345)


@pytest.mark.usefixtures("root")
def test_an_owner_can_be_set(stagerun, server, dest):
    stagerun.configure(stage={"owner": "1234:2345"})
    stagerun.fetch(server.put("/x", ONE).url, dest).ok()
    assert {(os.stat(dest / n).st_uid, os.stat(dest / n).st_gid) for n in ("a", "d", "d/b")} == \
        {(1234, 2345)}


def test_a_destination_waits_for_the_agent_that_fills_it(stagerun, server, dest):
    served = server.put("/x", tar(file("a", noise(500_000))), rate(500_000))
    holder = stagerun.start("fetch", served.url, dest)
    wait_until(lambda: served.requests, what="a first request")
    second = stagerun.run("fetch", served.url, dest).ok()
    assert "waiting" in second.err and str(dest) in second.err
    holder.wait().ok()


def test_leftovers_of_a_dead_agent_are_removed(stagerun, server, place):
    """Its lock is free, whatever is written in it."""
    served = server.put("/x", tar(file("a", noise(500_000))), rate(200_000))
    holder = stagerun.start("fetch", served.url, place.dest)
    wait_until(lambda: unpublished_trees(place.parent), what="an unfinished tree")
    holder.stop()
    assert unpublished_trees(place.parent)
    served.faults.clear()
    stagerun.fetch(served.url, place.dest).ok()
    assert unpublished_trees(place.parent) == []
    assert (place.dest / "a").read_bytes() == noise(500_000)


def test_without_a_current_directory_a_relative_destination_is_an_error(stagerun, server, tmp_path):
    """And never a directory of that name in the root."""
    served = server.put("/x.tar", tar(file("a", b"a")))
    gone = tmp_path / "gone"
    gone.mkdir()
    name = f"stagerun-e2e-{os.getpid()}"
    try:
        result = stagerun.fetch(served.url, name, cwd=gone, wrap=["sh", "-c", 'rmdir "$PWD" && exec "$0" "$@"'])
        result.failed(1, "the current directory is not known")
        assert not Path(f"/{name}").exists()
    finally:
        shutil.rmtree(f"/{name}", ignore_errors=True)
