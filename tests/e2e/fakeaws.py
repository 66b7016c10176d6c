# SPDX-License-Identifier: MIT
"""Plays AWS on one loopback port: S3 that checks every signature and its time, lists what it has, and ignores
If-Match, and all who give out
credentials: STS, the container service of ECS and EKS, EC2's instance metadata.

Keys are minted for each question, live as long as the test says, and are known to S3 at once."""

import hashlib
import hmac
import json
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLES = "/latest/meta-data/iam/security-credentials/"


class Keys:
    """One set of credentials."""

    def __init__(self, access, secret, token=None, lives=None):
        self.access, self.secret, self.token = access, secret, token
        self.expires = time.time() + lives if lives is not None else None
        self.revoked = False
        self.used = 0

    def expired(self):
        return self.revoked or (self.expires is not None and time.time() >= self.expires)

    def json(self, token="Token", **more):
        """What containers, instances and processes say."""
        said = {"AccessKeyId": self.access, "SecretAccessKey": self.secret, token: self.token or "", **more}
        if self.expires is not None:
            said["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.expires))
        return json.dumps(said)


class Asked:
    """A request for credentials."""

    def __init__(self, path, headers, form):
        self.path, self.headers, self.form = path, headers, form


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class FakeAws:
    """objects: "bucket/key" -> bytes; etags False: sent without ETag. listed: what listings say of a key in place
    of what it holds. lives: seconds that minted keys live; None: for ever. rate: bytes/s of
    each answer; None: as fast as it goes. fail: {"sts", "container", "instance"} that refuse. early: by the same names,
    the answers (status, body) before the good ones."""

    def __init__(self, port=0, prepare=lambda aws: None):
        self.objects, self.keys, self.asked, self.refused = {}, {}, [], []
        self.listed, self.etags = {}, True
        self.lives, self.rate, self.fail, self.early = 3600, None, set(), {}
        self.lock = threading.Lock()
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.aws = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        prepare(self)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def add(self, access, secret, token=None, lives=None):
        """Keys that S3 and STS know."""
        with self.lock:
            self.keys[access] = Keys(access, secret, token, lives)
            return self.keys[access]

    def mint(self, name):
        number = 1 + sum(k.startswith(name) for k in self.keys)
        return self.add(f"{name}{number}", f"the/secret+of{name}{number}", f"the-token//of=={name}{number}",
                        self.lives)

    def env(self, **more):
        """S3 and EC2 are here, and no credentials anywhere."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.url}/no-instance",
                "NO_PROXY": "127.0.0.1", **more}

    def used(self):
        """Names of the keys that objects were read with, in the order of minting."""
        return [k.access for k in self.keys.values() if k.used > 0]

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Refused(Exception):
    """An answer of S3 or STS: status, code, message."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *_):
        pass

    @property
    def aws(self):
        return self.server.aws

    def answer(self, status, body=b"", headers=()):
        if isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_slowly(body)

    def send_slowly(self, body):
        rate = self.aws.rate
        step = len(body) if rate is None else max(1, rate // 20)
        for at in range(0, len(body), step or 1):
            self.wfile.write(body[at:at + step])
            if rate is not None:
                time.sleep(0.05)

    def note(self, form=None):
        self.aws.asked.append(Asked(self.path, dict(self.headers.items()), form))

    def answer_early(self, who):
        """Whether this was one of the answers before the good ones."""
        with self.aws.lock:
            early = self.aws.early.get(who)
            answer = early.pop(0) if early else None
        if answer:
            self.answer(*answer)
        return answer is not None

    # Signature Version 4, by the book.

    def signed_by(self, service):
        match = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/(\w+)/aws4_request, "
                         r"SignedHeaders=([^,]+), Signature=(\w+)$", self.headers.get("Authorization", ""))
        if not match:
            raise Refused(403, "AccessDenied", "not signed")
        access, day, region, for_service, names, signature = match.groups()
        keys = self.aws.keys.get(access)
        if keys is None or for_service != service:
            raise Refused(403, "InvalidAccessKeyId", "nobody has this key")
        names = names.split(";")
        if keys.token and "x-amz-security-token" not in names:
            raise Refused(403, "SignatureDoesNotMatch", "the token is not signed")
        if (self.headers.get("x-amz-security-token") or None) != keys.token:
            raise Refused(403, "InvalidToken", "not the token of these keys")
        if signature != self.signature(keys.secret, (day, region, service), names):
            raise Refused(403, "SignatureDoesNotMatch", "the signature is wrong")
        if keys.expired():
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        return keys

    def signature(self, secret, scope, names):
        path, _, query = self.path.partition("?")
        headers = "".join(f"{n}:{' '.join(self.headers[n].split())}\n" for n in names)
        payload = self.headers.get("x-amz-content-sha256") or hashlib.sha256(self.body).hexdigest()
        request = "\n".join([self.command, path, "&".join(sorted(query.split("&"))), headers,
                             ";".join(names), payload])
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"],
                          "/".join([*scope, "aws4_request"]), digest])
        key = ("AWS4" + secret).encode()
        for part in (*scope, "aws4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()

    # Who answers what.

    def do_GET(self):
        self.body = b""
        if self.path.startswith("/latest/"):
            self.instance()
        elif self.path.startswith("/container"):
            self.container()
        elif self.path.startswith("/no-instance"):
            self.answer(404)
        else:
            self.object()

    do_HEAD = do_GET

    def do_PUT(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.answer_early("instance"):
            return
        if self.path == "/latest/api/token" and "instance" not in self.aws.fail:
            self.answer(200, "the-imds-token")
        else:
            self.answer(404)

    def instance(self):
        self.note()
        if self.headers.get("X-aws-ec2-metadata-token") != "the-imds-token":
            self.answer(401)
        elif self.path == ROLES:
            self.answer(200, "the-role")
        elif self.path == f"{ROLES}the-role":
            self.answer(200, self.aws.mint("INSTANCE").json(Code="Success"))
        else:
            self.answer(404)

    def container(self):
        self.note()
        if self.answer_early("container"):
            return
        if "container" in self.aws.fail:
            self.answer(403, '{"message": "not for you"}')
        else:
            self.answer(200, self.aws.mint("CONTAINER").json())

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        form = dict(urllib.parse.parse_qsl(self.body.decode()))
        self.note(form)
        if self.answer_early("sts"):
            return
        try:
            if "sts" in self.aws.fail:
                raise Refused(403, "AccessDenied", "not authorized to assume this role")
            if form["Action"] == "AssumeRole":
                self.signed_by("sts")
        except Refused as refused:
            status, code, message = refused.args
            self.answer(status, f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message>"
                                "</Error></ErrorResponse>")
            return
        keys = self.aws.mint("ROLE")
        said = json.loads(keys.json("SessionToken"))
        fields = "".join(f"<{k}>{v}</{k}>" for k, v in said.items())
        self.answer(200, f"<R><Result><Credentials>{fields}</Credentials></Result></R>")

    def object(self):
        try:
            keys = self.signed_by("s3")
            with self.aws.lock:
                keys.used += 1
            path, _, query = self.path[1:].partition("?")
            query = dict(urllib.parse.parse_qsl(query))
            if "list-type" in query:
                self.send_listing(path, query.get("prefix", ""))
            else:
                self.send_object(self.aws.objects.get(urllib.parse.unquote(path)))
        except Refused as refused:
            status, code, message = refused.args
            self.aws.refused.append(code)
            self.answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")

    def send_listing(self, bucket, prefix):
        above, found = f"{bucket.strip('/')}/", ""
        for path, data in sorted({**self.aws.objects, **self.aws.listed}.items()):
            if path.startswith(above + prefix):
                found += (f"<Contents><Key>{urllib.parse.quote(path.removeprefix(above))}</Key><Size>{len(data)}"
                          f"</Size><ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
                          "<LastModified>1994-11-15T12:45:26.000Z</LastModified></Contents>")
        self.answer(200, "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
                         f"{found}</ListBucketResult>")

    def send_object(self, data):
        if data is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        headers = [("ETag", f'"{hashlib.md5(data).hexdigest()}"'), ("Accept-Ranges", "bytes"),
                   ("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT")]
        if not self.aws.etags:
            del headers[0]
        wanted = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
            self.answer(206, data[first:last + 1], headers)
        else:
            self.answer(200, data, [*headers, ("Content-Length", str(len(data)))])
