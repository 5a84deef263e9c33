# SPDX-License-Identifier: Apache-2.0
"""Mapping behaviour: RFC 4787 REQ-1 to 4, RFC 5382 REQ-1 and 7, RFC 5508 REQ-1, RFC 6888 REQ-2."""
import wire
from harness import case
from packets import echo, tcp, udp
from wire import POOL

MANY = 6  # with four addresses in the pool at least two of six hosts share one


def crossing(t, packet):
    """Hosts with the same source port, each to a destination of its own, then to all the others':
    the external endpoints of each, in that order."""
    hosts, remotes = [t.host() for _ in range(MANY)], [t.remote() for _ in range(MANY)]
    port = wire.port()
    found = {host: [t.outbound(packet(host, port, remote)).source]
             for host, remote in zip(hosts, remotes)}
    for host in hosts:
        found[host] += [t.outbound(packet(host, port, remote)).source for remote in remotes]
    return found


def syn(host, port, remote):
    return tcp(host, port, remote, 443)


def datagram(host, port, remote):
    return udp(host, port, remote, 5000)


@case("RFC 4787 REQ-1")
def udp_three_destinations(t):
    """X:x to Y1:y1, Y1:y2 and Y2:y3 leaves from one external endpoint."""
    host, port, y1, y2 = t.host(), wire.port(), t.remote(), t.remote()
    x = t.udp_open(host, port, y1, 7001)
    for remote, dport in ((y1, 7002), (y2, 7003), (y2, 53)):
        t.same(t.udp_open(host, port, remote, dport), x, f"endpoint towards {remote}:{dport}")


@case("RFC 5382 REQ-1")
def tcp_three_destinations(t):
    """TCP connections of one source port leave from one external endpoint, to three peers."""
    host, port, y1, y2 = t.host(), wire.port(), t.remote(), t.remote()
    x = t.tcp_open(host, port, y1, 80)
    for remote, dport in ((y1, 81), (y2, 82)):
        t.same(t.tcp_open(host, port, remote, dport), x, f"endpoint towards {remote}:{dport}")


@case("RFC 4787 REQ-1", on_nft="the port is another host's towards the second destination: it "
      "takes another one there")
def udp_collision_independent(t):
    """Hosts with one source port to crossing destinations keep their external endpoint."""
    found = crossing(t, datagram)
    for host, endpoints in found.items():
        t.same(set(endpoints), {endpoints[0]}, f"external endpoints of {host}")


@case("RFC 5382 REQ-1", on_nft="as for UDP")
def tcp_collision_independent(t):
    """TCP connections with one source port to crossing destinations keep their endpoint."""
    found = crossing(t, syn)
    for host, endpoints in found.items():
        t.same(set(endpoints), {endpoints[0]}, f"external endpoints of {host}")


@case("RFC 4787 REQ-3", on_nft="one external endpoint for several hosts as long as their "
      "destinations differ")
def udp_no_overloading(t):
    """Hosts with one source port to different destinations have different external endpoints."""
    found = crossing(t, datagram)
    first = [endpoints[0] for endpoints in found.values()]
    t.same(len(set(first)), MANY, f"external endpoints of {MANY} hosts, {first}")


@case("RFC 5382 REQ-7", on_nft="as for UDP")
def tcp_no_overloading(t):
    """Hosts with one TCP port to different destinations have different external endpoints."""
    found = crossing(t, syn)
    first = [endpoints[0] for endpoints in found.values()]
    t.same(len(set(first)), MANY, f"external endpoints of {MANY} hosts, {first}")


@case("RFC 4787 REQ-4", on_nft="under collision the new port is random, of either parity")
def parity_under_collision(t):
    """Even ports stay even, odd ones odd, also when many hosts have the same."""
    remote = t.remote()
    for parity in (0, 1):
        port = wire.port(parity)
        for _ in range(30):
            x = t.udp_open(t.host(), port, remote, 5000)
            t.same(x[1] % 2, parity, f"parity of external port {x[1]} for {port}")


@case("RFC 4787 REQ-3a")
def ports_stay_above_1023(t):
    """Source ports of 1024 and more leave as 1024 and more."""
    remote = t.remote()
    for port in (1024, 1025, 32768, 65534, 65535):
        for _ in range(4):
            x = t.udp_open(t.host(), port, remote, 5000)
            t.check(x[1] >= 1024, f"{port} left as {x[1]}")


@case("RFC 4787 REQ-2", "RFC 6888 REQ-2", "RFC 7857 4")
def paired_pooling(t):
    """Each host keeps one external address, for UDP, TCP and ICMP; all of the pool is used."""
    used = set()
    for _ in range(24):
        host, addresses = t.host(), set()
        for packet in (udp(host, wire.port(), t.remote(), 53),
                       udp(host, wire.port(), t.remote(), 9),
                       tcp(host, wire.port(), t.remote(), 80), echo(host, t.remote(), 7)):
            addresses.add(t.outbound(packet).src)
        t.same(len(addresses), 1, f"external addresses of {host}")
        used |= addresses
    t.check(used <= set(POOL) and len(used) > 1, f"{used} of the pool used by 24 hosts")


@case("RFC 5508 REQ-1", "RFC 5508 REQ-1a")
def icmp_identifier_independent(t):
    """An echo identifier leaves as the same one towards two hosts, replies get it back."""
    host, y1, y2 = t.host(), t.remote(), t.remote()
    first, second = t.outbound(echo(host, y1, 4242)), t.outbound(echo(host, y2, 4242, seq=2))
    t.same(second.source, first.source, "external address and identifier towards the second host")
    for remote in (y1, y2):
        t.inbound(echo(remote, first.src, first.ident, reply=True), (host, 4242))


@case("RFC 5508 REQ-1a", "RFC 4787 REQ-3", on_nft="one identifier for several hosts as long as "
      "their destinations differ")
def icmp_no_overloading(t):
    """Hosts with one echo identifier to different destinations leave with different ones."""
    found = [t.outbound(echo(t.host(), t.remote(), 77)).source for _ in range(MANY)]
    t.same(len(set(found)), MANY, f"external identifiers of {MANY} hosts, {found}")


@case("RFC 7857 5", "RFC 7857 6")
def protocols_are_separate(t):
    """A UDP mapping lets no SYN in; TCP from the same port has a mapping of its own."""
    host, remote, port = t.host(), t.remote(), wire.port()
    x = t.udp_open(host, port, remote, 5000)
    t.refused("outside", tcp(remote, 5000, *x, "S"), "a SYN to the UDP mapping")
    y = t.tcp_open(host, port, remote, 80)
    t.udp_in(remote, 5000, x, (host, port))
    t.inbound(tcp(remote, 80, *y, "PA", b"data", seq=5001, ack=1001), (host, port))


@case("RFC 4787 REQ-1", "RFC 5382 REQ-1")
def replies_find_their_host(t):
    """Thirty hosts with one source port and one destination: every answer reaches its own host."""
    remote, port = t.remote(), wire.port()
    hosts = {t.host(): None for _ in range(30)}
    for host in hosts:
        hosts[host] = t.udp_open(host, port, remote, 5000)
    t.same(len(set(hosts.values())), len(hosts), "external endpoints")
    for host, x in hosts.items():
        t.udp_in(remote, 5000, x, (host, port))


@case("RFC 6056", "RFC 6888 REQ-15", on_nft="the port is kept: whoever knows one knows the other")
def ports_are_not_predictable(t):
    """Consecutive source ports of a host leave as ports without a pattern."""
    host, remote = t.host(), t.remote()
    ports = [t.udp_open(host, 30000 + i, remote, 5000)[1] for i in range(40)]
    steps = {b - a for a, b in zip(ports, ports[1:])}
    t.check(len(steps) > 20, f"40 ports have only {len(steps)} different distances: {ports}")


@case("RFC 3022", "RFC 4787 REQ-1")
def header_fields_survive(t):
    """TOS, DF and its absence, UDP checksum 0 and odd lengths survive; TTL goes down by one."""
    host, remote = t.host(), t.remote()
    for ip in ({"tos": 0xb9, "flags": "DF"}, {"tos": 3}, {"ttl": 2}, {"ttl": 255},
               {"flags": "DF", "id": 0}, {"checksum": 0}):
        for size in (0, 1, 7, 1400):
            data = bytes(range(256)) * 6
            packet = udp(host, 6000, remote, 6001, data[:size], **ip)
            x = t.outbound(packet, text=f"{ip}, {size}").source
            t.inbound(udp(remote, 6001, *x, data[:size], **ip), (host, 6000), text=f"{ip}, {size}")


@case("RFC 3022 4.1", on_nft="what has a wrong checksum leaves untranslated")
def corruption_is_not_laundered(t):
    """A wrong transport checksum stays exactly as wrong, so that the receiver finds out."""
    host, remote = t.host(), t.remote()
    x = t.udp_open(host, 6000, remote, 6001)
    t.outbound(udp(host, 6000, remote, 6001, checksum=0x1234), src=x[0], sport=x[1])
    t.udp_open(host, 6000, remote, 6001)
    t.inbound(udp(remote, 6001, *x, checksum=0xbeef), (host, 6000))
    t.outbound(tcp(host, 6000, remote, 80, checksum=0x4321))
