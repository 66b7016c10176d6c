# SPDX-License-Identifier: MIT
"""One case, measured again and again: ours, its peers and its floor take turns in every round, so
that whatever else the machine does meets all of them."""

import contextlib
import os
import shlex
import shutil
import statistics
import sys
from pathlib import Path

from measure import Failed, at_once
from servers import SlowDisk

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from trees import differences, snapshot  # pylint: disable=wrong-import-position

# Holes are the unpacker's choice. A zip has times to two seconds, or in a field that not all read.
NOT_COMPARED = ("data",)
NOT_COMPARED_IN_ZIP = ("data", "mtime_ns")
# GNU tar, unless root's, and unzip apply the umask; the program keeps modes as they are.
NOT_COMPARED_UNLESS_ROOT = ("mode",)


class Bench:
    """Measures cases one round at a time. tmpfs: a directory of its own, in memory."""

    def __init__(self, stagerun, programs, cache, nginx, meter, floors, tmpfs):
        self.stagerun, self.programs, self.tmpfs = stagerun, programs, tmpfs
        self.cache, self.nginx, self.meter, self.floors = cache, nginx, meter, floors

    def round(self, case, number, peers):
        """{"stagerun": Cost, PEER: Cost, "floor": Floor}. The first round also compares trees."""
        for archive in (*case.archives, *case.tars):
            read_through(self.cache.path(archive))
        turns = [("stagerun", self.ours)] + [(p.name, self.peer(p)) for p in peers]
        if number % 2 == 1:
            turns.reverse()
        costs, kept = {}, []
        for name, command in turns:
            keep = number == 0 and name in ("stagerun", peers[0].name)
            with self.destination(case, f"turn{len(costs)}", keep) as (dest, stored):
                costs[name] = command(case, dest)
            if keep:
                kept.append(stored)
        if kept:
            self.compare(case, *kept)
            for stored in kept:
                shutil.rmtree(stored.parent)
        with self.destination(case, "floor") as (dest, _):
            costs["floor"] = self.floors.measure(case, dest)
        return costs

    @contextlib.contextmanager
    def destination(self, case, name, keep=False):
        """(where to write, where that is stored), removed again unless kept."""
        directory = self.tmpfs / name
        directory.mkdir()
        (directory / "tmp").mkdir()
        try:
            if case.slow_disk:
                with SlowDisk(self.programs / "slowfs", directory) as disk:
                    yield disk.path, disk.backing
            else:
                (directory / "dest").mkdir()
                yield directory / "dest", directory / "dest"
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                shutil.rmtree(directory)

    def ours(self, case, dest):
        urls = [self.nginx.url(a, case.server) for a in case.archives]
        if len(urls) == 1:
            return self.meter.run([self.stagerun, "fetch", urls[0], dest / "0"])
        stages = [w for i, url in enumerate(urls) for w in ("--stage", f"{url}={dest / str(i)}")]
        return self.meter.run([self.stagerun, "prewarm", *stages])

    def peer(self, peer):
        def run(case, dest):
            commands = []
            for i, archive in enumerate(case.archives):
                (dest / str(i)).mkdir()
                commands.append(peer.command.format(
                    url=shlex.quote(self.nginx.url(archive, case.server)),
                    dest=shlex.quote(str(dest / str(i))),
                    tmp=shlex.quote(str(dest.parent / "tmp"))))
            return self.meter.shell(at_once(commands))
        return run

    def compare(self, case, ours, theirs):
        ignore = NOT_COMPARED_IN_ZIP if case.archives[0].endswith(".zip") else NOT_COMPARED
        if os.geteuid() != 0:
            ignore += NOT_COMPARED_UNLESS_ROOT
        for i in range(len(case.archives)):
            found = differences(content(theirs / str(i)), content(ours / str(i)), ignore)
            if found:
                raise Failed(f"{case.name}: not the same tree: " + "; ".join(found[:5]))


def content(root):
    """What a tree holds, without the times of directories: GNU tar does not set all of them."""
    entries = snapshot(root)
    for entry in entries.values():
        if entry["kind"] == "directory":
            del entry["mtime_ns"]
    return entries


def read_through(path):
    """Puts the file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        block = bytearray(1 << 20)
        while file.readinto(block):
            pass


def summary(case, rounds):
    """One case over all its rounds: medians, also of the ratios of each round's pairs."""
    def median(values):
        return statistics.median(list(values))

    ours = [r["stagerun"] for r in rounds]
    floors = [r["floor"] for r in rounds]
    peers = []
    for name in [p.name for p in case.peers if p.name in rounds[0]]:
        theirs = [r[name] for r in rounds]
        peers.append({"name": name, "wall": median(t.wall for t in theirs),
                      "cpu": median(t.cpu for t in theirs),
                      "wall_ratio": median(o.wall / t.wall for o, t in zip(ours, theirs)),
                      "cpu_ratio": median(o.cpu / t.cpu for o, t in zip(ours, theirs))})
    parts = {p: median(f.parts[p] for f in floors) for p in floors[0].parts}
    return {"case": case.name, "rounds": len(rounds),
            "wall": median(o.wall for o in ours), "cpu": median(o.cpu for o in ours),
            "rss": max(o.rss for o in ours),
            "bar": {"wall": case.bar.wall, "cpu": case.bar.cpu, "rss_mib": case.bar.rss_mib},
            "peers": peers,
            "floor": {"wall": median(f.wall for f in floors), "holds": max(parts, key=parts.get),
                      "parts": parts},
            "of_floor": median(o.wall / f.wall for o, f in zip(ours, floors))}
