# SPDX-License-Identifier: MIT
"""What is on the disk, exactly: two trees are compared by names as bytes, types, modes, times to the
nanosecond, link targets, contents, hard link groups, user.* attributes and holes."""

import errno
import hashlib
import os
import stat
from pathlib import Path

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
         stat.S_IFIFO: "fifo", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device",
         stat.S_IFSOCK: "socket"}


def segments(fd, size):
    """[(start, end)] of the parts that are data, not holes."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # a hole up to the end
                break
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


def describe_file(path, size):
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        data = segments(fd, size)
        os.lseek(fd, 0, os.SEEK_SET)
        digest = hashlib.sha256()
        while block := os.read(fd, 1 << 20):
            digest.update(block)
        return {"size": size, "content": digest.hexdigest(), "data": data}
    finally:
        os.close(fd)


def user_xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in names if n.startswith("user.")}


def describe(path):
    st = os.lstat(path)
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    entry = {"kind": kind, "mtime_ns": st.st_mtime_ns}
    if kind == "symlink":
        entry["target"] = os.readlink(path)
    else:
        entry["mode"] = oct(stat.S_IMODE(st.st_mode))
        entry["xattrs"] = user_xattrs(path)
    if kind == "file":
        entry.update(describe_file(path, st.st_size))
    return entry, (st.st_dev, st.st_ino, st.st_nlink)


def snapshot(root, without=()):
    """{name: entry} of everything beneath root (not root itself). without: top-level names."""
    root = os.fsencode(root)
    entries, inodes = {}, {}
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in os.listdir(os.path.join(root, directory)):
            relative = os.path.join(directory, name)
            if os.fsdecode(relative) in without:
                continue
            entry, (dev, ino, links) = describe(os.path.join(root, relative))
            entries[relative] = entry
            if entry["kind"] == "directory":
                pending.append(relative)
            elif links > 1:
                inodes.setdefault((dev, ino), []).append(relative)
    for group in inodes.values():
        for name in group:
            entries[name]["links"] = sorted(group)
    return entries


def differences(expected, actual, ignore=()):
    """Sentences; none when equal. ignore: fields of entries."""
    found = [f"missing: {n!r}" for n in sorted(expected.keys() - actual.keys())]
    found += [f"not expected: {n!r}" for n in sorted(actual.keys() - expected.keys())]
    for name in sorted(expected.keys() & actual.keys()):
        want, got = expected[name], actual[name]
        for field in sorted((want.keys() | got.keys()) - set(ignore)):
            if want.get(field) != got.get(field):
                found.append(f"{name!r}: {field} is {got.get(field)!r}, "
                             f"expected {want.get(field)!r}")
    return found


def assert_same(expected_root, actual_root, ignore=(), without=(".stagerun",)):
    found = differences(snapshot(expected_root), snapshot(actual_root, without), ignore)
    assert not found, "\n".join(found[:20])


def found_below(parent, pattern):
    """As rglob(), where an agent is at work: directories vanish while they are read."""
    while True:
        try:
            return list(Path(parent).rglob(pattern))
        except FileNotFoundError:
            pass


def unpublished_trees(parent):
    """Unfinished trees in the state directories beneath parent."""
    return [p for state in found_below(parent, ".stagerun*") for p in found_below(state, "tree.*")]


class Place:
    """A destination among neighbours that nothing may touch: parent/dest, with things beside it that
    hostile archives would like to reach."""

    def __init__(self, parent):
        self.parent = parent
        parent.mkdir()
        (parent / "victim").write_text("precious\n")
        (parent / "dest-evil").mkdir()
        (parent / "outside").mkdir()
        (parent / "outside" / "precious").write_text("precious\n")
        self.dest = parent / "dest"
        self.before = self._neighbours()

    def _neighbours(self):
        return snapshot(self.parent, without=("dest", ".stagerun"))

    def assert_neighbours_untouched(self):
        found = differences(self.before, self._neighbours())
        assert not found, "\n".join(found)

    def assert_nothing_published(self):
        """The destination does not exist, nothing lies about, and the neighbours are as they were."""
        assert not os.path.lexists(self.dest), sorted(snapshot(self.dest))
        assert unpublished_trees(self.parent) == []
        self.assert_neighbours_untouched()
