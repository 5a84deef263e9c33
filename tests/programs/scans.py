# SPDX-License-Identifier: Apache-2.0
"""Programs that scan and flood: what is found is right, nothing leaks, and others do not notice."""
import collections
import re
import time

import e2e
from conatlab import SERVER, SERVER2, LeakWatch, total
from programs import FORWARDED, drops, program, server

THROUGH = "an ACK without a connection gets through to the forwarded port"
MIDSTREAM = "it takes up connections in their middle, with another external port"


def states(text):
    """nmap: {port: state}."""
    return {int(port): state for port, state in re.findall(r"^(\d+)/\w+\s+(\S+)", text, re.M)}


def nmap(t, ns, *arguments):
    return states(t.lab.run(ns, "nmap", "-n", "-Pn", "--max-retries", "2", *arguments,
                            timeout=40).stdout)


def services(t):
    server(t, "web80", "srv", 80, "python3", "-m", "http.server", "80")
    server(t, "dns", "srv", 53, "dnsmasq", "-d", "-C", "/dev/null", "--port=53",
           f"--listen-address={SERVER}", "--bind-interfaces", "--no-resolv", "--no-hosts",
           "--address=/example.test/192.0.2.1")


@program("RFC 5382 REQ-2", "RFC 5382 REQ-9", "RFC 4787 REQ-12",
         kernel={"nft-packet": "answers come back to the gateway that did not send the question"})
def nmap_from_inside(t):
    """By SYN, by connect, by UDP: each of the server's ports as it is; ACKs without a connection
    find nothing."""
    services(t)
    right = {22: "closed", 53: "open", 79: "closed", 80: "open", 81: "closed", 443: "closed"}
    for how in ("-sS", "-sT"):
        found = nmap(t, "c1", how, "-p", ",".join(map(str, right)), SERVER)
        t.expect(found == right, f"nmap {how}: {found}")
    found = nmap(t, "c1", "-sU", "-p", "53,54,69", SERVER)
    t.expect(found == {53: "open", 54: "closed", 69: "closed"}, f"nmap -sU: {found}")


@program("RFC 7857 2", kernel={"nft": MIDSTREAM, "nft-packet": MIDSTREAM})
def nmap_ack(t):
    """An ACK without a connection makes no session: it is dropped, with a reason."""
    before = drops(t).get("tcp_out_of_state", 0)
    found = nmap(t, "c1", "-sA", "--max-retries", "0", "-p", "80,81", SERVER)
    t.expect(found == {80: "filtered", 81: "filtered"}, f"nmap -sA: {found}")
    t.eventually(lambda: drops(t).get("tcp_out_of_state", 0) >= before + 2,
                 "counted as tcp_out_of_state")


@program("RFC 5382 REQ-4", "RFC 4787 REQ-8")
def nmap_from_outside(t):
    """The whole pool: silence for every port but the forwarded one, and for every other probe."""
    services(t)
    server(t, "web", "c1", 80, "python3", "-m", "http.server", "80")
    client = t.udp("c1")
    external = e2e.ask_udp(client, (SERVER, e2e.PORT), 3)
    t.need(external, f"c1 has a mapping, {external}")
    answers = LeakWatch(t.lab, "ro", "ip and src net 203.0.113.0/28 and not "
                        f"(src host {FORWARDED[0]} and tcp src port {FORWARDED[1]})")
    scans = [t.lab.popen("srv", "nmap", "-n", "-Pn", "--max-retries", "0", *how, stdout=-1, text=True)
             for how in (("-sS", "-p", f"1-300,{FORWARDED[1]}", "--min-rate", "2000", FORWARDED[0]),
                         # below the pool's ports: a connection of before may have any of those
                         ("-sS", "-p", "1-300", "--min-rate", "2000", "203.0.113.0", external[0]),
                         ("-sU", "-p", "53,123,500,4500,5351", "203.0.113.0", FORWARDED[0]),
                         ("-sA", "-p", "80,8081", FORWARDED[0]), ("-sO", "-p", "1,47,132", FORWARDED[0]),
                         ("-sX", "-p", "80,8081", "203.0.113.0"),
                         # c1's mapping, from a host that it did not send to
                         ("-sU", "-p", external[1], "-S", SERVER2, "-e", "eth0", external[0]))]
    texts = [scan.communicate(timeout=40)[0] for scan in scans]
    tcp = "".join(texts[:2])
    opened = re.findall(r"^(\d+)/tcp\s+open ", tcp, re.M)
    t.expect(opened == [str(FORWARDED[1])], f"-sS: open are {opened}")
    t.expect(tcp.count("Not shown: 300 filtered") == 3 and "closed" not in tcp,
             "-sS: everything else is filtered")
    said = set(states("".join(texts[2:])).values())
    t.expect(said <= {"open|filtered", "filtered"}, f"-sU, -sA, -sO, -sX: {said}")
    lines = answers.close()
    t.expect(not lines, "the pool sent nothing but the forwarded port's answers" +
             "".join(f"\n        {line}" for line in lines[:3]))
    t.expect(e2e.ask_udp(client, (SERVER, e2e.PORT), 3) == external, "c1's mapping is as before")


FLOOD = 600  # packets of each
FLOODS = {  # what is sent; the reason for not forwarding it
    "all flags": (["-SFRPAUXY", "-p", "++1"], None),
    "no flag": (["-p", "++1"], "tcp_out_of_state"),
    "FIN PUSH URG": (["-F", "-P", "-U", "-p", "80"], "tcp_out_of_state"),
    "SYN, data offset 3": (["-S", "-O", "3", "-p", "80"], "bad_transport"),
    "UDP in fragments of 16 bytes": (["-2", "-f", "-d", "100", "-p", "9"], None),
    "first fragments alone": (["-2", "-x", "-d", "64", "-p", "9"], None),
    # Elsewhere, else their identifications would now and then complete the line before.
    "last fragments alone": (["-2", "-g", "80", "-d", "64", "-p", "9", SERVER2], None),
    "GRE": (["-0", "-H", "47", "-d", "40"], "protocol"),
    "a source of nobody": (["-2", "-a", "172.31.9.9", "-p", "9"], "not_configured"),
    "timestamp requests": (["-1", "-C", "13"], None),
}


@program("RFC 4787 REQ-14", "RFC 5382 REQ-2", "RFC 6888 REQ-4",
         kernel={"nft": "segments with odd flags, which it cannot track, leave with the private source",
                 "nft-packet": "so they do, and the other connections stop"})
def hping3(t):
    """Ten floods at once from one host: each that is refused has its reason, nothing private gets
    out, another host's connections and datagrams go on, and new ones begin."""
    services(t)
    watch = LeakWatch(t.lab)
    orphans = LeakWatch(t.lab, "srv", "ip[6:2] & 0x1fff != 0 and ip[2:2] > 60")
    flows = e2e.TcpFlows(t, "c2", 20)
    datagrams = t.udp("c2")
    external = e2e.ask_udp(datagrams, (SERVER, e2e.PORT), 3)
    t.expect(flows.round()[0] == 20, "20 connections of c2 answer")
    before = drops(t)
    # Source ports of their own: a segment that met another flood's session would be in state.
    floods = [t.lab.popen("c1", "hping3", "-n", "-q", "-c", FLOOD, "-i", "u500", "-s", 5000 + 2000 * i,
                          *arguments, *([] if SERVER2 in arguments else [SERVER]),
                          stdout=-3, stderr=-3)
              for i, (arguments, _) in enumerate(FLOODS.values())]
    meanwhile = news = answered = 0
    deadline = time.monotonic() + 30
    while any(p.poll() is None for p in floods):
        meanwhile += 1
        answered += e2e.ask_udp(datagrams, (SERVER, e2e.PORT), 3) == external
        fresh = t.tcp("c2", (SERVER, e2e.PORT))
        news += e2e.ask_tcp(fresh) is not None
        fresh.close()
        if time.monotonic() > deadline:
            t.need(False, "the floods end")
        time.sleep(0.05)
    t.expect(meanwhile > 5 and answered == news == meanwhile, f"meanwhile {answered} of {meanwhile} "
             f"datagrams of c2 are answered, {news} of {meanwhile} new connections work")
    t.expect(flows.round()[0] == 20 and not flows.moved(), "the 20 connections of c2 answer still")
    flows.close()
    if t.form.mode == "conat":
        counted = {}

        def all_counted():
            now = drops(t)
            counted.update({reason: now.get(reason, 0) - before.get(reason, 0) for reason in now})
            right = collections.Counter(reason for _, reason in FLOODS.values() if reason)
            return all(counted.get(reason, 0) >= n * FLOOD * 0.8 for reason, n in right.items())

        t.eventually(all_counted, "each flood has its reason", 5.0)
        t.say(f"dropped: {counted}")
        t.expect(not orphans.close(), "no last fragment without the first came out")
    lines = watch.close()
    t.expect(not lines, "no private source on the outside links" +
             "".join(f"\n        {line}" for line in lines[:3]))


@program("RFC 5382 REQ-4", "RFC 4787 REQ-8", kernel={"nft": THROUGH, "nft-packet": THROUGH})
def hping3_from_outside(t):
    """A flood of SYNs and datagrams from everywhere to the pool makes no session and no answer."""
    before = total(t.lab.metrics("tbl"), "conat_table_sessions") if t.form.mode == "conat" else 0
    answers = LeakWatch(t.lab, "srv", f"ip and src net 203.0.113.0/28 and not dst port {e2e.PORT}")
    floods = [t.lab.popen("srv", "hping3", "-n", "-q", "-c", "2000", "-i", "u500", *how, "203.0.113.9",
                          stdout=-3, stderr=-3)
              for how in (("-S", "-p", "++2000", "-a", "192.0.2.66"), ("-2", "-p", "++2000"),
                          ("-A", "-p", "8080"), ("-S", "-p", "++2000"))]
    for process in floods:
        process.wait(30)
    t.expect(e2e.ask_udp(t.udp("c2"), (SERVER, e2e.PORT), 3), "a new flow from inside works after it")
    lines = answers.close()
    t.expect(not lines, "the pool sent nothing" + "".join(f"\n        {line}" for line in lines[:3]))
    if t.form.mode == "conat" and not t.form.embedded:
        after = total(t.lab.metrics("tbl"), "conat_table_sessions")
        t.expect(after <= before + 1, f"{after - before:.0f} sessions more")
