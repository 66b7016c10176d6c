# SPDX-License-Identifier: MIT
"""Archives that mean harm: each is refused with the name of the entry, and nothing is published,
neither in the destination nor anywhere else."""

import copy
import os
import random
import struct
import tarfile

import pytest
from archives import (COMPRESS, END, cpio_newc, directory, file, hardlink, noise, pax_records,
                      raw_file, special, symlink, tar, ustar_header, zip_entry, zip_of, zip_patched,
                      zip_symlink)
from trees import snapshot, unpublished_trees

GOOD = file("good.txt")

# {case: (members after a harmless first one, what the message names)}; {area}: the directory in which
# the destination and its neighbours are.
REFUSED = {
    "absolute name": ([file("{area}/pwned")], "pwned"),
    "absolute name with two slashes": ([file("/{area}/pwned")], "pwned"),
    "name that climbs out": ([file("../pwned")], r"\.\./pwned"),
    "name that climbs out in its middle": ([file("tmp/../../pwned")], r"tmp/\.\./\.\./pwned"),
    "name that climbs out deeply": ([file("../" * 8 + "{area}/pwned")], "pwned"),
    "name of a sibling with our prefix": ([file("../dest-evil/x")], r"\.\./dest-evil/x"),
    "name that is ..": ([directory("..")], r"\.\."),
    "name that ends in ..": ([directory("d"), directory("d/..")], r"d/\.\."),
    "name with .. that stays inside": ([directory("d"), file("d/../pwned")], r"d/\.\./pwned"),
    "symlink to an absolute target": ([symlink("link", "{area}")], "link"),
    "symlink that climbs out": ([symlink("link", "../outside")], "link"),
    "symlink that climbs out from below": ([directory("d"), symlink("d/link", "../../outside")],
                                           "d/link"),
    "file through a symlink out": ([symlink("link", "{area}"), file("link/pwned")], "link"),
    "file through a symlink to ..": ([symlink("link", ".."), file("link/pwned")], "link"),
    "file through a symlink inside": ([directory("d"), symlink("link", "d"), file("link/pwned")],
                                      "link/pwned"),
    "file through a chain of symlinks": (
        [directory("d"), symlink("a", "d"), symlink("b", "a"), file("b/pwned")], "b/pwned"),
    "symlinks that lead out together": (
        [directory("d"), symlink("a", "d"), symlink("b", "a/../../outside")], r"\bb\b"),
    "symlinks that lead out together, one level at a time": (
        [symlink("a", "."), symlink("b", "a/..")], r"\bb\b"),
    "symlink made a way out by a later one": (
        [directory("d"), symlink("b", "x/../.."), symlink("x", "d")], r"\bb\b"),
    "symlink replaced by a directory": (
        [directory("d"), symlink("sym", "d"), directory("sym"), file("sym/x")], "sym"),
    "directory replaced by a symlink": (
        [directory("sym"), file("sym/x"), symlink("sym", "good.txt")], "sym"),
    "file replaced by a directory": ([file("x"), directory("x")], r"\bx\b"),
    "file used as a directory": ([file("x"), file("x/y")], "x/y"),
    "directory replaced by a file": ([directory("x"), file("x")], r"\bx\b"),
    "hard link to an absolute target": ([hardlink("link", "{area}/victim")], "link"),
    "hard link that climbs out": ([hardlink("link", "../victim")], "link"),
    "hard link out with data to write": ([hardlink("link", "../victim", b"pwned\n")], "link"),
    "hard link to what is not there": ([hardlink("link", "missing")], "link"),
    "hard link to a symlink, moved to where it leads out": (
        [directory("d"), directory("d/e"), symlink("d/e/l", "../../good.txt"),
         hardlink("link", "d/e/l")], "link"),
    "hard link through a symlink": (
        [directory("d"), file("d/x"), symlink("s", "d"), hardlink("link", "s/x")], "link"),
    "FIFO": ([special("pipe", tarfile.FIFOTYPE)], "pipe"),
    "character device": ([special("null", tarfile.CHRTYPE)], "null"),
    "block device": ([special("disk", tarfile.BLKTYPE)], "disk"),
    "component of 256 bytes": ([file("x" * 256)], "xxxx"),
    "name of more than 4096 bytes": ([file("/".join(["d" * 200] * 25))], "dddd"),
    "our own state directory": ([file(".stagerun/journal.json")], r"\.stagerun"),
}


def build(case, area):
    """The case's archive. The table is shared by all tests of this process: work on copies."""
    members = [GOOD]
    for member, data in REFUSED[case][0]:
        member = copy.copy(member)
        member.name = member.name.format(area=area)
        member.linkname = member.linkname.format(area=area)
        members.append((member, data))
    return tar(*members)


@pytest.mark.parametrize("case", REFUSED)
def test_the_entry_is_refused_and_named(stagerun, server, place, case):
    served = server.put("/bad.tar", build(case, place.parent))
    stagerun.fetch(served.url, place.dest).failed(1, r"bad\.tar", REFUSED[case][1])
    place.assert_nothing_published()


@pytest.mark.parametrize("case", ["absolute name", "name that climbs out",
                                  "symlink that climbs out", "file through a symlink inside"])
def test_nothing_lands_beside_a_destination_that_already_holds_files(stagerun, server, place, case):
    place.dest.mkdir()
    (place.dest / "mine").write_text("mine\n")
    served = server.put("/bad.tar", build(case, place.parent))
    stagerun.fetch(served.url, place.dest).failed(1, REFUSED[case][1])
    assert sorted(snapshot(place.dest, without=(".stagerun",))) == [b"mine"]
    assert unpublished_trees(place.parent) == []
    place.assert_neighbours_untouched()


ZIPS = {
    "absolute name": (lambda: zip_of(zip_entry("/tmp/pwned-by-zip")), "pwned-by-zip"),
    "name that climbs out": (lambda: zip_of(zip_entry("../pwned")), r"\.\./pwned"),
    "sibling with our prefix": (lambda: zip_of(zip_entry("../dest-evil/x")), "dest-evil/x"),
    "symlink that climbs out": (lambda: zip_of(zip_symlink("link", "../outside")), "link"),
    "file through a symlink": (
        lambda: zip_of(zip_entry("d/"), zip_symlink("link", "d"), zip_entry("link/x")), "link"),
    "FIFO": (lambda: zip_of(zip_entry("pipe", b"", 0o010644)), "pipe"),
    "encrypted entry": (lambda: zip_patched(zip_of(zip_entry("secret")), {8: b"\1\0"},
                                            {6: b"\1\0"}), "secret"),
    "unknown method": (lambda: zip_patched(zip_of(zip_entry("odd")), {10: b"\x63\0"},
                                           {8: b"\x63\0"}), "odd"),
    "local header of another name": (
        lambda: zip_patched(zip_of(zip_entry("aaaa")), local={30: b"evil"}), "aaaa|evil"),
    "local header of another method": (
        lambda: zip_patched(zip_of(zip_entry("aaaa", method=0)), local={8: b"\x08\0"}), "aaaa"),
    "size that is not the content's": (
        lambda: zip_patched(zip_of(zip_entry("aaaa", noise(99), method=0)), {24: b"\x10\0\0\0"},
                            {22: b"\x10\0\0\0"}), "aaaa"),
    "content longer than its size": (
        lambda: zip_patched(zip_of(zip_entry("aaaa", b"x" * 9999)), {24: b"\x10\0\0\0"},
                            {22: b"\x10\0\0\0"}), "aaaa"),
    "offset beyond the archive": (
        lambda: zip_patched(zip_of(zip_entry("aaaa")), {42: b"\0\0\0\x10"}), "aaaa"),
    "entries that overlap": (lambda: overlapping(), "b|overlap"),
}


def overlapping():
    """Two names for the same bytes, as in bombs that are far larger than the file they are in."""
    archive = zip_of(zip_entry("a", noise(5000)), zip_entry("b", noise(5000)))
    second = archive.rindex(b"PK\1\2")
    return archive[:second + 42] + struct.pack("<I", 0) + archive[second + 46:]


@pytest.mark.parametrize("case", ZIPS)
def test_a_bad_zip_is_refused(stagerun, server, place, case):
    make, names = ZIPS[case]
    served = server.put("/bad.zip", make())
    stagerun.fetch(served.url, place.dest).failed(1, r"bad\.zip", names)
    place.assert_nothing_published()
    assert not os.path.exists("/tmp/pwned-by-zip")


def test_a_zip_behind_something_else_is_never_half_unpacked(stagerun, server, place):
    """A self-extracting archive: its first bytes are a program's."""
    archive = b"#!/bin/sh\nexit 0\n" + zip_of(zip_entry("a", b"x"))
    stagerun.fetch(server.put("/setup.sh", archive).url, place.dest).ok()
    assert contents_of(place.dest) in ({b"setup.sh": archive}, {b"a": b"x"})


@pytest.mark.parametrize("mode, what", [(0o010644, "pipe"), (0o140644, "socket"),
                                        (0o020644, "device")])
def test_special_files_of_a_cpio_are_refused(stagerun, server, place, mode, what):
    served = server.put("/bad.cpio", cpio_newc(("odd", mode, b"", 5, 1)))
    stagerun.fetch(served.url, place.dest).failed(1, r"bad\.cpio", "odd")
    place.assert_nothing_published()


def test_control_bytes_of_a_name_do_not_reach_the_terminal(stagerun, server, place):
    served = server.put("/bad.tar", tar(GOOD, file("../\x1b[31mred\n")))
    result = stagerun.fetch(served.url, place.dest).failed(1, r"red")
    assert "\x1b" not in result.err and "red\n" not in result.err
    place.assert_nothing_published()


# --- a second archive, and what lies in the destination already ---

def test_a_second_source_cannot_write_through_the_symlink_of_the_first(stagerun, server, place):
    first = server.put("/1.tar", tar(directory("inside"), symlink("link", "inside")))
    second = server.put("/2.tar", tar(file("link/x")))
    stagerun.run("prewarm", "--stage", f"{first.url}={place.dest}",
                 "--stage", f"{second.url}={place.dest}").failed(1, "link")
    place.assert_nothing_published()


def test_two_sources_may_not_bring_the_same_path(stagerun, server, place):
    sources = [server.put(f"/{i}.tar", tar(file("same"), file(f"{i}"))) for i in (1, 2)]
    stagerun.run("prewarm", *(a for s in sources for a in ("--stage", f"{s.url}={place.dest}"))
                 ).failed(1, "same")
    place.assert_nothing_published()


@pytest.mark.parametrize("options", [[], ["--replace"]])
def test_a_later_archive_cannot_write_through_a_symlink_of_an_earlier_one(stagerun, server, place,
                                                                         options):
    place.dest.mkdir()
    (place.dest / "mine").mkdir()
    stagerun.fetch(server.put("/1.tar", tar(symlink("link", "mine"))).url, place.dest).ok()
    result = stagerun.fetch(server.put("/2.tar", tar(file("link/x"))).url, place.dest, *options)
    assert os.listdir(place.dest / "mine") == []
    if options:
        result.ok()
        assert not (place.dest / "link").is_symlink()
    else:
        result.failed(1, "link")
        assert (place.dest / "link").is_symlink()


@pytest.mark.parametrize("options", [[], ["--replace"]])
def test_a_planted_symlink_in_the_destination_is_not_followed(stagerun, server, place, options):
    place.dest.mkdir()
    (place.dest / "cats").symlink_to(place.parent / "outside")
    served = server.put("/x.tar", tar(file("cats/precious", b"pwned\n"), file("cats/new")))
    result = stagerun.fetch(served.url, place.dest, *options)
    place.assert_neighbours_untouched()
    if options:
        result.ok()
        assert (place.dest / "cats/precious").read_bytes() == b"pwned\n"
    else:
        result.failed(1, "cats")
        assert (place.dest / "cats").is_symlink()


def test_a_planted_state_directory_is_not_followed(stagerun, server, place):
    elsewhere = place.parent / "outside"
    (place.parent / ".stagerun").symlink_to(elsewhere)
    stagerun.fetch(server.put("/x.tar", tar(file("a"))).url, place.dest).failed(1, r"\.stagerun")
    assert os.listdir(elsewhere) == ["precious"]
    assert not place.dest.exists()


# --- metadata ---

def test_a_capability_is_not_given(stagerun, server, place):
    archive = (pax_records("x", SCHILY__xattr__security__capability=b"\1\0\0\2" + b"\xff" * 16,
                           SCHILY__xattr__user__kept=b"yes") + raw_file(b"tool") + END)
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).ok()
    assert os.listxattr(place.dest / "tool") == ["user.kept"]


def test_a_malformed_acl_does_no_harm(stagerun, server, place):
    archive = pax_records("x", SCHILY__acl__access=b"user:::,::::,\xff:") + raw_file(b"a") + END
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).ok()
    assert (place.dest / "a").read_bytes() == b"data\n"


@pytest.mark.parametrize("size", [b"99999999999999999999", b"-1", b"9223372036854775807"])
def test_an_impossible_pax_size_is_refused(stagerun, server, place, size):
    archive = pax_records("x", size=size) + raw_file(b"huge") + END
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).failed(1, r"x\.tar")
    place.assert_nothing_published()


def test_a_pax_time_out_of_range_is_no_crash(stagerun, server, place):
    archive = pax_records("x", mtime=b"99999999999999999999.5") + raw_file(b"late") + END
    result = stagerun.fetch(server.put("/x.tar", archive).url, place.dest)
    if result.code == 0:
        assert (place.dest / "late").read_bytes() == b"data\n"
    else:
        result.failed(1, "late")
        place.assert_nothing_published()


def test_a_global_header_cannot_rename_entries_out(stagerun, server, place):
    archive = pax_records("g", path=b"../pwned") + raw_file(b"a") + END
    result = stagerun.fetch(server.put("/x.tar", archive).url, place.dest)
    place.assert_neighbours_untouched()
    assert result.code == 1 or sorted(snapshot(place.dest)) == [b"a"]


def test_an_octal_size_that_lies_is_truncation(stagerun, server, place):
    archive = ustar_header(b"a", b"77777777777\0") + b"short"
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).failed(1, r"x\.tar")
    place.assert_nothing_published()


# --- limits ---

def test_the_limit_on_bytes_names_its_setting(stagerun, server, place):
    stagerun.configure(limits={"max_bytes": "100K"})
    archive = COMPRESS["gz"](tar(file("small"), file("big", bytes(200_000))))
    stagerun.fetch(server.put("/x.tar.gz", archive).url, place.dest).failed(
        1, r"x\.tar\.gz", "max_bytes", "big")
    place.assert_nothing_published()


def test_the_limit_on_entries_names_its_setting(stagerun, server, place):
    stagerun.configure(limits={"max_entries": 10})
    archive = tar(*(file(f"f{i}") for i in range(11)))
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).failed(1, "max_entries")
    place.assert_nothing_published()


def test_the_limit_on_the_ratio_counts_no_holes(stagerun, server, place):
    """2 GiB in a file of 2 KB, of which 8 bytes are written: as databases are that map their file."""
    header = pax_records("x", GNU__sparse__major=b"1", GNU__sparse__minor=b"0",
                         GNU__sparse__name=b"sparse", GNU__sparse__realsize=b"2147483648")
    body = b"1\n2147483640\n8\n".ljust(512, b"\0") + b"12345678"
    archive = header + raw_file(b"GNUSparseFile.0/sparse", body) + END
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).ok()
    assert (place.dest / "sparse").stat().st_size == 2 << 30


def test_the_limit_on_paths_names_its_setting(stagerun, server, place):
    stagerun.configure(limits={"max_path": 50})
    archive = tar(file("d/" * 30 + "x"))
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).failed(1, "max_path")
    place.assert_nothing_published()


def test_a_zstd_window_beyond_the_budget_names_the_setting(stagerun, server, place):
    stagerun.configure(agent={"memory_budget": "16M"})
    # A frame header that asks for a window of 1 GiB, and a block that never comes.
    archive = b"\x28\xb5\x2f\xfd\x00" + bytes([(30 - 10) << 3]) + b"\x01\x00\x00"
    stagerun.fetch(server.put("/x.tar.zst", archive).url, place.dest).failed(
        1, r"x\.tar\.zst", "memory_budget")
    place.assert_nothing_published()


# --- damage ---

WHOLE = {b"a": noise(3000), b"d/b": b"text\n" * 100}
SMALL = tar(*(file(os.fsdecode(name), data) for name, data in WHOLE.items()))
DAMAGED = {"tar": SMALL,
           "zip": zip_of(*(zip_entry(os.fsdecode(name), data) for name, data in WHOLE.items())),
           **{f"tar.{c}": compress(SMALL) for c, compress in COMPRESS.items()}}
# The end of a tar is two blocks of zeros; without them GNU tar, too, takes what is there.
LAST_ENTRY_ENDS = len(SMALL) - 1024


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_truncated_archive_is_never_published(stagerun, place, kind):
    """From a file, at a sample of all lengths: the transfer cannot notice, the format must."""
    whole = DAMAGED[kind]
    end = LAST_ENTRY_ENDS - 512 if kind == "tar" else len(whole)
    path = stagerun.directory / f"cut.{kind}"
    for length in sorted(random.Random(kind).sample(range(600, end), 12)) + [end - 1]:
        path.write_bytes(whole[:length])
        stagerun.fetch(path, place.dest).failed(1, rf"cut\.{kind}")
        place.assert_nothing_published()


def contents_of(root):
    return {name: (root / os.fsdecode(name)).read_bytes()
            for name, entry in snapshot(root).items() if entry["kind"] == "file"}


@pytest.mark.parametrize("kind", [k for k in DAMAGED if k != "tar"])
def test_a_flipped_bit_never_changes_what_is_published(stagerun, place, kind):
    """Checksums exist in all these formats; a flip they do not cover changes nothing that counts."""
    path = stagerun.directory / f"flipped.{kind}"
    for bit in random.Random(kind).sample(range(len(DAMAGED[kind]) * 8), 12):
        damaged = bytearray(DAMAGED[kind])
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        result = stagerun.fetch(path, place.dest, "--replace")
        assert result.code in (0, 1), str(result)
        if result.code == 0:  # unharmed, or no longer known as an archive
            assert contents_of(place.dest) in (
                WHOLE, {f"flipped.{kind}".encode(): bytes(damaged)}), (bit, str(result))
        place.assert_neighbours_untouched()
