#!/usr/bin/env python3
"""custext.py WORDS K: words per second of CUSTEXT's sampling as its authors wrote it down (arXiv 2207.01193): split at white space,
look the word up in a dict, numpy.random.choice over its K candidates with their probabilities, join. Prints the generator's
name and the figure; without numpy random.choices stands in, which is faster, so that the comparison is not to our favour."""

import math
import random
import sys
import time

try:
    import numpy
    NAME = f"numpy {numpy.__version__}"
except ImportError:
    numpy, NAME = None, "random.choices"


def main():
    count, k = int(sys.argv[1]), int(sys.argv[2])
    words = [f"w{i}" for i in range(count)]
    table = {}
    for i, word in enumerate(words):
        first = i // k * k
        candidates = words[first:first + k]
        weights = [math.exp(random.random() / 2) for _ in candidates]
        total = sum(weights)
        table[word] = candidates, [w / total for w in weights]
    best = 0.0
    for _ in range(5):
        text = " ".join(random.choices(words, k=20000))
        start = time.perf_counter()
        released = []
        for word in text.split():
            candidates, weights = table[word]
            if numpy:
                released.append(numpy.random.choice(candidates, 1, p=weights)[0])
            else:
                released.append(random.choices(candidates, weights)[0])
        " ".join(released)
        best = max(best, 20000 / (time.perf_counter() - start))
    print(f"{NAME}\t{best:.0f}")


main()
