#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""conatctl and SIGHUP against the live lab: what operators see is what the hosts see."""
import datetime
import json
import os
import time

import e2e
from conatlab import SERVER, SERVER2, TABLE, program, total
from e2e import PORT, ask_tcp, ask_udp


def ctl(t, *args, server=TABLE):
    """(exit status, output and errors) of conatctl as people use it, without --json."""
    done = t.lab.run("tbl", program("conatctl"), "--server", server, *args)
    return done.returncode, done.stdout + done.stderr


def text(endpoint):
    return f"{endpoint[0]}:{endpoint[1]}"


def looking(t):
    """status, dataplanes, mappings, sessions, subscribers, pools, and their filters (RFC 6888 REQ-10)."""
    one, two, connection = t.udp("c1"), t.udp("c2"), t.tcp("c1", (SERVER, PORT))
    seen = {"one": ask_udp(one, (SERVER, PORT)), "again": ask_udp(one, (SERVER2, PORT)),
            "two": ask_udp(two, (SERVER, PORT)), "tcp": ask_tcp(connection)}
    t.need(None not in seen.values(), "flows work")
    status = t.lab.ctl("status")[0]
    t.expect(status["sessions"] == 4 and status["mappings"] == 3 and status["dataplanes"] == 2 and
             status["subscribers"] == 2 and status["journal"] == "none",
             f"status: {status['sessions']} sessions, {status['mappings']} mappings, "
             f"{status['dataplanes']} dataplanes, {status['subscribers']} subscribers")
    rows = t.lab.ctl("dataplanes")
    t.expect(sorted(r["name"] for r in rows) == ["dp1", "dp2"] and
             all(r["state"] == "attached" and 0 < r["lease_left_ms"] <= 10000 for r in rows),
             f"dataplanes: {[(r['name'], r['state'], r['lease_left_ms']) for r in rows]}")
    internal = {"10.0.1.2:%d" % one.getsockname()[1]: seen["one"],
                "10.0.2.2:%d" % two.getsockname()[1]: seen["two"],
                "10.0.1.2:%d" % connection.getsockname()[1]: seen["tcp"]}
    mappings = {m["internal"]: m["external"] for m in t.lab.ctl("mappings")}
    t.expect(mappings == {i: text(e) for i, e in internal.items()}, f"mappings: {mappings}")
    sessions = sorted((s["protocol"], s["external"], s["remote"]) for s in t.lab.ctl("sessions"))
    wanted = sorted([("udp", text(seen["one"]), f"{SERVER}:{PORT}"),
                     ("udp", text(seen["one"]), f"{SERVER2}:{PORT}"),
                     ("udp", text(seen["two"]), f"{SERVER}:{PORT}"),
                     ("tcp", text(seen["tcp"]), f"{SERVER}:{PORT}")])
    t.expect(sessions == wanted, f"sessions: {sessions}")
    for args, n in ((["--subscriber", "10.0.1.2"], 3), (["--subscriber", "10.0.2.2"], 1),
                    (["--protocol", "tcp"], 1), (["--protocol", "icmp"], 0),
                    (["--external", text(seen["one"])], 2), (["--remote", SERVER2], 1),
                    (["--remote", f"{SERVER}:{PORT}"], 3), (["--remote", f"{SERVER}:1"], 0),
                    (["--subscriber", "10.0.1.2", "--protocol", "udp"], 2), (["--limit", "2"], 2)):
        found = len(t.lab.ctl("sessions", *args))
        t.expect(found == n, f"sessions {' '.join(args)}: {found} of {n}")
    subscribers = {s["address"]: s for s in t.lab.ctl("subscribers")}
    t.expect(set(subscribers) == {"10.0.1.2", "10.0.2.2"} and
             subscribers["10.0.1.2"]["external"] == seen["one"][0] and
             subscribers["10.0.1.2"]["sessions"] == 3, f"subscribers: {list(subscribers.values())}")
    pools = t.lab.ctl("pools")
    t.expect(len(pools) == 1 and pools[0]["name"] == "lab" and pools[0]["addresses"] == 16 and
             pools[0]["blocks_used"] >= 2, f"pools: {pools}")
    status, out = ctl(t, "sessions")
    t.expect(status == 0 and out.splitlines()[0].split()[0] == "REALM" and len(out.splitlines()) >= 5,
             "a table for people")


def changing(t):
    """static add and del, delete, and exit statuses that scripts can use."""
    server = t.listen("c2", 80)
    forwarded = ("203.0.113.12", 2222)
    status, out = ctl(t, "static", "add", "tcp", text(forwarded), "10.0.2.2:80")
    t.expect(status == 0, f"static add: {out.strip()}")
    rows = t.lab.ctl("static", "list")
    t.expect([(r["external"], r["internal"], r["origin"], r["state"]) for r in rows] ==
             [(text(forwarded), "10.0.2.2:80", "operator", "active")], f"static list: {rows}")
    for pair in (("dp1", "dp2"), ("dp2", "dp1")):
        with t.routed(*pair):
            client = t.tcp("srv", forwarded)
            peer, _ = server.accept()
            client.sendall(b"hello")
            t.expect(peer.recv(8) == b"hello", f"the forward works at once, in by {pair[1]}")
            client.close()
            peer.close()
    t.expect(ctl(t, "static", "add", "tcp", text(forwarded), "10.0.1.2:80")[0] == 1,
             "another internal endpoint for it is refused")
    status, out = ctl(t, "static", "del", "tcp", text(forwarded))
    t.expect(status == 0, f"static del: {out.strip()}")
    with t.lab.inside("srv"):
        s = e2e.socket.socket()
    s.settimeout(1.5)
    try:
        s.connect(forwarded)
        result = "connected"
    except OSError as error:
        result = str(error)
    t.expect("timed out" in result, f"gone, and silent: {result}")
    t.expect(ctl(t, "static", "del", "tcp", text(forwarded))[0] == 4, "static del again: 4")

    sockets = [t.udp("c1") for _ in range(10)]
    before = [ask_udp(s, (SERVER, PORT)) for s in sockets]
    other = t.udp("c2")
    kept = ask_udp(other, (SERVER, PORT))
    t.need(None not in before and kept, "11 UDP flows work")
    status, out = ctl(t, "delete", "--subscriber", "10.0.1.2")
    t.expect(status == 0, f"delete: {' '.join(out.split())}")
    t.eventually(lambda: not t.lab.ctl("sessions", "--subscriber", "10.0.1.2"),
                 "no session of c1 is left")
    t.eventually(lambda: sum(total(t.lab.metrics(n), "conat_flows") for n in ("dp1", "dp2")) <= 2,
                 "the dataplanes dropped them too")
    after = [ask_udp(s, (SERVER, PORT), 2) for s in sockets]
    t.expect(None not in after, "the flows come back by new mappings")
    t.expect(ask_udp(other, (SERVER, PORT)) == kept, "the other client's flow was not touched")
    t.expect(ctl(t, "delete", "--subscriber", "10.0.77.1")[0] == 4, "delete without a match: 4")
    t.expect(ctl(t, "delete")[0] == 2, "delete without a filter: 2")
    t.expect(ctl(t, "no-such-command")[0] == 2, "unknown command: 2")
    t.expect(ctl(t, "--timeout", "3", "status", server="192.168.255.9:4790")[0] == 3,
             "no service there: 3")


def drain(t):
    """A drained dataplane leaves ECMP, nothing is lost; undone, it comes back."""
    flows = e2e.TcpFlows(t, "c1", 40)
    t.need(flows.round()[0] == 40, "40 TCP connections work")
    status, out = ctl(t, "drain", "dp1")
    t.expect(status == 0, f"drain: {' '.join(out.split())}")
    until = time.monotonic() + 12
    while "dp1" in t.lab.ecmp() and time.monotonic() < until:
        t.expect(flows.round()[0] == 40, "40 connections answer meanwhile")
        time.sleep(1)
    t.expect(t.lab.ecmp() == ["dp2"], "the routers use dp2 alone")
    t.expect(flows.round()[0] == 40 and not flows.moved(), "none of the 40 was lost or moved")
    t.expect(t.lab.running("dp1"), "dp1 runs on")
    t.expect(ctl(t, "drain", "dp1", "--undo")[0] == 0, "drain --undo")
    until = time.monotonic() + 12
    while "dp1" not in t.lab.ecmp() and time.monotonic() < until:
        time.sleep(0.1)
    t.expect(t.lab.ecmp() == ["dp1", "dp2"], "dp1 is in use again")
    t.expect(flows.round()[0] == 40 and not flows.moved(), "none of the 40 was lost or moved")
    t.expect(ctl(t, "drain", "nobody")[0] in (1, 4), "drain of an unknown dataplane fails")


def reload(t):
    """SIGHUP takes a new configuration without losing a session, or keeps the old one."""
    path = os.path.join(t.lab.state, "tablesvc.yaml")
    flows = e2e.TcpFlows(t, "c1", 20)
    t.need(flows.round()[0] == 20, "20 TCP connections work")
    generation = t.lab.ctl("status")[0]["config_generation"]
    server = t.listen("c1", 80)

    def hup(config):
        with open(path, "w", encoding="ascii") as f:
            f.write(config)
        t.lab.signal("tbl", "HUP")
        time.sleep(0.5)

    hup(e2e.CONFIG + "static:\n  - { realm: clients, protocol: tcp, "
        'external: "203.0.113.9:8080", internal: "10.0.1.2:80" }\n')
    t.expect(t.lab.ctl("status")[0]["config_generation"] > generation, "a new generation")
    client = t.tcp("srv", ("203.0.113.9", 8080))
    peer, _ = server.accept()
    t.expect(peer is not None, "its new port forward works")
    client.close()
    t.expect(flows.round()[0] == 20 and not flows.moved(), "the 20 connections go on")
    generation = t.lab.ctl("status")[0]["config_generation"]
    hup(e2e.CONFIG.replace("203.0.113.0/28", "203.0.113.0/99"))
    t.expect(t.lab.ctl("status")[0]["config_generation"] == generation,
             "a wrong configuration is not taken")
    t.expect("tablesvc.yaml:" in t.lab.log("tbl"), "and the log says where it is wrong")
    t.expect(flows.round()[0] == 20 and not flows.moved(), "the 20 connections go on")


def who(t):
    """Who had this address, port and time: live, and from the log after the flow has ended.
    RFC 6888 REQ-12, REQ-14; as the server saw it."""
    log = os.path.join(t.lab.state, "log", "tbl.log")  # by default: between the other lines

    def events():
        return [line for line in t.lab.log("tbl").splitlines() if line.startswith("{")]

    def asked(endpoint, *args):
        status, out = ctl(t, "--json", "who", text(endpoint), "--protocol", "udp", *args)
        rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return status, [(r["kind"], r["realm"], r["subscriber"], r["internal_port"]) for r in rows]

    def time_now():
        time.sleep(0.02)  # no event in the same millisecond
        return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")

    before = time_now()
    sockets = {"10.0.1.2": t.udp("c1"), "10.0.2.2": t.udp("c2")}
    seen = {host: ask_udp(s, (SERVER, PORT)) for host, s in sockets.items()}
    t.need(None not in seen.values(), "two flows work")
    for host, endpoint in seen.items():
        port = sockets[host].getsockname()[1]
        found = asked(endpoint)
        t.expect(found == (0, [("block", "clients", host, 0), ("mapping", "clients", host, port)]),
                 f"who {text(endpoint)}: {found}")
    then = time_now()
    t.expect(ctl(t, "delete", "--subscriber", "10.0.1.2")[0] == 0, "c1's flow ends")
    one, two = seen["10.0.1.2"], seen["10.0.2.2"]
    t.eventually(lambda: asked(one) == (1, []), "nobody has its endpoint")
    t.eventually(lambda: "block_released" in events()[-1], "and the log knows")
    kinds = [json.loads(line)["event"] for line in events()]
    t.expect(kinds == ["service_started", "block_allocated", "block_allocated", "block_released"],
             f"a line a block, none a session: {kinds}")
    t.expect(not any(SERVER in line for line in events()), "and none says with whom")
    for when, endpoint, found in (
            (then, one, (0, [("block", "clients", "10.0.1.2", 0)])),
            (then, two, (0, [("block", "clients", "10.0.2.2", 0)])),
            (before, one, (1, [])), (time_now(), one, (1, [])),
            (time_now(), two, (0, [("block", "clients", "10.0.2.2", 0)])),
            ("2001-01-01T00:00:00Z", one, (4, []))):
        got = asked(endpoint, "--at", when, "--log", log)
        t.expect(got == found, f"who {text(endpoint)} --at {when}: {got}")


if __name__ == "__main__":
    e2e.main([looking, changing, drain, reload, who])
