# SPDX-License-Identifier: MIT
"""The rows of the benchmark: what is staged, from where, onto what, what it is compared with, and
how far ahead it must be."""

from dataclasses import dataclass

from workloads import SHARDS


@dataclass(frozen=True)
class Peer:
    """What a user would write, for one archive: {url}, an empty directory {dest} and one for
    downloads {tmp}."""
    name: str
    command: str


@dataclass(frozen=True)
class Bar:
    """The largest ratio to the first peer, and the largest resident peak."""
    wall: float = None
    cpu: float = None
    rss_mib: int = 128


@dataclass(frozen=True)
class Case:
    name: str
    archives: tuple
    peers: tuple  # the first is the one that the bar is about
    bar: Bar
    decoder: str  # the best that decodes {archive} to nowhere; "" when there is nothing to decode
    server: str = "fast"
    slow_disk: bool = False

    @property
    def tars(self):
        """What the trees are written from for the floor."""
        return [a.partition(".")[0] + ".tar" for a in self.archives]


def pipeline(decode):
    """curl to a decoder to GNU tar."""
    words = ["curl -sf {url}", decode, "tar x -C {dest}"]
    names = ["curl", decode, "tar x"]
    return Peer(" | ".join(filter(None, names)),
                " | ".join(filter(None, words)))


CURL_TAR_ZSTD = Peer("curl | tar x --zstd", "curl -sf {url} | tar x --zstd -C {dest}")
CURL_UNZIP = Peer("curl -o, unzip",
                  "curl -sf -o {tmp}/a.zip {url} && unzip -q {tmp}/a.zip -d {dest}")
CURL_BSDTAR = Peer("curl | bsdtar -x", "curl -sf {url} | bsdtar -x -C {dest}")
ARIA2_TAR = Peer("aria2c -x8, zstd -dc | tar x",
                 "aria2c -q -x8 -s8 -k1M --file-allocation=none -d {tmp} -o a {url} && "
                 "zstd -dc {tmp}/a | tar x -C {dest}")

ZSTD, GZIP, XZ, LZ4 = "zstd -dc", "gzip -dc", "xz -T0 -dc", "lz4 -dc"
BEST_ZSTD, BEST_GZIP, BEST_XZ, BEST_LZ4 = (
    "zstd -qdc {archive}", "igzip -dc {archive}", "xz -T0 -dc {archive}", "lz4 -qdc {archive}")
BEST_UNZIP = "{programs}/floor_inflate {cores} {archive}"

CASES = (
    Case("linux .tar.zst", ("linux.tar.zst",), (pipeline(ZSTD), CURL_BSDTAR, ARIA2_TAR),
         Bar(0.55, 0.65), BEST_ZSTD),
    Case("linux .tar.gz", ("linux.tar.gz",), (pipeline(GZIP), CURL_BSDTAR),
         Bar(0.25, 0.35), BEST_GZIP),
    Case("linux .tar.xz", ("linux.tar.xz",), (pipeline(XZ),), Bar(0.90, 0.95, 300), BEST_XZ),
    Case("linux .tar", ("linux.tar",), (pipeline(""), CURL_BSDTAR), Bar(0.75, 0.85), ""),
    Case("linux .tar.lz4", ("linux.tar.lz4",), (pipeline(LZ4),), Bar(), BEST_LZ4),
    Case("small .tar.zst", ("small.tar.zst",), (CURL_TAR_ZSTD, CURL_BSDTAR),
         Bar(0.80, 1.0), BEST_ZSTD),
    Case("small .tar.gz", ("small.tar.gz",), (pipeline(GZIP),), Bar(), BEST_GZIP),
    Case("small .zip", ("small.zip",), (CURL_UNZIP, CURL_BSDTAR), Bar(0.30, 0.45), BEST_UNZIP),
    Case("images stored .zip", ("images.zip",), (CURL_UNZIP, CURL_BSDTAR),
         Bar(0.12, 0.20), BEST_UNZIP),
    Case("images .tar", ("images.tar",), (pipeline(""), CURL_BSDTAR), Bar(0.75, 0.85), ""),
    Case("linux .tar.zst, 60 MB/s a connection", ("linux.tar.zst",), (pipeline(ZSTD), ARIA2_TAR),
         Bar(0.40), BEST_ZSTD, server="limited"),
    Case("linux, first 10,000 entries, .tar.zst, slow disk", ("linux10k.tar.zst",),
         (pipeline(ZSTD),), Bar(0.20), BEST_ZSTD, slow_disk=True),
    Case("shards, 8 .tar.zst at once", tuple(f"shard{i}.tar.zst" for i in range(SHARDS)),
         (pipeline(ZSTD),), Bar(0.70, 0.80), BEST_ZSTD),
    Case("big .tar.zst, one file of 2 GiB", ("big.tar.zst",), (pipeline(ZSTD), ARIA2_TAR),
         Bar(), BEST_ZSTD),
)
