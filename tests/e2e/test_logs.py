# SPDX-License-Identifier: MIT
"""What is said while it works: little by default, never a secret, for people or for machines."""

import json
import os
import pty
import re
import select

import pytest
from archives import COMPRESS, file, noise, tar
from faultserver import later, rate, stall, status

ARCHIVE = COMPRESS["gz"](tar(file("a", noise(600_000))))


def test_a_fetch_says_a_few_lines(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE)
    lines = stagerun.fetch(served.url, dest).ok().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(line.startswith("stagerun: ") for line in lines)


def test_the_line_of_a_source_tells_size_time_rate_and_what_it_waited_for(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, rate(200_000))
    err = stagerun.fetch(served.url, dest).ok().err
    line = next(line for line in err.splitlines() if "x.tar.gz" in line and "/s" in line)
    for pattern in ("600 kB", r"B/s", "network"):
        assert pattern in line, err


def test_nothing_goes_to_stdout(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE)
    assert stagerun.run("run", "--verbose", "--stage", f"{served.url}={dest}", "--", "true"
                        ).ok().out == ""


def test_verbose_says_more(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE)
    quiet = stagerun.run("prewarm", "--stage", f"{served.url}={dest}").ok().err
    verbose = stagerun.run("prewarm", "--verbose", "--stage", f"{served.url}={dest}-2").ok().err
    assert len(verbose.splitlines()) > len(quiet.splitlines())


def test_json_lines_are_json(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE)
    err = stagerun.run("prewarm", "--log-format", "json", "--verbose", "--stage",
                       f"{served.url}={dest}").ok().err
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines and all({"time", "level", "event", "message"} <= line.keys() for line in lines)


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def has_times(output):
    """Whether each line of the agent begins with the time; either all do, or none."""
    lines = [line for line in output.splitlines() if "stagerun: " in line]
    assert lines
    with_time = [line for line in lines if re.match(TIME + "stagerun: ", line)]
    without = [line for line in lines if line.startswith("stagerun: ")]
    assert not with_time or not without, output
    assert len(with_time or without) == len(lines), output
    return bool(with_time)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "pty"])
@pytest.mark.parametrize("setting", [None, "auto", "yes", "no"])
def test_lines_have_the_time_where_nobody_else_gives_it(stagerun, server, dest, setting, terminal):
    served = server.put("/x.tar.gz", ARCHIVE)
    args, env = ("fetch", "--no-progress", served.url, dest), {"STAGERUN_AGENT_LOG_TIME": setting}
    output = on_a_terminal(stagerun, *args, env=env) if terminal else stagerun.run(*args, env=env).ok().err
    assert has_times(output) == {"yes": True, "no": False}.get(setting, not terminal)


def test_what_children_print_gets_no_time(stagerun):
    config = stagerun.config("""
compute: {train: {actions: {on_experiment_start: ["echo hello >&2"]}}}
""")
    stagerun.configure(actions={"prefix_output": "yes"})
    err = stagerun.run("run", "--config", config, "--", "sh", "-c", "echo world >&2",
                       env={"STAGERUN_AGENT_LOG_TIME": "yes"}).ok().err
    assert has_times(err)
    assert [line for line in err.splitlines() if line.endswith(("hello", "world")) and "echo" not in line] \
        == ["[on_experiment_start 1] hello", "world"]


TEXTS = ("time", "level", "event", "message", "source", "to", "format", "result", "waited_for")


def test_the_json_line_of_a_source_has_numbers(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE)
    err = stagerun.run("prewarm", "--log-format=json", "--stage", f"{served.url}={dest}").ok().err
    lines = [json.loads(line) for line in err.splitlines()]
    done = next(line for line in lines if line["event"] == "stage_done")
    assert done["level"] == "info" and done["bytes"] == len(ARCHIVE)
    assert all(isinstance(value, str if key in TEXTS else float if "seconds" in key else int)
               and not isinstance(value, bool) for key, value in done.items()), done


def test_a_failure_is_one_line_that_says_what_where_and_why(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, status(403, times=None))
    err = stagerun.fetch(served.url, dest).failed(1).err
    reasons = [line for line in err.splitlines() if "403" in line]
    assert len(reasons) == 1
    assert served.url in reasons[0]


def test_the_failure_goes_to_the_termination_message(stagerun, server, dest):
    message = stagerun.directory / "termination-log"
    message.touch()
    result = stagerun.run("run", "--stage", f"{server.url('/gone')}={dest}", "--", "true",
                          env={"STAGERUN_TERMINATION_LOG": str(message)}).failed(125, "404")
    said = json.loads(message.read_text())
    assert "404" in said.pop("message"), str(result)
    assert said == {"phase": "stage", "item": server.url("/gone"), "exit_code": 125,
                    "reason": "start_failed"}


def termination_of(stagerun, *args):
    """The termination message of a run that fails."""
    path = stagerun.directory / "termination-log"
    result = stagerun.run("run", *args, env={"STAGERUN_TERMINATION_LOG": str(path)})
    said = json.loads(path.read_text())
    assert said["exit_code"] == result.code, str(result)
    return said


def test_the_termination_message_names_the_action_that_failed(stagerun):
    config = stagerun.config("""
compute: {train: {actions: {on_experiment_start: ["true", "exit 3"]}}}
""")
    said = termination_of(stagerun, "--config", config, "--", "true")
    assert said["phase"] == "start"
    assert said["item"] == f"on_experiment_start action 2 ({config}:2)"


def test_the_termination_message_names_the_command_that_was_not_found(stagerun):
    said = termination_of(stagerun, "--", "no-such-command", "--flag")
    assert said["phase"] == "exec" and said["item"] == "no-such-command"


def test_the_termination_message_names_the_one_source_of_several_that_failed(
        stagerun, server, dest):
    good = server.put("/x.tar.gz", ARCHIVE)
    said = termination_of(stagerun, "--stage", f"{good.url}={dest}",
                          "--stage", f"{server.url('/gone')}={dest}", "--", "true")
    assert said["item"] == server.url("/gone")


def test_a_failure_before_the_settings_goes_to_the_termination_message(stagerun):
    message = stagerun.directory / "termination-log"
    env = {"STAGERUN_TERMINATION_LOG": str(message)}
    stagerun.run("run", "--no-such-option", "--", "true", env=env).failed(125)
    assert "--no-such-option" in message.read_text()
    message.unlink()
    stagerun.ini.write_text("[network]\nretries = many\n")
    stagerun.run("run", "--", "true", env=env).failed(125, "agent.ini:2")
    assert "agent.ini:2" in message.read_text()


SECRETS = ["hunter2", "s3cr3t-signature", "sesame-token"]


def secret_url(server):
    return server.url("/x.tar.gz?X-Amz-Signature=s3cr3t-signature", host="cat:hunter2@127.0.0.1")


def assert_no_secret(server, result):
    assert f"{server.port}/x.tar.gz" in result.err + result.out, str(result)
    for secret in SECRETS:
        assert secret not in result.err + result.out


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_never_said(stagerun, server, dest, fails, form):
    stagerun.configure(network={"headers": [f"{server.url('/')} Authorization: sesame-token"]})
    served = server.put("/x.tar.gz", ARCHIVE)
    if fails:
        served.faults.append(status(503, times=None))
    result = stagerun.run("prewarm", "--verbose", "--log-format", form, "--stage",
                          f"{secret_url(server)}={dest}")
    assert result.code == int(fails)
    assert_no_secret(server, result)


def test_a_dry_run_prints_no_secret(stagerun, server, dest):
    stagerun.configure(network={"headers": [f"{server.url('/')} Authorization: sesame-token"]})
    server.put("/x.tar.gz", ARCHIVE)
    assert_no_secret(server, stagerun.run("run", "--dry-run", "--stage",
                                          f"{secret_url(server)}={dest}", "--", "true").ok())


def test_state_files_hold_no_secret(stagerun, server, place):
    url = server.put("/x.tar.gz", ARCHIVE).url.replace("//", "//cat:hunter2@")
    stagerun.fetch(url + "?X-Amz-Signature=s3cr3t-signature", place.dest).ok()
    records = list((place.parent / ".stagerun").rglob("*.json"))
    assert records
    for record in records:
        for secret in SECRETS:
            assert secret not in record.read_text()


# --- progress ---

def on_a_terminal(stagerun, *args, env=None):
    """Runs it with stderr on a pseudo terminal; what the terminal got."""
    master, slave = pty.openpty()
    running = stagerun.start(*args, stderr=slave, env={"TERM": "xterm", **(env or {})})
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 20)[0]:
        try:
            block = os.read(master, 65536)
        except OSError:  # how a terminal whose other end is closed says so
            break
        if not block:
            break
        seen += block
    os.close(master)
    running.files[1].write_bytes(seen)  # for the result to show, and be judged by
    running.wait().ok()
    return seen.decode(errors="replace")


def is_live(output):
    return "\r" in output.replace("\r\n", "\n") or "\x1b[" in output


def test_progress_is_live_on_a_terminal(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, rate(800_000))
    output = on_a_terminal(stagerun, "fetch", served.url, dest)
    assert is_live(output) and "%" in output


@pytest.mark.parametrize("option, env", [(["--no-progress"], {}), ([], {"NO_COLOR": "1"}),
                                         ([], {"TERM": "dumb"})],
                         ids=["--no-progress", "NO_COLOR", "TERM=dumb"])
def test_progress_can_be_turned_off(stagerun, server, dest, option, env):
    served = server.put("/x.tar.gz", ARCHIVE, rate(800_000))
    output = on_a_terminal(stagerun, "prewarm", *option, "--stage", f"{served.url}={dest}",
                           env=env)
    assert not is_live(output)
    assert "x.tar.gz" in output


def test_progress_without_a_terminal_is_lines(stagerun, server, dest):
    """One when the source starts, one after five seconds, then one in each interval."""
    served = server.put("/x.tar.gz", ARCHIVE, rate(75_000))
    result = stagerun.fetch(served.url, dest, env={"STAGERUN_AGENT_PROGRESS_INTERVAL": "1s", "STAGERUN_NETWORK_CONNECTIONS": "1"}).ok()
    assert not is_live(result.err)
    lines = result.err.splitlines()
    assert re.search(rf"x\.tar\.gz -> {dest}: started, 600 kB$", lines[0])
    beats = [line for line in lines if re.search(
        r"x\.tar\.gz \d+% \([\d.]+( kB)? of 600 kB\), [\d.]+ kB/s, \d+ s left, waits for the network$", line)]
    assert len(beats) >= 2, str(result)


@pytest.mark.parametrize("where", ["text", "json"])
def test_progress_as_events(stagerun, server, dest, where):
    served = server.put("/x.tar.gz", ARCHIVE, rate(85_000))
    result = stagerun.fetch(served.url, dest, *(["--log-format", "json"] if where == "json" else
                                                ["--progress", "json"]),
                            env={"STAGERUN_NETWORK_CONNECTIONS": "1"}).ok()
    events = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    progress = next(e for e in events if e.get("event") == "stage_progress")
    assert progress["source"] == served.url and progress["total_bytes"] == len(ARCHIVE)
    assert 0 < progress["received_bytes"] < len(ARCHIVE) and progress["waits_for"] == "network"
    assert any(e.get("event") == "stage_started" for e in events)


def test_a_source_of_which_nothing_arrives_is_named(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, stall(100_000))
    result = stagerun.fetch(served.url, dest, env={"STAGERUN_NETWORK_STALL_TIMEOUT": "8s", "STAGERUN_NETWORK_CONNECTIONS": "1"}).ok()
    assert re.search(r"x\.tar\.gz: nothing has arrived for [56] s \(\d+ of 600 kB so far\)", result.err), str(result)
    assert re.search(r"x\.tar\.gz.*; attempt 2 in [\d.]+ s", result.err), str(result)


def test_an_attempt_that_is_repeated_is_told_with_its_reason(stagerun, server, dest):
    served = server.put("/x.tar.gz", ARCHIVE, rate(600_000), status(500, when=later))
    result = stagerun.fetch(served.url, dest).ok()
    assert re.search(r"x\.tar\.gz: .*500.*; attempt 2 in [\d.]+ s", result.err), str(result)


@pytest.mark.parametrize("argument", ["none", "tty"])
def test_progress_is_as_it_is_asked_for(stagerun, server, dest, argument):
    served = server.put("/x.tar.gz", ARCHIVE, rate(800_000))
    result = stagerun.fetch(served.url, dest, "--progress", argument).ok()
    assert is_live(result.err) == (argument == "tty")
    assert "started" not in result.err


def test_a_source_whose_stage_fails_is_not_told_as_done(stagerun, server, dest):
    """One of two sources arrives; nothing is published, so nothing is said to be there."""
    fine = server.put("/fine.tar.gz", ARCHIVE)
    result = stagerun.run("prewarm", "--stage", f"{fine.url}={dest}",
                          "--stage", f"{fine.url}={dest}").failed(1, "was refused")
    assert not re.search(rf"-> {dest}: .* in ", result.err), str(result)
