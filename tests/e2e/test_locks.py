# SPDX-License-Identifier: MIT
"""What somebody else holds: it is said who, and waited for as long as lock_timeout allows."""

import os
import re
import socket

import pytest
from agent import wait_until
from archives import file, tar
from faultserver import stall
from trees import found_below

WHO = r"process {pid} on {host}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def held(stagerun, server, dest):
    """An agent that stages into dest and has the lock, with the source that it waits for."""
    source = server.put("/cats.tar", tar(file("a", os.urandom(100000))), stall(5000, times=None))
    stagerun.configure(network={"stall_timeout": "60s"})
    holder = stagerun.start("fetch", source.url, dest)
    wait_until(lambda: list(dest.parent.glob(".stagerun/*/owner")), what="the owner's file")
    wait_until(lambda: source.requests, what="the request")
    yield holder, source
    holder.stop()


def who(holder):
    return WHO.format(pid=holder.pid, host=re.escape(socket.gethostname()))


def test_who_waits_says_at_once_for_whom_and_since_when(stagerun, held, dest):
    holder, source = held
    second = stagerun.start("fetch", source.url, dest)
    wait_until(lambda: "waiting for" in second.err(), what="a word")
    assert re.search(rf"waiting for another agent that is staging {dest} \({who(holder)}\)", second.err())


@pytest.mark.parametrize("timeout", ["0", "300ms"])
def test_a_destination_that_stays_locked_is_an_error_after_lock_timeout(stagerun, held, dest, timeout):
    holder, source = held
    stagerun.configure(stage={"lock_timeout": timeout})
    result = stagerun.fetch(source.url, dest)
    result.failed(1, rf"another agent is staging {dest} \({who(holder)}\).*lock_timeout in agent.ini")
    assert len(source.requests) == 1 and not holder.finished()


def test_a_run_that_may_not_wait_ends_as_an_agent_that_failed(stagerun, held, dest):
    _, source = held
    stagerun.run("run", "--stage", f"{source.url}={dest}", "--", "true",
                 env={"STAGERUN_STAGE_LOCK_TIMEOUT": "0"}).failed(125, "another agent is staging")


def test_without_a_limit_it_is_waited_until_the_holder_is_gone(stagerun, server, held, dest):
    holder, _ = held
    whole = server.put("/dogs.tar", tar(file("dog")))
    second = stagerun.start("fetch", whole.url, dest)
    wait_until(lambda: "waiting for" in second.err(), what="a word")
    holder.signal(9)
    second.wait().ok()
    assert (dest / "dog").exists()


def test_an_entry_of_the_node_cache_that_stays_locked_is_staged_without_it(stagerun, server, dest, tmp_path):
    dogs = tar(file("dog", os.urandom(100000)))
    source = server.put("/dogs.tar", dogs, stall(5000, times=None))
    stagerun.configure(cache={"dir": tmp_path / "cache"}, stage={"lock_timeout": "0"}, network={"stall_timeout": "60s"})
    first = stagerun.start("fetch", source.url, f"{dest}-1")
    wait_until(lambda: found_below(tmp_path / "cache", "owner"), what="the entry's owner")
    wait_until(lambda: source.body_bytes >= 5000, what="the stall")
    source = server.put("/dogs.tar", dogs)
    result = stagerun.fetch(source.url, f"{dest}-2").ok()
    assert re.search(rf"warning: .*{who(first)}.*lock_timeout", result.err)
    first.stop()


def test_a_creation_that_may_not_wait_for_a_collection_says_whose(stagerun, store, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    stagerun.run("datastore", "create", "--name", "cats", source).ok()
    lease = store / "leases" / "collect-0123456789abcdef.json"
    lease.parent.mkdir(exist_ok=True)
    lease.write_text("{}")
    stagerun.configure(stage={"lock_timeout": "0"})
    result = stagerun.run("datastore", "create", "--name", "dogs", source)
    result.failed(1, "removes from .* what nobody needs.*lock_timeout in agent.ini")
    lease.unlink()
    stagerun.run("datastore", "create", "--name", "dogs", source).ok()
