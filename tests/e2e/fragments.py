#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fragmented datagrams through two dataplanes, each packet to the other one: no dataplane sees a
datagram whole. The receivers' kernels put them together, which is the proof; a sniffer beside the
server looks at the identifications."""
import random
import socket
import struct
import time

import e2e
from conatlab import SERVER, total

HOSTS = [("c1", f"10.0.1.{n}") for n in range(2, 7)] + [("c2", "10.0.2.2")]
PORT, SIZE, PIECE = 9000, 6500, 1480  # five fragments
ROUNDS = 20


def checksum(data):
    s = sum(struct.unpack(f"!{len(data) // 2}H", data))
    s = (s & 0xffff) + (s >> 16)
    return 0xffff - ((s & 0xffff) + (s >> 16))


def fragments(source, destination, ident, payload):
    """A UDP datagram from port 5000 in fragments, as a host would send them."""
    body = struct.pack("!4H", 5000, PORT, 8 + len(payload), 0) + payload
    for at in range(0, len(body), PIECE):
        piece = body[at:at + PIECE]
        more = 0x2000 if at + PIECE < len(body) else 0
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(piece), ident, more | at // 8, 64, 17,
                           0, socket.inet_aton(source), socket.inet_aton(destination))
        yield head[:10] + struct.pack("!H", checksum(head)) + head[12:] + piece


def identifications(sniffer):
    """{(source, destination, identification, offset): how often} of the UDP fragments that came."""
    seen = {}
    try:
        while True:
            packet, (_, _, kind, *_) = sniffer.recvfrom(65535)
            field, = struct.unpack_from("!H", packet, 6)
            if packet[9] == 17 and field & 0x3fff and kind != socket.PACKET_OUTGOING:
                key = packet[12:20] + packet[4:6], field & 0x1fff
                seen[key] = seen.get(key, 0) + 1
    except BlockingIOError:
        return seen


def collect(sockets, n, seconds=3.0):
    """Up to n datagrams: [(socket, data, peer)]."""
    found, deadline = [], time.monotonic() + seconds
    while len(found) < n and time.monotonic() < deadline:
        for s in sockets:
            try:
                found.append((s, *s.recvfrom(65535)))
            except BlockingIOError:
                continue
        time.sleep(0.001)
    return found


def alone(t):
    """Datagrams that a dataplane numbered by itself: none while the table answers."""
    return sum(total(t.lab.metrics(dp), "conat_fragments_numbered_alone_total")
               for dp in ("dp1", "dp2"))


def fragments_shared(t):
    """Six hosts with one identification, fragments interleaved, both ways; ping of 60,000 bytes."""
    # RFC 4787 REQ-14, RFC 6864 section 5.3.1, RFC 7857 section 10
    for ns, host in HOSTS[1:-1]:
        t.lab.run(ns, "ip", "address", "add", f"{host}/24", "dev", "eth0", check=True)
    raw, ends = {}, {}
    for ns, host in HOSTS:
        with t.lab.inside(ns):
            raw[host] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        ends[host] = t.udp(ns, 5000, host)
        ends[host].setblocking(False)
    server = t.udp("srv", PORT, SERVER)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    server.setblocking(False)
    with t.lab.inside("srv"):
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    sniffer.setblocking(False)

    order, arrived, returned, peers = random.Random(1), 0, 0, {}
    for number in range(ROUNDS):
        sent = {host: order.randbytes(SIZE) for _, host in HOSTS}
        pieces = [(host, piece) for host in sent
                  for piece in fragments(host, SERVER, 700 + number, sent[host])]
        if number % 2:
            order.shuffle(pieces)
        else:  # in order, a fragment of each host in turn, its next one to the other dataplane
            pieces = [pieces[(i + k) % len(HOSTS) * 5 + k] for k in range(5)
                      for i in range(len(HOSTS))]
        for host, piece in pieces:
            raw[host].sendto(piece, (SERVER, 0))
        by_data = {data: host for host, data in sent.items()}
        for _, data, peer in collect([server], len(HOSTS)):
            if data in by_data:
                arrived += 1
                peers.setdefault(by_data[data], set()).add(peer)
                server.sendto(data, peer)
        for s, data, _ in collect(ends.values(), len(HOSTS)):
            returned += by_data.get(data) == s.getsockname()[0]
    n = ROUNDS * len(HOSTS)
    t.expect(arrived == n, f"{arrived} of {n} datagrams of five fragments arrived whole")
    t.expect(returned == n, f"{returned} of {n} came back whole to who sent them")
    t.expect(len(peers) == len(HOSTS) and all(len(p) == 1 for p in peers.values()),
             "each host has one external endpoint")
    twice = [key for key, count in identifications(sniffer).items() if count > 1]
    t.expect(not twice, f"no two datagrams share an identification outside: {twice[:3]}")

    for ns, size in (("c1", 60000), ("c2", 7000)):
        done = t.lab.run(ns, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", "-s", size, SERVER)
        t.expect(" 0% packet loss" in done.stdout, f"ping -s {size}: {done.stdout[-160:].strip()}")

    t.expect(alone(t) == 0, f"{alone(t):.0f} datagrams were numbered without the table")
    table = t.lab.metrics("tbl")
    asked = total(table, "conat_table_fragments_later_total")
    t.expect(asked > n and total(table, "conat_table_fragments_untold_total") == 0,
             f"dataplanes asked {asked:.0f} times for first fragments that the other one had")
    for s in (*raw.values(), *ends.values(), server, sniffer):
        s.close()


fragments_shared.spread = "packet"


if __name__ == "__main__":
    e2e.main([fragments_shared])
