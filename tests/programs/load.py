# SPDX-License-Identifier: Apache-2.0
"""Programs that make many connections, calls, questions, and bytes: all of them arrive."""
import hashlib
import json
import os
import re
import time

import e2e
from conatlab import CLIENTS, SERVER
from programs import HERE, listening, program, server

MOVES = "segments of one connection leave with two external endpoints"


@program("RFC 5382 REQ-1", "RFC 5382 REQ-7", "RFC 4787 REQ-2", "RFC 6888 REQ-2",
         kernel={"nft-packet": MOVES})
def ab(t):
    """10000 connections from two hosts, 200 at a time: none fails, no endpoint has two owners, and
    each host has one address."""
    server(t, "pages", "srv", 8000, "python3", "-B", os.path.join(HERE, "pages.py"), "8000")
    runs = {ns: t.lab.popen(ns, "ab", "-q", "-s", "10", "-c", "100", "-n", "5000",
                            f"http://{SERVER}:8000/{ns}", stdout=-1, stderr=-2, text=True)
            for ns in CLIENTS}
    for ns, process in runs.items():
        out = process.communicate(timeout=50)[0]
        figures = {name: re.search(rf"^{name}:\s+(\d+)", out, re.M) for name in
                   ("Complete requests", "Failed requests")}
        t.expect([m and m[1] for m in figures.values()] == ["5000", "0"],
                 f"{ns}: " + ", ".join(f"{name} {m and m[1]}" for name, m in figures.items()) +
                 ("" if figures["Failed requests"] else f": {out[-120:].strip()}"))
    seen = json.loads(t.lab.http("srv", SERVER, 8000, "/seen", timeout=5) or "{}")
    found = [set(seen.get(f"/{ns}", ())) for ns in CLIENTS]
    t.expect(min(map(len, found)) > 2000 and not found[0] & found[1],
             f"{len(found[0])} and {len(found[1])} endpoints, {len(found[0] & found[1])} of them both's")
    addresses = [{e.split(":")[0] for e in endpoints} for endpoints in found]
    t.expect([len(a) for a in addresses] == [1, 1], f"one address each: {addresses}")


@program("RFC 4787 REQ-10", "RFC 5382 REQ-6")
def sipp(t):
    """100 calls: none fails, and what the telephone says of itself arrives as it was said."""
    messages, scenario = (os.path.join(t.lab.state, name) for name in ("sipp-messages", "uas.xml"))
    # "Ringing" and "OK" come at once and might change places where each packet has its own way: a
    # telephone lets its owner time to answer.
    builtin = t.lab.run("srv", "sipp", "-sd", "uas").stdout
    ok = builtin.index("<send", builtin.index("SIP/2.0 180 Ringing"))
    with open(scenario, "w", encoding="ascii") as f:
        f.write(builtin[:ok] + '<pause milliseconds="30"/>\n' +
                builtin[ok:].replace('<timewait milliseconds="4000"/>', ""))
    uas = t.lab.popen("srv", "sipp", "-sf", scenario, "-i", SERVER, "-p", "5060", "-nostdin", "-m", "100",
                      "-trace_msg", "-message_file", messages, stdout=-3, stderr=-3)
    try:
        listening(t, "srv", 5060, "udp")
        uac = t.lab.run("c1", "sipp", "-sn", "uac", f"{SERVER}:5060", "-i", CLIENTS["c1"], "-p", "5060",
                        "-m", "100", "-r", "100", "-d", "50", "-nostdin", "-timeout", "20", timeout=30)
        # The last table; columns are: since the last look, and in all.
        calls = {name: re.findall(rf"{name} call +\| +\d+ +\| +(\d+)", uac.stdout)[-1:]
                 for name in ("Successful", "Failed")}
        t.expect(uac.returncode == 0 and calls == {"Successful": ["100"], "Failed": ["0"]},
                 f"calls: {calls}, exit status {uac.returncode}")
        t.expect(uas.wait(10) == 0, "the called telephone is content")
    finally:
        uas.kill()
        uas.wait()
    with open(messages, encoding="utf-8", errors="replace") as f:
        text = f.read()
    invites = re.findall(r"UDP message received \[\d+\] bytes :\s+(INVITE .*?\r?\n\r?\n.*?)\n-{10}", text, re.S)
    own = [i for i in invites if f"Via: SIP/2.0/UDP {CLIENTS['c1']}:5060" in i and
           f"Contact: sip:sipp@{CLIENTS['c1']}:5060" in i and f"c=IN IP4 {CLIENTS['c1']}" in i]
    t.expect(len(invites) >= 100 and len(own) == len(invites), f"{len(own)} of {len(invites)} INVITEs "
             "have the inside address in Via, Contact and SDP")


@program("RFC 4787 REQ-5")
def dnsperf(t):
    """5000 questions: all answered, and their sessions end by the timer of port 53 (here 2 s)."""
    server(t, "dns", "srv", 53, "dnsmasq", "-d", "-C", "/dev/null", "--port=53",
           f"--listen-address={SERVER}", "--bind-interfaces", "--no-resolv", "--no-hosts",
           "--address=/example.test/192.0.2.1")
    path = os.path.join(t.lab.state, "questions")
    with open(path, "w", encoding="ascii") as f:
        f.write("".join(f"h{i}.example.test A\n" for i in range(500)))
    out = t.lab.run("c1", "dnsperf", "-s", SERVER, "-d", path, "-n", "10", "-c", "50", "-Q", "4000").stdout
    figures = {name: re.search(rf"Queries {name}:\s+(\d+)", out) for name in ("sent", "completed", "lost")}
    t.expect([m and m[1] for m in figures.values()] == ["5000", "5000", "0"],
             f"{ {name: m and m[1] for name, m in figures.items()} }")
    if t.form.mode == "conat" and not t.form.embedded:
        def open_():
            return [s for s in t.lab.ctl("sessions", "--limit", "100000")
                    if s.get("remote") == f"{SERVER}:53" and s.get("protocol") == "udp"]
        held = t.udp("c1")
        t.expect(e2e.ask_udp(held, (SERVER, e2e.PORT), 3), "another session")
        t.expect(len(open_()) >= 50, f"{len(open_())} sessions to port 53")
        t.eventually(lambda: not open_(), "they end, with their dataplanes asked", 6.0)
        t.expect([s for s in t.lab.ctl("sessions", "--limit", "100000")
                  if s.get("remote") == f"{SERVER}:{e2e.PORT}"], "the other session lives")


def iperf3(t, ns, port, *arguments, seconds=2):
    out = t.lab.run(ns, "iperf3", "--json", "-c", SERVER, "-p", port, "-t", seconds, *arguments,
                    timeout=30).stdout
    found = json.loads(out)
    if "error" in found:
        t.expect(False, f"iperf3 {' '.join(arguments)}: {found['error']}")
        raise e2e.Failure
    return found["end"]


@program("RFC 5382 REQ-2", kernel={"nft-packet": MOVES})
def iperf3_tcp(t):
    """Four streams each way, and both ways at once."""
    ways = {5201: ("-P", "4"), 5202: ("-P", "4", "-R"), 5203: ("--bidir",)}
    for port, arguments in ways.items():
        server(t, f"iperf{port}", "srv", port, "iperf3", "-s", "-p", port)
        end = iperf3(t, "c1", port, *arguments, seconds=1)
        received = end["sum_received"]["bits_per_second"] / 1e6
        t.expect(received > 20, f"iperf3 {' '.join(arguments)}: {received:.0f} Mbit/s arrive")


@program("RFC 5382 REQ-2", kernel={"nft-packet": MOVES})
def curl(t):
    """A file each way of each client, byte for byte."""
    mebibytes = 24
    server(t, "files", "srv", 8081, "python3", "-B", os.path.join(HERE, "../../deploy/lab/fileserver.py"),
           "--port", "8081", "--mebibytes", mebibytes)
    right = t.lab.run("srv", "curl", "-sS", f"http://{SERVER}:8081/sha256").stdout
    started = time.monotonic()
    downloads = {ns: t.lab.popen(ns, "curl", "-sS", "--max-time", "20", f"http://{SERVER}:8081/file",
                                 stdout=-1) for ns in CLIENTS}
    digests = {}
    for ns, process in downloads.items():
        digest = hashlib.sha256()
        for chunk in iter(lambda p=process: p.stdout.read(1 << 20), b""):
            digest.update(chunk)
        process.wait()
        digests[ns] = digest.hexdigest()
    for ns in CLIENTS:
        t.expect(digests[ns] == right, f"{ns}: {mebibytes} MiB with the right checksum")
    t.say(f"{2 * mebibytes / (time.monotonic() - started):.0f} MiB/s")
