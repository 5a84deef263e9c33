#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The event log of the real service, and conatctl who: RFC 6888 REQ-12, REQ-14; RFC 5424, RFC 5426.

Usage: test_event_log.py CONAT-TABLESVC CONATCTL CONAT-DATAPLANE [unittest arguments]
"""
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from operator_bed import (BASE, CTL, PATIENCE, STATIC, TABLESVC, Service,  # noqa: E402
                          WithDataplane, main)

# RFC 5424 section 6: the header, then structured data whose values escape '"', '\' and ']'.
SYSLOG = re.compile(
    r"<\d{1,3}>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} conat [!-~]{1,128} "
    r"(?P<msgid>[!-~]{1,32}) "
    r"(?P<sd>(\[[!-~]{1,32}( [^= \]\"]{1,32}=\"([^\"\\\]]|\\[\"\\\]])*\")*\])+)")
WRITTEN = "conat_log_events_total{result=\"written\"}"


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def after_a_moment():
    """Times have milliseconds: what is asked for now must not be in the same one as what was."""
    time.sleep(0.02)
    return now()


def events(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def named(rows, *names):
    return [r for r in rows if r["event"] in names]


class Files(WithDataplane):
    MORE = "log: {{target: \"file:{dir}/events\"}}\n"

    def who(self, endpoint, *arguments):
        code, out, err = self.service.ctl("--json", "who", endpoint, *arguments)
        return code, [json.loads(line) for line in out.splitlines()], err

    def test_a_line_a_block_and_who_had_what(self):
        """RFC 6888 REQ-14: a line a block, none a session. REQ-12: no destination."""
        service, path = self.service, self.service.dir + "/events"
        mappings = service.rows("mappings")
        service.until(lambda: len(named(events(path), "block_allocated")) >= 6, "no lines")
        rows = events(path)
        self.assertEqual(rows[0]["event"], "service_started")
        self.assertEqual(rows[1]["event"], "static_added")
        blocks = named(rows, "block_allocated")
        self.assertEqual(len(blocks), 6, "320 mappings of each of 3 subscribers: 2 blocks each")
        self.assertEqual(len(rows), 8)
        with open(path) as f:
            self.assertNotIn("198.18.", f.read())
        self.assertEqual(service.metric(WRITTEN), 8)
        # RFC 6888 REQ-10, RFC 7659: the same by counters
        for name, value in (("conat_pool_mappings_created_total{pool=\"main\"}", len(mappings)),
                            ("conat_pool_ports_used{pool=\"main\"}", len(mappings)),
                            ("conat_table_mappings_created_total{protocol=\"udp\"}", 960),
                            ("conat_table_sessions_created_total{protocol=\"udp\"}", 960),
                            ("conat_table_sessions_ended_total{protocol=\"udp\"}", 0),
                            ("conat_pool_blocks{pool=\"main\",state=\"used\"}", 6),
                            ("conat_pool_refused_total{pool=\"main\",why=\"quota\"}", 0)):
            self.assertEqual(service.metric(name), value, name)
        for m in mappings:
            host, port = m["external"].split(":")
            owner = [b["subscriber"] for b in blocks if b["external"] == host and
                     b["first_port"] <= int(port) <= b["last_port"]]
            if m["made_by"] == "static":
                continue
            self.assertEqual(owner, [m["internal"].split(":")[0]], m)

        one = next(m for m in mappings if m["internal"].startswith("10.0.0.2:"))
        code, found, err = self.who(one["external"])
        self.assertEqual((code, [r["kind"] for r in found]), (0, ["block", "mapping"]), err)
        for row in found:
            self.assertEqual((row["subscriber"], row["realm"], row["pool"]),
                             ("10.0.0.2", "home", "main"))
        self.assertEqual(f"{found[1]['subscriber']}:{found[1]['internal_port']}", one["internal"])
        self.assertEqual(self.who("192.0.2.1:443", "--protocol", "tcp")[1][0]["kind"], "static")
        self.assertEqual(self.who("192.0.2.1:443", "--protocol", "udp")[0], 1)
        code, _, err = self.who("1.1.1.1:53")
        self.assertEqual((code, err), (1, "conatctl: 1.1.1.1 is in no pool of this service\n"))
        self.assertEqual(service.ctl("who", one["external"])[1].split()[0], "WHAT")

        # It ends: the past is in the log.
        then = after_a_moment()
        self.assertEqual(service.ctl("delete", "--subscriber", "10.0.0.2")[0], 0)
        service.until(lambda: len(named(events(path), "block_released")) == 2, "no release")
        later = after_a_moment()
        for block in named(events(path), "block_released"):
            self.assertEqual(block["subscriber"], "10.0.0.2")
        code, found, err = self.who(one["external"])
        self.assertEqual((code, found), (1, []), err)
        code, found, err = self.who(one["external"], "--at", then, "--log", path)
        self.assertEqual((code, [r["subscriber"] for r in found]), (0, ["10.0.0.2"]), err)
        self.assertLess(found[0]["from"], found[0]["until"])
        code, found, err = self.who(one["external"], "--at", later, "--log", path)
        self.assertEqual((code, found), (1, []), err)
        code, _, err = self.who(one["external"], "--at", "2001-01-01T00:00:00Z", "--log", path)
        self.assertEqual(code, 4)
        self.assertIn("does not reach back that far: it begins at " + rows[0]["time"], err)

        # logrotate: the next lines are in the next file, and both are searched.
        os.rename(path, path + ".1")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: os.path.exists(path), "the file was not opened anew")
        self.assertEqual(service.ctl("delete", "--subscriber", "10.0.0.3")[0], 0)
        service.until(lambda: len(named(events(path), "block_released")) == 2, "no release")
        other = next(m for m in mappings if m["internal"].startswith("10.0.0.3:"))
        code, found, err = self.who(other["external"], "--at", then, "--log", path, path + ".1")
        self.assertEqual((code, [r["subscriber"] for r in found]), (0, ["10.0.0.3"]), err)

        # A crash: what there was ended with the next start.
        first = next(m for m in mappings if m["internal"].startswith("10.0.0.1:"))
        self.end_dataplane()
        service.stop(signal.SIGKILL)
        service.start()
        service.until(lambda: service.http("/readyz")[0] == 200, "not ready again")
        service.until(lambda: named(events(path), "service_started"), "no start in the log")
        code, found, err = self.who(first["external"], "--at", later, "--log", path + ".1", path)
        self.assertEqual((code, [r["note"] for r in found]),
                         (0, ["until the service started again"]), err)
        code, found, err = self.who(first["external"], "--at", after_a_moment(), "--log", path,
                                    path + ".1")
        self.assertEqual((code, found), (1, []), err)
        self.assertEqual(service.stop(), 0)
        self.assertEqual(events(path)[-1]["event"], "service_stopped")


class Deterministic(unittest.TestCase):
    """RFC 7422: no line a block; who had what is computed, from the service or from its log."""
    POOLS = """
pools:
  - {{name: main, prefixes: [192.0.2.0/31, 198.51.100.7], mode: deterministic,
     ports_per_subscriber: 4096}}
realms:
  - {{name: home, prefixes: [10.0.0.0/29, 10.1.0.0/30], pool: main}}
  - {{name: play, id: 9, prefixes: [10.0.0.0/30], pool: main}}
"""

    def test_the_map_the_service_and_the_log_say_the_same(self):
        text = BASE[:BASE.index("pools:")] + self.POOLS + Files.MORE
        service = Service(text)
        self.addCleanup(service.close)
        log = service.dir + "/events"
        table = subprocess.run([TABLESVC, "--deterministic-map", "-c", service.config],
                               capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
        self.assertEqual(len(rows), 16)
        service.until(lambda: len(named(events(log), "deterministic_inside")) == 3, "no plan")
        for i, (realm, subscriber, external, ports) in enumerate(rows):
            first, last = map(int, ports.split("-"))
            endpoint = f"{external}:{first if i % 3 else last}"
            how = ["--at", now(), "--log", log] if i % 2 else []
            (found,) = service.rows("who", endpoint, *how)
            self.assertEqual((found["kind"], found["realm"], found["subscriber"],
                              found["external"], found["first_port"], found["last_port"]),
                             ("fixed", realm, subscriber, external, first, last))
        # logrotate: the new file begins with what is in force.
        os.rename(log, log + ".1")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: os.path.exists(log) and len(events(log)) == 7, "no plan")
        self.assertEqual([e["event"] for e in events(log)[:2]],
                         ["configuration_changed", "deterministic_pool"])
        (found,) = service.rows("who", f"{external}:{first}", "--at", after_a_moment(), "--log", log)
        self.assertEqual(found["subscriber"], subscriber)


class FullDisk(WithDataplane):
    """What cannot be written waits, is named once, and is not lost; nobody's flow notices."""
    FLOWS = 120
    MORE = "log: {{target: \"file:/dev/full\", sessions: true}}\n"

    def test_waits_and_goes_on(self):
        service, path = self.service, self.service.dir + "/events"
        service.until(lambda: service.metric("conat_log_broken") == 1, "not broken")
        self.assertGreaterEqual(service.metric("conat_log_write_errors_total"), 1)
        self.assertEqual(service.metric(WRITTEN), 0)
        self.assertEqual(service.log().count("No space left on device"), 1)
        service.write((BASE + STATIC + self.MORE).replace("/dev/full", "{dir}/events"))
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: service.metric("conat_log_broken") == 0, "still broken")
        service.until(lambda: len(named(events(path), "session_created")) == self.FLOWS, "lost")
        self.assertIn("event log: written again", service.log())
        self.assertEqual(service.metric("conat_log_events_total{result=\"lost\"}"), 0)
        self.assertEqual(events(path)[0]["event"], "service_started")


class Syslog(WithDataplane):
    """RFC 5426: a datagram each; RFC 5424: a header and structured data."""
    FLOWS = 60
    MORE = "log: {{target: \"syslog:127.0.0.1:SYSLOG\", sessions: true}}\n"

    def setUp(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.MORE = self.MORE.replace("SYSLOG", str(self.socket.getsockname()[1]))
        super().setUp()

    def message(self):
        text = self.socket.recv(65536).decode()
        match = SYSLOG.fullmatch(text)
        self.assertTrue(match, text)
        return match["msgid"], match["sd"]

    def test_messages(self):
        ids = []
        while ids.count("SADD") < self.FLOWS:
            msgid, sd = self.message()
            ids.append(msgid)
            self.assertNotIn("198.18.", sd)  # RFC 6888 REQ-12
            if msgid == "SADD":
                self.assertRegex(sd, r'^\[nsess IATYP="IPv4" ISADDR="10\.0\.0\.\d" ISPORT="\d+" '
                                     r'XATYP="IPv4" XSADDR="[\d.]+" XSPORT="\d+" PROTO="17"\]')
        self.assertEqual(ids[:2], ["START", "APMADD"])
        self.assertEqual(ids.count("PBADD"), self.SUBSCRIBERS)
        # Destinations, when somebody has to.
        self.service.write((BASE + STATIC + self.MORE).replace("sessions: true",
                                                               "sessions: true, destinations: on"))
        self.service.process.send_signal(signal.SIGHUP)
        self.service.until(lambda: "configuration reloaded" in self.service.log(), "no reload")
        self.assertEqual(self.service.ctl("delete", "--subscriber", "10.0.0.2")[0], 0)
        while True:
            msgid, sd = self.message()
            if msgid == "SDEL" and "ISADDR=\"10.0.0.2\"" in sd:
                self.assertRegex(sd, r'XDADDR="198\.18\.0\.\d+" XDPORT="\d+"\]')
                break


class Program(unittest.TestCase):
    def test_a_log_that_cannot_be_written_is_refused_at_the_start(self):
        with tempfile.TemporaryDirectory(prefix="conat-") as directory:
            config = directory + "/c.yaml"
            with open(config, "w") as f:
                f.write((BASE + "log: {{target: \"file:/nowhere/events\"}}\n").format(
                    dir=directory, port=1, admin=1))
            done = subprocess.run([TABLESVC, "-c", config, "-l", f"unix:{directory}/s", "-a",
                                   "off"], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 1)
            self.assertIn("log.target: file:/nowhere/events cannot be opened: No such file",
                          done.stderr)

    def test_a_reload_to_such_a_log_is_refused(self):
        service = Service()
        self.addCleanup(service.close)
        service.write(BASE + STATIC + "log: {{target: \"file:/nowhere/events\"}}\n")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: "not reloaded" in service.log(), "no word of it")
        self.assertIn("log.target: file:/nowhere/events cannot be opened", service.log())
        self.assertIn("\"event\":\"service_started\"", service.log(), "by default to stderr")
        self.assertEqual(service.stop(), 0)

    def test_a_compressed_log(self):
        with tempfile.NamedTemporaryFile(suffix=".gz") as f:
            f.write(b"\x1f\x8b\x08\x00")
            f.flush()
            done = subprocess.run([CTL, "who", "192.0.2.1:1024", "--at", now(), "--log", f.name],
                                  capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 2)
            self.assertIn("zcat FILE | conatctl who", done.stderr)


if __name__ == "__main__":
    main()
