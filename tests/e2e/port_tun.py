#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The TUN port and the host's set-up, by the home gateway: one dataplane with its own service.

    inside 10.0.0.2/24 -- eth1 10.0.0.1 [gateway] eth0 192.0.2.2 -- 192.0.2.1/24 outside
                                                                    pool: 192.0.2.9 (proxy ARP)

Each scenario makes these three network namespaces and removes them. They need root.
"""
import contextlib
import ctypes
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CONAT_BUILD", os.path.join(ROOT, "build", "dev"))
INSIDE, OUTSIDE, POOL = "10.0.0.2", "192.0.2.1", "192.0.2.9"
SERVICE = """\
service: { admin: "off" }
capacity: { mappings: 10000, sessions: 10000, subscribers: 100 }
"""
CONFIG = SERVICE + """\
pools: [ { name: home, prefixes: [ 192.0.2.9 ] } ]
realms: [ { name: lan, id: 1, prefixes: [ 10.0.0.0/24 ], pool: home } ]
"""
COMPLAINTS = re.compile(r"ERROR: \w+Sanitizer|runtime error:|Assertion .* failed")
_libc = ctypes.CDLL(None, use_errno=True)


def program(name):
    for place in ("", "dataplane", "tablesvc", "tablesvc/ctl"):
        path = os.path.join(BUILD, place, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    sys.exit(f"{name} is not built in {BUILD}")


class Failure(Exception):
    pass


def remove(name):
    """The network namespace, what runs in it, and what killed dataplanes noted about it."""
    with contextlib.suppress(FileNotFoundError):
        inode = os.stat(f"/run/netns/{name}").st_ino
        left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in left.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        for path in glob.glob(f"/run/conat/netns-{inode}.*"):
            os.unlink(path)
        shutil.rmtree(f"/run/conat/embedded-{inode}", ignore_errors=True)


def sweep():
    """A run that was killed, as ctest does at its timeout, could not clean up."""
    for path in glob.glob("/run/netns/conat-port*-[igo]"):
        name = os.path.basename(path)
        if (m := re.fullmatch(r"conat-port(\d+)-[igo]", name)) and not os.path.exists(f"/proc/{m[1]}"):
            remove(name)


class Scenario:
    def __init__(self):
        self.prefix = f"conat-port{os.getpid()}"
        self.failures, self.logs, self.processes = 0, [], []
        self.directory = tempfile.TemporaryDirectory(prefix="conat-port-")
        self.config = self.file("gateway.yaml", CONFIG)

    def expect(self, true, text):
        print(f"{'ok  ' if true else 'FAIL'}  {text}", flush=True)
        self.failures += 0 if true else 1
        return bool(true)

    def need(self, true, text):
        if not self.expect(true, text):
            raise Failure(text)

    def file(self, name, text=""):
        path = os.path.join(self.directory.name, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    # ---- namespaces ----

    def ip(self, ns, *args, check=True):
        return subprocess.run(["ip", "-n", f"{self.prefix}-{ns}", *args], check=check, text=True,
                              capture_output=True).stdout

    def run(self, ns, *args, timeout=20, shell=None):
        command = ["sh", "-ec", shell] if shell else list(map(str, args))
        return subprocess.run(["ip", "netns", "exec", f"{self.prefix}-{ns}", *command],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)

    def up(self):
        for ns in ("i", "g", "o"):
            subprocess.run(["ip", "netns", "add", f"{self.prefix}-{ns}"], check=True)
            self.ip(ns, "link", "set", "lo", "up")
        for interface, ns, own, other in (("eth1", "i", INSIDE, "10.0.0.1"),
                                          ("eth0", "o", OUTSIDE, "192.0.2.2")):
            self.ip("g", "link", "add", interface, "type", "veth", "peer", "name", "eth0",
                    "netns", f"{self.prefix}-{ns}")
            self.ip(ns, "addr", "add", f"{own}/24", "dev", "eth0")
            self.ip("g", "addr", "add", f"{other}/24", "dev", interface)
            self.ip(ns, "link", "set", "eth0", "up")
            self.ip("g", "link", "set", interface, "up")
        self.ip("i", "route", "add", "default", "via", "10.0.0.1")
        self.ip("g", "route", "add", "default", "via", OUTSIDE)
        # The outside knows the way to private addresses: that is where leaks would go.
        self.ip("o", "route", "add", "10.0.0.0/8", "via", "192.0.2.2")

    def down(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for ns in ("i", "g", "o"):
            remove(f"{self.prefix}-{ns}")
        self.directory.cleanup()

    @contextlib.contextmanager
    def inside(self, ns):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.prefix}-{ns}", os.O_RDONLY)
        _libc.setns(there, 0)
        try:
            yield
        finally:
            _libc.setns(home, 0)
            os.close(there)
            os.close(home)

    def ping(self, ns, destination, *options):
        return self.run(ns, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", *options, destination)

    # ---- the dataplane ----

    def spawn(self, *args, ns="g"):
        path = self.file(f"log{len(self.logs)}")
        self.logs.append(path)
        env = dict(os.environ, PATH=os.path.dirname(program("conat-tablesvc")) + ":" +
                   os.environ["PATH"])
        with open(path, "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", f"{self.prefix}-{ns}", program("conat-dataplane"), *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        self.processes.append(process)
        return process

    def gateway(self, *args, config=None):
        return self.spawn("--table", f"embedded:{config or self.config}", "--inside", "eth1",
                          "--outside", "eth0", "--flows", "10000", *args)

    def log(self, number=-1):
        with open(self.logs[number], encoding="utf-8", errors="replace") as f:
            return f.read()

    def http(self, path):
        try:
            with self.inside("g"):
                s = socket.create_connection(("127.0.0.1", 9465), 1)
            with s:
                s.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                data = b""
                while chunk := s.recv(65536):
                    data += chunk
        except OSError:
            return 0, ""
        head, _, body = data.decode().partition("\r\n\r\n")
        return int(head.split()[1]), body

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.http("/metrics")[1], re.M)
        return float(found.group(1)) if found else None

    def wait_ready(self, process, seconds=15):
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None:
            if self.http("/readyz")[0] == 200:
                return self.expect(True, "the gateway is ready")
            time.sleep(0.05)
        raise Failure("the gateway does not become ready")

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        self.expect(process.wait(10) == 0, "SIGTERM: it ends well")

    def children(self):
        pids = self.run("g", "ip", "netns", "pids", f"{self.prefix}-g").stdout.split()
        found = {}
        for pid in pids:
            with contextlib.suppress(OSError):
                found[int(pid)] = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        return [pid for pid, name in found.items() if name == "conat-tablesvc"]

    # ---- what may not be left behind ----

    def snapshot(self):
        conf = self.run("g", "sysctl", "-a", "--pattern", r"^net\.ipv4\.(ip_forward|conf|neigh)")
        return {"rules": self.ip("g", "rule"), "routes": self.ip("g", "route", "show", "table",
                                                                 "all", "proto", "202"),
                "main": self.ip("g", "route"), "proxies": self.ip("g", "neigh", "show", "proxy"),
                "links": self.ip("g", "-br", "link").split(), "sysctls": conf.stdout}

    def compare(self, before, when):
        after = self.snapshot()
        for what in before:
            self.expect(before[what] == after[what], f"{when}: {what} as before")
        self.expect(not [name for name in os.listdir("/run/conat") if name == self.state()],
                    f"{when}: no state file")

    def state(self):
        return f"netns-{os.stat(f'/run/netns/{self.prefix}-g').st_ino}.state"

    @contextlib.contextmanager
    def leaks(self):
        """Collects IPv4 packets with a private source on the outside's link."""
        with self.inside("o"):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        s.bind(("eth0", 3))
        s.settimeout(0.1)
        seen, frames, over = [], [0], threading.Event()

        def read():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    frame, (_, _, kind, *_) = s.recvfrom(65535)
                    if frame[12:14] != b"\x08\x00" or kind == socket.PACKET_OUTGOING:
                        continue
                    frames[0] += 1
                    if frame[26] == 10:
                        seen.append(frame[14:54].hex())

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()
            s.close()
        self.expect(frames[0] > 0, f"the capture outside saw {frames[0]} packets")
        self.expect(not seen, f"none of them with a private source {seen[:3]}")


# ---- scenarios ----


def home_gateway(t):
    """One command makes a gateway; the host stays reachable; a clean end leaves nothing behind."""
    before = t.snapshot()
    process = t.gateway()
    t.wait_ready(process)
    done = t.ping("i", OUTSIDE)
    t.expect(" 0% packet loss" in done.stdout, "ping from the inside to the outside")
    t.expect("ttl=63" in done.stdout, "the gateway is one hop")
    t.expect(POOL in t.ip("o", "neigh") and "FAILED" not in t.ip("o", "neigh"),
             "the outside found the pool address by ARP")
    t.expect(t.ping("i", "10.0.0.1").returncode == 0, "the host's inside address answers")
    t.expect(t.ping("i", "192.0.2.2").returncode == 0, "and its outside address")
    t.expect(t.ping("g", INSIDE).returncode == 0, "the host reaches the inside")
    t.expect(t.ping("g", OUTSIDE).returncode == 0, "and the outside")
    t.expect(t.ping("o", INSIDE).returncode != 0, "nobody outside reaches a private address")
    t.expect(t.run("i", "ping", "-n", "-c", "1", "-t", "1", "-W", "1", OUTSIDE).stdout
             .count("Time to live exceeded") == 1, "TTL 1 ends at the gateway")
    second = t.gateway()
    t.expect(second.wait(15) == 1 and "another conat-dataplane" in t.log(),
             "a second dataplane in the same namespace is refused")
    t.expect(t.ping("i", OUTSIDE).returncode == 0, "and does the first no harm")
    t.expect(t.metric("conat_hits_total") > 0, "/metrics counts")
    t.stop(process)
    t.compare(before, "after SIGTERM")
    t.expect(not t.children(), "and no child")


def transfer(t, sender, receiver, megabytes):
    """One TCP connection from the inside; sender and receiver are "i" or "o". True if intact."""
    with t.inside("o"):
        listener = socket.create_server((OUTSIDE, 0))
    with t.inside("i"):
        client = socket.create_connection(listener.getsockname(), 5)
    server, peer = listener.accept()
    listener.close()
    ends = {"i": client, "o": server}
    block = os.urandom(1 << 20)
    sent, received = hashlib.sha256(), hashlib.sha256()

    def send():
        for number in range(megabytes):
            data = struct.pack("!I", number) + block[4:]
            sent.update(data)
            ends[sender].sendall(data)
        ends[sender].shutdown(socket.SHUT_WR)

    for end in ends.values():
        end.settimeout(20)
    thread = threading.Thread(target=send)
    thread.start()
    while data := ends[receiver].recv(1 << 20):
        received.update(data)
    thread.join()
    client.close()
    server.close()
    return peer[0] == POOL and sent.digest() == received.digest()


def offloads(t):
    """TCP arrives intact both ways, with and without GSO and checksum offload at either end."""
    process = t.gateway()
    t.wait_ready(process)
    for at_inside in ("on", "off"):
        for at_outside in ("on", "off"):
            for ns, state in (("i", at_inside), ("o", at_outside)):
                t.run(ns, "ethtool", "-K", "eth0", "tx", state, "tso", state, "gro", state)
            before = [t.metric(f"conat_port_{what}_total")
                      for what in ("super_packets", "partial_checksums")]
            way = f"offload inside {at_inside}, outside {at_outside}"
            t.expect(transfer(t, "i", "o", 16), f"{way}: 16 MiB out")
            t.expect(transfer(t, "o", "i", 16), f"{way}: 16 MiB in")
            after = [t.metric(f"conat_port_{what}_total")
                     for what in ("super_packets", "partial_checksums")]
            if at_inside == at_outside == "on":
                t.expect(after[0] > before[0], "super-packets passed whole")
            if at_inside == at_outside == "off":
                t.expect(after[1] == before[1], "no partial checksum was seen")
    t.expect(t.metric('conat_drop_total{reason="output"}') == 0, "the kernel refused no packet")
    big = t.run("i", "ping", "-n", "-c", "3", "-i", "0.2", "-s", "4000", OUTSIDE)
    t.expect(" 0% packet loss" in big.stdout, "fragmented ping of 4000 bytes")
    t.stop(process)


def killed(t):
    """SIGKILL: nothing leaks; the next start takes over and its clean end leaves nothing behind."""
    before = t.snapshot()
    process = t.gateway()
    t.wait_ready(process)
    pinging = None
    with t.leaks():
        t.need(t.ping("i", OUTSIDE).returncode == 0, "ping")
        pinging = subprocess.Popen(["ip", "netns", "exec", f"{t.prefix}-i", "ping", "-n", "-i",
                                    "0.02", "-q", OUTSIDE], stdout=subprocess.DEVNULL)
        t.processes.append(pinging)
        time.sleep(0.3)
        process.kill()
        process.wait()
        time.sleep(0.5)
        t.expect(t.ping("i", OUTSIDE).returncode != 0, "killed: no packet passes")
        t.expect("blackhole default" in t.ip("g", "route", "show", "table", "25441"),
                 "the blackhole stands")
        until = time.monotonic() + 5
        while t.children() and time.monotonic() < until:
            time.sleep(0.1)
        t.expect(not t.children(), "the service died with it")
        process = t.gateway()
        t.wait_ready(process)
        t.expect("taking over" in t.log(), "the next start finds the crashed one's set-up")
        t.expect(t.ping("i", OUTSIDE).returncode == 0, "and works")
    pinging.kill()
    t.stop(process)
    t.compare(before, "after SIGKILL, start, SIGTERM")


def child_killed(t):
    """The service's process is killed: it comes back, and flows go on and begin."""
    process = t.gateway()
    t.wait_ready(process)
    t.need(t.ping("i", OUTSIDE).returncode == 0, "ping")
    child, = t.children()
    os.kill(child, signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until and t.metric("conat_embedded_restarts_total") != 1:
        time.sleep(0.05)
    t.expect(t.children() not in ([], [child]), "there is another child")
    while time.monotonic() < until and t.http("/readyz")[0] != 200:
        time.sleep(0.05)
    t.expect(t.ping("i", OUTSIDE).returncode == 0, "new flows work")
    t.expect("ended by signal 9" in t.log(), "the log says what happened")
    t.stop(process)


def refusals(t):
    """What cannot work is refused with a sentence, and the host is left as it was."""
    before = t.snapshot()
    own = t.file("own.yaml", CONFIG.replace("192.0.2.9", "192.0.2.2"))
    wrong = t.file("wrong.yaml", CONFIG.replace("192.0.2.9", "192.0.2.900"))
    for what, args, status, sentence in (
            ("a pool address of the host's", {"config": own}, 1,
             "192.0.2.2, which is configured on eth0 of this host"),
            ("a wrong configuration", {"config": wrong}, 1, "before it served"),
            ("a missing configuration", {"config": "/nonexistent"}, 1, "cannot read"),
    ):
        process = t.gateway(**args)
        t.expect(process.wait(20) == status and sentence in t.log(), f"{what}: {sentence!r}")
    process = t.spawn("--table", f"embedded:{t.config}", "--inside", "eth7", "--outside", "eth0")
    t.expect(process.wait(20) == 1 and "no interface eth7" in t.log(), "a missing interface")
    process = t.spawn("--table", f"embedded:{t.config}", "--inside", "eth1")
    t.expect(process.wait(20) == 2 and "--outside IF is missing" in t.log(), "a missing argument")
    t.compare(before, "after all of these")
    t.expect(not t.children(), "and no child")


def no_host_setup(t):
    """--no-host-setup changes nothing, and the commands that it prints do what is needed."""
    before = t.snapshot()
    process = t.gateway("--no-host-setup")
    t.wait_ready(process)
    after = t.snapshot()
    t.expect(after["rules"] == before["rules"] and after["main"] == before["main"] and
             after["proxies"] == before["proxies"], "rules, routes, neighbours are untouched")
    t.expect(t.ping("i", OUTSIDE).returncode != 0, "so nothing passes yet")
    commands = "\n".join(line for line in t.log().splitlines()
                         if re.match(r"(ip|echo) ", line))
    done = t.run("g", shell=commands)
    t.expect(done.returncode == 0, f"the printed commands run {done.stderr}")
    t.expect(t.ping("i", OUTSIDE).returncode == 0, "and then it works")
    t.stop(process)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp_packet(source, sport, destination, dport, payload, ttl=64):
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    total = checksum(pseudo + struct.pack("!BBH", 0, 17, 8 + len(payload)) + header + payload)
    header = header[:6] + struct.pack("!H", total or 0xffff)
    ip = struct.pack("!BBHHHBBH", 0x45, 0x10, 28 + len(payload), 7, 0, ttl, 17, 0) + pseudo
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + header + payload


def capture(t):
    """--read and --write translate a capture by a real service, checksums and all."""
    source, result = t.file("in.pcap"), os.path.join(t.directory.name, "out.pcap")
    packets = [udp_packet(f"10.0.0.{2 + i % 50}", 5000 + i, OUTSIDE, 53, b"question %d" % i)
               for i in range(200)]
    with open(source, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
        for i, packet in enumerate(packets):
            f.write(struct.pack("<IIII", 1000 + i, 7, len(packet), len(packet)) + packet)
    process = t.spawn("--table", f"embedded:{t.config}", "--read", source, "--write", result,
                      "--admin", "off")
    t.need(process.wait(30) == 0, "it ends by itself")
    with open(result, "rb") as f:
        data = f.read()[24:]
    out = []
    while data:
        seconds, _, length, _ = struct.unpack("<IIII", data[:16])
        out.append((seconds, data[16:16 + length]))
        data = data[16 + length:]
    t.expect(len(out) == 200, f"{len(out)} of 200 packets came out")
    mappings, good = {}, 0
    for seconds, packet in out:
        number = int(packet[28:].split()[1])
        pseudo = packet[12:20] + struct.pack("!BBH", 0, 17, len(packet) - 20)
        mappings[number] = packet[12:16], packet[20:22]
        # A packet that waited for its answer leaves with the time of the latest that was read.
        good += (1000 + number <= seconds < 1200 and packet[12:16] == socket.inet_aton(POOL) and
                 packet[8] == 63 and packet[1] == 0x10 and checksum(packet[:20]) == 0 and
                 checksum(pseudo + packet[20:]) == 0)
    t.expect(good == 200, f"{good} have pool source, TTL 63, good checksums, a time not before their own")
    t.expect([when for when, _ in out] == sorted(when for when, _ in out), "time never goes back")
    t.expect(len(set(mappings.values())) == 200, "no two flows share an external endpoint")


SCENARIOS = [home_gateway, offloads, killed, child_killed, refusals, no_host_setup, capture]


def run(scenario):
    t = Scenario()
    try:
        return judged(t, scenario)
    finally:
        t.down()


def judged(t, scenario):
    try:
        t.up()
        scenario(t)
    except (Failure, OSError, subprocess.SubprocessError) as error:
        t.expect(False, f"{type(error).__name__}: {error}")
    for number in range(len(t.logs)):
        t.expect(not COMPLAINTS.search(t.log(number)), "no complaint of a sanitizer")
    if t.failures:
        for number in range(len(t.logs)):
            print(f"-- log {number}\n{t.log(number)}")
    return t.failures


def main():
    known = {s.__name__: s for s in SCENARIOS}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sweep()
    failed = 0
    for name in sys.argv[1:] or known:
        print(f"== {name}: {known[name].__doc__}", flush=True)
        failed += 1 if run(known[name]) else 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
