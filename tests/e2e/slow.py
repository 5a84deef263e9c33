#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The slow tier: a sample of the timers in real time. All of them are walked by virtual clock in
tests/unit/test_table_timers.c; this shows that real programs, clocks and sockets keep them."""
import socket
import struct
import time

import e2e
from conatlab import CLIENTS, SERVER
from e2e import receive

SYN, RST, ACK = 2, 4, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def segment(source, destination, sport, dport, flags):
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 1 if flags & ACK else 0, 5 << 4, flags,
                       1024, 0, 0)
    pseudo = (socket.inet_aton(source) + socket.inet_aton(destination) +
              struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head)))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def echo(kind, identifier, text):
    head = struct.pack("!BBHHH", kind, 0, 0, identifier, 1)
    return head[:2] + struct.pack("!H", checksum(head + text)) + head[4:] + text


class Raw:
    """A raw socket of one protocol in a namespace."""

    def __init__(self, t, ns, protocol):
        with t.lab.inside(ns):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)

    def send(self, data, host):
        self.socket.sendto(data, (host, 0))

    def wait(self, match, seconds=2.0):
        """The source and payload of the first packet that match(payload) is true of, or None."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            data, peer = receive(self.socket, left)
            if data is None:
                return None
            payload = data[(data[0] & 15) * 4:]
            if match(payload):
                return peer[0], payload
        return None


class Udp:
    """A datagram out now; one comes back in after a silence."""

    def __init__(self, t, port):
        self.t, self.inside, self.server = t, t.udp("c1"), t.udp("srv", port, SERVER)
        self.inside.sendto(b"out", (SERVER, port))
        data, self.outside = receive(self.server, 3)
        t.need(data == b"out", f"c1's datagram to port {port} arrives")

    def passes(self):
        self.server.sendto(b"in", self.outside)
        return receive(self.inside, 2)[0] == b"in"


class Ping:
    def __init__(self, t, identifier):
        self.inside, self.server = (Raw(t, ns, socket.IPPROTO_ICMP) for ns in ("c1", "srv"))
        self.identifier, self.text = identifier, b"ping %d" % identifier
        self.inside.send(echo(8, identifier, self.text), SERVER)
        seen = self.server.wait(lambda p: p[0] == 8 and p[8:] == self.text)
        t.need(seen, "c1's echo request arrives")
        self.outside, self.outside_identifier = seen[0], struct.unpack("!H", seen[1][4:6])[0]

    def passes(self):
        text = self.text + b" late"
        self.server.send(echo(0, self.outside_identifier, text), self.outside)
        seen = self.inside.wait(lambda p: p[0] == 0 and p[8:] == text)
        return bool(seen) and struct.unpack("!H", seen[1][4:6])[0] == self.identifier


class HalfOpen:
    """A SYN out; its SYN-ACK comes after a silence."""

    port, late = 42000, SYN | ACK

    def __init__(self, t):
        self.inside, self.server = (Raw(t, ns, socket.IPPROTO_TCP) for ns in ("c1", "srv"))
        self.begin(t)

    def begin(self, t):
        self.inside.send(segment(CLIENTS["c1"], SERVER, self.port, 4242, SYN), SERVER)
        seen = self.server.wait(lambda p: p[2:4] == struct.pack("!H", 4242) and p[13] == SYN)
        t.need(seen, "c1's SYN arrives")
        self.remember(seen, 4242)

    def remember(self, seen, server_port):
        self.outside, self.server_port = seen[0], server_port
        self.outside_port = struct.unpack("!H", seen[1][:2])[0]

    def passes(self):
        self.server.send(segment(SERVER, self.outside, self.server_port, self.outside_port,
                                 self.late), self.outside)
        return self.inside.wait(lambda p: p[:4] == struct.pack("!HH", self.server_port, self.port)
                                and p[13] == self.late) is not None


class Closed(HalfOpen):
    """A connection that both sides closed; a late segment comes after a silence."""

    late = ACK

    def begin(self, t):
        listener = t.listen("srv", 4243)
        client = t.tcp("c1", (SERVER, 4243))
        self.port = client.getsockname()[1]
        server, peer = listener.accept()
        for s in (client, server):
            s.shutdown(socket.SHUT_WR)
        t.need(client.recv(1) == b"" and server.recv(1) == b"", "both have closed")
        for s in (client, server, listener):
            s.close()
        self.outside, self.outside_port, self.server_port = *peer, 4243


def timers(t):
    """Silence, and what still passes then (RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2)."""
    with t.routed("dp1", "dp2"):  # out by the one, in by the other
        begin = time.monotonic()
        dns = Udp(t, 53)
        flows = [  # what must live was quiet for less than its timer, what is gone for longer
            (28, True, dns, "RFC 4787 REQ-5a: UDP to port 53, 28 s"),
            (58, True, Ping(t, 4711), "RFC 5508 REQ-2: ICMP query, 58 s"),
            (62, False, dns, "RFC 4787 REQ-5a: UDP to port 53, gone 34 s later"),
            (66, False, Ping(t, 4712), "RFC 5508 REQ-2: ICMP query, gone after 66 s"),
            (118, True, Udp(t, 9999), "RFC 4787 REQ-5: UDP, 118 s"),
            (236, True, HalfOpen(t), "RFC 5382 REQ-5: TCP opening, 236 s"),
            (236, True, Closed(t), "RFC 5382 REQ-5: TCP closed by both, 236 s"),
        ]
        ready = time.monotonic()
        t.expect(ready - begin < 2, "all begin together")
        for seconds, alive, flow, text in flows:
            time.sleep(max(0.0, ready + seconds - time.monotonic()))
            t.expect(flow.passes() == alive, text)


if __name__ == "__main__":
    e2e.main([timers])
