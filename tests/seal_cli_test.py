#!/usr/bin/env python3
"""seal_cli_test: sealed client halves and the key server, as their owners meet them. Keys and what was sealed are looked for in files, command lines,
environments and memory. See rig.py."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import rig
from rig import CMIF, ENV, SHARED, WORK, Skip, cmif, end, good, promise, read, refused, skip, within, write

STORIES = f"{SHARED}/models/stories260K/stories260K.gguf"
if not os.path.exists(STORIES):
    skip(f"no {STORIES}")

RUN = ["run", "--policy", "none", "--threads", "1", "-q", "--raw", "-n", "24"]
os.mkdir(f"{WORK}/keys", 0o700)
KEY, OTHER = f"{WORK}/keys/a.key", f"{WORK}/keys/b.key"
PLAIN, SEALED = f"{WORK}/plain", f"{WORK}/sealed"
good("split", STORIES, "-o", PLAIN)
made = good("split", STORIES, "-o", SEALED, "--seal", KEY)
good("split", STORIES, "-o", f"{WORK}/other", "--seal", OTHER)
HALF = f"{SEALED}/client.gguf.sealed"
ANSWER = good(*RUN, "-m", PLAIN, "Once upon a time").out
HEX = open(KEY).read().strip()
INSIDE = read("plain/client.gguf")
at = INSIDE.index(b"tokenizer.ggml.tokens") + 500
WORDS = INSIDE[at:at + 200]  # of the vocabulary, which the server's half does not have
assert ANSWER and WORDS not in read("plain/server.gguf")


def key_id(path):
    return hashlib.sha256(b"CMIF-seal-key-id-v1" + bytes.fromhex(open(path).read().strip())).hexdigest()


def files():
    for folder, _, names in os.walk(WORK):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and path not in (KEY, OTHER) and not path.startswith(f"{PLAIN}/"):
                yield path


# ---- sealing ----

@promise
def a_sealed_split_has_no_client_half_in_the_clear():
    assert sorted(os.listdir(SEALED)) == ["client.gguf.sealed", "server.gguf"], os.listdir(SEALED)
    assert "which was made now" in made.out and key_id(KEY) in made.out and HEX not in made.out
    assert os.stat(KEY).st_mode & 0o777 == 0o600 and re.fullmatch("[0-9a-f]{64}\n", open(KEY).read())
    assert read("sealed/server.gguf") == read("plain/server.gguf")
    good("split", STORIES, "-o", f"{WORK}/both")  # in the clear, then sealed, then in the clear again
    again = good("split", STORIES, "-o", f"{WORK}/both", "--seal", KEY)
    assert "made now" not in again.out and sorted(os.listdir(f"{WORK}/both")) == ["client.gguf.sealed", "server.gguf"]
    good("split", STORIES, "-o", f"{WORK}/both")
    assert sorted(os.listdir(f"{WORK}/both")) == ["client.gguf", "server.gguf"]
    said = json.loads(good("split", STORIES, "-o", f"{WORK}/both", "--seal", KEY, "--json").out)
    assert said["key_id"] == key_id(KEY) and said["key_made"] is False
    shutil.rmtree(f"{WORK}/both")


@promise
def the_plaintext_never_reaches_the_disk_while_a_half_is_sealed():
    """Whatever is written, under whatever name or none: strace sees it."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    trace = f"{WORK}/trace"
    done = rig.run("strace", "-f", "-s", "4000000", "-e", "trace=write,pwrite64,writev,pwritev", "-o", trace, CMIF, "split", STORIES, "-o", f"{WORK}/t", "--seal", KEY)
    if done.returncode != 0:
        raise Skip("strace cannot trace here")
    text = read("trace")
    assert b"CMIFSEAL" in text, "the trace shows no sealed file"
    assert b"tokenizer.ggml.tokens" not in text and b"tokenizer.ggml.scores" not in text, "the client's half was written in the clear"
    os.remove(trace)
    shutil.rmtree(f"{WORK}/t")


@promise
def key_files_of_others_and_none_are_refused():
    os.chmod(OTHER, 0o640)
    for command in (["split", STORIES, "-o", f"{WORK}/x", "--seal", OTHER], [*RUN, "-m", f"{WORK}/other", "--unseal", OTHER, "x"]):
        refused(1, "others may read the key file .*chmod 600", cmif(*command))
    os.chmod(OTHER, 0o600)
    short = write("short.key", "abc\n")
    os.chmod(short, 0o600)
    refused(1, "is no key file: expected 64 hexadecimal digits", cmif("split", STORIES, "-o", f"{WORK}/x", "--seal", short))
    refused(1, "cannot make the key file", cmif("split", STORIES, "-o", f"{WORK}/x", "--seal", f"{WORK}/no/such.key"))
    assert not os.path.exists(f"{WORK}/x")
    os.remove(short)


@promise
def inspect_says_what_a_sealed_file_is():
    said = good("inspect", HALF).out
    assert "sealed (AES-256-GCM)" in said and key_id(KEY) in said, said
    said = json.loads(good("inspect", HALF, "--json").out)
    assert said["key_id"] == key_id(KEY) and said["bytes"] == len(INSIDE) and said["model_id"] == hashlib.sha256(open(STORIES, "rb").read()).hexdigest()
    cut = write("cut.sealed", read("sealed/client.gguf.sealed")[:-1])
    refused(1, "do not fit a file of", cmif("inspect", cut))
    os.remove(cut)


# ---- opening with a key file ----

@promise
def a_sealed_half_answers_with_its_key_and_not_without():
    for model in (SEALED, HALF):
        assert good(*RUN, "-m", model, "--unseal", KEY, "Once upon a time").out == ANSWER
        refused(1, "is sealed: .* take its key with --unseal KEYFILE", cmif(*RUN, "-m", model, "Once"))
    refused(1, "sealed with another key: its key id begins with " + key_id(KEY)[:16], cmif(*RUN, "-m", SEALED, "--unseal", OTHER, "Once"))
    refused(1, "cannot open the key file", cmif(*RUN, "-m", SEALED, "--unseal", f"{WORK}/none.key", "Once"))
    refused(1, "is not sealed: it may be anybody's", cmif(*RUN, "-m", PLAIN, "--unseal", KEY, "Once"))
    assert "ok    model      llama" in cmif("doctor", "--threads", "1", "-m", SEALED, "--unseal", KEY).out
    assert "is sealed" in cmif("doctor", "--threads", "1", "-m", SEALED).out


@promise
def a_sealed_half_that_was_changed_is_not_used():
    whole = bytearray(read("sealed/client.gguf.sealed"))
    os.mkdir(f"{WORK}/bad")
    shutil.copy(f"{SEALED}/server.gguf", f"{WORK}/bad/server.gguf")
    for place, sentence in ((30, "another key"), (60, "chunk 1 of 1 was changed"), (5000, "chunk 1 of 1 was changed"), (len(whole) - 1, "chunk 1 of 1 was changed")):
        whole[place] ^= 1
        write("bad/client.gguf.sealed", whole)
        refused(1, sentence, cmif(*RUN, "-m", f"{WORK}/bad", "--unseal", KEY, "Once"))
        whole[place] ^= 1
    write("bad/client.gguf.sealed", whole + b"\0")
    refused(1, "do not fit a file of", cmif(*RUN, "-m", f"{WORK}/bad", "--unseal", KEY, "Once"))
    shutil.rmtree(f"{WORK}/bad")


@promise
def options_that_do_not_fit_are_refused_before_anything_is_done():
    pin = "sha256:" + "0" * 64
    for args, sentence in ((["--unseal-pin", pin], "name it with --unseal HOST:PORT"), (["--unseal", "h:1", "--unseal-pin", pin], "say which with --evidence"),
                           (["--unseal", KEY, "--evidence", "tdx"], "is for a key server"), (["--unseal", "h:1", "--unseal-pin", pin, "--evidence", "sim"], "INSECURE"),
                           (["--unseal", "h:1", "--unseal-pin", pin, "--evidence", "magic"], "takes tdx, snp, sgx, tpm or sim"),
                           (["--unseal", "h", "--unseal-pin", pin, "--evidence", "tdx"], "takes HOST:PORT"),
                           (["--unseal", "h:1", "--unseal-pin", pin, "--evidence", "tdx", "--insecure-simulator"], "take it away")):
        refused(2, sentence, cmif(*RUN, "-m", SEALED, *args, "Once"))


def memory_of(pid):
    """What a process has written to its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[vvar]" not in line:
                low, high = (int(n, 16) for n in found.groups())
                memory.seek(low)
                try:
                    yield memory.read(high - low)
                except OSError:
                    pass


@promise
def an_opened_half_leaves_no_key_in_memory_and_none_in_sight():
    if b"__asan" in open(CMIF, "rb").read():
        raise Skip("a sanitizer's memory is too large to look through")
    chat = subprocess.Popen([CMIF, "run", "--policy", "none", "--threads", "1", "--raw", "-n", "1000000", "--context", "512", "-m", SEALED, "--unseal", KEY, "--temp", "1", "Once"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV)
    try:
        assert chat.stdout.read(1), "it says nothing"
        os.kill(chat.pid, signal.SIGSTOP)
        try:
            seen = open(f"/proc/{chat.pid}/environ", "rb").read() + open(f"/proc/{chat.pid}/cmdline", "rb").read()
            memory = list(memory_of(chat.pid))
            smaps = open(f"/proc/{chat.pid}/smaps").read()
        except PermissionError:
            raise Skip("only root may look into a process that hides")
        assert HEX.encode() not in seen and KEY.encode() not in seen.split(b"\0")[0]
        raw = bytes.fromhex(HEX)
        has_words = [m for m in memory if WORDS in m]
        assert has_words, "the opened half is not where this test looks"
        assert not any(raw in m or HEX.encode() in m for m in memory), "the key is still in memory"
        flags = [area for area in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps) if re.search(r"VmFlags:.*\bdd\b", area) and re.search(r"Locked: +[1-9]", area)]
        assert flags, "no locked memory that is left out of dumps"
    finally:
        os.kill(chat.pid, signal.SIGCONT)
        chat.kill()
        chat.wait()
        chat.stdout.close()


# ---- the key server ----

SIM = "0" * 64  # what the simulator of cmif says it measured
running = []


def policy(identity):
    return write(f"policy-{identity[0]}", f"attestation-policy 1\naccept sim\nloosen simulator\nmeasure sim measurement {identity}\n")


def keyserver(*args, identity=SIM, log="keys.log", **more):
    process = subprocess.Popen([CMIF, "keyserver", "--listen", "127.0.0.1:0", "--policy", policy(identity), "--keys", f"{WORK}/keys", "--log", f"{WORK}/{log}", *args],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, **more)
    running.append(process)
    ready = process.stdout.readline().decode()
    found = re.match(r"cmif keyserver: listening on (127\.0\.0\.1:\d+), (\d+) keys?, pin (sha256:[0-9a-f]{64})\n", ready)
    assert found, ready + process.stderr.read().decode()
    process.address, process.pin = found[1], found[3]
    return process


def stop(process):
    """It ends by itself when asked; what it printed."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    running.remove(process)
    assert process.returncode == 0, f"exit {process.returncode}: {err.decode()}"
    return out.decode(), err.decode()


def stop_all():
    for process in list(running):
        process.kill()
        process.wait()
        running.remove(process)


rig.tidy.append(stop_all)


def from_server(server, *args, model=SEALED, text="Once upon a time", **more):
    return cmif(*RUN, "-m", model, "--unseal", server.address, "--unseal-pin", server.pin, "--evidence", "sim", "--insecure-simulator", *args, text, **more)


def refused_by(server, sentence, **more):
    """The simulator's shout, and one sentence."""
    done = from_server(server, **more)
    shout, done.err = done.err.split("\n", 1) if done.err.startswith("INSECURE") else ("", done.err)
    refused(1, sentence, done)


def peek(s):
    s.setblocking(False)
    try:
        return s.recv(1)
    except BlockingIOError:
        return None


def audit(log="keys.log"):
    return json.loads(good("keyserver", "--audit", f"{WORK}/{log}", "--json").out)


def lines(log="keys.log"):
    return read(log).decode().splitlines()


@promise
def evidence_that_the_policy_accepts_opens_the_half():
    server = keyserver()
    done = from_server(server)
    assert done.returncode == 0 and done.out == ANSWER, done.err
    assert from_server(server, model=f"{WORK}/other").out == ANSWER  # another key of the same folder
    seen = open(f"/proc/{server.pid}/environ", "rb").read() + open(f"/proc/{server.pid}/cmdline", "rb").read()
    assert HEX.encode() not in seen
    out, err = stop(server)
    assert "INSECURE" in err and HEX not in out + err
    line = lines()[0]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ released 127\.0\.0\.1:\d+ key=%s tee=sim-INSECURE measured=measurement:%s policy=[0-9a-f]{64} why=- chain=[0-9a-f]{64}" % (key_id(KEY), SIM), line), line
    assert line in out.splitlines() and len(lines()) == 2
    said = audit()
    assert said["released"] == 2 and said["refused"] == 0 and said["chain"] == lines()[-1][-64:], said


@promise
def another_program_and_a_missing_key_are_refused_and_written_down():
    server = keyserver(identity="f" * 64, log="refused.log")
    for model in (SEALED, f"{WORK}/other"):
        refused_by(server, "key server: .*it says: refused: the key server's log says why", model=model)
    stop(server)
    assert len(lines("refused.log")) == 2 and all(" refused " in line and " why=measurement-measurement " in line for line in lines("refused.log"))
    os.rename(KEY, f"{WORK}/away.key")
    server = keyserver(log="refused.log")  # the log goes on
    refused_by(server, "there is no key of this id here")
    os.rename(f"{WORK}/away.key", KEY)
    assert from_server(server).out == ANSWER  # a key that is brought is found
    stop(server)
    said = audit("refused.log")
    assert (said["lines"], said["released"], said["refused"]) == (4, 1, 3)


@promise
def an_edited_log_shows():
    text = read("keys.log")
    edited = write("edited.log", text.replace(b"released", b"refused ", 1))
    refused(1, "line 1", cmif("keyserver", "--audit", edited))
    write("edited.log", text.split(b"\n", 1)[1])
    refused(1, "line 1: it was changed, or one before it was put in, taken out or moved", cmif("keyserver", "--audit", edited))
    refused(1, "line 1", cmif("keyserver", "--policy", policy(SIM), "--keys", f"{WORK}/keys", "--log", edited))
    write("edited.log", text + b"20")
    assert "the last line has no end (2 bytes)" in good("keyserver", "--audit", edited).out
    os.remove(edited)


@promise
def a_full_disk_for_the_log_gives_no_key():
    write("full.log", read("keys.log"))
    os.chmod(f"{WORK}/full.log", 0o600)
    before = read("full.log")
    room = len(before) + 100  # less than a line
    server = keyserver(log="full.log", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    refused_by(server, "key server: .*refused")
    out, err = stop(server)
    assert "cannot write the key log" in err and " released " not in out
    assert read("full.log") == before, "half a line is left"


@promise
def a_server_without_its_log_policy_or_keys_does_not_start():
    how = ["keyserver", "--listen", "127.0.0.1:0"]
    refused(2, "needs --policy FILE, --keys FOLDER and --log FILE", cmif(*how, "--policy", policy(SIM), "--keys", f"{WORK}/keys"))
    refused(1, "cannot open the key log", cmif(*how, "--policy", policy(SIM), "--keys", f"{WORK}/keys", "--log", f"{WORK}/no/log"))
    refused(1, "cannot read the folder of keys", cmif(*how, "--policy", policy(SIM), "--keys", f"{WORK}/nokeys", "--log", f"{WORK}/x.log"))
    os.chmod(OTHER, 0o644)
    refused(1, "others may read the key file", cmif(*how, "--policy", policy(SIM), "--keys", f"{WORK}/keys", "--log", f"{WORK}/x.log"))
    os.chmod(OTHER, 0o600)
    anything = write("anything", "attestation-policy 1\naccept tdx\n")
    assert cmif(*how, "--policy", anything, "--keys", f"{WORK}/keys", "--log", f"{WORK}/x.log").returncode == 1
    server = keyserver()
    refused(1, "in use", cmif(*how, "--policy", policy(SIM), "--keys", f"{WORK}/keys", "--log", f"{WORK}/keys.log"))
    stop(server)


@promise
def slow_and_silent_clients_do_not_hold_up_others():
    server = keyserver()
    host, port = server.address.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    silent[0].sendall(b"\x16\x03\x01")  # a greeting that never ends
    began = time.monotonic()
    assert from_server(server).out == ANSWER and time.monotonic() - began < 8
    more = [socket.create_connection((host, int(port))) for _ in range(30)]  # beyond the limit: closed at once
    assert within(5, lambda: sum(peek(s) == b"" for s in more) >= 18), "nobody was sent away"
    for s in silent + more:
        s.close()
    assert within(5, lambda: from_server(server).out == ANSWER)
    held = socket.create_connection((host, int(port)))
    time.sleep(0.1)
    stop(server)  # it does not wait for who says nothing, and ends well
    held.close()


@promise
def the_certificate_is_kept_and_a_wrong_pin_is_refused():
    one = keyserver()
    stop(one)
    two = keyserver()
    assert one.pin == two.pin and os.stat(f"{ENV['XDG_DATA_HOME']}/cmif/keyserver.pem").st_mode & 0o777 == 0o600
    two.pin = "sha256:" + "0" * 64
    refused_by(two, "pinned is sha256:000")
    before = len(lines())
    stop(two)
    assert len(lines()) == before
    refused_by(two, "cannot connect")


@promise
def keys_and_what_was_sealed_are_in_no_file():
    raw, looked = bytes.fromhex(HEX), 0
    for path in files():
        content = open(path, "rb").read()
        assert HEX.encode() not in content and raw not in content, f"the key is in {path}"
        assert WORDS not in content, f"the vocabulary is in {path}"
        looked += 1
    assert looked > 8 and WORDS in read("plain/client.gguf")


end()
