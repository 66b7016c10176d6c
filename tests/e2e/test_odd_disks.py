# SPDX-License-Identifier: MIT
"""Destinations whose file systems refuse, forget or hide what others do: object stores shown as directories, SMB, exFAT,
what is in user space. The data is whole, one line says what was left out, and the next start is warm."""

import contextlib
import io
import itertools
import os
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from agent import wait_until
from archives import file, tar
from faultserver import rate
from odddisk import odd_disk

REFUSALS = ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EACCES"]
CONTENT = {"train/a": b"a" * 5000, "train/sub/b": b"b", "c": b"", "closed/d": b"d"}


def tree(directory):
    for name, content in CONTENT.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
    os.chmod(directory / "c", 0o440)
    os.chmod(directory / "closed", 0o555)
    os.symlink("train/a", directory / "link")
    return directory


def zip_of(*entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path):
    source = tree(tmp_path / "source")
    subprocess.run(["tar", "-cf", tmp_path / "d.tar", "-C", source, "."], check=True)
    return tmp_path / "d.tar"


def whole(dest):
    found = {str(p.relative_to(dest)): p.read_bytes()
             for p in dest.rglob("*") if p.is_file() and not p.is_symlink() and not p.name.startswith(".stagerun")}
    return found == CONTENT and os.readlink(dest / "link") == "train/a"


def warnings(result):
    return [line for line in result.err.splitlines() if "left out" in line]


def is_warm(result):
    return "already there" in result.out + result.err


@pytest.mark.parametrize("what, errnum", [*itertools.product(["chmod", "chown", "utime"], [*REFUSALS, "ignore"])])
def test_attributes_that_are_refused_or_ignored_are_left_out_with_one_warning(stagerun, tmp_path, archive, what, errnum):
    stagerun.configure(stage={"owner": "1234:1234"})
    with odd_disk(tmp_path, f"{what}={errnum}") as disk:
        result = stagerun.fetch(archive, disk / "data").ok()
        kind = {"chmod": "modes", "chown": "owners", "utime": "times"}[what]
        assert len(warnings(result)) == 1 and kind in warnings(result)[0], result
        assert f"{disk}" in warnings(result)[0]
        assert whole(disk / "data"), result
        assert is_warm(stagerun.fetch(archive, disk / "data").ok())


@pytest.mark.parametrize("merged", [False, True])
def test_everything_that_is_refused_is_one_warning(stagerun, tmp_path, archive, merged):
    stagerun.configure(stage={"owner": "1234:1234"})
    with odd_disk(tmp_path, "chmod=EPERM", "chown=EPERM", "utime=ENOSYS", "xattr=ENOSPC") as disk:
        dest = disk if merged else disk / "data"
        result = stagerun.fetch(archive, dest).ok()
        assert len(warnings(result)) == 1, result
        assert all(kind in warnings(result)[0] for kind in ("modes", "owners", "times")), result
        assert whole(dest)
        second = stagerun.fetch(archive, dest).ok()
        assert is_warm(second) and not warnings(second)


@pytest.mark.parametrize("words", [["chmod=EPERM", "utime=EPERM"], ["chmod=ignore", "utime=ignore"]])
@pytest.mark.parametrize("merged", [False, True])
def test_a_refresh_takes_the_place_where_no_times_can_be_set(stagerun, server, tmp_path, words, merged):
    served = server.put("/d.tar", tar(file("a", b"1"), file("d/b", b"1")))
    with odd_disk(tmp_path, *words) as disk:
        dest = disk if merged else disk / "data"
        words = ["prewarm", "--refresh", "--stage", f"{served.url}={dest}"]
        stagerun.run(*words).ok()
        served.replace(tar(file("a", b"2"), file("d/b", b"2")))
        stagerun.run(*words).ok()
        assert (dest / "a").read_bytes() + (dest / "d/b").read_bytes() == b"22"
        (dest / "d/b").write_bytes(b"mine")
        served.replace(tar(file("a", b"3"), file("d/b", b"3")))
        stagerun.run(*words).failed(1, "d/b in it has changed")


def test_modes_that_the_mount_decides_are_said_once_and_the_rest_is_as_ever(stagerun, tmp_path, archive):
    with odd_disk(tmp_path, "modes=777", "chmod=ignore", "chown=ignore") as disk:
        result = stagerun.fetch(archive, disk / "data").ok()
        assert len(warnings(result)) == 1 and "modes" in warnings(result)[0], result
        assert whole(disk / "data")
        assert is_warm(stagerun.fetch(archive, disk / "data").ok())


@pytest.mark.parametrize("errnum", [*REFUSALS, "ENOSPC", "E2BIG", "EDQUOT", "ERANGE"])
def test_extended_attributes_that_do_not_fit_are_left_out_with_one_warning(stagerun, tmp_path, errnum):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_text(name)
        os.setxattr(source / name, "user.colour", b"blue")
    subprocess.run(["tar", "--xattrs", "-cf", tmp_path / "d.tar", "-C", source, "."], check=True)
    with odd_disk(tmp_path, f"xattr={errnum}") as disk:
        result = stagerun.fetch(tmp_path / "d.tar", disk / "data").ok()
        assert len(warnings(result)) == 1 and "extended attributes" in warnings(result)[0], result
        assert (disk / "data" / "two").read_text() == "two"
        assert is_warm(stagerun.fetch(tmp_path / "d.tar", disk / "data").ok())


@pytest.mark.parametrize("errnum", ["EINVAL", "EOPNOTSUPP"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_file_system_that_does_not_sync_is_staged_into(stagerun, tmp_path, merged, errnum):
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as f:
        f.truncate(1 << 20)
    subprocess.run(["tar", "-cSf", tmp_path / "d.tar", "-C", source, "."], check=True)
    with odd_disk(tmp_path, f"fsync={errnum}") as disk:
        dest = disk if merged else disk / "data"
        stagerun.fetch(tmp_path / "d.tar", dest).ok()
        assert is_warm(stagerun.fetch(tmp_path / "d.tar", dest).ok())


@pytest.mark.parametrize("errnum", ["EPERM", "EOPNOTSUPP", "EXDEV", "EACCES", "EINVAL"])
def test_hard_links_that_are_refused_become_copies(stagerun, tmp_path, errnum):
    source = tree(tmp_path / "source")
    os.link(source / "train/a", source / "linked")
    subprocess.run(["tar", "-cf", tmp_path / "d.tar", "-C", source, "."], check=True)
    with odd_disk(tmp_path, f"link={errnum}") as disk:
        result = stagerun.fetch(tmp_path / "d.tar", disk / "data").ok()
        assert "hard links become copies" in result.err
        assert (disk / "data/linked").read_bytes() == CONTENT["train/a"]


@pytest.mark.parametrize("errnum", ["EPERM", "EOPNOTSUPP"])
def test_symbolic_links_that_are_refused_are_an_error_that_says_what_to_do(stagerun, tmp_path, archive, errnum):
    with odd_disk(tmp_path, f"symlink={errnum}") as disk:
        stagerun.fetch(archive, disk / "data").failed(1, "'link': .*fuse.slowfs at .*does not take any.*exclude")
        stagerun.run("fetch", "--exclude", "link", archive, disk / "data").ok()


def test_modes_that_are_taken_are_not_warned_about(stagerun, tmp_path, archive):
    with odd_disk(tmp_path, "statfs=zero") as disk:
        result = stagerun.fetch(archive, disk / "data").ok()
        assert not warnings(result)
        assert stat.S_IMODE(os.stat(disk / "data/c").st_mode) == 0o440


@pytest.mark.parametrize("what", ["full", *[f"{w}:{e}" for w in ("full", "dir")
                                            for e in ("EXDEV", "ENOTEMPTY", "EPERM", "ENOSYS", "EINVAL", "EOPNOTSUPP")]])
@pytest.mark.parametrize("merged", [False, True])
def test_directories_that_cannot_be_renamed_are_found_before_the_first_byte(stagerun, server, tmp_path, what, merged):
    served = server.put("/d.tar", tar(file("d/a", b"1")))
    with odd_disk(tmp_path, f"rename={what}") as disk:
        result = stagerun.fetch(served.url, disk if merged else disk / "data").failed(1, "does not rename directories")
        assert result.err.count("\n") == 1 and str(disk) in result.err
        assert not served.requests and not os.listdir(disk)


@contextlib.contextmanager
def overlay(directory):
    lower, upper, work, mount = (directory / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, mount):
        path.mkdir()

    @contextlib.contextmanager
    def mounted():
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        if subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, mount], check=False).returncode:
            pytest.skip("no overlay can be mounted here")
        try:
            yield mount
        finally:
            subprocess.run(["umount", mount], check=True)

    yield lower, mounted


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("merged", [False, True])
def test_what_belongs_to_the_image_is_not_replaced_and_that_is_found_before_the_first_byte(
        stagerun, server, tmp_path, merged):
    served = server.put("/d.tar", tar(file("d/a", b"1")))
    with overlay(tmp_path) as (lower, mounted):
        (lower / "data").mkdir()
        if merged:
            (lower / "data/mine").write_text("mine")
        stagerun.fetch(served.url, lower / "data").ok()
        served.replace(tar(file("d/a", b"2")))
        with mounted() as mount:
            served.requests.clear()
            result = stagerun.fetch(served.url, mount / "data", "--replace")
            result.failed(1, "cannot replace .*data.*overlayfs")
            assert (mount / "data/d/a").read_bytes() == b"1"


@pytest.mark.parametrize("words", [["statfs=zero"], ["statfs=none"], ["statfs=more"]])
def test_a_file_system_that_does_not_say_what_is_free_is_written_to(stagerun, server, tmp_path, words):
    with odd_disk(tmp_path, *words) as disk:
        stagerun.configure(cache={"dir": disk / "cache"})
        archive = server.put("/d.zip", zip_of(("a", b"1" * 100_000)))
        stagerun.fetch(archive.url, disk / "data").ok()
        assert (disk / "data/a").stat().st_size == 100_000


@pytest.mark.parametrize("merged", [False, True])
def test_what_was_staged_is_warm_though_all_inode_numbers_are_others(stagerun, server, tmp_path, archive, merged):
    served = server.put("/d.tar", archive.read_bytes())
    for number in (3, 5, 7):
        with odd_disk(tmp_path, f"ino={number}") as disk:
            dest = disk if merged else disk / "data"
            result = stagerun.fetch(served.url, dest).ok()
            assert whole(dest) and is_warm(result) == (number > 3), result


@pytest.mark.parametrize("merged", [False, True])
def test_a_newer_version_takes_the_place_though_all_inode_numbers_are_others(stagerun, server, tmp_path, merged):
    served = server.put("/d.tar", tar(file("a", b"1"), file("d/b", b"1"), file("gone", b"1")))
    with odd_disk(tmp_path, "ino=3") as disk:
        dest = disk if merged else disk / "data"
        words = ["prewarm", "--refresh", "--stage", f"{served.url}={dest}"]
        stagerun.run(*words).ok()
    served.replace(tar(file("a", b"2"), file("d/b", b"2")))
    with odd_disk(tmp_path, "ino=5"):
        stagerun.run(*words).ok()
        assert (dest / "a").read_bytes() + (dest / "d/b").read_bytes() == b"22" and not (dest / "gone").exists()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("change", [
    lambda dest: (dest / "d/b").write_bytes(b"mine!"),
    lambda dest: (dest / "d/b").write_bytes(b"M"),
    lambda dest: (dest / "d/new").write_bytes(b"mine"),
    lambda dest: (dest / "d/b").unlink()], ids=["longer", "same size", "added", "gone"])
def test_a_change_is_kept_though_all_inode_numbers_are_others(stagerun, server, tmp_path, merged, change):
    served = server.put("/d.tar", tar(file("a", b"1"), file("d/b", b"1")))
    with odd_disk(tmp_path, "ino=3") as disk:
        dest = disk if merged else disk / "data"
        words = ["prewarm", "--refresh", "--stage", f"{served.url}={dest}"]
        stagerun.run(*words).ok()
        change(dest)
    served.replace(tar(file("a", b"2"), file("d/b", b"2")))
    found = None
    for number in (5, 5, 7):
        with odd_disk(tmp_path, f"ino={number}"):
            found = found or sorted((p, p.read_bytes()) for p in dest.rglob("[a-z]*") if p.is_file())
            result = stagerun.run(*words).failed(1, "in it has changed|are not those that were staged", "--replace")
            assert "not staged by this agent" not in result.err
            assert sorted((p, p.read_bytes()) for p in dest.rglob("[a-z]*") if p.is_file()) == found


def test_an_edited_file_is_not_already_there_when_inode_numbers_are_others(stagerun, tmp_path, archive):
    with odd_disk(tmp_path, "ino=3") as disk:
        stagerun.fetch(archive, disk / "data").ok()
        (disk / "data/train/a").write_bytes(b"x" * 5000)
    with odd_disk(tmp_path, "ino=5") as disk:
        stagerun.fetch(archive, disk / "data").failed(1, "train/a in it has changed.*--replace")
        assert (disk / "data/train/a").read_bytes() == b"x" * 5000
        stagerun.fetch(archive, disk / "data", "--replace").ok()
        assert whole(disk / "data")


@pytest.mark.parametrize("merged", [False, True])
def test_a_volume_that_was_copied_is_warm(stagerun, tmp_path, archive, merged):
    here, there = tmp_path / "here", tmp_path / "there"
    dest = here / "data"
    dest.mkdir(parents=True)
    if merged:
        (dest / "mine").write_text("mine")
    stagerun.fetch(archive, dest).ok()
    subprocess.run(["cp", "-a", here, there], check=True)
    assert is_warm(stagerun.fetch(archive, there / "data").ok())
    assert is_warm(stagerun.fetch(archive, there / "data").ok())


def test_another_directory_in_its_place_is_still_none_of_the_agents(stagerun, tmp_path, archive):
    dest = tmp_path / "data"
    stagerun.fetch(archive, dest).ok()
    subprocess.run(["cp", "-a", dest, tmp_path / "copy"], check=True)
    dest.rename(tmp_path / "away")
    (tmp_path / "copy").rename(dest)
    stagerun.fetch(archive, dest).failed(1, "not staged by this agent")


MODELS = [tar(file("model", b"1" * 100, mtime=1e9), file("d/config", b"1", mtime=1e9)),
          tar(file("model", b"2" * 100, mtime=1.2e9), file("d/config", b"2", mtime=1.2e9))]


def put_into_the_place_of(dest, other):
    for name in os.listdir(other):
        (dest / name).rename(dest.parent / f"{name}-away")
        (other / name).rename(dest / name)


@pytest.mark.parametrize("merged", [False, True])
def test_another_state_of_names_and_sizes_that_are_the_same_is_neither_believed_nor_replaced(
        stagerun, server, tmp_path, merged):
    served = server.put("/d.tar", MODELS[1])
    with odd_disk(tmp_path, "ino=3") as disk:
        dest = disk / "data"
        (dest / "mine").mkdir(parents=True) if merged else None
        stagerun.fetch(server.put("/old.tar", MODELS[0]).url, disk / "old").ok()
        words = ["prewarm", "--refresh", "--stage", f"{served.url}={dest}"]
        stagerun.run(*words).ok()
        if merged:
            put_into_the_place_of(dest, disk / "old")
        else:
            dest.rename(disk / "away")
            (disk / "old").rename(dest)
    for number in (3, 5):
        with odd_disk(tmp_path, f"ino={number}"):
            stagerun.fetch(served.url, dest).failed(1, "--replace")
            assert (dest / "model").read_bytes() == b"1" * 100
    served.replace(tar(file("model", b"3" * 100)))
    with odd_disk(tmp_path, "ino=5"):
        stagerun.run(*words).failed(1, "--replace")
        assert (dest / "model").read_bytes() == b"1" * 100


def test_another_state_copied_together_with_the_records_of_this_one_is_not_believed(stagerun, tmp_path):
    for number, body in enumerate(MODELS):
        (tmp_path / f"{number}.tar").write_bytes(body)
        stagerun.fetch(tmp_path / f"{number}.tar", tmp_path / f"d{number}/data").ok()
    (tmp_path / "copy").mkdir()
    subprocess.run(["cp", "-a", tmp_path / "d1/.stagerun", tmp_path / "d0/data", tmp_path / "copy"], check=True)
    stagerun.fetch(tmp_path / "1.tar", tmp_path / "copy/data").failed(1, "--replace")


def test_an_empty_directory_in_the_place_of_a_removed_one_is_staged_into_as_ever(stagerun, tmp_path, archive):
    with odd_disk(tmp_path, "ino=3") as disk:
        stagerun.fetch(archive, disk / "data").ok()
        (disk / "data").rename(disk / "away")
        (disk / "data").mkdir()
        stagerun.fetch(archive, disk / "data").ok()
        assert whole(disk / "data")


def test_an_unfinished_stage_is_gone_on_with_though_all_inode_numbers_are_others(stagerun, server, tmp_path):
    body = tar(*[file(f"d/{n}", os.urandom(200_000)) for n in range(10)])
    served = server.put("/d.tar", body, rate(1_000_000))
    with odd_disk(tmp_path, "ino=3") as disk:
        running = stagerun.start("fetch", served.url, disk / "data")
        wait_until(lambda: len(list(disk.glob(".stagerun/data/tree.*/d/*"))) > 3, what="some files")
        running.stop()
    served.faults.clear()
    with odd_disk(tmp_path, "ino=5") as disk:
        result = stagerun.fetch(served.url, disk / "data", "-v").ok()
        assert "interrupted" in result.err or "found" in result.err, result
        assert len(os.listdir(disk / "data/d")) == 10


@pytest.mark.parametrize("merged", [False, True])
def test_inode_numbers_in_the_order_of_looking_do_not_matter(stagerun, tmp_path, archive, merged):
    with odd_disk(tmp_path, "ino=none") as disk:
        dest = disk if merged else disk / "data"
        stagerun.fetch(archive, dest).ok()
    for first in (["closed", "link", "train"], ["train", "c"]):
        with odd_disk(tmp_path, "ino=none"):
            for name in first:
                os.lstat(dest / name)
            assert is_warm(stagerun.fetch(archive, dest).ok()) and whole(dest)


@contextlib.contextmanager
def bound(what, where):
    where.mkdir()
    subprocess.run(["mount", "--bind", what, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.usefixtures("root")
def test_what_was_replaced_by_way_of_another_mount_point_is_not_already_there(stagerun, server, tmp_path):
    served = server.put("/d.tar", tar(file("a", b"1")))
    other = server.put("/e.tar", tar(file("a", b"2")))
    stagerun.fetch(served.url, tmp_path / "volume/cats").ok()
    with bound(tmp_path / "volume/cats", tmp_path / "data") as data:
        stagerun.fetch(served.url, data).failed(1, "data/a exists.*not by way of this mount point.*--replace")
        stagerun.fetch(other.url, data, "--replace").ok()
        assert is_warm(stagerun.fetch(other.url, data).ok())
    stagerun.fetch(served.url, tmp_path / "volume/cats").failed(1, "another mount point")
    stagerun.fetch(served.url, tmp_path / "volume/cats", "--replace").failed(1, "another mount point")
    assert (tmp_path / "volume/cats/a").read_bytes() == b"2"


def test_replacing_restores_the_version_that_is_there(stagerun, server, tmp_path):
    served = server.put("/d.tar", tar(file("a", b"1"), file("d/b", b"1")))
    dest = tmp_path / "data"
    stagerun.fetch(served.url, dest).ok()
    assert is_warm(stagerun.fetch(served.url, dest, "--replace").ok())
    (dest / "d/b").write_bytes(b"2")
    (dest / "d/new").write_bytes(b"mine")
    assert is_warm(stagerun.fetch(served.url, dest).ok())
    stagerun.fetch(served.url, dest, "--replace").ok()
    assert (dest / "d/b").read_bytes() == b"1" and not (dest / "d/new").exists()


def test_replacing_restores_what_was_merged(stagerun, server, tmp_path):
    served = server.put("/d.tar", tar(file("a", b"1"), file("d/b", b"1")))
    dest = tmp_path / "data"
    dest.mkdir()
    (dest / "mine").write_text("mine")
    stagerun.fetch(served.url, dest).ok()
    (dest / "d/b").write_bytes(b"2")
    stagerun.fetch(served.url, dest, "--replace").ok()
    assert (dest / "d/b").read_bytes() == b"1" and (dest / "mine").exists()


def as_user(uid, *words):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *words]


@pytest.mark.usefixtures("root")
def test_a_strict_umask_leaves_nothing_behind_in_a_mount(stagerun):
    with tempfile.TemporaryDirectory() as name:
        place, volume = Path(name), Path(name) / "volume"
        place.chmod(0o777)
        volume.mkdir()
        subprocess.run(["tar", "-cf", place / "d.tar", "-C", "/etc", "hostname"], check=True)
        (place / "d.tar").chmod(0o644)
        how = {"env": {"STAGERUN_AGENT_CONFIG": None, "HOME": name, "TMPDIR": name}, "cwd": name}
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777,size=10m", "tmpfs", volume], check=True)
        try:
            wrap = as_user(4001, "sh", "-c", 'umask 277; exec "$@"', "sh")
            stagerun.fetch(place / "d.tar", volume, wrap=wrap, **how).ok()
            assert sorted(os.listdir(volume)) == [".stagerun", "hostname"]
            stagerun.fetch(place / "d.tar", volume, wrap=as_user(4002), **how).failed(
                1, "belongs to user 4001: user 4001 has staged into this directory")
        finally:
            subprocess.run(["umount", volume], check=True)


@pytest.mark.usefixtures("root")
def test_a_cache_that_kubernetes_gave_to_the_pods_group_is_used(stagerun, server, tmp_path):
    cache = tmp_path / "cache"
    stagerun.configure(cache={"dir": cache, "min_free": "none"})
    served = server.put("/d.tar", tar(file("a", b"1")))
    wrap = ["setpriv", "--groups=3000"]
    for number in range(3):
        result = stagerun.run("run", "--stage", f"{served.url}={tmp_path}/data{number}", "true", wrap=wrap).ok()
        assert "warning" not in result.err and ("node cache" in result.err) == (number > 0), result
        for path in (cache, *cache.rglob("*")):
            if not path.is_symlink():
                os.chown(path, -1, 3000)
                os.chmod(path, path.stat().st_mode | (0o2070 if path.is_dir() else 0o060))


def test_lost_and_found_is_no_part_of_a_datastore_that_is_made_of_a_whole_volume(stagerun, tmp_path):
    with odd_disk(tmp_path, "readdir=EACCES:lost+found") as disk:
        (disk / "lost+found").mkdir(mode=0o700)
        (disk / "d").mkdir()
        (disk / "d/lost+found").mkdir(mode=0o700)
        (disk / "a").write_text("a")
        result = stagerun.run("datastore", "create", "--name", "cats", "--store", f"file://{tmp_path}/store", disk).ok()
        assert result.err.count("lost+found") == 1
    stagerun.run("datastore", "get", "--store", f"file://{tmp_path}/store", "cats", tmp_path / "got").ok()
    assert sorted(str(p.relative_to(tmp_path / "got")) for p in (tmp_path / "got").rglob("*")) == \
        ["a", "d", "d/lost+found"]


@pytest.mark.parametrize("word, reason", [("chmod=EPERM", "mode"), ("symlink=EPERM", "symbolic link")])
def test_a_node_cache_on_a_disk_that_does_not_take_all_is_gone_without(
        stagerun, server, tmp_path, archive, word, reason):
    served = server.put("/d.tar", archive.read_bytes(), etag='"v1"')
    with odd_disk(tmp_path, word) as disk:
        (disk / "cache").mkdir()
        stagerun.configure(cache={"dir": disk / "cache"})
        result = stagerun.fetch(served.url, tmp_path / "data").ok()
        assert result.err.count("without the node cache") == 1 and reason in result.err
        assert whole(tmp_path / "data")
