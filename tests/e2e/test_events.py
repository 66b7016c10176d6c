# SPDX-License-Identifier: MIT
"""The log for programs: each line is an event with members that the manual lists, of the right types."""

import os
import time

import pytest
from archives import COMPRESS, file, noise, tar
from events import check_line, events_of, the
from faultserver import rate, stall, status
from python_env import Conda

ARCHIVE = COMPRESS["gz"](tar(file("a", noise(300_000))))
JSON = {"STAGERUN_AGENT_LOG_FORMAT": "json"}


def names(events):
    return [event["event"] for event in events]


def hook(directory, point, script):
    path = directory / point / "10-it"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_supervised_run_logs_its_stages_hooks_actions_and_command(stagerun, server, dest, tmp_path):
    path = hook(tmp_path / "hooks", "on_stage_start", "sleep 0.2")
    stagerun.configure(hooks={"dir": tmp_path / "hooks"}, process={"supervise": "always"})
    served = server.put("/x.tar.gz", ARCHIVE)
    config = stagerun.config("""
compute: {train: {actions: {on_experiment_start: ["true"], on_experiment_end: ["exit 7"]}}}
""")
    result = stagerun.run("run", "--config", config, "--stage", f"{served.url}={dest}", "--", "sh", "-c", "sleep 0.3; exit 3",
                          env=JSON).failed(3)
    events = events_of(result)
    expected = ["hook_started", "hook_done", "stage_done", "action_started", "action_done", "command_started",
                "command_ended", "action_started", "action_done"]
    assert [name for name in names(events) if name in expected] == expected, str(result)
    assert the(events, "hook_started")["command"] == str(path)
    ended = the(events, "hook_done")
    assert ended["exit"] == 0 and 0.2 <= ended["seconds"] < 60 and ended["point"] == "on_stage_start"
    done = the(events, "stage_done")
    assert (done["source"], done["to"], done["bytes"]) == (served.url, str(dest), len(ARCHIVE))
    actions = [event for event in events if event["event"] == "action_done"]
    assert [action["exit"] for action in actions] == [0, 7] and [action["attempt"] for action in actions] == [1, 1]
    assert the(events, "command_started")["command"] == "sh"
    ended = the(events, "command_ended")
    assert (ended["exit"], ended["reason"]) == (3, "failed") and 0.3 <= ended["seconds"] < 60 and "signal" not in ended


def test_a_command_that_a_signal_ends_is_logged_with_it(stagerun):
    result = stagerun.run("run", "--", "sh", "-c", "kill -9 $$", env={**JSON, "STAGERUN_PROCESS_SUPERVISE": "always"})
    ended = the(events_of(result), "command_ended")
    assert (ended["exit"], ended["signal"], ended["reason"]) == (137, 9, "signaled")


@pytest.mark.parametrize("code", [0, 4])
def test_the_install_of_dependencies_is_logged_with_its_exit_status(stagerun, tmp_path, code):
    stagerun.env["PATH"] = Conda(tmp_path / "conda", "conda", f"exit {code}").path(stagerun.env)
    (stagerun.cwd / "environment.yml").write_text("name: other\ndependencies: [nosuchpkg]\n")
    result = stagerun.run("run", "--dependency_file", "environment.yml", "--", "true", env=JSON)
    events = [check_line(line) for line in result.err.splitlines() if line.startswith("{")]
    assert "conda" in the(events, "dependencies_started")["command"]
    done = the(events, "dependencies_done")
    assert done["exit"] == code and done["item"].endswith("environment.yml")


def test_the_command_that_replaces_the_agent_is_logged_with_its_process(stagerun):
    result = stagerun.run("run", "--", "sh", "-c", "echo $$", env=JSON).ok()
    assert the(events_of(result), "command_started")["pid"] == int(result.out)


def test_people_see_what_is_new_to_them(stagerun):
    """No more lines than before, unless they ask for more."""
    assert stagerun.run("run", "--", "true").ok().err == ""
    assert "the command starts" in stagerun.run("run", "--verbose", "--", "true").ok().err


def test_a_source_that_is_slow_or_repeated_is_logged(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, stall(100_000))
    result = stagerun.fetch(served.url, dest, env={**JSON, "STAGERUN_NETWORK_STALL_TIMEOUT": "8s",
                                                   "STAGERUN_NETWORK_CONNECTIONS": "1"}).ok()
    events = events_of(result)
    assert the(events, "stage_started")["total_bytes"] == len(ARCHIVE)
    assert the(events, "stage_stalled")["seconds"] >= 5
    assert "attempt 2" in the(events, "stage_retried")["why"]
    assert the(events, "stage_progress")["received_bytes"] < len(ARCHIVE)


def test_a_refusal_is_logged_with_the_status_of_the_answer(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, status(403, times=None))
    events = events_of(stagerun.run("run", "--stage", f"{served.url}={dest}", "--", "true", env=JSON).failed(125))
    failed = the(events, "stage_failed")
    assert failed["level"] == "error" and failed["source"] == served.url and failed["to"] == str(dest)
    assert failed["http_status"] == 403 and "errno" not in failed


@pytest.mark.skipif(os.geteuid() != 0, reason="the disk is a tmpfs of its own")
def test_a_full_disk_is_logged_with_its_errno(stagerun, server, tmp_path):
    served = server.put("/x.tar.gz", ARCHIVE)
    place = tmp_path / "small"
    place.mkdir()
    result = stagerun.fetch(served.url, place / "x", wrap=["unshare", "-m", "sh", "-c",
                            f"mount -t tmpfs -o size=128k none {place} && exec \"$@\"", "sh"], env=JSON).failed(1)
    failed = the(events_of(result), "stage_failed")
    assert failed["errno"] == "ENOSPC" and failed["to"] == str(place / "x")


def test_a_command_that_is_not_there_is_logged_with_its_errno(stagerun):
    failed = the(events_of(stagerun.run("run", "--", "nosuchcommand", env=JSON).failed(127)), "start_failed")
    assert (failed["phase"], failed["item"]) == ("exec", "nosuchcommand")


def test_who_waits_for_another_agent_logs_whom_it_waits_for(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, rate(200_000))
    first = stagerun.start("fetch", served.url, dest)
    time.sleep(0.7)
    result = stagerun.fetch(served.url, dest, env=JSON).ok()
    first.wait().ok()
    waits = the(events_of(result), "stage_waits")
    assert waits["to"] == str(dest) and f"process {first.pid}" in waits["holder"], waits


def test_a_server_that_is_late_is_logged(stagerun, dest):
    stagerun.configure(network={"patience": "1s"})
    result = stagerun.fetch("http://127.0.0.1:9/x.tar.gz", dest, env=JSON).failed(1)
    late = the(events_of(result), "host_late")
    assert late["origin"] == "http://127.0.0.1:9" and late["patience_seconds"] == 1.0


def test_the_node_cache_logs_what_it_gets_has_and_loses(stagerun, server, tmp_path):
    stagerun.configure(cache={"dir": tmp_path / "cache"})
    served = server.put("/x.tar.gz", ARCHIVE)
    for name, expected in (("a", ["cache_filled", "cache_used"]), ("b", ["cache_used"])):
        events = events_of(stagerun.fetch(served.url, tmp_path / name, env=JSON).ok())
        assert [event for event in names(events) if event.startswith("cache_")] == expected
        assert the(events, "cache_used")["to"] == str(tmp_path / name)
    evicted = the(events_of(stagerun.run("cache", "evict", "--to", "0", env=JSON).ok()), "cache_evicted")
    assert evicted["source"] == served.url and evicted["bytes"] > 0


def test_a_datastore_logs_its_life(stagerun, dest, tmp_path):
    stagerun.env["STAGERUN_STORE"] = f"file://{tmp_path}/store"
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats/a").write_bytes(b"x" * 1000)
    created = the(events_of(stagerun.run("datastore", "create", tmp_path / "cats", env=JSON).ok()), "datastore_created")
    assert (created["datastore"], created["version"], created["files"], created["bytes"]) == ("cats", 1, 1, 1000)
    staged = the(events_of(stagerun.run("run", "--datastore", f"cats={dest}", "--", "true", env=JSON).ok()), "datastore_staged")
    assert (staged["datastore"], staged["version"], staged["to"]) == ("cats", 1, str(dest))
    assert staged["manifest_sha256"] == created["manifest_sha256"]
    events = events_of(stagerun.run("datastore", "delete", "cats:1", "--force", env=JSON).ok())
    assert (the(events, "datastore_deleted")["version"], the(events, "datastore_collected")["objects"]) == (1, 0)
    purged = the(events_of(stagerun.run("datastore", "purge", "--yes", env=JSON).ok()), "datastore_purged")
    assert purged["store"] == stagerun.env["STAGERUN_STORE"] and purged["objects"] > 0 and purged["bytes"] > 0
