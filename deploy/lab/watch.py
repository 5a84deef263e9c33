#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps both routers' routes to the dataplanes that are ready: the lab's BFD.

Runs in the namespace "tbl", polls /readyz of every dataplane over the management network each
100 ms. A refused connection takes a dataplane out at once, silence after MISSES polls. A dataplane
that answers "not ready" (it is drained, or cannot reach the table service) leaves after UNREADY
seconds in which another one was ready all the time. When all lose the table service they lose it at
slightly different times, and each goes on with the flows that it holds; moving flows between them
would be the wrong thing then, and so would withdrawing everybody.
"""
import argparse
import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import time

import routes

INTERVAL = 0.1
TIMEOUT = 0.3
MISSES = 2
UNREADY = 5.0
ADMIN_PORT = 9465


def probe(address):
    """'ready', 'unready' (it answers, but not 200), 'refused', 'silent'."""
    try:
        with socket.create_connection((address, ADMIN_PORT), TIMEOUT) as s:
            s.settimeout(TIMEOUT)
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
            line = s.makefile("rb").readline(256)
    except ConnectionError:
        return "refused"
    except OSError:
        return "silent"
    fields = line.split()
    if len(fields) < 2:
        return "refused"
    return "ready" if fields[1] == b"200" else "unready"


class Watch:
    def __init__(self, lab, state, pool, dataplanes, spread):
        self.lab, self.state, self.pool, self.spread = lab, state, pool, spread
        self.numbers = range(1, dataplanes + 1)
        self.misses = {n: 0 for n in self.numbers}
        self.unready = {}  # since when, of members
        self.members = set()

    def route(self):
        routes.route(self.lab, self.pool, self.members, self.members, self.spread)
        path = os.path.join(self.state, "ecmp")
        with open(path + ".new", "w", encoding="ascii") as f:
            f.write("".join(f"dp{n}\n" for n in sorted(self.members)))
        os.rename(path + ".new", path)

    def turn(self, answers, now):
        wanted = set(self.members)
        if "ready" not in answers.values():
            self.unready.clear()
        for n, answer in answers.items():
            self.misses[n] = self.misses[n] + 1 if answer == "silent" else 0
            if answer != "unready":
                self.unready.pop(n, None)
            if answer == "ready":
                wanted.add(n)
            elif answer == "refused" or self.misses[n] >= MISSES:
                wanted.discard(n)
            elif answer == "unready" and "ready" in answers.values() \
                    and now - self.unready.setdefault(n, now) >= UNREADY:
                wanted.discard(n)
        if wanted != self.members:
            gone, new = self.members - wanted, wanted - self.members
            self.members = wanted
            self.route()
            print(f"{time.time():.3f} in ECMP: {sorted(wanted)}"
                  + "".join(f" +dp{n}" for n in sorted(new))
                  + "".join(f" -dp{n} ({answers[n]})" for n in sorted(gone)), flush=True)

    def run(self):
        with concurrent.futures.ThreadPoolExecutor(len(self.numbers)) as pool:
            while True:
                start = time.monotonic()
                found = pool.map(probe, [f"192.168.255.1{n}" for n in self.numbers])
                self.turn(dict(zip(self.numbers, found)), start)
                time.sleep(max(0.0, start + INTERVAL - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--dataplanes", type=int, required=True)
    parser.add_argument("--spread", choices=("flow", "packet"), default="flow")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    watch = Watch(args.lab, args.state, args.pool, args.dataplanes, args.spread)
    watch.route()
    try:
        watch.run()
    except subprocess.CalledProcessError as error:
        sys.exit(f"watch: {error}")


if __name__ == "__main__":
    main()
