# SPDX-License-Identifier: Apache-2.0
"""IPv4 packets of the wire tests: making them with scapy, and what a NAT may do to one.

difference(sent, got, ...) states the rule once: time to live one less; the endpoints that the case
names changed, every other byte as it was; checksums follow the change, so a right one is right and
a wrong one exactly as wrong (corruption is never laundered); UDP's 0 stays 0 (RFC 3022 section
4.1); the packet that an ICMP error quotes is held to the same. The identification is free where RFC
6864 leaves it free, and has cases of its own.
"""
import itertools
import random
import socket
import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

UDP_NUMBER, TCP_NUMBER, ICMP_NUMBER = socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMP
UDPLITE_NUMBER, DCCP_NUMBER = 136, 33
# Where the ports or the identifier are, how long, and where the checksum is.
CHANGES = {UDP_NUMBER: (0, 4, 6), TCP_NUMBER: (0, 4, 16), ICMP_NUMBER: (4, 2, 2),
           UDPLITE_NUMBER: (0, 0, 6), DCCP_NUMBER: (0, 0, 6)}
ERRORS = (3, 4, 5, 11, 12)


# One after the other: none comes again while fragments of a datagram that had it may live.
_identifications = itertools.cycle(range(1, 65536))


def _ip(source, destination, options):
    number = options.pop("id", None)
    return IP(src=source, dst=destination, id=next(_identifications) if number is None else number,
              ttl=options.pop("ttl", 64), **options)


def payload(size=None):
    """Bytes that no other packet has."""
    return random.randbytes(size if size is not None else random.randrange(16, 64))


def udp(source, sport, destination, dport, data=None, checksum=None, **ip):
    return bytes(_ip(source, destination, ip) / UDP(sport=sport, dport=dport, chksum=checksum)
                 / Raw(payload() if data is None else data))


def tcp(source, sport, destination, dport, flags="S", data=b"", seq=None, ack=0, options=None,
        checksum=None, **ip):
    segment = TCP(sport=sport, dport=dport, flags=flags, ack=ack, options=options or [],
                  seq=random.randrange(1 << 32) if seq is None else seq, chksum=checksum)
    return bytes(_ip(source, destination, ip) / segment / Raw(data))


def echo(source, destination, ident, data=None, reply=False, seq=1, **ip):
    return bytes(_ip(source, destination, ip) / ICMP(type=0 if reply else 8, id=ident, seq=seq)
                 / Raw(payload() if data is None else data))


def other(source, destination, protocol, body, **ip):
    """An IPv4 packet of another protocol."""
    return bytes(_ip(source, destination, {**ip, "proto": protocol}) / Raw(body))


def error(source, destination, kind, code, quote, word=0, checksum=None, **ip):
    """An ICMP error; word is the second one of its header (MTU, pointer, length of RFC 4884)."""
    message = struct.pack("!BBHI", kind, code, 0, word) + quote
    value = csum(message) if checksum is None else checksum
    message = message[:2] + struct.pack("!H", value) + message[4:]
    return bytes(_ip(source, destination, {"proto": ICMP_NUMBER, **ip}) / Raw(message))


def csum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def with_ip_checksum(packet):
    """After the header was edited."""
    header = (packet[0] & 15) * 4
    bare = packet[:10] + b"\0\0" + packet[12:header]
    return packet[:10] + struct.pack("!H", csum(bare)) + packet[12:]


def fragments(packet, *cuts):
    """The packet cut before these payload bytes (multiples of 8)."""
    header = (packet[0] & 15) * 4
    head, body = packet[:header], packet[header:]
    edges = [0, *cuts, len(body)]
    return [fragment(head, body, begin, end, end < len(body))
            for begin, end in zip(edges, edges[1:])]


def fragment(head, body, begin, end, more):
    """Bytes [begin, end) of a datagram's payload as a fragment with the header head."""
    field = begin // 8 | (0x2000 if more else 0)
    piece = body[begin:end]
    header = head[:2] + struct.pack("!H", len(head) + len(piece)) + head[4:6] + \
        struct.pack("!H", field) + head[8:]
    return with_ip_checksum(header + piece)


class Seen:
    """A captured packet, read by hand: what is broken must be readable too."""

    def __init__(self, raw, dataplane=0):
        self.dataplane = dataplane
        self.header = (raw[0] & 15) * 4
        total, self.id, field = struct.unpack_from("!HHH", raw, 2)
        self.raw = raw[:total]  # frames are padded
        self.tos, self.ttl, self.proto = raw[1], raw[8], raw[9]
        self.df, self.mf, self.offset = bool(field & 0x4000), bool(field & 0x2000), \
            (field & 0x1fff) * 8
        self.src, self.dst = socket.inet_ntoa(raw[12:16]), socket.inet_ntoa(raw[16:20])
        self.body = self.raw[self.header:]
        self.sport = self.dport = self.ident = self.kind = self.code = self.quote = None
        self.flags = 0
        if self.offset == 0 and len(self.body) >= 8:
            if self.proto in (UDP_NUMBER, TCP_NUMBER):
                self.sport, self.dport = struct.unpack_from("!HH", self.body)
            if self.proto == TCP_NUMBER and len(self.body) >= 20:
                self.flags = self.body[13]
            if self.proto == ICMP_NUMBER:
                self.kind, self.code = self.body[0], self.body[1]
                if self.kind in ERRORS:
                    self.quote = self.body[8:]
                else:
                    self.ident = struct.unpack_from("!H", self.body, 4)[0]

    @property
    def source(self):
        """The source endpoint; of a query its identifier is the port."""
        return self.src, self.ident if self.sport is None else self.sport

    @property
    def destination(self):
        return self.dst, self.ident if self.dport is None else self.dport

    @property
    def data(self):
        """What the application would read."""
        skip = {UDP_NUMBER: 8, ICMP_NUMBER: 8}.get(self.proto)
        if self.proto == TCP_NUMBER:
            skip = (self.body[12] >> 4) * 4
        return self.body[skip:]

    def __str__(self):
        text = f"{self.src} > {self.dst}, ttl {self.ttl}, id {self.id}, {len(self.raw)} bytes"
        if self.dataplane:
            text += f" by dp{self.dataplane}"
        if self.mf or self.offset:
            text += f", fragment {self.offset}{'+' if self.mf else ''}"
        if self.sport is not None:
            name = "UDP" if self.proto == UDP_NUMBER else "TCP"
            flags = "".join(f for i, f in enumerate("FSRPAU") if self.flags >> i & 1)
            return f"{name} {self.sport} > {self.dport} {flags} {text}"
        if self.ident is not None:
            return f"ICMP {self.kind}/{self.code} id {self.ident} {text}"
        if self.quote is not None:
            quoted = Seen(self.quote) if len(self.quote) >= 20 else "too short"
            return f"ICMP {self.kind}/{self.code} {text} [{quoted}]"
        return f"protocol {self.proto} {text}"


def _follows(before, after, old, new, zero_is_none=False):
    """Whether a checksum went with the change of the words old into new (RFC 1624)."""
    if zero_is_none and (before == 0 or after == 0):
        return before == after

    def total(data):
        return sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ((~before & 0xffff) + total(new) - total(old) - (~after & 0xffff)) % 0xffff == 0


def _blank(data, at, size):
    return data[:at] + bytes(size) + data[at + size:]


def _transport(proto, was, now, addresses_was, addresses_now, ports, whole):
    """First bytes of a datagram's payload: expected ports, checksum, and nothing else changed."""
    if proto not in CHANGES:
        return None if was == now else "the payload changed"
    at, moved, sum_at = CHANGES[proto]
    if proto == ICMP_NUMBER:  # no pseudo header
        addresses_was = addresses_now = b""
    if ports is not None and now[at:at + moved] != ports:
        return f"ports or identifier are {now[at:at + moved].hex()}, not {ports.hex()}"
    a, b = _blank(was, at, moved), _blank(now, at, moved)
    if len(now) >= sum_at + 2:
        before, after = (struct.unpack_from("!H", data, sum_at)[0] for data in (was, now))
        a, b = _blank(a, sum_at, 2), _blank(b, sum_at, 2)
        if not _follows(before, after, addresses_was + was[at:at + moved],
                        addresses_now + now[at:at + moved], proto == UDP_NUMBER):
            return f"transport checksum {before:04x} became {after:04x}, which is wrong"
    if a != b:
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return f"byte {at} of the {'payload' if whole else 'quoted payload'} changed"
    return None


def _ports(proto, data, sport, dport, ident):
    if proto == ICMP_NUMBER:
        return struct.pack("!H", struct.unpack_from("!H", data, 4)[0] if ident is None else ident)
    old = struct.unpack_from("!HH", data)
    new = (a if b is None else b for a, b in zip(old, (sport, dport)))
    return struct.pack("!HH", *new)


def difference(sent, got, src=None, dst=None, sport=None, dport=None, ident=None, quoted=None,
               hops=1, identification=None):
    """None, or in words how got is not what sent should have become. Names given are the new
    values; quoted holds those of the packet inside an ICMP error."""
    was, now = Seen(sent), got
    expected = {
        "source": (src or was.src, now.src), "destination": (dst or was.dst, now.dst),
        "TTL": (was.ttl - hops, now.ttl), "TOS": (was.tos, now.tos), "DF": (was.df, now.df),
        "protocol": (was.proto, now.proto), "length": (len(was.raw), len(now.raw)),
        "fragment": ((was.offset, was.mf), (now.offset, now.mf)),
        "IP options": (was.raw[20:was.header], now.raw[20:now.header]),
        "header checksum": (0, csum(now.raw[:now.header])),
    }
    if identification is not None:
        expected["identification"] = (identification, now.id)
    for name, (right, found) in expected.items():
        if right != found:
            return f"{name} is {found}, not {right}"
    if was.offset:
        return None if was.body == now.body else "the fragment's payload changed"
    if was.quote is not None:
        return _quote_difference(was, now, quoted or {})
    ports = b""
    if was.proto in (UDP_NUMBER, TCP_NUMBER, ICMP_NUMBER):
        ports = _ports(was.proto, was.body, sport, dport, ident)
    return _transport(was.proto, was.body, now.body, sent[12:20], now.raw[12:20], ports, True)


def _quote_difference(was, now, changes):
    if was.body[:2] != now.body[:2] or was.body[4:8] != now.body[4:8]:
        return "type, code or the word after the checksum changed"
    if (csum(was.body) == 0) != (csum(now.body) == 0):
        return "ICMP checksum is wrong"
    a, b = was.quote, now.quote
    if len(a) < 28:
        return None if a == b else "the quote changed"
    header = (a[0] & 15) * 4
    for name, at, size, key in (("source", 12, 4, "src"), ("destination", 16, 4, "dst")):
        right = socket.inet_aton(changes[key]) if key in changes else a[at:at + size]
        if b[at:at + size] != right:
            return f"the quoted {name} is {socket.inet_ntoa(b[at:at + size])}, not " \
                f"{socket.inet_ntoa(right)}"
    if not _follows(*struct.unpack("!HH", a[10:12] + b[10:12]), a[12:20], b[12:20]):
        return "the quoted header's checksum is wrong"
    if _blank(_blank(a[:header], 12, 8), 10, 2) != _blank(_blank(b[:header], 12, 8), 10, 2):
        return "the quoted header changed"
    # What RFC 4884 appends is no part of the quoted packet, nor of any checksum in it.
    ports = _ports(a[9], a[header:], changes.get("sport"), changes.get("dport"),
                   changes.get("ident"))
    problem = _transport(a[9], a[header:], b[header:], a[12:20], b[12:20], ports, False)
    return f"in the quote: {problem}" if problem else None
