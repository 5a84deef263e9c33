# SPDX-License-Identifier: Apache-2.0
"""Hairpinning: RFC 4787 REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7. The tester gives the two
directions, and in two of the forms the two hosts, to different dataplanes."""
import wire
from harness import case
from packets import Seen, echo, error, tcp, udp
from wire import INSIDE, OUTSIDE

NO_HAIRPIN = "only what a port forward changes comes back inside; a mapping of the kernel's is " \
    "for one peer"


def across(t, packet, to, source, text="hairpinned", **changes):
    """From inside to inside: the endpoint to gets it from the external endpoint source."""
    t.send(INSIDE, packet)
    got = t.take(INSIDE, f"{text}: {Seen(packet)}")
    ports = {"ident": to[1]} if got.ident is not None else {"sport": source[1], "dport": to[1]}
    t.compare(packet, got, text, src=source[0], dst=to[0], **ports, **changes)
    return got


def pair(t, opened=udp):
    """Two hosts with UDP mappings that know each other: (endpoint, external) of each."""
    y, ends = t.remote(), []
    for _ in range(2):
        host, port = t.host(), wire.port()
        ends.append(((host, port), t.outbound(opened(host, port, y, 7000)).source))
    return ends


@case("RFC 4787 REQ-9", "RFC 4787 REQ-9a", behaviour="eif", on_nft=NO_HAIRPIN)
def udp_dynamic(t):
    """Two hosts by their external endpoints: each sees the other's external address and port."""
    (one, x1), (two, x2) = pair(t)
    for _ in range(3):
        across(t, udp(*one, *x2), two, x1, "to the second host")
        across(t, udp(*two, *x1), one, x2, "to the first host")


@case("RFC 4787 REQ-9a", "RFC 4787 REQ-8", on_nft=NO_HAIRPIN)
def udp_filtered(t):
    """Filters hold for neighbours, too: refused until the host has sent to the external address."""
    (one, x1), (two, x2) = pair(t)
    t.send(INSIDE, udp(*one, *x2))
    # Address-dependent, and one address for all of a host's neighbours: they may share the pool's.
    if x1[0] != x2[0]:
        t.quiet("the second host has not sent there")
    else:
        t.wire.settle()
        t.wire.forget()
    across(t, udp(*two, *x1), one, x2, "to the first host, which has")
    across(t, udp(*one, *x2), two, x1, "to the second one, which has now")


@case("RFC 4787 REQ-9", on_nft=NO_HAIRPIN, behaviour="eif")
def udp_fresh_source(t):
    """A host without any mapping may begin with a neighbour: it gets one then, and keeps it."""
    (one, x1), _ = pair(t)
    fresh = t.host(), wire.port()
    t.send(INSIDE, udp(*fresh, *x1))
    got = t.take(INSIDE)
    x = got.source
    t.check(x[0] in wire.POOL, f"the neighbour sees {x}, which is no external endpoint")
    t.same(got.destination, one, "who got it")
    across(t, udp(*one, *x), fresh, x1, "the answer")
    t.same(t.udp_open(*fresh, t.remote(), 53), x, "its external endpoint outside")


@case("RFC 4787 REQ-9a")
def udp_to_static(t):
    """To a port forward of a neighbour's, and back."""
    external, internal = t.lab.forward()
    host, port = t.host(), wire.port()
    t.send(INSIDE, udp(host, port, *external))
    got = t.take(INSIDE)
    t.check(got.src in wire.POOL, f"the neighbour sees {got.source}, no external endpoint")
    t.same(got.destination, internal, "who got it")
    across(t, udp(*internal, *got.source), (host, port), external, "the answer")


@case("RFC 5382 REQ-8", "RFC 5382 REQ-8a", on_nft=NO_HAIRPIN, behaviour="eif")
def tcp_dynamic(t):
    """A handshake, data and the end of a connection between neighbours, by an external endpoint."""
    (one, x1), (two, x2) = pair(t, lambda h, p, y, d: tcp(h, p, y, d))
    for flags, a, b, xa, seq, ack in (
            ("S", one, two, (x1, x2), 100, 0), ("SA", two, one, (x2, x1), 500, 101),
            ("A", one, two, (x1, x2), 101, 501), ("PA", two, one, (x2, x1), 501, 101),
            ("FA", one, two, (x1, x2), 101, 505), ("FA", two, one, (x2, x1), 505, 102),
            ("A", one, two, (x1, x2), 102, 506)):
        data = b"data" if "P" in flags else b""
        across(t, tcp(*a, *xa[1], flags, data, seq=seq, ack=ack), b, xa[0], f"{flags}")


@case("RFC 5382 REQ-8a")
def tcp_to_static(t):
    """A handshake with a port forward of a neighbour's."""
    external, internal = t.lab.forward()
    host, port = t.host(), wire.port()
    t.send(INSIDE, tcp(host, port, *external, "S", seq=1))
    got = t.take(INSIDE)
    x = got.source
    t.check(x[0] in wire.POOL, f"the neighbour sees {x}, no external endpoint")
    across(t, tcp(*internal, *x, "SA", seq=9, ack=2), (host, port), external, "SYN-ACK")
    across(t, tcp(host, port, *external, "A", seq=2, ack=10), internal, x, "ACK")


@case("RFC 5508 REQ-7", "RFC 7857 12")
def icmp_query_to_a_shared_address(t):
    """An echo request to an address that many share names no host: nothing leaves. (REQ-7 asks for
    hairpinned queries where an address belongs to one host.)"""
    a, b, y = t.host(), t.host(), t.remote()
    x2, x1 = t.outbound(echo(b, y, 300)).source, t.outbound(echo(a, y, 400)).source
    t.refused(INSIDE, echo(a, *x2))
    t.refused(OUTSIDE, echo(y, *x1), "a request from outside, with the identifier of a mapping")


@case("RFC 5508 REQ-7a", "RFC 5508 REQ-5", behaviour="eif", on_nft=NO_HAIRPIN)
def error_of_a_neighbour(t):
    """The neighbour rejects a hairpinned datagram: the error comes from its external address and
    quotes what the sender sent."""
    (one, x1), (two, x2) = pair(t)
    sent = udp(*one, *x2)
    got = across(t, sent, two, x1)
    refusal = error(two[0], x1[0], 3, 3, got.raw)
    t.send(INSIDE, refusal)
    back = t.take(INSIDE, "the error")
    t.compare(refusal, back, "the error", src=x2[0], dst=one[0],
              quoted={"src": one[0], "dst": x2[0], "sport": one[1], "dport": x2[1]})
    across(t, udp(*one, *x2), two, x1, "data after the error (RFC 4787 REQ-12)")


@case("RFC 4787 REQ-9", behaviour="eif", on_nft=NO_HAIRPIN)
def many_neighbours(t):
    """Ten hosts, each to each other one."""
    ends, y = [], t.remote()
    for _ in range(10):
        host, port = t.host(), wire.port()
        ends.append(((host, port), t.udp_open(host, port, y, 7000)))
    for one, x1 in ends:
        for two, x2 in ends:
            if one != two:
                across(t, udp(*one, *x2), two, x1)


@case("RFC 4787 REQ-9")
def to_nobody(t):
    """To an external endpoint without a mapping: nothing leaves, on either side."""
    host = t.host()
    t.udp_open(host, 5000, t.remote(), 1)
    for packet in (udp(host, 5000, wire.POOL[3], 1030), tcp(host, 5000, wire.POOL[3], 1030)):
        t.refused(INSIDE, packet)


@case("RFC 4787 REQ-9", behaviour="eif")
def to_oneself(t):
    """To its own external endpoint: no loop, nothing outside."""
    (one, x1), _ = pair(t)
    t.send(INSIDE, udp(*one, *x1))
    t.wire.settle()
    for side, seen in t.wire.forget():
        t.check(side == INSIDE, f"it left: {seen}")
    t.check(OUTSIDE not in (s for s, _ in t.wire.forget()), "nothing outside")
