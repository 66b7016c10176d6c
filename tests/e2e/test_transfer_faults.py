# SPDX-License-Identifier: MIT
"""What the network does to us, and what we make of it: one version of the object, whole, or a clear
failure with nothing published."""

import contextlib
import re
import socket
import threading
import time

import pytest
from archives import COMPRESS, file, noise, tar, zip_entry, zip_of
from faultserver import (Fault, FaultServer, body_length, content_length, cut, first, framing, header, later, rate,
                         redirect, stall, status)
from stopwatch import Stopwatch

# Ranges are of 256 KiB in these tests, so this is many of them.
DATA = noise(2_500_000)
ARCHIVE = tar(file("data", DATA))
OTHER = tar(file("data", noise(2_500_000, 2)))


def assert_published(dest, data=DATA):
    assert (dest / "data").read_bytes() == data


def bytes_at(requests):
    return [r.range for r in requests]


# --- requests ---

def test_ranges_are_parallel_and_cover_the_object_once(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, rate(4_000_000))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert all(r.method == "GET" for r in served.requests)
    assert len({r.connection for r in served.requests}) > 1
    parts = sorted(bytes_at(served.requests))
    assert parts[0][0] == 0
    assert [p[0] for p in parts[1:]] == [p[1] + 1 for p in parts[:-1]]
    assert served.body_bytes == len(ARCHIVE)


def test_later_ranges_carry_if_match(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    assert "if-match" not in served.requests[0].headers
    assert len(served.requests) > 5
    assert {r.headers.get("if-match") for r in served.requests[1:]} == {served.etag}


def test_bytes_are_asked_for_as_they_are_stored(stagerun, server, dest):
    """A transfer coding of the server's choice would change what digests and ranges are about."""
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    assert {r.headers.get("accept-encoding", "identity") for r in served.requests} == {"identity"}


def test_a_weak_etag_is_compared_and_never_sent(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, etag='W/"1"')
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert len(served.requests) > 5
    assert not any("if-match" in r.headers or "if-range" in r.headers for r in served.requests)


def test_connections_to_one_host_stay_under_the_cap(stagerun, server, dest):
    stagerun.configure(network={"connections_per_host": 3})
    served = server.put("/x.tar", ARCHIVE, rate(2_000_000))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert server.most_open <= 3


def test_connections_of_all_hosts_stay_under_the_cap(stagerun, server, dest):
    stagerun.configure(network={"connections": 2})
    served = [server.put(f"/{i}.tar", tar(file(f"data-{i}", DATA)), rate(4_000_000))
              for i in range(3)]
    stages = [arg for s in served for arg in ("--stage", f"{s.url}={dest}-{s.path[1]}")]
    stagerun.run("prewarm", *stages).ok()
    assert server.most_open <= 2


# --- faults that pass ---

def test_a_cut_body_continues_at_the_byte_where_it_broke(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, cut(100_000, when=first), cut(50_000, when=later))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert 100_000 in [r[0] for r in bytes_at(served.requests)]
    assert served.body_bytes == len(ARCHIVE)


def test_many_cuts_do_not_use_up_the_retries_while_bytes_arrive(stagerun, server, dest):
    stagerun.configure(network={"retries": 2})
    served = server.put("/x.tar", ARCHIVE[:900_000] + bytes(1024), cut(60_000, times=12))
    stagerun.fetch(served.url, dest, "--no-extract").ok()
    assert (dest / "x.tar").stat().st_size == 901_024


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 408])
def test_an_overloaded_server_is_asked_again(stagerun, server, dest, code):
    served = server.put("/x.tar", ARCHIVE, status(code, times=2), status(code, times=1, when=later))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert [r.status for r in served.requests].count(code) == 3


def test_retry_after_is_honoured(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")), status(503, Retry_After="1"))
    stagerun.fetch(served.url, dest).ok()
    refused, accepted = served.requests
    assert accepted.at - refused.at >= 0.95


def test_a_stalled_body_is_continued_on_another_connection(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, stall(70_000, when=first))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    stalled = served.requests[0]
    again = next(r for r in served.requests if r.range[0] == 70_000)
    assert again.connection != stalled.connection
    assert again.at - stalled.at >= 0.65


def test_a_slow_body_is_no_stall(stagerun, server, dest):
    """It takes longer than stall_timeout, but bytes come all the time."""
    served = server.put("/x.tar", tar(file("a", noise(60_000))), rate(50_000))
    result = stagerun.fetch(served.url, dest).ok()
    assert result.seconds > 1
    assert len(served.requests) == 1


def test_a_slow_consumer_is_no_stall(stagerun, server, dest):
    """The decoder is the bottleneck: bytes that nobody asks for cannot arrive late."""
    archive = COMPRESS["xz"](tar(*(file(f"{i}", bytes(8_000_000)) for i in range(8)),
                                 file("data", DATA)))
    stagerun.configure(network={"stall_timeout": "200ms"}, agent={"threads": 1})
    served = server.put("/x.tar.xz", archive)
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


def test_a_refused_connection_is_tried_again(stagerun, dest):
    """Here it never works: the attempts are counted by the time they take."""
    stagerun.configure(network={"retries": 3, "retry_base": "50ms"})
    from conftest import free_port
    stagerun.fetch(f"http://127.0.0.1:{free_port()}/x", dest).failed(
        1, "127.0.0.1", "refused|connect")
    assert not dest.exists()


def test_retries_end(stagerun, server, dest, place):
    stagerun.configure(network={"retries": 2})
    served = server.put("/x.tar", ARCHIVE, status(503, times=None))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "503")
    assert len(served.requests) == 3
    place.assert_nothing_published()


@pytest.mark.parametrize("code, says", [(503, "503"), (404, "404"), (204, "204")])
def test_a_body_that_nobody_wants_ends_within_one_stall_timeout(stagerun, server, dest, code, says):
    stagerun.configure(network={"retries": 0})
    served = server.put("/x.tar", ARCHIVE, status(code, times=None, body=b"x" * 100_000), rate(30))
    result = stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", says)
    assert result.seconds < 5


def test_a_redirects_body_ends_within_one_stall_timeout(stagerun, server, dest):
    target = server.put("/there.tar", ARCHIVE)
    served = server.put("/x.tar", b"", status(302, times=None, body=b"x" * 100_000,
                                              Location="/there.tar"), rate(30))
    assert stagerun.fetch(served.url, dest).ok().seconds < 10
    assert_published(dest)
    assert len(target.requests) > 5 and len(served.requests) == 1


def test_a_byte_a_connection_is_no_progress(stagerun, server, dest, place):
    stagerun.configure(network={"retries": 3})
    served = server.put("/x.tar", ARCHIVE, cut(1, times=None))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar")
    assert len(served.requests) < 50
    place.assert_nothing_published()


def test_a_byte_an_answer_is_no_progress(stagerun, server, dest, place):
    def one_byte(_, response):
        response.body = response.body[:1]
        start, size = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"]).groups()
        response.headers["Content-Range"] = f"bytes {start}-{start}/{size}"

    stagerun.configure(network={"retries": 3})
    served = server.put("/x.tar", ARCHIVE, Fault(one_byte))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "answers with 1")
    assert len(served.requests) < 50
    place.assert_nothing_published()


class Crowd:
    """Lets so many requests be answered at once, and refuses what is more."""

    def __init__(self, server, path, body, most, refuse):
        self.most, self.now, self.refused, self.lock = most, 0, 0, threading.Lock()
        self.refuse = refuse
        self.served = server.put(path, body, rate(2_000_000), Fault(self.enter))
        send = server._send

        def leave(connection, request, response):
            try:
                return response.status != 0 and send(connection, request, response)
            finally:
                if request.path == path and response.status in (200, 206):
                    with self.lock:
                        self.now -= 1

        server._send = leave

    def enter(self, request, response):
        with self.lock:
            if self.now < self.most:
                self.now += 1
            else:
                self.refused += 1
                self.refuse(response)


def answer_with(code):
    def refuse(response):
        response.status, response.headers, response.body = code, {}, b"no\n"

    return refuse


def hang_up(response):
    response.status = 0


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("refuse", [answer_with(403), answer_with(429), answer_with(503), hang_up],
                         ids=["403", "429", "503", "cut"])
def test_a_server_that_takes_few_requests_at_once_gets_no_more(stagerun, server, dest, refuse, most):
    stagerun.configure(network={"retries": 2, "range_min": "128K", "range_max": "128K"})
    crowd = Crowd(server, "/x.tar", ARCHIVE, most, refuse)
    stagerun.fetch(crowd.served.url, dest).ok()
    assert_published(dest)
    assert 0 < crowd.refused < 10


def test_a_403_that_is_alone_asks_for_credentials(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE, rate(2_000_000), status(403, times=None, when=later))
    stagerun.fetch(served.url, dest).failed(1, "403", "check the credentials")
    place.assert_nothing_published()


def test_a_403_of_one_object_is_told_while_another_is_read(stagerun, server, dest, slowness):
    slow = server.put("/slow.tar", ARCHIVE, rate(20_000), ranges=False)
    server.put("/secret.tar", ARCHIVE, status(403, times=None))
    result = stagerun.run("run", "--stage", f"{slow.url}={dest}/slow",
                          "--stage", f"{server.url('/secret.tar')}={dest}/secret", "--", "true").failed(
        125, r"/secret\.tar", "403")
    assert result.seconds < 15 * slowness


# --- lies ---

def test_a_server_that_ignores_ranges_is_read_in_one_stream(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, ranges=False)
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert len(served.requests) == 1


@pytest.mark.parametrize("kind", ["chunked", "close"])
def test_a_body_without_length_is_read_to_its_end(stagerun, server, dest, kind):
    served = server.put("/x.tar", ARCHIVE, framing(kind), ranges=False)
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


def test_a_stream_without_ranges_that_breaks_is_read_again_from_the_start(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, cut(1_500_000), ranges=False)
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert [r.sent for r in served.requests] == [1_500_000, len(ARCHIVE)]


def test_a_cut_chunked_body_is_not_taken_for_whole(stagerun, server, dest, place):
    stagerun.configure(network={"retries": 1})
    served = server.put("/x.bin", DATA, framing("chunked"), cut(1_000_000, times=None),
                        ranges=False)
    stagerun.fetch(served.url, dest).failed(1, r"/x\.bin")
    place.assert_nothing_published()


def refuse_ranges(code):
    """Whatever the request, if it has a Range: 206 stands for one without Content-Range."""
    def refuse(request, response):
        if request.range and code != 206:
            response.status, response.headers, response.body = code, {}, b"no\n"
        elif request.range:
            response.headers.pop("Content-Range")

    return Fault(refuse)


@pytest.mark.parametrize("code", [206, 400, 403, 405, 406, 416, 417, 500, 501, 502, 503])
def test_a_server_that_refuses_ranges_is_read_in_one_answer(stagerun, server, dest, code):
    served = server.put("/x.tar", ARCHIVE, refuse_ranges(code))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert served.requests[-1].range is None
    assert len(served.requests) <= 5


@pytest.mark.parametrize("retries", [1, 2])
def test_a_server_that_fails_at_ranges_is_asked_without_before_it_is_given_up(stagerun, server, dest, retries):
    stagerun.configure(network={"retries": retries})
    served = server.put("/x.tar", ARCHIVE, refuse_ranges(500))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


def test_a_server_that_fails_at_first_is_read_in_ranges(stagerun, server, dest):
    """Although the attempt that it answers is one without Range."""
    served = server.put("/x.tar", ARCHIVE, status(500, times=2))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert len([r for r in served.requests if r.status == 206]) > 5


@pytest.mark.parametrize("value", ["bytes 7-262150/{size}", "bytes 0-{size}/{size}", "nonsense"])
def test_a_wrong_content_range_of_the_first_answer_is_no_range(stagerun, server, dest, value):
    value = value.format(size=len(ARCHIVE))
    served = server.put("/x.tar", ARCHIVE, header("Content-Range", value, when=lambda r: r.range))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert [r.range is None for r in served.requests] == [False, True]


def test_a_range_that_is_suddenly_ignored_never_mixes(stagerun, server, dest):
    """A 200 with the whole object where a part of it was due: then all of it is read anew."""
    def ignore(request, response):
        response.status, response.body = 200, served.body
        response.headers.pop("Content-Range")

    served = server.put("/x.tar", ARCHIVE)
    served.faults.append(type(cut(0))(ignore, None, later))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert served.requests[-1].range is None


@pytest.mark.parametrize("value", ["bytes 7-262150/{size}", "bytes 0-262143/99", "nonsense", None],
                         ids=["another part", "another size", "nonsense", "missing"])
def test_a_wrong_content_range_is_refused(stagerun, server, dest, place, value):
    value = value and value.format(size=len(ARCHIVE))
    served = server.put("/x.tar", ARCHIVE, header("Content-Range", value, when=later))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar")
    place.assert_nothing_published()


def test_a_wrong_content_range_once_is_asked_again(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, header(
        "Content-Range", f"bytes 1-262144/{len(ARCHIVE)}", times=1, when=later))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


def test_a_body_longer_than_its_range_is_refused(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE, body_length(+1000, when=later))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "more|longer|long")
    place.assert_nothing_published()


def test_a_body_shorter_than_its_range_is_continued(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, body_length(-1000, times=2, when=later))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


def test_a_body_shorter_than_its_content_length_is_continued(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE, content_length(+500, times=2))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


@pytest.mark.parametrize("label", ["utf-8", "binary", "none", "aws-chunked", "xz", "zip", "bzip2"])
def test_a_content_encoding_that_is_but_a_label_is_none(stagerun, server, dest, label):
    served = server.put("/x.tar", ARCHIVE, header("Content-Encoding", label))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)


@pytest.mark.parametrize("coding", ["br", "deflate", "compress"])
def test_a_content_encoding_that_cannot_be_told_by_its_bytes_is_refused(stagerun, server, dest, place, coding):
    """It would be stored as garbage."""
    served = server.put("/x.tar", ARCHIVE, header("Content-Encoding", coding))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "encoding")
    place.assert_nothing_published()


# --- an object that changes ---

def test_an_object_replaced_midway_is_one_version_or_a_failure(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE)
    served.replace(OTHER, after=4)
    result = stagerun.fetch(served.url, dest)
    if result.code == 0:
        assert_published(dest, noise(2_500_000, 2))
    else:
        result.failed(1, r"/x\.tar", "changed|replaced")
        place.assert_nothing_published()
    assert 412 in [r.status for r in served.requests]


@pytest.mark.parametrize("etag, modified", [
    (None, "Thu, 22 Oct 2020 07:28:00 GMT"), ('W/"2"', None)], ids=["Last-Modified", "weak ETag"])
def test_a_change_is_seen_without_a_strong_etag(stagerun, server, dest, place, etag, modified):
    served = server.put("/x.tar", ARCHIVE, etag='W/"1"' if etag else None)
    served.replace(OTHER, etag=etag, last_modified=modified, after=4)
    result = stagerun.fetch(served.url, dest)
    if result.code == 0:
        assert_published(dest, noise(2_500_000, 2))
    else:
        result.failed(1, r"/x\.tar", "changed|replaced")
        place.assert_nothing_published()
    assert len(served.requests) > 5


def test_an_object_that_keeps_changing_is_given_up(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE)
    for i in range(200):
        served.replace(tar(file("data", noise(2_500_000, 3 + i % 2))), after=4 * (i + 1),
                       last_modified=f"Thu, 22 Oct 2020 07:{i // 60:02}:{i % 60:02} GMT")
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "changed|replaced")
    place.assert_nothing_published()


@pytest.mark.parametrize("etag", [None, 'W/"1"'], ids=["nothing", "a weak ETag alone"])
def test_what_names_no_version_is_one_answer(stagerun, server, dest, etag):
    """Ranges of the same size could be of two versions."""
    served = server.put("/x.tar", ARCHIVE, etag=etag, last_modified=None)
    served.replace(OTHER, etag=etag, after=3)
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert [r.range is None for r in served.requests] == [False, True]


@pytest.mark.parametrize("etag, lost", [("strong", "ETag"), (None, "Last-Modified")])
def test_a_version_that_later_answers_do_not_name_is_never_mixed(stagerun, server, dest, place, etag,
                                                                 lost):
    served = server.put("/x.tar", ARCHIVE, header(lost, None, when=later), etag=etag)

    def forget(request, response):
        if request.range and request.range[0] > 0:
            response.status, begin, last = 206, *request.range
            response.body = OTHER[begin:last + 1]
            response.headers["Content-Range"] = f"bytes {begin}-{last}/{len(OTHER)}"

    served.faults.append(Fault(forget))
    result = stagerun.fetch(served.url, dest)
    if result.code == 0:
        assert_published(dest)
    else:
        result.failed(1, r"/x\.tar", lost)
        place.assert_nothing_published()


def test_servers_that_disagree_on_the_etag_alone_are_read_as_one_answer(stagerun, server, dest):
    """As the edges of a delivery network do that make ETags of their own."""
    def edge(request, response):
        begin, last = request.range or (0, len(ARCHIVE) - 1)
        mine = '"first"' if begin == 0 else '"other"'  # by what is asked for: connections may be few
        wanted = request.headers.get("if-match", mine)
        response.headers["ETag"] = mine
        if response.status == 304:
            return
        response.status = 412 if wanted != mine else 206 if request.range else 200
        response.body = ARCHIVE[begin:last + 1] if wanted == mine else b""
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {begin}-{last}/{len(ARCHIVE)}"

    served = server.put("/x.tar", ARCHIVE, Fault(edge))
    result = stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert "ETag" in result.err and "warning" in result.err
    assert served.requests[-1].range is None
    stagerun.fetch(served.url, dest).ok()  # whichever answers: size and date are the same


# --- failures that last ---

@pytest.mark.parametrize("code, requests", [(404, 1), (403, 2), (400, 2), (401, 1), (410, 1), (501, 2)])
def test_a_refusal_is_asked_once_and_reported(stagerun, server, dest, place, code, requests):
    """Once more without Range, where that may be what is refused."""
    served = server.put("/x.tar", ARCHIVE, status(code, times=None))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", str(code))
    assert [r.range is None for r in served.requests] == [False, True][:requests]
    place.assert_nothing_published()


def test_a_refusal_midway_ends_the_stage(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE, status(403, times=None, when=later))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "403")
    place.assert_nothing_published()


def test_a_wrong_digest_is_refused_before_publish(stagerun, server, dest, place):
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest, "--sha256", "0" * 64).failed(
        1, r"/x\.tar", "sha-?256", "0" * 64)
    place.assert_nothing_published()


def test_an_unknown_host_is_named(stagerun, dest, place):
    stagerun.configure(network={"retries": 0})
    stagerun.fetch("http://host.invalid/x.tar", dest).failed(1, r"host\.invalid")
    place.assert_nothing_published()


# --- empty objects ---

def test_an_empty_object_that_answers_416_is_empty(stagerun, server, dest):
    """As S3 does; the server above answers so to a range of nothing."""
    served = server.put("/empty", b"")
    stagerun.fetch(served.url, dest).ok()
    assert served.requests[0].status == 416
    assert (dest / "empty").read_bytes() == b""


def test_an_empty_object_that_answers_200_is_empty(stagerun, server, dest):
    """As nginx does."""
    stagerun.fetch(server.put("/empty", b"", ranges=False).url, dest).ok()
    assert (dest / "empty").read_bytes() == b""


# --- redirects ---

@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(stagerun, server, dest, code):
    target = server.put("/there/x.tar", ARCHIVE)
    server.put("/x.tar", b"", redirect("/there/x.tar", code))
    stagerun.fetch(server.url("/x.tar"), dest).ok()
    assert_published(dest)
    assert target.body_bytes == len(ARCHIVE)


def test_ranges_go_straight_to_where_the_first_was_redirected(stagerun, server, dest):
    target = server.put("/there", ARCHIVE)
    served = server.put("/x.tar", b"", redirect(target.url))
    stagerun.fetch(served.url, dest).ok()
    assert len(target.requests) > 5
    assert len(served.requests) == 1


def test_a_redirected_url_that_expires_is_asked_for_again(stagerun, server, dest):
    """As a presigned URL does in the middle of a long download."""
    target = server.put("/there", ARCHIVE, status(403, times=1, when=later))
    served = server.put("/x.tar", b"", redirect(target.url))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert 2 <= len(served.requests) < len(target.requests)


def test_a_redirect_loop_ends(stagerun, server, dest, place):
    served = server.put("/x.tar", b"", redirect("/x.tar"))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "redirect")
    assert len(served.requests) <= 21
    place.assert_nothing_published()


def test_a_redirect_to_another_scheme_is_refused(stagerun, server, dest, place):
    secret = place.parent / "victim"
    served = server.put("/x.tar", b"", redirect(f"file://{secret}"))
    stagerun.fetch(served.url, dest).failed(1, r"/x\.tar", "redirect|file|scheme")
    place.assert_nothing_published()


def test_configured_headers_go_to_their_host_only(stagerun, server, dest):
    stagerun.configure(network={"headers": [f"{server.url('/')} X-Token: sesame"]})
    elsewhere = server.put("/there", ARCHIVE)
    served = server.put("/x.tar", b"", redirect(server.url("/there", host="localhost")))
    stagerun.fetch(served.url, dest).ok()
    assert_published(dest)
    assert {r.headers.get("x-token") for r in served.requests} == {"sesame"}
    assert {r.headers.get("x-token") for r in elsewhere.requests} == {None}


def test_netrc_credentials_go_to_their_host_only(stagerun, server, dest):
    netrc = stagerun.directory / "netrc"
    netrc.write_text("machine 127.0.0.1 login cat password meow\n")
    stagerun.configure(network={"netrc_file": netrc})
    elsewhere = server.put("/there", ARCHIVE)
    served = server.put("/x.tar", b"", redirect(server.url("/there", host="localhost")))
    result = stagerun.fetch(served.url, dest).ok()
    assert {r.headers.get("authorization") for r in served.requests} == {"Basic Y2F0Om1lb3c="}
    assert {r.headers.get("authorization") for r in elsewhere.requests} == {None}
    assert "meow" not in result.err


def test_credentials_in_a_url_do_not_follow_a_redirect(stagerun, server, dest):
    elsewhere = server.put("/there", ARCHIVE)
    served = server.put("/x.tar", b"", redirect(server.url("/there", host="localhost")))
    stagerun.fetch(server.url("/x.tar", host="cat:meow@127.0.0.1"), dest).ok()
    assert {r.headers.get("authorization") for r in served.requests} == {"Basic Y2F0Om1lb3c="}
    assert {r.headers.get("authorization") for r in elsewhere.requests} == {None}


@pytest.mark.parametrize("to", ["http://localhost:{port}/there", "http://127.0.0.1:{other}/there",
                                "//127.0.0.1:{other}/there", "http://x:y@localhost:{port}/there"],
                         ids=["another host", "another port", "a port without scheme", "its own user"])
def test_no_credential_of_any_kind_goes_to_another_origin(stagerun, server, dest, to):
    netrc = stagerun.directory / "netrc"
    netrc.write_text("".join(f"machine {host} login cat password meow\n"
                             for host in ("127.0.0.1", "localhost")))
    with contextlib.closing(FaultServer()) as other:
        stagerun.configure(network={"netrc_file": netrc, "headers": [
            f"{origin} X-Token: sesame" for origin in (
                server.url("/"), other.url("/"), server.url("/", host="localhost"))]})
        elsewhere = [s.put("/there", ARCHIVE) for s in (server, other)]
        served = server.put("/x.tar", b"", header("Set-Cookie", "a=b"), redirect(
            to.format(port=server.port, other=other.port)))
        stagerun.fetch(served.url, dest).ok()
        assert_published(dest)
        asked = [r for there in elsewhere for r in there.requests]
    assert {r.headers.get("x-token") for r in served.requests} == {"sesame"}
    assert all(r.headers.get("authorization") for r in served.requests)
    assert len(asked) > 5
    for name in ("authorization", "x-token", "cookie", "proxy-authorization"):
        assert {r.headers.get(name) for r in asked} == {None}


# --- proxies ---

def presigned(kind, seconds):
    """The query of a URL that was signed so long ago, for an hour."""
    then = time.time() - seconds
    basic, iso = "%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ"
    at = time.gmtime(then)
    return {
        "aws": f"X-Amz-Date={time.strftime(basic, at)}&X-Amz-Expires=3600&X-Amz-Signature=x",
        "google": f"X-Goog-Date={time.strftime(basic, at)}&X-Goog-Expires=3600&X-Goog-Signature=x",
        "azure": f"sv=1&se={time.strftime(iso, time.gmtime(then + 3600)).replace(':', '%3A')}&sig=x",
        "v2": f"Expires={int(then + 3600)}&Signature=x&Key-Pair-Id=y",
    }[kind]


@pytest.mark.parametrize("code", [400, 401, 403])
@pytest.mark.parametrize("kind", ["aws", "google", "azure", "v2"])
def test_an_expired_presigned_url_is_called_so(stagerun, server, dest, place, kind, code):
    served = server.put("/x.tar", ARCHIVE, status(code, times=None))
    stagerun.fetch(f"{served.url}?{presigned(kind, 7300)}", dest).failed(
        1, r"/x\.tar", str(code), "the presigned URL expired 1 h 1 min ago, at .* UTC: get a new one")
    place.assert_nothing_published()


@pytest.mark.parametrize("kind", ["aws", "google", "azure", "v2"])
def test_a_presigned_url_that_holds_is_not_called_expired(stagerun, server, dest, kind):
    served = server.put("/x.tar", ARCHIVE, status(403, times=None))
    result = stagerun.fetch(f"{served.url}?{presigned(kind, 60)}", dest).failed(1, "403")
    assert "ago" not in result.err


@pytest.mark.parametrize("where", ["/login?next=/x.bin", "/oauth2/authorize?client_id=1", "/users/sign_in"])
def test_a_redirect_to_a_login_page_is_called_so(stagerun, server, dest, place, where):
    """Its 200 is no data."""
    server.put(where.partition("?")[0], b"<html>who are you?</html>", header("Content-Type", "text/html"))
    server.put("/x.bin", b"", redirect(where))
    stagerun.fetch(server.url("/x.bin"), dest).failed(1, r"/x\.bin", "redirects to a login page", "give credentials")
    place.assert_nothing_published()


class Proxy:
    """Answers CONNECT with these statuses, one after another, and the last for ever."""

    def __init__(self, *codes):
        self.codes, self.asked = list(codes), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    while b"\r\n\r\n" not in connection.recv(4096):
                        pass
                    self.asked += 1
                    code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
                    connection.sendall(f"HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n".encode())

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.mark.parametrize("code, says, asked", [
    (407, "check the user and password in https_proxy", 1), (403, "does not let through to that host", 1),
    (502, "does not reach that host", 3), (503, "does not reach that host", 3)])
@pytest.mark.parametrize("source", ["https://data.example/x.tar", "s3://bucket/x.tar", "s3://bucket/prefix/"])
def test_a_proxy_that_refuses_is_quoted(stagerun, dest, source, code, says, asked):
    stagerun.configure(network={"retries": 2}, s3={"sign": "no", "endpoint": "https://s3.example"})
    proxy = Proxy(code)
    stagerun.fetch(source, dest, env={"https_proxy": proxy.url}).failed(1, f"the proxy answered {code}; .*{says}")
    proxy.close()
    assert proxy.asked == asked


def test_a_proxy_that_is_not_there_is_named(stagerun, dest):
    stagerun.configure(network={"retries": 0})
    stagerun.fetch("https://data.example/x.tar", dest, env={"https_proxy": "http://127.0.0.1:9"}).failed(
        1, "127.0.0.1 port 9", "that is the proxy: check https_proxy")


@pytest.mark.parametrize("proxy", ["http://user:pass-of-proxy@127.0.0.1:port", "htp://user:pass-of-proxy@127.0.0.1:9"])
@pytest.mark.parametrize("source", ["https://data.example/x.tar", "s3://bucket/prefix/"])
def test_a_proxy_that_is_misspelt_is_not_waited_for(stagerun, dest, source, proxy):
    stagerun.configure(s3={"sign": "no", "endpoint": "https://s3.example"})
    result = stagerun.fetch(source, dest, env={"https_proxy": proxy}).failed(
        1, "Unsupported proxy", "check the spelling of https_proxy")
    assert "pass-of-proxy" not in result.err and "not reachable yet" not in result.err


def test_a_host_that_is_written_as_an_ipv6_address_is_no_proxy(stagerun, dest):
    stagerun.configure(network={"retries": 0, "patience": "0s"})
    result = stagerun.fetch("http://[::1]:9/x.tar", dest).failed(1, "Failed to connect to ::1 port 9")
    assert "proxy" not in result.err


def test_a_proxy_is_used_and_no_proxy_exempts(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE)
    proxy = {"http_proxy": server.url("")}
    stagerun.fetch("http://data.invalid/x.tar", dest, env=proxy).ok()
    assert_published(dest)
    assert served.requests[0].target == "http://data.invalid/x.tar"
    before = len(served.requests)
    stagerun.fetch(served.url, f"{dest}-2", env={"http_proxy": "http://127.0.0.1:9",
                                                "no_proxy": "127.0.0.1"}).ok()
    assert served.requests[before].target == "/x.tar"


# --- zip over ranges ---

def test_a_zip_is_found_by_its_directory_and_excluded_parts_are_not_fetched(stagerun, server, dest):
    served = server.put("/x.zip", zip_of(zip_entry("big/a", noise(60_000_000), method=0),
                                         zip_entry("small/b", noise(3000))))
    stagerun.fetch(served.url, dest, "--include", "small/**").ok()
    assert (dest / "small/b").read_bytes() == noise(3000)
    assert not (dest / "big").exists()
    assert served.body_bytes < 30_000_000  # what was under way when its directory came


def test_a_zip_with_cut_bodies_arrives_whole(stagerun, server, dest):
    served = server.put("/x.zip", zip_of(*(zip_entry(f"{i}", noise(200_000, i)) for i in range(9))),
                        cut(30_000, times=6))
    stagerun.fetch(served.url, dest).ok()
    for i in range(9):
        assert (dest / f"{i}").read_bytes() == noise(200_000, i)


# --- many at once ---

def test_many_sources_are_staged_at_once(stagerun, server, dest, slowness):
    served = [server.put(f"/{i}.tar", tar(file("data", noise(200_000, i))), rate(300_000))
              for i in range(6)]
    stages = [arg for i, s in enumerate(served) for arg in ("--stage", f"{s.url}={dest}/{i}")]
    watch = Stopwatch()
    stagerun.run("prewarm", *stages).ok()
    assert watch.read() < 2.5 * slowness  # one after another: 4 s
    for i in range(6):
        assert (dest / f"{i}/data").read_bytes() == noise(200_000, i)


def test_forty_sources_share_a_small_budget(stagerun, server, dest):
    stagerun.configure(agent={"memory_budget": "16M", "parallel_stages": 40})
    served = [server.put(f"/{i}.tar.zst", COMPRESS["zst"](tar(file("data", noise(300_000, i)))))
              for i in range(40)]
    stages = [arg for i, s in enumerate(served) for arg in ("--stage", f"{s.url}={dest}/{i}")]
    stagerun.run("prewarm", *stages, limit=30).ok()
    for i in range(40):
        assert (dest / f"{i}/data").read_bytes() == noise(300_000, i)


def test_one_failing_source_cancels_the_others_quickly(stagerun, server, dest, slowness):
    slow = server.put("/slow.tar", ARCHIVE, rate(20_000))
    stagerun.run("run", "--stage", f"{slow.url}={dest}/slow",
                 "--stage", f"{server.url('/gone.tar')}={dest}/gone", "--", "true").failed(
        125, r"/gone\.tar", "404")
    assert not (dest / "slow").exists() and not (dest / "gone").exists()


def test_all_reasons_are_reported(stagerun, server, dest):
    """Both fail before either can cancel the other."""
    for name in ("one", "two"):
        server.put(f"/{name}.tar", b"", status(404, times=None))
    result = stagerun.run("prewarm", "--stage", f"{server.url('/one.tar')}={dest}/1",
                          "--stage", f"{server.url('/two.tar')}={dest}/2")
    result.failed(1, "404")
    assert "one.tar" in result.err or "two.tar" in result.err
