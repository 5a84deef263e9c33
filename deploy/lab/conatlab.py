# SPDX-License-Identifier: Apache-2.0
"""The lab for Python: what the demo, the end-to-end tests and the benchmark share.

Lab drives the command "lab" next to this file. Sockets can be made inside any namespace of the lab
from one process: "with lab.inside('c1'): s = socket.socket(...)".
"""
import contextlib
import ctypes
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
COMMAND = os.path.join(HERE, "lab")
SERVER, SERVER2 = "198.51.100.10", "198.51.100.11"
CLIENTS = {"c1": "10.0.1.2", "c2": "10.0.2.2"}
TABLE = "192.168.255.1:4790"
POOL = "203.0.113."
STATES = os.environ.get("CONAT_LAB_STATES", "/run/conat-lab")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    pass


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    def __init__(self, name=None, pool=None):
        self.name = name or f"conat-{random.randrange(100000)}"
        self.environment = dict(os.environ, **({"CONAT_LAB_POOL": pool} if pool else {}))
        self.state = os.path.join(STATES, self.name)

    def command(self, *args, check=True, timeout=60):
        done = subprocess.run([COMMAND, "--name", self.name, *map(str, args)], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                              env=self.environment)
        if check and done.returncode != 0:
            raise LabError(f"lab {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done.stdout

    def up(self, *args, keep=False, spread="flow"):
        owner = [] if keep else ["--owner", os.getpid()]
        self.command("up", *owner, "--spread", spread, *args)

    def down(self):
        self.command("down")

    def start(self, dataplane):
        self.command("start", dataplane)

    def signal(self, label, name):
        self.command("signal", label, name)

    def spawn(self, label, ns, *args):
        self.command("spawn", label, ns, *args)

    def log(self, label):
        try:
            with open(os.path.join(self.state, "log", label + ".log"), encoding="utf-8",
                      errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def running(self, label):
        try:
            with open(os.path.join(self.state, "pid", label), encoding="ascii") as f:
                pid, started = f.read().split()
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return False
        return fields[19] == started and fields[0] != "Z"

    def ecmp(self):
        try:
            with open(os.path.join(self.state, "ecmp"), encoding="ascii") as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def popen(self, ns, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(["ip", "netns", "exec", f"{self.name}-{ns}", *map(str, args)],
                                **kwargs)

    def run(self, ns, *args, timeout=60, check=False):
        return subprocess.run(["ip", "netns", "exec", f"{self.name}-{ns}", *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=check)

    @contextlib.contextmanager
    def inside(self, ns):
        """The calling thread is in the namespace ns; sockets made meanwhile stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(f"/run/netns/{self.name}-{ns}", os.O_RDONLY)
            try:
                _setns(there)
                yield
            finally:
                _setns(home)
                os.close(there)
        finally:
            os.close(home)

    def http(self, ns, host, port, path, timeout=1.0):
        """Body of a GET, or None when it cannot be had."""
        try:
            with self.inside(ns):
                s = socket.create_connection((host, port), timeout)
            with s:
                s.settimeout(timeout)
                s.sendall(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())
                data = b""
                while chunk := s.recv(65536):
                    data += chunk
        except OSError:
            return None
        head, _, body = data.partition(b"\r\n\r\n")
        return body.decode("utf-8", "replace") if b" 200 " in head.split(b"\r\n")[0] else None

    def metrics(self, label):
        """{(name, labels): value} of "tbl" or "dpN"; empty when it does not answer."""
        if label == "tbl":
            body = self.http("tbl", "127.0.0.1", 9464, "/metrics")
        else:
            body = self.http("tbl", f"192.168.255.1{label[2:]}", 9465, "/metrics")
        return parse_metrics(body or "")

    def ctl(self, *args, timeout=20, check=True):
        """conatctl in the namespace of the table service; decoded JSON."""
        done = self.run("tbl", program("conatctl"), "--server", TABLE, "--json", *args,
                        timeout=timeout)
        if check and done.returncode != 0:
            raise LabError(f"conatctl {' '.join(map(str, args))}: exit {done.returncode}: "
                           f"{done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def parse_metrics(text):
    found = {}
    for line in text.splitlines():
        m = re.match(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)', line)
        if m:
            labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or "")))
            found[m[1], labels] = float(m[3])
    return found


def total(metrics, name):
    """Sum over all labels of a metric."""
    return sum(value for (n, _), value in metrics.items() if n == name)


def program(name):
    """Path of a built program, where lab.sh looks for it."""
    done = subprocess.run(["bash", "-c", '. "$1"; lab_program "$2"', "-",
                           os.path.join(HERE, "lab.sh"), name],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(done.stderr.strip())
    return done.stdout


def on_signals():
    """SIGTERM and SIGHUP end the program like Ctrl-C: through its finally clauses."""
    def stop(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


class Mirror:
    """UDP and TCP servers that answer each message with the endpoint that they saw, and the message.

    Answer: 4 bytes address, 2 bytes port, 2 bytes own port, then what was received. Messages over
    TCP have MESSAGE bytes.
    """

    MESSAGE = 8

    def __init__(self, lab, endpoints, ns="srv"):
        self.sockets, self.stopping = [], False
        for host, port in endpoints:
            with lab.inside(ns):
                u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                t = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            u.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            u.bind((host, port))
            t.bind((host, port))
            t.listen(1024)
            for s, loop in ((u, self._udp), (t, self._accept)):
                s.settimeout(0.5)
                self.sockets.append(s)
                threading.Thread(target=loop, args=(s, port), daemon=True).start()

    def _udp(self, s, port):
        while not self.stopping:
            try:
                data, peer = s.recvfrom(4096)
                s.sendto(seen(peer, port) + data, peer)
            except OSError:
                continue
        s.close()

    def _accept(self, s, port):
        while not self.stopping:
            try:
                c, peer = s.accept()
            except OSError:
                continue
            c.settimeout(None)
            threading.Thread(target=self._tcp, args=(c, peer, port), daemon=True).start()
        s.close()

    def _tcp(self, s, peer, port):
        with s:
            try:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                held = b""
                while data := s.recv(4096):
                    held += data
                    while len(held) >= self.MESSAGE:
                        s.sendall(seen(peer, port) + held[:self.MESSAGE])
                        held = held[self.MESSAGE:]
            except OSError:
                pass

    def close(self):
        """The loops end within half a second and close their sockets themselves."""
        self.stopping = True


def seen(peer, port):
    return socket.inet_aton(peer[0]) + struct.pack("!HH", peer[1], port)


def unpack_seen(data):
    """((address, port) as the server saw it, the server's port, the message)."""
    port, own = struct.unpack_from("!HH", data, 4)
    return (socket.inet_ntoa(data[:4]), port), own, data[8:]


class UdpFlows:
    """n UDP flows of a client that each send every interval and note what the server saw."""

    def __init__(self, lab, ns, n, destination, interval=0.1):
        self.destination, self.interval = destination, interval
        self.sockets, self.endpoints, self.answers, self.sent = [], [set() for _ in range(n)], [0] * n, 0
        self.gap, self.last = [0.0] * n, [0.0] * n
        self.stopping = False
        for _ in range(n):
            with lab.inside(ns):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setblocking(False)
            s.bind(("0.0.0.0", 0))
            self.sockets.append(s)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        while not self.stopping:
            number += 1
            for s in self.sockets:
                try:
                    s.sendto(struct.pack("!I", number), self.destination)
                    self.sent += 1
                except OSError:
                    pass
            time.sleep(self.interval)
            self._receive()
        time.sleep(0.3)
        self._receive()

    def _receive(self):
        now = time.monotonic()
        for i, s in enumerate(self.sockets):
            while True:
                try:
                    data = s.recv(2048)
                except OSError:
                    break
                self.endpoints[i].add(unpack_seen(data)[0])
                self.answers[i] += 1
                if self.last[i]:
                    self.gap[i] = max(self.gap[i], now - self.last[i])
                self.last[i] = now

    def close(self):
        self.stopping = True
        self.thread.join()
        for s in self.sockets:
            s.close()


class LeakWatch:
    """tcpdump on the outside router: packets from private sources, or others that should never be
    there."""

    FILTER = "ip and (src net 10.0.0.0/8 or src net 172.16.0.0/12 or src net 192.168.0.0/16)"

    def __init__(self, lab, ns="ro", what=FILTER):
        self.process = lab.popen(ns, "tcpdump", "-i", "any", "-n", "-l", "-p", "-c", "200", what,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = ""
        for line in self.process.stderr:
            if "listening on" in line:
                break
        else:
            raise LabError(f"tcpdump: {line}")

    def close(self):
        """The lines that it saw."""
        time.sleep(0.2)
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        if " captured\n" not in err:
            raise LabError(f"tcpdump: {err}")
        return [line for line in out.splitlines() if line]


if sys.version_info < (3, 9):
    sys.exit("Python 3.9 or newer is needed")
