# SPDX-License-Identifier: MIT
"""What the report of a run says about stages, sources, their requests and their waits."""

import random
import re

import faultserver as faults
from agent import wait_until
from archives import file, tar
from test_report import Page, read

MANY = tar(*(file(f"f{i}", random.Random(i).randbytes(50_000)) for i in range(60)))
QUICK = {"STAGERUN_NETWORK_STALL_TIMEOUT": "1s", "STAGERUN_NETWORK_RETRY_BASE": "10ms"}


def run(stagerun, tmp_path, *stages, env=None):
    """Stages sources into directories; the three reports."""
    paths = [tmp_path / f"r.{ending}" for ending in ("json", "trace.json", "html")]
    words = [word for path in paths for word in ("--report", path)]
    words += [word for source, dest in stages for word in ("--stage", f"{source}={dest}")]
    result = stagerun.run("run", *words, "--", "true", env=env or {})
    return result, read(paths[0]), read(paths[1], "trace")["traceEvents"], Page(paths[2])


def of_kind(events, kind):
    return [e for e in events if e.get("cat") == kind]


def test_three_sources_one_stalled_and_one_warm(stagerun, server, tmp_path):
    stalled = server.put("/stalled.tar", MANY, faults.stall(1000, times=1), etag='"s1"')
    steady = server.put("/steady.tar", MANY)
    warm = server.put("/warm.tar", tar(file("w", b"warm")), etag='"w1"')
    stagerun.run("fetch", warm.url, tmp_path / "warm").ok()
    result, report, events, page = run(stagerun, tmp_path, *(
        (s.url, tmp_path / name) for s, name in ((stalled, "stalled"), (steady, "steady"), (warm, "warm"))),
        env=QUICK)
    result.ok()
    stages = {s["to"].rsplit("/", 1)[1]: s for s in report["stages"]}
    sources = {s["to"].rsplit("/", 1)[1]: s for s in report["sources"]}
    assert {name: s["how"] for name, s in stages.items()} == {
        "stalled": "staged", "steady": "staged", "warm": "warm"}
    assert all(s["end"] == "ok" and s["origin"] == "--stage" for s in stages.values())
    assert stages["steady"]["entries"] == 60 and stages["steady"]["bytes"] == 60 * 50_000
    assert len(sources) == len(report["sources"]) == 3

    slow = sources["stalled"]
    assert (slow["stalls"], slow["retries"]) == (1, 1)
    assert (slow["format"], slow["etag"], slow["entries"]) == ("tar", '"s1"', 60)
    assert slow["total_bytes"] == slow["received_bytes"] == len(MANY)
    assert slow["expanded_bytes"] == 60 * 50_000
    assert slow["connections"] >= 1 and slow["bottleneck"] == "network" and slow["waits"]["network"] > 0.5
    assert slow["advice"].startswith("a steadier server: nothing arrived any more 1 time")
    assert slow["seconds"] >= 1 > sources["warm"]["seconds"]
    assert (sources["warm"]["etag"], sources["warm"]["ranges"]) == ('"w1"', 0)
    assert "advice" not in sources["warm"]
    assert report["start"]["slowest"]["cause"] == "network"
    assert report["start"]["slowest"]["name"] == slow["name"]
    assert report["start"]["slowest"]["advice"] == slow["advice"]

    ranges = of_kind(events, "range")
    broken, = (r for r in ranges if r["args"]["end"] == "failed")
    assert "no byte arrived for 1.0" in broken["args"]["message"] and broken["args"]["received_bytes"] == 1000
    assert broken["dur"] >= 1e6 and broken["args"]["status"] == 206 and broken["args"]["attempt"] == 1
    assert broken["args"]["first_byte_ns"] > 0
    assert any(r["args"]["attempt"] == 2 and r["args"]["offset"] > 0 for r in ranges)
    assert len(of_kind(events, "publish")) == 2
    assert slow["advice"] in page.text


def test_a_source_that_fails_and_one_that_is_cancelled_for_it(stagerun, server, tmp_path):
    slow = server.put("/slow.tar", MANY, faults.rate(100_000))
    gone = server.url("/gone.tar")
    result, report, events, _ = run(stagerun, tmp_path, (slow.url, tmp_path / "slow"), (gone, tmp_path / "gone"))
    result.failed(125, "404")
    stages = {s["to"].rsplit("/", 1)[1]: s for s in report["stages"]}
    assert {name: (s["end"], s["how"]) for name, s in stages.items()} == {
        "slow": ("cancelled", "cancelled"), "gone": ("failed", "failed")}
    failed, = (s for s in report["sources"] if s["end"] == "failed")
    assert failed["url"] == gone and "404" in failed["message"]
    assert "404" in stages["gone"]["message"]
    assert {s["end"] for s in report["sources"] if s is not failed} <= {"cancelled"}
    assert "open" not in {e["args"]["end"] for e in events if e.get("cat") in ("stage", "source")}


def test_who_was_waited_for_is_in_the_report(stagerun, server, dest, tmp_path):
    source = server.put("/cats.tar", MANY, faults.delay(2, times=1))
    first = stagerun.start("fetch", source.url, dest)
    wait_until(lambda: source.requests, what="the request")
    result, report, events, page = run(stagerun, tmp_path, (source.url, dest))
    result.ok()
    first.wait(20).ok()
    wait, = report["lock_waits"]
    assert wait["end"] == "ok" and wait["seconds"] > 0.5
    assert re.fullmatch(rf"process {first.pid} on .*, since .* UTC", wait["holder"])
    assert wait["stage"].endswith(dest.name)
    lock, = of_kind(events, "lock")
    assert lock["args"]["holder"] == wait["holder"]
    assert report["start"]["slowest"]["cause"] == "lock"
    assert f"process {first.pid}" in page.text
