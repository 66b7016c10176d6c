# SPDX-License-Identifier: MIT
"""Runs the program under test the way a container would, each test in a world of its own.

An Agent has a private HOME, working directory and TMPDIR, an agent.ini with short timeouts, and an
environment that holds nothing else. What it starts ends with the test. A sanitizer's report fails the
test whatever the exit status was."""

import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from stopwatch import Stopwatch

CHECKOUT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("STAGERUN_TEST_BUILD", CHECKOUT / "build")) / "stagerun"

SANITIZER_REPORT = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|Sanitizer:DEADLYSIGNAL")
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=99",
    "LSAN_OPTIONS": f"suppressions={CHECKOUT}/tests/lsan.supp:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode=99:suppressions={CHECKOUT}/tests/tsan.supp",
}
SANITIZER_EXIT = 99

# Faults are seen and retried in milliseconds, and a few hundred kilobytes are already many ranges.
SHORT_TIMES = {
    "network": {
        "range_min": "256K",
        "range_max": "256K",
        "connect_timeout": "5s",
        "first_byte_timeout": "5s",
        "stall_timeout": "700ms",
        "patience": "none",
        "retries": "4",
        "retry_base": "10ms",
        "retry_max": "100ms",
    },
}


def sanitizer():
    """The sanitizer that the program was built with: "address", "thread" or None."""
    code = BINARY.read_bytes()
    if b"__tsan_init" in code:
        return "thread"
    return "address" if b"__asan_init" in code else None


def slowness():
    """By how much every time limit is stretched."""
    return {"thread": 8, "address": 4, None: 1}[sanitizer()]


def default_dispositions():
    """Programs get the default disposition of every signal and an empty mask, whatever we were started with: `nohup make
    test &` ignores SIGHUP and SIGINT. What we were to ignore comes to a handler that does nothing, which exec resets."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Result:
    """How a program ended. code is the exit status, or -n when signal n ended it."""

    def __init__(self, argv, wait_status, out, err, seconds, rss):
        self.argv = argv
        self.code = os.waitstatus_to_exitcode(wait_status)
        self.out = out
        self.err = err
        self.seconds = seconds
        self.rss = rss  # the most that was resident, in bytes

    def __str__(self):
        words = " ".join(str(a) for a in self.argv)
        return (f"{words}\nended with {self.code} after {self.seconds:.2f} s\n"
                f"--- stdout\n{self.out}--- stderr\n{self.err}---")

    def ok(self):
        assert self.code == 0, str(self)
        return self

    def failed(self, code, *patterns):
        """Ended with code, and stderr matches every pattern (regular expressions, any case)."""
        assert self.code == code, f"expected exit status {code}\n{self}"
        for pattern in patterns:
            assert re.search(pattern, self.err, re.I), f"stderr does not say {pattern!r}\n{self}"
        return self


class Running:
    """A started program. wait() must be called once; stop() is for those nobody waited for."""

    def __init__(self, argv, env, cwd, directory, **popen):
        self.argv = argv
        self.files = [directory / f"{uuid.uuid4().hex}.{name}" for name in ("out", "err")]
        self.started = time.monotonic()
        self.watch = Stopwatch()
        with open(self.files[0], "wb") as out, open(self.files[1], "wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **popen}
            self.process = subprocess.Popen(
                [str(a) if not isinstance(a, bytes) else a for a in argv],
                env=env, cwd=cwd, start_new_session=True, **streams)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.ended = False

    def err(self):
        return self.files[1].read_text(errors="surrogateescape")

    def out(self):
        return self.files[0].read_text(errors="surrogateescape")

    def signal(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def finished(self, seconds=0):
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def peak_rss(self):
        """So far. Not what wait4() says: that counts this process, too, before the exec."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        match = re.search(r"VmHWM:\s*(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0

    def wait(self, limit=60):
        limit *= slowness()
        end = time.monotonic() + limit
        rss = 0
        while not (in_time := self.finished(0.01)) and time.monotonic() < end:
            rss = max(rss, self.peak_rss())
        if not in_time:
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        seconds = self.watch.read()
        self.ended = True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        os.close(self.pidfd)
        result = Result(self.argv, status, self.out(), self.err(), seconds, rss)
        assert in_time, f"still running after {limit} s\n{result}"
        reported = SANITIZER_REPORT.search(result.err) or (sanitizer() and result.code == SANITIZER_EXIT)
        assert not reported, str(result)
        return result

    def stop(self):
        if self.ended:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        self.process.returncode = -signal.SIGKILL
        os.close(self.pidfd)
        self.ended = True


class Agent:
    def __init__(self, directory):
        self.directory = directory
        self.home = directory / "home"
        self.cwd = directory / "cwd"
        self.tmp = directory / "tmp"
        for d in (self.home, self.cwd, self.tmp):
            d.mkdir(parents=True)
        # Everything the agent starts inherits this, so what it left behind can be found by it.
        self.token = f"STAGERUN_E2E={uuid.uuid4().hex}"
        self.ini = directory / "agent.ini"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "LANG": "C.UTF-8",
            "STAGERUN_AGENT_CONFIG": str(self.ini),
            "STAGERUN_AGENT_LOG_TIME": "no",  # lines are looked at
            "STAGERUN_E2E": self.token.partition("=")[2],
        }
        for name, default in SANITIZER_OPTIONS.items():
            self.env[name] = os.environ.get(name, default)
        self.started = []
        self.settings = {section: dict(keys) for section, keys in SHORT_TIMES.items()}
        self.configure()

    def configure(self, **sections):
        """Changes settings in agent.ini: configure(network={"retries": 1}). A list repeats its key."""
        for section, keys in sections.items():
            self.settings.setdefault(section, {}).update(keys)
        with open(self.ini, "w", encoding="utf-8") as ini:
            for section, keys in self.settings.items():
                ini.write(f"[{section}]\n")
                for key, value in keys.items():
                    for one in value if isinstance(value, list) else [value]:
                        ini.write(f"{key} = {one}\n")

    def config(self, text, name="config.yml"):
        """Writes the run's config.yml and returns its path."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *args, env=None, cwd=None, wrap=(), **popen):
        """Starts stagerun; wrap is put before it on the command line (strings, such as unshare)."""
        merged = {k: v for k, v in {**self.env, **(env or {})}.items() if v is not None}
        running = Running([*wrap, BINARY, *args], merged, cwd or self.cwd, self.directory, **popen)
        self.started.append(running)
        return running

    def run(self, *args, limit=60, **how):
        return self.start(*args, **how).wait(limit)

    def fetch(self, source, to, *options, **how):
        return self.run("fetch", *options, source, to, **how)

    def leftovers(self):
        """Processes that this agent, or anything it started, left behind."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environ = (entry / "environ").read_bytes()
                if self.token.encode() in environ.split(b"\0"):
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                continue
        return found

    def close(self):
        for running in self.started:
            running.stop()
        for pid, _ in self.leftovers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def wait_until(condition, seconds=30, what="the condition"):
    """Polls condition until it holds; returns its value. The limit is only for what never holds: it must be
    longer than a machine that is busy, or stands still for seconds, can take."""
    end = time.monotonic() + seconds * slowness()
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true within {seconds * slowness()} s")


if __name__ == "__main__":
    sys.exit("a module of the tests: run them with `make e2e`")
