# SPDX-License-Identifier: MIT
"""--dry-run answers whether the run would work: each thing that is in the way is a line, and nothing is touched."""

import json
import os
import signal
from pathlib import Path

import jsonschema
import pytest
from agent import wait_until
from archives import file, noise, tar
from faultserver import status
from trees import snapshot

SCHEMA = json.loads((Path(__file__).parent / "plan.schema.json").read_text())
ARCHIVE = tar(file("a", noise(600_000)))


def checked(result):
    """The plan of a dry run with --json, which follows the schema to the letter."""
    plan = json.loads(result.out)
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(plan)
    assert plan["ok"] == (plan["problems"] == []) == (result.code == 0), str(result)
    return plan


@pytest.fixture
def plan(stagerun):
    """The plan of `run --dry-run --json` with these words."""
    def ask(*words, command=("true",), env=None, code=None):
        result = stagerun.run("run", "--dry-run", "--json", *words, "--", *command, env=env or {})
        assert code is None or result.code == code, str(result)
        return checked(result)
    return ask


@pytest.fixture
def served(server):
    return server.put("/x.tar", ARCHIVE)


def only(plan):
    assert len(plan["stages"]) == 1
    return plan["stages"][0]


def test_a_plan_that_would_work_has_everything_and_nothing_is_touched(stagerun, server, served, dest, plan):
    config = stagerun.config("compute:\n  train:\n    environment: {COLOR: red}\n    actions:\n      on_experiment_start:\n"
                             f"        - stage: {{source: '{served.url}', to: '{dest}'}}\n        - touch ran\n")
    said = plan("--config", config, code=0)
    stage = only(said)
    assert (stage["to"], stage["result"], stage["others"]) == (str(dest), "fetch", [])
    assert stage["sources"][0]["size_bytes"] == stage["needed_bytes"] == len(ARCHIVE)
    assert stage["free_bytes"] > len(ARCHIVE)
    assert said["command"]["path"].endswith("/true") and said["command"]["found"]
    assert [a["run"] for a in said["actions"]] == ["touch ran"]
    assert said["environment"] == [{"name": "COLOR", "value": "red", "origin": f"{config}:3"}]
    assert not (stagerun.cwd / "ran").exists()
    assert not dest.exists() and not (dest.parent / ".stagerun").exists()


def test_every_problem_is_said_and_not_only_the_first(stagerun, server, tmp_path):
    (tmp_path / "file").write_text("")
    result = stagerun.run("run", "--dry-run", "--stage", f"{server.url('/gone')}={tmp_path}/one",
                          "--stage", f"{server.url('/lost')}={tmp_path}/two",
                          "--stage", f"{server.put('/x.tar', ARCHIVE).url}={tmp_path}/file", "--", "no-such-command")
    lines = result.failed(1).err.splitlines()
    assert len(lines) == 4, str(result)
    for line, words in zip(lines, [("one", "/gone", "404"), ("two", "/lost", "404"), ("file", "not a directory"),
                                   ("no-such-command", "not found in PATH")]):
        assert all(word in line for word in words), str(result)


def test_what_is_there_already_is_said(stagerun, served, dest, plan):
    stagerun.fetch(served.url, dest).ok()
    before = snapshot(dest.parent)
    assert only(plan("--stage", f"{served.url}={dest}", code=0))["result"] == "warm"
    assert snapshot(dest.parent) == before


def test_another_version_there_is_a_problem_unless_it_may_be_replaced(stagerun, server, served, dest, plan):
    stagerun.fetch(served.url, dest).ok()
    other = server.put("/y.tar", tar(file("b")))
    before = snapshot(dest.parent)
    said = plan("--stage", f"{other.url}={dest}", code=1)
    assert only(said)["result"] == "refused" and "--replace" in said["problems"][0]
    assert only(plan("--replace", "--stage", f"{other.url}={dest}", code=0))["replace"]
    assert snapshot(dest.parent) == before


def test_files_of_others_there_are_named(served, dest, plan):
    dest.mkdir()
    for name in "pqrst":
        (dest / name).write_text("")
    stage = only(plan("--stage", f"{served.url}={dest}", code=0))
    assert stage["result"] == "fetch" and len(stage["others"]) == 3 and stage["more_others"] == 2
    assert sorted(os.listdir(dest)) == list("pqrst")


def test_a_directory_that_cannot_be_written_is_a_problem(served, plan):
    said = plan("--stage", f"{served.url}=/proc/sys/x/y", code=1)
    assert "/proc/sys/x" in said["problems"][0] and only(said)["result"] == "refused"


def test_what_the_node_cache_has_comes_from_there(stagerun, server, served, dest, tmp_path, plan):
    stagerun.configure(cache={"dir": tmp_path / "cache", "min_free": "none"})
    assert plan("--stage", f"{served.url}={dest}", code=0)["cache"] == str(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    stagerun.fetch(served.url, tmp_path / "first").ok()
    before = snapshot(tmp_path / "cache")
    assert only(plan("--stage", f"{served.url}={dest}", code=0))["result"] == "cached"
    assert snapshot(tmp_path / "cache") == before


def test_a_datastore_tells_its_files_and_a_limit_that_it_exceeds(stagerun, store, dest, tmp_path, plan):
    source = tmp_path / "cats"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(noise(300_000))
    stagerun.run("datastore", "create", source).ok()
    stage = only(plan("--datastore", f"cats={dest}", code=0))
    assert (stage["needed_bytes"], stage["needed_inodes"]) == (600_000, 2)
    assert stage["sources"][0]["version"] == 1
    stagerun.configure(limits={"max_bytes": "500000"})
    said = plan("--datastore", f"cats={dest}", code=1)
    assert "600 kB" in said["problems"][0] and "500 kB" in said["problems"][0]


def test_a_disk_that_is_too_small_is_a_problem(dest, tmp_path, plan):
    """For both together, and said once."""
    disk = os.statvfs(tmp_path)
    for name in ("one", "two"):
        with open(tmp_path / name, "wb") as big:
            big.truncate(disk.f_bfree * disk.f_frsize * 3 // 4)
    fits = ["--stage", f"{tmp_path}/one={dest}/1"]
    plan(*fits, code=0)
    said = plan(*fits, "--stage", f"{tmp_path}/two={dest}/2", code=1)
    assert len(said["problems"]) == 1, said["problems"]
    assert "and 1 more on its file system" in said["problems"][0] and "would be needed" in said["problems"][0]


@pytest.mark.parametrize("how, bringer", [("action", "an action"), ("stage", None)])
def test_a_command_that_something_may_bring_is_no_problem(stagerun, served, dest, plan, how, bringer):
    words = ["--stage", f"{served.url}={dest}"]
    if how == "action":
        words += ["--config", stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start: ['true']\n")]
        command = plan(*words, command=["late"], code=0)["command"]
    else:
        command = plan(*words, command=[f"{dest}/a"], code=0)["command"]
    assert not command["found"] and command["exit_code"] == 127
    assert command["may_come_from"] == (bringer or str(dest))


def test_settings_with_their_default_are_left_out(stagerun):
    stagerun.configure(network={"retries": 3})
    short, full = (stagerun.run("run", "--dry-run", *more, "--", "true").ok().out for more in ([], ["--verbose"]))
    assert "network.retries" in short and "network.connections_per_host" not in short
    assert "network.connections_per_host" in full and len(full) > 2 * len(short)


def test_a_plan_that_cannot_be_made_is_an_object_too(stagerun, served, dest):
    result = stagerun.run("run", "--dry-run", "--json", "--stage", f"{served.url}={dest}",
                          "--stage", f"{served.url}={dest}/below", "--", "true").failed(125)
    assert "lies inside the other" in checked(result)["problems"][0]


def test_a_dry_run_of_prewarm_is_the_same(stagerun, server, served, dest):
    said = checked(stagerun.run("prewarm", "--dry-run", "--json", "--stage", f"{served.url}={dest}").ok())
    assert only(said)["result"] == "fetch" and "command" not in said
    result = stagerun.run("prewarm", "--dry-run", "--json", "--stage", f"{server.url('/gone')}={dest}").failed(1)
    assert "404" in checked(result)["problems"][0]


def test_cache_only_without_a_cache_is_a_problem(stagerun, served, dest):
    result = stagerun.run("prewarm", "--dry-run", "--cache-only", "--stage", f"{served.url}={dest}").failed(1)
    assert "--cache-only" in result.err and not dest.exists()


def test_json_without_a_dry_run_is_refused(stagerun):
    stagerun.run("run", "--json", "--", "true").failed(125, "--json is for --dry-run")


def test_sources_are_asked_at_the_same_time(stagerun, server, tmp_path):
    """Four that do not answer cost no more than one does; each gets its request before any is answered."""
    all_served = [server.put(f"/{i}.tar", ARCHIVE, status(503, times=None, Retry_After="60")) for i in range(4)]
    words = [w for i, s in enumerate(all_served) for w in ("--stage", f"{s.url}={tmp_path}/{i}")]
    running = stagerun.start("run", "--dry-run", *words, "--", "true")
    wait_until(lambda: all(s.requests for s in all_served), what="a request for each")
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143
