# SPDX-License-Identifier: MIT
"""S3 as a source, against Ceph."""


import os

import pytest

ODD_KEYS = ["a b.txt", "plus+and%20percent", "what?is=this#not", "ünïcödé/файл", "'quote'\"", "a&b=c;d",
            "semi:colon@at,comma", "~tilde_-.", "(paren)[brack]{brace}", "back\\slash", "*star!"]


@pytest.fixture(autouse=True)
def patience(stagerun):
    """A busy server is none that stalls."""
    stagerun.configure(network={"stall_timeout": "20s"})


def s3(ceph, key=""):
    return f"s3://{ceph.bucket}/{key}"


def tree(directory):
    return {str(p.relative_to(directory)): p.read_bytes()
            for p in directory.rglob("*") if p.is_file() and ".stagerun" not in str(p)}


def test_one_object_in_several_ranges(stagerun, ceph, dest):
    data = os.urandom(3_000_000)
    ceph.put("a/data.bin", data)
    stagerun.fetch(s3(ceph, "a/data.bin"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"data.bin": data}


def test_an_empty_object(stagerun, ceph, dest):
    ceph.put("nothing.txt", b"")
    stagerun.fetch(s3(ceph, "nothing.txt"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"nothing.txt": b""}


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_may_hold_any_character(stagerun, ceph, dest, key):
    ceph.put(f"p/{key}", key.encode())
    stagerun.fetch(s3(ceph, f"p/{key}"), dest, env=ceph.env()).ok()
    assert tree(dest) == {key.split("/")[-1]: key.encode()}


def test_a_key_with_empty_parts_and_dots(stagerun, ceph, dest):
    ceph.put("a//b/../c/./d", b"as it is")
    stagerun.fetch(s3(ceph, "a//b/../c/./d"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"d": b"as it is"}


def test_the_same_object_again_moves_no_data(stagerun, ceph, dest):
    ceph.put("x", b"1")
    stagerun.fetch(s3(ceph, "x"), dest, env=ceph.env()).ok()
    assert "already there" in stagerun.fetch(s3(ceph, "x"), dest, env=ceph.env()).ok().err
    ceph.put("x", b"2")
    stagerun.fetch(s3(ceph, "x"), dest, "--replace", env=ceph.env()).ok()
    assert tree(dest) == {"x": b"2"}


def test_an_object_that_aws_cli_sent_in_parts(stagerun, ceph, dest, tmp_path):
    data = os.urandom(9_000_000)
    (tmp_path / "big").write_bytes(data)
    ceph.aws("s3", "cp", "--quiet", tmp_path / "big", s3(ceph, "big"))
    assert "-2" in ceph.client().head_object(Bucket=ceph.bucket, Key="big")["ETag"]
    stagerun.fetch(s3(ceph, "big"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"big": data}
    assert "already there" in stagerun.fetch(s3(ceph, "big"), dest, env=ceph.env()).ok().err


def test_settings_name_the_endpoint(stagerun, ceph, dest):
    ceph.put("x", b"1")
    stagerun.configure(s3={"endpoint": ceph.url, "style": "path", "region": "us-east-1"})
    stagerun.fetch(s3(ceph, "x"), dest, env={**ceph.env(), "AWS_ENDPOINT_URL_S3": None}).ok()
    assert tree(dest) == {"x": b"1"}


def test_an_archive_is_unpacked(stagerun, ceph, dest, tmp_path):
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as z:
        z.writestr("cifar5/a.txt", "hello")
    ceph.put("cifar5.zip", packed.getvalue())
    stagerun.fetch(s3(ceph, "cifar5.zip"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"cifar5/a.txt": b"hello"}


# Directories of objects

def put_set(ceph, n):
    """n small objects, and one that is not, below set/."""
    files = {f"train/{i % 7}/image {i}.png": os.urandom(i) for i in range(n)}
    files["large.bin"] = os.urandom(9_500_000)
    client = ceph.client()
    for name, data in files.items():
        client.put_object(Bucket=ceph.bucket, Key=f"set/{name}", Body=data)
    client.put_object(Bucket=ceph.bucket, Key="settings", Body=b"not below it")
    return files


def test_a_prefix_becomes_a_directory(stagerun, ceph, dest):
    files = put_set(ceph, 250)
    ceph.put("set/", b"")
    ceph.put("set/empty/", b"")
    stagerun.fetch(s3(ceph, "set/"), dest, env=ceph.env()).ok()
    assert tree(dest) == files
    assert (dest / "empty").is_dir()
    modified = ceph.client().head_object(Bucket=ceph.bucket, Key="set/large.bin")["LastModified"]
    assert (dest / "large.bin").stat().st_mtime == modified.timestamp()
    assert "already there" in stagerun.fetch(s3(ceph, "set/"), dest, env=ceph.env()).ok().err
    ceph.put("set/one more", b"1")
    stagerun.fetch(s3(ceph, "set/"), dest, "--replace", env=ceph.env()).ok()
    assert tree(dest) == {**files, "one more": b"1"}


def test_some_of_a_prefix(stagerun, ceph, dest):
    files = put_set(ceph, 30)
    config = stagerun.config(f"""
compute: {{train: {{actions: {{on_experiment_start: [
  {{stage: {{source: "{s3(ceph, 'set/')}", to: "{dest}", include: ["train/3/**"], strip_components: 1}}}}]}}}}}}
""")
    stagerun.run("prewarm", "--config", config, env=ceph.env()).ok()
    expected = {n.removeprefix("train/"): d for n, d in files.items() if n.startswith("train/3/")}
    assert tree(dest) == expected


def test_archives_below_a_prefix_stay_files(stagerun, ceph, dest):
    ceph.put("p/a.tar.gz", b"no archive at all")
    stagerun.fetch(s3(ceph, "p/"), dest, env=ceph.env()).ok()
    assert tree(dest) == {"a.tar.gz": b"no archive at all"}


@pytest.mark.parametrize("key,why", [("p/a//b", "empty part"), ("p/../b", r"'\.\.'"), ("p/a/./b", r"'\.'"),
                                     ("p//", "empty part")])
def test_a_name_that_no_file_can_have_is_refused(stagerun, ceph, dest, key, why):
    ceph.put("p/fine", b"1")
    ceph.put(key, b"1")
    stagerun.fetch(s3(ceph, "p/"), dest, env=ceph.env()).failed(1, why, "exclude")
    assert not dest.exists()


def test_an_object_and_a_directory_of_one_name_are_refused(stagerun, ceph, dest):
    ceph.put("p/a", b"1")
    ceph.put("p/a/b", b"1")
    stagerun.fetch(s3(ceph, "p/"), dest, env=ceph.env()).failed(1, "'a")
    assert not dest.exists()


def test_a_prefix_of_nothing_is_an_error(stagerun, ceph, dest):
    stagerun.fetch(s3(ceph, "nothing/"), dest, env=ceph.env()).failed(1, "no object whose key begins so")
    assert not dest.exists()


def test_a_dry_run_says_how_much_a_prefix_is(stagerun, ceph, dest):
    ceph.put("p/a", b"x" * 1000)
    ceph.put("p/b", b"x" * 500)
    result = stagerun.run("prewarm", "--dry-run", "--stage", f"{s3(ceph, 'p/')}={dest}", env=ceph.env()).ok()
    assert "1.50 kB" in result.out or "1.5 kB" in result.out, str(result)
    assert f"{ceph.url} (region us-east-1" in result.out and "credentials: environment" in result.out
    assert "ALICESECRET" not in result.out + result.err


# Who may

def test_bob_may_not_until_the_policy_says_so(stagerun, ceph, dest):
    ceph.put("p/a", b"hers")
    for source in (s3(ceph, "p/a"), s3(ceph, "p/")):
        stagerun.fetch(source, dest, env=ceph.env("bob")).failed(
            1, "403 AccessDenied", f"endpoint {ceph.url}", r"credentials: environment", "request tx",
            r"allow s3:(GetObject|ListBucket)")
        assert not dest.exists()
    ceph.allow("bob", "s3:ListBucket", "s3:GetObject", "s3:GetBucketLocation")
    stagerun.fetch(s3(ceph, "p/"), dest, env=ceph.env("bob")).ok()
    assert tree(dest) == {"a": b"hers"}


def test_a_public_bucket_needs_no_credentials(stagerun, ceph, dest):
    ceph.put("p/a", b"everybody's")
    stagerun.fetch(s3(ceph, "p/a"), dest, env=ceph.env(None)).failed(
        1, "403 AccessDenied", "not signed", "anonymous readers may not: .*s3:GetObject")
    ceph.allow("*", "s3:ListBucket", "s3:GetObject")
    stagerun.fetch(s3(ceph, "p/a"), dest, env=ceph.env(None)).ok()
    assert tree(dest) == {"a": b"everybody's"}


def test_sign_no_sends_no_signature(stagerun, ceph, dest):
    ceph.put("p/a", b"everybody's")
    ceph.allow("*", "s3:ListBucket", "s3:GetObject")
    stagerun.configure(s3={"sign": "no"})
    wrong = {**ceph.env(), "AWS_SECRET_ACCESS_KEY": "wrong"}
    stagerun.fetch(s3(ceph, "p/"), dest, env=wrong).ok()
    assert tree(dest) == {"a": b"everybody's"}


@pytest.mark.parametrize("changes,patterns", [
    ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ["403 SignatureDoesNotMatch", "secret key does not belong"]),
    ({"AWS_ACCESS_KEY_ID": "NOBODY"}, ["403 InvalidAccessKeyId", "does not know the access key"]),
    ({"AWS_ACCESS_KEY_ID": None}, ["AWS_ACCESS_KEY_ID is not set"]),
])
def test_wrong_credentials_get_one_clear_line(stagerun, ceph, dest, changes, patterns):
    ceph.put("a", b"1")
    for source in (s3(ceph, "a"), s3(ceph)):
        result = stagerun.fetch(source, dest, env={**ceph.env(), **changes}).failed(1, *patterns)
        assert result.err.count("\n") == 1, str(result)
        assert "SECRET" not in result.err.replace("AWS_SECRET_ACCESS_KEY", "")
    assert not dest.exists()


def test_wrong_names_get_one_clear_line(stagerun, ceph, dest):
    stagerun.fetch(s3(ceph, "nope"), dest, env=ceph.env()).failed(1, "404 NoSuchKey", "spelling of the key")
    stagerun.fetch("s3://no-such-bucket/a", dest, env=ceph.env()).failed(
        1, "404 NoSuchBucket", "spelling of the bucket")
    assert not dest.exists()
