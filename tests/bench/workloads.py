# SPDX-License-Identifier: MIT
"""The archives that are staged: made once with fixed seeds, kept outside the repository.

A recipe is a function that makes one file or tree; it asks the cache for what it needs. Each is
made under a temporary name and renamed, so that a broken run leaves nothing that looks done."""

import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

LINUX_SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")
RECIPES_VERSION = "1"  # raise it when a recipe changes what it makes
MTIME = 1700000000

SHARDS = 8
SMALL_FILES = 60000
SMALL_SCALES = (1, 4)  # and 16, which is small.tar.zst
BIG_BYTES = 2 << 30
BIG_SCALES = (1, 4)  # and 16, which is big.tar.zst

# Tables that leave some byte values out.
PNG_BYTES = bytes(i * 15 // 16 for i in range(256))
WEIGHT_BYTES = bytes(i & 15 for i in range(256))


class Cache:
    """Where workloads are kept. path() makes what is not there yet."""

    def __init__(self, directory):
        self.directory = Path(directory) / f"v{RECIPES_VERSION}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        final = self.directory / name
        if final.exists():
            return final
        recipe = RECIPES[name]
        partial = self.directory / f".{name}.{os.getpid()}"
        print(f"making {name}", flush=True)
        try:
            recipe(self, partial)
            os.rename(partial, final)
        finally:
            remove(partial)
        return final


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def default_directory():
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STAGERUN_BENCH_CACHE") or Path(caches) / "stagerun-bench")


# What the files hold.

def noise(rng, size):
    """As compressed pictures are: nothing can make them smaller."""
    return rng.randbytes(size)


def png(rng, size):
    """As small PNGs are: deflate gains a percent, and so uses deflate."""
    return b"\x89PNG\r\n\x1a\n" + rng.randbytes(size - 8).translate(PNG_BYTES)


def weights(rng, size):
    """As parameters in 8 bits are: no repetition, half the entropy."""
    return rng.randbytes(size).translate(WEIGHT_BYTES)


def caption(rng):
    words = ("a", "dog", "cat", "on", "the", "red", "field", "road", "under", "two", "old", "trees")
    return (" ".join(rng.choices(words, k=20)) + "\n").encode()


# Recipes of trees and of tars.

def fill_tree(to, seed, files, folders, content):
    """files of content(rng) over folders class_0 ..., beneath one top folder, as data sets are."""
    rng = random.Random(seed)
    for folder in range(folders):
        (to / f"class_{folder:03}").mkdir(parents=True)
    for i in range(files):
        (to / f"class_{i % folders:03}" / f"{i:06}.png").write_bytes(content(rng))


def tree(seed, files, folders, content):
    return lambda cache, to: fill_tree(to, seed, files, folders, content)


def tar_of(tree_name):
    def make(cache, to):
        source = cache.path(tree_name)
        top = tree_name.removesuffix(".tree")
        subprocess.run(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner",
                        f"--mtime=@{MTIME}", f"--transform=s,^{tree_name},{top},",
                        "-C", source.parent, "-cf", to, tree_name], check=True)
    return make


def zip_of(tree_name, *options):
    def make(cache, to):
        # zip adds .zip to a name without it; beneath the tree, so that names are as in the tar.
        subprocess.run(["zip", "-q", "-r", "-X", *options, to.with_suffix(".zip"), "."],
                       cwd=cache.path(tree_name), check=True)
        if to.with_suffix(".zip") != to:
            os.rename(to.with_suffix(".zip"), to)
    return make


def packed(tar_name, *command):
    def make(cache, to):
        with open(cache.path(tar_name), "rb") as source, open(to, "wb") as out:
            subprocess.run(command, stdin=source, stdout=out, check=True)
    return make


def linux_as_shipped(cache, to):  # pylint: disable=unused-argument
    if not LINUX_SOURCE.exists():
        raise FileNotFoundError(f"{LINUX_SOURCE}: install the package linux-source-6.1")
    shutil.copyfile(LINUX_SOURCE, to)


def first_entries(tar_name, count):
    """The archive up to its entry number count, and the two empty blocks that end a tar."""
    def make(cache, to):
        source = cache.path(tar_name)
        with tarfile.open(source) as archive:
            for _ in range(count):
                archive.next()
            end = archive.next().offset
        with open(source, "rb") as whole, open(to, "wb") as out:
            for at in range(0, end, 1 << 20):
                out.write(whole.read(min(1 << 20, end - at)))
            out.write(bytes(1024))
    return make


def add_member(archive, name, content, size):
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, MTIME, 0o644
    archive.addfile(member, content)


class Weights:
    """A file of parameters without an end, made while it is read."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def read(self, size):
        return weights(self.rng, size)


def shard(number):
    """100 MB of pictures with their captions, as WebDataset packs them."""
    def make(cache, to):  # pylint: disable=unused-argument
        rng = random.Random(f"shard {number}")
        total = 0
        with tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as archive:
            while total < 100_000_000:
                picture, words = noise(rng, rng.randrange(60_000, 160_000)), caption(rng)
                for suffix, data in (("jpg", picture), ("txt", words)):
                    name = f"{total:09}.{suffix}"
                    add_member(archive, name, io.BytesIO(data), len(data))
                total += len(picture) + len(words)
    return make


def one_file(size):
    def make(cache, to):  # pylint: disable=unused-argument
        with tarfile.open(to, "w", format=tarfile.USTAR_FORMAT, copybufsize=1 << 20) as archive:
            add_member(archive, "weights.bin", Weights("one file"), size)
    return make


def small_png(rng):
    return png(rng, rng.randrange(2000, 3000))


def picture(rng):
    return noise(rng, rng.randrange(60_000, 160_000))


ZSTD = ("zstd", "-q", "-3", "-T1", "-c")

RECIPES = {
    "linux.tar.xz": linux_as_shipped,
    "linux.tar": packed("linux.tar.xz", "xz", "-dc", "-T0"),
    "linux.tar.zst": packed("linux.tar", *ZSTD),
    "linux.tar.gz": packed("linux.tar", "gzip", "-n", "-c"),
    "linux.tar.lz4": packed("linux.tar", "lz4", "-q", "-c"),
    "linux10k.tar": first_entries("linux.tar", 10_000),
    "linux10k.tar.zst": packed("linux10k.tar", *ZSTD),
    "small.tree": tree("small", SMALL_FILES, 10, small_png),
    "small.tar": tar_of("small.tree"),
    "small.tar.zst": packed("small.tar", *ZSTD),
    "small.tar.gz": packed("small.tar", "gzip", "-n", "-c"),
    "small.zip": zip_of("small.tree"),
    "images.tree": tree("images", 6000, 100, picture),
    "images.tar": tar_of("images.tree"),
    "images.zip": zip_of("images.tree", "-0"),
    "big.tar": one_file(BIG_BYTES),
    "big.tar.zst": packed("big.tar", *ZSTD),
}
for i in range(SHARDS):
    RECIPES[f"shard{i}.tar"] = shard(i)
    RECIPES[f"shard{i}.tar.zst"] = packed(f"shard{i}.tar", *ZSTD)
for scale in SMALL_SCALES:
    RECIPES[f"small-{scale}.tree"] = tree("small", SMALL_FILES // 16 * scale, 10, small_png)
    RECIPES[f"small-{scale}.tar"] = tar_of(f"small-{scale}.tree")
    RECIPES[f"small-{scale}.tar.zst"] = packed(f"small-{scale}.tar", *ZSTD)
for scale in BIG_SCALES:
    RECIPES[f"big-{scale}.tar"] = one_file(BIG_BYTES // 16 * scale)
    RECIPES[f"big-{scale}.tar.zst"] = packed(f"big-{scale}.tar", *ZSTD)
