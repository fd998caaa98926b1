"""rows_rig - what a server that takes rows understands of them, without our code: the torch container, and which tokens of a client half rows are.

A GGUF reader, a ZIP reader and a reader of one pickle, each just enough for what must come."""

import array
import base64
import pickletools
import struct
import zlib

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Table:
    """Tokens of a client half, found by the begin of their row."""

    def __init__(self, path):
        self.data, self.at = open(path, "rb").read(), 8
        tensors, keys = self.take("Q"), self.take("Q")
        self.keys = {self.text(): self.value(self.take("I")) for _ in range(keys)}
        places = {}
        for _ in range(tensors):
            name = self.text()
            shape = [self.take("Q") for _ in range(self.take("I"))]
            places[name] = (shape, self.take("I"), self.take("Q"))
        begin = -(-self.at // 32) * 32
        (self.width, self.vocab), kind, offset = places["token_embd.weight"]
        self.ids = {}
        for token in range(self.vocab):
            row = begin + offset + token * {0: 4 * self.width, 1: 2 * self.width, 8: self.width // 32 * 34}[kind]
            self.ids.setdefault(self.head(kind, row), token)
        self.data = b""

    def take(self, form):
        value, = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self):
        size = self.take("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode(errors="replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, count = self.take("I"), self.take("Q")
            return [self.value(kind) for _ in range(count)]
        return self.take(SCALARS[kind])

    def head(self, kind, at):
        """Its first 32 numbers."""
        if kind == 8:  # Q8_0: a scale, and 32 small numbers
            scale, *small = struct.unpack_from("<e32b", self.data, at)
            return array.array("f", [scale * number for number in small]).tobytes()
        return array.array("f", struct.unpack_from("<32" + ("f" if kind == 0 else "e"), self.data, at)).tobytes()

    def tokens(self, rows):
        """Ids of rows; every row must be one of the table."""
        return [self.ids[array.array("f", row[:32]).tobytes()] for row in rows]

    def spell(self, ids):
        """What tokens spell, special ones too: byte-level BPE, or SentencePiece."""
        pieces = [self.keys["tokenizer.ggml.tokens"][token] for token in ids]
        if self.keys["tokenizer.ggml.model"] == "llama":
            return "".join(pieces).replace("\u2581", " ")
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in plain]
        byte_of = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
        return bytes(byte_of[letter] for letter in "".join(pieces)).decode(errors="replace")


def unzip(data):
    """Entries of a ZIP, read from its front; its directory must say the same of each."""
    entries, at, where = {}, 0, []
    while data[at:at + 4] == b"PK\3\4":
        flags, method, crc, size, full, name_size, extra = struct.unpack_from("<6xHH4xIIIHH", data, at)
        assert flags == method == 0 and size == full, "not stored"
        name = data[at + 30:at + 30 + name_size].decode()
        begin = at + 30 + name_size + extra
        entries[name] = data[begin:begin + size]
        assert zlib.crc32(entries[name]) == crc and begin % 64 == 0 and name not in entries or len(entries[name]) == size
        where.append((name, at, crc, size))
        at = begin + size
    directory = at
    for name, begin, crc, size in where:
        found = struct.unpack_from("<4sHHHHHHIIIHHHHHII", data, at)
        assert found[0] == b"PK\1\2" and found[7:10] == (crc, size, size) and found[16] == begin and data[at + 46:at + 46 + found[10]].decode() == name
        at += 46 + found[10]
    assert data[at:] == struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(where), len(where), at - directory, directory, 0), "not the end of a ZIP"
    return entries


def tensor(text):
    """Rows of a container, as lists of numbers. Nothing is unpickled: the opcodes must be those of one tensor."""
    data = base64.b64decode(text, validate=True)
    entries = unzip(data)
    assert set(entries) == {f"archive/{name}" for name in ("data.pkl", "byteorder", "data/0", "version")}, set(entries)
    assert entries["archive/byteorder"] == b"little" and entries["archive/version"] == b"3\n"
    said = [(op.name, value) for op, value, _ in pickletools.genops(entries["archive/data.pkl"])]
    kind = next(value.split(" ")[1] for name, value in said if name == "GLOBAL" and value.endswith("Storage"))
    count, offset, height, width, stride, one = [value for name, value in said if name.startswith("BININT")]
    assert [value for name, value in said if name == "GLOBAL"] == ["torch._utils _rebuild_tensor_v2", f"torch {kind}", "collections OrderedDict"]
    assert [value for name, value in said if name == "BINUNICODE"] == ["storage", "0", "cpu"] and said[0] == ("PROTO", 2) and said[-1][0] == "STOP"
    assert (offset, stride, one) == (0, width, 1) and count == height * width
    values = entries["archive/data/0"]
    if kind == "BFloat16Storage":
        values = b"".join(b"\0\0" + values[i:i + 2] for i in range(0, len(values), 2))
    numbers = struct.unpack(f"<{count}{'e' if kind == 'HalfStorage' else 'f'}", values)
    return [numbers[i * width:(i + 1) * width] for i in range(height)]
