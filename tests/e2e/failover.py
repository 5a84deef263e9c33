#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dataplanes and the table service die, stop, come: what connections notice of it."""
import time

import e2e
from conatlab import SERVER, UdpFlows, total
from e2e import PORT, TcpFlows, ask_tcp, ask_udp


def open_flows(t, tcp_each=100):
    flows = [TcpFlows(t, "c1", tcp_each), TcpFlows(t, "c2", tcp_each)]
    t.expect(sum(f.round()[0] for f in flows) == 2 * tcp_each,
             f"{2 * tcp_each} TCP connections are open and answer")
    return flows


def check_flows(t, flows, when):
    good, took = 0, 0.0
    for f in flows:
        n, seconds = f.round(15.0)
        good, took = good + n, max(took, seconds)
    n = sum(len(f.sockets) for f in flows)
    t.expect(good == n, f"{when}: {good} of {n} TCP connections answer, the last after "
             f"{took:.2f} s" + "".join(f"; {why}" for f in flows for why in
                                       sorted(set(f.lost.values()))))
    t.expect(not sum(f.moved() for f in flows), f"{when}: none of them changed its external endpoint")


def check_udp(t, udp, n, gap, when):
    same = sum(1 for e in udp.endpoints if len(e) == 1)
    t.expect(same == n, f"{when}: {same} of {n} UDP flows kept one external endpoint")
    alive = sum(1 for last in udp.last if last and time.monotonic() - last < 1.0)
    t.expect(alive == n, f"{when}: {alive} of {n} UDP flows answer; {sum(udp.answers)} of "
             f"{udp.sent} datagrams did")
    t.expect(max(udp.gap) < gap, f"{when}: the longest gap of a UDP flow is {max(udp.gap):.2f} s, "
             f"under {gap} s")


def kill_dataplane(t):
    """SIGKILL for one dataplane, then for the other one that was there: nothing is lost."""
    udp = UdpFlows(t.lab, "c1", 50, (SERVER, PORT))
    flows = open_flows(t)
    t.kill("dp1")
    time.sleep(0.5)
    t.expect(t.lab.ecmp() == ["dp2"], "the routers use dp2 alone")
    check_flows(t, flows, "dp1 killed")
    time.sleep(1)
    t.lab.start("dp3")
    check_flows(t, flows, "dp3 there")
    t.kill("dp2")
    time.sleep(0.5)
    t.expect(t.lab.ecmp() == ["dp3"], "the routers use dp3 alone")
    check_flows(t, flows, "dp2 killed too")
    time.sleep(1)
    t.expected_dead.discard("dp1")
    t.lab.start("dp1")
    check_flows(t, flows, "dp1 there again")
    udp.stopping = True
    udp.thread.join()
    check_udp(t, udp, 50, 3.0, "all the time")
    for f in flows:
        f.close()


def new_dataplane(t):
    """A dataplane that just started serves flows that it never saw, from its first packet."""
    n = 50
    udp = [t.udp("c1") for _ in range(n)]
    tcp = [t.tcp("c2", (SERVER, PORT)) for _ in range(n)]
    before = [ask_udp(s, (SERVER, PORT)) for s in udp] + [ask_tcp(s) for s in tcp]
    t.need(None not in before, f"{n} UDP flows and {n} TCP connections work")
    t.lab.start("dp3")
    # One packet each, no second try: what is lost is seen.
    with t.routed("dp3", "dp1"):
        after = [ask_udp(s, (SERVER, PORT)) for s in udp] + [ask_tcp(s) for s in tcp]
    t.expect(before == after, f"dp3 outbound: {sum(map(lambda a, b: a == b, before, after))} of "
             f"{2 * n} flows, first packet and same endpoint")
    t.eventually(lambda: total(t.lab.metrics("dp3"), "conat_packets_total") >= 2 * n,
                 "dp3 counts their packets")
    t.lab.start("dp4")
    with t.routed("dp3", "dp4"):
        after = [ask_udp(s, (SERVER, PORT)) for s in udp] + [ask_tcp(s) for s in tcp]
    t.expect(before == after, f"dp4 inbound: {sum(map(lambda a, b: a == b, before, after))} of "
             f"{2 * n} flows, first packet and same endpoint")


def asymmetric(t):
    """New flows whose two directions never meet the same dataplane."""
    with t.routed("dp1", "dp2"):
        found = [ask_udp(t.udp("c1"), (SERVER, PORT)) for _ in range(50)]
        t.expect(None not in found, f"{50 - found.count(None)} of 50 first datagrams are answered")
        connections = [t.tcp("c2", (SERVER, PORT)) for _ in range(20)]
        found = [ask_tcp(s) for s in connections]
        t.expect(None not in found, f"{20 - found.count(None)} of 20 TCP connections work")
    with t.routed("dp2", "dp1"):
        again = [ask_tcp(s) for s in connections]
        t.expect(found == again, "the same after both directions changed places")


def packet_by_packet(t):
    """Each packet to another dataplane, both directions, while one is killed and one comes."""
    def received(name):
        """What the two routers sent there, and now and then ARP."""
        found = t.lab.run(name, "cat", *(f"/sys/class/net/{link}/statistics/rx_packets"
                                         for link in ("in0", "out0")), check=True).stdout.split()
        return [int(n) for n in found]

    flows = open_flows(t, 25)
    s = t.udp("c1")
    endpoints = {ask_udp(s, (SERVER, PORT), 3) for _ in range(50)}
    t.expect(len(endpoints) == 1 and None not in endpoints,
             f"50 datagrams of a flow are answered, seen at {endpoints}")
    one, two = received("dp1"), received("dp2")
    t.expect(min(one + two) > 80 and all(abs(a - b) < 10 for a, b in zip(one, two)),
             f"each gets every other packet of both directions: dp1 {one}, dp2 {two}")
    t.kill("dp1")
    t.eventually(lambda: t.lab.ecmp() == ["dp2"], "the routers use dp2 alone")
    check_flows(t, flows, "dp1 killed")
    t.lab.start("dp3")
    before = received("dp2")
    check_flows(t, flows, "dp3 there")
    two, three = [a - b for a, b in zip(received("dp2"), before)], received("dp3")
    t.expect(min(three) > 20 and all(abs(a - b) < 10 for a, b in zip(two, three)),
             f"they share: dp2 {two}, dp3 {three}")
    for pair in (("dp2", "dp3"), ("dp3", "dp2")):
        with t.routed(*pair):
            check_flows(t, flows, f"out by {pair[0]}, in by {pair[1]}")
    check_flows(t, flows, "taking turns again")
    for f in flows:
        f.close()


packet_by_packet.spread = "packet"


def service_stopped(t):
    """The table service stands still for 30 s: established flows go on, new ones work later."""
    udp = UdpFlows(t.lab, "c1", 50, (SERVER, PORT))
    flows = open_flows(t, 50)
    # Every dataplane learns every flow first: what it does not know it cannot ask for now.
    for pair in (("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            check_flows(t, flows, f"out by {pair[0]}, in by {pair[1]}")
            time.sleep(0.3)
    udp.gap = [0.0] * 50
    t.lab.signal("tbl", "STOP")
    start = time.monotonic()
    new = t.udp("c2", timeout=0.5)
    t.expect(ask_udp(new, (SERVER, PORT)) is None, "a new flow has to wait")
    for second in (1, 8, 15, 22, 29):
        time.sleep(max(0.0, start + second - time.monotonic()))
        check_flows(t, flows, f"stopped for {time.monotonic() - start:.0f} s")
    time.sleep(max(0.0, start + 30 - time.monotonic()))
    t.expect(t.lab.ecmp() == ["dp1", "dp2"], "both dataplanes are still in use")
    t.lab.signal("tbl", "CONT")
    new.settimeout(1.0)
    t.expect(ask_udp(new, (SERVER, PORT), tries=5), "going on: a new flow works")
    check_flows(t, flows, "going on")
    udp.stopping = True
    udp.thread.join()
    check_udp(t, udp, 50, 1.5, "all the time")


def service_restarted(t):
    """Killed and started again without a journal: dataplanes flush, new flows work within 1 s."""
    old = [t.udp("c1") for _ in range(20)]
    t.need(None not in [ask_udp(s, (SERVER, PORT)) for s in old], "20 UDP flows work")
    sessions = len(list(t.lab.ctl("sessions")))
    t.expect(sessions >= 20, f"the table has {sessions} sessions")
    epoch = t.lab.ctl("status")[0]["epoch"]
    flushed = ("conat_cache_removed_total", (("cause", "flushed"),))
    flushes = {n: t.lab.metrics(n)[flushed] for n in ("dp1", "dp2")}
    t.lab.command("restart-service")
    start, first = time.monotonic(), None
    while first is None and time.monotonic() < start + 10:
        s = t.udp("c2", timeout=0.1)
        first = ask_udp(s, (SERVER, PORT))
        s.close()
    took = time.monotonic() - start
    t.expect(first and took < 1.0, f"a new flow works {took:.2f} s after the service listens")
    t.expect(t.lab.ctl("status")[0]["epoch"] != epoch, "the table's epoch is a new one")
    deadline = time.monotonic() + 5
    while len(t.lab.ctl("dataplanes")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for name, before in flushes.items():
        t.eventually(lambda n=name, b=before: t.lab.metrics(n)[flushed] > b, f"{name} flushed")
    # What the dataplanes hold is what the new table knows: U1 across the restart.
    again = [ask_udp(s, (SERVER, PORT), tries=3) for s in old]
    t.expect(None not in again, "the old UDP flows work, by new mappings")
    known = {(m["external"]) for m in t.lab.ctl("mappings")}
    t.expect(all(f"{a}:{p}" in known for a, p in filter(None, again)),
             "and the table knows each of their external endpoints")
    good = [ask_tcp(t.tcp("c1", (SERVER, PORT))) for _ in range(10)]
    t.expect(None not in good, "new TCP connections work")


if __name__ == "__main__":
    e2e.main([kill_dataplane, new_dataplane, asymmetric, packet_by_packet, service_stopped,
              service_restarted])
