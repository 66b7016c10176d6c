# SPDX-License-Identifier: MIT
"""What a run wrote into a directory that stagerun staged is never thrown away unasked; nor is what lies in it."""

import json
import os
import signal

import pytest
from agent import wait_until
from archives import directory, file, tar
from mounts import own_directories

ONE = tar(file("data.csv", b"v1"), directory("proj"), file("proj/code.py", b"v1"))
TWO = tar(file("data.csv", b"v2"), file("new.csv", b"v2"))


@pytest.fixture
def cats(stagerun, store, tmp_path):  # pylint: disable=unused-argument
    """A store with cats 1: version 2 is made by calling it."""
    root = tmp_path / "cats"
    (root / "train").mkdir(parents=True)

    def create(version):
        (root / "version").write_text(version)
        (root / f"only{version}").write_text(version)
        stagerun.run("datastore", "create", root).ok()
        (root / f"only{version}").unlink()

    create("1")
    return create


@pytest.fixture
def datastores(root, tmp_path_factory):  # pylint: disable=unused-argument
    with own_directories(tmp_path_factory, "/datastores") as wrap:
        yield wrap


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_a_restart_does_not_throw_away_what_the_command_wrote(stagerun, server, dest, etag):
    served = server.put("/d.tar", ONE, etag=etag, last_modified=None)
    words = ["run", "--stage", f"{served.url}={dest}", "--", "sh", "-c",
             f"echo 17 > {dest}/proj/checkpoint.pt; echo edited > {dest}/data.csv"]
    stagerun.run(*words).ok()
    stagerun.run(*words).failed(125, f"{dest}.*(data.csv|proj/checkpoint.pt) in it has changed.*--replace")
    assert (dest / "proj/checkpoint.pt").read_text() == "17\n"
    stagerun.run("run", "--replace", *words[1:4], "true").ok()
    assert sorted(os.listdir(dest / "proj")) == ["code.py"] and (dest / "data.csv").read_text() == "v1"


def test_what_was_merged_and_added_to_is_kept(stagerun, server, dest):
    served = server.put("/d.tar", ONE, etag=None, last_modified=None)
    dest.mkdir()
    (dest / "mine").write_text("mine")
    stagerun.fetch(served.url, dest).ok()
    stagerun.fetch(served.url, dest).ok()
    (dest / "proj/results.json").write_text("mine")
    stagerun.fetch(served.url, dest).failed(1, "proj/results.json.*--replace")
    assert (dest / "proj/results.json").read_text() == "mine"
    stagerun.fetch(served.url, dest, "--replace").ok()
    assert not (dest / "proj/results.json").exists() and (dest / "mine").exists()


def test_refresh_keeps_what_was_added_and_prewarm_can_be_asked_to_replace_it(stagerun, server, dest):
    served = server.put("/d.tar", ONE)
    words = ["prewarm", "--refresh", "--stage", f"{served.url}={dest}"]
    stagerun.run(*words).ok()
    (dest / "proj/checkpoint.pt").write_text("mine")
    served.replace(TWO)
    for _ in range(2):
        stagerun.run(*words).failed(1, "proj/checkpoint.pt.*--replace")
    assert (dest / "proj/checkpoint.pt").read_text() == "mine"
    stagerun.run("prewarm", "--replace", *words[1:]).ok()
    assert sorted(os.listdir(dest)) == ["data.csv", "new.csv"]


def test_keep_fresh_keeps_what_was_added_and_warns(stagerun, server, dest):
    served = server.put("/d.tar", ONE)
    running = stagerun.start("prewarm", "--keep-fresh", "100ms", "--json", "--stage", f"{served.url}={dest}")
    wait_until((dest / "proj/code.py").exists)
    (dest / "proj/checkpoint.pt").write_text("mine")
    served.replace(TWO)
    wait_until(lambda: running.err().count("it stays as it is") >= 2, what="two warnings")
    running.signal(signal.SIGTERM)
    result = running.wait().ok()
    assert "warning" in result.err and "proj/checkpoint.pt" in result.err
    assert (dest / "proj/checkpoint.pt").read_text() == "mine"
    last = json.loads(result.out.splitlines()[-1])
    assert (last["exit_code"], last["destinations"][0]["result"]) == (0, "kept")


@pytest.mark.usefixtures("root")
def test_what_root_wrote_into_a_datastore_is_kept(stagerun, cats, dest):
    words = ["run", "--datastore", f"cats={dest}", "--", "sh", "-c", f"echo mine > {dest}/train/checkpoint"]
    stagerun.run(*words).ok()
    cats("2")
    stagerun.run(*words).failed(125, "train/checkpoint.*--replace")
    assert (dest / "train/checkpoint").read_text() == "mine\n" and (dest / "version").read_text() == "1"
    stagerun.run("run", "--replace", "--datastore", f"cats={dest}", "true").ok()
    assert (dest / "version").read_text() == "2" and not (dest / "train/checkpoint").exists()


def test_a_datastore_that_nobody_touched_goes_to_its_next_version(stagerun, cats, dest):
    stagerun.run("run", "--datastore", f"cats={dest}", "true").ok()
    cats("2")
    stagerun.run("run", "--datastore", f"cats={dest}", "true").ok()
    assert sorted(os.listdir(dest)) == ["only2", "train", "version"]


def test_a_merged_datastore_is_exactly_its_version(stagerun, cats, dest):
    dest.mkdir()
    (dest / "mine").write_text("mine")
    words = ["run", "--datastore", f"cats={dest}", "true"]
    for version in "12":
        if version != "1":
            cats(version)
        stagerun.run(*words).ok()
        assert sorted(os.listdir(dest)) == ["mine", f"only{version}", "train", "version"]
    stagerun.run("run", "--datastore", f"cats:1={dest}", "true").ok()
    assert sorted(os.listdir(dest)) == ["mine", "only1", "train", "version"]


def test_replace_in_a_merged_directory_takes_what_that_source_had_brought(stagerun, server, dest):
    served = server.put("/d.tar", ONE)
    dest.mkdir()
    (dest / "mine").write_text("mine")
    stagerun.fetch(served.url, dest).ok()
    stagerun.fetch(served.url, dest, "--include", "proj/**").failed(1, "--replace")
    stagerun.fetch(served.url, dest, "--include", "proj/**", "--replace").ok()
    assert sorted(os.listdir(dest)) == ["mine", "proj"]


def test_replace_is_for_later_stage_items_too(stagerun, server, dest):
    served = server.put("/d.tar", ONE)
    config = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start:\n        - 'true'\n"
                             f"        - stage: {{source: '{served.url}', to: '{dest}'}}\n")
    stagerun.run("run", "--config", config, "true").ok()
    (dest / "mine").write_text("mine")
    served.replace(TWO)
    stagerun.run("run", "--config", config, "true").failed(125, "--replace")
    stagerun.run("run", "--replace", "--config", config, "true").ok()
    assert sorted(os.listdir(dest)) == ["data.csv", "new.csv"]


def test_a_dry_run_tells_of_replace(stagerun, server, dest):
    served = server.put("/d.tar", ONE)
    out = stagerun.run("run", "--dry-run", "--replace", "--stage", f"{served.url}={dest}", "true").ok().out
    assert "replaces what is there" in out


# Datastores in each other.

@pytest.mark.parametrize("first, then", [
    (["--datastore", "cats"], ["run", "--", "cat", "/datastores/cats/1/version"]),
    (["--datastore", "cats:1=/datastores/cats/1"], ["run", "--", "ls", "/datastores/cats"]),
    (["--datastore", "cats:1=/datastores/cats/1"], ["run", "--datastore", "cats", "true"]),
], ids=["version in newest", "argument around a version", "option around a version"])
def test_a_datastore_and_a_version_of_it_are_never_a_mix(stagerun, cats, datastores, first, then):
    before = [*datastores, "sh", "-c", f'"$1" run {" ".join(first)} true && exec "$@"', "sh"]
    result = stagerun.run(*then, wrap=before)
    result.failed(125, "/datastores/cats.*another directory")


def test_a_pinned_version_below_the_newest_survives_it(stagerun, cats, dest):
    """As root, or into a directory that may be written."""
    stagerun.run("fetch", "datastore:cats", dest).ok()
    stagerun.run("fetch", "datastore:cats:1", dest / "1").ok()
    cats("2")
    for how in ([], ["--refresh"], ["--refresh", "--replace"]):
        stagerun.run("prewarm", *how, "--stage", f"datastore:cats={dest}").failed(1, f"{dest}")
    assert (dest / "1/version").read_text() == "1"


@pytest.mark.parametrize("words", [["/datastores/cats", "/datastores/cats/1"],
                                   ["/datastores/cats/1/version", "/datastores/cats"]])
def test_two_arguments_of_which_one_lies_in_the_other_are_refused(stagerun, cats, datastores, words):
    stagerun.run("run", "--", "ls", *words, wrap=datastores).failed(125, "one lies inside the other")


def test_an_empty_directory_is_nothing_to_an_argument(stagerun, cats, datastores):
    wrap = [*datastores, "sh", "-c", 'mkdir -p /datastores/cats && exec "$@"', "sh"]
    assert "version" in stagerun.run("run", "--", "ls", "/datastores/cats", wrap=wrap).ok().out
    wrap = [*datastores, "sh", "-c", 'mkdir -p /datastores/cats/1 && exec "$@"', "sh"]
    assert "version" in stagerun.run("run", "--", "ls", "/datastores/cats/1", wrap=wrap).ok().out


@pytest.mark.usefixtures("root")
def test_the_owner_is_the_destinations_too(stagerun, server, dest):
    stagerun.configure(stage={"owner": "1234:2345"})
    url = server.put("/x", tar(file("a"))).url
    stagerun.fetch(url, dest).ok()
    assert (dest.stat().st_uid, dest.stat().st_gid) == (1234, 2345)
    del stagerun.settings["stage"]["owner"]
    stagerun.configure(stage={"same_owner": "yes"})
    archive = tar(directory(".", uid=77, gid=78), file("./a", uid=77, gid=78))
    stagerun.fetch(server.put("/y", archive).url, f"{dest}-same").ok()
    assert (os.stat(f"{dest}-same").st_uid, os.stat(f"{dest}-same").st_gid) == (77, 78)
    stagerun.fetch(url, f"{dest}-unspoken").ok()
    assert os.stat(f"{dest}-unspoken").st_uid == os.geteuid()
