# SPDX-License-Identifier: MIT
"""What tests of supervision share: a process as /proc shows it, and the agent as PID 1."""

import contextlib
import ctypes
import fcntl
import os
import signal
from pathlib import Path

import pytest
from agent import wait_until

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


class Process:
    """One line of /proc/PID/stat. Gone is a state, too."""

    def __init__(self, pid):
        self.pid = int(pid)
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            text = "0 (gone) X 0 0 0"
        head, _, rest = text.rpartition(")")
        fields = rest.split()
        self.name = head.partition("(")[2]
        self.state, self.parent, self.group = fields[0], int(fields[1]), int(fields[2])


def children(pid):
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:  # it is gone
        pids = []
    return [Process(p) for p in pids]


def first_child(pid, named=None):
    """The pid of the child, as soon as there is one (of this name)."""
    def find():
        return next((p.pid for p in children(pid) if named in (None, p.name)), None)

    return wait_until(find, what=f"a child {named or ''} of {pid}")


def zombies_of(pid):
    return [p for p in children(pid) if p.state == "Z"]


def is_gone(pid):
    """pid: as of start_as_pid_1()."""
    return pid is None or Process(pid).state in "XZ"


def lines(running):
    return running.out().splitlines()


def command_is_ready(running, line="ready"):
    wait_until(lambda: line in lines(running), what=f"the command's line {line!r}")


def start_as_pid_1(stagerun, *args, **how):
    """The Running of unshare, and the agent's pid as seen from here; None when it was too fast for us."""
    running = stagerun.start(*args, wrap=NAMESPACE, **how)
    found = wait_until(lambda: children(running.pid) or running.finished(), what="a child of unshare")
    return running, None if found is True else found[0].pid


@contextlib.contextmanager
def held(path):
    """Whoever opens or executes the file waits, as on a file system that does not answer."""
    before = signal.signal(signal.SIGIO, lambda *_: None)  # tells that somebody wants it
    fd = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as why:
            pytest.skip(f"leases: {why}")
        yield
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


@contextlib.contextmanager
def traced(pid):
    """Nobody else hears of the end of this process before we have."""
    seize, wait_all = 0x4206, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(seize, pid, None, None) < 0:
        pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")
    yield
    os.kill(pid, 9)
    os.waitpid(pid, wait_all)


def read_terminal(master):
    """All that is written to a pseudo terminal until nobody has its other end any more; closes it."""
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # how a terminal whose other end is closed says so
            block = b""
        if not block:
            os.close(master)
            return seen
        seen += block
