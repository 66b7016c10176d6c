# SPDX-License-Identifier: MIT
"""The server that the other tests lean on, judged by curl."""

import subprocess

import pytest
from archives import noise
from faultserver import (body_length, content_length, cut, delay, framing, header, later, rate,
                         redirect, stall, status)

BODY = noise(100_000)


def curl(url, *options):
    """(curl's exit code, status, body)"""
    done = subprocess.run(["curl", "-sS", "--max-time", "2", "-w", "%{stderr}%{http_code}", *options,
                           url], capture_output=True, check=False)
    return done.returncode, int(done.stderr.split()[-1][-3:]), done.stdout


def test_serves_the_whole_object(server):
    assert curl(server.put("/x", BODY).url) == (0, 200, BODY)


def test_serves_the_range_that_was_asked_for(server):
    served = server.put("/x", BODY)
    assert curl(served.url, "-r", "10-19") == (0, 206, BODY[10:20])
    assert served.requests[0].range == (10, 19)
    assert curl(served.url, "-r", "99999-200000") == (0, 206, BODY[99_999:])
    assert curl(served.url, "-r", "100000-")[:2] == (0, 416)


@pytest.mark.parametrize("name, value, expected", [
    ("If-Match", '"other"', 412), ("If-None-Match", "mine", 304), ("If-Match", "mine", 200)])
def test_judges_conditions(server, name, value, expected):
    served = server.put("/x", BODY)
    condition = f"{name}: {served.etag if value == 'mine' else value}"
    assert curl(served.url, "-H", condition)[1] == expected


def test_a_weak_etag_never_matches_strongly(server):
    served = server.put("/x", BODY, etag='W/"1"')
    assert curl(served.url, "-H", 'If-Match: W/"1"')[1] == 412
    assert curl(served.url, "-H", 'If-Range: W/"1"', "-r", "0-9")[1] == 200


def test_a_fault_is_used_up(server):
    served = server.put("/x", BODY, cut(1000, times=1))
    code, _, body = curl(served.url)
    assert (code, body) == (18, BODY[:1000])
    assert curl(served.url)[0] == 0
    assert [r.sent for r in served.requests] == [1000, len(BODY)]


def test_a_fault_can_wait_for_a_later_range(server):
    served = server.put("/x", BODY, status(503, when=later, Retry_After="1"))
    assert curl(served.url)[1] == 200
    assert curl(served.url, "-r", "5-")[1] == 503
    assert curl(served.url, "-r", "5-")[1] == 206


def test_a_stall_sends_nothing_more(server):
    served = server.put("/x", BODY, stall(500))
    code, _, body = curl(served.url, "--max-time", "0.3")
    assert (code, body) == (28, BODY[:500])


def test_a_rate_is_kept(server):
    served = server.put("/x", BODY, rate(400_000))
    assert curl(served.url, "--max-time", "0.1")[0] == 28
    assert 20_000 < served.requests[0].sent < 80_000


def test_lengths_can_lie(server):
    served = server.put("/x", BODY, content_length(+10, times=1), body_length(-10, times=1))
    assert curl(served.url)[0] == 18
    assert curl(served.url) == (0, 200, BODY)


@pytest.mark.parametrize("kind", ["chunked", "close"])
def test_bodies_without_a_length(server, kind):
    assert curl(server.put("/x", BODY, framing(kind)).url) == (0, 200, BODY)


def test_an_object_is_replaced_between_requests(server):
    served = server.put("/x", BODY)
    served.replace(b"new", after=1)
    assert curl(served.url)[2] == BODY
    assert curl(served.url)[2] == b"new"


def test_redirects_and_headers(server):
    target = server.put("/y", BODY, header("X-Extra", "1"))
    served = server.put("/x", b"", redirect(target.url))
    assert curl(served.url, "-L") == (0, 200, BODY)
    assert b"X-Extra: 1" in curl(target.url, "-I")[2]


def test_keeps_connections_open(server):
    served = server.put("/x", BODY)
    subprocess.run(["curl", "-s", served.url, served.url], stdout=subprocess.DEVNULL, check=True)
    assert [r.connection for r in served.requests] == [1, 1]


def test_delays_the_answer(server):
    assert curl(server.put("/x", BODY, delay(5)).url, "--max-time", "0.2")[0] == 28
