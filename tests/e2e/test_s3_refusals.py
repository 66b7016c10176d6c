# SPDX-License-Identifier: MIT
"""What S3 services answer on bad days and Ceph does not: from a server that plays one."""

import os
import signal
import stat

import pytest

from agent import slowness, wait_until
from faultserver import Fault, delay, later, status
from stopwatch import SOON, Stopwatch

DATA = os.urandom(2_000_000)


def refuse(code, name, times=None, when=lambda request: True, more="", **headers):
    body = (f'<?xml version="1.0"?><Error><Code>{name}</Code><Message>No.</Message>{more}'
            "<RequestId>R42</RequestId></Error>").encode()
    return status(code, times, when, body, **headers)


@pytest.fixture
def aws(stagerun, server):
    # Nothing here stalls; a machine that does is no reason to try again.
    stagerun.configure(network={"first_byte_timeout": "20s", "stall_timeout": "20s"})
    return {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "SECRET-OF-THIS-TEST",
            "AWS_ENDPOINT_URL_S3": server.url("").rstrip("/"), "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1"}


def test_an_expired_session_gets_one_clear_line(stagerun, server, aws, dest):
    served = server.put("/data/a", DATA, refuse(400, "ExpiredToken"))
    result = stagerun.fetch("s3://data/a", dest, env=aws).failed(
        1, "400 ExpiredToken 'No.'", "request R42", "has expired: get new ones")
    assert result.err.count("\n") == 1 and "SECRET-OF-THIS-TEST" not in result.err
    assert 2 <= len(served.requests) <= 3
    assert not dest.exists()


def test_a_wrong_clock_gets_one_clear_line_with_the_difference(stagerun, server, aws, dest):
    served = server.put("/data/a", DATA, refuse(403, "RequestTimeTooSkewed",
                                                Date="Wed, 21 Oct 2020 07:28:00 GMT"))
    stagerun.fetch("s3://data/a", dest, env=aws).failed(1, "clock is .* ahead of the server's; set it")
    assert len(served.requests) == 1


def test_a_wrong_region_that_nobody_corrects_gets_one_clear_line(stagerun, server, aws, dest):
    server.put("/data/a", DATA, refuse(400, "AuthorizationHeaderMalformed"))
    stagerun.fetch("s3://data/a", dest, env={**aws, "AWS_REGION": "mars-1"}).failed(
        1, "region mars-1", "the region is wrong: set")


def test_the_region_that_the_service_names_is_used_from_then_on(stagerun, server, aws, dest):
    def elsewhere(request):
        return "/eu-north-1/s3/" not in request.headers["authorization"]

    served = server.put("/data/a", DATA, refuse(301, "PermanentRedirect", when=elsewhere,
                                                x_amz_bucket_region="eu-north-1"))
    stagerun.fetch("s3://data/a", dest, env=aws).ok()
    assert (dest / "a").read_bytes() == DATA
    assert sum(elsewhere(r) for r in served.requests) == 1


def test_slow_down_is_waited_for(stagerun, server, aws, dest):
    served = server.put("/data/a", DATA, refuse(503, "SlowDown", times=3))
    stagerun.fetch("s3://data/a", dest, env=aws).ok()
    assert (dest / "a").read_bytes() == DATA
    assert [r.status for r in served.requests].count(503) == 3


def test_slow_down_for_ever_is_an_error(stagerun, server, aws, dest):
    server.put("/data/a", DATA, refuse(503, "SlowDown"))
    stagerun.fetch("s3://data/a", dest, env=aws).failed(1, "503 SlowDown", "gave up after", "fewer connections")


def test_a_redirect_does_not_take_the_signature_elsewhere(stagerun, server, aws, dest):
    other = server.put("/other", DATA)
    server.put("/data/a", DATA, status(302, None, Location=server.url("/other")))
    stagerun.fetch("s3://data/a", dest, env=aws).failed(1, "302")
    assert not other.requests


def test_renewed_credentials_apply_in_the_middle_of_a_transfer(stagerun, server, aws, dest):
    process = stagerun.directory / "keys"
    process.write_text(f"""#!/bin/sh
echo x >>{stagerun.directory}/calls
n=$(wc -l <{stagerun.directory}/calls)
echo '{{"Version": 1, "AccessKeyId": "KEY'$n'", "SecretAccessKey": "s", "SessionToken": "TOKEN'$n'",
  "Expiration": "2099-01-01T00:00:00Z"}}'
""", encoding="ascii")
    process.chmod(process.stat().st_mode | stat.S_IXUSR)
    config = stagerun.directory / "aws-config"
    config.write_text(f"[default]\ncredential_process = {process}\n", encoding="ascii")

    def first_keys(request):
        return "Credential=KEY1/" in request.headers["authorization"]

    served = server.put("/data/a", DATA, refuse(
        400, "ExpiredToken", when=lambda r: later(r) and first_keys(r)))
    stagerun.fetch("s3://data/a", dest, env={
        **aws, "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_CONFIG_FILE": str(config)}).ok()
    assert (dest / "a").read_bytes() == DATA
    second = [r for r in served.requests if r.status == 206 and not first_keys(r)]
    assert second and all(r.headers["x-amz-security-token"] == "TOKEN2" for r in second)


def test_an_object_replaced_while_it_is_read_is_read_anew(stagerun, server, aws, dest):
    new = os.urandom(1_500_000)
    served = server.put("/data/a", DATA)
    served.replace(new, after=3)
    stagerun.fetch("s3://data/a", dest, env=aws).ok()
    assert (dest / "a").read_bytes() == new


def test_a_service_that_is_none_of_s3_gets_one_clear_line(stagerun, server, aws, dest):
    server.put("/data", b"<html>It works!</html>")
    stagerun.fetch("s3://data/p/", dest, env=aws).failed(1, "is not S3's: check the endpoint")


def test_a_listing_is_not_believed_when_it_leads_outside(stagerun, server, aws, dest):
    listing = ("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>{}</Key><Size>1</Size>"
               "</Contents></ListBucketResult>")
    server.put("/data", listing.format("etc/passwd").encode())
    stagerun.fetch("s3://data/p/", dest, env=aws).failed(1, "which is not below it")
    server.put("/data", listing.format("p/../../x").encode())
    stagerun.fetch("s3://data/p/", dest, env=aws).failed(1, r"'\.\.'")
    assert not dest.exists()


def test_an_object_that_changes_after_it_was_listed_starts_the_stage_anew(stagerun, server, aws, dest):
    def listing(etag):
        return (f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key><Size>3</Size><ETag>{etag}</ETag></Contents>"
                "</ListBucketResult>").encode()

    server.put("/data/p/a", b"new", etag='"2"')
    served = server.put("/data", listing('"1"'))
    served.replace(listing('"2"'), after=1)
    stagerun.fetch("s3://data/p/", dest, env=aws).ok()
    assert (dest / "a").read_bytes() == b"new"
    assert len(served.requests) == 2


def test_a_signal_ends_a_prefix_under_way_at_once(stagerun, server, aws, dest):
    keys = "".join(f"<Contents><Key>p/{i}</Key><Size>3</Size></Contents>" for i in range(50))
    server.put("/data", f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode())
    served = [server.put(f"/data/p/{i}", b"abc", delay(10)) for i in range(50)]
    running = stagerun.start("fetch", "s3://data/p/", dest, env=aws)
    wait_until(lambda: sum(len(s.requests) for s in served) >= 5, what="several requests")
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGTERM
    assert watch.read() < SOON * slowness()
    assert not dest.exists()


def test_a_front_end_may_rewrite_accept_encoding(stagerun, server, aws, dest):
    """So it is sent, and not signed."""
    served = server.put("/bucket/x.bin", b"data" * 200_000)
    stagerun.fetch("s3://bucket/x.bin", dest, env=aws).ok()
    for request in served.requests:
        assert request.headers["accept-encoding"] == "identity"
        assert "accept-encoding" not in request.headers["authorization"].lower()


@pytest.mark.parametrize("code", [400, 403, 405, 501])
def test_a_front_end_that_refuses_ranges_is_read_in_one_answer(stagerun, server, aws, dest, code):
    def refuse_range(request, response):
        if request.range:
            response.status, response.headers, response.body = code, {}, b"<html>no</html>"

    served = server.put("/bucket/x.bin", b"data" * 200_000, Fault(refuse_range))
    stagerun.fetch("s3://bucket/x.bin", dest, env=aws).ok()
    assert served.requests[-1].range is None


# --- advice by what the server says ---

@pytest.mark.parametrize("code, name, message, advice", [
    (403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.", "style = virtual"),
    (403, "InvalidObjectState", "The operation is not valid for the object's storage class", "restore it first"),
    (403, "AccessDenied", "User: me is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:x", "allow kms:Decrypt"),
    (400, "KMS.DisabledException", "arn is disabled.", "KMS key .* is disabled"),
    (403, "AllAccessDisabled", "All access to this object has been disabled", "switched off"),
    (403, "AccountProblem", "There is a problem with your account", "unpaid bill"),
    (400, "InvalidRegion", "Invalid region", "the region is wrong"),
    (403, "AccessDenied", "Access to a Requester Pays bucket", "the requester pays"),
    (400, "UserProjectMissing", "Bucket is a requester pays bucket but no user project provided.", "the requester pays"),
    (403, "AccessDenied", "Access Denied", "if the bucket is public, set sign = no"),
    (403, "InvalidAccessKeyId", "No such key", "public bucket, set sign = no"),
    (404, "NoSuchBucket", "No such bucket", "spelling of the bucket"),
])
def test_the_advice_is_by_the_servers_code(stagerun, server, aws, dest, code, name, message, advice):
    body = f"<Error><Code>{name}</Code><Message>{message}</Message></Error>".encode()
    server.put("/data/a", DATA, status(code, None, body=body))
    run = stagerun.fetch("s3://data/a", dest, env=aws).failed(1, f"S3 answered {code} {name}", advice)
    assert run.err.count("\n") == 1, str(run)


@pytest.mark.parametrize("arn", ["arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/key", "arn:aws:s3:::data/key",
                                 "arn:aws:s3-outposts:x:1:outpost/op/accesspoint/a/key"])
def test_an_arn_in_place_of_a_bucket_is_told_with_the_alias(stagerun, aws, dest, arn):
    run = stagerun.fetch(f"s3://{arn}", dest, env=aws)
    assert run.code != 0 and "alias" in run.err and "-s3alias" in run.err, str(run)


def test_a_directory_bucket_of_aws_is_refused_before_any_request(stagerun, server, aws, dest):
    env = {**aws, "AWS_ENDPOINT_URL_S3": None, "AWS_REGION": "us-east-1"}
    for source in ("s3://mine--use1-az4--x-s3/a", "s3://mine--use1-az4--x-s3/p/"):
        stagerun.fetch(source, dest, env=env).failed(1, "it is a directory bucket")


def test_a_directory_bucket_elsewhere_is_named_in_what_fails(stagerun, server, aws, dest):
    server.put("/mine--use1-az4--x-s3/a", DATA, refuse(400, "InvalidRequest"))
    stagerun.fetch("s3://mine--use1-az4--x-s3/a", dest, env=aws).failed(1, "400 InvalidRequest", "directory bucket")


# --- archives ---

def listing(*objects):
    found = "".join(f"<Contents><Key>{key}</Key><Size>3</Size><StorageClass>{name}</StorageClass>{more}</Contents>"
                    for key, name, more in objects)
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()


DONE = ("<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        "<RestoreExpiryDate>2099-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus>")
UNDER_WAY = "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE"])
@pytest.mark.parametrize("more, advice", [("", "restore it"), (UNDER_WAY, "under way: try again")])
def test_an_archived_object_is_told_from_the_listing_before_the_first_byte(
        stagerun, server, aws, dest, name, more, advice):
    first = server.put("/data/p/a", b"abc")
    archived = server.put("/data/p/b", b"abc", refuse(403, "InvalidObjectState"))
    server.put("/data", listing(("p/a", "STANDARD", ""), ("p/b", name, more)))
    stagerun.fetch("s3://data/p/", dest, env=aws).failed(1, f"s3://data/p/b: it is archived .storage class {name}", advice)
    assert not first.requests and not archived.requests and not dest.exists()


@pytest.mark.parametrize("name, more", [("GLACIER", DONE), ("GLACIER_IR", ""), ("STANDARD_IA", "")])
def test_an_archived_object_that_is_restored_is_fetched(stagerun, server, aws, dest, name, more):
    server.put("/data/p/a", b"abc")
    server.put("/data", listing(("p/a", name, more)))
    stagerun.fetch("s3://data/p/", dest, env=aws).ok()
    assert (dest / "a").read_bytes() == b"abc"


def test_an_archived_object_that_is_left_out_does_not_matter(stagerun, server, aws, dest):
    server.put("/data/p/a", b"abc")
    server.put("/data", listing(("p/a", "STANDARD", ""), ("p/b", "GLACIER", "")))
    stagerun.fetch("s3://data/p/", dest, "--exclude", "b", env=aws).ok()
    assert (dest / "a").read_bytes() == b"abc" and not (dest / "b").exists()
