# SPDX-License-Identifier: MIT
"""AWS credentials through the program: from each provider to an object of S3 that only they can read, whose
server checks every signature."""

import ctypes
import os
import socket

import pytest
from agent import wait_until
from fakeaws import FakeAws
from stopwatch import SOON, Stopwatch

SECRET = "the/secret+of"  # every secret and token of the fake has one of these
TOKEN = "the-token//of"


@pytest.fixture
def aws():
    fake = FakeAws()
    fake.objects["bucket/data.bin"] = os.urandom(600_000)
    yield fake
    fake.close()


def shared(agent, **files):
    (agent.home / ".aws").mkdir(exist_ok=True)
    for name, text in files.items():
        (agent.home / ".aws" / name).write_text(text, encoding="utf-8")


def keys_text(profile, keys):
    text = f"[{profile}]\naws_access_key_id = {keys.access}\naws_secret_access_key = {keys.secret}\n"
    return text + (f"aws_session_token = {keys.token}\n" if keys.token else "")


def in_environment(agent, aws):
    keys = aws.mint("ENVIRONMENT")
    return {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_SESSION_TOKEN": keys.token}


def in_default_profile(agent, aws):
    shared(agent, credentials=keys_text("default", aws.mint("DEFAULT")))
    return {}


def in_profile_of_environment(agent, aws):
    shared(agent, credentials=keys_text("ci", aws.mint("PROFILE")))
    return {"AWS_PROFILE": "ci"}


def in_profile_of_agent_ini(agent, aws):
    shared(agent, credentials=keys_text("operators", aws.mint("CHOSEN")))
    agent.configure(s3={"profile": "operators"})
    return {"AWS_ACCESS_KEY_ID": "NOBODY", "AWS_SECRET_ACCESS_KEY": "nothing"}


def by_process(agent, aws):
    said = agent.directory / "said.json"
    said.write_text(aws.mint("PROCESS").json("SessionToken", Version=1), encoding="utf-8")
    shared(agent, config=f"[default]\ncredential_process = cat {said}\n")
    return {}


def by_role(agent, aws):
    aws.add("MINE", f"{SECRET}MINE")
    shared(agent, config="[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = me\n",
           credentials=keys_text("me", aws.keys["MINE"]))
    return {"AWS_PROFILE": "r"}


def by_web_identity(agent, aws):
    token = agent.directory / "token"
    token.write_text(f"{TOKEN}web\n", encoding="utf-8")
    return {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}


def by_container(agent, aws):
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{TOKEN}container"}


def by_instance(agent, aws):
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": aws.url}


PROVIDERS = [  # who, whose keys, how the dry run says it
    (in_environment, "ENVIRONMENT1", "environment (AWS_ACCESS_KEY_ID)"),
    (in_default_profile, "DEFAULT1", "profile 'default' of {home}/.aws/credentials (aws_access_key_id)"),
    (in_profile_of_environment, "PROFILE1", "profile 'ci' of {home}/.aws/credentials (aws_access_key_id)"),
    (in_profile_of_agent_ini, "CHOSEN1", "profile 'operators' of {home}/.aws/credentials"),
    (by_process, "PROCESS1", "profile 'default' of {home}/.aws/config (credential_process)"),
    (by_role, "ROLE1", "profile 'r' of {home}/.aws/config (role_arn)"),
    (by_web_identity, "ROLE1", "web identity (AWS_WEB_IDENTITY_TOKEN_FILE="),
    (by_container, "CONTAINER1", "container (AWS_CONTAINER_CREDENTIALS_FULL_URI={url}/container)"),
    (by_instance, "INSTANCE1", "EC2 instance metadata ({url})"),
]
every_provider = pytest.mark.parametrize("provider, key, says", PROVIDERS,
                                         ids=[p[0].__name__ for p in PROVIDERS])


def no_secrets(result):
    assert SECRET not in result.out + result.err, str(result)
    assert TOKEN not in result.out + result.err, str(result)
    return result


@every_provider
def test_an_object_is_read_with_the_credentials_of(stagerun, aws, dest, provider, key, says):
    env = aws.env(**provider(stagerun, aws))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, "-v", env=env)).ok()
    assert (dest / "data.bin").read_bytes() == aws.objects["bucket/data.bin"]
    assert aws.used() == [key]
    assert aws.refused == []


@every_provider
def test_a_dry_run_names_and_does_not_show(stagerun, aws, dest, provider, key, says):
    env = aws.env(**provider(stagerun, aws))
    run = stagerun.run("run", "--stage", f"s3://bucket/data.bin={dest}", "--dry-run", "true", env=env)
    assert says.format(home=stagerun.home, url=aws.url) in no_secrets(run).ok().out
    assert not dest.exists()


def test_a_provider_that_is_refused_is_an_error_and_nobody_else_is_asked(stagerun, aws, dest):
    aws.fail = {"sts"}
    shared(stagerun, credentials=keys_text("default", aws.mint("DEFAULT")))
    env = aws.env(**by_web_identity(stagerun, aws), **by_container(stagerun, aws))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).failed(
        1, r"AssumeRoleWithWebIdentity at .*refused: 403 AccessDenied: not authorized to assume this role",
        "trust policy")
    assert not dest.exists()
    assert {a.path for a in aws.asked} == {"/"}


def sts_error(code, message="No."):
    return 400, f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"


@pytest.mark.parametrize("provider, who, answers", [
    (by_web_identity, "sts", [sts_error("Throttling", "Rate exceeded")] * 2),
    (by_web_identity, "sts", [sts_error("IDPCommunicationError")]),
    (by_role, "sts", [sts_error("RequestLimitExceeded"), (503, "")]),
    (by_container, "container", [(404, "not found")] * 2),
    (by_container, "container", [(503, ""), (429, "")]),
    (by_instance, "instance", [(503, "")]),
])
def test_a_service_that_is_busy_at_first_is_asked_again_and_nobody_else(stagerun, aws, dest, provider, who, answers):
    aws.early = {who: list(answers)}
    if provider is not by_role:
        shared(stagerun, credentials=keys_text("other", aws.mint("OTHER")))
    run = no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env(**provider(stagerun, aws)))).ok()
    assert aws.early == {who: []} and len(aws.used()) == 1 and aws.refused == []
    assert run.err.count("trying for") == 1, str(run)


def test_a_container_service_that_starts_later_than_the_container_is_waited_for(stagerun, dest):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
           "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/container",
           "AWS_EC2_METADATA_DISABLED": "true"}
    stagerun.configure(network={"patience": "15s"})
    run = stagerun.start("fetch", "s3://bucket/data.bin", dest, env=env)
    wait_until(lambda: "trying for 15 s" in run.err())
    late = FakeAws(port)
    try:
        late.objects["bucket/data.bin"] = b"here it is"
        run.wait().ok()
    finally:
        late.close()
    assert (dest / "data.bin").read_bytes() == b"here it is" and late.used() == ["CONTAINER1"]


def test_a_stop_while_a_container_service_is_waited_for_ends_at_once(stagerun, dest, slowness):
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/container", "AWS_REGION": "us-east-1"}
    stagerun.configure(network={"patience": "15s"})
    run = stagerun.start("fetch", "s3://bucket/data.bin", dest, env=env)
    wait_until(lambda: "trying for 15 s" in run.err())
    watch = Stopwatch()
    run.signal(15)
    assert run.wait().code == 143
    assert watch.read() < SOON * slowness


def test_a_process_that_fails_is_an_error_with_its_last_words(stagerun, aws, dest):
    shared(stagerun, config="[default]\ncredential_process = echo 'vault is sealed' >&2; exit 7\n")
    stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env()).failed(
        1, r"credential_process exited with 7: vault is sealed")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_process_makes_files_under_the_umask_of_who_started_the_agent(stagerun, aws, dest, mask):
    said, cache = stagerun.directory / "said.json", stagerun.directory / "cache"
    said.write_text(aws.mint("PROCESS").json("SessionToken", Version=1), encoding="utf-8")
    shared(stagerun, config=f"[default]\ncredential_process = tee {cache} <{said}\n")
    stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env(), umask=mask).ok()
    assert cache.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_profile_that_is_not_there_is_an_error_with_the_files(stagerun, aws, dest):
    shared(stagerun, config="[profile here]\nregion = x\n")
    stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env(AWS_PROFILE="there")).failed(
        1, r"no profile 'there' in .*/\.aws/credentials and .*/\.aws/config")


def test_credentials_that_expire_are_renewed_in_the_middle_of_a_transfer(stagerun, aws, dest):
    """Keys live 3 s, S3 refuses older ones, and the object takes longer than that."""
    aws.lives, aws.rate = 3, 400_000
    aws.objects["bucket/data.bin"] = os.urandom(1_700_000)
    stagerun.configure(network={"connections": 1})
    env = aws.env(**by_container(stagerun, aws))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env, limit=60)).ok()
    assert (dest / "data.bin").read_bytes() == aws.objects["bucket/data.bin"]
    assert len(aws.used()) >= 2
    assert aws.refused == []


def test_credentials_that_are_revoked_are_asked_for_anew(stagerun, aws, dest):
    aws.rate = 400_000
    aws.objects["bucket/data.bin"] = os.urandom(900_000)
    stagerun.configure(network={"connections": 1})
    run = stagerun.start("fetch", "s3://bucket/data.bin", dest, env=aws.env(**by_container(stagerun, aws)))
    wait_until(lambda: aws.used() == ["CONTAINER1"] and aws.keys["CONTAINER1"].used >= 2)
    aws.keys["CONTAINER1"].revoked = True
    run.wait(60).ok()
    assert (dest / "data.bin").read_bytes() == aws.objects["bucket/data.bin"]
    assert len(aws.used()) == 2
    assert "ExpiredToken" in aws.refused


def test_a_stop_while_a_process_thinks_ends_both_within_a_second(stagerun, aws, dest, slowness):
    begun = stagerun.directory / "begun"
    shared(stagerun, config=f"[default]\ncredential_process = touch {begun}; sleep 50\n")
    run = stagerun.start("fetch", "s3://bucket/data.bin", dest, env=aws.env())
    wait_until(begun.exists)
    watch = Stopwatch()
    run.signal(15)
    run.wait()
    assert watch.read() < SOON * slowness
    wait_until(lambda: stagerun.leftovers() == [], 1)


# --- what is around a value ---

AROUND = ["{}\n", "{}\r\n", " {}", "{}\t", "\ufeff{}", "{}\u00a0"]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
                                  "AWS_ENDPOINT_URL"])
def test_blanks_around_a_variable_are_cut_with_a_warning_that_names_it(stagerun, aws, dest, name, around):
    env = aws.env(**in_environment(stagerun, aws))
    env[name] = around.format(env[name])
    run = no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).ok()
    assert run.err.count(f"warning: {name}: blanks or line ends around its value are cut off") == 1, str(run)
    assert aws.refused == []


def test_a_blank_around_the_name_of_a_profile_or_of_a_file_is_cut(stagerun, aws, dest):
    env = aws.env(**in_profile_of_environment(stagerun, aws))
    path = stagerun.home / ".aws" / "credentials"
    env |= {"AWS_PROFILE": "ci\n", "AWS_SHARED_CREDENTIALS_FILE": f"{path}\n", "AWS_CONFIG_FILE": " /dev/null"}
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).ok()


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
                                  "AWS_ENDPOINT_URL", "AWS_PROFILE"])
@pytest.mark.parametrize("control", ["\n", "\t", "\x01", "\x7f"])
def test_a_control_character_within_a_variable_is_an_error_before_any_request(stagerun, aws, dest, name, control):
    env = aws.env(**in_environment(stagerun, aws))
    env[name] = f"ab{control}{env.get(name, '')}cd"
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).failed(
        1, f"{name}: byte 3 of its value is a control character .0x{ord(control):02x}.")
    assert aws.used() == [] and aws.asked == [] and not dest.exists()


def test_variables_of_credentials_do_not_matter_where_nothing_is_signed(stagerun, server, dest):
    server.put("/data/a", b"public")
    stagerun.configure(s3={"sign": "no"})
    stagerun.fetch("s3://data/a", dest, env={"AWS_SECRET_ACCESS_KEY": "a\x01b",
                                             "AWS_ENDPOINT_URL": server.url("").rstrip("/")}).ok()


def test_variables_of_aws_do_not_matter_where_no_s3_is(stagerun, server, dest):
    served = server.put("/a", b"plain")
    run = stagerun.fetch(served.url, dest, env={"AWS_SECRET_ACCESS_KEY": "a\x01b", "AWS_REGION": "x\n"}).ok()
    assert run.err.count("\n") == 1, str(run)


def test_the_command_gets_its_variables_as_they_are(stagerun, aws, dest):
    env = aws.env(**in_environment(stagerun, aws), STAGERUN_NETWORK_RETRIES="3\n")
    env["AWS_REGION"] = "us-east-1\n"
    run = stagerun.run("run", "--stage", f"s3://bucket/data.bin={dest}", "--", "sh", "-c",
                       'printf "%s|%s|" "$AWS_REGION" "$STAGERUN_NETWORK_RETRIES"', env=env).ok()
    assert run.out == "us-east-1\n|3\n|"


def test_blanks_around_a_token_in_a_file_are_cut_with_a_warning_and_its_line_end_without(stagerun, aws, dest):
    env = aws.env(**by_web_identity(stagerun, aws))
    run = stagerun.fetch("s3://bucket/data.bin", dest, env=env).ok()
    assert "warning" not in run.err, str(run)
    path = stagerun.directory / "token"
    path.write_text(f"\n {TOKEN}web \r\n", encoding="utf-8")
    run = no_secrets(stagerun.fetch("s3://bucket/data.bin", dest.with_name("again"), env=env)).ok()
    assert f"'{path}' (AWS_WEB_IDENTITY_TOKEN_FILE): blanks or line ends around its value are cut off" in run.err
    assert aws.asked[-1].form["WebIdentityToken"] == f"{TOKEN}web"


@pytest.mark.parametrize("bad", ["two\nlines\n", "a\x01b", "a\0b", "", "\n"])
def test_a_file_that_holds_no_token_is_an_error_before_any_request(stagerun, aws, dest, bad):
    env = aws.env(**by_web_identity(stagerun, aws))
    (stagerun.directory / "token").write_text(bad, encoding="utf-8")
    stagerun.fetch("s3://bucket/data.bin", dest, env=env).failed(1, r"'.*/token' \(AWS_WEB_IDENTITY_TOKEN_FILE\)")
    assert aws.asked == []


def test_a_control_character_in_a_profile_is_an_error_before_any_request(stagerun, aws, dest):
    keys = aws.mint("DEFAULT")
    keys.secret += "\x01x"
    shared(stagerun, credentials=keys_text("default", keys))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env())).failed(
        1, "profile 'default' .*: the secret key has a control character")
    assert aws.used() == [] and aws.refused == []


# --- files that may not be read, and profiles that are named ---

def without_privileges():
    """In the child: root reads what its mode says, as others do."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def close(agent, how):
    """~/.aws cannot be read."""
    if how == "closed home":
        shared(agent, config="")
        (agent.home / ".aws").chmod(0)
    elif how == "closed file":
        shared(agent, credentials="[default]\n", config="")
        (agent.home / ".aws" / "credentials").chmod(0)
    elif how == "directory":
        (agent.home / ".aws" / "credentials").mkdir(parents=True)
    elif how == "loop":
        (agent.home / ".aws").mkdir()
        (agent.home / ".aws" / "config").symlink_to("config")


@pytest.fixture
def closed(stagerun, request):
    close(stagerun, request.param)
    yield request.param
    (stagerun.home / ".aws").chmod(0o700)


WAYS = ["closed home", "closed file", "directory", "loop"]


@pytest.mark.parametrize("closed", WAYS, indirect=True)
@pytest.mark.parametrize("provider", [in_environment, by_web_identity, by_container, by_instance])
def test_default_files_that_cannot_be_read_are_skipped_with_one_warning(stagerun, aws, dest, closed, provider):
    env = aws.env(**provider(stagerun, aws))
    run = no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env, preexec_fn=without_privileges)).ok()
    assert run.err.count("warning:") == 1 and f"warning: {stagerun.home}/.aws/con" in run.err.replace("cred", "con")
    assert aws.refused == []


@pytest.mark.parametrize("closed", WAYS, indirect=True)
def test_what_was_skipped_is_said_when_nobody_has_any_credentials(stagerun, aws, dest, closed):
    stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env(AWS_EC2_METADATA_DISABLED="true"),
                   preexec_fn=without_privileges).failed(1, r"warning: .*/\.aws/.*: skipped", "not signed: no AWS cred")


@pytest.mark.parametrize("name", ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"])
@pytest.mark.parametrize("provider", [by_web_identity, by_container, by_instance])
def test_a_named_file_that_cannot_be_read_is_an_error_and_nobody_else_is_asked(
        stagerun, aws, dest, name, provider):
    path = stagerun.directory / "named"
    path.write_text("[default]\n", encoding="ascii")
    path.chmod(0)
    env = aws.env(**provider(stagerun, aws), **{name: str(path)})
    stagerun.fetch("s3://bucket/data.bin", dest, env=env, preexec_fn=without_privileges).failed(
        1, f"read '{path}': Permission denied")
    assert aws.asked == []


def test_a_netrc_file_that_cannot_be_read_is_an_error_before_any_request(stagerun, server, dest):
    served = server.put("/a", b"data")
    path = stagerun.directory / "netrc"
    path.write_text("machine 127.0.0.1 login me password hunter-of-tokens\n", encoding="ascii")
    path.chmod(0)
    stagerun.configure(network={"netrc_file": str(path)})
    stagerun.fetch(served.url, dest, preexec_fn=without_privileges).failed(
        1, f"netrc_file '{path}' cannot be read: Permission denied")
    assert not served.requests


def test_a_profile_that_the_environment_names_wins_over_an_injected_web_identity(stagerun, aws, dest):
    env = aws.env(**in_profile_of_environment(stagerun, aws), **by_web_identity(stagerun, aws))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).ok()
    assert aws.used() == ["PROFILE1"] and aws.asked == []


def test_a_role_of_the_profile_that_the_environment_names_wins_over_an_injected_web_identity(stagerun, aws, dest):
    env = aws.env(**by_role(stagerun, aws), **by_web_identity(stagerun, aws))
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).ok()
    assert [a.form["Action"] for a in aws.asked] == ["AssumeRole"]


def test_a_profile_that_the_environment_names_and_is_not_there_is_an_error_whoever_else_has_credentials(
        stagerun, aws, dest):
    env = aws.env(**by_web_identity(stagerun, aws), AWS_PROFILE="gone")
    stagerun.fetch("s3://bucket/data.bin", dest, env=env).failed(1, "no profile 'gone'")
    assert aws.asked == []


def test_a_named_profile_without_credentials_leaves_them_to_the_web_identity(stagerun, aws, dest):
    shared(stagerun, config="[profile place]\nregion = us-east-1\n")
    env = aws.env(**by_web_identity(stagerun, aws), AWS_PROFILE="place")
    no_secrets(stagerun.fetch("s3://bucket/data.bin", dest, env=env)).ok()
    assert aws.used() == ["ROLE1"]


def test_the_default_profile_and_the_environment_stay_where_they_are(stagerun, aws, dest):
    env = aws.env(**in_default_profile(stagerun, aws), **by_web_identity(stagerun, aws))
    stagerun.fetch("s3://bucket/data.bin", dest, env=env).ok()
    assert aws.used() == ["ROLE1"]
    env |= {**in_profile_of_environment(stagerun, aws), **in_environment(stagerun, aws)}
    stagerun.fetch("s3://bucket/data.bin", dest.with_name("again"), env=env).ok()
    assert set(aws.used()) == {"ROLE1", "ENVIRONMENT1"}
