# SPDX-License-Identifier: MIT
"""In a real container: runc, on a root file system of Debian's own, with the agent as its entrypoint.

The root file system is made once, by debootstrap, and kept in the user's cache directory."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest
from agent import BINARY, CHECKOUT, wait_until
from archives import file, tar

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stagerun-tests"


def make_rootfs():
    """Made under another name first: what is there is whole."""
    rootfs = CACHE / "bookworm"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not rootfs.exists():
            unfinished = CACHE / "bookworm.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", unfinished],
                                  capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"debootstrap cannot make a root file system: {done.stdout[-300:]}")
            unfinished.rename(rootfs)
    return rootfs


@pytest.fixture(scope="module")
def rootfs(request):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for tool in ("runc", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    signal.alarm(0)  # the first time takes as long as the network does
    return make_rootfs()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, plain_build):
    """The program with its own libraries, as a Dockerfile would copy it."""
    directory = tmp_path_factory.mktemp("bundle") / "stagerun"
    subprocess.run([CHECKOUT / "packaging/bundle/make", BINARY, directory], check=True,
                   stdout=subprocess.DEVNULL)
    return directory


MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
]


class Container:
    def __init__(self, directory, rootfs, bundle, work, args, env, terminal=False):
        self.name = f"stagerun-{uuid.uuid4().hex[:12]}"
        self.directory = directory
        directory.mkdir()
        bind = [{"destination": to, "type": "bind", "source": str(source), "options": ["rbind"]}
                for source, to in ((bundle, "/opt/stagerun"), (work, "/work"))]
        config = {
            "ociVersion": "1.0.2",
            "process": {"args": ["/opt/stagerun/bin/stagerun", *args], "cwd": "/work", "terminal": terminal,
                        "user": {"uid": 0, "gid": 0},
                        "env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin",
                                *(f"{k}={v}" for k, v in env.items())]},
            "root": {"path": str(rootfs), "readonly": True},
            "mounts": MOUNTS + bind,
            "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts")]},
        }
        (directory / "config.json").write_text(json.dumps(config))
        with open(directory / "out", "wb") as out, open(directory / "err", "wb") as err:
            self.process = subprocess.Popen(
                ["runc", "--root", directory / "state", "run", "--bundle", directory, self.name],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def out(self):
        return (self.directory / "out").read_text()

    def err(self):
        return (self.directory / "err").read_text()

    def kill(self, number):
        subprocess.run(["runc", "--root", self.directory / "state", "kill", self.name, str(int(number))],
                       check=True)

    def exec(self, *args):
        """The exit status of stagerun in it, as of a probe."""
        return subprocess.run(["runc", "--root", self.directory / "state", "exec", self.name,
                               "/opt/stagerun/bin/stagerun", *args], capture_output=True, text=True, check=False)

    def wait(self, code=0):
        assert self.process.wait(30) == code, self.err()
        return self

    def close(self):
        if self.process.poll() is None:
            subprocess.run(["runc", "--root", self.directory / "state", "delete", "--force", self.name],
                           check=False)
            self.process.kill()
            self.process.wait()


@pytest.fixture
def run(tmp_path, rootfs, bundle):
    work = tmp_path / "work"
    work.mkdir()
    made = []

    def start(*args, env=None, config=None):
        if config is not None:
            (work / "config.yml").write_text(config)
            args = ("run", "--config", "config.yml", *args)
        made.append(Container(tmp_path / f"container-{len(made)}", rootfs, bundle, work, args, env or {}))
        return made[-1]

    start.work = work
    yield start
    for container in made:
        container.close()


def actions(**points):
    text = "compute:\n  train:\n    actions:\n"
    for point, lines in points.items():
        text += f"      {point}:\n" + "".join(f"        - {json.dumps(line)}\n" for line in lines)
    return text


def test_the_command_runs_below_the_agent_which_is_pid_1(run):
    out = run("run", "--", "sh", "-c", "cat /proc/1/comm; echo $PPID").wait().out()
    assert out.split() == ["stagerun", "1"]


def test_its_exit_status_is_the_containers(run):
    run("run", "--", "sh", "-c", "exit 42").wait(42)
    run("run", "--", "sh", "-c", "kill -9 $$").wait(137)
    run("run", "--", "no-such-command").wait(127)


def test_data_is_staged_before_and_end_actions_run_after(run):
    (run.work / "x.tar").write_bytes(tar(file("a", b"staged\n")))
    run(*("--stage", "/work/x.tar=/tmp/data", "--", "cat", "/tmp/data/a"),
        config=actions(on_experiment_start=["echo start"],
                       on_experiment_end=["echo end $STAGERUN_EXIT_REASON"])).wait()
    (out,) = [p.read_text() for p in run.work.parent.glob("container-*/out")]
    assert out == "start\nstaged\nend completed\n"


def test_stopping_the_container_ends_the_command_and_then_runs_the_end_actions(run):
    container = run("--", "sh", "-c", "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
                    config=actions(on_experiment_end=["echo end $STAGERUN_EXIT_REASON"]))
    wait_until(lambda: "ready" in container.out(), what="the command")
    container.kill(signal.SIGTERM)
    assert container.wait().out() == "ready\nsaved\nend terminated\n"


def test_a_command_that_ignores_the_stop_is_killed_within_the_grace_period(run):
    container = run("run", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done",
                    env={"STAGERUN_GRACE_PERIOD": "1s"})
    wait_until(lambda: "ready" in container.out(), what="the command")
    container.kill(signal.SIGTERM)
    container.wait(137)


def test_no_zombie_is_left_while_the_command_runs(run):
    container = run("run", "--", "sh", "-c", "i=0; while [ $i -lt 200 ]; do (sleep 0 &); i=$((i+1)); done; "
                    "sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
    assert container.wait().out() == "0\n"


def test_every_signal_of_the_container_reaches_the_command(run):
    container = run("run", "--", "bash", "-c", "trap 'echo usr1' USR1; trap 'echo rt' RTMIN+5; "
                    "trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: "ready" in container.out(), what="the command")
    for number, word in ((signal.SIGUSR1, "usr1"), (signal.SIGRTMIN + 5, "rt")):
        container.kill(number)
        wait_until(lambda word=word: word in container.out(), what=word)
    container.kill(signal.SIGINT)
    container.wait(7)


def test_the_termination_message_is_written_where_the_cluster_looks(run):
    path = run.work / "termination-log"
    path.touch()
    run("run", "--", "sh", "-c", "exit 3", env={"STAGERUN_TERMINATION_LOG": "/work/termination-log"}).wait(3)
    assert json.loads(path.read_text())["exit_code"] == 3


def test_what_an_init_container_staged_is_there_for_the_main_one(run):
    """They share a volume, in which the destination and the node cache lie."""
    (run.work / "x.tar").write_bytes(tar(file("a", b"staged\n")))
    digest = hashlib.sha256((run.work / "x.tar").read_bytes()).hexdigest()
    config = ("compute:\n  train:\n    actions:\n      on_experiment_start:\n        - stage: {source: /work/x.tar, "
              f"to: %s, sha256: {digest}}}\n")
    env = {"STAGERUN_CACHE_DIR": "/work/cache", "STAGERUN_CACHE_MIN_FREE": "none"}
    (run.work / "config.yml").write_text(config % "/work/data")
    run("prewarm", "--config", "config.yml", env=env).wait()
    (run.work / "x.tar").unlink()  # nobody needs it any more
    main = run("run", "--config", "config.yml", "--", "cat", "/work/data/a", env=env).wait()
    assert main.out() == "staged\n" and "already there" in main.err()
    # Another one, whose destination is its own.
    (run.work / "config.yml").write_text(config % "/tmp/data")
    other = run("run", "--config", "config.yml", "--", "cat", "/tmp/data/a", env=env).wait()
    assert other.out() == "staged\n" and "from the node cache" in other.err()


def test_the_status_is_a_startup_probe(run):
    """3 while data is staged, 0 once the command runs; the root file system is read-only."""
    (run.work / "x.tar").write_bytes(tar(file("a", b"staged\n")))
    container = run("--stage", "/work/x.tar=/tmp/data", "--", "sleep", "1000",
                    config=actions(on_experiment_start=["while [ ! -e /work/go ]; do sleep 0.05; done"]))
    wait_until(lambda: container.exec("status").returncode == 3, what="a status")
    (run.work / "go").touch()
    wait_until(lambda: container.exec("status").returncode != 3, what="the command")
    probe = container.exec("status")
    assert probe.returncode == 0 and "the command runs" in probe.stdout, probe.stderr
    assert json.loads(container.exec("status", "--json").stdout)["pid"] == 1


def test_a_probe_of_the_first_second_sees_that_data_is_staged(run):
    container = run("run", "--stage", "http://192.0.2.1/x.tar=/tmp/data", "--", "true")
    codes = []
    wait_until(lambda: codes.append(container.exec("status").returncode) or codes[-1] == 3, what="a status")
    assert set(codes) <= {1, 4, 3, 255}, codes  # not yet a container, then not yet a run
