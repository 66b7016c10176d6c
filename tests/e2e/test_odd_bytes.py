# SPDX-License-Identifier: MIT
"""What is printed for machines is JSON, whatever bytes are in names: those that are not UTF-8 are \\udcNN."""

import json
import os
import subprocess

import pytest

ODD = os.fsdecode(b"odd\xff\"\\name")


@pytest.fixture
def store(stagerun, tmp_path):
    directory = tmp_path / ODD
    stagerun.env["STAGERUN_STORE"] = f"file://{directory}"
    return directory


@pytest.fixture
def cats(stagerun, store, tmp_path):
    """A datastore whose files, and whose source, have such names."""
    source = tmp_path / f"source{ODD}"
    source.mkdir()
    (source / ODD).write_text("content")
    made = json.loads(stagerun.run("datastore", "create", source, "--name", "cats", "--json").ok().out)
    assert made["store"] == f"file://{store}" and made["version"] == 1 and made["files"] == 1
    return "cats"


def said(stagerun, *words):
    return json.loads(stagerun.run(*words, "--json").ok().out)


def test_a_list_of_datastores(stagerun, cats):
    assert [(v["name"], v["version"]) for v in said(stagerun, "datastore", "list")] == [("cats", 1)]


def test_the_files_of_a_version(stagerun, cats):
    lines = stagerun.run("datastore", "files", "cats", "--json").ok().out.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [ODD]


def test_a_deletion_and_a_purge(stagerun, cats, store):
    assert said(stagerun, "datastore", "delete", "cats:1") == {"deleted": "cats", "version": 1, "removed_objects": 0}
    purged = said(stagerun, "datastore", "purge", "--yes")
    assert f"file://{store}" in purged.values() and "removed_objects" in purged


def test_the_run_knows_of_a_datastore_in_a_directory_of_such_a_name(stagerun, cats, tmp_path):
    to = tmp_path / f"to{ODD}"
    result = stagerun.run("run", "--datastore", f"cats={to}", "--", "printenv", "STAGERUN_DATASTORES").ok()
    assert json.loads(result.out)["directory"] == str(to)


def test_a_damaged_entry_of_the_node_cache(stagerun, tmp_path, server):
    stagerun.configure(cache={"dir": tmp_path / "cache"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ODD).write_text("content")
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", "-C", tmp_path / "in", "."], check=True)
    served = server.put("/a.tar", (tmp_path / "a.tar").read_bytes())
    stagerun.run("prewarm", "--stage", f"{served.url}={tmp_path / 'to'}").ok()
    (file,) = (tmp_path / "cache").rglob(ODD)
    file.unlink()
    (damaged,) = json.loads(stagerun.run("cache", "verify", "--deep", "--json").out)["damaged"]
    assert ODD in damaged["damage"]


def test_no_policy_is_made_for_a_role_that_is_not_utf8(stagerun):
    stagerun.run("datastore", "policy", "--role", f"arn:aws:iam::1:role/{ODD}", "--store", "s3://bucket/p").failed(
        2, "not UTF-8")
