# SPDX-License-Identifier: MIT
"""TLS is verified, always."""

import pytest
from archives import file, noise, tar


@pytest.fixture(autouse=True)
def content(nginx):
    nginx.put("x.tar", tar(file("a", noise(900_000))))
    nginx.put("file.txt", b"plain\n")


def test_an_unknown_authority_is_refused_and_the_setting_named(stagerun, nginx, dest, place):
    stagerun.fetch(nginx.tls_url("x.tar"), dest).failed(1, "localhost", "certificate", "ca_file")
    place.assert_nothing_published()


def test_a_ca_file_makes_it_known(stagerun, nginx, dest):
    stagerun.configure(network={"ca_file": nginx.ca_file})
    stagerun.fetch(nginx.tls_url("x.tar"), dest).ok()
    assert (dest / "a").read_bytes() == noise(900_000)


def test_a_certificate_for_another_name_is_refused(stagerun, nginx, dest, place):
    stagerun.configure(network={"ca_file": nginx.ca_file})
    stagerun.fetch(nginx.tls_url("x.tar", host="127.0.0.1"), dest).failed(
        1, r"127\.0\.0\.1", "certificate")
    place.assert_nothing_published()


def test_the_environment_can_name_the_authorities(stagerun, nginx, dest):
    stagerun.fetch(nginx.tls_url("x.tar"), dest, env={"SSL_CERT_FILE": str(nginx.ca_file)}).ok()
    assert (dest / "a").exists()


def test_a_redirect_from_https_to_http_is_refused(stagerun, nginx, dest, place):
    stagerun.configure(network={"ca_file": nginx.ca_file})
    stagerun.fetch(nginx.tls_url("to-plain"), dest).failed(1, "redirect", "https?")
    place.assert_nothing_published()


def test_a_ca_file_that_is_not_there_is_named(stagerun, nginx, dest, place):
    stagerun.configure(network={"ca_file": "/not/here.pem"})
    result = stagerun.fetch(nginx.tls_url("x.tar"), dest)
    result.failed(1, "/not/here.pem")
    place.assert_nothing_published()
