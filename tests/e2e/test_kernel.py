# SPDX-License-Identifier: MIT
"""Kernels and containers that refuse: system calls, processes, processors, a place for temporary files."""

import os
import random
import shlex
import time
import uuid
from pathlib import Path

import pytest
from agent import sanitizer, wait_until
from archives import COMPRESS, file, hardlink, symlink, tar, zip_entry, zip_of
from faultserver import stall
from python_env import requirements, wheel, with_pip
from seccomp import refusing

# What an old profile may never have heard of, and what is done without where it is refused.
UNKNOWN = ["renameat2", "faccessat2", "openat2", "statx", "close_range", "pidfd_open",
           "pidfd_send_signal", "memfd_create", "copy_file_range", "fallocate", "getrandom", "sendfile",
           "splice", "io_uring_setup", "membarrier", "inotify_init1", "rseq", "preadv2", "execveat",
           "epoll_pwait2", "syncfs", "fadvise64", "madvise", "prctl", "ioprio_set", "sched_getaffinity",
           "futex_waitv", "linkat"]
if sanitizer():  # which needs these itself
    UNKNOWN.remove("sched_getaffinity")
if sanitizer() == "thread":
    UNKNOWN.remove("madvise")
# Nothing works without these: libuv's and glibc's, for which there is no other way by now.
NEEDED = [("clone3", "EPERM", "clone3"), ("signalfd4", "EPERM", "signalfd4"), ("signalfd4", "ENOSYS", "signalfd4"),
          ("epoll_create1", "EPERM", "epoll_create1"), ("eventfd2", "ENOSYS", "eventfd2"),
          ("flock", "EPERM", "flock")]


@pytest.fixture
def sample(stagerun, server, dest):
    """The config.yml of a run that stages a tar and a zip, with actions at both ends."""
    cats = server.put("/cats.tar.gz", COMPRESS["gz"](tar(
        file("cats/a", b"a" * 300000), hardlink("cats/b", "cats/a"), symlink("cats/c", "a"))))
    dogs = server.put("/dogs.zip", zip_of(*[zip_entry(f"d{i}", b"wuff" * i) for i in range(20)]))
    return stagerun.config(f"""
compute:
  train:
    actions:
      on_experiment_start:
        - stage: {{source: "{cats.url}", to: {dest}}}
        - stage: {{source: "{dogs.url}", to: {dest}-dogs}}
        - echo NAME=tabby >> $STAGERUN_ENV
      on_experiment_end:
        - echo the end of $NAME
""")


def run(stagerun, config, *wrap, **how):
    return stagerun.run("run", "--config", config, "--", "sh", "-c", 'echo "$NAME"', wrap=list(wrap), **how)


def assert_worked(result, dest):
    assert result.ok().out == "tabby\nthe end of tabby\n"
    assert (dest / "cats/c").read_bytes() == (dest / "cats/b").read_bytes() == b"a" * 300000
    assert len(list(Path(f"{dest}-dogs").glob("d*"))) == 20


# System calls.


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", UNKNOWN)
def test_a_run_does_without_a_call_that_seccomp_does_not_know(stagerun, sample, dest, call, code):
    assert_worked(run(stagerun, sample, *refusing(code, call)), dest)


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_a_run_does_without_all_of_them_at_once(stagerun, sample, dest, code):
    calls = UNKNOWN + (["clone3"] if code == "ENOSYS" else [])
    assert_worked(run(stagerun, sample, *refusing(code, *calls)), dest)


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_a_datastore_is_created_and_fetched_without_all_of_them(stagerun, store, dest, code):
    source = stagerun.directory / "source"
    source.mkdir()
    (source / "a").write_bytes(b"a" * 100000)
    wrap = refusing(code, *UNKNOWN)
    stagerun.run("datastore", "create", "--name", "cats", source, wrap=wrap).ok()
    stagerun.fetch("datastore:cats:1", dest, wrap=wrap).ok()
    assert (dest / "a").read_bytes() == b"a" * 100000 and store.exists()


@pytest.mark.parametrize("call, code, named", NEEDED)
def test_a_call_that_is_needed_and_refused_is_named_with_seccomp_in_one_line(stagerun, server, dest, call, code,
                                                                             named):
    source = server.put("/cats.tar", tar(file("a")))
    result = stagerun.fetch(source.url, dest, wrap=refusing(code, call))
    result.failed(1, f"seccomp.*{named}")
    assert len(result.err.splitlines()) == 1


# Processes and threads.


@pytest.fixture
def own_threads():
    if sanitizer():
        pytest.skip("a sanitizer starts threads of its own, and ends the program when it cannot")
    return True


@pytest.fixture
def pids():
    """Words that put a command into a control group that allows so many processes and threads."""
    for parent in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        group = Path(parent, f"stagerun-{uuid.uuid4().hex}")
        try:
            group.mkdir()
            (group / "pids.max").write_text("max")
            break
        except OSError:
            if group.exists():
                group.rmdir()
    else:
        pytest.skip("no pids control group can be made here (needs root, and a mounted one)")

    def limited(number):
        (group / "pids.max").write_text(str(number))
        return ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "enter"]
    yield limited
    wait_until(lambda: not (group / "cgroup.procs").read_text(), what="an empty group")
    group.rmdir()


@pytest.fixture
def user_limit(stagerun):
    """Words that make a command another user's, who may have so many processes and threads."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user of which nothing else runs")
    stagerun.directory.chmod(0o755)
    for directory in (stagerun.home, stagerun.cwd, stagerun.tmp):
        directory.chmod(0o777)
    uid = random.randrange(200_000, 2_000_000)
    return lambda number: ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "bash", "-c",
                           f'ulimit -u {number} && exec "$@"', "limited"]


def open_to_all(path):
    for p in [path, *path.parents][:6]:
        if os.access(p, os.W_OK) and p != Path("/tmp"):
            p.chmod(p.stat().st_mode | 0o755)
    path.chmod(0o777)


@pytest.mark.parametrize("kind", ["pids", "user_limit"])
def test_few_threads_are_enough_or_the_limit_is_named(stagerun, sample, dest, kind, request, own_threads):
    assert own_threads
    limited = request.getfixturevalue(kind)
    open_to_all(dest.parent)
    words = {"pids": "pids.max", "user_limit": r"ulimit -u"}[kind]
    ended = {}
    for number in (1, 2, 3, 5, 8, 13):
        result = run(stagerun, sample, *limited(number))
        ended[number] = result.code
        if result.code != 0:
            result.failed(125, f"cannot start a thread: Resource temporarily unavailable: .* {number} "
                               f"processes and threads.*{words}|{words}")
            continue
        assert_worked(result, dest)
        break
    assert ended[1] == 125
    assert 0 in ended.values(), ended


def test_threads_that_are_not_needed_leave_process_ids_to_children(stagerun, server, pids, dest, own_threads):
    """Twelve stages at once, and still the action's three processes find their place."""
    assert own_threads
    items = "".join(f"""
        - stage: {{source: "{server.put(f"/{i}.tar.gz", COMPRESS["gz"](tar(file("a", os.urandom(50000))))).url}",
                   to: {dest}-{i}}}""" for i in range(12))
    config = stagerun.config(f"""
compute:
  train:
    actions:
      on_experiment_start: {items}
        - echo three | cat | cat
""")
    result = stagerun.run("run", "--config", config, "--", "true", wrap=pids(18))
    assert result.ok().out == "three\n"


def test_a_child_that_cannot_be_started_names_the_limit(stagerun, pids, own_threads):
    assert own_threads
    config = stagerun.config("compute: {train: {actions: {on_experiment_start: [echo never]}}}\n")
    stagerun.run("run", "--config", config, "--", "true", wrap=pids(1)).failed(125, r"fork: .*limit of 1 .*pids\.max")


# Processors.


@pytest.fixture
def half_a_processor():
    """Words that put a command into a control group that may use half a processor."""
    group = Path("/sys/fs/cgroup/cpu", f"stagerun-{uuid.uuid4().hex}")
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        group = Path("/sys/fs/cgroup", group.name)
        try:
            group.mkdir()
            (group / "cpu.max").write_text("50000 100000")
        except OSError as why:
            pytest.skip(f"no cpu control group can be made here: {why}")
    yield ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "enter"]
    wait_until(lambda: not (group / "cgroup.procs").read_text(), what="an empty group")
    group.rmdir()


def test_a_quota_bounds_the_threads(stagerun, server, dest, half_a_processor):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor is one thread without a quota, too")
    content = [zip_entry(f"d{i}", os.urandom(300000)) for i in range(8)]

    def threads(wrap, to):
        """While the content is awaited: those that inflate wait for it."""
        source = server.put(f"/{to.name}.zip", zip_of(*content), stall(1000, times=None, when=lambda r: r.range is not None
                            and r.range[0] < 2000000))
        running = stagerun.start("fetch", source.url, to, wrap=wrap)
        wait_until(lambda: len(source.requests) >= 2, what="the content's request")
        count = wait_until(lambda: steady(running.pid), what="a steady number of threads")
        running.stop()
        return count

    assert threads([], Path(f"{dest}-2")) > threads(half_a_processor, Path(f"{dest}-1"))


def steady(pid):
    seen = set()
    for _ in range(10):
        seen.add(len(os.listdir(f"/proc/{pid}/task")))
        time.sleep(0.02)
    return seen.pop() if len(seen) == 1 else None


# Temporary files.

READ_ONLY = r"""
keep={keep}
mount --bind "$keep" "$keep" && mount --rbind /tmp /tmp && mount -o remount,bind,ro /tmp || exit 99
for dir in {dirs}; do mount -t tmpfs -o ro tmpfs "$dir" || exit 99; done
exec "$@"
"""


@pytest.fixture
def read_only(root, stagerun, tmp_path):
    """Words before a command for which nothing is writable but the test's own directory, and what is not named here."""
    def words(*dirs):
        script = READ_ONLY.format(keep=shlex.quote(str(tmp_path)), dirs=shlex.join(dirs))
        stagerun.env["HOME"] = "/proc"
        return ["unshare", "-m", "sh", "-c", script, "sh"]
    return words


def test_variables_pass_where_tmpdir_and_tmp_cannot_be_written_to(stagerun, sample, dest, read_only):
    result = run(stagerun, sample, *read_only("/var/tmp"), env={"TMPDIR": "/gone"})
    assert_worked(result, dest)
    assert "warning: temporary files go to /dev/shm (/gone: No such file or directory)" in result.err
    assert result.err.count("temporary files") == 1


def test_variables_pass_through_memory_where_nothing_can_be_written_to(stagerun, sample, dest, read_only):
    result = run(stagerun, sample, *read_only("/var/tmp", "/dev/shm"), env={"TMPDIR": "/gone"})
    assert_worked(result, dest)
    assert "$STAGERUN_ENV are kept in memory" in result.err


@pytest.mark.parametrize("options", ["nr_inodes=1", "size=4k"])
def test_a_tmpdir_without_room_is_not_used(stagerun, sample, dest, root, options):
    fill = f'mount -t tmpfs -o {options} tmpfs "$TMPDIR"; echo full > "$TMPDIR/full"; exec "$@"'
    result = run(stagerun, sample, "unshare", "-m", "sh", "-c", fill, "sh")
    assert_worked(result, dest)
    assert f"{stagerun.tmp}: No space left on device" in result.err


def test_nowhere_for_variables_is_found_before_staging(stagerun, server, sample, dest, read_only):
    wrap = [*read_only("/var/tmp", "/dev/shm"), *refusing("EPERM", "memfd_create")]
    result = run(stagerun, sample, *wrap, env={"TMPDIR": "/gone"})
    result.failed(125, r"\$STAGERUN_ENV: .*/gone: No such file.*/tmp: Read-only file system.*set TMPDIR")
    assert not server.requests() and not dest.exists()


def test_end_actions_run_where_their_variables_have_no_place(stagerun, read_only):
    config = stagerun.config("compute: {train: {actions: {on_experiment_end: [echo the end]}}}\n")
    wrap = [*read_only("/var/tmp", "/dev/shm"), *refusing("ENOSYS", "memfd_create")]
    result = stagerun.run("run", "--config", config, "--", "true", wrap=wrap, env={"TMPDIR": "/gone"})
    assert result.ok().out == "the end\n"
    assert "what it adds to $STAGERUN_ENV is lost" in result.err


def test_hooks_run_where_temporary_files_have_no_place(stagerun, read_only, tmp_path):
    hook = tmp_path / "hooks/on_stage_start/10-name"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\necho NAME=tabby >> $STAGERUN_ENV\n")
    hook.chmod(0o755)
    stagerun.configure(hooks={"dir": tmp_path / "hooks"})
    result = stagerun.run("run", "--", "sh", "-c", "echo $NAME", wrap=read_only("/var/tmp", "/dev/shm"),
                          env={"TMPDIR": "/gone"})
    assert result.ok().out == "tabby\n"


@pytest.fixture
def dependencies(stagerun, tmp_path):
    stagerun.env["PATH"] = f"{with_pip(tmp_path / 'venv')}:{stagerun.env['PATH']}"
    stagerun.env["PIP_CONFIG_FILE"] = "/dev/null"
    wheel(stagerun.cwd, "catalogue")
    return requirements(stagerun.cwd / "requirements.txt", "catalogue")


def test_dependencies_are_installed_where_tmpdir_is_gone(stagerun, dependencies):
    result = stagerun.run("run", "--dependency_file", dependencies, "--", "python3", "-c",
                          "import catalogue; print(catalogue.ANSWER)", env={"TMPDIR": "/gone"})
    assert result.ok().out == "42\n"
    assert "temporary files of the dependencies go to /" in result.err


def test_dependencies_without_a_place_are_found_before_staging(stagerun, server, dependencies, dest, read_only):
    cats = server.put("/cats.tar", tar(file("a")))
    stagerun.run("run", "--dependency_file", dependencies, "--stage", f"{cats.url}={dest}", "--", "true",
                 wrap=read_only("/var/tmp", "/dev/shm"), env={"TMPDIR": "/gone"}) \
        .failed(125, "dependencies: there is no directory for temporary files .*/gone: No such file")
    assert not server.requests()
