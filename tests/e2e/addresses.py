#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Translation by address through two dataplanes: other protocols, and static 1:1."""
import socket
import struct
import time

import e2e
from conatlab import SERVER, SERVER2, total
from e2e import CONFIG, PORT, ask_udp, receive

GRE, ESP, SCTP, DCCP, UDPLITE = 47, 50, 132, 33, 136
WHOLE = "203.0.113.9"
# An EtherType of GRE, an SPI, ports: headers that a translator must leave alone. (The kernel has no
# GRE device, SCTP or DCCP everywhere: raw sockets carry these.)
HEADERS = {GRE: bytes(2) + b"\x08\x00", ESP: struct.pack("!LL", 0x1234, 1),
           SCTP: struct.pack("!HHLL", 5000, 5001, 7, 0xdeadbeef)}


def sum16(data):
    data += b"\0" * (len(data) % 2)
    total_ = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total_ >> 16:
        total_ = (total_ & 0xffff) + (total_ >> 16)
    return total_


def dccp(source, destination, payload):
    """A DCCP-Data packet whose checksum covers all of it and the pseudo header (RFC 4340 9.1)."""
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!HHBBHBBH", 5000, 5001, 3, 0, 0, 2 << 1, 0, 1)
    pseudo += struct.pack("!HH", DCCP, len(header + payload))
    checksum = 0xffff - sum16(pseudo + header + payload)
    return header[:6] + struct.pack("!H", checksum) + header[8:] + payload


def dccp_right(packet):
    """Whether the checksum of a received IPv4 packet with DCCP in it is right, computed anew."""
    body = packet[(packet[0] & 15) * 4:]
    return sum16(packet[12:20] + struct.pack("!HH", DCCP, len(body)) + body) == 0xffff


def raw(t, ns, protocol, address):
    with t.lab.inside(ns):
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    s.bind((address, 0))
    s.settimeout(2.0)
    return s


def got(s, payload, seconds=2.0):
    """The packet that ends with payload, and who sent it; (None, None) when it does not come."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        packet, peer = receive(s, left)
        if packet and packet.endswith(payload):
            return packet, peer[0]
    return None, None


def drops(t, reason):
    return sum(value for n in ("dp1", "dp2") for (name, labels), value in t.lab.metrics(n).items()
               if name == "conat_drop_total" and ("reason", reason) in labels)


def refused_by_default(t):
    """Protocols that no pool has are dropped and counted, and never leave (RFC 3022 4.1)."""
    before = drops(t, "protocol")
    for protocol in (GRE, ESP, SCTP, DCCP):
        here, there = raw(t, "c1", protocol, "10.0.1.2"), raw(t, "srv", protocol, SERVER)
        here.sendto(HEADERS.get(protocol, bytes(12)) + b"secret", (SERVER, 0))
        t.expect(got(there, b"secret", 0.3)[0] is None, f"protocol {protocol} does not arrive")
    t.eventually(lambda: drops(t, "protocol") - before >= 4, "counted by reason \"protocol\"")


def by_address(t):
    """GRE, ESP, SCTP, DCCP both ways, one subscriber at a time for an external address."""
    seen = {}
    for protocol in (GRE, ESP, SCTP, DCCP):
        there = raw(t, "srv", protocol, SERVER)
        for client, address in e2e.conatlab.CLIENTS.items():
            here = raw(t, client, protocol, address)
            packet = dccp(address, SERVER, b"out") if protocol == DCCP else \
                HEADERS[protocol] + b"out"
            here.sendto(packet, (SERVER, 0))
            arrived, external = got(there, b"out")
            t.need(arrived, f"protocol {protocol} of {client} arrives from {external}")
            body = arrived[(arrived[0] & 15) * 4:]
            if protocol == DCCP:
                t.expect(dccp_right(arrived), "DCCP: the checksum is right at the server")
            else:
                t.expect(body == packet, f"protocol {protocol}: not a byte behind IP changed")
            packet = dccp(SERVER, external, b"back") if protocol == DCCP else \
                HEADERS[protocol] + b"back"
            for pair in (("dp1", "dp2"), ("dp2", "dp1")):
                with t.routed(*pair):
                    there.sendto(packet, (external, 0))
                    arrived, peer = got(here, b"back")
                    t.expect(peer == SERVER, f"protocol {protocol}: the answer arrives by {pair[1]}")
                    if protocol == DCCP and arrived:
                        t.expect(dccp_right(arrived), "DCCP: and right at the client")
            seen.setdefault(protocol, []).append(external)
            here.close()
        there.close()
    for protocol, externals in seen.items():
        t.expect(externals[0] != externals[1], f"protocol {protocol}: an address each: {externals}")
    t.expect(len({externals[0] for externals in seen.values()}) == 1,
             "paired: one address for all of a client's (RFC 6888 REQ-2)")
    stranger = raw(t, "srv", GRE, SERVER2)
    here = raw(t, "c1", GRE, "10.0.1.2")
    stranger.sendto(HEADERS[GRE] + b"stranger", (seen[GRE][0], 0))
    t.expect(got(here, b"stranger", 0.5)[0] is None, "a host that was not contacted: filtered")


def udplite(t):
    """UDP-Lite between the kernel's own sockets, which check its checksum and coverage."""
    try:
        with t.lab.inside("srv"):
            there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)
    except OSError as error:
        t.say(f"this kernel has no UDP-Lite: {error}")
        return
    there.bind((SERVER, PORT))
    for coverage in (0, 8, 12):
        with t.lab.inside("c1"):
            here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)
        here.setsockopt(UDPLITE, 10, coverage)  # UDPLITE_SEND_CSCOV
        here.bind(("10.0.1.2", 45000 + coverage))
        for size in (20, 1900):  # one packet, and fragments
            here.sendto(b"x" * size, (SERVER, PORT))
            data, peer = receive(there, 2.0)
            t.need(data and len(data) == size, f"coverage {coverage}, {size} bytes: arrive")
            t.expect(peer[1] == 45000 + coverage, "with the client's own port")
            there.sendto(b"y" * size, peer)
            data, _ = receive(here, 2.0)
            t.expect(data and len(data) == size, "and the answer")
        here.close()
    there.close()


def one_to_one(t):
    """An address of its own: from outside and from inside, ping, UDP, TCP, GRE; then taken away."""
    client = t.udp("c1", 5000, "10.0.1.2")
    t.expect(ask_udp(client, (SERVER, PORT)) not in (None, (WHOLE, 5000)), "c1 as anybody, first")
    added = t.lab.ctl("static", "add", "all", WHOLE, "10.0.1.2")
    t.say(f"added: {added[0]['state']}")
    t.eventually(lambda: [r["state"] for r in t.lab.ctl("static", "list")] == ["active"],
                 "active, when who was there is fenced")
    t.eventually(lambda: ask_udp(client, (SERVER, PORT)) == (WHOLE, 5000), "c1 is seen as its own")
    for pair in (("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            ping = t.lab.run("srv", "ping", "-c", "2", "-i", "0.2", "-W", "2", WHOLE)
            t.expect(ping.returncode == 0, f"ping from outside by {pair[1]} (RFC 5508 REQ-1)")
            ping = t.lab.run("c1", "ping", "-c", "2", "-i", "0.2", "-W", "2", SERVER)
            t.expect(ping.returncode == 0, f"ping from inside by {pair[0]}")
    ping = t.lab.run("c2", "ping", "-c", "2", "-i", "0.2", "-W", "2", WHOLE)
    t.expect(ping.returncode == 0, "ping of another inside host (RFC 5508 REQ-7)")
    stranger = t.udp("srv", 777, SERVER2)
    stranger.sendto(b"hello", (WHOLE, 5000))
    t.expect(receive(client, 2.0) == (b"hello", (SERVER2, 777)), "UDP that nobody asked for")
    listener = t.listen("c1", 22)
    connection = t.tcp("srv", (WHOLE, 22))
    accepted, peer = listener.accept()
    t.expect(peer[0] in (SERVER, SERVER2) or peer, f"TCP from outside, from {peer[0]}")
    here, there = raw(t, "c1", GRE, "10.0.1.2"), raw(t, "srv", GRE, SERVER)
    there.sendto(HEADERS[GRE] + b"tunnel", (WHOLE, 0))
    t.expect(got(here, b"tunnel")[0], "GRE, though the pool has none")
    here.sendto(HEADERS[GRE] + b"answer", (SERVER, 0))
    t.expect(got(there, b"answer")[1] == WHOLE, "and back from the address")
    t.lab.ctl("static", "del", "all", WHOLE)
    t.eventually(lambda: not [s for s in t.lab.ctl("sessions") if WHOLE in s["external"]],
                 "removed: its sessions are ended and fenced")
    stranger.sendto(b"again", (WHOLE, 5000))
    t.expect(receive(client, 0.5)[0] is None, "and nothing arrives any more")
    again = ask_udp(client, (SERVER, PORT), tries=3)  # from any address, the same one too
    made_by = {m["external"]: m["made_by"] for m in t.lab.ctl("mappings")}
    t.expect(again and made_by.get("%s:%d" % again) == "traffic", f"c1 as anybody, again: {again}")
    for s in (connection, accepted, listener, here, there):
        s.close()


by_address.config = udplite.config = CONFIG.replace(
    "prefixes: [ 203.0.113.0/28 ]",
    "prefixes: [ 203.0.113.0/28 ]\n    protocols: [ gre, esp, sctp, dccp, udplite ]")

if __name__ == "__main__":
    e2e.main([refused_by_default, by_address, udplite, one_to_one])
