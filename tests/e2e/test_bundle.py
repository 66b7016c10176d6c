# SPDX-License-Identifier: MIT
"""The relocatable directory of `make bundle`, in a root file system that holds nothing else."""

import os
import shutil
import subprocess

import pytest

import agent as agent_module
from agent import BINARY, CHECKOUT
from archives import file, tar

LAUNCHER = "/opt/stagerun/bin/stagerun"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    if agent_module.sanitizer():
        pytest.skip("the bundle holds the plain build")
    directory = tmp_path_factory.mktemp("bundle") / "bundle"
    subprocess.run([CHECKOUT / "packaging/bundle/make", BINARY, directory], check=True,
                   stdout=subprocess.DEVNULL)
    return directory


@pytest.fixture
def empty_root(bundle, tmp_path, root):
    """Not even /proc, /tmp or /etc: only the bundle."""
    directory = tmp_path / "root"
    shutil.copytree(bundle, directory / "opt/stagerun", symlinks=True)
    return directory


def chroot(stagerun, directory, *words, env=None):
    return subprocess.run(["chroot", directory, *words], capture_output=True, text=True, check=False,
                          timeout=60, env={"PATH": os.environ["PATH"], **(env or {})})


def test_it_fetches_over_http_in_an_empty_root(stagerun, server, empty_root):
    served = server.put("/x.tar", tar(file("a", b"content")))
    done = chroot(stagerun, empty_root, LAUNCHER, "fetch", served.url, "/data/x")
    assert done.returncode == 0, done.stderr
    assert (empty_root / "data/x/a").read_bytes() == b"content"


def test_it_verifies_tls_with_the_authorities_it_brings(stagerun, nginx, empty_root):
    nginx.put("x.tar", tar(file("a")))
    untrusted = chroot(stagerun, empty_root, LAUNCHER, "fetch", nginx.tls_url("x.tar"), "/data/x")
    assert untrusted.returncode == 1 and "certificate" in untrusted.stderr
    shutil.copy(nginx.ca_file, empty_root / "opt/stagerun/etc/ca-certificates.crt")
    trusted = chroot(stagerun, empty_root, LAUNCHER, "fetch", nginx.tls_url("x.tar"), "/data/x")
    assert trusted.returncode == 0, trusted.stderr


def test_it_becomes_the_command(stagerun, empty_root):
    done = chroot(stagerun, empty_root, LAUNCHER, "run", "--", LAUNCHER, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stagerun ")


def test_it_is_found_through_a_symbolic_link(stagerun, empty_root):
    (empty_root / "stagerun").symlink_to(LAUNCHER)
    assert chroot(stagerun, empty_root, "/stagerun", "--version").returncode == 0


def test_what_the_image_preloads_and_its_library_path_are_the_commands_alone(bundle, probe):
    """An allocator for the image's libc would break the bundle's, and the bundle's libraries the command."""
    env = {"PATH": os.environ["PATH"], "LD_PRELOAD": "libc.so.6", "LD_LIBRARY_PATH": "/image/lib"}
    done = subprocess.run([bundle / "bin/stagerun", "run", "--", "env"], capture_output=True, text=True,
                          check=True, env=env)
    lines = set(done.stdout.splitlines())
    assert {"LD_PRELOAD=libc.so.6", "LD_LIBRARY_PATH=/image/lib"} <= lines
    assert not [line for line in lines if "STAGERUN" in line or str(bundle) in line]
