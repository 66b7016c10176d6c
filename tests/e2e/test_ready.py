# SPDX-License-Identifier: MIT
"""The line at the end of a run's start: how long it took, and for what."""

import json
import random
import re

import faultserver as faults
from archives import file, tar

BODY = tar(file("a", random.Random(1).randbytes(300_000)))
TIME = r"[0-9.]+ (ms|s|min)"


def lines(result):
    return [line for line in result.err.splitlines() if "ready in" in line]


def test_it_says_what_was_staged_and_waited_for(stagerun, server, dest, tmp_path):
    source = server.put("/cats.tar", BODY, faults.delay(0.3, times=1))
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: ['sleep 0.2']}}}")
    result = stagerun.run("run", "--config", config, "--stage", f"{source.url}={dest}", "--", "true").ok()
    line, = lines(result)
    assert re.fullmatch(rf".*ready in {TIME}: 300 kB staged \(network {TIME}(, disk {TIME})?\), actions {TIME}", line)


def test_parts_that_were_nothing_are_left_out(stagerun, server, dest):
    assert lines(stagerun.run("run", "--", "true").ok()) == []
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: ['sleep 0.1']}}}")
    line, = lines(stagerun.run("run", "--config", config, "--", "true").ok())
    assert re.fullmatch(rf".*ready in {TIME}: actions {TIME}", line)
    source = server.put("/cats.tar", BODY, etag='"v1"')
    stage = ("run", "--stage", f"{source.url}={dest}", "--", "true")
    assert len(lines(stagerun.run(*stage).ok())) == 1
    assert lines(stagerun.run(*stage).ok()) == [], "it was there already"


def test_a_start_that_fails_is_not_ready(stagerun):
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: [{run: 'exit 3', retries: 0}]}}}")
    assert lines(stagerun.run("run", "--config", config, "--", "true").failed(125)) == []


def test_it_is_an_event_for_programs(stagerun, server, dest):
    source = server.put("/cats.tar", BODY, faults.delay(0.3, times=1))
    result = stagerun.run("run", "--log-format", "json", "--stage", f"{source.url}={dest}", "--", "true").ok()
    events = [json.loads(line) for line in result.err.splitlines()]
    ready, = (e for e in events if e.get("event") == "ready")
    assert ready["bytes"] == 300_000 and ready["message"].startswith("ready in ")
    assert ready["seconds"] >= ready["network_seconds"] > 0.2
    assert {"decode_seconds", "disk_seconds", "dependencies_seconds", "actions_seconds"} <= set(ready)
