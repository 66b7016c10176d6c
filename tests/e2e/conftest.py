# SPDX-License-Identifier: MIT
"""The fixtures: the program, servers to fetch from, and a place to stage into."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.dont_write_bytecode = True

# Imported after the line above, so that running the tests leaves nothing in the source tree.
# pylint: disable=wrong-import-position
import agent as agent_module
import ceph as ceph_module
from agent import BINARY, CHECKOUT, Agent, default_dispositions
from faultserver import FaultServer
from processes import NAMESPACE
from trees import Place

default_dispositions()

NGINX_CONF = """
daemon off;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
	access_log {dir}/access.log;
	client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
	uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
	sendfile on;
	server {{ listen 127.0.0.1:{port}; root {root}; }}
	server {{
		listen 127.0.0.1:{tls_port} ssl; server_name localhost; root {root};
		ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
		location /to-plain {{ return 302 http://localhost:{port}/file.txt; }}
	}}
}}
"""


def pytest_sessionstart(session):
    if not BINARY.exists() and not hasattr(session.config, "workerinput"):
        pytest.exit(f"{BINARY} is not there: run `make e2e`, which builds it", 2)


def pytest_report_header():
    return f"program: {BINARY} ({agent_module.sanitizer() or 'no'} sanitizer)"


@pytest.fixture(autouse=True)
def time_limit():
    """A test that hangs, in its own code too, fails instead of stopping all. No test takes a tenth of it on an
    idle machine."""
    def give_up(number, frame):
        raise TimeoutError(f"the test did not end within {seconds} s")

    seconds = 180 * agent_module.slowness()
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def stagerun(tmp_path):
    agent = Agent(tmp_path / "agent")
    yield agent
    agent.close()


@pytest.fixture
def store(stagerun, tmp_path):
    """A store in a directory, which stagerun is told of by its environment."""
    directory = tmp_path / "store"
    stagerun.env["STAGERUN_STORE"] = f"file://{directory}"
    return directory


@pytest.fixture
def server():
    started = FaultServer()
    yield started
    started.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "place")


@pytest.fixture
def dest(place):
    """Where tests stage to: absent, its parent is there."""
    return place.dest


@pytest.fixture(scope="session")
def slowness():
    return agent_module.slowness()


@pytest.fixture(scope="session")
def plain_build():
    """For tests that measure the program itself: a sanitizer's memory and time are not ours."""
    if agent_module.sanitizer():
        pytest.skip("a sanitizer's own memory would be measured")


@pytest.fixture(scope="session")
def root():
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system of its own")
    works = subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False)
    if works.returncode != 0:
        pytest.skip("needs mount namespaces (CAP_SYS_ADMIN)")


@pytest.fixture(scope="session")
def pid_1():
    """For tests in which the agent is the first process of a namespace."""
    works = subprocess.run([*NAMESPACE, "true"], stderr=subprocess.DEVNULL, check=False)
    if works.returncode != 0:
        pytest.skip("needs PID namespaces (root, or CAP_SYS_ADMIN)")


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    """A program that prints as JSON what it was started with."""
    binary = tmp_path_factory.mktemp("probe") / "probe"
    source = CHECKOUT / "tests/e2e/probe.c"
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-o", binary, source], check=True)
    return binary


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Nginx:
    """A real web server: plain HTTP at url(), TLS with a certificate for localhost at tls_url()."""

    def __init__(self, directory):
        self.root = directory / "www"
        self.root.mkdir()
        self.ca_file = directory / "ca.pem"
        self.port, self.tls_port = free_port(), free_port()
        self._issue(directory)
        conf = directory / "nginx.conf"
        conf.write_text(NGINX_CONF.format(dir=directory, root=self.root, port=self.port,
                                          tls_port=self.tls_port,
                                          user="user root;" if os.geteuid() == 0 else ""))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([binary, "-p", directory, "-c", conf],
                                        stderr=subprocess.DEVNULL)
        self._wait_for(self.port)
        self._wait_for(self.tls_port)

    def _issue(self, directory):
        import trustme  # only those who use this server need it

        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(self.ca_file)
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")

    def _wait_for(self, port):
        for _ in range(500):
            if self.process.poll() is not None:
                raise RuntimeError("nginx ended by itself: see error.log beside its nginx.conf")
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)
        raise RuntimeError(f"nginx does not listen on port {port}")

    def put(self, name, data):
        (self.root / name).write_bytes(data)

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"

    def tls_url(self, name, host="localhost"):
        return f"https://{host}:{self.tls_port}/{name}"

    def close(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    # Not beneath a directory that only its owner may enter: as root, workers are root too.
    server = Nginx(Path(tmp_path_factory.mktemp("nginx")))
    yield server
    server.close()


@pytest.fixture(scope="session")
def ceph_server(request):
    worker = getattr(request.config, "workerinput", {})
    server = ceph_module.Server(worker.get("testrunuid", f"p{os.getpid()}"))
    yield server
    server.close()


@pytest.fixture
def ceph(ceph_server):
    """A real S3 server, with a bucket of the test's own."""
    seen = ceph_module.Ceph(ceph_server)
    yield seen
    seen.close()


def printable(value):
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {printable(k): printable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(printable(v) for v in value)
    return value


@pytest.hookimpl(hookwrapper=True)
def pytest_report_to_serializable():
    """A failure that shows a name which is no UTF-8 would else end the whole run: it cannot be sent to who collects."""
    outcome = yield
    outcome.force_result(printable(outcome.get_result()))
