# SPDX-License-Identifier: MIT
"""--dependency_file and dependency_file_info: pip and conda, at the same time as staging."""

import json
import signal

import pytest
from agent import slowness, wait_until
from archives import file, noise, tar
from faultserver import rate, stall
from python_env import (Conda, externally_managed, requirements, slow_package, wheel, with_pip,
                        without_pip)
from stopwatch import SOON, Stopwatch


@pytest.fixture
def python(stagerun, tmp_path):
    """The environment that the command will use: a virtual one with pip, first in PATH."""
    binaries = with_pip(tmp_path / "venv")
    stagerun.env["PATH"] = f"{binaries}:{stagerun.env['PATH']}"
    stagerun.env["PIP_CONFIG_FILE"] = "/dev/null"
    return binaries / "python3"


@pytest.fixture
def cats(stagerun):
    """requirements.txt in the working directory, which asks for the package catalogue."""
    wheel(stagerun.cwd, "catalogue")
    return requirements(stagerun.cwd / "requirements.txt", "catalogue")


def conda(stagerun, tmp_path, name="conda", script=""):
    fake = Conda(tmp_path / "conda", name, script)
    stagerun.env["PATH"] = fake.path(stagerun.env)
    (stagerun.cwd / "environment.yml").write_text("name: other\ndependencies: [nosuchpkg]\n")
    return fake


def install(stagerun, name="requirements.txt", *options, command=("touch", "ran"), **how):
    return stagerun.run("run", "--dependency_file", name, *options, "--", *command, **how)


def assert_not_started(stagerun):
    assert not (stagerun.cwd / "ran").exists()
    assert stagerun.leftovers() == []
    assert list(stagerun.tmp.iterdir()) == []


# What is installed, and where.


def test_pip_installs_into_the_environment_that_the_command_uses(stagerun, python, cats):
    assert python.exists() and cats.exists()
    result = install(stagerun, command=["python3", "-c", "import catalogue; print(catalogue.ANSWER)"])
    assert result.ok().out == "42\n"
    assert list(stagerun.tmp.iterdir()) == []


def test_the_first_shell_action_finds_it_installed(stagerun, python, cats):
    assert python.exists() and cats.exists()
    config = stagerun.config("""
compute:
  train:
    dependency_file_info: {path: requirements.txt, package_manager: pip}
    actions:
      on_experiment_start: [python3 -c 'import catalogue']
""")
    stagerun.run("run", "--config", config, "--", "true").ok()


def test_what_pip_prints_is_readable_and_marked(stagerun, python, cats):
    assert python.exists() and cats.exists()
    result = install(stagerun).ok()
    assert "\n[dependencies] Successfully installed catalogue-1.0\n" in result.err, str(result)
    assert result.out == ""


def test_conda_updates_the_environment_whose_python_is_in_path(stagerun, tmp_path):
    """And not the one that the file names: the command would not use that."""
    fake = conda(stagerun, tmp_path)
    install(stagerun, "environment.yml").ok()
    assert fake.arguments() == ["env", "update", "--prefix", str(fake.prefix), "--file",
                                "environment.yml"]


def test_conda_updates_the_environment_that_a_hook_puts_first_in_path(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path)
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    (other / "bin/python3").symlink_to(fake.prefix / "bin/python3")
    (other / "conda-meta").mkdir()
    hook = tmp_path / "hooks/on_stage_start/10-module"
    hook.parent.mkdir(parents=True)
    hook.write_text(f'#!/bin/sh\necho "PATH={other}/bin:$PATH" >> "$STAGERUN_ENV"\n')
    hook.chmod(0o755)
    stagerun.configure(hooks={"dir": hook.parents[1]})
    install(stagerun, "environment.yml").ok()
    assert str(other) in fake.arguments()


def test_conda_updates_an_activated_environment_without_a_python(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path)
    (fake.prefix / "bin/python3").unlink()
    install(stagerun, "environment.yml", env={"CONDA_PREFIX": str(fake.prefix)}).ok()
    assert str(fake.prefix) in fake.arguments()


def test_mamba_takes_the_place_of_an_absent_conda(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path, "mamba")
    install(stagerun, "environment.yml").ok()
    assert fake.arguments()[:2] == ["env", "update"]


def test_micromamba_takes_the_place_of_both(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path, "micromamba")
    install(stagerun, "environment.yml").ok()
    assert fake.arguments() == ["install", "--yes", "--prefix", str(fake.prefix), "--file",
                                "environment.yml"]


def test_the_option_wins_over_config_yml(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path)
    config = stagerun.config("compute: {train: {dependency_file_info: {path: requirements.txt}}}\n")
    install(stagerun, "environment.yml", "--config", config).ok()
    assert "environment.yml" in fake.arguments()


def test_secrets_in_what_it_prints_are_hidden(stagerun, tmp_path):
    conda(stagerun, tmp_path, script="echo fetching with $CHANNEL_TOKEN")
    result = install(stagerun, "environment.yml", env={"CHANNEL_TOKEN": "hunter-of-channels"}).ok()
    assert "[dependencies] fetching with ***\n" in result.err, str(result)


# At the same time as staging.


def test_a_cut_complaint_does_not_show_half_of_a_secret(stagerun, tmp_path):
    long = "x" * 370
    conda(stagerun, tmp_path, script=f'echo "CondaHTTPError: {long} $INDEX_TOKEN" >&2; exit 1')
    result = install(stagerun, "environment.yml", env={"INDEX_TOKEN": "hunter-of-tokens"})
    assert "could not install" in result.err and "hunter" not in result.err, str(result)


def test_data_is_staged_while_dependencies_are_installed(stagerun, server, dest, tmp_path):
    """The install waits for the data, so one after the other would not end well."""
    conda(stagerun, tmp_path, script=f"for i in $(seq 400); do test -e {dest} && exit; "
                                     "sleep 0.05; done; exit 1")
    served = server.put("/x.tar", tar(file("a", b"here")))
    install(stagerun, "environment.yml", "--stage", f"{served.url}={dest}").ok()
    assert (dest / "a").read_bytes() == b"here"


def test_the_command_waits_for_the_slower_of_the_two(stagerun, server, dest, tmp_path):
    conda(stagerun, tmp_path, script="echo installed")
    served = server.put("/x.tar", tar(file("a", noise(400_000))), rate(400_000))
    result = install(stagerun, "environment.yml", "--stage", f"{served.url}={dest}",
                     command=["test", "-e", dest / "a"]).ok()
    assert result.err.index("[dependencies] installed") < result.err.index(f"{dest}: 402 kB in"), str(result)


def test_a_failed_install_stops_staging(stagerun, server, dest, tmp_path):
    stagerun.configure(network={"stall_timeout": "60s"})
    served = server.put("/x.tar", tar(file("a", noise(400_000))), stall(100_000, times=None))
    conda(stagerun, tmp_path, script="sleep 0.3; exit 7")
    result = install(stagerun, "environment.yml", "--stage", f"{served.url}={dest}")
    result.failed(125, r"dependencies: conda could not install environment\.yml: exit status 7")
    assert result.seconds < 5 * slowness() and not dest.exists()
    assert_not_started(stagerun)


def test_a_failed_stage_stops_the_install(stagerun, server, dest, tmp_path):
    conda(stagerun, tmp_path, script="sleep 60")
    result = install(stagerun, "environment.yml", "--stage", f"{server.url('/gone')}={dest}")
    result.failed(125, "404")
    assert "could not install" not in result.err
    assert result.seconds < 5 * slowness()
    assert_not_started(stagerun)


# What goes wrong.


def test_without_a_network_the_first_cause_is_said(stagerun, python):
    (stagerun.cwd / "requirements.txt").write_text("nosuchpkg\n")
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}
    install(stagerun, env=unreachable).failed(
        125, r"pip could not install 'nosuchpkg' \(requirements\.txt\): it reaches no package index: "
             "Failed to establish a new connection: .*Connection refused; is there a network", "PIP_INDEX_URL")
    assert_not_started(stagerun)


def test_a_failure_names_the_package_and_what_pip_said(stagerun, python):
    requirements(stagerun.cwd / "requirements.txt", "nosuchpkg==9")
    message = stagerun.directory / "termination-log"
    result = install(stagerun, env={"STAGERUN_TERMINATION_LOG": str(message)})
    result.failed(125, r"error: dependencies: pip could not install 'nosuchpkg==9' "
                       r"\(requirements\.txt\): exit status 1: No matching distribution found")
    assert json.loads(message.read_text())["item"] == "requirements.txt"
    assert python.exists()
    assert_not_started(stagerun)


def test_a_failure_of_conda_tells_its_error_and_not_its_advice(stagerun, tmp_path):
    conda(stagerun, tmp_path, script="printf 'Solving: failed\\n\\nPackagesNotFoundError: The "
          "following packages are not available:\\n\\n  - nosuchpkg\\n\\nLook elsewhere.\\n'; exit 1")
    install(stagerun, "environment.yml").failed(
        125, r"conda could not install environment\.yml: exit status 1: PackagesNotFoundError: The "
             r"following packages are not available: - nosuchpkg$")
    assert_not_started(stagerun)


@pytest.mark.skipif(not externally_managed(), reason="this system's Python is nobody's (PEP 668)")
def test_the_systems_own_python_is_left_alone_and_a_way_out_is_told(stagerun, cats):
    assert cats.exists()
    stagerun.env["PATH"] = "/usr/bin:/bin"
    install(stagerun).failed(125, "error: dependencies: pip may not install", "PEP 668",
                             "python3 -m venv /opt/venv")
    assert_not_started(stagerun)


def assert_nothing_was_staged(stagerun, server, dest, name, *patterns):
    served = server.put("/x.tar", tar(file("a", b"here")))
    result = install(stagerun, name, "--stage", f"{served.url}={dest}")
    result.failed(125, *patterns)
    assert len(result.err.splitlines()) == 1, str(result)
    assert served.requests == [] and not dest.exists()
    assert_not_started(stagerun)


def test_an_absent_file_is_an_error_before_anything_is_staged(stagerun, server, dest):
    assert_nothing_was_staged(stagerun, server, dest, "requirements.txt",
                              r"requirements\.txt \(--dependency_file\): cannot read it: No such",
                              str(stagerun.cwd))


def test_an_absent_pip_is_an_error_before_anything_is_staged(stagerun, server, dest, tmp_path, cats):
    assert cats.exists()
    binaries = without_pip(tmp_path / "venv")
    stagerun.env["PATH"] = f"{binaries}:/usr/bin:/bin"
    assert_nothing_was_staged(stagerun, server, dest, "requirements.txt",
                              f"{binaries}/python3 has no pip", "ensurepip")


def test_an_absent_python_is_an_error_before_anything_is_staged(stagerun, server, dest, cats):
    assert cats.exists()
    stagerun.env["PATH"] = str(stagerun.tmp)
    assert_nothing_was_staged(stagerun, server, dest, "requirements.txt", "pip needs python3")


def test_an_absent_conda_is_an_error_before_anything_is_staged(stagerun, server, dest):
    (stagerun.cwd / "environment.yml").write_text("dependencies: []\n")
    assert_nothing_was_staged(stagerun, server, dest, "environment.yml",
                              "neither conda nor mamba nor micromamba is in PATH")


def test_a_command_outside_of_any_conda_environment_is_an_error(stagerun, server, dest, tmp_path):
    fake = conda(stagerun, tmp_path)
    (fake.prefix / "conda-meta").rmdir()
    assert_nothing_was_staged(stagerun, server, dest, "environment.yml",
                              "would not use a conda environment")


def test_a_file_that_neither_is_for_is_refused(stagerun, server, dest):
    (stagerun.cwd / "Pipfile").touch()
    assert_nothing_was_staged(stagerun, server, dest, "Pipfile", "pip or conda")


def test_config_yml_that_contradicts_itself_is_refused_with_its_line(stagerun):
    (stagerun.cwd / "env.yml").touch()
    config = stagerun.config("compute:\n  train:\n    dependency_file_info:\n      path: env.yml\n"
                             "      package_manager: pip\n")
    stagerun.run("run", "--config", config, "--", "true").failed(
        125, r"env\.yml \(\S*config\.yml:4\): package_manager is pip, but .* conda")


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_install_at_once_and_leaves_nothing(stagerun, python, number):
    building = stagerun.directory / "building"
    slow = slow_package(stagerun.directory / "slow", building)
    requirements(stagerun.cwd / "requirements.txt", str(slow))
    running = stagerun.start("run", "--dependency_file", "requirements.txt", "--", "touch", "ran")
    wait_until(building.exists, what="the build")
    assert list(stagerun.tmp.iterdir()) != []
    watch = Stopwatch()
    running.signal(number)
    result = running.wait()
    assert result.code == 128 + number, str(result)
    assert watch.read() < SOON * slowness(), str(result)
    assert python.exists()
    assert_not_started(stagerun)


def test_an_install_that_ignores_signals_is_killed_within_a_second(stagerun, tmp_path):
    conda(stagerun, tmp_path, script="trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    running = stagerun.start("run", "--dependency_file", "environment.yml", "--", "touch", "ran")
    wait_until(lambda: "deaf" in running.err(), what="the install")
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    result = running.wait()
    assert result.code == 143 and watch.read() < SOON * slowness(), str(result)
    assert_not_started(stagerun)


# Prewarm, and the plan.


def test_prewarm_stages_only_and_says_so(stagerun, server, dest, tmp_path):
    fake = conda(stagerun, tmp_path)
    served = server.put("/x.tar", tar(file("a", b"here")))
    result = stagerun.run("prewarm", "--dependency_file", "environment.yml",
                          "--stage", f"{served.url}={dest}").ok()
    assert "prewarm installs no dependencies: environment.yml" in result.err, str(result)
    assert fake.arguments() is None and (dest / "a").exists()


def test_a_dry_run_tells_what_would_be_installed(stagerun, tmp_path):
    fake = conda(stagerun, tmp_path)
    result = install(stagerun, "environment.yml", "--dry-run").ok()
    assert (f"{fake.bin}/conda env update --prefix {fake.prefix} --file environment.yml  "
            "(--dependency_file)") in result.out, str(result)
    assert fake.arguments() is None


def test_a_dry_run_tells_that_pip_is_absent(stagerun, tmp_path, cats):
    assert cats.exists()
    stagerun.env["PATH"] = f"{without_pip(tmp_path / 'venv')}:/usr/bin:/bin"
    result = install(stagerun, "requirements.txt", "--dry-run")
    assert result.code == 1 and "has no pip" in result.out, str(result)
