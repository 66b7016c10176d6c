# SPDX-License-Identifier: MIT
"""What a command prints is written, or the command has failed: whatever it is that prints."""

import subprocess

import pytest
from archives import file, tar

COMMANDS = ["run", "prewarm", "fetch", "datastore", "cache", "hook"]
SUBCOMMANDS = [("datastore", name) for name in ("create", "list", "get", "files", "delete", "purge", "policy")] + \
    [("cache", name) for name in ("list", "evict", "verify", "clear")]
PRINTING = [
    ["--help"], ["-h"], ["--version"],
    *[[name, "--help"] for name in COMMANDS],
    *[[*names, "--help"] for names in SUBCOMMANDS],
    ["cache", "list"], ["cache", "list", "--json"], ["cache", "verify"], ["cache", "verify", "--json"],
    ["cache", "evict"], ["cache", "evict", "--json"], ["cache", "clear"],
    ["run", "--dry-run", "--", "true"], ["prewarm", "--dry-run"], ["prewarm", "--json"],
    ["datastore", "list"], ["datastore", "list", "--json"], ["datastore", "files", "cats"],
    ["datastore", "files", "--json", "cats"], ["datastore", "policy", "--store", "s3://bucket/p", "--role", "arn:aws:iam::123456789012:role/x"], ["datastore", "create", "{source}"],
    ["datastore", "create", "--json", "{source}"], ["datastore", "delete", "cats:1"],
]


@pytest.fixture
def world(stagerun, server, store, tmp_path):
    """With something of everything that can be listed."""
    source = tmp_path / "cats"
    source.mkdir()
    (source / "a").write_bytes(b"a")
    stagerun.configure(cache={"dir": tmp_path / "cache", "min_free": "none"})
    stagerun.run("datastore", "create", source).ok()
    stagerun.fetch(server.put("/x.tar", tar(file("a", b"a"))).url, tmp_path / "x").ok()
    return source


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_output_that_cannot_be_written_is_a_failure(stagerun, world, words):
    words = [word.format(source=world) for word in words]
    with open("/dev/full", "wb") as full:
        result = stagerun.run(*words, stdout=full)
    assert result.code == 1, str(result)
    said = [line for line in result.err.splitlines() if "No space left on device" in line]
    assert len(said) == 1 and "output" in said[0], str(result)


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["cache", "list"], ["run", "--dry-run", "--", "true"]],
                         ids=" ".join)
def test_output_that_is_closed_is_a_failure(stagerun, world, words):
    result = stagerun.run(*words, wrap=["sh", "-c", 'exec "$@" >&-', "sh"])
    result.failed(1, "output.*Bad file descriptor")


def test_a_closed_output_does_not_matter_to_who_prints_nothing(stagerun, world):
    wrap = ["sh", "-c", 'exec "$@" >&-', "sh"]
    stagerun.run("run", "--", "true", wrap=wrap).ok()
    assert stagerun.run("run", "--", "sh", "-c", "echo x", wrap=wrap).code != 0


def test_a_reader_that_left_is_told_nothing(stagerun, world):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    result = stagerun.run("--help", stdout=reader.stdin)
    reader.stdin.close()
    assert (result.code, result.err) == (1, ""), str(result)
