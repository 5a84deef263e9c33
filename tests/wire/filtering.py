# SPDX-License-Identifier: Apache-2.0
"""Filtering behaviour: RFC 4787 REQ-8 and 11, RFC 5382 REQ-3, RFC 6888 REQ-7; per pool, and for TCP
and UDP each by itself. A refused packet leaves nothing behind."""
import wire
from harness import case
from packets import echo, tcp, udp
from wire import INSIDE, OUTSIDE

ONE_BEHAVIOUR = "conntrack filters by address and port, always"


class Probe:
    """A host with a mapping towards y, and who knocks at it: y's other port, another host."""

    def __init__(self, t, protocol):
        self.t, self.protocol = t, protocol
        self.host, self.port, self.y, self.stranger = t.host(), wire.port(), t.remote(), t.remote()
        if protocol == "udp":
            self.x = t.udp_open(self.host, self.port, self.y, 7000)
        else:
            self.x = t.tcp_open(self.host, self.port, self.y, 7000)

    def knock(self, remote, port):
        if self.protocol == "udp":
            return udp(remote, port, *self.x)
        return tcp(remote, port, *self.x, "S")

    def passes(self, remote, port, text):
        self.t.inbound(self.knock(remote, port), (self.host, self.port), text=text)

    def refuses(self, remote, port, text):
        self.t.refused(OUTSIDE, self.knock(remote, port), text)

    def expect(self, other_port, other_host):
        for passes, remote, port, text in ((other_port, self.y, 7001, "another port of the peer"),
                                           (other_host, self.stranger, 7000, "another host")):
            (self.passes if passes else self.refuses)(remote, port, text)
        if self.protocol == "udp":
            self.passes(self.y, 7000, "the peer itself")


@case("RFC 4787 REQ-8", "RFC 6888 REQ-7", behaviour="eif", on_nft=ONE_BEHAVIOUR)
def udp_endpoint_independent(t):
    """EIF: anybody may send to a mapping."""
    Probe(t, "udp").expect(True, True)


@case("RFC 5382 REQ-3", "RFC 6888 REQ-7", behaviour="eif", on_nft=ONE_BEHAVIOUR)
def tcp_endpoint_independent(t):
    """EIF for TCP: anybody's SYN reaches a mapping."""
    Probe(t, "tcp").expect(True, True)


@case("RFC 4787 REQ-8", on_nft=ONE_BEHAVIOUR)
def udp_address_dependent(t):
    """ADF: any port of a host that was sent to, no other host."""
    Probe(t, "udp").expect(True, False)


@case("RFC 5382 REQ-3", on_nft=ONE_BEHAVIOUR)
def tcp_address_dependent(t):
    """ADF for TCP: a SYN from any port of a host that was contacted, from no other."""
    Probe(t, "tcp").expect(True, False)


@case("RFC 4787 REQ-8", behaviour="apdf")
def udp_address_and_port_dependent(t):
    """APDF: only the endpoint that was sent to."""
    Probe(t, "udp").expect(False, False)


@case("RFC 5382 REQ-3", behaviour="apdf")
def tcp_address_and_port_dependent(t):
    """APDF for TCP."""
    Probe(t, "tcp").expect(False, False)


@case("RFC 4787 REQ-8", "RFC 5382 REQ-3b", behaviour="split", on_nft=ONE_BEHAVIOUR)
def protocols_apart(t):
    """One pool filters UDP endpoint-independent and TCP address-and-port-dependent."""
    Probe(t, "udp").expect(True, True)
    Probe(t, "tcp").expect(False, False)


@case("RFC 4787 REQ-8")
def refused_inbound_poisons_nothing(t):
    """Hole punching: refused at first, let in as soon as the host has sent there; same mapping."""
    p = Probe(t, "udp")
    for _ in range(3):
        p.refuses(p.stranger, 7000, "before the host has sent there")
    t.same(t.udp_open(p.host, p.port, p.stranger, 7000), p.x, "external endpoint towards it")
    for _ in range(3):
        p.passes(p.stranger, 7000, "after it has")


@case("RFC 4787 REQ-8", "RFC 5382 REQ-2a")
def refused_syn_poisons_nothing(t):
    """The same for TCP: a refused SYN, then one from inside to the same endpoint, its answer."""
    p = Probe(t, "tcp")
    p.refuses(p.stranger, 7000, "a SYN from a stranger")
    t.same(t.tcp_open(p.host, p.port, p.stranger, 7000), p.x, "external endpoint towards it")


@case("RFC 4787 REQ-8")
def nothing_there_poisons_nothing(t):
    """Packets to an endpoint without a mapping leave nothing behind for who gets it later."""
    remote = t.remote()
    for port in range(2000, 2040):
        t.send(OUTSIDE, udp(remote, 7000, wire.POOL[2], port))
    t.quiet("datagrams to endpoints without a mapping")
    for _ in range(10):
        host, port = t.host(), wire.port()
        x = t.udp_open(host, port, remote, 7000)
        t.udp_in(remote, 7000, x, (host, port))


@case("RFC 4787 REQ-11", on_nft="mapping behaviour changes under collision (REQ-1)")
def deterministic_under_load(t):
    """The classes are the same before, amid and after load with collisions."""
    def classes():
        p = Probe(t, "udp")
        p.expect(True, False)
        t.same(t.udp_open(p.host, p.port, p.stranger, 1), p.x, "external endpoint")
    classes()
    port, remotes = wire.port(), [t.remote() for _ in range(4)]
    hosts = [t.host() for _ in range(20)]
    for _ in range(2):
        for host in hosts:
            for remote in remotes:
                t.udp_open(host, port, remote, 7000)
        classes()


@case("RFC 4787 REQ-8", "RFC 5508 REQ-1")
def icmp_query_filtered(t):
    """An echo reply from a host that was not asked reaches nobody, nor a request from one."""
    host, y, stranger = t.host(), t.remote(), t.remote()
    x = t.outbound(echo(host, y, 900)).source
    t.refused(OUTSIDE, echo(stranger, *x, reply=True), "a reply of a host that was not asked")
    t.inbound(echo(y, *x, reply=True), (host, 900))


@case("RFC 4787 REQ-8", on_nft=ONE_BEHAVIOUR)
def static_forward_open(t):
    """A port forward lets anybody in, and its host's own traffic leaves from the same endpoint."""
    external, internal = t.lab.forward()
    for _ in range(2):
        remote = t.remote()
        t.udp_in(remote, 5555, external, internal)
        t.outbound(udp(*internal, remote, 5555), src=external[0], sport=external[1], text="reply")
    t.same(t.udp_open(*internal, t.remote(), 1234), external, "a flow that the host opens itself")


@case("RFC 4787 REQ-7", "RFC 3022 5")
def own_source_from_outside(t):
    """A packet from outside with a source of the pool or of the inside is nobody's."""
    p = Probe(t, "udp")
    for source in (wire.POOL[0], p.x[0]):
        p.refuses(source, 7000, f"source {source} from outside")
    t.send(INSIDE, udp(p.host, p.port, p.y, 7000))
    t.take(OUTSIDE)
