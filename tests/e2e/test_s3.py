# SPDX-License-Identifier: MIT
"""S3 as a source, against Ceph."""


def test_one_object(stagerun, ceph, dest):
    ceph.put("a/b.txt", b"hello")
    assert ceph.aws("s3", "ls", f"s3://{ceph.bucket}/a/").endswith("b.txt\n")
    assert ceph.keys_in() == ["a/b.txt"]
