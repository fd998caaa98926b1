#!/usr/bin/env python3
"""peer_cli_test: cmif and cmif-server, two processes over TLS on loopback, and whoever stands between them or in the server's place. What the
client says is captured where TLS ends: until evidence was accepted that is a CHALLENGE and nothing else. See rig.py."""

import hashlib
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading

import rig
from rig import BUILD, CANARY, CMIF, ENV, SERVER, SHARED, WORK, Skip, end, good, promise, refused, run, skip, succeeded, within, write

STORIES = f"{SHARED}/models/stories260K/stories260K.gguf"
KINDS = {1: "HELLO", 2: "OPEN", 3: "BEGIN", 4: "ROWS", 5: "CANCEL", 6: "CLOSE", 128: "CHALLENGE", 129: "EVIDENCE"}
if not os.path.exists(STORIES):
    skip(f"no {STORIES}")
if not shutil.which("openssl"):
    skip("openssl is not installed")

good("split", STORIES, "-o", f"{WORK}/half")
running = []


def certificate(name):
    succeeded(run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-days", "2",
                  "-keyout", f"{WORK}/{name}.key", "-out", f"{WORK}/{name}.pem"))
    der = ssl.PEM_cert_to_DER_cert(open(f"{WORK}/{name}.pem").read())
    return f"{WORK}/{name}.pem", f"{WORK}/{name}.key", "sha256:" + hashlib.sha256(der).hexdigest()


MINE, OTHER = certificate("mine"), certificate("other")


def start(*args):
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV, cwd=WORK)
    running.append(process)
    return process


def server(*args, cert=MINE, port=0):
    """A cmif-server; its port."""
    process = start(SERVER, "-m", f"{WORK}/half/server.gguf", "--json", "--threads", "1", "--listen", f"127.0.0.1:{port}", "--tls-cert", cert[0], "--tls-key", cert[1], *args)
    ready = process.stdout.readline()
    assert ready, f"cmif-server {args} did not start"
    return process, int(json.loads(ready)["listen"][0].rsplit(":", 1)[1])


def stop(process):
    process.terminate()
    process.wait(20)
    process.stdout.close()
    running.remove(process)


def stop_all(but=()):
    for process in list(running):
        if process not in but:
            stop(process)


rig.tidy.append(lambda: stop_all([genuine]))


def client(port, policy, *args, cert=MINE, text=f"my {CANARY}", **more):
    return run(CMIF, "run", "-q", "-m", f"{WORK}/half", "--raw", "-n", "4", "--server", f"127.0.0.1:{port}", "--pin", cert[2], "--peer-policy", policy,
               *(() if "--policy" in args else ("--policy", "none")), *args, text=text, **more)


def sim_policy(identity="0" * 64, more=""):
    return write(f"sim-{identity[:4]}{len(more)}", f"attestation-policy 1\naccept sim\nloosen simulator\nmeasure sim measurement {identity}\n{more}")


SIM, TPM = sim_policy(), write("tpm", "attestation-policy 1\naccept tpm\nmeasure tpm pcr0 " + "0" * 64 + "\nak-pin " + "0" * 64 + "\nloosen ak-pinned\n")
genuine, PORT = server("--evidence", "sim", "--insecure-simulator")
MODEL = json.loads(succeeded(client(PORT, SIM, "--json")).out)["model"]["id"]

# ---- who is between ----


def frame_of(read):
    """One frame, whole, or b""."""
    head = read(8)
    return head and head + (read(struct.unpack_from("<I", head)[0]) or b"")


def reader(tls):
    def read(size):
        data = b""
        while len(data) < size:
            try:
                more = tls.recv(size - len(data))
            except OSError:
                more = b""
            if not more:
                return b""
            data += more
        return data
    return read


def to_server(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["cmif/1"])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))


class Between:
    """Ends the client's TLS with a certificate that the client pins, and writes down what comes; then does as `deed` says."""

    def __init__(self, deed):
        self.deed, self.heard, self.raw = deed, [], b""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(OTHER[0], OTHER[1])
        self.context.set_alpn_protocols(["cmif/1"])
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        self.threads = [threading.Thread(target=self.serve, daemon=True)]
        self.threads[0].start()

    def serve(self):
        while True:
            try:
                near = self.context.wrap_socket(self.door.accept()[0], server_side=True)
            except OSError:
                return
            near.settimeout(20)
            with near, to_server(PORT) as far:
                read = reader(near)
                while frame := frame_of(read):
                    self.raw += frame
                    self.heard.append(KINDS[struct.unpack_from("<H", frame, 4)[0]])
                    self.deed(self, frame, near, far)

    def judge(self, *words):
        """The client hung up after exactly these frames, and nothing of the text is in them."""
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        self.threads[0].join(20)
        assert self.heard == list(words), f"the client said {self.heard}"
        assert "ROWS" in words or len(self.raw) == 40 * len(words), f"{len(self.raw)} bytes"
        assert CANARY.encode() not in self.raw


def answer(far):
    """All that the server says to one question: frames until it waits."""
    read, said = reader(far), b""
    while frame := frame_of(read):
        said += frame
        kind, total, offset = struct.unpack_from("<H", frame, 4)[0], *struct.unpack_from("<II", frame, 8)
        if kind != 129 or offset + len(frame) - 16 - struct.unpack_from("<H", frame, 6)[0] >= total:
            return said
    return said


def relay(self, frame, near, far):
    """Everything, both ways: the genuine server's evidence, of this very moment."""
    if len(self.threads) == 1:
        self.threads.append(threading.Thread(target=pump, args=(far, near), daemon=True))
        self.threads[1].start()
    far.sendall(frame)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass


def replay(self, frame, near, far):
    """What the genuine server said to somebody else's CHALLENGE in an earlier connection."""
    if self.heard == ["CHALLENGE"]:
        far.sendall(struct.pack("<IHH", 32, 128, 0) + os.urandom(32))
        near.sendall(answer(far))


def reflect(_self, frame, near, _far):
    """The client is asked what it asked: would it prove the server's case?"""
    near.sendall(frame)


def play_old(_self, frame, near, far):
    """A server that has never heard of evidence and goes on."""
    far.sendall(struct.pack("<IHH4sHHI", 12, 1, 0, b"CMIF", 1, 1, 0))
    near.sendall(answer(far))


# ---- the promises ----

@promise
def the_simulator_is_accepted_by_who_asks_for_it_aloud_and_shouts_in_the_account():
    done = client(PORT, SIM, "--json")
    evidence = json.loads(succeeded(done).out)["evidence"]
    assert evidence["outcome"] == "accepted" and evidence["technology"] == "sim" and "INSECURE" in evidence["loosened"], evidence
    assert evidence["claims"]["program"].startswith("cmif-server ") and len(evidence["policy"]["sha256"]) == 64, evidence
    done = run(CMIF, "run", "-m", f"{WORK}/half", "--raw", "-n", "4", "--server", f"127.0.0.1:{PORT}", "--pin", MINE[2], "--policy", "none", "--peer-policy", SIM, "x")
    line = next(line for line in done.err.splitlines() if line.startswith("evidence"))
    assert "accepted: INSECURE SIMULATOR, measurement 0000000000000000..." in line and "cmif-server" in line and "loosened: simulator, INSECURE" in line, line
    assert "\033" not in done.err and "no-store" not in line, line


@promise
def who_asks_for_no_evidence_is_told_of_none():
    done = succeeded(run(CMIF, "run", "--json", "-m", f"{WORK}/half", "--raw", "-n", "4", "--server", f"127.0.0.1:{PORT}", "--pin", MINE[2], "--policy", "none", "x"))
    assert json.loads(done.out)["evidence"] is None


@promise
def before_a_request_it_is_asked_for_again_and_the_answer_stays_the_same():
    once, again = (json.loads(succeeded(client(PORT, SIM, "--json", "--peer-fresh", fresh, text="Once upon a time")).out) for fresh in ("60", "0"))
    assert once["text"] == again["text"] != "", (once, again)
    assert again["left_the_machine"]["bytes"] == once["left_the_machine"]["bytes"] + 40, (once, again)  # one CHALLENGE


@promise
def the_doctor_says_who_is_there_and_says_nothing_to_a_stranger():
    where = ("doctor", "--json", "--server", f"127.0.0.1:{PORT}", "--pin", MINE[2], "-m", f"{WORK}/half", "--peer-policy")
    found = {c["check"]: c for c in json.loads(rig.cmif(*where, SIM).out)["checks"]}
    assert found["evidence"]["verdict"] == "warn" and "INSECURE" in found["evidence"]["found"] and found["halves"]["verdict"] == "ok", found
    done = rig.cmif(*where, sim_policy("1" * 64))
    found = {c["check"]: c for c in json.loads(done.out)["checks"]}
    assert done.returncode == 1 and found["evidence"]["verdict"] == "fail" and "measurement-measurement" in found["evidence"]["found"], found
    assert "halves" not in found and "server" not in found, found
    between = Between(relay)
    done = rig.cmif("doctor", "--server", f"127.0.0.1:{between.port}", "--pin", OTHER[2], "--peer-policy", SIM)
    assert done.returncode == 1 and "report-data" in done.out, done.out
    between.judge("CHALLENGE")


@promise
def a_relay_without_a_policy_gets_the_text_and_so_would_be_seen():
    between = Between(relay)
    succeeded(run(CMIF, "run", "-q", "-m", f"{WORK}/half", "--raw", "-n", "4", "--server", f"127.0.0.1:{between.port}", "--pin", OTHER[2], "--policy", "none",
                  "--rows", "ids", text="Once upon a time"))
    between.judge("HELLO", "OPEN", "BEGIN", "ROWS", "CLOSE")


@promise
def a_relay_of_the_genuine_servers_evidence_is_refused():
    between = Between(relay)
    refused(1, "report-data.*made for another connection", client(between.port, SIM, cert=OTHER))
    between.judge("CHALLENGE")


@promise
def evidence_of_an_earlier_connection_is_refused():
    between = Between(replay)
    refused(1, "report-data.*made for another connection", client(between.port, SIM, cert=OTHER))
    between.judge("CHALLENGE")


@promise
def a_client_proves_nothing_that_could_be_reflected():
    between = Between(reflect)
    refused(1, "does not speak cmif/1", client(between.port, SIM, cert=OTHER))
    between.judge("CHALLENGE")


@promise
def who_goes_on_as_if_nothing_had_been_asked_is_refused():
    between = Between(play_old)
    refused(1, "does not speak cmif/1", client(between.port, SIM, cert=OTHER))
    between.judge("CHALLENGE")


def lied(what, policy=SIM):
    """A server of whose proof this one thing is wrong: what the client said of it, and what it had heard."""
    process = start(f"{BUILD}/tests/peer_rig", MINE[0], MINE[1], MODEL, what)
    done = client(int(process.stdout.readline()), policy)
    heard = process.stdout.read().decode().splitlines()
    process.wait(20)
    process.stdout.close()
    running.remove(process)
    return done, heard


@promise
def each_thing_alone_that_is_wrong_in_a_proof_refuses_it_before_the_first_word():
    done, heard = lied("nothing")
    assert heard == ["CHALLENGE 40", "HELLO 20"] and "closed" in done.err, (heard, done.err)  # accepted: so the others are refused for what is wrong
    for what, why in {"role": "report-data", "nonce": "report-data", "exporter": "report-data", "key": "report-data", "other-key": "report-data",
                      "claims": "report-data", "policy": "report-data",
                      "model": "speaks of another model", "program": "measurement-measurement"}.items():
        done, heard = lied(what)
        refused(1, why, done)
        assert heard == ["CHALLENGE 40"], (what, heard)


@promise
def a_weaker_proof_than_the_policy_asks_for_is_refused():
    done, heard = lied("nothing", TPM)
    refused(1, "technology-not-accepted", done)
    assert heard == ["CHALLENGE 40"], heard
    quiet = write("quiet", open(SIM).read().replace("loosen simulator\n", ""))
    refused(1, "takes both 'accept sim' and 'loosen simulator'", client(PORT, quiet))
    refused(1, "report data", client(PORT, sim_policy(more="report-data 00\n")))
    refused(1, "measurement-measurement", client(PORT, sim_policy("1" * 64)))


@promise
def a_server_without_evidence_is_refused_in_its_own_words():
    process, port = server()
    refused(1, "the server says: .*evidence", client(port, SIM))
    stop(process)


@promise
def another_certificate_is_refused_before_anything_is_said():
    process, port = server("--evidence", "sim", "--insecure-simulator")
    succeeded(client(port, SIM))
    stop(process)
    process, port = server("--evidence", "sim", "--insecure-simulator", cert=OTHER, port=port)
    refused(1, "pinned is sha256:", client(port, SIM))
    stop(process)


@promise
def evidence_needs_a_server_behind_tls():
    for args in ([], ["--server", f"unix:{WORK}/s.sock"]):
        refused(2, "evidence needs --server HOST:PORT", rig.cmif("run", "-m", f"{WORK}/half", "--peer-policy", SIM, *args, CANARY))
    refused(2, "needs --peer-policy", rig.cmif("run", "-m", f"{WORK}/half", "--peer-fresh", "5", CANARY))
    refused(2, "--peer-fresh", rig.cmif("run", "-m", f"{WORK}/half", "--peer-fresh", "-1", CANARY))
    refused(2, "evidence needs --server HOST:PORT", rig.cmif("doctor", "--peer-policy", SIM))
    refused(1, "line 2", client(PORT, write("bad", "attestation-policy 1\naccept everything\n")))


@promise
def nothing_is_entered_in_the_books_for_who_is_refused():
    lists = next((path for path in (f"{BUILD}/tests/lists.gguf", os.path.expanduser("~/.cache/cmif/lists.gguf")) if os.path.exists(path)), None)
    if not lists:
        raise Skip("no lists ('cmif setup')")
    os.makedirs(f"{WORK}/cache/cmif", exist_ok=True)
    shutil.copy(lists, f"{WORK}/cache/cmif/lists.gguf")

    def entries():
        return len(json.loads(good("budget", "history", "--json").out)["entries"])

    succeeded(client(PORT, SIM, "--policy", "names", text="My name is Anna."))
    before = entries()
    assert before >= 1
    between = Between(relay)
    refused(1, "report-data", client(between.port, SIM, "--policy", "names", cert=OTHER, text="My name is Anna."))
    between.judge("CHALLENGE")
    assert entries() == before


# ---- a TPM on the server's side ----

def free_ports():
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
                return one.getsockname()[1]
            except OSError:
                continue


@promise
def a_tpm_that_is_pinned_is_accepted_with_its_pcrs_and_no_other():
    missing = [tool for tool in ("swtpm", "swtpm_setup", "swtpm_ioctl") if not shutil.which(tool)]
    if missing or not os.path.exists(f"{BUILD}/tests/swtpm_rig"):
        raise Skip(f"{', '.join(missing) or 'swtpm_rig'}: not here (Debian packages swtpm, swtpm-tools)")
    port = free_ports()
    os.mkdir(f"{WORK}/tpm-state")
    where, env = f"swtpm:host=127.0.0.1,port={port}", {**ENV, "TSS2_LOG": "all+NONE"}
    succeeded(run("swtpm_setup", "--tpm2", "--tpmstate", f"{WORK}/tpm-state", "--pcr-banks", "sha256", "--overwrite"))
    tpm = start("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={WORK}/tpm-state", "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1", "--server",
                f"type=tcp,port={port},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear")

    def made():
        done = run(f"{BUILD}/tests/swtpm_rig", where, "make", "0,1,2,3,4,5,6,7", "00" * 64, f"{WORK}/tpm-evidence", env=env)
        if "not in this build" in done.err:
            raise Skip("this build makes no TPM evidence (Debian package libtss2-dev)")
        return done.returncode == 0
    assert within(10, made), "swtpm does not answer"
    seen = json.loads(run(CMIF, "verify", "--json", "--collateral", "none", f"{WORK}/tpm-evidence").out)["fields"]
    lines = "".join(f"measure tpm pcr{n} {seen[f'pcr{n}']}\n" for n in range(8))
    policy = write("swtpm", f"attestation-policy 1\naccept tpm\n{lines}ak-pin {seen['ak_spki']}\nloosen ak-pinned\n")

    process, at = server("--evidence", "tpm", "--evidence-device", where)
    evidence = json.loads(succeeded(client(at, policy, "--json", "--peer-fresh", "0")).out)["evidence"]
    assert evidence["technology"] == "tpm" and evidence["outcome"] == "accepted" and evidence["unchecked"] == ["ak-pinned"], evidence
    assert evidence["fields"]["pcr_select"] == "0,1,2,3,4,5,6,7" and len(evidence["fields"]["extra_data"]) == 128, evidence
    refused(1, "measurement-pcr0", client(at, write("swtpm-1", open(policy).read().replace(f"pcr0 {seen['pcr0']}", "pcr0 " + "1" * 64))))
    refused(1, "ak-not-pinned", client(at, write("swtpm-2", open(policy).read().replace(seen["ak_spki"], "1" * 64))))
    refused(1, "ak-pinned", client(at, write("swtpm-3", open(policy).read().replace("loosen ak-pinned\n", ""))))

    global PORT
    genuine_port, PORT = PORT, at  # the one that is relayed to
    try:
        for deed in relay, replay:
            between = Between(deed)
            refused(1, "report-data", client(between.port, policy, cert=OTHER))
            between.judge("CHALLENGE")
    finally:
        PORT = genuine_port
    stop(process)
    run("swtpm_ioctl", "--tcp", f"127.0.0.1:{port + 1}", "-s")
    tpm.wait(20)
    running.remove(tpm)


stop_all()
end()
