# SPDX-License-Identifier: Apache-2.0
"""What programs that discover a NAT's behaviour say of it (RFC 5780, RFC 3489)."""
import re
import subprocess
import time

import e2e
from conatlab import SERVER, SERVER2
from programs import RELOADED, filtering, program, server

VERDICTS = {"EIF": ("NAT with Endpoint Independent Filtering!", "Independent Filter"),
            "ADF": ("NAT with Address Dependent Filtering!", "Address Dependent Filter"),
            "APDF": ("NAT with Address and Port Dependent Filtering!", "Port Dependent Filter")}


def stun_server(t):
    """Two addresses with two ports each, so that the server can be asked to answer from another."""
    server(t, "turn", "srv", 3478, "turnserver", "-n", "-S", "-L", SERVER, "-L", SERVER2, "-p", "3478",
           "--no-tls", "--no-dtls", "--no-cli", "--no-multicast-peers", "--log-file", "stdout",
           "--pidfile", f"{t.lab.state}/turn.pid", "--userdb", f"{t.lab.state}/turndb", protocol="udp")


def finish(processes):
    """Their outputs; what does not end is ended."""
    deadline = time.monotonic() + 20
    texts = []
    for process in processes:
        try:
            texts.append(process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0])
        finally:
            process.kill()
    return texts


def ask(t, *commands):
    """Programs in c1 and c2 by turns, at the same time: they mostly wait for what does not come."""
    return finish([t.lab.popen(ns, "stdbuf", "-oL", *command, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True) for ns, command in commands])


def discover(t, name):
    stun_server(t)
    filtering(t, name)
    nat, stun = ask(t, ("c1", ("turnutils_natdiscovery", "-m", "-f", SERVER)),
                    ("c2", ("stun", SERVER)))
    t.expect("NAT with Endpoint Independent Mapping!" in nat, f"{name}: natdiscovery says "
             f"{re.findall('NAT with.*Mapping', nat)}")
    found = re.findall("NAT with.*Filtering!", nat)
    t.expect(found == [VERDICTS[name][0]], f"{name}: natdiscovery says {found}")
    t.expect(nat.count("No ALG: Mapped == XOR-Mapped") >= 3 and "ALG detected" not in nat,
             f"{name}: natdiscovery finds no ALG")
    # "No hairpin": it asks itself from the very socket that the mapping is of. Both directions of
    # such a session would have one tuple, so conat refuses it; natdiscovery asks as two hosts would.
    primary = re.search("Primary: (.*)", stun)
    t.expect(primary and primary[1].strip() == f"Independent Mapping, {VERDICTS[name][1]}, random "
             "port, no hairpin", f"{name}: stun says {primary[1].strip() if primary else stun}")


SAME = "the kernel's NAT filters by address and port, whatever the administrator wants"
MOVES = "a second gateway without shared state gives the flow another external endpoint"


@program("RFC 4787 REQ-1", "RFC 4787 REQ-8", "RFC 5780", "RFC 6888 REQ-7",
         forms=RELOADED, kernel={"nft": SAME, "nft-packet": MOVES})
def endpoint_independent_filtering(t):
    """Two programs find endpoint-independent mapping and filtering where that is configured."""
    discover(t, "EIF")


@program("RFC 4787 REQ-9", forms=RELOADED,
         kernel={"nft": "it does not hairpin to a dynamic mapping",
                 "nft-packet": "nor do two of them"})
def hairpinning(t):
    """natdiscovery reaches itself by its external endpoint, from a second socket."""
    stun_server(t)
    filtering(t, "EIF")
    out, = ask(t, ("c1", ("turnutils_natdiscovery", "-H", SERVER)))
    t.expect("maybe a successful hairpinning" in out, "natdiscovery gets its own question" +
             ("" if "hairpinning)" in out else f": {out[-300:]}"))


@program("RFC 4787 REQ-1", "RFC 4787 REQ-3", "RFC 4787 REQ-11",
         kernel={"nft": "a source port that another host has is changed for this destination only",
                 "nft-packet": MOVES})
def collision(t):
    """33 hosts with one source port, more than the pool has addresses: the class stays the same."""
    stun_server(t)
    hosts = [f"10.0.1.{100 + i}" for i in range(33)]
    for host in hosts:
        t.lab.run("c1", "ip", "address", "add", f"{host}/24", "dev", "eth0", check=True)
    sockets = [t.udp("c1", 5000, host) for host in hosts]
    ways = (SERVER, e2e.PORT), (SERVER2, e2e.PORT)
    seen = [{e2e.ask_udp(s, ways[i % 2], 3)} for i, s in enumerate(sockets)]
    for i, s in enumerate(sockets):
        seen[i].add(e2e.ask_udp(s, ways[(i + 1) % 2], 3))
        s.close()
    endpoints = [e for found in seen for e in found]
    t.expect(None not in endpoints and len(endpoints) == len(set(endpoints)) == 33,
             f"{len(set(endpoints))} endpoints for 33 hosts to two servers")
    # What natdiscovery finds of the last one, which met all the others' ports.
    nat, = ask(t, ("c1", ("turnutils_natdiscovery", "-m", "-L", hosts[-1], "-l", "5000", SERVER)))
    t.expect("Endpoint Independent Mapping!" in nat, "natdiscovery: endpoint-independent mapping")
    found = set(re.findall(r"UDP reflexive addr: (\S+)", nat))
    t.expect(found == {"%s:%d" % e for e in seen[-1]}, f"seen at {found}, before at {seen[-1]}")


@program("RFC 4787 REQ-8", kernel={"nft": SAME, "nft-packet": MOVES})
def address_dependent_filtering(t):
    """The same for address-dependent filtering, the default."""
    discover(t, "ADF")


@program("RFC 4787 REQ-8", "RFC 7857 9", forms=RELOADED, kernel={
    "nft": "stun says: preserves ports; whoever knows the inside port knows the outside one",
    "nft-packet": MOVES})
def address_and_port_dependent_filtering(t):
    """The same for address- and port-dependent filtering."""
    discover(t, "APDF")
    filtering(t, "ADF")
