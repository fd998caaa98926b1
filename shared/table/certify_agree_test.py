#!/usr/bin/env python3
"""certify_agree_test.py SAMPLES CERTIFY [COUNT]: the two checkers say the same of 1,000 random tables: verdict, certified millionths, the
pair, the output and delta, over both adjacencies."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
from fractions import Fraction


def load(path):
    loader = importlib.machinery.SourceFileLoader("certify", path)
    spec = importlib.util.spec_from_loader("certify", loader)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def says(certify, table, adjacency):
    pure, high, low, word_high, word_low, output, delta = certify.certify(table, adjacency)
    micro = certify.micro(Fraction(high, low)) if pure else None
    return [int(pure)] + [-1 if x is None else x for x in (micro, high, low, word_high, word_low, output, delta)]


def main():
    samples, certify = sys.argv[1], load(sys.argv[2])
    count = sys.argv[3] if len(sys.argv) > 3 else "1000"
    agreed = refused = impure = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        lines = subprocess.run([samples, folder, count], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        for line in lines:
            path, verdict, *figures = line.split()
            figures = [int(x) for x in figures]
            judged, table = certify.judge(path), certify.read(path)
            mine = says(certify, table, certify.BLOCK) + says(certify, table, certify.ANY)
            if judged["accepted"] == (verdict == "ok") and mine == figures:
                agreed += 1
            else:
                print(f"DISAGREE {line}\n  python: {judged} {mine}")
            refused += verdict != "ok"
            impure += not figures[8]
    print(f"{agreed} of {len(lines)} agree; {refused} refused, {impure} with supports that differ")
    few = int(count) // 20
    sys.exit(agreed != int(count) or not few < refused < int(count) - few or not few < impure < int(count) - few)


if __name__ == "__main__":
    main()
