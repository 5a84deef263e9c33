#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The yardstick in a dataplane's place: the kernel forwards, with nftables NAT or without.

Answers /readyz like a dataplane, so that the routers take it in and drop it when it is killed.
"""
import argparse
import http.server
import subprocess

RULES = """
table ip conat_lab {
	chain out {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "%s" masquerade
	}
}
"""


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("forward", "nft"), required=True)
    parser.add_argument("--outside", required=True)
    parser.add_argument("--admin", required=True)
    args = parser.parse_args()
    if args.mode == "nft":
        subprocess.run(["nft", "-f", "-"], input=RULES % args.outside, text=True, check=True)
    subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
    host, port = args.admin.rsplit(":", 1)
    http.server.ThreadingHTTPServer((host, int(port)), Ready).serve_forever()


if __name__ == "__main__":
    main()
