#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What hosts see of the NAT: RFC 4787, 5382 and 5508 with real programs and two dataplanes."""
import re
import socket
import time

import e2e
from conatlab import POOL, SERVER, SERVER2
from e2e import CONFIG, PORT, PORT2, ask_tcp, ask_udp, drain, receive

FORWARDED = ("203.0.113.9", 8080)


def eim_collision(t):
    """Two clients, the same source ports, crossing destinations (RFC 4787 REQ-1, 2, 3, 4)."""
    here, there = (SERVER, PORT), (SERVER2, PORT2)
    seen = {"c1": [], "c2": []}
    parity = moved = lost = 0
    for port in range(40000, 40064):
        one, two = t.udp("c1", port), t.udp("c2", port)
        found = {"c1": [ask_udp(one, here)], "c2": [ask_udp(two, there)]}
        found["c1"] += [ask_udp(one, there), ask_udp(one, (SERVER, PORT2))]
        found["c2"] += [ask_udp(two, here), ask_udp(two, (SERVER2, PORT))]
        for client, endpoints in found.items():
            lost += endpoints.count(None)
            moved += len(set(endpoints)) != 1
            if endpoints[0]:
                seen[client].append(endpoints[0])
                parity += endpoints[0][1] % 2 != port % 2
    t.need(lost == 0, f"{lost} of 384 datagrams without an answer")
    t.expect(moved == 0, f"REQ-1: {moved} of 128 sockets seen at more than one endpoint")
    both = seen["c1"] + seen["c2"]
    t.expect(len(set(both)) == len(both), f"REQ-3: {len(set(both))} external endpoints for "
             f"{len(both)} sockets")
    t.expect(all(len({a for a, _ in found}) == 1 for found in seen.values()),
             "REQ-2: each client has one external address")
    t.expect(parity == 0, f"REQ-4: parity of {parity} ports not preserved")
    t.expect(all(a.startswith(POOL) and p >= 1024 for a, p in both), "all of the pool, REQ-3a")


def eim_tcp(t):
    """The same for TCP (RFC 5382 REQ-1, 7)."""
    seen = []
    for port in range(41000, 41010):
        found = {}
        for client, order in (("c1", (SERVER, SERVER2)), ("c2", (SERVER2, SERVER))):
            connections = [t.tcp(client, (host, PORT), port, e2e.conatlab.CLIENTS[client])
                           for host in order]
            found[client] = [ask_tcp(c) for c in connections]
            t.expect(len(set(found[client])) == 1 and found[client][0],
                     f"{client}:{port} to two servers from {found[client][0]}")
            for c in connections:
                c.close()
        seen += [found["c1"][0], found["c2"][0]]
    t.expect(len(set(seen)) == len(seen), "no external endpoint has two owners")


def filtering(t):
    """Address-dependent filtering: any port of a contacted host, no other host (RFC 4787 REQ-8)."""
    client = t.udp("c1")
    outside = ask_udp(client, (SERVER, PORT))
    t.need(outside, f"c1 is seen at {outside}")
    other_port, other_host = t.udp("srv", 9999, SERVER), t.udp("srv", PORT + 100, SERVER2)

    def arrives(sender, text):
        drain(client)
        sender.sendto(text, outside)
        return receive(client, 0.7)[0] == text

    t.expect(arrives(other_port, b"another port"), "the contacted host's other port passes")
    t.expect(not arrives(other_host, b"stranger"), "a host that was not contacted does not")
    client.sendto(b"knock", (SERVER2, 4))
    time.sleep(0.2)
    t.expect(arrives(other_host, b"now contacted"), "it does after c1 sent to it (never cached)")
    for pair in (("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            t.expect(arrives(other_host, b"by " + pair[1].encode()), f"by {pair[1]} too")
    # An unsolicited SYN gets no answer at all (RFC 5382 REQ-4a).
    with t.lab.inside("srv"):
        s = socket.socket()
    s.settimeout(1.5)
    try:
        s.connect((outside[0], outside[1]))
        result = "connected"
    except TimeoutError:
        result = "silence"
    except OSError as error:
        result = str(error)
    t.expect(result == "silence", f"an unsolicited SYN: {result}")


def hairpinning(t):
    """c1 and c2 talk through their external endpoints (RFC 4787 REQ-9a)."""
    one, two = t.udp("c1"), t.udp("c2")
    x1, x2 = ask_udp(one, (SERVER, PORT)), ask_udp(two, (SERVER, PORT))
    t.need(x1 and x2, f"c1 is {x1}, c2 is {x2}")
    two.sendto(b"hole", x1)  # refused by x1's filter, opens x2's
    t.expect(receive(one, 0.5)[0] is None, "c1's filter refuses c2 at first")
    one.sendto(b"hello", x2)
    data, source = receive(two, 2)
    t.expect((data, source) == (b"hello", x1), f"c2 gets {data} from {source}, c1's external endpoint")
    two.sendto(b"answer", x1)
    data, source = receive(one, 2)
    t.expect((data, source) == (b"answer", x2), f"c1 gets {data} from {source}, c2's external endpoint")
    for pair in (("dp1", "dp1"), ("dp2", "dp2")):
        with t.routed(*pair):
            one.sendto(pair[0].encode(), x2)
            data, source = receive(two, 2)
            t.expect((data, source) == (pair[0].encode(), x1), f"by {pair[0]} too")
    # TCP to a static forward of the neighbour's, from inside.
    server = t.listen("c1", 80)
    client = t.tcp("c2", FORWARDED)
    peer, address = server.accept()
    t.expect(address[0].startswith(POOL), f"TCP: c1 sees c2 as {address}")
    client.sendall(b"over the hairpin")
    t.expect(peer.recv(64) == b"over the hairpin", "TCP data arrives")
    peer.close()
    client.close()


hairpinning.config = CONFIG + """\
static:
  - { realm: clients, protocol: tcp, external: "203.0.113.9:8080", internal: "10.0.1.2:80" }
"""


def static_forward(t):
    """A forwarded port is reachable from outside, by either dataplane, at the first packet."""
    server = t.listen("c1", 80)
    for pair in (("dp1", "dp2"), ("dp2", "dp1"), ("dp2", "dp2")):
        with t.routed(*pair):
            client = t.tcp("srv", FORWARDED)
            peer, address = server.accept()
            t.expect(address[0] == SERVER, f"in by {pair[1]}, out by {pair[0]}: c1 sees {address}")
            client.sendall(b"in")
            t.expect(peer.recv(8) == b"in", "data in")
            peer.sendall(b"out")
            t.expect(client.recv(8) == b"out", "data out")
            client.close()
            peer.close()
    udp = t.udp("c2", 53)
    asker = t.udp("srv")
    asker.sendto(b"question", ("203.0.113.9", 53))
    data, source = receive(udp, 2)
    t.expect(data == b"question", f"UDP: c2 gets {data} from {source}")
    if source:
        udp.sendto(b"reply", source)
        data, source = receive(asker, 2)
        t.expect((data, source) == (b"reply", ("203.0.113.9", 53)), f"UDP: srv gets {data} from "
                 f"{source}")


static_forward.config = CONFIG + """\
static:
  - { realm: clients, protocol: tcp, external: "203.0.113.9:8080", internal: "10.0.1.2:80" }
  - { realm: clients, protocol: udp, external: "203.0.113.9:53", internal: "10.0.2.2:53" }
"""


def errors(t, when):
    out = t.lab.run("c1", "traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", "-U", SERVER).stdout
    hops = re.findall(r"^\s*\d+\s+(\S+)", out, re.M)
    t.expect(len(hops) == 4 and hops[2].startswith("198.18.") and hops[3] == SERVER,
             f"{when}: traceroute, the cluster is one hop: {' > '.join(hops)}")
    closed = t.udp("c1")
    closed.connect((SERVER, 9))
    closed.send(b"anybody?")
    try:
        closed.recv(10)
        result = "data"
    except ConnectionRefusedError:
        result = "refused"
    except OSError as error:
        result = str(error)
    t.expect(result == "refused", f"{when}: port unreachable reaches the socket: {result}")
    # From inside: the server's socket learns that c1's is gone.
    with t.lab.inside("srv"):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((SERVER, 0))
    server.settimeout(2)
    client = t.udp("c1")
    client.sendto(b"hello", server.getsockname())
    _, external = server.recvfrom(64)
    client.close()
    server.connect(external)
    server.send(b"still there?")
    try:
        server.recv(10)
        result = "data"
    except OSError as error:
        result = str(error)
    t.expect("refused" in result, f"{when}: the client's port unreachable reaches the server: {result}")


def icmp(t):
    """Ping, fragments, errors from routers outside, path MTU (RFC 5508, RFC 4787 REQ-12 to 14)."""
    def ping(*args):
        done = t.lab.run("c1", "ping", "-n", "-W", "2", *args)
        got = re.search(r"(\d+) received", done.stdout)
        return int(got[1]) if got else 0, done.stdout + done.stderr

    t.expect(ping("-c", "10", "-i", "0.05", SERVER)[0] == 10, "ping")
    t.expect(ping("-c", "5", "-i", "0.05", "-s", "4000", SERVER)[0] == 5, "ping with three fragments")
    # By the dataplane that knows the flow, and by one that has to ask for the quoted packet.
    for pair in (("dp1", "dp1"), ("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            errors(t, f"out by {pair[0]}, errors in by {pair[1]}")
    t.lab.run("ro", "ip", "link", "set", "srv", "mtu", "1400", check=True)
    t.lab.run("srv", "ip", "link", "set", "eth0", "mtu", "1400", check=True)
    _, out = ping("-c", "2", "-i", "0.2", "-M", "do", "-s", "1450", SERVER)
    t.expect(re.search(r"mtu ?= ?1400", out), "too big: c1 learns the MTU 1400 of a link outside")
    out = t.lab.run("c1", "ip", "route", "get", SERVER).stdout
    t.expect("mtu 1400" in out, "and its route has it")


if __name__ == "__main__":
    e2e.main([eim_collision, eim_tcp, filtering, hairpinning, static_forward, icmp])
