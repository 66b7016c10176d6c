# SPDX-License-Identifier: MIT
"""Runs one command, with all its processes, and says what it took."""

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass

# A proxy of the machine's or a user's settings would be measured, too.
ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC",
               "STAGERUN_AGENT_CONFIG": os.devnull, "STAGERUN_TERMINATION_LOG": os.devnull}
LIMIT_S = 600


class Failed(Exception):
    """The command did not do what is measured: there is nothing to compare."""


@dataclass(frozen=True)
class Cost:
    wall: float  # seconds
    cpu: float  # seconds of all processes, in the user's and the kernel's mode
    rss: int = 0  # bytes, the peak of the largest process
    began: float = 0  # on CLOCK_MONOTONIC, just before the fork


class Meter:
    def __init__(self, program):
        self.program = program

    def run(self, argv):
        """What argv took. Raises Failed with the end of its stderr unless it ends with 0."""
        with tempfile.NamedTemporaryFile("r") as result, tempfile.TemporaryFile() as said:
            with subprocess.Popen([self.program, result.name, *argv], env=ENVIRONMENT,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=said, process_group=0) as process:
                try:
                    process.wait(LIMIT_S)
                except BaseException:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise
            measured = json.load(result) if process.returncode == 0 else {"status": "unknown"}
            if measured["status"] != 0:
                said.seek(0)
                raise Failed(f"{' '.join(map(str, argv))}: status {measured['status']}: "
                             f"{said.read()[-1000:].decode(errors='replace')}")
        return Cost(measured["wall"], measured["user"] + measured["system"], measured["rss"],
                    measured["began"])

    def shell(self, script):
        """The same for a script. A pipeline fails with any of its members, as it should for a user
        who cares."""
        return self.run(["bash", "-o", "pipefail", "-c", script])

    def reported(self, argv):
        """What a program that times its own work prints; setting up is not counted."""
        done = subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, argv))}: {done.stderr[-1000:]}")
        return Cost(**json.loads(done.stdout))


def at_once(commands):
    """A script that runs all of them at the same time and fails when one does."""
    if len(commands) == 1:
        return commands[0]
    started = " ".join(f"({c}) & pids+=($!);" for c in commands)
    return f'pids=(); {started} for p in "${{pids[@]}}"; do wait "$p" || exit 1; done'
