# SPDX-License-Identifier: Apache-2.0
"""What the configuration asks for beside plain translation: destinations that are not translated,
redirects, protocols by address alone."""
import struct

import labs
import wire
from harness import case
from packets import DCCP_NUMBER, UDPLITE_NUMBER, csum, echo, error, fragments, other, payload, \
    tcp, udp
from wire import INSIDE, OUTSIDE

GRE, ESP, SCTP = 47, 50, 132
SEVERAL = "by address alone it gives one address to several hosts: answers reach one of them"
LITE = "it takes UDP-Lite's checksum for UDP's, finds it wrong, and the packet leaves untranslated"


@case("RFC 6888 REQ-6")
def bypass(t):
    """To a bypass prefix the packet leaves as it is, answers come back as they are."""
    host, remote, port = t.host(), "192.0.2.130", wire.port()
    for packet in (udp(host, port, remote, 53), tcp(host, port, remote, 80), echo(host, remote, 3),
                   tcp(host, port, remote, 80, "PA", b"no session is needed", ack=1)):
        t.send(INSIDE, packet)
        got = t.wire.take(OUTSIDE)
        t.check(got, "nothing came out outside")
        t.compare(packet, got)
    for packet in (udp(remote, 53, host, port), tcp(remote, 80, host, port, "SA"),
                   echo(remote, host, 3, reply=True)):
        t.send(OUTSIDE, packet)
        t.compare(packet, t.take(INSIDE, "the answer"))
    t.check(t.udp_open(host, port, t.remote(), 53)[0] in wire.POOL, "other destinations")


@case("RFC 3022 2", "RFC 6888 REQ-1", "RFC 5508 REQ-1")
def one_to_one(t):
    """An address that is one host's: ports and identifiers stay, both ways, begun from either side."""
    (x, host), remote = list(labs.WHOLE.items())[0], t.remote()
    for port in (80, 700, 5000):
        t.outbound(udp(host, port, remote, 53), src=x, sport=port)
        t.udp_in(remote, 53, (x, port), (host, port))
    t.outbound(tcp(host, 6000, remote, 80, seq=1), src=x, sport=6000)
    t.inbound(tcp(remote, 80, x, 6000, "SA", seq=1, ack=2), (host, 6000))
    t.outbound(echo(host, remote, 77), src=x, ident=77)
    t.inbound(echo(remote, x, 77, reply=True), (host, 77))
    caller = t.remote()
    t.inbound(tcp(caller, 5555, x, 22, seq=1), (host, 22))
    t.outbound(tcp(host, 22, caller, 5555, "SA", seq=1, ack=2), src=x, sport=22)
    t.inbound(echo(caller, x, 88), (host, 88))
    t.outbound(echo(host, caller, 88, reply=True), src=x, ident=88)


@case("RFC 5508 REQ-7", "RFC 7857 12")
def icmp_query_hairpinned(t):
    """Two such hosts ping each other by their external addresses, and so does a host of the pool;
    each sees the other's external address."""
    (x1, one), (x2, two) = labs.WHOLE.items()
    for a, xa, b, xb in ((one, x1, two, x2), (two, x2, one, x1)):
        for reply in (False, True):
            ends = (b, a, xa, xb) if reply else (a, b, xb, xa)
            packet = echo(ends[0], ends[2], 300, reply=reply)
            t.send(INSIDE, packet)
            t.compare(packet, t.take(INSIDE, "reply" if reply else "request"), src=ends[3],
                      dst=ends[1], ident=300)
    host = t.host()
    request = echo(host, x1, 400)
    t.send(INSIDE, request)
    got = t.take(INSIDE, "a request of a host of the pool")
    t.check(got.src in wire.POOL and got.dst == one, f"{got}")
    answer = echo(one, got.src, got.ident, reply=True)
    t.send(INSIDE, answer)
    t.compare(answer, t.take(INSIDE, "its reply"), src=x1, dst=host, ident=400)


@case("RFC 5508 REQ-5", "RFC 5508 REQ-4")
def one_to_one_errors(t):
    """Errors about such a host's datagrams: in with its own address, out with the external one."""
    (x, host), remote = list(labs.WHOLE.items())[0], t.remote()
    left = t.outbound(udp(host, 5000, remote, 53), src=x, sport=5000)
    message = error(t.remote(), x, 3, 1, left.raw)
    t.send(OUTSIDE, message)
    t.compare(message, t.take(INSIDE, "the error"), dst=host, quoted={"src": host})
    got = t.inbound(udp(remote, 53, x, 5000), (host, 5000))
    message = error(host, remote, 3, 3, got.raw)
    t.send(INSIDE, message)
    t.compare(message, t.take(OUTSIDE, "the host's error"), src=x, quoted={"dst": x})


@case("RFC 3022 2", "RFC 4787 REQ-14")
def one_to_one_fragments(t):
    """Fragments to and from such a host, in either order."""
    (x, host), remote = list(labs.WHOLE.items())[1], t.remote()
    t.outbound(udp(host, 5000, remote, 53), src=x, sport=5000)
    for order in ((0, 1), (1, 0)):
        for side, sent in ((INSIDE, udp(host, 5000, remote, 53, payload(200))),
                           (OUTSIDE, udp(remote, 53, x, 5000, payload(200)))):
            pieces = fragments(sent, 96)
            for i in order:
                t.send(side, pieces[i])
            seen = [t.take(OUTSIDE if side == INSIDE else INSIDE, f"{order} {side}") for _ in pieces]
            t.same({(s.src, s.dst) for s in seen},
                   {(x, remote) if side == INSIDE else (remote, host)}, "addresses")
            t.same(sorted(s.offset for s in seen), [0, 96], "offsets")


def redirected(t, host, port):
    """A query to the redirected destination; its external endpoint."""
    query = udp(host, port, *labs.REDIRECTED)
    to = labs.REDIRECT
    x = t.outbound(query, dst=to[0], dport=to[1]).source
    answer = udp(*to, *x)
    t.send(OUTSIDE, answer)
    t.compare(answer, t.take(INSIDE, "the answer"), src=labs.REDIRECTED[0],
              sport=labs.REDIRECTED[1], dst=host, dport=port)
    return x


@case("RFC 3022 2", "RFC 2663 4.3")
def redirect(t):
    """Source and destination are rewritten, answers come from where the host believes to have sent;
    an error quotes what the host sent."""
    host, port = t.host(), wire.port()
    for _ in range(2):
        redirected(t, host, port)
    to = labs.REDIRECT
    sent = t.outbound(udp(host, port, *labs.REDIRECTED), dst=to[0], dport=to[1])
    message = error(to[0], sent.src, 3, 3, sent.raw)
    t.send(OUTSIDE, message)
    got = t.take(INSIDE, "the error")
    t.compare(message, got, src=got.src, dst=host,
              quoted={"src": host, "sport": port, "dst": labs.REDIRECTED[0],
                      "dport": labs.REDIRECTED[1]})


@case("RFC 3022 2", "RFC 4787 REQ-14")
def redirect_fragments(t):
    """The same for datagrams in fragments, either way, in either order."""
    host, port = t.host(), wire.port()
    x = redirected(t, host, port)
    for order in ((0, 1), (1, 0)):
        sent = udp(host, port, *labs.REDIRECTED, payload(200))
        pieces = fragments(sent, 96)
        for i in order:
            t.send(INSIDE, pieces[i])
        for _ in pieces:
            got = t.take(OUTSIDE, f"fragments in order {order}")
            t.same((got.src, got.dst), (x[0], labs.REDIRECT[0]), "addresses")


def by_address(t, protocol, body):
    """A host's packets leave with one address of the pool, answers come back."""
    host, remote = t.host(), t.remote()
    packet = other(host, remote, protocol, body(host, remote))
    x = t.outbound(packet).src
    for _ in range(3):
        t.outbound(other(host, remote, protocol, body(host, remote)), src=x)
        answer = other(remote, x, protocol, body(remote, x))
        t.send(OUTSIDE, answer)
        t.compare(answer, t.take(INSIDE, "the answer"), dst=host)
    return host, remote, x


def opaque(*_):
    return b"\x20\0\x88\x0b" + payload(40)  # as GRE's header for PPTP may begin; ESP has no form


def pseudo(source, destination, protocol, body, covered):
    """The checksum at byte 6 of body, with the pseudo header of RFC 3828 and RFC 4340."""
    addresses = b"".join(bytes(map(int, a.split("."))) for a in (source, destination))
    value = csum(addresses + struct.pack("!BBH", 0, protocol, len(body)) + body[:covered])
    return body[:6] + struct.pack("!H", value) + body[8:]


def udplite(source, destination):
    body = struct.pack("!HHHH", 4000, 5000, 8, 0) + payload(40)
    return pseudo(source, destination, UDPLITE_NUMBER, body, 8)


def dccp(source, destination):
    body = struct.pack("!HHBBHBBHII", 4000, 5000, 5, 1, 0, 1, 0, 0, 7, 42) + payload(20)
    return pseudo(source, destination, DCCP_NUMBER, body, 20)


@case("RFC 3022 2", "RFC 2637", behaviour="protocols")
def gre(t):
    """GRE by address."""
    by_address(t, GRE, opaque)


@case("RFC 3022 2", "RFC 4303", behaviour="protocols")
def esp(t):
    """ESP by address."""
    by_address(t, ESP, opaque)


@case("RFC 9260", behaviour="protocols", on_nft="what opens no association leaves untranslated")
def sctp(t):
    """SCTP by address: its CRC32c covers no address and stays."""
    by_address(t, SCTP, lambda *_: struct.pack("!HHII", 4000, 5000, 7, 0x1234_5678) + payload(20))


@case("RFC 3828 3", behaviour="protocols", on_nft=LITE)
def udp_lite(t):
    """UDP-Lite by address: its checksum covers the pseudo header, whatever else it covers."""
    by_address(t, UDPLITE_NUMBER, udplite)


@case("RFC 4340 9", "RFC 5597", behaviour="protocols", on_nft="its checksum is left as it was")
def dccp_by_address(t):
    """DCCP by address: its checksum covers the pseudo header."""
    by_address(t, DCCP_NUMBER, dccp)


@case("RFC 4787 REQ-3", behaviour="protocols", on_nft=SEVERAL)
def one_host_an_address(t):
    """Each host has an external address of its own for a protocol; when all are taken the next one
    is refused, and nothing of it leaves."""
    found = set()
    for _ in range(len(wire.POOL)):
        try:
            found.add(t.outbound(other(t.host(), t.remote(), ESP, opaque())).src)
        except wire.Failure:
            break
    t.check(len(found) >= len(wire.POOL) - 1, f"addresses of {len(wire.POOL)} hosts: {found}")
    for _ in range(2):
        t.send(INSIDE, other(t.host(), t.remote(), ESP, opaque()))
        t.wire.settle()
        for side, seen in t.wire.forget():
            t.check(side == INSIDE and seen.kind == 3, f"one too many: {side}: {seen}")


@case("RFC 4787 REQ-8", behaviour="protocols", on_nft=LITE)
def other_protocols_filtered(t):
    """From an address that was not sent to, or to nobody: nothing."""
    _, _, x = by_address(t, UDPLITE_NUMBER, udplite)
    stranger = t.remote()
    t.refused(OUTSIDE, other(stranger, x, UDPLITE_NUMBER, udplite(stranger, x)))
    t.refused(OUTSIDE, other(stranger, x, 46, payload(20)))
