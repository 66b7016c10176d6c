# SPDX-License-Identifier: MIT
"""Zips whose entries are compressed in other ways than deflate, or encrypted."""

import os
import struct
import subprocess
import zipfile
import zlib

import pytest
from archives import COMPRESS, noise, zip_entry, zip_of, zip_patched
from faultserver import cut

TEXT = b"".join(b"line %d of a text that compresses\n" % (i * i % 7919) for i in range(12_000))
FILES = {"text": TEXT, "sub/noise": noise(180_000), "sub/far": noise(65_400) * 3 + bytes(70_000) + TEXT[:999],
         "sub/small": b"x", "empty": b""}
SEVENZIP = ["Deflate64", "BZip2", "LZMA", "XZ"]


def by_7z(tmp_path, method, *options):
    tree = tmp_path / "packed"
    for name, data in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    subprocess.run(["7z", "a", "-bd", "-y", "-tzip", f"-mm={method}", *options, tmp_path / "x.zip", "."],
                   cwd=tree, stdout=subprocess.DEVNULL, check=True)
    return (tmp_path / "x.zip").read_bytes()


def by_hand(method, *entries, flags=0x808, descriptor=True, zip64=False):
    """Entries are (name, data, packed); with data descriptors, as what is written to a pipe has."""
    body, directory = b"", b""
    for name, data, packed in entries:
        crc, at = zlib.crc32(data), len(body)
        here = (0, 0, 0) if descriptor else (crc, len(packed), len(data))
        body += struct.pack("<IHHHHHIIIHH", 0x04034b50, 63, flags, method, 0, 0x5000, *here, len(name), 0) + name + packed
        if descriptor:
            body += struct.pack("<IIII", 0x08074b50, crc, len(packed), len(data))
        extra = struct.pack("<HHQQQ", 1, 24, len(data), len(packed), at) if zip64 else b""
        sizes = (0xffffffff, 0xffffffff) if zip64 else (len(packed), len(data))
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 63, 63, flags, method, 0, 0x5000, crc, *sizes,
                                 len(name), len(extra), 0, 0, 0, 0, 0xffffffff if zip64 else at) + name + extra
    return body + directory + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, len(entries), len(entries), len(directory),
                                          len(body), 0)


def assert_files(dest):
    for name, data in FILES.items():
        assert (dest / name).read_bytes() == data, name


@pytest.mark.parametrize("ranges", [True, False], ids=["at random", "stored first"])
@pytest.mark.parametrize("method", SEVENZIP)
def test_a_zip_of_7z_gives_its_files(stagerun, server, dest, tmp_path, method, ranges):
    archive = by_7z(tmp_path, method)
    assert zipfile.ZipFile(tmp_path / "x.zip").getinfo("text").compress_type in (9, 12, 14, 95)
    stagerun.fetch(server.put("/x.zip", archive, ranges=ranges).url, dest).ok()
    assert_files(dest)


@pytest.mark.parametrize("method", SEVENZIP)
def test_a_zip_of_7z_is_unpacked_in_the_smallest_memory(stagerun, server, dest, tmp_path, method):
    stagerun.configure(agent={"memory_budget": "16M"})
    stagerun.fetch(server.put("/x.zip", by_7z(tmp_path, method)).url, dest).ok()
    assert_files(dest)


@pytest.mark.parametrize("level", ["1", "9"])
def test_deflate64_of_each_level_gives_its_files(stagerun, server, dest, tmp_path, level):
    stagerun.fetch(server.put("/x.zip", by_7z(tmp_path, "Deflate64", f"-mx={level}")).url, dest).ok()
    assert_files(dest)


@pytest.mark.parametrize("method", [93, 20])
@pytest.mark.parametrize("zip64", [False, True])
def test_zstd_in_a_zip_with_descriptors_gives_its_files(stagerun, server, dest, method, zip64):
    entries = [(name.encode(), data, COMPRESS["zst"](data)) for name, data in FILES.items()]
    stagerun.fetch(server.put("/x.zip", by_hand(method, *entries, zip64=zip64)).url, dest).ok()
    assert_files(dest)


def test_lzma_without_an_end_marker_ends_at_its_size(stagerun, server, dest, tmp_path):
    (tmp_path / "text").write_bytes(TEXT)
    subprocess.run(["7z", "a", "-bd", "-y", "-t7z", "-m0=LZMA:d=64k", "-mhc=off", tmp_path / "x.7z", "text"],
                   cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
    sevenzip = (tmp_path / "x.7z").read_bytes()
    bare = sevenzip[32:32 + struct.unpack_from("<Q", sevenzip, 12)[0]]
    archive = by_hand(14, (b"text", TEXT, b"\x10\x02\x05\0\x5d\0\0\1\0" + bare), (b"b", TEXT, b"\x10\x02\x05\0\x5d\0\0\1\0" + bare))
    stagerun.fetch(server.put("/x.zip", archive).url, dest).ok()
    assert (dest / "text").read_bytes() == (dest / "b").read_bytes() == TEXT


def test_lzma_with_an_end_marker_gives_its_files(stagerun, server, dest):
    archive = zip_of(*(zip_entry(name, data, method=zipfile.ZIP_LZMA) for name, data in FILES.items()))
    stagerun.fetch(server.put("/x.zip", archive).url, dest).ok()
    assert_files(dest)


def test_methods_may_differ_from_entry_to_entry(stagerun, server, dest):
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    entries = [zip_entry(f"{i}", TEXT + b"%d" % i, method=methods[i % 4]) for i in range(40)]
    stagerun.fetch(server.put("/x.zip", zip_of(*entries)).url, dest).ok()
    for i in range(40):
        assert (dest / f"{i}").read_bytes() == TEXT + b"%d" % i


def test_a_symbolic_link_may_be_compressed_by_any_method(stagerun, server, dest):
    link = zip_entry("link", b"text", 0o120777, zipfile.ZIP_BZIP2)
    stagerun.fetch(server.put("/x.zip", zip_of(zip_entry("text"), link)).url, dest).ok()
    assert os.readlink(dest / "link") == "text"


@pytest.mark.parametrize("method", SEVENZIP)
def test_a_cut_connection_is_continued_within_such_an_entry(stagerun, server, dest, tmp_path, method):
    archive = by_7z(tmp_path, method)
    stagerun.fetch(server.put("/x.zip", archive, cut(70_000, times=2)).url, dest).ok()
    assert_files(dest)


@pytest.mark.parametrize("method", SEVENZIP)
def test_damage_within_such_an_entry_fails_and_names_it(stagerun, server, dest, tmp_path, method):
    archive = bytearray(by_7z(tmp_path, method))
    info = zipfile.ZipFile(tmp_path / "x.zip").getinfo("text")
    for at in range(40):
        archive[info.header_offset + 30 + 4 + info.compress_size // 2 + at] ^= 0x55
    result = stagerun.fetch(server.put("/x.zip", bytes(archive)).url, dest).failed(1, "'text'")
    assert "damaged" in result.err or "not as long" in result.err
    assert not dest.exists()


def test_a_wrong_checksum_of_such_an_entry_fails(stagerun, server, dest):
    archive = zip_patched(zip_of(zip_entry("a", TEXT, method=zipfile.ZIP_BZIP2)),
                          central={16: b"\1\2\3\4"}, local={14: b"\1\2\3\4"})
    stagerun.fetch(server.put("/x.zip", archive).url, dest).failed(1, "'a'.*checksum")


@pytest.mark.parametrize("method, packed", [
    (14, b"\x09\x14\x05\0\x5d\0\0\0\x40" + bytes(60)),
    (93, b"\x28\xb5\x2f\xfd\x04\xa0" + bytes(60))], ids=["LZMA", "zstd"])
def test_a_dictionary_beyond_the_memory_is_refused_before_it_is_allocated(stagerun, server, dest, method, packed):
    stagerun.configure(agent={"memory_budget": "32M"}, limits={"max_ratio": "0"})
    archive = bytearray(by_hand(method, (b"a", b"", packed), descriptor=False))
    # It says that it holds 3 GiB.
    archive[22:26] = struct.pack("<I", 3 << 30)
    at = archive.rindex(b"PK\1\2")
    archive[at + 24:at + 28] = struct.pack("<I", 3 << 30)
    result = stagerun.fetch(server.put("/x.zip", bytes(archive)).url, dest).failed(1, "memory_budget")
    assert result.rss < 200 << 20


@pytest.mark.parametrize("options, words", [
    (("-mem=AES256", "-pxyz"), "'text' is encrypted with AES-256"),
    (("-mem=AES128", "-pxyz"), "'text' is encrypted with AES-128"),
    (("-mem=ZipCrypto", "-pxyz"), r"'text' is encrypted with ZipCrypto \(a zip password\)")])
def test_what_is_encrypted_is_refused_by_the_name_of_that(stagerun, server, dest, tmp_path, options, words):
    (tmp_path / "text").write_bytes(TEXT)
    subprocess.run(["7z", "a", "-bd", "-y", "-tzip", *options, tmp_path / "x.zip", "text"], cwd=tmp_path,
                   stdout=subprocess.DEVNULL, check=True)
    stagerun.fetch(server.put("/x.zip", (tmp_path / "x.zip").read_bytes()).url, dest).failed(1, words)


def test_strong_encryption_is_refused_by_its_name(stagerun, server, dest):
    archive = by_hand(8, (b"a", b"", b"x" * 40), flags=0x41, descriptor=False)
    stagerun.fetch(server.put("/x.zip", archive).url, dest).failed(1, "'a' is encrypted with PKWARE's strong encryption")


@pytest.mark.parametrize("method, name", [(98, "PPMd"), (1, "shrink"), (97, "WavPack"), (77, "unknown")])
def test_a_method_that_is_not_supported_is_refused_by_its_name(stagerun, server, dest, method, name):
    archive = by_hand(method, (b"a", b"data", b"x" * 40))
    stagerun.fetch(server.put("/x.zip", archive).url, dest).failed(1, rf"'a' is compressed by method {method} \({name}\)")


def test_what_cannot_be_unpacked_may_be_excluded(stagerun, server, dest):
    archive = zip_patched(zip_of(zip_entry("a"), zip_entry("b")), central={10: b"\x62\0"}, local={8: b"\x62\0"})
    served = server.put("/x.zip", archive)
    stagerun.fetch(served.url, dest).failed(1, "'a' is compressed by method 98")
    stagerun.fetch(served.url, dest, "--exclude", "a").ok()
    assert (dest / "b").exists() and not (dest / "a").exists()


def wrapped_zip(path, sizes):
    """As macOS' Archive Utility writes it: offsets and sizes modulo 4 GiB, no zip64. Entries of zeros are holes."""
    directory, small = b"", b"small\n"
    with open(path, "wb") as out:
        for i, size in enumerate(sizes):
            name, at = b"%d" % i, out.tell()
            out.write(struct.pack("<IHHHHHIIIHH", 0x04034b50, 20, 0x808, 0, 0, 0x5000, 0, 0, 0, len(name), 0) + name)
            crc = zlib.crc32(small) if size == len(small) else 0
            out.write(small) if size == len(small) else out.seek(size, 1)
            out.write(struct.pack("<IIII", 0x08074b50, crc, size & 0xffffffff, size & 0xffffffff))
            directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 3 << 8 | 20, 20, 0x808, 0, 0, 0x5000, crc,
                                     size & 0xffffffff, size & 0xffffffff, len(name), 0, 0, 0, 0, 0o100644 << 16,
                                     at & 0xffffffff) + name
        at = out.tell()
        out.write(directory + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, len(sizes), len(sizes), len(directory),
                                          at & 0xffffffff, 0))
    return path


@pytest.mark.parametrize("sizes", [
    [6, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 6],
    [6, (1 << 32) - 100, 6],
    [6, (1 << 32) - 100, 6, (1 << 32) - 100, 6]], ids=["5 GiB", "4 GiB", "8 GiB"])
def test_a_zip_of_macos_whose_offsets_wrapped_is_read(stagerun, dest, tmp_path, sizes):
    path = wrapped_zip(tmp_path / "x.zip", sizes)
    small = [str(i) for i, size in enumerate(sizes) if size == 6]
    stagerun.fetch(path, dest, *(f"--include={name}" for name in small)).ok()
    assert sorted(p.name for p in dest.iterdir()) == small
    assert all((dest / name).read_bytes() == b"small\n" for name in small)


@pytest.mark.parametrize("sizes", [[6, (1 << 32) + 9, 6], [6, 3 << 32, 6], [6, 5 << 30]])
def test_a_wrapped_zip_with_an_entry_beyond_4_gib_is_refused_in_words(stagerun, dest, tmp_path, sizes):
    path = wrapped_zip(tmp_path / "x.zip", sizes)
    stagerun.fetch(path, dest, "--include", "0").failed(1, "larger than 4 GiB, yet has no 64-bit offsets")
    assert not dest.exists()


def test_the_method_of_a_directory_is_nobodys(stagerun, server, dest):
    stagerun.fetch(server.put("/x.zip", by_hand(98, (b"d/", b"", b""), descriptor=False)).url, dest).ok()
    assert (dest / "d").is_dir()


def test_damage_at_the_start_of_the_directory_is_after_nothing(stagerun, server, dest):
    archive = zip_patched(zip_of(zip_entry("a")), central={0: b"QK"})
    result = stagerun.fetch(server.put("/x.zip", archive).url, dest).failed(1, "directory is damaged at byte 0 of it")
    assert "after ''" not in result.err
