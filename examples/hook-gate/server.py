#!/usr/bin/env python3
"""A hook for Sluice that verifies its callers, takes its time, and acts once for each decision.

    server.py [PORT]

    POST /check   agrees, unless metadata.frozen is "true"
    POST /soak    Processing until it was asked metadata.asks times (3), then OK
    POST /old     answers as a Flagger webhook does: by the status alone

SIGNING_KEY and TOKEN in the environment are what `auth.signature` and `auth.bearer` name.
Needs nothing but Python's own library.
"""
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ.get("SIGNING_KEY", "")
TOKEN = os.environ.get("TOKEN", "")
# A repeated call is an old recording when its time is further away than this.
TOLERANCE_SECONDS = 300
# Decisions that were acted upon. A real gate keeps them where a restart does not lose them.
decisions = {}


def verified(headers, body):
    """As standardwebhooks.com says; ready libraries do the same."""
    if TOKEN and not hmac.compare_digest(headers.get("authorization", ""), "Bearer " + TOKEN):
        return False
    if not KEY:
        return True
    at = headers.get("webhook-timestamp", "0")
    if abs(time.time() - int(at)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(KEY[6:]) if KEY.startswith("whsec_") else KEY.encode()
    signed = b".".join([headers.get("webhook-id", "").encode(), at.encode(), body])
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(s, expected) for s in headers.get("webhook-signature", "").split())


def check(asked):
    if asked["metadata"].get("frozen") == "true":
        return {"code": "Error", "reason": "Frozen", "message": "nobody releases " + asked["name"]}
    return {"code": "OK"}


def soak(asked):
    # `id` is the decision's: asked again, it goes on, and does not begin again.
    count = decisions[asked["id"]] = decisions.get(asked["id"], 0) + 1
    wanted = int(asked["metadata"].get("asks", "3"))
    if count < wanted:
        return {"code": "Processing", "reason": "%d of %d" % (count, wanted)}
    return {"code": "OK"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 1 << 20))
        if not verified(self.headers, body):
            return self.answer(401, {"message": "who are you?"})
        asked = json.loads(body)
        if self.path == "/check":
            return self.answer(200, check(asked))
        if self.path == "/soak":
            return self.answer(200, soak(asked), {"Retry-After": "1"})
        if self.path == "/old":
            return self.answer(200 if asked["phase"] == "Progressing" else 412, None)
        self.answer(404, {"message": "no such hook"})

    def answer(self, status, body, headers=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if data else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print("http://127.0.0.1:%d" % server.server_port, flush=True)
    server.serve_forever()
