# SPDX-License-Identifier: MIT
"""What the program costs beside moving data: starting, finding that all is there, waiting. And that
the cost of data is linear."""

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

from measure import ENVIRONMENT

WARMUP_S, IDLE_S = 2, 5


@dataclass(frozen=True)
class Extra:
    """One measured cost beside its bar; bar None: only shown."""
    name: str
    value: float
    unit: str
    bar: float = None


class OneFileServer(threading.Thread):
    """Answers every request with the same small file. asked_at: when the first byte of one came."""

    def __init__(self, content):
        super().__init__(daemon=True)
        self.content = content
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.asked_at = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/file"

    def run(self):
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.answer(connection)

    def answer(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            got = connection.recv(65536)
            if not got:
                return
            self.asked_at = self.asked_at or time.clock_gettime(time.CLOCK_MONOTONIC)
            request += got
        total = len(self.content)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\nConnection: close\r\n\r\n"
        ranged = re.search(rb"\r\nrange: *bytes=0-", request, re.IGNORECASE)
        if ranged:
            head = (f"HTTP/1.1 206 Partial Content\r\nContent-Length: {total}\r\n"
                    f"Content-Range: bytes 0-{total - 1}/{total}\r\nConnection: close\r\n\r\n")
        connection.sendall(head.encode() + self.content)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Costs:
    def __init__(self, stagerun, cache, nginx, meter, tmpfs, repeats):
        self.stagerun, self.cache, self.nginx = stagerun, cache, nginx
        self.meter, self.tmpfs, self.repeats = meter, tmpfs, repeats

    def measure(self):
        yield self.start()
        yield self.first_request()
        yield self.nothing_to_do()
        yield self.idle()
        yield from self.linear("bytes", ("big-1.tar.zst", "big-4.tar.zst", "big.tar.zst"))
        yield from self.linear("entries", ("small-1.tar.zst", "small-4.tar.zst", "small.tar.zst"))

    def start(self):
        with tempfile.NamedTemporaryFile("r") as result:
            subprocess.run(["hyperfine", "-N", "--style=none", "--warmup=10",
                            f"--runs={self.repeats * 10}", f"--export-json={result.name}",
                            f"{self.stagerun} run -- true", "true"], env=ENVIRONMENT, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ours, bare = (r["median"] for r in json.load(result)["results"])
        return Extra("`stagerun run -- true`, more than `true`", 1000 * (ours - bare), "ms", 10)

    def first_request(self):
        """From just before the fork to the first byte that the server sees."""
        server = OneFileServer(b"hello\n")
        server.start()
        delays = []
        for _ in range(self.repeats):
            server.asked_at = None
            with self.directory() as directory:
                cost = self.meter.run([self.stagerun, "fetch", server.url, directory / "to"])
            delays.append(server.asked_at - cost.began)
        server.close()
        return Extra("from exec to the first request on the wire",
                     1000 * statistics.median(delays), "ms", 15)

    def nothing_to_do(self):
        with self.directory() as directory:
            stage = f"{self.nginx.url('small-1.tar.zst')}={directory / 'to'}"
            self.cache.path("small-1.tar.zst")
            self.meter.run([self.stagerun, "prewarm", "--stage", stage])
            more = []
            for _ in range(self.repeats):
                warm = self.meter.run([self.stagerun, "run", "--stage", stage, "--", "true"])
                bare = self.meter.run([self.stagerun, "run", "--", "true"])
                more.append(warm.wall - bare.wall)
        return Extra("a source that is already staged", 1000 * statistics.median(more), "ms", 25)

    def idle(self):
        """CPU while a server gives each connection 16 KiB/s."""
        with self.directory() as directory:
            argv = [self.stagerun, "fetch", self.nginx.url("linux.tar.zst", "trickle"),
                    directory / "to"]
            with subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as process:
                time.sleep(WARMUP_S)
                before = cpu_of(process.pid)
                time.sleep(IDLE_S)
                used = cpu_of(process.pid) - before
                process.terminate()
        return Extra("CPU while waiting for a slow server", 100 * used / IDLE_S, "% of a core", 1)

    def linear(self, of_what, archives):
        """CPU for 4 and 16 times as much, for each unit, against once."""
        units = []
        for archive, scale in zip(archives, (1, 4, 16)):
            self.cache.path(archive)
            cpu = []
            for _ in range(3):
                with self.directory() as directory:
                    argv = [self.stagerun, "fetch", self.nginx.url(archive), directory / "to"]
                    cpu.append(self.meter.run(argv).cpu)
            units.append(statistics.median(cpu) / scale)
        for unit, scale in zip(units[1:], (4, 16)):
            name = f"CPU for {scale}× the {of_what}, each, against 1×"
            yield Extra(name, unit / units[0], "×", 1.3)

    @contextlib.contextmanager
    def directory(self):
        directory = self.tmpfs / "extra"
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


def cpu_of(pid):
    """Seconds that all threads of a process have used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
