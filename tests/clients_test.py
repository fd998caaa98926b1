#!/usr/bin/env python3
"""clients_test: real programs of OpenAI's API, unchanged but for base_url: the `openai` package, the `llm` command line, curl; in front of our own
server and of the engine's llama-server. Needs `tools/clients`, and `tools/engine --server` for the second. See rig.py."""

import atexit
import base64
import glob
import http.client
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time

from gateway_rig import GATEWAY, THERE, Upstream
from rig import ENV, WORK, Skip, end, promise, run, skip, succeeded, within, write

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif")
CHAT, MINILM = f"{CACHE}/models/smollm2.gguf", f"{CACHE}/models/minilm.gguf"
CAPITAL = [{"role": "user", "content": "In one sentence: which town is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a long story about a whale."}]  # hundreds of tokens, when the likeliest are taken
NAME = "Marisol Lindqvist"
TOOL = {"type": "function", "function": {"name": "send_letter", "description": "Sends a letter.", "parameters": {
    "type": "object", "properties": {"who": {"type": "string"}, "n": {"type": "integer"}}, "required": ["who"]}}}
PLAIN = {"model": "here", "temperature": 0, "max_tokens": 24}

if not os.path.exists(CHAT):
    skip(f"no {CHAT}: 'cmif pull smollm2' brings it")
packages = run(f"{os.path.dirname(os.path.dirname(os.path.realpath(__file__)))}/tools/clients", env=os.environ)
if packages.returncode:
    skip(packages.err.strip().removeprefix("skipped: "))
PACKAGES = packages.out.strip()
sys.path.insert(0, PACKAGES)
import openai  # noqa: E402

for name in ("http_proxy", "https_proxy", "all_proxy"):  # loopback only
    for each in (name, name.upper()):
        os.environ.pop(each, None)
        ENV.pop(each, None)
running = []
atexit.register(lambda: [process.kill() for process in running])


def start(*args, **more):
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=open(f"{WORK}/log", "ab"), env=ENV, cwd=WORK, **more)
    running.append(process)
    return process


class Gateway:
    """With client, the package as it comes, in front of it."""

    def __init__(self, *options, policy="none"):
        threads = () if "--upstream" in options else ("--threads", "1")
        self.process = start(GATEWAY, "--name", "here", "--listen", "127.0.0.1:0", "--policy", policy, *threads, *options, stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), f"it does not start: {open(f'{WORK}/log').read()[-400:]}"
        self.url = re.search(r"http://\S+", line)[0]
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=100)

    def chat(self, messages=CAPITAL, **more):
        return self.client.chat.completions.create(messages=messages, **{**PLAIN, **more})

    def metric(self, name):
        connection = http.client.HTTPConnection(self.url.split("/")[2])
        connection.request("GET", "/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", connection.getresponse().read().decode(), re.M))

    def end(self):
        self.process.terminate()
        running.remove(self.process)
        assert self.process.wait(40) == 0


def streamed(stream):
    text = ""
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return text


def raised(kind, function, **more):
    try:
        function(**more)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


gateway = Gateway("-m", CHAT, "--sessions", "2")
said = gateway.chat().choices[0].message.content


# ---- the openai package, our own server ----

@promise
def a_chat_and_the_same_in_pieces():
    assert "Paris" in said, said
    assert streamed(gateway.chat(stream=True)) == said
    usage = [chunk.usage for chunk in gateway.chat(stream=True, stream_options={"include_usage": True})][-1]
    assert usage.completion_tokens and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    return f": {said!r}"


@promise
def a_completion():
    made = gateway.client.completions.create(prompt="The capital of France is", **PLAIN)
    assert made.object == "text_completion" and "Paris" in made.choices[0].text, made


@promise
def models_are_listed_and_found():
    assert [model.id for model in gateway.client.models.list()] == ["here"] and gateway.client.models.retrieve("here").object == "model"
    assert raised(openai.NotFoundError, gateway.client.models.retrieve, model="other").code == "model_not_found"


@promise
def errors_are_the_packages_own():
    assert raised(openai.NotFoundError, gateway.chat, model="other").status_code == 404
    assert raised(openai.BadRequestError, gateway.chat, temperature=-1).param == "temperature"
    assert raised(openai.BadRequestError, gateway.chat, extra_body={"watermark": "x"}).param == "watermark"
    assert "tools" in raised(openai.BadRequestError, gateway.chat, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]).message
    raised(openai.APITimeoutError, gateway.client.with_options(timeout=0.3).chat.completions.create, messages=STORY, **{**PLAIN, "max_tokens": 800})
    nowhere = openai.OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0)
    raised(openai.APIConnectionError, nowhere.models.list)
    assert gateway.chat().choices[0].message.content == said, "afterwards"


@promise
def a_stream_that_is_closed_is_cancelled():
    stream = gateway.chat(STORY, stream=True, max_tokens=800)
    next(iter(stream))
    stream.close()
    assert within(10, lambda: gateway.metric("cmif_requests_running") == 0), "it goes on"


@promise
def an_asynchronous_client_with_eight_at_once():
    import asyncio

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(client.chat.completions.create(messages=CAPITAL, **PLAIN) for _ in range(8)))
    assert {answer.choices[0].message.content for answer in asyncio.run(all_of_them())} == {said}


@promise
def a_name_stays_here_and_comes_back():
    keeping = Gateway("-m", CHAT, policy="names")
    answer = keeping.chat([{"role": "user", "content": f"Repeat after me: my friend is {NAME}."}])
    keeping.end()
    left = answer.model_extra["cmif"]
    assert left["replaced"] == {"person": 1} and left["receipt"] >= 1 and answer.choices[0].message.content, left
    return f": {json.dumps(left)[:160]}"


# ---- vectors ----

@promise
def vectors_as_numbers_and_as_base64():
    if not os.path.exists(MINILM):
        raise Skip(f"no {MINILM}: 'cmif pull minilm' brings it")
    vectors = Gateway("-m", MINILM)
    texts = ["A cat sat.", "A dog ran."]
    default = vectors.client.embeddings.create(model="here", input=texts)  # the package asks for base64, and decodes
    floats = vectors.client.embeddings.create(model="here", input=texts, encoding_format="float")
    raw = vectors.client.embeddings.create(model="here", input=texts, encoding_format="base64")
    vectors.end()
    assert len(default.data) == 2 and len(default.data[0].embedding) == 384, default.data[0]
    for a, b, c in zip(default.data, floats.data, raw.data):
        packed = struct.unpack("<384f", base64.b64decode(c.embedding)) if isinstance(c.embedding, str) else c.embedding
        assert all(abs(x - y) < 1e-6 and abs(x - z) < 1e-6 for x, y, z in zip(a.embedding, b.embedding, packed))


# ---- other programs ----

@promise
def the_llm_command_line():
    os.makedirs(f"{WORK}/llm")
    write("llm/extra-openai-models.yaml", f"- model_id: here\n  model_name: here\n  api_base: {gateway.url}\n  api_key_name: none\n")
    env = {**ENV, "PYTHONPATH": PACKAGES, "LLM_USER_PATH": f"{WORK}/llm"}
    ask = (sys.executable, "-m", "llm", "prompt", "-m", "here", "--key", "none", "-o", "temperature", "0", "-o", "max_tokens", "24", CAPITAL[0]["content"])
    for more in ((), ("--no-stream",)):
        done = succeeded(run(*ask, *more, env=env))
        assert done.out.strip() == said.strip(), done.out
    return f": {done.out.strip()!r}"


@promise
def curl():
    if not shutil.which("curl"):
        raise Skip("no curl")
    body = json.dumps({**PLAIN, "messages": CAPITAL, "stream": True})
    done = succeeded(run("curl", "-sSN", f"{gateway.url}/chat/completions", "-H", "Content-Type: application/json", "-d", body))
    events = [line[6:] for line in done.out.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    assert "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"]) == said


# ---- tools: an upstream that calls whatever it is told of, with the words that it was told ----

@promise
def a_tool_is_called_with_what_was_written_and_its_result_goes_back():
    calling = Gateway("--upstream", THERE, "-m", "there", policy="names")
    history = [{"role": "user", "content": f"Write to {NAME}"}]
    for stream in (False, True):
        Upstream.lie = "tool"
        made = calling.chat(history, tools=[TOOL], stream=stream)
        if stream:
            calls = [call for chunk in made for choice in chunk.choices for call in choice.delta.tool_calls or []]
            name, arguments = calls[0].function.name, "".join(call.function.arguments or "" for call in calls)
        else:
            message = made.choices[0].message
            name, arguments = message.tool_calls[0].function.name, message.tool_calls[0].function.arguments
        assert name == "send_letter" and json.loads(arguments)["who"] == f"Write to {NAME}", f"{name} {arguments}"
        Upstream.lie = None
    history += [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": f"{NAME} has it."}]
    Upstream.bodies.clear()
    assert NAME in calling.chat(history, tools=[TOOL]).choices[0].message.content
    assert Upstream.bodies and not any(word in body for word in NAME.split() for body in Upstream.bodies), Upstream.bodies
    calling.end()


# ---- the engine's llama-server ----

def llama_server():
    found = sorted(glob.glob(f"{CACHE}/engine-*/server/bin/llama-server"), key=os.path.getmtime)
    if not found:
        return None
    port = free_port()
    there = start(found[-1], "-m", CHAT, "--host", "127.0.0.1", "--port", str(port), "-t", "1", "-c", "2048", "-np", "1", "--jinja", "--alias", "smol",
                  stdout=subprocess.DEVNULL)

    def ready():
        assert there.poll() is None, "llama-server does not start"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
    assert within(60, ready), "llama-server does not come up"
    return f"http://127.0.0.1:{port}/v1"


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


gateway.end()
url = llama_server()
there = Gateway("--upstream", url, "-m", "smol") if url else None
direct = openai.OpenAI(base_url=url, api_key="none", max_retries=0) if url else None
SHAPE = {"type": "json_schema", "json_schema": {"name": "town", "strict": True, "schema": {
    "type": "object", "properties": {"town": {"type": "string", "maxLength": 40}, "inhabitants": {"type": "integer"}}, "required": ["town", "inhabitants"], "additionalProperties": False}}}


def of_llama_server(function):
    def checked():
        if not url:
            raise Skip("no llama-server: `tools/engine --server` builds it")
        return function()
    checked.__name__ = function.__name__
    return promise(checked)


@of_llama_server
def what_is_likeliest_is_the_same_with_and_without_the_gateway():
    plain = direct.chat.completions.create(messages=CAPITAL, **{**PLAIN, "model": "smol"}).choices[0].message.content
    assert there.chat().choices[0].message.content == plain == streamed(there.chat(stream=True))
    assert plain == said, f"our own server said {said!r}, this one {plain!r}"
    ours = there.client.completions.create(prompt="The capital of France is", **PLAIN).choices[0].text
    assert ours == direct.completions.create(prompt="The capital of France is", **{**PLAIN, "model": "smol"}).choices[0].text


@of_llama_server
def a_shape_is_kept():
    made = there.chat([{"role": "user", "content": "The capital of France, and how many live there?"}], response_format=SHAPE, max_tokens=80)
    assert set(json.loads(made.choices[0].message.content)) == {"town", "inhabitants"}, made
    return f": {made.choices[0].message.content}"


@of_llama_server
def several_answers_logprobs_and_stops():
    made = there.chat(n=1, logprobs=True, top_logprobs=2, max_tokens=4)
    assert len(made.choices[0].logprobs.content) == made.usage.completion_tokens and len(made.choices[0].logprobs.content[0].top_logprobs) == 2, made
    assert "Paris" not in there.chat(stop=["Paris"]).choices[0].message.content


@of_llama_server
def a_name_leaves_as_another_and_comes_back_here_too():
    keeping = Gateway("--upstream", url, "-m", "smol", policy="names")
    first = keeping.chat([{"role": "user", "content": f"Say exactly: Hello, {NAME}!"}])
    keeping.end()
    assert first.model_extra["cmif"]["replaced"] == {"person": 1}, first
    return f": {first.choices[0].message.content!r}"


for process in list(running):
    process.terminate()
    process.wait(40)
running.clear()
end()
