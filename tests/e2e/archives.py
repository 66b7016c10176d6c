# SPDX-License-Identifier: MIT
"""Archives for the tests: sound ones by the standard tools, hostile ones byte by byte."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import tarfile
import zipfile

MTIME = 1_600_000_000  # of entries that do not say otherwise


# --- compression ---

def _filter(*argv):
    return lambda data: subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout


COMPRESS = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "zst": _filter("zstd", "-q", "-c"),
    "xz": lzma.compress,
    "lz4": _filter("lz4", "-q", "-c"),
    "bz2": bz2.compress,
}


def noise(size, seed=1):
    """Bytes that do not compress, the same ones each time."""
    return random.Random(seed).randbytes(size)


# --- tar ---

def _member(name, kind, **fields):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mtime = MTIME
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def file(name, data=b"data\n", **fields):
    return _member(name, tarfile.REGTYPE, size=len(data), **fields), data


def directory(name, **fields):
    return _member(name, tarfile.DIRTYPE, **fields), b""


def symlink(name, target, **fields):
    return _member(name, tarfile.SYMTYPE, linkname=target, **fields), b""


def hardlink(name, target, data=b"", **fields):
    """With data: the (legal) form that carries the content again."""
    return _member(name, tarfile.LNKTYPE, linkname=target, size=len(data), **fields), data


def special(name, kind):
    return _member(name, kind, devmajor=1, devminor=3), b""


def tar(*members, form=tarfile.PAX_FORMAT, end=True):
    """A tar of members, in their order; names may hold surrogate escapes for any byte."""
    out = bytearray()
    for member, data in members:
        # Not TarFile.add(): it would not write a hard link's data, or anything else unusual.
        out += member.tobuf(form, encoding="utf-8", errors="surrogateescape")
        out += data + bytes(-len(data) % 512)
    return bytes(out + bytes(1024)) if end else bytes(out)


def tar_of(root, *options):
    """GNU tar's archive of what is beneath root."""
    return subprocess.run(["tar", "-C", root, "--sort=name", *options, "-cf", "-", "."],
                          stdout=subprocess.PIPE, check=True).stdout


def untar(archive, to, *options):
    """What GNU tar makes of an archive: the reference."""
    to.mkdir()
    subprocess.run(["tar", "-C", to, "-p", "--delay-directory-restore", *options, "-xf", "-"], input=archive, check=True)


def ustar_header(name, size=b"00000000000\0", kind=b"0", linkname=b""):
    """A raw ustar header: fields as given, whatever they say, with the right checksum."""
    header = bytearray(512)
    for at, field in ((0, name), (100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"),
                      (124, size), (136, b"%011o\0" % MTIME), (148, b" " * 8), (156, kind),
                      (157, linkname), (257, b"ustar\00000")):
        header[at:at + len(field)] = field
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax_records(kind, **records):
    """A raw pax header block (kind "x", or "g" for global), keys and values as given (bytes)."""
    body = b""
    for key, value in records.items():
        record = b" " + key.encode().replace(b"__", b".") + b"=" + value + b"\n"
        length = len(record)
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        body += str(length).encode() + record
    header = ustar_header(b"pax", b"%011o\0" % len(body), kind.encode())
    return header + body + bytes(-len(body) % 512)


def raw_file(name, data=b"data\n"):
    return ustar_header(name, b"%011o\0" % len(data)) + data + bytes(-len(data) % 512)


END = bytes(1024)


# --- zip ---

def zip_entry(name, data=None, mode=None, method=zipfile.ZIP_DEFLATED):
    """A name that ends in / is a directory."""
    is_directory = name.endswith("/")
    if data is None:
        data = b"" if is_directory else b"data\n"
    if mode is None:
        mode = 0o040755 if is_directory else 0o100644
    info = zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40))
    info.create_system = 3  # Unix: the modes mean something
    info.external_attr = mode << 16 | (0x10 if is_directory else 0)
    info.compress_type = method
    return info, data


def zip_of(*entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return out.getvalue()


def zip_symlink(name, target):
    return zip_entry(name, target.encode(), 0o120777, zipfile.ZIP_STORED)


def zip_patched(archive, central=None, local=None):
    """Overwrites fields of the first entry's headers: {offset in the header: bytes}."""
    out = bytearray(archive)
    start = struct.unpack_from("<I", archive, archive.rindex(b"PK\5\6") + 16)[0]
    for base, patches in ((start, central or {}), (0, local or {})):
        for at, value in patches.items():
            out[base + at:base + at + len(value)] = value
    return bytes(out)


# --- cpio ---

def cpio_newc(*entries):
    """Entries are (name, mode, data, inode, links)."""
    out = b""
    for name, mode, data, inode, links in [*entries, ("TRAILER!!!", 0, b"", 0, 1)]:
        raw = os.fsencode(name) + b"\0"
        fields = (inode, mode, 0, 0, links, MTIME, len(data), 0, 0, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out


# --- a tree on the disk ---

def make_tree(root, links=True, attributes=True):
    """A small tree that holds one of everything that a published tree must keep."""
    root.mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "deep/er/still").mkdir(parents=True)
    (root / "deep/er/still/leaf.txt").write_text("leaf\n")
    (root / "noise.bin").write_bytes(noise(300_000))
    (root / "zero-length").touch()
    (root / "script.sh").write_text("#!/bin/sh\necho hello\n")
    (root / "script.sh").chmod(0o755)
    (root / "secret").write_text("read only\n")
    (root / "secret").chmod(0o400)
    (root / "a name with spaces").write_text("x")
    (root / "späße-数据").write_text("utf-8\n")
    for i in range(40):
        (root / "deep" / f"small-{i:02}").write_bytes(noise(i * 37, seed=i))
    if links:
        (root / "to-leaf").symlink_to("deep/er/still/leaf.txt")
        (root / "deep/dangling").symlink_to("er/not-there")
        os.link(root / "noise.bin", root / "deep/noise-again.bin")
    if attributes:
        os.setxattr(root / "script.sh", "user.origin", b"made\0here")
    _set_times(root)
    (root / "empty").chmod(0o2755 & 0o777)
    (root / "deep/er").chmod(0o700)
    return root


def _set_times(root):
    """Each entry a time of its own, with nanoseconds; directories last, from the leaves up."""
    when = MTIME * 10**9 + 123_456_789
    for directory_path, directories, names in os.walk(root, topdown=False):
        for name in sorted(names) + sorted(directories):
            when += 61_000_000_001
            os.utime(os.path.join(directory_path, name), ns=(when, when), follow_symlinks=False)
    os.utime(root, ns=(when, when))
