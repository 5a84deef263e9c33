#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP server for thousands of short connections: a page of 1000 bytes for each, and it notes from
which endpoints each path was asked for. "GET /seen" is answered with {path: [endpoint, ...]}."""
import json
import selectors
import socket
import sys

HEAD = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", int(sys.argv[1])))
    listener.listen(4096)
    listener.setblocking(False)
    selector, seen = selectors.DefaultSelector(), {}
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                try:
                    while True:
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                except BlockingIOError:
                    continue
            client = key.fileobj
            try:
                words = client.recv(4096).split()
                if len(words) > 1:
                    path = words[1].decode("ascii", "replace")
                    if path == "/seen":
                        body = json.dumps({p: sorted(e) for p, e in seen.items()}).encode()
                    else:
                        seen.setdefault(path, set()).add("%s:%d" % client.getpeername())
                        body = b"x" * 1000
                    client.setblocking(True)
                    client.sendall(HEAD % len(body) + body)
            except OSError:
                pass
            selector.unregister(client)
            client.close()


if __name__ == "__main__":
    main()
