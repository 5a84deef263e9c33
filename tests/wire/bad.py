# SPDX-License-Identifier: Apache-2.0
"""Malformed packets, from inside and outside: none comes out, none does harm, the next good packet
passes. What is right but rare (options, padding) passes unchanged."""
import struct

import wire
from harness import case
from packets import echo, payload, tcp, udp, with_ip_checksum
from wire import INSIDE, OUTSIDE

UNPLACED = "what conntrack cannot place is not translated, and leaves with its private source"


class Flow:
    """An open flow, by which the bad packets would have been translated had they been good."""

    def __init__(self, t, kind="udp"):
        self.t, self.kind = t, kind
        self.host, self.remote, self.port = t.host(), t.remote(), wire.port()
        if kind == "tcp":
            self.x = t.tcp_open(self.host, self.port, self.remote, 7000)
        else:
            self.x = t.outbound(self.good(INSIDE)).source

    def good(self, side, **ip):
        if side == INSIDE:
            ends = self.host, self.port, self.remote, 7000
        else:
            ends = self.remote, 7000, *self.x
        if self.kind == "tcp":
            return tcp(*ends, "PA", b"sixteen bytes of", seq=1001, ack=5001, **ip)
        return udp(*ends, b"sixteen bytes of", **ip)

    def alive(self):
        for side in (INSIDE, OUTSIDE):
            packet = self.good(side)
            if side == INSIDE:
                self.t.outbound(packet, src=self.x[0], sport=self.x[1], text="good again")
            else:
                self.t.inbound(packet, (self.host, self.port), text="good again")

    def dropped(self, change, text, sides=(INSIDE, OUTSIDE)):
        """change(good packet) goes nowhere; ICMP errors to its sender are fine."""
        for side in sides:
            self.t.send(side, change(self.good(side)))
            self.t.wire.settle()
            for where, seen in self.t.wire.forget():
                if where == OUTSIDE:
                    self.t.no_leak(seen)
                answer = where == side and seen.kind in (3, 11, 12)
                self.t.check(answer, f"{text}, sent {side}: there came {where}: {seen}")


def header(packet, at, data, checksum=True):
    """Bytes of the IP header replaced."""
    changed = packet[:at] + data + packet[at + len(data):]
    return with_ip_checksum(changed) if checksum else changed


@case("RFC 1812 5.2.2")
def ip_checksum(t):
    """A wrong header checksum."""
    flow = Flow(t)
    for wrong in (b"\0\0", b"\xff\xff", b"\x12\x34"):
        flow.dropped(lambda p, w=wrong: header(p, 10, w, False), f"checksum {wrong.hex()}")
    flow.alive()


@case("RFC 1812 5.2.2")
def ip_lengths(t):
    """Version, header length and total length that lie, and frames that are cut."""
    flow = Flow(t)
    for byte in (0x00, 0x15, 0x44, 0x40, 0x55, 0x65, 0xf5):
        flow.dropped(lambda p, b=byte: header(p, 0, bytes([b]), False), f"first byte {byte:02x}")
    for total in (0, 1, 19, 45, 1500, 65535):
        flow.dropped(lambda p, n=total: header(p, 2, struct.pack("!H", n)), f"total length {total}")
    for cut in (1, 2, 20, 24):
        flow.dropped(lambda p, n=cut: p[:-n], f"cut by {cut}")
    flow.alive()


@case("RFC 768", on_nft=UNPLACED)
def udp_lengths(t):
    """A UDP length that is less than its header or more than there is."""
    flow = Flow(t)
    for length in (0, 7, 25, 65535):
        flow.dropped(lambda p, n=length: p[:24] + struct.pack("!H", n) + p[26:], f"length {length}")
    flow.alive()


@case("RFC 9293 3.1", on_nft=UNPLACED)
def tcp_offsets(t):
    """A TCP header length below 5 words or beyond the segment."""
    flow = Flow(t, "tcp")
    for words in (0, 1, 4, 10, 15):
        flow.dropped(lambda p, w=words: p[:32] + bytes([w << 4]) + p[33:], f"offset {words}")
    flow.alive()


@case("RFC 1122 3.2.1.3", "RFC 6890")
def martian_sources(t):
    """Sources that nobody can have: loopback, 0.0.0.0, multicast, broadcast."""
    flow = Flow(t)
    for source in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"):
        for side, packet in ((INSIDE, udp(source, flow.port, flow.remote, 7000)),
                             (OUTSIDE, udp(source, 7000, *flow.x))):
            flow.dropped(lambda _, p=packet: p, f"source {source}", (side,))
    flow.alive()


@case("RFC 1122 3.2.1.3", "RFC 3927 7", on_nft="it forwards to link-local destinations")
def martian_destinations(t):
    """Destinations that no router may forward to: loopback, 0.0.0.0, multicast, broadcast,
    link-local."""
    flow = Flow(t)
    for destination in ("127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255", "169.254.1.1"):
        packet = udp(flow.host, flow.port, destination, 7000)
        flow.dropped(lambda _, p=packet: p, f"destination {destination}", (INSIDE,))
    flow.alive()


@case("RFC 3022 5")
def land(t):
    """Source and destination are the same endpoint, inside or of the pool: no loop, nothing out."""
    flow = Flow(t)
    x = flow.x
    for side, packet in ((INSIDE, udp(flow.host, flow.port, flow.host, flow.port)),
                         (INSIDE, tcp(flow.host, flow.port, flow.host, flow.port)),
                         (INSIDE, udp(*x, *x)), (OUTSIDE, udp(*x, *x)), (OUTSIDE, tcp(*x, *x)),
                         (OUTSIDE, echo(x[0], x[0], 1))):
        t.send(side, packet)
        t.wire.settle()
        for where, seen in t.wire.forget():
            t.check(where == INSIDE and side == INSIDE, f"there came {where}: {seen}")
    flow.alive()


@case("RFC 1812 5.3.1")
def time_to_live(t):
    """TTL 0 and 1 end here; 2 leaves as 1."""
    flow = Flow(t)
    for ttl in (0, 1):
        flow.dropped(lambda p, n=ttl: header(p, 8, bytes([n])), f"TTL {ttl}")
    t.outbound(flow.good(INSIDE, ttl=2), src=flow.x[0], sport=flow.x[1])
    t.inbound(flow.good(OUTSIDE, ttl=2), (flow.host, flow.port))


@case("RFC 894")
def padding(t):
    """What pads a short frame goes no further, and is in no checksum."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        packet = flow.good(side)
        t.send(side, packet + b"padding of the frame")
        got = t.take(OUTSIDE if side == INSIDE else INSIDE)
        names = {"src": flow.x[0], "sport": flow.x[1]} if side == INSIDE else \
            {"dst": flow.host, "dport": flow.port}
        t.compare(packet, got, **names)


def with_options(packet, options):
    """The packet with these IP options (a multiple of 4 bytes)."""
    whole = bytes([0x45 + len(options) // 4]) + packet[1:20] + options + packet[20:]
    return with_ip_checksum(whole[:2] + struct.pack("!H", len(whole)) + whole[4:])


@case("RFC 791", "RFC 4787 REQ-14")
def ip_options(t):
    """Options that mean nothing to a router pass: no-operations, an unknown one, end of list."""
    flow = Flow(t)
    for options in (b"\1\1\1\0", bytes([0x1e | 0x80, 4, 1, 2]), b"\1\1\1\1" * 10):
        packet = with_options(flow.good(INSIDE), options)
        t.outbound(packet, src=flow.x[0], sport=flow.x[1], text=f"options {options.hex()}")
        packet = with_options(flow.good(OUTSIDE), options)
        t.inbound(packet, (flow.host, flow.port), text=f"options {options.hex()}")


@case("RFC 791", "RFC 3022 5")
def broken_options(t):
    """Options whose length lies."""
    flow = Flow(t)
    for options in (bytes([7, 0, 4, 0]), bytes([7, 1, 4, 0]), bytes([7, 200, 4, 0]),
                    bytes([68, 3, 5, 0]), bytes([131, 2, 4, 0])):
        flow.dropped(lambda p, o=options: with_options(p, o), f"options {options.hex()}")
    flow.alive()


@case("RFC 7126", "RFC 3022 5")
def source_routes(t):
    """Loose and strict source routes, which would go round the translation."""
    flow = Flow(t)
    for kind in (131, 137):
        for hop in ((198, 18, 1, 1), (10, 0, 1, 7)):
            options = bytes([kind, 7, 4, *hop, 0])
            flow.dropped(lambda p, o=options: with_options(p, o), f"option {kind} by {hop}")
    flow.alive()


@case("RFC 4787 REQ-14a")
def noise(t):
    """A thousand packets of random bytes behind a right IP header, from each side: then all is
    well, and no private source was seen."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        for i in range(1000):
            head = flow.good(side)[:20]
            body = payload(i % 90)
            packet = head[:2] + struct.pack("!H", 20 + len(body)) + head[4:6] + payload(2) + \
                head[8:9] + payload(1) + head[10:] + body
            t.send(side, with_ip_checksum(packet))
            if i % 100 == 99:
                t.wire.receive(0)
        t.wire.settle()
        for where, seen in t.wire.forget():
            if where == OUTSIDE:
                t.no_leak(seen)
    flow.alive()
