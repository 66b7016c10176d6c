# SPDX-License-Identifier: MIT
"""What a run leaves about itself: reports as JSON, as a trace and as a page, and spans for a collector."""

import json
import re
import socket
import stat
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from archives import file, tar
from collector import Collector
from stopwatch import Stopwatch

SCHEMA = json.loads((Path(__file__).parent / "report.schema.json").read_text())
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

ACTIONS = """
compute:
  train:
    actions:
      on_experiment_start:
        - echo "first $TRACEPARENT"
        - {run: "exit 3", retries: 0}
"""


def check(kind, document):
    validator = jsonschema.Draft7Validator({**SCHEMA, "$ref": f"#/definitions/{kind}"})
    validator.validate(document)
    return document


def read(path, kind="report"):
    return check(kind, json.loads(Path(path).read_text()))


class Page(HTMLParser):
    """What a page has: its tags, in order, and its text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(Path(path).read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def names(request):
    return [span["name"] for span in spans(request)]


def spans(request):
    return check("otlp", request[2])["resourceSpans"][0]["scopeSpans"][0]["spans"]


def attributes(thing):
    return {a["key"]: next(iter(a["value"].values())) for a in thing["attributes"]}


@pytest.fixture
def collector():
    made = []

    def start(**how):
        made.append(Collector(**how))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_the_schema_is_one():
    for name in ("report", "trace", "otlp"):
        jsonschema.Draft7Validator.check_schema(SCHEMA["definitions"][name])


def test_reports_are_written_before_the_command_replaces_the_agent(stagerun, server, dest, tmp_path):
    source = server.put("/cats.tar", tar(file("a", b"cat")))
    reports = [tmp_path / f"r.{ending}" for ending in ("json", "trace.json", "html")]
    words = [word for path in reports for word in ("--report", path)]
    result = stagerun.run("run", *words, "--stage", f"{source.url}={dest}", "--", "sh", "-c",
                          "ls " + " ".join(str(p) for p in reports)).ok()
    assert sorted(result.out.split()) == sorted(str(p) for p in reports)
    report = read(reports[0])
    assert report["start"]["headline"].startswith("Ready in ")
    assert sum(report["start"]["spent_seconds"].values()) == pytest.approx(report["run"]["ready_seconds"])
    assert report["run"]["command"].startswith("sh -c ls ")
    assert [c["end"] for c in report["commands"]] == ["open"]
    assert "exit_code" not in report["run"]
    trace = read(reports[1], "trace")
    assert {"run", "command"} <= {e["cat"] for e in trace["traceEvents"] if e["ph"] == "X"}
    page = Page(reports[2])
    assert page.text.count("Ready in") == 2 and report["start"]["headline"] in page.text
    assert stat.S_IMODE(reports[0].stat().st_mode) == 0o644
    assert sorted(p.name for p in tmp_path.iterdir() if "r." in p.name) == ["r.html", "r.json", "r.trace.json"]


def test_on_a_track_of_the_trace_nothing_overlaps(stagerun, tmp_path):
    config = stagerun.config(ACTIONS.replace("exit 3", "sleep 0.05"))
    stagerun.run("run", "--config", config, "--report", tmp_path / "r.trace.json", "--", "true").ok()
    events = read(tmp_path / "r.trace.json", "trace")["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"run", "action", "command"} <= set(tracks.values())
    ends = {}
    for event in (e for e in events if e["ph"] == "X"):
        assert event["tid"] in tracks
        assert event["ts"] >= ends.get(event["tid"], 0) - 1e-6
        ends[event["tid"]] = event["ts"] + event["dur"]


def test_a_parent_writes_them_when_the_command_has_ended(stagerun, tmp_path):
    config = stagerun.config("compute: {train: {actions: {on_experiment_end: ['true']}}}")
    stagerun.run("run", "--config", config, "--report", tmp_path / "r.json", "--", "sh", "-c", "exit 3").failed(3)
    report = read(tmp_path / "r.json")
    assert (report["run"]["exit_code"], report["run"]["reason"], report["run"]["end"]) == (3, "failed", "failed")
    command, = report["commands"]
    assert (command["end"], command["exit_code"]) == ("failed", 3)
    assert [a["end"] for a in report["actions"]] == ["ok"]


def test_a_start_that_fails_has_a_report(stagerun, server, dest, tmp_path):
    result = stagerun.run("run", "--report", tmp_path / "r.json", "--report", tmp_path / "r.html", "--stage",
                          f"{server.url('/nothing.tar')}={dest}", "--", "true").failed(125, "404")
    report = read(tmp_path / "r.json")
    assert report["start"]["headline"].startswith("Failed after ")
    assert (report["run"]["phase"], report["run"]["reason"]) == ("stage", "start_failed")
    assert "ready_seconds" not in report["run"] and "404" in report["run"]["message"], result
    assert "404" in Page(tmp_path / "r.html").text


def test_an_action_that_fails_is_in_the_report(stagerun, tmp_path):
    stagerun.run("run", "--config", stagerun.config(ACTIONS), "--report", tmp_path / "r.json", "--",
                 "true").failed(125)
    first, second = read(tmp_path / "r.json")["actions"]
    assert (first["end"], first["exit_code"]) == ("ok", 0)
    assert (second["end"], second["exit_code"], second["message"]) == ("failed", 3, "exit status 3")


def test_each_attempt_of_an_action_is_one_step(stagerun, tmp_path):
    flag = tmp_path / "flag"
    config = stagerun.config(f"""
compute: {{train: {{actions: {{on_experiment_start: [{{run: "test -e {flag} || {{ touch {flag}; exit 1; }}", retries: 1}}]}}}}}}
""")
    stagerun.run("run", "--config", config, "--report", tmp_path / "r.json", "--", "true").ok()
    assert [(a["end"], a["attempt"]) for a in read(tmp_path / "r.json")["actions"]] == [("failed", 1), ("ok", 2)]


def test_a_command_that_is_not_there_has_a_report(stagerun, tmp_path):
    stagerun.run("run", "--report", tmp_path / "r.json", "--", "nosuchcommand").failed(127)
    run = read(tmp_path / "r.json")["run"]
    assert (run["exit_code"], run["phase"], run["end"]) == (127, "exec", "failed")
    assert "nosuchcommand" in run["message"]


def test_warnings_are_in_the_report(stagerun, tmp_path):
    config = stagerun.config("compute: {train: {nosuchkey: 1}}")
    result = stagerun.run("run", "--config", config, "--report", tmp_path / "r.json", "--", "true").ok()
    warning, = read(tmp_path / "r.json")["warnings"]
    assert "nosuchkey" in warning and warning in result.err


def test_the_variable_names_several(stagerun, tmp_path):
    both = f"{tmp_path}/a.json::{tmp_path}/b.html"
    stagerun.run("run", "--", "true", env={"STAGERUN_REPORT": both}).ok()
    read(tmp_path / "a.json")
    assert (tmp_path / "b.html").exists()
    stagerun.run("run", "--report", tmp_path / "c.json", "--", "true",
                 env={"STAGERUN_REPORT": f"{tmp_path}/d.json"}).ok()
    assert (tmp_path / "c.json").exists() and not (tmp_path / "d.json").exists()


@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_unknown_ending_is_an_error_before_anything_starts(stagerun, tmp_path, how):
    option = ["--report", "r.txt"] if how == "option" else []
    env = {"STAGERUN_REPORT": "r.txt"} if how == "variable" else {}
    stagerun.run("run", *option, "--", "touch", tmp_path / "ran", env=env).failed(
        125, r"'r.txt' has no known ending: .html for people, .json for programs, .trace.json for Perfetto")
    assert not (tmp_path / "ran").exists()


def test_standard_output_gets_the_report_and_then_the_command(stagerun):
    out = stagerun.run("run", "--report", "/dev/stdout", "--", "echo", "done").ok().out
    report, _, rest = out.partition("\n}\n")
    check("report", json.loads(report + "}"))
    assert rest == "done\n"


def test_a_report_that_cannot_be_written_is_a_warning(stagerun, tmp_path):
    result = stagerun.run("run", "--report", "/nonexistent/r.json", "--", "echo", "ran").ok()
    assert result.out == "ran\n"
    assert "warning: cannot write the report '/nonexistent/r.json': No such file" in result.err


def test_a_dry_run_writes_no_report(stagerun, tmp_path):
    stagerun.run("run", "--dry-run", "--report", tmp_path / "r.json", "--", "true").ok()
    assert not (tmp_path / "r.json").exists()


def test_secrets_are_in_no_report(stagerun, tmp_path):
    env = {"MY_TOKEN": "persimmon-report"}
    for ending in ("json", "trace.json", "html"):
        path = tmp_path / f"r.{ending}"
        stagerun.run("run", "--report", path, "--", "echo", "persimmon-report", env=env).ok()
        assert "persimmon" not in path.read_text() and "***" in path.read_text()


def test_a_signal_during_the_start_has_a_report(stagerun, tmp_path):
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: ['kill -TERM $PPID; sleep 30']}}}")
    stagerun.run("run", "--config", config, "--report", tmp_path / "r.json", "--", "true").failed(143)
    report = read(tmp_path / "r.json")
    assert (report["run"]["end"], report["run"]["reason"]) == ("cancelled", "terminated")
    assert report["start"]["headline"].startswith("Stopped after ")
    assert [a["end"] for a in report["actions"]] == ["cancelled"]


# The termination message.


def termination_of(stagerun, *args):
    path = stagerun.directory / "termination"
    result = stagerun.run("run", *args, env={"STAGERUN_TERMINATION_LOG": str(path)})
    line = path.read_bytes() if path.exists() else None
    return result, line


def test_the_termination_message_says_what_was_staged(stagerun, server, dest):
    body = tar(file("a", b"cat"))
    source = server.put("/cats.tar", body, etag='"v1"')
    for end, received in (("exit 3", len(body)), ("exit 0", 0)):
        _, line = termination_of(stagerun, "--supervise", "always", "--stage", f"{source.url}={dest}", "--",
                                 "sh", "-c", end)
        said = json.loads(line)
        assert said["reason"] == ("failed" if end == "exit 3" else "completed")
        staged, = said["staged"]
        assert staged["source"].endswith("/cats.tar") and staged["version"] == '"v1"'
        assert staged["bytes"] == received and 0 <= staged["seconds"] < 60


def test_a_run_that_ends_well_and_staged_nothing_leaves_no_message(stagerun):
    assert termination_of(stagerun, "--supervise", "always", "--", "true")[1] is None


def test_the_termination_message_drops_what_does_not_fit(stagerun, server, place):
    words = []
    for i in range(60):
        source = server.put(f"/{i}-{'x' * 90}.txt", b"x")
        words += ["--stage", f"{source.url}={place.parent}/d{i}"]
    _, line = termination_of(stagerun, "--supervise", "always", *words, "--", "false")
    assert len(line) <= 4096
    said = json.loads(line)
    assert said["exit_code"] == 1 and 10 < len(said["staged"]) < 40


# Spans for a collector.


def test_the_collector_gets_the_start_before_the_command(stagerun, collector):
    c = collector()
    config = stagerun.config(ACTIONS.replace("exit 3", "exit 0"))
    result = stagerun.run("run", "--config", config, "--", "sh", "-c", "echo command $TRACEPARENT",
                          env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, "OTEL_SERVICE_NAME": "train",
                               "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=p%2D1",
                               "TRACEPARENT": f"00-{TRACE}-{PARENT}-01", "TRACESTATE": "a=b"}).ok()
    (path, headers, body), = c.requests
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("OTel-OTLP-Exporter-stagerun/")
    assert attributes(body["resourceSpans"][0]["resource"]) == {"service.name": "train", "k8s.pod.name": "p-1"}
    assert names(c.requests[0]) == ["stagerun", "action", "action"]
    run, first, _ = spans(c.requests[0])
    assert (run["traceId"], run["parentSpanId"], run["traceState"]) == (TRACE, PARENT, "a=b")
    assert {s["parentSpanId"] for s in spans(c.requests[0])[1:]} == {run["spanId"]}
    assert int(run["startTimeUnixNano"]) <= int(first["startTimeUnixNano"]) <= int(first["endTimeUnixNano"])
    assert attributes(run)["process.executable.name"] == "stagerun"
    assert f"first 00-{TRACE}-{first['spanId']}-01" in result.out
    assert f"command 00-{TRACE}-{run['spanId']}-01" in result.out


def test_a_parent_sends_the_rest_at_the_end(stagerun, collector):
    c = collector()
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: ['true'], on_experiment_end: ['true']}}}")
    result = stagerun.run("run", "--config", config, "--", "sh", "-c", "echo $TRACEPARENT; exit 3",
                          env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).failed(3)
    assert [names(r) for r in c.requests] == [["action"], ["stagerun", "command", "action"]]
    run, command, _ = spans(c.requests[1])
    assert run["status"]["code"] == 2 and "exit status 3" in run["status"]["message"]
    assert attributes(command)["process.exit.code"] == "3"
    assert "parentSpanId" not in run
    assert result.out.strip() == f"00-{run['traceId']}-{command['spanId']}-01"
    ids = [s["spanId"] for r in c.requests for s in spans(r)]
    assert len(set(ids)) == len(ids)


def test_headers_and_compression_are_those_of_the_variables(stagerun, collector):
    c = collector()
    result = stagerun.run("run", "-v", "--", "true",
                          env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{c.url}/own",
                               "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20quince-header,x-team=a",
                               "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}).ok()
    (path, headers, _), = c.requests
    assert path == "/own" and headers["content-encoding"] == "gzip"
    assert (headers["authorization"], headers["x-team"]) == ("Bearer quince-header", "a")
    assert names(c.requests[0]) == ["stagerun"]
    assert "quince" not in result.err


def test_a_start_that_fails_is_sent(stagerun, collector):
    c = collector()
    stagerun.run("run", "--config", stagerun.config(ACTIONS), "--", "true",
                 env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).failed(125)
    assert sorted(names(c.requests[0])) == ["action", "action", "stagerun"]
    assert [s["status"].get("code") for s in spans(c.requests[0])] == [2, None, 2]


@pytest.mark.parametrize("answer", [(429, {"Retry-After": "0"}), (502, {}), (503, {}), (504, {})])
def test_a_busy_collector_is_asked_again(stagerun, collector, answer):
    c = collector(answers=[answer, answer])
    stagerun.configure(report={"otlp_timeout": "10s"})
    stagerun.run("run", "--", "true", env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).ok()
    assert len(c.requests) == 3
    assert len({json.dumps(r[2]) for r in c.requests}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_a_refusal_is_final(stagerun, collector, status):
    c = collector(answers=[(status, {})] * 9)
    result = stagerun.run("run", "-v", "--", "true", env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).ok()
    assert len(c.requests) == 1
    assert f"debug: the trace of the run was not sent: {c.url}/v1/traces: the collector answered {status}" in result.err


def test_a_wait_that_the_time_does_not_allow_is_not_begun(stagerun, collector):
    c = collector(answers=[(503, {"Retry-After": "30"})])
    watch = Stopwatch()
    stagerun.run("run", "--", "true", env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).ok()
    assert watch.read() < 5 and len(c.requests) == 1


def test_a_slow_collector_delays_the_command_no_longer_than_the_setting(stagerun, collector):
    c = collector(delay=6)
    stagerun.configure(report={"otlp_timeout": "300ms"})
    watch = Stopwatch()
    result = stagerun.run("run", "--", "echo", "ran", env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url}).ok()
    assert result.out == "ran\n" and result.err == ""
    assert 0.25 < watch.read() < 4


def test_the_users_shorter_time_counts(stagerun, collector):
    c = collector(delay=6)
    stagerun.configure(report={"otlp_timeout": "20s"})
    watch = Stopwatch()
    stagerun.run("run", "--", "true",
                 env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "200"}).ok()
    assert watch.read() < 4


def test_a_collector_that_is_not_there_is_one_line_of_debugging(stagerun):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        assert stagerun.run("run", "--", "true", env=env).ok().err == ""
        told = stagerun.run("run", "-v", "--", "true", env=env).ok().err
    assert len(re.findall("the trace of the run was not sent", told)) == 1


def test_a_collector_that_is_not_there_delays_nothing(stagerun):
    stagerun.configure(report={"otlp_timeout": "30s"})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        watch = Stopwatch()
        stagerun.run("run", "--", "true", env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{unused.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "30000"}).ok()
    assert watch.read() < 15


@pytest.mark.parametrize("env", [
    {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    {"TRACEPARENT": f"00-{TRACE}-{PARENT}-00"}])
def test_what_is_not_wanted_is_not_sent(stagerun, collector, env):
    c = collector()
    stagerun.run("run", "--", "true", env={"OTEL_EXPORTER_OTLP_ENDPOINT": c.url, **env}).ok()
    assert not c.requests


def test_without_a_collector_the_trace_of_others_is_left_alone(stagerun):
    parent = f"00-{TRACE}-{PARENT}-01"
    assert stagerun.run("run", "--", "sh", "-c", "echo $TRACEPARENT", env={"TRACEPARENT": parent}).ok().out == parent + "\n"
    assert stagerun.run("run", "--", "sh", "-c", "echo $TRACEPARENT").ok().out == "\n"
