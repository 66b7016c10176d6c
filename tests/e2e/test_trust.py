# SPDX-License-Identifier: MIT
"""Whose word counts, what others may read, and what two agents do that share no locks."""

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from agent import BINARY, wait_until
from archives import COMPRESS, directory, file, noise, tar, zip_entry, zip_of
from faultserver import rate
from processes import NAMESPACE, start_as_pid_1
from trees import snapshot, unpublished_trees

ALICE, BOB = 4001, 4002
SLOWFS = BINARY.parent / "bench" / "slowfs"
ARCHIVE = tar(file("model.py", b"good\n"), file("d/b", b"good\n"))


def names(root):
    return sorted(os.fsdecode(n) for n in snapshot(root))


@pytest.fixture(name="shared")
def a_directory_of_all_users(place, root):
    """Beneath the directories of a test, which are root's alone, nobody else comes anywhere: a bind mount would
    help nobody either. So the ways to it are opened."""
    above = place.parent
    while above != Path("/tmp") and above != above.parent:
        above.chmod(above.stat().st_mode | 0o055)
        above = above.parent
    shared = place.parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    return shared


def run_as(stagerun, uid, *args, groups=()):
    """As that user, with a home of its own."""
    home = stagerun.directory / f"home-{uid}"
    home.mkdir(exist_ok=True)
    os.chown(home, uid, uid)
    for way in (stagerun.directory, *stagerun.directory.parents):
        if way == Path("/tmp"):
            break
        way.chmod(way.stat().st_mode | 0o055)
    stagerun.ini.chmod(0o644)
    return stagerun.run(*args, env={"HOME": str(home), "TMPDIR": str(home)}, cwd=home,
                        user=uid, group=uid, extra_groups=list(groups))


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("second", [BOB, 0])
def test_what_another_user_staged_stands_for_no_digest(stagerun, server, shared, pinned, second):
    served = server.put("/m.tar", ARCHIVE)
    options = ["--sha256", hashlib.sha256(ARCHIVE).hexdigest()] if pinned else []
    run_as(stagerun, ALICE, "fetch", *options, served.url, shared / "data").ok()
    (shared / "data/model.py").write_text("EVIL\n")
    result = run_as(stagerun, second, "fetch", *options, served.url, shared / "data")
    result.failed(1, f"another user.*{ALICE}")
    run_as(stagerun, second, "fetch", *options, served.url, shared / "elsewhere").ok()
    assert (shared / "elsewhere/model.py").read_text() == "good\n"


def test_another_version_of_another_user_is_described(stagerun, server, shared):
    served = server.put("/m.tar", ARCHIVE)
    run_as(stagerun, 0, "fetch", served.url, shared / "data").ok()
    served.replace(tar(file("later")))
    run_as(stagerun, ALICE, "fetch", served.url, shared / "data").failed(
        1, r"staged by another user \(uid 0\), who alone can replace it, and holds \S+/m\.tar staged at .*, "
           "which is not what is asked for now")


def test_what_root_staged_is_warm_for_everybody(stagerun, server, shared):
    served = server.put("/m.tar", ARCHIVE)
    run_as(stagerun, 0, "fetch", served.url, shared / "data").ok()
    asked = served.body_bytes
    run_as(stagerun, ALICE, "fetch", served.url, shared / "data").ok()
    assert served.body_bytes - asked <= 1


FS_GROUP = 4500


def give_to_group(top, *, setgid=True, others=0):
    """What the kubelet makes of a volume at each mount of a pod with fsGroup."""
    for path in [top, *top.rglob("*")]:
        os.chown(path, -1, FS_GROUP, follow_symlinks=False)
        if path.is_symlink():
            continue
        added = 0o060 if path.is_file() else 0o2070 if setgid else 0o070
        path.chmod(path.stat().st_mode | others | added)


@pytest.mark.parametrize("merged", [False, True])
def test_what_a_volume_of_the_pods_group_holds_is_warm(stagerun, server, shared, merged):
    served = server.put("/m.tar", ARCHIVE)
    shared.chmod(0o755)
    os.chown(shared, ALICE, ALICE)
    if merged:
        (shared / "data").mkdir()
        (shared / "data/users").write_text("")
        os.chown(shared / "data", ALICE, ALICE)
    for _ in range(2):
        run_as(stagerun, ALICE, "fetch", served.url, shared / "data", groups=[FS_GROUP]).ok()
        give_to_group(shared)
    assert served.body_bytes <= len(ARCHIVE) + 1
    run_as(stagerun, ALICE, "fetch", served.url, shared / "other", groups=[FS_GROUP]).ok()
    give_to_group(shared)
    run_as(stagerun, ALICE, "fetch", served.url, shared / "other", groups=[FS_GROUP]).ok()
    assert served.body_bytes <= 2 * len(ARCHIVE) + 2


def test_a_record_of_a_volume_that_the_pods_group_may_write_is_that_of_its_root(stagerun, server, shared):
    served = server.put("/m.tar", ARCHIVE)
    run_as(stagerun, 0, "fetch", served.url, shared / "data").ok()
    give_to_group(shared)
    shared.chmod(0o2775)
    run_as(stagerun, ALICE, "fetch", served.url, shared / "data", groups=[FS_GROUP]).ok()
    assert served.body_bytes <= len(ARCHIVE) + 1


@pytest.mark.parametrize("opened, groups", [
    ({"setgid": False}, [FS_GROUP]), ({"others": 0o002}, [FS_GROUP]), ({}, [FS_GROUP + 1])],
    ids=["without setgid", "to all", "to another group"])
def test_what_else_a_group_may_write_is_not_believed(stagerun, server, shared, opened, groups):
    served = server.put("/m.tar", ARCHIVE)
    run_as(stagerun, ALICE, "fetch", served.url, shared / "data").ok()
    give_to_group(shared, **opened)
    shared.chmod(0o1777)
    run_as(stagerun, ALICE, "fetch", served.url, shared / "data", groups=groups).failed(1, "chmod go-w")


FORGED = {
    "whole": "tools/.stagerun/model/whole.json",
    "own name": "tools/.stagerun-0/model/whole.json",
    "records of a mount root": "tools/model/.stagerun",
    "directory": "a/b/.stagerun/",
}


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_forges_no_state_at_any_depth(stagerun, server, place, case, kind):
    name = FORGED[case]
    if kind == "tar":
        body = tar(file("ok", b""), directory(name) if name.endswith("/") else file(name, b"{}"))
    else:
        body = zip_of(zip_entry("ok", b""), zip_entry(name, b"" if name.endswith("/") else b"{}"))
    stagerun.fetch(server.put("/m", body).url, place.dest).failed(1, r"\.stagerun.* was refused")
    place.assert_nothing_published()


def test_records_do_not_tell_what_the_query_of_a_url_said(stagerun, server, place):
    secret = "glpat-SECRET123456"
    cache = place.parent / "cache"
    stagerun.configure(cache={"dir": str(cache)})
    served = server.put("/m.tar", ARCHIVE)
    url = f"{served.url}?private_token={secret}&access_key={secret}"
    (place.parent / "merged").mkdir()
    (place.parent / "merged/mine").write_text("")
    stagerun.fetch(url, place.dest).ok()
    stagerun.fetch(url, place.parent / "merged").ok()
    slow = server.put("/slow.tar", tar(*(file(f"{i}", noise(100_000, i)) for i in range(20))), rate(300_000))
    running = stagerun.start("fetch", f"{slow.url}?token={secret}", place.parent / "unfinished")
    wait_until(lambda: list(cache.glob("v1/*/.stagerun/tree/unfinished.json")), what="unfinished.json")
    running.signal(signal.SIGKILL)
    running.wait()
    for path in place.parent.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_record_that_holds_the_url_is_still_read(stagerun, server, place):
    served = server.put("/m.tar", ARCHIVE)
    stagerun.fetch(served.url, place.dest).ok()
    record = place.parent / ".stagerun/dest/whole.json"
    lines = record.read_text().splitlines()
    head = json.loads(lines[0])
    head["sources"][0]["key"] = served.url
    record.write_text("\n".join([json.dumps(head), *lines[1:], ""]))
    fetched = served.body_bytes
    stagerun.fetch(served.url, place.dest).ok()
    assert served.body_bytes - fetched <= 1


@pytest.mark.parametrize("what", ["sparse", "one line", "fifo"])
@pytest.mark.parametrize("name", ["whole.json", "journal.json", "unfinished.json", "journal.new"])
def test_state_of_any_size_and_kind_costs_neither_memory_nor_time(
        stagerun, server, place, plain_build, what, name):
    served = server.put("/m.tar", ARCHIVE)
    state = place.parent / ".stagerun/dest"
    state.mkdir(parents=True)
    if what == "fifo":
        os.mkfifo(state / name)
    else:
        with open(state / name, "wb") as out:
            out.write(b'{"format":1,' if what == "one line" else b"")
            out.truncate(1_500_000_000)
    result = stagerun.fetch(served.url, place.dest).ok()
    assert result.rss < 150_000_000
    assert (place.dest / "model.py").read_text() == "good\n"


def modes(top):
    return {str(p.relative_to(top)): stat.S_IMODE(p.lstat().st_mode)
            for p in [top, *top.rglob("*")] if not p.is_symlink()}


def open_to_others(top):
    return {name: oct(mode) for name, mode in modes(top).items() if mode & 0o077}


def test_the_callers_umask_applies_to_what_the_agent_makes(stagerun, server, place):
    to = place.parent / "new/parents/dest"
    served = server.put("/p.csv.gz", COMPRESS["gz"](b"patient records\n"))
    stagerun.fetch(served.url, to, umask=0o077).ok()
    assert modes(to.parent.parent)["parents/dest/p.csv"] == 0o600
    assert open_to_others(place.parent / "new") == {}


def test_the_callers_umask_applies_to_a_merge_and_to_what_an_archive_leaves_open(stagerun, server, place):
    place.dest.mkdir(mode=0o700)
    (place.dest / "mine").touch(mode=0o600)
    served = server.put("/x.tar", tar(file("no/entry/says/a/mode", b"")))
    stagerun.fetch(served.url, place.dest, umask=0o077).ok()
    found = open_to_others(place.dest)
    assert set(found) <= {"no/entry/says/a/mode"}  # the archive says that one's


def test_the_callers_umask_applies_to_a_store_in_a_directory(stagerun, place):
    source = place.parent / "src"
    source.mkdir(mode=0o700)
    (source / "private.csv").write_bytes(noise(100_000, 1))
    store = place.parent / "new/store"
    stagerun.run("datastore", "create", source, "--name", "cats", "--store", f"file://{store}", umask=0o077).ok()
    assert open_to_others(place.parent / "new") == {}


def test_the_modes_of_an_archive_are_exact_under_any_umask(stagerun, server, place):
    body = zip_of(zip_entry("d/", b"", 0o40775), zip_entry("d/run", b"x", 0o100755), zip_entry("d/f", b"x", 0o100664))
    stagerun.fetch(server.put("/x.zip", body).url, place.dest, umask=0o077).ok()
    assert modes(place.dest)["d"] == 0o775
    assert modes(place.dest)["d/run"] == 0o755 and modes(place.dest)["d/f"] == 0o664


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("which", ["config.yml", "agent.ini"])
def test_as_pid_1_a_signal_ends_what_waits_for_a_fifo(stagerun, pid_1, tmp_path, number, which):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    if which == "config.yml":
        running, pid = start_as_pid_1(stagerun, "run", "--config", fifo, "--", "true")
    else:
        running, pid = start_as_pid_1(stagerun, "run", "--agent-config", fifo, "--", "true")
    wait_until(lambda: "fifo" in Path(f"/proc/{pid}/syscall").read_text() or
               b"stagerun" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0], what="the agent")
    wait_until(lambda: Path(f"/proc/{pid}/wchan").read_text() in ("wait_for_partner", "fifo_open"),
               what="the agent to wait for the FIFO")
    os.kill(pid, number)
    assert running.wait(5).code == 128 + number


class Mounts:
    """One directory through several FUSE mounts, which do not share their locks."""

    def __init__(self, base, count):
        self.backing = base / "backing"
        self.backing.mkdir()
        self.tops, self.processes = [], []
        for i in range(count):
            top = base / f"mount-{i}"
            top.mkdir()
            self.processes.append(subprocess.Popen([SLOWFS, self.backing, top]))  # pylint: disable=consider-using-with
            self.tops.append(top)
        for top in self.tops:
            wait_until(lambda top=top: os.path.ismount(top), what="slowfs's mount")

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait()
        for top in self.tops:
            if os.path.ismount(top):
                subprocess.run(["umount", "-l", top], check=True)


@pytest.fixture(name="mounts")
def two_mounts(tmp_path, root):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    if not SLOWFS.exists():
        pytest.skip(f"{SLOWFS} was not built: run `make e2e`")
    mounts = Mounts(tmp_path, 2)
    yield mounts
    mounts.close()


SLOW_FILES = 30


def slow_archive(server):
    body = tar(*(file(f"{i}", noise(100_000, i)) for i in range(SLOW_FILES)))
    return server.put("/slow.tar", body, rate(1_000_000))


def has_begun(mounts):
    return lambda: any((tree / "3").exists() for tree in unpublished_trees(mounts.backing))


@pytest.mark.parametrize("apart", [False, True], ids=["one PID namespace", "two PID namespaces"])
def test_the_second_waits_for_the_first_through_a_mount_that_does_not_share_its_locks(
        stagerun, server, mounts, apart):
    served = slow_archive(server)
    first = stagerun.start("fetch", served.url, mounts.tops[0] / "dest")
    wait_until(has_begun(mounts), what="the first stage")
    second = stagerun.start("fetch", served.url, mounts.tops[1] / "dest",
                            wrap=[*NAMESPACE] if apart else [])
    assert "waiting for another agent that is staging" not in first.wait(40).ok().err
    assert "waiting for another agent that is staging" in second.wait(40).ok().err
    assert names(mounts.backing / "dest") == sorted(map(str, range(SLOW_FILES)))
    assert served.body_bytes < 1.5 * SLOW_FILES * 100_000


def test_a_killed_agent_of_this_machine_is_not_waited_for(stagerun, server, mounts):
    served = slow_archive(server)
    first = stagerun.start("fetch", served.url, mounts.tops[0] / "dest")
    wait_until(has_begun(mounts), what="the first stage")
    first.signal(signal.SIGKILL)
    first.wait()
    served.faults.clear()
    result = stagerun.fetch(served.url, mounts.tops[1] / "dest").ok()
    assert "waiting" not in result.err and result.seconds < 6


def test_an_agent_that_cannot_be_known_to_be_dead_is_given_up_when_it_does_not_move(stagerun, server, mounts):
    served = slow_archive(server)
    first = stagerun.start("fetch", served.url, mounts.tops[0] / "dest", wrap=[*NAMESPACE, "--kill-child"])
    wait_until(has_begun(mounts), what="the first stage")
    first.signal(signal.SIGKILL)
    first.wait()
    served.faults.clear()
    result = stagerun.fetch(served.url, mounts.tops[1] / "dest", limit=40).ok()
    assert "or 10 s if it does not live any more" in result.err and result.seconds > 9
    assert names(mounts.backing / "dest") == sorted(map(str, range(SLOW_FILES)))


def test_an_agent_that_was_taken_for_dead_publishes_nothing(stagerun, server, place):
    served = slow_archive(server)
    first = stagerun.start("fetch", served.url, place.dest)
    wait_until(lambda: unpublished_trees(place.parent), what="the first stage")
    owner = place.parent / ".stagerun/dest/owner"
    words = owner.read_text().split()
    words[1] = "0123456789abcdef"
    owner.unlink()
    owner.write_text(" ".join(words) + "\n")
    first.wait(40).failed(1, "another agent took this one for dead")
    assert not place.dest.exists()


def test_a_mount_root_keeps_one_hidden_file_and_is_warm_also_when_it_is_read_only(stagerun, server, place, root):
    served = server.put("/m.tar", ARCHIVE)
    place.dest.mkdir()
    script = (f'mount -t tmpfs -o size=50m tmpfs {place.dest} && "$@" && ls -A {place.dest} && '
              f'test -f {place.dest}/.stagerun && mount -o remount,ro {place.dest} && "$@"')
    out = stagerun.fetch(served.url, place.dest, wrap=["unshare", "-m", "sh", "-c", script, "sh"]).ok()
    assert re.findall(r"\S+", out.out)[:3] == [".stagerun", "d", "model.py"]
    assert served.body_bytes <= len(ARCHIVE) + 1


def test_a_refreshed_mount_root_keeps_no_directory_of_the_version_before(stagerun, place, root):
    source, newer = place.parent / "m.tar", place.parent / "n.tar"
    source.write_bytes(tar(file("d/a", b"1")))
    newer.write_bytes(tar(file("d/b", b"22"), file("e", b"2")))
    place.dest.mkdir()
    script = (f'mount -t tmpfs -o size=50m tmpfs {place.dest} && "$@" && mv {newer} {source} && "$@" && '
              f"find {place.dest} -mindepth 1 -printf '%y %P\\n'")
    out = stagerun.run("prewarm", "--refresh", "--stage", f"{source}={place.dest}",
                       wrap=["unshare", "-m", "sh", "-c", script, "sh"]).ok()
    assert sorted(out.out.splitlines()) == ["d d", "f .stagerun", "f d/b", "f e"]


def test_what_root_staged_into_a_mount_root_is_warm_for_a_user_who_may_write_there(stagerun, shared):
    """A volume that one container fills and another one uses."""
    source = shared / "m.tar"
    source.write_bytes(ARCHIVE)
    volume = shared / "volume"
    volume.mkdir()
    stagerun.ini.chmod(0o644)
    user = f"setpriv --reuid {ALICE} --regid {ALICE} --clear-groups env HOME=/ TMPDIR={volume}"
    script = (f'mount -t tmpfs -o size=50m,mode=777 tmpfs {volume} && "$@" && {user} "$@" && '
              f'mv {volume}/model.py {volume}/d/ && {user} "$@"')
    result = stagerun.fetch(source, volume, wrap=["unshare", "-m", "sh", "-c", script, "sh"]).failed(1, "d exists")
    assert result.err.count("already there, nothing to fetch") == 1
