#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator touches: the real conat-tablesvc on a unix socket, asked by the real conatctl.

Usage: test_operator.py CONAT-TABLESVC CONATCTL CONAT-DATAPLANE [unittest arguments]
"""
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
                          WithDataplane, free_port, main)


class Conatctl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()

    @classmethod
    def tearDownClass(cls):
        code = cls.service.stop()
        log = cls.service.log()
        cls.service.close()
        assert code == 0, log

    def expect(self, expected, *arguments, **options):
        code, out, err = self.service.ctl(*arguments, **options)
        self.assertEqual(code, expected, (arguments, out, err))
        if code in (1, 2, 3):
            self.assertRegex(err, r"\Aconatctl: .+\n\Z")
            self.assertEqual(out, "")
        return out, err

    def test_status(self):
        status, = self.service.rows("status")
        self.assertEqual(status["journal"], "none")
        self.assertEqual(status["mappings_capacity"], 1000)
        self.assertEqual(status["dataplanes"], 0)
        self.assertEqual(status["config_generation"], 1)
        self.assertLess(abs(status["epoch"] / 1000 - time.time()), 600)
        out, _ = self.expect(0, "status")
        self.assertRegex(out, r"(?m)^journal +none$")
        self.assertRegex(out, r"(?m)^sessions +0$")

    def test_pools(self):
        pools = {row["name"]: row for row in self.service.rows("pools")}
        self.assertEqual(pools["main"]["addresses"], 17)
        self.assertEqual(pools["main"]["blocks"], 17 * 252)
        self.assertEqual(pools["main"]["prefixes"], ["192.0.2.0/28", "198.51.100.7/32"])
        self.assertEqual(pools["games"]["addresses"], 4)
        for pool in pools.values():
            self.assertEqual(pool["mode"], "dynamic")
            self.assertEqual(pool["blocks_free"], pool["blocks_shared"])
            self.assertFalse(pool["above"])
        out, _ = self.expect(0, "pools")
        self.assertRegex(out, r"\ANAME +ADDRESSES +BLOCKS ")
        self.assertEqual(len(out.splitlines()), 3)

    def test_empty_lists_are_headers_or_nothing(self):
        for command in (("dataplanes",), ("sessions",), ("mappings", "--external", "192.0.2.15")):
            self.assertEqual(self.service.rows(*command), [])
            out, _ = self.expect(0, *command)
            self.assertEqual(len(out.splitlines()), 1, out)

    def test_static_mappings(self):
        static, = [row for row in self.service.rows("static", "list")
                   if row["external"] == "192.0.2.1:443"]
        self.assertEqual(static, {"realm": 1, "protocol": "tcp", "external": "192.0.2.1:443",
                                  "internal": "10.0.0.5:8443", "origin": "configuration",
                                  "state": "active"})
        mine = ("udp", "192.0.2.2:5000", "10.0.0.9:6000")
        state, = self.service.rows("static", "add", *mine)
        self.assertEqual(state, {"state": "active"})
        added, = [row for row in self.service.rows("static", "list")
                  if row["external"] == "192.0.2.2:5000"]
        self.assertEqual(added["origin"], "operator")
        self.assertEqual(added["realm"], 1)
        _, err = self.expect(1, "static", "add", *mine)
        self.assertIn("already", err)
        mapping, = self.service.rows("mappings", "--subscriber", "10.0.0.9")
        self.assertEqual(mapping["made_by"], "static")
        self.assertEqual((mapping["external"], mapping["protocol"], mapping["pool"]),
                         ("192.0.2.2:5000", "udp", "main"))
        self.expect(4, "static", "del", "tcp", "192.0.2.2:5000")
        self.expect(4, "static", "del", "udp", "192.0.2.2:5000", "--realm", "9")
        self.expect(0, "static", "del", "udp", "192.0.2.2:5000")
        self.expect(4, "static", "del", *mine)
        self.assertEqual(self.service.rows("mappings", "--subscriber", "10.0.0.9"), [])

    def test_one_to_one(self):
        """Static 1:1 by hand: a whole address, in rows, in JSON and in the table for people."""
        self.expect(0, "static", "add", "all", "192.0.2.11", "10.0.0.11")
        added, = [row for row in self.service.rows("static", "list")
                  if row["external"] == "192.0.2.11"]
        self.assertEqual(added, {"realm": 1, "protocol": "all", "external": "192.0.2.11",
                                 "internal": "10.0.0.11", "origin": "operator",
                                 "state": "active"})
        out, _ = self.expect(0, "static", "list")
        self.assertRegex(out, r"all +192\.0\.2\.11 +10\.0\.0\.11 +operator +active")
        _, err = self.expect(1, "static", "add", "tcp", "192.0.2.11:80", "10.0.0.12:80")
        self.assertIn("has a static mapping already", err)
        self.expect(0, "static", "del", "all", "192.0.2.11")
        self.expect(4, "static", "del", "all", "192.0.2.11")

    def test_static_ports_below_the_pools_range(self):
        self.expect(0, "static", "add", "tcp", "192.0.2.3:22", "10.0.0.22:22")
        row, = self.service.rows("mappings", "--external", "192.0.2.3:22")
        self.assertEqual(row["internal"], "10.0.0.22:22")
        self.expect(0, "static", "del", "tcp", "192.0.2.3:22")

    def test_static_refusals(self):
        _, err = self.expect(1, "static", "add", "tcp", "192.0.3.1:80", "10.0.0.1:80")
        self.assertIn("in no pool", err)
        self.expect(1, "static", "add", "tcp", "192.0.2.1:80", "10.0.0.1:80", "--realm", "77")

    def test_mappings_are_filtered(self):
        self.service.rows("static", "add", "tcp", "192.0.2.5:80", "10.0.0.50:80")
        self.service.rows("static", "add", "tcp", "203.0.113.1:80", "10.0.0.50:80",
                          "--realm", "9")
        rows = self.service.rows("mappings", "--subscriber", "10.0.0.50")
        self.assertEqual(len(rows), 2)
        rows = self.service.rows("mappings", "--subscriber", "10.0.0.50", "--realm", "9")
        self.assertEqual([row["external"] for row in rows], ["203.0.113.1:80"])
        rows = self.service.rows("mappings", "--external", "192.0.2.5")
        self.assertEqual([row["realm"] for row in rows], [1])
        self.assertEqual(self.service.rows("mappings", "--external", "192.0.2.5:81"), [])
        self.assertEqual(self.service.rows("mappings", "--protocol", "icmp"), [])
        self.assertEqual(len(self.service.rows("mappings", "--limit", "1")), 1)
        out, _ = self.expect(0, "mappings", "--external", "192.0.2.5")
        self.assertRegex(out, r"\AREALM  PROTO  INTERNAL +EXTERNAL +SESSIONS  MADE BY  POOL\n")
        self.service.rows("static", "del", "tcp", "192.0.2.5:80")
        self.service.rows("static", "del", "tcp", "203.0.113.1:80", "--realm", "9")

    def test_what_is_not_there(self):
        self.expect(4, "delete", "--subscriber", "10.9.9.9")
        _, err = self.expect(4, "drain", "nobody")
        self.assertIn("no such dataplane", err)
        self.expect(4, "drain", "3", "--undo")

    def test_wrong_arguments(self):
        for arguments in (("delete",), ("static", "add"), ("nonsense",), ("sessions", "--realm", "x"),
                          ("pools", "--limit", "1"), ()):
            self.expect(2, *arguments)

    def test_not_reachable(self):
        for server in ("127.0.0.1:1", "unix:/nonexistent/socket"):
            _, err = self.expect(3, "sessions", server=server)
            self.assertIn(f"no table service at {server}: ", err)

    def test_something_else_listens_there(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            self.expect(3, "--timeout", "1", "status",
                        server=f"127.0.0.1:{other.getsockname()[1]}")

    def test_server_from_the_environment_and_tcp(self):
        code, out, err = self.service.ctl("status", env={
            "CONAT_SERVER": f"127.0.0.1:{self.service.port}"})
        self.assertEqual(code, 0, err)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([CTL, "-s", f"unix:{self.service.dir}/s", "status"],
                                    stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot be written", result.stderr)

    def test_http(self):
        self.assertEqual(self.service.http("/healthz"), (200, "ok\n"))
        self.assertEqual(self.service.http("/readyz")[0], 200)
        self.assertEqual(self.service.http("/nothing")[0], 404)
        self.assertEqual(self.service.http("/metrics", "POST")[0], 405)
        code, page = self.service.http("/metrics")
        self.assertEqual(code, 200)
        for reason in ("filtered", "no_mapping", "ports_exhausted", "table_full", "busy"):
            self.assertIn(f'conat_table_refused_total{{reason="{reason}"}} 0\n', page)
        for line in ("conat_ready 1", "conat_table_sessions_capacity 1000",
                     'conat_pool_addresses{pool="games"} 4',
                     'conat_pool_above{pool="main"} 0',
                     'conat_pool_blocks_shared_free{pool="games"} 1008',
                     'conat_pool_blocks{pool="games",state="used"} 0'):
            self.assertIn(line + "\n", page)
        families = re.findall(r"^# TYPE (\S+) ", page, re.M)
        self.assertEqual(len(families), len(set(families)))
        for line in page.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) \S+ .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="'
                                   r'[^"]*")*\})? [0-9.e+-]+)$')

    def test_unknown_calls_are_counted(self):
        before = self.service.metric("conat_server_calls_total{kind=\"admin\"}")
        self.service.rows("status")
        self.service.until(lambda: self.service.metric(
            "conat_server_calls_total{kind=\"admin\"}") > before, "no call was counted")


class Dataplane(WithDataplane):
    def test_lists(self):
        sessions = self.service.rows("sessions")
        self.assertEqual(len(sessions), self.FLOWS)
        self.assertEqual(len({row["handle"] for row in sessions}), self.FLOWS)
        self.assertEqual(len({row["external"] for row in sessions}), self.FLOWS)
        one, = self.service.rows("sessions", "--remote", "198.18.0.7:59")
        self.assertEqual((one["internal"], one["protocol"], one["realm"]),
                         ("10.0.0.1:5006", "udp", 1))
        self.assertGreater(one["expires_ms"], 200000)
        dataplane, = self.service.rows("dataplanes")
        self.assertEqual((dataplane["name"], dataplane["state"]), ("dp-test", "attached"))
        self.assertEqual(one["holders"], [dataplane["id"]])
        self.assertGreater(dataplane["lease_left_ms"], 0)
        mine = self.service.rows("sessions", "--subscriber", "10.0.0.2")
        self.assertEqual(len(mine), self.FLOWS // 3)
        self.assertEqual({row["internal"].split(":")[0] for row in mine}, {"10.0.0.2"})
        self.assertEqual(len({row["external"].split(":")[0] for row in mine}), 1)  # paired
        found, = self.service.rows("sessions", "--external", mine[0]["external"], "--protocol",
                                   "udp")
        self.assertEqual(found["internal"], mine[0]["internal"])
        self.assertEqual(self.service.rows("sessions", "--protocol", "tcp"), [])
        self.assertEqual(len(self.service.rows("sessions", "--limit", "131")), 131)
        self.assertEqual(len(self.service.rows("mappings")), self.FLOWS + 1)
        subscribers = {row["address"]: row for row in self.service.rows("subscribers")}
        self.assertEqual(subscribers["10.0.0.2"]["sessions"], self.FLOWS // 3)
        self.assertEqual(subscribers["10.0.0.2"]["pool"], "main")
        self.assertEqual(subscribers["10.0.0.2"]["external"],
                         mine[0]["external"].split(":")[0])
        self.assertGreaterEqual(subscribers["10.0.0.2"]["blocks"], 1)
        self.service.until(lambda: self.service.metric("conat_table_sessions") == self.FLOWS,
                           "metrics do not follow")
        self.assertEqual(self.service.metric("conat_table_dataplanes"), 1)

    def test_delete(self):
        code, out, err = self.service.ctl("delete", "--subscriber", "10.0.0.2")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, rf"\Amappings ended +{self.FLOWS // 3}\n"
                              rf"sessions ended +{self.FLOWS // 3}\n\Z")
        # They are listed as "fenced" until the dataplane has confirmed.
        self.service.until(lambda: not self.service.rows("sessions", "--subscriber", "10.0.0.2"),
                           "deleted sessions are still there")
        self.assertEqual(len(self.service.rows("sessions")), self.FLOWS - self.FLOWS // 3)
        self.assertEqual(self.service.ctl("delete", "--subscriber", "10.0.0.2")[0], 4)

    def test_drain(self):
        for dataplane in ("dp-test", "0"):
            reply, = self.service.rows("drain", dataplane)
            self.assertEqual(reply["state"], "draining")
            self.assertEqual(self.service.rows("dataplanes")[0]["state"], "draining")
            reply, = self.service.rows("drain", dataplane, "--undo")
            self.assertEqual(reply["state"], "attached")
            self.assertEqual(self.service.rows("dataplanes")[0]["state"], "attached")

    def test_reload_keeps_sessions_and_ends_those_of_a_removed_pool(self):
        epoch = self.service.rows("status")[0]["epoch"]
        self.service.write(BASE + "timers: {{udp: 4m}}\n")
        self.service.process.send_signal(signal.SIGHUP)
        self.service.until(lambda: self.service.rows("status")[0]["config_generation"] == 2,
                           "not reloaded")
        self.assertEqual(len(self.service.rows("sessions")), self.FLOWS)
        self.service.write(BASE.replace("[192.0.2.0/28, 198.51.100.7]", "[192.0.2.128/28]"))
        self.service.process.send_signal(signal.SIGHUP)
        # All gone, but for the flow that goes on: it has a new place.
        self.service.until(lambda: [row["external"].rsplit(".", 1)[0] for row in
                                    self.service.rows("sessions")] == ["192.0.2"],
                           "sessions are still there")
        alive, = self.service.rows("sessions")
        self.assertGreaterEqual(int(re.split(r"[.:]", alive["external"])[3]), 128)
        self.assertEqual(self.service.rows("status")[0]["epoch"], epoch)


class Reload(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.close)

    def reload(self, text, sentence):
        self.service.write(text)
        before = self.service.log()
        self.service.process.send_signal(signal.SIGHUP)
        self.service.until(lambda: sentence in self.service.log()[len(before):],
                           f"no \"{sentence}\"")

    def generation(self):
        return self.service.rows("status")[0]["config_generation"]

    def test_good(self):
        self.reload(BASE.replace("games, prefixes: [203", "games, prefixes: [198.18.0.0/30, 203")
                    + STATIC + """
  - {{realm: play, protocol: udp, external: "203.0.113.1:53", internal: "10.7.7.7:53"}}
timers: {{udp: 3m}}
""", "configuration reloaded")
        self.assertEqual(self.generation(), 2)
        externals = [row["external"] for row in self.service.rows("static", "list")]
        self.assertCountEqual(externals, ["192.0.2.1:443", "203.0.113.1:53"])
        pools = {row["name"]: row["addresses"] for row in self.service.rows("pools")}
        self.assertEqual(pools, {"main": 17, "games": 8})
        self.reload(BASE, "configuration reloaded")
        self.assertEqual(self.generation(), 3)
        self.service.until(lambda: self.service.rows("static", "list") == [],
                           "static mappings are still there")

    def test_an_operators_static_mapping_survives(self):
        self.service.rows("static", "add", "tcp", "192.0.2.9:80", "10.0.0.1:80")
        self.reload(BASE, "configuration reloaded")
        self.assertEqual([row["external"] for row in self.service.rows("static", "list")],
                         ["192.0.2.9:80"])

    def test_bad_keeps_the_old(self):
        for text, sentence in (
                ("pools: [", "not YAML"),
                (BASE + "timers: {{udp: 3x}}\n", "c.yaml:12: timers.udp: \"3x\" is not a duration"),
                (BASE.replace("mappings: 1000", "mappings: 2000"), "capacity: a change needs a "
                                                                    "restart"),
                (BASE.replace("name: home", "name: house"), "keeps name and id until a restart"),
                (BASE.replace("filtering", "block_size: 512, ports: 1024-65535, filtering"),
                 "needs a restart")):
            self.reload(text, "configuration not reloaded, the old one stays: ")
            self.assertIn(sentence, self.service.log())
            self.assertEqual(self.generation(), 1)
        self.assertEqual([row["external"] for row in self.service.rows("static", "list")],
                         ["192.0.2.1:443"])
        os.unlink(self.service.config)
        self.service.process.send_signal(signal.SIGHUP)
        self.service.until(lambda: "No such file" in self.service.log(), "no sentence")
        self.reload(BASE, "configuration reloaded")


class LongList(WithDataplane):
    """More rows than the connection's window, conatctl's buffer and the pipe hold together."""

    FLOWS, SUBSCRIBERS, CAPACITY = 19200, 24, 20000

    def test_all_of_it_comes(self):
        self.assertEqual(len({row["handle"] for row in self.service.rows("sessions")}), self.FLOWS)
        self.assertEqual(len(self.service.rows("sessions", "--limit", "10001")), 10001)

    def test_a_reader_that_pauses_gets_all_of_it(self):
        lister = subprocess.Popen([CTL, "-s", f"unix:{self.service.dir}/s", "--json", "sessions"],
                                  stdout=subprocess.PIPE)
        with lister.stdout:
            lines = [lister.stdout.readline()]
            time.sleep(8)  # longer than both ends' keepalive
            lines += lister.stdout.readlines()
        self.assertEqual(lister.wait(PATIENCE), 0)
        self.assertEqual(len({json.loads(line)["handle"] for line in lines}), self.FLOWS)

    def test_a_reader_that_goes_away_ends_it(self):
        lister = subprocess.Popen([CTL, "-s", f"unix:{self.service.dir}/s", "sessions"],
                                  stdout=subprocess.PIPE)
        lister.stdout.read(10)
        lister.stdout.close()
        self.assertEqual(lister.wait(PATIENCE), -signal.SIGPIPE)
        self.service.until(lambda: self.service.metric(
            'conat_server_streams{kind="admin"}') == 0, "the call is still open")


class Tls(unittest.TestCase):
    def test_only_an_operators_certificate_is_let_in(self):
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), "..",
                                         "support", "certificates"), d], check=True)
            service = Service(BASE.replace("capacity:", "  tls: {{certificate: " + d + "/service.pem,"
                                           " key: " + d + "/service.key, ca: " + d + "/ca.pem}}\n"
                                           "capacity:"))
            self.addCleanup(service.close)
            server = f"127.0.0.1:{service.port}"

            def ask(who, ca="ca"):
                return service.ctl("--timeout", "5", "--tls-cert", f"{d}/{who}.pem", "--tls-key",
                                   f"{d}/{who}.key", "--tls-ca", f"{d}/{ca}.pem", "status",
                                   server=server)
            self.assertEqual(ask("operator")[0], 0)
            for who in ("dataplane", "nobody"):
                code, _, err = ask(who)
                self.assertEqual(code, 1, err)
            self.assertEqual(ask("stranger")[0], 3)
            self.assertEqual(ask("operator", "other")[0], 3)
            self.assertEqual(service.ctl("--timeout", "2", "status", server=server)[0], 3)
            code, _, err = ask("missing")
            self.assertEqual(code, 1)
            self.assertIn(f"{d}/missing.pem", err)
            self.assertEqual(service.ctl("status")[0], 0)  # the unix socket: its permissions


class Program(unittest.TestCase):
    def run_service(self, *arguments):
        result = subprocess.run([TABLESVC, *arguments], capture_output=True, text=True,
                                timeout=60, stdin=subprocess.DEVNULL)
        return result.returncode, result.stdout, result.stderr

    def service(self, **options):
        service = Service(**options)
        self.addCleanup(service.close)
        return service

    def test_check(self):
        with tempfile.TemporaryDirectory() as d:
            path = d + "/c.yaml"
            with open(path, "w") as f:
                f.write((BASE + STATIC).format(dir=d, port=1, admin=2))
            code, first, err = self.run_service("-n", "--config", path, "--listen", "unix:/z")
            self.assertEqual((code, err), (0, ""))
            self.assertIn('listen: ["unix:/z"]', first)
            with open(path, "w") as f:
                f.write(first)
            code, second, err = self.run_service("--check", "-c", path)
            self.assertEqual((code, second, err), (0, first, ""))
            with open(path, "a") as f:
                f.write("surprise: 1\n")
            code, out, err = self.run_service("-n", "-c", path)
            self.assertEqual((code, out), (1, ""))
            line = first.count("\n") + 1
            self.assertIn(f"{path}:{line}: unknown key \"surprise\"; allowed: service", err)
            code, out, err = self.run_service("-n", "-c", path + ".not")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("No such file", err)

    def test_deterministic_map(self):
        """RFC 7422 section 3: who has which ports, from the configuration alone."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("pools: [{name: p, prefixes: [192.0.2.0/31], mode: deterministic,\n"
                       "  ports_per_subscriber: 1024}]\n"
                       "realms: [{name: home, prefixes: [10.0.0.0/29], pool: p}]\n")
            file.flush()
            code, out, err = self.run_service("--deterministic-map", "-c", file.name)
            self.assertEqual((code, err), (0, ""))
            lines = out.splitlines()
            self.assertRegex(lines[0], "^# pool p: ratio 1:4, 1024 ports each from 1024 on, ")
            self.assertEqual(lines[1:4], ["home 10.0.0.0 192.0.2.0 1024-2047",
                                          "home 10.0.0.1 192.0.2.1 1024-2047",
                                          "home 10.0.0.2 192.0.2.0 2048-3071"])
            self.assertEqual(len(lines), 9)
            file.write("surprise: 1\n")
            file.flush()
            code, out, err = self.run_service("--deterministic-map", "-c", file.name)
            self.assertEqual((code, out), (1, ""))
            self.assertIn("surprise", err)

    def test_wrong_arguments(self):
        for arguments in (("--fast",), ("x",), ("--config",), ("--log-level", "x")):
            code, out, err = self.run_service(*arguments)
            self.assertEqual((code, out), (2, ""), arguments)
            self.assertRegex(err, r"\Aconat-tablesvc: .+\n\Z")
        code, out, err = self.run_service("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"\Aconat-tablesvc \d+\.\d+\.\d+\n\Z")

    def test_a_second_one_on_the_same_addresses_is_refused(self):
        first = self.service()
        for listen, admin, part in ((f"unix:{first.dir}/s", "off", "/s"),
                                    (f"127.0.0.1:{first.port}", "off", str(first.port)),
                                    (f"unix:{first.dir}/t", f"127.0.0.1:{first.admin}",
                                     "Address already in use")):
            code, _, err = self.run_service("-c", first.config, "-l", listen, "-a", admin)
            self.assertEqual(code, 1, err)
            self.assertIn(part, err)
        first.rows("status")

    def test_says_that_nothing_survives(self):
        service = self.service()
        self.assertIn("nothing survives a restart", service.log())

    def test_tells_systemd(self):
        service = self.service(supervised=True)
        heard = ""
        while "READY=1" not in heard or "WATCHDOG=1" not in heard:
            heard += service.notify.recv(4096).decode() + "\n"
        for number, word in ((signal.SIGHUP, "RELOADING=1"), (signal.SIGTERM, "STOPPING=1")):
            service.process.send_signal(number)
            while word not in heard:
                heard += service.notify.recv(4096).decode() + "\n"
        self.assertEqual(service.process.wait(PATIENCE), 0)

    def test_stops_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            service = self.service()
            self.assertEqual(service.stop(number), 0)
            self.assertIn("stopped", service.log())
            code, _, _ = service.ctl("status")
            self.assertEqual(code, 3)

    def test_a_new_one_starts_where_one_was_killed(self):
        service = self.service()
        epoch = service.rows("status")[0]["epoch"]
        service.process.kill()
        service.process.wait()
        service.process = subprocess.Popen([TABLESVC, "-c", service.config],
                                           stderr=subprocess.DEVNULL)
        service.until(lambda: service.http("/readyz")[0] == 200, "not ready")
        self.assertGreater(service.rows("status")[0]["epoch"], epoch)

    def test_a_child_ends_with_its_parent(self):
        with tempfile.TemporaryDirectory() as d:
            config, listen = d + "/c.yaml", f"unix:{d}/embedded"
            with open(config, "w") as f:
                f.write(BASE.format(dir=d, port=free_port(), admin=free_port()))
            parent = subprocess.Popen(
                [sys.executable, "-c",
                 "import os, subprocess, sys, time\n"
                 "p = subprocess.Popen(sys.argv[1:] + ['--child-of', str(os.getpid())])\n"
                 "print(p.pid, flush=True)\n"
                 "time.sleep(100)\n",
                 TABLESVC, "-c", config, "-l", listen, "-a", "off", "-L", "error"],
                stdout=subprocess.PIPE, text=True)
            child = int(parent.stdout.readline())
            deadline = time.monotonic() + PATIENCE
            while subprocess.run([CTL, "-s", listen, "status"], capture_output=True).returncode:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            os.kill(child, signal.SIGINT)  # the terminal's Ctrl-C is the parent's to handle
            time.sleep(0.3)
            self.assertEqual(subprocess.run([CTL, "-s", listen, "status"],
                                            capture_output=True).returncode, 0)
            parent.kill()
            parent.wait()
            parent.stdout.close()
            while os.path.exists(f"/proc/{child}"):
                with open(f"/proc/{child}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                        break  # nobody reaps orphans in some containers
                self.assertLess(time.monotonic(), deadline + PATIENCE)
                time.sleep(0.05)
            code, _, err = self.run_service("-c", config, "-l", listen, "--child-of", "1")
            if os.getpid() != 1:
                self.assertEqual(code, 1)
                self.assertIn("the parent process is not 1", err)


if __name__ == "__main__":
    main()
