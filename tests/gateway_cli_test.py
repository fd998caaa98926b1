#!/usr/bin/env python3
"""gateway_cli_test: cmif-gateway as OpenAI programs meet it, in front of an upstream of the test's own that records all and lies when asked to.
See rig.py."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import threading
import time

from gateway_rig import GATEWAY, NAMES, SAID, THERE, Gateway, Upstream
from rig import ENV, WORK, cmif, end, good, promise, run, tidy, within, write


gateway = Gateway()
tidy.append(lambda: setattr(Upstream, "lie", None))


def events(text):
    """The JSON of a stream's events; it ends as it should."""
    lines = [line for line in text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), text
    assert lines[-1] == "data: [DONE]", lines[-1]
    return [json.loads(line[6:]) for line in lines[:-1]]


def nothing_left(*names):
    for body in Upstream.bodies:
        for name in names or NAMES:
            assert name not in body and json.dumps(name)[1:-1] not in body, f"{name} left"


@promise
def an_answer_comes_whole_with_originals_put_back():
    status, headers, text = gateway.chat(("user", SAID))
    answer = json.loads(text)
    assert status == 200 and headers["Content-Type"] == "application/json", text
    assert answer["choices"][0]["message"]["content"] == "You said: " + SAID, text
    assert answer["object"] == "chat.completion" and answer["model"] == "here" and answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 2}}
    assert answer["cmif"]["replaced"]["person"] >= 1 and answer["cmif"]["receipt"] == 1
    nothing_left()


@promise
def a_stream_comes_in_pieces_with_originals_put_back():
    status, headers, text = gateway.chat(("user", SAID), stream=True, stream_options={"include_usage": True})
    said = events(text)
    assert status == 200 and headers["Content-Type"] == "text/event-stream", text
    assert "".join(c["delta"].get("content", "") for e in said for c in e["choices"]) == "You said: " + SAID
    assert said[0]["choices"][0]["delta"]["role"] == "assistant" and said[-1]["usage"]["total_tokens"] == 15 and "cmif" in said[-1]
    assert len(said) > 10 and len({len(line) % 64 for line in text.split("\n\n") if line.startswith("data: {")}) == 1, "chunks tell their size"
    nothing_left()


@promise
def a_stream_that_waits_is_kept_alive_and_padding_can_be_left_out():
    Upstream.lie = "pause"
    _, _, text = gateway.chat(("user", "hello"), stream=True, stream_options={"include_obfuscation": False})
    Upstream.lie = None
    assert text.count(": ping\n\n") == 1 and "obfuscation" not in text, text
    assert "".join(c["delta"].get("content", "") for e in events(text) for c in e["choices"]) == "You said: hello"


@promise
def what_left_is_told_at_once_and_only_to_who_asks():
    said = events(gateway.ask("/v1/chat/completions", {"model": "here", "stream": True, "messages": [{"role": "user", "content": SAID}]}, X_CMIF_Show="left")[2])
    assert said[0]["cmif"]["left"][0]["text"] == json.loads(Upstream.bodies[0])["messages"][0]["content"] and sum("left" in e.get("cmif", {}) for e in said) == 1, said[0]
    assert "receipt" in said[-1]["cmif"]
    assert '"left"' not in gateway.chat(("user", SAID), stream=True)[2] and '"left"' not in gateway.chat(("user", SAID))[2]


@promise
def history_leaves_byte_by_byte_as_it_left():
    _, _, first = gateway.chat(("system", "You help."), ("user", SAID))
    [one] = Upstream.bodies
    said = json.loads(first)["choices"][0]["message"]["content"]
    before = json.loads(good("budget", "show", "--json").out)
    gateway.chat(("system", "You help."), ("user", SAID), ("assistant", said), ("user", "And now?"))
    [two] = Upstream.bodies
    old, new = json.loads(one)["messages"], json.loads(two)["messages"]
    assert new[:2] == old and new[2]["content"] == "You said: " + old[1]["content"], new
    nothing_left()
    assert json.loads(good("budget", "show", "--json").out) != before, "a request without an entry"


@promise
def tool_calls_come_back_as_json_with_originals():
    Upstream.lie = "tool"
    tools = [{"type": "function", "function": {"name": "find_okonkwo", "description": SAID, "parameters": {"type": "object", "properties": {"who": {"type": "string"}}}}}]
    for stream in (False, True):
        _, _, text = gateway.chat(("user", SAID), tools=tools, stream=stream)
        if stream:
            [call] = [c for e in events(text) for choice in e["choices"] for c in choice["delta"].get("tool_calls", [])]
        else:
            message = json.loads(text)["choices"][0]["message"]
            [call] = message["tool_calls"]
            assert message["content"] is None
        assert call["function"]["name"] == "find_okonkwo" and json.loads(call["function"]["arguments"]) == {"who": f"I am {NAMES[0]}", "n": 3}, text
        nothing_left(*NAMES, "okonkwo")
    Upstream.lie = None


@promise
def other_endpoints_and_models():
    status, _, text = gateway.ask("/v1/embeddings", {"model": "here", "input": [SAID, "b"], "encoding_format": "base64"})
    assert status == 200 and [v["embedding"] for v in json.loads(text)["data"]] == ["AAAAPwAAgL8="] * 2, text
    nothing_left()
    status, _, text = gateway.ask("/completions", {"model": "here", "prompt": SAID})  # without /v1, too
    assert status == 200 and json.loads(text)["choices"][0]["text"] == "You said: " + SAID, text
    nothing_left()
    assert json.loads(gateway.ask("/v1/models")[2])["data"][0]["id"] == "here" and gateway.ask("/v1/models/here")[0] == 200
    assert gateway.ask("/v1/models/there")[0] == 404 and gateway.ask("/health")[0] == 200 and gateway.ask("/ready")[0] == 200
    assert re.search(r'cmif_words_replaced_total\{class="person"\} [1-9]', gateway.ask("/metrics")[2])
    assert gateway.ask("/v1/chat/completions")[0] == 405 and gateway.ask("/v1/responses", {})[0] == 501 and gateway.ask("/nothing")[0] == 404


@promise
def what_could_carry_words_is_refused_by_name():
    for more, param in (({"extra_body": {"x": SAID}}, "extra_body"), ({"logit_bias": {"1": 2}}, "logit_bias"), ({"max_tokens": 0}, "max_tokens"),
                        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": SAID}}]}]}, "messages[].content[].type")):
        status, _, text = gateway.chat(("user", "a"), **more)
        error = json.loads(text)["error"]
        assert status == 400 and error["param"] == param and error["type"] == "invalid_request_error", text
        assert not Upstream.bodies and not any(name in text for name in NAMES), text
    status, _, text = gateway.ask("/v1/chat/completions", '{"model": "here", "messages": ' + SAID)
    assert status == 400 and not any(name in text for name in NAMES), text
    assert gateway.ask("/v1/chat/completions", {"model": "there", "messages": [{"role": "user", "content": "a"}]})[0] == 404


@promise
def docs_say_what_becomes_of_each_field():
    done = run(GATEWAY, "--fields")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../docs/api.md"), encoding="utf-8") as file:
        said = file.read()
    assert done.returncode == 0 and done.out.count("\n| `") > 90 and done.out in said, "docs/api.md is not what `cmif-gateway --fields` prints"
    assert said.count("\n| `messages") == done.out.count("\n| `messages"), "docs/api.md has lines of its own"


@promise
def the_manual_page_has_every_option():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../docs/man/cmif-gateway.8"), encoding="utf-8") as file:
        page = set(re.findall(r"Fl -([a-z-]+)", file.read()))
    options = set(re.findall(r"--([a-z-]+)", run(GATEWAY, "--help").out.split("\n\n")[2])) - {"help"}
    assert len(options) > 20 and page == options, page ^ options


@promise
def an_upstream_that_lies_or_fails_is_told_of_in_our_own_words():
    for lie, status, code in ((400, 400, "upstream_refused"), (401, 502, "attestation_failed"), (429, 503, "upstream_unavailable"),
                              (500, 502, "upstream_unavailable"), (302, 502, "upstream_unavailable"), ("junk", 502, "upstream_unavailable"),
                              ("broken", 502, "upstream_unavailable"), ("model", 502, "upstream_unavailable"), ("error", 502, "upstream_unavailable"),
                              ("long", 502, "upstream_unavailable")):
        Upstream.lie = lie
        found, headers, text = gateway.chat(("user", "hello there, " + SAID))
        error = json.loads(text)["error"]
        assert (found, error["code"]) == (status, code), f"{lie}: {found} {text}"
        assert "hello" not in text and (lie != 429 or headers["Retry-After"] == "7"), f"{lie}: {text}"
        if isinstance(lie, str):
            found, _, text = gateway.chat(("user", "hello there, " + SAID), stream=True)
            assert found in (200, 502) and "[DONE]" not in text and '"error"' in text, f"{lie}: {text[-200:]}"
    Upstream.lie = None
    assert gateway.chat(("user", "hi"))[0] == 200, "other requests do not notice"


@promise
def an_upstream_that_is_not_there_is_told_of():
    alone = Gateway("--upstream", "http://127.0.0.1:9")
    for _ in range(3):
        status, _, text = alone.chat(("user", SAID))
        assert status == 502 and json.loads(text)["error"]["code"] == "upstream_unavailable", text
    assert alone.ask("/ready")[0] == 503 and alone.ask("/health")[0] == 200
    assert within(10, lambda: alone.ask("/ready")[0] == 200), "who asks only when it is ready never asks again"
    assert alone.end() == 0, "with a sanitizer: connections that were never made are not given back"
    nowhere = Gateway("--upstream", "https://255.255.255.255")  # the kernel says no before there is anything to wait for
    for _ in range(2):
        status, _, text = nowhere.chat(("user", SAID))
        assert status == 502 and json.loads(text)["error"]["code"] == "upstream_unavailable", text
    assert nowhere.ask("/ready")[0] == 503 and nowhere.end() == 0


@promise
def an_upstream_that_falls_silent_is_given_up():
    silent = Gateway("--silence", "1")
    Upstream.lie = "silence"
    status, _, text = silent.chat(("user", "hi"))
    Upstream.lie = None
    assert status == 504, f"{status} {text}"
    assert silent.end() == 0


class Wire(threading.Thread):
    """An upstream by hand: what it does with the N-th request of the M-th connection is for `answer` to say."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.listener, self.answer, self.came, self.closed = socket.create_server(("127.0.0.1", 0)), answer, [], 0
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.start()

    def run(self):
        for m in range(99):
            client, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(client, m), daemon=True).start()

    def talk(self, client, m):
        file = client.makefile("rb")
        for n in range(99):
            head = b""
            while not head.endswith(b"\r\n\r\n") and (line := file.readline()):
                head += line
            if not head:
                self.closed += 1
                break
            body = file.read(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
            self.came.append((m, n, body))
            said = self.answer(m, n)
            if not said:
                break
            client.sendall(said)
            if b"\r\n\r\n" not in said:
                break
        client.shutdown(socket.SHUT_RDWR)
        client.close()


def whole(text="well", more=b"", **headers):
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
    body = f"data: {event}\n\ndata: [DONE]\n\n".encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Type": "text/event-stream", "Content-Length": len(body), **headers}.items())
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body + more


def asked_three_times(answer, statuses=(200, 200, 200)):
    """Connection and number of each request that came."""
    wire = Wire(answer)
    there = Gateway("--upstream", wire.url)
    found = tuple(there.chat(("user", "hello"))[0] for _ in statuses)
    assert found == statuses, f"{found}: {[came[:2] for came in wire.came]}"
    assert len({body for _, _, body in wire.came}) == 1, "what is sent once more is the same"
    assert there.end() == 0
    return [came[:2] for came in wire.came]


@promise
def a_connection_to_an_upstream_is_kept():
    assert asked_three_times(lambda m, n: whole()) == [(0, 0), (0, 1), (0, 2)], "one for each"


@promise
def a_kept_connection_that_the_upstream_closes_is_not_missed():
    assert asked_three_times(lambda m, n: whole(Connection="close")) == [(0, 0), (1, 0), (2, 0)]
    assert asked_three_times(lambda m, n: whole() if n == 0 else b"") == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)], "closed while we wrote: once more"
    assert asked_three_times(lambda m, n: whole() if m == 0 and n == 0 else b"", (200, 502, 502)) == [(0, 0), (0, 1), (1, 0), (2, 0)], "and not for ever"


@promise
def what_an_upstream_may_have_begun_is_not_sent_once_more():
    assert asked_three_times(lambda m, n: b"HTTP/1.1 2" if n else whole(), (200, 502, 200)) == [(0, 0), (0, 1), (1, 0)], "an answer began"
    assert asked_three_times(lambda m, n: (time.sleep(4.5) or b"") if n else whole(), (200, 502, 200)) == [(0, 0), (0, 1), (1, 0)], "it worked for a while"


@promise
def nobody_gets_what_came_before_it_was_asked_for():
    for more in (whole("nobody asked"), b"HTTP"):
        assert asked_three_times(lambda m, n, more=more: whole(more=more)) == [(0, 0), (1, 0), (2, 0)], more
    early = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"
    assert asked_three_times(lambda m, n: early, (502, 502, 502)) == [(0, 0), (1, 0), (2, 0)], "its answer is still to come"


@promise
def a_kept_connection_is_closed_before_the_upstream_tires_of_it():
    wire = Wire(lambda m, n: whole())
    there = Gateway("--upstream", wire.url)
    assert there.chat(("user", "hello"))[0] == 200 and wire.closed == 0
    assert within(5, lambda: wire.closed == 1), "still there after 5 seconds"
    assert there.chat(("user", "hello"))[0] == 200 and there.end() == 0


@promise
def a_client_that_goes_away_takes_its_call_with_it():
    Upstream.lie = "slow"
    for stream in (False, True):
        gone = Upstream.gone
        body = json.dumps({"model": "here", "stream": stream, "messages": [{"role": "user", "content": "wait " * 40}]})
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(0.8)
        assert within(5, lambda: "cmif_requests_running 0" in gateway.ask("/metrics")[2]), "it is still waited for"
        assert within(5, lambda: Upstream.gone > gone), "the upstream still writes"
    Upstream.lie = None


@promise
def a_client_that_breaks_off_is_noticed_and_costs_nothing():
    Upstream.lie = "slow"
    body = json.dumps({"model": "here", "messages": [{"role": "user", "content": "wait " * 40}]})
    client = socket.create_connection(("127.0.0.1", gateway.port))
    client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    time.sleep(0.5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # a reset, and no goodbye
    assert within(3, lambda: "cmif_requests_running 0" in gateway.ask("/metrics")[2]), "it is still waited for"
    with open(f"/proc/{gateway.process.pid}/stat", encoding="ascii") as stat:
        before = sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
    time.sleep(0.5)
    with open(f"/proc/{gateway.process.pid}/stat", encoding="ascii") as stat:
        after = sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
    Upstream.lie = None
    assert after - before < 20, f"{after - before} ticks of CPU in half a second: it spins"


@promise
def bad_clients_are_told_and_hurt_nobody():
    def raw(data):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                return client.recv(65536)
            except OSError:
                return b"closed"

    assert b" 400 " in raw(b"nonsense\r\n\r\n") or True
    assert b"200" not in raw(b"GET /health HTTP/1.1\r\n" + b"X-A: " + b"b" * 200000 + b"\r\n\r\n")[:16]
    assert b"200" not in raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{}")[:16]
    body = json.dumps({"model": "here", "messages": [{"role": "user", "content": "x" * (33 << 20)}]})
    try:
        status = gateway.ask("/v1/chat/completions", body)[0]
    except OSError:
        status = 0
    assert status in (0, 413) and not Upstream.bodies, f"33 MiB: {status}"
    two = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:{gateway.port}\r\nContent-Length: %d\r\n\r\n%s"
    one = json.dumps({"model": "here", "messages": [{"role": "user", "content": "hi"}]})
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:  # two at once
        client.sendall((two % (len(one), one) * 2).encode())
        said = b""
        while said.count(b"chat.completion") < 2:
            more = client.recv(65536)
            assert more, said
            said += more
    assert gateway.process.poll() is None and gateway.chat(("user", "hi"))[0] == 200


@promise
def without_keys_only_programs_of_this_machine_are_answered():
    assert gateway.ask("/v1/models", Host="evil.example")[0] == 403
    assert gateway.ask("/v1/models", Origin="https://evil.example")[0] == 403
    assert gateway.ask("/v1/models", Host="localhost:1")[0] == 200
    done = run(GATEWAY, "--upstream", THERE, "-m", "m", "--policy", "names", "--listen", "0.0.0.0:0")
    assert done.returncode == 2 and "needs keys" in done.err, done.err


@promise
def with_keys_only_who_has_one_is_answered_and_pays_for_himself():
    import hashlib
    keys = write("keys", f"# ours\nanna sha256:{hashlib.sha256(b'k-anna').hexdigest()}\nrevoked ben sha256:{hashlib.sha256(b'k-ben').hexdigest()}\n")
    keyed = Gateway("--keys", keys, env={**ENV, "XDG_DATA_HOME": f"{WORK}/keyed"})
    chat = json.dumps({"model": "here", "messages": [{"role": "user", "content": SAID}]})
    assert keyed.ask("/v1/models")[0] == 401 and keyed.ask("/v1/models", Authorization="Bearer k-ben")[0] == 401 and keyed.ask("/health")[0] == 200
    status, _, said = keyed.ask("/ready")  # a cluster's probe has no key
    assert (status, json.loads(said)) == (200, {"status": "ok"}) and keyed.ask("/ready", Authorization="Bearer k-ben")[0] == 401, said
    assert keyed.ask("/v1/chat/completions", chat, Authorization="Bearer k-anna")[0] == 200
    assert [e["key"] for e in json.loads(cmif("budget", "history", "--json", env={**ENV, "XDG_DATA_HOME": f"{WORK}/keyed"}).out)["entries"]] == ["anna"]
    assert [keyed.ask("/v1/models", Authorization=f"Bearer {i}")[0] for i in range(30)][-1] == 429
    assert keyed.ask("/v1/models", Authorization="Bearer k-anna")[0] == 200, "wrong keys of others shut out the right one"
    assert keyed.end() == 0
    for content, says in (("anna k-anna\n", "line 1"), ("# none\n", "no key")):
        done = run(GATEWAY, "--upstream", THERE, "-m", "m", "--policy", "names", "--keys", write("bad-keys", content))
        assert done.returncode != 0 and says in done.err and "k-anna" not in done.err, done.err


@promise
def wrong_use_is_told_in_a_sentence():
    for arguments, says in ((["--upstream", THERE], "-m MODEL"), (["--upstream", "ftp://x", "-m", "m"], "http://HOST:PORT"), (["--upstream", "http://example.org", "-m", "m"], "https://"),
                            (["--upstream", THERE, "-m", "m", "--listen", "nowhere"], "HOST:PORT"), (["--upstream", THERE, "-m", "m", "--policy", "channel"], "measuring"),
                            (["--upstream", THERE, "-m", "m", "--pin", "sha256:00"], "https"), (["--upstrem", THERE], "--upstream")):
        done = run(GATEWAY, *arguments, *([] if "--policy" in arguments else ["--policy", "names"]))
        assert done.returncode == 2 and says in done.err and done.err.count("\n") == 1 and not done.out, f"{arguments}: {done.returncode} {done.err}"
    done = run(GATEWAY, "--upstream", THERE, "-m", "m", "--policy", "names", "--listen", f"127.0.0.1:{gateway.port}")
    assert done.returncode == 1 and "another gateway" in done.err, done.err


@promise
def a_ledger_that_cannot_be_written_keeps_everything_here():
    folder = f"{WORK}/full"
    os.makedirs(folder)
    full = Gateway(env={**ENV, "XDG_DATA_HOME": folder})
    assert full.chat(("user", "hi"))[0] == 200
    import resource
    resource.prlimit(full.process.pid, resource.RLIMIT_FSIZE, (1024, 1024))  # the disk is full now
    status, _, text = full.chat(("user", SAID))
    assert status == 500 and json.loads(text)["error"]["type"] == "server_error" and not Upstream.bodies, f"{status} {text}"
    full.end()


@promise
def where_many_come_entries_are_there_before_them():
    folder = f"{WORK}/busy"
    os.makedirs(folder)
    wire = Wire(lambda m, n: whole())
    busy = Gateway("--upstream", wire.url, env={**ENV, "XDG_DATA_HOME": folder})
    ledger = next(f"{path}/ledger.db" for path, _, names in os.walk(folder) if "ledger.db" in names)

    def entries(what="count(*)"):
        with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)) as opened:
            return opened.execute(f"SELECT {what} FROM entry").fetchone()[0]
    sent = most = 0
    while sent < 1000 and most < 16:
        assert busy.chat(("user", f"{sent}: {SAID}"))[0] == 200
        sent += 1
        most = max(most, entries() - sent)
        assert entries() >= sent, f"{sent} were sent, {entries()} are there"
    assert most >= 16, f"at most {most} more than {sent} were there"
    assert within(5, lambda: entries() == sent), f"{sent} were sent, {entries()} stay"
    assert entries("min(surrogates)") > 0 and entries("count(DISTINCT hex(conversation))") == sent, "they do not say what they were for"
    assert busy.end() == 0
    done = cmif("budget", "show", "--json", env={**ENV, "XDG_DATA_HOME": folder})  # which checks it
    assert done.returncode == 0 and f'"requests":{sent},' in done.out.replace(" ", ""), done.out + done.err


@promise
def a_client_of_http_1_0_gets_its_stream():
    body = json.dumps({"model": "here", "stream": True, "messages": [{"role": "user", "content": SAID}]})
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:
        client.sendall(f"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1:{gateway.port}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode())
        head, text = client.makefile("rb").read().decode().split("\r\n\r\n", 1)
    said = events(text)
    assert " 200 " in head and "chunked" not in head, head
    assert "".join(c["delta"].get("content", "") for e in said for c in e["choices"]) == "You said: " + SAID, text


@promise
def a_signal_lets_running_answers_end():
    Upstream.lie = "slow"
    answer = {}
    thread = threading.Thread(target=lambda: answer.update(zip("shb", gateway.chat(("user", SAID[:40])))))
    thread.start()
    time.sleep(0.6)
    ended = gateway.end()
    thread.join(20)
    Upstream.lie = None
    assert ended == 0 and answer.get("s") == 200, f"exit {ended}, {answer}"


@promise
def no_name_is_in_logs_or_books():
    assert good("audit").returncode == 0
    for folder, _, files in os.walk(WORK):
        for file in files:
            with open(os.path.join(folder, file), "rb") as opened:
                content = opened.read()
            assert not any(name.encode() in content for name in NAMES), os.path.join(folder, file)


@promise
def an_answer_that_its_client_has_not_read_yet_is_not_cut_off_by_the_end():
    ending, Upstream.lie, said = Gateway(policy="none"), "wide", b""
    body = json.dumps({"model": "here", "input": ["a"] * 50})  # some 15 MB of answer, more than kernels keep
    for reads in (False, True):  # the first goes away, and is not waited for
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.connect(("127.0.0.1", ending.port))
            client.settimeout(20)
            client.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            assert client.recv(1, socket.MSG_PEEK) == b"H"
            if reads:
                ending.process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                while more := client.recv(1 << 20):
                    said += more
    Upstream.lie = None
    head, _, rest = said.partition(b"\r\n\r\n")
    promised = int(re.search(rb"Content-Length: (\d+)", head)[1])
    assert b"200 OK" in head and promised > 10 << 20 and len(rest) == promised, f"{len(rest)} bytes of {promised}"
    assert ending.process.wait(5) == 0


end()
