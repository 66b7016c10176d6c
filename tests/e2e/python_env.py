# SPDX-License-Identifier: MIT
"""Python environments and packages for tests of the dependency install; nothing needs a network."""

import importlib.util
import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"


def without_pip(directory):
    """A virtual environment in directory, by python3 -m venv; returns its bin/."""
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin"


def with_pip(directory):
    """The same with this system's pip, which is linked to, as a copy would take seconds."""
    where = subprocess.run(
        [PYTHON, "-c", "import os, pip; print(os.path.dirname(pip.__file__))"],
        capture_output=True, text=True, check=False)
    if where.returncode != 0:
        pytest.skip(f"{PYTHON} has no pip (python3-pip)")
    binaries = without_pip(directory)
    site = next((directory / "lib").glob("python3*/site-packages"))
    (site / "pip").symlink_to(where.stdout.strip())
    return binaries


def wheel(directory, name, version="1.0", content="ANSWER = 42\n"):
    """A package of one module, as a wheel in directory."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{name}.py", content)
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\n"
                                    "Root-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n"
                                     f"{info}/RECORD,,\n")


def requirements(path, *lines):
    """A requirements file whose packages are looked for beside it only."""
    path.write_text("\n".join(["--no-index", f"--find-links {path.parent}", *lines, ""]))
    return path


def slow_package(directory, marker):
    """A source tree whose build says in marker that it runs, and then takes a minute."""
    directory.mkdir()
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    (directory / "backend.py").write_text(textwrap.dedent(f"""
        import pathlib, tempfile, time

        def get_requires_for_build_wheel(config_settings=None):
            tempfile.mkstemp()
            pathlib.Path({str(marker)!r}).touch()
            time.sleep(60)
        """))
    return directory


class Conda:
    """A program named conda (or mamba, micromamba) and an environment, both of this test's own. The
    program records its arguments and then does what its script says."""

    def __init__(self, directory, name="conda", script=""):
        self.prefix = directory / "envs/run"
        self.bin = directory / "condabin"
        self.record = directory / "arguments.json"
        (self.prefix / "bin").mkdir(parents=True)
        (self.prefix / "bin/python3").symlink_to(PYTHON)
        (self.prefix / "conda-meta").mkdir()
        self.bin.mkdir()
        program = self.bin / name
        program.write_text(
            f"#!/bin/sh\n{PYTHON} -c 'import json, sys; json.dump(sys.argv[1:], "
            f"open(\"{self.record}\", \"w\"))' \"$@\"\n{script}\n")
        program.chmod(0o755)

    def path(self, env):
        """PATH with both, before env's."""
        return f"{self.prefix}/bin:{self.bin}:{env['PATH']}"

    def arguments(self):
        return json.loads(self.record.read_text()) if self.record.exists() else None


def externally_managed():
    """Whether PEP 668 forbids this system's pip to install."""
    library = Path(importlib.util.__file__).parents[1]
    return (library / "EXTERNALLY-MANAGED").exists()


if __name__ == "__main__":
    sys.exit("a module of the tests: run them with `make e2e`")
