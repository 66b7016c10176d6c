# SPDX-License-Identifier: MIT
"""Names inside archives as programs really write them: absolute, with "..", directories without a slash."""

import re

import pytest
from archives import COMPRESS, directory, file, tar, zip_entry, zip_of


def packed(kind, names):
    if kind == "zip":
        return zip_of(*(zip_entry(name) for name in names))
    archive = tar(*(directory(name.rstrip("/")) if name.endswith("/") else file(name) for name in names))
    return COMPRESS["gz"](archive) if kind == "tar.gz" else archive


def advice(result):
    """The options that the message names."""
    strip = re.search(r"strip_components: (\d+)", result.err)
    exclude = re.search(r"exclude: '([^']*)'", result.err)
    return strip and strip[1], exclude and exclude[1]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("names, kept", [
    (["/data/a", "/data/sub/b"], ["a", "sub/b"]),
    (["/data/", "/data/a"], ["a"]),
    (["//data//a"], ["a"]),
    (["../data/a", "../data/sub/b"], ["data/a", "data/sub/b"]),
    (["../", "../a"], ["a"]),
    (["../../x/a"], ["x/a"]),
    (["x/../../y/a"], ["y/a"]),
    (["/x/../a"], ["a"]),
    (["./../a"], ["a"])])
def test_names_that_no_tree_takes_are_refused_and_strip_components_does(stagerun, server, place, kind, names, kept):
    served = server.put(f"/x.{kind}", packed(kind, names))
    result = stagerun.fetch(served.url, place.dest).failed(1, "was refused: the name (is absolute|contains '..')")
    place.assert_nothing_published()
    strip, _ = advice(result)
    stagerun.fetch(served.url, place.dest, "--strip-components", strip).ok()
    for name in kept:
        assert (place.dest / name).read_bytes() == b"data\n"


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("bad", ["/da*ta/a", "../a", "x/../../y", "/a", "x/.."])
def test_names_that_no_tree_takes_may_be_excluded_as_the_message_says(stagerun, server, place, kind, bad):
    served = server.put(f"/x.{kind}", packed(kind, [bad, "data/good"]))
    _, exclude = advice(stagerun.fetch(served.url, place.dest).failed(1, "was refused"))
    stagerun.fetch(served.url, place.dest, "--exclude", exclude).ok()
    assert [p.name for p in place.dest.rglob("*")] == ["data", "good"]


def test_what_would_leave_nothing_is_not_advised(stagerun, server, place):
    result = stagerun.fetch(server.put("/x.tar", tar(file("/a"))).url, place.dest).failed(1, "is absolute")
    assert advice(result) == (None, "/a")


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("order", [1, -1], ids=["before", "behind"])
def test_an_empty_file_with_files_below_it_is_a_directory(stagerun, server, dest, kind, order):
    entries = [("images", b""), ("images/1.jpg", b"x"), ("images/cats", b""), ("images/cats/2.jpg", b"y")][::order]
    archive = tar(*(file(*e) for e in entries)) if kind == "tar" else zip_of(*(zip_entry(*e) for e in entries))
    result = stagerun.fetch(server.put(f"/x.{kind}", archive).url, dest).ok()
    assert result.err.count("is taken for a directory") == 1 and "'images" in result.err
    assert (dest / "images/1.jpg").read_bytes() == b"x"
    assert (dest / "images/cats/2.jpg").read_bytes() == b"y"


def test_what_was_staged_with_such_a_directory_is_there_the_next_time(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("images", b""), file("images/1.jpg", b"x")))
    stagerun.fetch(served.url, dest).ok()
    assert "already" in stagerun.fetch(served.url, dest).ok().err


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_file_with_content_is_no_directory(stagerun, server, place, kind):
    entries = [("images", b"content"), ("images/1.jpg", b"x")]
    archive = tar(*(file(*e) for e in entries)) if kind == "tar" else zip_of(*(zip_entry(*e) for e in entries))
    stagerun.fetch(server.put(f"/x.{kind}", archive).url, place.dest).failed(
        1, "parent 'images' is not a directory|'images' was refused: it would replace a directory")
    place.assert_nothing_published()


def test_a_datastore_of_such_an_archive_has_the_directory(stagerun, server, store, dest):
    served = server.put("/x.tar", tar(file("images", b""), file("images/1.jpg", b"x")))
    stagerun.run("datastore", "create", served.url, "--name", "odd").ok()
    stagerun.run("datastore", "get", "odd", dest).ok()
    assert (dest / "images/1.jpg").read_bytes() == b"x"


def test_the_advice_about_a_name_says_that_it_is_about_the_first(stagerun, server, place):
    archive = tar(file("../a"), file("../../b"))
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest).failed(
        1, r"contains '\.\.' \(the first such name\); strip_components: 1 makes it 'a'")
    stagerun.fetch(server.put("/x.tar", archive).url, place.dest, "--strip-components", "1").failed(
        1, r"strip_components: 2 makes it 'b'")
