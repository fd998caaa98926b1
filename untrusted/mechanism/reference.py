#!/usr/bin/env python3
"""Plain reference of the mechanisms, written from the papers and sharing no code with the builder.

  reference.py closed                           permute-and-flip and Laplace noise in 120 digits, by exact polynomials
  reference.py custext FILE WORDS K EPSILON     Chen et al. 2023: greedy partition, exponential mechanism in each block
  reference.py santext FILE WORDS EPSILON       Yue et al. 2021: exponential mechanism over all words
  reference.py santext+ FILE WORDS EPSILON      the same with w .9 and p .3

FILE is a text file of vectors, xz-compressed; its first WORDS words are used, most frequent first. One line for each word
comes out: the word, then every output and its probability."""
import lzma
import math
import sys
from array import array
from decimal import Decimal, getcontext


def read_vectors(path, count):
    words = []
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            word, *numbers = line.split()
            words.append((word, list(array("f", map(float, numbers)))))  # vectors are kept in single precision
            if len(words) == count:
                return words
    raise SystemExit(f"{path} has fewer than {count} words")


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def softmax(exponents):
    powers = [math.exp(e) for e in exponents]
    total = math.fsum(powers)
    return [p / total for p in powers]


def show(word, outputs, probabilities):
    print(word, *(f"{o} {p!r}" for o, p in zip(outputs, probabilities)))


def custext(words, k, epsilon):
    unused = list(words)
    while unused:
        seed = unused[0]
        near = sorted(unused[1:], key=lambda w: -cosine(seed[1], w[1]))
        block = unused if len(unused) < k else [seed] + near[: k - 1]
        unused = [w for w in unused if w not in block]
        score = [[cosine(a[1], b[1]) for b in block] for a in block]
        low, high = min(map(min, score)), max(map(max, score))
        for word, row in zip(block, score):
            u = [(s - low) / (high - low) if high > low else 0 for s in row]
            show(word[0], [w[0] for w in block], softmax([epsilon * x / 2 for x in u]))


def santext(words, epsilon, plus):
    sensitive = words[len(words) - int(0.9 * len(words)) :] if plus else words
    names = [w[0] for w in sensitive]
    for word, vector in words:
        p = softmax([-epsilon / 2 * math.dist(vector, other) for _, other in sensitive])
        if word in names:
            show(word, names, p)
        else:
            show(word, names + [word], [0.3 * x for x in p] + [0.7])


def multiply(poly, a, b):
    """poly times (a + b x)"""
    out = [Decimal(0)] * (len(poly) + 1)
    for i, c in enumerate(poly):
        out[i] += a * c
        out[i + 1] += b * c
    return out


def permute_and_flip(q, rate):
    best = max(q)
    accept = [(-(best - s) * rate).exp() for s in q]
    result = []
    for r, own in enumerate(accept):
        poly = [Decimal(1)]
        for s, other in enumerate(accept):
            if s != r:
                poly = multiply(poly, Decimal(1), -other)
        result.append(own * sum(c / (i + 1) for i, c in enumerate(poly)))
    return result


def laplace(q, rate):
    """In u = e^-t: f and F are a + b u where t is above a score, and c / u where it is below."""
    a = [s * rate for s in q]
    up, down = [s.exp() / 2 for s in a], [(-s).exp() / 2 for s in a]
    edges = sorted(set(a))
    result = []
    for r in range(len(a)):
        total = Decimal(0)
        for low, high in zip([None] + edges, edges + [None]):
            poly, shift = [Decimal(1)], 0  # poly(u) u^-shift
            for s, score in enumerate(a):
                above = low is not None and low >= score
                if above and s == r:
                    poly = multiply(poly, Decimal(0), up[s])
                elif above:
                    poly = multiply(poly, Decimal(1), -up[s])
                else:
                    poly, shift = [c * down[s] for c in poly], shift + 1
            for i, c in enumerate(poly):
                power = i - shift  # the integral of u^power dt = -u^(power - 1) du
                if c == 0:
                    continue
                if power == 0:
                    total += c * (high - low)
                else:
                    at_low = 0 if low is None else (-power * low).exp()
                    at_high = 0 if high is None else (-power * high).exp()
                    total += c * (at_low - at_high) / power
        result.append(total)
    return result


def closed():
    getcontext().prec = 120
    for n, rate in ((1, "1"), (2, "0.5"), (7, "0.5"), (7, "16"), (24, "0.5"), (24, "3.25")):
        q = [Decimal((i * 37 + 11) % 101) / 100 for i in range(n)]
        if n > 6:
            q[5] = q[2]  # a tie
        for name, form in (("exponential", permute_and_flip), ("laplace", laplace)):
            print(name, n, rate, *(f"{x} {p:.25e}" for x, p in zip(q, form(q, Decimal(rate)))))


def main():
    mode = sys.argv[1]
    if mode == "closed":
        closed()
    elif mode == "custext":
        custext(read_vectors(sys.argv[2], int(sys.argv[3])), int(sys.argv[4]), float(sys.argv[5]))
    else:
        santext(read_vectors(sys.argv[2], int(sys.argv[3])), float(sys.argv[4]), mode == "santext+")


main()
