# SPDX-License-Identifier: MIT
"""Memory stays under the budget whatever the archive's size or number of entries."""

import subprocess

import pytest
from archives import END, file, noise, pax_records, raw_file, tar

MIB = 1 << 20
LEAST = 8 * MIB  # what an agent takes that ended between two looks at its memory
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
    assert peaks[1] < max(peaks[0], LEAST) + 16 * MIB


def test_ten_times_the_entries_take_no_more_memory(stagerun, dest):
    peaks = []
    for entries in (2_000, 20_000):
        path = stagerun.directory / f"{entries}.tar"
        path.write_bytes(tar(*(file(f"directory-{i // 10}/{'n' * 60}-{i}", b"")
                               for i in range(entries))))
        result = stagerun.fetch(path, f"{dest}-{entries}").ok()
        print(f"{entries} entries: peak RSS {result.rss / MIB:.1f} MiB")
        peaks.append(result.rss)
    assert peaks[1] < max(peaks[0], LEAST) + 4 * MIB


def test_a_single_file_larger_than_the_budget_streams_through(stagerun, server, dest):
    stagerun.configure(agent={"memory_budget": "16M"})
    served = server.put("/big.bin", noise(60 * MIB))
    result = stagerun.fetch(served.url, dest, "--no-extract").ok()
    assert result.rss < 16 * MIB + BASE


def sparse_map(numbers):
    """A sparse file of pax 1.0, whose map is a list of numbers before its content."""
    body = f"{numbers // 2}\n".encode() + b"".join(b"%d\n1\n" % (2 * i) for i in range(numbers // 2))
    records = pax_records("x", GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__name=b"s",
                          GNU__sparse__realsize=b"%d" % numbers)
    return records + raw_file(b"GNUSparseFile.0/s", body + bytes(-len(body) % 512)) + END


def test_the_map_of_a_sparse_file_is_refused_when_it_exceeds_the_budget(stagerun, dest):
    stagerun.configure(agent={"memory_budget": "16M"})
    path = stagerun.directory / "map.tar"
    path.write_bytes(sparse_map(4_000_000))
    result = stagerun.fetch(path, dest)
    assert result.code == 1 and "memory_budget" in result.err and not dest.exists()
    assert "the header of the first entry (its attributes" in result.err
    assert result.rss < 16 * MIB + BASE


def test_links_of_a_cpio_are_refused_when_they_exceed_the_budget(stagerun, dest):
    stagerun.configure(agent={"memory_budget": "16M"})
    path = stagerun.directory / "links.cpio"
    with open(path, "wb") as out:
        for i in range(40_000):
            name = b"n" * 1200 + b"%d\0" % i
            header = b"070701" + b"".join(b"%08x" % n for n in
                                          (i, 0o100644, 0, 0, 2, 0, 0, 0, 0, 0, 0, len(name), 0))
            out.write(header + name + bytes(-(110 + len(name)) % 4))
    result = stagerun.fetch(path, dest, "--exclude", "n*")
    assert result.code == 1 and "memory_budget" in result.err and not dest.exists()
    assert result.rss < 16 * MIB + BASE


@pytest.mark.parametrize("method", ["-m0=LZMA2:d64m", "-m0=LZMA:d64m", "-m0=PPMd:mem64m"])
def test_a_7z_dictionary_is_refused_when_it_exceeds_the_budget(stagerun, dest, method):
    stagerun.configure(agent={"memory_budget": "16M"})
    big = stagerun.directory / "zeros"
    with open(big, "wb") as out:
        out.truncate(70 * MIB)
    path = stagerun.directory / "big.7z"
    subprocess.run(["7z", "a", "-bso0", "-bsp0", method, path, big], check=True)
    result = stagerun.fetch(path, dest)
    assert result.code == 1 and "memory_budget" in result.err and not dest.exists()
    assert result.rss < 16 * MIB + BASE
