# SPDX-License-Identifier: Apache-2.0
"""TCP: RFC 5382 REQ-2, 4 and 10, RFC 7857 2. In two forms each direction has a dataplane of its
own, so none sees a whole handshake."""
import wire
from harness import case
from packets import error, payload, tcp, udp
from wire import INSIDE, OUTSIDE

WINDOW = "conntrack knows windows: what lies outside is not translated, and leaves as it is"



class Connection:
    """Both ends of a connection, each with its sequence numbers, begun from inside or outside."""

    def __init__(self, t, static=False):
        self.t, self.peer, self.dport = t, t.remote(), 443
        self.seq, self.acked = {INSIDE: 1000, OUTSIDE: 50000}, {INSIDE: 0, OUTSIDE: 0}
        if static:
            self.x, (self.host, self.port) = t.lab.forward()
        else:
            self.host, self.port, self.x = t.host(), wire.port(), None

    def go(self, side, flags, data=b"", **more):
        """One segment, checked; advances the sender's sequence."""
        other = OUTSIDE if side == INSIDE else INSIDE
        seq = more.pop("seq", self.seq[side])
        ack = self.seq[other] if "A" in flags else 0
        if side == INSIDE:
            packet = tcp(self.host, self.port, self.peer, self.dport, flags, data, seq, ack, **more)
            known = {"src": self.x[0], "sport": self.x[1]} if self.x else {}
            got = self.t.outbound(packet, text=f"{flags} out", **known)
            self.x = got.source
        else:
            packet = tcp(self.peer, self.dport, *self.x, flags, data, seq, ack, **more)
            got = self.t.inbound(packet, (self.host, self.port), text=f"{flags} in")
        self.seq[side] = seq + len(data) + ("S" in flags) + ("F" in flags)
        return got

    def handshake(self, side=INSIDE):
        other = OUTSIDE if side == INSIDE else INSIDE
        self.go(side, "S")
        self.go(other, "SA")
        self.go(side, "A")
        return self

    def talk(self, times=1):
        for _ in range(times):
            self.go(INSIDE, "PA", payload(100))
            self.go(OUTSIDE, "PA", payload(200))
        self.go(INSIDE, "A")

    def close(self, side=INSIDE):
        other = OUTSIDE if side == INSIDE else INSIDE
        self.go(side, "FA")
        self.go(other, "A")
        self.go(other, "FA")
        self.go(side, "A")


@case("RFC 5382 REQ-2")
def from_inside(t):
    """Handshake, data both ways, close from either end."""
    for side in (INSIDE, OUTSIDE):
        c = Connection(t).handshake()
        c.talk(5)
        c.close(side)


@case("RFC 5382 REQ-2")
def from_outside(t):
    """The same begun from outside, to a port forward."""
    for side in (INSIDE, OUTSIDE):
        c = Connection(t, static=True).handshake(OUTSIDE)
        c.talk(5)
        c.close(side)


@case("RFC 5382 REQ-2a")
def simultaneous_open(t):
    """Both SYNs cross: SYN out, SYN in, SYN-ACK both ways, then data."""
    c = Connection(t)
    c.go(INSIDE, "S")
    c.go(OUTSIDE, "S")
    c.go(INSIDE, "SA", seq=c.seq[INSIDE] - 1)
    c.go(OUTSIDE, "SA", seq=c.seq[OUTSIDE] - 1)
    c.go(INSIDE, "A")
    c.talk(2)
    c.close()


@case("RFC 5382 REQ-2a", "RFC 5382 REQ-4")
def simultaneous_open_peer_first(t):
    """The peer's SYN comes first: refused in silence; after ours its retransmission passes."""
    c, known = Connection(t), t.remote()
    c.x = t.tcp_open(c.host, c.port, known, 80)  # so that there is an external endpoint
    syn = tcp(c.peer, c.dport, *c.x, "S", seq=50000)
    for _ in range(3):
        t.refused(OUTSIDE, syn, "the peer's SYN")
    c.go(INSIDE, "S")
    c.go(OUTSIDE, "S")
    c.go(INSIDE, "SA", seq=1000)
    c.go(OUTSIDE, "A")
    c.talk()


@case("RFC 5382 REQ-2")
def half_close(t):
    """After one end's FIN the other one goes on sending, and is acknowledged."""
    for side, other in ((INSIDE, OUTSIDE), (OUTSIDE, INSIDE)):
        c = Connection(t).handshake()
        c.go(side, "FA")
        for _ in range(5):
            c.go(other, "PA", payload(300))
            c.go(side, "A")
        c.go(other, "FA")
        c.go(side, "A")


@case("RFC 5382 REQ-2")
def retransmissions(t):
    """SYN, SYN-ACK, data and FIN sent again pass again, from the same endpoint."""
    c = Connection(t)
    for _ in range(3):
        c.go(INSIDE, "S", seq=1000)
    for _ in range(3):
        c.go(OUTSIDE, "SA", seq=50000)
    c.go(INSIDE, "A")
    data = payload(64)
    for _ in range(2):
        c.go(INSIDE, "PA", data, seq=1001)
        c.go(OUTSIDE, "A")
    for _ in range(3):
        c.go(OUTSIDE, "FA", seq=50001)
        c.go(INSIDE, "A")
    c.go(INSIDE, "FA")


@case("RFC 7857 2.2", "RFC 5382 REQ-10")
def data_after_reset(t):
    """A RST passes, from either end; data that comes all the same passes, too."""
    for side, other in ((OUTSIDE, INSIDE), (INSIDE, OUTSIDE)):
        c = Connection(t).handshake()
        c.talk()
        c.go(side, "R")
        c.go(other, "PA", payload(32))
        c.go(side, "PA", payload(32))


@case("RFC 5382 REQ-10")
def data_after_errors(t):
    """ICMP errors about an established connection end nothing."""
    c = Connection(t).handshake()
    sent = c.go(INSIDE, "PA", payload(50))
    for number, code in ((3, 0), (3, 1), (3, 2), (3, 3), (3, 9), (3, 13), (11, 0)):
        message = error(t.remote(), c.x[0], number, code, sent.raw)
        t.send(OUTSIDE, message)
        t.compare(message, t.take(INSIDE), dst=c.host, quoted={"src": c.host, "sport": c.port})
    c.talk(2)


@case("RFC 5382 REQ-4", "RFC 5382 REQ-4a")
def unsolicited_syn(t):
    """No answer of any kind within 6 s to a SYN that nobody asked for: to a mapping, to a port
    without one, to an address without a host."""
    host, watched = t.host(), t.remote()
    x = t.tcp_open(host, 5000, t.remote(), 80)
    answers = t.watch(watched)
    for address, port in (x, (x[0], 1031), (wire.POOL[3], 80)):
        t.send(OUTSIDE, tcp(watched, 999, address, port, "S"))
    t.quiet("a SYN that nobody asked for")
    t.at_end(6.5, lambda: t.same([str(p) for p in answers], [], "answers in 6 s"))


@case("RFC 5382 REQ-4")
def syn_inside_six_seconds(t):
    """While the peer's refused SYN is young, ours goes out; no error for the peer's ever does."""
    c = Connection(t)
    c.x = t.tcp_open(c.host, c.port, t.remote(), 80)
    t.refused(OUTSIDE, tcp(c.peer, c.dport, *c.x, "S"))
    c.handshake()
    c.talk()


@case("RFC 3022 5", "RFC 7857 2", on_nft="a segment without a connection opens one, or leaves as "
      "it is when it cannot")
def out_of_state_from_inside(t):
    """Segments without a session that are no SYN: dropped, nothing outside."""
    for flags in ("A", "PA", "FA", "F", "R", "RA", "SA", "", "FPU", "SF", "SR"):
        data = b"data" if "P" in flags else b""
        t.refused(INSIDE, tcp(t.host(), wire.port(), t.remote(), 80, flags, data, ack=1),
                  f"'{flags}' without a session")


@case("RFC 5382 REQ-3")
def out_of_state_from_outside(t):
    """To a mapping or a port forward, from where there is no session: only a SYN opens one."""
    known, peer = t.host(), t.remote()
    x = t.tcp_open(known, 5001, peer, 80)
    for flags in ("A", "PA", "FA", "R", "SA", ""):
        t.refused(OUTSIDE, tcp(peer, 81, *x, flags, ack=1), f"'{flags}' to a mapping")


@case("RFC 5382 REQ-2", "RFC 7857 2.2")
def port_reuse(t):
    """After the close the same ports connect again, from the same external endpoint."""
    c = Connection(t).handshake()
    x = c.x
    for i in range(3):
        c.talk()
        c.close(INSIDE if i % 2 else OUTSIDE)
        c.seq = {INSIDE: 10_000_000 * (i + 1), OUTSIDE: 20_000_000 * (i + 1)}
        c.handshake()
        t.same(c.x, x, "external endpoint of the next connection")


@case("RFC 5382 REQ-2", "RFC 3168")
def header_survives(t):
    """MSS, window scale, SACK, timestamps, unknown options, ECN bits, urgent data survive."""
    c = Connection(t)
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    c.go(INSIDE, "SEC", options=options, tos=2)
    c.go(OUTSIDE, "SAE", options=options)
    c.go(INSIDE, "A", options=[("NOP", None), ("NOP", None), ("Timestamp", (2, 1))])
    c.go(OUTSIDE, "PAU", b"urgent", options=[(253, b"\x12\x34abcd")])
    c.go(INSIDE, "A", options=[("NOP", None), ("NOP", None), ("SAck", (50001, 50003))])
    c.go(INSIDE, "PAEC", payload(1000), tos=1)


@case("RFC 5382 REQ-2", on_nft=WINDOW)
def wild_sequence_numbers(t):
    """The NAT does not judge windows: segments far away pass in both directions."""
    c = Connection(t).handshake()
    for side in (INSIDE, OUTSIDE):
        for seq in (3_000_000_000, 1_000_000_000):
            c.go(side, "PA", payload(10), seq=seq)


@case("RFC 5382 REQ-1", "RFC 7857 5")
def many_connections_of_a_port(t):
    """One source port to twenty servers at once: one external endpoint, nothing mixed up."""
    host, port = t.host(), wire.port()
    peers = [t.remote() for _ in range(20)]
    found = {t.tcp_open(host, port, peer, 80) for peer in peers}
    t.same(len(found), 1, f"external endpoints, {found}")
    x = found.pop()
    for i, peer in enumerate(peers):
        t.inbound(tcp(peer, 80, *x, "PA", b"%d" % i, seq=5001, ack=1001), (host, port))
    t.udp_open(host, port, peers[0], 80)
    t.refused(OUTSIDE, udp(t.remote(), 80, *x))
