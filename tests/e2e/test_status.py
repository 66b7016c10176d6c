# SPDX-License-Identifier: MIT
"""What `stagerun status` says of a run, in a /run of its own."""

import json
import os
import re
import signal
import time
from pathlib import Path

import jsonschema
import pytest
from agent import wait_until
from archives import file, tar
from faultserver import rate, status as answer

SCHEMA = json.loads((Path(__file__).parent / "status.schema.json").read_text())
READY, FAILED, STARTING, NONE = 0, 1, 3, 4
SECRET = "hunter2hunter2"


def own(directory, options="bind"):
    """Words for which /run is this directory."""
    script = f'mount --bind "{directory}" /run && mount -o remount,{options} /run && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


class Machine:
    """Programs that have one /run."""

    def __init__(self, stagerun, directory):
        self.stagerun = stagerun
        self.directory = directory
        directory.mkdir()
        self.wrap = own(directory)

    def start(self, *args, **how):
        return self.stagerun.start(*args, wrap=self.wrap, **how)

    def run(self, *args, **how):
        return self.start(*args, **how).wait()

    def status(self, *args):
        return self.run("status", *args)

    def exit(self):
        return self.status().code

    def read(self, *args):
        """The objects, each as the schema wants it."""
        return [check(json.loads(line)) for line in self.status("--json", *args).out.splitlines()]

    def files(self):
        return sorted(self.directory.glob("stagerun/*.json"))


def check(thing):
    jsonschema.Draft7Validator(SCHEMA).validate(thing)
    return thing


@pytest.fixture
def machine(stagerun, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return Machine(stagerun, tmp_path / "run")


@pytest.fixture
def slow(server):
    """Takes until it is changed."""
    return server.put("/x.tar", tar(file("a", os.urandom(4_000_000))), rate(20_000))


def test_without_a_run_the_exit_status_is_4(machine):
    assert machine.status().failed(NONE, "no run is known").out == ""
    assert machine.status("--wait").code == NONE
    assert machine.status("--all", "--json").failed(NONE).out == ""
    assert machine.status("--run", "1-2").failed(NONE, "no run 1-2").out == ""


def test_a_run_that_stages_has_3_and_says_what_it_has(machine, slow, dest):
    running = machine.start("run", "--stage", f"{slow.url}={dest}", "--", "true")
    wait_until(lambda: machine.exit() == STARTING, what="a status")
    (one,) = wait_until(lambda: [s for s in machine.read() if s["sources"] and s["sources"][0]["received_bytes"] > 0],
                        what="progress")
    assert one["kind"] == "run" and one["phase"] == "stage" and one["alive"] and one["pid"] == running.pid
    (source,) = one["sources"]
    assert source["state"] == "active" and source["to"] == str(dest) and source["name"] == slow.url
    assert source["total_bytes"] == len(slow.body) > source["received_bytes"]
    assert source["seconds_left"] > 0 and source["bytes_per_second"] > 0
    out = machine.status().failed(STARTING).out
    assert re.search(r"^run \d+-\d+ \(pid \d+, begun \S+Z\): data is staged\n"
                     rf"  {slow.url} -> {dest}: \d+% \([\d.]+ .*of .*\), .*/s, .* left", out), out


def test_status_is_written_at_most_once_a_second(machine, slow, dest):
    machine.start("run", "--stage", f"{slow.url}={dest}", "--", "true")
    (path,) = wait_until(machine.files, what="a status")
    seen, end = set(), time.monotonic() + 3
    while time.monotonic() < end:
        seen.add(path.stat().st_ino)
        time.sleep(0.02)
    assert 2 <= len({json.loads(path.read_text())["updated"]} | seen) <= 6


def test_the_command_that_replaced_the_agent_is_the_run(machine, dest, tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(file("a", b"x" * 1000)))
    running = machine.start("run", "--stage", f"{tmp_path}/x.tar={dest}", "--", "sleep", "1000")
    wait_until(lambda: machine.exit() == READY, what="the command")
    (one,) = machine.read()
    assert one["phase"] == "command" and one["pid"] == running.pid and one["alive"] and one["ready_seconds"] > 0
    assert [s["state"] for s in one["sources"]] == ["done"] and "exit_code" not in one
    assert "the command runs, ready after" in machine.status().out
    running.stop()
    (one,) = machine.read()
    assert one["phase"] == "done" and not one["alive"] and "exit_code" not in one
    assert "done (exit not known)" in machine.status().failed(READY).out


def test_nothing_to_stage_still_has_a_status(machine):
    machine.run("run", "--", "true").ok()
    (path,) = machine.files()
    assert check(json.loads(path.read_text()))["phase"] == "command"
    assert path.stat().st_mode & 0o777 == 0o644 and path.parent.stat().st_mode & 0o777 == 0o755
    assert machine.exit() == READY


@pytest.mark.parametrize("code", [0, 7])
def test_a_command_with_a_parent_leaves_its_exit_status(machine, code):
    machine.run("run", "--supervise", "always", "--", "sh", "-c", f"exit {code}")
    (one,) = machine.read()
    assert one["exit_code"] == code and one["phase"] == ("failed" if code else "done")
    assert machine.exit() == (FAILED if code else READY)


def test_a_run_that_failed_has_1_and_says_why(machine, server, dest):
    gone = server.put("/gone.tar", b"", answer(404, times=None))
    machine.run("run", "--stage", f"{gone.url}={dest}", "--", "true").failed(125)
    (one,) = machine.read()
    assert one["phase"] == "failed" and one["failed_phase"] == "stage" and one["exit_code"] == 125
    assert "404" in one["message"]
    assert "failed, exit status 125" in machine.status().failed(FAILED).out
    machine.run("run", "--", "/no/such/command").failed(127)
    assert machine.read()[0]["failed_phase"] == "exec" and machine.exit() == FAILED
    machine.run("run", "--config", "/no/such/config.yml", "--", "true").failed(125)
    assert machine.read()[0]["failed_phase"] == "config"


def test_a_run_that_was_killed_while_it_staged_has_failed(machine, slow, dest):
    running = machine.start("run", "--stage", f"{slow.url}={dest}", "--", "true")
    wait_until(lambda: machine.exit() == STARTING, what="a status")
    running.stop()
    assert machine.exit() == FAILED
    assert machine.read()[0]["failed_phase"] == "stage"


def test_start_actions_are_a_phase(machine, stagerun):
    path = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start: [sleep 1000]\n")
    machine.start("run", "--config", path, "--", "true")
    wait_until(lambda: machine.exit() == STARTING, what="a status")
    assert machine.read()[0]["phase"] == "start"


def test_wait_ends_when_the_command_runs(machine, stagerun):
    path = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start:\n"
                           "        - while [ ! -e go ]; do sleep 0.05; done\n")
    machine.start("run", "--config", path, "--", "sleep", "1000")
    wait_until(lambda: machine.exit() == STARTING, what="a status")
    waiting = machine.start("status", "--wait", "--json")
    assert not waiting.finished(0.7)
    (stagerun.cwd / "go").touch()
    assert check(json.loads(waiting.wait().ok().out))["phase"] == "command"


def test_of_two_runs_the_newest_is_shown_and_each_by_its_name(machine):
    machine.start("run", "--", "sleep", "1000")
    wait_until(lambda: len(machine.files()) == 1, what="the first")
    machine.run("run", "--supervise", "always", "--", "false")
    newest, first = machine.read("--all")
    assert newest["begun"] > first["begun"] and newest["phase"] == "failed" and first["phase"] == "command"
    assert machine.read() == [newest] and machine.exit() == FAILED
    assert machine.read("--run", first["id"]) == [first]
    assert machine.status("--run", first["id"]).code == READY


def test_prewarm_says_when_it_is_done(machine, dest, tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(file("a", b"x" * 1000)))
    machine.run("prewarm", "--stage", f"{tmp_path}/x.tar={dest}").ok()
    (one,) = machine.read()
    assert one["kind"] == "prewarm" and one["phase"] == "done" and one["exit_code"] == 0 and one["ready_seconds"] > 0
    machine.run("prewarm", "--stage", f"{tmp_path}/none.tar={dest}").failed(1)
    assert machine.read()[0]["phase"] == "failed" and machine.exit() == FAILED


def test_keep_fresh_shows_its_last_round_and_its_next_look(machine, server, dest):
    served = server.put("/x.tar", tar(file("a", b"x" * 1000)))
    running = machine.start("prewarm", "--keep-fresh", "1s", "--stage", f"{served.url}={dest}")
    wait_until(lambda: machine.exit() == READY, what="the first round")
    (one,) = wait_until(lambda: [s for s in machine.read() if s["phase"] == "waiting"], what="a pause")
    assert one["last_round"] < one["next_look"] and not one["round_failed"]
    assert re.search("waits, last round done at .*Z, next look at .*Z",
                     wait_until(lambda: [o for o in [machine.status().out] if "waits" in o], what="a pause")[0])
    server.put("/x.tar", b"", answer(404, times=None))
    (one,) = wait_until(lambda: [s for s in machine.read() if s.get("round_failed") and s["phase"] == "waiting"],
                        what="a round that fails")
    assert "404" in one["message"]
    running.signal(signal.SIGTERM)
    running.wait().ok()
    assert machine.read()[0]["phase"] == "done"


def test_no_secret_is_in_it(machine, server, dest):
    url = server.put("/x.tar", tar(file("a", os.urandom(4_000_000))), rate(200_000)).url
    secret = url.replace("://", f"://user:{SECRET}@") + f"?X-Amz-Signature={SECRET}"
    running = machine.start("run", "--stage", f"{secret}={dest}", "--", "true", env={"MY_TOKEN": SECRET})
    wait_until(lambda: machine.read() and machine.read()[0]["sources"], what="a source")
    (path,) = machine.files()
    assert SECRET not in path.read_text()
    running.signal(signal.SIGTERM)
    running.wait()
    assert SECRET not in path.read_text() and SECRET not in machine.status("--json").out


def test_a_run_that_cannot_write_it_runs(machine, stagerun, tmp_path):
    read_only = own(machine.directory, "bind,ro")
    result = stagerun.run("run", "--verbose", "--", "true", wrap=read_only, env={"TMPDIR": "/run"}).ok()
    assert result.err.count("no status is written") == 1 and machine.files() == []
    quiet = stagerun.run("run", "--", "true", wrap=read_only, env={"TMPDIR": "/run"}).ok()
    assert quiet.err == ""
    # The next place is taken, and found.
    stagerun.run("run", "--", "true", wrap=read_only).ok()
    assert [p.suffix for p in (stagerun.tmp / "stagerun-0").iterdir()] == [".json"]
    assert stagerun.run("status", wrap=read_only).code == READY


def test_a_link_in_its_place_is_not_followed(machine, tmp_path):
    (tmp_path / "other").mkdir()
    (machine.directory / "stagerun").symlink_to(tmp_path / "other")
    machine.run("run", "--", "true").ok()
    assert list((tmp_path / "other").iterdir()) == []
    assert machine.exit() == READY  # from the next place


def test_files_of_others_are_not_believed(machine):
    machine.run("run", "--", "true").ok()
    (path,) = machine.files()
    os.chown(path, 12345, 12345)
    assert machine.exit() == NONE
    os.chown(path, 0, 0)
    assert machine.exit() == READY
    path.parent.chmod(0o777)
    assert machine.exit() == NONE


def test_a_dry_run_is_no_run(machine):
    machine.run("run", "--dry-run", "--", "true").ok()
    assert machine.files() == []


@pytest.mark.parametrize("args", [["--nosuch"], ["word"], ["--run"]])
def test_wrong_usage_is_2(machine, args):
    machine.status(*args).failed(2, "status")


@pytest.mark.parametrize("progress", ["lines", "none"])
def test_sigusr2_prints_a_line_and_reaches_the_command(stagerun, server, dest, progress):
    served = server.put("/x.tar", tar(file("a", os.urandom(600_000))), rate(300_000))
    running = stagerun.start("run", "--progress", progress, "--stage", f"{served.url}={dest}", "--", "sh", "-c",
                             "trap 'echo warned; exit 3' USR2; while :; do sleep 0.02; done")
    wait_until(lambda: served.requests, what="a request")
    time.sleep(0.3)
    running.signal(signal.SIGUSR2)
    wait_until(lambda: re.search(r"x\.tar \d+% \(.* of ", running.err()), 3, what="a line")
    assert running.wait().code == 3 and "warned" in running.out()


def test_sigusr2_between_sources_says_so(stagerun):
    path = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start: [touch here; sleep 2]\n")
    running = stagerun.start("run", "--config", path, "--", "sh", "-c", "trap 'exit 3' USR2; sleep 1000 & wait")
    wait_until((stagerun.cwd / "here").exists, what="the action")
    running.signal(signal.SIGUSR2)
    wait_until(lambda: "no source is being staged now" in running.err(), what="a line")
