#!/usr/bin/env python3
"""cli_test: the programs as a person meets them: answers, exit codes, sentences, signals, terminals. See rig.py.

A canary is in every prompt of an error case and must come back in nothing that is printed."""

import json
import math
import os
import pty
import re
import resource
import select
import signal
import subprocess
import time

import rig
from rig import CANARY, CMIF, ENV, SERVER, SHARED, WORK, end, promise, refused, within

STORIES, SST2 = f"{SHARED}/models/stories260K/stories260K.gguf", f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"
GOLDEN = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
          "big, red ball. She wanted to play with it, but it was too high.\nLily")  # models/stories260K/PROVENANCE.md, G0

for path in (STORIES, SST2):
    if not os.path.exists(path):
        rig.skip(f"no {path}")

SENDERS, NO_POLICY = ("run", "chat", "classify", "embed"), ["--policy", "none"]


def cmif(*args, **more):
    """With one thread. These promises are about the split, so text leaves as it is unless a promise names a policy."""
    args = list(args)
    if args and args[0] in SENDERS and "--help" not in args and "--policy" not in args:
        args[1:1] = NO_POLICY
    if args and args[0] in (*SENDERS, "doctor") and "--help" not in args:
        args[1:1] = ["--threads", "1"]
    return rig.cmif(*args, **more)


def servers():
    """Ids of the servers and engines that run out of this build."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
            if WORK.encode() in b" ".join(command) and b"cmif" in os.path.basename(command[0]):
                found.append(int(pid))
        except OSError:
            pass
    return found


def kill_servers():
    for pid in servers():
        os.kill(pid, signal.SIGKILL)


rig.tidy.append(kill_servers)


# ---- answers ----

@promise
def the_golden_text_comes_out():
    done = cmif("run", "-m", STORIES, "--raw", "-n", "64", "")
    assert done.returncode == 0 and done.out.strip() == GOLDEN.strip(), done.out + done.err
    for word in ("sanitizer", "none", "tied", "rows of 64 f32", "first token", "id 572352c434a0"):
        assert word in done.err, f"the account lacks '{word}': {done.err}"
    assert "\033" not in done.err, "escape sequences without a terminal"


@promise
def the_same_text_has_the_same_answer_however_it_comes():
    how = ("run", "-q", "-m", STORIES, "-n", "20")
    words = "Lily and Tom went to the"
    argument = cmif(*how, words)
    assert argument.returncode == 0 and len(argument.out) > 20 and argument.err == "", argument.err
    for same in (cmif(*how, text=words), cmif(*how, "-", text=words + "\n"), cmif(*how, "--no-loop", words),
                 cmif(*how, "--rows", "ids", words)):
        assert same.out == argument.out, (same.out, same.err)


@promise
def a_seed_repeats_an_answer():
    how = ("run", "-q", "-m", STORIES, "-n", "30", "--temp", "1", "--top-k", "40")
    one, again, other = (cmif(*how, "--seed", seed, "Once").out for seed in ("1", "1", "2"))
    assert one == again != other, (one, again, other)


@promise
def the_account_is_json_on_request():
    done = cmif("run", "--json", "--no-loop", "-m", STORIES, "-n", "10", "Once upon a time")
    account = json.loads(done.out)
    assert account["sanitizer"] == "none" and account["tokens"] == 10 and account["stop"] == "length", account
    left = account["left_the_machine"]
    assert left["as"] == "f32" and left["answer_rows"] == 9 and left["bytes"] > 64 * 4 * (left["prompt_rows"] + 9), account
    assert account["server"] == {"address": "private", "table": "tied"} and account["text"].startswith(","), account
    assert len(account["model"]["id"]) == 64 and done.err == "", done.err


def reference(count):
    rows = [line.rstrip("\n").split("\t") for line in open(f"{SHARED}/models/minilm-sst2/logits.tsv", encoding="utf-8")]
    return [(row[1], float(row[4]), float(row[5])) for row in rows[1:1 + count]]


@promise
def labels_agree_with_the_reference():
    wanted = reference(20)
    done = cmif("classify", "--json", "-m", SST2, text="\n".join(row[0] for row in wanted))
    results = json.loads(done.out)["results"]
    assert len(results) == len(wanted)
    for result, (sentence, negative, positive) in zip(results, wanted):
        assert result["label"] == ("positive" if positive > negative else "negative"), sentence
        assert abs(result["logits"][0] - negative) < 1e-2 and abs(result["logits"][1] - positive) < 1e-2, sentence
        assert abs(sum(result["probabilities"].values()) - 1) < 1e-6
    lines = cmif("classify", "-q", "-m", SST2, wanted[0][0], wanted[1][0]).out.splitlines()
    assert len(lines) == 2 and re.fullmatch(r"negative 0\.9\d+\tpositive 0\.0\d+", lines[0]), lines


@promise
def vectors_have_length_one_on_request():
    line = cmif("embed", "-q", "--normalize", "-m", SST2, "a joy").out.split()
    raw = json.loads(cmif("embed", "--json", "-m", SST2, "a joy").out)["results"][0]
    length = math.hypot(*raw)
    assert abs(math.hypot(*map(float, line)) - 1) < 1e-6 and abs(length - 1) > 1e-3
    assert all(abs(float(a) * length - b) < 1e-5 for a, b in zip(line, raw))


# ---- bad input ----

@promise
def without_lists_nothing_leaves_unsanitized():
    for command, model in (("run", STORIES), ("classify", SST2)):
        refused(1, "needs the public lists.*run 'cmif setup'.*'none' sends", cmif(command, "--policy", "topics", "-m", model, CANARY))
    refused(2, "did you mean 'topics'", cmif("run", "--policy", "topic", "-m", STORIES, CANARY))
    refused(2, "nothing through a channel", cmif("run", "--policy", "none", "--channel", "x", "-m", STORIES, CANARY))


@promise
def wrong_usage_is_one_sentence_and_exit_code_2():
    refused(2, "no command 'rum': did you mean 'run'", cmif("rum", CANARY))
    refused(2, "unknown option '--modle': did you mean '--model'", cmif("run", "--modle", "x", CANARY))
    refused(2, "did you mean '--temp'", cmif("run", "-m", STORIES, "--temperature", "1", CANARY))
    refused(2, "-n takes a whole number from 1", cmif("run", "-m", STORIES, "-n", "0", CANARY))
    refused(2, "-n takes a whole number", cmif("run", "-m", STORIES, "-n", CANARY))
    refused(2, "--temp takes a number", cmif("run", "-m", STORIES, "--temp", "nan", CANARY))
    refused(2, "--seed takes", cmif("run", "-m", STORIES, "--seed", "-1", CANARY))
    refused(2, "needs a value", cmif("run", CANARY, "-m"))
    refused(2, "takes no value", cmif("run", "--raw=yes", CANARY))
    refused(2, "put '--' in front", cmif("run", "-m", STORIES, f"--{CANARY} is my text"))
    refused(2, "'--' goes in front", cmif("run", "-m", STORIES, f"-{CANARY} is my text"))
    refused(2, "in quotes", cmif("run", "-m", STORIES, "two", CANARY))
    refused(2, "which model", cmif("run", CANARY))
    refused(2, "--rows takes .* did you mean f32", cmif("run", "-m", STORIES, "--rows", "f23", CANARY))
    refused(2, "HOST:PORT or unix:PATH", cmif("run", "-m", STORIES, "--server", "here", CANARY))
    refused(2, "--pin", cmif("run", "-m", STORIES, "--server", "127.0.0.1:7490", CANARY))
    refused(2, "the text is empty", cmif("run", "-m", STORIES, ""))
    refused(2, "the text is empty", cmif("run", "-m", STORIES, text="\n"))
    assert cmif().returncode == 2


@promise
def errors_are_json_on_request():
    for args, code in ((("-n", "0"), "range"), (("-m", f"{WORK}/none.gguf"), "io")):
        done = cmif("run", "--json", "-m", STORIES, *args, CANARY)
        assert json.loads(done.err)["error"]["code"] == code and done.out == "" and CANARY not in done.err, done.err


@promise
def text_that_is_not_utf8_is_refused_by_position():
    refused(1, "not UTF-8 at byte 10 of 11", cmif("run", "-m", STORIES, text=CANARY.encode() + b"\xff"))
    done = cmif("embed", "-q", "-m", SST2, text=b"good\nab\xc3\n")
    assert len(done.out.splitlines()) == 1  # the first text was answered before the second was looked at
    done.out = ""
    refused(1, "text 2: .*not UTF-8 at byte 2 of 3", done)


@promise
def a_model_that_is_none_is_refused():
    data = open(STORIES, "rb").read()
    files = {"truncated": data[:500000], "empty": b"", "text": b"not a model\n" * 99,
             "strange": data.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                                     b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llamx")}
    assert files["strange"] != data
    for name, content in files.items():
        open(f"{WORK}/{name}.gguf", "wb").write(content)
    refused(1, "cut off", cmif("run", "-m", f"{WORK}/truncated.gguf", CANARY))
    refused(1, "GGUF", cmif("run", "-m", f"{WORK}/text.gguf", CANARY))
    refused(1, "empty.gguf", cmif("run", "-m", f"{WORK}/empty.gguf", CANARY))
    refused(1, "No such file", cmif("run", "-m", f"{WORK}/none.gguf", CANARY))
    refused(1, "'cmif pull nosuch'", cmif("run", "-m", "nosuch", CANARY))
    refused(1, "no client.gguf", cmif("run", "-m", WORK, CANARY))
    done = cmif("run", "-q", "-m", f"{WORK}/strange.gguf", CANARY)
    refused(1, "llamx", done)
    refused(1, "use 'cmif run' or 'cmif chat'", cmif("classify", "-m", STORIES, CANARY))
    refused(1, "no chat|chat template", cmif("chat", "-m", STORIES, text=CANARY))
    refused(1, "classify", cmif("run", "-m", SST2, CANARY))


@promise
def a_full_disk_leaves_no_half_of_a_split():
    env = {**ENV, "XDG_CACHE_HOME": f"{WORK}/full"}
    done = cmif("run", "-q", "-m", STORIES, CANARY, env=env,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000)))
    assert done.returncode == 1 and done.err.startswith("cmif: ") and CANARY not in done.err, done.err
    left = [name for _, _, names in os.walk(f"{WORK}/full") for name in names if not name.endswith(".lock")]
    assert left == [], left
    assert cmif("run", "-q", "-m", STORIES, "-n", "3", "Once", env=env).returncode == 0


@promise
def two_at_once_split_once():
    env = {**ENV, "XDG_CACHE_HOME": f"{WORK}/twice"}
    both = [subprocess.Popen([CMIF, "run", *NO_POLICY, "-m", SST2, "--threads", "1", "Once"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert all(b"encoder" in text for text in said), said  # both came as far as the server
    assert sum(b"splitting" in text for text in said) == 1, said


@promise
def bench_prints_ratios():
    result = json.loads(cmif("bench", "split", "--json", "--threads", "1", "-m", STORIES, "--runs", "2", "--prompt", "16", "-n", "8").out)
    assert result["first_token_ms"]["ratio"] > 0 and result["token_ms"]["ratio"] > 0, result
    assert [row["streams"] for row in result["throughput"]] == [1, 4, 16], result
    assert 16 * 64 * 4 < result["sent_bytes"] < 18 * 64 * 4 + 1000, result
    assert 0 < result["trusted_memory_bytes"] < 50e6, result


@promise
def a_prompt_longer_than_the_context_is_refused_with_both_numbers():
    refused(1, r"has \d+ tokens, the context holds 16: .*--context",
            cmif("run", "-m", STORIES, "--context", "16", CANARY + " and so on" * 9))


# ---- servers ----

class Running:
    """A cmif-server of our own."""

    def __init__(self, model, *args):
        self.process = subprocess.Popen([SERVER, "-m", model, "--json", "--threads", "1", *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV)
        self.ready = json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def half(model, name):
    folder = f"{WORK}/{name}"
    if not os.path.exists(f"{folder}/server.gguf"):
        done = cmif("split", model, "-o", folder)
        assert done.returncode == 0, done.err
    return folder


@promise
def a_running_server_is_used_over_tls_and_a_wrong_one_is_refused():
    stories, sst2 = half(STORIES, "stories"), half(SST2, "sst2")
    local = cmif("run", "-q", "-m", STORIES, "-n", "20", "Once").out
    with Running(f"{stories}/server.gguf", "--listen", "127.0.0.1:17491", "--listen", f"unix:{WORK}/s.sock") as server:
        where = ("-m", stories, "--server", "127.0.0.1:17491")
        pin = server.ready["pin"]
        assert cmif("run", "-q", "-n", "20", *where, "--pin", pin, "Once").out == local
        assert cmif("doctor", *where, "--pin", "sha256:" + pin[7:].upper()).returncode == 0, "capital digits are digits"
        assert cmif("run", "-q", "-n", "20", "-m", f"{stories}/client.gguf", "--server", f"unix:{WORK}/s.sock", "Once").out == local
        refused(1, "pin|certificate", cmif("run", *where, "--pin", "sha256:" + "0" * 64, CANARY))
        refused(1, "another model", cmif("classify", "-m", sst2, "--server", f"unix:{WORK}/s.sock", CANARY))
        done = cmif("doctor", "--json", *where, "--pin", pin)
        report = json.loads(done.out)
        assert done.returncode == 0 and report["ok"], report
        assert any(c["check"] == "round trip" and "ms" in c["found"] for c in report["checks"]), report
        assert cmif("doctor", *where, "--pin", "sha256:" + "0" * 64).returncode == 1
    refused(1, "cannot connect|is cmif-server running", cmif("run", *where, "--pin", pin, CANARY))
    refused(1, "cannot connect|is cmif-server running", cmif("run", "-m", stories, "--server", f"unix:{WORK}/none.sock", CANARY))
    refused(1, "server's half", cmif("run", "-m", f"{stories}/server.gguf", CANARY))


@promise
def the_doctor_finds_nothing_wrong_here():
    done = cmif("doctor", "-m", STORIES)
    assert done.returncode == 0 and "fail" not in done.out and "round trip" in done.out, done.out
    assert cmif("doctor", "-m", f"{WORK}/text.gguf").returncode == 1


# ---- signals ----

def waiting():
    """A cmif that has answered a first text, and waits for the next line of its stdin."""
    process = subprocess.Popen([CMIF, "classify", *NO_POLICY, "-q", "-m", SST2, "--threads", "1"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    process.stdin.write(CANARY.encode() + b"\n")
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 30)[0] and b"positive" in process.stdout.readline()
    assert len(servers()) >= 2, servers()  # the server and its engine
    return process


def interrupted(what):
    """A run of many tokens, to whom `what` was done after its first bytes. The model is small: it may win the race."""
    for _ in range(9):
        process = subprocess.Popen([CMIF, "run", *NO_POLICY, "-m", STORIES, "--threads", "1", "--no-loop", "-n", "500", "--raw", CANARY],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
        assert select.select([process.stdout], [], [], 30)[0] and os.read(process.stdout.fileno(), 1)
        command = open(f"/proc/{process.pid}/cmdline", "rb").read()
        assert CANARY.encode() not in command, "ps can still see the prompt"
        what(process)
        out = b"" if process.stdout.closed else process.stdout.read()
        err = process.stderr.read()
        code = process.wait(timeout=20)
        process.stdout.close()
        process.stderr.close()
        assert CANARY.encode() not in err, err
        if code != 0:
            break
    assert within(5, lambda: not servers()), servers()
    return code, out, err


@promise
def a_killed_cmif_takes_its_server_with_it_and_the_next_one_tidies_up():
    process = waiting()
    process.kill()
    process.communicate()
    assert within(5, lambda: not servers()), servers()
    left = [f"{WORK}/run/{name}" for name in os.listdir(f"{WORK}/run")]
    assert len(left) == 1, left
    os.utime(left[0], (0, 0))
    assert cmif("run", "-q", "-m", STORIES, "-n", "1", "Once").returncode == 0
    assert os.listdir(f"{WORK}/run") == []


@promise
def ctrl_c_ends_with_130_and_what_was_written_stays():
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        code, out, err = interrupted(lambda process: process.send_signal(number))
        assert code == exit_code and out.endswith(b"\n"), (code, out, err)
        process = waiting()
        process.send_signal(number)
        assert process.communicate()[1] == b"" and process.returncode == exit_code, process.returncode
    assert os.listdir(f"{WORK}/run") == []


@promise
def a_killed_server_is_one_sentence():
    process = waiting()
    for pid in servers():
        if b"cmif-server" in open(f"/proc/{pid}/cmdline", "rb").read():
            os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(CANARY.encode() + b"\n", timeout=20)
    assert process.returncode == 1 and out == b"" and err.startswith(b"cmif: ") and err.strip().count(b"\n") == 0, err
    assert CANARY.encode() not in err, err
    assert within(5, lambda: not servers()), servers()


@promise
def a_closed_pipe_ends_it():
    code, _, err = interrupted(lambda process: process.stdout.close())
    assert code == 1 and b"pipe closed" in err, (code, err)


# ---- terminals ----

def on_terminal(args, steps, env=ENV):
    """Run on a terminal; each step waits for a text, then types. Returns all it showed, and the exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CMIF, [CMIF, *args], env)
    shown, seen = b"", 0
    end = time.monotonic() + 60

    def pump(until, again=b""):
        """Read until the text comes, after what earlier steps waited for; None: until it ends. again: typed once more after
        ten seconds, as a person does: a terminal drops what comes while a program is about to change its mode."""
        nonlocal shown, seen
        late = time.monotonic() + 10
        while until is None or until not in shown[seen:]:
            if again and time.monotonic() > late:
                os.write(fd, again)
                again = b""
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"waited for {until!r}, it showed {shown!r}")
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    more = os.read(fd, 4096)
                except OSError:
                    return
                if not more:
                    return
                shown += more
        seen = shown.index(until, seen) + len(until)

    keys = b""
    for until, keys in steps:
        pump(until)
        os.write(fd, keys)
    pump(None, keys)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    return shown.decode(errors="replace"), code


@promise
def colours_are_for_terminals_that_want_them():
    args = ["run", *NO_POLICY, "--threads", "1", "-m", STORIES, "-n", "5", "Once"]
    assert "\033[2m" in on_terminal(args, [])[0]
    assert "\033[2m" not in on_terminal(args, [], {**ENV, "NO_COLOR": "1"})[0]
    assert "\033" not in on_terminal(args, [], {**ENV, "TERM": "dumb"})[0]


@promise
def help_fits_a_screen():
    for args in ([], ["run"], ["chat"], ["classify"], ["embed"], ["doctor"], ["split"], ["inspect"], ["bench", "split"]):
        done = cmif(*args, "--help")
        lines = done.out.splitlines()
        assert done.returncode == 0 and 3 < len(lines) <= 24, (args, len(lines))
        assert args in (["split"], ["inspect"]) or max(map(len, lines)) <= 80, (args, max(lines, key=len))


CHAT = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif", "models", "smollm2.gguf")
if os.path.exists(CHAT):
    @promise
    def a_chat_remembers_what_was_said():
        done = cmif("chat", "--json", "-m", CHAT, "-n", "24", text="My name is Anna.\nWhat is my name?\n/reset\n/quit\nnever sent\n")
        first, second = map(json.loads, done.out.splitlines())
        assert first["text"] and second["text"] and done.err == "", done.err
        assert second["left_the_machine"]["reused_rows"] >= first["left_the_machine"]["prompt_rows"], second

    @promise
    def ctrl_c_stops_an_answer_and_the_chat_goes_on():
        shown, code = on_terminal(
            ["chat", *NO_POLICY, "-m", CHAT, "--threads", "1", "-n", "400"],
            [(b"> ", "Tell me a long story about a gl\u00fccklich whale.\n".encode()), (b"\r\n", b""), (b" the ", b"\x03"),
             (b"stopped", b""), (b"> ", b"half a line"), (b"half a line", b"\x03"), (b"> ", b"/help\n"), (b"/reset", b""), (b"> ", b"\x04")])
        assert code == 0 and "stopped" in shown and "sanitizer" in shown, shown
else:
    print(f"not run: two promises about chat, for lack of {CHAT} ('cmif pull smollm2')")

assert not within(0, lambda: bool(servers())), servers()
end()
