# SPDX-License-Identifier: Apache-2.0
"""Stray packets from inside: whatever a host sends, no private source is seen outside (RFC 3022
section 5, RFC 6888), and what has no translation does not leave at all."""
import struct

import wire
from harness import case
from packets import ICMP_NUMBER, TCP_NUMBER, echo, error, fragments, other, payload, tcp, udp
from wire import INSIDE, OUTSIDE

STRAY = "what conntrack cannot place is not translated, and leaves with its private source"


def held_back(t, packets, text):
    """Nothing of it leaves; inside at most errors come back to who sent."""
    for packet in packets:
        t.send(INSIDE, packet)
    t.wire.settle()
    for side, seen in t.wire.forget():
        if side == OUTSIDE:
            t.no_leak(seen)
        t.check(side == INSIDE and seen.kind in (3, 4, 11, 12), f"{text}: {side} came {seen}")


@case("RFC 3022 5", on_nft=STRAY)
def tcp_strays(t):
    """Every combination of flags but those of an opening, without a session."""
    host, remote = t.host(), t.remote()
    flags = [f for f in range(64) if f & 0x3f != 2 and f & 0x16 != 2]
    held_back(t, [tcp(host, 2000 + f, remote, 80, f, ack=7) for f in flags], "stray segment")


@case("RFC 3022 5", on_nft=STRAY)
def tcp_broken(t):
    """Segments that are cut, with a header length that lies, with a wrong checksum, from port 0."""
    host, remote = t.host(), t.remote()
    whole = tcp(host, 3000, remote, 80)
    body = whole[20:]
    broken = [other(host, remote, TCP_NUMBER, body[:n]) for n in (0, 1, 4, 8, 13, 19)]
    broken += [other(host, remote, TCP_NUMBER, body[:12] + bytes([n << 4]) + body[13:])
               for n in (0, 1, 4, 6, 15)]
    held_back(t, broken, "broken segment")


@case("RFC 3022 5", on_nft=STRAY)
def udp_broken(t):
    """Datagrams that are cut or whose length lies."""
    host, remote = t.host(), t.remote()
    body = udp(host, 3000, remote, 53)[20:]
    broken = [other(host, remote, 17, body[:n]) for n in (0, 1, 4, 7)]
    broken += [other(host, remote, 17, body[:4] + struct.pack("!H", n) + body[6:])
               for n in (0, 7, len(body) + 1, 65535)]
    held_back(t, broken, "broken datagram")


@case("RFC 3022 5", on_nft=STRAY)
def icmp_strays(t):
    """Replies that nobody asked for, errors about nothing, unknown types, cut messages."""
    host, remote = t.host(), t.remote()
    packets = [echo(host, remote, 5, reply=True)]
    for kind in (3, 4, 5, 11, 12):
        packets.append(error(host, remote, kind, 0, udp(remote, 53, host, 1024)))
        packets.append(error(host, remote, kind, 0, payload(20)))
    packets += [error(host, remote, kind, 0, payload(20)) for kind in range(256)
                if kind not in (0, 3, 4, 5, 8, 11, 12, 13, 14, 15, 16, 17, 18)]
    packets += [error(host, remote, kind, 0, payload(12)) for kind in (14, 16, 18)]
    packets += [other(host, remote, ICMP_NUMBER, echo(host, remote, 5)[20:20 + n])
                for n in (0, 1, 4, 7)]
    held_back(t, packets, "stray ICMP")


@case("RFC 6888 REQ-1", "RFC 3022 5", on_nft="by address alone they are translated, several hosts "
      "to one address: answers reach one of them")
def other_protocols(t):
    """All protocols but TCP, UDP and ICMP: refused unless the pool says otherwise."""
    host, remote = t.host(), t.remote()
    held_back(t, [other(host, remote, number, payload(40)) for number in range(256)
                  if number not in (1, 6, 17)], "another protocol")


@case("RFC 3022 5", "RFC 4787 REQ-14", on_router="the kernel waits for the whole datagram")
def orphan_fragments(t):
    """Later fragments without a first one stay inside."""
    host, remote = t.host(), t.remote()
    held_back(t, [fragments(udp(host, 4000, remote, 53, payload(200)), 96)[1] for _ in range(50)],
              "orphan")


@case("RFC 3022 5", "RFC 2827", on_nft="postrouting translates whatever source there is")
def foreign_sources(t):
    """Sources that are no inside host's: another private network, a public address, the pool's."""
    remote = t.remote()
    held_back(t, [udp(source, 4000, remote, 53) for source in (
        "192.168.7.7", "172.20.1.1", "10.1.0.1", "100.64.0.1", "8.8.8.8", wire.POOL[1])]
        + [tcp("192.168.7.7", 4000, remote, 80), echo("172.20.1.1", remote, 3)], "foreign source")


@case("RFC 3022 5", "RFC 6890")
def private_destinations(t):
    """To private destinations outside: translated like any other, never with the private source."""
    host = t.host()
    for destination in ("192.168.77.1", "172.31.1.1", "100.64.0.1"):
        t.outbound(udp(host, 4000, destination, 53))


@case("RFC 3022 5", "RFC 7857 2.2")
def after_the_end(t):
    """What a host still sends when its connection was reset, or its datagrams refused."""
    host, remote = t.host(), t.remote()
    x = t.tcp_open(host, 6000, remote, 80)
    t.inbound(tcp(remote, 80, *x, "R", seq=5001), (host, 6000))
    for flags in ("PA", "FA", "A", "R"):
        packet = tcp(host, 6000, remote, 80, flags, b"late" if "P" in flags else b"", seq=1001,
                     ack=5001)
        t.send(INSIDE, packet)
    t.wire.settle()
    for side, seen in t.wire.forget():
        if side == OUTSIDE:
            t.no_leak(seen)
