# SPDX-License-Identifier: MIT
"""Datastores in a real S3 server while others create, delete and are killed."""

import json
import os
import random
import time

import pytest
from agent import slowness, wait_until


@pytest.fixture
def s3_store(stagerun, ceph):
    """A store in the bucket, below a prefix. The server is slow when many tests want it."""
    stagerun.env.update({k: v for k, v in ceph.env().items() if v})
    stagerun.env["STAGERUN_STORE"] = f"s3://{ceph.bucket}/the/store"
    stagerun.configure(network={"stall_timeout": "30s", "connect_timeout": "30s"})
    return "the/store"


def listed(stagerun):
    return [(v["name"], v["version"]) for v in
            json.loads(stagerun.run("datastore", "list", "--json").ok().out)]


def made(result):
    return json.loads(result.ok().out)


def manifest(ceph, prefix, name, version):
    key = f"{prefix}/datastores/{name}/{version}/manifest.json"
    return json.loads(ceph.client().get_object(Bucket=ceph.bucket, Key=key)["Body"].read())


def named_keys(found):
    return {o["key"] for o in found["objects"]} | {
        f"index/{p['sha256'][:2]}/{p['sha256']}.zst" for p in found["index"]}


def assert_whole(ceph, prefix, versions):
    """All that their manifests name is there."""
    there = {k.removeprefix(f"{prefix}/") for k in ceph.keys_in(f"{prefix}/")}
    for name, version in versions:
        assert named_keys(manifest(ceph, prefix, name, version)) <= there, f"{name}:{version}"


def fill(directory, files, size):
    directory.mkdir()
    for i in range(files):
        (directory / f"{i}.bin").write_bytes(os.urandom(size))
    return directory


def test_twenty_creators_at_once_make_versions_1_to_20(stagerun, ceph, s3_store, tmp_path):
    sources = [fill(tmp_path / f"source{i}", 3, 1000) for i in range(20)]
    started = [stagerun.start("datastore", "create", s, "--name", "cats", "--json") for s in sources]
    numbers = [made(s.wait(60))["version"] for s in started]
    assert sorted(numbers) == list(range(1, 21))
    assert listed(stagerun) == [("cats", v) for v in range(1, 21)]
    for source, number in zip(sources, numbers):
        to = tmp_path / f"got{number}"
        stagerun.run("datastore", "get", f"cats:{number}", to).ok()
        assert [f.read_bytes() for f in sorted(to.iterdir())] == \
            [f.read_bytes() for f in sorted(source.iterdir())]


def test_a_creator_that_is_killed_leaves_no_broken_version_and_the_next_sends_less(
        stagerun, ceph, s3_store, tmp_path):
    source = fill(tmp_path / "source", 34, 1 << 20)  # two packs
    first = made(stagerun.run("datastore", "create", source, "--name", "whole", "--json", limit=120))
    ceph.client().delete_objects(Bucket=ceph.bucket, Delete={"Objects": [
        {"Key": k} for k in ceph.keys_in(f"{s3_store}/")]})
    seed = random.randrange(1 << 32)
    print("seed", seed)
    moments = random.Random(seed)
    for _ in range(max(1, 5 // slowness())):
        # Whatever they find there already, they are done sooner than the first was.
        ends = sorted(moments.uniform(0, min(first["seconds"], slowness())) for _ in range(4))
        running = [stagerun.start("datastore", "create", source, "--name", "cats") for _ in range(4)]
        for one, end in zip(running, ends):
            one.finished(max(0, one.started + end - time.monotonic()))
            one.stop()
        before = listed(stagerun)
        assert_whole(ceph, s3_store, before)
        assert len(ceph.keys_in(f"{s3_store}/datastores/")) == len(before)
    # On a busy machine none of them came so far.
    running = stagerun.start("datastore", "create", source, "--name", "cats")
    wait_until(lambda: ceph.keys_in(f"{s3_store}/packs/"), 30, "the first pack")
    running.stop()
    before = listed(stagerun)
    last = made(stagerun.run("datastore", "create", source, "--name", "cats", "--json", limit=120))
    assert last["version"] == len(before) + 1
    assert last["sent_bytes"] < first["sent_bytes"] * 0.9
    stagerun.run("datastore", "get", "cats", tmp_path / "got", limit=60).ok()
    assert [f.read_bytes() for f in sorted((tmp_path / "got").iterdir())] == \
        [f.read_bytes() for f in sorted(source.iterdir())]


def fill_up(ceph, prefix, name, count):
    """Versions 2 to count, as copies of the first one's manifest."""
    found = manifest(ceph, prefix, name, 1)
    for version in range(2, count + 1):
        found["version"] = version
        ceph.put(f"{prefix}/datastores/{name}/{version}/manifest.json", json.dumps(found).encode())


def test_the_51st_is_refused_until_one_is_deleted_and_no_number_comes_twice(
        stagerun, ceph, s3_store, tmp_path):
    source = fill(tmp_path / "source", 1, 1000)
    create = ["datastore", "create", source, "--name", "cats", "--json"]
    stagerun.run(*create).ok()
    fill_up(ceph, s3_store, "cats", 50)
    stagerun.run(*create).failed(1, "there are 50 datastores", "the oldest are cats:1 ")
    stagerun.run("datastore", "delete", "cats:50").ok()
    assert made(stagerun.run(*create))["version"] == 51
    stagerun.run(*create).failed(1, "there are 50 datastores")
    stagerun.run("datastore", "delete", "cats", "--yes").ok()
    assert listed(stagerun) == []
    assert made(stagerun.run(*create))["version"] == 52


def test_what_only_a_deleted_version_named_goes_after_the_grace_time(
        stagerun, ceph, s3_store, tmp_path):
    stagerun.configure(store={"grace": "2s"})
    for i in range(2):
        stagerun.run("datastore", "create", fill(tmp_path / f"source{i}", 1, 1000), "--name", "cats").ok()
    first, second = (named_keys(manifest(ceph, s3_store, "cats", v)) for v in (1, 2))
    stagerun.run("datastore", "delete", "cats:1").ok()
    assert first <= {k.removeprefix(f"{s3_store}/") for k in ceph.keys_in()}
    time.sleep(3)
    stagerun.run("datastore", "delete", "cats:7").failed(1, "there is 2")
    stagerun.run("datastore", "create", fill(tmp_path / "third", 1, 1000), "--name", "dogs").ok()
    there = {k.removeprefix(f"{s3_store}/") for k in ceph.keys_in()}
    assert second <= there and not (first - second) & there
    stagerun.run("datastore", "get", "cats", tmp_path / "got").ok()


def test_creators_and_deleters_at_once_leave_only_whole_versions(
        stagerun, ceph, s3_store, tmp_path):
    stagerun.configure(store={"grace": "0s"})
    sources = [fill(tmp_path / f"source{i}", 2, 1000) for i in range(2)]
    for _ in range(3):
        running = [stagerun.start("datastore", "create", s, "--name", "cats") for s in sources * 2]
        running += [stagerun.start("datastore", "delete", f"cats:{n}", "--force")
                    for _, n in listed(stagerun)[:2]]
        for one in running:
            one.wait(60)
        assert_whole(ceph, s3_store, listed(stagerun))
    assert len(listed(stagerun)) == 12 - 4
    for source in sources:
        stagerun.run("datastore", "create", source, "--name", "cats").ok()
        assert_whole(ceph, s3_store, listed(stagerun))


def everything(ceph, prefix):
    """What is left below the prefix: objects, their old versions and delete markers, uploads."""
    client, where = ceph.client(), {"Bucket": ceph.bucket, "Prefix": prefix}
    found = client.list_object_versions(**where)
    return (ceph.keys_in(prefix), found.get("Versions", []), found.get("DeleteMarkers", []),
            client.list_multipart_uploads(**where).get("Uploads", []))


def test_purge_leaves_nothing_below_the_prefix_and_all_beside_it(stagerun, ceph, s3_store, tmp_path):
    stagerun.run("datastore", "create", fill(tmp_path / "source", 3, 1000), "--name", "cats").ok()
    client = ceph.client()
    for key in (f"{s3_store}/large/{'0' * 32}.tar.zst", f"{s3_store}/large/photos.tar", "the/other"):
        upload = client.create_multipart_upload(Bucket=ceph.bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=ceph.bucket, Key=key, PartNumber=1, UploadId=upload, Body=b"part")
    client.put_bucket_versioning(Bucket=ceph.bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ceph.keys_in(s3_store)[:2]:
        ceph.put(key, b"a newer version")
        client.delete_object(Bucket=ceph.bucket, Key=key)
    ceph.put("the/store.txt", b"another's")
    ceph.put(f"{s3_store}/large/music.tar", b"old")
    ceph.put(f"{s3_store}/large/music.tar", b"new")
    stagerun.run("datastore", "purge", "--yes").ok()
    objects, versions, markers, uploads = everything(ceph, f"{s3_store}/")
    assert objects == [f"{s3_store}/large/music.tar"]
    assert [v["Key"] for v in versions] == objects * 2 and markers == []
    assert [u["Key"] for u in uploads] == [f"{s3_store}/large/photos.tar"]
    assert ceph.keys_in() == ["the/store.txt", *objects]
    assert len(everything(ceph, "the/other")[3]) == 1


def test_a_bucket_that_keeps_versions_is_refused_before_anything_is_sent(
        stagerun, ceph, s3_store, tmp_path):
    ceph.client().put_bucket_versioning(
        Bucket=ceph.bucket, VersioningConfiguration={"Status": "Enabled"})
    stagerun.run("datastore", "create", fill(tmp_path / "source", 1, 1000), "--name", "cats").failed(
        1, "keeps old versions", "If-None-Match", "never had versioning")
    assert ceph.keys_in() == []


def test_a_creation_that_is_stopped_leaves_no_lease(stagerun, ceph, s3_store, tmp_path):
    source = fill(tmp_path / "source", 40, 1 << 20)
    running = stagerun.start("datastore", "create", source, "--name", "cats")
    wait_until(lambda: any("leases/create-" in k for k in ceph.keys_in()), 20, "the lease")
    running.signal(15)
    running.wait(10)
    assert [k for k in ceph.keys_in() if "/leases/" in k] == []
