# SPDX-License-Identifier: MIT
"""The samples in packaging/: well-formed, and what they say stagerun does."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from agent import BINARY, CHECKOUT
from archives import file, tar

KUBERNETES = sorted((CHECKOUT / "packaging/kubernetes").glob("*.yaml"))
SYSTEMD = CHECKOUT / "packaging/systemd"
PROLOG = CHECKOUT / "packaging/slurm/prolog"
SCHEMA = json.loads((Path(__file__).parent / "kubernetes.schema.json").read_text())


def objects(path):
    return list(yaml.safe_load_all(path.read_text()))


def check(thing):
    """Against the schema, and what a schema cannot say: names that must be there twice."""
    jsonschema.Draft7Validator(SCHEMA).validate(thing)
    if thing["kind"] == "ConfigMap":
        return
    spec = thing["spec"]
    if thing["kind"] == "DaemonSet":
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        spec = spec["template"]["spec"]
    volumes = {v["name"] for v in spec.get("volumes", [])}
    containers = spec["containers"] + spec.get("initContainers", [])
    assert len({c["name"] for c in containers}) == len(containers)
    used = {m["name"] for c in containers for m in c.get("volumeMounts", [])}
    assert used == volumes


def pod_specs():
    for path in KUBERNETES:
        for thing in objects(path):
            if thing["kind"] != "ConfigMap":
                spec = thing["spec"]
                yield thing["metadata"]["name"], spec.get("template", {}).get("spec", spec)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda p: p.name)
def test_kubernetes_files_pass_the_schema(path):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = objects(path)
    assert len(found) >= 2
    for thing in found:
        check(thing)


def changed(thing, change):
    other = copy.deepcopy(thing)
    change(other)
    return other


@pytest.mark.parametrize("change", [
    lambda d: d["spec"].pop("selector"),
    lambda d: d["spec"]["template"]["spec"]["containers"][0].pop("image"),
    lambda d: d["spec"]["template"]["spec"]["containers"][0].update(volumemounts=[]),
    lambda d: d["spec"]["template"]["spec"].update(restartPolicy="OnFailure"),
    lambda d: d["spec"]["template"]["spec"]["volumes"][1].update(emptyDir={}),
    lambda d: d["spec"]["template"]["spec"]["volumes"][1].update(name="other"),
    lambda d: d["spec"]["template"]["metadata"]["labels"].clear(),
    lambda d: d["spec"]["template"]["spec"]["containers"][0]["args"].append(10),
])
def test_the_schema_refuses_what_kubernetes_would(change):
    daemon_set = objects(CHECKOUT / "packaging/kubernetes/prewarm-daemonset.yaml")[1]
    check(daemon_set)
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check(changed(daemon_set, change))


@pytest.mark.parametrize("name, spec", list(pod_specs()), ids=lambda v: v if isinstance(v, str) else "")
def test_their_commands_are_stageruns(stagerun, name, spec, tmp_path):
    """Every command line is one that stagerun takes, with the settings and lists of the file itself."""
    settings = {k: v for path in KUBERNETES for o in objects(path) if o["kind"] == "ConfigMap"
                for k, v in o["data"].items()}
    for key, text in settings.items():
        (tmp_path / key).write_text(text)
    ran = 0
    for container in spec["initContainers"] + spec["containers"]:
        if "stagerun" not in container["command"][0]:
            continue
        words = container["command"][1:] + container["args"]
        words = [w.replace("/etc/stagerun/", f"{tmp_path}/") for w in words]
        words.insert(1, "--dry-run")
        # Nothing can be asked there; what is wrong with the words would be said before.
        result = stagerun.run(*words, env={
            "STAGERUN_AGENT_CONFIG": str(tmp_path / "agent.ini") if "--list" in words else str(stagerun.ini),
            "STAGERUN_STORE": f"file://{tmp_path}/empty",
            "STAGERUN_NETWORK_RETRIES": "0", "STAGERUN_NETWORK_CONNECT_TIMEOUT": "100ms",
            "AWS_EC2_METADATA_DISABLED": "true", "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9"})
        assert result.out.startswith(("stagerun ", '{"schema":"stagerun.plan/1"')) and "cats" in result.out, str(result)
        ran += 1
    assert ran >= 1


@pytest.mark.parametrize("unit", ["stagerun-prewarm.service", "stagerun-prewarm.timer"])
def test_systemd_units_are_well_formed(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for path in SYSTEMD.iterdir():
        # It also looks whether the program is there, and whether manual pages are.
        lines = [line for line in path.read_text().splitlines() if not line.startswith("Documentation")]
        (tmp_path / path.name).write_text("\n".join(lines).replace("/usr/local/bin/stagerun", str(BINARY)))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True,
                          check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})
    assert done.returncode == 0 and "stagerun" not in done.stderr, done.stderr


def test_the_command_of_the_systemd_unit_stages_its_list(stagerun, server, dest, tmp_path):
    line = next(line for line in (SYSTEMD / "stagerun-prewarm.service").read_text().splitlines()
                if line.startswith("ExecStart="))
    listed = tmp_path / "prewarm.list"
    listed.write_text(f"{server.put('/x.tar', tar(file('a'))).url}={dest}\n")
    words = line.partition("=")[2].replace("/etc/stagerun/prewarm.list", str(listed)).split()[1:]
    stagerun.run(*words).ok()
    assert (dest / "a").exists()


@pytest.fixture
def prolog(stagerun, tmp_path):
    """Runs the prolog with lists, and a logger that keeps what it is told."""
    directory = tmp_path / "etc"
    (directory / "prewarm.d").mkdir(parents=True)
    told = tmp_path / "told"
    logger = tmp_path / "bin/logger"
    logger.parent.mkdir()
    logger.write_text(f'#!/bin/sh\necho "$@" >>{told}\ncat >>{told}\n')
    logger.chmod(0o755)

    def run(**environment):
        env = {**stagerun.env, "PATH": f"{logger.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
               "SLURM_JOB_PARTITION": "gpu", "STAGERUN_PROLOG_DIRECTORY": str(directory),
               "STAGERUN_PROLOG_BINARY": str(BINARY), **environment}
        done = subprocess.run([PROLOG], env=env, capture_output=True, text=True, check=False)
        return done.returncode, told.read_text() if told.exists() else ""

    run.directory = directory
    return run


def test_the_slurm_prolog_stages_the_lists_of_all_and_of_the_partition(prolog, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    (prolog.directory / "prewarm.list").write_text(f"{served.url}={dest}/all\n")
    (prolog.directory / "prewarm.d/gpu.list").write_text(f"{served.url}={dest}/gpu\n")
    (prolog.directory / "prewarm.d/cpu.list").write_text(f"{served.url}={dest}/cpu\n")
    code, told = prolog()
    assert code == 0 and sorted(os.listdir(dest)) == [".stagerun", "all", "gpu"], told
    assert '"staged":2' in told and "stagerun-prolog[7]" in told


def test_the_slurm_prolog_drains_no_node_unless_it_is_told_to(prolog, dest):
    (prolog.directory / "prewarm.list").write_text(f"/nonexistent={dest}\n")
    code, told = prolog()
    assert code == 0 and "No such file" in told


def test_the_slurm_prolog_does_nothing_without_a_list(prolog):
    assert prolog() == (0, "")
