# SPDX-License-Identifier: MIT
"""What arrives is exactly what was packed, in every format."""

import hashlib
import os
import subprocess
import tarfile
import zlib
from decimal import Decimal
from pathlib import Path

import pytest
from archives import (COMPRESS, END, MTIME, cpio_newc, directory, file, hardlink, make_tree, noise,
                      pax_records, raw_file, symlink, tar, tar_of, untar, zip_entry, zip_of,
                      zip_symlink)
from trees import assert_same, snapshot

TAR_FORMATS = {
    "ustar": ["--format=ustar"],
    "gnu": ["--format=gnu"],
    "pax": ["--format=pax"],
    "pax with attributes": ["--format=pax", "--xattrs"],
}
# What a format cannot say is not expected of it.
WHOLE_SECONDS = ("mtime_ns",)


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


def stage(stagerun, server, archive, dest, *options, name="/archive"):
    served = server.put(name, archive)
    return stagerun.fetch(served.url, dest, *options)


@pytest.mark.parametrize("form", TAR_FORMATS)
def test_a_tar_gives_the_tree_that_gnu_tar_gives(stagerun, server, tree, dest, tmp_path, form):
    archive = tar_of(tree, *TAR_FORMATS[form])
    stage(stagerun, server, archive, dest).ok()
    untar(archive, tmp_path / "reference", "--xattrs")
    assert_same(tmp_path / "reference", dest)


def test_a_pax_tar_gives_back_the_tree_it_was_made_of(stagerun, server, tree, dest):
    stage(stagerun, server, tar_of(tree, "--format=pax", "--xattrs"), dest).ok()
    assert_same(tree, dest)
    assert dest.stat().st_mtime_ns == tree.stat().st_mtime_ns


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_compressed_tar_gives_the_tree(stagerun, server, tree, dest, compression):
    archive = COMPRESS[compression](tar_of(tree, "--format=pax", "--xattrs"))
    stage(stagerun, server, archive, dest).ok()
    assert_same(tree, dest)


@pytest.mark.parametrize("compression", COMPRESS)
def test_concatenated_compressed_members_are_one_stream(stagerun, server, dest, compression):
    archive = tar(file("a", noise(50_000)), file("b", noise(50_000, 2)))
    compress = COMPRESS[compression]
    stage(stagerun, server, compress(archive[:30_000]) + compress(archive[30_000:]), dest).ok()
    assert (dest / "a").read_bytes() == noise(50_000)
    assert (dest / "b").read_bytes() == noise(50_000, 2)


def test_zstd_skippable_frames_are_skipped(stagerun, server, dest):
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    archive = COMPRESS["zst"](tar(file("a")))
    stage(stagerun, server, skippable + archive + skippable, dest).ok()
    assert (dest / "a").read_bytes() == b"data\n"


def test_xz_padding_between_streams_is_no_garbage(stagerun, server, dest):
    half = tar(file("a"))
    archive = COMPRESS["xz"](half[:700]) + bytes(8) + COMPRESS["xz"](half[700:]) + bytes(4)
    result = stage(stagerun, server, archive, dest).ok()
    assert (dest / "a").read_bytes() == b"data\n"
    assert "garbage" not in result.err


@pytest.mark.parametrize("compression", ["zst", "xz"])
def test_blocks_made_for_many_threads_come_out_in_order(stagerun, server, dest, compression):
    archive = tar(*(file(f"{i:03}", noise(20_000, i)) for i in range(60)))
    tool = {"zst": ["pzstd", "-q", "-c", "-p", "2"],
            "xz": ["xz", "-c", "-T2", "--block-size=200KiB"]}[compression]
    packed = subprocess.run(tool, input=archive, stdout=subprocess.PIPE, check=True).stdout
    stage(stagerun, server, packed, dest).ok()
    for i in range(60):
        assert (dest / f"{i:03}").read_bytes() == noise(20_000, i)


def test_a_zip_by_info_zip_gives_the_tree(stagerun, server, dest, tmp_path):
    tree = make_tree(tmp_path / "tree", attributes=False)
    subprocess.run(["zip", "-q", "-r", "-y", tmp_path / "x.zip", "."], cwd=tree, check=True)
    stage(stagerun, server, (tmp_path / "x.zip").read_bytes(), dest).ok()
    reference = tmp_path / "reference"
    subprocess.run(["unzip", "-q", tmp_path / "x.zip", "-d", reference], check=True)
    # Zip knows no hard links; unzip leaves symlinks and directories the time of extraction.
    expected, actual = snapshot(reference), snapshot(dest)
    for name, entry in expected.items():
        assert actual[name]["kind"] == entry["kind"], name
        for field in ("mode", "content", "target"):
            assert actual[name].get(field) == entry.get(field), (name, field)
        if entry["kind"] == "file":
            assert actual[name]["mtime_ns"] == entry["mtime_ns"], name
    assert expected.keys() == actual.keys()


@pytest.mark.parametrize("options", [["-0"], ["-9"], ["-fz"], ["-fd"]],
                         ids=["stored", "deflated", "zip64", "data descriptors"])
def test_every_kind_of_zip_member_is_read(stagerun, server, dest, tmp_path, options):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/noise").write_bytes(noise(400_000))
    (tmp_path / "in/text").write_bytes(b"text\n" * 50_000)
    (tmp_path / "in/empty").touch()
    subprocess.run(["zip", "-q", *options, tmp_path / "x.zip", "noise", "text", "empty"],
                   cwd=tmp_path / "in", check=True)
    stage(stagerun, server, (tmp_path / "x.zip").read_bytes(), dest).ok()
    assert_same(tmp_path / "in", dest, ignore=WHOLE_SECONDS)


def test_a_streamed_zip_of_unknown_sizes_is_read(stagerun, server, dest, tmp_path):
    (tmp_path / "noise").write_bytes(noise(100_000))
    archive = subprocess.run(["zip", "-q", "-fd", "-", "noise"], cwd=tmp_path,
                             stdout=subprocess.PIPE, check=True).stdout
    stage(stagerun, server, archive, dest).ok()
    assert (dest / "noise").read_bytes() == noise(100_000)


def test_a_zip_from_a_server_without_ranges_is_read(stagerun, server, dest):
    served = server.put("/x.zip", zip_of(zip_entry("a"), zip_entry("d/b")), ranges=False)
    stagerun.fetch(served.url, dest).ok()
    assert sorted(snapshot(dest)) == [b"a", b"d", b"d/b"]


def test_zip_symlinks_are_symlinks(stagerun, server, dest):
    stage(stagerun, server, zip_of(zip_entry("d/a"), zip_symlink("l", "d/a")), dest).ok()
    assert os.readlink(dest / "l") == "d/a"


def test_a_cpio_gives_the_tree(stagerun, server, dest, tmp_path):
    tree = make_tree(tmp_path / "tree", attributes=False)
    names = subprocess.run(["find", ".", "-mindepth", "1", "-print0"], cwd=tree,
                           stdout=subprocess.PIPE, check=True).stdout
    archive = subprocess.run(["cpio", "-o", "-0", "-H", "newc", "--quiet"], cwd=tree, input=names,
                             stdout=subprocess.PIPE, check=True).stdout
    stage(stagerun, server, archive, dest).ok()
    found = snapshot(dest)
    expected = snapshot(tree)
    for entries in (found, expected):
        for entry in entries.values():
            entry["mtime_ns"] //= 10**9
    assert found == expected


def test_hard_links_of_a_cpio_share_the_content_that_comes_last(stagerun, server, dest):
    archive = cpio_newc(("a", 0o100644, b"", 7, 2), ("b", 0o100644, b"shared\n", 7, 2))
    stage(stagerun, server, archive, dest).ok()
    assert (dest / "a").read_bytes() == b"shared\n"
    assert (dest / "a").stat().st_ino == (dest / "b").stat().st_ino


def test_a_7z_gives_the_tree(stagerun, server, dest, tmp_path):
    tree = make_tree(tmp_path / "tree", links=False, attributes=False)
    subprocess.run(["7z", "a", "-bd", "-y", tmp_path / "x.7z", "."], cwd=tree, check=True,
                   stdout=subprocess.DEVNULL)
    stage(stagerun, server, (tmp_path / "x.7z").read_bytes(), dest).ok()
    assert_same(tree, dest, ignore=WHOLE_SECONDS)


@pytest.mark.parametrize("coders, words", [
    ("BCJ2", "the filter BCJ2 alone"), ("BCJ", "the filter BCJ alone"), ("Delta:4", "the filter Delta alone"),
    ("ARM", "the filter ARM alone"), ("BCJ PPMd", "the filter BCJ on PPMd"), ("Delta BZip2", "the filter Delta on BZip2"),
    ("ARM LZMA", "the filter ARM on LZMA"), ("Delta Copy", "the filter Delta on copy"), ("ARM64", "ARM64")])
def test_a_filter_of_a_7z_that_is_not_read_is_named(stagerun, server, dest, tmp_path, coders, words):
    pack_7z(tmp_path, coders)
    stage(stagerun, server, (tmp_path / "x.7z").read_bytes(), dest).failed(1, f"the 7z archive uses {words}, which is not")


@pytest.mark.parametrize("coders", ["BCJ Copy", "BCJ Deflate", "BCJ BZip2", "BCJ LZMA", "Delta LZMA", "PPC LZMA2",
                                    "BCJ2 Copy Copy Copy", "BCJ2 PPMd LZMA LZMA", "BCJ2 LZMA2 LZMA LZMA"])
def test_a_filter_of_a_7z_gives_its_file(stagerun, server, dest, tmp_path, coders):
    content = pack_7z(tmp_path, coders)
    stage(stagerun, server, (tmp_path / "x.7z").read_bytes(), dest).ok()
    assert (dest / "program").read_bytes() == content


def pack_7z(directory, coders):
    """A program, since that is what most filters are for."""
    content = Path("/bin/true").read_bytes()
    (directory / "program").write_bytes(content)
    first, *others = coders.split()
    options = [f"-m0={first}", *(f"-m{i}={name}" for i, name in enumerate(others, 1))]
    if len(others) == 3:
        options += ["-mb0:1", "-mb0s1:2", "-mb0s2:3"]
    subprocess.run(["7z", "a", "-bd", "-y", *options, "x.7z", "program"], cwd=directory, stdout=subprocess.DEVNULL, check=True)
    return content


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_keep_their_holes(stagerun, server, dest, tmp_path, version):
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as f:
        f.write(noise(8192))
        f.seek(4 << 20)
        f.write(noise(4096, 2))
        f.truncate(9 << 20)
    with open(tree / "many-pieces", "wb") as f:  # more than one header has room for
        for i in range(60):
            f.seek(i << 16)
            f.write(noise(4096 + i % 3, i))
    with open(tree / "only-hole", "wb") as f:
        f.truncate(3 << 20)
    form = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    archive = tar_of(tree, "--sparse", *form)
    stage(stagerun, server, archive, dest).ok()
    assert_same(tree, dest, ignore=WHOLE_SECONDS)
    assert (dest / "sparse").stat().st_blocks * 512 < 1 << 20


NAMES = {
    "newline": "two\nlines",
    "escape codes": "\x1b[31mred\x1b[0m",
    "not UTF-8": os.fsdecode(b"caf\xe9 \xff"),
    "UTF-8": "数据 ünïcode",
    "255 bytes": "x" * 255,
    "deeper than ustar can say": "/".join(["d" * 60] * 8),
    "backslashes": "..\\..\\windows",
    "a leading dash and a trailing space": "-rf ",
    "only dots": "...",
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_keep_every_byte(stagerun, server, dest, name, form):
    stage(stagerun, server, tar(file(name), form=form), dest).ok()
    files = [n for n, e in snapshot(dest).items() if e["kind"] == "file"]
    assert files == [os.fsencode(name)]


def test_zip_names_keep_every_byte_with_and_without_the_utf8_flag(stagerun, server, dest):
    utf8 = zip_of(zip_entry("数据"))
    assert utf8[6:8] == b"\x00\x08"  # bit 11: the name is UTF-8
    plain = zip_of(zip_entry("caf#")).replace(b"caf#", b"caf\xe9")
    stage(stagerun, server, utf8, dest).ok()
    assert list(snapshot(dest)) == ["数据".encode()]
    stage(stagerun, server, plain, dest, "--replace", name="/plain").ok()
    assert list(snapshot(dest)) == [b"caf\xe9"]


@pytest.mark.parametrize("seconds", ["-86400", "-86400.5", "4102444800.25"])
def test_times_before_1970_and_after_2038_are_kept(stagerun, server, dest, seconds):
    archive = pax_records("x", mtime=seconds.encode()) + raw_file(b"a") + END
    stage(stagerun, server, archive, dest).ok()
    assert (dest / "a").stat().st_mtime_ns == int(Decimal(seconds) * 10**9)


def test_setuid_setgid_and_sticky_are_cleared(stagerun, server, dest):
    stage(stagerun, server, tar(file("u", mode=0o4755), file("g", mode=0o2755),
                                directory("t", mode=0o1777)), dest).ok()
    modes = {n: e["mode"] for n, e in snapshot(dest).items()}
    assert modes == {b"u": "0o755", b"g": "0o755", b"t": "0o777"}


def test_modes_do_not_depend_on_the_umask(stagerun, server, dest):
    served = server.put("/x", tar(file("a", mode=0o666), directory("d", mode=0o777)))
    stagerun.run("fetch", served.url, dest,
                 wrap=["sh", "-c", 'umask 077; exec "$0" "$@"']).ok()
    assert {n: e["mode"] for n, e in snapshot(dest).items()} == {b"a": "0o666", b"d": "0o777"}


def test_directories_nobody_may_write_are_filled_all_the_same(stagerun, server, dest):
    archive = tar(directory("d", mode=0o555, mtime=MTIME), file("d/a"), file("d/b"))
    stage(stagerun, server, archive, dest).ok()
    assert snapshot(dest)[b"d"]["mode"] == "0o555"
    assert (dest / "d").stat().st_mtime == MTIME


def test_missing_parents_are_made(stagerun, server, dest):
    stage(stagerun, server, tar(file("a/b/c")), dest).ok()
    assert snapshot(dest)[b"a/b"]["mode"] == "0o755"


def test_the_later_of_two_files_with_one_name_wins(stagerun, server, dest):
    stage(stagerun, server, tar(file("a", b"first"), file("b"), file("a", b"second")), dest).ok()
    assert (dest / "a").read_bytes() == b"second"


def test_names_that_differ_in_case_are_different_files(stagerun, server, dest):
    stage(stagerun, server, tar(file("A", b"upper"), file("a", b"lower")), dest).ok()
    assert (dest / "A").read_bytes() == b"upper"
    assert (dest / "a").read_bytes() == b"lower"


def test_a_hard_link_that_carries_its_data_again_is_one_file(stagerun, server, dest):
    # The time makes it a pax archive: in older ones, the size of a link means nothing.
    archive = tar(file("a"), hardlink("b", "a", b"data\n", mtime=MTIME + 0.5), file("c"))
    stage(stagerun, server, archive, dest).ok()
    assert (dest / "a").stat().st_ino == (dest / "b").stat().st_ino
    assert (dest / "b").read_bytes() == b"data\n"
    assert (dest / "c").exists()


def test_dangling_symlinks_inside_are_kept(stagerun, server, dest):
    stage(stagerun, server, tar(directory("d"), symlink("d/l", "../not/here")), dest).ok()
    assert os.readlink(dest / "d/l") == "../not/here"


def test_a_tar_without_files_is_an_empty_directory(stagerun, server, dest):
    stage(stagerun, server, tar(directory("./")), dest).ok()
    assert snapshot(dest) == {}


def test_zeros_are_a_file_of_zeros(stagerun, server, dest):
    """They could be a tar without any entry; but then nothing would be left of them."""
    stage(stagerun, server, bytes(10_240), dest, name="/zeros").ok()
    assert (dest / "zeros").read_bytes() == bytes(10_240)


def test_a_pax_global_header_is_no_entry(stagerun, server, dest):
    archive = pax_records("g", comment=b"0123456789abcdef") + raw_file(b"a") + END
    stage(stagerun, server, archive, dest).ok()
    assert list(snapshot(dest)) == [b"a"]
    assert (dest / "a").read_bytes() == b"data\n"


@pytest.mark.parametrize("compression, suffix", [("gz", ".gz"), ("zst", ".zst"), ("xz", ".xz"),
                                                 ("bz2", ".bz2"), ("lz4", ".lz4")])
def test_a_compressed_single_file_loses_its_suffix(stagerun, server, dest, compression, suffix):
    data = b"a,b\n" * 10_000
    stage(stagerun, server, COMPRESS[compression](data), dest, name=f"/x.csv{suffix}").ok()
    assert list(snapshot(dest)) == [b"x.csv"]
    assert (dest / "x.csv").read_bytes() == data


def test_anything_else_is_stored_as_it_is(stagerun, server, dest):
    stage(stagerun, server, noise(700_000), dest, name="/model.bin").ok()
    assert (dest / "model.bin").read_bytes() == noise(700_000)


def test_no_extract_stores_an_archive_as_one_file(stagerun, server, dest):
    archive = COMPRESS["gz"](tar(file("a")))
    stage(stagerun, server, archive, dest, "--no-extract", name="/x.tar.gz").ok()
    assert list(snapshot(dest)) == [b"x.tar.gz"]
    assert (dest / "x.tar.gz").read_bytes() == archive


def test_an_empty_object_is_an_empty_file(stagerun, server, dest):
    stage(stagerun, server, b"", dest, name="/nothing.txt").ok()
    assert (dest / "nothing.txt").read_bytes() == b""


@pytest.mark.parametrize("name", ["/x.zip", "/x.txt", "/x.tar.bz2", "/x"])
def test_the_content_decides_not_the_name(stagerun, server, dest, name):
    stage(stagerun, server, COMPRESS["gz"](tar(file("a"))), dest, name=name).ok()
    assert list(snapshot(dest)) == [b"a"]


def test_only_one_layer_of_compression_is_opened(stagerun, server, dest):
    inner = COMPRESS["gz"](b"text\n")
    stage(stagerun, server, COMPRESS["gz"](inner), dest, name="/x.gz.gz").ok()
    assert (dest / "x.gz").read_bytes() == inner


def tarred_files():
    return tar(*(file(f"f{i}", noise(3_000, i)) for i in range(4)))


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst", "lz4"])
def test_damage_where_a_member_begins_never_cuts_off_what_follows(stagerun, server, dest, compression):
    archive, compress = tarred_files(), COMPRESS[compression]
    first, second = compress(archive[:2 * 3_584]), bytearray(compress(archive[2 * 3_584:]))
    second[1] ^= 4
    result = stage(stagerun, server, first + bytes(second), dest, name=f"/odd.tar.{compression}")
    assert result.code == 1 and not dest.exists()
    assert f"at byte {len(first)}, is neither" in result.err


def test_what_follows_a_compressed_archive_is_an_error(stagerun, server, dest):
    archive = COMPRESS["gz"](tar(file("a"))) + b"garbage" * 100
    result = stage(stagerun, server, archive, dest, name="/odd.tgz")
    assert result.code == 1 and not dest.exists()
    assert "odd.tgz" in result.err and "something was appended" in result.err


def test_a_legacy_frame_of_lz4_is_decoded(stagerun, server, dest):
    packed = subprocess.run(["lz4", "-l", "-c"], input=tarred_files(), stdout=subprocess.PIPE, check=True)
    stage(stagerun, server, packed.stdout, dest).ok()
    assert (dest / "f3").read_bytes() == noise(3_000, 3)


def test_a_digest_that_fits_is_accepted(stagerun, server, dest):
    archive = COMPRESS["gz"](tar(file("a", noise(600_000))))
    stage(stagerun, server, archive, dest, "--sha256", hashlib.sha256(archive).hexdigest()).ok()
    assert (dest / "a").read_bytes() == noise(600_000)


SELECTION = tar(directory("top"), file("top/train/1.png"), file("top/train/1.txt"),
                file("top/test/2.png"), file("top/readme"), form=tarfile.GNU_FORMAT)


@pytest.mark.parametrize("options, expected", [
    (["--include", "*.png"], ["top/test/2.png", "top/train/1.png"]),
    (["--include", "top/train/**"], ["top/train/1.png", "top/train/1.txt"]),
    (["--include", "top/train"], ["top/train/1.png", "top/train/1.txt"]),
    (["--include", "top/*"], ["top/readme", "top/test/2.png", "top/train/1.png",
                              "top/train/1.txt"]),
    (["--exclude", "top/t*"], ["top/readme"]),
    (["--include", "*.png", "--exclude", "top/test"], ["top/train/1.png"]),
    (["--include", "*.png", "--include", "readme"], ["top/readme", "top/test/2.png",
                                                    "top/train/1.png"]),
    (["--strip-components", "1"], ["readme", "test/2.png", "train/1.png", "train/1.txt"]),
    (["--strip-components", "2", "--include", "*.png"], ["1.png", "2.png"]),
], ids=lambda v: " ".join(v) if isinstance(v, list) else None)
@pytest.mark.parametrize("container", ["tar", "zip"])
def test_entries_are_selected_and_stripped(stagerun, server, dest, options, expected, container):
    archive = SELECTION if container == "tar" else zip_of(
        *(zip_entry(n) for n in ("top/", "top/train/1.png", "top/train/1.txt", "top/test/2.png",
                                 "top/readme")))
    stage(stagerun, server, archive, dest, *options).ok()
    files = sorted(os.fsdecode(n) for n, e in snapshot(dest).items() if e["kind"] == "file")
    assert files == expected


def test_zip_checksums_are_those_of_the_content(stagerun, server, dest, place):
    archive = bytearray(zip_of(zip_entry("a", noise(3000), method=0)))
    crc = archive.index(zlib.crc32(noise(3000)).to_bytes(4, "little"))
    central = archive.rindex(zlib.crc32(noise(3000)).to_bytes(4, "little"))
    assert crc != central
    for at in (crc, central):
        archive[at] ^= 1
    stage(stagerun, server, bytes(archive), dest).failed(1, r"\ba\b", "CRC|checksum")
    place.assert_nothing_published()
