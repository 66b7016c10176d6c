# SPDX-License-Identifier: MIT
"""What users do with datastores, from beginning to end, over a real S3 server."""

import json
import os
import re
import subprocess
import zipfile

import pytest
from agent import CHECKOUT
from mounts import own_directories
from python_env import requirements, wheel, with_pip
from trees import snapshot

CONFIG = """\
compute:
  train:
    datastore_name: cifar5
    actions:
      on_experiment_start:
        - mkdir -p /tmp/scratch
        - unzip -qo /datastores/cifar5/cifar5.zip -d /tmp/scratch
"""

TWIN = """\
compute:
  train:
    datastore_name: cifar5
    actions:
      on_experiment_start:
        - echo "the datastore is there" >&2
        - stage: {source: /datastores/cifar5/cifar5.zip, to: /tmp/scratch}
"""

MAIN = """\
import argparse, os, helper
parser = argparse.ArgumentParser()
parser.add_argument("--data_dir")
data_dir = parser.parse_args().data_dir
print(helper.ANSWER, sum(len(files) for _, _, files in os.walk(data_dir)))
"""


@pytest.fixture
def s3_store(stagerun, ceph):
    """A store of alice's, of which stagerun is told by its environment."""
    stagerun.env.update({k: v for k, v in ceph.env().items() if v is not None})
    stagerun.env["STAGERUN_STORE"] = f"s3://{ceph.bucket}/datastores"
    return stagerun.env["STAGERUN_STORE"]


@pytest.fixture
def machine(root, tmp_path_factory):  # pylint: disable=unused-argument
    with own_directories(tmp_path_factory, "/datastores", "/tmp/scratch") as wrap:
        yield wrap


@pytest.fixture
def cats(tmp_path):
    root = tmp_path / "cats"
    (root / "train").mkdir(parents=True)
    (root / "empty").mkdir()
    for i in range(20):
        (root / f"train/{i}.txt").write_text(f"cat {i}\n" * 100)
    return root


@pytest.mark.parametrize("config", [CONFIG, TWIN], ids=["unzip", "stage"])
def test_many_small_files_go_as_one_zip_and_are_unpacked_at_the_start(stagerun, s3_store, machine, tmp_path,
                                                                       config):
    with zipfile.ZipFile(tmp_path / "cifar5.zip", "w") as z:
        for i in range(50):
            z.writestr(f"cifar5/train/{i}.png", bytes([i]) * 1000)
    (stagerun.cwd / "main.py").write_text(MAIN)
    wheel(tmp_path, "helper")
    needed = requirements(tmp_path / "requirements.txt", "helper")
    stagerun.env["PATH"] = f"{with_pip(tmp_path / 'venv')}:{stagerun.env['PATH']}"
    stagerun.run("datastore", "create", tmp_path / "cifar5.zip").ok()
    result = stagerun.run("run", "--config", stagerun.config(config), "--dependency_file", needed, "--",
                          "python3", "main.py", "--data_dir", "/tmp/scratch/cifar5", wrap=machine).ok()
    assert result.out.endswith("42 50\n")


def test_a_directory_is_there_by_its_path(stagerun, s3_store, machine, cats):
    stagerun.run("datastore", "create", cats).ok()
    (stagerun.cwd / "helper.py").write_text("ANSWER = 1")
    (stagerun.cwd / "main.py").write_text(MAIN)
    result = stagerun.run("run", "--", "/usr/bin/python3", "main.py", "--data_dir", "/datastores/cats/1",
                          wrap=machine).ok()
    assert result.out == "1 20\n"


def test_somebody_else_reads_once_the_policy_is_applied(stagerun, s3_store, ceph, cats, dest, tmp_path):
    stagerun.run("datastore", "create", cats).ok()
    bob = {k: v for k, v in ceph.env("bob").items() if v is not None}
    result = stagerun.run("datastore", "get", "cats:1", dest, env=bob)
    result.failed(1, "403", "AccessDenied", ceph.bucket, "s3:ListBucket")
    assert not dest.exists()
    policy = stagerun.run("datastore", "policy", "--role", "arn:aws:iam:::user/bob").ok().out
    ceph.client().put_bucket_policy(Bucket=ceph.bucket, Policy=policy)
    stagerun.run("datastore", "get", "cats", dest, env=bob).ok()
    assert snapshot(dest) == snapshot(cats)
    assert "cats" in stagerun.run("datastore", "list", env=bob).ok().out
    stagerun.run("datastore", "create", cats, env=bob).failed(1, "403|AccessDenied")
    stagerun.run("datastore", "delete", "cats", env=bob).failed(1, "403|AccessDenied")
    ceph.put("elsewhere", b"not theirs")
    stagerun.run("fetch", f"s3://{ceph.bucket}/elsewhere", tmp_path / "x", env=bob).failed(1, "403")


def test_data_comes_out_with_aws_zstd_and_tar_alone(stagerun, s3_store, ceph, cats, tmp_path):
    """As stagerun-store(5) says."""
    stagerun.run("datastore", "create", cats).ok()
    manifest = json.loads(ceph.aws("s3", "cp", f"{s3_store}/datastores/cats/1/manifest.json", "-"))
    out = tmp_path / "out"
    out.mkdir()
    for o in manifest["objects"]:
        ceph.aws("s3", "cp", f"{s3_store}/{o['key']}", tmp_path / "pack")
        subprocess.run(f"zstd -d < {tmp_path}/pack | tar -x -C {out}", shell=True, check=True)
    assert {p.name: p.read_text() for p in (out / "train").iterdir()} == \
        {p.name: p.read_text() for p in (cats / "train").iterdir()}
    part = manifest["index"][0]["sha256"]
    ceph.aws("s3", "cp", f"{s3_store}/index/{part[:2]}/{part}.zst", tmp_path / "part")
    index = subprocess.run(["zstd", "-dc", tmp_path / "part"], capture_output=True, text=True, check=True)
    paths = [line.split("\t")[8] for line in index.stdout.splitlines() if line.startswith("f\t")]
    assert sorted(paths) == sorted(f"train/{i}.txt" for i in range(20))


def recipe():
    """The shell of stagerun-store(5), WITHOUT STAGERUN, with the lines that fetch the manifest left to the test."""
    page = (CHECKOUT / "packaging/man/stagerun-store.5").read_text().split(".Sh WITHOUT STAGERUN")[1]
    blocks = re.findall(r"^\.Bd .*?\n(.*?)^\.Ed", page, re.M | re.S)
    return "".join(blocks).replace("\\e", "\\")


def test_the_recipe_of_the_manual_keeps_names_that_are_not_utf_8(stagerun, store, tmp_path):
    source, out = tmp_path / "cats", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    names = [b"caf\xe9", b"\xff\xfe", "\u00e9t\u00e9".encode(), b"plain"]
    for name in names:
        (source / os.fsdecode(name)).write_bytes(name)
    for _ in range(2):
        stagerun.run("datastore", "create", source).ok()
    # aws s3 cp FROM TO, for a store in a directory.
    aws = tmp_path / "bin/aws"
    aws.parent.mkdir()
    aws.write_text('#!/bin/sh\nfrom=$STORE/${3#s3://bucket/prefix/}\n'
                   '[ "$4" = - ] && exec cat "$from"\ncp "$from" "$4"\n')
    aws.chmod(0o755)
    env = {"PATH": f"{aws.parent}:{os.environ['PATH']}", "STORE": str(store), "LANG": "C.UTF-8"}
    listed = subprocess.run(["sh", "-e", "-c", recipe()], cwd=out, env=env, check=True, capture_output=True).stdout
    assert sorted(line.split(b"\t")[1] for line in listed.splitlines()) == sorted(names)
    assert sorted(os.listdir(os.fsencode(out / "cats"))) == sorted(names)
    assert all((out / "cats" / os.fsdecode(n)).read_bytes() == n for n in names)


def test_purge_leaves_an_empty_prefix_and_nothing_else(stagerun, s3_store, ceph, cats):
    ceph.put("elsewhere", b"stays")
    stagerun.run("datastore", "create", cats).ok()
    stagerun.run("datastore", "purge", "--yes").ok()
    assert ceph.aws("s3", "ls", "--recursive", f"s3://{ceph.bucket}/").split()[-1] == "elsewhere"
    assert len(ceph.keys_in()) == 1


def test_a_dry_run_says_whom_s3_would_see_and_no_secret(stagerun, s3_store, ceph, cats, dest):
    stagerun.run("datastore", "create", cats).ok()
    out = stagerun.run("run", "--dry-run", "--datastore", f"cats={dest}", "true").ok().out
    assert s3_store in out and ceph.url in out and "AWS_ACCESS_KEY_ID" in out
    assert ceph.keys("alice")[1] not in out
    assert not dest.exists()
