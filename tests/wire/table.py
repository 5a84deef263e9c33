# SPDX-License-Identifier: Apache-2.0
"""kernel.md: what each case found of conat and of the kernel's NAT."""
import json
import platform

HEAD = """\
# conat beside the Linux kernel's NAT

Written by `tests/wire/run --table`, from runs of the same cases against conat in its three forms
(one dataplane; two, by flow; two, each packet to the other one in turns) and against nftables on
Linux {kernel}: one gateway, `snat to` the same pool, `persistent`, the same port forwards with
hairpinning to them, no other rule. Packets are made and compared byte by byte beside the NAT
(packets.py); a case passes when everything that came out is as the RFC says, and nothing else came.

"""


def _cell(row):
    if row["passed"]:
        return "yes"
    return f"no: {row.get('expected_failure') or 'see the run'}"


def kernel(files):
    """From result files of all modes and forms."""
    rows = {}
    for name in files:
        with open(name, encoding="utf-8") as f:
            for row in json.load(f):
                key = (row["suite"], row["name"])
                rows.setdefault(key, {})[row["mode"], row["form"]] = row
    out, differ = HEAD.format(kernel=platform.release()), 0
    for suite in dict.fromkeys(suite for suite, _ in rows):
        out += f"## {suite}\n\n| requirement | case | what it says | conat | Linux nftables |\n"
        out += "|---|---|---|---|---|\n"
        for (of, name), found in rows.items():
            if of != suite:
                continue
            one = next(iter(found.values()))
            conat = {_cell(r) for (mode, _), r in found.items() if mode == "conat"}
            nft = found.get(("nft", "one"))
            cell = "not run" if not nft else "yes" if nft["passed"] else f"no: {one['on_nft']}"
            differ += bool(nft and not nft["passed"])
            out += (f"| {', '.join(one['cites'])} | {name} | {one['text']} | "
                    f"{'; '.join(sorted(conat)) or 'not run'} | {cell} |\n")
        out += "\n"
    return out + f"{len(rows)} cases; the kernel's NAT fails {differ} of them.\n"
