# SPDX-License-Identifier: MIT
"""What is left when the machine, not only the agent, goes down: nothing is synced when it is published, so that what
another kernel wrote is looked at before it is believed. The seed is printed; STAGERUN_TEST_SEED=N repeats a run."""

import fcntl
import os
import random
import re
import struct
import subprocess
import time

import pytest
from agent import slowness
from archives import directory, file, hardlink, noise, symlink, tar
from faultserver import rate
from trees import differences, snapshot, unpublished_trees

EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/ext4.h
WITHOUT_FLUSHING_THE_LOG = 2
CUTS = max(2, 6 // slowness())

ARCHIVE = tar(directory("d"), *(file(f"d/{i}", noise(30_000, i)) for i in range(60)),
              *(file(f"d/small{i}", noise(50, i)) for i in range(60)), file("d/empty", b""),
              symlink("link", "d/0"), hardlink("hard", "d/1"))


class Disk:
    """A file system in an image, whose power can be cut: what it was not asked to write is gone then."""

    def __init__(self, directory):
        self.image, self.root = directory / "image", directory / "disk"
        self.root.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True, env={"PATH": os.defpath + ":/usr/sbin:/sbin"})
        self.mounted = False

    def mount(self):
        subprocess.run(["mount", "-o", "loop,commit=1", self.image, self.root], check=True, capture_output=True)
        self.mounted = True

    def sync(self):
        subprocess.run(["sync", "-f", self.root], check=True)

    def cut_power(self):
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(fd)

    def unmount(self):
        if self.mounted:
            subprocess.run(["umount", self.root], check=True)
        self.mounted = False

    def restart(self):
        """Goes on with what is on the disk now. A copy of it: other tests' mount namespaces may keep the old file
        system alive for a while."""
        self.unmount()
        copy = self.image.with_name(f"{self.image.name}.next")
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        self.image.unlink()
        self.image = copy
        self.mount()


@pytest.fixture
def disk(root, tmp_path):
    try:
        made = Disk(tmp_path)
        made.mount()
    except (subprocess.CalledProcessError, OSError) as e:
        pytest.skip(f"needs loop devices: {getattr(e, 'stderr', None) or e}")
    yield made
    made.unmount()


class Machine:
    """Starts the agent as if on a kernel that can be started anew."""

    def __init__(self, agent, directory):
        self.agent, self.boot_id, self.boots = agent, directory / "boot_id", 0
        self.wrap = ["unshare", "-m", "sh", "-c",
                     f'mount --bind {self.boot_id} /proc/sys/kernel/random/boot_id && exec "$@"', "sh"]
        self.boot()

    def boot(self):
        self.boots += 1
        self.boot_id.write_text(f"00000000-0000-4000-8000-{self.boots:012}\n")

    def start(self, *args):
        return self.agent.start(*args, wrap=self.wrap)

    def fetch(self, *args):
        return self.start("fetch", *args).wait()


@pytest.fixture
def machine(root, stagerun, tmp_path):
    made = Machine(stagerun, tmp_path)
    works = subprocess.run([*made.wrap, "true"], capture_output=True, text=True, check=False)
    if works.returncode != 0:
        pytest.skip(f"the kernel's boot id cannot be replaced here: {works.stderr.strip()}")
    return made


def contents(tree):
    """Everything beneath it; the times of directories aside that no entry describes."""
    return {n: {k: v for k, v in e.items() if k != "data"} for n, e in snapshot(tree).items()}


@pytest.fixture
def whole(stagerun, server, tmp_path):
    """What the archive unpacks to."""
    stagerun.fetch(server.put("/reference", ARCHIVE).url, tmp_path / "reference").ok()
    return contents(tmp_path / "reference")


def assert_whole(whole, dest):
    found = differences(whole, contents(dest))
    assert not found, "\n".join(found[:20])


@pytest.fixture
def moments():
    seed = int(os.environ.get("STAGERUN_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    return random.Random(seed)


def test_whenever_the_power_is_cut_the_next_run_has_everything(machine, disk, server, whole, moments):
    served = server.put("/x.tar", ARCHIVE, rate(len(ARCHIVE) * 4))
    for number in range(CUTS):
        dest = disk.root / f"dest{number}"
        running = machine.start("fetch", served.url, dest)
        for _ in range(moments.randrange(3)):
            time.sleep(moments.uniform(0, 0.3))
            disk.sync()
        time.sleep(moments.uniform(0, 0.3))
        disk.cut_power()
        running.stop()
        disk.restart()
        machine.boot()
        machine.fetch(served.url, dest).ok()
        assert_whole(whole, dest)
        # The next power cut may bring back what was removed beside this one.
        assert [t for t in unpublished_trees(disk.root) if t.parent.name == dest.name] == []


def test_what_was_published_and_never_came_to_the_disk_is_staged_anew(machine, disk, server, whole):
    dest = disk.root / "dest"
    url = server.put("/x.tar", ARCHIVE).url
    disk.sync()
    machine.fetch(url, dest).ok()
    time.sleep(2.5)  # the log is written each second, and the files' bytes only later
    disk.cut_power()
    disk.restart()
    machine.boot()
    result = machine.fetch(url, dest).ok()
    if not (dest.exists() and "not as it was staged" in result.err):
        pytest.skip("the kernel was faster than the power cut")
    assert_whole(whole, dest)


def test_a_volume_that_moves_to_another_machine_stays_warm(machine, disk, server, whole):
    dest = disk.root / "dest"
    served = server.put("/x.tar", ARCHIVE)
    machine.fetch(served.url, dest).ok()
    fetched = served.body_bytes
    for _ in range(2):
        disk.sync()
        disk.restart()
        machine.boot()
        assert "already" in machine.fetch(served.url, dest).ok().err
    assert served.body_bytes - fetched <= 2  # of the questions whether it has changed
    assert_whole(whole, dest)


def test_another_machine_looks_at_the_files_once(machine, server, place):
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    machine.boot()
    assert "its files are looked at" in machine.fetch(url, place.dest).ok().err
    machine.boot()
    assert "its files are looked at" not in machine.fetch(url, place.dest).ok().err


def make_hole(dest):
    path = dest / "d/7"
    st = path.stat()
    with open(path, "r+b") as f:
        f.truncate(0)
        f.truncate(st.st_size)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


@pytest.mark.parametrize("damage", [
    pytest.param(lambda dest: cut_short(dest / "d/7", 0), id="empty"),
    pytest.param(lambda dest: cut_short(dest / "d/7", 100), id="short"),
    pytest.param(make_hole, id="a hole"),
])
@pytest.mark.parametrize("merged", [False, True], ids=["whole", "merged"])
def test_a_file_that_lost_bytes_with_the_machine_is_staged_anew(machine, server, place, whole, damage, merged):
    if damage is make_hole and file_system(place.parent) not in ("ext2/ext3", "xfs", "overlayfs"):
        pytest.skip("a hole is no sign of loss here")
    if merged:
        place.dest.mkdir()
        (place.dest / "mine").write_text("mine\n")
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    as_if_before_publishing(place, lambda: damage(place.dest))
    machine.boot()
    assert "not as it was staged" in machine.fetch(url, place.dest).ok().err
    (place.dest / "mine").unlink(missing_ok=True)
    assert_whole(whole, place.dest)


def cut_short(path, size):
    st = path.stat()
    os.truncate(path, size)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def as_if_before_publishing(place, change):
    """A crash changes no times: so the record is made to be the later one."""
    change()
    time.sleep(0.02)
    record, = [*place.parent.rglob("whole.json"), *place.parent.rglob("merged/*.json")]
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    finished = f'"finished":[{seconds},{nanoseconds}]'
    text, n = re.subn(r'"finished":\[\d+,\d+\]', finished, record.read_text())
    assert n == 1
    record.write_text(text)


def file_system(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_what_got_another_owner_stays_warm_on_another_machine(machine, server, place):
    """Clusters do that to a whole volume when they mount it."""
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    time.sleep(0.02)
    for path in [place.dest, *place.dest.rglob("*")]:
        os.chown(path, -1, 1, follow_symlinks=False)
    (place.dest / "d/labels.cache").write_text("mine\n")
    machine.boot()
    assert "already" in machine.fetch(url, place.dest).ok().err
    assert (place.dest / "d/labels.cache").exists()


def test_what_was_moved_there_is_not_thrown_away_with_what_was_lost(machine, server, place):
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    as_if_before_publishing(place, lambda: cut_short(place.dest / "d/7", 0))
    results = place.parent / "outside/results"
    results.write_text("mine\n")
    time.sleep(0.02)
    results.rename(place.dest / "results")
    machine.boot()
    machine.fetch(url, place.dest).failed(1, "changed since", "--replace")
    assert (place.dest / "results").read_text() == "mine\n"


def test_files_that_were_added_leave_it_warm_on_another_machine(machine, server, place):
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    time.sleep(0.02)
    (place.dest / "d/labels.cache").write_text("mine\n")
    machine.boot()
    assert "already" in machine.fetch(url, place.dest).ok().err
    assert (place.dest / "d/labels.cache").exists()


def test_what_was_changed_by_hand_is_not_replaced_without_being_asked(machine, server, place, whole):
    url = server.put("/x.tar", ARCHIVE).url
    machine.fetch(url, place.dest).ok()
    time.sleep(0.02)
    (place.dest / "d/7").write_text("mine\n")
    machine.boot()
    machine.fetch(url, place.dest).failed(1, "changed since", "--replace")
    assert (place.dest / "d/7").read_text() == "mine\n"
    machine.fetch("--replace", url, place.dest).ok()
    assert_whole(whole, place.dest)


def test_the_power_can_be_cut_while_it_is_staged_anew(machine, disk, server, whole):
    """The second run is interrupted as well: nothing of it is believed either."""
    dest = disk.root / "dest"
    served = server.put("/x.tar", ARCHIVE, rate(len(ARCHIVE) * 4))
    for _ in range(3):
        running = machine.start("fetch", served.url, dest)
        time.sleep(0.15)
        disk.sync()
        time.sleep(0.1)
        disk.cut_power()
        running.stop()
        disk.restart()
        machine.boot()
    machine.fetch(served.url, dest).ok()
    assert_whole(whole, dest)
