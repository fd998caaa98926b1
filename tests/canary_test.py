#!/usr/bin/env python3
"""canary_test: a prompt full of canaries through every command that reads a person's text, and then the search
for them: output, files, command lines and environments, core files, the wire, and the memory of what still runs or just ended. See rig.py.

The policy `words` is used with a table of our own whose words have epsilon 1, so that budgets can refuse. What it lets out (the
account says what left) is no leak; everything else is, wherever it is found. Memory needs root: the programs are not dumpable."""

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time

import rig
from rig import BUILD, CMIF, SERVER, WORK, end, promise, within
from uplink import Tap, vocabulary

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif")
MODEL = f"{CACHE}/models/smollm2.gguf"
LISTS = next((path for path in (f"{BUILD}/tests/lists.gguf", f"{CACHE}/lists.gguf") if os.path.exists(path)), None)

if not os.path.exists(MODEL):
    rig.skip(f"no {MODEL} ('cmif pull smollm2')")
if not LISTS:
    rig.skip("no lists of names here ('cmif setup')")

for name in ("home", "cache/cmif", "tmp", "data", "state", "config", "here"):
    os.makedirs(f"{WORK}/{name}", 0o700)
os.symlink(os.path.abspath(LISTS), f"{WORK}/cache/cmif/lists.gguf")
ENV = {"PATH": os.environ["PATH"], "HOME": f"{WORK}/home", "TMPDIR": f"{WORK}/tmp", "TERM": "xterm", "LANG": "C.UTF-8",
       **{f"XDG_{name.upper()}{rest}": f"{WORK}/{name}" for name, rest in
          (("cache", "_HOME"), ("data", "_HOME"), ("state", "_HOME"), ("config", "_HOME"), ("run", "TIME_DIR"))}}
ENV["XDG_RUNTIME_DIR"] = ENV.pop("XDG_RUNTIME_DIR", f"{WORK}/run")

CANARIES = {  # kind: the forms that are searched
    "given name": ["Ottoline"],
    "family name": ["Quarrington"],
    "email": ["zephyrine-mail", "ottoline.quarrington"],
    "card": ["4539 1488 0343 6467", "4539148803436467"],
    "unknown word": ["zorbleflux"],
    "topic word": ["leukemia"],
    "plain word": ["umbrella"],
}
PROMPT = ("My name is Ottoline Quarrington, write to ottoline.quarrington@zephyrine-mail.com. My card is 4539 1488 0343 6467. "
          "I have leukemia, a zorbleflux and an umbrella. Say hello to Ottoline Quarrington in one sentence.")
NEUTRAL = ("My name is Marmaduke Hollingberry, write to marmaduke.hollingberry@tamarisk-post.com. My card is 4012 8888 8888 1881. "
           "I have asthma, a quorbicle and a lantern. Say hello to Marmaduke Hollingberry in one sentence.")

# ---- searching ----

def forms(kind):
    """Each canary as it was written, folded, in capitals; as bytes, and as wide characters of a line editor."""
    for text in CANARIES[kind]:
        for form in {text, text.lower(), text.upper()}:
            yield form.encode()
            yield form.encode("utf-16-le")
            yield form.encode("utf-32-le")


def kinds_in(data):
    return {kind for kind in CANARIES if any(form in data for form in forms(kind))}


def hidden(left):
    """The kinds that the policy replaced: not in what left."""
    return set(CANARIES) - kinds_in(left.encode() if isinstance(left, str) else left)


def nothing_in(data, what, kinds):
    found = kinds_in(data) & kinds
    assert not found, f"{', '.join(sorted(found))} in {what}"


def nothing_in_files(kinds):
    count = 0
    for folder, _, names in os.walk(WORK):
        for name in names:
            path = f"{folder}/{name}"
            if os.path.isfile(path) and not os.path.islink(path) and not path.startswith(PUBLIC):
                nothing_in(open(path, "rb").read(), path.removeprefix(WORK), kinds)
                nothing_in(name.encode(), "a file's name", kinds)
                count += 1
    return count


def nothing_in_processes():
    """Command lines and environments of all processes."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for what in ("cmdline", "environ", "comm"):
            try:
                data = open(f"/proc/{pid}/{what}", "rb").read()
            except OSError:
                continue
            nothing_in(data, f"{what} of process {pid}", set(CANARIES) - {"plain word", "topic word"})


def memory(pid):
    """Readable memory of a process that could hold something of ours: (name, bytes). Files that are only read are public."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, access, _, _, inode, *name = line.split(maxsplit=5)
            name = name[0].strip() if name else "anonymous"
            if access[0] != "r" or name.startswith("[v") or (inode != "0" and access[1] != "w"):
                continue
            begin, end = (int(x, 16) for x in span.split("-"))
            try:
                mem.seek(begin)
                yield f"{name} {span} {access}", mem.read(end - begin)
            except (OSError, ValueError, OverflowError):
                pass


def counts(pid):
    """By kind: how often, and where first."""
    found, size = {kind: [0, []] for kind in CANARIES}, 0
    for name, data in memory(pid):
        size += len(data)
        for kind in CANARIES:
            for form in forms(kind):
                at = data.find(form)
                while at >= 0:
                    found[kind][0] += 1
                    if len(found[kind][1]) < 4:
                        around = data[max(0, at - 24):at + len(form) + 24]
                        found[kind][1].append(f"{name}+{at:#x} {around!r}")
                    at = data.find(form, at + 1)
    assert size > 100000, f"only {size} bytes of process {pid} could be read"
    return found, size


def children(pid):
    """Of a process, and theirs."""
    try:
        direct = [int(c) for c in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []
    return direct + [c for d in direct for c in children(d)]


def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "gone"


# ---- running ----

def start(*args, env=ENV, **more):
    return subprocess.Popen([CMIF, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                            cwd=f"{WORK}/here", **more)


def cmif(*args, text="", **more):
    process = start(*args, **more)
    out, err = process.communicate(text.encode(), timeout=300)
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def held(*args, text="", **more):
    """Run it, and stop it when main() has returned: (process, what it wrote). Ends with let_go."""
    process = start(*args, env={**ENV, "LD_PRELOAD": HOLD}, **more)
    process.stdin.write(text.encode())
    process.stdin.close()
    written = {}
    readers = [threading.Thread(target=lambda s=stream, k=key: written.__setitem__(k, s.read())) for key, stream in (("out", process.stdout), ("err", process.stderr))]
    for reader in readers:
        reader.start()
    assert within(300, lambda: state(process.pid) in ("T", "Z", "gone")) and state(process.pid) == "T", f"it did not stop at its end: {state(process.pid)}"
    return process, readers, written


def let_go(process, readers, written):
    os.kill(process.pid, signal.SIGCONT)
    for reader in readers:
        reader.join(20)
    process.wait(20)
    return process.returncode, written.get("out", b"").decode(errors="replace"), written.get("err", b"").decode(errors="replace")


class Terminal:
    """A command on a terminal."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(f"{WORK}/here")
            os.execve(CMIF, [CMIF, *args], ENV)
        self.shown, self.seen = b"", 0

    def wait(self, text, seconds=300):
        end = time.monotonic() + seconds
        while text not in self.shown[self.seen:]:
            assert time.monotonic() < end, f"waited for {text!r}, it showed {self.shown[self.seen:]!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError(f"it ended before it showed {text!r}; it showed {self.shown[self.seen:]!r}") from None
        self.seen = self.shown.index(text, self.seen) + len(text)

    def type(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def end(self):
        self.type(b"\x04")
        end = time.monotonic() + 20
        while time.monotonic() < end and state(self.pid) not in ("Z", "gone"):
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.fd, 65536)
                except OSError:
                    break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


# ---- a table, a server, and what holds a program at its end ----

def prepare():
    good = lambda *args: (lambda done: print(done[2]) or sys.exit(1) if done[0] else None)(cmif(*args))
    content = "leukemia asthma cancer tumor fever hospital doctor umbrella lantern candle basket bottle ladder carpet sentence letter paragraph story".split()
    content += "name card hello mail write say told asked called answer question weather garden window kitchen morning evening".split()
    with open(f"{WORK}/words.txt", "w") as words, open(f"{WORK}/vectors.txt", "w") as vectors:
        for rank, word in enumerate(content):
            words.write(f"{word}\t{10000 // (rank + 3)}\n")
            vectors.write(word + "".join(f" {((rank * 7919 + k * 104729) % 997) / 997 - 0.5:.4f}" for k in range(12)) + "\n")
    good("lexicon", "build", "--from", f"{WORK}/words.txt", "-o", f"{WORK}/lexicon.gguf")
    good("channel", "build", "-o", f"{WORK}/cache/cmif/channel.cmifch", "-l", f"{WORK}/lexicon.gguf", "--vectors", f"{WORK}/vectors.txt",
         "--mechanism", "krr", "-e", "1", "-k", "16")
    good("split", MODEL, "-o", f"{WORK}/half")
    with open(f"{WORK}/hold.c", "w") as file:
        file.write('#include <errno.h>\n#include <signal.h>\n#include <string.h>\nextern char *program_invocation_short_name;\n'
                   '__attribute__((destructor)) static void hold(void)\n'
                   '{ if (!strcmp(program_invocation_short_name, "cmif")) raise(SIGSTOP); }\n')
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", HOLD, f"{WORK}/hold.c"], check=True)


HOLD = f"{WORK}/hold.so"
PUBLIC = (f"{WORK}/words.txt", f"{WORK}/vectors.txt", f"{WORK}/lexicon.gguf", f"{WORK}/half", f"{WORK}/hold", f"{WORK}/cache/cmif/channel.cmifch")
prepare()
VOCABULARY = vocabulary(f"{WORK}/half/client.gguf")
server = subprocess.Popen([SERVER, "-m", f"{WORK}/half/server.gguf", "--json", "--threads", "2", "--listen", f"unix:{WORK}/s.sock"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV, cwd=f"{WORK}/here")
json.loads(server.stdout.readline())
ROOT = os.geteuid() == 0

HALF = f"{WORK}/half"
LOCAL = ("-m", HALF, "--server", f"unix:{WORK}/s.sock", "--policy", "words")
ANSWER = (*LOCAL, "-n", "16")


def all_hidden(left):
    """All kinds but chance, that may draw a word for itself, and what really left."""
    kinds = hidden(left)
    assert kinds >= set(CANARIES) - {"topic word", "plain word"}, f"left as written: {set(CANARIES) - kinds}"
    return kinds


def left_of(err):
    """What left, from the account."""
    found = re.search(r"left +(.*?)\n\n", err, re.S)
    assert found, f"the account does not say what left: {err}"
    return found[1]


# ---- promises ----

@promise
def what_run_prints_is_what_left_and_the_answer():
    code, out, err = cmif("run", "--json", *ANSWER, text=PROMPT)
    assert code == 0, err
    kinds = all_hidden(json.loads(out)["released"])
    assert err == "", err
    code, _, err = cmif("run", *ANSWER, text=PROMPT)
    kinds = all_hidden(left_of(err))
    nothing_in(err.encode(), "the account", kinds)
    code, out, _ = cmif("sanitize", "--policy", "words", text=PROMPT)
    assert code == 0 and all_hidden(out)
    code, out, err = cmif("sanitize", "--policy", "words", PROMPT)
    nothing_in(err.encode(), "stderr of sanitize", all_hidden(out))
    for args in (("budget", "show"), ("budget", "history"), ("budget", "history", "--json"), ("audit", f"{WORK}/data/cmif/receipts"),
                 ("audit", "--json", f"{WORK}/data/cmif/receipts"), ("doctor", "-m", HALF, "--server", f"unix:{WORK}/s.sock")):
        code, out, err = cmif(*args)
        assert code == 0, (args, out, err)
        nothing_in((out + err).encode(), " ".join(args[:2]), set(CANARIES))


class Mute(Tap):
    """Nothing comes back from the server once rows were sent."""

    def pump(self, source, target, record):
        while data := source.recv(65536):
            if record is not None:
                record += data
            if record is not None or len(self.sent) < 2000:
                target.sendall(data)


@promise
def what_left_has_a_receipt_also_when_nothing_came_back():
    book = f"{WORK}/data/cmif/receipts/receipts.jsonl"
    count = lambda: open(book).read().count("\n") if os.path.exists(book) else 0
    before, tap = count(), Mute(f"{WORK}/mute", f"{WORK}/s.sock")
    process = start("run", "-m", HALF, "--server", f"unix:{WORK}/mute", "--policy", "words", PROMPT)
    assert within(60, lambda: len(tap.sent) > 5000), "no rows were sent"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130, process.returncode
    assert count() == before + 1, f"{count() - before} receipts"
    process = start("run", *LOCAL, "-n", "2", PROMPT)
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=300)
    assert process.returncode == 1 and count() == before + 2, f"exit {process.returncode}, {count() - before} receipts"
    code, _, err = cmif("audit", f"{WORK}/data/cmif/receipts")
    assert code == 0, err


@promise
def what_fails_says_none_of_it():
    policy = f"{WORK}/refuse.policy"
    with open(policy, "w") as file:
        file.write("policy names\nclass email refuse\n")
    small = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    full = {**ENV, "XDG_DATA_HOME": f"{WORK}/full"}
    no_policy = (*LOCAL[:4], "-n", "4")
    for what, expected, args, text, more in (
            ("no room", r"tokens", ("run", "-m", HALF, "--policy", "words", "--context", "16", "-n", "4"), PROMPT, {}),
            ("refused class", r"refuses .*byte \d+", ("run", *no_policy, "--policy", policy), PROMPT, {}),
            ("refused class, sanitize", r"refuses .*byte \d+", ("sanitize", "--policy", policy), PROMPT, {}),
            ("no UTF-8", r"UTF-8", ("run", *ANSWER), PROMPT + "\udcff", {}),
            ("no server", r"connect", ("run", *LOCAL[:2], "--server", f"unix:{WORK}/none", "--policy", "words"), PROMPT, {}),
            ("no model", r"", ("run", "-m", f"{WORK}/none.gguf", "--policy", "words"), PROMPT, {}),
            ("no such option", r"", ("run", *ANSWER, "--nosuch", PROMPT), "", {}),
            ("text as an option", r"", ("run", *ANSWER, "--" + PROMPT), "", {}),
            ("two texts", r"", ("run", *ANSWER, PROMPT, PROMPT), "", {}),
            ("full disk", r"disk is full|File too large|No space|cannot", ("run", *ANSWER), PROMPT, {"env": full, "preexec_fn": small}),
            ("full disk, sanitize", r"disk is full|File too large|No space|cannot", ("sanitize", "--policy", "words"), PROMPT, {"env": full, "preexec_fn": small})):
        process = start(*args, **more)
        out, err = process.communicate(text.encode(errors="surrogateescape"), timeout=300)
        assert process.returncode not in (0, -signal.SIGSEGV), f"{what}: exit {process.returncode}"
        assert re.search(expected, err.decode(errors="replace")), f"{what}: {err!r}"
        # where a text was released before it failed, the account may have shown what left
        left = re.search(rb"left +(.*?)\n\n", err, re.S)
        nothing_in(out + err, what, all_hidden(left[1]) if left else set(CANARIES))
    code, _, err = cmif("budget", "set", "--request", "0.5")
    assert code == 0, err
    try:
        for args in (("run", *ANSWER), ("sanitize", "--policy", "words")):
            code, out, err = cmif(*args, text=PROMPT)
            assert code != 0 and "budget" in err, (code, err)
            nothing_in((out + err).encode(), "a refused budget", set(CANARIES))
    finally:
        assert cmif("budget", "set", "--request", "none")[0] == 0


@promise
def a_killed_server_and_a_signal_say_none_of_it():
    for what in ("server", signal.SIGINT, signal.SIGTERM):
        process = start("run", "-m", HALF, "--policy", "words", "-n", "400", "--threads", "1")
        process.stdin.write(PROMPT.encode())
        process.stdin.close()
        assert select.select([process.stdout], [], [], 60)[0] and os.read(process.stdout.fileno(), 1)
        nothing_in_processes()
        if what == "server":
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(what)
        process.stdout.read()
        err = process.stderr.read().decode()
        process.wait(60)
        nothing_in(err.encode(), f"stderr after {what}", all_hidden(left_of(err)))
        assert process.returncode != 0 or "cmif" in err or what != "server", (process.returncode, err)


@promise
def no_command_line_shows_it_once_the_program_runs():
    process = start("run", "-m", HALF, "--policy", "words", "-n", "400", "--threads", "1", PROMPT)
    process.stdin.close()
    assert select.select([process.stdout], [], [], 60)[0] and os.read(process.stdout.fileno(), 1)
    nothing_in_processes()
    process.send_signal(signal.SIGINT)
    process.stdout.read(), process.stderr.read()
    process.wait(20)


@promise
def a_crash_leaves_no_core_file():
    pattern = open("/proc/sys/kernel/core_pattern").read().strip()
    unlimited = lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    here = f"{WORK}/here"
    control = subprocess.run(["sh", "-c", "kill -SEGV $$"], preexec_fn=unlimited, cwd=here, env=ENV)
    written = os.listdir(here)
    for name in written:
        os.unlink(f"{here}/{name}")
    process = start("run", "-m", HALF, "--policy", "words", "-n", "400", "--threads", "1", preexec_fn=unlimited)
    process.stdin.write(PROMPT.encode())
    process.stdin.close()
    assert select.select([process.stdout], [], [], 60)[0] and os.read(process.stdout.fileno(), 1)
    family = [process.pid, *children(process.pid)]
    limits = [re.search(r"Max core file size +(\w+)", open(f"/proc/{pid}/limits").read())[1] for pid in family]
    for pid in family:
        os.kill(pid, signal.SIGSEGV)
    process.stdout.read(), process.stderr.read()
    assert process.wait(20) == -signal.SIGSEGV, process.returncode
    time.sleep(0.2)
    assert os.listdir(here) == [], f"core files: {os.listdir(here)}"
    assert len(family) >= 3 and set(limits) == {"0"}, limits
    assert control.returncode == -signal.SIGSEGV
    return f" (a shell's crash here leaves {len(written)} under the pattern '{pattern}')"


@promise
def the_wire_has_what_the_account_says_and_no_more():
    tap = Tap(f"{WORK}/tap", f"{WORK}/s.sock")
    where = ("-m", HALF, "--server", f"unix:{WORK}/tap", "--policy", "words", "--rows", "ids", "-n", "16")
    code, out, err = cmif("run", "--json", *where, text=PROMPT)
    assert code == 0, err
    released, left = json.loads(out)["released"], tap.text(VOCABULARY)
    assert released.encode() in left, f"the wire had {left!r}, the account says {released!r}"
    nothing_in(bytes(tap.sent) + left, "the wire", all_hidden(released))
    del tap.sent[:]
    turns = [PROMPT, "What is my name?", "Write that to ottoline.quarrington@zephyrine-mail.com again, with my zorbleflux."]
    code, out, err = cmif("chat", "--json", *where, text="\n".join(turns) + "\n")
    assert code == 0 and len(out.splitlines()) == 3, err
    left = tap.text(VOCABULARY)
    kinds = set(CANARIES) - {"topic word", "plain word"}
    nothing_in(bytes(tap.sent) + left, "the wire of a chat", kinds)
    assert b"What" in left and len(left) > 200, left
    where = (*where[:-4], "-n", "4")
    del tap.sent[:]
    code, _, err = cmif("run", *where, text=PROMPT)
    assert code == 0, err
    nothing_in(bytes(tap.sent), "rows", set(CANARIES))
    del tap.sent[:]
    assert cmif("run", "--policy", "none", "--rows", "ids", *[a for a in where if a not in ("--policy", "words")], text=PROMPT)[0] == 0
    assert kinds_in(tap.text(VOCABULARY)) == set(CANARIES), "the search finds what there is"
    return f" ({len(left)} bytes of text in three turns)"


def image_after(*args, text, kinds):
    """The image of a command whose main() has returned."""
    process, *rest = held(*args, text=text)
    try:
        found, size = counts(process.pid)
    finally:
        code, out, err = let_go(process, *rest)
    if isinstance(kinds, str):
        kinds = all_hidden(json.loads(out)["released"] if kinds == "json" else out if kinds == "out" else left_of(err))
    return code, err, {kind: found[kind] for kind in kinds if found[kind][0]}, size


if ROOT:
    @promise
    def the_image_of_an_ended_program_has_none_of_it():
        said, sizes = [], 0
        public = {"topic word", "plain word"}  # words of the lists and the table stand in every image: compared with one that never saw them
        for what, kinds, args in (("run", "err", ("run", *ANSWER)), ("run --json", "json", ("run", "--json", *ANSWER)),
                                  ("sanitize", "out", ("sanitize", "--policy", "words")), ("sanitize --explain", "out", ("sanitize", "--explain", "--policy", "words")),
                                  ("run, no room", set(CANARIES), ("run", "-m", HALF, "--policy", "words", "--context", "16", "-n", "4")),
                                  ("run --policy names", "err", ("run", *LOCAL[:4], "-n", "16", "--policy", "names")),
                                  ("chat", set(CANARIES), ("chat", *ANSWER))):
            _, err, base, _ = image_after(*args, text=NEUTRAL, kinds=set(CANARIES))
            code, err, found, size = image_after(*args, text=PROMPT, kinds=kinds)
            assert code == (what == "run, no room"), (what, code, err)
            sizes += size
            for kind, (count, places) in found.items():
                if kind not in public or count > base.get(kind, [0])[0]:
                    said.append(f"{what}: {kind} {count} times ({base.get(kind, [0])[0]} without), at {', '.join(places)}")
        assert not said, "\n       ".join(["", *said])
        return f" ({sizes >> 20} MiB searched)"

    @promise
    def a_chat_that_was_reset_has_forgotten():
        def forgotten(first, stop):
            chat = Terminal("chat", *LOCAL, "-n", "400" if stop else "16")
            chat.wait(b"> ")
            for line in (first, "And say it to " + " ".join(first.split()[3:5]) + " again."):
                chat.type(line + "\n")
                if stop:
                    chat.wait(b"\r\n\r\n")  # behind what left
                    time.sleep(1)
                    chat.type(b"\x03")
                chat.wait(b"rows sent")
                chat.wait(b"> ")
            in_talk = counts(chat.pid)[0]
            nothing_in_processes()
            chat.type("/reset\n")
            chat.wait(b"forgotten")
            chat.wait(b"> ")
            found, size = counts(chat.pid)
            assert chat.end() == 0, chat.shown
            return in_talk, found, size

        hidden_always = set(CANARIES) - {"topic word", "plain word"}
        base = forgotten(NEUTRAL, False)[1]
        for stop in (False, True):
            in_talk, found, size = forgotten(PROMPT, stop)
            assert in_talk["family name"][0] > 0, "the search finds the vault of a conversation"
            said = [f"{kind} {count} times ({base[kind][0]} without), at {', '.join(places)}" for kind, (count, places) in found.items()
                    if kind in hidden_always and count > base[kind][0]]
            assert not said, "\n       ".join([f"after {'Ctrl-C' if stop else 'two turns'}:", *said])
        for pid in (server.pid, *children(server.pid)):  # which never had it
            for name, data in memory(pid):
                found = {kind for kind in hidden_always for text in CANARIES[kind] if any(form in data for form in (text.encode(), text.lower().encode()))}
                assert not found, f"{', '.join(sorted(found))} in memory of the server's process {pid}, {name}"
        return f" ({size >> 20} MiB searched; {in_talk['family name'][0]} times the family name before /reset)"
else:
    print("not run: two promises about memory, which only root may read")


@promise
def the_searches_find_what_there_is():
    with open(f"{WORK}/here/leak", "w") as file:
        file.write("x" * 100 + "QUARRINGTON")
    leak = subprocess.Popen(["sleep", "60"], env={"A": "ottoline.quarrington"})
    for search in (nothing_in_processes, lambda: nothing_in_files(set(CANARIES))):
        try:
            assert within(5, lambda: state(leak.pid) == "S")
            search()
        except AssertionError as error:
            assert " in " in str(error), error
        else:
            raise AssertionError("a leak of our own was not found")
    leak.kill()
    leak.wait()
    os.unlink(f"{WORK}/here/leak")


@promise
def no_file_has_it():
    count = nothing_in_files(set(CANARIES))
    assert count > 3, count
    names = sorted(os.path.relpath(f"{folder}/{name}", WORK) for folder, _, files in os.walk(WORK) for name in files if "cmif/" in f"{folder}/{name}")
    assert any("ledger.db" in name for name in names) and any("receipts" in name for name in names), names
    return f" ({count} files searched)"


server.kill()
server.wait()
end()
