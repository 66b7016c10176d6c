# SPDX-License-Identifier: MIT
"""The network, its names or the server come later than the agent: until a host has answered, time decides."""

import contextlib
import signal
import socket
import struct
import threading
import time

import pytest
from agent import wait_until
from archives import file, noise, tar
from conftest import free_port
from fakeaws import FakeAws
from faultserver import FaultServer, delay, later, status
from stopwatch import SOON, Stopwatch

ARCHIVE = tar(file("data", noise(900_000)))
PATIENT = {"patience": "20s", "retries": 1, "retry_base": "20ms", "retry_max": "20ms"}


def resets(port, stop):
    """A port that cuts each connection with a reset, as a sidecar does whose configuration has not come."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.05)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()


@pytest.fixture
def late_server():
    """A port, and a function that starts a server at it."""
    port, started = free_port(), []

    def start():
        started.append(FaultServer(port, lambda server: server.put("/x.tar", ARCHIVE)))

    yield port, start
    for server in started:
        server.close()


def assert_said_once(result):
    assert result.err.count("not reachable yet: ") == 1, str(result)
    assert result.err.count("; trying for 20 s") == 1, str(result)


def test_a_server_that_refuses_connections_at_first_is_waited_for(stagerun, late_server, dest):
    port, start = late_server
    stagerun.configure(network=PATIENT)
    running = stagerun.start("fetch", f"http://127.0.0.1:{port}/x.tar", dest)
    wait_until(lambda: "not reachable yet" in running.err(), 5, "the line at once")
    time.sleep(0.3)  # many more attempts than retries
    start()
    result = running.wait().ok()
    assert_said_once(result)
    assert (dest / "data").exists()


def test_a_server_that_resets_connections_at_first_is_waited_for(stagerun, late_server, dest):
    port, start = late_server
    stop = threading.Event()
    resetting = threading.Thread(target=resets, args=(port, stop))
    resetting.start()
    stagerun.configure(network=PATIENT)
    running = stagerun.start("fetch", f"http://127.0.0.1:{port}/x.tar", dest)
    wait_until(lambda: "not reachable yet" in running.err(), 5, "the line at once")
    time.sleep(0.3)
    stop.set()
    resetting.join()
    start()
    assert_said_once(running.wait().ok())


@pytest.mark.parametrize("code", [425, 429, 502, 503, 504, 522])
def test_a_server_that_is_not_ready_at_first_is_waited_for(stagerun, server, dest, code):
    stagerun.configure(network=PATIENT)
    served = server.put("/x.tar", ARCHIVE, status(code, times=12))
    assert_said_once(stagerun.fetch(served.url, dest).ok())
    assert (dest / "data").exists()


def test_parts_are_asked_for_after_the_start_as_before_it(stagerun, server, dest):
    """The object is not read in one piece because its server was late."""
    stagerun.configure(network=PATIENT)
    served = server.put("/x.tar", ARCHIVE, status(503, times=7))
    stagerun.fetch(served.url, dest).ok()
    assert sum(r.status == 206 for r in served.requests) > 3


def test_after_the_first_answer_the_retries_are_counted(stagerun, server, dest, place):
    stagerun.configure(network=PATIENT)
    served = server.put("/x.tar", ARCHIVE, status(503, times=None, when=later))
    result = stagerun.fetch(served.url, dest).failed(1, "503", "gave up after 2 attempts")
    assert result.seconds < 10
    place.assert_nothing_published()


def test_patience_ends_and_is_named(stagerun, dest):
    stagerun.configure(network={**PATIENT, "patience": "600ms"})
    result = stagerun.fetch(f"http://127.0.0.1:{free_port()}/x.tar", dest).failed(
        1, "gave up after 0.6 s", r"patience in \[network\]")
    assert result.seconds > 0.5


def test_retry_after_is_honoured_by_who_is_patient(stagerun, server, dest):
    stagerun.configure(network=PATIENT)
    served = server.put("/x.tar", ARCHIVE, status(429, Retry_After="1"))
    stagerun.fetch(served.url, dest).ok()
    assert served.requests[1].at - served.requests[0].at >= 0.95


@pytest.mark.parametrize("code", [404, 401, 410])
def test_a_final_answer_ends_at_once(stagerun, server, dest, code):
    stagerun.configure(network=PATIENT)
    served = server.put("/x.tar", ARCHIVE, status(code, times=None))
    result = stagerun.fetch(served.url, dest).failed(1, str(code))
    assert len(served.requests) == 1
    assert "not reachable" not in result.err


@pytest.mark.parametrize("program", ["fetch", "run"])
def test_a_signal_ends_the_wait_at_once(stagerun, dest, slowness, program):
    stagerun.configure(network={**PATIENT, "retry_base": "5s", "retry_max": "5s"})
    url = f"http://127.0.0.1:{free_port()}/x.tar"
    words = ["fetch", url, dest] if program == "fetch" else ["run", "--stage", f"{url}={dest}", "--", "true"]
    running = stagerun.start(*words)
    wait_until(lambda: "not reachable yet" in running.err(), what="the line")
    watch = Stopwatch()
    running.signal(signal.SIGTERM)
    running.wait()
    assert watch.read() < SOON * slowness


def test_the_first_byte_may_take_longer_than_a_stall(stagerun, server, dest):
    stagerun.configure(network={"first_byte_timeout": "10s", "stall_timeout": "200ms", "retries": 0})
    served = server.put("/x.tar", ARCHIVE, delay(0.6, times=1))
    stagerun.fetch(served.url, dest).ok()


def test_an_answer_that_does_not_come_names_its_setting(stagerun, server, dest):
    stagerun.configure(network={"first_byte_timeout": "300ms", "stall_timeout": "10s", "retries": 0})
    served = server.put("/x.tar", ARCHIVE, delay(5))
    stagerun.fetch(served.url, dest).failed(1, "no answer came for 300 ms", r"first_byte_timeout in \[network\]")


# --- names ---

def says_processing(listener):
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=processing, args=(connection,), daemon=True).start()


def processing(connection):
    with contextlib.suppress(OSError), connection:
        connection.recv(4096)
        while True:
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(0.1)


@pytest.mark.parametrize("source", ["http://{host}/x.tar", "s3://bucket/prefix/"])
def test_who_only_says_that_the_answer_is_on_its_way_is_not_waited_for_without_end(stagerun, dest, source):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=says_processing, args=(listener,), daemon=True).start()
        stagerun.configure(network={"patience": "0s", "retries": 0, "first_byte_timeout": "1s", "stall_timeout": "1s"},
                           s3={"sign": "no", "endpoint": f"http://{host}"})
        stagerun.fetch(source.format(host=host), dest, env={"NO_PROXY": "127.0.0.1"}).failed(
            1, "for 1(.00)? s: .*_timeout in .network.")
        listener.shutdown(socket.SHUT_RDWR)


def names(hosts, switch):
    """Words to put before a command that resolves names by these files alone."""
    script = (f"mount --bind {hosts} /etc/hosts && mount --bind {switch} /etc/nsswitch.conf && "
              f"mount --bind {switch}.resolv /etc/resolv.conf && exec \"$@\"")
    return ["unshare", "-m", "sh", "-c", script, "sh"]


@pytest.fixture
def resolver(tmp_path, root):
    """A file of hosts that can be changed, and a name server that nobody answers for."""
    hosts, switch = tmp_path / "hosts", tmp_path / "nsswitch.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    (tmp_path / "nsswitch.conf.resolv").write_text("nameserver 127.255.255.253\noptions timeout:1 attempts:1\n")

    def choose(sources):
        switch.write_text(f"hosts: {sources}\n")
        return hosts, names(hosts, switch)

    return choose


def test_a_name_server_that_is_late_is_waited_for(stagerun, server, dest, resolver):
    stagerun.configure(network=PATIENT)
    hosts, wrap = resolver("files dns")
    server.put("/x.tar", ARCHIVE)
    running = stagerun.start("fetch", f"http://data.example:{server.port}/x.tar", dest, wrap=wrap)
    wait_until(lambda: "not reachable yet" in running.err(), what="the line")
    with open(hosts, "a", encoding="ascii") as h:
        h.write("127.0.0.1 data.example\n")
    assert_said_once(running.wait().ok())


def test_a_name_that_does_not_exist_ends_soon(stagerun, dest, resolver):
    stagerun.configure(network=PATIENT)
    _, wrap = resolver("files")
    result = stagerun.fetch("http://data.example/x.tar", dest, wrap=wrap).failed(1, r"data\.example")
    assert result.seconds < 10
    assert "not reachable yet" not in result.err


# --- S3, and who gives out credentials ---

def from_environment(directory, url):
    return {"AWS_ACCESS_KEY_ID": "MINE", "AWS_SECRET_ACCESS_KEY": "the/secret+ofMINE"}


def from_sts(directory, url):
    (directory / "token").write_text("word\n", encoding="ascii")
    return {"AWS_WEB_IDENTITY_TOKEN_FILE": str(directory / "token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}


def from_container(directory, url):
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/container"}


def from_instance(directory, url):
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}


@pytest.mark.parametrize("source", ["s3://bucket/d/data", "s3://bucket/d/"], ids=["object", "prefix"])
@pytest.mark.parametrize("credentials", [from_environment, from_sts, from_container, from_instance])
def test_aws_is_waited_for(stagerun, dest, tmp_path, credentials, source):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stagerun.configure(network=PATIENT)
    env = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": None,
           **credentials(tmp_path, url)}
    running = stagerun.start("fetch", source, dest, env=env)
    wait_until(lambda: "not reachable yet" in running.err(), 5, "the line at once")
    time.sleep(0.4)

    def prepare(aws):
        aws.objects["bucket/d/data"] = b"data"
        aws.add("MINE", "the/secret+ofMINE")

    aws = FakeAws(port, prepare)
    try:
        assert_said_once(running.wait().ok())
        assert (dest / "data").read_bytes() == b"data"
    finally:
        aws.close()
