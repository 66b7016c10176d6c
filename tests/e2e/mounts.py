# SPDX-License-Identifier: MIT
"""Directories at fixed places that a command has for itself. The machine's own are neither seen nor touched."""

import contextlib
import shlex
import tempfile
from pathlib import Path

from agent import BINARY

# A new root in which everything is that of the machine, but for /tmp, of which only what the tests need is there.
NEW_ROOT = r"""
cwd=$PWD new={root}
mount -t tmpfs -o mode=755 tmpfs "$new" || exit 125
for entry in /* /.[!.]*; do
    name=${{entry#/}}
    if [ -L "$entry" ]; then cp -P "$entry" "$new/$name"
    elif [ "$entry" = /tmp ]; then mkdir -m 1777 "$new/tmp"
    elif [ -d "$entry" ]; then mkdir -p "$new/$name" && mount --rbind "$entry" "$new/$name" || exit 125
    elif [ -f "$entry" ]; then : > "$new/$name" && mount --bind "$entry" "$new/$name"
    fi
done
for kept in {kept}; do
    mkdir -p "$new$kept" && mount --rbind "$kept" "$new$kept" || exit 125
done
for own in {own}; do
    mountpoint -q "$new$own" && umount -l "$new$own"
    mkdir -p "$new$own" && mount -t tmpfs -o size=50m tmpfs "$new$own" || exit 125
done
cd "$new" && pivot_root . . && umount -l . && cd "$cwd" || exit 125
exec "$@"
"""


def in_tmp(*paths):
    """The directories right below /tmp that these paths are in."""
    parts = [Path(p).resolve().parts for p in paths]
    return sorted({"/".join(["", *p[1:3]]) for p in parts if len(p) > 2 and p[1] == "tmp"})


@contextlib.contextmanager
def own_directories(tmp_path_factory, *paths):
    """Words to put before a command for which each of paths is an empty file system of its own."""
    root = tmp_path_factory.mktemp("root")
    kept = in_tmp(tmp_path_factory.getbasetemp(), BINARY, tempfile.gettempdir())
    script = NEW_ROOT.format(root=shlex.quote(str(root)), kept=shlex.join(kept), own=shlex.join(paths))
    yield ["unshare", "-m", "sh", "-c", script, "sh"]
