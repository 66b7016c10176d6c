# SPDX-License-Identifier: MIT
"""A file system where every create and every close takes a millisecond more, as on a server."""

import io
import os
import signal
import subprocess
import tarfile
import zipfile

import pytest

from agent import BINARY, wait_until
from trees import snapshot

SLOWFS = BINARY.parent / "bench" / "slowfs"
DIRECTORIES, FILES = 40, 1200


@pytest.fixture(name="slowfs")
def a_slow_file_system(tmp_path):
    """(its process, where to write, where that is stored)"""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    if not SLOWFS.exists():
        pytest.skip(f"{SLOWFS} was not built: run `make e2e`")
    backing, mount = tmp_path / "backing", tmp_path / "slow"
    backing.mkdir()
    mount.mkdir()
    with subprocess.Popen([SLOWFS, backing, mount]) as process:
        wait_until(lambda: os.path.ismount(mount), what="slowfs's mount")
        yield process, mount, backing
        process.send_signal(signal.SIGCONT)
        process.terminate()
    if os.path.ismount(mount):
        subprocess.run(["umount", "-l", mount], check=True)


@pytest.fixture(name="slow_disk")
def a_slow_disk(slowfs):
    """(where to write, where that is stored)"""
    return slowfs[1:]


def small_files():
    """A tar of many small files in several directories, with links between them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ["links", *(f"d{i}" for i in range(DIRECTORIES))]:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o750, 900_000_000
            tar.addfile(info)
        for i in range(FILES):
            name = f"d{i * DIRECTORIES // FILES}/f{i}"
            content = f"content of {i}".encode() * 100
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_000_000_000 + i
            tar.addfile(info, io.BytesIO(content))
        for i in range(0, FILES, 100):
            info = tarfile.TarInfo(f"links/l{i}")
            info.type, info.linkname = tarfile.LNKTYPE, f"d{i * DIRECTORIES // FILES}/f{i}"
            tar.addfile(info)
    return buffer.getvalue()


def threads_of(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return 0


def zipped(path):
    """The same files in a zip, deflated."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(DIRECTORIES):
            archive.writestr(zipfile.ZipInfo(f"d{i}/"), b"")
        for i in range(FILES):
            info = zipfile.ZipInfo(f"d{i * DIRECTORIES // FILES}/f{i}")
            archive.writestr(info, f"content of {i}".encode() * 100)
    return path


def most_threads(running):
    """The most threads that a program has until it ends."""
    most = 0
    while not running.finished(0.001):
        try:
            most = max(most, len(os.listdir(f"/proc/{running.pid}/task")))
        except FileNotFoundError:
            break
    return most


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_many_threads_write_to_a_slow_disk_and_make_the_same_tree(
        stagerun, slow_disk, tmp_path, form):
    mount, backing = slow_disk
    archive = tmp_path / "small"
    if form == "tar":
        archive.write_bytes(small_files())
    else:
        zipped(archive)
    running = stagerun.start("fetch", archive, mount / "to")
    most = most_threads(running)
    result = running.wait().ok()
    assert most > 10, "so few threads wrote to a disk that is waited for"
    assert "waited for the disk" in result.err
    stagerun.fetch(archive, tmp_path / "quick").ok()
    assert snapshot(backing / "to") == snapshot(tmp_path / "quick")


def test_no_threads_are_hired_for_a_quick_disk(stagerun, tmp_path):
    archive = tmp_path / "small.tar"
    archive.write_bytes(small_files())
    running = stagerun.start("fetch", archive, tmp_path / "to")
    most = most_threads(running)
    running.wait().ok()
    assert most < 10


def test_a_stage_that_stops_late_disturbs_no_end_hook(stagerun, slowfs, server, tmp_path):
    """A file system that hangs holds a thread for longer than a signal may wait for it."""
    process, mount, backing = slowfs
    seen = tmp_path / "seen"
    hook = tmp_path / "hooks/on_failure/10-a"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\nsleep 1; touch {seen}\n")
    hook.chmod(0o755)
    stagerun.configure(hooks={"dir": hook.parents[1]})
    archive = server.put("/small.tar", small_files())
    running = stagerun.start("run", "--stage", f"{archive.url}={mount}/to", "--", "true",
                             env={"ASAN_OPTIONS": "detect_stack_use_after_return=1:exitcode=99"})
    wait_until(lambda: any("f10" in files for _, _, files in os.walk(backing)),
               what="a file in the hidden tree")
    process.send_signal(signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    wait_until(lambda: "on_failure hook" in running.err(), what="the hook")
    process.send_signal(signal.SIGCONT)
    running.wait().failed(143)
    assert seen.exists()
