#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo's main job: real programs through the lab, while its parts are killed and stopped.

Started by deploy/demo. Exit status 0 when every check passed, 1 when one failed, 2 when the lab
could not be brought up, 130 after Ctrl-C.
"""
import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conatlab  # noqa: E402
from conatlab import SERVER, total  # noqa: E402

DATAPLANES = ("dp1", "dp2", "dp3", "dp4")
ECHO_PORT = 7007
DNS_NAME, DNS_ADDRESS = "demo.conat.example", "198.51.100.80"
MIB = 1 << 20
TOOLS = ("curl", "iperf3", "ping", "dig", "traceroute", "tcpdump", "dnsmasq")
# Of the download: the part before the kill, and the seconds that follow without --stop-seconds.
KILL_AT, OTHER_SECONDS = 0.15, 8


class Download:
    """curl of the large file; counts and hashes what arrives."""

    def __init__(self, lab, ns, mebibytes, rate):
        self.expected = mebibytes * MIB
        self.received, self.status, self.sha256 = 0, None, None
        self.longest_stall, self.started = 0.0, time.monotonic()
        self.process = lab.popen(ns, "curl", "--fail", "--silent", "--show-error",
                                 "--limit-rate", rate, f"http://{SERVER}/file",
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        digest, last = hashlib.sha256(), time.monotonic()
        while data := self.process.stdout.read(1 << 18):
            now = time.monotonic()
            if self.received:
                self.longest_stall = max(self.longest_stall, now - last)
            last = now
            self.received += len(data)
            digest.update(data)
        self.error = self.process.stderr.read().decode(errors="replace").strip()
        self.status = self.process.wait()
        self.sha256 = digest.hexdigest()

    def running(self):
        return self.thread.is_alive()


class Screen:
    """What happens: redrawn in place on a terminal, otherwise plain lines."""

    def __init__(self, lab):
        self.lab, self.start = lab, time.monotonic()
        self.terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.lines, self.events, self.download, self.flows = 0, [], None, None
        self.previous, self.last_plain = {}, 0.0
        self.killed, self.rate_at, self.notes = set(), (0.0, 0), {}
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def clock(self):
        seconds = int(time.monotonic() - self.start)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    def say(self, text):
        with self.lock:
            self.events.append(f"{self.clock()}  {text}")
            if not self.terminal:
                print(self.events[-1], flush=True)

    def _run(self):
        while not self.stopping.wait(0.5):
            try:
                self.draw()
            except (OSError, ValueError) as error:
                self.notes["screen"] = str(error)

    def close(self):
        self.stopping.set()
        self.thread.join()
        if self.terminal:
            self.draw()

    def dataplane_rows(self):
        now, ecmp, rows = time.monotonic(), self.lab.ecmp(), []
        for name in DATAPLANES:
            if name in self.killed and not self.lab.running(name):
                rows.append((name, "killed", "no", "-", "-", "-", "-"))
                continue
            if not self.lab.running(name):
                continue
            metrics = self.lab.metrics(name)
            if not metrics:
                rows.append((name, "starting", "no", "-", "-", "-", "-"))
                continue
            packets = total(metrics, "conat_packets_total")
            hits = total(metrics, "conat_hits_total")
            drops = total(metrics, "conat_drop_total")
            before = self.previous.get(name, (now - 0.5, packets, hits))
            self.previous[name] = (now, packets, hits)
            seconds = max(now - before[0], 1e-3)
            news = packets - before[1]
            rate = f"{100 * (hits - before[2]) / news:.2f} %" if news > 0 else "-"
            rows.append((name, "running", "yes" if name in ecmp else "no",
                         f"{total(metrics, 'conat_flows'):.0f}", f"{news / seconds:,.0f}", rate,
                         f"{drops:.0f}"))
        return rows

    def table_line(self):
        metrics = self.lab.metrics("tbl")
        if not metrics:
            return "table service: does not answer"
        return (f"table service: {total(metrics, 'conat_table_sessions'):.0f} sessions, "
                f"{total(metrics, 'conat_table_mappings'):.0f} mappings, "
                f"{total(metrics, 'conat_table_dataplanes'):.0f} dataplanes attached")

    def download_line(self, now):
        d = self.download
        if not d:
            return "download:      not yet"
        since, before = self.rate_at
        speed = (d.received - before) / max(now - since, 1e-3) / MIB
        self.rate_at = (now, d.received)
        part = d.received / d.expected
        bar = "#" * int(part * 24)
        state = f"{speed:6.1f} MiB/s" if d.running() else \
            ("complete" if d.status == 0 else f"FAILED: curl exit {d.status}")
        return (f"download:      [{bar:<24}] {d.received / MIB:5.0f} of "
                f"{d.expected / MIB:.0f} MiB  {state}")

    def draw(self):
        now = time.monotonic()
        rows, table, download = self.dataplane_rows(), self.table_line(), self.download_line(now)
        with self.lock:
            if not self.terminal:
                if now - self.last_plain >= 3.0:
                    self.last_plain = now
                    dp = "; ".join(f"{r[0]} {r[1]} {r[3]} flows {r[4]} packets/s hit rate {r[5]}"
                                   f" drops {r[6]}" for r in rows)
                    print(f"{self.clock()}    {table}; {dp}; {download}", flush=True)
                return
            lines = [f"conat demo  {self.clock()}   lab {self.lab.name}", "", download, table, ""]
            form = "{:<10} {:<9} {:<8} {:>7} {:>12} {:>9} {:>7}"
            lines.append(form.format("dataplane", "state", "in ECMP", "flows", "packets/s",
                                     "hit rate", "drops"))
            lines += [form.format(*row) for row in rows]
            lines += [""] + self.events[-12:]
            width = shutil.get_terminal_size().columns
            out = f"\x1b[{self.lines}A" if self.lines else ""
            out += "".join(f"\x1b[2K{line[:width - 1]}\n" for line in lines)
            extra = self.lines - len(lines)
            if extra > 0:
                out += "\x1b[2K\n" * extra + f"\x1b[{extra}A"
            self.lines = len(lines)
            sys.stdout.write(out)
            sys.stdout.flush()


class Demo:
    def __init__(self, args, lab):
        self.args, self.lab, self.screen, self.checks = args, lab, None, []

    def check(self, name, passed, figure):
        self.checks.append((name, bool(passed), figure))
        if self.screen:
            self.screen.say(f"{'ok  ' if passed else 'FAIL'} {name}: {figure}")

    def wait_http(self):
        for _ in range(200):
            body = self.lab.http("srv", SERVER, 80, "/sha256")
            if body:
                return body
            time.sleep(0.1)
        raise conatlab.LabError("the file server did not start: " + self.lab.log("file"))

    def servers(self):
        lab = self.lab
        lab.spawn("file", "srv", sys.executable, os.path.join(conatlab.HERE, "fileserver.py"),
                  "--listen", SERVER, "--mebibytes", self.args.mebibytes)
        lab.spawn("iperf3", "srv", "iperf3", "-s")
        lab.spawn("dns", "srv", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                  "--no-hosts", "--no-resolv", f"--listen-address={SERVER}", "--bind-interfaces",
                  f"--address=/{DNS_NAME}/{DNS_ADDRESS}", "--user=root", "--pid-file=")
        self.mirror = conatlab.Mirror(lab, [(SERVER, ECHO_PORT)])

    # ---- the checks; each is one of the things a person would try ----

    def ping(self, ns):
        out = self.lab.run(ns, "ping", "-n", "-c", "20", "-i", "0.05", "-W", "2", SERVER).stdout
        got = re.search(r"(\d+) received", out)
        rtt = re.search(r"= [\d.]+/([\d.]+)/([\d.]+)/", out)
        received = int(got[1]) if got else 0
        self.check(f"ping from {ns}", received == 20, f"{received} of 20 answered" +
                   (f", {rtt[1]} ms on average" if rtt else ""))

    def dns(self):
        good, times = 0, []
        for _ in range(20):
            out = self.lab.run("c2", "dig", f"@{SERVER}", DNS_NAME, "+notcp", "+tries=1",
                               "+time=2").stdout
            if re.search(rf"\sA\s+{re.escape(DNS_ADDRESS)}$", out, re.M):
                good += 1
            if m := re.search(r"Query time: (\d+) msec", out):
                times.append(int(m[1]))
        self.check("DNS over UDP from c2", good == 20, f"{good} of 20 queries answered" +
                   (f", median {statistics.median(times):.0f} ms" if times else ""))

    def traceroute(self):
        out = self.lab.run("c1", "traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", SERVER).stdout
        hops = re.findall(r"^\s*\d+\s+(\S+)", out, re.M)
        good = len(hops) == 4 and hops[0] == "10.0.1.1" and hops[1].startswith("172.16.") \
            and hops[2].startswith("198.18.") and hops[3] == SERVER
        self.check("traceroute from c1: the cluster is one hop", good, " > ".join(hops) or "nothing")

    def iperf(self, name, *args):
        out = self.lab.run("c2", "iperf3", "-c", SERVER, "-t", "4", "-J", *args).stdout
        try:
            end = json.loads(out)["end"]
            speed = end["sum_received"]["bits_per_second"] / 1e9
            self.check(name, speed > 0, f"{speed:.2f} Gbit/s")
        except (ValueError, KeyError):
            self.check(name, False, "iperf3 ended with an error")

    def carrier(self):
        """The dataplane that most of the download's data goes through now."""
        def count():
            return {n: self.rx(n) for n in self.lab.ecmp()}
        before = count()
        time.sleep(0.5)
        after = count()
        return max(after, key=lambda n: after[n] - before.get(n, 0))

    def rx(self, name):
        out = self.lab.run(name, "cat", "/sys/class/net/out0/statistics/rx_bytes").stdout
        return int(out or 0)

    def progress(self, seconds):
        """Waits; bytes of the download and answers of the UDP flows meanwhile."""
        received, answers = self.download.received, sum(self.flows.answers)
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.download.running():
            time.sleep(0.1)
        return self.download.received - received, sum(self.flows.answers) - answers

    def wait_download(self, part):
        while self.download.running() and self.download.received < part * self.download.expected:
            time.sleep(0.05)

    def main_job(self):
        lab, say = self.lab, self.screen.say
        sha256 = self.wait_http()
        self.ping("c1")
        self.ping("c2")
        self.dns()
        self.traceroute()

        say(f"c1 downloads {self.args.mebibytes} MiB; c2 keeps 20 UDP flows going")
        self.flows = conatlab.UdpFlows(lab, "c2", 20, (SERVER, ECHO_PORT))
        self.download = Download(lab, "c1", self.args.mebibytes, self.args.rate)
        self.screen.download = self.download

        self.wait_download(KILL_AT)
        victim = self.carrier()
        at_kill = self.download.received
        self.screen.killed.add(victim)
        say(f"SIGKILL for {victim}, which carries the download")
        lab.signal(victim, "KILL")
        moved, _ = self.progress(3)
        self.check(f"{victim} killed in mid-download", not lab.running(victim) and moved > 0 and
                   0 < at_kill < self.download.expected,
                   f"at {100 * at_kill / self.download.expected:.0f} %, "
                   f"{moved / MIB:.0f} MiB in the next 3 s")

        say("dp3 starts")
        lab.start("dp3")
        before = total(lab.metrics("dp3"), "conat_packets_total")
        moved, _ = self.progress(2)
        packets = total(lab.metrics("dp3"), "conat_packets_total") - before
        self.check("dp3 started: serves flows made before it was there", packets > 0,
                   f"{packets:,.0f} packets translated in 2 s")

        seconds = self.args.stop_seconds
        say(f"SIGSTOP for the table service, for {seconds} s")
        lab.signal("tbl", "STOP")
        moved, answers = self.progress(seconds)
        still = self.download.running()
        lab.signal("tbl", "CONT")
        say("SIGCONT for the table service")
        self.check(f"table service stopped for {seconds} s: established flows go on",
                   still and moved > 0 and answers > 0,
                   f"{moved / MIB:.0f} MiB, {answers} UDP answers meanwhile" +
                   ("" if still else "; the download had ended before"))

        self.download.thread.join(120)
        d = self.download
        good = d.status == 0 and d.sha256 == sha256 and d.received == d.expected
        self.check("download: curl's exit status and the checksum", good,
                   f"exit {d.status}, {d.received / MIB:.0f} MiB, sha256 " +
                   ("right" if d.sha256 == sha256 else "WRONG") +
                   f", longest stall {d.longest_stall:.2f} s")

        self.iperf("iperf3 upload from c2")
        self.iperf("iperf3 download to c2", "-R")
        self.flows.close()
        f = self.flows
        same = sum(1 for e in f.endpoints if len(e) == 1)
        self.check("UDP flows kept their external endpoint", same == 20,
                   f"{same} of 20; {sum(f.answers)} of {f.sent} answered, longest gap "
                   f"{max(f.gap):.2f} s")
        unknown = [e for s in f.endpoints for e in s if not e[0].startswith(conatlab.POOL)]
        self.check("the server sees only pool addresses", not unknown and any(f.endpoints),
                   f"{len(set().union(*f.endpoints))} external endpoints")
        self.new_flows()

    def new_flows(self):
        """After all that, a new flow works at once."""
        flows = conatlab.UdpFlows(self.lab, "c1", 10, (SERVER, ECHO_PORT), 0.2)
        time.sleep(1)
        flows.close()
        good = sum(1 for n in flows.answers if n)
        self.check("new flows afterwards", good == 10, f"{good} of 10 answered")

    def run(self):
        lab = self.lab
        print(f"bringing up lab {lab.name}: two clients, two routers, two dataplanes, "
              "one table service, one server", flush=True)
        lab.up("--mode", self.args.mode, keep=self.args.keep)
        self.servers()
        leaks = conatlab.LeakWatch(lab)
        self.screen = Screen(lab)
        try:
            self.main_job()
        finally:
            self.screen.close()
        seen = leaks.close()
        self.screen = None
        self.check("no private source on the outside links", not seen,
                   f"{len(seen)} packets" + (f", first: {seen[0]}" if seen else ""))

    def report(self):
        width = max(len(name) for name, _, _ in self.checks)
        print(f"\n{'what was checked':<{width}}  result  figure")
        for name, passed, figure in self.checks:
            print(f"{name:<{width}}  {'passed' if passed else 'FAILED'}  {figure}")
        failed = sum(1 for _, passed, _ in self.checks if not passed)
        print(f"\n{len(self.checks) - failed} passed, {failed} failed", flush=True)
        return 1 if failed else 0


def rate_bytes(text):
    """curl's notation of a rate, in bytes per second."""
    if not (m := re.fullmatch(r"([1-9]\d*)([kKmMgG]?)", text)):
        raise argparse.ArgumentTypeError(f"'{text}' is no rate; say 40M, 500k, ...")
    return int(m[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[m[2].lower()]


def fitting(parser, args):
    """Refuses a download that would be over before everything has been done to it."""
    if args.mebibytes < 1 or args.stop_seconds < 1:
        parser.error("--mebibytes and --stop-seconds are at least 1")
    needed = (args.stop_seconds + OTHER_SECONDS) * rate_bytes(args.rate) / (1 - KILL_AT) / MIB
    if args.mebibytes < needed:
        parser.error(f"the download would end too early: at {args.rate}/s with the service stopped "
                     f"for {args.stop_seconds} s it needs --mebibytes {needed + 1:.0f}, "
                     "or a lower --rate")


def main():
    parser = argparse.ArgumentParser(prog="deploy/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the download")
    parser.add_argument("--rate", default="40M", type=lambda t: rate_bytes(t) and t,
                        help="curl's --limit-rate")
    parser.add_argument("--stop-seconds", type=int, default=8,
                        help="how long the table service is stopped")
    parser.add_argument("--mode", default="conat", choices=("conat", "nft", "forward"),
                        help=argparse.SUPPRESS)
    parser.add_argument("--check-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    fitting(parser, args)
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        parser.exit(2, f"demo: missing: {', '.join(missing)}; run deploy/install\n")
    if args.check_only:
        return 0
    conatlab.on_signals()
    lab = conatlab.Lab(os.environ.get("CONAT_LAB"))
    demo = Demo(args, lab)
    status, up = 2, True
    try:
        demo.run()
        status = demo.report()
    except conatlab.LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        for label in ("tbl", "dp1", "dp2", "dp3"):
            for line in lab.log(label).splitlines()[-10:]:
                print(f"  {label}: {line}", file=sys.stderr)
    except KeyboardInterrupt as error:
        print(f"\ndemo: ended by {str(error) or 'Ctrl-C'}", file=sys.stderr)
        status, up = 130, False
    except BrokenPipeError:
        up = False
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if args.keep and up:
            command = shlex.quote(os.path.relpath(conatlab.COMMAND))
            print(f"\nThe lab is still up. Enter it:   {command} --name {lab.name} enter c1\n"
                  f"See what runs:                   {command} --name {lab.name} status\n"
                  f"Take it down:                    {command} --name {lab.name} down")
        else:
            # A second Ctrl-C would leave half of it behind.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            lab.down()
    return status


if __name__ == "__main__":
    sys.exit(main())
