# SPDX-License-Identifier: MIT
"""What is read from S3 is what was listed, also from a server that ignores If-Match."""

import json
import os

import pytest
from fakeaws import FakeAws
from odddisk import odd_disk

OLD, NEW = b"old!!" * 20, b"NEW!!" * 20
LARGE = 12_000_000


@pytest.fixture
def aws(stagerun):
    stagerun.configure(network={"stall_timeout": "20s"})  # a busy server is none that stalls
    fake = FakeAws()
    keys = fake.add("ACCESS", "secret")
    stagerun.env.update(fake.env(AWS_ACCESS_KEY_ID=keys.access, AWS_SECRET_ACCESS_KEY=keys.secret))
    fake.objects["bucket/p/data"] = fake.objects["bucket/p/other"] = OLD
    yield fake
    fake.close()


def replace(aws, size=None):
    """The object p/data is another one than listings say."""
    old, new = (OLD, NEW) if size is None else (bytes(size), bytes([1]) * size)
    aws.listed["bucket/p/data"], aws.objects["bucket/p/data"] = old, new


@pytest.mark.parametrize("size", [None, LARGE], ids=["small", "large"])
def test_a_prefix_with_an_object_that_is_not_the_listed_one_is_not_staged(stagerun, aws, dest, size):
    replace(aws, size)
    result = stagerun.fetch("s3://bucket/p/", dest)
    result.failed(1, r"s3://bucket/p/data changed after it had been listed")
    assert not dest.exists()


@pytest.mark.parametrize("size", [None, LARGE], ids=["small", "large"])
def test_a_prefix_is_staged_where_objects_have_no_etag(stagerun, aws, dest, size):
    data = OLD if size is None else os.urandom(size)
    aws.objects["bucket/p/data"], aws.etags = data, False
    stagerun.fetch("s3://bucket/p/", dest).ok()
    assert (dest / "data").read_bytes() == data


def test_without_an_etag_another_size_is_another_version(stagerun, aws, dest):
    aws.etags, aws.listed["bucket/p/data"], aws.objects["bucket/p/data"] = False, OLD, OLD + b"more"
    stagerun.fetch("s3://bucket/p/", dest).failed(1, "s3://bucket/p/data changed")


@pytest.mark.parametrize("size", [None, 30_000_000], ids=["packed", "large"])
def test_a_creation_does_not_take_what_is_not_the_listed_version(stagerun, store, aws, size):
    replace(aws, size)
    stagerun.run("datastore", "create", "s3://bucket/p/").failed(1, "'data' in s3://bucket/p/ changed")
    assert json.loads(stagerun.run("datastore", "list", "--json").ok().out) == []


@pytest.mark.parametrize("size", [None, 30_000_000], ids=["small", "large"])
def test_a_reference_is_not_followed_to_another_version(stagerun, store, aws, dest, size):
    replace(aws, size)
    stagerun.run("datastore", "create", "s3://bucket/p/", "--no-copy").ok()
    stagerun.run("datastore", "get", "p", dest).failed(1, "s3://bucket/p/data was changed")
    aws.objects.update(aws.listed)
    stagerun.run("datastore", "get", "p", dest).ok()


def test_a_reference_to_an_empty_object_is_not_followed_to_another_version(stagerun, store, aws, dest):
    aws.objects["bucket/p/data"] = b""
    stagerun.run("datastore", "create", "s3://bucket/p/", "--no-copy").ok()
    aws.objects["bucket/p/data"] = b"not empty"
    stagerun.run("datastore", "get", "p", dest).failed(1, "s3://bucket/p/data was changed")


def test_a_creation_leaves_out_the_agents_state_below_a_prefix(stagerun, store, aws, dest):
    aws.objects["bucket/p/.stagerun/data/whole.json"] = aws.objects["bucket/p/d/.stagerun-4001/x"] = b"{}"
    result = stagerun.run("datastore", "create", "s3://bucket/p/").ok()
    assert result.err.count("is left out") == 1
    stagerun.run("datastore", "get", "p", dest).ok()
    assert sorted(os.listdir(dest)) == ["data", "other"]


def test_two_keys_that_become_one_name_are_refused(stagerun, aws, dest):
    aws.objects["bucket/p/a/x"], aws.objects["bucket/p/b/x"] = OLD, NEW
    stagerun.fetch("s3://bucket/p/", dest, "--strip-components", "1").failed(1, "'x' was refused.*another entry")
    assert not dest.exists()


def test_two_keys_that_are_one_name_where_case_is_folded_are_refused(stagerun, aws, tmp_path):
    aws.objects["bucket/p/Data"] = NEW
    with odd_disk(tmp_path, "fold") as disk:
        stagerun.fetch("s3://bucket/p/", disk / "data").failed(1, "'(data|Data)' was refused.*'(Data|data)'")
