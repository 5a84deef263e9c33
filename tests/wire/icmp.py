# SPDX-License-Identifier: Apache-2.0
"""ICMP: RFC 5508 REQ-1 to 6, 10 and 11, RFC 4787 REQ-12, RFC 5382 REQ-9 and 10. Errors are quoted
from what the tester saw outside (or inside), by a router that nobody has ever sent to."""
import struct

import wire
from harness import case
from packets import Seen, csum, echo, error, payload, tcp, udp, with_ip_checksum
from wire import INSIDE, OUTSIDE

UNREACHABLE = [(3, code) for code in (0, 1, 2, 3, 4, 5, 9, 10, 13)]
KINDS = UNREACHABLE + [(11, 0), (11, 1), (12, 0)]
STRAY = "an error that belongs to nothing leaves untranslated"
INVALID = "what is wrong is \"invalid\" to conntrack, and what is invalid leaves untranslated"


class Flow:
    """A flow that the host has opened: sent, as it left, and how the next packets of it look."""

    def __init__(self, t, kind, **ip):
        self.t, self.kind, self.host, self.remote = t, kind, t.host(), t.remote()
        self.port, self.dport, self.ip = wire.port(), 7000, ip
        self.sent = self.packet()
        self.left = t.outbound(self.sent)
        self.x = self.left.source
        self.names = {"ident": self.port} if kind == "icmp" else {"sport": self.port}

    def packet(self):
        if self.kind == "icmp":
            return echo(self.host, self.remote, self.port, **self.ip)
        if self.kind == "tcp":
            return tcp(self.host, self.port, self.remote, self.dport, "S", seq=1000, **self.ip)
        return udp(self.host, self.port, self.remote, self.dport, payload(200), **self.ip)

    def reply(self):
        if self.kind == "icmp":
            return echo(self.remote, *self.x, reply=True)
        if self.kind == "tcp":
            return tcp(self.remote, self.dport, *self.x, "SA", seq=5000, ack=1001)
        return udp(self.remote, self.dport, *self.x)

    def error_in(self, message, text=""):
        """From outside, and the host must get it with its own packet in it."""
        self.t.send(OUTSIDE, message)
        got = self.t.take(INSIDE, f"{text}: {Seen(message)}")
        self.t.compare(message, got, text, dst=self.host, quoted={"src": self.host, **self.names})
        return got

    def alive(self, text="data after it"):
        self.t.inbound(self.reply(), (self.host, self.port), text=text)


@case("RFC 5508 REQ-1")
def queries(t):
    """Echo and timestamp requests leave; their replies come back with the host's identifier."""
    host, remote = t.host(), t.remote()
    for seq in range(4):
        x = t.outbound(echo(host, remote, 11, seq=seq)).source
        t.inbound(echo(remote, *x, reply=True, seq=seq), (host, 11))

    def timestamp(source, destination, kind, ident):
        message = struct.pack("!BBHHHIII", kind, 0, 0, ident, 1, 1, 2, 3)
        message = message[:2] + struct.pack("!H", csum(message)) + message[4:]
        return with_ip_checksum(echo(source, destination, 0, b"")[:20][:2] + struct.pack("!H", 40)
                                + echo(source, destination, 0, b"")[4:20] + message)
    x = t.outbound(timestamp(host, remote, 13, 12)).source
    t.inbound(timestamp(remote, x[0], 14, x[1]), (host, 12))


def errors_inbound(t, kind):
    flow, router = Flow(t, kind), t.remote()
    for number, code in KINDS:
        word = 1400 if (number, code) == (3, 4) else 0
        for quote in (flow.left.raw, flow.left.raw[:28]):
            for source in (router, flow.remote):
                who = "a router" if source == router else "the peer"
                flow.error_in(error(source, flow.x[0], number, code, quote, word),
                              f"{number}/{code} from {who}")
    flow.alive()


@case("RFC 5508 REQ-4", "RFC 4787 REQ-12", "RFC 4787 REQ-12a", "RFC 4787 REQ-12b",
      "RFC 5508 REQ-10")
def inbound_about_udp(t):
    """Every error about a datagram, from a router and from the peer, whole and with 8 bytes quoted,
    reaches the host with its own datagram inside; data passes after all of them."""
    errors_inbound(t, "udp")


@case("RFC 5508 REQ-4", "RFC 5382 REQ-9", "RFC 5382 REQ-10")
def inbound_about_tcp(t):
    """The same for TCP: no error ends a connection attempt in the NAT."""
    errors_inbound(t, "tcp")


@case("RFC 5508 REQ-4", "RFC 5508 REQ-6")
def inbound_about_query(t):
    """The same for echo requests; the reply passes afterwards."""
    errors_inbound(t, "icmp")


def errors_outbound(t, kind, **ip):
    flow = Flow(t, kind)
    reply = flow.reply()
    t.send(OUTSIDE, reply)
    got = t.take(INSIDE)
    router = t.host()
    names = {"ident": flow.x[1]} if kind == "icmp" else {"dport": flow.x[1]}
    for number, code in KINDS:
        for source in (flow.host, router):
            for quote in (got.raw, got.raw[:28]):
                message = error(source, flow.remote, number, code, quote, **ip)
                t.send(INSIDE, message)
                out = t.take(OUTSIDE, f"{number}/{code} of {source}")
                t.compare(message, out, src=flow.x[0], quoted={"dst": flow.x[0], **names})
    flow.alive()


@case("RFC 5508 REQ-5")
def outbound_about_udp(t):
    """An inside host's errors about what it got, and an inside router's, leave with the public
    address and quote the public endpoint."""
    errors_outbound(t, "udp")


@case("RFC 5508 REQ-5")
def outbound_about_tcp(t):
    """The same about a TCP segment."""
    errors_outbound(t, "tcp")


@case("RFC 5508 REQ-5")
def outbound_about_reply(t):
    """The same about an echo reply."""
    errors_outbound(t, "icmp")


@case("RFC 5508 REQ-3b")
def options_inside(t):
    """The quoted packet has IP options: its ports are found behind them."""
    options = bytes([7, 7, 4, 0, 0, 0, 0, 0])  # record route, then end of options
    flow = Flow(t, "udp")
    quote = bytes([0x47]) + flow.left.raw[1:20] + options + flow.left.raw[20:]
    quote = with_ip_checksum(quote[:2] + struct.pack("!H", len(quote)) + quote[4:])
    for cut in (len(quote), 36):
        flow.error_in(error(t.remote(), flow.x[0], 11, 0, quote[:cut]))
    flow.alive()


@case("RFC 5508 REQ-3d")
def rfc4884_extensions(t):
    """128 bytes of the original and an extension object behind: only the quoted headers change."""
    for kind in ("udp", "tcp", "icmp"):
        flow = Flow(t, kind)
        original = (flow.left.raw + bytes(128))[:128]
        objects = struct.pack("!HBBI", 8, 1, 1, 0x0001_2141)  # an MPLS label stack
        extension = b"\x20\0\0\0" + objects
        extension = extension[:2] + struct.pack("!H", csum(extension)) + extension[4:]
        for number, code in ((11, 0), (3, 1)):
            flow.error_in(error(t.remote(), flow.x[0], number, code, original + extension,
                                word=(128 // 4) << 16), kind)


@case("RFC 5508 REQ-3c")
def embedded_transport_checksum_unchecked(t):
    """A wrong checksum in the quoted transport header is nobody's business."""
    flow = Flow(t, "udp")
    raw = flow.left.raw
    broken = raw[:26] + bytes([raw[26] ^ 0x55]) + raw[27:]
    flow.error_in(error(t.remote(), flow.x[0], 3, 3, broken))
    flow.alive()


@case("RFC 5508 REQ-3", "RFC 5508 REQ-3a", on_nft="an embedded header with a wrong checksum is "
      "translated and delivered")
def bad_checksums_inbound(t):
    """A wrong ICMP checksum, a wrong checksum of the embedded IP header: dropped."""
    flow = Flow(t, "udp")
    raw = flow.left.raw
    t.refused(OUTSIDE, error(t.remote(), flow.x[0], 3, 3, raw, checksum=0x1234),
              "wrong ICMP checksum")
    header = raw[:10] + bytes([raw[10] ^ 1]) + raw[11:]
    t.refused(OUTSIDE, error(t.remote(), flow.x[0], 3, 3, header), "wrong embedded header checksum")
    flow.alive()


@case("RFC 5508 REQ-3", "RFC 3022 5", on_nft=INVALID)
def bad_checksums_outbound(t):
    """The same from inside: dropped, and the inside source is not seen."""
    flow = Flow(t, "udp")
    t.send(OUTSIDE, flow.reply())
    got = t.take(INSIDE)
    t.refused(INSIDE, error(flow.host, flow.remote, 3, 3, got.raw, checksum=0x1234),
              "wrong ICMP checksum")
    header = got.raw[:10] + bytes([got.raw[10] ^ 1]) + got.raw[11:]
    t.refused(INSIDE, error(flow.host, flow.remote, 3, 3, header), "wrong embedded header checksum")


@case("RFC 5508 REQ-4")
def unknown_inbound(t):
    """Errors about flows that do not exist, or about later fragments: silence."""
    flow = Flow(t, "udp")
    for quote in (udp(*flow.x, t.remote(), 7000), udp(flow.x[0], 1030, flow.remote, 7000),
                  tcp(flow.x[0], flow.x[1], flow.remote, 7000)):
        t.refused(OUTSIDE, error(t.remote(), flow.x[0], 3, 3, quote))
    flow.alive()


@case("RFC 5508 REQ-5", on_nft=STRAY)
def unknown_outbound(t):
    """Errors from inside about flows that do not exist: silence."""
    flow = Flow(t, "udp")
    for quote in (udp(t.remote(), 7000, flow.host, flow.port),
                  udp(flow.remote, 7000, t.host(), 99)):
        t.refused(INSIDE, error(flow.host, flow.remote, 3, 3, quote))


@case("RFC 1122 3.2.2", on_nft=INVALID)
def error_about_error(t):
    """An error that quotes an error: silence, in both directions."""
    flow = Flow(t, "udp")
    inner = error(flow.x[0], flow.remote, 3, 3, flow.left.raw)
    t.refused(OUTSIDE, error(t.remote(), flow.x[0], 3, 3, inner))
    inner = error(flow.remote, flow.host, 3, 3, flow.sent)
    t.refused(INSIDE, error(flow.host, flow.remote, 3, 3, inner))


@case("RFC 5508 REQ-11", "RFC 5508 REQ-10", on_nft=INVALID)
def other_types(t):
    """Redirect, router advertisement, address mask, unknown types: dropped, both ways."""
    host, remote = t.host(), t.remote()
    x = t.outbound(echo(host, remote, 44)).source
    for kind in (5, 9, 10, 17, 18, 30, 40, 255):
        body = payload(32)
        t.send(INSIDE, error(host, remote, kind, 0, body))
        t.send(OUTSIDE, error(remote, x[0], kind, 0, body))
    t.quiet()


@case("RFC 5508 REQ-4", "RFC 4787 REQ-12")
def error_creates_nothing(t):
    """An error about an open mapping with an unknown peer opens nothing for that peer."""
    flow, stranger = Flow(t, "udp"), t.remote()
    t.refused(OUTSIDE, error(stranger, flow.x[0], 3, 3, udp(*flow.x, stranger, 7000)))
    t.refused(OUTSIDE, udp(stranger, 7000, *flow.x), "the stranger's datagram after its error")


@case("RFC 792", "RFC 5508 REQ-4")
def quote_too_short(t):
    """Less than a header and 8 bytes quoted: silence."""
    flow = Flow(t, "udp")
    for size in (0, 8, 19, 20, 27):
        message = error(t.remote(), flow.x[0], 3, 3, flow.left.raw[:size])
        t.refused(OUTSIDE, message, f"{size} bytes")
    flow.alive()
