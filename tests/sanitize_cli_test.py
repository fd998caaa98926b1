#!/usr/bin/env python3
"""sanitize_cli_test: `cmif sanitize`, `policy`, `budget` and `audit` as a person meets them, in a small public world of their own.
See rig.py.

A canary is in every text that is refused or released, and must not leave, nor be in any message, ledger or receipt."""

import ctypes
import errno
import json
import os
import pty
import random
import re
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import time

from rig import CANARY, CMIF, ENV, WORK, cmif, end, good, promise, refused, write


def fresh(name, **more):
    """An environment with books of its own."""
    return {**ENV, "XDG_DATA_HOME": f"{WORK}/{name}", **more}


def entries(env=ENV):
    return json.loads(good("budget", "history", "--json", env=env).out)["entries"]


# ---- a small public world: words with topics, names, a channel between the words ----

HEALTH, MONEY, PASSES, EVEN_CAPITAL = 1, 2, 1 << 16, 1 << 17
STOP = "the a is was not this of and it my to in on with for i you we please about has have your his her from at by".split()
ILL = "diabetes cancer asthma hospital nurse doctor".split()
BANK = "loan debt bank money".split()
PLAIN = "film movie good great bad fine letter house river book table chair window garden walk apples bread water write call meet dear street".split()
GIVEN_F, GIVEN_M = "anna maria susan helen clara nora julia emma laura ruth alice irene".split(), "john peter mark paul henry oscar felix hugo simon victor martin albert".split()
FAMILY = "lopez baker berg miller hansen keller novak rossi schmidt weber jansen olsen larsen moreau dubois silva costa murphy walsh kowalski".split()
PLACE = {"oslo": 2, "berlin": 2, "lima": 2, "porto": 2, "cork": 2, "bern": 2, "gdansk": 2, "turin": 2, "ghent": 2, "norway": 1, "peru": 1, "ireland": 1, "poland": 1}


def put_lists(path):
    words = {w: PASSES for w in STOP} | {w: EVEN_CAPITAL for w in PLAIN} | {w: HEALTH | EVEN_CAPITAL for w in ILL} | {w: MONEY | EVEN_CAPITAL for w in BANK}
    lists = {"given": {w: 1 for w in GIVEN_F} | {w: 2 for w in GIVEN_M}, "family": {w: 1 for w in FAMILY}, "place": PLACE,
             "organisation": {"acme": 0, "globex": 0}, "person": {"ada lovelace": 0}, "word": words}

    def string(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    pairs = [string("general.architecture") + struct.pack("<I", 8) + string("cmif-lists"), string("cmif.lists.version") + struct.pack("<II", 4, 1)]
    for name, entries in lists.items():
        keys = sorted(entries, key=str.encode)
        pairs.append(string(f"cmif.lists.{name}") + struct.pack("<IIQ", 9, 8, len(keys)) + b"".join(map(string, keys)))
        pairs.append(string(f"cmif.lists.{name}.flags") + struct.pack("<IIQ", 9, 4, len(keys)) + b"".join(struct.pack("<I", entries[k]) for k in keys))
    with open(path, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))


def make_world():
    random.seed(7)
    words = STOP + PLAIN + ILL + BANK
    write("words.txt", "".join(f"{w}\t{1000000 // (rank + 3)}\n" for rank, w in enumerate(words)))
    write("vectors.txt", "".join(w + "".join(f" {random.gauss(0, 1):.4f}" for _ in range(8)) + "\n" for w in words))
    os.makedirs(f"{WORK}/cache/cmif")
    put_lists(f"{WORK}/cache/cmif/lists.gguf")
    good("lexicon", "build", "--from", f"{WORK}/words.txt", "-o", f"{WORK}/lexicon.gguf")
    good("channel", "build", "-l", f"{WORK}/lexicon.gguf", "--vectors", f"{WORK}/vectors.txt", "--mechanism", "rnm", "-k", "8",
         "-o", f"{WORK}/cache/cmif/channel.cmifch")


make_world()
EPSILON = json.loads(good("channel", "check", f"{WORK}/cache/cmif/channel.cmifch", "--json").out)["certified_epsilon"]
LETTER = f"Dear Maria Lopez,\n\nthe {CANARY} from Oslo has diabetes.\r\n\tPlease write to anna.berg@mail.com, my loan is 1,234.50 EUR.\n\nMs Lopez has a house.\n\n"


# ---- sanitize ----

@promise
def stdout_is_the_released_text_and_nothing_else():
    done = good("sanitize", text=LETTER)
    out = done.out
    for hidden in ("Maria", "Lopez", CANARY, "Oslo", "anna", "berg", "mail.com", "1,234.50"):
        assert hidden not in out, f"{hidden} left: {out}"
    assert out.startswith("Dear ") and out.count("\n") == LETTER.count("\n") and out.endswith("a house.\n\n"), repr(out)
    assert ".\r\n\tPlease write to " in out, repr(out)
    assert CANARY not in done.err and "made up" in done.err and "guarantee" in done.err, done.err
    assert good("sanitize", "-q", text=LETTER).err == "", "--quiet says something"
    plain = " \n the  house is\tfine \r\n"
    for args, text in ((["-"], plain), ([], plain), ([plain], "")):
        assert good("sanitize", "--policy", "names", *args, text=text).out == plain, "words that pass are not byte for byte"
    assert good("sanitize", "--policy", "names", text="").out == ""


@promise
def the_same_word_has_one_output_and_a_variant_the_same_person():
    out = good("sanitize", text=LETTER * 3).out
    assert out == out[:len(out) // 3] * 3, "three times the same letter did not become three times the same"
    first, second = re.search(r"Dear (\w+) (\w+),", out), re.search(r"Ms (\w+) has", out)
    assert first[2] == second[1], out


@promise
def a_map_brings_everything_back():
    env, path = fresh("mapped"), f"{WORK}/letter.map"
    done = good("sanitize", "--policy", "names", "--map", path, text=LETTER, env=env)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
    assert "holds the originals" in done.err and CANARY not in done.err and CANARY not in done.out, done.err
    back = good("sanitize", "--restore", path, text=done.out)
    assert back.out == LETTER, f"{back.out!r} is not what was written"
    assert re.search(r"restored +\d+", back.err) and CANARY not in back.err, back.err
    held = open(path, "rb").read()
    refused(1, "is there", cmif("sanitize", "--map", path, text=LETTER, env=env))
    assert open(path, "rb").read() == held and len(entries(env)) == 1, "a map was written over, or a refusal entered"
    refused(1, "cannot write beside", cmif("sanitize", "--map", f"{WORK}/no/such/folder.map", text=LETTER, env=env))
    assert not [name for name in os.listdir(WORK) if ".part" in name], os.listdir(WORK)
    report = json.loads(good("sanitize", "--restore", path, "--json", text=done.out).out)
    assert report["text"] == LETTER and report["restored"] >= 5 and report["left"] == 0, report


@promise
def an_answer_is_restored_while_it_is_written():
    path = f"{WORK}/stream.map"
    name = re.search(r"Dear (\w+)", good("sanitize", "--policy", "names", "--map", path, text="Dear Maria Lopez, please call").out)[1]
    process = subprocess.Popen([CMIF, "sanitize", "--restore", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    process.stdin.write(f"To {name}: the house is fine, the garden is fine. ".encode())
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 20)[0], "nothing came before the end"
    assert os.read(process.stdout.fileno(), 100).startswith(b"To Maria"), "another text came"
    process.stdin.close()
    assert process.wait(20) == 0


@promise
def answers_in_json_stay_json():
    path = f"{WORK}/json.map"
    text = f"Please meet Maria\nLopez and the {CANARY}\u017c\u00f3\u0142w in the garden; password: Kq\\x7Zp\\n"
    released = good("sanitize", "--policy", "names", "--map", path, text=text).out
    for ascii_only in (True, False):
        answer = json.dumps({"summary": f'"{released}"', "list": [released, 3]}, ensure_ascii=ascii_only)
        back = good("sanitize", "--restore", path, "--json-text", text=answer)
        assert json.loads(back.out) == {"summary": f'"{text}"', "list": [text, 3]}, back.out
    answer = json.dumps({"who": re.search(r"meet (\w+\s\w+)", released)[1].replace("\n", " ")})
    back = good("sanitize", "--restore", path, "--json-text", text=answer).out
    assert json.loads(back)["who"].split() == ["Maria", "Lopez"], back
    assert "Maria" in good("sanitize", "--restore", path, text=answer).out


@promise
def only_this_maps_surrogates_are_put_back():
    one, two = f"{WORK}/one.map", f"{WORK}/two.map"
    released = good("sanitize", "--policy", "names", "--map", one, text=f"Dear {CANARY}, call").out
    good("sanitize", "--policy", "names", "--map", two, text="Dear Maria, call")
    assert good("sanitize", "--restore", two, text=released).out == released, "restored from another map"
    for wrong in ("", "{}", "[1", '{"cmif-vault": 1}', f'{{"cmif-vault": 1, "shift": 0, "entries": [{{"class": "{CANARY}"}}]}}'):
        refused(1, "not a vault|map '", cmif("sanitize", "--restore", write("wrong.map", wrong), text=released))
    refused(1, "cannot open map", cmif("sanitize", "--restore", f"{WORK}/none.map", text=released))


@promise
def json_says_what_was_done_to_each_piece():
    env = fresh("json")
    done = good("sanitize", "--policy", "words", "--json", text=LETTER, env=env)
    report, original = json.loads(done.out), LETTER.encode()
    released = report["text"].encode()
    assert done.err == "" and CANARY not in done.out, done.err
    assert set(report) == {"text", "spans", "entered", "sanitizer"} and report["entered"] is True, set(report)
    counts, at, out_at = {}, 0, 0
    for span in report["spans"]:
        assert set(span) == {"from", "size", "out_from", "out_size", "class", "action"}, span
        assert span["from"] >= at and span["out_from"] >= out_at, f"out of order: {span}"
        gap, out_gap = original[at:span["from"]], released[out_at:span["out_from"]]
        assert gap == out_gap and not re.search(rb"\w", gap), f"between pieces is more than punctuation: {gap} {out_gap}"
        at, out_at = span["from"] + span["size"], span["out_from"] + span["out_size"]
        piece, out = original[span["from"]:at], released[span["out_from"]:out_at]
        assert (piece == out) if span["action"] == "pass" else (piece != out or span["action"] == "channel"), (piece, out, span)
        counts.setdefault(span["class"], {}).setdefault(span["action"], 0)
        counts[span["class"]][span["action"]] += 1
    assert original[at:] == released[out_at:]
    s = report["sanitizer"]
    assert s["classes"] == counts and counts["person"]["surrogate"] >= 2 and counts["topic"]["channel"] == 2, (s["classes"], counts)
    assert s["policy"] == "words" and s["surrogates"] == sum(c.get("surrogate", 0) for c in counts.values())
    assert s["drawn"] >= 5 and abs(s["epsilon"] - s["drawn"] * EPSILON) < 1e-5, (s["drawn"], s["epsilon"], EPSILON)
    for digest in (s["policy_sha256"], s["lists_sha256"], s["channel"]["table_sha256"]):
        assert re.fullmatch("[0-9a-f]{64}", digest), digest
    assert "certified epsilon" in s["guarantee"], s["guarantee"]
    (entry,) = entries(env)
    assert entry["draws"] == s["drawn"] and entry["surrogates"] == s["surrogates"] and entry["passed"] == s["passed"], (entry, s)


@promise
def explaining_is_beside_the_text_never_in_it():
    done = good("sanitize", "--explain", "--policy", "topics", text=f"my house\nMaria has diabetes, not {CANARY}\n")
    assert done.out.startswith("my house\n") and "[" not in done.out
    lines = done.err.splitlines()
    assert lines[0] == "  my house" and lines[1] == f"- [Maria] has {{diabetes}}, not [{CANARY}]", lines[:3]
    assert lines[2].startswith("+ [") and CANARY not in lines[2], lines[2]
    assert re.search(r"^person +.*names of people\n +\[Maria\] -> \[\w+\]$", done.err, re.M), done.err
    assert "{}: drawn from the channel" in done.err and "[]: made up" in done.err and "\033" not in done.err, done.err
    allowed = good("sanitize", "--explain", "--policy", write("allow.policy", 'policy topics\nallow "Maria"\n'), "Maria and Peter")
    assert "<Maria> and [Peter]" in allowed.err and "<>: as it is, by the policy" in allowed.err, allowed.err


@promise
def the_sentence_tells_what_a_file_lets_out():
    def sentence(text):
        return json.loads(good("policy", "show", "--json", write("sentence.policy", text)).out)["guarantee"]
    assert "otherwise" not in sentence("policy words\n") and "no sensitive topic" not in sentence("policy words\n")
    assert "type and shape (your file says otherwise of: 1 name that it allows);" in sentence('policy topics\nallow "Maria Lopez"\n')
    assert "(your file says otherwise of: time, person, and of 2 names that it allows);" in \
        sentence('policy topics\nclass person pass\nclass time pass\nallow "Anna"\nallow "Peter"\n')
    assert "; ordinary words that are of no sensitive topic leave through the channel, " in sentence("policy words\nclass topic pass\n")
    every = [c for c in json.loads(good("policy", "show", "names", "--json").out)["classes"] if c not in ("stop", "word", "topic", "count", "unknown")]
    long = sentence("policy words\nclass topic pass\n" + "".join(f"class {c} pass\n" for c in every) + "".join(f'allow "name{n}x"\n' for n in range(4096)))
    assert f"{every[-1]}, and of 4096 names that it allows);" in long and long.endswith("nothing is promised for it"), long


@promise
def a_dry_run_enters_and_releases_nothing():
    env = fresh("dry")
    done = good("sanitize", "--dry-run", text=f"Maria has {CANARY}", env=env)
    assert "do not send this" in done.err and CANARY not in done.err, done.err
    assert done.out.startswith(f"- [Maria] has [{CANARY}]\n+ ") and "as written" in done.out and "guarantee" in done.out, done.out
    report = json.loads(good("sanitize", "--dry-run", "--json", text="Maria has a house", env=env).out)
    assert report["text"] is None and report["entered"] is False and report["sanitizer"]["classes"]["person"] == {"surrogate": 1}
    assert not os.path.exists(f"{WORK}/dry"), "books were opened"
    refused(2, "nothing to map", cmif("sanitize", "--dry-run", "--map", f"{WORK}/dry.map", "x", env=env))


def on_terminal(args, env, text=b""):
    """stdin and stderr are a terminal, stdout is not; returns (stdout, terminal)."""
    master, slave = pty.openpty()
    process = subprocess.Popen([CMIF, *args], stdin=slave if not text else subprocess.PIPE, stdout=subprocess.PIPE, stderr=slave, env=env)
    os.close(slave)
    if text:
        process.stdin.write(text)
        process.stdin.close()
    seen = b""
    while True:
        try:
            more = os.read(master, 4096)
        except OSError as error:
            assert error.errno == errno.EIO
            more = b""
        if not more:
            break
        seen += more
    out = process.stdout.read()
    process.wait(20)
    os.close(master)
    return out.decode(), seen.decode(), process.returncode


@promise
def colours_are_for_terminals_that_want_them():
    args = ["sanitize", "--explain", "Maria has diabetes \033[31mred\033[0m"]
    out, seen, _ = on_terminal(args, ENV)
    assert "\033[32mMaria\033[0m" in seen and "\033[33mdiabetes" in seen and "green" in seen and "[Maria]" not in seen, seen
    assert "\033[31mred" not in seen, "the terminal obeyed the text"
    _, seen, _ = on_terminal(args, {**ENV, "NO_COLOR": "1"})
    assert "\033" not in seen and "[Maria]" in seen, seen
    _, seen, code = on_terminal(["sanitize"], ENV)
    assert code == 2 and "no text" in seen, (code, seen)


@promise
def help_fits_a_screen():
    for args in (["sanitize"], ["policy"], ["policy", "show"], ["policy", "check"], ["policy", "init"], ["budget"], ["budget", "show"], ["budget", "set"], ["budget", "history"], ["audit"]):
        lines = good(*args, "--help").out.splitlines()
        assert 2 < len(lines) <= 24 and max(map(len, lines)) <= 80, (args, len(lines), max(lines, key=len))


# ---- what is refused ----

@promise
def what_the_policy_refuses_is_named_by_class_and_place():
    env = fresh("refused")
    policy = write("refuse.policy", "policy names\nclass email refuse\n")
    refused(1, r"at byte 4 \(class email\).*nothing was released", cmif("sanitize", "--policy", policy, text=f"the {CANARY}@mail.com", env=env))
    assert entries(env) == [], "a refusal was entered"


@promise
def text_that_is_no_utf8_is_refused_by_position():
    env = fresh("utf8")
    refused(1, "not UTF-8 at byte 11 of 13", cmif("sanitize", text=f"{CANARY} ".encode() + b"\xff\n", env=env))
    assert entries(env) == []
    report = cmif("sanitize", "--json", text=b"\xff")
    assert json.loads(report.stderr)["error"]["code"] == "format" and report.returncode == 1 and not report.out


@promise
def wrong_options_are_one_sentence():
    refused(2, "did you mean 'topics'", cmif("sanitize", "--policy", "topic", CANARY))
    refused(2, "names, topics, words, none, or a file$", cmif("sanitize", "--policy", "everything", CANARY))
    refused(2, "pass or protect", cmif("sanitize", "--stop-words", "no", CANARY))
    refused(2, "leave out --channel", cmif("sanitize", "--policy", "names", "--channel", "x", CANARY))
    refused(2, "quotes", cmif("sanitize", CANARY, CANARY))
    refused(2, "--json-text is for --restore", cmif("sanitize", "--json-text", CANARY))
    refused(2, "nothing but the map", cmif("sanitize", "--restore", "x", "--policy", "names"))
    refused(2, "from stdin", cmif("sanitize", "--restore", "x", CANARY))
    refused(2, "puts none", cmif("sanitize", "--policy", "none", "--map", f"{WORK}/m.map", CANARY))
    refused(2, "did you mean '--explain'", cmif("sanitize", "--explan", CANARY))
    refused(1, "cannot open policy", cmif("sanitize", "--policy", f"{WORK}/none.policy", CANARY))


@promise
def what_setup_makes_is_named_when_it_is_not_there():
    empty = fresh("empty", XDG_CACHE_HOME=f"{WORK}/empty-cache")
    for policy in ("names", "topics", "words"):
        refused(1, "cmif setup", cmif("sanitize", "--policy", policy, CANARY, env=empty))
    os.makedirs(f"{WORK}/lists-only/cmif")
    shutil.copy(f"{WORK}/cache/cmif/lists.gguf", f"{WORK}/lists-only/cmif/")
    only = fresh("empty", XDG_CACHE_HOME=f"{WORK}/lists-only")
    refused(1, "a channel.*cmif setup", cmif("sanitize", CANARY, env=only))
    good("sanitize", "--policy", "names", "the house", env=only)
    open(f"{WORK}/lists-only/cmif/lists.gguf", "r+b").truncate(200)
    refused(1, "lists.gguf", cmif("sanitize", "--policy", "names", CANARY, env=only))


@promise
def a_wrong_line_of_a_policy_is_named_and_not_repeated():
    for text, line, sentence in (("policy topics\nclass person\n", 2, "surrogate, channel, pass or refuse"),
                                 (f"policy topics\n\n{CANARY}\n", 3, "expected policy, stop-words"),
                                 (f"policy {CANARY}\n", 1, "names, topics or words"),
                                 ("policy topics\nclass unknown pass\n", 2, "never pass"),
                                 ("policy topics\nbudget day lots\n", 2, "a number"),
                                 ("", 1, "policy names")):
        path = write("wrong.policy", text)
        refused(1, f"wrong.policy.*line {line}: .*{sentence}", cmif("policy", "check", path))
        refused(1, f"line {line}: .*{sentence}", cmif("sanitize", "--policy", path, CANARY))
        refused(1, f"line {line}: .*{sentence}", cmif("policy", "show", path))


@promise
def no_policy_is_asked_for_and_said():
    env = fresh("none")
    done = good("sanitize", "--policy", "none", text=LETTER, env=env)
    assert done.out == LETTER and "none: every word leaves as it is written" in done.err, done.err
    assert entries(env) == [], "what nothing is claimed for was entered"
    report = json.loads(good("sanitize", "--policy", "none", "--json", text="Maria", env=env).out)
    assert report == {"text": "Maria", "spans": [], "entered": False, "sanitizer": None}, report


@promise
def stop_words_are_protected_or_the_channel_is_refused():
    good("sanitize", "--stop-words", "pass", "the house")
    refused(2, "lets them pass: build one with .*--protect-all", cmif("sanitize", "--stop-words", "protect", f"the {CANARY}"))
    refused(2, "lets them pass: build one with .*--protect-all", cmif("sanitize", "--policy", write("stop.policy", "policy topics\nstop-words protect\n"), CANARY))
    table = f"{WORK}/all.cmifch"
    good("channel", "build", "-l", f"{WORK}/lexicon.gguf", "--vectors", f"{WORK}/vectors.txt", "--mechanism", "rnm", "-k", "8", "--protect-all", "-o", table)
    report = json.loads(good("sanitize", "--policy", "names", "--stop-words", "protect", "--channel", table, "--json", "the house of Maria is not fine").out)
    assert report["sanitizer"]["classes"]["stop"] == {"channel": 4} and report["sanitizer"]["drawn"] == 4, report
    plain = json.loads(good("policy", "show", "names", "--json").out)["policy_sha256"]
    assert report["sanitizer"]["policy_sha256"] != plain, "the option is not in the hash"


# ---- what is spent ----

@promise
def nothing_is_released_without_an_entry_and_a_receipt():
    env = fresh("books")
    good("sanitize", "--policy", "words", text=LETTER, env=env)
    spent = json.loads(good("budget", "show", "--json", env=env).out)["keys"][0]
    assert spent["requests"] == 1 and spent["draws"] > 0 and abs(spent["epsilon"] - spent["draws"] * EPSILON) < 1e-5, spent
    assert "1 receipts" in good("audit", f"{WORK}/books/cmif/receipts", env=env).out
    for name in ("ledger.db", "receipts/receipts.jsonl"):
        kept = open(f"{WORK}/books/cmif/{name}", "rb").read()
        assert kept and CANARY.encode() not in kept and b"Lopez" not in kept, name
    refused(1, "", cmif("sanitize", text=LETTER, env=fresh("x", XDG_DATA_HOME=f"{WORK}/words.txt")))
    os.remove(f"{WORK}/books/cmif/receipts/receipts.jsonl")
    refused(1, "cmif audit", cmif("sanitize", text=LETTER, env=env))


@promise
def a_spent_budget_says_when_it_renews_and_prints_nothing():
    env = fresh("spent")
    text = f"the house, the river, the garden; {CANARY}"
    good("budget", "set", "--day", f"{4 * EPSILON:.6f}", env=env)
    good("sanitize", "--policy", "words", text=text, env=env)
    path = f"{WORK}/spent.map"
    done = cmif("sanitize", "--policy", "words", "--map", path, text=text, env=env)
    refused(1, r"budget of the day is spent: this needs epsilon [\d.]+, and [\d.]+ of [\d.]+ is left; .*renews .*UTC; nothing was sent", done)
    assert not os.path.exists(path) and len(entries(env)) == 1
    good("sanitize", "--policy", "names", text=text, env=env)  # which draws nothing
    good("budget", "set", "--day", "none", "--request", "0.5", env=env)
    refused(1, "budget of the request is spent", cmif("sanitize", "--policy", "words", text=text, env=env))
    good("budget", "set", "--request", "none", env=env)
    thrifty = write("thrifty.policy", f"policy words\nbudget request {1.5 * EPSILON:.6f}\n")  # one word of three
    done = json.loads(good("sanitize", "--policy", thrifty, "--json", text=text, env=env).out)["sanitizer"]
    assert done["drawn"] == 1 and done["constants"] == 2, done
    assert "2 words beyond" in good("sanitize", "--policy", thrifty, text=text, env=env).err
    policy = write("daily.policy", f"policy words\nbudget day {EPSILON:.6f}\n")
    report = cmif("sanitize", "--policy", policy, "--json", text=text, env=env)
    assert report.returncode == 1 and json.loads(report.err)["error"]["code"] == "budget" and not report.out, report.err


@promise
def a_full_disk_or_a_closed_pipe_is_a_failure():
    with open("/dev/full", "wb") as full:
        for args in (["sanitize"], ["sanitize", "--json"], ["sanitize", "--dry-run"], ["policy", "show"], ["budget", "show"]):
            done = subprocess.run([CMIF, *args], input=b"the house", stdout=full, stderr=subprocess.PIPE, env=ENV)
            assert done.returncode == 1 and b"cannot write the result" in done.stderr, (args, done.returncode, done.stderr)

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    path = f"{WORK}/full.map"
    env = fresh("full")
    good("sanitize", "the house", env=env)
    refused(1, "disk|full|large|write", cmif("sanitize", "--policy", "names", "--map", path, text=LETTER, env=env, preexec_fn=small))
    assert not os.path.exists(path) and len(entries(env)) == 1
    refused(1, "write", cmif("policy", "init", "-o", path, preexec_fn=small))
    assert not [name for name in os.listdir(WORK) if name.startswith("full.map")], os.listdir(WORK)


@promise
def ctrl_c_ends_it_and_nothing_is_released():
    env = fresh("stopped")
    process = subprocess.Popen([CMIF, "sanitize"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    process.stdin.write(CANARY.encode())
    process.stdin.flush()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and not out and CANARY.encode() not in err, (process.returncode, out, err)
    assert not os.path.exists(f"{WORK}/stopped"), "books were opened"


def without(*capabilities, **limits):
    """Run as a program that does not have these, which root has."""
    libc = ctypes.CDLL(None, use_errno=True)

    def do():
        for number in capabilities:
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP: gone with the exec
        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, name), (limit, limit))
    return do


@promise
def a_long_text_is_read_whole_and_unlocked_memory_is_said():
    text = "Maria has a house in Oslo.\n" * 100000
    done = good("sanitize", "--policy", "names", text=text, preexec_fn=without(14, RLIMIT_MEMLOCK=65536))
    lines = done.out.splitlines()
    assert len(lines) == 100000 and len(set(lines)) == 1 and "Maria" not in lines[0], set(lines)
    assert "ulimit -l" in done.err or b"__asan_init" in open(CMIF, "rb").read(), done.err  # whose mlock does nothing
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert 0 <= limit < 4 << 20 or "ulimit -l" not in good("sanitize", "the house").err


# ---- policy ----

@promise
def what_show_prints_is_the_policy_itself():
    for name in ("names", "topics", "words"):
        shown = good("policy", "show", name).out
        report = json.loads(good("policy", "show", name, "--json").out)
        assert report["policy"] == name and f"# hash       {report['policy_sha256']}" in shown, shown
        checked = json.loads(good("policy", "check", write("shown.policy", shown), "--json").out)["policies"][0]
        assert checked["policy_sha256"] == report["policy_sha256"] and checked["looser"] == [], checked
        assert len(report["classes"]) == 27 and all(re.search(rf"^class {c} {a} +# \w", shown, re.M) for c, a in report["classes"].items() if c != "stop"), shown
        assert "nothing is promised" in report["guarantee"] and report["guarantee"] in shown, report["guarantee"]
        assert ("certified epsilon" in report["guarantee"]) == (name != "names"), report["guarantee"]
    assert good("policy", "show").out == good("policy", "show", "topics").out
    empty = fresh("x", XDG_CACHE_HOME=f"{WORK}/empty-cache")
    assert "cmif setup" in good("policy", "show", env=empty).out
    assert json.loads(good("policy", "show", "--json", env=empty).out)["guarantee"] is None
    refused(2, "did you mean 'topics'", cmif("policy", "show", "topcs"))
    refused(2, "sends the text as it is", cmif("policy", "show", "none"))
    refused(1, "none.cmifch", cmif("policy", "show", "--channel", f"{WORK}/none.cmifch"))


@promise
def check_names_what_a_file_loosens():
    loose = write("loose.policy", f'policy topics\nclass person pass\nclass date refuse\nclass topic pass\nallow "Acme"\nallow "{CANARY}"\ndeny "Halcyon" place\nweight law 2\nbudget day 3\n')
    tight = write("tight.policy", "policy topics\nclass word channel\nbudget day 3\n")
    done = good("policy", "check", loose, tight)
    said = [line.strip() for line in done.out.splitlines()]
    assert said[1:5] == ["looser  class topic: pass, not channel", "looser  class person: pass, not surrogate", "looser  weight law: not that of the base", "looser  allow: 2 names pass"], said
    assert said[6] == "lets out nothing that topics does not" and re.search(r"tight.policy: good, from topics, hash [0-9a-f]{64}", said[5]), said
    assert CANARY not in done.out, "a name of the file was repeated"
    wrong = write("bad.policy", f"policy topics\n{CANARY}\n")
    mixed = cmif("policy", "check", tight, wrong, loose)
    assert mixed.returncode == 1 and mixed.out.count("good") == 2 and "bad.policy': line 2" in mixed.err and CANARY not in mixed.err, mixed.err
    refused(2, "which file", cmif("policy", "check"))
    refused(2, "policy takes", cmif("policy", "chek", wrong))


@promise
def a_policy_file_begins_as_its_base_and_is_never_written_over():
    path = f"{WORK}/mine.policy"
    for name in ("names", "topics", "words"):
        good("policy", "init", name, "-o", path)
        report = json.loads(good("policy", "check", path, "--json").out)["policies"][0]
        assert report["policy_sha256"] == json.loads(good("policy", "show", name, "--json").out)["policy_sha256"], "not the base"
        refused(1, "not written over", cmif("policy", "init", "names", "-o", path))
        text = open(path).read()
        every = re.sub(r"(?m)^#(stop-words|class|allow|deny|budget|weight) ", r"\1 ", text)
        assert every.count("\nclass ") == 26, every
        report = json.loads(good("policy", "check", write("every.policy", every), "--json").out)["policies"][0]
        assert report["looser"] == ["weight health: not that of the base", "allow: 1 name passes"], report  # every line that is in comments is a good one
        os.remove(path)
    refused(2, "where to", cmif("policy", "init"))
    refused(2, "no such policy", cmif("policy", "init", "all", "-o", path))
    os.symlink(f"{WORK}/nowhere", path)
    refused(1, "not written over", cmif("policy", "init", "-o", path))
    assert not os.path.exists(f"{WORK}/nowhere"), "a link was followed"


# ---- budget ----

@promise
def budgets_are_shown_set_and_kept():
    env = fresh("budgets")
    shown = good("budget", "show", env=env)
    assert good("budget", "history", env=env).out == "" and "nothing has been spent" in shown.out
    assert not os.path.exists(f"{WORK}/budgets"), "looking made a ledger"
    good("budget", "set", "--day", "200", "--request", "50", env=env)
    good("budget", "set", "other", "--ever", "0", env=env)
    text = good("budget", "show", env=env).out
    assert "local\n  request   epsilon 50 at most\n  day       epsilon 0 of 200 spent, 200 left; renews " in text and "other\n" in text, text
    keys = {key["key"]: key for key in json.loads(good("budget", "show", "--json", env=env).out)["keys"]}
    assert keys["local"]["day_budget"] == 200 and keys["local"]["key_budget"] is None and keys["other"]["key_budget"] == 0, keys
    midnight = keys["local"]["renews"]
    assert midnight % 86400 == 0 and 0 < midnight - time.time() <= 86400, midnight
    good("budget", "set", "--day", "none", env=env)
    local = json.loads(good("budget", "show", "local", "--json", env=env).out)["keys"][0]
    assert local["day_budget"] is None and local["request_budget"] == 50, "what was not named changed"
    for _ in range(3):
        good("sanitize", "--policy", "words", "the house", env=env)
    history = entries(env)
    assert [e["id"] for e in history] == sorted((e["id"] for e in history), reverse=True) and len({e["conversation"] for e in history}) == 3, history
    assert len(json.loads(good("budget", "history", "-n", "2", "--json", env=env).out)["entries"]) == 2
    assert good("budget", "history", env=env).out.count("\n") == 3
    assert stat.S_IMODE(os.stat(f"{WORK}/budgets/cmif/ledger.db").st_mode) == 0o600


@promise
def wrong_budgets_change_nothing():
    env = fresh("wrong")
    good("budget", "set", "--day", "7", env=env)
    for args, sentence in ((["set"], "which budget"), (["set", "--day", "-1"], "0 to 1e12"), (["set", "--day", CANARY], "0 to 1e12"),
                           (["set", "--day", "nan"], "0 to 1e12"), (["set", "--day", ""], "0 to 1e12"), (["set", "--dya", "3"], "did you mean '--day'"),
                           (["set", "a", "b", "--day", "3"], "one key"), (["show", "a", "b"], "one key"), (["history", "x"], "options only"),
                           (["history", "-n", "0"], "from 1"), (["spend"], "show, set or history"), ([], "show, set or history")):
        refused(2, sentence, cmif("budget", *args, env=env))
    refused(1, "1 to 64 printable", cmif("budget", "set", 'a"b', "--day", "3", env=env))
    refused(1, "1 to 64 printable", cmif("budget", "set", "k" * 65, "--day", "3", env=env))
    assert json.loads(good("budget", "show", "--json", env=env).out)["keys"][0]["day_budget"] == 7


@promise
def a_damaged_ledger_is_never_a_smaller_sum():
    env = fresh("damaged")
    path = f"{WORK}/damaged/cmif/ledger.db"
    for _ in range(3):
        good("sanitize", "--policy", "words", text=LETTER, env=env)
    kept = bytearray(open(path, "rb").read())
    told = good("budget", "show", env=env).out
    for at in [0, 20] + list(range(100, len(kept), max(1, len(kept) // 23))):
        for suffix in ("-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.remove(path + suffix)
        open(path, "wb").write(kept[:at] + bytes([kept[at] ^ 0x55]) + kept[at + 1:])
        done = cmif("budget", "show", env=env)
        if done.returncode != 0:
            refused(1, "damaged|not a ledger|version|another program", done)
            refused(1, "", cmif("sanitize", text=LETTER, env=env))
        else:
            assert done.out == told, f"byte {at}: another sum: {done.out}"
    open(path, "wb").write(kept[:len(kept) // 2])
    refused(1, "move it away|not a ledger", cmif("budget", "show", env=env))
    refused(1, "", cmif("sanitize", text=LETTER, env=env))
    open(path, "wb").write(b"not a ledger at all")
    refused(1, "not a ledger", cmif("budget", "set", "--day", "3", env=env))
    refused(1, "not a ledger", cmif("budget", "history", "--ledger", f"{WORK}/words.txt", env=env))


@promise
def a_ledger_that_cannot_be_written_stops_everything():
    env = fresh("readonly")
    good("sanitize", "the house", env=env)
    folder = f"{WORK}/readonly/cmif"
    human = without(1, 2, 3)  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    os.chmod(f"{folder}/ledger.db", 0o400)
    os.chmod(folder, 0o500)
    try:
        refused(1, "allow (reading and )?writing", cmif("sanitize", text=f"the {CANARY}", env=env, preexec_fn=human))
        refused(1, "allow (reading and )?writing", cmif("budget", "set", "--day", "3", env=env, preexec_fn=human))
    finally:
        os.chmod(folder, 0o700)
        os.chmod(f"{folder}/ledger.db", 0o600)
    os.makedirs(f"{WORK}/closed", mode=0o500)
    refused(1, "cannot (make|write|open)", cmif("sanitize", text=f"the {CANARY}", env=fresh("closed"), preexec_fn=human))
    assert len(entries(env)) == 1


# ---- audit ----

@promise
def a_chain_of_receipts_is_checked_offline():
    env = fresh("audit")
    folder = f"{WORK}/audit/cmif/receipts"
    for _ in range(3):
        good("sanitize", "--policy", "words", text=LETTER, env=env)
    report = json.loads(good("audit", "--json", env=env).out)
    spent = json.loads(good("budget", "show", "--json", env=env).out)["keys"][0]
    assert report["receipts"] == 3 and report["complete"] and all(report[k] == spent[k] for k in ("draws", "surrogates", "passed")), (report, spent)
    assert abs(report["epsilon"] - spent["epsilon"]) < 1e-6
    good("audit", "--head", report["head"], env=env)
    refused(1, "no receipt of 3 has the hash", cmif("audit", "--head", "0" * 64, env=env))
    refused(2, "64 hexadecimal", cmif("audit", "--head", CANARY, env=env))
    refused(2, "one file or folder", cmif("audit", folder, folder, env=env))
    refused(1, "", cmif("audit", f"{WORK}/nothing-here", env=env))
    path = f"{folder}/receipts.jsonl"
    lines = open(path, "rb").read().splitlines(True)
    alone = write("alone.jsonl", b"".join(lines))
    assert "nothing says whether there were more" in good("audit", alone, env=env).out
    for name, changed in (("the last is cut", lines[:2]), ("the first is cut", lines[1:]), ("the middle is cut", [lines[0], lines[2]]),
                          ("two are exchanged", [lines[1], lines[0], lines[2]]), ("one is there twice", lines + lines[2:]),
                          ("half of the last", lines[:2] + [lines[2][:40]]), ("one more space", [lines[0].replace(b":", b": ", 1)] + lines[1:]),
                          ("a number changed", [re.sub(rb'"draws":(\d)', lambda m: b'"draws":%d' % (int(m[1]) ^ 1), lines[0])] + lines[1:]),
                          ("all are gone", [])):
        open(path, "wb").write(b"".join(changed))
        done = cmif("audit", env=env)
        assert done.returncode == 1 and not done.out and done.err.startswith("cmif: ") and CANARY not in done.err, f"{name}: {done.returncode} {done.out}{done.err}"
    open(path, "wb").write(b"".join(lines[:2]))
    refused(1, "cmif audit", cmif("sanitize", text=LETTER, env=env))
    for at in range(0, len(lines[1]) - 1, 37):
        changed = bytearray(b"".join(lines))
        changed[len(lines[0]) + at] ^= 1
        open(path, "wb").write(changed)
        done = cmif("audit", env=env)
        assert done.returncode == 1 and not done.out, f"byte {at} of the second: {done.out}"


end()
