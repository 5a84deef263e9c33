# SPDX-License-Identifier: Apache-2.0
"""Cases of the wire tests, and what a case may say.

A suite is a file of functions marked with @case. Its argument t sends packets from ghost hosts and
says what must come out where; at the end of each case nothing else may have come out anywhere, and
no private source outside at any time.

    @case("RFC 4787 REQ-1", on_nft="why the kernel's NAT fails it; None: it passes, too")

on_nft is held against what the kernel does (run --mode nft), and no case may pass on a router that
translates nothing (run --mode router): a case that cannot fail shows.
"""
import ipaddress
import os
import re
import sys
import time
import traceback

import packets
import wire
from packets import Seen, difference
from wire import INSIDE, OUTSIDE, POOL, Failure

HERE = os.path.dirname(os.path.abspath(__file__))
PRIVATE = [ipaddress.ip_network(p) for p in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
CASES = []


class Case:
    def __init__(self, function, cites, on_nft, on_router, behaviour, expected_failure, last):
        self.function, self.cites, self.last = function, cites, last
        self.on_nft, self.on_router = on_nft, on_router
        self.behaviour, self.expected_failure = behaviour, expected_failure
        self.suite = os.path.splitext(os.path.basename(function.__code__.co_filename))[0]
        self.name = function.__name__
        self.text = re.sub(r"\s+", " ", (function.__doc__ or "").strip())


def case(*cites, on_nft=None, on_router=None, behaviour="adf", expected_failure=None, last=False):
    """on_router: why it passes on a plain router, which no case should. behaviour: the filtering that the NAT has meanwhile (labs.py). expected_failure: {form: why};
    a form there that passes is a failure, too, so that the note cannot outlive its reason. last: it
    may harm what runs after it, on the kernel."""
    def note(function):
        CASES.append(Case(function, cites, on_nft, on_router, behaviour, expected_failure or {},
                          last))
        return function
    return note


def everywhere(why):
    """expected_failure of all forms."""
    return dict.fromkeys(("one", "two", "packet"), why)


class Test:
    """One run of one case."""

    def __init__(self, w, addresses, lab):
        self.wire, self.addresses, self.lab = w, addresses, lab
        self.later = []

    # ---- who there is ----

    def host(self):
        return self.addresses.host()

    def remote(self):
        return self.addresses.remote()

    # ---- what is claimed ----

    def check(self, true, text):
        if not true:
            raise Failure(text)

    def same(self, found, right, text):
        if found != right:
            raise Failure(f"{text}: {found}, not {right}")

    # ---- what is sent, and what must come of it ----

    def send(self, side, packet, dataplane=None):
        self.wire.send(side, packet, dataplane)

    def take(self, side, text="a packet"):
        seen = self.wire.take(side)
        if seen is None:
            others = [f"{s}: {p}" for s, p in self.wire.forget()]
            raise Failure(f"{text} did not come out {side}" +
                          (f"; but {'; '.join(others[:3])}" if others else ""))
        if side == OUTSIDE:
            self.no_leak(seen)
        return seen

    def no_leak(self, seen):
        address = ipaddress.ip_address(seen.src)
        self.check(not any(address in p for p in PRIVATE), f"private source outside: {seen}")

    def compare(self, sent, got, text="", **changes):
        problem = difference(sent, got, **changes)
        if problem:
            raise Failure(f"{text + ': ' if text else ''}{problem}\n        sent {Seen(sent)}"
                          f"\n        got  {got}")

    def outbound(self, packet, dataplane=None, text="outbound", **changes):
        """From inside; must come out outside with a source of the pool. What came."""
        self.send(INSIDE, packet, dataplane)
        got = self.take(OUTSIDE, f"{text}: {Seen(packet)}")
        if "src" not in changes:
            self.check(got.src in POOL, f"{text}: source outside the pool: {got}")
            changes["src"] = got.src
        if got.ident is not None:
            changes.setdefault("ident", got.ident)
        elif got.sport is not None:
            changes.setdefault("sport", got.sport)
        self.compare(packet, got, text, **changes)
        return got

    def inbound(self, packet, to, dataplane=None, text="inbound", **changes):
        """From outside; must come out inside at the endpoint to. What came."""
        self.send(OUTSIDE, packet, dataplane)
        got = self.take(INSIDE, f"{text}: {Seen(packet)}")
        changes.update({"dst": to[0], "ident" if got.ident is not None else "dport": to[1]})
        self.compare(packet, got, text, **changes)
        return got

    def refused(self, side, packet, text="", dataplane=None):
        """Sent, and nothing at all comes of it."""
        self.send(side, packet, dataplane)
        self.quiet(text or f"refused {Seen(packet)}")

    def quiet(self, text="nothing else"):
        self.wire.settle()
        left = self.wire.forget()
        for side, seen in left:
            if side == OUTSIDE:
                self.no_leak(seen)
        if left:
            raise Failure(f"{text}: there came {'; '.join(f'{side}: {p}' for side, p in left[:3])}"
                          + (f" and {len(left) - 3} more" if len(left) > 3 else ""))

    # ---- frequent sentences ----

    def udp_open(self, host, port, remote, dport, **more):
        """One datagram out; the external endpoint."""
        return self.outbound(packets.udp(host, port, remote, dport), **more).source

    def udp_in(self, remote, sport, external, to, **more):
        return self.inbound(packets.udp(remote, sport, *external), to, **more)

    def tcp_open(self, host, port, remote, dport):
        """A handshake from inside; (external endpoint, next sequence numbers inside, outside)."""
        syn = self.outbound(packets.tcp(host, port, remote, dport, "S", seq=1000), text="SYN")
        answer = packets.tcp(remote, dport, *syn.source, "SA", seq=5000, ack=1001)
        self.inbound(answer, (host, port), text="SYN-ACK")
        ack = packets.tcp(host, port, remote, dport, "A", seq=1001, ack=5001)
        self.outbound(ack, text="ACK", src=syn.src, sport=syn.sport)
        return syn.source

    def watch(self, remote):
        """Whatever goes to remote from now on is set aside for a check at the end of the run."""
        return self.wire.watched.setdefault(remote, [])

    def at_end(self, seconds, function):
        """function(), which may raise Failure, when that much time has passed: the run's end."""
        self.later.append((time.monotonic() + seconds, function))


def run_case(one, w, addresses, lab):
    """(passed, in words why not, what is to be done at the end)."""
    t = Test(w, addresses, lab)
    try:
        one.function(t)
        t.quiet("at the end of the case")
        return True, "", t.later
    except Failure as failure:
        problem = str(failure)
    except Exception:  # a mistake in the case must not end the others
        problem = traceback.format_exc(limit=-2)
    try:
        w.settle()
    except Failure as failure:
        problem += f"; {failure}"
    w.forget()
    return False, problem, []


if sys.version_info < (3, 9):
    sys.exit("Python 3.9 or newer is needed")
