# SPDX-License-Identifier: MIT
"""The parts of a split file as a list of sources that are one stream."""

import signal
import subprocess

import pytest
from agent import wait_until
from archives import COMPRESS, directory, file, noise, tar, zip_entry, zip_of
from faultserver import cut, rate
from trees import found_below

BIG = noise(700_000)
ARCHIVES = {
    "tar.gz": COMPRESS["gz"](tar(directory("d"), file("d/big", BIG), file("last"))),
    "zip": zip_of(zip_entry("d/big", BIG), zip_entry("last")),
}


def pieces(data, n=3):
    step = len(data) // n + 1
    return [data[at:at + step] for at in range(0, len(data), step)]


def serve(server, kind, endings, **how):
    return [server.put(f"/x.{kind}{ending}", piece, **how)
            for ending, piece in zip(endings, pieces(ARCHIVES[kind], len(endings)))]


def assert_there(dest):
    assert (dest / "d/big").read_bytes() == BIG and (dest / "last").read_bytes() == b"data\n"


def by_config(stagerun, urls, dest, more=""):
    lines = "".join(f"        - {url}\n" for url in urls)
    path = stagerun.config(f"""
compute:
  train:
    actions:
      on_experiment_start:
      - stage:
          source:
{lines.replace("        -", "          -")}          join: true
          to: {dest}
{more}
""")
    return stagerun.run("run", "--config", path, "--", "true")


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("endings", [(".aa", ".ab", ".ac"), (".001", ".002", ".003"),
                                     (".part1of3", ".part2of3", ".part3of3"), (".00", ".01"), ("-one", "-two")])
def test_parts_are_one_archive(stagerun, server, dest, kind, endings, ranges):
    parts = serve(server, kind, endings, ranges=ranges)
    stagerun.run("fetch", "--join", *[p.url for p in parts], dest).ok()
    assert_there(dest)


def test_parts_of_a_7z_are_one_archive(stagerun, server, dest, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/big").write_bytes(BIG)
    (tmp_path / "last").write_bytes(b"data\n")
    subprocess.run(["7z", "a", "-bd", "-y", "-v200k", tmp_path / "x.7z", "d", "last"], cwd=tmp_path,
                   stdout=subprocess.DEVNULL, check=True)
    parts = [server.put(f"/{p.name}", p.read_bytes()).url for p in sorted(tmp_path.glob("x.7z.*"))]
    assert len(parts) > 2
    stagerun.run("fetch", "--join", *parts, dest).ok()
    assert_there(dest)


def test_parts_may_be_files(stagerun, dest, tmp_path):
    paths = []
    for ending, piece in zip("abc", pieces(ARCHIVES["zip"])):
        paths.append(tmp_path / f"x.zip.a{ending}")
        paths[-1].write_bytes(piece)
    stagerun.run("fetch", "--join", paths[0], f"file://{paths[1]}", paths[2], dest).ok()
    assert_there(dest)


def test_a_single_file_in_parts_is_called_as_the_whole(stagerun, server, dest):
    parts = [server.put(f"/model.bin.part{i}", piece).url for i, piece in enumerate(pieces(BIG), 1)]
    stagerun.run("fetch", "--join", *parts, dest).ok()
    assert (dest / "model.bin").read_bytes() == BIG


def test_config_yml_names_parts_as_a_list(stagerun, server, dest):
    by_config(stagerun, [p.url for p in serve(server, "tar.gz", [".aa", ".ab"])], dest).ok()
    assert_there(dest)


def test_the_digest_is_of_the_whole(stagerun, server, dest):
    import hashlib
    parts = [p.url for p in serve(server, "tar.gz", [".aa", ".ab"])]
    digest = hashlib.sha256(ARCHIVES["tar.gz"]).hexdigest()
    stagerun.run("fetch", "--join", "--sha256", "0" * 64, *parts, dest).failed(1, "sha256|digest")
    stagerun.run("fetch", "--join", "--sha256", digest, *parts, dest).ok()
    assert_there(dest)


def test_a_change_of_any_part_is_another_version(stagerun, server, dest):
    parts = serve(server, "tar.gz", [".aa", ".ab"])
    urls = [p.url for p in parts]
    stagerun.run("fetch", "--join", *urls, dest).ok()
    assert "already" in stagerun.run("fetch", "--join", *urls, dest).ok().err
    other = COMPRESS["gz"](tar(directory("d"), file("d/big", b"other"), file("last")))
    for part, piece in zip(parts, pieces(other, 2)):
        part.replace(piece)
    stagerun.run("fetch", "--join", "--replace", *urls, dest).ok()
    assert (dest / "d/big").read_bytes() == b"other"


def test_a_part_that_breaks_is_continued(stagerun, server, dest):
    parts = [server.put(f"/x.tar.gz.{ending}", piece, cut(50_000, times=2))
             for ending, piece in zip(["aa", "ab", "ac"], pieces(ARCHIVES["tar.gz"]))]
    stagerun.run("fetch", "--join", *[p.url for p in parts], dest).ok()
    assert_there(dest)


@pytest.mark.parametrize("endings, words", [
    ((".aa", ".ac"), r"a part between 'x\.tar\.gz\.aa' and 'x\.tar\.gz\.ac' is missing"),
    ((".001", ".003"), "a part between .* is missing"),
    ((".ab", ".ac"), r"the first part is missing: the list begins with 'x\.tar\.gz\.ab'"),
    ((".002", ".003"), "the first part is missing"),
    ((".ab", ".aa"), r"'x\.tar\.gz\.aa' follows 'x\.tar\.gz\.ab': name the parts in their order"),
    ((".part1of3", ".part2of3"), "the last part is missing"),
    ((".aa", ".aa"), r"'http://.*/x\.tar\.gz\.aa' is named twice")])
def test_a_list_that_cannot_be_right_is_refused(stagerun, server, dest, endings, words):
    urls = [server.url(f"/x.tar.gz{ending}") for ending in endings]
    stagerun.run("fetch", "--join", *urls, dest).failed(2, words)
    assert not server.requests() and not dest.exists()


def test_a_list_without_join_is_refused(stagerun, dest):
    path = stagerun.config(f"""
compute:
  train:
    actions:
      on_experiment_start:
      - stage:
          source: [/a.aa, /a.ab]
          to: {dest}
""")
    stagerun.run("run", "--config", path, "--", "true").failed(125, "join: true")


def test_a_part_that_is_missing_at_the_server_is_named(stagerun, server, dest):
    parts = [p.url for p in serve(server, "tar.gz", [".aa", ".ab"])]
    stagerun.run("fetch", "--join", *parts, server.url("/x.tar.gz.ac"), dest).failed(1, r"x\.tar\.gz\.ac.*404")


@pytest.mark.parametrize("name", ["x.tar.gz.aa", "x.tgz.part1of3", "x.7z.001", "x.zip.001"])
def test_one_part_alone_is_refused_with_a_word_about_join(stagerun, server, dest, name):
    data = COMPRESS["gz"](tar(file("a", BIG)))[:200_000] if "7z" not in name and "zip" not in name else noise(5000)
    stagerun.fetch(server.put(f"/{name}", data).url, dest).failed(1, "join: true")


def test_parts_as_split_names_them_by_itself_are_checked(stagerun, server, dest):
    a, b, c = (server.put(f"/xa{letter}", piece).url for letter, piece in zip("abc", pieces(BIG)))
    stagerun.run("fetch", "--join", a, c, dest).failed(2, "a part between 'xaa' and 'xac' is missing")
    stagerun.run("fetch", "--join", b, a, dest).failed(2, "'xaa' follows 'xab'")
    stagerun.run("fetch", "--join", b, c, dest).failed(2, "the first part is missing")
    stagerun.run("fetch", "--join", a, b, c, dest).ok()
    assert next(dest.iterdir()).read_bytes() == BIG


@pytest.mark.parametrize("other", ["b.zip.002", "a.7z.002"])
def test_parts_of_different_files_are_refused(stagerun, server, dest, other):
    urls = [server.url("/a.zip.001"), server.url(f"/{other}")]
    stagerun.run("fetch", "--join", *urls, dest).failed(2, f"'a.zip.001' and '{other}' are parts of different files")


def test_a_line_feed_in_a_path_joins_nothing(stagerun, dest, tmp_path):
    path = tmp_path / "two\nlines"
    path.write_bytes(BIG)
    stagerun.fetch(path, dest).ok()
    assert (dest / path.name).read_bytes() == BIG
    stagerun.run("fetch", "--join", path, path, dest).failed(2, "a part is no URL or path")


def test_an_agent_that_was_killed_goes_on_where_it_was(stagerun, server, dest, tmp_path):
    names = [f"d/{i}" for i in range(30)]
    archive = zip_of(*(zip_entry(name, noise(40_000, i), method=0) for i, name in enumerate(names)))
    parts = [server.put(f"/x.zip.00{i}", piece, rate(150_000, when=lambda _: slow)) for i, piece in enumerate(pieces(archive), 1)]
    urls, slow = [part.url for part in parts], True
    agent = stagerun.start("fetch", "--join", *urls, dest)
    wait_until(lambda: found_below(tmp_path, "12"), 20)
    agent.signal(signal.SIGKILL)
    agent.wait()
    slow = False
    result = stagerun.run("fetch", "--join", *urls, dest).ok()
    assert "were there already" in result.err
    for i, name in enumerate(names):
        assert (dest / name).read_bytes() == noise(40_000, i)


def test_parts_may_be_objects(stagerun, ceph, dest):
    for ending, piece in zip("abc", pieces(ARCHIVES["zip"])):
        ceph.put(f"x.zip.a{ending}", piece)
    urls = [f"s3://{ceph.bucket}/x.zip.a{ending}" for ending in "abc"]
    stagerun.run("fetch", "--join", *urls, dest, env=ceph.env()).ok()
    assert_there(dest)
    assert "already" in stagerun.run("fetch", "--join", *urls, dest, env=ceph.env()).ok().err


def test_parts_may_come_from_several_places(stagerun, server, ceph, dest, tmp_path):
    first, second, third = pieces(ARCHIVES["zip"])
    (tmp_path / "x.zip.aa").write_bytes(first)
    ceph.put("x.zip.ac", third)
    urls = [tmp_path / "x.zip.aa", server.put("/x.zip.ab", second).url, f"s3://{ceph.bucket}/x.zip.ac"]
    stagerun.run("fetch", "--join", *urls, dest, env=ceph.env()).ok()
    assert_there(dest)
