# SPDX-License-Identifier: MIT
"""Datastores that a run attaches by name, with a store in a directory."""

import json
import os
import stat

import pytest
from mounts import own_directories
from trees import snapshot


@pytest.fixture
def cats(stagerun, store, tmp_path):  # pylint: disable=unused-argument
    """A store with cats 1 and 2: one file says which."""
    root = tmp_path / "cats"
    (root / "train").mkdir(parents=True)
    for version in "12":
        (root / "version").write_text(version)
        for i in range(8):
            (root / f"train/{i}").write_text(f"{i} of {version}")
        stagerun.run("datastore", "create", root).ok()
    return root


@pytest.fixture
def datastores(root, tmp_path_factory):  # pylint: disable=unused-argument
    with own_directories(tmp_path_factory, "/datastores") as wrap:
        yield wrap


def train(keys):
    return "compute:\n  train:\n" + "".join(f"    {key}\n" for key in keys)


def shell(*lines):
    return ["--", "sh", "-c", "\n".join(lines)]


def test_a_datastore_is_attached_at_its_name(stagerun, cats, datastores):
    result = stagerun.run("run", "--datastore", "cats", *shell(
        "cat /datastores/cats/version; echo; echo $STAGERUN_DATASTORE_CATS"), wrap=datastores).ok()
    assert result.out == "2\n/datastores/cats\n"


def test_the_run_knows_which_version_it_got(stagerun, cats, dest):
    listed = json.loads(stagerun.run("datastore", "list", "--json").ok().out)
    result = stagerun.run("run", "--datastore", f"cats={dest}", *shell('echo "$STAGERUN_DATASTORES"')).ok()
    assert json.loads(result.out) == {"name": "cats", "version": 2, "directory": str(dest),
                                      "manifest_sha256": listed[1]["manifest_sha256"]}
    assert "cats is version 2" in result.err and listed[1]["manifest_sha256"] in result.err


def test_what_is_there_already_is_known_as_well(stagerun, cats, dest):
    words = ["run", "--datastore", f"cats:1={dest}", *shell('echo "$STAGERUN_DATASTORES"')]
    first = stagerun.run(*words).ok()
    (stagerun.directory / "store").mkdir()
    again = stagerun.run(*words).ok()
    assert json.loads(again.out) == json.loads(first.out)
    assert "already" in again.err


def test_a_pinned_version_that_is_there_needs_no_store(stagerun, cats, store, dest):
    words = ["run", "--datastore", f"cats:1={dest}", *shell(f"cat {dest}/version")]
    stagerun.run(*words).ok()
    store.rename(store.with_name("gone"))
    assert stagerun.run(*words).ok().out == "1"


def test_a_newer_version_takes_the_place_of_an_older_one(stagerun, cats, dest):
    words = ["run", "--datastore", f"cats={dest}", *shell(f"cat {dest}/version")]
    stagerun.run("run", "--datastore", f"cats:1={dest}", "true").ok()
    assert stagerun.run(*words).ok().out == "2"
    (cats / "version").write_text("3")
    stagerun.run("datastore", "create", cats).ok()
    assert stagerun.run(*words).ok().out == "3"


def test_what_is_attached_is_read_only(stagerun, cats, dest):
    stagerun.run("run", "--datastore", f"cats={dest}", "true").ok()
    for path in [dest, *dest.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path


def test_grids_three_options_and_keys_are_one_datastore(stagerun, cats, tmp_path):
    options = ["--datastore_name", "cats", "--datastore_version", "1", "--datastore_mount_dir", "data/x/"]
    assert stagerun.run("run", *options, *shell("cat data/x/version")).ok().out == "1"
    config = stagerun.config(train(["datastore_name: ann:cats", "datastore_version: ${V}",
                                    "datastore_mount_dir: ${HOME}/mine"]))
    result = stagerun.run("run", "--config", config, *shell("cat $HOME/mine/version"), env={"V": "1"}).ok()
    assert result.out == "1" and "ann:cats" in result.err


def test_several_at_once_and_the_option_wins(stagerun, cats, tmp_path):
    stagerun.run("datastore", "create", cats, "--name", "dogs").ok()
    config = stagerun.config(train([f"datastores: [cats:1={tmp_path}/a, "
                                    f"{{name: cats, version: 1, mount_dir: '{tmp_path}/b'}}, dogs={tmp_path}/c]"]))
    result = stagerun.run("run", "--config", config, "--datastore", f"cats:2={tmp_path}/a",
                          *shell(f"cat {tmp_path}/[abc]/version")).ok()
    assert result.out == "212"


def test_two_versions_for_one_directory_are_refused(stagerun, cats, dest):
    config = stagerun.config(train([f"datastores: [cats:1={dest}, cats:2={dest}]"]))
    stagerun.run("run", "--config", config, "true").failed(125, r"config\.yml:3.*both want")
    assert not dest.exists()


@pytest.mark.parametrize("options, says", [
    (["--datastore", "nope"], "no datastore 'nope'"),
    (["--datastore", "cats:7"], "cats.*7"),
    (["--datastore", "Cats"], "--datastore: .*'Cats'"),
    (["--datastore_version", "1"], "needs --datastore_name"),
])
def test_a_datastore_that_cannot_be_attached_ends_the_run(stagerun, cats, options, says, datastores):
    result = stagerun.run("run", *options, "--", "touch", "ran", wrap=datastores)
    result.failed(125, says)
    assert not (stagerun.cwd / "ran").exists()


def test_references_in_arguments_become_directories(stagerun, cats, datastores):
    result = stagerun.run("run", "--", "echo", "grid:cats:1", "--data=datastore:cats:1", wrap=datastores).ok()
    assert result.out == "/datastores/cats --data=/datastores/cats\n"


def test_an_argument_below_datastores_attaches_that_version_there(stagerun, cats, datastores):
    result = stagerun.run("run", "--", "cat", "/datastores/cats/1/version", wrap=datastores).ok()
    assert result.out == "1"
    config = stagerun.config("hyper_params: {params: {--data_dir: /datastores/cats}}\n")
    result = stagerun.run("run", "--config", config, *shell("cat $1/version"), wrap=datastores).ok()
    assert result.out == "2"


def test_a_path_that_is_there_is_the_users(stagerun, cats, datastores):
    wrap = [*datastores, "sh", "-c", 'mkdir /datastores/cats && echo mine > /datastores/cats/x && exec "$@"', "sh"]
    result = stagerun.run("run", "--", "ls", "/datastores/cats", wrap=wrap).ok()
    assert result.out == "x\n"


@pytest.fixture
def default_store(stagerun, tmp_path):
    """cats 1, in the store that is used where none is configured."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats/version").write_text("1")
    made = stagerun.run("datastore", "create", tmp_path / "cats").ok()
    store = stagerun.home / ".local/share/stagerun/store"
    assert made.err.count(f"the default one is used, file://{store}\n") == 1
    return store


def test_the_store_of_creations_and_of_paths_is_the_same_default_one(stagerun, default_store, datastores):
    result = stagerun.run("run", "--", "cat", "/datastores/cats/version", wrap=datastores).ok()
    assert result.out == "1"
    assert result.err.count(f"the default one is used, file://{default_store}\n") == 1


@pytest.mark.parametrize("words", [["datastore", "list"], ["datastore", "files", "cats"], ["datastore", "get", "cats", "x"],
                                   ["datastore", "delete", "cats:1"], ["datastore", "purge", "--yes"],
                                   ["run", "--datastore", "cats=x", "--", "true"],
                                   ["run", "--dry-run", "--datastore", "cats=x", "--", "true"],
                                   ["prewarm", "--datastore", "cats=x"], ["fetch", "datastore:cats", "x"]],
                         ids=lambda words: " ".join(words[:3]))
def test_whatever_uses_the_default_store_says_which_it_is(stagerun, default_store, words):
    assert stagerun.run(*words).ok().err.count(f"the default one is used, file://{default_store}\n") == 1


def test_nobody_speaks_of_a_default_store_that_is_not_used(stagerun, default_store):
    assert "default one" not in stagerun.run("run", "--", "true").ok().err


def test_without_a_store_paths_are_left_alone(stagerun, cats, datastores):
    result = stagerun.run("run", "--", "echo", "/datastores/cats/1", wrap=datastores,
                          env={"STAGERUN_STORE": None}).ok()
    assert result.out == "/datastores/cats/1\n" and "datastore cats" not in result.err
    (line,) = [line for line in result.err.splitlines() if "/datastores/cats/1" in line]
    assert "is not there, and no store is configured" in line


def test_stage_items_bring_parts_of_datastores_and_are_writable(stagerun, cats, tmp_path):
    config = stagerun.config(train([
        "actions:", "  on_experiment_start:",
        f"    - stage: {{datastore: 'cats:1', to: '{tmp_path}/head', include: [version]}}",
        "    - echo SHARD=1 >> $STAGERUN_ENV",
        f"    - stage: {{datastore: 'cats:2', to: '{tmp_path}/later', include: 'train/**', exclude: '3', "
        "shard: {rank: '${SHARD}', world: 2}}"]))
    result = stagerun.run("run", "--config", config, *shell(f"cat {tmp_path}/head/version")).ok()
    assert result.out == "1"
    assert [p.name for p in (tmp_path / "head").iterdir()] == ["version"]
    brought = {p.name for p in (tmp_path / "later/train").iterdir()}
    assert 0 < len(brought) < 7 and "3" not in brought
    assert os.access(tmp_path / "head/version", os.W_OK)
    assert (tmp_path / "head/version").stat().st_mode & 0o200


def test_shards_are_the_launchers_and_together_are_everything(stagerun, cats, tmp_path):
    brought = []
    for rank in "012":
        to = tmp_path / rank
        config = stagerun.config(train(["actions:", "  on_experiment_start:",
                                        f"    - stage: {{datastore: cats, to: '{to}', shard: {{}}}}"]))
        env = {"RANK": rank, "WORLD_SIZE": "3"}
        stagerun.run("run", "--config", config, "true", env=env).ok()
        brought += [str(p.relative_to(to)) for p in to.rglob("*") if p.is_file()]
    assert sorted(brought) == sorted(str(p.relative_to(cats)) for p in cats.rglob("*") if p.is_file())
    stagerun.run("run", "--config", config, "true").failed(125, "RANK")


def test_any_source_may_be_a_datastore(stagerun, cats, dest, tmp_path):
    stagerun.run("fetch", "datastore:cats:2", dest).ok()
    assert snapshot(dest) == snapshot(cats)
    stagerun.run("prewarm", "--stage", f"grid:cats:1={tmp_path}/other").ok()
    assert (tmp_path / "other/version").read_text() == "1"


def test_a_dry_run_says_what_would_be_attached(stagerun, cats, store, dest):
    config = stagerun.config(train([f"datastores: [cats={dest}]"]))
    out = stagerun.run("run", "--dry-run", "--config", config, "true").ok().out
    assert f"datastore:cats -> {dest}  ({config}:3)" in out
    assert "version 2, 9 files" in out and f"file://{store}" in out
    assert not dest.exists()


def test_a_run_that_registers_keeps_its_datastores_while_it_runs(stagerun, cats, dest):
    stagerun.configure(store={"register_runs": "1h"}, process={"supervise": "always"})
    stagerun.run("run", "--datastore", f"cats:1={dest}", *shell(
        'env -i PATH="$PATH" HOME="$HOME" STAGERUN_STORE="$STAGERUN_STORE" '
        f'"$(readlink /proc/$PPID/exe)" datastore delete cats:1 2> {dest.parent}/why; test $? = 1')).ok()
    assert "cats" in (dest.parent / "why").read_text()
    stagerun.run("datastore", "delete", "cats:1").ok()


def test_what_the_user_has_there_is_never_replaced(stagerun, cats, dest):
    dest.mkdir()
    (dest / "version").write_text("mine")
    stagerun.run("run", "--datastore", f"cats={dest}", "true").failed(125, "version exists")
    assert [p.name for p in dest.iterdir() if not p.name.startswith(".")] == ["version"]
    assert (dest / "version").read_text() == "mine"
    (dest / "version").rename(dest / "other")
    stagerun.run("run", "--datastore", f"cats:1={dest}", "true").ok()
    assert (dest / "other").read_text() == "mine" and (dest / "version").read_text() == "1"
    stagerun.run("run", "--datastore", f"cats:2={dest}", "true").ok()
    assert (dest / "other").read_text() == "mine" and (dest / "version").read_text() == "2"
