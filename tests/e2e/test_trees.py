# SPDX-License-Identifier: MIT
"""The comparison of trees, judged by trees that differ in one thing: were it blind to something, so
would be every test that leans on it."""

import os
import subprocess

import pytest
from archives import make_tree, tar_of, untar
from trees import assert_same, differences, snapshot


def hole(path):
    """The same bytes, but not written."""
    size = path.stat().st_size
    path.write_bytes(b"")
    os.truncate(path, size)


CHANGES = {
    "content": lambda t: (t / "noise.bin").write_bytes(b"other"),
    "mode": lambda t: (t / "script.sh").chmod(0o700),
    "mtime_ns": lambda t: os.utime(t / "secret", ns=(5, 6)),
    "target": lambda t: ((t / "to-leaf").unlink(), (t / "to-leaf").symlink_to("elsewhere")),
    "links": lambda t: ((t / "deep/noise-again.bin").unlink(),
                        (t / "deep/noise-again.bin").write_bytes((t / "noise.bin").read_bytes())),
    "xattrs": lambda t: os.setxattr(t / "script.sh", "user.origin", b"there"),
    "data": lambda t: hole(t / "zeros"),
    "kind": lambda t: ((t / "empty").rmdir(), (t / "empty").touch()),
    "missing": lambda t: (t / "zero-length").unlink(),
    "not expected": lambda t: (t / "extra").touch(),
}


@pytest.fixture
def tree(tmp_path):
    tree = make_tree(tmp_path / "tree")
    (tree / "zeros").write_bytes(bytes(65536))
    return tree


def test_a_copy_is_the_same(tree, tmp_path):
    subprocess.run(["cp", "-a", "--sparse=never", tree, tmp_path / "copy"], check=True)
    assert_same(tree, tmp_path / "copy")


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_seen(tree, what):
    before = snapshot(tree)
    CHANGES[what](tree)
    assert any(what in sentence for sentence in differences(before, snapshot(tree)))


def test_gnu_tar_gives_back_the_tree_that_is_packed(tree, tmp_path):
    untar(tar_of(tree, "--format=pax", "--xattrs"), tmp_path / "untarred", "--xattrs")
    assert_same(tree, tmp_path / "untarred")
