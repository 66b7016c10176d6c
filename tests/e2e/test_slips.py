# SPDX-License-Identifier: MIT
"""Slips of the hand: what looks as if it worked, and is not what was meant, is told."""

import http.server
import re
import threading

import pytest

from agent import CHECKOUT
from archives import file, tar


def test_an_empty_directory_as_of_an_unset_variable_is_refused(stagerun, server, place):
    served = server.put("/x.tar", tar(file("a")))
    stagerun.fetch(served.url, "").failed(1, "directory to stage into is empty")
    assert not served.requests


def test_a_tilde_is_not_taken_for_a_name(stagerun, server, place):
    served = server.put("/x.tar", tar(file("a")))
    stagerun.fetch(served.url, "~/x").failed(1, r"'~' is not expanded", "HOME")
    assert not (stagerun.cwd / "~").exists()


@pytest.mark.parametrize("option", [["--include", "nothing/**"], ["--strip-components", "9"],
                                    ["--exclude", "*"]])
def test_a_selection_of_nothing_is_a_failure(stagerun, server, dest, place, option):
    served = server.put("/x.tar", tar(file("top/a")))
    stagerun.run("fetch", *option, served.url, dest).failed(1, r"nothing in .*/x\.tar is left by include")
    place.assert_nothing_published()


def test_a_page_with_the_name_of_an_archive_is_an_error(stagerun, server, dest, place):
    served = server.put("/x.zip", b"<html>log in first</html>")
    stagerun.fetch(served.url, dest).failed(1, r"x\.zip: a name with '\.zip' promises an archive.* an HTML page")
    place.assert_nothing_published()


def test_options_after_the_source_are_told_to_go_before_it(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    stagerun.run("fetch", served.url, dest, "--replace").failed(2, "options go before SOURCE")


def test_a_late_stage_item_that_fails_is_told_once(stagerun, dest, tmp_path):
    config = tmp_path / "late.yml"
    config.write_text("compute: {train: {actions: {on_experiment_start: [\"true\", "
                      f"{{stage: {{source: '{tmp_path}/not-there.tar', to: '{dest}'}}}}]}}}}}}\n")
    result = stagerun.run("run", "--config", config, "--", "true").failed(125, r"action 2 .*not-there\.tar")
    assert len([line for line in result.err.splitlines() if "error" in line]) == 1


def test_a_dry_run_refuses_what_the_run_would_refuse(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    words = ["--stage", f"{served.url}={dest}", "--stage", f"{served.url}={dest}/inside", "--", "true"]
    for command in (["run"], ["run", "--dry-run"]):
        stagerun.run(*command, *words).failed(125, "one lies inside the other")


def test_the_readmes_example_is_understood(stagerun, tmp_path):
    """Only its sources are elsewhere."""
    example = re.search(r"```yaml\n(compute:.*?)```", (CHECKOUT / "README.md").read_text(), re.S)[1]
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar(file("a")))
    example = re.sub(r'"https://[^"]*"', f'"{archive}"', example).replace("/tmp/scratch", f"{tmp_path}/scratch")
    example = example.replace("/datastores", f"{tmp_path}/datastores")
    example = re.sub(r', sha256: "[^"]*"', "", example)
    config = tmp_path / "config.yml"
    config.write_text(example)
    result = stagerun.run("run", "--dry-run", "--config", config, "--", "true").ok()
    assert "warning" not in result.err
    assert "true --lr 0.1" in result.out


def test_a_dry_run_tells_the_options_of_a_stage_and_the_lines_of_values(stagerun, server, dest, tmp_path):
    served = server.put("/x.tar", tar(file("a")))
    config = tmp_path / "config.yml"
    config.write_text("compute:\n train:\n  environment:\n   NAME: value\n  actions:\n   on_experiment_start:\n"
                      f"    - stage: {{source: '{served.url}', to: '{dest}', include: 'a*', strip_components: 1}}\n")
    out = stagerun.run("run", "--dry-run", "--config", config, "--", "true").ok().out
    assert re.search(r"NAME=value +\(.*config\.yml:4\)", out)
    assert re.search(r"config\.yml:7\)\n +include a\*\n +strip_components 1\n", out)


def config(tmp_path, *lines):
    path = tmp_path / "config.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


MISSPELT = ["compute:", "  train:", "    actions:", "      on_experiment_begin: ['touch done']"]


def test_an_unknown_key_says_what_will_not_happen(stagerun, tmp_path):
    path = config(tmp_path, *MISSPELT)
    result = stagerun.run("run", "--config", path, "true").ok()
    assert "warning:" in result.err and "is ignored, so its actions are not run; did you mean" in result.err


@pytest.mark.parametrize("strictly", ["option", "setting"])
@pytest.mark.parametrize("lines", [MISSPELT, ["computer: {}"], ["actions: {on_build: ['true']}"]])
def test_an_unknown_key_is_an_error_when_it_shall_be(stagerun, tmp_path, strictly, lines):
    path = config(tmp_path, *lines)
    if strictly == "setting":
        stagerun.configure(agent={"strict": "yes"})
    options = ["--strict"] if strictly == "option" else []
    stagerun.run("run", *options, "--config", path, "touch", "ran").failed(125, r"config\.yml:\d+:\d+: ")
    assert not (stagerun.cwd / "ran").exists()


def test_a_variable_without_braces_is_expanded_in_to(stagerun, tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(file("a")))
    item = f"- stage: {{source: {tmp_path}/x.tar, to: $HOME/data}}"
    path = config(tmp_path, "compute:", " train:", "  actions:", "   on_experiment_start:", f"   {item}")
    stagerun.run("run", "--config", path, "true").ok()
    assert (stagerun.home / "data/a").exists()
    del stagerun.env["HOME"]
    stagerun.run("run", "--config", path, "true").failed(
        125, r"config\.yml:5: \$\{HOME\}: the environment has no HOME; set it for the container, or under environment")


@pytest.fixture
def plain_port():
    """Of a server that answers a TLS handshake as it does any other nonsense: with 400, in plain text."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_https_to_a_port_without_tls_fails_at_once_and_says_so(stagerun, plain_port, dest):
    stagerun.configure(network={"patience": "10s"})
    result = stagerun.fetch(f"https://127.0.0.1:{plain_port}/x.tar", dest)
    result.failed(1, "error: .*the server does not speak TLS at this port: check the port, or write http://")
    assert result.seconds < 5 and "attempt" not in result.err, str(result)


@pytest.mark.parametrize("name, says", [
    ("cats:latest", "a version is a number, such as cats:3; the newest is what cats alone means"),
    ("cats:v1", "a version is a plain number: write cats:1")])
def test_a_version_as_other_tools_write_it_is_told_how(stagerun, store, dest, tmp_path, name, says):
    stagerun.run("run", "--datastore", f"{name}={dest}", "true").failed(125, says)
    stagerun.run("run", "--stage", f"datastore:{name}={dest}", "true").failed(125, says)
    stagerun.run("fetch", f"datastore:{name}", dest).failed(2, says)
    stagerun.run("datastore", "get", name, dest).failed(2, says)
    item = f"- stage: {{datastore: '{name}', to: {dest}}}"
    path = config(tmp_path, "compute:", " train:", "  actions:", "   on_experiment_start:", f"   {item}")
    stagerun.run("run", "--config", path, "true").failed(125, rf"config\.yml:5:\d+: .*{says}")


def test_a_store_whose_directory_is_not_there_is_told(stagerun, store, dest):
    says = f"the directory of the store file://{store} does not exist; is it mounted here"
    stagerun.run("fetch", "datastore:cats", dest).failed(1, f"there is no datastore 'cats': {says}")
    stagerun.run("run", "--datastore", f"cats={dest}", "true").failed(125, says)
    assert "its directory does not exist; is it mounted here?" in stagerun.run("datastore", "list").ok().err
    store.mkdir()
    stagerun.run("fetch", "datastore:cats", dest).failed(1, "which has none: create one")


@pytest.mark.parametrize("kind", ["tar", "datastore"])
def test_a_selection_of_nothing_shows_names_that_are_there(stagerun, store, dest, tmp_path, kind):
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    for i in range(5):
        (root / f"train/{i}.csv").write_text("x")
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar(*(file(f"train/{i}.csv") for i in range(5))))
    if kind == "datastore":
        stagerun.run("datastore", "create", root, "--name", "cats").ok()
    source = archive if kind == "tar" else "datastore:cats"
    stagerun.run("fetch", "--include", "*.parquet", source, dest).failed(
        1, r"is left by include, exclude and strip_components: there are '(train/)?\S+', .*'train/\d\.csv', \.\.\.; globs")
