# SPDX-License-Identifier: Apache-2.0
"""The lab's two routers: which dataplanes get what. The watcher, and tests that decide it, use this.

By flow, the kernel's ECMP hashes addresses and ports. By packet, nftables marks each packet in turn
with the number of one dataplane, and a rule for each mark (lab.sh makes them at the start) looks
its route up in that dataplane's table, before the main one. So nothing of a flow stays together:
not its two directions, not its segments, not the fragments of a datagram. The outside router begins
its turns one later, else question and answer, each taking turns, would always meet.
"""
import subprocess

NETWORKS = {"ri": "172.16", "ro": "198.18"}


def route(lab, pool, outbound, inbound, spread="flow"):
    """Numbers of the dataplanes that get what leaves by "ri", and what comes to "ro" for the pool."""
    for router, prefix, members in (("ri", "default", outbound), ("ro", pool, inbound)):
        members = sorted(members)
        command = ["ip", "-n", f"{lab}-{router}", "route", "replace"]
        if not members:
            command += ["blackhole", prefix]
        else:
            command += [prefix]
            for n in members:
                command += ["nexthop", "via", f"{NETWORKS[router]}.{n}.2", "dev", f"dp{n}"]
        subprocess.run(command, check=True)
        if spread == "packet":
            if router == "ri":
                rules = turns('iifname "c*"', members, first=0), ""
            else:
                # The router's own ICMP errors as well.
                rules = (turns(f"ip daddr {prefix}", members, first=1),) * 2
            subprocess.run(["ip", "netns", "exec", f"{lab}-{router}", "nft", "-f", "-"],
                           input=RULES.format(*rules), text=True, check=True)


# One transaction. What is for the router itself is delivered before a rule looks at its mark.
RULES = """
table ip lab_spread
delete table ip lab_spread
table ip lab_spread {{
	chain forwarded {{
		type filter hook prerouting priority mangle; policy accept;
		{}
	}}
	chain own {{
		type route hook output priority mangle; policy accept;
		{}
	}}
}}
"""


def turns(where, members, first):
    if not members:
        return ""
    order = ", ".join(f"{i} : {members[(i + first) % len(members)]}" for i in range(len(members)))
    return f"{where} meta mark set numgen inc mod {len(members)} map {{ {order} }}"
