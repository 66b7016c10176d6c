# SPDX-License-Identifier: MIT
"""The example that Grid's users followed: curl, unzip and mv as start actions, as it is; and its twin
with a stage item. Both end with the command seeing /tmp/scratch/cifar5."""

import subprocess

import pytest
from archives import noise
from mounts import own_directories
from trees import snapshot

AS_IT_IS = """\
compute:
  train:
    framework: lightning
    instance: m5a.large
    actions:
      on_build:
        - apt-get update
        - apt-get install -y curl unzip
      on_experiment_start:
        - curl {url} -o cifar5.zip
        - unzip cifar5.zip
        - mv cifar5 /tmp/scratch
    scratch:
      size_gb: 100
      mount_path: /tmp/scratch
"""

TWIN = """\
compute:
  train:
    actions:
      on_experiment_start:
        - stage: {{source: "{url}", to: /tmp/scratch}}
    scratch:
      size_gb: 100
      mount_path: /tmp/scratch
"""


@pytest.fixture
def scratch(root, tmp_path_factory):  # pylint: disable=unused-argument
    with own_directories(tmp_path_factory, "/tmp/scratch") as wrap:
        yield wrap


@pytest.fixture
def cifar5(tmp_path):
    """A tree of small pictures, as the example's zip holds."""
    for kind in ("train", "test"):
        for label in range(5):
            directory = tmp_path / "cifar5" / kind / str(label)
            directory.mkdir(parents=True)
            for i in range(40):
                (directory / f"{i}.png").write_bytes(noise(2500, i + 40 * label))
    subprocess.run(["zip", "-q", "-r", "cifar5.zip", "cifar5"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("config", [AS_IT_IS, TWIN], ids=["as it is", "with a stage item"])
def test_the_command_sees_the_data(stagerun, nginx, scratch, cifar5, config):
    nginx.put("cifar5.zip", (cifar5 / "cifar5.zip").read_bytes())
    path = stagerun.config(config.format(url=nginx.url("cifar5.zip")))
    result = stagerun.run("run", "--config", path, "--",
                          "cp", "-a", "/tmp/scratch/cifar5", stagerun.directory / "seen",
                          wrap=scratch).ok()
    expected, seen = snapshot(cifar5 / "cifar5"), snapshot(stagerun.directory / "seen")
    assert expected.keys() == seen.keys(), str(result)
    for name, entry in expected.items():
        assert entry.get("content") == seen[name].get("content"), name


def test_the_build_actions_are_mentioned(stagerun, nginx, scratch, cifar5):
    nginx.put("cifar5.zip", (cifar5 / "cifar5.zip").read_bytes())
    path = stagerun.config(AS_IT_IS.format(url=nginx.url("cifar5.zip")))
    result = stagerun.run("run", "--config", path, "--", "true", wrap=scratch).ok()
    assert "on_build" in result.err
    assert "apt-get" not in result.out
