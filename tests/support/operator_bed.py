# SPDX-License-Identifier: Apache-2.0
"""The real programs for tests of what an operator touches: a service, a dataplane that makes sessions.

The test program's first arguments are CONAT-TABLESVC CONATCTL CONAT-DATAPLANE.
"""
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
import urllib.error
import urllib.request

TABLESVC, CTL, DATAPLANE = sys.argv[1:4]
PATIENCE = 20

BASE = """
service:
  listen: ["unix:{dir}/s", "127.0.0.1:{port}"]
  admin: 127.0.0.1:{admin}
capacity: {{mappings: 1000, sessions: 1000, subscribers: 100}}
pools:
  - {{name: main, prefixes: [192.0.2.0/28, 198.51.100.7]}}
  - {{name: games, prefixes: [203.0.113.0/30], filtering: {{udp: eif}}}}
realms:
  - {{name: home, prefixes: [10.0.0.0/8], pool: main}}
  - {{name: play, id: 9, prefixes: [10.0.0.0/8], pool: games}}
"""
STATIC = """
static:
  - {{realm: home, protocol: tcp, external: "192.0.2.1:443", internal: "10.0.0.5:8443"}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    """One conat-tablesvc with its configuration, log and notify socket in a directory."""

    def __init__(self, text=BASE + STATIC, supervised=False):
        self.directory = tempfile.TemporaryDirectory(prefix="conat-")
        self.dir = self.directory.name
        self.port, self.admin = free_port(), free_port()
        self.config, self.log_path = self.dir + "/c.yaml", self.dir + "/log"
        self.write(text)
        environment = dict(os.environ)
        environment.pop("NOTIFY_SOCKET", None)
        self.notify = None
        if supervised:
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.notify.bind(self.dir + "/notify")
            self.notify.settimeout(PATIENCE)
            environment["NOTIFY_SOCKET"] = self.dir + "/notify"
            environment["WATCHDOG_USEC"] = "3000000"
        self.environment = environment
        self.start()

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([TABLESVC, "--config", self.config], stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.environment)
        self.until(lambda: self.http("/readyz")[0] == 200, "not ready")

    def write(self, text):
        with open(self.config, "w") as f:
            f.write(text.format(dir=self.dir, port=self.port, admin=self.admin))

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"{what}; log:\n{self.log()}")
            time.sleep(0.02)

    def http(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        match = re.search(rf"^{re.escape(name)} (\S+)$", self.http("/metrics")[1], re.M)
        return float(match.group(1)) if match else None

    def ctl(self, *arguments, server=None, env=None):
        if env is None:
            arguments = ("--server", server or f"unix:{self.dir}/s", *arguments)
        result = subprocess.run([CTL, *arguments], capture_output=True, text=True,
                                timeout=60, env={**os.environ, **(env or {})})
        return result.returncode, result.stdout, result.stderr

    def rows(self, *arguments):
        code, out, err = self.ctl("--json", *arguments)
        assert code == 0, (arguments, code, out, err)
        return [json.loads(line) for line in out.splitlines()]

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.notify:
            self.notify.close()
        self.directory.cleanup()


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp_packet(source, source_port, destination, destination_port):
    udp = struct.pack(">HHHH", source_port, destination_port, 8, 0)  # 0: no checksum
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, socket.inet_aton(source),
                     socket.inet_aton(destination))
    return ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + udp


class WithDataplane(unittest.TestCase):
    """Sessions made by a real dataplane, which reads a capture that does not end."""

    FLOWS, BATCH = 960, 64
    SUBSCRIBERS, CAPACITY = 3, 1000
    MORE = ""  # configuration

    def setUp(self):
        self.service = Service((BASE + STATIC + self.MORE).replace("1000", str(self.CAPACITY)))
        self.addCleanup(self.service.close)
        fifo = self.service.dir + "/in.pcap"
        os.mkfifo(fifo)
        self.dataplane = subprocess.Popen(
            [DATAPLANE, "--table", f"unix:{self.service.dir}/s", "--read", fifo, "--write",
             self.service.dir + "/out.pcap", "--name", "dp-test", "--admin", "off"],
            stdin=subprocess.DEVNULL)
        self.addCleanup(self.end_dataplane)
        packets = [udp_packet(f"10.0.0.{1 + i % self.SUBSCRIBERS}", 5000 + i,
                              f"198.18.0.{1 + i % 100}", 53 + i) for i in range(self.FLOWS)]
        records = [struct.pack("<IIII", 0, 0, len(p), len(p)) + p for p in packets]
        self.complete, self.stopping = threading.Event(), threading.Event()
        self.one_flow_only = threading.Event()  # no other one will be met again
        self.feeder = threading.Thread(target=self.feed, args=(fifo, records))
        self.feeder.start()
        self.addCleanup(self.stop_feeding)
        self.service.until(
            lambda: self.service.rows("status")[0]["sessions"] == self.FLOWS, "no sessions")
        self.complete.set()
        self.one_flow_only.wait(PATIENCE)
        self.service.until(lambda: self.unread(fifo) == 0, "the dataplane does not read")

    @staticmethod
    def unread(fifo):
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"    "))[0]
        finally:
            os.close(fd)

    def feed(self, fifo, records):
        with open(fifo, "wb", buffering=0) as capture:
            try:
                capture.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101)
                              + b"".join(records))
                while not self.complete.wait(1):  # a busy machine drops first packets
                    capture.write(b"".join(records))
                self.one_flow_only.set()
                while not self.stopping.wait(0.05):  # one flow goes on, so that the reader does
                    capture.write(records[0] * self.BATCH)
            except BrokenPipeError:
                pass

    def stop_feeding(self):
        self.complete.set()
        self.stopping.set()
        self.feeder.join()

    def end_dataplane(self):
        self.dataplane.kill()
        self.dataplane.wait()


def main():
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
