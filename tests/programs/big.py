# SPDX-License-Identifier: Apache-2.0
"""Programs whose datagrams do not fit in a packet."""
import re

from conatlab import SERVER
from load import iperf3
from programs import program, server

APART = "fragments of a datagram meet different gateways, and only the first says whose they are"


@program("RFC 4787 REQ-14", "RFC 5508 REQ-1", kernel={"nft-packet": APART})
def ping(t):
    """60000 bytes in 41 fragments, from both hosts at once."""
    pings = [t.lab.popen(ns, "ping", "-n", "-q", "-c", "10", "-i", "0.1", "-W", "2", "-s", "60000",
                         SERVER, stdout=-1, text=True) for ns in ("c1", "c2")]
    for process in pings:
        out = process.communicate(timeout=20)[0]
        found = re.search(r"(\d+) packets transmitted, (\d+) received", out)
        t.expect(found and found[2] == "10", f"ping -s 60000: {found and found[0]}")


@program("RFC 4787 REQ-14", kernel={"nft-packet": APART})
def iperf3_udp(t):
    """Datagrams of 8000 bytes in six fragments each, both ways."""
    for port, arguments in ((5211, ()), (5212, ("-R",))):
        server(t, f"iperf{port}", "srv", port, "iperf3", "-s", "-p", port)
        end = iperf3(t, "c1", port, "-u", "-l", "8000", "-b", "16M", *arguments, seconds=1)
        sent, received = end["sum_sent"]["packets"], end["sum_received"]["packets"]
        lost = end["sum_received"]["lost_packets"]
        t.expect(received >= 200 and lost <= received // 100, f"iperf3 -u -l 8000 "
                 f"{' '.join(arguments)}: {sent} sent, {received} received, {lost} lost")
