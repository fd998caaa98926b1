#!/usr/bin/env python3
"""minilm_test SOURCE BUILD: `cmif embed` on the file that tools/fetch made gives what the original model gives.

The reference (minilm_reference.tsv) shares nothing with what is tested: neither converter nor tokenizer nor engine. Cosine
similarity must be above 0.9999 for every sentence, and far lower for a wrong sentence, so that the bound means something."""

import os
import subprocess
import sys

SOURCE, BUILD = sys.argv[1:3]
cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
model, program = os.path.join(cache, "cmif", "models", "minilm.gguf"), os.path.join(BUILD, "bin", "cmif")
for path in (model, program):
    if not os.path.exists(path):
        print(f"skipped: {path} is not there (tools/fetch minilm, tools/build release)")
        sys.exit(77)


def cosine(a, b):
    dot, aa, bb = (sum(x * y for x, y in zip(p, q)) for p, q in ((a, b), (a, a), (b, b)))
    return dot / (aa * bb) ** 0.5


with open(os.path.join(SOURCE, "tests", "models", "minilm_reference.tsv"), encoding="utf-8") as file:
    sentences, expected = zip(*(line.rstrip("\n").split("\t") for line in file))
expected = [[float(value) for value in values.split()] for values in expected]
done = subprocess.run([program, "embed", "--policy", "none", "-q", "-m", model], input="".join(f"{sentence}\n" for sentence in sentences),
                      capture_output=True, text=True, check=False)
if done.returncode != 0:
    sys.exit(f"FAILED cmif embed: exit {done.returncode}: {done.stderr}")
found = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
assert len(found) == len(expected) == 10 and all(len(vector) == 384 for vector in found), "a vector of 384 for each sentence"
worst = min(map(cosine, expected, found))
other = max(cosine(expected[i], found[j]) for i in range(10) for j in range(10) if i != j)
print(f"cosine similarity at least {worst:.7f}; between different sentences at most {other:.3f}")
sys.exit(not worst > 0.9999 > 0.9 > other)
