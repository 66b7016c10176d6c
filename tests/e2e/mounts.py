# SPDX-License-Identifier: MIT
"""Directories at the root of the file system that a command has for itself."""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def own_directories(tmp_path_factory, *paths):
    """Words to put before a command for which each of paths is an empty file system of its own. The directories
    themselves are made when they are not there, and removed again."""
    base = tmp_path_factory.getbasetemp()
    # Beside the directories of all workers of a session.
    lock = open((base.parent if "popen" in base.name else base) / "mounts.lock", "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    made = [p for p in paths if not os.path.exists(p)]
    for path in made:
        os.mkdir(path)
    mounts = " && ".join(f"mount -t tmpfs -o size=50m tmpfs {p}" for p in paths)
    try:
        yield ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    finally:
        for path in made:
            os.rmdir(path)
        lock.close()
