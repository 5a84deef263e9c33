# SPDX-License-Identifier: Apache-2.0
"""The two wires beside the NAT: packets go in and come out as bytes, no kernel in between answers.

  [ri] dpN ---- in0 [dpN: the NAT] out0 ---- dpN [ro]
     the tester's AF_PACKET sockets sit on the routers' side of each dataplane's two links

The hosts behind the routers are ghosts: no kernel owns their addresses, the routers forward nothing
while a test runs, so whatever a socket captures was sent by the NAT. The tester decides which
dataplane gets which packet, as the routers' spreading would.

"Nothing came" is told by markers, not by sleeping: new flows through every dataplane in both
directions, sent behind the packet in question, that have to ask the table as it had to.
"""
import collections
import fcntl
import random
import select
import socket
import struct
import sys
import time
import zlib

from packets import Seen, udp

INSIDE, OUTSIDE = "inside", "outside"
ROUTERS = {INSIDE: ("ri", "in0"), OUTSIDE: ("ro", "out0")}
POOL = [f"203.0.113.{n}" for n in range(8, 12)]
MARKER, MARKER_PORT = b"marker of the wire tests:", 9
MARKER_EXTERNAL, MARKER_HOST, MARKER_REMOTE = POOL[0], "10.0.255.2", "192.0.2.20"
ETH_P_IP, PACKET_IGNORE_OUTGOING, SOL_PACKET, SIOCGIFHWADDR = 0x0800, 23, 263, 0x8927
SO_RCVBUFFORCE = 33
PATIENCE = 8.0  # seconds for a marker: the machine may be busy, the NAT is not


class Failure(Exception):
    """A case has failed; in words how."""


class Wire:
    """spread: "one", "two" (by flow, each direction for itself), "packet" (in turns)."""

    def __init__(self, lab, dataplanes, spread, verbose=False):
        self.lab, self.dataplanes, self.spread, self.verbose = lab, dataplanes, spread, verbose
        self.ports = {}
        self.poll = select.poll()
        for side, (router, link) in ROUTERS.items():
            for n in range(1, dataplanes + 1):
                s, frame = self._open(router, n, link)
                self.ports[side, n] = s, frame
                self.poll.register(s, select.POLLIN)
        self.sides = {s.fileno(): key for key, (s, _) in self.ports.items()}
        self.queues = {INSIDE: collections.deque(), OUTSIDE: collections.deque()}
        self.watched = {}  # remote address: packets to it, set aside
        self.markers, self.marker_number, self.turns = set(), 0, {INSIDE: 0, OUTSIDE: 0}

    def _open(self, router, n, link):
        with self.lab.inside(f"dp{n}"):
            probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            there = fcntl.ioctl(probe, SIOCGIFHWADDR, struct.pack("256s", link.encode()))[18:24]
            probe.close()
        with self.lab.inside(router):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
            s.bind((f"dp{n}", ETH_P_IP))
            here = s.getsockname()[4]
        s.setblocking(False)
        return s, there + here + struct.pack("!H", ETH_P_IP)

    def close(self):
        for s, _ in self.ports.values():
            s.close()

    # ---- sending ----

    def dataplane(self, side, packet):
        """Where the routers of this form would send the packet."""
        if self.dataplanes == 1:
            return 1
        if self.spread == "packet":
            self.turns[side] += 1
            return 1 + self.turns[side] % self.dataplanes
        # ECMP: a fragment has no ports to look at, and neither router knows the other one's choice.
        key = packet[12:20] + packet[9:10] + side.encode()
        if not struct.unpack_from("!H", packet, 6)[0] & 0x3fff:
            key += packet[(packet[0] & 15) * 4:][:4]
        return 1 + zlib.crc32(key) % self.dataplanes

    def send(self, side, packet, dataplane=None):
        n = dataplane or self.dataplane(side, packet)
        n = min(n, self.dataplanes)
        s, frame = self.ports[side, n]
        if self.verbose:
            self._show(side, "->", packet, n)
        s.send(frame + packet)

    def _show(self, side, arrow, packet, n):
        try:
            text = Seen(packet, n)
        except (struct.error, IndexError):
            text = packet.hex()
        print(f"        {side:7} {arrow} {text}", file=sys.stderr)

    # ---- receiving ----

    def receive(self, seconds):
        """Waits up to so long for packets; False when none came."""
        ready = self.poll.poll(max(0, seconds) * 1000)
        for number, _ in ready:
            side, n = self.sides[number]
            s = self.ports[side, n][0]
            while True:
                try:
                    self._arrived(side, n, s.recv(65600)[14:])
                except BlockingIOError:
                    break
        return bool(ready)

    def _arrived(self, side, n, packet):
        if MARKER in packet:
            self.markers.discard(packet[packet.index(MARKER):][:len(MARKER) + 4])
            return
        if self.verbose:
            self._show(side, "<-", packet, n)
        seen = Seen(packet, n)
        if side == OUTSIDE and seen.dst in self.watched:
            self.watched[seen.dst].append(seen)
            return
        self.queues[side].append(seen)

    def _marker(self, side, n):
        self.marker_number += 1
        number = self.marker_number
        text = MARKER + struct.pack("!I", number)
        self.markers.add(text)
        port = 1024 + number % 60000
        packet = udp(MARKER_HOST, 1024, MARKER_REMOTE, port, text) if side == INSIDE else \
            udp(MARKER_REMOTE, port, MARKER_EXTERNAL, MARKER_PORT, text)
        s, frame = self.ports[side, n]
        s.send(frame + packet)

    def settle(self, rounds=2):
        """Everything that was sent before has had its effect. Twice, because what one dataplane
        tells another one by the table costs a second way through it."""
        for _ in range(rounds):
            for side, n in self.ports:
                self._marker(side, n)
            deadline = time.monotonic() + PATIENCE
            while self.markers:
                self.receive(deadline - time.monotonic())
                if time.monotonic() > deadline:
                    lost = len(self.markers)
                    self.markers.clear()
                    raise Failure(f"{lost} of {len(self.ports)} markers did not come back in "
                                  f"{PATIENCE:.0f} s: the NAT does not translate new flows")
        while self.receive(0):
            pass

    def take(self, side, match=None, hurry=0.25):
        """The next packet on that side, or None when markers sent now came back before it."""
        deadline = time.monotonic() + hurry
        while (left := deadline - time.monotonic()) > 0:
            if found := self._pop(side, match):
                return found
            self.receive(left)
        self.settle()
        return self._pop(side, match)

    def _pop(self, side, match):
        queue = self.queues[side]
        for i, seen in enumerate(queue):
            if match is None or match(seen):
                del queue[i]
                return seen
        return None

    def forget(self):
        """What came, unasked for; the queues are empty then."""
        left = [(side, seen) for side, queue in self.queues.items() for seen in queue]
        for queue in self.queues.values():
            queue.clear()
        return left


class Addresses:
    """Hosts that no case has used before, so that none meets another one's mappings."""

    def __init__(self):
        self.hosts = self.remotes = 0

    def host(self):
        self.hosts += 1
        return f"10.0.{1 + self.hosts // 250}.{2 + self.hosts % 250}"

    def remote(self):
        self.remotes += 1
        return f"198.51.{100 + self.remotes // 250}.{2 + self.remotes % 250}"


def port(parity=None):
    """A source port that a host would take."""
    found = random.randrange(1024, 65536)
    return found if parity is None else found & ~1 | parity
