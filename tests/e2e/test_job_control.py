# SPDX-License-Identifier: MIT
"""On a terminal: an interactive shell, the agent as one of its jobs, and keys that somebody presses."""

import os
import pty
import re
import select
import signal
import termios
import time

import pytest
from agent import BINARY, wait_until
from processes import NAMESPACE, Process

CTRL_C, CTRL_Z, CTRL_D = b"\x03", b"\x1a", b"\x04"


class Terminal:
    """A pseudo terminal with a program as its session's leader. Collects what appears on it."""

    def __init__(self, argv, env, cwd):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(argv[0], [str(a) for a in argv], env)
        attributes = termios.tcgetattr(self.fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # nobody has it open any more
                return False
        return True

    def type(self, keys):
        os.write(self.fd, keys if isinstance(keys, bytes) else keys.encode())

    def expect(self, pattern):
        """Waits for the pattern, and forgets what came up to its end."""
        def search():
            self.read(0.02)
            return re.search(pattern, self.text)

        try:
            match = wait_until(search, what=f"{pattern!r} on the terminal")
        except AssertionError as e:
            raise AssertionError(f"{e}; it shows:\n{self.text}") from None
        self.text = self.text[match.end():]
        return match

    def foreground(self):
        return os.tcgetpgrp(self.fd)

    def close(self):
        try:
            os.killpg(self.pid, signal.SIGHUP)
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(stagerun):
    opened = []

    def start(*argv):
        opened.append(Terminal(argv, {**stagerun.env, "PS1": "$ ", "TERM": "dumb"}, stagerun.cwd))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def shell(terminal):
    """bash, interactive: it knows of jobs."""
    bash = terminal("bash", "--norc", "--noprofile", "--noediting", "-i")
    bash.expect(r"\$ ")
    bash.run = lambda command: bash.type(f"{BINARY} run --supervise always -- {command}\n")
    return bash


def test_the_command_is_in_the_foreground_and_gives_the_terminal_back(shell):
    shell.run("sh -c 'echo $$ is here; cat; exit 3'")
    command = int(shell.expect(r"(\d+) is here")[1])
    assert shell.foreground() == command == Process(command).group
    shell.type("typed\n")
    shell.expect("typed")
    shell.type(CTRL_D)
    shell.expect(r"\$ ")
    shell.type("echo status $?\n")
    shell.expect("status 3")


def test_ctrl_c_reaches_the_command_once(shell):
    shell.run("sh -c 'trap \"echo interrupted\" INT; echo here; while ! test -e go; do sleep 0.05; done'")
    shell.expect("here")
    shell.type(CTRL_C)
    shell.expect("interrupted")
    time.sleep(0.3)
    shell.read(0.05)
    assert "interrupted" not in shell.text
    shell.type(CTRL_C)
    shell.expect("interrupted")


def test_ctrl_c_ends_a_command_that_does_not_catch_it(shell):
    shell.run("sh -c 'echo here; exec sleep 60'")
    shell.expect("here")
    shell.type(CTRL_C)
    shell.expect(r"\$ ")
    shell.type("echo status $?\n")
    shell.expect("status 130")


def test_ctrl_z_stops_the_job_and_fg_goes_on_with_it(shell):
    shell.run("sh -c 'echo $$ here; exec cat'")  # a vfork that Ctrl-Z hits would stop only its child
    command = int(shell.expect(r"(\d+) here")[1])
    agent = Process(command).parent
    shell.type(CTRL_Z)
    shell.expect(r"Stopped")
    assert Process(command).state == "T" and Process(agent).state == "T"
    shell.type("fg\n")
    shell.expect("stagerun")
    wait_until(lambda: shell.foreground() == Process(command).group, what="the terminal's return")
    wait_until(lambda: Process(command).state == "S", what="the command's return")
    shell.type("again\n")
    shell.expect("again")
    shell.type(CTRL_D)
    shell.expect(r"\$ ")


def test_bg_goes_on_without_the_terminal(shell, stagerun):
    os.mkfifo(stagerun.cwd / "go")
    # It starts no process while it waits: a shell whose child is stopped before it executes is not stopped.
    shell.run("sh -c 'echo $$ here; read word <go; touch done'")
    command = int(shell.expect(r"(\d+) here")[1])
    shell.type(CTRL_Z)
    shell.expect(r"Stopped")
    shell.type("bg\n")
    wait_until(lambda: Process(command).state != "T", what="the command's return")
    assert shell.foreground() == shell.pid
    (stagerun.cwd / "go").write_text("word\n", encoding="ascii")
    wait_until((stagerun.cwd / "done").exists, what="its end")


def test_a_background_job_that_reads_is_stopped_and_fg_gives_it_the_terminal(shell):
    shell.type(f"{BINARY} run --supervise always -- sh -c 'echo $$ here; read line; echo got $line' &\n")
    command = int(shell.expect(r"(\d+) here")[1])
    wait_until(lambda: Process(Process(command).parent).state == "T", what="the job's stop")
    shell.type("fg\n")
    shell.expect("stagerun")
    wait_until(lambda: shell.foreground() == Process(command).group, what="the terminal")
    shell.type("words\n")
    shell.expect("got words")


def test_in_a_pipeline_the_others_keep_the_terminal(shell):
    """The last member of the job reads from the terminal, as a pager does."""
    shell.type(f"{BINARY} run --supervise always -- echo piped | (cat; read key </dev/tty; echo key $key)\n")
    shell.expect("piped")
    shell.type("q\n")
    shell.expect("key q")


def test_a_command_in_a_pipeline_gets_the_terminal_when_it_asks(shell):
    shell.run("sh -c 'echo here; read line; echo got $line' | cat")
    shell.expect("here")
    shell.type("words\n")
    shell.expect("got words")


def test_a_signal_to_the_agent_alone_stops_and_continues_both(shell):
    # exec: a cat that nobody stopped could read what is typed for the shell.
    shell.run("sh -c 'echo $$ here; exec cat'")
    command = int(shell.expect(r"(\d+) here")[1])
    agent = Process(command).parent
    os.kill(agent, signal.SIGTSTP)
    shell.expect("Stopped")
    assert Process(command).state == "T"
    shell.type("fg\n")
    wait_until(lambda: Process(command).state == "S", what="the command's return")


def test_as_pid_1_ctrl_c_and_the_keyboard_are_the_commands(terminal, pid_1):
    container = terminal(*NAMESPACE, BINARY, "run", "--", "sh", "-c",
                         "trap 'echo interrupted; exit' INT; echo here; read line; echo got $line;"
                         # A shell that begins to read as the signal comes would not look at it.
                         "while :; do sleep 0.05; done")
    container.expect("here")
    container.type("one\n")
    container.expect("got one")
    container.type(CTRL_C)
    container.expect("interrupted")


def test_as_pid_1_ctrl_z_does_not_stop_a_run_that_nobody_could_continue(terminal, pid_1):
    container = terminal(*NAMESPACE, BINARY, "run", "--", "sh", "-c", "echo here; read line; echo got $line")
    container.expect("here")
    container.type(CTRL_Z)
    time.sleep(0.2)
    container.type("words\n")
    container.expect("got words")
