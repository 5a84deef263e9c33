#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One dataplane's own business: the host's set-up and its undoing, addresses, the embedded table."""
import os
import time

import e2e
from conatlab import SERVER, program
from e2e import PORT, ask_tcp, ask_udp


def snapshot(t, ns):
    """What a dataplane may change of its host."""
    rules = t.lab.run(ns, "ip", "rule", check=True).stdout
    routes = t.lab.run(ns, "ip", "route", "show", "table", "all", check=True).stdout
    links = t.lab.run(ns, "ip", "-br", "link", check=True).stdout
    conf = t.lab.run(ns, "sysctl", "-a", "--pattern", r"^net\.ipv4\.(ip_forward|conf\.)").stdout
    return {
        "rules": sorted(rules.splitlines()), "routes": sorted(routes.splitlines()),
        "links": sorted(line.split()[0] for line in links.splitlines()),
        "sysctls": sorted(line for line in conf.splitlines() if ".lo." not in line),
    }


def compare(t, before, after, when):
    for what, old in before.items():
        more = [line for line in after[what] if line not in old]
        less = [line for line in old if line not in after[what]]
        t.expect(not more and not less, f"{when}: {what} as before" +
                 "".join(f"\n        + {line}" for line in more) +
                 "".join(f"\n        - {line}" for line in less))


def host_setup(t):
    """What a dataplane changes of its host is taken back, at its end and after a crash."""
    before = snapshot(t, "dp1")
    t.lab.start("dp1")
    during = snapshot(t, "dp1")
    t.expect(during != before, "it did change something: " +
             ", ".join(sorted(set(during["links"]) - set(before["links"]))))
    t.expect(ask_udp(t.udp("c1"), (SERVER, PORT), 3), "and works")
    t.lab.command("stop", "dp1")
    compare(t, before, snapshot(t, "dp1"), "after SIGTERM")
    t.lab.start("dp1")
    t.lab.signal("dp1", "KILL")
    time.sleep(0.5)
    t.lab.start("dp1")
    t.expect(ask_udp(t.udp("c1"), (SERVER, PORT), 3), "works again after SIGKILL and a new start")
    t.lab.command("stop", "dp1")
    compare(t, before, snapshot(t, "dp1"), "after SIGKILL, start, SIGTERM")
    t.expected_dead.add("dp1")


host_setup.dataplanes = 0


def killed_leaks_nothing(t):
    """A killed dataplane's namespace, still routed to, passes nothing untranslated."""
    with t.routed("dp1", "dp1"):
        s = t.udp("c1", timeout=0.3)
        t.need(ask_udp(s, (SERVER, PORT), 3), "works")
        before = t.lab.run("srv", "cat", "/sys/class/net/eth0/statistics/rx_packets").stdout
        t.kill("dp1")
        found = [ask_udp(s, (SERVER, PORT)) for _ in range(5)]
        t.expect(found == [None] * 5, "nothing comes back any more")
        after = t.lab.run("srv", "cat", "/sys/class/net/eth0/statistics/rx_packets").stdout
        t.expect(int(after) - int(before) <= 1, "and nothing reaches the server (but ARP)")


def two_addresses(t):
    """The first address of the table service is dead, the second one is used."""
    t.lab.spawn("dp1", "dp1", program("conat-dataplane"), "--table",
                "192.168.255.9:4790,192.168.255.1:4790", "--inside", "in0", "--outside", "out0",
                "--name", "dp1", "--admin", "192.168.255.11:9465")
    t.wait_ecmp("dp1")
    t.expect(ask_udp(t.udp("c1"), (SERVER, PORT), 3), "a flow works")


two_addresses.dataplanes = 0


def embedded(t):
    """conat-dataplane --table embedded:CONFIG is a NAT gateway by itself, and leaves no child."""
    e2e.embedded_start(t, os.path.join(t.lab.state, "tablesvc.yaml"))
    t.expect(ask_udp(t.udp("c1"), (SERVER, PORT), 3), "UDP works")
    t.expect(ask_tcp(t.tcp("c2", (SERVER, PORT))), "TCP works")
    pids = t.lab.run("dp1", "ip", "netns", "pids", f"{t.lab.name}-dp1").stdout.split()
    t.expect(len(pids) >= 2, f"the service is a child: {len(pids)} processes")
    t.kill("dp1")
    time.sleep(1.5)
    pids = t.lab.run("dp1", "ip", "netns", "pids", f"{t.lab.name}-dp1").stdout.split()
    pids = [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]
    names = [os.readlink(f"/proc/{pid}/exe") for pid in pids]
    t.expect(not [name for name in names if "conat" in name],
             f"killed, it takes the child with it: {names}")


embedded.dataplanes = 0


if __name__ == "__main__":
    e2e.main([host_setup, killed_leaks_nothing, two_addresses, embedded])
