# SPDX-License-Identifier: MIT
"""Memory stays under the budget whatever the archive's size or number of entries."""

import subprocess

import pytest
from archives import file, noise, tar

MIB = 1 << 20
BUDGET = 32 * MIB
# The program's text, its libraries, stacks and the allocator's slack: what it needs to do nothing.
BASE = 40 * MIB

pytestmark = pytest.mark.usefixtures("plain_build")


def archive_of(path, megabytes, compress):
    """A tar of files of 1 MiB that compress about 20 to 1, made without holding it in memory."""
    block = (noise(3000) * 18)[:52428] * 20
    with open(path, "wb") as out:
        tool = subprocess.Popen(compress, stdin=subprocess.PIPE, stdout=out)
        for i in range(megabytes):
            tool.stdin.write(tar(file(f"{i}", block), end=False))
        tool.stdin.write(bytes(1024))
        tool.stdin.close()
        assert tool.wait() == 0
    return path


@pytest.mark.parametrize("compress", [["zstd", "-q", "-c"], ["gzip", "-1", "-c"],
                                      ["xz", "-0", "-c", "-T1"]], ids=["zst", "gz", "xz"])
def test_ten_times_the_archive_takes_no_more_memory(stagerun, nginx, dest, compress):
    stagerun.configure(agent={"memory_budget": str(BUDGET)})
    peaks = []
    for megabytes in (20, 200):
        name = f"{compress[0]}-{megabytes}"
        archive_of(nginx.root / name, megabytes, compress)
        result = stagerun.fetch(nginx.url(name), f"{dest}-{megabytes}").ok()
        print(f"{megabytes} MB by {compress[0]}: peak RSS {result.rss / MIB:.1f} MiB")
        peaks.append(result.rss)
    assert peaks[1] < BUDGET + BASE
    assert peaks[1] < peaks[0] + 16 * MIB


def test_ten_times_the_entries_take_no_more_memory(stagerun, dest):
    peaks = []
    for entries in (2_000, 20_000):
        path = stagerun.directory / f"{entries}.tar"
        path.write_bytes(tar(*(file(f"directory-{i // 10}/{'n' * 60}-{i}", b"")
                               for i in range(entries))))
        result = stagerun.fetch(path, f"{dest}-{entries}").ok()
        print(f"{entries} entries: peak RSS {result.rss / MIB:.1f} MiB")
        peaks.append(result.rss)
    assert peaks[1] < peaks[0] + 4 * MIB


def test_a_single_file_larger_than_the_budget_streams_through(stagerun, server, dest):
    stagerun.configure(agent={"memory_budget": "16M"})
    served = server.put("/big.bin", noise(60 * MIB))
    result = stagerun.fetch(served.url, dest, "--no-extract").ok()
    assert result.rss < 16 * MIB + BASE
