#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A UDP server that sends back what it gets: the far end of latency measurements."""
import socket
import sys

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(data, peer)
