# SPDX-License-Identifier: MIT
"""An OpenTelemetry collector that keeps what it gets: OTLP/HTTP in JSON, on loopback."""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector:
    """answers: (status, headers) of the first responses; after them 200. delay: seconds before each."""

    def __init__(self, answers=(), delay=0):
        self.answers = list(answers)
        self.delay = delay
        self.requests = []  # (path, headers with names in lower case, parsed body)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                collector.take(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.rfile.read(int(headers["content-length"]))
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        time.sleep(self.delay)
        self.requests.append((request.path, headers, json.loads(body)))
        status, more = self.answers.pop(0) if self.answers else (200, {})
        try:
            request.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": "2", **more}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(b"{}")
        except OSError:
            pass  # it waited long enough

    def close(self):
        self.server.shutdown()
        self.server.server_close()
