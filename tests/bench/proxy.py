# SPDX-License-Identifier: MIT
"""A TCP proxy on loopback that counts the bytes that come back from a server, and may hold them to a rate."""

import socket
import threading
import time

CATCH_UP_SECONDS = 1


class Proxy:
    def __init__(self, url, rate=None):
        host, port = url.removeprefix("http://").split(":")
        self.target, self.rate = (host, int(port)), rate
        self.received, self.lock, self.free_at = 0, threading.Lock(), 0.0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client = self.listener.accept()[0]
            server = socket.create_connection(self.target)
            # What lies in buffers when the client dies was not sent for nothing.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _count(self, n):
        with self.lock:
            self.received += n
            if self.rate is None:
                return
            # What a busy machine kept it from sending may be made up for.
            self.free_at = max(self.free_at, time.monotonic() - CATCH_UP_SECONDS) + n / self.rate
            wait = self.free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)

    def _pass_on(self, source, to, counted):
        try:
            while data := source.recv(1 << 16):
                to.sendall(data)
                if counted:
                    self._count(len(data))
        except OSError:
            pass
        for end in (source, to):  # whichever is still there
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
