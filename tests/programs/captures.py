# SPDX-License-Identifier: Apache-2.0
"""Captures of malformed packets, made from a seed, and the reading of captures.

Every packet begins as a right one (UDP, TCP, ICMP query, ICMP error, fragment, IP options) and is
then damaged in one to three places: bytes, lengths, offsets, the end. Most get their header's
checksum put right again, so that routers let them through to the NAT.
"""
import random
import struct

import logging
logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.packet import Raw  # noqa: E402

NOWHERE = "192.0.2."  # outside; nobody answers there


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def right(rng, source, destination, ports, quoted):
    """One packet as it ought to be. ports: (source, destination); quoted: (source, destination,
    ports) of a packet that an ICMP error may quote."""
    sport, dport = ports
    ip = {"src": source, "dst": destination, "id": rng.randrange(65536), "ttl": rng.choice((1, 2, 3, 9, 64, 255))}
    payload = Raw(rng.randbytes(rng.choice((0, 1, 7, 8, 31, 200, 900))))
    kind = rng.randrange(8)
    if kind == 0:
        packet = IP(**ip) / UDP(sport=sport, dport=dport) / payload
    elif kind == 1:
        options = [("MSS", rng.randrange(65536)), ("NOP", None)] if rng.random() < 0.5 else []
        packet = IP(**ip) / TCP(sport=sport, dport=dport, flags=rng.randrange(256), options=options,
                                seq=rng.getrandbits(32), urgptr=rng.randrange(65536)) / payload
    elif kind == 2:
        packet = IP(**ip) / ICMP(type=rng.choice((8, 0, 13, 14, 15, 17)), id=sport, seq=1) / payload
    elif kind in (3, 4):
        inner = IP(src=quoted[0], dst=quoted[1], id=rng.randrange(65536))
        inner /= rng.choice((UDP, TCP))(sport=quoted[2][0], dport=quoted[2][1])
        inner = bytes(inner / Raw(rng.randbytes(40)))[:rng.choice((28, 36, 60, 80))]
        packet = IP(**ip) / ICMP(type=rng.choice((3, 3, 4, 5, 11, 12)), code=rng.randrange(16)) / Raw(inner)
    elif kind == 5:
        packet = IP(flags=rng.choice((0, 1, 1, 3)), frag=rng.choice((0, 0, 1, 2, 100, 8100)), **ip)
        packet /= UDP(sport=sport, dport=dport, len=rng.choice((0, 8, 500, 65535)))
        packet /= Raw(rng.randbytes(rng.choice((0, 8, 64, 400))))
    elif kind == 6:
        packet = IP(proto=rng.choice((0, 2, 33, 41, 47, 50, 51, 132, 136, 255)), **ip) / payload
    else:
        options = bytes([rng.choice((1, 7, 68, 130, 131, 137, 255))]) + rng.randbytes(rng.choice((3, 7, 39)))
        packet = IP(options=[], ihl=5 + len(options) // 4, **ip) / Raw(options) / UDP(sport=sport, dport=dport)
    return bytearray(bytes(packet))


def damaged(rng, packet):
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        way = rng.randrange(6)
        if way == 0:  # some byte, but neither address: what it is must stay known
            at = rng.choice([i for i in range(len(packet)) if not 12 <= i < 20])
            packet[at] = rng.randrange(256)
        elif way == 1:
            del packet[rng.randrange(20, len(packet) + 1):]
        elif way == 2:  # total length
            struct.pack_into("!H", packet, 2, rng.choice((0, 19, 20, 21, 27, len(packet) - 1, len(packet) + 1)) % 65536)
        elif way == 3:
            packet[0] = 0x40 | rng.randrange(16)
        elif way == 4 and len(packet) > 33:  # data offset, UDP length, quoted header
            packet[rng.choice((24, 25, 28, 32))] = rng.choice((0, 1, 0x40, 0xf0, 255))
        else:
            struct.pack_into("!H", packet, 6, rng.choice((0x2000, 0x1fff, 0x3fff, 1, 0x4000, 0x8000)))
    header = (packet[0] & 15) * 4
    if rng.random() < 0.85 and 20 <= header <= len(packet):
        packet[10:12] = b"\0\0"
        struct.pack_into("!H", packet, 10, checksum(bytes(packet[:header])))
    return bytes(packet)


def hop_back(packet):
    """As it was before the host's own routing towards the dataplane's device took one from its TTL
    (a right header's checksum is right again, a wrong one as wrong as before)."""
    packet = bytearray(packet)
    packet[8] += 1
    total = struct.unpack_from("!H", packet, 10)[0] ^ 0xffff
    total += 0x100
    struct.pack_into("!H", packet, 10, ((total & 0xffff) + (total >> 16)) ^ 0xffff)
    return bytes(packet)


def malformed(seed, n, source, destination, ports, quoted):
    """n packets; source, destination and ports are functions of the random source."""
    rng = random.Random(seed)
    return [damaged(rng, right(rng, source(rng), destination(rng), ports(rng), quoted(rng)))
            for _ in range(n)]


def write(path, packets, link=101, header=b""):
    """A capture (link 101: no link header; 1: Ethernet, whose header is put before each)."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, link))
        for i, packet in enumerate(packets):
            seconds, microseconds, data = packet if isinstance(packet, tuple) else (1000, i, packet)
            data = header + data
            f.write(struct.pack("<IIII", seconds, microseconds, len(data), len(data)) + data)


def read(path):
    """(link, [(seconds, microseconds, data)])."""
    with open(path, "rb") as f:
        data = f.read()
    link, at, packets = struct.unpack_from("<I", data, 20)[0], 24, []
    while at + 16 <= len(data):
        seconds, microseconds, length, _ = struct.unpack_from("<IIII", data, at)
        packets.append((seconds, microseconds, data[at + 16:at + 16 + length]))
        at += 16 + length
    return link, packets
