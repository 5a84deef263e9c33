#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The conformance table: requirements.txt and the tests that cite it become README.md.

A test proves a requirement by citing it: "RFC 5508 REQ-3a" in a C test's body or its row's text, in a
golden row's description, in a Python scenario's docstring or @case. Lists work: "RFC 4787 REQ-1, 3".

  conformance.py --check   README.md is what the tests say, and no row is without test or reason
  conformance.py --write   writes README.md
"""
import argparse
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
TABLE = os.path.join(HERE, "README.md")
# "RFC 4787 REQ-1", then ", REQ-3a", ", 3", " and 7" of the same RFC; "RFC 6864 section 5.3.1", also
# without the word; or the whole RFC.
CITED = re.compile(r"RFC (\d{4})(?: (REQ-\d+[a-fA-F]?|(?:section )?\d+(?:\.\d+)*(?!\w)))?"
                   r"((?:(?:, (?:and )?| and | to )(?:REQ-)?\d+[a-fA-F]?(?![\d.]*\w))*)")
MORE = re.compile(r"(, (?:and )?| and | to )(?:REQ-)?(\d+)([a-fA-F]?)")
C_TEST = re.compile(r"^(?:Test|ParameterizedTest|ParameterizedTestParameters|Theory)"
                    r"\((?:[^,()]*\*[^,]*, )?(?:\([^)]*\), )?(\w+), (\w+)")
PYTHON_TEST = re.compile(r"^(?:def|class) (\w+)")


def citations(text):
    """All ids that a line cites, ranges and lists spelled out."""
    for m in CITED.finditer(text):
        rfc, first, rest = m[1], m[2], m[3]
        yield f"RFC {rfc}"
        if not first:
            continue
        if not first.startswith("REQ-"):
            yield f"RFC {rfc} section {first.removeprefix('section ')}"
            continue
        yield f"RFC {rfc} REQ-{first[4:].lower()}"
        last = int(re.match(r"REQ-(\d+)", first)[1])
        for joint, number, letter in MORE.findall(rest):
            if joint == " to " and not letter:
                for n in range(last + 1, int(number)):
                    yield f"RFC {rfc} REQ-{n}"
            last = int(number)
            yield f"RFC {rfc} REQ-{number}{letter.lower()}"


def comment_joined(lines):
    """Lines with a citation that a line break cut ("RFC 4787" / "REQ-1") put together."""
    for i, line in enumerate(lines):
        if re.search(r"RFC(?: \d{4})?[ *]*$", line) and i + 1 < len(lines):
            yield line.rstrip() + " " + lines[i + 1].strip(" \t\n*#")
        else:
            yield line


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().splitlines()


def c_tests(path, tier):
    module = os.path.splitext(os.path.basename(path))[0]
    name, waiting = None, []
    for line in comment_joined(read(path)):
        if m := C_TEST.match(line):
            name = m[2]
            yield from ((cited, f"{tier}: {module}, {name}") for cited in waiting)
            waiting = []
        for cited in citations(line):
            if line.startswith(("/*", " *")):  # above a test, not in one
                waiting.append(cited)
            elif name:
                yield cited, f"{tier}: {module}, {name}"


def golden_rows(path):
    row = None
    for line in read(path):
        if line.startswith("test "):
            row = line[5:].strip()
        if line.startswith("test ") or (line.startswith("#") and row):
            for cited in citations(line):
                yield cited, f"golden: {row}"


def python_tests(path, tier):
    module = os.path.splitext(os.path.basename(path))[0]
    waiting, name = [], None
    for line in comment_joined(read(path)):
        if line.startswith("@"):
            name = None
        if m := PYTHON_TEST.match(line):
            name = m[1]
            yield from ((cited, f"{tier}: {module}, {name}") for cited in waiting)
            waiting = []
        for cited in citations(line):
            if name:
                yield cited, f"{tier}: {module}, {name}"
            elif waiting or line.startswith(("@", " ")):
                waiting.append(cited)


def proofs():
    """id -> the tests that cite it, in the order in which the tiers run."""
    found = {}
    for tier in ("unit", "golden", "contract", "sim", "stress", "e2e", "wire", "programs", "slow"):
        folder = os.path.join(TESTS, tier)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            tests = (golden_rows(path) if name.endswith(".golden") else
                     c_tests(path, tier) if re.match(r"(test|stress)_.*\.c$", name) else
                     python_tests(path, tier) if name.endswith(".py") else ())
            for cited, test in tests:
                if test not in found.setdefault(cited, []):
                    found[cited].append(test)
    return found


def requirements():
    """Headings and rows (id, level, requirement, behaviour) in the file's order."""
    for number, line in enumerate(read(os.path.join(HERE, "requirements.txt")), 1):
        if line.startswith("## "):
            yield line[3:], None
        elif line and not line.startswith("#"):
            row = [field.strip() for field in line.split(" | ")]
            if len(row) != 4:
                sys.exit(f"requirements.txt:{number}: wants ID | LEVEL | REQUIREMENT | BEHAVIOUR")
            yield None, row


def cell(text):
    return text.replace("|", "\\|")


def table():
    """(the text of README.md, what is wrong)"""
    cited, known, wrong = proofs(), set(), []
    out = ["<!-- Made by conformance.py from requirements.txt and the tests' citations. -->",
           "# Conformance", "",
           "What the RFCs require of a NAT44, what conat does, and the tests that prove it. A test is"
           " named by its tier, file and name; `ctest -R FILE` runs it.", ""]
    for heading, row in requirements():
        if heading:
            out += ["", f"## {heading}", "", "| requirement | level | | conat | proof |",
                    "|---|---|---|---|---|"]
            continue
        name, level, requirement, behaviour = row
        tests = cited.get(name, [])
        known.add(name)
        reason = behaviour.startswith("= ")
        if not tests and not reason:
            wrong.append(f"{name}: no test cites it, and requirements.txt gives no reason (\"= ...\")")
        proof = "<br>".join(cell(test) for test in tests) or ("none needed" if reason else "**missing**")
        out.append(f"| {name} | {'' if level == '=' else level} | {cell(requirement)} "
                   f"| {cell(behaviour.removeprefix('= '))} | {proof} |")
    whole = {re.sub(r"[a-f]$", "", name) for name in known}  # REQ-11 stands for 11a to 11d
    for name in sorted(set(cited) - known - whole):
        if re.match(r"RFC (4787|5382|5508|6888) REQ-", name):
            wrong.append(f"{name}: {cited[name][0]} cites it, but requirements.txt does not have it")
    return "\n".join(out) + "\n", wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--check", action="store_true")
    group.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    text, wrong = table()
    if arguments.write:
        with open(TABLE, "w", encoding="utf-8") as f:
            f.write(text)
    elif not os.path.exists(TABLE) or "\n".join(read(TABLE)) + "\n" != text:
        wrong.append("README.md is not what the tests say: run tests/conformance/conformance.py --write")
    for line in wrong:
        print(line)
    print(f"{len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
