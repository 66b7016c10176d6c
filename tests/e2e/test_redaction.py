# SPDX-License-Identifier: MIT
"""Values of variables whose names look secret are hidden in every line of the agent's own."""

import json
import os
import pty

import pytest
from archives import file, tar
from faultserver import rate

SECRET = "hunter-of-tokens"


def run(stagerun, *items, options=(), command=("true",), environment="", **how):
    lines = "\n".join(f"        - {item}" for item in items)
    actions = f"    actions:\n      on_experiment_start:\n{lines}\n" if items else ""
    config = stagerun.config(f"compute:\n  train:\n    environment: {{{environment}}}\n{actions}")
    how.setdefault("env", {"MY_TOKEN": SECRET})
    return stagerun.run("run", *options, "--config", config, "--", *command, **how)


def assert_hidden(result, secret=SECRET):
    assert secret not in result.err and "***" in result.err, str(result)


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_inherited_secret_is_hidden_in_log_lines(stagerun, server, dest, form):
    result = run(stagerun, options=["--log-format", form, "--stage",
                                    f"{server.url('/' + SECRET + '/gone')}={dest}"])
    assert_hidden(result.failed(125, "404"))


def test_a_secret_of_config_yml_is_hidden(stagerun):
    assert_hidden(run(stagerun, f"test {SECRET} = no", environment=f"db_password: {SECRET}",
                      env={}).failed(125))


def test_a_secret_that_an_action_sets_is_hidden_from_then_on(stagerun):
    stagerun.configure(actions={"prefix_output": "yes"})
    result = run(stagerun, "printf 'LATE_KEY=hunter-%s\\n' of-tokens >> $STAGERUN_ENV",
                 "echo now $LATE_KEY and then", env={}).ok()
    assert "[on_experiment_start 2] now *** and then\n" in result.err, str(result)


def test_names_of_the_operators_choice_are_hidden_too(stagerun):
    stagerun.configure(agent={"secret_names": "*_PIN"})
    assert_hidden(run(stagerun, f"test {SECRET} = no", env={"CARD_PIN": SECRET}).failed(125))


def test_the_termination_message_hides_secrets(stagerun):
    path = stagerun.directory / "termination-log"
    run(stagerun, command=[f"/no/{SECRET}"],
        env={"MY_TOKEN": SECRET, "STAGERUN_TERMINATION_LOG": str(path)}).failed(127)
    said = json.loads(path.read_text())
    assert SECRET not in path.read_text()
    assert said["item"] == "/no/***" and "'/no/***'" in said["message"]


def test_a_dry_run_hides_secrets(stagerun):
    result = run(stagerun, f"curl -u 'me:{SECRET}' https://host/",
                 options=["--dry-run"], command=["train", f"--token={SECRET}"]).ok()
    assert SECRET not in result.out + result.err, str(result)
    assert "--token=***" in result.out and "-u 'me:***'" in result.out, str(result)


def test_wrong_usage_hides_secrets(stagerun):
    assert_hidden(stagerun.run("run", f"--{SECRET}", "--", "true",
                               env={"MY_TOKEN": SECRET}).failed(125))


def test_a_cut_line_does_not_show_half_of_a_secret(stagerun):
    script = "echo " + "x" * 60 + SECRET
    result = run(stagerun, f"{script} >/dev/null; exit 3").failed(125)
    assert "hunter" not in result.err, str(result)


def test_a_cut_address_does_not_show_half_of_a_secret(stagerun, server, dest):
    path = stagerun.directory / "termination-log"
    url = server.url("/" + "x" * (248 - len(server.url("/"))) + SECRET)
    run(stagerun, options=["--stage", f"{url}={dest}"],
        env={"MY_TOKEN": SECRET, "STAGERUN_TERMINATION_LOG": str(path)}).failed(125, "404")
    said = json.loads(path.read_text())
    assert "xxx" in said["item"] and "hunter" not in path.read_text(), str(said)


def test_a_short_value_does_not_blank_out_words(stagerun):
    result = run(stagerun, "exit 3", env={"MY_TOKEN": "exit"}).failed(125)
    assert "exit 3" in result.err, str(result)


def test_what_the_command_prints_is_its_own(stagerun):
    result = run(stagerun, command=["sh", "-c", "echo $MY_TOKEN; echo $MY_TOKEN >&2"]).ok()
    assert result.out == f"{SECRET}\n" and SECRET in result.err, str(result)


def test_an_action_whose_output_passes_as_it_comes_is_not_touched(stagerun):
    assert SECRET in run(stagerun, "echo $MY_TOKEN").ok().out


def test_the_live_display_hides_secrets(stagerun, server, dest):
    served = server.put(f"/{SECRET}.tar", tar(file("a", bytes(400_000))), rate(800_000))
    ours, theirs = pty.openpty()
    running = stagerun.start("fetch", served.url, dest, stderr=theirs,
                             env={"MY_TOKEN": SECRET, "TERM": "xterm"})
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # nobody holds the other end any more
            break
    os.close(ours)
    running.wait().ok()
    assert b"***.tar" in seen and b"%" in seen
    assert SECRET.encode() not in seen
