# SPDX-License-Identifier: MIT
"""File systems that are odd in ways that can be chosen: tests/bench/slowfs.c says which."""

import contextlib
import os
import subprocess

import pytest
from agent import BINARY, wait_until

SLOWFS = BINARY.parent / "bench" / "slowfs"


@contextlib.contextmanager
def odd_disk(directory, *words):
    """The root of a file system that is odd by these words; beside it, what it has is stored in "backing"."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    if not SLOWFS.exists():
        pytest.skip(f"{SLOWFS} was not built: run `make e2e`")
    backing, mount = directory / "backing", directory / "odd"
    backing.mkdir(exist_ok=True)
    mount.mkdir(exist_ok=True)
    with subprocess.Popen([SLOWFS, backing, mount, *words]) as process:
        wait_until(lambda: os.path.ismount(mount), what="the mount")
        try:
            yield mount
        finally:
            process.terminate()
    if os.path.ismount(mount):
        subprocess.run(["umount", "-l", mount], check=True)
