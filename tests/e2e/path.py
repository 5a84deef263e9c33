#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cluster as a hop of a path: TTL, MTU and MSS, with programs that measure paths."""
import re
import socket
import struct
import subprocess
import threading
import time

import e2e
from conatlab import SERVER, SERVER2, total
from e2e import CONFIG, PORT

FORWARDED, TCP, TRACED = "203.0.113.9", 8080, 44444
IP_RECVTTL, IP_RECVERR, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 12, 11, 10, 3  # not in every socket.py
# tracepath and traceroute count a port up for each probe.
STATIC = CONFIG + f"""\
static:
  - {{ realm: clients, protocol: tcp, external: "{FORWARDED}:{TCP}", internal: "10.0.1.2:80" }}
""" + "".join(f"""\
  - {{ realm: clients, protocol: udp, external: "{FORWARDED}:{p}", internal: "10.0.1.2:{p}" }}
""" for p in range(TRACED, TRACED + 64))
DATAPLANE_IN, DATAPLANE_OUT = re.compile(r"172\.16\.[12]\.2$"), re.compile(r"198\.18\.[12]\.2$")


def link(t, a, interface, b, peer, mtu):
    """Both ends of a link."""
    for ns, name in ((a, interface), (b, peer)):
        t.lab.run(ns, "ip", "link", "set", name, "mtu", mtu, check=True)


def forget(t):
    for ns in ("c1", "c2", "srv"):
        t.lab.run(ns, "ip", "route", "flush", "cache", check=True)


def icmp_sent(t):
    return sum(total(t.lab.metrics(dp), "conat_icmp_sent_total") for dp in ("dp1", "dp2"))


# ---- hops ----

def traced(t, ns, *args):
    out = t.lab.run(ns, "traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", "-m", "8", *args).stdout
    return re.findall(r"^\s*\d+\s+(\S+)", out, re.M)


def reported(process):
    """The hops of mtr's report."""
    out = process.communicate(timeout=30)[0]
    return re.findall(r"^\s*\d+\.\|--\s+(\S+)", out, re.M)


def ttl_at(receiver, send):
    receiver.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    send()
    data, extra, _, peer = receiver.recvmsg(64, 64)
    return struct.unpack("i", extra[0][2])[0], peer


def hops(t):
    """RFC 1812 5.3.1, RFC 5508 REQ-10a: one hop, by UDP, ICMP, TCP, from both sides, with its own address
    on each side; behind it, from outside, the public address stands for all (REQ-5c)."""
    server = t.listen("c1", 80)
    mtr = {(ns, kind): t.lab.popen(ns, "mtr", "-n", "-r", "-c", "1", "-i", "0.2", "-G", "1", *args,
                                   stdout=subprocess.PIPE, text=True)
           for ns, kind, args in (("c1", "ICMP", [SERVER]),
                                  ("c2", "UDP", ["-u", SERVER]),
                                  ("c1", "TCP", ["-T", "-P", str(PORT), SERVER]),
                                  ("srv", "TCP", ["-T", "-P", str(TCP), FORWARDED]))}
    for kind, args in (("UDP", ["-U", SERVER]), ("ICMP", ["-I", SERVER]),
                       ("TCP", ["-T", "-p", PORT, SERVER])):
        found = traced(t, "c1", *args)
        t.expect(len(found) == 4 and DATAPLANE_IN.match(found[1]) and found[2].startswith("198.18.")
                 and not DATAPLANE_OUT.match(found[2]) and found[3] == SERVER,
                 f"traceroute by {kind} from inside: {' > '.join(found)}")
    for kind, args in (("UDP", ["-U", "-p", TRACED, FORWARDED]), ("TCP", ["-T", "-p", TCP, FORWARDED])):
        found = traced(t, "srv", *args)
        t.expect(len(found) == 4 and DATAPLANE_OUT.match(found[1]) and
                 found[2:] == [FORWARDED, FORWARDED],
                 f"traceroute by {kind} from outside to a forwarded port: {' > '.join(found)}")
    found = traced(t, "c2", "-T", "-p", TCP, FORWARDED)
    t.expect(len(found) == 4 and DATAPLANE_IN.match(found[1]) and found[2:] == [FORWARDED, FORWARDED],
             f"traceroute by TCP over the hairpin: {' > '.join(found)}")
    for (ns, kind), process in mtr.items():
        found = reported(process)
        own = DATAPLANE_OUT if ns == "srv" else DATAPLANE_IN
        t.expect(3 <= len(found) <= 4 and own.match(found[1]) and
                 not any(own.match(h) for h in found[2:]),
                 f"mtr by {kind} from {ns}: {' > '.join(found)}")
    server.close()
    # Decremented exactly once, by two routers and the cluster; also in what waits for an answer.
    there, here = t.udp("srv", 9000, SERVER), t.udp("c1", TRACED)
    for when in ("first packet", "hit"):
        ttl, peer = ttl_at(there, lambda: here.sendto(b"out", (SERVER, 9000)))
        t.expect(ttl == 61, f"outbound, {when}: TTL 64 arrives as {ttl}")
        ttl, _ = ttl_at(here, lambda: there.sendto(b"back", peer))
        t.expect(ttl == 61, f"inbound, {when}: TTL 64 arrives as {ttl}")


hops.config = STATIC


# ---- path MTU ----

def path_mtu_of(t, ns, *args):
    out = t.lab.run(ns, "tracepath", "-n", "-m", "8", *args, timeout=40).stdout
    who = re.search(r"^\s*\d+:\s+(\S+)\s+\S*\s*pmtu (\d+)", out, re.M)
    done = re.search(r"Resume: pmtu (\d+) hops 4", out)
    return int(done[1]) if done else None, who[1] if who else None


def transferred(t, ns, destination, listener, amount=1 << 20, seconds=20.0):
    """Bytes that both ends got in time, sent by both at once: a black hole shows as a stall."""
    client = t.tcp(ns, destination)
    server, _ = listener.accept()
    got = [0, 0]

    def read(i, s):
        s.settimeout(seconds)
        try:
            while got[i] < amount and (data := s.recv(1 << 16)):
                got[i] += len(data)
        except OSError:
            pass

    def write(s):
        try:
            s.sendall(bytes(amount))
        except OSError:
            pass

    threads = [threading.Thread(target=f, args=a, daemon=True) for f, a in
               ((read, (0, client)), (read, (1, server)), (write, (client,)), (write, (server,)))]
    for s in (client, server):
        s.settimeout(seconds)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    client.close()
    server.close()
    return got == [amount, amount]


def path_mtu(t):
    """RFC 4787 REQ-13, RFC 1191: path MTU discovery works both ways, wherever the small link is, and TCP
    does not stall; the error about a link of ours comes from our own address on the sender's side."""
    inside, outside = t.listen("c1", 80), t.listen("srv", 9001)

    def flows(text):
        t.expect(transferred(t, "c1", (SERVER, 9001), outside), f"{text}: TCP from inside, both ways")
        t.expect(transferred(t, "srv", (FORWARDED, TCP), inside), f"{text}: TCP from outside")

    def both(text, mtu_out, by_out, mtu_in, by_in):
        """A running dataplane notices within a moment; before that the kernel's own error is what comes."""
        def found(ns, args, mtu, by):
            forget(t)
            got, who = path_mtu_of(t, ns, *args)
            t.say(f"tracepath from {ns}: {got} by {who}")
            return got == mtu and by(who)

        t.eventually(lambda: found("c1", [SERVER], mtu_out, by_out), f"{text}: tracepath from inside", 5)
        t.eventually(lambda: found("srv", ["-p", str(TRACED), FORWARDED], mtu_in, by_in),
                     f"{text}: tracepath from outside", 5)
        flows(text)

    def anybody(_):
        return True

    def said(pattern):
        return lambda who: who is not None and re.match(pattern, who)

    link(t, "ro", "srv", "srv", "eth0", 1400)
    both("small link behind the server", 1400, said(r"198\.18\.[12]\.1"), 1400, anybody)
    link(t, "ro", "srv", "srv", "eth0", 1500)
    link(t, "ri", "c1", "c1", "eth0", 1400)
    both("small link behind the client", 1400, anybody, 1400, said(FORWARDED))
    link(t, "ri", "c1", "c1", "eth0", 1500)
    for interface, router, text, out_by, in_by in (
            ("out0", "ro", "cluster's outside link", said(DATAPLANE_IN.pattern), said(r"198\.51\.100\.1$")),
            ("in0", "ri", "cluster's inside link", said(r"10\.0\.1\.1$"), said(DATAPLANE_OUT.pattern))):
        for n in ("1", "2"):
            link(t, "dp" + n, interface, router, "dp" + n, 1400)
        before = icmp_sent(t)
        both("small " + text, 1400, out_by, 1400, in_by)
        t.eventually(lambda: icmp_sent(t) > before, f"{text}: the dataplanes told it")
        for n in ("1", "2"):
            link(t, "dp" + n, interface, router, "dp" + n, 1500)


path_mtu.config = STATIC


def path_mtu_of_routes(t):
    """RFC 4787 REQ-13 where a route of the dataplane's host has the small MTU; REQ-13a: TCP without DF, in
    super-packets, over a small link is cut and arrives."""
    for n in ("1", "2"):
        t.lab.run("dp" + n, "ip", "route", "replace", "default", "via", f"198.18.{n}.1", "mtu", "1300",
                  check=True)
    mtu, who = path_mtu_of(t, "c1", SERVER)
    t.expect(mtu == 1300, f"a route with MTU 1300: tracepath from inside: {mtu} by {who}")
    for n in ("1", "2"):
        t.lab.run("dp" + n, "ip", "route", "replace", "10.0.0.0/16", "via", f"172.16.{n}.1", "mtu", "1200",
                  check=True)
    mtu, who = path_mtu_of(t, "srv", "-p", str(TRACED), FORWARDED)
    t.expect(mtu == 1200 and who == FORWARDED,
             f"a route with MTU 1200: tracepath from outside: {mtu} by {who}, RFC 5508 REQ-5c")
    for n in ("1", "2"):
        t.lab.run("dp" + n, "ip", "route", "replace", "default", "via", f"198.18.{n}.1", check=True)
        t.lab.run("dp" + n, "ip", "route", "replace", "10.0.0.0/16", "via", f"172.16.{n}.1", check=True)
        link(t, "dp" + n, "out0", "ro", "dp" + n, 1400)
    for ns in ("c1", "srv", "ro", "ri"):
        t.lab.run(ns, "sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1", check=True)
    forget(t)
    time.sleep(0.5)
    inside, outside = t.listen("c1", 80), t.listen("srv", 9001)  # they pass it on to what they accept
    before = icmp_sent(t)

    def reassembled(ns):
        found = re.search(r"IpReasmOKs\s+(\d+)", t.lab.run(ns, "nstat", "-asz", "IpReasmOKs").stdout)
        return int(found[1])

    had = reassembled("srv")
    t.expect(transferred(t, "c1", (SERVER2, 9001), outside), "TCP without DF from inside, both ways")
    t.expect(transferred(t, "srv", (FORWARDED, TCP), inside), "TCP without DF from outside")
    t.expect(reassembled("srv") > had, f"the server put {reassembled('srv') - had} datagrams together")
    t.expect(icmp_sent(t) == before, "nobody was told to send less")


path_mtu_of_routes.config = STATIC


def heard(s):
    """The error that a connected socket with IP_RECVERR learns of, and whose it is."""
    try:
        s.recv(10)
        return "data", None
    except OSError as error:
        result = error.strerror
    try:
        _, extra, _, _ = s.recvmsg(64, 512, socket.MSG_ERRQUEUE)
        return result, socket.inet_ntoa(extra[0][2][20:24])
    except OSError:
        return result, None


def errors_made(t):
    """RFC 5508 REQ-5: the kernel's own "host unreachable" about what comes in is turned back like any other.
    RFC 6888 REQ-11B: exhaustion is told, and what exists goes on. RFC 5508 REQ-9: none towards the outside."""
    def asker(ns, destination, port=0):
        s = t.udp(ns, port, timeout=6.0)
        s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        s.connect(destination)
        return s

    sockets = [asker("c2", (SERVER, PORT)) for _ in range(3)]
    found = []
    for s in sockets:
        s.send(b"limit: 2")
        found.append(heard(s))
    t.expect(found[0] == found[1] == ("data", None), "two sessions of the two that are allowed")
    t.expect(found[2][0] == "No route to host" and DATAPLANE_IN.match(found[2][1] or ""),
             f"a third one: {found[2]}")
    sockets[0].send(b"still?  ")
    t.expect(heard(sockets[0])[0] == "data", "the first one goes on")

    # Too big for the inside link, from outside; then the same with no errors towards the outside.
    for n in ("1", "2"):
        link(t, "dp" + n, "in0", "ri", "dp" + n, 1400)

    def told():
        """Until both dataplanes have noticed, the kernel says it, and the engine hides who that is."""
        with asker("srv", (FORWARDED, TRACED), 5555) as sender:  # one session: there is a limit
            sender.send(bytes(1450))
            result = heard(sender)
        t.say(f"from outside: {result}")
        return result[0] == "Message too long" and DATAPLANE_OUT.match(result[1] or "")

    t.eventually(told, "too big from outside: a dataplane says so, from its address there")
    sender = asker("srv", (FORWARDED, TRACED), 5555)
    path = f"{t.lab.state}/tablesvc.yaml"
    with open(path, "w", encoding="ascii") as f:
        f.write(STATIC + "dataplanes: { icmp_errors_outside: false }\n")
    t.lab.signal("tbl", "HUP")

    def silent():
        before, dropped = icmp_sent(t), too_big(t)
        try:
            sender.send(bytes(1450))
        except OSError:  # an error of before, that the socket had not told yet
            return False
        time.sleep(0.25)
        return too_big(t) > dropped and icmp_sent(t) == before

    def too_big(t):
        return sum(t.lab.metrics(dp).get(("conat_drop_total", (("reason", "too_big"),)), 0)
                   for dp in ("dp1", "dp2"))

    t.eventually(silent, "icmp_errors_outside: false: dropped, and nothing is said", 4)
    for n in ("1", "2"):
        link(t, "dp" + n, "in0", "ri", "dp" + n, 1500)
        t.lab.run("ri", "ip", "link", "set", "dp" + n, "arp", "off", check=True)
        t.lab.run("dp" + n, "ip", "neigh", "flush", "dev", "in0", check=True)
    server = asker("srv", (FORWARDED, TRACED + 1))
    server.send(b"anybody?")
    result = heard(server)
    t.expect(result == ("No route to host", FORWARDED), f"an inside host that is gone: {result}")


errors_made.config = STATIC + "limits: { sessions: 2 }\n"


# ---- MSS ----

def mss(t):
    """behaviour.mss_clamp: off by default; pushed by a reload; both directions of both kinds of flow."""
    inside, outside = t.listen("c1", 80), t.listen("srv", 9001)
    TIMESTAMPS = 12  # of what was agreed on, options take

    def agreed(ns, destination, listener):
        client = t.tcp(ns, destination)
        server, _ = listener.accept()
        found = [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + TIMESTAMPS
                 for s in (client, server)]
        client.close()
        server.close()
        return found

    def check(want, text):
        """By both dataplanes, each of which hears of a change in its own time: four of each kind."""
        def all_agree():
            return all(agreed("c1", (SERVER, 9001), outside) == [want, want] and
                       agreed("srv", (FORWARDED, TCP), inside) == [want, want] for _ in range(4))
        return t.eventually(all_agree, f"{text}: {want} at both ends, begun from either side", 4)

    def reload(value):
        path = f"{t.lab.state}/tablesvc.yaml"
        with open(path, "w", encoding="ascii") as f:
            f.write(STATIC + f"behaviour: {{ mss_clamp: {value} }}\n")
        t.lab.signal("tbl", "HUP")

    check(1460, "off")
    for n in ("1", "2"):
        link(t, "dp" + n, "out0", "ro", "dp" + n, 1400)
    reload("auto")
    check(1360, "auto, behind a link of 1400")
    reload("1000")
    check(1000, "1000")
    reload("off")
    check(1460, "off again")


mss.config = STATIC


if __name__ == "__main__":
    e2e.main([hops, path_mtu, path_mtu_of_routes, errors_made, mss])
