# SPDX-License-Identifier: MIT
"""A name that promises an archive or a compression: what comes instead of one is never staged in silence."""

import gzip
import zipfile

import pytest
from archives import COMPRESS, file, tar, zip_entry, zip_of
from faultserver import header, redirect

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in to continue</title></head><body></body></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456789\n"
DENIED = (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
          b"<Message>Request has expired</Message></Error>")
RANDOM = bytes(range(256)) * 4


@pytest.mark.parametrize("path, body, says", [
    ("/train.tar.gz", PAGE, r"\.tar\.gz.* an HTML page \('Sign in to continue'\)"),
    ("/train.zip", DENIED, r"XML error \(AccessDenied: Request has expired\)"),
    ("/train.7z", b'{"error": "no such file"}', r"JSON \('no such file'\)"),
    ("/train.csv.gz", b"a,b\n1,2\n", r"text that begins with 'a,b'.*decompressed"),
    ("/train.tar", POINTER, r"Git LFS pointer, not the file of 123 MB"),
    ("/labels.csv", POINTER, r"Git LFS pointer"),
    ("/pointer", POINTER, r"Git LFS pointer"),
    ("/train.tgz", b"", r"is empty"),
    ("/train.zip", b"Rar!\x1a\x07\x01\0" + RANDOM, r"a RAR archive"),
    ("/train.zip.002", RANDOM, r"one part of a split file"),
    ("/train.tar.zst.ab", RANDOM, r"one part of a split file"),
    ("/train.tar.gz", gzip.compress(PAGE), r"compressed in it is an HTML page"),
    ("/train.tar.gz", gzip.compress(gzip.compress(tar(file("a")))), r"once more compressed, by gzip"),
], ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "")
def test_what_comes_instead_of_an_archive_is_an_error_that_says_what_it_is(stagerun, server, place, path, body, says):
    served = server.put(path, body)
    stagerun.fetch(served.url, place.dest).failed(1, says, "--no-extract")
    place.assert_nothing_published()
    stagerun.fetch(served.url, place.dest, "--no-extract").ok()
    assert (place.dest / path[1:]).read_bytes() == body


@pytest.mark.parametrize("target", ["/download?file=train.tar.gz", "/get.php?id=7&name=train.zip"])
def test_a_parameter_may_promise(stagerun, server, place, target):
    server.put(target.partition("?")[0], PAGE)
    stagerun.fetch(server.url(target), place.dest).failed(1, "an HTML page")
    place.assert_nothing_published()


def test_what_a_parameter_says_is_not_shown(stagerun, server, place):
    server.put("/get", b"no")
    result = stagerun.fetch(server.url("/get?file=secret-name.zip"), place.dest).failed(1, r"'\.zip'")
    assert "secret-name" not in result.err


def test_the_name_that_the_server_gives_promises(stagerun, server, place):
    served = server.put("/7", PAGE, header("Content-Disposition", 'attachment; filename="train.tar.gz"'))
    stagerun.fetch(served.url, place.dest).failed(1, r"\.tar\.gz.*an HTML page")
    place.assert_nothing_published()


def test_a_redirect_to_a_login_page_keeps_no_promise(stagerun, server, place):
    login = server.put("/login.html", PAGE)
    moved = server.put("/train.zip", b"", redirect(login.url))
    stagerun.fetch(moved.url, place.dest).failed(1, "an HTML page", "login")


def test_a_file_promises_too(stagerun, place):
    source = place.parent / "train.tar.gz"
    source.write_bytes(PAGE)
    stagerun.fetch(source, place.dest).failed(1, "an HTML page")
    stagerun.fetch(f"file://{source}", place.dest).failed(1, "an HTML page")


@pytest.mark.parametrize("body", [tar(file("a")), COMPRESS["zst"](tar(file("a"))), zip_of(zip_entry("a"))],
                         ids=["tar", "tar.zst", "zip"])
def test_an_archive_of_another_kind_than_its_name_says_is_unpacked(stagerun, server, dest, body):
    stagerun.fetch(server.put("/train.tar.gz", body).url, dest).ok()
    assert (dest / "a").read_bytes() == b"data\n"


def test_an_archive_that_a_server_stores_encoded_is_unpacked(stagerun, server, dest):
    body = gzip.compress(tar(file("a")))
    served = server.put("/train.tar.gz", body, header("Content-Encoding", "gzip"))
    stagerun.fetch(served.url, dest).ok()
    assert (dest / "a").read_bytes() == b"data\n"


@pytest.mark.parametrize("name", ["x.jar", "x.npz", "x.whl", "x.csv", "x.tar.gz.sha256"])
def test_other_names_promise_nothing(stagerun, server, dest, name):
    stagerun.fetch(server.put(f"/{name}", b"some text\n").url, dest).ok()
    assert (dest / name).read_bytes() == b"some text\n"


@pytest.mark.parametrize("path, is_warned_of", [("/data", True), ("/page.html", False), ("/labels.csv", True)])
def test_a_web_page_whose_name_is_not_one_is_warned_of(stagerun, server, dest, path, is_warned_of):
    served = server.put(path, PAGE, header("Content-Type", "text/html; charset=utf-8"))
    result = stagerun.fetch(served.url, dest).ok()
    assert ("web page" in result.err) == is_warned_of, result.err
    assert (dest / path[1:]).read_bytes() == PAGE


@pytest.mark.parametrize("options", [("--include", "*.csv"), ("--exclude", "*.txt"), ("--strip-components", "1")],
                         ids=["include", "exclude", "strip"])
def test_a_selection_that_leaves_a_single_file_out_is_an_error(stagerun, server, place, options):
    served = server.put("/x.txt", b"data\n")
    stagerun.fetch(served.url, place.dest, *options).failed(1, "one file, 'x.txt'", "include")
    place.assert_nothing_published()


def test_a_selection_that_takes_a_single_file_takes_it(stagerun, server, dest):
    stagerun.fetch(server.put("/x.txt.gz", gzip.compress(b"data\n")).url, dest, "--include", "*.txt").ok()
    assert (dest / "x.txt").read_bytes() == b"data\n"


def test_a_datastore_is_not_created_of_a_page(stagerun, server, tmp_path):
    served = server.put("/train.tar.gz", PAGE)
    stagerun.run("datastore", "create", served.url, "--name", "train", "--store", tmp_path / "store").failed(
        1, "an HTML page")


def test_a_zip_behind_a_program_is_unpacked_when_it_is_called_zip(stagerun, server, dest):
    archive = b"#!/bin/sh\nexit 0\n" + zip_of(zip_entry("a", b"x", method=zipfile.ZIP_STORED))
    stagerun.fetch(server.put("/setup.zip", archive).url, dest).ok()
    assert (dest / "a").read_bytes() == b"x"


def test_a_pipe_with_a_zip_is_stored_within_the_limit(stagerun, server, place):
    stagerun.configure(limits={"max_bytes": "100K"})
    served = server.put("/x.zip", zip_of(zip_entry("a", RANDOM * 1000, method=zipfile.ZIP_STORED)), ranges=False)
    stagerun.fetch(served.url, place.dest).failed(1, "has to be stored", r"limits\.max_bytes")
    place.assert_nothing_published()
