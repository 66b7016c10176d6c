# SPDX-License-Identifier: MIT
"""A directory becomes a datastore and comes out of it again, exactly; and what happens when the store is
not what it was."""

import os
import random
import re
import shutil
import subprocess

import pytest
from archives import noise
from trees import assert_same, snapshot

STORES = ["directory", "ceph"]


@pytest.fixture(params=STORES)
def any_store(request, stagerun, tmp_path):
    """A store of each kind, which stagerun is told of by its environment: its URL."""
    if request.param == "directory":
        url = f"file://{tmp_path}/store"
    else:
        ceph = request.getfixturevalue("ceph")
        stagerun.env.update({k: v for k, v in ceph.env().items() if v})
        url = f"s3://{ceph.bucket}/some/prefix"
    stagerun.env["STAGERUN_STORE"] = url
    return url


def write(path, data, mode=0o644, mtime_ns=1_600_000_000_123_456_789):
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def make_oddities(root):
    """Everything that a directory may legally hold and that can be lost on the way."""
    numbers = random.Random(7)
    root.mkdir()
    for name in (b"\xff\xfe not utf-8", b"new\nline", b"tab\ttab", b"back\\slash", b"cr\r", b" blank ",
                 b"-dash", b"*star?", b"quote'\"", "ünïcödé".encode(), b"n" * 255):
        path = os.fsencode(root) + b"/" + name
        with open(path, "wb") as f:
            f.write(name)
        os.utime(path, ns=(1, 999_999_999))
    write(root / "empty", b"")
    write(root / "before 1970", b"x", mtime_ns=-1_500_000_001)
    write(root / "far future", b"x", mtime_ns=15_000_000_000 * 10**9 + 1)
    for mode in (0o400, 0o600, 0o755, 0o640, 0o777, 0o000):
        write(root / f"mode {mode:o}", b"m", mode)
    (root / "empty directory").mkdir(0o700)
    deep = root / "/".join("d" * 40 for _ in range(40))
    deep.mkdir(parents=True)
    write(deep / "leaf", b"deep")
    (root / "link").symlink_to("empty")
    (root / "dangling").symlink_to("nowhere at all")
    (deep / "up").symlink_to("../" * 40 + "empty")
    write(root / "two frames", numbers.randbytes(6_000_000))
    write(root / "many small in one", b"".join(b"%d\n" % i for i in range(400_000)))
    with open(root / "sparse", "wb") as f:
        f.truncate(12_000_000)
        f.seek(7_000_000)
        f.write(b"island")
    os.link(root / "empty", root / "another name of empty")
    os.link(root / "two frames", deep / "another name of two frames")
    for i in range(300):
        (root / f"dir{i % 10}").mkdir(exist_ok=True)
        write(root / f"dir{i % 10}/{i}", b"%d" % i * (i + 1), mtime_ns=i)
    (root / "read only").mkdir()
    write(root / "read only/file", b"x", 0o444)
    (root / "read only").chmod(0o555)
    for directory, _, _ in os.walk(os.fsencode(root), topdown=False):
        os.utime(directory, ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))
    root.chmod(0o751)
    os.utime(root, ns=(5, 5))


def get(stagerun, what, dest, *options, **how):
    return stagerun.run("datastore", "get", *options, what, dest, limit=60, **how)


def test_a_directory_with_every_legal_oddity_comes_back_as_it_was(stagerun, any_store, tmp_path, dest):
    make_oddities(tmp_path / "odd")
    stagerun.run("datastore", "create", tmp_path / "odd", "--name", "odd", limit=60).ok()
    get(stagerun, "odd", dest).ok()
    assert_same(tmp_path / "odd", dest)
    assert dest.stat().st_mode & 0o7777 == 0o751
    assert dest.stat().st_mtime_ns == 5


@pytest.fixture
def cats(stagerun, store, tmp_path):  # pylint: disable=unused-argument
    """Version 1 of cats, in a store in a directory; its source."""
    root = tmp_path / "cats"
    (root / "train").mkdir(parents=True)
    numbers = random.Random(3)
    for i in range(24):
        write(root / f"train/{i:02}", numbers.randbytes(500_000))
    write(root / "labels.csv", b"a,1\n")
    stagerun.run("datastore", "create", root, limit=60).ok()
    return root


def packs(store):
    return sorted(p for p in (store / "packs").rglob("*") if p.is_file())


def test_a_selection_fetches_only_what_it_needs(stagerun, cats, dest):
    err = get(stagerun, "cats", dest, "--include", "train/07").ok().err
    assert list(snapshot(dest, without=(".stagerun",))) in ([b"train", b"train/07"], [b"train/07", b"train"])
    assert (dest / "train/07").read_bytes() == (cats / "train/07").read_bytes()
    # One frame of 4 MiB, of 12 MB.
    received = re.search(r": ([0-9.]+) MB in ", err)
    assert received and float(received[1]) <= 5, err


def test_a_selection_of_nothing_is_a_slip(stagerun, cats, dest):  # pylint: disable=unused-argument
    get(stagerun, "cats", dest, "--include", "nothing").failed(1, "nothing in datastore:cats is left")
    assert not dest.exists()


def test_the_same_version_again_asks_only_for_its_number(stagerun, cats, store, dest):
    get(stagerun, "cats", dest).ok()
    for pack in packs(store):
        pack.unlink()
    assert "already there" in get(stagerun, "cats", dest).ok().err
    assert_same(cats, dest)


def test_a_pinned_version_that_is_there_asks_for_nothing(stagerun, cats, store, dest):
    get(stagerun, "cats:1", dest).ok()
    store.rename(store.with_name("gone"))
    assert "already there" in get(stagerun, "cats:1", dest).ok().err
    assert_same(cats, dest)


@pytest.mark.parametrize("damage, says", [
    (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "damaged"),
    (lambda data: data[:1000], "ends|short"),
], ids=["a flipped bit", "cut off"])
def test_a_damaged_pack_is_an_error_that_names_a_file_and_leaves_nothing(
        stagerun, cats, store, place, damage, says):  # pylint: disable=unused-argument
    for pack in packs(store):
        data = pack.read_bytes()
        pack.chmod(0o644)
        pack.write_bytes(damage(data))
    get(stagerun, "cats", place.dest).failed(1, "'[^']*'.*packs/", says)
    place.assert_nothing_published()


def test_a_version_that_lost_a_pack_says_so(stagerun, cats, store, place):  # pylint: disable=unused-argument
    packs(store)[0].unlink()
    get(stagerun, "cats", place.dest).failed(1, "packs/.* is not in the store")
    place.assert_nothing_published()


def test_a_signal_ends_it_and_the_next_one_completes_it(stagerun, cats, dest):
    running = stagerun.start("datastore", "get", "cats", dest)
    running.signal(15)
    assert running.wait().code in (0, 1, 143, -15)
    get(stagerun, "cats", dest).ok()
    assert_same(cats, dest)


def test_memory_stays_within_a_small_budget(stagerun, store, plain_build, tmp_path, dest):
    root = tmp_path / "big"
    root.mkdir()
    write(root / "large", random.Random(5).randbytes(1 << 20) * 60)
    stagerun.configure(agent={"memory_budget": "32M"})
    stagerun.run("datastore", "create", root, limit=60).ok()
    result = get(stagerun, "big", dest).ok()
    assert_same(root, dest)
    assert result.rss <= 48 << 20, result.rss


def test_version_by_reference_brings_the_objects_themselves(stagerun, ceph, dest):
    stagerun.env.update({k: v for k, v in ceph.env().items() if v})
    stagerun.env["STAGERUN_STORE"] = f"s3://{ceph.bucket}/store"
    large = random.randbytes(20_000_000)
    ceph.put("data/a b/+ü", b"odd")
    ceph.put("data/empty", b"")
    ceph.put("data/large", large)
    stagerun.run("datastore", "create", "--no-copy", "--name", "ref", f"s3://{ceph.bucket}/data/",
                 limit=60).ok()
    get(stagerun, "ref", dest).ok()
    assert (dest / "a b/+ü").read_bytes() == b"odd"
    assert (dest / "empty").read_bytes() == b""
    assert (dest / "large").read_bytes() == large


def test_an_object_that_changed_under_its_reference_is_an_error(stagerun, ceph, place):
    stagerun.env.update({k: v for k, v in ceph.env().items() if v})
    stagerun.env["STAGERUN_STORE"] = f"s3://{ceph.bucket}/store"
    ceph.put("data/x", b"before")
    stagerun.run("datastore", "create", "--no-copy", "--name", "ref", f"s3://{ceph.bucket}/data/",
                 limit=60).ok()
    ceph.put("data/x", b"after!")
    get(stagerun, "ref", place.dest).failed(1, "'x' is no longer what version 1 of ref refers to")
    place.assert_nothing_published()


def test_packs_are_read_by_ordinary_tools(cats, store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for pack in packs(store):
        unpacked = subprocess.run(["zstd", "-dcq", pack], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", out], input=unpacked.stdout, check=True)
    for path in (cats / "train").iterdir():
        assert (out / "train" / path.name).read_bytes() == path.read_bytes()


def test_getting_a_large_file_ends(stagerun, store, tmp_path):
    """Its pieces need so much memory that some who fetch them wait; when the last piece is taken, more than one does."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(noise(90_000_000))
    stagerun.run("datastore", "create", source, "--name", "large").ok()
    for number in range(6):
        stagerun.run("datastore", "get", "large", tmp_path / f"got{number}").ok()
        shutil.rmtree(tmp_path / f"got{number}")
