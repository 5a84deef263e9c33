# SPDX-License-Identifier: Apache-2.0
"""Fragments: RFC 4787 REQ-14 and 14a, RFC 791, RFC 1858, RFC 3128, RFC 6864. A datagram has passed
when what came out is put together again and is the whole datagram, translated. In the forms "two"
and "packet" a datagram's fragments, and its flow's other packets, meet different dataplanes."""
import itertools
import struct

import wire
from harness import case, everywhere
from packets import Seen, difference, echo, fragment, fragments, payload, tcp, udp, with_ip_checksum
from wire import INSIDE, OUTSIDE, Failure

MTU = 1500
# Fragments and what the gateway cuts have numbers of their own. Others keep theirs: of a whole packet
# nobody remembers the number, and an error that quotes another one is not what the host sent (RFC
# 5508 REQ-4a); tcptraceroute and its like know their probes by it.
OWN_ID = "a whole packet keeps its host's number, so that errors quote what the host sent (RFC 5508 " \
    "REQ-4a)"
SHARED_ID = "the identification stays the host's own: two hosts' fragments mix at the receiver"


class Pile:
    """Fragments by source, destination, protocol and identification, as a receiver keeps them."""

    def __init__(self):
        self.of = {}

    def add(self, seen):
        key = seen.src, seen.dst, seen.proto, seen.id
        held = self.of.setdefault(key, {})
        for at, other in held.items():
            if at < seen.offset + len(seen.body) and seen.offset < at + len(other.body) and \
                    (at, other.body) != (seen.offset, seen.body):
                raise Failure(f"fragments that overlap came out: {other} and {seen}")
        if len(seen.raw) > MTU:
            raise Failure(f"larger than the MTU: {seen}")
        held[seen.offset] = seen
        return self.whole(held)

    @staticmethod
    def whole(held):
        """The datagram, or None while some of it is missing."""
        body = b""
        for at in sorted(held):
            if at != len(body):
                return None
            body += held[at].body
            if not held[at].mf:
                first = held[0]
                head = first.raw[:2] + struct.pack("!H", first.header + len(body)) + \
                    first.raw[4:6] + bytes([first.raw[6] & 0x40, 0]) + first.raw[8:first.header]
                return Seen(with_ip_checksum(head + body), first.dataplane)
        return None


def arrives(t, sent, side, pile=None, text="", **changes):
    """All that comes out on that side is put together and is the datagram sent. Returns it."""
    pile = pile or Pile()
    while True:
        got = t.take(side, f"{text}: the rest of {Seen(sent)}")
        whole = pile.add(got)
        if whole:
            break
    if side == OUTSIDE:
        t.check(whole.src in wire.POOL, f"source outside the pool: {whole}")
        changes = {"src": whole.src, **changes}
        changes.setdefault("ident" if whole.ident is not None else "sport", whole.source[1])
    problem = difference(sent, whole, **changes)
    t.check(not problem, f"{text}: {problem}")
    return whole


def through(t, side, sent, pieces, text="", dataplanes=None, **changes):
    for i, piece in enumerate(pieces):
        t.send(side, piece, dataplanes[i % len(dataplanes)] if dataplanes else None)
    return arrives(t, sent, OUTSIDE if side == INSIDE else INSIDE, text=text, **changes)


class Flow:
    """Datagrams of a flow, both ways."""

    def __init__(self, t, kind="udp"):
        self.t, self.kind, self.host, self.remote = t, kind, t.host(), t.remote()
        self.port = wire.port()
        if kind == "tcp":
            self.x = t.tcp_open(self.host, self.port, self.remote, 7000)
        else:
            self.x = t.outbound(self.packet(INSIDE, 8)).source

    def packet(self, side, size, **ip):
        data = payload(size)
        if side == INSIDE:
            ends = (self.host, self.port, self.remote, 7000)
        else:
            ends = (self.remote, 7000, *self.x)
        if self.kind == "tcp":
            return tcp(*ends, "PA", data, seq=1001 if side == INSIDE else 5001,
                       ack=5001 if side == INSIDE else 1001, **ip)
        if self.kind == "icmp":
            return echo(ends[0], ends[2], self.port, data, **ip) if side == INSIDE else \
                echo(self.remote, self.x[0], self.x[1], data, reply=True, **ip)
        return udp(*ends, data, **ip)

    def changes(self, side):
        name = "ident" if self.kind == "icmp" else "sport" if side == INSIDE else "dport"
        if side == INSIDE:
            return {"src": self.x[0], name: self.x[1]}
        return {"dst": self.host, name: self.port}

    def through(self, side, sent, pieces, text="", dataplanes=None):
        return through(self.t, side, sent, pieces, text, dataplanes, **self.changes(side))

    def whole(self, side=INSIDE, text="an unfragmented packet"):
        sent = self.packet(side, 16)
        self.through(side, sent, [sent], text)


def permutations(t, kind, side, counts):
    flow = Flow(t, kind)
    for n in counts:
        cuts = [24 + 40 * i + 8 * (i % 2) for i in range(n - 1)]
        for order in itertools.permutations(range(n)):
            sent = flow.packet(side, 24 + 40 * n + n % 3)
            pieces = fragments(sent, *cuts)
            flow.through(side, sent, [pieces[i] for i in order], f"order {order}")


@case("RFC 4787 REQ-14")
def udp_outbound_permutations(t):
    """Every order of two to five fragments leaves as the datagram."""
    permutations(t, "udp", INSIDE, (2, 3, 4, 5))


@case("RFC 4787 REQ-14")
def udp_inbound_permutations(t):
    """Every order of two to five fragments reaches the host as the datagram."""
    permutations(t, "udp", OUTSIDE, (2, 3, 4, 5))


@case("RFC 4787 REQ-14", "RFC 5382 REQ-2")
def tcp_permutations(t):
    """Every order of two and three fragments of a TCP segment, both ways."""
    for side in (INSIDE, OUTSIDE):
        permutations(t, "tcp", side, (2, 3))


@case("RFC 4787 REQ-14", "RFC 5508 REQ-1")
def icmp_permutations(t):
    """Every order of two and three fragments of an echo request and its reply."""
    for side in (INSIDE, OUTSIDE):
        permutations(t, "icmp", side, (2, 3))


@case("RFC 4787 REQ-14")
def new_flow_in_any_order(t):
    """The first datagram of a flow is in fragments: each order opens it."""
    for order in itertools.permutations(range(3)):
        sent = udp(t.host(), wire.port(), t.remote(), 53, payload(200))
        pieces = fragments(sent, 64, 128)
        through(t, INSIDE, sent, [pieces[i] for i in order], f"order {order}")


@case("RFC 4787 REQ-14")
def forward_in_any_order(t):
    """The same from outside to a port forward."""
    external, internal = t.lab.forward()
    for order in itertools.permutations(range(3)):
        sent = udp(t.remote(), 4000, *external, payload(200))
        pieces = fragments(sent, 64, 128)
        through(t, OUTSIDE, sent, [pieces[i] for i in order], f"order {order}", dst=internal[0],
                dport=internal[1])


@case("RFC 4787 REQ-14")
def first_here_rest_there(t):
    """The first fragment meets one dataplane and the others the other one, in either order."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        for dataplanes in ((1, 2, 2), (2, 1, 1), (1, 1, 2), (2, 2, 1)):
            for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
                sent = flow.packet(side, 200)
                pieces = fragments(sent, 64, 128)
                flow.through(side, sent, [pieces[i] for i in order],
                             f"fragments {order} to dataplanes {dataplanes}, {side}", dataplanes)


@case("RFC 4787 REQ-14")
def large_datagrams(t):
    """Datagrams of 20,000 and 60,000 bytes in fragments of 1,480, in order."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        for size in (20_000, 60_000):
            sent = flow.packet(side, size)
            flow.through(side, sent, fragments(sent, *range(1480, size, 1480)), f"{size} {side}")


@case("RFC 4787 REQ-14")
def large_datagram_backwards(t):
    """20,000 bytes in fragments of 1,480, the last one first (as Linux used to send them)."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        sent = flow.packet(side, 20_000)
        flow.through(side, sent, fragments(sent, *range(1480, 20_000, 1480))[::-1], side)


@case("RFC 791", "RFC 4787 REQ-14")
def tiny_fragments(t):
    """Pieces of 8 bytes, the least there is: UDP's header alone in the first one."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        sent = flow.packet(side, 37)
        pieces = fragments(sent, *range(8, 45, 8))
        flow.through(side, sent, pieces, side)
        sent = flow.packet(side, 37)
        flow.through(side, sent, fragments(sent, *range(8, 45, 8))[::-1], f"{side}, backwards")


def nothing_whole(t, side, sent, pieces, text):
    """The datagram does not arrive; the first fragment may, while it was alone. All to one
    dataplane: what overlaps at different ones only the receiver sees."""
    for piece in pieces:
        t.send(side, piece, 1)
    t.wire.settle()
    pile = Pile()
    for where, seen in t.wire.forget():
        t.check(where != side, f"{text}: sent back: {seen}")
        if where == OUTSIDE:
            t.no_leak(seen)
        t.check(not pile.add(seen), f"{text}: the datagram came out")


@case("RFC 1858", "RFC 3128", on_nft="the kernel puts datagrams together first, and so "
      "sees through it")
def tcp_header_in_pieces(t):
    """A TCP header cut by fragmentation is refused, and so is a second fragment inside of it."""
    for side in (INSIDE, OUTSIDE):
        flow = Flow(t, "tcp")
        for cuts in ((8,), (16,), (8, 16)):
            sent = flow.packet(side, 64)
            nothing_whole(t, side, sent, fragments(sent, *cuts), f"cut at {cuts}")
        flow.whole(side)


@case("RFC 1858", "RFC 5722")
def overlaps(t):
    """Fragments that overlap: the datagram is lost, no overlap comes out, the next one passes."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        for spans in (((0, 64, 1), (56, 128, 0)), ((0, 64, 1), (32, 64, 1), (24, 128, 0)),
                      ((64, 128, 0), (0, 72, 1)), ((0, 128, 1), (8, 40, 0)),
                      ((0, 64, 1), (8, 72, 1), (64, 128, 0))):
            sent = flow.packet(side, 120)
            head = sent[:20]
            bodies = [sent[20:]] + [sent[20:28] + payload(120) for _ in spans]
            pieces = [fragment(head, bodies[i], begin, end, more)
                      for i, (begin, end, more) in enumerate(spans)]
            nothing_whole(t, side, sent, pieces, f"{spans} {side}")
            flow.whole(side)
            again = flow.packet(side, 120)
            flow.through(side, again, fragments(again, 64), "the next datagram")


@case("RFC 791", "RFC 4787 REQ-14")
def duplicates(t):
    """Each fragment twice, in order and not: the datagram arrives."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        for order in ((0, 0, 1, 1, 2, 2), (2, 2, 1, 1, 0, 0), (1, 0, 1, 0, 2, 2)):
            sent = flow.packet(side, 200)
            pieces = fragments(sent, 64, 128)
            flow.through(side, sent, [pieces[i] for i in order], f"{order} {side}")
            t.wire.settle()
            t.wire.forget()  # what was sent twice may come twice


def oversized(head, body):
    """A last fragment that ends past byte 65,535 (the ping of death)."""
    return fragment(head, bytes(65528) + body, 65528 - 8, 65528 + len(body), False)


@case("RFC 791")
def past_the_end(t):
    """A fragment that reaches past 65,535 bytes goes nowhere."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        sent = flow.packet(side, 64)
        first = fragment(sent[:20], sent[20:], 0, 64, True)
        for piece in (first, oversized(sent[:20], payload(100))):
            t.send(side, piece)
        t.wire.settle()
        for _, seen in t.wire.forget():
            t.check(seen.offset + len(seen.body) + 20 <= 65535, f"{seen}")
        flow.whole(side)


@case("RFC 4787 REQ-14a", last=True, on_nft="orphans fill its memory for 30 s: no fragments pass "
      "meanwhile, of anybody")
def orphan_flood(t):
    """3,000 later fragments without a first one, then 3,000 first ones without the rest, from
    either side and from made-up sources: then whole packets and fragments in order pass as before,
    also those of the flood's own source."""
    flow = Flow(t)
    for side, which, spoofed in ((INSIDE, 1, False), (INSIDE, 0, False), (OUTSIDE, 1, False),
                                 (OUTSIDE, 0, False), (OUTSIDE, 1, True)):
        sample = flow.packet(side, 200)
        for i in range(3000):
            number = struct.pack("!H", 30_000 + i + 10_000 * which + 15_000 * spoofed)
            source = b"\xc6\x33" + struct.pack("!H", i) if spoofed else sample[12:16]
            packet = sample[:4] + number + sample[6:12] + source + sample[16:]
            t.send(side, fragments(with_ip_checksum(packet), 96)[which])
            if i % 100 == 99:
                t.wire.receive(0)
        t.wire.settle()
        for where, seen in t.wire.forget():
            t.check(where != side and seen.offset == 0, f"an orphan came out: {seen}")
        for way in (INSIDE, OUTSIDE):
            flow.whole(way)
            sent = flow.packet(way, 200)
            flow.through(way, sent, fragments(sent, 96), f"in order, {way}, after the flood")
    other = Flow(t)
    other.whole(OUTSIDE, "another host")


@case("RFC 4787 REQ-8", "RFC 4787 REQ-14")
def filtered_datagrams(t):
    """Fragments from whom the filter refuses, or to no mapping: none of them passes."""
    flow, stranger = Flow(t), t.remote()
    for destination in (flow.x, (flow.x[0], 1032)):
        for order in ((0, 1), (1, 0)):
            sent = udp(stranger, 7000, *destination, payload(100))
            pieces = fragments(sent, 64)
            for i in order:
                t.send(OUTSIDE, pieces[i])
            t.quiet("a refused datagram")
    flow.whole(OUTSIDE)


def same_identification(t, hosts, interleave):
    """Hosts send two fragments each with one identification to one remote; what came outside."""
    remote, pile, wholes = t.remote(), Pile(), []
    sent = [udp(host, wire.port(), remote, 7000, payload(200), id=777) for host in hosts]
    pieces = [fragments(packet, 96) for packet in sent]
    if interleave:
        batch = [p[0] for p in pieces] + [p[1] for p in reversed(pieces)]
    else:
        batch = [piece for p in pieces for piece in p]
    for piece in batch:
        t.send(INSIDE, piece)
    for _ in batch:
        whole = pile.add(t.take(OUTSIDE, "all fragments"))
        if whole:
            wholes.append(whole)
    t.same(len(pile.of), len(hosts), "different (source, destination, protocol, identification)")
    t.same(sorted(w.data for w in wholes), sorted(p[28:] for p in sent), "what the remote reads")


@case("RFC 6864 5.3.1", "RFC 7857 10", on_nft=SHARED_ID)
def hosts_with_one_identification(t):
    """Six hosts, one remote, the same identification, fragments interleaved: no two datagrams share
    an identification outside where they share the address."""
    same_identification(t, [t.host() for _ in range(6)], True)


@case("RFC 6864 5.3.1", "RFC 7857 10", on_nft=SHARED_ID)
def hosts_with_one_identification_in_turn(t):
    """The same, each datagram after the other: they may still live in the network."""
    same_identification(t, [t.host() for _ in range(6)], False)


@case("RFC 6864 4.1", "RFC 6864 5.3.1", on_nft=SHARED_ID, expected_failure=everywhere(OWN_ID))
def unfragmented_identification(t):
    """Packets of six hosts that may still be fragmented (no DF): numbers of their own."""
    remote, found = t.remote(), set()
    for _ in range(6):
        got = t.outbound(udp(t.host(), wire.port(), remote, 7000, id=888))
        found.add((got.src, got.id))
    t.same(len(found), 6, f"(source, identification) of six datagrams, {found}")


@case("RFC 6864 4.1")
def atomic_datagrams(t):
    """With DF and unfragmented the identification means nothing: 0 passes, DF stays."""
    flow = Flow(t)
    for side in (INSIDE, OUTSIDE):
        sent = flow.packet(side, 64, flags="DF", id=0)
        flow.through(side, sent, [sent])


@case("RFC 4787 REQ-14", "RFC 6864 5.3.1")
def inbound_identification_kept(t):
    """Fragments from outside keep their sender's identification and find their own host, when two
    remotes use the same one."""
    one, two = Flow(t), Flow(t)
    a, b = one.packet(OUTSIDE, 200, id=999), two.packet(OUTSIDE, 200, id=999)
    pieces = fragments(a, 96) + fragments(b, 96)
    for i in (0, 2, 3, 1):
        t.send(OUTSIDE, pieces[i])
    pile, wholes = Pile(), {}
    for _ in pieces:
        if whole := pile.add(t.take(INSIDE)):
            wholes[whole.dst] = whole
    for flow, sent in ((one, a), (two, b)):
        t.check(flow.host in wholes, f"nothing whole came to {flow.host}")
        problem = difference(sent, wholes[flow.host], **flow.changes(OUTSIDE))
        t.check(not problem, f"to {flow.host}: {problem}")


@case("RFC 4787 REQ-9", "RFC 4787 REQ-14", behaviour="eif", on_nft="it does not hairpin")
def hairpinned(t):
    """Fragments to a neighbour's external endpoint, in every order."""
    one, two = Flow(t), Flow(t)
    for order in itertools.permutations(range(3)):
        sent = udp(one.host, one.port, *two.x, payload(200))
        pieces = fragments(sent, 64, 128)
        for i in order:
            t.send(INSIDE, pieces[i])
        arrives(t, sent, INSIDE, text=f"order {order}", src=one.x[0], sport=one.x[1], dst=two.host,
                dport=two.port)
