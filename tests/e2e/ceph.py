# SPDX-License-Identifier: MIT
"""A real S3 server for the tests: Ceph, started by the first test that needs it and shared by all workers
of the session.

Who uses it holds a shared lock on a file, so however a worker ends, its use ends. A keeper waits for the
exclusive lock, which it gets after the last of them, and then stops the server: nothing is left behind."""

import fcntl
import json
import os
import random
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

SCRIPT = Path(__file__).with_name("ceph-rgw")
REGION = "us-east-1"


def free_port():
    """None that a connection of another test could take before the server does."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)  # not what a seed made of it
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """The session's server. session: the same string in all its workers."""

    def __init__(self, session):
        # Short, because sockets have their names in it.
        self.directory = Path(tempfile.gettempdir()) / f"stagerun-ceph-{os.getuid()}-{session[:12]}"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.state = self.directory / "server"
        self.clients = {}  # boto3's, for all tests
        self.users = os.open(self.directory / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(self.directory / "starting", "w", encoding="ascii") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(self.users, fcntl.LOCK_SH)
            url = self.state / "url"
            if not url.exists():
                self._start()
            self.url = url.read_text(encoding="ascii").strip()

    def _start(self):
        subprocess.run([SCRIPT, "stop", self.state], check=True)  # one that did not start
        # Takes the lock that we hold shared: sleeps as long as anybody does.
        subprocess.Popen(  # pylint: disable=consider-using-with
            ["flock", "-x", self.directory / "users", "sh", "-c", '"$0" stop "$1"/server && rm -r "$1"',
             SCRIPT, self.directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        (self.state / "url").write_text(self._start_on_free_ports(), encoding="ascii")

    def _start_on_free_ports(self):
        """Returns the URL. It takes seconds to start, and a server of another test may take the port first."""
        for _ in range(5):
            started = subprocess.run([SCRIPT, "start", self.state, str(free_port()), str(free_port())],
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if started.returncode == 0:
                return started.stdout
            if "already in use" not in started.stderr.lower():
                break
            subprocess.run([SCRIPT, "stop", self.state], check=True)
        raise AssertionError(started.stderr)

    def close(self):
        os.close(self.users)


class Ceph:
    """The server as one test sees it, with a bucket of its own (alice's) that goes with the test."""

    def __init__(self, server):
        self.url = server.url
        self.clients = server.clients
        self.buckets = []
        self.bucket = self.new_bucket()

    @staticmethod
    def keys(who):
        return f"{who.upper()}KEY", f"{who.upper()}SECRET"

    def env(self, who="alice"):
        """Variables for stagerun and the aws program; who None: no credentials, and none to be found."""
        access, secret = self.keys(who) if who else (None, None)
        return {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def client(self, who="alice"):
        """A boto3 client. To make one takes a third of a second."""
        if who not in self.clients:
            self.clients[who] = self._new_client(who)
        return self.clients[who]

    def _new_client(self, who):
        import boto3  # only those who use this server need it
        from botocore.config import Config

        access, secret = self.keys(who)
        return boto3.client("s3", endpoint_url=self.url, aws_access_key_id=access,
                            aws_secret_access_key=secret, region_name=REGION,
                            config=Config(s3={"addressing_style": "path"}))

    def aws(self, *args, who="alice", **how):
        """Runs the aws program; `aws s3 cp` and so on. Its standard output."""
        env = {**os.environ, **{k: v for k, v in self.env(who).items() if v},
               "AWS_DEFAULT_REGION": REGION, "AWS_CONFIG_FILE": "/nonexistent"}
        command = ["aws", "--endpoint-url", self.url, *(str(a) for a in args)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, **how).stdout

    def new_bucket(self):
        name = f"t-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=name)
        self.buckets.append(name)
        return name

    def put(self, key, data, bucket=None):
        self.client().put_object(Bucket=bucket or self.bucket, Key=key, Body=data)

    def keys_in(self, prefix="", bucket=None):
        """Every key below the prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(
            Bucket=bucket or self.bucket, Prefix=prefix)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def allow(self, principal, *actions, bucket=None):
        """A policy under which principal ("*", "bob") may do actions ("s3:GetObject") in the bucket."""
        bucket = bucket or self.bucket
        who = "*" if principal == "*" else {"AWS": [f"arn:aws:iam:::user/{principal}"]}
        self.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": who, "Action": list(actions),
                           "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]}))

    def close(self):
        """Gives the memory back that the buckets take; they themselves go with the server."""
        client = self.client()
        for bucket in self.buckets:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
                found = page.get("Versions", []) + page.get("DeleteMarkers", [])
                objects = [{"Key": o["Key"], "VersionId": o["VersionId"]} for o in found]
                if objects:
                    client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
