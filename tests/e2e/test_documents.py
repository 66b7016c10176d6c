# SPDX-License-Identifier: MIT
"""What is written down is what the program does."""

import re
import subprocess

import pytest

from agent import CHECKOUT
from events import documented_events

README = (CHECKOUT / "README.md").read_text()
MAN = CHECKOUT / "packaging/man"


def options(stagerun, command):
    out = stagerun.run(command, "--help").ok().out
    return re.findall(r"(--[a-z0-9_-]+)", out.split("Options:")[1])


@pytest.mark.parametrize("command", ["run", "prewarm", "fetch", "hook"])
def test_every_option_is_in_the_manual(stagerun, command):
    manual = (MAN / "stagerun.1").read_text().replace("Fl -", "--")
    names = options(stagerun, command)
    assert len(names) > 4
    for name in names:
        assert name in manual, f"stagerun.1 lacks {name}"


SUBCOMMANDS = ["create", "list", "files", "get", "delete", "purge", "policy"]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_of_datastore_is_in_the_manual(stagerun, subcommand):
    manual = (MAN / "stagerun.1").read_text().split(".Sh DATASTORES")[1].split(".Sh ")[0]
    whole = (MAN / "stagerun.1").read_text().replace("Fl -", "--").replace(" | -", " | --").replace(", -", ", --")
    assert f".It Cm {subcommand}" in manual
    out = stagerun.run("datastore", subcommand, "--help").ok().out
    for name in re.findall(r"(--[a-z0-9_-]+)", out.split("Options:")[1]):
        assert name in whole, f"stagerun.1 lacks {name}"


def test_every_line_of_the_index_and_every_place_in_a_store_is_in_the_manual():
    manual = (MAN / "stagerun-store.5").read_text()
    written = re.findall(r"^ \*   (stagerun-index|[a-z])  (.*?)(?:  .*)?$",
                         (CHECKOUT / "include/index.h").read_text(), re.M)
    for letter, _ in written:
        assert re.search(rf"^{letter} ", manual, re.M), f"stagerun-store.5 lacks the line {letter}"
    assert len(written) == 8
    places = re.findall(r"^ \*   (\w+)/\S+  ", (CHECKOUT / "include/store.h").read_text(), re.M)
    assert len(set(places)) == 6
    for place in places:
        assert f".It Pa {place}/" in manual, f"stagerun-store.5 lacks {place}/"


@pytest.mark.parametrize("command", ["list", "evict", "verify"])
def test_every_option_of_the_cache_is_in_the_manual(stagerun, command):
    manual = (MAN / "stagerun.1").read_text().replace("Fl -", "--")
    for name in re.findall(r"(--[a-z-]+)", stagerun.run("cache", command, "--help").ok().out.split("Options:")[1]):
        assert name in manual, name


def test_every_key_of_config_yml_is_in_the_manual():
    """But for those that name a machine to rent, which are ignored."""
    manual = (MAN / "config.yml.5").read_text()
    source = "".join((CHECKOUT / "agent/config" / name).read_text()
                     for name in ("runfile.c", "runfile_datastores.c"))
    keys = set(re.findall(r'^\t{"(\w+)", \w+', source, re.M)) - {"compute", "train", "to", "datastore"}
    assert len(keys) > 25
    for key in keys:
        assert re.search(rf"^\.(It Cm|Cm|Ss).*\b{key}\b", manual, re.M), f"config.yml.5 lacks {key}"


def test_every_event_of_the_log_is_in_the_manual_and_no_other():
    header = (CHECKOUT / "include/log_events.h").read_text()
    table = re.findall(r'^\tX\(\w+, "(\w+)"\)', header, re.M)
    assert len(table) > 20 and list(documented_events()) == table


def test_the_readme_is_short():
    assert len(README.encode()) <= 10_000


def test_every_setting_is_in_the_manual():
    example = (CHECKOUT / "agent.ini.example").read_text()
    manual = (MAN / "agent.ini.5").read_text()
    keys = re.findall(r"^#(\w+) = ", example, re.M) or re.findall(r"^[#;] ?(\w+) *=", example, re.M)
    assert len(keys) > 20
    for key in keys:
        assert re.search(rf"^\.It Cm {key}\b", manual, re.M), f"agent.ini.5 lacks {key}"


def test_the_environment_contract_is_in_the_manual(stagerun):
    """Every variable under its heading, and none that the program does not know."""
    listed = stagerun.run("hook", "--help").ok().out.split("\nVariables\n")[1]
    told = {tuple(re.findall(r"^  (\w+) ", part, re.M))
            for part in re.split(r"^(?=\S)", listed, flags=re.M)[1:]}
    manual = (MAN / "stagerun-hooks.5").read_text().split(".Sh ENVIRONMENT")[1].split(".Sh")[0]
    written = {tuple(re.findall(r"^\.It Ev (\w+)$", part, re.M)) for part in manual.split(".Ss ")[1:]}
    assert len(told) > 3 and written == told


def test_every_point_of_hooks_is_in_the_manual():
    header = (CHECKOUT / "include/hooks.h").read_text()
    points = re.findall(r'X\(HOOK_\w+, "(\w+)"', header)
    manual = (MAN / "stagerun-hooks.5").read_text()
    assert len(points) >= 5
    for point in points:
        assert f".It Cm {point}\n" in manual, f"stagerun-hooks.5 lacks {point}"


def test_every_name_that_is_no_hook_is_in_the_manual():
    source = (CHECKOUT / "hooks/find.c").read_text()
    globs = re.findall(r'"([^"]+)"', re.search(r"ignored_names\[\] = {(.*?)}", source, re.S)[1])
    assert len(globs) > 5
    for glob in globs:
        assert glob in (MAN / "stagerun-hooks.5").read_text(), f"stagerun-hooks.5 lacks {glob}"


@pytest.mark.parametrize("page", ["stagerun.1", "config.yml.5", "agent.ini.5", "stagerun-hooks.5",
                                  "stagerun-store.5"])
def test_the_manual_is_well_formed(page):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", MAN / page], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_make_install_puts_everything_in_its_place(tmp_path, plain_build):
    subprocess.run(["make", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=CHECKOUT, check=True,
                   stdout=subprocess.DEVNULL)
    installed = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert installed == {"usr/bin/stagerun", "usr/share/doc/stagerun/agent.ini.example",
                         "usr/share/man/man1/stagerun.1", "usr/share/man/man5/stagerun-agent.ini.5", "usr/share/man/man5/stagerun-config.yml.5",
                         "usr/share/man/man5/stagerun-hooks.5", "usr/share/man/man5/stagerun-store.5"}


def test_the_config_of_the_readme_is_a_plan(stagerun, server, tmp_path):
    text = re.search(r"```yaml\n(.*?)```", README, re.S)[1]
    for name in ("/cifar5.zip", "/labels.csv.gz"):
        server.put(name, b"x")
    text = text.replace("https://host", server.url("").rstrip("/")).replace("/tmp/scratch",
                                                                         f"{tmp_path}/scratch")
    text = re.sub(r', sha256: "[^"]*"', "", text)
    result = stagerun.run("run", "--dry-run", "--config", stagerun.config(text), "--", "true").ok()
    assert "cifar5.zip" in result.out and "labels.csv.gz" in result.out


def test_every_file_and_function_that_the_architecture_names_exists():
    text = (CHECKOUT / "ARCHITECTURE.md").read_text()
    sources = [p for room in ("agent", "hooks", "include", "tests") for p in (CHECKOUT / room).rglob("*.[chp]*")]
    names = {p.name for p in sources}
    words = {word for p in sources if p.suffix in (".c", ".h") for word in re.findall(r"\w+", p.read_text())}
    files = set(re.findall(r"`(?:[a-z_0-9/]+/)?([a-z_0-9]+\.(?:c|h|py))`", text))
    functions = set(re.findall(r"`([a-z_0-9]+)\(\)`", text))
    assert len(files) > 50 and len(functions) > 25
    assert files <= names, files - names
    assert functions <= words, functions - words
