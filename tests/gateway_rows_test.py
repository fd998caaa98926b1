#!/usr/bin/env python3
"""gateway_rows_test: cmif-gateway in front of vLLM and SGLang, played here: they get rows that spell what was released, and nothing else. See rig.py.

What they get is read by rows_rig.py, and said back; so an answer shows what a server could read."""

import hashlib
import http.client
import json
import math
import os
import re
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rig import BUILD, ENV, SHARED, WORK, Skip, end, good, promise, run, skip, within
from rows_rig import Table, tensor

GATEWAY, LISTS = f"{BUILD}/bin/cmif-gateway", f"{BUILD}/tests/lists.gguf"
CHAT = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif", "models", "smollm2.gguf")
STORIES = f"{SHARED}/models/stories260K/stories260K.gguf"
NAME = "Marisol Okonkwo"

for file, why in ((STORIES, "no shared/models"), (CHAT, "'cmif pull smollm2' brings it"), (LISTS, "lists_build_test makes it")):
    if not os.path.exists(file):
        skip(f"{file} is not there: {why}")
os.makedirs(f"{WORK}/cache/cmif")
os.symlink(LISTS, f"{WORK}/cache/cmif/lists.gguf")
good("split", STORIES, "-o", f"{WORK}/stories")
good("split", CHAT, "-o", f"{WORK}/smol")
tables = {name: Table(f"{WORK}/{name}/client.gguf") for name in ("stories", "smol")}


class Server(BaseHTTPRequestHandler):
    """Both of them; `fault` makes it do something else."""
    protocol_version = "HTTP/1.1"
    bodies, fault, version, table = [], None, {"vllm": "0.32.0", "sglang": "0.5.23"}, None
    wrong = None  # what was wrong with what came

    def log_message(self, *_):
        pass

    def plain(self, status, thing):
        data = json.dumps(thing).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/version":
            return self.plain(200, {"version": Server.version["vllm"]})
        if self.path == "/server_info":
            return self.plain(200, {"version": Server.version["sglang"], "disable_radix_cache": True, "dtype": "bfloat16", "model_path": "/models/there"})
        if self.path == "/v1/models":
            return self.plain(200, {"object": "list", "data": [{"id": "there", "object": "model", "max_model_len": 512}]})
        return self.plain(404, {})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        Server.bodies.append(raw)
        try:
            body = json.loads(raw)
            rows = tensor(body["prompt_embeds"]) if self.path == "/v1/completions" else body["input_embeds"]
            assert self.path in ("/v1/completions", "/generate") and rows and all(len(row) == Server.table.width for row in rows), "wrong width"
            assert all(math.isfinite(number) and abs(number) < 100 for row in rows for number in row), "a number that is none"
            said = Server.table.spell(Server.table.tokens(rows))
        except (AssertionError, KeyError, ValueError, StopIteration) as fault:
            Server.wrong = repr(fault)
            return self.plain(400, {"error": {"message": "no"}})
        if Server.fault:
            return self.plain(Server.fault, {"error": {"message": f"you said: {said}"}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.openai(said, len(rows)) if self.path == "/v1/completions" else self.sglang(said, len(rows)):
            data = f"data: {json.dumps(event) if event else '[DONE]'}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def openai(self, said, rows):
        for i in range(0, len(said), 5):
            yield {"model": "there", "choices": [{"index": 0, "text": said[i:i + 5], "finish_reason": None, "token_ids": None}]}
        yield {"model": "there", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
        yield {"model": "there", "choices": [], "usage": {"prompt_tokens": rows, "completion_tokens": 4, "total_tokens": rows + 4}}
        yield None

    def sglang(self, said, rows):
        for i in range(5, len(said) + 5, 5):
            yield {"text": said[:i], "output_ids": [1], "meta_info": {"id": "x", "prompt_tokens": rows, "completion_tokens": i, "cached_tokens": 0,
                                                                     "finish_reason": {"type": "stop", "matched": 2} if i >= len(said) else None}}
        yield None


there = ThreadingHTTPServer(("127.0.0.1", 0), Server)
there.daemon_threads = True
threading.Thread(target=there.serve_forever, daemon=True).start()


class Gateway:
    def __init__(self, kind, model, *options, policy="names", url=None):
        Server.table, Server.wrong, self.log = tables[model], None, f"{WORK}/gateway.log"
        self.process = subprocess.Popen([GATEWAY, "--upstream", url or f"http://127.0.0.1:{there.server_address[1]}", "--kind", kind, "--served", "there", "-m", f"{WORK}/{model}",
                                         "--name", "here", "--listen", "127.0.0.1:0", "--policy", policy, *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.log, "ab"), env=ENV)
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), f"it does not start: {open(self.log).read()[-300:]}"
        self.port = int(re.search(r":(\d+)/v1", line)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(40)
        self.process.stdout.close()

    def ask(self, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def say(self, text, **more):
        """What it answers to a prompt; what the server saw is checked."""
        Server.bodies.clear()
        status, answer = self.ask("/v1/completions", {"model": "here", "prompt": text, **more})
        assert status == 200 and Server.wrong is None, f"{status} {answer} {Server.wrong}"
        return json.loads(answer)


def seen():
    return b"".join(Server.bodies)


@promise
def rows_spell_the_prompt_as_it_is_without_a_sanitizer():
    for kind in ("vllm", "sglang"):
        with Gateway(kind, "stories", policy="none") as gateway:
            answer = gateway.say("Once upon a time, Lily")
            assert answer["choices"][0]["text"].lstrip("<s>").strip() == "Once upon a time, Lily", answer
            assert answer["usage"]["prompt_tokens"] > 4 and b"Lily" not in seen() and b"Once" not in seen()


@promise
def a_chat_is_templated_here_and_nothing_of_it_is_text():
    messages = [{"role": "system", "content": "You are short."}, {"role": "user", "content": "Who is the king?"}]
    for kind in ("vllm", "sglang"):
        with Gateway(kind, "smol", policy="none") as gateway:
            Server.bodies.clear()
            status, answer = gateway.ask("/v1/chat/completions", {"model": "here", "messages": messages})
            assert status == 200 and Server.wrong is None, f"{answer} {Server.wrong}"
            said = json.loads(answer)["choices"][0]["message"]["content"]
            expected = "<|im_start|>system\nYou are short.<|im_end|>\n<|im_start|>user\nWho is the king?<|im_end|>\n<|im_start|>assistant\n"
            assert said.strip() == expected.strip(), said
            assert b"king" not in seen() and b"im_start" not in seen() and b"messages" not in seen()


@promise
def names_are_not_in_the_rows_and_come_back_in_the_answer():
    for kind in ("vllm", "sglang"):
        with Gateway(kind, "smol") as gateway:
            Server.bodies.clear()
            status, answer = gateway.ask("/v1/chat/completions", {"model": "here", "messages": [{"role": "user", "content": f"I am {NAME}, hello."}], "stop": [f"{NAME}!"]})
            assert status == 200 and Server.wrong is None, f"{answer} {Server.wrong}"
            assert f"I am {NAME}, hello." in json.loads(answer)["choices"][0]["message"]["content"]
            body = json.loads(seen())
            rows = tensor(body["prompt_embeds"]) if kind == "vllm" else body["input_embeds"]
            left = Server.table.spell(Server.table.tokens(rows)) + json.dumps({**body, "prompt_embeds": 0, "input_embeds": 0})
            assert "I am " in left and "Marisol" not in left and "Okonkwo" not in left, left


@promise
def only_known_fields_leave():
    allowed = {"vllm": {"model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop_token_ids", "stop", "seed", "stream",
                        "stream_options", "cache_salt", "prompt_embeds"}, "sglang": {"sampling_params", "stream", "input_embeds"}}
    for kind, names in allowed.items():
        with Gateway(kind, "stories", policy="none") as gateway:
            gateway.say("Lily", temperature=0.5, seed=4, stop=["x"], user=NAME, cache_salt=NAME, top_k=3, min_p=0.1, stream=False, echo=False, n=1)
            body = json.loads(seen())
            assert set(body) <= names and NAME.encode() not in seen(), set(body)
            if kind == "vllm":
                assert body["cache_salt"] != NAME and body["seed"] == 4 and body["model"] == "there" and body["repetition_penalty"] == 1
            for field, value in (("echo", True), ("suffix", "x"), ("logprobs", 2), ("n", 2), ("frequency_penalty", 1), ("repetition_penalty", 1.2)):
                Server.bodies.clear()
                status, answer = gateway.ask("/v1/completions", {"model": "here", "prompt": "Lily", field: value})
                assert status == 400 and field in answer and not Server.bodies, f"{field}: {status} {answer}"
            status, answer = gateway.ask("/v1/embeddings", {"model": "here", "input": "Lily"})
            assert status == 400 and "makes text and no vectors" in answer and not Server.bodies, answer


@promise
def an_old_server_gets_nothing_until_it_is_a_new_one():
    for kind, old, least in (("vllm", "0.11.0", "0.26.0"), ("sglang", "0.5.10", "0.5.23")):
        good_version = Server.version[kind]
        Server.version[kind] = old
        with Gateway(kind, "stories", policy="none") as gateway:
            Server.bodies.clear()
            status, answer = gateway.ask("/v1/completions", {"model": "here", "prompt": "Lily"})
            assert status == 502 and old in answer and least in answer and not Server.bodies, f"{status} {answer}"
            assert gateway.ask("/ready")[0] == 503
            Server.version[kind] = good_version
            assert gateway.say("Lily")["choices"][0]["text"].strip().endswith("Lily")
            assert gateway.ask("/ready")[0] == 200
        Server.version[kind] = old
        with Gateway(kind, "stories", "--any-version", policy="none") as gateway:
            assert gateway.say("Lily")["choices"][0]["text"].strip().endswith("Lily")
        Server.version[kind] = good_version


@promise
def what_a_server_says_in_an_error_is_not_passed_on():
    for kind in ("vllm", "sglang"):
        with Gateway(kind, "stories", policy="none") as gateway:
            for status in (400, 401, 500, 503):
                Server.fault = status
                got, answer = gateway.ask("/v1/completions", {"model": "here", "prompt": "Lily is happy"})
                assert got in (400, 502, 503) and "Lily" not in answer and "you said" not in answer and "upstream" in answer, f"{got} {answer}"
            Server.fault = None
            assert "Lily" not in open(gateway.log).read()


@promise
def a_prompt_longer_than_the_servers_context_is_refused_here():
    with Gateway("vllm", "stories", policy="none") as gateway:
        assert within(10, lambda: gateway.ask("/ready")[0] == 200)
        Server.bodies.clear()
        status, answer = gateway.ask("/v1/completions", {"model": "here", "prompt": "a " * 2000})
        assert status == 400 and "the context holds 511" in answer and not Server.bodies, answer


@promise
def over_tls_the_server_is_who_it_must_be():
    for name, who in (("here", "IP:127.0.0.1"), ("else", "DNS:elsewhere.example")):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-addext", f"subjectAltName={who}", "-days", "2",
            "-keyout", f"{WORK}/{name}.key", "-out", f"{WORK}/{name}.pem")
        secure = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        secure.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{WORK}/{name}.pem", f"{WORK}/{name}.key")
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, daemon=True).start()
        pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(f"{WORK}/{name}.pem").read())).hexdigest()
        for options, taken in ((("--pin", f"sha256:{pin}"), True), (("--pin", f"sha256:{pin.upper()}"), True), (("--pin", f"sha256:{pin[::-1]}"), False),
                               (("--ca", f"{WORK}/{name}.pem"), name == "here"), ((), False)):
            with Gateway("vllm", "stories", *options, policy="none", url=f"https://127.0.0.1:{secure.server_address[1]}/v1") as gateway:
                Server.bodies.clear()
                status, answer = gateway.ask("/v1/completions", {"model": "here", "prompt": "Lily"})
                assert status == (200 if taken else 502) and bool(Server.bodies) == taken, f"{name} {options}: {status} {answer}"
                assert taken or "pin or CA" in answer, answer
        secure.shutdown()


@promise
def the_containers_are_read_by_torch_too():
    with Gateway("vllm", "stories", policy="none") as gateway:
        gateway.say("Once upon a time")
        text = json.loads(seen())["prompt_embeds"]
    read = ("import base64, io, sys, torch; t = torch.load(io.BytesIO(base64.b64decode(sys.stdin.read())), weights_only=True); "
            "print(tuple(t.shape), t.dtype, float(t.double().sum()))")
    done = run(os.environ.get("CMIF_VLLM", "python3"), "-c", read, text=text)
    if done.returncode:
        raise Skip(f"{done.err.strip().splitlines()[-1][:80]}; CMIF_VLLM may name a python that has torch")
    rows = tensor(text)
    shape, total = re.match(r"(\(.*\)) torch.float32 (.*)", done.out).groups()
    assert shape == f"({len(rows)}, {tables['stories'].width})" and abs(float(total) - sum(map(sum, rows))) < 1e-6, done.out


end()
