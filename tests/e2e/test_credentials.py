# SPDX-License-Identifier: MIT
"""AWS credentials through the program: from each provider to an object of S3 that only they can read, whose
server checks every signature."""

import os
import time

import pytest
from agent import wait_until
from fakeaws import FakeAws

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


def test_a_process_that_fails_is_an_error_with_its_last_words(stagerun, aws, dest):
    shared(stagerun, config="[default]\ncredential_process = echo 'vault is sealed' >&2; exit 7\n")
    stagerun.fetch("s3://bucket/data.bin", dest, env=aws.env()).failed(
        1, r"credential_process exited with 7: vault is sealed")


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
    sent = time.monotonic()
    run.signal(15)
    run.wait()
    assert time.monotonic() - sent < 1.2 * slowness
    wait_until(lambda: stagerun.leftovers() == [], 1)
