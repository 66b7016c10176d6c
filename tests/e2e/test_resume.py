# SPDX-License-Identifier: MIT
"""A stage whose agent was killed goes on where it was: what is complete is neither fetched nor written again, and
what cannot be trusted is not used."""

import hashlib
import json
import os
import random
import signal
import stat
import zipfile
from pathlib import Path

import pytest
from agent import wait_until
from archives import (COMPRESS, MTIME, directory, file, hardlink, noise, symlink, tar, zip_entry, zip_of,
                      zip_symlink)
from faultserver import Fault, rate
from trees import assert_same, unpublished_trees

FILES, SIZE = 40, 50_000
ALREADY = r"(\d+) of (\d+) entries were there already"


def zip_archive(seed=0):
    return zip_of(*(zip_entry(f"d/{i}", noise(SIZE, seed + i), method=zipfile.ZIP_STORED) for i in range(FILES)))


def tar_archive(seed=0):
    return COMPRESS["zst"](tar(directory("d"), *(file(f"d/{i}", noise(SIZE, seed + i)) for i in range(FILES)),
                               symlink("link", "d/0"), hardlink("hard", "d/1")))


def held(body, share=0.5):
    """Nothing comes of ranges that begin behind this share of it; a zip's end does."""
    def is_behind(request):
        return request.range is not None and len(body) * share <= request.range[0] < len(body) - 100_000

    return Fault(lambda _, response: setattr(response, "stall_after", 0), None, is_behind)


def unfinished_tree(place):
    trees = unpublished_trees(place.parent)
    assert len(trees) == 1, trees
    return trees[0]


def complete_files(tree):
    """{path: inode} of files that have the time they shall have."""
    found = {}
    for path in tree.rglob("*"):
        try:
            st = path.lstat()
        except FileNotFoundError:  # it is being replaced
            continue
        if stat.S_ISREG(st.st_mode) and st.st_mtime_ns == MTIME * 10**9:
            found[path.relative_to(tree)] = st.st_ino
    return found


def read(path):
    """b"" when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@pytest.fixture
def patient(stagerun):
    """It waits for a server that says nothing for longer than a test takes."""
    stagerun.configure(network={"first_byte_timeout": "60s", "stall_timeout": "60s"})
    return stagerun


def begins_with(parent, count):
    """Whether the first so many files are complete in the unfinished tree beneath parent. (Threads write them, so that
    later ones may be before.)"""
    trees = unpublished_trees(parent)
    return trees and {Path(f"d/{i}") for i in range(count)} <= complete_files(trees[0]).keys()


def interrupt(agent, place, served, files=15, number=signal.SIGKILL, options=()):
    """Starts to stage it, ends the agent in the middle; returns the files that were complete then."""
    running = agent.start("fetch", *options, served.url, place.dest)
    wait_until(lambda: begins_with(place.parent, files), what=f"{files} files")
    running.signal(number)
    running.wait()
    served.faults.clear()
    assert not place.dest.exists()
    return complete_files(unfinished_tree(place))


def inodes_kept(place, before):
    return sum((place.dest / name).stat().st_ino == inode for name, inode in before.items())


def assert_as_staged_at_once(agent, place, served):
    """As in one go. Directories that no entry describes have the time they were made."""
    reference = place.parent / "outside/reference"
    agent.fetch(served.url, reference).ok()
    for tree in (reference, place.dest):
        for path in [p for p in tree.rglob("*") if p.is_dir()]:
            os.utime(path, (MTIME, MTIME))
    assert_same(reference, place.dest)
    assert unpublished_trees(place.parent) == []


def test_of_a_zip_only_what_is_missing_is_fetched(patient, server, place):
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    before = interrupt(patient, place, served)
    asked = len(served.requests)
    result = patient.fetch(served.url, place.dest).ok()
    assert served.sent_from(asked) < 0.75 * len(body)
    assert inodes_kept(place, before) == len(before)
    assert f"{len(before)} of {FILES} entries were there already" in result.err
    assert_as_staged_at_once(patient, place, served)


def zip_of_many_kinds():
    """Directories and links between the files, as `zip -r -y` writes them."""
    entries = []
    for i in range(FILES):
        entries += [zip_entry(f"e{i}/"), zip_entry(f"d/{i}", noise(4 * SIZE, i), method=zipfile.ZIP_STORED),
                    zip_symlink(f"e{i}/link", f"../d/{i}"), zip_entry(f"e{i}/empty", b"")]
    return zip_of(*entries)


def test_directories_and_links_of_a_zip_cost_no_request_of_their_own(patient, server, place):
    body = zip_of_many_kinds()
    served = server.put("/x.zip", body, held(body))
    before = interrupt(patient, place, served)
    there = 4 * SIZE * sum(name.parts[0] == "d" for name in before)
    asked = len(served.requests)
    served.faults.append(rate(300_000))  # what is read ahead before a file is passed over depends on who is faster
    patient.fetch(served.url, place.dest).ok()
    assert served.sent_from(asked) < len(body) - there + 0.2 * len(body)
    assert_as_staged_at_once(patient, place, served)


def test_of_a_tar_only_files_that_are_missing_are_written(patient, server, place):
    body = tar_archive()
    served = server.put("/x.tar.zst", body, held(body))
    before = interrupt(patient, place, served)
    patient.fetch(served.url, place.dest).ok()
    assert inodes_kept(place, before) == len(before)
    assert_as_staged_at_once(patient, place, served)


def test_a_stage_that_a_signal_ended_goes_on_too(patient, server, place):
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    before = interrupt(patient, place, served, number=signal.SIGTERM)
    patient.fetch(served.url, place.dest).ok()
    assert inodes_kept(place, before) == len(before)
    assert_as_staged_at_once(patient, place, served)


def test_a_download_that_is_kept_is_not_fetched_again(patient, server, place):
    patient.configure(stage={"keep_download": "yes"})
    body = tar_archive()
    served = server.put("/x.tar.zst", body, held(body))
    interrupt(patient, place, served)
    asked = len(served.requests)
    patient.fetch(served.url, place.dest).ok()
    assert served.sent_from(asked) < 0.75 * len(body)
    assert max(r.range[0] for r in served.requests[asked:]) > 0.4 * len(body)
    assert not list(place.parent.rglob("download"))
    patient.configure(stage={"keep_download": "no"})
    assert_as_staged_at_once(patient, place, served)


def test_a_download_that_is_kept_is_digested_too(patient, server, place):
    patient.configure(stage={"keep_download": "yes"})
    body = tar(*(file(f"d/{i}", noise(SIZE, i)) for i in range(FILES)))  # nothing else would notice
    digest = hashlib.sha256(body).hexdigest()
    served = server.put("/x.tar", body, held(body))
    interrupt(patient, place, served, options=("--sha256", digest))
    kept, = place.parent.rglob("download")
    with open(kept, "r+b") as download:
        download.seek(SIZE // 2)
        download.write(b"damaged")
    patient.fetch(served.url, place.dest, "--sha256", digest).ok()
    assert_as_staged_at_once(patient, place, served)


@pytest.mark.parametrize("damage", ["bytes", "cut", "longer", "no digests", "fifo", "link"])
def test_of_a_download_that_is_kept_only_what_proves_itself_is_used(patient, server, place, damage):
    patient.configure(stage={"keep_download": "yes"})
    body = tar(*(file(f"d/{i}", noise(SIZE, i)) for i in range(FILES)))  # nothing else would notice
    served = server.put("/x.tar", body, held(body))
    interrupt(patient, place, served)
    kept, = place.parent.rglob("download")
    if damage in ("fifo", "link"):
        kept.unlink()
    if damage == "bytes":
        with open(kept, "r+b") as download:
            download.seek(SIZE // 2)
            download.write(b"damaged")
    elif damage == "cut":
        os.truncate(kept, kept.stat().st_size * 2 // 3)
    elif damage == "longer":
        with open(kept, "ab") as download:
            download.write(b"damaged")
    elif damage == "no digests":
        Path(f"{kept}.sums").unlink()
    elif damage == "fifo":
        os.mkfifo(kept)
    else:
        kept.symlink_to(place.parent / "victim")
    for left in (unfinished_tree(place) / "d").iterdir():
        left.unlink()
    patient.fetch(served.url, place.dest).ok()
    patient.configure(stage={"keep_download": "no"})
    assert_as_staged_at_once(patient, place, served)
    assert (place.parent / "victim").read_text() == "precious\n"


@pytest.mark.parametrize("archive", [zip_archive, tar_archive])
def test_what_somebody_added_to_an_unfinished_tree_is_not_published(patient, server, place, archive):
    body = archive()
    served = server.put("/x.zip", body, held(body))
    interrupt(patient, place, served)
    tree = unfinished_tree(place)
    (tree / "d/added").write_bytes(b"!")
    (tree / "empty").mkdir()
    (tree / "more").mkdir()
    (tree / "more/added").symlink_to("../d")
    os.link(tree / "d/3", tree / "d/linked")
    patient.fetch(served.url, place.dest).ok()
    assert_as_staged_at_once(patient, place, served)


def test_with_a_digest_of_the_whole_files_of_an_earlier_run_are_not_used(patient, server, place):
    """They were never compared with anything: the digest is looked at in the end."""
    body = tar_archive()
    digest = hashlib.sha256(body).hexdigest()
    served = server.put("/x.tar.zst", body, held(body))
    interrupt(patient, place, served, options=("--sha256", digest))
    forged = unfinished_tree(place) / "d/3"
    forged.write_bytes(b"!" * SIZE)
    os.utime(forged, (MTIME, MTIME))
    (unfinished_tree(place) / "d/one more").write_bytes(b"!")
    patient.fetch(served.url, place.dest, "--sha256", digest).ok()
    assert_as_staged_at_once(patient, place, served)


def test_a_download_that_has_a_digest_is_kept(patient, server, place):
    patient.configure(stage={"keep_download": "yes"})
    body = tar_archive()
    digest = hashlib.sha256(body).hexdigest()
    served = server.put("/x.tar.zst", body, held(body))
    interrupt(patient, place, served, options=("--sha256", digest))
    asked = len(served.requests)
    patient.fetch(served.url, place.dest, "--sha256", digest).ok()
    assert served.sent_from(asked) < 0.75 * len(body)


def test_directories_that_nobody_may_write_are_gone_on_with(patient, server, place):
    """A run that had set the modes was almost done."""
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    interrupt(patient, place, served)
    (unfinished_tree(place) / "d").chmod(0o555)
    patient.fetch(served.url, place.dest).ok()
    assert_as_staged_at_once(patient, place, served)


def test_what_was_fetched_of_another_version_is_not_used(patient, server, place):
    body, new = zip_archive(), zip_archive(seed=1000)
    served = server.put("/x.zip", body, held(body))
    interrupt(patient, place, served)
    served.replace(new)
    result = patient.fetch(served.url, place.dest).ok()
    assert "has changed since an earlier run was interrupted" in result.err
    assert (place.dest / "d/3").read_bytes() == noise(SIZE, 1003)
    assert_as_staged_at_once(patient, place, served)


def test_what_was_kept_of_another_version_is_not_used(patient, server, place):
    patient.configure(stage={"keep_download": "yes"})
    body, new = tar_archive(), tar_archive(seed=1000)
    served = server.put("/x.tar.zst", body, held(body))
    interrupt(patient, place, served)
    served.replace(new)
    patient.fetch(served.url, place.dest).ok()
    assert (place.dest / "d/3").read_bytes() == noise(SIZE, 1003)


def test_what_was_fetched_without_anything_that_names_its_version_is_not_used(patient, server, place):
    body = tar_archive()
    served = server.put("/x.tar.zst", body, held(body, 2), rate(len(body)), etag=None, last_modified=None)
    running = patient.start("fetch", served.url, place.dest)
    wait_until(lambda: unpublished_trees(place.parent) and complete_files(unfinished_tree(place)))
    running.signal(signal.SIGKILL)
    running.wait()
    served.faults.clear()
    assert "there already" not in patient.fetch(served.url, place.dest).ok().err


def test_other_options_do_not_go_on_with_what_was_staged(patient, server, place):
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    interrupt(patient, place, served)
    result = patient.fetch(served.url, place.dest, "--strip-components", "1").ok()
    assert "there already" not in result.err
    assert sorted(int(p.name) for p in place.dest.iterdir()) == list(range(FILES))


@pytest.mark.parametrize("change", [
    pytest.param(lambda lines: [], id="empty"),
    pytest.param(lambda lines: lines[:-1], id="cut"),
    pytest.param(lambda lines: [b"\0" * len(line) for line in lines], id="zeros"),
    pytest.param(lambda lines: [b'{"format": 1}\n'], id="not a journal"),
    pytest.param(lambda lines: [altered(lines[0], boot="another"), *lines[1:]], id="of another boot"),
    pytest.param(lambda lines: [altered(lines[0], tree="merged"), *lines[1:]], id="of another directory"),
    pytest.param(lambda lines: [altered(lines[0], tree="../outside"), *lines[1:]], id="of a directory outside"),
    pytest.param(lambda lines: [altered(lines[0], key="0" * 64), *lines[1:]], id="of something else"),
    pytest.param(lambda lines: [lines[0], altered(lines[1], ino=1), *lines[2:]], id="of another inode"),
])
def test_a_journal_that_does_not_fit_is_not_believed(patient, server, place, change):
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    interrupt(patient, place, served)
    journal, = place.parent.rglob("unfinished.json")
    journal.write_bytes(b"".join(change(journal.read_bytes().splitlines(keepends=True))))
    result = patient.fetch(served.url, place.dest).ok()
    assert "there already" not in result.err
    assert_as_staged_at_once(patient, place, served)


def altered(line, **values):
    return json.dumps({**json.loads(line), **values}).encode() + b"\n"


def test_a_file_that_is_not_as_it_was_left_is_fetched_again(patient, server, place):
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    before = interrupt(patient, place, served)
    shortened, written, linked = [unfinished_tree(place) / name for name in list(before)[:3]]
    os.truncate(shortened, 10)
    os.utime(shortened, (MTIME, MTIME))
    written.write_bytes(noise(SIZE, 77))
    linked.unlink()
    linked.symlink_to(place.parent / "victim")
    patient.fetch(served.url, place.dest).ok()
    assert_as_staged_at_once(patient, place, served)


def test_the_later_of_two_files_with_one_name_size_and_time_wins_after_a_kill_too(patient, server, place):
    body = tar(*(file(f"d/{i}", noise(SIZE, i)) for i in range(FILES)),
               *(file(f"d/{i}", noise(SIZE, 500 + i)) for i in range(FILES)))
    served = server.put("/x.tar", body, held(body, 0.8))
    running = patient.start("fetch", served.url, place.dest)
    wait_until(lambda: unpublished_trees(place.parent) and
               read(unfinished_tree(place) / "d/10") == noise(SIZE, 510))
    running.signal(signal.SIGKILL)
    running.wait()
    served.faults.clear()
    patient.fetch(served.url, place.dest).ok()
    assert all((place.dest / f"d/{i}").read_bytes() == noise(SIZE, 500 + i) for i in range(FILES))


def test_a_merge_goes_on(patient, server, place):
    body = zip_archive()
    place.dest.mkdir()
    (place.dest / "mine").write_text("mine\n")
    served = server.put("/x.zip", body, held(body))
    running = patient.start("fetch", served.url, place.dest)
    wait_until(lambda: begins_with(place.parent, 15), what="15 files")
    running.signal(signal.SIGKILL)
    running.wait()
    served.faults.clear()
    assert "entries were there already" in patient.fetch(served.url, place.dest).ok().err
    assert (place.dest / "mine").read_text() == "mine\n"
    assert len(list((place.dest / "d").iterdir())) == FILES


def test_filling_the_node_cache_goes_on(patient, server, place, tmp_path):
    patient.configure(cache={"dir": tmp_path / "cache", "min_free": "none"})
    body = zip_archive()
    served = server.put("/x.zip", body, held(body))
    running = patient.start("fetch", served.url, place.dest)
    wait_until(lambda: begins_with(tmp_path / "cache", 15), what="15 files")
    running.signal(signal.SIGKILL)
    running.wait()
    served.faults.clear()
    asked = len(served.requests)
    assert "entries were there already" in patient.fetch(served.url, place.dest).ok().err
    assert served.sent_from(asked) < 0.75 * len(body)
    assert all((place.dest / f"d/{i}").read_bytes() == noise(SIZE, i) for i in range(FILES))


@pytest.fixture
def many(stagerun, store, tmp_path):
    """A datastore of some megabytes."""
    source = tmp_path / "many"
    for i in range(3000):
        path = source / f"{i // 100:02}" / f"{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(8000, i))
        os.utime(path, (MTIME, MTIME))
    stagerun.run("datastore", "create", source, "--name", "many").ok()
    return source


def test_a_datastore_goes_on(stagerun, many, place):
    for _ in range(20):
        running = stagerun.start("datastore", "get", "many", place.dest)
        wait_until(lambda: running.finished() or (
            unpublished_trees(place.parent) and complete_files(unfinished_tree(place))))
        running.signal(signal.SIGKILL)
        running.wait()
        if not place.dest.exists():
            break
        place.dest.rename(place.parent / f"outside/{random.random()}")
    before = complete_files(unfinished_tree(place))
    result = stagerun.run("datastore", "get", "many", place.dest).ok()
    assert "entries were there already" in result.err
    assert inodes_kept(place, before) == len(before)
    assert_same(many, place.dest)
