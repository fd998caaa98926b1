#!/usr/bin/env python3
"""gateway_cmif_test: cmif-gateway in front of cmif-server: a real model answers, and only rows leave. See rig.py."""

import atexit
import base64
import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from rig import BUILD, CANARY, ENV, SERVER, SHARED, WORK, Skip, end, good, promise, run, skip, within

GATEWAY = f"{BUILD}/bin/cmif-gateway"
CHAT = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif", "models", "smollm2.gguf")
MINILM = f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"
ROW = 576 * 4  # bytes
LONG = [{"role": "user", "content": "Tell me a long story about a whale."}]  # more than 500 tokens, when the likeliest are taken
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]

if not os.path.exists(CHAT):
    skip(f"no {CHAT}: 'cmif pull smollm2' brings it")
good("split", CHAT, "-o", f"{WORK}/half")
running = []
atexit.register(lambda: [process.kill() for process in running])


def start(*args):
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(f"{WORK}/log", "ab"), env=ENV, cwd=WORK)
    running.append(process)
    line = process.stdout.readline().decode()
    assert line.startswith("ready "), f"{args[0]} does not start: {open(f'{WORK}/log').read()[-400:]}"
    return process, line


def stop(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.stdout.close()
    running.remove(process)
    return process.wait(60)


def server(name="here", *options):
    if os.path.exists(f"{WORK}/{name}.sock"):
        os.unlink(f"{WORK}/{name}.sock")
    return start(SERVER, "-m", f"{WORK}/half/server.gguf", "--threads", "1", "--max-context", "1024", "--listen", f"unix:{WORK}/{name}.sock", *options)[0]


class Gateway:
    def __init__(self, *options, model=f"{WORK}/half", policy="none"):
        self.process, line = start(GATEWAY, "-m", model, "--name", "here", "--listen", "127.0.0.1:0", "--policy", policy, *options)
        self.port = int(re.search(r":(\d+)/v1", line)[1])

    def open(self, path, body=None, timeout=90):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps({"model": "here", **body}))
        return connection.getresponse()

    def ask(self, path, body=None, **more):
        """(status, object or text)"""
        answer = self.open(path, body, **more)
        text = answer.read().decode()
        self.headers = answer.headers
        return answer.status, json.loads(text) if text.startswith("{") else text

    def chat(self, messages, tokens=16, **more):
        """(text, reason, usage) of an answer, which is the likeliest one"""
        status, found = self.ask("/v1/chat/completions", {"messages": messages, "max_tokens": tokens, "temperature": 0, **more})
        assert status == 200, found
        return found["choices"][0]["message"]["content"], found["choices"][0]["finish_reason"], found["usage"]

    def stream(self, messages, tokens=16, each=lambda n: None, **more):
        """(text, reason, the last event) of an answer in pieces; each is called with the number of every piece"""
        answer = self.open("/v1/chat/completions", {"messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True, **more})
        text, reason, last, n = "", None, None, 0
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            last = line[6:].strip().decode()
            event = json.loads(last) if last != "[DONE]" else {}
            for choice in event.get("choices", []):
                piece = choice["delta"].get("content") or ""
                text, reason, n = text + piece, choice["finish_reason"] or reason, n + bool(piece)
                if piece:
                    each(n)
        return text, reason, last


class Wire:
    """Between gateway and server: counts and keeps what leaves."""

    def __init__(self, name):
        self.up, self.seen, self.to = 0, bytearray(), f"{WORK}/{name}.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = f"{WORK}/wire.sock"
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            there, here = socket.socket(socket.AF_UNIX), self.listener.accept()[0]
            there.connect(self.to)
            for a, b, up in ((here, there, True), (there, here, False)):
                threading.Thread(target=self.copy, args=(a, b, up), daemon=True).start()

    def copy(self, a, b, up):
        try:
            while data := a.recv(65536):
                if up:
                    self.up += len(data)
                    self.seen += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


two = server("here", "--max-sessions", "2")
wire = Wire("here")
gateway = Gateway("--server", f"unix:{wire.path}", "--sessions", "2")


# ---- what is answered ----

@promise
def the_likeliest_answer_is_that_of_cmif_run():
    for question in (CAPITAL[0]["content"], f"Say {CANARY} in German, with \u00fcml\u00e4uts \u2014 and an \U0001f98a."):
        expected = json.loads(good("run", "--json", "-m", f"{WORK}/half", "--policy", "none", "--threads", "1", "-n", "24", question).out)
        text, reason, usage = gateway.chat([{"role": "user", "content": question}], 24)
        assert (text, reason) == (expected["text"], expected["stop"]), f"{text!r}, expected {expected['text']!r}"
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (expected["left_the_machine"]["prompt_rows"], expected["tokens"]), usage
    expected = json.loads(good("run", "--json", "--raw", "-m", f"{WORK}/half", "--policy", "none", "--threads", "1", "-n", "16", "Once upon a time").out)
    for prompt in ("Once upon a time", ["Once upon a time"]):
        status, found = gateway.ask("/v1/completions", {"prompt": prompt, "temperature": 0})
        assert status == 200 and found["choices"][0]["text"] == expected["text"], f"{found}, expected {expected['text']!r}"
    expected = json.loads(good("run", "--json", "-m", f"{WORK}/half", "--policy", "none", "--threads", "1", "-n", "12", "--temp", "1", "--seed", "7", "--top-p", "0.9",
                               CAPITAL[0]["content"]).out)
    assert gateway.chat(CAPITAL, 12, temperature=1, seed=7, top_p=0.9)[0] == expected["text"]


@promise
def only_rows_leave():
    assert wire.up > 30 * ROW and CANARY.encode() not in wire.seen and b"France" not in wire.seen


@promise
def a_stream_is_the_same_text_in_pieces():
    pieces = []
    text, reason, last = gateway.stream(CAPITAL, 16, pieces.append)
    assert (text, reason, last) == (gateway.chat(CAPITAL)[0], "length", "[DONE]") and len(pieces) > 8, (text, reason, last)


@promise
def characters_are_whole():
    answer = gateway.open("/v1/completions", {"prompt": "\U0001f98a\U0001f98b\U0001f98a\U0001f98b\U0001f98a\U0001f98b\U0001f98a\U0001f98b", "temperature": 0, "max_tokens": 23, "stream": True})
    text = "".join(choice["text"] for line in answer if line.startswith(b"data: {") for choice in json.loads(line[6:])["choices"])
    assert text.count("\U0001f98b") == 7 and text[7:] == "\ufffd", text  # three tokens each


@promise
def a_stop_ends_the_answer_and_is_no_part_of_it():
    whole = gateway.chat(CAPITAL, 24)[0]
    for stop_ in (whole[9:13], whole[5:6], [whole[20:26], whole[12:15], "never"], whole[:3]):
        first = min(whole.index(s) for s in ([stop_] if isinstance(stop_, str) else stop_) if s in whole)
        text, reason, usage = gateway.chat(CAPITAL, 24, stop=stop_)
        assert (text, reason) == (whole[:first], "stop") and usage["completion_tokens"] <= 24, f"{stop_!r}: {text!r}"
        assert gateway.stream(CAPITAL, 24, stop=stop_)[:2] == (whole[:first], "stop"), stop_
    text, reason, _ = gateway.chat(CAPITAL, 24, stop=whole[-4:] + "zz")  # held back until it is clear, and then shown
    assert (text, reason) == (whole, "length"), f"{text!r}"


@promise
def messages_become_turns():
    def same(a, b):
        (one, _, first), (other, _, second) = gateway.chat(a, 8), gateway.chat(b, 8)
        assert one == other and first["prompt_tokens"] == second["prompt_tokens"], (a, first, second)
    user = lambda text: {"role": "user", "content": text}
    same([user("Hello."), user("How are you?")], [user("Hello.\n\nHow are you?")])
    same([user([{"type": "text", "text": "Hello."}, {"type": "text", "text": "How are you?"}])], [user("Hello.\nHow are you?")])
    same([{"role": "developer", "content": "Be brief."}, user("Hello.")], [{"role": "system", "content": "Be brief."}, user("Hello.")])
    same([{**user("Hello."), "name": CANARY}], [user("Hello.")])  # who says it stays here
    for messages, says in (([user("a"), {"role": "system", "content": "b"}, user("c")], "message 2 of 3"), ([user("a"), {"role": "assistant", "content": "b"}], "last message"),
                           ([user("a"), {"role": "assistant", "content": "b", "refusal": "c"}, user("d")], "refusal")):
        status, found = gateway.ask("/v1/chat/completions", {"messages": messages})
        assert status == 400 and says in found["error"]["message"], found


@promise
def what_the_server_cannot_do_is_refused_by_name():
    tool = {"type": "function", "function": {"name": "f"}}
    for field, value in (("n", 2), ("presence_penalty", 1), ("frequency_penalty", -1), ("repetition_penalty", 1.1), ("logprobs", True), ("tools", [tool]),
                         ("response_format", {"type": "json_object"}), ("reasoning_effort", "low")):
        status, found = gateway.ask("/v1/chat/completions", {"messages": CAPITAL, field: value})
        assert status == 400 and field in found["error"]["message"] and found["error"]["param"] == field, (field, found)
    for field, value in (("echo", True), ("suffix", "x"), ("logprobs", 0), ("prompt", ["a", "b"])):
        status, found = gateway.ask("/v1/completions", {"prompt": "a", field: value})
        assert status == 400 and field in found["error"]["message"] and found["error"]["param"] == field, (field, found)
    assert gateway.ask("/v1/embeddings", {"input": "a"})[0] == 400
    status, found = gateway.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": f"{CANARY} " * 1000}]})
    assert status == 400 and "the context holds 1024" in found["error"]["message"] and CANARY not in found["error"]["message"], found
    assert gateway.chat(CAPITAL, 4, n=1, presence_penalty=0, logprobs=False, tools=None, response_format={"type": "text"}, top_p=1, stop=None, tool_choice="auto")[0]


# ---- conversations ----

@promise
def a_conversation_that_is_sent_again_costs_its_last_turn_only():
    told = []
    talks = {name: ([{"role": "system", "content": "You are brief."}], {"prompt_tokens": 0, "completion_tokens": 0}) for name in ("ann", "ben")}
    for turn, question in enumerate(("Name a fruit.", "Another one?", "Which is larger?", "And which is sweeter?")):
        for name, (messages, before) in list(talks.items())[::1 if turn % 2 else -1]:  # each has a session of its own
            messages.append({"role": "user", "content": f"{question} Ask {name}."})
            up = wire.up
            text, _, usage = gateway.chat(messages, 12)
            cached, new = usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
            assert not turn or cached >= before["prompt_tokens"], f"{name}, turn {turn}: {usage} after {before}"
            assert within(2, lambda: new * ROW <= wire.up - up), f"{wire.up - up} bytes for {new} rows: how?"
            assert wire.up - up < (new + 1) * ROW, f"{wire.up - up} bytes for {new} rows"
            messages.append({"role": "assistant", "content": text})
            talks[name] = messages, usage
            if turn == 3:
                told = [cached, usage["prompt_tokens"], wire.up - up]
    return " (last turn: {} of {} rows were there, {} bytes left)".format(*told)


@promise
def four_streams_share_two_sessions():
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: gateway.stream([{"role": "user", "content": f"Count to {i}."}], 24)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(found) == 4 and all(reason and last == "[DONE]" for _, reason, last in found.values()), found


@promise
def a_client_that_goes_away_frees_its_session():
    alone = Gateway("--server", f"unix:{WORK}/here.sock", "--sessions", "1", "--silence", "1")
    for stream in (True, False):
        answer = alone.open("/v1/chat/completions", {"messages": LONG, "max_tokens": 900, "temperature": 0, "stream": True}) if stream else None
        if answer:
            answer.fp.readline()
            status, found = alone.ask("/v1/chat/completions", {"messages": CAPITAL, "max_tokens": 4})  # nobody waits for longer than --silence
            assert status == 503 and alone.headers["Retry-After"] and "in use" in found["error"]["message"], (status, found)
            answer.close()
        else:
            with socket.create_connection(("127.0.0.1", alone.port)) as client:
                body = json.dumps({"model": "here", "messages": LONG, "max_tokens": 900, "temperature": 0})
                client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                time.sleep(0.5)
        assert within(20, lambda: "cmif_requests_running 0" in alone.ask("/metrics")[1])
        assert alone.chat(CAPITAL, 4)[2]["completion_tokens"] == 4
    assert stop(alone.process) == 0


@promise
def too_many_that_wait_are_told_to_come_back_later():
    alone = Gateway("--server", f"unix:{WORK}/here.sock", "--sessions", "1")
    first = alone.open("/v1/chat/completions", {"messages": LONG, "max_tokens": 900, "temperature": 0, "stream": True})
    first.fp.readline()
    body = json.dumps({"model": "here", "messages": CAPITAL, "max_tokens": 1})
    waiting = []
    for _ in range(260):  # 256 may wait
        waiting.append(socket.create_connection(("127.0.0.1", alone.port), timeout=20))
        waiting[-1].sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b" 503 " in waiting[-1].recv(4096)[:16]
    for client in waiting[10:]:
        client.close()
    first.close()
    assert all(b" 200 " in client.recv(4096)[:16] for client in waiting[:10]), "who has waited is not answered"
    assert stop(alone.process) == 0


# ---- bad days ----

@promise
def a_server_elsewhere_is_who_it_must_be():
    def tls(port=0):
        process, line = start(SERVER, "-m", f"{WORK}/half/server.gguf", "--threads", "1", "--listen", f"127.0.0.1:{port}")
        return process, int(re.search(r"127.0.0.1:(\d+)", line)[1]), re.search(r"sha256:[0-9a-f]{64}", line)[0]

    genuine, port, pin = tls()
    far = Gateway("--server", f"127.0.0.1:{port}", "--pin", pin)
    assert far.chat(CAPITAL)[0] == gateway.chat(CAPITAL)[0] and far.ask("/ready")[0] == 200
    done = run(GATEWAY, "-m", f"{WORK}/half", "--policy", "none", "--listen", "127.0.0.1:0", "--server", f"127.0.0.1:{port}", "--pin", "sha256:" + "0" * 64)
    assert done.returncode == 1 and "pinned is sha256:0000" in done.err, done.err
    stop(genuine)
    shutil.rmtree(f"{WORK}/state/cmif")  # another one has its address now
    other, _, found = tls(port)
    assert found != pin
    status, error = far.ask("/v1/chat/completions", {"messages": CAPITAL, "max_tokens": 4})
    assert (status, error["error"]["code"]) == (502, "attestation_failed") and far.ask("/ready")[0] == 503, (status, error)
    assert stop(far.process) == 0
    stop(other)


@promise
def a_server_that_dies_in_mid_stream_is_taken_up_again_or_told_of():
    dying = [server("dying")]
    patient = Gateway("--server", f"unix:{WORK}/dying.sock")
    whole = patient.chat(CAPITAL, 40)[0]

    def die(n, again):
        if n == 5:
            stop(dying.pop(), signal.SIGKILL)
            if again:
                dying.append(server("dying"))

    assert patient.stream(CAPITAL, 40, lambda n: die(n, True)) == (whole, "length", "[DONE]"), "the answer is another one"
    began = time.monotonic()
    _, reason, last = patient.stream(CAPITAL, 40, lambda n: die(n, False))
    assert not reason and json.loads(last)["error"]["code"] == "upstream_unavailable" and time.monotonic() - began < 80, (reason, last)
    assert patient.ask("/ready")[0] == 503 and patient.ask("/health")[0] == 200
    dying.append(server("dying"))
    assert within(30, lambda: patient.ask("/ready")[0] == 200), "it is not noticed that the server is back"
    assert patient.chat(CAPITAL, 40)[0] == whole
    stop(dying.pop())
    assert stop(patient.process) == 0


@promise
def without_its_private_server_the_gateway_ends():
    private = Gateway("--threads", "1", "--context", "64", "--sessions", "1")
    assert private.chat(CAPITAL, 500, temperature=0)[1:] == ("length", {**private.chat(CAPITAL, 500)[2], "prompt_tokens_details": {"cached_tokens": 0}})
    child = int(open(f"/proc/{private.process.pid}/task/{private.process.pid}/children").read().split()[0])
    os.kill(child, signal.SIGKILL)
    assert private.process.wait(30) == 1 and "private server has ended" in open(f"{WORK}/log").read()
    running.remove(private.process)
    again = Gateway("--threads", "1", "--context", "64")
    child = int(open(f"/proc/{again.process.pid}/task/{again.process.pid}/children").read().split()[0])
    assert stop(again.process) == 0 and not os.path.exists(f"/proc/{child}")


@promise
def a_private_server_does_not_get_the_socket_that_systemd_hands_over():
    os.mkdir(f"{WORK}/libexec")
    with open(f"{WORK}/libexec/cmif-server", "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nls -l /proc/self/fd > {WORK}/handed\n")  # whoever holds it could take a program's connection, and read
    os.chmod(file.name, 0o755)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(4)
        subprocess.run(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", GATEWAY, "-m", f"{WORK}/half", "--policy", "none"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, preexec_fn=lambda: os.dup2(listening.fileno(), 3), close_fds=False, timeout=60, check=False,
                       env={**ENV, "LISTEN_FDS": "1", "CMIF_LIBEXEC": f"{WORK}/libexec"})
        assert f"socket:[{os.fstat(listening.fileno()).st_ino}]" not in open(f"{WORK}/handed", encoding="ascii").read()


@promise
def wrong_use_is_told_in_a_sentence():
    for arguments, code, says in ((["-m", f"{WORK}/none"], 1, "none"), (["-m", f"{WORK}/half", "--server", "127.0.0.1:1"], 2, "--pin"),
                                  (["-m", f"{WORK}/half", "--key-file", "x"], 2, "--upstream"), (["-m", "m", "--upstream", "http://127.0.0.1:1", "--server", "unix:x"], 2, "--server"),
                                  (["-m", f"{WORK}/half", "--server", f"unix:{WORK}/nobody.sock"], 1, "nobody.sock"), (["--policy", "none"], 2, "-m MODEL")):
        done = run(GATEWAY, "--policy", "none", "--listen", "127.0.0.1:0", *arguments)
        assert done.returncode == code and says in done.err and done.err.count("\n") == 1 and not done.out, f"{arguments}: {done.returncode} {done.err}"
    lines = run(GATEWAY, "--help").out.splitlines()
    assert len(lines) <= 24, len(lines)


# ---- vectors ----

@promise
def embeddings_are_those_of_cmif_embed():
    if not os.path.exists(MINILM):
        raise Skip(f"no {MINILM}")
    texts = ["A fox jumps.", "Nothing of the kind, \u00fcberhaupt.", "x"]
    expected = json.loads(good("embed", "--json", "-m", MINILM, "--policy", "none", "--threads", "1", *texts).out)["results"]
    encoder = Gateway("--threads", "1", "--sessions", "2", model=MINILM)
    for encoding in ("float", "base64"):
        status, found = encoder.ask("/v1/embeddings", {"input": texts, "encoding_format": encoding})
        assert status == 200, found
        vectors = [v["embedding"] for v in found["data"]]
        if encoding == "base64":
            vectors = [struct.unpack(f"<{len(base64.b64decode(v)) // 4}f", base64.b64decode(v)) for v in vectors]
        assert len(vectors) == 3 and all(len(v) == len(e) and max(abs(a - b) for a, b in zip(v, e)) < 1e-6 for v, e in zip(vectors, expected)), vectors
        assert found["usage"]["prompt_tokens"] > 10, found["usage"]
    for body, says in (({"input": ""}, "empty"), ({"input": "a", "dimensions": 1}, "dimensions"), ({"input": "a " * 2000}, "context")):
        status, found = encoder.ask("/v1/embeddings", body)
        assert status == 400 and says in found["error"]["message"], found
    assert encoder.ask("/v1/chat/completions", {"messages": CAPITAL})[0] == 400
    assert stop(encoder.process) == 0


@promise
def the_openai_client_works_unchanged():
    if not importlib.util.find_spec("openai"):
        raise Skip("the Python package openai is not installed")
    import openai
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["here"]
    expected = gateway.chat(CAPITAL, 12)[0]
    answer = client.chat.completions.create(model="here", messages=CAPITAL, max_completion_tokens=12, temperature=0)
    assert answer.choices[0].message.content == expected and answer.usage.prompt_tokens_details.cached_tokens > 0, answer
    with client.chat.completions.create(model="here", messages=CAPITAL, max_tokens=12, temperature=0, stream=True) as stream:
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == expected
    history = [*CAPITAL, answer.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": "And of Italy?"}]
    assert client.chat.completions.create(model="here", messages=history, max_tokens=4).usage.prompt_tokens_details.cached_tokens > 40
    assert client.completions.create(model="here", prompt="Once upon a time", temperature=0).usage.completion_tokens == 16
    try:
        client.chat.completions.create(model="here", messages=CAPITAL, n=2)
        raise AssertionError("n=2 was not refused")
    except openai.BadRequestError as error:
        assert "n:" in error.message, error


@promise
def everything_ends_as_asked():
    assert stop(gateway.process) == 0 and stop(two) == 0 and not running, running
    assert CANARY not in open(f"{WORK}/log").read()


end()
