# SPDX-License-Identifier: MIT
"""The agent as the command's parent: the command notices nothing, the agent passes everything on."""

import json
import os
import resource
import signal
import subprocess
import time

import pytest
from agent import BINARY, SANITIZER_EXIT, Running, sanitizer, wait_until
from archives import file, tar
from faultserver import rate
from processes import (NAMESPACE, Process, children, command_is_ready, first_child, is_gone, lines,
                       start_as_pid_1, zombies_of)
from stopwatch import SOON, Stopwatch

STAY = ["run", "--supervise", "always", "--"]
# All but the two that cannot be caught, SIGCHLD, and the two that the C library keeps to itself.
FORWARDED = sorted(set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33})


@pytest.fixture(params=["PID 1", "sub-reaper"])
def start(request, stagerun):
    """Starts the agent as a parent in both ways; gives its Running and its pid."""
    if request.param == "PID 1":
        request.getfixturevalue("pid_1")
        return lambda *args, **how: start_as_pid_1(stagerun, *args, **how)

    def start_here(*args, **how):
        running = stagerun.start(*args, **how)
        return running, running.pid
    return start_here


# What the command gets.

def seen_by(probe, stagerun, wrap, **how):
    env = {**stagerun.env, "ODD": "a\nb", "EMPTY": ""}
    result = Running([*wrap, probe, "a", "", "two words"], env, stagerun.cwd, stagerun.directory, **how)
    seen = json.loads(result.wait().ok().out)
    return {**seen, "fds": list(seen["fds"])}


def prepare():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, signal.SIGTERM])
    os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_the_command_gets_exactly_what_it_would_get_without_us(stagerun, probe):
    with open(stagerun.directory / "extra", "wb") as extra:
        how = {"preexec_fn": prepare, "pass_fds": [extra.fileno()]}
        direct = seen_by(probe, stagerun, [], **how)
        assert seen_by(probe, stagerun, [BINARY, *STAY], **how) == direct
        assert len(direct["blocked"]) == 2 and len(direct["ignored"]) >= 2
        assert str(extra.fileno()) in direct["fds"]


def test_standard_input_is_the_commands(stagerun):
    reader, writer = os.pipe()
    os.write(writer, b"for the command\n")
    os.close(writer)
    with open(reader, "rb") as stdin:
        assert stagerun.run(*STAY, "cat", stdin=stdin).ok().out == "for the command\n"


def test_the_command_has_a_process_group_of_its_own_in_our_session(stagerun):
    running = stagerun.start(*STAY, "sleep", "60")
    command = Process(first_child(running.pid, "sleep"))
    assert command.group == command.pid
    assert os.getsid(command.pid) == os.getsid(running.pid)


# How it ends.

def test_every_exit_status_is_passed_on(stagerun):
    statuses = list(range(256)) if not sanitizer() else [n for n in range(0, 256, 9) if n != SANITIZER_EXIT]
    codes = []
    for first in range(0, len(statuses), 32):
        running = [stagerun.start(*STAY, "sh", "-c", f"exit {n}")
                   for n in statuses[first:first + 32]]
        codes += [r.wait().code for r in running]
    assert codes == statuses


def test_every_exit_status_is_passed_on_by_pid_1(stagerun, pid_1):
    running = [stagerun.start("run", "--", "sh", "-c", f"exit {n}", wrap=NAMESPACE)
               for n in (0, 1, 2, 77, 125, 126, 127, 128, 143, 254, 255)]
    assert [r.wait().code for r in running] == [0, 1, 2, 77, 125, 126, 127, 128, 143, 254, 255]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGRTMAX])
def test_a_signal_that_ends_the_command_is_told_as_128_more(stagerun, number):
    assert stagerun.run(*STAY, "sh", "-c", f"ulimit -c 0; kill -{int(number)} $$").code == 128 + number


@pytest.mark.parametrize("command, code", [("no-such-command", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_executed_is_told_as_without_a_parent(stagerun, command, code):
    words = stagerun.run("run", "--supervise", "never", "--", command).failed(code, command).err
    assert stagerun.run(*STAY, command).failed(code).err == words


# Signals.

def test_every_signal_reaches_the_command(start, probe):
    running, agent = start(*STAY, probe, "+signals", len(FORWARDED))
    command_is_ready(running)
    for n, number in enumerate(FORWARDED):
        os.kill(agent, number)
        wait_until(lambda n=n: len(lines(running)) == n + 2 or running.finished(),
                   what=f"signal {number}")
    assert running.wait().ok().out.split() == ["ready", *(str(n) for n in FORWARDED)]


def test_the_value_of_a_queued_signal_reaches_the_command(stagerun, probe):
    running = stagerun.start(*STAY, probe, "+signals", 3)
    command_is_ready(running)
    for value in (7, 8, 9):
        subprocess.run(["/bin/kill", "-q", str(value), "-s", "RTMIN+3", str(running.pid)], check=True)
    number = signal.SIGRTMIN + 3
    assert running.wait().ok().out.split("\n")[1:4] == [f"{number} {v}" for v in (7, 8, 9)]


def test_signals_that_came_before_the_command_was_there_reach_it(start, stagerun, server, dest, probe):
    served = server.put("/x.tar", tar(file("a", bytes(100_000))))
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: "
                             "['touch acting; while ! test -e go; do sleep 0.01; done']}}}\n")
    # Blocked, as inherited by the command: it is not ready for them at once.
    running, agent = start("run", "--supervise", "always", "--stage", f"{served.url}={dest}",
                           "--config", config, "--", probe, "+signals", 2,
                           preexec_fn=lambda: signal.pthread_sigmask(
                               signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2]))
    wait_until((stagerun.cwd / "acting").exists, what="the action")
    os.kill(agent, signal.SIGUSR1)
    os.kill(agent, signal.SIGUSR2)
    (stagerun.cwd / "go").touch()
    result = running.wait().ok()
    assert sorted(result.out.split()) == ["10", "12", "ready"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_staging_ends_the_run_within_a_second(start, stagerun, server, dest, slowness,
                                                             number):
    served = server.put("/x.tar", tar(file("a", os.urandom(2_000_000))), rate(100_000))
    running, agent = start("run", "--supervise", "always", "--stage", f"{served.url}={dest}", "--",
                           "touch", "ran")
    wait_until(lambda: any(r.sent > 50_000 for r in served.requests), what="some bytes")
    watch = Stopwatch()
    os.kill(agent, number)
    assert running.wait().code == 128 + number
    assert watch.read() < SOON * slowness
    assert stagerun.leftovers() == [] and not (stagerun.cwd / "ran").exists()


def test_an_ignored_signal_stays_ignored_and_is_not_passed_on(stagerun):
    """As under nohup."""
    running = stagerun.start(*STAY, "sh", "-c", "echo ready; exec sleep 60", wrap=[
        "sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""])
    command_is_ready(running)
    running.signal(signal.SIGHUP)
    time.sleep(0.1)
    assert not running.finished()
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143


WORKERS = "for i in 1 2 3; do sh -c 'trap \"echo worker; exit\" TERM; while :; do sleep 0.01; done' & done; "


@pytest.mark.parametrize("forward, told", [("command", 0), ("group", 3)])
def test_a_signal_goes_to_the_command_or_to_its_whole_group(stagerun, forward, told):
    stagerun.configure(process={"forward": forward, "group_wait": "100ms"})
    running = stagerun.start(*STAY, "sh", "-c", f"trap 'sleep 0.3; echo saved; kill -9 0' TERM; {WORKERS}"
                             "echo ready; while :; do sleep 0.01; done")
    command_is_ready(running)
    time.sleep(0.2)
    running.signal(signal.SIGTERM)
    out = running.wait().out.split()
    assert out.count("worker") == told and "saved" in out


# Orphans.

def test_ten_thousand_orphans_at_once_leave_no_zombie(start, stagerun, probe):
    running, agent = start(*STAY, "sh", "-c", 'while ! test -e go; do sleep 0.01; done; exec "$0" +orphans 10000', probe)
    first_child(agent, "sh")
    os.kill(agent, signal.SIGSTOP)  # they pile up
    (stagerun.cwd / "go").touch()
    wait_until(lambda: "made" in lines(running), seconds=40, what="the making of orphans")
    assert len(zombies_of(agent)) > 9_000
    os.kill(agent, signal.SIGCONT)
    wait_until(lambda: len(children(agent)) == 1, what="the end of all but the command")
    os.kill(agent, signal.SIGTERM)
    assert running.wait().code == 143


def test_an_orphan_of_an_orphan_is_waited_for(start):
    """A double fork, as a daemon does it, whose grandchild ends later than its parents."""
    running, agent = start(*STAY, "sh", "-c", "(sh -c 'sleep 1 & echo $! > pid' &); echo ready; exec sleep 60")
    command_is_ready(running)
    wait_until(lambda: len(children(agent)) == 2, what="the adoption of the orphan")
    wait_until(lambda: len(children(agent)) == 1, what="its end")
    os.kill(agent, signal.SIGTERM)
    assert running.wait().code == 143


def test_without_a_reason_to_stay_children_that_were_there_before_are_not_taken(stagerun):
    """They belong to the command, which takes our place: this one finds its zombie."""
    running = stagerun.start("run", "--", "sleep", "60", wrap=[
        "sh", "-c", 'sleep 0.1 & sleep 0.3; sleep 0 & exec "$0" "$@"'])
    wait_until(lambda: Process(running.pid).name == "sleep", what="the command")
    wait_until(lambda: zombies_of(running.pid), what="the zombie")


# The rest of its group.

def test_the_rest_of_the_group_may_end_by_itself(start, slowness):
    watch = Stopwatch()
    running, _ = start(*STAY, "sh", "-c", "(sleep 0.4; echo checkpoint) & exit 3")
    result = running.wait()
    assert result.code == 3 and result.out == "checkpoint\n"
    assert watch.read() < 3 * slowness
    assert "processes in its group" not in result.err


def test_what_does_not_end_by_itself_gets_sigterm(start, stagerun):
    stagerun.configure(process={"group_wait": "200ms"})
    running, _ = start(*STAY, "sh", "-c",
                       "sh -c 'trap \"echo told; exit\" TERM; while :; do sleep 0.01; done' & sleep 0.1")
    result = running.wait().ok()
    assert result.out == "told\n" and "processes in its group" in result.err
    assert stagerun.leftovers() == []


def test_what_ignores_sigterm_is_killed(start, stagerun, slowness):
    stagerun.configure(process={"group_wait": "100ms"})
    watch = Stopwatch()
    running, _ = start(*STAY, "sh", "-c", "trap '' TERM; sleep 60 & exit 4")
    assert running.wait().code == 4
    assert 1 < watch.read() < 4 * slowness
    assert stagerun.leftovers() == []


def test_what_left_the_group_is_ended_at_the_very_end(start, stagerun):
    running, agent = start(*STAY, "sh", "-c", "setsid sh -c 'trap \"touch told; exit\" TERM; touch there; "
                           "while :; do sleep 0.01; done' & while ! test -e there; do sleep 0.01; done")
    assert running.wait().ok()
    assert (stagerun.cwd / "told").exists() and is_gone(agent)
    assert stagerun.leftovers() == []


def test_what_left_the_group_and_ignores_sigterm_is_killed_too(start, stagerun):
    running, _ = start(*STAY, "setsid", "-f", "sh", "-c", "trap '' TERM; sleep 60; sleep 60")
    running.wait().ok()
    assert stagerun.leftovers() == []


# What it costs.

def test_a_waiting_parent_takes_no_processor_time(stagerun):
    running = stagerun.start(*STAY, "sleep", "60")
    first_child(running.pid, "sleep")

    def switches():
        text = open(f"/proc/{running.pid}/status", encoding="ascii").read()
        return int(text.partition("nonvoluntary_ctxt_switches:")[0].rpartition("ctxt_switches:")[2])

    wait_until(lambda: Process(running.pid).state == "S", what="the parent's sleep")
    time.sleep(0.2)
    before = switches()
    time.sleep(0.5)
    assert switches() == before


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024


def gigabyte(path):
    """Ten files of 100 MiB that compress well: it is the agent's memory that is looked at."""
    zeros = path.parent / "zeros"
    with open(zeros, "wb") as f:
        f.truncate(100 << 20)
    names = [path.parent / str(n) for n in range(10)]
    for name in names:
        os.link(zeros, name)
    subprocess.run(["tar", "-c", "--hard-dereference", "-I", "zstd -q -1", "-f", path, "-C", path.parent,
                    *(n.name for n in names)], check=True)


def test_a_parent_holds_under_ten_mebibytes_after_a_stage_of_a_gigabyte(stagerun, nginx, plain_build,
                                                                        tmp_path, dest):
    gigabyte(tmp_path / "big.tar.zst")
    os.rename(tmp_path / "big.tar.zst", nginx.root / "big.tar.zst")
    running = stagerun.start("run", "--supervise", "always", "--stage",
                             f"{nginx.url('big.tar.zst')}={dest}", "--", "sleep", "60")
    wait_until(lambda: any(p.name == "sleep" for p in children(running.pid)), seconds=50,
               what="the command")
    wait_until(lambda: Process(running.pid).state == "S", what="the parent's sleep")
    assert (dest / "0").stat().st_size == 100 << 20
    assert pss(running.pid) < 10 << 20
    assert len(os.listdir(f"/proc/{running.pid}/task")) == 1
