# SPDX-License-Identifier: MIT
"""A run in a control group with a small memory limit, whose processes the kernel really kills."""

import json
import os
import time
from pathlib import Path

import pytest

LIMIT = 128 << 20
# Reads all of it at once into memory; nothing but the kernel ends it.
EATER = "exec tail /dev/zero"


def make_group(name):
    """A fresh group with the limit, v1 or v2; None where none can be made."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                        ("/sys/fs/cgroup", "memory.max")):
        group = Path(root, name)
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT))
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    return None


@pytest.fixture
def group():
    made = make_group(f"stagerun-e2e-{os.getpid()}-{time.monotonic_ns()}")
    if made is None:
        pytest.skip("no memory control group can be made here (needs root, and a mounted one)")
    yield made
    end = time.monotonic() + 5
    while (made / "cgroup.procs").read_text() and time.monotonic() < end:
        time.sleep(0.01)
    made.rmdir()


def run_in(group, stagerun, script):
    """The run's result and termination message."""
    path = stagerun.directory / "termination-log"
    enter = ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "enter"]
    result = stagerun.run("run", "--supervise", "always", "--", "sh", "-c", script, wrap=enter,
                          env={"STAGERUN_TERMINATION_LOG": str(path)})
    return result, json.loads(path.read_text()) if path.exists() else None


def test_a_command_killed_for_memory_is_told_with_limit_and_peak(stagerun, group):
    result, said = run_in(group, stagerun, EATER)
    result.failed(137, r"signal 9 \(Killed\): killed by the kernel for memory: limit 128 MiB, peak 128 MiB\n")
    assert (said["reason"], said["exit_code"], said["signal"]) == ("oom_killed", 137, 9)
    assert said["message"].endswith("killed by the kernel for memory: limit 128 MiB, peak 128 MiB")


def test_a_shell_around_the_command_hides_nothing(stagerun, group):
    result, said = run_in(group, stagerun, "tail /dev/zero; exit $?")
    result.failed(137, r"(?<!process of the run was )killed by the kernel for memory: limit 128 MiB")
    assert said["reason"] == "oom_killed"


def test_a_worker_killed_for_memory_is_told_when_the_command_fails_for_it(stagerun, group):
    result, _ = run_in(group, stagerun, "tail /dev/zero; echo a worker died >&2; exit 3")
    result.failed(3, "a process of the run was killed by the kernel for memory: limit 128 MiB")


def test_a_kill_by_somebody_else_is_not_about_memory(stagerun, group):
    result, said = run_in(group, stagerun, "kill -9 $$")
    assert result.code == 137 and "memory" not in result.err, str(result)
    assert said["reason"] == "signaled"
