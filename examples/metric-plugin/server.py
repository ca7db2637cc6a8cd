#!/usr/bin/env python3
"""A metric plugin for Sluice: the age of a certificate, and a measurement that takes longer.

    server.py [PORT]

`certificate` answers a value: {"path": "/etc/tls/tls.crt"} gives the days since the file was written.
`soak` takes longer: it is asked again until its time is over, and then ends by itself.
Needs nothing but Python's own library.
"""
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def certificate(config, asked):
    written = os.stat(config["path"]).st_mtime
    return {"value": (time.time() - written) / 86400}


def soak(config, asked):
    # Notes come back with the next question: this server keeps nothing in memory.
    begun = float(asked["notes"].get("begun", time.time()))
    if time.time() - begun < config.get("seconds", 60):
        return {"phase": "Running", "resumeAfter": "1s", "notes": {"begun": str(begun)}}
    return {"phase": "Successful", "message": "nothing happened", "notes": {"begun": str(begun)}}


PLUGINS = {"certificate": certificate, "soak": soak}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/cancel":
            return self.answer(200, {})
        plugin = PLUGINS.get(asked["plugin"])
        if self.path != "/v1/measure" or plugin is None:
            return self.answer(404, {"message": "no plugin " + repr(asked["plugin"])})
        try:
            self.answer(200, plugin(asked["config"], asked))
        except (OSError, KeyError, TypeError, ValueError) as error:
            self.answer(422, {"message": str(error)})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print("http://127.0.0.1:%d" % server.server_port, flush=True)
    server.serve_forever()
