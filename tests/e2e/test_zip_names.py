# SPDX-License-Identifier: MIT
"""Names in zips that do not say what characters they are."""

import os
import struct
import subprocess
import zlib

import pytest

DOS, UNIX = 0, 3


def zip_with(name, made_on=DOS, flags=0, unicode_name=None, wrong_crc=False):
    """One stored file "data"; unicode_name: Info-ZIP's extra field 0x7075."""
    data, extra = b"data", b""
    if unicode_name is not None:
        body = b"\1" + struct.pack("<I", zlib.crc32(name) ^ wrong_crc) + unicode_name
        extra = struct.pack("<HH", 0x7075, len(body)) + body
    local = struct.pack("<IHHHHHIIIHH", 0x04034b50, 20, flags, 0, 0, 0x5000, zlib.crc32(data), 4, 4, len(name), 0) + name + data
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, made_on << 8 | 20, 20, flags, 0, 0, 0x5000, zlib.crc32(data), 4, 4,
                          len(name), len(extra), 0, 0, 0, 0o100644 << 16 if made_on == UNIX else 0, 0) + name + extra
    return local + central + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 1, 1, len(central), len(local), 0)


def names_below(dest):
    return [os.path.relpath(os.path.join(os.fsencode(at), name), os.fsencode(dest))
            for at, _, names in os.walk(os.fsencode(dest)) for name in names]


ODD = {"CP437": "données/über.txt", "CP932": "画像/表.txt", "GBK": "图像/猫.jpg"}


@pytest.mark.parametrize("charset", ODD)
def test_names_without_a_mark_are_kept_byte_for_byte_with_one_warning(stagerun, server, dest, charset):
    name = ODD[charset].encode(charset)
    result = stagerun.fetch(server.put("/x.zip", zip_with(name)).url, dest).ok()
    assert names_below(dest) == [name]
    assert result.err.count("zip_names") == 1


@pytest.mark.parametrize("charset", ODD)
def test_a_character_set_for_one_source_makes_them_utf_8(stagerun, server, dest, charset):
    served = server.put("/x.zip", zip_with(ODD[charset].encode(charset)))
    result = stagerun.fetch(served.url, dest, "--zip-names", charset).ok()
    assert names_below(dest) == [ODD[charset].encode()]
    assert "zip_names" not in result.err


def test_a_character_set_of_the_settings_makes_them_utf_8(stagerun, server, dest):
    stagerun.configure(stage={"zip_names": "GBK"})
    stagerun.fetch(server.put("/x.zip", zip_with(ODD["GBK"].encode("GBK"))).url, dest).ok()
    assert names_below(dest) == [ODD["GBK"].encode()]


def test_a_character_set_of_config_yml_makes_them_utf_8(stagerun, server, dest):
    served = server.put("/x.zip", zip_with(ODD["GBK"].encode("GBK")))
    path = stagerun.config("compute: {train: {actions: {on_experiment_start: [{stage: "
                           f"{{source: '{served.url}', to: '{dest}', zip_names: GBK}}}}]}}}}}}\n")
    stagerun.run("run", "--config", path, "--", "true").ok()
    assert names_below(dest) == [ODD["GBK"].encode()]


def test_another_character_set_is_another_tree(stagerun, server, dest):
    served = server.put("/x.zip", zip_with(ODD["GBK"].encode("GBK")))
    stagerun.fetch(served.url, dest).ok()
    stagerun.fetch(served.url, dest, "--replace", "--zip-names", "GBK").ok()
    assert names_below(dest) == [ODD["GBK"].encode()]


@pytest.mark.parametrize("how", [{"flags": 0x800}, {"made_on": UNIX}])
def test_names_that_are_utf_8_stay_so_and_need_no_warning(stagerun, server, dest, how):
    served = server.put("/x.zip", zip_with("图像/猫.jpg".encode(), **how))
    assert "zip_names" not in stagerun.fetch(served.url, dest, "--zip-names", "CP437").ok().err
    assert names_below(dest) == ["图像/猫.jpg".encode()]


def test_the_unicode_name_of_info_zip_counts(stagerun, server, dest):
    archive = zip_with(ODD["GBK"].encode("GBK"), unicode_name=ODD["GBK"].encode())
    assert "zip_names" not in stagerun.fetch(server.put("/x.zip", archive).url, dest).ok().err
    assert names_below(dest) == [ODD["GBK"].encode()]


def test_the_unicode_name_of_another_name_does_not_count(stagerun, server, dest):
    archive = zip_with(b"a.txt", unicode_name=b"other", wrong_crc=True)
    stagerun.fetch(server.put("/x.zip", archive).url, dest).ok()
    assert names_below(dest) == [b"a.txt"]


def test_a_backslash_within_a_character_separates_nothing(stagerun, server, dest):
    name = "表.txt".encode("CP932")
    assert b"\\" in name
    served = server.put("/x.zip", zip_with(name))
    stagerun.fetch(served.url, dest).ok()
    assert names_below(dest) == [name]
    stagerun.fetch(served.url, dest, "--replace", "--zip-names", "CP932").ok()
    assert names_below(dest) == ["表.txt".encode()]


def test_backslashes_between_converted_names_separate(stagerun, server, dest):
    served = server.put("/x.zip", zip_with("画像\\表.txt".encode("CP932")))
    stagerun.fetch(served.url, dest, "--zip-names", "CP932").ok()
    assert names_below(dest) == ["画像/表.txt".encode()]


@pytest.mark.parametrize("charset, words", [("no-such", "'no-such' is no character set"), ("EUC-JP", "is not EUC-JP")])
def test_a_character_set_that_cannot_be_right_is_an_error(stagerun, server, dest, charset, words):
    served = server.put("/x.zip", zip_with(b"a\xff\xfe\x81"))
    stagerun.fetch(served.url, dest, "--zip-names", charset).failed(1, words)
    assert not dest.exists()


def test_what_is_no_character_of_the_set_leaves_nothing_behind(stagerun, server, dest):
    served = server.put("/x.zip", zip_with(b"cut\x81"))
    stagerun.fetch(served.url, dest, "--zip-names", "CP932").failed(1, "is not CP932")
    assert not dest.exists()


@pytest.mark.parametrize("charset, name", [("CP1258", "dữ liệu"), ("CP1255", "שלום"), ("TCVN", "việt"), ("BIG5", "資料/圖片"),
                                           ("BIG5-HKSCS", "資料Ê"), ("EUC-KR", "데이터"), ("KOI8-R", "кот")])
def test_the_last_letter_of_a_name_is_converted_too(stagerun, server, dest, charset, name):
    # Python does not know all of these, and none of its own composes what iconv does.
    def by_iconv(to, data, source="UTF-8"):
        return subprocess.run(["iconv", "-f", source, "-t", to], input=data, stdout=subprocess.PIPE, check=True).stdout

    raw = by_iconv(charset, name.encode())
    stagerun.fetch(server.put("/x.zip", zip_with(raw)).url, dest, "--zip-names", charset).ok()
    assert names_below(dest) == [by_iconv("UTF-8", raw, charset)]


def test_a_name_of_which_conversion_leaves_nothing_is_none(stagerun, server, dest):
    served = server.put("/x.zip", zip_with(b"\xff\xfe"))
    stagerun.fetch(served.url, dest, "--zip-names", "UTF-16").failed(1, "an entry of the zip's directory has no name")


@pytest.mark.parametrize("name, charset", [("../é", "UTF-16LE"), ("/é", "UTF-16LE"), ("../x", "CP037")])
def test_a_name_is_judged_as_it_is_converted(stagerun, server, dest, name, charset):
    served = server.put("/x.zip", zip_with(name.encode(charset)))
    stagerun.fetch(served.url, dest, "--zip-names", charset).failed(1, "was refused: the name")
