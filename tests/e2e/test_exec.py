# SPDX-License-Identifier: MIT
"""The command gets exactly what the agent was started with, and nothing of the agent's own; its exit
status is the agent's."""

import json
import os
import re
import resource
import signal
from pathlib import Path

import pytest
from agent import Running, sanitizer
from archives import file, tar


@pytest.fixture
def observe(stagerun, probe):
    """Runs the probe through `stagerun run` and returns what it saw."""
    def run(*args, options=(), **how):
        return json.loads(stagerun.run("run", *options, "--", probe, *args, **how).ok().out)
    return run


@pytest.fixture
def direct(stagerun, probe):
    """What the probe sees without an agent: the reference."""
    def run(*args, **how):
        env = {**stagerun.env, **how.pop("env", {})}
        running = Running([*how.pop("wrap", ()), probe, *args], env, stagerun.cwd,
                          stagerun.directory, **how)
        return json.loads(running.wait().ok().out)
    return run


@pytest.fixture(params=["nothing to stage", "a stage", "an action"])
def options(request, stagerun, server, dest):
    """What the agent does before it becomes the command: threads, sockets, children."""
    if request.param == "a stage":
        return ["--stage", f"{server.put('/x.tar', tar(file('a'))).url}={dest}"]
    if request.param == "an action":
        return ["--config", stagerun.config(
            "compute: {train: {actions: {on_experiment_start: ['true']}}}\n")]
    return []


@pytest.mark.parametrize("argv", [[], ["a", "", "two words", "new\nline", "-v", "--", "--help"],
                                  [b"\xff\xfe", "数据"]], ids=["none", "odd", "bytes"])
def test_the_arguments_are_exact(observe, direct, argv):
    assert observe(*argv)["argv"] == direct(*argv)["argv"]


def test_the_environment_is_exact(observe, direct, options):
    odd = {"EMPTY": "", "NEWLINE": "a\nb", "STAGERUN_X": "mine", "lower": "x=y"}
    assert observe(options=options, env=odd)["environment"] == direct(env=odd)["environment"]


def test_the_working_directory_is_the_same(observe, stagerun):
    assert observe()["cwd"] == str(stagerun.cwd)


def test_no_descriptor_is_added(observe, direct, options):
    assert observe(options=options)["fds"].keys() == direct()["fds"].keys()


def test_inherited_descriptors_stay_open(observe, options, tmp_path):
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        seen = observe(options=options, pass_fds=[log.fileno()])
        assert seen["fds"][str(log.fileno())] == str(tmp_path / "log")


def test_dispositions_and_mask_are_those_of_the_agent(observe, direct, options):
    seen, expected = observe(options=options), direct()
    for what in ("blocked", "ignored"):
        assert seen[what] == expected[what], what


def test_ignored_and_blocked_signals_stay_so(observe, direct, options):
    def prepare():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, signal.SIGWINCH])

    seen, expected = observe(options=options, preexec_fn=prepare), direct(preexec_fn=prepare)
    assert seen["ignored"] == expected["ignored"] and seen["blocked"] == expected["blocked"]
    assert len(seen["blocked"]) == 2 and len(seen["ignored"]) >= 2


@pytest.mark.parametrize("umask", ["000", "027", "077"])
def test_the_umask_is_the_same(observe, direct, options, umask):
    wrap = ["sh", "-c", f'umask {umask}; exec "$0" "$@"']
    assert observe(options=options, wrap=wrap)["umask"] == direct(wrap=wrap)["umask"]


def test_limits_are_the_same(observe, direct, options):
    def prepare():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))

    assert observe(options=options, preexec_fn=prepare)["nofile"] == \
        direct(preexec_fn=prepare)["nofile"]


def test_the_command_takes_the_agents_place(stagerun, options):
    running = stagerun.start("run", *options, "--", "sh", "-c", "echo $$; exec sleep 0")
    assert running.wait().ok().out == f"{running.pid}\n"


def test_stdin_is_the_commands(stagerun, options):
    reader, writer = os.pipe()
    os.write(writer, b"for the command\n")
    os.close(writer)
    with open(reader, "rb") as stdin:
        result = stagerun.run("run", *options, "--", "cat", stdin=stdin)
    assert result.ok().out == "for the command\n"


@pytest.mark.parametrize("status", [0, 1, 2, 77, 125, 255])
def test_the_exit_status_is_the_commands(stagerun, status):
    assert stagerun.run("run", "--", "sh", "-c", f"exit {status}").code == status


def test_a_signal_that_ends_the_command_ends_the_agent(stagerun):
    assert stagerun.run("run", "--", "sh", "-c", "kill -TERM $$").code == -signal.SIGTERM


@pytest.mark.parametrize("command", ["no-such-command", "./no-such-script", "/no/such/path"])
def test_a_command_that_is_not_there_is_127(stagerun, command):
    stagerun.run("run", "--", command).failed(127, command, "not found|no such file")


def test_a_command_that_cannot_be_executed_is_126(stagerun):
    (stagerun.cwd / "train.py").write_text("print()\n")
    stagerun.run("run", "--", "./train.py").failed(126, r"train\.py", "permission")
    stagerun.run("run", "--", str(stagerun.cwd)).failed(126, str(stagerun.cwd))


def test_a_script_without_interpreter_line_runs_as_in_a_shell(stagerun):
    script = stagerun.cwd / "script"
    script.write_text("echo from a shell\n")
    script.chmod(0o755)
    assert stagerun.run("run", "--", "./script").ok().out == "from a shell\n"


def test_the_command_is_looked_for_in_the_path_it_will_have(stagerun):
    tools = stagerun.directory / "tools"
    tools.mkdir()
    (tools / "train").write_text("#!/bin/sh\necho trained\n")
    (tools / "train").chmod(0o755)
    path = stagerun.config("compute:\n  train:\n    actions:\n      on_experiment_start:\n"
                           f"        - echo PATH={tools}:$PATH >> $STAGERUN_ENV\n")
    assert stagerun.run("run", "--config", path, "--", "train").ok().out == "trained\n"


def test_a_failed_stage_never_runs_the_command(stagerun, server, dest):
    stagerun.run("run", "--stage", f"{server.url('/gone')}={dest}", "--", "touch", "ran").failed(
        125, "404")
    assert not (stagerun.cwd / "ran").exists()


def test_an_existing_path_under_datastores_is_left_alone(stagerun):
    """No store is configured: such an argument is only a word."""
    assert stagerun.run("run", "--", "echo", "/datastores/cats/1").ok().out == \
        "/datastores/cats/1\n"


def test_the_staged_data_is_there_for_the_command(stagerun, server, dest):
    served = server.put("/x.tar", tar(file("a", b"hello\n")))
    assert stagerun.run("run", "--stage", f"{served.url}={dest}", "--", "cat", dest / "a"
                        ).ok().out == "hello\n"


def test_too_few_descriptors_are_a_failure_and_not_a_crash(stagerun, dest):
    if sanitizer():
        pytest.skip("a sanitizer needs descriptors of its own")
    for limit in range(6, 12):
        result = stagerun.fetch("/etc/passwd", dest,
                                wrap=["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"])
        assert result.code == 1, str(result)


def elf(**changes):
    """The head of this machine's own kind of program, with other bytes at some places."""
    head = bytearray(Path("/bin/true").read_bytes()[:64])
    for place, value in changes.items():
        head[int(place[1:])] = value
    return bytes(head)


@pytest.mark.parametrize("content, says", [
    (elf(_18=183), "built for aarch64, this is x86_64"),
    (elf(_18=243), "built for riscv64, this is x86_64"),
    (elf(_18=21), "built for ppc64le, this is x86_64"),
    (elf(_18=3, _4=1), "built for i386, this is x86_64"),
    (elf(_18=0, _19=22, _5=2), "built for s390x, this is x86_64"),
    (elf(_18=0xe7, _19=0x03), "built for machine number 999, this is x86_64"),
    (elf()[:4], "it is a damaged program"),
    (elf()[:16], "it is a damaged program"),
    (elf()[:6] + b"\n", "it is a damaged program"),
    (elf(), "it is a damaged program"),
    (b"MZ" + bytes(60), "a program for Windows"),
    (b"\xcf\xfa\xed\xfe" + bytes(60), "a program for macOS"),
    (bytes(60), "neither a program for this machine nor a script"),
])
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_program_of_another_machine_is_126_and_says_which(stagerun, content, says, mode):
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    program = stagerun.cwd / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    stagerun.run("run", "--supervise", mode, "--", program).failed(126, re.escape(says))


def test_a_script_whose_interpreter_is_of_another_machine_does_not_end_well(stagerun):
    interpreter, script = stagerun.cwd / "interpreter", stagerun.cwd / "script"
    interpreter.write_bytes(elf(_18=183 if os.uname().machine == "x86_64" else 62))
    script.write_text(f"#!{interpreter}\necho run by a shell\n")
    for path in (interpreter, script):
        path.chmod(0o755)
    result = stagerun.run("run", "--", script).failed(126, "interpreter that its first line names")
    assert result.out == ""
