# SPDX-License-Identifier: MIT
"""An HTTP/1.1 server on loopback that misbehaves as told, and remembers every request.

It serves objects by path, correctly by default: byte ranges, If-Match, If-None-Match, If-Range,
If-Modified-Since, keep-alive. A Fault changes the response to some of the requests: the first so many
that match it. One thread for each connection; an object and the log are used under the server's lock.

It knows nothing of the program that it tests."""

import contextlib
import dataclasses
import hashlib
import re
import socket
import threading
import time
from typing import Callable, Optional

REASONS = {200: "OK", 206: "Partial Content", 301: "Moved Permanently", 302: "Found",
           303: "See Other", 304: "Not Modified", 307: "Temporary Redirect",
           308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
           404: "Not Found", 408: "Request Timeout", 410: "Gone", 412: "Precondition Failed",
           416: "Range Not Satisfiable", 429: "Too Many Requests", 500: "Internal Server Error",
           502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
PIECE = 16 * 1024
LAST_MODIFIED = "Wed, 21 Oct 2020 07:28:00 GMT"


@dataclasses.dataclass
class Request:
    """One request as it came, and what became of it."""

    connection: int
    method: str
    target: str
    headers: dict  # names in lower case
    at: float
    status: int = 0
    sent: int = 0  # body bytes, counted as they are handed to the kernel

    @property
    def path(self):
        """Without scheme, host (a proxy's requests have them) and query."""
        return re.sub(r"^https?://[^/]*", "", self.target).partition("?")[0]

    @property
    def range(self):
        """(first, last) as asked for; last is None when open; None without a range."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return match and (int(match[1]), int(match[2]) if match[2] else None)


@dataclasses.dataclass
class Response:
    status: int
    headers: dict
    body: bytes = b""
    content_length: Optional[int] = None  # when it lies
    framing: str = "length"  # or "chunked", or "close"
    delay: float = 0  # before the first byte
    cut_after: Optional[int] = None  # body bytes until the connection is closed
    stall_after: Optional[int] = None  # body bytes until nothing more is sent
    rate: Optional[float] = None  # bytes a second


@dataclasses.dataclass
class Fault:
    """Changes the response to the first `times` (None: all) requests for which when() holds."""

    change: Callable[[Request, Response], None]
    times: Optional[int] = None
    when: Callable[[Request], bool] = lambda request: True


def first(request):
    """The request that asks from the object's first byte on."""
    return request.range is None or request.range[0] == 0


def later(request):
    """A request that continues in the middle of the object."""
    return not first(request)


def cut(after, times=1, when=lambda r: True):
    return Fault(lambda q, r: setattr(r, "cut_after", after), times, when)


def stall(after, times=1, when=lambda r: True):
    return Fault(lambda q, r: setattr(r, "stall_after", after), times, when)


def delay(seconds, times=None, when=lambda r: True):
    return Fault(lambda q, r: setattr(r, "delay", seconds), times, when)


def rate(bytes_a_second, times=None, when=lambda r: True):
    """Limits each connection."""
    return Fault(lambda q, r: setattr(r, "rate", bytes_a_second), times, when)


def status(code, times=1, when=lambda r: True, body=b"no\n", **headers):
    def change(_, response):
        response.status = code
        response.headers = {k.replace("_", "-"): v for k, v in headers.items()}
        response.body = body

    return Fault(change, times, when)


def redirect(to, code=302, times=None, when=lambda r: True):
    return status(code, times, when, Location=to)


def header(name, value, times=None, when=lambda r: True):
    """Sets a header, or takes it away (None)."""
    def change(_, response):
        response.headers.pop(name, None)
        if value is not None:
            response.headers[name] = value

    return Fault(change, times, when)


def body_length(difference, times=None, when=lambda r: True):
    """Sends (and announces) more or fewer bytes than Content-Range promises. See also cut()."""
    def change(_, response):
        if difference < 0:
            response.body = response.body[:difference]
        else:
            response.body += b"!" * difference

    return Fault(change, times, when)


def content_length(difference, times=None, when=lambda r: True):
    """Announces more or fewer bytes than it sends before it closes the connection."""
    def change(_, response):
        response.content_length = len(response.body) + difference

    return Fault(change, times, when)


def framing(kind, times=None, when=lambda r: True):
    """Without Content-Length: "chunked", or "close" (the end of the connection ends the body)."""
    return Fault(lambda q, r: setattr(r, "framing", kind), times, when)


class Served:
    """One object. Its ETag is made from its bytes, unless told otherwise (None: none)."""

    def __init__(self, server, path, body, etag, last_modified, ranges, faults):
        self.server, self.path, self.ranges = server, path, ranges
        self.last_modified = last_modified
        self.faults = list(faults)
        self.replacements = []
        self.count = 0
        self._set(body, etag)

    def _set(self, body, etag):
        self.body = body
        self.etag = f'"{hashlib.md5(body).hexdigest()}"' if etag == "strong" else etag

    @property
    def url(self):
        return self.server.url(self.path)

    @property
    def requests(self):
        return self.server.requests(self.path)

    @property
    def body_bytes(self):
        """Body bytes sent for this object so far."""
        return self.sent_from(0)

    def sent_from(self, first):
        """The same for the requests from the first on, whatever earlier ones still send."""
        return sum(r.sent for r in self.requests[first:] if r.status in (200, 206))

    def replace(self, body, etag="strong", last_modified=None, after=0):
        """Becomes another object when `after` more requests were answered."""
        with self.server.lock:
            self.replacements.append([self.count + after, body, etag, last_modified])

    def respond(self, request):
        """The response without and then with faults. Under the server's lock."""
        for change in [c for c in self.replacements if c[0] <= self.count]:
            self.replacements.remove(change)
            self._set(change[1], change[2])
            self.last_modified = change[3] or self.last_modified
        self.count += 1
        response = self._correct(request)
        for fault in self.faults:
            if fault.times != 0 and fault.when(request):
                if fault.times is not None:
                    fault.times -= 1
                fault.change(request, response)
        return response

    def _correct(self, request):
        headers = {"Accept-Ranges": "bytes" if self.ranges else "none"}
        if self.etag:
            headers["ETag"] = self.etag
        if self.last_modified:
            headers["Last-Modified"] = self.last_modified
        asked = request.headers
        if "if-match" in asked and not self._is_strongly(asked["if-match"]):
            return Response(412, headers, b"changed\n")
        if self._is_not_modified(asked):
            return Response(304, headers)
        if request.range and self.ranges and self._range_holds(asked):
            return self._part(request.range, headers)
        return Response(200, headers, self.body)

    def _is_strongly(self, tag):
        return tag == "*" or bool(self.etag) and not self.etag.startswith("W/") and tag == self.etag

    def _is_not_modified(self, asked):
        if "if-none-match" in asked:
            return bool(self.etag) and asked["if-none-match"].removeprefix("W/") == \
                self.etag.removeprefix("W/")
        since = asked.get("if-modified-since")
        return since is not None and since == self.last_modified

    def _range_holds(self, asked):
        condition = asked.get("if-range")
        return condition is None or self._is_strongly(condition) or condition == self.last_modified

    def _part(self, asked, headers):
        start, last = asked
        size = len(self.body)
        last = size - 1 if last is None else min(last, size - 1)
        if start >= size:
            headers["Content-Range"] = f"bytes */{size}"
            return Response(416, headers, b"range\n")
        headers["Content-Range"] = f"bytes {start}-{last}/{size}"
        return Response(206, headers, self.body[start:last + 1])


class FaultServer:
    def __init__(self, port=0, prepare=lambda server: None):
        """prepare puts what is there from the first request on, where somebody waits for the port."""
        self.lock = threading.Lock()
        self.objects = {}
        self.log = []
        self.open = {}  # connection number: socket
        self.opened = 0
        self.most_open = 0
        self.stopping = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        prepare(self)
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    def put(self, path, body, *faults, etag="strong", last_modified=LAST_MODIFIED, ranges=True):
        served = Served(self, path, body, etag, last_modified, ranges, faults)
        with self.lock:
            self.objects[path] = served
        return served

    def requests(self, path=None):
        with self.lock:
            return [r for r in self.log if path is None or r.path == path]

    def close(self):
        self.stopping.set()
        # shutdown() wakes the thread that sleeps in accept(); close() alone would not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open.values():
                with contextlib.suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.opened += 1
                number = self.opened
                self.open[number] = connection
                self.most_open = max(self.most_open, len(self.open))
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        try:
            stream = connection.makefile("rb")
            while self._answer(connection, number, stream):
                pass
        except OSError:
            pass  # the client went away
        finally:
            with self.lock:
                del self.open[number]
                connection.close()
            stream.close()

    def _answer(self, connection, number, stream):
        """One request and its response; True when the connection stays open."""
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = {}
        while (field := stream.readline().decode("latin-1").strip()):
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        request = Request(number, line[0], line[1], headers, time.monotonic())
        with self.lock:
            self.log.append(request)
            served = self.objects.get(request.path)
            response = served.respond(request) if served else Response(404, {}, b"not here\n")
            request.status = response.status
        return self._send(connection, request, response)

    def _send(self, connection, request, response):
        bodyless = response.status == 304 or request.method == "HEAD"
        body = b"" if bodyless else response.body
        head = dict(response.headers)
        if response.framing == "length" and response.status != 304:
            announced = response.content_length
            head["Content-Length"] = len(response.body) if announced is None else announced
        elif response.framing == "chunked":
            head["Transfer-Encoding"] = "chunked"
        elif response.framing == "close":
            head["Connection"] = "close"
        lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        if response.delay and self.stopping.wait(response.delay):
            return False
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return self._send_body(connection, request, response, body)

    def _send_body(self, connection, request, response, body):
        end = len(body) if response.cut_after is None else min(len(body), response.cut_after)
        began = time.monotonic()
        sent = 0
        piece = PIECE if response.rate is None else max(1, min(PIECE, int(response.rate / 50)))
        while sent < end:
            limit = end if response.stall_after is None else min(end, response.stall_after)
            data = body[sent:min(sent + piece, limit)]
            if not data:
                break
            if response.framing == "chunked":
                data = b"%x\r\n%s\r\n" % (len(data), data)
            sent = min(sent + piece, limit)
            request.sent = sent  # before it is: the client may look at once
            connection.sendall(data)
            if response.rate and self.stopping.wait(
                    max(0, began + sent / response.rate - time.monotonic())):
                return False
        if response.stall_after is not None and response.stall_after <= end:
            self._sleep_until_gone(connection)
            return False
        if response.framing == "chunked" and sent == len(body):
            connection.sendall(b"0\r\n\r\n")
        # A lie about the length can only be heard by a client whose connection is closed after it.
        lied = response.content_length not in (None, len(body))
        return sent == len(body) and response.framing != "close" and not lied

    @staticmethod
    def _sleep_until_gone(connection):
        """Says nothing more; returns when the client closes (or the server does)."""
        while connection.recv(4096):
            pass
