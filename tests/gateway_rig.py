"""gateway_rig - an upstream that records all, says it back and lies when asked to, and a gateway in front of it; see rig.py."""

import atexit
import http.client
import json
import os
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rig import BUILD, ENV, WORK, skip

GATEWAY, LISTS = f"{BUILD}/bin/cmif-gateway", f"{BUILD}/tests/lists.gguf"
NAMES = ["Marisol Okonkwo-Lindqvist", "Okonkwo", "Lindqvist", "marisol.okonkwo@acme-clinic.org", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"]
SAID = f"I am {NAMES[0]}, write to {NAMES[3]}, card {NAMES[4]}, IBAN {NAMES[5]}."

if not os.path.exists(LISTS):
    skip(f"{LISTS} is not there: lists_build_test makes it")
os.makedirs(f"{WORK}/cache/cmif")
os.symlink(LISTS, f"{WORK}/cache/cmif/lists.gguf")


# ---- an upstream ----

class Upstream(BaseHTTPRequestHandler):
    """Says what it was told, in pieces of five bytes; `lie` makes it do something else."""
    protocol_version = "HTTP/1.1"
    bodies, lie, gone = [], None, 0

    def log_message(self, *_):
        pass

    def chunk(self, data):
        data = data.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, thing):
        self.chunk("data: " + (thing if isinstance(thing, str) else json.dumps(thing)) + "\n\n")

    def plain(self, status, text, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        Upstream.bodies.append(body)
        request, lie = json.loads(body), Upstream.lie
        if isinstance(lie, int):
            return self.plain(lie, f'{{"error": {{"message": "you said: {body!r}"}}}}', Retry_After="7", Location="http://127.0.0.1:1/")
        if self.path.endswith("/embeddings"):
            return self.plain(200, json.dumps({"object": "list", "model": request["model"], "usage": {"prompt_tokens": 3}, "data": [
                {"object": "embedding", "index": i, "embedding": [0.5, -1.0] * (32768 if lie == "wide" else 1)} for i in range(len(request["input"]) if isinstance(request["input"], list) else 1)]}))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.answer(request, lie)
        except OSError:
            Upstream.gone += 1
            self.close_connection = True
        return None

    def answer(self, request, lie):
        chat = "messages" in request
        content = request["messages"][-1]["content"] if chat else request["prompt"]
        text = "You said: " + (content if isinstance(content, str) else "".join(part if isinstance(part, str) else part["text"] for part in content))
        if lie == "tool":
            call = {"index": 0, "id": "upstream-1", "type": "function", "function": {"name": request["tools"][0]["function"]["name"], "arguments": ""}}
            self.event({"model": "there", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
            arguments = json.dumps({"who": re.sub(r", write.*", "", content), "n": 3})
            for i in range(0, len(arguments), 7):
                self.event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": arguments[i:i + 7]}}]}}]})
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
            text = ""
        for i in range(0, len(text), 5):
            piece = {"delta": {"content": text[i:i + 5]}} if chat else {"text": text[i:i + 5]}
            self.event({"model": "other" if lie == "model" and i else "there", "choices": [{"index": 0, "finish_reason": None, **piece}]})
            if lie == "slow":
                time.sleep(0.3)
            if lie == "pause" and i == 5:
                time.sleep(11)
            if lie == "silence":
                time.sleep(6)
            if lie == "broken" and i:
                self.close_connection = True
                return
            if lie == "junk" and i:
                self.event("{no json: " + text)
            if lie == "error" and i:
                self.event({"error": {"message": text}})
            if lie == "long" and i:
                self.chunk("data: " + "x" * (5 << 20))
        if text:
            self.event({"choices": [{"index": 0, "finish_reason": "stop", **({"delta": {}} if chat else {"text": ""})}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 2}}})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
upstream.daemon_threads = True
threading.Thread(target=upstream.serve_forever, daemon=True).start()
THERE = f"http://127.0.0.1:{upstream.server_address[1]}/v1"


# ---- the gateway ----

class Gateway:
    def __init__(self, *options, env=ENV, policy="names"):
        self.log = open(f"{WORK}/gateway.log", "ab")
        self.process = subprocess.Popen([GATEWAY, "--upstream", THERE, "-m", "there", "--name", "here", "--listen", "127.0.0.1:0", "--policy", policy, *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, env=env)
        atexit.register(self.process.kill)  # also when a promise was not kept
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), f"it does not start: {open(self.log.name).read()}"
        self.port = int(re.search(r":(\d+)/v1", line)[1])

    def ask(self, path, body=None, timeout=30, **headers):
        """(status, headers, text)"""
        Upstream.bodies.clear()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("POST" if body is not None else "GET", path, body if isinstance(body, (str, bytes)) or body is None else json.dumps(body),
                           {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()

    def chat(self, *messages, **more):
        return self.ask("/v1/chat/completions", {"model": "here", "messages": [{"role": role, "content": content} for role, content in messages], **more})

    def end(self):
        self.process.terminate()
        try:
            return self.process.wait(40)
        finally:
            self.log.close()
