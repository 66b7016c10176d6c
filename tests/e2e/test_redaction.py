# SPDX-License-Identifier: MIT
"""Values of variables whose names look secret are hidden in every line of the agent's own."""

import json
import os
import pty

import pytest
from archives import file, tar
from faultserver import rate, redirect
from processes import read_terminal

SECRET = "hunter-of-tokens"


def run(stagerun, *items, options=(), command=("true",), environment="", **how):
    lines = "\n".join(f"        - {item}" for item in items)
    actions = f"    actions:\n      on_experiment_start:\n{lines}\n" if items else ""
    config = stagerun.config(f"compute:\n  train:\n    environment: {{{environment}}}\n{actions}")
    how.setdefault("env", {"MY_TOKEN": SECRET})
    return stagerun.run("run", *options, "--config", config, "--", *command, **how)


def assert_hidden(result, secret=SECRET):
    assert secret not in result.err and "***" in result.err, str(result)


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_inherited_secret_is_hidden_in_log_lines(stagerun, server, dest, form):
    result = run(stagerun, options=["--log-format", form, "--stage",
                                    f"{server.url('/' + SECRET + '/gone')}={dest}"])
    assert_hidden(result.failed(125, "404"))


def test_a_secret_of_config_yml_is_hidden(stagerun):
    assert_hidden(run(stagerun, f"test {SECRET} = no", environment=f"db_password: {SECRET}",
                      env={}).failed(125))


def test_a_secret_that_an_action_sets_is_hidden_from_then_on(stagerun):
    stagerun.configure(actions={"prefix_output": "yes"})
    result = run(stagerun, "printf 'LATE_KEY=hunter-%s\\n' of-tokens >> $STAGERUN_ENV",
                 "echo now $LATE_KEY and then", env={}).ok()
    assert "[on_experiment_start 2] now *** and then\n" in result.err, str(result)


def test_names_of_the_operators_choice_are_hidden_too(stagerun):
    stagerun.configure(agent={"secret_names": "*_PIN"})
    assert_hidden(run(stagerun, f"test {SECRET} = no", env={"CARD_PIN": SECRET}).failed(125))


def test_the_termination_message_hides_secrets(stagerun):
    path = stagerun.directory / "termination-log"
    run(stagerun, command=[f"/no/{SECRET}"],
        env={"MY_TOKEN": SECRET, "STAGERUN_TERMINATION_LOG": str(path)}).failed(127)
    said = json.loads(path.read_text())
    assert SECRET not in path.read_text()
    assert said["item"] == "/no/***" and "'/no/***'" in said["message"]


def test_a_dry_run_hides_secrets(stagerun):
    result = run(stagerun, f"curl -u 'me:{SECRET}' https://host/",
                 options=["--dry-run"], command=["train", f"--token={SECRET}"]).ok()
    assert SECRET not in result.out + result.err, str(result)
    assert "--token=***" in result.out and "-u 'me:***'" in result.out, str(result)


def test_wrong_usage_hides_secrets(stagerun):
    assert_hidden(stagerun.run("run", f"--{SECRET}", "--", "true",
                               env={"MY_TOKEN": SECRET}).failed(125))


def test_a_cut_line_does_not_show_half_of_a_secret(stagerun):
    script = "echo " + "x" * 60 + SECRET
    result = run(stagerun, f"{script} >/dev/null; exit 3").failed(125)
    assert "hunter" not in result.err, str(result)


def test_a_cut_address_does_not_show_half_of_a_secret(stagerun, server, dest):
    path = stagerun.directory / "termination-log"
    url = server.url("/" + "x" * (248 - len(server.url("/"))) + SECRET)
    run(stagerun, options=["--stage", f"{url}={dest}"],
        env={"MY_TOKEN": SECRET, "STAGERUN_TERMINATION_LOG": str(path)}).failed(125, "404")
    said = json.loads(path.read_text())
    assert "xxx" in said["item"] and "hunter" not in path.read_text(), str(said)


def test_a_short_value_does_not_blank_out_words(stagerun):
    result = run(stagerun, "exit 3", env={"MY_TOKEN": "exit"}).failed(125)
    assert "exit 3" in result.err, str(result)


@pytest.mark.parametrize("name, value", [
    ("MY_TOKEN_FILE", "hub-tokens"), ("MY_KEY_PATH", "some/hub-tokens"), ("SECRETS_DIR", "hub-tokens"),
    ("MY_TOKEN", "/run/hub-tokens"), ("my_password", "/etc/hub-tokens/x")])
@pytest.mark.parametrize("how", ["inherited", "of config.yml"])
def test_a_path_is_no_secret(stagerun, name, value, how):
    inherited = how == "inherited"
    result = run(stagerun, f"test {value} = no", env={name: value} if inherited else {},
                 environment="" if inherited else f"{name}: {value}").failed(125)
    assert f"test {value} = no" in result.err and "***" not in result.err, str(result)


def test_a_path_is_hidden_when_the_operator_says_so(stagerun):
    stagerun.configure(agent={"secret_names": "*_FILE"})
    assert_hidden(run(stagerun, f"test /x/{SECRET} = no", env={"MY_TOKEN_FILE": f"/x/{SECRET}"}).failed(125))


@pytest.mark.parametrize("secret", ["/wJalrXUtnFEMI7K7MDENG", "/bPxRfi/CYEXAMPLEkey0aZ9q", "/hun+ter=of/tokens"])
def test_a_key_that_begins_like_a_path_is_hidden(stagerun, secret):
    assert_hidden(run(stagerun, f"test {secret} = no", env={"MY_TOKEN": secret}).failed(125), secret)


def test_what_the_command_prints_is_its_own(stagerun):
    result = run(stagerun, command=["sh", "-c", "echo $MY_TOKEN; echo $MY_TOKEN >&2"]).ok()
    assert result.out == f"{SECRET}\n" and SECRET in result.err, str(result)


def test_an_action_whose_output_passes_as_it_comes_is_not_touched(stagerun):
    assert SECRET in run(stagerun, "echo $MY_TOKEN").ok().out


def test_the_live_display_hides_secrets(stagerun, server, dest):
    served = server.put(f"/{SECRET}.tar", tar(file("a", bytes(400_000))), rate(800_000))
    ours, theirs = pty.openpty()
    running = stagerun.start("fetch", served.url, dest, stderr=theirs,
                             env={"MY_TOKEN": SECRET, "TERM": "xterm"})
    os.close(theirs)
    seen = read_terminal(ours)
    running.wait().ok()
    assert b"***.tar" in seen and b"%" in seen
    assert SECRET.encode() not in seen


# --- what URLs hold: user and password, queries ---

CANARY = "c4nary-of-the-mine"
DECODED = "c4nary%2Dof%2Dthe%2Dmine"
NOBODY = "127.0.0.1:9"  # refuses connections
S3_KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
           "AWS_REGION": "us-east-1"}
NO_KEYS = {"AWS_REGION": "us-east-1"}
URLS = {
    "a source's user": (f"http://cat:{CANARY}@{NOBODY}/x.tar", {}),
    "a source's query": (f"http://{NOBODY}/x.tar?token={CANARY}#{CANARY}", {}),
    "a malformed source": (f"http://cat:{CANARY}@{NOBODY}:port/x y?token={CANARY}", {}),
    **{f"a source that is nearly a URL ({url})": (url, {})
       for url in (f"http:/cat:{CANARY}@{NOBODY}/x.tar", f"//cat:{CANARY}@{NOBODY}/x.tar",
                   f"https:cat:{CANARY}@{NOBODY}/x.tar", f"http//cat:{CANARY}@{NOBODY}/x.tar",
                   f"http:///cat:{CANARY}@{NOBODY}/x.tar", f"HTTP;//cat:{CANARY}@{NOBODY}/x.tar",
                   f"cat:{CANARY}@{NOBODY}/x.tar", f" http://cat:{CANARY}@{NOBODY}/x.tar",
                   f"//{CANARY}@{NOBODY}/x.tar", f"http:/{NOBODY}/x.tar?token={CANARY}",
                   f"s3:/AKIDEXAMPLE:{CANARY}@bucket/x.tar", f"http:\\\\cat:{CANARY}@{NOBODY}/x.tar")},
    **{f"a password with {c}": (f"http://cat:pw{c}{CANARY}@{NOBODY}/x.tar", {}) for c in "/?#"},
    "a source of an unknown scheme": (f"ftp://cat:{CANARY}@host/x?token={CANARY}", {}),
    "a file's host": (f"file://cat:{CANARY}@host/x?token={CANARY}", {}),
    "a bucket's user": (f"s3://AKIDEXAMPLE:{CANARY}@bucket/x.tar", S3_KEYS),
    **{f"a proxy ({name}={proxy})": ("https://host.invalid/x.tar", {name: proxy})
       for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
       for proxy in (f"htp://corp:{CANARY}@proxy:3128", f"http://corp:{CANARY}@proxy:99999",
                     f"corp:{CANARY}@{NOBODY}", f"http://{CANARY}@{NOBODY}",
                     f"htp://corp:{DECODED}@proxy:3128", "htp://c:4@proxy:3128")},
    "a proxy of http": ("http://host.invalid/x.tar",
                        {"http_proxy": f"htp://corp:{CANARY}@proxy:3128"}),
    **{f"an endpoint ({name}={url})": ("s3://bucket/x.tar", {**S3_KEYS, name: url})
       for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
       for url in (f"http://cat:{CANARY}@{NOBODY}", f"http://{NOBODY}?token={CANARY}",
                   f"cat:{CANARY}@{NOBODY}", f"ftp://cat:{CANARY}@{NOBODY}")},
    "the container's credentials": ("s3://bucket/x.tar", {
        **NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI":
        f"http://cat:{CANARY}@{NOBODY}/?token={CANARY}"}),
    "credentials of a far container": ("s3://bucket/x.tar", {
        **NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI":
        f"http://cat:{CANARY}@example.com/?token={CANARY}"}),
    "the instance's credentials": ("s3://bucket/x.tar", {
        **NO_KEYS, "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://cat:{CANARY}@{NOBODY}"}),
    "the endpoint of STS": ("s3://bucket/x.tar", {
        **NO_KEYS, "AWS_ENDPOINT_URL_STS": f"http://cat:{CANARY}@{NOBODY}",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/etc/hostname"}),
}


def assert_nowhere(stagerun, result, secret=CANARY):
    assert secret not in result.out + result.err, str(result)
    for path in stagerun.directory.rglob("*"):
        if path.is_file() and path.suffix not in (".out", ".err", ".ini", ".yml"):
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("what", URLS)
def test_a_failure_shows_nothing_of_a_urls_secrets(stagerun, dest, what):
    url, env = URLS[what]
    stagerun.configure(network={"retries": 0}, agent={"log_level": "debug"})
    path = stagerun.directory / "termination-log"
    env = {**env, "STAGERUN_TERMINATION_LOG": str(path)}
    result = stagerun.run("run", "--stage", f"{url}={dest}", "--", "true", env=env)
    assert result.code == 125 and json.loads(path.read_text())["message"], str(result)
    assert_nowhere(stagerun, result)
    assert "c:4@" not in result.err + path.read_text()


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("what", URLS)
def test_a_dry_run_shows_nothing_of_a_urls_secrets(stagerun, dest, what, form):
    url, env = URLS[what]
    result = stagerun.run("run", "--dry-run", *form, "--stage", f"{url}={dest}", "--", "true",
                          env=env)
    assert_nowhere(stagerun, result)


@pytest.mark.parametrize("url", [f"http://cat:{CANARY}@{NOBODY}?token={CANARY}",
                                 f"cat:{CANARY}@{NOBODY}"])
def test_a_configured_endpoint_shows_nothing_of_its_secrets(stagerun, dest, url):
    stagerun.configure(s3={"endpoint": url}, network={"retries": 0}, agent={"log_level": "debug"})
    for options in (["run"], ["run", "--dry-run"], ["run", "--dry-run", "--json"]):
        assert_nowhere(stagerun, stagerun.run(*options, "--stage", f"s3://bucket/x={dest}", "--",
                                              "true", env=S3_KEYS))


@pytest.mark.parametrize("url", [f"ftp://cat:{CANARY}@host/s?token={CANARY}",
                                 f"file://cat:{CANARY}@host/s", f"s3://AKID:{CANARY}@bucket/s"])
def test_a_store_shows_nothing_of_its_secrets(stagerun, url):
    for command in (["list"], ["get", "cats", "there"], ["delete", "cats"]):
        assert_nowhere(stagerun, stagerun.run("datastore", *command, "--store", url))
    stagerun.configure(store={"url": url})
    assert_nowhere(stagerun, stagerun.run("datastore", "list").failed(2))


@pytest.mark.parametrize("location", [
    f"http://cat:{CANARY}@{NOBODY}/x?sig={CANARY}", f"http://cat:{CANARY}@:x/?sig={CANARY}",
    f"ftp://cat:{CANARY}@host/?sig={CANARY}", f"/gone?sig={CANARY}", f"/x.tar?sig={CANARY}"])
def test_a_redirect_shows_nothing_of_its_targets_secrets(stagerun, server, dest, location):
    stagerun.configure(network={"retries": 0}, agent={"log_level": "debug"})
    served = server.put("/x.tar", b"", redirect(location))
    assert_nowhere(stagerun, stagerun.fetch(served.url, dest).failed(1))


def test_an_object_behind_a_redirect_shows_nothing_of_its_secrets(stagerun, server, dest):
    stagerun.configure(agent={"log_level": "debug"})
    server.put("/there", tar(file("a", b"x")))
    served = server.put("/x.tar", b"", redirect(f"/there?sig={CANARY}"))
    assert_nowhere(stagerun, stagerun.fetch(served.url, dest).ok())
    assert not [p for p in dest.parent.rglob("*") if p.is_file() and CANARY in
                p.read_text(errors="replace")]


def test_the_agents_own_words_stay_where_machines_look_for_them(stagerun, server, tmp_path):
    """Whatever is secret: its values are hidden, not what they stand in."""
    path = stagerun.directory / "termination-log"
    secrets = {"SSH_KEY_KIND": "config", "A_KEY": "start_failed", "B_KEY": "staged", "C_KEY": "stage_done",
               "STAGERUN_TERMINATION_LOG": str(path)}
    stagerun.run("run", "--config", "/no/config", "--", "true", env=secrets).failed(125)
    said = json.loads(path.read_text())
    assert (said["phase"], said["reason"]) == ("config", "start_failed") and "/no/***" in said["message"]
    served = server.put("/config.tar", tar(file("a", b"content")))
    result = stagerun.run("prewarm", "--json", "--log-format", "json", "--stage", f"{served.url}={tmp_path / 'to'}",
                          env=secrets).ok()
    lines = [json.loads(line) for line in result.err.splitlines()]
    (done,) = [line for line in lines if line.get("event") == "stage_done"]
    assert done["result"] == "staged" and done["source"].endswith("/***.tar")
    (there,) = json.loads(result.out)["destinations"]
    assert there["result"] == "staged" and there["sources"][0]["source"].endswith(".tar")
