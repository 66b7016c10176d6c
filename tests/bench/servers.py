# SPDX-License-Identifier: MIT
"""What a measurement needs beside the program: nginx at three speeds, and a file system with
latency. Each is a context manager that leaves no process and no mount behind."""

import os
import shutil
import socket
import subprocess
import time

CONFIGURATION = """
daemon off;
worker_processes {workers};
pid {dir}/pid;
error_log {dir}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
	access_log off;
	client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
	uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
	sendfile on;
	tcp_nopush on;
	root {root};
	server {{ listen 127.0.0.1:{fast}; }}
	server {{ listen 127.0.0.1:{limited}; limit_rate 60m; }}
	server {{ listen 127.0.0.1:{trickle}; limit_rate 16k; }}
}}
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_until(ready, process, what):
    for _ in range(1000):
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended by itself, status {process.returncode}")
        if ready():
            return
        time.sleep(0.01)
    raise RuntimeError(f"{what} did not start within 10 s")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except ConnectionRefusedError:
        return False


class Nginx:
    """The same files on three ports: as fast as it can ("fast"), 60 MiB/s for each connection
    ("limited"), and 16 KiB/s ("trickle")."""

    def __init__(self, root, directory):
        self.ports = dict(zip(("fast", "limited", "trickle"), free_ports(3)))
        self.directory = directory / "nginx"
        self.directory.mkdir()
        (self.directory / "nginx.conf").write_text(CONFIGURATION.format(
            dir=self.directory, root=root, workers=os.cpu_count(), **self.ports,
            user="user root;" if os.geteuid() == 0 else ""))
        self.process = None

    def url(self, name, server="fast"):
        return f"http://127.0.0.1:{self.ports[server]}/{name}"

    def __enter__(self):
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen(
            [binary, "-p", self.directory, "-e", self.directory / "error.log",
             "-c", self.directory / "nginx.conf"], stderr=subprocess.DEVNULL)
        for port in self.ports.values():
            wait_until(lambda port=port: listens(port), self.process, "nginx")
        return self

    def __exit__(self, *reason):
        self.process.terminate()
        self.process.wait()


class SlowDisk:
    """A directory, path, where every create and every close takes a millisecond more; what is
    written there lies in backing."""

    def __init__(self, program, directory):
        self.program, self.backing, self.path = program, directory / "backing", directory / "slow"
        self.backing.mkdir()
        self.path.mkdir()
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen([self.program, self.backing, self.path])
        wait_until(lambda: os.path.ismount(self.path), self.process, "slowfs")
        return self

    def __exit__(self, *reason):
        self.process.terminate()  # it unmounts; what is still open there ends with it
        self.process.wait()
        if os.path.ismount(self.path):
            subprocess.run(["umount", "-l", self.path], check=True)
