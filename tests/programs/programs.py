# SPDX-License-Identifier: Apache-2.0
"""The frame of the tests by programs that nobody here wrote: what a program is, and in which labs.

A suite is a file of functions marked with @program. All suites that are asked for run in one lab,
one program after the other, in the frame of the end-to-end tests (no private source outside, no
program of ours ends, no sanitizer complains). Forms of the lab:

    one         one dataplane
    packet      two dataplanes; both routers send each packet to the other one in turn
    home        one gateway with its own table service (--table embedded:)
    nft         the kernel's NAT in the one dataplane's place, with the same pool and port forward
    nft-packet  the kernel's NAT in both dataplanes' places, each packet to the other one in turn

The kernel's forms show which tests can fail: what each program says of them is held against the
program's note, and is the table kernel.md.
"""
import contextlib
import importlib
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import e2e  # noqa: E402  (finds the lab)
import conatlab  # noqa: E402

FORMS = {"one": e2e.Form(1), "packet": e2e.Form(2, "packet"), "home": e2e.Form(1, embedded=True),
         "nft": e2e.Form(1, mode="nft"), "nft-packet": e2e.Form(2, "packet", mode="nft")}
RELOADED = [name for name in FORMS if name != "home"]  # where filtering() can change it
FORWARDED = "203.0.113.9", 8080  # to port 80 of c1
# The first three bytes of the pool's addresses, here and in a second cluster (two_nats.py).
POOL, PEERS_POOL = "203.0.113", "203.0.114"
FILTERING = {"EIF": "endpoint-independent", "ADF": "address-dependent",
             "APDF": "address-and-port-dependent"}
CONFIG = """\
service:
  listen: [ "192.168.255.1:4790" ]
  admin: "127.0.0.1:9464"
  journal: none
capacity: {{ mappings: 200000, sessions: 200000, subscribers: 1000 }}
limits: {{ blocks: 64, sessions: 40000, creations_per_second: 0 }}
timers: {{ udp_dns: 2s }}
pools:
  - name: lab
    prefixes: [ {pool}.0/28 ]
    filtering: {{ udp: {filtering}, tcp: {filtering} }}
realms:
  - {{ name: clients, id: 1, prefixes: [ 10.0.0.0/16 ], pool: lab }}
static:
  - {{ realm: clients, protocol: tcp, external: "{pool}.9:8080", internal: "10.0.1.2:80" }}
"""
# What an administrator would write to have the same service.
RULES = """
table ip conat_lab
delete table ip conat_lab
table ip conat_lab {{
	chain in {{
		type nat hook prerouting priority dstnat;
		ip daddr {pool}.9 tcp dport 8080 dnat to 10.0.1.2:80
	}}
	chain out {{
		type nat hook postrouting priority srcnat;
		oifname "out0" snat to {pool}.0-{pool}.15 persistent
		iifname "in0" oifname "in0" ct status dnat snat to {pool}.0-{pool}.15 persistent
	}}
}}
"""
RENDEZVOUS = "198.19.0.1", "198.19.0.2"  # between two clusters
BY_CHANCE = "by chance"  # which gateway meets what; not held against anything
PROGRAMS = []


class Program:
    def __init__(self, function, cites, kernel, forms, expected):
        self.function, self.name, self.cites = function, function.__name__, cites
        self.suite = os.path.splitext(os.path.basename(function.__code__.co_filename))[0]
        self.kernel, self.forms, self.expected = kernel, forms, expected
        self.text = " ".join((function.__doc__ or "").split())


def program(*cites, kernel=None, forms=None, expected=None):
    """kernel: {"nft": why the kernel's NAT fails it there} (what is not named passes there).
    forms: where it makes sense, if not everywhere. expected: {form: why conat fails it there}; what
    passes nevertheless is a failure, so that no note outlives its reason."""
    def note(function):
        PROGRAMS.append(Program(function, cites, kernel or {}, forms or list(FORMS),
                                expected or {}))
        return function
    return note


def configuration(filtering_name, pool):
    return CONFIG.format(filtering=FILTERING[filtering_name], pool=pool)


def kernel_nat(t):
    for n in range(1, t.form.dataplanes + 1):
        # What is for the pool and belongs to no connection goes nowhere.
        t.lab.run(f"dp{n}", "ip", "route", "add", "blackhole", f"{t.pool}.0/28", check=True)
        subprocess.run(["ip", "netns", "exec", f"{t.lab.name}-dp{n}", "nft", "-f", "-"],
                       input=RULES.format(pool=t.pool), text=True, check=True)


def filtering(t, name):
    """The pool's filtering from now on; existing sessions stay as they are. The gateway with its own
    table keeps the one that it started with, address-dependent."""
    if t.form.mode != "conat" or t.form.embedded and name == "ADF":
        return
    if t.form.embedded:
        fail(t, "the home gateway's filtering is address-dependent")
    with open(os.path.join(t.lab.state, "tablesvc.yaml"), "w", encoding="ascii") as f:
        f.write(configuration(name, t.pool))
    before = t.lab.log("tbl").count("configuration reloaded")
    t.lab.signal("tbl", "HUP")
    deadline = time.monotonic() + 5
    while t.lab.log("tbl").count("configuration reloaded") == before:
        if time.monotonic() > deadline:
            fail(t, "the table service reloads its configuration")
        time.sleep(0.02)


def fail(t, text):
    t.need(False, text)


def listening(t, ns, port, protocol="tcp", seconds=5.0):
    """Waits until somebody listens there."""
    deadline = time.monotonic() + seconds
    flag = "-Hltn" if protocol == "tcp" else "-Hlun"
    while not t.lab.run(ns, "ss", flag, f"sport = :{port}").stdout.strip():
        if time.monotonic() > deadline:
            fail(t, f"somebody listens on {protocol} port {port} in {ns}")
        time.sleep(0.05)


def server(t, label, ns, port, *command, protocol="tcp"):
    """A server that stays until the lab goes."""
    if not t.lab.running(label):
        t.lab.spawn(label, ns, *command)
        listening(t, ns, port, protocol)


def drops(t, dataplanes=("dp1", "dp2")):
    """{reason: packets} of all dataplanes."""
    found = {}
    for label in dataplanes:
        for (name, labels), value in t.lab.metrics(label).items():
            if name == "conat_drop_total" and value:
                reason = dict(labels)["reason"]
                found[reason] = found.get(reason, 0) + int(value)
    return found


def judge(t, p):
    """Runs one program; whether it went as is known of it."""
    before, started = len(t.failures), time.monotonic()
    print(f"-- {p.suite}.{p.name} ({', '.join(p.cites) or 'no requirement'}): {p.text}", flush=True)
    try:
        p.function(t)
    except e2e.Failure:
        pass
    except Exception as error:  # pylint: disable=broad-except  # the other programs have their say
        traceback.print_exc(limit=-3, file=sys.stdout)
        t.expect(False, f"{type(error).__name__}: {error}")
    found = t.failures[before:]
    t.say(f"{time.monotonic() - started:.1f} s")
    if t.form.mode == "nft":
        del t.failures[before:]
        why = p.kernel.get(t.form_name)
        t.verdicts.append((p, found))
        if why != BY_CHANCE and bool(found) != bool(why):
            t.failures.append(f"{p.name}: the kernel's NAT " +
                              (f"fails it, which is not noted: {found[0]}" if found else
                               f"passes it, although noted: {why}"))
    elif t.form_name in p.expected:
        del t.failures[before:]
        if found:
            t.say(f"expected: {p.expected[t.form_name]}")
        else:
            t.failures.append(f"{p.name} passes, although noted: {p.expected[t.form_name]}")


@contextlib.contextmanager
def second_cluster(t):
    """t.peer: another cluster of the same form, its outside router linked to ours."""
    lab = conatlab.Lab(pool=f"{PEERS_POOL}.0/28")
    peer = t.peer = e2e.Scenario(lab, t.spread)
    peer.form, peer.form_name, peer.pool, peer.failures = t.form, t.form_name, PEERS_POOL, t.failures
    path = f"/tmp/{lab.name}.yaml"
    with open(path, "w", encoding="ascii") as f:
        f.write(configuration("ADF", PEERS_POOL))
    try:
        lab.up("--mode", t.form.mode, "--dataplanes", t.form.dataplanes, "--config", path, spread=t.spread)
        if t.form.mode == "nft":
            kernel_nat(peer)
        ours, theirs = f"{t.lab.name}-ro", f"{lab.name}-ro"
        for command in (f"link add peer netns {ours} type veth peer name peer netns {theirs}",
                        f"-n {ours} address add {RENDEZVOUS[0]}/29 dev peer",
                        f"-n {ours} address add {RENDEZVOUS[1]}/29 dev peer",
                        f"-n {theirs} address add 198.19.0.3/29 dev peer",
                        f"-n {ours} link set peer up", f"-n {theirs} link set peer up",
                        f"-n {ours} route add {PEERS_POOL}.0/28 via 198.19.0.3",
                        f"-n {theirs} route add {POOL}.0/28 via {RENDEZVOUS[0]}"):
            subprocess.run(["ip", *command.split()], check=True)
        leaks = conatlab.LeakWatch(lab)
        try:
            yield
        finally:
            peer.leaked = leaks.close()
        if t.form.mode == "conat":
            t.expect(not peer.leaked, "no private source on the other cluster's outside links" +
                     "".join(f"\n        {line}" for line in peer.leaked[:5]))
        e2e.judge_processes(peer)
    finally:
        lab.down()
        os.unlink(path)


def run(form_name, programs):
    form = FORMS[form_name]

    def scenario(t):
        t.form, t.form_name, t.verdicts = form, form_name, []
        t.pool = POOL
        if form.mode == "nft":
            kernel_nat(t)
        if any(p.suite == "two_nats" for p in programs):
            with second_cluster(t):
                for p in programs:
                    judge(t, p)
            return
        for p in programs:
            judge(t, p)

    print(f"== {form_name}: {', '.join(p.name for p in programs)}", flush=True)
    failures = e2e.run(scenario, form, configuration("ADF", POOL))
    for failure in failures:
        print(f"FAIL  {form_name}: {failure}")
    return not failures


def load(suites):
    sys.modules.setdefault("programs", sys.modules["__main__"])
    for suite in suites:
        importlib.import_module(suite)


def table(suites):
    """kernel.md: what is noted of the kernel, which the forms nft and nft-packet hold against it."""
    load(suites)
    lines = [TABLE_HEAD]
    for suite in suites:
        for p in (p for p in PROGRAMS if p.suite == suite):
            row = [f"{suite}.{p.name}", ", ".join(p.cites)]
            for form in ("one", "packet", "nft", "nft-packet"):
                why = p.kernel.get(form) if form.startswith("nft") else p.expected.get(form)
                row.append("-" if form not in p.forms else f"fails: {why}" if why and why != BY_CHANCE
                           else why or "passes")
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


TABLE_HEAD = """\
# What the kernel's NAT does with these programs

Each program runs through conat, and through the kernel's nftables NAT with the same pool, port forward
and hairpinning rule; with one gateway, and with two that get each packet in turn. The kernel's forms
show which tests can fail, and why. They are no part of `tests/run`:

    tests/programs/programs.py nft; tests/programs/programs.py nft two_nats          # likewise nft-packet

ends with an error when the kernel does something else than is said here. This table is made by
`tests/programs/programs.py --table`.

| program | requirements | conat | conat, two | nftables | nftables, two |
|---|---|---|---|---|---|"""


def main(arguments):
    suites = sorted(name[:-3] for name in os.listdir(HERE) if name.endswith(".py") and
                    name not in ("programs.py", "captures.py", "pages.py"))
    usage = "Usage: programs.py FORM [SUITE|SUITE.PROGRAM]... (all but two_nats), --table, --check-table\n" \
            f"forms: {', '.join(FORMS)}\n" \
            f"suites: {', '.join(suites)}"
    if arguments == ["--table"]:
        sys.stdout.write(table(suites))
        return
    if arguments == ["--check-table"]:
        with open(os.path.join(HERE, "kernel.md"), encoding="utf-8") as f:
            sys.exit(0 if f.read() == table(suites) else "kernel.md is not what --table makes")
    if not arguments or arguments[0] not in FORMS:
        sys.exit(usage)
    wanted = arguments[1:] or [suite for suite in suites if suite != "two_nats"]
    chosen = sorted({w.split(".")[0] for w in wanted})
    if not set(chosen) <= set(suites):
        sys.exit(usage)
    load(chosen)
    form = arguments[0]
    chosen = [p for p in PROGRAMS if form in p.forms and
              (p.suite in wanted or f"{p.suite}.{p.name}" in wanted)]
    if not chosen:
        sys.exit(usage)
    conatlab.on_signals()
    sys.exit(0 if run(form, chosen) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
