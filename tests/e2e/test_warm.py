# SPDX-License-Identifier: MIT
"""The same inputs staged again move no data."""

import hashlib
import shutil

import pytest
from archives import COMPRESS, file, noise, tar, zip_entry, zip_of
from faultserver import header
from trees import snapshot

ARCHIVE = tar(file("a", noise(600_000)))


def second_run(stagerun, served, dest, *options):
    """The requests of a second fetch."""
    stagerun.fetch(served.url, dest, *options).ok()
    before = len(served.requests)
    inode = (dest / "a").stat().st_ino
    stagerun.fetch(served.url, dest, *options).ok()
    return served.requests[before:], (dest / "a").stat().st_ino == inode


@pytest.mark.parametrize("archive", [ARCHIVE, COMPRESS["zst"](ARCHIVE),
                                     zip_of(zip_entry("a", noise(600_000)))],
                         ids=["tar", "tar.zst", "zip"])
def test_a_known_etag_costs_one_conditional_request(stagerun, server, dest, archive):
    served = server.put("/x", archive)
    requests, untouched = second_run(stagerun, served, dest)
    assert untouched
    assert [(r.headers.get("if-none-match"), r.status) for r in requests] == [(served.etag, 304)]


def test_last_modified_and_length_cost_one_conditional_request(stagerun, server, dest):
    served = server.put("/x", ARCHIVE, etag=None)
    requests, untouched = second_run(stagerun, served, dest)
    assert untouched
    assert len(requests) == 1 and requests[0].sent <= 1


def test_a_weak_etag_falls_back_to_last_modified_and_length(stagerun, server, dest):
    requests, untouched = second_run(stagerun, server.put("/x", ARCHIVE, etag='W/"1"'), dest)
    assert untouched
    assert len(requests) == 1 and requests[0].sent <= 1


def test_a_pinned_digest_needs_no_request(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    requests, untouched = second_run(stagerun, served, dest, "--sha256",
                                     hashlib.sha256(ARCHIVE).hexdigest())
    assert untouched and requests == []


def test_without_any_version_it_is_fetched_again(stagerun, server, dest):
    served = server.put("/x", ARCHIVE, etag=None, last_modified=None)
    requests, _ = second_run(stagerun, served, dest)
    assert sum(r.sent for r in requests) >= len(ARCHIVE)


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_two_versions_of_one_second_and_one_size_are_told_apart(stagerun, server, dest, kind, etag):
    def version(seed):
        return tar(file("a", noise(600_000, seed))) if kind == "tar" else \
            zip_of(zip_entry("a", noise(600_000, seed)))

    now, later = "Wed, 21 Oct 2020 07:28:00 GMT", "Wed, 21 Oct 2020 07:28:02 GMT"
    served = server.put("/x", version(1), header("Date", now), etag=etag, last_modified=now)
    stagerun.fetch(served.url, dest).ok()
    served.replace(version(2), etag=etag)
    stagerun.fetch(served.url, dest).ok()
    assert (dest / "a").read_bytes() == noise(600_000, 2)
    served.faults = [header("Date", later)]
    stagerun.fetch(served.url, dest).ok()
    before = served.body_bytes
    stagerun.fetch(served.url, dest).ok()
    assert served.body_bytes - before <= 1


def test_a_server_that_ignores_conditions_moves_no_body(stagerun, server, dest):
    """It answers 206 with the version that is there: one byte is asked for, or it is hung up on."""
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    before = len(served.requests)

    def ignore(request, response):
        if response.status == 304:
            response.status, response.body = 206, served.body[:1]
            response.headers["Content-Range"] = f"bytes 0-0/{len(served.body)}"

    served.faults.append(type(header("x", "y"))(ignore))
    stagerun.fetch(served.url, dest).ok()
    assert sum(r.sent for r in served.requests[before:]) <= 1


def test_a_new_version_is_not_taken_for_the_old_one(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    served.replace(tar(file("a", b"new\n")))
    stagerun.fetch(served.url, dest).failed(1, "/x", "--replace")
    assert (dest / "a").read_bytes() == noise(600_000)
    stagerun.fetch(served.url, dest, "--replace").ok()
    assert (dest / "a").read_bytes() == b"new\n"


def test_a_destination_that_was_removed_is_staged_again(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    shutil.rmtree(dest)
    stagerun.fetch(served.url, dest).ok()
    assert (dest / "a").read_bytes() == noise(600_000)


def test_a_destination_that_was_made_anew_by_others_is_not_ours(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    shutil.rmtree(dest)
    dest.mkdir()
    (dest / "mine").write_text("mine\n")
    stagerun.fetch(served.url, dest).ok()
    assert sorted(snapshot(dest, without=(".stagerun",))) == [b"a", b"mine"]


def test_entries_in_a_directory_of_others_are_warm_too(stagerun, server, dest):
    dest.mkdir()
    (dest / "mine").write_text("mine\n")
    requests, untouched = second_run(stagerun, server.put("/x", ARCHIVE), dest)
    assert untouched
    assert [r.status for r in requests] == [304]


def test_an_entry_that_was_removed_is_staged_again(stagerun, server, dest):
    dest.mkdir()
    (dest / "mine").write_text("mine\n")
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    (dest / "a").unlink()
    stagerun.fetch(served.url, dest).ok()
    assert (dest / "a").read_bytes() == noise(600_000)


def test_another_signature_in_the_query_is_the_same_source(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    signed = served.url + "?X-Amz-Date=20200101&X-Amz-Signature="
    stagerun.fetch(signed + "aaaa", dest).ok()
    before = served.body_bytes
    stagerun.fetch(signed + "bbbb", dest).ok()
    assert served.body_bytes == before


def test_another_query_is_another_source(stagerun, server, dest):
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url + "?split=train", dest).ok()
    stagerun.fetch(served.url + "?split=test", dest).failed(1, "--replace")


def test_several_sources_in_one_destination_are_warm_together(stagerun, server, dest):
    served = [server.put(f"/{i}", tar(file(f"{i}", noise(400_000, i)))) for i in (1, 2)]
    stages = [a for s in served for a in ("--stage", f"{s.url}={dest}")]
    stagerun.run("prewarm", *stages).ok()
    before = [s.body_bytes for s in served]
    stagerun.run("prewarm", *stages).ok()
    assert [s.body_bytes for s in served] == before


def damage_records(place):
    for record in (place.parent / ".stagerun").rglob("*.json"):
        record.write_text('{"version": 1, "key": ')


def test_what_a_damaged_record_tells_of_is_staged_anew_where_nobody_else_can_have_made_it(stagerun, server, place):
    served = server.put("/x", ARCHIVE)
    stagerun.fetch(served.url, place.dest).ok()
    damage_records(place)
    assert "staged anew" in stagerun.fetch(served.url, place.dest).ok().err
    assert (place.dest / "a").read_bytes() == noise(600_000)
    damage_records(place)
    (place.parent / ".stagerun/dest/published").unlink()
    # Then the directory is somebody else's, and its names are not overwritten.
    stagerun.fetch(served.url, place.dest).failed(1, "--replace")


def test_a_local_file_is_warm_by_its_time_and_size(stagerun, dest):
    path = stagerun.directory / "x.tar"
    path.write_bytes(ARCHIVE)
    stagerun.fetch(path, dest).ok()
    inode = (dest / "a").stat().st_ino
    stagerun.fetch(path, dest).ok()
    assert (dest / "a").stat().st_ino == inode
    path.write_bytes(tar(file("a", b"new\n")))
    stagerun.fetch(path, dest, "--replace").ok()
    assert (dest / "a").read_bytes() == b"new\n"
