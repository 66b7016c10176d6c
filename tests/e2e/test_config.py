# SPDX-License-Identifier: MIT
"""agent.ini, the environment, config.yml and options: what they say is done, what they cannot mean is
named with its file and line."""

import hashlib

import pytest
from archives import file, noise, tar
from faultserver import status

ARCHIVE = tar(file("a"))


def actions(*items, point="on_experiment_start"):
    lines = "\n".join(f"        - {item}" for item in items)
    return f"compute:\n  train:\n    actions:\n      {point}:\n{lines}\n"


# --- config.yml ---

@pytest.mark.parametrize("text, line, says", [
    ("compute:\n  train: {}\n b: 1\n", 3, ""),
    ("compute:\n\ttrain: 1\n", 2, "tab"),
    ("compute:\n  train: {a: 1\n", 3, ""),
    ("compute:\n  train:\n    actions:\n      on_experiment_start: {a: b}\n", 4,
     "on_experiment_start.*list"),
    ("compute:\n  train:\n    environment: [1]\n", 3, "environment"),
    ("compute:\n  train:\n    framework: a\n    framework: b\n", 4, "framework"),
    (actions("stage: {to: /tmp/x}"), 5, "source"),
    (actions("stage: {source: /tmp/x}"), 5, r"\bto\b"),
    (actions("stage: {source: /x, to: /y, sha265: abc}"), 5, "sha265.*sha256"),
    (actions("stage: {source: /x, to: /y, sha256: abc}"), 5, "sha256"),
    (actions("stage: {source: 'gopher://x', to: /y}"), 5, "gopher"),
    (actions("{run: 'true', timeout: soon}"), 5, "timeout"),
    (actions("{run: 'true', stage: {}}"), 5, "run.*stage|stage.*run"),
], ids=lambda v: repr(v)[:40])
def test_a_mistake_in_config_yml_is_named_with_file_and_line(stagerun, text, line, says):
    path = stagerun.config(text)
    stagerun.run("run", "--config", path, "--", "touch", "ran").failed(
        125, rf"config\.yml:{line}\b", says)
    assert not (stagerun.cwd / "ran").exists()


def test_an_unknown_key_is_a_warning_with_the_nearest_known_one(stagerun):
    path = stagerun.config("compute:\n  train:\n    enviroment: {A: 1}\n")
    result = stagerun.run("run", "--config", path, "--", "true").ok()
    assert "config.yml:3" in result.err and "environment" in result.err


def test_keys_of_grid_that_mean_nothing_here_are_no_warning(stagerun):
    path = stagerun.config("compute:\n  provider: {cluster: prod-2}\n  train:\n"
                           "    framework: lightning\n    instance: m5a.large\n"
                           "    use_spot: False\n    storage_gb: 100\n    datastore_name: null\n")
    assert "config.yml" not in stagerun.run("run", "--config", path, "--", "true").ok().err


def test_aliases_cannot_explode(stagerun):
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    path = stagerun.config(laughs)
    result = stagerun.run("run", "--config", path, "--", "true").failed(125, r"config\.yml:\d")
    assert result.rss < 400 << 20


def test_a_missing_config_is_named(stagerun):
    stagerun.run("run", "--config", "/not/here.yml", "--", "true").failed(125, "/not/here.yml")


def test_the_environment_can_name_the_config(stagerun):
    path = stagerun.config("compute: {train: {environment: {GREETING: hello}}}\n")
    result = stagerun.run("run", "--", "sh", "-c", "echo $GREETING",
                          env={"STAGERUN_CONFIG": str(path)}).ok()
    assert result.out == "hello\n"


def test_environment_reaches_actions_and_the_command(stagerun):
    path = stagerun.config("compute:\n  train:\n    environment: {GREETING: 'hello $X'}\n"
                           "    actions: {on_experiment_start: ['echo action $GREETING']}\n")
    result = stagerun.run("run", "--config", path, "--", "sh", "-c", "echo command $GREETING").ok()
    assert result.out == "action hello $X\ncommand hello $X\n"


def test_a_bare_string_under_environment_is_a_variable(stagerun):
    path = stagerun.config("compute:\n  train:\n    environment: GREETING=hello\n")
    assert stagerun.run("run", "--config", path, "--", "sh", "-c", "echo $GREETING").ok().out == \
        "hello\n"


def test_hyper_parameters_are_appended_to_the_command(stagerun):
    path = stagerun.config("hyper_params:\n  params: {--foo: 1, --bar: 'two words', --flag: true}\n")
    result = stagerun.run("run", "--config", path, "--", "printf", "[%s]", "x").ok()
    assert result.out == "[x][--foo][1][--bar][two words][--flag][true]"


@pytest.mark.parametrize("point", ["on_experiment_start", "on_before_training_start"])
def test_both_generations_of_action_names_run(stagerun, point):
    path = stagerun.config(actions("echo acted", point=point))
    assert stagerun.run("run", "--config", path, "--", "true").ok().out == "acted\n"


@pytest.mark.parametrize("point", ["on_experiment_end", "on_after_training_end"])
def test_both_generations_of_end_action_names_run(stagerun, point):
    path = stagerun.config(actions("echo acted", point=point))
    assert stagerun.run("run", "--config", path, "--", "echo", "ran").ok().out == "ran\nacted\n"


def test_build_actions_are_named_and_not_run(stagerun):
    path = stagerun.config(actions("echo built", point="on_build"))
    result = stagerun.run("run", "--config", path, "--", "true").ok()
    assert result.out == "" and "on_build" in result.err


@pytest.mark.parametrize("text", [
    "compute: {train: {datastore_name: cats}}\n",
    "compute: {train: {datastores: [{name: cats}]}}\n",
    actions("stage: {datastore: 'cats:1', to: /tmp/x}"),
], ids=["datastore_name", "datastores", "a stage action"])
def test_a_datastore_must_be_in_the_store(stagerun, text):
    stagerun.run("run", "--config", stagerun.config(text), "--", "touch", "ran").failed(
        125, "cats", "store")
    assert not (stagerun.cwd / "ran").exists()


@pytest.mark.parametrize("scratch", ["{{size_gb: 0.001, mount_path: '{}'}}",
                                     "{{size_gb: 0.001, mount_path: '{}/'}}",
                                     "[{{size_gb: 0.001, mount_path: '{}'}}]"],
                         ids=["map", "with a slash", "list of maps"])
def test_the_size_of_scratch_limits_what_is_staged_there(stagerun, server, dest, scratch):
    served = server.put("/x.tar", tar(file("a", noise(2_000_000))))
    path = stagerun.config(f"compute:\n  train:\n    scratch: {scratch.format(dest)}\n"
                           "    actions:\n      on_experiment_start:\n"
                           f"        - stage: {{source: '{served.url}', to: '{dest}/data'}}\n")
    stagerun.run("run", "--config", path, "--", "true").failed(125, "size_gb", "config.yml")


def test_the_size_of_scratch_limits_later_stage_items_too(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", noise(2_000_000))))
    path = stagerun.config("compute:\n  train:\n"
                           f"    scratch: {{size_gb: 0.001, mount_path: '{dest.parent}'}}\n"
                           "    actions:\n      on_experiment_start:\n        - 'true'\n"
                           f"        - stage: {{source: '{served.url}', to: '{dest}'}}\n")
    stagerun.run("run", "--config", path, "--", "true").failed(125, "size_gb", "config.yml:3")
    assert not dest.exists()


def test_destinations_in_one_another_are_refused_before_anything(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a")))
    result = stagerun.run("run", "--dry-run", "--stage", f"{served.url}={dest}", "--stage",
                          f"{served.url}={dest}/below", "--", "true")
    result.failed(125, "lies inside the other")
    assert not served.requests
    assert not (dest / "data").exists()


def test_variables_are_expanded_in_sources_and_destinations(stagerun, server, dest):
    served = server.put("/x.tar", ARCHIVE)
    path = stagerun.config(actions("stage: {source: '${BASE}/x.tar', to: '${DEST}'}"))
    stagerun.run("run", "--config", path, "--", "true",
                 env={"BASE": server.url(""), "DEST": str(dest)}).ok()
    assert (dest / "a").exists() and served.requests


def test_an_undefined_variable_is_an_error_with_its_line(stagerun):
    path = stagerun.config(actions("stage: {source: '${UNSET}/x.tar', to: /tmp/x}"))
    stagerun.run("run", "--config", path, "--", "true").failed(125, "UNSET", r"config\.yml:5")


def test_every_key_of_a_stage_action_is_done(stagerun, server, dest):
    archive = tar(file("top/a.png"), file("top/b.png"), file("top/c.txt"))
    served = server.put("/x.tar", archive)
    path = stagerun.config(actions(
        f"stage: {{source: '{served.url}', to: '{dest}', include: ['*.png'], exclude: 'b.*', "
        f"strip_components: 1, sha256: {hashlib.sha256(archive).hexdigest()}}}",
        f"stage: {{source: '{served.url}', to: '{dest}-raw', extract: false}}"))
    stagerun.run("run", "--config", path, "--", "ls", dest, f"{dest}-raw").ok()
    assert [p.name for p in dest.iterdir()] == ["a.png"]
    assert (dest.parent / "dest-raw/x.tar").read_bytes() == archive


# --- agent.ini ---

def test_an_unknown_key_in_agent_ini_is_a_warning_with_the_nearest_known_one(stagerun, dest):
    stagerun.configure(network={"retrys": 3})
    line = stagerun.ini.read_text().splitlines().index("retrys = 3") + 1
    path = stagerun.directory / "x.tar"
    path.write_bytes(ARCHIVE)
    result = stagerun.fetch(path, dest).ok()
    assert f"agent.ini:{line}" in result.err and "retries" in result.err


@pytest.mark.parametrize("section, key, value", [
    ("network", "retries", "many"), ("network", "stall_timeout", "-3"),
    ("agent", "memory_budget", "12 parsecs"), ("agent", "log_level", "loud")])
def test_a_wrong_value_in_agent_ini_is_an_error_with_its_line(stagerun, dest, section, key, value):
    stagerun.configure(**{section: {key: value}})
    line = stagerun.ini.read_text().splitlines().index(f"{key} = {value}") + 1
    stagerun.fetch("/not/here", dest).failed(1, rf"agent\.ini:{line}\b", key)


def test_a_missing_agent_ini_that_was_asked_for_is_named(stagerun):
    stagerun.run("run", "--agent-config", "/not/here.ini", "--", "true").failed(
        125, "/not/here.ini")


def test_long_lines_in_agent_ini_work(stagerun, server, dest):
    token = "t" * 600
    stagerun.configure(network={"headers": f"{server.url('/')} Authorization: Bearer {token}"})
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest).ok()
    assert served.requests[0].headers["authorization"] == f"Bearer {token}"


def attempts(stagerun, server, dest, **how):
    """How many requests a server gets that always answers 503: 1 + network.retries."""
    served = server.put(f"/{len(server.log)}.tar", ARCHIVE, status(503, times=None))
    stagerun.fetch(served.url, dest, **how).failed(1, "503")
    return len(served.requests)


def test_the_environment_goes_before_agent_ini(stagerun, server, dest):
    stagerun.configure(network={"retries": 1})
    assert attempts(stagerun, server, dest) == 2
    assert attempts(stagerun, server, dest, env={"STAGERUN_NETWORK_RETRIES": "2"}) == 3


def test_a_locked_setting_cannot_be_changed(stagerun, server, dest):
    stagerun.configure(network={"retries": 1}, agent={"lock": "network.retries"})
    served = server.put("/x.tar", ARCHIVE)
    stagerun.fetch(served.url, dest, env={"STAGERUN_NETWORK_RETRIES": "2"}).failed(
        1, r"network\.retries|STAGERUN_NETWORK_RETRIES", "lock", r"agent\.ini")
    assert served.requests == []


# --- the command line ---

@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["prewarm", "--help"],
                                  ["fetch", "--help"]], ids=" ".join)
def test_help_goes_to_stdout(stagerun, args):
    result = stagerun.run(*args).ok()
    assert "stagerun" in result.out and result.err == ""


def test_the_version_goes_to_stdout(stagerun):
    assert stagerun.run("--version").ok().out.startswith("stagerun ")


@pytest.mark.parametrize("args, code, says", [
    ([], 2, "run"),
    (["fecth"], 2, "fecth"),
    (["fetch"], 2, "SOURCE"),
    (["fetch", "/x"], 2, "DIR"),
    (["fetch", "--sha", "x", "/x", "/y"], 2, "--sha"),
    (["fetch", "--sha256", "abc", "/x", "/y"], 2, "sha256"),
    (["fetch", "--strip-components", "-1", "/x", "/y"], 2, "strip-components"),
    (["prewarm", "--stage", "http://host/x"], 2, "SOURCE=DIR|--stage"),
    (["run"], 125, "COMMAND|command"),
    (["run", "--no-such-option", "--", "true"], 125, "--no-such-option"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_a_wrong_command_line_is_a_usage_error(stagerun, args, code, says):
    stagerun.run(*args).failed(code, says)


def test_options_end_at_the_first_word_that_is_none(stagerun):
    result = stagerun.run("run", "echo", "--verbose", "--help").ok()
    assert result.out == "--verbose --help\n"


def test_options_take_their_value_after_an_equals_sign(stagerun):
    path = stagerun.config("compute: {train: {environment: {A: b}}}\n")
    assert stagerun.run("run", f"--config={path}", "--", "sh", "-c", "echo $A").ok().out == "b\n"


def test_the_first_of_many_options_counts_as_the_last_does(stagerun, tmp_path):
    words = ["--store", f"file://{tmp_path}/store", *["--verbose"] * 40]
    assert stagerun.run("datastore", "list", *words).ok().err.count(f"there are no datastores in file://{tmp_path}/store") == 1


@pytest.mark.parametrize("value", ["9\n", " 9", "9\r\n"])
def test_blanks_around_a_variable_are_cut_with_a_warning_that_names_it(stagerun, value):
    run = stagerun.run("run", "--dry-run", "true", env={"STAGERUN_NETWORK_RETRIES": value}).ok()
    assert "env STAGERUN_NETWORK_RETRIES: blanks or line ends around its value are cut off" in run.err, str(run)
    assert "network.retries 9 env STAGERUN_NETWORK_RETRIES" in " ".join(run.out.split()), str(run)


@pytest.mark.parametrize("name", ["STAGERUN_STORE", "STAGERUN_CONFIG", "STAGERUN_AGENT_CONFIG", "STAGERUN_S3_REGION"])
def test_a_control_character_within_a_variable_is_an_error(stagerun, name):
    stagerun.run("run", "true", env={name: "/a\nb"}).failed(
        125, f"env {name}: byte 3 of its value is a control character .0x0a.")


def test_a_config_and_settings_whose_names_end_with_a_line_are_found(stagerun):
    config = stagerun.config("compute:\n  train:\n    environment: {WORD: found}\n")
    run = stagerun.run("run", "--", "sh", "-c", "echo $WORD", env={"STAGERUN_CONFIG": f"{config}\n"}).ok()
    assert run.out == "found\n"
    assert "env STAGERUN_CONFIG: blanks" in run.err, str(run)


def test_lists_in_a_variable_are_one_item_a_line(stagerun):
    run = stagerun.run("run", "--dry-run", "true", env={
        "STAGERUN_NETWORK_HEADERS": "https://a/ X: 1\nhttps://b/ Y: 2\n"}).ok()
    assert "https://a/ X: ***" in run.out and "https://b/ Y: ***" in run.out, str(run)
