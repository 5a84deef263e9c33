# SPDX-License-Identifier: Apache-2.0
"""Two clusters that face each other: hosts behind both find each other (RFC 5128, RFC 4787, 5382).

    a (c1, c2 of one lab) -- cluster A -- ro -- rendezvous -- ro -- cluster B -- b (c1, c2 of the other)

Each host learns from the rendezvous how the other one is seen, then they talk without it.
"""
import random
import socket
import threading
import time

from conatlab import Mirror
from e2e import PORT, ask_tcp, ask_udp, drain, receive
from programs import RENDEZVOUS, filtering, program

MOVES = "what opened the filter of one gateway comes in by the other one"
LEFT, RIGHT = "c1", "c2"


def rendezvous(t):
    if not hasattr(t, "rendezvous"):
        t.rendezvous = Mirror(t.lab, [(host, PORT) for host in RENDEZVOUS], "ro")


def behaviours(t):
    """Both clusters with address-dependent, then with address- and port-dependent filtering."""
    rendezvous(t)
    for name in ("ADF", "APDF") if t.form.mode == "conat" else ("APDF",):
        filtering(t, name)
        filtering(t.peer, name)
        yield name


class Host:
    """A UDP socket behind one cluster and where it is seen."""

    def __init__(self, t, ns):
        self.t, self.socket = t, t.udp(ns)
        seen = [ask_udp(self.socket, (host, PORT), 3) for host in RENDEZVOUS]
        t.need(None not in seen and seen[0] == seen[1] and seen[0][0].startswith(t.pool),
               f"{ns} is seen at {seen[0]}" + ("" if seen[0] == seen[1] else f" and at {seen[1]}"))
        self.external = seen[0]

    def send(self, other, text):
        self.socket.sendto(text, other.external)

    def gets(self, other, text, seconds=1.0):
        """text from the other's external endpoint is the next that comes."""
        return receive(self.socket, seconds) == (text, other.external)


def pair(t, ns=LEFT):
    return Host(t, ns), Host(t.peer, ns)


def talk(t, a, b, what):
    """Ten datagrams each way, all of which arrive."""
    good = 0
    for i in range(10):
        a.send(b, b"a%d" % i)
        good += b.gets(a, b"a%d" % i)
        b.send(a, b"b%d" % i)
        good += a.gets(b, b"b%d" % i)
    t.expect(good == 20, f"{what}: {good} of 20 datagrams arrive, from the endpoint that was learned")


@program("RFC 4787 REQ-1", "RFC 4787 REQ-8", "RFC 4787 REQ-11", kernel={"nft-packet": MOVES})
def udp_one_after_the_other(t):
    """A sends first and is refused, then B: the answer to B's is let in at once."""
    for name in behaviours(t):
        for first, text in ((0, "A first"), (1, "B first")):
            a, b = pair(t)
            one, two = (a, b) if first == 0 else (b, a)
            one.send(two, b"knock")
            t.expect(receive(two.socket, 0.4)[0] is None, f"{name}, {text}: the first one is refused")
            two.send(one, b"open")
            t.expect(one.gets(two, b"open"), f"{name}, {text}: the second one comes in")
            talk(t, a, b, f"{name}, {text}")


@program("RFC 4787 REQ-8", kernel={"nft-packet": MOVES})
def udp_refused_for_long(t):
    """Refused datagrams before (what was learned of them must not outlive the other's first)."""
    for name in behaviours(t):
        a, b = pair(t, RIGHT)
        for i in range(30):
            a.send(b, b"knock %d" % i)
            time.sleep(0.02)
        t.expect(receive(b.socket, 0.3)[0] is None, f"{name}: 30 datagrams are refused")
        b.send(a, b"open")
        t.expect(a.gets(b, b"open"), f"{name}: B's first comes in")
        a.send(b, b"now")
        t.expect(b.gets(a, b"now"), f"{name}: A's next comes in, at once")
        talk(t, a, b, name)


@program("RFC 4787 REQ-1", "RFC 4787 REQ-8", kernel={"nft-packet": MOVES})
def udp_at_once(t):
    """24 pairs that send at the same moment, or a random one nearby, until they hear each other."""
    rng = random.Random(5128)
    for name in behaviours(t):
        pairs = [pair_quietly(t, LEFT if i % 2 else RIGHT) for i in range(24)]
        plan = []
        for i, (a, b) in enumerate(pairs):
            late = rng.choice((0.0, 0.0, 0.002, 0.02, 0.1))
            plan += [(0.01 * i + 0.15 * n + (late if who else 0.0), i, who)
                     for n in range(4) for who in (0, 1)]
        start = time.monotonic()
        for when, i, who in sorted(plan):
            time.sleep(max(0.0, start + when - time.monotonic()))
            sender, other = pairs[i][who], pairs[i][1 - who]
            sender.send(other, b"try")
        good = 0
        for a, b in pairs:
            good += a.gets(b, b"try") and b.gets(a, b"try")
            drain(a.socket)
            drain(b.socket)
        t.expect(good == 24, f"{name}: {good} of 24 pairs met")
        talk(t, *pairs[0], f"{name}, the first pair")
        for a, b in pairs:
            a.socket.close()
            b.socket.close()


def pair_quietly(t, ns):
    hosts = []
    for scenario in (t, t.peer):
        host = Host.__new__(Host)
        host.t, host.socket = scenario, scenario.udp(ns)
        host.external = ask_udp(host.socket, (RENDEZVOUS[0], PORT), 3)
        if host.external is None:
            t.need(False, "the rendezvous answers")
        hosts.append(host)
    return hosts


# ---- TCP ----


class Caller:
    """A local port that is known to the rendezvous, and a second connection from it, to the peer."""

    def __init__(self, t, ns, port):
        self.t, self.ns, self.port = t, ns, port
        self.first = t.tcp(ns, (RENDEZVOUS[0], PORT), port)
        self.external = ask_tcp(self.first)
        self.socket, self.error, self.took = None, None, 0.0

    def call(self, other, delay):
        with self.t.lab.inside(self.ns):
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("0.0.0.0", self.port))
        s.settimeout(8.0)
        self.socket = s

        def run():
            time.sleep(delay)
            started = time.monotonic()
            try:
                s.connect(other.external)
            except OSError as error:
                self.error = str(error)
            self.took = time.monotonic() - started

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def close(self):
        for s in (self.first, self.socket):
            if s:
                s.close()


def meet(t, callers, text):
    """Both have called: they are connected with each other, and bytes go both ways."""
    for caller in callers:
        caller.thread.join()
    errors = [c.error for c in callers]
    if t.expect(errors == [None, None], f"{text}: connected after "
                f"{', '.join(f'{c.took:.2f} s' for c in callers)}" +
                "".join(f"; {e}" for e in errors if e)):
        a, b = callers
        t.expect(a.socket.getpeername() == b.external and b.socket.getpeername() == a.external,
                 f"{text}: with the endpoints that were learned")
        sent = {a: random.randbytes(20000), b: random.randbytes(20000)}
        for c in callers:
            c.socket.sendall(sent[c])
            c.socket.shutdown(socket.SHUT_WR)
        got = {c: read_all(c.socket) for c in callers}
        t.expect(got[a] == sent[b] and got[b] == sent[a], f"{text}: 20000 bytes each way, and both ends")
    for c in callers:
        c.close()


def read_all(s):
    data = b""
    try:
        while more := s.recv(65536):
            data += more
    except OSError:
        pass
    return data


@program("RFC 5382 REQ-2a", "RFC 5382 REQ-4", "RFC 5382 REQ-3", kernel={"nft-packet": MOVES})
def tcp_simultaneous_open(t):
    """Both connect() from the port that the rendezvous knows: at once, one a little and one much
    later, after the other's SYN was refused once or twice. Nobody answers the refused ones."""
    port = 21000
    for name in behaviours(t):
        started = []
        for ns, a, b in ((LEFT, 0.0, 0.0), (RIGHT, 0.0, 0.0), (LEFT, 0.0, 0.005), (RIGHT, 0.3, 0.0),
                         (LEFT, 0.0, 0.3), (RIGHT, 0.0, 1.5), (LEFT, 1.5, 0.0)):
            callers = Caller(t, ns, port), Caller(t.peer, ns, port)
            port += 1
            callers[0].call(callers[1], a)
            callers[1].call(callers[0], b)
            started.append((callers, f"{name}, A after {a:.3f} s, B after {b:.3f} s"))
        for callers, text in started:
            meet(t, callers, text)


@program("RFC 5382 REQ-4", "RFC 5382 REQ-4a", kernel={"nft-packet": MOVES})
def tcp_refused_before(t):
    """A third host's SYN finds silence, and the call from the right one works after it."""
    for port, name in enumerate(behaviours(t), 22000):
        callers = Caller(t, LEFT, port), Caller(t.peer, LEFT, port)
        with t.peer.lab.inside(RIGHT):
            stranger = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stranger.settimeout(1.3)
        try:
            stranger.connect(callers[0].external)
            result = "connected"
        except TimeoutError:
            result = "silence"
        except OSError as error:
            result = str(error)
        stranger.close()
        t.expect(result == "silence", f"{name}: a stranger's SYN finds {result}")
        callers[1].call(callers[0], 0.0)
        callers[0].call(callers[1], 0.5)
        meet(t, callers, name)
