# SPDX-License-Identifier: MIT
"""Names that a file system takes for one, as it does not tell upper from lower case, or two forms of a letter."""

import io
import os
import subprocess
import tarfile
import zipfile

import pytest
from agent import wait_until
from faultserver import rate
from odddisk import odd_disk
from trees import found_below

ONE, TWO = "caf\u00e9", "cafe\u0301"  # one letter, and two that look the same
FOLDING = ["fold", "fold=keep"]


@pytest.fixture(params=FOLDING)
def disk(request, tmp_path):
    """It takes README and readme for one name."""
    with odd_disk(tmp_path, request.param) as mount:
        yield mount


def tree(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
        os.utime(path, (1e9, 1e9))
    return directory


def tar(directory, out, *options):
    subprocess.run(["tar", *options, "-cf", out, "-C", directory, *sorted(os.listdir(directory))], check=True)
    return out


def cpio(directory, out):
    names = "\n".join(sorted(str(p.relative_to(directory)) for p in directory.rglob("*")))
    with open(out, "wb") as file:
        subprocess.run(["bsdcpio", "-o", "-H", "newc"], cwd=directory, input=names.encode(), stdout=file,
                       check=True, stderr=subprocess.DEVNULL)
    return out


def zip_of(directory, out):
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(directory.rglob("*")):
            archive.write(path, path.relative_to(directory))
    return out


def seven_zip(directory, out):
    subprocess.run(["7z", "a", out, "."], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return out


MAKERS = {"a.tar": tar, "a.cpio": cpio, "a.zip": zip_of, "a.7z": seven_zip}


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_with_two_names_that_are_one_is_refused_and_both_are_named(stagerun, disk, tmp_path, name):
    source = tree(tmp_path / "source", "d/README", "d/other", "d/readme")
    dest = disk / "data"
    result = stagerun.fetch(MAKERS[name](source, tmp_path / name), dest)
    result.failed(1, "'d/readme' was refused|'d/README' was refused", "one name", "README|readme")
    assert not dest.exists()


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_whose_names_stay_apart_is_staged(stagerun, disk, tmp_path, name):
    source = tree(tmp_path / "source", "Dir/Sub/README", "Dir/a", "Dir/Sub/b", "Other/README")
    stagerun.fetch(MAKERS[name](source, tmp_path / name), disk / "data").ok()
    for path in ("Dir/Sub/README", "Dir/a", "Dir/Sub/b", "Other/README"):
        assert (disk / "data" / path).read_text() == f"this is {path}"


def test_two_directories_that_are_one_are_refused(stagerun, disk, tmp_path):
    source = tree(tmp_path / "source", "Train/a", "train/b")
    stagerun.fetch(tar(source, tmp_path / "a.tar"), disk / "data").failed(1, "'train' was refused.*one name")


def test_two_directories_that_no_entry_speaks_of_are_refused(stagerun, disk, tmp_path):
    tree(tmp_path / "source", "Train/a", "train/b")
    out = tmp_path / "a.tar"
    subprocess.run(["tar", "-cf", out, "-C", tmp_path / "source", "Train/a", "train/b"], check=True)
    stagerun.fetch(out, disk / "data").failed(1, "'train' was refused.*one name")


def test_a_link_and_a_file_that_are_one_are_refused(stagerun, disk, tmp_path):
    source = tree(tmp_path / "source", "a", "b")
    (source / "LINK").symlink_to("a")
    os.link(source / "b", source / "link")
    stagerun.fetch(tar(source, tmp_path / "a.tar"), disk / "data").failed(1, "'link' was refused.*'LINK|one name")


def test_a_hard_link_to_itself_by_another_name_is_refused(stagerun, disk, tmp_path):
    source = tree(tmp_path / "source", "File")
    os.link(source / "File", source / "file")
    stagerun.fetch(tar(source, tmp_path / "a.tar"), disk / "data").failed(1, "'file' was refused.*one name")


def test_a_name_that_comes_twice_is_still_one_file_and_the_later_counts(stagerun, disk, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for content in (b"first", b"second"):
            info = tarfile.TarInfo("README")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    stagerun.fetch(tmp_path / "a.tar", disk / "data").ok()
    assert (disk / "data/README").read_bytes() == b"second"


def test_a_datastore_with_two_names_that_are_one_is_refused(stagerun, store, disk, tmp_path):
    source = tree(tmp_path / "source", *(f"f{i}" for i in range(300)), "README", "readme")
    stagerun.run("datastore", "create", source, "--name", "cats").ok()
    stagerun.run("datastore", "get", "cats", disk / "data").failed(1, "'(readme|README)' was refused.*one name")
    assert not (disk / "data").exists()
    stagerun.run("datastore", "get", "cats", disk / "data", "--exclude", "readme").ok()
    assert len(os.listdir(disk / "data")) == 301


def test_two_forms_of_a_letter_that_are_one_are_refused(stagerun, tmp_path):
    source = tree(tmp_path / "source", ONE, TWO)
    archive = tar(source, tmp_path / "a.tar")
    with odd_disk(tmp_path, "compose") as disk:
        stagerun.fetch(archive, disk / "data").failed(1, "was refused.*one name")
        assert not (disk / "data").exists()


def test_a_killed_stage_onto_a_folding_file_system_begins_anew(stagerun, disk, server, tmp_path):
    source = tree(tmp_path / "source", *(f"Dir{i}/README" for i in range(30)))
    (source / "Zlarge").write_bytes(os.urandom(3_000_000))
    served = server.put("/a.tar", tar(source, tmp_path / "a.tar").read_bytes(), rate(1_000_000, times=1))
    running = stagerun.start("fetch", served.url, disk / "data")
    wait_until(lambda: any(p.name.lower() == "readme" for p in found_below(disk / ".stagerun", "*")), what="a file")
    running.process.kill()
    running.wait(10)
    stagerun.fetch(served.url, disk / "data").ok()
    assert len(os.listdir(disk / "data")) == 31
