# SPDX-License-Identifier: MIT
"""`prewarm --metrics-file`: what Prometheus' node_exporter makes of it, and what it counts."""

import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request

import pytest

from agent import default_dispositions, wait_until
from archives import file, noise, tar
from faultserver import status

EXPORTER = shutil.which("prometheus-node-exporter", path="/usr/bin:/usr/sbin:/usr/local/bin")


def samples(text):
    """{"name{labels}": value} of the exposition format."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def own(path):
    return {name.removeprefix("stagerun_prewarm_"): value for name, value in samples(path.read_text()).items()}


@pytest.fixture
def metrics(tmp_path):
    directory = tmp_path / "textfiles"
    directory.mkdir()
    return directory / "stagerun.prom"


@pytest.fixture
def scrape(metrics):
    """What node_exporter says of the directory."""
    assert EXPORTER, "prometheus-node-exporter is missing: packaging/deps installs it"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    exporter = subprocess.Popen(
        [EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", "--collector.textfile",
         f"--collector.textfile.directory={metrics.parent}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=default_dispositions)

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return samples(answer.read().decode())

    def listens():
        try:
            return bool(read())
        except OSError:
            assert exporter.poll() is None, "prometheus-node-exporter has ended"
            return False

    try:
        wait_until(listens, what="node_exporter")
        yield read
    finally:
        exporter.kill()
        exporter.wait()


def test_node_exporter_takes_what_prewarm_writes(stagerun, server, tmp_path, metrics, scrape):
    small = tar(file("a", noise(1000)))
    odd = os.fsencode(tmp_path) + b'/quote" back\\slash line\nfeed \xff'
    stages = ["--stage", os.fsencode(server.put("/x.tar", small).url) + b"=" + odd,
              "--stage", f"{server.put('/y.tar', small).url}={tmp_path}/fähre",
              "--stage", f"{server.put('/no.tar', small, status(404, times=None)).url}={tmp_path}/no"]
    stagerun.run("prewarm", "--metrics-file", metrics, *stages).failed(1, "404")
    seen = scrape()
    assert seen["node_textfile_scrape_error"] == 0
    assert seen['stagerun_prewarm_rounds_total{result="failure"}'] == 1
    assert seen['stagerun_prewarm_failures_total{reason="http"}'] == 1
    assert seen["stagerun_prewarm_received_bytes_total"] == 2 * len(small)
    assert seen["stagerun_prewarm_staged_bytes_total"] == 2000
    up = {name: value for name, value in seen.items() if name.startswith("stagerun_prewarm_destination_up")}
    assert sorted(up.values()) == [0, 1, 1]
    assert any(r'quote\" back\\slash line\nfeed \\xff' in name for name in up), up
    assert any("fähre" in name for name in up), up
    kinds = re.findall(r"^# TYPE stagerun_prewarm_(\w+) (\w+)$", metrics.read_text(), re.M)
    assert len(kinds) == len(set(kinds)) > 9
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds)
    assert len(re.findall(r"^# HELP ", metrics.read_text(), re.M)) == len(kinds)
    assert os.listdir(metrics.parent) == [metrics.name]


def test_counters_continue_and_the_last_success_stays(stagerun, server, dest, metrics):
    served = server.put("/x.tar", tar(file("a", noise(1000))))
    words = ["prewarm", "--metrics-file", metrics, "--stage", f"{served.url}={dest}"]
    stagerun.run(*words).ok()
    first = own(metrics)
    assert first['rounds_total{result="success"}'] == 1 and first["last_success_timestamp_seconds"] > 1.7e9
    stagerun.run(*words).ok()
    second = own(metrics)
    assert second['rounds_total{result="success"}'] == 2
    assert second["received_bytes_total"] == first["received_bytes_total"] > 1000
    assert second["duration_seconds_total"] > second["last_round_duration_seconds"] > 0
    stagerun.run("prewarm", "--metrics-file", metrics, "--config", "/nonexistent.yml").failed(1)
    third = own(metrics)
    assert third['rounds_total{result="failure"}'] == 1 and third['failures_total{reason="not_found"}'] == 1
    assert third["last_success_timestamp_seconds"] == second["last_success_timestamp_seconds"]


def test_the_cache_and_its_evictions_are_counted(stagerun, server, tmp_path, dest, metrics):
    stagerun.configure(cache={"dir": tmp_path / "cache", "max_size": "1500K"})
    for i in range(3):
        served = server.put(f"/{i}.tar", tar(file("a", noise(600_000, seed=i))))
        stagerun.run("prewarm", "--cache-only", "--metrics-file", metrics, "--stage", f"{served.url}={dest}/{i}").ok()
    seen = own(metrics)
    assert seen["cache_entries"] == 2 and 1_200_000 < seen["cache_bytes"] < 1_500 * 1024
    assert seen["cache_evictions_total"] == 1


def test_keep_fresh_writes_after_each_round(stagerun, server, dest, metrics):
    served = server.put("/x.tar", tar(file("a")))
    running = stagerun.start("prewarm", "--keep-fresh", "100ms", "--metrics-file", metrics, "--stage",
                             f"{served.url}={dest}")
    wait_until(lambda: metrics.exists() and own(metrics)['rounds_total{result="success"}'] > 2, what="rounds")
    running.signal(signal.SIGTERM)
    running.wait().ok()
    assert own(metrics)['rounds_total{result="failure"}'] == 0


def test_a_name_that_the_collector_does_not_read_is_refused(stagerun, tmp_path):
    stagerun.run("prewarm", "--metrics-file", tmp_path / "x.txt").failed(2, r"must end with \.prom")


def test_metrics_that_cannot_be_written_are_a_warning(stagerun, server, dest, tmp_path):
    served = server.put("/x.tar", tar(file("a")))
    words = ["--metrics-file", tmp_path / "nowhere/x.prom", "--stage", f"{served.url}={dest}"]
    result = stagerun.run("prewarm", *words).ok()
    assert re.search("warning: cannot write the metrics .*nowhere/x.prom': No such file", result.err)
