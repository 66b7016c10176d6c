# SPDX-License-Identifier: MIT
"""Where bytes come from: files, plain paths, URLs, and how they are named."""

import os
import re
import subprocess

import pytest
from agent import wait_until
from archives import COMPRESS, file, noise, tar, zip_entry, zip_of

ARCHIVE = tar(file("a"))


@pytest.fixture
def local(stagerun):
    path = stagerun.cwd / "my data.tar"
    path.write_bytes(ARCHIVE)
    return path


def test_a_plain_path(stagerun, local, dest):
    stagerun.fetch(local, dest).ok()
    assert (dest / "a").exists()


def test_a_relative_path_is_relative_to_the_working_directory(stagerun, local, dest):
    stagerun.fetch(local.name, dest).ok()
    assert (dest / "a").exists()


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_url_is_percent_decoded(stagerun, local, dest, host):
    stagerun.fetch(f"file://{host}{local.parent}/my%20data.tar", dest).ok()
    assert (dest / "a").exists()


def test_a_zip_on_the_disk(stagerun, dest):
    path = stagerun.directory / "x.zip"
    path.write_bytes(zip_of(zip_entry("a", noise(300_000)), zip_entry("b")))
    stagerun.fetch(path, dest).ok()
    assert (dest / "a").read_bytes() == noise(300_000)


def write_when_read(fifo, data):
    """False while nobody has it open for reading."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(fd, data)
    os.close(fd)
    return True


@pytest.mark.parametrize("archive", [COMPRESS["gz"](ARCHIVE), zip_of(zip_entry("a"))],
                         ids=["tar.gz", "zip"])
def test_a_fifo_is_read_as_it_comes(stagerun, dest, archive):
    fifo = stagerun.directory / "fifo"
    os.mkfifo(fifo)
    running = stagerun.start("fetch", fifo, dest)
    wait_until(lambda: write_when_read(fifo, archive), what="a reader of the FIFO")
    running.wait().ok()
    assert (dest / "a").exists()


def test_a_missing_file_is_named(stagerun, dest, place):
    stagerun.fetch("/not/here.tar", dest).failed(1, "/not/here.tar", "no such file")
    place.assert_nothing_published()


def test_a_directory_is_no_source(stagerun, dest, place):
    stagerun.fetch(stagerun.cwd, dest).failed(1, str(stagerun.cwd), "directory")
    place.assert_nothing_published()


def test_an_unknown_scheme_is_a_usage_error_that_lists_the_known_ones(stagerun, dest, place):
    stagerun.fetch("gopher://host/x", dest).failed(2, "gopher", "https://")
    place.assert_nothing_published()


@pytest.mark.parametrize("url", ["http://", "http:///x", "https://host:99999/x"])
def test_a_malformed_url_is_a_usage_error(stagerun, dest, place, url):
    stagerun.fetch(url, dest).failed(2, "http")
    place.assert_nothing_published()


def test_a_query_with_equals_signs_and_slashes_is_split_off_the_directory(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.run("prewarm", "--stage", f"{served.url}?a=/b&c=d==={dest}").ok()
    assert (dest / "a").exists()
    assert served.requests[0].target == "/x.tar?a=/b&c=d=="


def test_a_relative_destination(stagerun, server):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.run("prewarm", "--stage", f"{served.url}=./data/cats").ok()
    assert (stagerun.cwd / "data/cats/a").exists()


def test_a_fragment_is_not_sent(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url + "#part", dest).ok()
    assert served.requests[0].target == "/x.tar"


def test_the_name_of_a_single_file_comes_from_the_path_alone(stagerun, server, dest):
    served = server.put("/dir/my%20model.bin", noise(1000))
    stagerun.fetch(served.url + "?name=../evil", dest).ok()
    assert os.listdir(dest) == ["my model.bin"]


def test_the_name_of_a_single_file_cannot_leave(stagerun, server, place):
    served = server.put("/dir/..%2fpwned", noise(1000))
    stagerun.fetch(served.url, place.dest).ok()
    place.assert_neighbours_untouched()
    assert len(os.listdir(place.dest)) == 1


def test_real_nginx_gives_the_same_tree(stagerun, nginx, dest):
    archive = COMPRESS["zst"](tar(*(file(f"{i}", noise(100_000, i)) for i in range(30))))
    nginx.put("x.tar.zst", archive)
    stagerun.fetch(nginx.url("x.tar.zst"), dest).ok()
    for i in range(30):
        assert (dest / str(i)).read_bytes() == noise(100_000, i)
    before = nginx_log(nginx)
    stagerun.fetch(nginx.url("x.tar.zst"), dest).ok()
    wait_until(lambda: len(nginx_log(nginx)) > len(before), what="the line in nginx's log")
    assert [line.split('"')[2].split()[0] for line in nginx_log(nginx)[len(before):]] == ["304"]


def nginx_log(nginx):
    return (nginx.root.parent / "access.log").read_text().splitlines()


def test_the_agent_closes_what_it_opened(stagerun, server, dest):
    """A source list longer than the limit on open files is staged all the same."""
    served = [server.put(f"/{i}", tar(file(f"{i}"))) for i in range(60)]
    stages = [a for i, s in enumerate(served) for a in ("--stage", f"{s.url}={dest}/{i}")]
    stagerun.run("prewarm", *stages,
                 wrap=["sh", "-c", 'ulimit -Sn 128; exec "$0" "$@"']).ok()
    assert subprocess.run(["find", dest, "-type", "f"], stdout=subprocess.PIPE,
                          check=True).stdout.count(b"\n") >= 60


@pytest.mark.parametrize("source", ["data.example/x.tar", "localhost:8000/x.tar", "10.0.0.1/x.tar"])
def test_a_host_without_a_scheme_gets_advice(stagerun, dest, source):
    stagerun.fetch(source, dest).failed(1, "No such file", "write https:// before it")


@pytest.mark.parametrize("source", ["sub/x.tar", "./data.example/x.tar", "/data.example/x.tar", "x.tar"])
def test_a_file_that_is_not_there_gets_no_advice_about_hosts(stagerun, dest, source):
    assert "https://" not in stagerun.fetch(source, dest).failed(1, "No such file").err


def test_a_file_with_a_host_s_name_is_read(stagerun, dest):
    (stagerun.cwd / "data.example").mkdir()
    (stagerun.cwd / "data.example/x").write_bytes(b"data")
    stagerun.fetch("data.example/x", dest).ok()


@pytest.mark.parametrize("source, says", [
    ("http:/data.example/x", "after 'http' come a colon and two slashes"),
    ("https:data.example/x", "after 'https' come a colon and two slashes"),
    ("s3:/bucket/x", "after 's3' come a colon and two slashes"), (" http://data.example/x", "begins with a blank"),
    ("user:pw@data.example/x", "has a user and no scheme"), ("//user:pw@data.example/x", "has a user and no scheme")])
def test_what_is_nearly_a_url_is_told_what_it_lacks(stagerun, dest, source, says):
    stagerun.fetch(source, dest).failed(2, re.escape(source.partition("@")[2] or source), says)
