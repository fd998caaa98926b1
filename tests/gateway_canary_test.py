#!/usr/bin/env python3
"""gateway_canary_test: a name, a number, an address or odd Unicode of its own in every position of every endpoint that takes bytes, and then the search
for them: what left, logs, metrics, ledger, receipts, error replies, core files. Positions are made from the table that the gateway prints, so that a
new field is in the walk at once. See rig.py."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway_rig import GATEWAY, Gateway, Upstream
from rig import SHARED, WORK, Skip, end, good, promise, run, within
from rows_rig import Table, tensor

resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # ours; the gateway sees to its own
GIVEN = ["Ottoline", "Thessaly", "Marmaduke", "Zephyrine", "Quillon", "Peregrine"]
STORIES = f"{SHARED}/models/stories260K/stories260K.gguf"
CHAT = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif", "models", "smollm2.gguf")
kinds = 0
planted = {}  # canary: where


def canary(where):
    """A new one, of the next kind: each is unlike any other, so that what is found says where it came from."""
    global kinds
    kinds += 1
    n, name = kinds, GIVEN[kinds % len(GIVEN)]
    tail = "".join(chr(97 + int(d) * 2) for d in f"{n:03}")
    text = [f"zorb{tail}fleux", f"{name.lower()}.q{tail}x@zephyr{tail}-mail.com", f"+49 30 55{n:03}817{n:03}", f"{name} Quarr{tail}ington",
            f"Žof{tail}íøwna", f"zo\u200brb{tail}\u0301fleu", f"4539 1488 {n:04} 6467"][n % 7]
    planted[text] = where
    return text


def identifier(where):
    """One that may be a tool's name."""
    text = f"find_quarr{len(planted):03}ington"
    planted[text] = where
    return text


def sentence(where):
    return f"Please tell {canary(where)} that the letter is here."


# ---- a request with a canary in every position ----

def fields():
    """{path: lines (takes, becomes)} by endpoint, as the gateway prints them."""
    out, endpoint = {}, None
    for line in run(GATEWAY, "--fields").out.splitlines():
        if line.startswith("### POST "):
            endpoint = out.setdefault(line[9:], {})
        elif match := re.match(r"\| `(.*?)`(?: \(needed\))? \| (.*?) \| (.*) \|$", line):
            endpoint.setdefault(match[1], []).append((match[2], match[3]))
    return out


FIELDS = fields()
SCHEMA = {"type": "object", "description": None, "properties": {"who": {"type": "string", "description": None, "enum": [None, None], "default": None, "examples": [None]}}, "required": ["who"],
          "$defs": {"one": {"title": None, "const": None}}}


def fill(value, where):
    if value is None:
        return sentence(where)
    if isinstance(value, dict):
        return {key: fill(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, where) for item in value]
    return value


def text_paths(endpoint):
    return [path for path, lines in FIELDS[endpoint].items() for takes, becomes in lines if becomes.startswith(("sanitized", "replaced")) or (becomes.startswith("stays") and path in FREE)]


FREE = ("user", "safety_identifier", "metadata", "prompt_cache_key", "cache_salt", "messages[].annotations", "store", "service_tier")
seen = set()  # paths of the table that were planted


def at(path, value=None):
    """A canary for this path of the table."""
    seen.add(path)
    return sentence(path) if value is None else value


def chat(stream):
    name, ident = lambda path: at(path, identifier(path)), lambda path: at(path, canary(path))
    call = {"id": ident("messages[].tool_calls[].id"), "type": "function",
            "function": {"name": name("messages[].tool_calls[].function.name"),
                         "arguments": at("messages[].tool_calls[].function.arguments", json.dumps({"who": sentence("arguments"), canary("a key of arguments"): [sentence("arguments, deep"), {"a": sentence("arguments, deeper")}]}))}}
    tool_call_id = at("messages[].tool_call_id", call["id"])
    return {
        "model": "here", "stream": stream, "user": at("user"), "safety_identifier": at("safety_identifier"), "metadata": at("metadata", {canary("a key of metadata"): sentence("metadata")}),
        "prompt_cache_key": at("prompt_cache_key"), "cache_salt": at("cache_salt"), "store": at("store"), "service_tier": at("service_tier"), "stop": at("stop"),
        "messages": [
            {"role": "system", "content": at("messages[].content"), "name": name("messages[].name")},
            {"role": "developer", "content": [{"type": "text", "text": at("messages[].content[].text")}, {"type": "text", "text": sentence("the second part")}]},
            {"role": "user", "content": sentence("an old message"), "name": name("messages[].name")},
            {"role": "assistant", "content": sentence("an old answer"), "tool_calls": [call], "annotations": at("messages[].annotations", [{"x": sentence("annotations")}])},
            {"role": "tool", "tool_call_id": tool_call_id, "content": json.dumps({canary("a key of a result"): sentence("a tool's result")})},
            {"role": "assistant", "refusal": at("messages[].refusal"), "content": [{"type": "refusal", "refusal": at("messages[].content[].refusal")}]},
            {"role": "user", "content": sentence("the last message") + "\n\n```\n" + sentence("code") + "\n``` | " + sentence("a table") + '\t"' + sentence("quotes") + '"'}],
        "prediction": {"type": "content", "content": [{"type": "text", "text": at("prediction.content[].text")}]},
        "tools": [{"type": "function", "function": {"name": name("tools[].function.name"), "description": at("tools[].function.description"), "parameters": at("tools[].function.parameters", fill(SCHEMA, "schema"))}}],
        "tool_choice": {"type": "function", "function": {"name": at("tool_choice.function.name", call["function"]["name"])}},
        "response_format": {"type": "json_schema", "json_schema": {"name": name("response_format.json_schema.name"), "description": at("response_format.json_schema.description"), "schema": at("response_format.json_schema.schema", fill(SCHEMA, "answer"))}}}


def chat_again(stream):
    """What has two forms, in the other one."""
    at("stop[]"), at("prediction.content")
    return {"model": "here", "stream": stream, "stop": [sentence("stop[]"), sentence("stop[]")], "prediction": {"type": "content", "content": sentence("prediction.content")},
            "messages": [{"role": "user", "content": sentence("alone")}]}


def completions(many):
    def body(stream):
        at("prompt"), at("prompt[]"), at("suffix"), at("user"), at("cache_salt"), at("stop"), at("stop[]")
        return {"model": "here", "stream": stream, "prompt": [sentence("prompt[]"), sentence("prompt[]")] if many else sentence("prompt"), "suffix": sentence("suffix"),
                "stop": [sentence("stop")] if many else sentence("stop"), "user": sentence("user"), "cache_salt": sentence("salt")}
    return body


def embeddings(many):
    def body(_):
        at("input"), at("input[]"), at("user")
        return {"model": "here", "input": [sentence("input[]"), sentence("input[]")] if many else sentence("input"), "user": sentence("user")}
    return body


# ---- the search ----

def found_in(content):
    """Canaries in bytes: as written, as JSON escapes, without spaces, in other case."""
    content = content.encode() if isinstance(content, str) else content
    low = content.lower()
    return [f"{text!r} ({where})" for text, where in planted.items()
            for form in {text, json.dumps(text)[1:-1], text.replace(" ", "")} if form.encode() in content or form.lower().encode() in low]




gateway = Gateway()
uplink, replies = [], []


def ask(path, body, **headers):
    status, headers_, text = gateway.ask(path, body, **headers)
    uplink.extend(Upstream.bodies)
    return status, headers_, text


BODIES = [("/v1/chat/completions", chat), ("/v1/chat/completions", chat_again), ("/v1/completions", completions(False)), ("/v1/completions", completions(True)),
          ("/v1/embeddings", embeddings(False)), ("/v1/embeddings", embeddings(True))]


@promise
def every_field_that_takes_bytes_is_in_the_walk():
    for endpoint in FIELDS:
        seen.clear()
        for path, body in BODIES:
            if path == endpoint:
                body(False)
        missing = [path for path in text_paths(endpoint) if path not in seen]
        assert not missing, f"{endpoint}: {missing}"
    planted.clear()


@promise
def nothing_that_was_planted_leaves():
    places = 0
    for path, body in BODIES:
        for stream in (False, True):
            before = len(planted)
            status, _, text = ask(path, body(stream))
            assert status in (200, 502) and Upstream.bodies, f"{path}: {status} {text[:300]}"
            places += len(planted) - before
            for sent in Upstream.bodies:
                assert not found_in(sent), f"{path}: {found_in(sent)}"
                json.loads(sent)
    assert places >= 80 and len(uplink) == 2 * len(BODIES), f"{places} places, {len(uplink)} bodies"
    return f": {places} places, {len(uplink)} bodies, {sum(map(len, uplink))} bytes"


@promise
def an_answer_of_another_conversation_brings_nothing_back():
    seen_before = json.loads(uplink[0])["messages"][-1]["content"]
    _, _, text = ask("/v1/chat/completions", {"model": "here", "messages": [{"role": "user", "content": "Say: " + seen_before[:60]}]})
    assert not found_in(text), found_in(text)


@promise
def errors_say_none_of_it():
    for more in ({canary("an unknown field"): 1}, {"logit_bias": {canary("logit_bias"): 1}}, {"modalities": [canary("modalities")]}, {"temperature": canary("temperature")},
                 {"model": canary("the model")}, {"messages": [{"role": canary("role"), "content": "a"}]}, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": canary("image")}}]}]},
                 {"messages": canary("messages")}, {"tools": [{"type": "function", "function": {"name": "a", "parameters": {canary("a word of a schema"): {"x": 1}}}}]}, {"reasoning_effort": canary("effort")},
                 {"function_call": canary("function_call")}, {"audio": {canary("audio"): 1}}, {"stream": canary("stream")}, {"max_tokens": canary("max_tokens")}, {"top_p": canary("top_p")}):
        status, _, text = ask("/v1/chat/completions", {"model": "here", "messages": [{"role": "user", "content": "a"}], **more})
        replies.append(text)
        assert status in (200, 400, 404), f"{list(more)}: {status} {text}"
    for raw in ('{"model": "here", "messages": ' + canary("broken JSON"), '{"' + canary("twice") + '": 1, "model": "here", "model": "here"}', '["' + canary("no object") + '"]'):
        replies.append(ask("/v1/chat/completions", raw.encode())[2])
    for lie in (400, 401, 429, 500, "junk", "broken", "error"):
        Upstream.lie = lie
        for stream in (False, True):
            replies.append(ask("/v1/chat/completions", {"model": "here", "stream": stream, "messages": [{"role": "user", "content": "hello you, " + sentence("an upstream that lies")}]})[2] if not isinstance(lie, str) else "")
    Upstream.lie = None
    for path in (f"/v1/models/{canary('a path').replace(' ', '')}", f"/{canary('a path').replace(' ', '')}", f"/ready?x={canary('a query').replace(' ', '')}"):
        replies.append(ask(path.encode("ascii", "ignore").decode(), None)[2])
    replies.append(ask("/v1/models", None, Authorization=canary("a header").encode("ascii", "ignore").decode(), X_CMIF_Show=canary("a header").encode("ascii", "ignore").decode(), User_Agent=canary("a header").encode("ascii", "ignore").decode())[2])
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:
        client.sendall(f"{canary('no HTTP')}\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        replies.append(client.recv(65536).decode(errors="replace"))
    for text in replies:
        assert not found_in(text), f"{found_in(text)}: {text[:200]}"
    for sent in uplink:
        assert not found_in(sent), found_in(sent)
    return f": {len(replies)} replies"


@promise
def metrics_and_status_say_none_of_it():
    for path in ("/metrics", "/status", "/ready", "/version", "/v1/models", "/receipts", "/health"):
        status, _, text = ask(path, None)
        assert status == 200 or path == "/ready", f"{path}: {status}"  # after so many lies the upstream may be taken for down
        assert not found_in(text), f"{path}: {found_in(text)}"


# ---- upstreams that get rows: what rows spell is searched, too ----

class Rows(BaseHTTPRequestHandler):
    """vLLM and SGLang, as far as the gateway looks; says back what the rows spell."""
    protocol_version = "HTTP/1.1"
    came, table = [], None

    def log_message(self, *_):
        pass

    def plain(self, thing):
        data = json.dumps(thing).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.plain({"/version": {"version": "0.32.0"}, "/v1/models": {"data": [{"id": "there", "max_model_len": 2048}]}}.get(
            self.path, {"version": "0.5.23", "disable_radix_cache": True, "dtype": "bfloat16", "model_path": "there"}))

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body, vllm = json.loads(raw), self.path == "/v1/completions"
        said = Rows.table.spell(Rows.table.tokens(tensor(body["prompt_embeds"]) if vllm else body["input_embeds"]))
        Rows.came += [raw.decode(), said, str(self.headers)]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        told = {"model": "there", "choices": [{"index": 0, "text": said, "finish_reason": "stop"}]} if vllm else {
            "text": said, "meta_info": {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0, "finish_reason": {"type": "stop"}}}
        self.wfile.write(f"data: {json.dumps(told)}\n\ndata: [DONE]\n\n".encode())
        self.close_connection = True


def plain_chat(stream):
    """What a model that gets rows takes of a chat."""
    return {"model": "here", "stream": stream, "user": sentence("user"), "safety_identifier": sentence("safety_identifier"), "metadata": {canary("a key"): sentence("metadata")},
            "prompt_cache_key": sentence("prompt_cache_key"), "cache_salt": sentence("cache_salt"), "store": sentence("store"), "stop": [sentence("stop"), sentence("stop")], "max_tokens": 16,
            "messages": [{"role": "system", "content": sentence("system")}, {"role": "user", "content": sentence("old"), "name": identifier("name")}, {"role": "assistant", "content": sentence("old answer")},
                         {"role": "user", "content": [{"type": "text", "text": sentence("part")}, {"type": "text", "text": "{" + json.dumps(canary("JSON in text")) + "}\n" + sentence("last")}]}]}


def plain_completion(stream):
    body = completions(False)(stream)
    return {key: value for key, value in body.items() if key != "suffix"}


@promise
def rows_spell_none_of_it():
    models = [(name, file, path, body) for name, file, path, body in (("stories", STORIES, "/v1/completions", plain_completion), ("smol", CHAT, "/v1/chat/completions", plain_chat))
              if os.path.exists(file)]
    if not models:
        raise Skip(f"neither {STORIES} nor {CHAT} is there")
    there = ThreadingHTTPServer(("127.0.0.1", 0), Rows)
    there.daemon_threads = True
    threading.Thread(target=there.serve_forever, daemon=True).start()
    places, bodies = 0, 0
    for name, file, path, body in models:
        good("split", file, "-o", f"{WORK}/{name}")
        Rows.table = Table(f"{WORK}/{name}/client.gguf")
        for kind in ("vllm", "sglang"):
            rows = Gateway("--kind", kind, "--served", "there", "-m", f"{WORK}/{name}", "--upstream", f"http://127.0.0.1:{there.server_address[1]}", "-m", f"{WORK}/{name}")
            for stream in (False, True):
                before, _ = len(planted), Rows.came.clear()
                assert within(20, lambda: rows.ask("/ready")[0] == 200), "it does not become ready"
                status, _, text = rows.ask(path, body(stream))
                assert status == 200 and Rows.came, f"{name}, {kind}: {status} {text[:300]}"
                places, bodies = places + len(planted) - before, bodies + 1
                for sent in Rows.came:
                    assert not found_in(sent), f"{name}, {kind}: {found_in(sent)}"
                assert len(Rows.came[1]) > 40, "rows that spell nothing"
            Rows.came.clear()
            before = good("budget", "show", "--json").out
            for more in ({"n": 2}, {"logprobs": 2 if "completions" in path and "chat" not in path else True}, {"presence_penalty": 1}):
                status, _, text = rows.ask(path, {**body(False), **more})
                assert status == 400 and not found_in(text), f"{name}, {kind}, {more}: {status}"
            assert good("budget", "show", "--json").out == before and not Rows.came, "what the upstream cannot do was entered"
            assert rows.end() == 0
    there.shutdown()
    for name, *_ in models:
        shutil.rmtree(f"{WORK}/{name}")
    return f": {places} places, {bodies} bodies, {len(models)} models"


@promise
def no_core_file_can_hold_any_of_it():
    """Cores are allowed here, and a program that aborts leaves none: it has said so before it read a word."""
    crashing = Gateway()
    crashing.chat(("user", sentence("a process that aborts")))
    limits = open(f"/proc/{crashing.process.pid}/limits").read()
    crashing.process.send_signal(signal.SIGABRT)
    assert crashing.process.wait(20) == -signal.SIGABRT
    crashing.log.close()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M), "the gateway may leave a core file"
    left = [name for name in os.listdir(".") + os.listdir(WORK) if re.match(r"core($|\.)", name)]
    assert not left, left


@promise
def logs_ledger_receipts_and_files_hold_none_of_it():
    assert gateway.end() == 0 and good("audit").returncode == 0
    looked = 0
    for folder, _, files in os.walk(WORK):
        for file in files:
            with open(os.path.join(folder, file), "rb") as opened:
                content = opened.read()
            looked += 1
            assert not found_in(content), f"{os.path.join(folder, file)}: {found_in(content)}"
    assert looked >= 3, "ledger, receipts and log are not where they were looked for"
    return f": {looked} files, {len(planted)} canaries"


end()
