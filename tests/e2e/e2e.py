# SPDX-License-Identifier: Apache-2.0
"""The frame of the end-to-end tests: a lab of its own for each scenario, and what holds in all.

A scenario is a function of one argument, the Scenario, in a list that the test's file hands to
main(). In each of them: no private source is seen on the outside links, no program of ours ends
unasked, no sanitizer complains.
"""
import contextlib
import os
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "..", "deploy", "lab"))
import conatlab  # noqa: E402
import routes  # noqa: E402
from conatlab import SERVER, SERVER2, unpack_seen  # noqa: E402

COMPLAINTS = re.compile(r"ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer"
                        r"|Assertion .* failed|stack smashing")
PORT, PORT2 = 7001, 7002
LAB_POOL = "203.0.113.0/28"
CONFIG = """\
service:
  listen: [ "192.168.255.1:4790" ]
  admin: "127.0.0.1:9464"
  journal: none
capacity: { mappings: 200000, sessions: 200000, subscribers: 1000 }
pools:
  - name: lab
    prefixes: [ 203.0.113.0/28 ]
realms:
  - name: clients
    id: 1
    prefixes: [ 10.0.0.0/16 ]
    pool: lab
"""


class Failure(Exception):
    pass


class Scenario:
    def __init__(self, lab, spread="flow"):
        self.lab, self.spread, self.failures, self.expected_dead = lab, spread, [], set()
        self.mirror, self.leaked = None, []

    def expect(self, true, text):
        print(f"{'ok  ' if true else 'FAIL'}  {text}", flush=True)
        if not true:
            self.failures.append(text)
        return bool(true)

    def need(self, true, text):
        """expect, but what follows makes no sense without it."""
        if not self.expect(true, text):
            raise Failure(text)

    def eventually(self, probe, text, seconds=2.0):
        """expect, of what may take a moment: metrics are a picture of up to 0.1 s ago, and a fence
        is over when every dataplane has acknowledged."""
        deadline = time.monotonic() + seconds
        while not (true := probe()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.expect(true, text)

    def say(self, text):
        print(f"      {text}", flush=True)

    def wait_ecmp(self, name, seconds=15):
        until = time.monotonic() + seconds
        while name not in self.lab.ecmp() and time.monotonic() < until:
            time.sleep(0.05)
        self.need(name in self.lab.ecmp(), f"{name} becomes ready")

    def kill(self, label):
        self.expected_dead.add(label)
        self.lab.signal(label, "KILL")

    # ---- where packets go: the watcher sleeps and the test decides ----

    @contextlib.contextmanager
    def routed(self, outbound, inbound):
        """Meanwhile everything leaves by one dataplane and comes back by another one."""
        lab = self.lab
        lab.signal("watch", "STOP")
        try:
            self.route(outbound, inbound)
            yield
        finally:
            # The watcher only acts on changes: put its routes back ourselves.
            self.route_back()
            lab.signal("watch", "CONT")

    def route(self, outbound, inbound):
        routes.route(self.lab.name, LAB_POOL, [int(outbound[2:])], [int(inbound[2:])], self.spread)

    def route_back(self):
        numbers = [int(name[2:]) for name in self.lab.ecmp()]
        routes.route(self.lab.name, LAB_POOL, numbers, numbers, self.spread)

    # ---- sockets ----

    def udp(self, ns, port=0, host="0.0.0.0", timeout=2.0):
        with self.lab.inside(ns):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((host, port))
        s.settimeout(timeout)
        return s

    def tcp(self, ns, destination, port=0, host="0.0.0.0", timeout=5.0):
        with self.lab.inside(ns):
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.bind((host, port))
        s.settimeout(timeout)
        s.connect(destination)
        return s

    def listen(self, ns, port):
        with self.lab.inside(ns):
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen(16)
        s.settimeout(5.0)
        return s


def ask_udp(s, destination, tries=1):
    """The endpoint that the mirror sees for one datagram of s, or None."""
    token = random.randbytes(8)
    for _ in range(tries):
        s.sendto(token, destination)
        try:
            while True:
                data, peer = s.recvfrom(2048)
                if len(data) >= 16 and unpack_seen(data)[2] == token and peer == destination:
                    return unpack_seen(data)[0]
        except OSError:
            continue
    return None


def ask_tcp(s):
    token, data = random.randbytes(8), b""
    s.sendall(token)
    while len(data) < 16:
        more = s.recv(16 - len(data))
        if not more:
            return None
        data += more
    found, _, echoed = unpack_seen(data)
    return found if echoed == token else None


def drain(s):
    """Forgets what is queued in a datagram socket."""
    s.setblocking(False)
    try:
        while True:
            s.recv(2048)
    except OSError:
        pass


def receive(s, seconds):
    """One datagram and its source, or (None, None)."""
    s.settimeout(seconds)
    try:
        return s.recvfrom(2048)
    except OSError:
        return None, None


class TcpFlows:
    """Long-lived TCP connections that exchange a message each in every round."""

    def __init__(self, scenario, ns, n, destination=(SERVER, PORT)):
        self.sockets = [scenario.tcp(ns, destination) for _ in range(n)]
        self.endpoints = [set() for _ in range(n)]
        self.lost = {}

    def round(self, seconds=10.0):
        """All connections answer within seconds; how many did, and how long the last one took."""
        start, open_ = time.monotonic(), {}
        for i, s in enumerate(self.sockets):
            if i in self.lost:
                continue
            try:
                s.setblocking(True)
                s.sendall(struct.pack("!Q", i))
                s.setblocking(False)
                open_[i] = b""
            except OSError as error:
                self.lost[i] = str(error)
        took = 0.0
        with selectors.DefaultSelector() as selector:
            for i in open_:
                selector.register(self.sockets[i], selectors.EVENT_READ, i)
            while open_ and (left := start + seconds - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    i = key.data
                    try:
                        more = key.fileobj.recv(16 - len(open_[i]))
                    except OSError as error:
                        more, self.lost[i] = b"", str(error)
                    if not more:
                        self.lost.setdefault(i, "closed by the peer")
                    open_[i] += more
                    if len(open_[i]) == 16 or not more:
                        if more:
                            self.endpoints[i].add(unpack_seen(open_[i])[0])
                            took = time.monotonic() - start
                        selector.unregister(key.fileobj)
                        del open_[i]
        for i in open_:
            self.lost[i] = f"no answer in {seconds:.0f} s"
        return len(self.sockets) - len(self.lost), took

    def moved(self):
        return sum(1 for found in self.endpoints if len(found) > 1)

    def close(self):
        for s in self.sockets:
            s.close()


class Form:
    """What a lab is made of. mode "nft": the kernel's NAT in each dataplane's place, which may leak.
    embedded: dp1 is one gateway with its own table service."""

    def __init__(self, dataplanes=2, spread="flow", mode="conat", embedded=False):
        self.dataplanes, self.spread, self.mode, self.embedded = dataplanes, spread, mode, embedded


def run(scenario, form=None, config=CONFIG):
    form = form or Form(getattr(scenario, "dataplanes", 2), getattr(scenario, "spread", "flow"))
    lab = conatlab.Lab()
    t = Scenario(lab, form.spread)
    path = f"/tmp/{lab.name}.yaml"
    with open(path, "w", encoding="ascii") as f:
        f.write(getattr(scenario, "config", config))
    try:
        lab.up("--mode", form.mode, "--dataplanes", 0 if form.embedded else form.dataplanes,
               "--config", path, spread=t.spread)
        if form.embedded:
            embedded_start(t, path)
        leaks = conatlab.LeakWatch(lab)
        t.mirror = conatlab.Mirror(lab, [(h, p) for h in (SERVER, SERVER2) for p in (PORT, PORT2)])
        try:
            scenario(t)
        except Failure:
            pass
        finally:
            t.leaked = leaks.close()
            t.mirror.close()
        if form.mode == "conat":
            t.expect(not t.leaked, "no private source on the outside links" +
                     "".join(f"\n        {line}" for line in t.leaked[:5]))
        judge_processes(t)
    except (conatlab.LabError, OSError, subprocess.SubprocessError) as error:
        traceback.print_exc()
        t.failures.append(str(error))
    finally:
        if t.failures:
            for label in ("tbl", "dp1", "dp2", "dp3", "dp4", "watch"):
                for line in lab.log(label).splitlines()[-40:]:
                    print(f"  {label}: {line}")
        lab.down()
        for file in (path, path + ".embedded"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
    return t.failures


def judge_processes(t):
    lab = t.lab
    for label in ("dp1", "dp2", "dp3", "dp4", "tbl"):
        if label in t.expected_dead or not lab.log(label) and not lab.running(label):
            continue
        t.expect(lab.running(label), f"{label} still runs")
        lab.command("stop", label)
    for label in ("tbl", "dp1", "dp2", "dp3", "dp4"):
        bad = COMPLAINTS.search(lab.log(label))
        if bad:
            t.expect(False, f"{label}'s log has no complaint of a sanitizer: {bad[0]}")


def embedded_start(t, config):
    """conat-dataplane --table embedded:CONFIG as dp1; waits until the routers use it."""
    with open(config, encoding="ascii") as f:
        text = re.sub(r"service:\n(  .*\n)+", "", f.read())
    with open(config + ".embedded", "w", encoding="ascii") as f:
        f.write(text)
    t.lab.spawn("dp1", "dp1", conatlab.program("conat-dataplane"), "--table",
                f"embedded:{config}.embedded", "--inside", "in0", "--outside", "out0",
                "--admin", "192.168.255.11:9465")
    t.wait_ecmp("dp1")


def main(scenarios):
    conatlab.on_signals()
    known = {s.__name__: s for s in scenarios}
    wanted = sys.argv[1:] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"no scenario {', '.join(unknown)}; there are: {', '.join(known)}")
    failed = 0
    for name in wanted:
        print(f"== {name}: {(known[name].__doc__ or '').strip().splitlines()[0]}", flush=True)
        failed += 1 if run(known[name]) else 0
    print(f"{len(wanted) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
