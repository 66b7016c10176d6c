# SPDX-License-Identifier: MIT
"""--dry-run prints the plan with the origin of every value, and touches nothing."""

import re
import signal

import pytest
from agent import wait_until
from archives import file, noise, tar
from faultserver import status
from trees import snapshot


@pytest.fixture
def planned(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", noise(600_000))))
    config = stagerun.config(
        "compute:\n  train:\n    environment: {API_TOKEN: t0p-secret, COLOR: red}\n"
        "    actions:\n      on_experiment_start:\n"
        f"        - stage: {{source: '{served.url}', to: '{dest}'}}\n"
        "        - touch ran\n")
    stagerun.configure(network={"retries": 3})
    result = stagerun.run("run", "--dry-run", "--verbose", "--config", config, "--", "touch", "ran",
                          env={"STAGERUN_NETWORK_CONNECTIONS": "7"})
    return result.ok(), served


def test_the_plan_names_sources_destinations_actions_and_the_command(planned, dest):
    result, served = planned
    for word in (served.url, str(dest), "touch ran", "touch"):
        assert word in result.out, str(result)


def test_the_plan_tells_sizes(planned):
    result, _ = planned
    assert re.search(r"60\d(\.\d+)? kB", result.out), str(result)


@pytest.mark.parametrize("setting, value, origin", [
    ("network.retries", "3", r"agent\.ini:\d+"),
    ("network.connections", "7", r"env STAGERUN_NETWORK_CONNECTIONS"),
    ("network.connections_per_host", r"\d+", "default"),
])
def test_every_setting_tells_its_origin(planned, setting, value, origin):
    result, _ = planned
    assert re.search(rf"^\s*{re.escape(setting)}\b\s*=?\s*{value}\b.*{origin}", result.out,
                     re.M), str(result)


def test_items_tell_their_line(planned):
    result, _ = planned
    assert "config.yml:6" in result.out and "config.yml:7" in result.out, str(result)


def test_values_that_look_secret_are_not_printed(planned):
    result, _ = planned
    assert "t0p-secret" not in result.out + result.err
    assert "API_TOKEN" in result.out, str(result)


def test_nothing_is_touched(planned, stagerun, place):
    result, served = planned
    assert not (stagerun.cwd / "ran").exists(), str(result)
    assert sum(r.sent for r in served.requests) <= 1
    assert snapshot(stagerun.cwd) == snapshot(stagerun.home) == snapshot(stagerun.tmp) == {}
    assert not (place.parent / ".stagerun").exists()
    place.assert_nothing_published()


def test_a_signal_ends_it_with_its_code(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")), status(503, times=None, Retry_After="60"))
    running = stagerun.start("run", "--dry-run", "--stage", f"{served.url}={dest}", "--", "true")
    wait_until(lambda: served.requests, what="a first request")
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143


def test_a_source_that_cannot_be_had_is_told(stagerun, server, dest):
    result = stagerun.run("run", "--dry-run", "--stage", f"{server.url('/gone')}={dest}", "--",
                          "true")
    assert "404" in result.out + result.err, str(result)
