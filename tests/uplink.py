#!/usr/bin/env python3
"""uplink - what a client sends to its server, recorded between the two and read with the model's vocabulary. For canary_test.py.

As a program: uplink.py BUILD [TEXT...]: ten of tests/texts (or those named) through `cmif run` and `cmif chat` with SmolLM2 and the default
policy, rows as ids so that the recording can be read. Prints what left and the restored answer; checks that what left is what the account
says, and that no span that was marked by hand (patterns and names, of 3 letters or 5 digits and more) stands in it. Exit code: 0 so it is; 1 not;
77 skipped, for lack of the model, the lists or the table (`cmif setup`)."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

TEN = "bank-1 medical-2 cv-1 letter-3 chat-3 support-2 contract-4 code-3 lower-2 mixed-2".split()
ASK = "Write a short and friendly answer to the person who wrote this. "
AGAIN = "Thank you. Now say that in one line, with all names in it."


class Tap:
    """Between client and server: what the client sent."""

    def __init__(self, near, far):
        self.sent, self.far, self.near = bytearray(), far, near
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(near)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.far)
            threading.Thread(target=self.pump, args=(client, server, self.sent), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, None), daemon=True).start()

    @staticmethod
    def pump(source, target, record):
        try:
            while data := source.recv(65536):
                if record is not None:
                    record += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def text(self, words):
        """What left, read from the frames with the model's vocabulary."""
        text, at = b"", 0
        while at + 8 <= len(self.sent):
            size, kind, pad = struct.unpack_from("<IHH", self.sent, at)
            payload = bytes(self.sent[at + 8:at + 8 + size - pad])
            if kind == 4:  # ROWS: first u32, count u16, two zeros, and here 4 bytes an id
                count = struct.unpack_from("<H", payload, 4)[0]
                assert len(payload) == 8 + 4 * count, f"{count} rows in {len(payload)} bytes are no ids"
                text += b"".join(words[i] for i in struct.unpack_from(f"<{count}I", payload, 8))
            at += 8 + size
        return text


def vocabulary(path):
    """Bytes of each token of a byte-level vocabulary, from the GGUF file."""
    data, at = open(path, "rb").read(1 << 24), 24

    def number(form):
        nonlocal at
        value = struct.unpack_from(form, data, at)[0]
        at += struct.calcsize(form)
        return value

    def string():
        nonlocal at
        size = number("<Q")
        at += size
        return data[at - size:at]

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            inner, count = number("<I"), number("<Q")
            return [value(inner) for _ in range(count)]
        return number("<" + "BbHhIif?  QqD".replace("D", "d")[kind])

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in plain)}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        if (key := string()) == b"tokenizer.ggml.tokens":
            number("<I")
            return [bytes(byte_of.get(c, 63) for c in token.decode()) for token in value(9)]
        value(number("<I"))
    raise AssertionError("no vocabulary in the model")


def main():
    build, wanted = sys.argv[1], sys.argv[2:] or TEN
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif")
    texts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "texts")
    for path in (f"{cache}/models/smollm2.gguf", f"{cache}/lists.gguf", f"{cache}/channel.cmifch"):
        if not os.path.exists(path):
            print(f"skipped: no {path} ('cmif pull smollm2', 'cmif setup')")
            return 77
    work = tempfile.mkdtemp(prefix="cmif-uplink-")
    env = {**os.environ, "XDG_DATA_HOME": f"{work}/data"}
    subprocess.run([f"{build}/bin/cmif", "split", f"{cache}/models/smollm2.gguf", "-o", f"{work}/half"], check=True, capture_output=True)
    server = subprocess.Popen([f"{build}/bin/cmif-server", "-m", f"{work}/half/server.gguf", "--json", "--listen", f"unix:{work}/s.sock"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    bad = checked = short = 0
    try:
        json.loads(server.stdout.readline())
        tap, words = Tap(f"{work}/tap", f"{work}/s.sock"), vocabulary(f"{work}/half/client.gguf")
        where = ("-m", f"{work}/half", "--server", f"unix:{work}/tap", "--rows", "ids", "-n", "48", "--json")

        def cmif(command, text):
            del tap.sent[:]
            done = subprocess.run([f"{build}/bin/cmif", command, *where], input=text.encode(), capture_output=True, env=env, timeout=3600)
            if done.returncode != 0:
                raise SystemExit(f"cmif {command}: {done.stderr.decode()}")
            return [json.loads(line) for line in done.stdout.splitlines()], tap.text(words).decode(errors="replace")

        def spans_in(sent, spans):
            """Marked spans that stand in what left, as whole words, however it is cased and spaced."""
            nonlocal bad, checked, short
            flat = " ".join(sent.split())
            for name, span in spans:
                span = " ".join(span.split())
                if sum(map(str.isalnum, span)) < (3 if any(map(str.isalpha, span)) else 5):  # years come again by chance
                    short += 1
                    continue
                checked += 1
                if re.search(r"(?<!\w)" + re.escape(span) + r"(?!\w)", flat, re.I):
                    bad += 1
                    print(f"LEFT AS WRITTEN: {name} '{span}'")

        for name in wanted:
            path = next(p for p in (f"{texts}/{folder}/{name}.txt" for folder in ("seen", "held")) if os.path.exists(p))
            marked = open(path).read()
            spans = [span for span in re.findall(r"\[\[([a-z]+)\|(.*?)\]\]", marked, re.S) if span[0] != "topic"]
            prompt = ASK + re.sub(r"\[\[[a-z]+\|(.*?)\]\]", r"\1", marked, flags=re.S)
            (account,), sent = cmif("run", prompt)
            guard = account["guard"]
            print(f"\n==== {name}: what left\n{account['released']}\n---- the answer, restored\n{account['text']}\n---- "
                  f"{guard['surrogates']} made up, {guard['drawn']} drawn, {guard['passed']} as written; "
                  f"{guard['restored']} restored, {guard['look_alikes_left']} look-alikes left", flush=True)
            if " ".join(account["released"].split()) not in " ".join(sent.split()):
                bad += 1
                print(f"THE WIRE HAD SOMETHING ELSE: {sent}")
            spans_in(sent, spans)
            answers, sent = cmif("chat", " ".join(prompt.split()) + f"\n{AGAIN}\n")
            print("---- as a chat, restored\n" + "\n> ".join(answer["text"] for answer in answers), flush=True)
            if len(answers) != 2:
                bad += 1
                print(f"{len(answers)} answers to 2 messages")
            spans_in(sent, spans)
        print(f"\n{len(wanted)} texts, run and chat: {checked} marked spans looked for in what left, {bad} found; {short} too short to look for")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        shutil.rmtree(work)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
