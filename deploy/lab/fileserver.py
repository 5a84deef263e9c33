#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP server with one large file, made as it is sent: /file, and its checksum under /sha256."""
import argparse
import hashlib
import http.server
import os

BLOCK = 1 << 20


class Content:
    """mebibytes numbered blocks of random bytes; the same for every reader."""

    def __init__(self, mebibytes):
        self.blocks = mebibytes
        self.block = memoryview(os.urandom(BLOCK - 8))
        digest = hashlib.sha256()
        for number in range(mebibytes):
            digest.update(number.to_bytes(8, "big"))
            digest.update(self.block)
        self.sha256 = digest.hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content = None

    def do_GET(self):
        if self.path == "/sha256":
            body = self.content.sha256.encode()
            self.head(len(body))
            self.wfile.write(body)
        elif self.path == "/file":
            self.head(self.content.blocks * BLOCK)
            for number in range(self.content.blocks):
                self.wfile.write(number.to_bytes(8, "big"))
                self.wfile.write(self.content.block)
        else:
            self.send_error(404)

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--mebibytes", type=int, default=1024)
    args = parser.parse_args()
    Handler.content = Content(args.mebibytes)
    http.server.ThreadingHTTPServer((args.listen, args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
