#!/usr/bin/env python3
"""finetune_cli_test: `cmif eval --export`, tools/finetune and `cmif eval --tuned` as a person meets them. See rig.py.

What trains needs PyTorch: of python3, or of the Python that CMIF_TORCH_PYTHON names; without it those promises are skipped."""

import hashlib
import json
import lzma
import os
import re
import struct

import rig
from rig import BUILD, CANARY, SHARED, WORK, Skip, end, good, promise, refused, skip

DATA = f"{SHARED}/data"
COUNTS, MODEL = f"{DATA}/vectors/unigram_counts.tsv.xz", f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"
LOGITS = f"{SHARED}/models/minilm-sst2/logits.tsv"
for path in (COUNTS, MODEL, LOGITS):
    if not os.path.exists(path):
        skip(f"{path} is not there")
if not os.path.exists(f"{BUILD}/libexec/cmif/cmif-eval"):
    skip("cmif-eval is not built")
FINETUNE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "tools", "finetune")
PYTHON = os.environ.get("CMIF_TORCH_PYTHON", "python3")
WIDTH = 384

with lzma.open(COUNTS, "rt") as file:
    counts = [line.split("\t") for line in file]
counts.sort(key=lambda row: -int(row[1]))
rig.write("words.txt", "".join(f"{word}\t{int(count)}\n" for word, count in counts[:4000] if re.fullmatch("[a-z]{1,20}", word)))
os.makedirs(f"{WORK}/cache/cmif")
good("lexicon", "build", "--from", f"{WORK}/words.txt", "-o", f"{WORK}/cache/cmif/lexicon.gguf")
with open(f"{DATA}/sst2/dev.tsv") as file:
    dev = [line.rstrip("\n").rsplit("\t", 1) for line in file]
with open(f"{DATA}/sst2/train.tsv") as file:
    train = [line.rstrip("\n").rsplit("\t", 1) for line in file][:60]
TESTED = rig.write("tested.tsv", "".join(f"{text}\t{label}\n" for text, label in dev[:60]))
good("eval", TESTED, "--data", DATA, "--limit", "2", "--mechanisms", "clean", timeout=250)  # the model is split once, and says so
COMMON = ("--data", DATA, "-e", "1", "--seeds", "1")


class Gguf:
    """Values that are numbers or strings, and tensors, as (shape, bytes)."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        version, self.tensor_count, self.value_count = struct.unpack_from("<IQQ", self.data, 4)
        assert self.data[:4] == b"GGUF" and version == 3
        self.at, self.values, infos = 24, {}, []
        for _ in range(self.value_count):
            key = self.text()
            self.values[key] = self.value(self.take("<I"))
        self.values_end = self.at
        for _ in range(self.tensor_count):
            name = self.text()
            shape = [self.take("<Q") for _ in range(self.take("<I"))]
            infos.append((name, shape, self.take("<I"), self.take("<Q")))
        self.infos_end, self.data_at = self.at, -(-self.at // 32) * 32
        self.tensors = {}
        for name, shape, kind, at in infos:
            count = 1
            for size in shape:
                count *= size
            self.tensors[name] = (shape, self.data_at + at, count * (2 if kind == 1 else 4))

    def take(self, code):
        value, = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self):
        size = self.take("<Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, count = self.take("<I"), self.take("<Q")
            return [self.value(kind) for _ in range(count)]
        return self.take({0: "<B", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}[kind])

    def bytes(self, name):
        _, at, size = self.tensors[name]
        return self.data[at:at + size]

    def ints(self, name):
        return struct.unpack(f"<{self.tensors[name][2] // 4}i", self.bytes(name))


def exported(name, folder):
    """Of a file of rows: (the rows of each text, labels, what they are of)."""
    file = Gguf(f"{WORK}/{folder}/{name}.gguf")
    assert file.values["general.architecture"] == "cmif-rows" and file.tensors["rows"][0][0] == WIDTH
    rows, tokens, offsets = file.bytes("rows"), file.ints("tokens"), file.ints("offsets")
    row = lambda i: rows[4 * WIDTH * i:4 * WIDTH * (i + 1)]
    return [[row(i) for i in tokens[a:b]] for a, b in zip(offsets, offsets[1:])], file.ints("labels"), file.values["cmif.rows.of"]


def negated(path, of, sign):
    """The model with a head that says the contrary (sign -1), as if it had been trained on these rows."""
    file = Gguf(MODEL)
    more = {"cmif.tuned.of": of, "cmif.tuned.model": hashlib.sha256(file.data).hexdigest()}
    extra = b"".join(struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IQ", 8, len(text)) + text.encode() for key, text in more.items())
    header = (struct.pack("<4sIQQ", b"GGUF", 3, file.tensor_count, file.value_count + len(more)) + file.data[24:file.values_end] + extra +
              file.data[file.values_end:file.infos_end])
    body = bytearray(file.data[file.data_at:])
    for name, code, size in (("cls.output.weight", "e", 2), ("cls.output.bias", "f", 4)):
        _, at, length = file.tensors[name]
        values = struct.unpack_from(f"<{length // size}{code}", file.data, at)
        struct.pack_into(f"<{length // size}{code}", body, at - file.data_at, *(sign * value for value in values))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(header + bytes(-len(header) % 32) + body)


def evaluate(*args):
    done = good("eval", *args, "--json", f"{WORK}/result.json", timeout=250)
    with open(f"{WORK}/result.json") as file:
        return {(cell["mechanism"], cell["rows"]): cell for cell in json.load(file)["results"]}, done


def torch():
    if rig.run(PYTHON, "-c", "import torch").returncode:
        raise Skip(f"{PYTHON} has no PyTorch: pip install torch==2.15.0 in an environment of its own, and name its Python with CMIF_TORCH_PYTHON")


@promise
def what_would_leave_is_what_is_exported():
    """Clean rows are those of the model's table, special tokens too; of a text that is drawn other ones; labels as in the file."""
    texts = [(f"{text} {CANARY}" if i % 2 else text, label) for i, (text, label) in enumerate(train)]
    path = rig.write("train.tsv", "".join(f"{text}\t{label}\n" for text, label in texts))
    good("eval", TESTED, *COMMON, "--train", path, "--export", f"{WORK}/rows", "--mechanisms", "custext+", timeout=250)
    clean, labels, of = exported("clean-plain", "rows")
    assert of == "plain rows of text as it is" and labels == tuple(int(label) for _, label in texts)
    table = Gguf(MODEL).bytes("token_embd.weight")
    half = lambda i: struct.pack(f"<{WIDTH}f", *struct.unpack_from(f"<{WIDTH}e", table, 2 * WIDTH * i))
    known = {half(i): i for i in range(len(table) // (2 * WIDTH))}
    assert all(text[0] == half(101) and text[-1] == half(102) and all(row in known for row in text) for text in clean), "no rows of the table"
    for name in ("custext+-1-plain", "custext+-1-bayes"):
        rows, also, of = exported(name, "rows")
        assert len(rows) == len(clean) and also == labels
        same = sum(a == b for a, b in zip(rows, clean))
        assert same < 5, f"{name}: {same} of {len(rows)} texts leave as they are"
        assert all(text[0] == half(101) and text[-1] == half(102) for text in rows)
    for name in os.listdir(f"{WORK}/rows"):
        assert CANARY.encode() not in rig.read(f"rows/{name}"), "a text is in the file"


@promise
def each_text_is_released_as_often_as_is_asked():
    """Drawn anew each time, one behind the other; without --seeds once. What is not drawn leaves as often, so that all train as long."""
    path = rig.write("twice.tsv", "".join(f"{text}\t{label}\n" for text, label in train))
    export = lambda folder, *more: good("eval", TESTED, "--data", DATA, "-e", "1", "--train", path, "--export", f"{WORK}/{folder}", *more,
                                        "--mechanisms", "custext+", timeout=250)
    export("twice", "--seeds", "2")
    export("once")
    for name in ("clean-plain", "custext+-1-plain", "custext+-1-bayes"):
        texts, labels, _ = exported(name, "twice")
        once = exported(name, "once")[0]
        assert len(once) == len(train) and labels == tuple(int(label) for _, label in train for _ in range(2))
        same = sum(a == b for a, b in zip(texts[::2], texts[1::2]))
        assert same == len(train) if name == "clean-plain" else same < 5, f"{name}: {same} of {len(train)} texts leave the same twice"


@promise
def rows_tell_which_table_made_them():
    found, _ = evaluate(TESTED, *COMMON, "--mechanisms", "custext+")
    table = found["custext+", "plain"]["tables"][0]["sha256"]
    assert exported("custext+-1-plain", "rows")[2] == f"plain rows of table {table}"
    assert exported("custext+-1-bayes", "rows")[2] == f"bayes rows of table {table}"


@promise
def what_is_tested_on_is_not_trained_on():
    mixed = train[:20] + [(dev[3][0].upper() + " !", dev[3][1])] + train[20:30]
    path = rig.write("mixed.tsv", "".join(f"{text}\t{label}\n" for text, label in mixed))
    done = good("eval", TESTED, *COMMON, "--train", path, "--export", f"{WORK}/mixed", "--mechanisms", "clean")
    assert "1 texts are left out: they are tested on" in done.out and len(exported("clean-plain", "mixed")[0]) == 30, done.out


@promise
def each_row_of_the_table_is_computed_by_its_own_model():
    before, _ = evaluate(TESTED, *COMMON, "--mechanisms", "custext+")
    negated(f"{WORK}/tuned/clean-plain.gguf", "plain rows of text as it is", -1)
    tuned = (TESTED, *COMMON, "--setting", "A", "--tuned", f"{WORK}/tuned", "--mechanisms", "custext+")
    after, done = evaluate(*tuned)
    was, now = before["clean", "plain"]["accuracy"], after["clean", "plain"]["accuracy"]
    assert abs(was + now - 1) < 1e-9 and was > 0.8, f"{was} before, {now} by the model that says the contrary"
    assert list(after) == [("clean", "plain")] and "2 rows of the table are left out" in done.err and "A: trained on what leaves" in done.out, done.err
    negated(f"{WORK}/tuned/clean-plain.gguf", "plain rows of text as it is", 1)
    again, _ = evaluate(*tuned)
    assert again["clean", "plain"]["accuracy"] == was, "what another model had said was used again"
    return f": {was:.3f}, {now:.3f}"


@promise
def a_model_trained_on_other_rows_is_refused():
    tuned = ("eval", TESTED, *COMMON, "--setting", "A", "--tuned", f"{WORK}/wrong", "--mechanisms", "custext+", "-q")
    of = exported("custext+-1-plain", "rows")[2]
    negated(f"{WORK}/wrong/custext+-1-plain.gguf", of.replace("plain", "bayes"), 1)
    refused(1, "trained on other rows", rig.cmif(*tuned))
    negated(f"{WORK}/wrong/custext+-1-plain.gguf", of, 1)
    good(*tuned)
    refused(1, "no key 'cmif.tuned.of'|cmif.tuned.of", rig.cmif("eval", TESTED, *COMMON, "--setting", "A", "--tuned", os.path.dirname(os.path.realpath(
        rig.write("plain/clean-plain.gguf", open(MODEL, "rb").read()) if os.makedirs(f"{WORK}/plain") is None else "")), "--mechanisms", "clean", "-q"))


@promise
def wrong_arguments_are_refused():
    refused(2, "--tuned goes with --setting A", rig.cmif("eval", TESTED, "--data", DATA, "--tuned", WORK))
    refused(2, "--tuned goes with --setting A", rig.cmif("eval", TESTED, "--data", DATA, "--setting", "A", "--tuned", WORK, "--export", WORK))
    refused(1, "has no model for any row", rig.cmif("eval", TESTED, *COMMON, "--setting", "A", "--tuned", f"{WORK}/rows/none", "--mechanisms", "custext+"))
    refused(1, "name what is to be exported with --train", rig.cmif("eval", TESTED, *COMMON, "--export", f"{WORK}/x", "--mechanisms", "clean"))


@promise
def without_pytorch_one_sentence_says_what_to_do():
    done = rig.run("python3", "-I", "-S", FINETUNE, "-m", MODEL, "-o", WORK, "x.gguf")  # no site packages
    assert done.returncode == 1 and re.fullmatch("finetune: PyTorch is not installed .*/pip install torch==.*\n", done.err), done.err


@promise
def the_forward_pass_is_the_reference():
    """The 200 sentences of which PyTorch's logits are known, as exported rows. The reference had F32 weights, the file has F16."""
    torch()
    path = rig.write("dev200.tsv", "".join(f"{text}\t{label}\n" for text, label in dev[:200]))
    other = rig.write("other.tsv", "".join(f"{text}\t{label}\n" for text, label in train))
    good("eval", other, *COMMON, "--train", path, "--export", f"{WORK}/check", "--mechanisms", "clean")
    done = rig.run(PYTHON, FINETUNE, "-m", MODEL, "--check", LOGITS, f"{WORK}/check/clean-plain.gguf", timeout=250)
    assert done.returncode == 0 and re.match("200 texts: the largest difference of a logit is 0.00", done.out), done.out + done.err
    swapped = open(LOGITS).read().splitlines()
    swapped[7], swapped[8] = swapped[8], swapped[7]
    done = rig.run(PYTHON, FINETUNE, "-m", MODEL, "--check", rig.write("swapped.tsv", "\n".join(swapped) + "\n"), f"{WORK}/check/clean-plain.gguf", timeout=250)
    assert done.returncode == 1, "two logits that changed places were not noticed"


@promise
def what_was_trained_is_a_model_that_is_taken():
    """Two steps at a high rate on the rows of custext+ change what the model says, and nothing of the table."""
    torch()
    rows = f"{WORK}/rows/custext+-1-bayes.gguf"
    done = rig.run(PYTHON, FINETUNE, "-m", MODEL, "-o", f"{WORK}/made", "--rate", "1e-3", rows, timeout=250)
    assert done.returncode == 0 and "step 2 of 2" in done.out, done.out + done.err
    made, base = Gguf(f"{WORK}/made/custext+-1-bayes.gguf"), Gguf(MODEL)
    assert made.bytes("token_embd.weight") == base.bytes("token_embd.weight") and made.bytes("cls.weight") != base.bytes("cls.weight")
    assert {name: shape for name, (shape, _, _) in made.tensors.items()} == {name: shape for name, (shape, _, _) in base.tensors.items()}
    after, _ = evaluate(TESTED, *COMMON, "--setting", "A", "--tuned", f"{WORK}/made", "--mechanisms", "custext+")
    assert list(after) == [("custext+", "bayes")]
    good("classify", "-m", f"{WORK}/made/custext+-1-bayes.gguf", "--policy", "none", "-q", text="a fine film", timeout=250)
    done = rig.run(PYTHON, FINETUNE, "-m", f"{WORK}/made/custext+-1-bayes.gguf", "-o", f"{WORK}/made", rows, timeout=250)
    assert done.returncode == 1 and "rows of another model" in done.err, done.err


end()
