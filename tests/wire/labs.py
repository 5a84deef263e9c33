# SPDX-License-Identifier: Apache-2.0
"""The NAT under test: conat's real programs, or the kernel's nftables NAT as the reference.

The reference gets what an administrator would write to have the same service: the same pool, an
address of it for each host for good ("persistent"), the same port forwards, hairpinning to them.
It has no other rule: what Linux NAT does by itself is what is compared. Mode "router" translates
nothing but the harness's markers.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for path in ("../../deploy/lab", "../e2e"):
    sys.path.append(os.path.join(HERE, path))  # behind: suites here may be named as files there
import conatlab  # noqa: E402
import e2e  # noqa: E402
import wire  # noqa: E402
from wire import POOL  # noqa: E402

FORMS = {"one": 1, "two": 2, "packet": 2}
FILTERING = {"eif": ("endpoint-independent",) * 2, "adf": ("address-dependent",) * 2,
             "apdf": ("address-and-port-dependent",) * 2,
             "split": ("endpoint-independent", "address-and-port-dependent"),
             "protocols": ("address-dependent",) * 2}
BY_ADDRESS = {"protocols": "dccp, esp, gre, sctp, udplite"}
# Addresses of the pool that are one host's (Basic NAT).
WHOLE = {"203.0.113.12": "10.0.253.2", "203.0.113.13": "10.0.253.3"}
BYPASS = "192.0.2.128/25"
REDIRECTED, REDIRECT = ("192.0.2.53", 53), ("198.51.103.53", 5353)
# External endpoint and internal endpoint of each forward, for TCP and UDP.
FORWARDS = [((POOL[1], 100 + i), (f"10.0.254.{2 + i}", 8000 + i)) for i in range(60)]

CONFIG = """\
service: {{ listen: [ "192.168.255.1:4790" ], admin: "127.0.0.1:9464", journal: none }}
capacity: {{ mappings: 100000, sessions: 300000, subscribers: 4000 }}
limits: {{ sessions: 200000, per_mapping: 200000, creations_per_second: 0 }}
pools:
  - name: wire
    prefixes: [ {pool}/30, {whole} ]
    block_size: 128
    filtering: {{ udp: {udp}, tcp: {tcp} }}
    protocols: [ {protocols} ]
realms:
  - {{ name: clients, id: 1, prefixes: [ 10.0.0.0/16 ], pool: wire }}
bypass: [ {bypass} ]
redirect:
  - {{ name: wire, from_realm: clients, protocol: udp, pool: wire, to_realm: outside,
      destination: "{redirected[0]}:{redirected[1]}", to: "{redirect[0]}:{redirect[1]}" }}
static:
  - {{ realm: clients, protocol: udp, external: "{marker}:{port}", internal: "{host}:{port}" }}
"""
RULES = """\
table ip conat_wire {{
	chain prerouting {{
		type nat hook prerouting priority dstnat;
		ip daddr {marker} udp dport {port} dnat to {host}:{port}
		ip daddr {redirected[0]} udp dport {redirected[1]} dnat to {redirect[0]}:{redirect[1]}
{forwards}
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat;
		ip daddr {bypass} accept
{whole_sources}
		oifname "out0" snat to {first}-{last} persistent
		iifname "in0" oifname "in0" ct status dnat snat to {first}-{last} persistent
	}}
	chain input {{ # the gateway itself offers nothing on the pool's addresses
		type filter hook input priority filter;
		ip daddr {first}-{last_whole} drop
	}}
}}
"""


_SAME = {"marker": wire.MARKER_EXTERNAL, "port": wire.MARKER_PORT, "host": wire.MARKER_HOST,
         "bypass": BYPASS, "redirected": REDIRECTED, "redirect": REDIRECT}
ROUTER = """\
table ip conat_wire {{
	chain prerouting {{
		type nat hook prerouting priority dstnat;
		ip daddr {marker} udp dport {port} dnat to {host}:{port}
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat;
		oifname "out0" ip saddr {host} snat to {marker}
	}}
	chain input {{
		type filter hook input priority filter;
		ip daddr {first}-{last} drop
	}}
}}
"""


def _config(behaviour):
    udp, tcp = FILTERING[behaviour]
    text = CONFIG.format(pool=POOL[0], whole=", ".join(WHOLE), udp=udp, tcp=tcp, protocols=BY_ADDRESS.get(behaviour, ""),
                         **_SAME)
    for external, internal in WHOLE.items():
        text += f'  - {{ realm: clients, external: "{external}", internal: "{internal}" }}\n'
    for external, internal in FORWARDS:
        for protocol in ("udp", "tcp"):
            text += (f'  - {{ realm: clients, protocol: {protocol}, external: "{external[0]}:'
                     f'{external[1]}", internal: "{internal[0]}:{internal[1]}" }}\n')
    return text


def _rules(mode):
    if mode == "router":
        return ROUTER.format(first=POOL[0], last=POOL[-1], **_SAME)
    forwards = "\n".join(
        f"\t\tip daddr {external[0]} {protocol} dport {external[1]} dnat to "
        f"{internal[0]}:{internal[1]}"
        for external, internal in FORWARDS for protocol in ("udp", "tcp"))
    forwards += "".join(f"\n\t\tip daddr {external} dnat to {internal}"
                        for external, internal in WHOLE.items())
    sources = "\n".join(f"\t\tip saddr {internal} snat to {external}"
                        for external, internal in WHOLE.items())
    return RULES.format(first=POOL[0], last=POOL[-1], last_whole=list(WHOLE)[-1],
                        forwards=forwards, whole_sources=sources, **_SAME)


class NatLab:
    """A lab with the NAT and the two wires beside it."""

    def __init__(self, mode, form, verbose=False):
        self.mode, self.form = mode, form
        self.lab = conatlab.Lab()
        self.behaviour, self.wire, self.free = "adf", None, list(FORWARDS)
        self.path = f"/tmp/{self.lab.name}.yaml"
        try:
            self._up(verbose)
        except BaseException:
            self.down()
            raise

    def _up(self, verbose):
        lab, n = self.lab, FORMS[self.form] if self.mode == "conat" else 1
        if self.mode == "conat":
            with open(self.path, "w", encoding="ascii") as f:
                f.write(_config(self.behaviour))
            lab.up("--dataplanes", n, "--config", self.path)
        else:
            lab.up("--mode", "forward", "--dataplanes", 1)
            self._nft()
        for router in ("ri", "ro"):
            lab.run(router, "sysctl", "-qw", "net.ipv4.ip_forward=0", check=True)
        self.wire = wire.Wire(lab, n, self.form, verbose)

    def _nft(self):
        for address in (*POOL, *WHOLE):  # a gateway owns them; else it would send strays on in a circle
            self.lab.run("dp1", "ip", "address", "add", address + "/32", "dev", "lo", check=True)
        done = subprocess.run(["ip", "netns", "exec", f"{self.lab.name}-dp1", "nft", "-f", "-"],
                              input=_rules(self.mode), text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise conatlab.LabError(f"nft: {done.stderr.strip()}")

    def behave(self, behaviour):
        """Another filtering behaviour, by a reload. The kernel has but one."""
        if behaviour == self.behaviour or self.mode != "conat":
            return
        text = "configuration reloaded"
        before = self.lab.log("tbl").count(text)
        with open(os.path.join(self.lab.state, "tablesvc.yaml"), "w", encoding="ascii") as f:
            f.write(_config(behaviour))
        self.lab.signal("tbl", "HUP")
        deadline = time.monotonic() + 5
        while self.lab.log("tbl").count(text) == before:
            if time.monotonic() > deadline:
                raise conatlab.LabError(f"no reload in 5 s: {self.lab.log('tbl')[-500:]}")
            time.sleep(0.01)
        self.behaviour = behaviour

    def forward(self):
        """(external, internal) endpoint of a port forward that no case has used."""
        return self.free.pop(0)

    def drops(self):
        """{(dataplane, reason): packets} so far."""
        found = {}
        for n in range(1, self.wire.dataplanes + 1):
            for (name, labels), value in self.lab.metrics(f"dp{n}").items():
                if name == "conat_drop_total" and value:
                    found[f"dp{n}", dict(labels)["reason"]] = int(value)
        return found

    def complaints(self):
        """What a run must not leave behind: a program that ended, a sanitizer's report."""
        found = []
        labels = [f"dp{n}" for n in range(1, self.wire.dataplanes + 1)]
        if self.mode == "conat":
            labels.append("tbl")
        for label in labels:
            if not self.lab.running(label):
                found.append(f"{label} has ended")
            elif self.mode == "conat":
                self.lab.command("stop", label)
            if bad := e2e.COMPLAINTS.search(self.lab.log(label)):
                found.append(f"{label}: {bad[0]}")
        return found

    def down(self):
        if self.wire:
            self.wire.close()
        self.lab.down()
        if os.path.exists(self.path):
            os.unlink(self.path)
