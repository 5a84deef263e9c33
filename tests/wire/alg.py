# SPDX-License-Identifier: Apache-2.0
"""Application-level gateways: there are none (RFC 4787 REQ-10, RFC 5382 REQ-6), so no payload
changes and none opens a door."""
import wire
from harness import case
from packets import tcp, udp
from wire import INSIDE, OUTSIDE


def both_ways(t, protocol, port, text):
    """The payload, with the host's address and port in it, passes unchanged out and in."""
    host, remote, sport = t.host(), t.remote(), wire.port()
    address = (host, sport)
    data = text.format(host=host, comma=host.replace(".", ","), port=sport, high=sport >> 8,
                       low=sport & 255).encode()
    if protocol == "udp":
        x = t.outbound(udp(host, sport, remote, port, data)).source
        t.inbound(udp(remote, port, *x, data), address)
        return remote, x
    x = t.tcp_open(host, sport, remote, port)
    t.outbound(tcp(host, sport, remote, port, "PA", data, 1001, 5001), src=x[0], sport=x[1])
    t.inbound(tcp(remote, port, *x, "PA", data, 5001, 1001 + len(data)), address)
    return remote, x


SIP = ("INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK1\r\n"
       "Contact: <sip:alice@{host}:{port}>\r\nContent-Type: application/sdp\r\n"
       "Content-Length: 64\r\n\r\nv=0\r\no=- 0 0 IN IP4 {host}\r\nc=IN IP4 {host}\r\n"
       "m=audio 49170 RTP/AVP 0\r\n")


@case("RFC 4787 REQ-10", "RFC 4787 REQ-10a")
def sip(t):
    """SIP with the private address in Via, Contact and SDP; no media port is opened."""
    remote, x = both_ways(t, "udp", 5060, SIP)
    t.refused(OUTSIDE, udp(t.remote(), 49170, x[0], 49170), "media from a stranger")
    both_ways(t, "tcp", 5060, SIP)


@case("RFC 5382 REQ-6")
def ftp(t):
    """PORT, EPRT and PASV; the announced data port is opened for nobody."""
    for text in ("PORT {comma},{high},{low}\r\n", "EPRT |1|{host}|{port}|\r\n",
                 "227 Entering Passive Mode ({comma},{high},{low})\r\n"):
        remote, x = both_ways(t, "tcp", 21, text)
        t.refused(OUTSIDE, tcp(t.remote(), 20, x[0], x[1], "S"), "a stranger's data connection")


@case("RFC 4787 REQ-10", "RFC 4787 REQ-10a")
def dns(t):
    """A DNS answer with private addresses in it, by UDP and TCP."""
    answer = "\x12\x34\x01\x00{host}\x00private"
    both_ways(t, "udp", 53, answer)
    both_ways(t, "tcp", 53, answer)


@case("RFC 4787 REQ-10", "RFC 5382 REQ-6")
def others(t):
    """TFTP, IRC, H.323, RTSP, PPTP, NetBIOS, IKE, SNMP and L2TP ports: nothing changes."""
    for protocol, port in (("udp", 69), ("tcp", 6667), ("tcp", 1720), ("tcp", 554), ("tcp", 1723),
                           ("udp", 137), ("udp", 500), ("udp", 161), ("udp", 1701)):
        both_ways(t, protocol, port, "\x01DCC SEND file {host} {port}\x01 {comma},{high},{low}\r\n")


@case("RFC 4787 REQ-10")
def tftp_answer_of_another_port(t):
    """A TFTP server answers from a port of its own: the filter alone decides, no gateway does."""
    host, remote, sport = t.host(), t.remote(), wire.port()
    x = t.udp_open(host, sport, remote, 69)
    t.refused(OUTSIDE, udp(t.remote(), 3333, *x), "another host")
    t.send(INSIDE, udp(host, sport, remote, 69))
    t.take(OUTSIDE)
