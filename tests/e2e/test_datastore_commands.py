# SPDX-License-Identifier: MIT
"""`stagerun datastore ...`, with a store in a directory."""

import json
import os
import pty
import signal
import time
import zipfile

import pytest
from agent import wait_until
from archives import noise
from faultserver import rate
from processes import read_terminal
from stopwatch import SOON, Stopwatch
from trees import snapshot


@pytest.fixture
def cats(tmp_path):
    """A directory to make datastores of."""
    root = tmp_path / "Cats.v1"
    (root / "train/one").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "train/one/a.txt").write_text("a" * 1000)
    (root / "train/one/b.txt").write_text("b" * 10)
    (root / "labels.csv").write_text("a,1\nb,2\n")
    (root / "link").symlink_to("labels.csv")
    return root


def create(stagerun, source, *options):
    return json.loads(stagerun.run("datastore", "create", source, "--json", *options).ok().out)


def versions(stagerun):
    listed = json.loads(stagerun.run("datastore", "list", "--json").ok().out)
    return [(v["name"], v["version"]) for v in listed]


def test_create_names_it_and_says_what_was_sent(stagerun, store, cats):
    out = stagerun.run("datastore", "create", cats).ok().out
    assert out.startswith("cats version 1: 3 files, 1.02 kB, in ") and "; sent " in out
    assert out.count("\n") == 1


def test_create_again_makes_the_next_version_and_sends_only_what_changed(stagerun, store, cats):
    create(stagerun, cats)
    (cats / "train/one/b.txt").write_text("changed")
    second = create(stagerun, cats)
    assert (second["version"], second["files"], second["reused_files"]) == (2, 3, 2)


@pytest.mark.parametrize("words, code, says", [
    (["create"], 2, "usage: stagerun datastore create SOURCE"),
    (["create", "/nonexistent", "--name", "x"], 1, "/nonexistent"),
    (["create", ".", "--name", "Cats"], 2, "'Cats'.*--name"),
    (["create", ".", "--extract", "--no-extract", "--name", "x"], 2, "exclude each other"),
    (["create", ".", "--no-copy", "--name", "x"], 2, "--no-copy is for s3://"),
    (["create", ".hidden"], 2, "--name"),
    (["list", "No"], 2, "'No'"),
    (["files", "cats:0"], 2, "version from 1"),
    (["get", "cats"], 2, "usage: stagerun datastore get NAME"),
    (["delete", "cats=/x"], 2, "NAME"),
    (["purge"], 2, "every datastore in file://.*say --yes"),
    (["policy", "--role", "arn:aws:iam::1:role/x"], 2, "only buckets have policies"),
    (["policy"], 2, "--role"),
    (["lst"], 2, "did you mean list"),
    ([], 2, "no subcommand"),
    (["list", "--yes"], 2, "unknown option --yes"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_what_is_wrong_with_the_words_is_said(stagerun, store, words, code, says):
    stagerun.run("datastore", *words).failed(code, says)


def test_list_is_a_table(stagerun, store, cats):
    create(stagerun, cats)
    create(stagerun, cats, "--name", "dogs")
    heading, *rows = stagerun.run("datastore", "list").ok().out.splitlines()
    assert heading.split() == ["NAME", "VERSION", "FILES", "SIZE", "STORED", "CREATED", "SOURCE"]
    assert [r.split()[:3] for r in rows] == [["cats", "1", "3"], ["dogs", "1", "3"]]
    assert rows[0].endswith(str(cats))
    assert len(stagerun.run("datastore", "list", "dogs").ok().out.splitlines()) == 2


def test_an_empty_list_says_where_it_looked(stagerun, store):
    result = stagerun.run("datastore", "list").ok()
    assert str(store) in result.err
    assert json.loads(stagerun.run("datastore", "list", "--json").ok().out) == []


def test_files_are_listed_as_ls_does(stagerun, store, cats):
    create(stagerun, cats)
    os.utime(cats / "labels.csv", (0, 86400))
    create(stagerun, cats)
    out = stagerun.run("datastore", "files", "cats").ok().out
    paths = [line.split(None, 1)[1] for line in out.splitlines()]
    assert any(p.endswith("link -> labels.csv") for p in paths)
    assert "-rw-r--r--        8 B  1970-01-02 00:00  labels.csv" in out.splitlines()
    assert any(line.startswith("drwxr-xr-x") and line.endswith("  empty") for line in out.splitlines())


def test_files_may_be_chosen_by_globs_and_come_as_json_lines(stagerun, store, cats):
    create(stagerun, cats)
    out = stagerun.run("datastore", "files", "cats:1", "train/**", "*.csv", "--json").ok().out
    entries = {e["path"]: e for e in map(json.loads, out.splitlines())}
    assert {"train/one/a.txt", "train/one/b.txt", "labels.csv"} <= set(entries)
    assert "link" not in entries and "empty" not in entries
    assert entries["train/one/a.txt"]["size"] == 1000
    assert entries["train/one/a.txt"]["type"] == "file"
    assert len(entries["labels.csv"]["sha256"]) == 64


def test_names_that_are_no_text_survive_json(stagerun, store, tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    name = b'a\xff"\\\n\xc3\xa9'
    (root / os.fsdecode(name)).write_text("x")
    create(stagerun, root)
    out = stagerun.run("datastore", "files", "odd", "--json").ok().out
    assert [os.fsencode(json.loads(line)["path"]) for line in out.splitlines()] == [name]


def test_a_reader_that_has_enough_ends_files_without_a_word(stagerun, store, cats):
    create(stagerun, cats)
    read, write = os.pipe()
    os.close(read)
    result = stagerun.start("datastore", "files", "cats", stdout=write).wait()
    os.close(write)
    assert result.code == 1 and result.err == ""


def test_get_brings_it_all_back(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cats", dest).ok()
    assert snapshot(dest) == snapshot(cats)
    assert "already" in stagerun.run("datastore", "get", "cats", dest).ok().err


def test_get_chooses(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cats:1", dest, "--include", "train/**", "--exclude", "b.txt").ok()
    assert sorted(str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file()) == ["train/one/a.txt"]


def test_get_of_what_is_not_there_says_what_is(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cat", dest).failed(1, "no datastore 'cat'", "cats")
    stagerun.run("datastore", "get", "cats:2", dest).failed(1, "cats", "version")
    assert not dest.exists()


def test_get_brings_it_all_back(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cats", dest).ok()
    assert snapshot(dest) == snapshot(cats)
    assert "already" in stagerun.run("datastore", "get", "cats", dest).ok().err


def test_get_chooses(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cats:1", dest, "--include", "train/**", "--exclude", "b.txt").ok()
    assert sorted(str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file()) == ["train/one/a.txt"]


def test_get_of_what_is_not_there_says_what_is(stagerun, store, cats, dest):
    create(stagerun, cats)
    stagerun.run("datastore", "get", "cat", dest).failed(1, "no datastore 'cat'", "cats")
    stagerun.run("datastore", "get", "cats:2", dest).failed(1, "cats", "version")
    assert not dest.exists()


def test_deleted_versions_are_gone_and_their_numbers_too(stagerun, store, cats):
    for _ in range(2):
        create(stagerun, cats)
    assert stagerun.run("datastore", "delete", "cats:2").ok().out == "deleted cats version 2\n"
    assert versions(stagerun) == [("cats", 1)]
    assert create(stagerun, cats)["version"] == 3
    stagerun.run("datastore", "delete", "cats").failed(2, "has 2 versions: say cats:all .*--yes.*cats:3")
    assert versions(stagerun) == [("cats", 1), ("cats", 3)]
    assert stagerun.run("datastore", "delete", "cats:all").ok().out == "deleted cats, all versions\n"
    assert versions(stagerun) == []
    stagerun.run("datastore", "delete", "cats:1").failed(1, "cats")


def test_one_version_needs_no_yes_and_several_take_it(stagerun, store, cats):
    create(stagerun, cats)
    stagerun.run("datastore", "delete", "cats").ok()
    for _ in range(2):
        create(stagerun, cats)
    stagerun.run("datastore", "delete", "cats:2:all").failed(2, "cats:2:all")
    stagerun.run("datastore", "delete", "--yes", "cats").ok()
    assert versions(stagerun) == []


def test_one_broken_manifest_does_not_hide_the_others_and_stops_all_removal(stagerun, store, cats):
    stagerun.configure(store={"grace": "0s"})
    for name in ("ants", "cats", "dogs"):
        create(stagerun, cats, "--name", name)
    manifest = store / "datastores/cats/1/manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    result = stagerun.run("datastore", "list").failed(1, "cats:1: the manifest is not JSON")
    assert [line.split()[0] for line in result.out.splitlines()] == ["NAME", "ants", "dogs"]
    assert len(result.err.splitlines()) == 1
    result = stagerun.run("datastore", "list", "--json").failed(1, "cats:1")
    assert [v["name"] for v in json.loads(result.out)] == ["ants", "dogs"]
    orphan = aged(store / f"packs/ab/ab{'0' * 62}.tar.zst")
    create(stagerun, cats, "--name", "dogs")
    assert orphan.exists()
    # Its owner can be rid of it, and of what it may have named.
    stagerun.run("datastore", "delete", "cats").ok()
    assert not orphan.exists()


def aged(path, content=b"x"):
    """A file of two days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 172800,) * 2)
    return path


FOREIGN = ["large/photos-2019.tar", "index/2024/search.db", "packs/left-pad.tgz", "uses/how-to.txt",
           "uses/cats/1/readme.json", f"packs/aa/bb{'0' * 62}.tar.zst", f"packs/aa/aa{'0' * 61}.tar.zst",
           f"packs/aa/AA{'0' * 62}.tar.zst", f"index/aa/aa{'0' * 62}.tar.zst", f"large/{'0' * 64}.tar.zst",
           f"large/{'0' * 32}.tar.zst.bak", "leases/office.pdf", "datastores/cats/notes.txt",
           "datastores/cats/01/manifest.json", "packs/a file", ".tmp/session", "store.json.bak", "thesis.tex"]


def test_what_is_not_exactly_a_stores_outlives_creations_deletions_and_purge(stagerun, store, cats):
    foreign = [aged(store / path) for path in FOREIGN]
    (store / "packs/empty").mkdir()
    stagerun.configure(store={"grace": "0s"})
    result = stagerun.run("datastore", "create", cats, "--name", "cats").ok()
    assert result.err.count("no part of a store") == 1
    orphan = aged(store / f"packs/ab/ab{'0' * 62}.tar.zst")
    stagerun.run("datastore", "delete", "cats").ok()
    assert not orphan.exists()
    stagerun.run("datastore", "create", cats, "--name", "cats").ok()
    result = stagerun.run("datastore", "purge", "--yes").ok()
    warned = [line for line in result.err.splitlines() if "no part of a store" in line]
    assert len(warned) == 1 and f"{len(FOREIGN) - 1} objects" in warned[0]
    assert {p for p in store.rglob("*") if p.is_file()} == set(foreign)
    assert (store / "packs/empty").is_dir()
    stagerun.run("datastore", "purge", "--yes").ok()


def test_a_store_from_before_there_were_markers_gets_one_when_it_is_whole(stagerun, store, cats):
    stagerun.configure(store={"grace": "0s"})
    create(stagerun, cats)
    marker = store / "store.json"
    assert json.loads(marker.read_text())["format"] == 1
    marker.unlink()
    orphan = aged(store / f"packs/ab/ab{'0' * 62}.tar.zst")
    foreign = aged(store / "packs/left-pad.tgz")
    result = stagerun.run("datastore", "create", cats, "--name", "dogs").ok()
    assert "no store.json" in result.err and "left-pad.tgz" in result.err
    stagerun.run("datastore", "purge", "--yes").failed(1, "no store.json.*left-pad.tgz")
    assert orphan.exists() and foreign.exists() and not marker.exists()
    foreign.rename(store / "left-pad.tgz")
    stagerun.run("datastore", "delete", "dogs").ok()
    assert not orphan.exists() and marker.exists()
    assert versions(stagerun) == [("cats", 1)]


@pytest.mark.parametrize("marker, says", [
    ('{"format": 2, "created": "2030-01-01T00:00:00Z"}', "format 2.*upgrade"),
    ('{"theme": "dark"}', "not what stagerun writes"), ("", "not what stagerun writes"),
], ids=["newer", "foreign", "empty"])
def test_a_marker_of_another_kind_is_refused_by_all_that_write(stagerun, store, cats, dest, marker, says):
    create(stagerun, cats)
    (store / "store.json").write_text(marker)
    before = snapshot(store)
    for words in (["create", cats], ["delete", "cats"], ["purge", "--yes"]):
        result = stagerun.run("datastore", *words).failed(1, says)
        assert len(result.err.splitlines()) == 1
    assert snapshot(store) == before
    stagerun.run("datastore", "get", "cats", dest).ok()


@pytest.mark.parametrize("words", [["list"], ["delete", "cats"], ["delete", "cats:1"], ["delete", "cats:all"],
                                   ["purge", "--yes"], ["files", "cats"]], ids=" ".join)
def test_a_misspelt_store_is_not_made_by_what_only_looks_or_removes(stagerun, store, words):
    stagerun.run("datastore", *words)
    assert not store.exists()


def test_the_limit_counts_every_version_and_deletion_frees(stagerun, store, cats):
    stagerun.configure(store={"max_datastores": 2})
    for _ in range(2):
        create(stagerun, cats)
    stagerun.run("datastore", "create", cats).failed(1, "cats:1|cats.*1", "max_datastores|2 ")
    stagerun.run("datastore", "delete", "cats:1").ok()
    assert create(stagerun, cats)["version"] == 3


def test_purge_leaves_nothing(stagerun, store, cats):
    create(stagerun, cats)
    assert "nothing is left" in stagerun.run("datastore", "purge", "--yes").ok().out
    assert [p for p in store.rglob("*") if p.is_file()] == []
    assert versions(stagerun) == []


def test_the_default_store_is_the_users_own_directory(stagerun, cats):
    create(stagerun, cats)
    assert (stagerun.home / ".local/share/stagerun/store/datastores/cats/1/manifest.json").exists()
    data = stagerun.directory / "data"
    stagerun.run("datastore", "create", cats, env={"XDG_DATA_HOME": str(data)}).ok()
    assert (data / "stagerun/store/datastores/cats/1/manifest.json").exists()
    nowhere = {"HOME": None, "XDG_DATA_HOME": None}
    stagerun.run("datastore", "list", env=nowhere).failed(1, "no store", "--store")


def test_an_archive_on_a_disk_stays_one_file(stagerun, store, tmp_path):
    with zipfile.ZipFile(tmp_path / "cifar5.zip", "w") as z:
        z.writestr("cifar5/a.txt", "a")
    create(stagerun, tmp_path / "cifar5.zip")
    out = stagerun.run("datastore", "files", "cifar5", "--json").ok().out
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["cifar5.zip"]
    create(stagerun, tmp_path / "cifar5.zip", "--extract")
    out = stagerun.run("datastore", "files", "cifar5", "--json").ok().out
    assert "cifar5/a.txt" in [json.loads(line)["path"] for line in out.splitlines()]


def test_an_archive_on_a_disk_stays_one_file(stagerun, store, tmp_path):
    with zipfile.ZipFile(tmp_path / "cifar5.zip", "w") as z:
        z.writestr("cifar5/a.txt", "a")
    create(stagerun, tmp_path / "cifar5.zip")
    out = stagerun.run("datastore", "files", "cifar5", "--json").ok().out
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["cifar5.zip"]
    create(stagerun, tmp_path / "cifar5.zip", "--extract")
    out = stagerun.run("datastore", "files", "cifar5", "--json").ok().out
    assert "cifar5/a.txt" in [json.loads(line)["path"] for line in out.splitlines()]


def test_help_is_for_each_subcommand(stagerun):
    out = stagerun.run("datastore", "--help").ok().out
    for name in ("create", "list", "files", "get", "delete", "purge", "policy"):
        assert f"  {name} " in out
        assert "--store URL" in stagerun.run("datastore", name, "--help").ok().out


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_creation_within_a_second(stagerun, store, server, slowness, number, code):
    served = server.put("/slow.bin", noise(4_000_000), rate(20_000))
    running = stagerun.start("datastore", "create", served.url, "--name", "slow")
    wait_until(lambda: served.requests, what="a request")
    running.signal(number)
    watch = Stopwatch()
    result = running.wait()
    assert result.code == code and watch.read() < SOON * slowness
    assert versions(stagerun) == []


def test_names_cannot_draw_on_a_terminal(stagerun, store, cats):
    (cats / "evil\x1b[2J").write_text("x")
    create(stagerun, cats)
    ours, theirs = pty.openpty()
    listing = stagerun.start("datastore", "files", "cats", stdout=theirs)
    os.close(theirs)
    shown = read_terminal(ours).decode()
    listing.wait()
    assert "evil\\x1b[2J" in shown and "\x1b" not in shown
    assert "evil\x1b[2J" in stagerun.run("datastore", "files", "cats").ok().out
