#!/usr/bin/env python3
"""vllm_test: cmif-gateway in front of a real vLLM: greedy answers to rows are those to the text. See rig.py.

CMIF_VLLM names the python of a vLLM that runs here (docs/operations.md, "vLLM, NIM, SGLang behind the gateway"). It takes about 5 GiB of memory and two minutes.
Behind the same gateway are our own server and, where `tools/engine --server` has built it, the engine's llama-server."""

import glob
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from rig import BUILD, ENV, WORK, Skip, end, good, promise, skip

GATEWAY = f"{BUILD}/bin/cmif-gateway"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif")
CHAT = f"{CACHE}/models/smollm2.gguf"
LLAMA = max(glob.glob(f"{CACHE}/engine-*/server/bin/llama-server"), key=os.path.getmtime, default=None)
VLLM = os.environ.get("CMIF_VLLM")
PROMPTS = ["The capital of France is", "Once upon a time, in a small village by the sea, there lived", "def add(a, b):\n    return",
           "Question: Which planet is the largest of the solar system, and how many moons does it have?\nAnswer:"]
CONVERSATION = [{"role": "system", "content": "You answer in one sentence."}, {"role": "user", "content": "Why is the sky blue?"}]
# the weights of the GGUF as a checkpoint: a model that came from a GGUF is not written again, so they are copied into a fresh one
CONVERT = """
import sys, os, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
folder, file = os.path.split(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
config = {name: value for name, value in model.config.to_dict().items() if name not in ("quantization_config", "_name_or_path", "_model_name_or_path")}
config = LlamaConfig(**config)
config.architectures = ["LlamaForCausalLM"]
copy = LlamaForCausalLM(config).to(torch.float32)
copy.load_state_dict(model.state_dict(), strict=True)
copy.tie_weights()
copy.save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
"""

if not VLLM:
    skip("CMIF_VLLM does not name the python of a vLLM")
if not os.path.exists(CHAT):
    skip(f"no {CHAT}: 'cmif pull smollm2' brings it")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, path, body=None, timeout=300):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def answered(port, path, body):
    status, text = ask(port, path, body)
    assert status == 200, f"{path}: {status} {text[:300]}"
    return json.loads(text)


HOME = os.environ.get("CMIF_VLLM_MODEL", f"{WORK}/model")  # a converted checkpoint is taken as it is
if not os.path.exists(HOME):
    subprocess.run([VLLM, "-c", CONVERT, CHAT, HOME], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=open(f"{WORK}/convert.log", "wb"))
THERE = free_port()
log = open(f"{WORK}/vllm.log", "wb")
server = subprocess.Popen([VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model", HOME, "--served-model-name", "smol", "--host", "127.0.0.1", "--port", str(THERE),
                           "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "8", "--enforce-eager", "--enable-prompt-embeds", "--seed", "0"],
                          stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                          env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"})


TEXT = free_port()
llama = LLAMA and subprocess.Popen([LLAMA, "-m", CHAT, "--host", "127.0.0.1", "--port", str(TEXT), "-t", "1", "-c", "2048", "-np", "1", "--jinja", "--alias", "smol"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stop():
    if llama:
        llama.kill()
        llama.wait()
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def is_up():
    try:
        return ask(THERE, "/health", timeout=5)[0] == 200
    except OSError:
        return False


good("split", CHAT, "-o", f"{WORK}/half")
try:
    begin = time.monotonic()
    while not is_up():
        if server.poll() is not None or time.monotonic() - begin > 600:
            print(open(log.name).read()[-3000:])
            sys.exit("vLLM does not start")
        time.sleep(1)
    print(f"vLLM {json.loads(ask(THERE, '/version')[1])['version']} is up after {time.monotonic() - begin:.0f} s")
    with open(f"{WORK}/gateway.conf", "w") as file:
        file.write(f"listen 127.0.0.1:0\npolicy none\nupstream here\n  kind vllm\n  url http://127.0.0.1:{THERE}\n  served smol\n  model {WORK}/half\n"
                   f"upstream text\n  url http://127.0.0.1:{TEXT}/v1\n  model smol\nupstream own\n  model {CHAT}\n  threads 1\n")
    gateway = subprocess.Popen([GATEWAY, "--config", f"{WORK}/gateway.conf"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(f"{WORK}/gateway.log", "wb"), env=ENV)
    HERE = int(re.search(r":(\d+)/v1", gateway.stdout.readline().decode())[1])

    @promise
    def greedy_answers_to_rows_are_those_to_the_text():
        for prompt in PROMPTS:
            asked = {"prompt": prompt, "max_tokens": 32, "temperature": 0}
            rows, text = answered(HERE, "/v1/completions", {"model": "here", **asked}), answered(THERE, "/v1/completions", {"model": "smol", **asked})
            assert rows["choices"][0]["text"] == text["choices"][0]["text"], f"{rows['choices']} {text['choices']}"
            assert rows["choices"][0]["finish_reason"] == text["choices"][0]["finish_reason"]
            assert rows["usage"]["prompt_tokens"] == text["usage"]["prompt_tokens"], f"{rows['usage']} {text['usage']}"
            print(f"       {prompt[:30]!r} -> {rows['choices'][0]['text'][:50]!r}")

    @promise
    def greedy_chats_are_those_of_the_servers_own_template():
        asked = {"messages": CONVERSATION, "max_tokens": 32, "temperature": 0}
        rows, text = answered(HERE, "/v1/chat/completions", {"model": "here", **asked}), answered(THERE, "/v1/chat/completions", {"model": "smol", **asked})
        assert rows["choices"][0]["message"]["content"] == text["choices"][0]["message"]["content"], f"{rows['choices']} {text['choices']}"
        assert rows["usage"]["prompt_tokens"] == text["usage"]["prompt_tokens"]
        print(f"       {rows['choices'][0]['message']['content']!r}")

    @promise
    def three_upstreams_of_one_gateway_say_what_they_say_to_the_text():
        if not llama:
            raise Skip("no llama-server: `tools/engine --server` builds it")
        asked = {"messages": CONVERSATION, "max_tokens": 32, "temperature": 0}
        plain = {name: answered(port, "/v1/chat/completions", {"model": "smol", **asked})["choices"][0]["message"]["content"] for name, port in (("here", THERE), ("text", TEXT))}
        plain["own"] = plain["text"]  # the same weights by the same engine
        for name, text in plain.items():
            made = answered(HERE, "/v1/chat/completions", {"model": name, **asked})["choices"][0]["message"]["content"]
            assert made == text, f"{name}: {made!r} in place of {text!r}"
            print(f"       {name:4} {made!r}")

    @promise
    def streams_and_stops_and_seeds_work():
        asked = {"prompt": PROMPTS[0], "max_tokens": 24, "temperature": 0}
        whole = answered(HERE, "/v1/completions", {"model": "here", **asked})["choices"][0]["text"]
        status, text = ask(HERE, "/v1/completions", {"model": "here", "stream": True, **asked})
        pieces = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
        assert status == 200 and "".join(piece["choices"][0]["text"] for piece in pieces if piece["choices"]) == whole
        word = whole.split()[3]
        cut = answered(HERE, "/v1/completions", {"model": "here", "stop": word, **asked})["choices"][0]
        assert cut["text"] == whole[:whole.index(word)] and cut["finish_reason"] == "stop", cut
        drawn = [answered(HERE, "/v1/completions", {"model": "here", "seed": 7, **asked, "temperature": 1})["choices"][0]["text"] for _ in range(2)]
        assert drawn[0] == drawn[1] != whole, drawn

    @promise
    def what_is_said_again_is_found_in_its_cache():
        asked = {"prompt": "The quick brown fox jumps over the lazy dog. " * 30, "max_tokens": 2, "temperature": 0}

        def hits():
            return sum(float(line.split()[-1]) for line in ask(THERE, "/metrics")[1].split("\n") if line.startswith("vllm:prefix_cache_hits_total"))
        answered(HERE, "/v1/completions", {"model": "here", **asked})
        before = hits()
        answered(HERE, "/v1/completions", {"model": "here", **asked})
        assert hits() > before, "no hit"
        print(f"       {hits() - before:.0f} rows")

    @promise
    def no_limit_is_a_limit_of_its_context():
        answer = answered(HERE, "/v1/chat/completions", {"model": "here", "messages": [{"role": "user", "content": "Say hi."}], "temperature": 0})
        assert answer["choices"][0]["finish_reason"] in ("stop", "length")
        status, text = ask(HERE, "/v1/completions", {"model": "here", "prompt": "a " * 3000})
        assert status == 400 and "the context holds 2047" in text, text

    @promise
    def what_it_cannot_do_does_not_reach_it():
        for more in ({"echo": True}, {"logprobs": 1}, {"presence_penalty": 1}, {"suffix": "x"}):
            assert ask(HERE, "/v1/completions", {"model": "here", "prompt": "x", **more})[0] == 400
        assert is_up()

    gateway.terminate()
    gateway.wait(40)
finally:
    stop()
end()
