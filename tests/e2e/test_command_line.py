# SPDX-License-Identifier: MIT
"""What somebody types first: no words, short options, options of another command."""

import re

import pytest

from archives import file, noise, tar

SMALL = tar(file("a"))


@pytest.mark.parametrize("words, name", [([], "fetch"), (["datastore"], "purge"), (["cache"], "evict")])
def test_without_a_word_the_usage_is_printed_and_it_is_an_error(stagerun, words, name):
    result = stagerun.run(*words).failed(2, "(?m)^Usage: stagerun", f"(?m)^  {name} ", "(?m)no (sub)?command$")
    assert result.out == ""


@pytest.mark.parametrize("words, code", [
    (["fetch", "--progress", "nosuch", "/x.tar", "/nowhere"], 2), (["cache", "list", "--progress", "nosuch"], 2),
    (["datastore", "list", "--log-format", "nosuch"], 2), (["hook", "on_experiment_start", "--progress", "x"], 2),
    (["prewarm", "--jobs", "x"], 2), (["prewarm", "--dry-run", "--jobs", "x"], 2),
    (["run", "--jobs", "x", "--", "true"], 125)])
def test_a_value_that_an_option_cannot_have_is_wrong_usage(stagerun, words, code):
    stagerun.run(*words).failed(code, "--(progress|log-format|jobs): ")


def test_a_value_that_a_setting_cannot_have_is_none(stagerun):
    stagerun.run("cache", "list", env={"STAGERUN_AGENT_PROGRESS": "nosuch"}).failed(1, "env STAGERUN_AGENT_PROGRESS")
    stagerun.configure(agent={"progress": "nosuch"})
    stagerun.run("fetch", "/x.tar", "/nowhere").failed(1, "agent.ini:[0-9]+: agent.progress")


def test_short_options_exist(stagerun):
    assert stagerun.run("-h").ok().out == stagerun.run("--help").ok().out != ""
    assert stagerun.run("-V").ok().out == stagerun.run("--version").ok().out != ""
    assert stagerun.run("fetch", "-h").ok().out == stagerun.run("fetch", "--help").ok().out


def test_an_option_before_the_command_is_told_its_place(stagerun):
    stagerun.run("-q", "fetch", "a", "b").failed(2, "options go behind the command: stagerun COMMAND -q")
    stagerun.run("cache", "-q", "list").failed(2, "options go behind the subcommand: stagerun cache SUBCOMMAND -q")


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_leaves_warnings_and_errors_only(stagerun, server, dest, option):
    served = server.put("/x.tar", SMALL)
    assert stagerun.run("fetch", option, served.url, dest).ok().err == ""
    stagerun.run("fetch", option, server.put("/y.tar", tar(file("b"))).url, dest).failed(1, "error: ")


def test_quiet_wins_over_what_asks_for_progress(stagerun, server, dest):
    served = server.put("/x.tar", SMALL)
    stagerun.configure(agent={"progress": "tty"})
    assert stagerun.run("fetch", "-q", served.url, dest).ok().err == ""


def test_run_takes_the_limits_and_lists_of_prewarm(stagerun, server, dest, tmp_path):
    served = server.put("/x.tar", tar(file("a", noise(1_200_000))))
    listed = tmp_path / "list"
    listed.write_text(f"{served.url}={dest}\n")
    result = stagerun.run("run", "--max-rate", "2M", "--jobs", "1", "--list", listed, "true").ok()
    assert (dest / "a").exists()
    assert result.seconds > 0.3, str(result)


def test_fetch_takes_max_rate(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", noise(1_200_000))))
    assert stagerun.run("fetch", "--max-rate", "2M", served.url, dest).ok().seconds > 0.3


def test_the_help_of_prewarm_lists_what_does_something_there(stagerun, server, dest):
    text = stagerun.run("prewarm", "--help").ok().out
    assert "--max-rate" in text and "--keep-fresh" in text
    assert not re.search("--supervise|--dependency_file", text)
    served = server.put("/x.tar", SMALL)
    stagerun.run("prewarm", "--supervise", "never", "--stage", f"{served.url}={dest}").ok()


def test_a_command_that_begins_with_a_dash_is_refused_before_anything_is_staged(stagerun, server, dest):
    served = server.put("/x.tar", SMALL)
    words = ["--stage", f"{served.url}={dest}", "--", "-c", "print()"]
    stagerun.run("run", *words).failed(125, "the command '-c' begins with '-'", r"-- PROGRAM -c \.\.\.", r"\./-c")
    assert not served.requests
