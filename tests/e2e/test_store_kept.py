# SPDX-License-Identifier: MIT
"""A collection of a store in a directory that is ended in its midst, or that cannot read all there is: nothing that a
version needs is lost."""

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from agent import wait_until
from odddisk import odd_disk
from stopwatch import Stopwatch

GARBAGE = 60


def create(stagerun, directory, name, content, **how):
    directory.mkdir(exist_ok=True)
    (directory / "file").write_bytes(content)
    return stagerun.run("datastore", "create", "--name", name, directory, **how).ok()


@pytest.fixture
def filled(stagerun, tmp_path):
    """The backing directory of a store with cats:1, cats:2 and dogs:1, and packs that nothing names."""
    backing = tmp_path / "backing"
    stagerun.configure(store={"grace": "0s"})
    stagerun.env["STAGERUN_STORE"] = f"file://{backing}/store"
    for name, content in (("cats", b"tabby"), ("cats", b"siamese"), ("dogs", b"pug")):
        create(stagerun, tmp_path / "source", name, content)
    packs = backing / "store/packs/00"
    packs.mkdir(parents=True, exist_ok=True)
    for i in range(GARBAGE):
        (packs / f"{i:064x}.tar.zst").write_bytes(b"nobody's")
        os.utime(packs / f"{i:064x}.tar.zst", (10**9, 10**9))
    stagerun.env["STAGERUN_STORE"] = f"file://{tmp_path}/odd/store"
    return backing


@pytest.fixture
def disk(tmp_path, filled):
    """odd_disk() over that directory."""
    moved = tmp_path / "moved"

    def show(*words):
        filled.rename(moved)
        context = odd_disk(tmp_path, *words)
        mount = context.__enter__()
        shutil.copytree(moved, tmp_path / "backing", dirs_exist_ok=True)
        shown.append(context)
        return mount
    shown = []
    yield show
    for context in shown:
        context.__exit__(None, None, None)


def garbage(store):
    """A pack that a version needs can lie beside them: its name is a digest, too."""
    return list(store.glob(f"packs/00/{'0' * 60}*"))


def assert_whole(stagerun, tmp_path, **versions):
    for name, content in versions.items():
        to = tmp_path / f"got-{name}"
        stagerun.run("datastore", "get", name, to).ok()
        assert (to / "file").read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_creation_after_a_collection_that_was_ended_goes_on_soon_and_nothing_is_lost(stagerun, disk, tmp_path,
                                                                                      slowness, number):
    """Its last request may still be under way in the store: 15 s, instead of the minute that its lease lives."""
    store = disk("unlink=slow") / "store"
    deletion = stagerun.start("datastore", "delete", "cats:1")
    wait_until(lambda: len(garbage(store)) < GARBAGE - 2, what="a collection that removes")
    deletion.signal(number)
    code = deletion.wait().code
    assert code != 0 and garbage(store), f"the collection was over before the signal: {code}"
    watch = Stopwatch()
    create(stagerun, tmp_path / "source", "birds", b"tit", limit=60)
    assert watch.read() < 35 * slowness
    assert_whole(stagerun, tmp_path, cats=b"siamese", dogs=b"pug", birds=b"tit")


@pytest.mark.parametrize("path", ["store/datastores", "store/datastores/dogs", "store/leases",
                                  "store/packs"])
def test_a_collection_removes_nothing_when_a_directory_cannot_be_read(stagerun, disk, tmp_path, path):
    (tmp_path / "backing/store/leases").mkdir(exist_ok=True)
    disk(f"readdir=EIO:{path}")
    store = tmp_path / "backing/store"
    result = stagerun.run("datastore", "delete", "cats:1")
    assert "Input/output error" in result.err
    assert len(garbage(store)) == GARBAGE
    assert len(list(store.glob("packs/*/*"))) == GARBAGE + 3


def test_a_collection_removes_nothing_when_a_directory_may_not_be_read(stagerun, filled, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    uid = random.randrange(200_000, 2_000_000)
    for directory, _, files in os.walk(filled):
        os.chown(directory, uid, uid)
        for name in files:
            os.chown(Path(directory, name), uid, uid)
    for p in (tmp_path, stagerun.directory, *tmp_path.parents[:2]):
        p.chmod(p.stat().st_mode | 0o711)
    for p in (stagerun.cwd, stagerun.home, stagerun.tmp):
        p.chmod(0o777)
    store = filled / "store"
    (store / "datastores/dogs").chmod(0)
    stagerun.env["STAGERUN_STORE"] = f"file://{store}"
    result = stagerun.run("datastore", "delete", "cats:1",
                          wrap=["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"])
    assert "Permission denied" in result.err
    assert len(garbage(store)) == GARBAGE
    (store / "datastores/dogs").chmod(0o755)
    assert_whole(stagerun, tmp_path, dogs=b"pug")
