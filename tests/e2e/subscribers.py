#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What subscribers do themselves: mappings by PCP (RFC 6888 REQ-9, RFC 6887)."""
import ipaddress
import os
import socket
import struct

import e2e
from conatlab import SERVER, SERVER2
from e2e import PORT, ask_udp, receive

PCP = ("172.16.0.2", 5351)
ANNOUNCE, MAP, PEER = 0, 1, 2
SUCCESS, NOT_AUTHORIZED, CANNOT_PROVIDE_EXTERNAL, ADDRESS_MISMATCH = 0, 2, 11, 12
UDP, TCP = 17, 6


def mapped(address):
    return ipaddress.IPv6Address("::ffff:" + address).packed


class Client:
    """A PCP client of one host. Each request: (result, lifetime, epoch, external endpoint)."""

    def __init__(self, t, ns, address):
        self.socket, self.address = t.udp(ns, host=address, timeout=1.0), address
        self.nonce = os.urandom(12)

    def ask(self, opcode, lifetime=0, body=b"", options=b"", claims=None):
        request = struct.pack("!BBHI", 2, opcode, 0, lifetime) + mapped(claims or self.address)
        for _ in range(3):
            self.socket.sendto(request + body + options, PCP)
            try:
                data, peer = self.socket.recvfrom(2048)
            except OSError:
                continue
            version, op, _, result, granted, epoch = struct.unpack_from("!BBBBII", data)
            if peer != PCP or version != 2 or op != 0x80 | opcode:
                continue
            external = None
            if opcode != ANNOUNCE and len(data) >= 60 and data[24:36] == self.nonce:
                external = (str(ipaddress.IPv6Address(data[44:60]).ipv4_mapped),
                            struct.unpack_from("!H", data, 42)[0])
            return result, granted, epoch, external
        return None, None, None, None

    def map(self, port, lifetime, protocol=UDP, suggested=("0.0.0.0", 0), insist=False, **options):
        body = self.nonce + struct.pack("!B3xHH", protocol, port, suggested[1]) + mapped(suggested[0])
        return self.ask(MAP, lifetime, body, b"\2\0\0\0" if insist else b"", **options)

    def peer(self, port, remote, lifetime, protocol=UDP):
        body = (self.nonce + struct.pack("!B3xHH", protocol, port, 0) + mapped("0.0.0.0") +
                struct.pack("!H2x", remote[1]) + mapped(remote[0]))
        return self.ask(PEER, lifetime, body)


def reaches(stranger, external, host, seconds=1.0):
    """Whether a datagram of somebody outside arrives at the inside host."""
    token = os.urandom(8)
    stranger.sendto(token, external)
    data, _ = receive(host, seconds)
    return data == token


def pcp(t):
    """MAP, PEER and ANNOUNCE: strangers get in by what was asked for, and get out by what ends.

    RFC 6888 REQ-9; RFC 6887 section 11.3, RFC 6887 section 12.3, RFC 6887 section 8.5, and the
    announcement of RFC 6887 section 14.1.3.
    """
    client, host = Client(t, "c1", "10.0.1.2"), t.udp("c1", 7777, "10.0.1.2")
    stranger = t.udp("srv", 9999, SERVER2)
    t.need(client.ask(ANNOUNCE)[0] == SUCCESS, "ANNOUNCE is answered")
    result, lifetime, _, external = client.map(7777, 600)
    t.need(result == SUCCESS and lifetime == 600 and external[0].startswith("203.0.113."),
           f"MAP: {external} for {lifetime} s")
    for pair in (("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            t.expect(reaches(stranger, external, host), f"a stranger gets in by {pair[1]}")
    t.expect(ask_udp(host, (SERVER, PORT)) == external, "the host's own packets leave from there")
    rows = {m["external"]: m["made_by"] for m in t.lab.ctl("mappings")}
    t.expect(rows == {"%s:%d" % external: "pcp"}, f"conatctl shows it: {rows}")
    forger = Client(t, "c1", "10.0.1.2")
    t.expect(forger.map(7777, 0)[0] == NOT_AUTHORIZED, "without its nonce nobody ends it")
    t.expect(client.map(7778, 600, claims="10.0.2.2")[0] == ADDRESS_MISMATCH,
             "nobody asks in another host's name")
    t.expect(client.map(7778, 600, suggested=("203.0.113.1", 1), insist=True)[0] ==
             CANNOT_PROVIDE_EXTERNAL, "what cannot be had is refused when insisted on")

    listener = t.listen("c1", 8080)
    result, _, _, web = client.map(8080, 600, TCP)
    t.need(result == SUCCESS and web[0] == external[0], f"MAP for TCP: {web}, the paired address")
    connection = t.tcp("srv", web)
    accepted, _ = listener.accept()
    connection.sendall(b"hello")
    t.expect(accepted.recv(8) == b"hello", "a stranger's TCP connection gets in")
    connection.close()
    accepted.close()

    quiet = t.udp("c1", 7779, "10.0.1.2")
    result, lifetime, _, peered = client.peer(7779, (SERVER2, 9999), 600)
    t.expect(result == SUCCESS and 0 < lifetime <= 600, f"PEER: {peered} for {lifetime} s")
    t.expect(reaches(stranger, peered, quiet), "its peer gets in before the host has sent anything")
    other = t.udp("srv", 9998, SERVER)
    t.expect(not reaches(other, peered, quiet, 0.5), "and nobody else does")

    lost = t.udp("c1", 7780, "10.0.1.2")
    result, _, _, ended = client.map(7780, 600)
    t.need(result == SUCCESS and reaches(stranger, ended, lost), "one more mapping")
    client.map(7780, 0)
    t.expect(not reaches(other, ended, lost, 0.5), "a deleted mapping lets no stranger in")

    with t.lab.inside("ri"):
        hears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hears.bind(("0.0.0.0", 5350))
    t.lab.command("restart-service")
    data, peer = receive(hears, 5.0)
    t.expect(data is not None and peer == PCP and data[:4] == b"\x02\x80\0\0" and
             struct.unpack_from("!I", data, 8)[0] <= 3, "the restart is announced")
    result, _, epoch, again = client.map(7777, 600, suggested=external)
    t.expect(result == SUCCESS and epoch <= 5, f"the epoch began again: {epoch} s")
    t.expect(again == external, f"the client has its endpoint back: {again}")
    t.eventually(lambda: reaches(stranger, external, host, 0.3), "and a stranger gets in", 5.0)


pcp.config = e2e.CONFIG + """\
pcp:
  listen: [ { realm: clients, address: "172.16.0.2:5351" } ]
"""


if __name__ == "__main__":
    e2e.main([pcp])
