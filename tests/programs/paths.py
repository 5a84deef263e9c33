# SPDX-License-Identifier: Apache-2.0
"""Programs that look at the way: the cluster is one hop in it, and nothing inside shows outside."""
import re

from conatlab import SERVER
from programs import BY_CHANCE, FORWARDED, program, server

PRIVATE = re.compile(r"^(10\.|172\.(1[6-9]|2\d|3[01])\.|192\.168\.)")
# c1's router, a dataplane's inside or its host, the outside router, the server
WAY = ["10.0.1.1", "172.16.", "198.18.", SERVER]
MOVES = "an error comes back to the gateway that did not send the packet that it quotes"


def is_way(hops, way):
    """hops: for each hop the set of addresses that answered."""
    return len(hops) == len(way) and all(
        found and all(a == w or w.endswith(".") and a.startswith(w) for a in found)
        for found, w in zip(hops, way))


def traceroute(t, ns, *arguments, queries=2):
    # Probes one after the other where two of a hop must not overtake each other on the way.
    out = t.lab.run(ns, "traceroute", "-n", "-q", queries, "-w", "1", "-m", "8", *arguments).stdout
    hops = []
    for line in out.splitlines()[1:]:
        hops.append(set(re.findall(r"\d+\.\d+\.\d+\.\d+", line)) | set(re.findall(r"[*!]\S*", line)))
    return hops


@program("RFC 5508 REQ-10", "RFC 4787 REQ-12", kernel={"nft-packet": MOVES})
def traceroute_outbound(t):
    """By UDP, ICMP echo and TCP: four hops, of which the cluster is one, and no star."""
    server(t, "web80", "srv", 80, "python3", "-m", "http.server", "80")
    for how in ([], ["-I"], ["-T", "-p", "80"], ["-U", "-p", "9"], ["-T", "-p", "9"]):
        hops = traceroute(t, "c1", *how, SERVER)
        t.expect(is_way(hops, WAY), f"traceroute {' '.join(how)}: {hops}")


@program("RFC 5508 REQ-5", "RFC 5508 REQ-4",
         kernel={"nft": "its own error comes from the forwarded address: it translates first",
                 "nft-packet": "the same, and errors come back to the other gateway"})
def traceroute_inbound(t):
    """To the forwarded port: the inside router's error comes from the pool's address, not its own."""
    server(t, "web", "c1", 80, "python3", "-m", "http.server", "80")
    address, port = FORWARDED
    hops = traceroute(t, "srv", "-T", "-p", port, address)
    t.expect(is_way(hops, ["198.51.100.1", "198.18.", address, address]), f"traceroute -T: {hops}")
    t.expect(not [a for found in hops for a in found if PRIVATE.match(a)], "no private address in it")
    hops = traceroute(t, "srv", "-T", "-p", port + 1, "-m", "4", address, queries=1)
    t.expect(is_way(hops, ["198.51.100.1", "198.18.", "*", "*"]), f"to a port that is not: {hops}")


@program("RFC 5508 REQ-10", kernel={"nft-packet": BY_CHANCE})
def mtr(t):
    """mtr --report by ICMP, UDP and TCP at once: four hops without loss."""
    started = [(how, t.lab.popen("c1", "mtr", "--report", "--report-wide", "-n", "-c", "5", "-i",
                                 "0.2", "-G", "1", *how, SERVER, stdout=-1, text=True))
               for how in ([], ["-u"], ["-T", "-P", "80"])]
    for how, process in started:
        out = process.communicate(timeout=20)[0]
        lines = re.findall(r"^\s+\d+\.\|-- (\S+)\s+(\S+)%", out, re.M)
        t.expect(is_way([{a} for a, _ in lines], WAY), f"mtr {' '.join(how)}: "
                 f"{' > '.join(a for a, _ in lines)}")
        t.expect(lines and all(float(loss) == 0 for _, loss in lines),
                 f"mtr {' '.join(how)}: loss {[loss for _, loss in lines]}")


@program("RFC 4787 REQ-13", "RFC 5508 REQ-4", kernel={"nft-packet": MOVES})
def tracepath(t):
    """The path's MTU is found, by way of a link outside with a smaller one."""
    hops = re.compile(r"^\s*(\d+):\s+(\S+)", re.M)
    out = t.lab.run("c1", "tracepath", "-n", "-m", "8", SERVER).stdout
    seen = {int(n): a for n, a in hops.findall(out) if a[0].isdigit()}
    t.expect(is_way([{seen[n]} for n in sorted(seen)], WAY) and "pmtu 1500 hops 4 back 4" in out,
             f"tracepath: {' > '.join(seen[n] for n in sorted(seen))}, {out.splitlines()[-1].strip()}")
    for ns, link in (("ro", "srv"), ("srv", "eth0")):
        t.lab.run(ns, "ip", "link", "set", link, "mtu", "1300", check=True)
    try:
        out = t.lab.run("c2", "tracepath", "-n", "-m", "8", SERVER).stdout
        t.expect("pmtu 1300 hops 4 back 4" in out, f"tracepath: {out.splitlines()[-1].strip()}")
        route = t.lab.run("c2", "ip", "route", "get", SERVER).stdout
        t.expect("mtu 1300" in route, f"c2's route has it: {' '.join(route.split())}")
    finally:
        for ns, link in (("srv", "eth0"), ("ro", "srv")):
            t.lab.run(ns, "ip", "link", "set", link, "mtu", "1500", check=True)
        t.lab.run("c2", "ip", "route", "flush", "cache")
