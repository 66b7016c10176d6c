# SPDX-License-Identifier: MIT
"""What no program could be faster than on this machine: the slowest of the network alone, decoding
alone and writing alone, and what their CPU time comes to over all cores."""

import os
import shlex
from dataclasses import dataclass

from measure import Cost, at_once

# The program's own limit of connections to one host: what a limited server would give it.
CONNECTIONS = 16
# Latency is waited for, not computed: more threads than cores, as many as pay off.
SLOW_DISK_THREADS = 64


@dataclass(frozen=True)
class Floor:
    network: Cost
    decode: Cost
    write: Cost

    @property
    def parts(self):
        work = self.network.cpu + self.decode.cpu + self.write.cpu
        return {"network": self.network.wall, "decode": self.decode.wall,
                "write": self.write.wall, "cores": work / os.cpu_count()}

    @property
    def wall(self):
        return max(self.parts.values())

    @property
    def holds(self):
        """What the floor is made of."""
        return max(self.parts, key=self.parts.get)


class Floors:
    def __init__(self, meter, cache, nginx, programs):
        self.meter, self.cache, self.nginx, self.programs = meter, cache, nginx, programs

    def measure(self, case, dest):
        """dest: the directory to write into, on the file system that the case is about."""
        return Floor(self.network(case), self.decode(case), self.write(case, dest))

    def network(self, case):
        """All the bytes, to nowhere."""
        if case.server == "limited":
            return self.meter.run(self.ranges(case))
        return self.meter.shell(at_once([f"curl -sf -o /dev/null {self.nginx.url(a)}"
                                         for a in case.archives]))

    def ranges(self, case):
        argv = ["curl", "-sf", "--parallel", "--parallel-immediate", "--parallel-max",
                str(CONNECTIONS)]
        url = self.nginx.url(case.archives[0], case.server)
        size = self.cache.path(case.archives[0]).stat().st_size
        step = -(-size // CONNECTIONS)
        for start in range(0, size, step):
            argv += ["--next"] if start > 0 else []
            argv += ["-sf", "-r", f"{start}-{start + step - 1}", "-o", os.devnull, url]
        return argv

    def decode(self, case):
        if not case.decoder:
            return Cost(0, 0)
        paths = [self.cache.path(a) for a in case.archives]
        commands = [case.decoder.format(archive=shlex.quote(str(p)), programs=self.programs,
                                        cores=os.cpu_count()) for p in paths]
        if case.archives[0].endswith(".zip"):
            return self.meter.reported(shlex.split(commands[0]))
        return self.meter.shell(at_once([f"{c} >/dev/null" for c in commands]))

    def write(self, case, dest):
        threads = SLOW_DISK_THREADS if case.slow_disk else os.cpu_count()
        for i in range(len(case.archives)):
            (dest / str(i)).mkdir()
        return self.meter.reported([self.programs / "floor_write", str(threads), dest,
                                    *map(self.cache.path, case.tars)])
