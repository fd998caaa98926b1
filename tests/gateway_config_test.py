#!/usr/bin/env python3
"""gateway_config_test: how cmif-gateway is told what to do, and told again while it runs: flags, environment, file, policies, keys, TLS, systemd. See rig.py."""

import atexit
import hashlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import warnings

from gateway_rig import GATEWAY, NAMES, SAID, THERE, Gateway, Upstream
from rig import ENV, WORK, end, good, promise, run, tidy, within, write

UPSTREAM = f"upstream here\n  kind openai\n  url {THERE}\n  model there\n"
STRICT = write("strict.policy", 'policy names\ndeny "zebra crossing"\n')
OTHER = write("other.policy", 'policy names\ndeny "harvest moon"\n')
tidy.append(lambda: setattr(Upstream, "lie", None))


class Told(Gateway):
    """A gateway that is told by a file and what else is given; its log is its own."""

    def __init__(self, text, *options, env=None, before=None, pass_fds=()):  # pylint: disable=super-init-not-called
        self.file, self.log = write(f"{id(self)}.conf", text), open(f"{WORK}/{id(self)}.log", "wb")
        self.tls = None
        self.process = subprocess.Popen([GATEWAY, "--config", self.file, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
                                        env={**ENV, **(env or {})}, preexec_fn=before, pass_fds=pass_fds)
        atexit.register(self.process.kill)  # also when a promise was not kept
        self.ready = self.process.stdout.readline().decode()
        assert self.ready.startswith("ready "), f"it does not start: {self.said()}"
        self.port = int(re.search(r":(\d+)/v1", self.ready)[1])

    def said(self):
        with open(self.log.name, encoding="utf-8") as file:
            return file.read()

    def reload(self, says):
        lines = self.said().count("\n")
        self.process.send_signal(signal.SIGHUP)
        assert within(10, lambda: self.said().count("\n") > lines), "a reload says nothing"
        line = self.said().split("\n")[lines]
        assert says in line and self.said().count("\n") == lines + 1, f"it said '{self.said()[-400:]}', expected {says}"

    def ask(self, path, body=None, timeout=30, **headers):
        if not self.tls:
            return super().ask(path, body, timeout, **headers)
        Upstream.bodies.clear()
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=self.tls)
        connection.request("POST" if body is not None else "GET", path, json.dumps(body) if body is not None else None,
                           {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()

    def talk(self, *texts, stream=False, **headers):
        """A conversation of a user and the answers that were given: status, JSON."""
        messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
        status, _, text = self.ask("/v1/chat/completions", {"model": "here", "messages": messages, "stream": stream}, **headers)
        return status, text if stream else json.loads(text)


def told(text, *options, env=None):
    """What a gateway that only checks says: exit code, stdout, stderr."""
    done = run(GATEWAY, "--config", write("check.conf", text), "--check-config", *options, env={**ENV, **(env or {})})
    return done.returncode, done.out, done.err


def key_line(name, key, more=""):
    return f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}{more}\n"


@promise
def a_flag_goes_before_the_environment_before_the_file_before_the_default():
    text = "policy names\n" + UPSTREAM
    for file, env, flag, found in (("", {}, [], 8800), ("listen 127.0.0.1:1111\n", {}, [], 1111), ("listen 127.0.0.1:1111\n", {"CMIF_LISTEN": "127.0.0.1:2222"}, [], 2222),
                                   ("listen 127.0.0.1:1111\n", {"CMIF_LISTEN": "127.0.0.1:2222"}, ["--listen", "127.0.0.1:3333"], 3333),
                                   ("", {"CMIF_LISTEN": "127.0.0.1:2222"}, [], 2222), ("listen 127.0.0.1:1111\n", {"CMIF_LISTEN": ""}, [], 1111)):
        code, out, err = told(file + text, *flag, env=env)
        assert code == 0 and f"port {found}, for programs of this machine" in out, f"{file}{env}{flag}: {out}{err}"
    code, out, _ = told("policy topics\n" + UPSTREAM, env={"CMIF_POLICY": "none"})
    assert code == 0 and "policy none" in out, out
    done = run(GATEWAY, "--check-config", env={**ENV, "CMIF_CONFIG": write("env.conf", text), "CMIF_SILENCE": "7"})
    assert done.returncode == 0 and "model here: openai" in done.out, done.err
    code, out, _ = told(f"policy names\nupstream a\n url {THERE}\n model x\nupstream b\n url {THERE}\n", "-m", "y")
    assert code == 0 and "model a: openai" in out and "model b: openai" in out, out  # a flag holds in every section


@promise
def what_is_wrong_is_told_with_its_place():
    for text, options, env, says in (
            ("listn 127.0.0.1:1\n", [], {}, "line 1: no option is called 'listn': did you mean 'listen'?"),
            ("# fine\n\nconversations none\n", [], {}, "line 3: conversations takes a whole number from 1 to 100000"),
            ("policy names\nupstream a\n  listen 127.0.0.1:1\n", [], {}, "line 3: 'listen' is no upstream's"),
            ("policy names\nupstream a\n  url http://127.0.0.1:1\nupstream b\n", [], {}, "line 2: which model?"),
            (f"policy names\nupstream a\n  kind olama\n  url {THERE}\n  model x\n", [], {}, "line 2: --kind takes cmif, openai, vllm or sglang"),
            (f"policy names\nupstream a\n  kind vlm\n  url {THERE}\n  model x\n", [], {}, "did you mean 'vllm'?"),
            ("listen\n", [], {}, "line 1: expected a name and its value"), ("listen a b\n", [], {}, "line 1: expected one value"),
            ("keys \"a b\n", [], {}, "line 1: a \" without"), ("listen 127.0.0.1:1\nlisten 127.0.0.1:2\n", [], {}, "line 2: 'listen' was given before"),
            ("config x\n", [], {}, "line 1: 'config' belongs on the command line"), ("policy topics words\n", [], {}, "'topics' has a meaning already"),
            ("policy a names\npolicy a names\n", [], {}, "line 2: the policy 'a' was given before"), ("weight 3\n", [], {}, "line 1: weight is an upstream's"),
            ("upstream a\n weight 0\n", [], {}, "line 2: weight takes a whole number from 1 to 1000"), ("no-guarantee perhaps\n", [], {}, "line 1: no-guarantee takes yes or no"),
            ("policy names\n" + UPSTREAM, [], {"CMIF_SILENCE": "never"}, "CMIF_SILENCE takes a whole number from 1 to 86400"),
            ("policy names\n" + UPSTREAM, ["--silence", "never"], {}, "--silence takes a whole number"), ("a\0b\n", [], {}, "zero byte"),
            ("policy names\n" + UPSTREAM, ["--tls-cert", "x"], {}, "--tls-cert and --tls-key belong together"),
            ("policy names\nname x\n" + UPSTREAM, [], {}, "a name stands behind 'upstream'"),
            (f"policy names\nupstream a\n url {THERE}\n model x\n server b:1\n", [], {}, "line 2: --upstream takes no --server"),
            ("policy names\npolicy s /nowhere.policy\n" + UPSTREAM, [], {}, "policy 's'"), ("policy names\nkeys /nowhere\n" + UPSTREAM, [], {}, "/nowhere"),
            ("policy names\nupstream a\n model /nowhere.gguf\n server unix:/x\n", [], {}, "upstream of line 2"),
            (f"policy names\nupstream a\n kind vllm\n url {THERE}\n model /nowhere.gguf\n", [], {}, "upstream of line 2")):
        code, out, err = told(text, *options, env=env)
        assert code == 2 and says in err and err.count("\n") == 1 and not out, f"{text}{options}{env}: exit {code}, {err}{out}, expected {says}"
    done = run(GATEWAY, "--config", "/nowhere.conf")
    assert done.returncode == 2 and "/nowhere.conf" in done.err, done.err


@promise
def checking_tells_what_would_be_served_and_starts_nothing():
    keys = write("keys-check", key_line("anna", "k", " policy=strict rate=5"))
    before = set(os.listdir(WORK))
    code, out, err = told(f"keys {keys}\npolicy names\npolicy strict {STRICT}\n{UPSTREAM}upstream here\n  url http://127.0.0.1:9\n  model there\n  weight 3\n",
                          env={"XDG_DATA_HOME": f"{WORK}/untouched"})
    assert code == 0 and not err, err
    assert [line.split(" ")[0] for line in out.strip().split("\n")] == ["listen", "policy", "policy", "model", "model"], out
    assert f"keys {keys}" in out and "policy strict: " in out and out.rstrip().endswith("weight 3"), out
    assert set(os.listdir(WORK)) - before <= {"check.conf"}, "checking left something behind"
    code, _, err = told(f"keys {write('keys-bad', key_line('anna', 'k', ' policy=lax'))}\npolicy names\n{UPSTREAM}")
    assert code == 2 and "the policy of anna" in err, err


@promise
def several_models_are_served_each_by_its_upstream():
    member = f"upstream pool\n  url {THERE}\n  model there\n"
    several = Told(f"listen 127.0.0.1:0\npolicy names\n{UPSTREAM}{member}  weight 2\n{member}")
    assert [m["id"] for m in json.loads(several.ask("/v1/models")[2])["data"]] == ["here", "pool"] and "model here, pool policy" in several.ready, several.ready
    for model, status in (("here", 200), ("pool", 200), ("there", 404)):
        assert several.ask("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "hi"}]})[0] == status, model
    assert several.end() == 0, several.said()


KEYS = write("keys", key_line("anna", "k-anna") + key_line("ben", "k-ben", " policy=strict") + key_line("cleo", "k-cleo", " rate=2"))
ruled = Told(f"listen 127.0.0.1:0\nkeys {KEYS}\npolicy names\npolicy strict {STRICT}\npolicy other {OTHER}\n{UPSTREAM}")
ANNA, BEN = {"Authorization": "Bearer k-anna"}, {"Authorization": "Bearer k-ben"}


@promise
def a_key_has_its_policy_and_a_request_may_ask_for_a_tighter_one_only():
    for headers, policy, leaves in ((ANNA, "names", True), (BEN, "strict", False), ({**ANNA, "X_CMIF_Policy": "strict"}, "strict", False)):
        status, answer = ruled.talk(f"{policy} zebra crossing {len(headers)}", **headers)
        assert status == 200 and answer["cmif"]["policy"] == policy, answer
        assert ("zebra" in Upstream.bodies[0]) == leaves, f"{policy}: {Upstream.bodies}"
        assert "zebra crossing" in answer["choices"][0]["message"]["content"], answer
    for headers, status, code in (({**BEN, "X_CMIF_Policy": "names"}, 403, "policy_denied"), ({**BEN, "X_CMIF_Policy": "other"}, 403, "policy_denied"),
                                  ({**ANNA, "X_CMIF_Policy": "stricter"}, 400, "policy_unknown")):
        found, answer = ruled.talk("zebra crossing", **headers)
        assert (found, answer["error"]["code"]) == (status, code) and not Upstream.bodies, answer
    assert json.loads(ruled.ask("/status", **BEN)[2])["policy"] == "strict" and json.loads(ruled.ask("/status", **ANNA)[2])["policy"] == "names"


@promise
def a_conversation_that_left_under_a_tight_policy_stays_under_it():
    said = "Our zebra crossing is old"
    answer = ruled.talk(said, **ANNA, X_CMIF_Policy="strict")[1]["choices"][0]["message"]["content"]
    status, more = ruled.talk(said, answer, "And now?", **ANNA)  # the header was left away
    assert status == 200 and more["cmif"]["policy"] == "strict" and "zebra" not in Upstream.bodies[0], Upstream.bodies
    status, more = ruled.talk(said, answer, "And now?", **ANNA, X_CMIF_Policy="other")  # neither is tighter than the other
    assert status == 403 and not Upstream.bodies, more
    status, more = ruled.talk("Something else altogether", **ANNA)
    assert status == 200 and more["cmif"]["policy"] == "names", more


@promise
def a_key_may_ask_as_often_as_its_line_says():
    asked = [ruled.talk("hello", Authorization="Bearer k-cleo") for _ in range(3)]
    assert [status for status, _ in asked] == [200, 200, 429] and asked[2][1]["error"]["code"] == "rate_limit_exceeded", asked
    status, headers, _ = ruled.ask("/v1/chat/completions", {"model": "here", "messages": [{"role": "user", "content": "x"}]}, Authorization="Bearer k-cleo")
    assert status == 429 and 1 <= int(headers["Retry-After"]) <= 30, headers
    with open(KEYS, encoding="ascii") as file:
        was = file.read()
    for more in ("", key_line("cleo", "k-new", " rate=2"), key_line("cleo", "k-new", " rate=3")):  # to read keys again gives nobody more, nor does a new one
        write("keys", was + more)
        ruled.reload("were read again")
        for key in ("k-cleo", "k-new")[:1 + bool(more)]:
            assert ruled.talk("hello", Authorization=f"Bearer {key}")[0] == 429, f"{key} after a reload of {more}"
    write("keys", was)
    ruled.reload("were read again")
    assert ruled.talk("hello", **ANNA)[0] == 200 and ruled.ask("/v1/models", Authorization="Bearer k-cleo")[0] == 200


@promise
def keys_and_policies_are_read_again_and_streams_go_on():
    Upstream.lie = "slow"
    stream = {}
    thread = threading.Thread(target=lambda: stream.update(zip("st", ruled.talk("zebra crossing " * 2, stream=True, **BEN))))
    thread.start()
    time.sleep(0.5)
    write("keys", key_line("ben", "k-ben", " policy=strict") + "revoked " + key_line("anna", "k-anna") + key_line("dora", "k-dora"))
    write("strict.policy", 'policy names\ndeny "zebra crossing"\ndeny "blue lagoon"\n')
    ruled.reload("were read again")
    Upstream.lie = None
    assert ruled.talk("hello", **ANNA)[0] == 401 and ruled.talk("hello", Authorization="Bearer k-dora")[0] == 200
    status, answer = ruled.talk("blue lagoon", **BEN)
    assert status == 200 and "lagoon" not in Upstream.bodies[0] and "blue lagoon" in answer["choices"][0]["message"]["content"], answer
    thread.join(30)
    assert stream["s"] == 200 and stream["t"].rstrip().endswith("data: [DONE]"), stream
    said = "".join(c["delta"].get("content", "") for e in stream["t"].split("\n\n") if e.startswith("data: {") for c in json.loads(e[6:])["choices"])
    assert said == "You said: " + "zebra crossing " * 2, said


@promise
def a_policy_that_did_not_change_keeps_its_conversations():
    said = f"I am {NAMES[0]}"
    answer = ruled.talk(said, Authorization="Bearer k-dora")[1]["choices"][0]["message"]["content"]
    first = json.loads(Upstream.bodies[0])["messages"][0]["content"]
    ruled.reload("were read again")
    assert ruled.talk(said, answer, "And?", Authorization="Bearer k-dora")[0] == 200
    assert json.loads(Upstream.bodies[0])["messages"][0]["content"] == first != said, Upstream.bodies


@promise
def what_left_under_a_policy_that_is_read_again_does_not_leave_under_a_looser_one():
    dora = {"Authorization": "Bearer k-dora"}
    said = "Our zebra crossing is new"
    answer = ruled.talk(said, **dora, X_CMIF_Policy="strict")[1]["choices"][0]["message"]["content"]
    for more in ("green door", "red barn"):
        with open(STRICT, "a", encoding="ascii") as file:
            file.write(f'deny "{more}"\n')
        ruled.reload("were read again")
        status, found = ruled.talk(said, answer, f"And {more}?", **dora)  # the header was left away
        assert status == 200 and found["cmif"]["policy"] == "strict" and "zebra" not in Upstream.bodies[0], Upstream.bodies


@promise
def what_left_under_a_policy_that_is_gone_does_not_leave_under_a_looser_one():
    start = "listen 127.0.0.1:0\nidle 8\npolicy names\n"
    alone = 'policy names\ndeny "zebra crossing"\n'
    strict = f"policy strict {write('gone.policy', alone)}\n"
    short = Told(start + strict + UPSTREAM)

    def policies():
        fds = f"/proc/{short.process.pid}/fd"  # each has receipts open
        return sum(os.readlink(f"{fds}/{fd}").endswith("/receipts") for fd in os.listdir(fds))

    def read_again(text):
        write(os.path.basename(short.file), text + UPSTREAM)
        short.reload("were read again")

    said = "Our zebra crossing is gone"
    answer = short.talk(said, X_CMIF_Policy="strict")[1]["choices"][0]["message"]["content"]
    assert policies() == 2
    read_again(start)
    for more in ({}, {"X_CMIF_Policy": "names"}):
        status, found = short.talk(said, answer, "And now?", **more)
        assert status == 403 and found["error"]["code"] == "policy_denied" and "begin a new one" in found["error"]["message"] and not Upstream.bodies, found
    assert short.talk(said, X_CMIF_Policy="strict")[0] == 400 and short.talk("Something else")[0] == 200, "it is still there"
    read_again(f"{start}policy other {OTHER}\n")
    status, found = short.talk(said, answer, "And now?", X_CMIF_Policy="other")
    assert status == 403 and not Upstream.bodies, found
    read_again(f"{start}policy other {OTHER}\n" + strict.replace("strict", "hard", 1))  # it comes back by another name
    status, found = short.talk(said, answer, "And now?")
    assert status == 200 and found["cmif"]["policy"] == "hard" and "zebra" not in Upstream.bodies[0], Upstream.bodies
    for more in ("green door", "red barn"):
        with open(f"{WORK}/gone.policy", "a", encoding="ascii") as file:
            file.write(f'deny "{more}"\n')
        short.reload("were read again")
    read_again(start)
    assert within(3, lambda: policies() == 1), f"{policies()} policies are open: what nobody uses any more is kept"
    assert short.talk(said, answer, "And now?")[0] == 403
    assert within(30, lambda: short.talk(said, answer, "And now?")[0] == 200)  # as with any conversation that was idle
    assert short.end() == 0, short.said()


@promise
def a_reload_that_comes_before_it_is_ready_waits():
    for number in (signal.SIGHUP, signal.SIGTERM):
        path = f"{WORK}/early.conf"
        os.mkfifo(path)
        with open(f"{WORK}/early.log", "wb") as log, \
                subprocess.Popen([GATEWAY, "--config", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=ENV) as early:
            atexit.register(early.kill)
            with open(path, "w", encoding="ascii") as file:  # it reads what it is told
                os.rename(write("early", f"listen 127.0.0.1:0\npolicy names\n{UPSTREAM}"), path)  # a file, when it reads again
                early.send_signal(number)
                assert within(1, lambda: early.poll() is not None) == (number != signal.SIGHUP), f"signal {number}: exit {early.returncode}"
                if number == signal.SIGHUP:
                    file.write(f"listen 127.0.0.1:0\npolicy names\n{UPSTREAM}")
            if number == signal.SIGHUP:
                assert early.stdout.readline().startswith(b"ready ")
                assert within(5, lambda: b"were read again" in open(log.name, "rb").read()), "what it was told meanwhile is forgotten"
                early.terminate()
            assert early.wait(10) == (0 if number == signal.SIGHUP else -signal.SIGTERM), early.returncode
        os.remove(path)


@promise
def what_cannot_be_read_again_leaves_all_as_it_was():
    for name, content, says in (("keys", "dora k-dora\n", "line 1"), ("keys", key_line("ben", "k-new", " policy=gone"), "policy of ben"),
                                ("strict.policy", "policy lax\n", "strict"), (os.path.basename(ruled.file), "listn x\n", "listn")):
        with open(f"{WORK}/{name}", "rb") as file:
            was = file.read()
        write(name, content)
        ruled.reload("all stays as it was")
        assert says in ruled.said().split("\n")[-2], ruled.said()
        assert ruled.talk("hello", Authorization="Bearer k-dora")[0] == 200 and ruled.ask("/v1/models", Authorization="Bearer k-new")[0] == 401
        write(name, was)
    with open(ruled.file, "ab") as file:
        file.write(b"  weight 7\n")
    ruled.reload("'upstream' has changed, too, which takes a new start")
    assert ruled.end() == 0, ruled.said()


def certificate(name):
    cert, key = f"{WORK}/{name}.pem", f"{WORK}/{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@promise
def programs_may_come_by_tls_and_its_certificate_is_read_again():
    cert, key = certificate("one")
    other, other_key = certificate("two")
    secure = Told(f"listen 127.0.0.1:0\npolicy names\ntls-cert {cert}\ntls-key {key}\n{UPSTREAM}")
    assert "ready https://127.0.0.1:" in secure.ready, secure.ready
    secure.tls = ssl.create_default_context(cafile=cert)
    status, answer = secure.talk(SAID)
    assert status == 200 and answer["choices"][0]["message"]["content"] == "You said: " + SAID, answer
    assert "[DONE]" in secure.talk(SAID, stream=True)[1]
    plain = http.client.HTTPConnection("127.0.0.1", secure.port, timeout=5)
    try:
        plain.request("GET", "/health")
        assert plain.getresponse().status == 0, "plain HTTP is answered where TLS is"
    except (http.client.HTTPException, OSError):
        pass
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    warnings.simplefilter("ignore", DeprecationWarning)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as raw, old.wrap_socket(raw):
            assert False, "TLS 1.1 is spoken"
    except ssl.SSLError:
        pass
    write("one.pem", open(other, "rb").read())  # of another key: nothing changes
    secure.reload("all stays as it was")
    assert secure.talk("hi")[0] == 200
    write("one.key", open(other_key, "rb").read())
    secure.reload("were read again")
    try:
        secure.talk("hi")
        assert False, "the old certificate is still shown"
    except ssl.SSLCertVerificationError:
        secure.tls = ssl.create_default_context(cafile=other)
    assert secure.talk("hi")[0] == 200
    body = json.dumps({"model": "here", "messages": [{"role": "user", "content": "wait " * 40}]})
    for reset in (False, True):
        Upstream.lie, gone = "slow", Upstream.gone
        with secure.tls.wrap_socket(socket.create_connection(("127.0.0.1", secure.port)), server_hostname="localhost") as client:
            client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(0.6)
            client.settimeout(0.3)
            try:
                client.unwrap()  # it says goodbye, and only then ends the connection
            except OSError:
                pass
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        assert within(5, lambda: "cmif_requests_running 0" in secure.ask("/metrics")[2]), f"a TLS client that went away (reset: {reset}) is still waited for"
        Upstream.lie = None
        assert within(5, lambda: Upstream.gone > gone), "the upstream still writes"  # pylint: disable=cell-var-from-loop
    assert secure.end() == 0, secure.said()


@promise
def off_loopback_it_says_what_the_network_sees():
    keyed = f"listen 0.0.0.0:0\nkeys {write('keys-net', key_line('anna', 'k'))}\npolicy names\n{UPSTREAM}"
    open_ = Told(keyed)
    assert within(5, lambda: "without TLS" in open_.said()) and open_.end() == 0, open_.said()
    cert, key = certificate("net")
    closed = Told(f"tls-cert {cert}\ntls-key {key}\n{keyed}")
    assert closed.ready.startswith("ready https://0.0.0.0:") and not closed.said(), closed.said()
    write(os.path.basename(closed.file), keyed)
    closed.process.send_signal(signal.SIGHUP)
    assert within(10, lambda: "were read again" in closed.said()) and "without TLS" in closed.said() and closed.end() == 0, closed.said()


@promise
def secrets_may_be_credentials_of_the_service():
    folder = f"{WORK}/credentials"
    os.mkdir(folder)
    with open(f"{folder}/who", "w", encoding="ascii") as file:
        file.write(key_line("anna", "k-cred"))
    code, out, err = told("keys who\npolicy names\n" + UPSTREAM, env={"CREDENTIALS_DIRECTORY": folder})
    assert code == 0 and f"keys {folder}/who" in out, err
    code, _, err = told("keys who\npolicy names\n" + UPSTREAM)
    assert code == 2 and "cannot read the keys 'who'" in err, err


@promise
def systemd_is_told_of_its_state_and_may_hand_over_the_socket():
    path = f"{WORK}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, socket.socket() as listening:
        notify.bind(path)
        notify.settimeout(10)
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)

        script = 'LISTEN_PID=$$ exec "$@"'  # the id is known to whoever is about to become the program
        file = write("systemd.conf", "listen 127.0.0.1:1\npolicy names\n" + UPSTREAM)
        process = subprocess.Popen(["sh", "-c", script, "sh", GATEWAY, "--config", file], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=lambda: (os.dup2(listening.fileno(), 3), os.set_inheritable(3, True)), close_fds=False,
                                   env={**ENV, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000", "LISTEN_FDS": "1"})
        said = [notify.recv(200).decode()]
        assert said == ["READY=1"], said
        ready = process.stdout.readline().decode()
        assert f"http://127.0.0.1:{listening.getsockname()[1]}/v1" in ready, ready
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        assert [notify.recv(200).decode() for _ in range(3)] == ["WATCHDOG=1"] * 3
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        notify.setblocking(False)
        try:
            while True:
                said.append(notify.recv(200).decode())
        except BlockingIOError:
            pass
        assert any(s.startswith("RELOADING=1\nMONOTONIC_USEC=") for s in said) and said.count("READY=1") == 2 and "STOPPING=1" in said, said
        assert process.returncode == 0


edge = Told(f"listen 127.0.0.1:0\nsilence 2\npolicy names\n{UPSTREAM}")


def raw(data, seconds=10):
    """What comes back until the connection ends."""
    said = b""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=seconds) as client:
        client.sendall(data)
        while more := client.recv(65536):
            said += more
    return said


@promise
def what_is_no_request_is_told_so_as_json():
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    for data, status in ((b"nonsense\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\nX-A: " + b"b" * 70000 + b"\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\nno header\r\n\r\n", 400),
                         (post + b"Content-Length: x\r\n\r\n{}", 400), (post + b"Content-Length: %d\r\n\r\n" % (33 << 20) + b"x" * (33 << 20), 413),
                         (post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 413), (b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
                         (b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", 501)):
        said = raw(data)
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status) and b"\r\nContent-Type: application/json" in head, f"{data[:60]}: {said[:300]}"
        assert json.loads(body)["error"]["message"] and not Upstream.bodies, said
    assert edge.talk("hello")[0] == 200, "others do not notice"


def closed(client):
    client.setblocking(False)
    try:
        return client.recv(1000) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@promise
def who_never_finishes_a_request_is_cut_off():
    def drip(begin, byte, every=0.25):
        with socket.create_connection(("127.0.0.1", edge.port), timeout=1) as client:
            client.sendall(begin)
            began = time.monotonic()
            while time.monotonic() - began < 12:
                try:
                    client.sendall(byte)
                    client.settimeout(every)
                    if not client.recv(1000):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            return time.monotonic() - began

    for begin, byte in ((b"GET /health HTTP/1.1\r\nX-A: ", b"a"), (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", b" ")):
        took = drip(begin, byte)
        assert 1 < took < 8, f"{took:.1f} s of a client that says a byte now and then, with --silence 2"
    many = [socket.create_connection(("127.0.0.1", edge.port), timeout=10) for _ in range(200)]
    for client in many:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + b"X: y\r\n" * 20)
    assert edge.talk("hello")[0] == 200, "who is slow keeps others from being answered"
    assert within(8, lambda: all(closed(client) for client in many)), "unfinished requests are kept"
    assert edge.end() == 0


@promise
def more_connections_than_it_may_have_wait_quietly():
    full = Told(f"listen 127.0.0.1:0\npolicy names\n{UPSTREAM}")
    resource.prlimit(full.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    many = [socket.create_connection(("127.0.0.1", full.port), timeout=10) for _ in range(100)]
    assert within(5, lambda: "a connection waits" in full.said()), full.said()[:200]
    time.sleep(2)
    assert full.said().count("\n") < 6, f"{full.said().count(chr(10))} lines in the log"
    for client in many:
        client.close()
    assert full.talk("hello")[0] == 200 and full.end() == 0, full.said()


@promise
def books_of_several_policies_are_one_ledger_and_one_chain():
    assert good("audit").returncode == 0 and {e["key"] for e in json.loads(good("budget", "history", "-n", "1000", "--json").out)["entries"]} >= {"anna", "ben", "dora", "local"}


end()
