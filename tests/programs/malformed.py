# SPDX-License-Identifier: Apache-2.0
"""tcpreplay of malformed captures from both sides, and the same packets translated offline."""
import os
import re
import signal
import time

import captures
import e2e
from conatlab import CLIENTS, SERVER, LeakWatch, program as built, total
from programs import FORWARDED, drops, program, server

SEED, PACKETS = 4787, 2000


def mac(t, ns, link):
    return t.lab.run(ns, "cat", f"/sys/class/net/{link}/address", check=True).stdout.strip()


def ethernet(to, source):
    return bytes.fromhex((to + source).replace(":", "")) + b"\x08\x00"


def outside(rng):
    return f"{captures.NOWHERE}{rng.randrange(1, 255)}"


def make(t):
    """The captures for c1's and the server's link. Nobody answers where the inside ones go to; the
    outside ones go to the forwarded port, to unused ones, and quote what c1 could have sent."""
    c1 = CLIENTS["c1"]
    inside = captures.malformed(
        SEED, PACKETS, lambda rng: c1, outside,
        lambda rng: (rng.choice((0, 80, 1024, 40000 + rng.randrange(200))), rng.choice((0, 53, 80, 443))),
        lambda rng: (outside(rng), c1, (443, 80)))
    coming = captures.malformed(
        SEED + 1, PACKETS, outside, lambda rng: rng.choice((FORWARDED[0], "203.0.113.3")),
        lambda rng: (443, rng.choice((FORWARDED[1], FORWARDED[1], 0, 9))),
        lambda rng: (FORWARDED[0], outside(rng), (FORWARDED[1], 443)))
    paths = {}
    for ns, link, router, packets in (("c1", "c1", "ri", inside), ("srv", "srv", "ro", coming)):
        paths[ns] = os.path.join(t.lab.state, f"malformed-{ns}.pcap")
        captures.write(paths[ns], packets, 1, ethernet(mac(t, router, link), mac(t, ns, "eth0")))
    return paths


def port_packets(metrics, direction):
    return sum(value for (name, labels), value in metrics.items()
               if name == "conat_port_packets_total" and ("direction", direction) in labels)


class Tap:
    """tcpdump of what a dataplane reads: both of its devices, what the kernel hands to them."""

    def __init__(self, t, label):
        self.paths = [os.path.join(t.lab.state, f"{device}.pcap") for device in ("conat-in", "conat-out")]
        self.processes = []
        for path in self.paths:
            device = os.path.basename(path)[:-5]
            process = t.lab.popen(label, "tcpdump", "-i", device, "-Q", "out", "-U", "-B", "16384", "-w",
                                  path, stderr=-1, text=True)
            self.processes.append(process)
            for line in process.stderr:
                if "listening on" in line:
                    break

    def close(self, n):
        """All packets, in the order in which they came, when there are n."""
        deadline = time.monotonic() + 15
        while sum(len(captures.read(path)[1]) for path in self.paths) < n and time.monotonic() < deadline:
            time.sleep(0.1)
        packets = []
        for process, path in zip(self.processes, self.paths):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
            packets += captures.read(path)[1]
        return sorted(packets, key=lambda p: p[:2])


def replay(t, paths):
    """Both at once, at some 5000 packets a second; how many packets were sent."""
    started = [t.lab.popen(ns, "tcpreplay", "-q", "-i", "eth0", "--pps", "5000", path, stdout=-1,
                           stderr=-2, text=True) for ns, path in paths.items()]
    sent = 0
    for process in started:
        out = process.communicate(timeout=40)[0]
        found = re.search(r"Successful packets:\s+(\d+)", out)
        t.expect(found and process.returncode == 0, f"tcpreplay sent {found and found[1]} packets" +
                 ("" if found else f": {out[-200:]}"))
        sent += int(found[1]) if found else 0
    return sent


@program("RFC 5508 REQ-3", "RFC 4787 REQ-14", kernel={
    "nft": "what it cannot track leaves untranslated", "nft-packet": "what it cannot track leaves "
    "untranslated"})
def tcpreplay(t):
    """4000 damaged packets from both sides: each leaves or has a counter, none with a private
    source, and a neighbour's flows do not notice."""
    server(t, "web", "c1", 80, "python3", "-m", "http.server", "80")
    t.lab.run("ro", "ip", "route", "replace", "blackhole", f"{captures.NOWHERE}0/24", check=True)
    watch = LeakWatch(t.lab)
    flows = e2e.TcpFlows(t, "c2", 10)
    t.expect(flows.round()[0] == 10, "10 connections of c2 answer")
    before = drops(t)
    # Nothing of c2's is in it: a second table would give its flows other endpoints.
    tap = Tap(t, "dp1") if t.form_name == "one" else None
    read = port_packets(t.lab.metrics("dp1"), "received")
    t.expect(replay(t, make(t)) == 2 * PACKETS, f"{2 * PACKETS} damaged packets were sent")
    counted = {}
    if t.form.mode == "conat":
        labels = ("dp1", "dp2")[:t.form.dataplanes]
        t.eventually(lambda: not sum(total(t.lab.metrics(label), "conat_pending_packets")
                                     for label in labels), "nothing waits any more", 8.0)
        counted.update({r: n - before.get(r, 0) for r, n in drops(t).items()})
        t.say(f"dropped: {counted}")
        for reason in ("bad_transport", "bad_embedded", "bad_icmp_checksum", "protocol", "icmp_type",
                       "tcp_out_of_state", "no_mapping"):
            t.expect(counted.get(reason, 0) > 0, f"some were dropped as {reason}")
    if tap:
        read = port_packets(t.lab.metrics("dp1"), "received") - read
        t.replayed = tap.close(read), counted
        t.expect(len(t.replayed[0]) == read, f"{len(t.replayed[0])} of {read:.0f} packets captured")
    t.expect(flows.round()[0] == 10 and not flows.moved(), "c2's connections answer still")
    fresh = t.tcp("c2", (SERVER, e2e.PORT))
    t.expect(e2e.ask_tcp(fresh) is not None, "and a new one")
    fresh.close()
    flows.close()
    lines = watch.close()
    t.expect(not lines, "no private source on the outside links" +
             "".join(f"\n        {line}" for line in lines[:3]))


@program("RFC 4787 REQ-11", forms=["one"])
def offline(t):
    """What the dataplane read while tcpreplay ran, translated once more from a capture by another
    dataplane with a table of its own: the same verdicts."""
    t.need(hasattr(t, "replayed"), "tcpreplay ran before")
    packets, counted = t.replayed
    source, result = (os.path.join(t.lab.state, f"offline-{name}.pcap") for name in ("read", "written"))
    # Without the inside router's own errors: offline, what has no inside source comes from outside.
    captures.write(source, [(seconds, microseconds, captures.hop_back(data))
                            for seconds, microseconds, data in packets if data[12:14] != b"\xac\x10"])
    config = os.path.join(t.lab.state, "offline.yaml")
    with open(os.path.join(t.lab.state, "tablesvc.yaml"), encoding="ascii") as f:
        text = f.read()
    with open(config, "w", encoding="ascii") as f:
        f.write(text[text.index("capacity:"):])
    done = t.lab.run("dp3", built("conat-dataplane"), "--table", f"embedded:{config}", "--read", source,
                     "--write", result, "--admin", "off")
    t.need(done.returncode == 0, f"{len(packets)} packets translated offline" +
           (f": {done.stderr[-300:]}" if done.returncode else ""))
    found = {reason: int(n) for reason, n in
             re.findall(r"(\w+): (\d+) packets dropped \(", done.stderr)}
    right = {reason: n for reason, n in counted.items() if n}
    t.expect(found == right, f"dropped offline: {found}" + ("" if found == right else f", not {right}"))
    wrong = [p for _, _, p in captures.read(result)[1] if captures.checksum(p[:(p[0] & 15) * 4]) != 0]
    t.expect(not wrong, f"{len(captures.read(result)[1])} packets came out, each with a right header")
