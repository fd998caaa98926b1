#!/usr/bin/env python3
"""channel_cli_test: `cmif lexicon` and `cmif channel` as a person meets them, on made-up words. See rig.py.

A canary is in texts that are refused or released and must not leave."""

import hashlib
import json
import math
import os
import random
import re
import subprocess
import sys
import time

import rig
from rig import CANARY, CMIF, ENV, SHARED, WORK, Skip, end, promise, refused, small_files, succeeded

SST2 = f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"
STORIES = f"{SHARED}/models/stories260K/stories260K.gguf"
MECHANISMS = ["rnm", "subset", "krr", "general", "metric", "full", "paper", "custext", "custext+", "santext", "santext+"]


def cmif(*args, **more):
    if args[0] in ("classify", "run") and "--policy" not in args:  # the channel alone, without entities
        args = (args[0], "--policy", "channel", *args[1:])
    return rig.cmif(*args, **more)


def good(*args, **more):
    return succeeded(cmif(*args, **more))


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


# ---- a small public world: words, counts, vectors ----

GOOD = "good great fine nice lovely superb excellent wonderful pleasant brilliant charming delightful".split()
BAD = "bad awful poor terrible dreadful horrible dismal lousy nasty boring tedious stale".split()
FILM = "film movie picture cinema show drama comedy story plot script scene series".split()
PASS = "the a is was not this of and it".split()
random.seed(7)
WORDS = PASS + GOOD + BAD + FILM + sorted({"".join(random.choice("bcdfg") + random.choice("aeiou") for _ in range(3)) for _ in range(300)})
LIST, VECTORS = f"{WORK}/words.txt", f"{WORK}/vectors.txt"


def make_world():
    with open(LIST, "w") as file:
        for rank, word in enumerate(WORDS):
            file.write(f"{word}\t{1000000 // (rank + 3)}\n")
    with open(VECTORS, "w") as file:
        for word in WORDS:
            kind = 0 if word in GOOD else 1 if word in BAD else 2 if word in FILM else 3 + hash_of(word) % 5
            row = [random.gauss(3.0 * (i == kind), 0.5) for i in range(12)]
            file.write(word + "".join(f" {x:.5f}" for x in row) + "\n")


def hash_of(word):
    return hashlib.md5(word.encode()).digest()[0]


make_world()
LEXICON = f"{WORK}/lexicon.gguf"


def build(name, *args, **more):
    path = f"{WORK}/{name}.cmifch"
    done = good("channel", "build", "-o", path, "-l", LEXICON, "--vectors", VECTORS, *args, **more)
    return path, done


@promise
def a_list_of_words_becomes_a_lexicon():
    done = good("lexicon", "build", "--from", LIST, "-o", LEXICON)
    words = int(re.search(r"(\d+) words", done.out)[1])  # the built-in function words and negations come on top
    assert len(WORDS) < words < len(WORDS) + 400, done.out
    again = f"{WORK}/again.gguf"
    good("lexicon", "build", "--from", LIST, "-o", again)
    assert digest(LEXICON) == digest(again), "the same list gave other bytes"


@promise
def every_mechanism_builds_and_certifies():
    for mechanism in MECHANISMS:
        more = ("--classes", "8") if mechanism == "full" else ()
        path, done = build(mechanism.replace("+", "p"), "--mechanism", mechanism, "-k", "12", *more)
        assert mechanism in done.out and "certified" in done.out, done.out
        report = json.loads(good("channel", "check", path, "--json").out)
        assert report["mechanism"] == mechanism
        if mechanism not in ("paper", "santext", "santext+", "metric"):
            assert report["pure"] and report["certified_epsilon"] <= 1.000001, report
        if mechanism == "general":
            assert report["certified_epsilon"] == 0, report
        if mechanism == "paper":
            assert not report["pure"], "per-word neighbours have no epsilon"


@promise
def the_second_checker_agrees():
    tool = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "tools", "certify")
    for mechanism in ("rnm", "subset", "krr", "general", "full", "custext"):
        path = f"{WORK}/{mechanism}.cmifch"
        ours = json.loads(good("channel", "check", path, "--json").out)["certified_epsilon"]
        theirs = json.loads(subprocess.run([sys.executable, tool, "--json", path], capture_output=True, check=True).stdout)
        assert theirs["certified_micro"] == round(ours * 1e6), f"{mechanism}: {ours} and {theirs}"


@promise
def the_same_inputs_give_the_same_bytes_with_any_number_of_threads():
    one, _ = build("one", "--mechanism", "rnm", "-k", "12", "--threads", "1")
    two, _ = build("two", "--mechanism", "rnm", "-k", "12", "--threads", "3")
    other, _ = build("other", "--mechanism", "rnm", "-k", "12", "--epsilon", "2")
    assert digest(one) == digest(two), "threads changed the table"
    assert digest(one) != digest(other), "another epsilon gave the same table"


@promise
def calibrated_noise_gives_more_for_the_same_guarantee():
    plain = json.loads(good("channel", "check", f"{WORK}/one.cmifch", "--json").out)
    path, _ = build("calibrated", "--mechanism", "rnm", "-k", "12", "--calibrate")
    tight = json.loads(good("channel", "check", path, "--json").out)
    assert tight["certified_epsilon"] <= 1 and tight["certified_epsilon"] > plain["certified_epsilon"], (plain, tight)
    assert tight["unchanged"] > plain["unchanged"], "calibration gave no utility"


@promise
def a_changed_table_is_refused_with_both_figures():
    path, _ = build("two_eps", "--mechanism", "rnm", "-k", "12", "--epsilon", "2")
    data = bytearray(open(path, "rb").read())
    for at in range(0, len(data), max(1, len(data) // 97)):
        changed = bytearray(data)
        changed[at] ^= 1
        wrong = f"{WORK}/wrong.cmifch"
        open(wrong, "wb").write(changed)
        refused(1, "cmif: ", cmif("channel", "check", wrong))
    open(f"{WORK}/short.cmifch", "wb").write(data[:-1])
    refused(1, r"\d", cmif("channel", "check", f"{WORK}/short.cmifch"))
    open(f"{WORK}/long.cmifch", "wb").write(data + b"\0")
    refused(1, r"\d", cmif("channel", "check", f"{WORK}/long.cmifch"))


@promise
def show_says_what_may_leave():
    done = good("channel", "show", f"{WORK}/rnm.cmifch", "film", "the", CANARY)
    assert "movie" in done.out and "passes as it is" in done.out and "not in the table" in done.out, done.out
    report = json.loads(good("channel", "show", f"{WORK}/rnm.cmifch", "film", "--json").out)
    assert abs(sum(p for _, p in report[0]["outputs"]) - 1) < 1e-9


@promise
def a_control_says_nothing():
    """All words that are drawn leave as one; function words pass, unless all words are protected."""
    for name, more in (("control", ()), ("control_all", ("--protect-all",))):
        path, _ = build(name, "--mechanism", "general", "--control", *more)
        words = ("film", "awful", "the", "not")
        film, awful, *function_words = [word["outputs"] for word in json.loads(good("channel", "show", path, *words, "--json").out)]
        assert film == awful and len(film) == 1, (film, awful)
        assert function_words == ([film, film] if more else [[["the", 1]], [["not", 1]]]), function_words


@promise
def polarity_is_what_the_classifier_tells_apart():
    """Vectors that know nothing mix good and bad; with the classifier's own axis no block has both."""
    if not os.path.exists(SST2):
        raise Skip("no classifier in shared/models")
    blind, reached = f"{WORK}/blind.txt", {}
    with open(blind, "w") as file:
        for word in WORDS:
            file.write(word + "".join(f" {random.gauss(0, 1):.5f}" for _ in range(12)) + "\n")
    for name, more in (("mixed", ()), ("apart", ("--polarity", SST2))):
        path = f"{WORK}/{name}.cmifch"
        good("channel", "build", "-o", path, "-l", LEXICON, "--vectors", blind, "--mechanism", "general", "-k", "20", "--penalty", "0", "--valence-weight", "4", *more)
        report = json.loads(good("channel", "show", path, *GOOD, *BAD, "--json").out)
        leaves = [word["outputs"][0][0] for word in report]
        reached[name] = set(leaves[: len(GOOD)]) & set(leaves[len(GOOD) :])
    assert reached["mixed"] and not reached["apart"], reached
    no = ("channel", "build", "-o", f"{WORK}/no.cmifch", "-l", LEXICON, "--vectors", blind)
    refused(2, "--polarity is for", cmif(*no, "--mechanism", "metric", "--polarity", SST2))
    refused(1, "labels apart", cmif(*no, "--polarity", STORIES))
    assert not os.path.exists(f"{WORK}/no.cmifch")


@promise
def polarity_may_be_a_list():
    """Two classes between which all words are drawn: that of a word is the sign of its number."""
    axis = f"{WORK}/axis.txt"
    with open(axis, "w") as file:
        file.write("film -0.5\ngood -2\nawful 1.5\nnot 0.25\n")
    path, _ = build("listed", "--mechanism", "full", "--classes", "2", "-e", "1", "--polarity", axis)
    film, good_, awful, no, the = [dict(word["outputs"]) for word in json.loads(good("channel", "show", path, "film", "good", "awful", "not", "the", "--json").out)]
    assert film == good_ != awful == no == the and abs(max(film.values()) - math.e / (math.e + 1)) < 1e-6, (film, awful)
    with open(axis, "w") as file:
        file.write("film 1 2\ngood 2 3\n")
    refused(1, "has 2 numbers a word", cmif("channel", "build", "-o", path, "-l", LEXICON, "--vectors", VECTORS, "--mechanism", "full", "--polarity", axis))


@promise
def compare_prints_and_draws():
    picture = f"{WORK}/picture.svg"
    done = good("channel", "compare", f"{WORK}/rnm.cmifch", f"{WORK}/two_eps.cmifch", f"{WORK}/general.cmifch", "--svg", picture)
    assert len(done.out.strip().splitlines()) == 4, done.out
    import xml.dom.minidom
    assert len(xml.dom.minidom.parse(picture).getElementsByTagName("circle")) >= 6


@promise
def words_are_drawn_before_they_leave():
    if not os.path.exists(SST2):
        return
    text = f"This film was not good, {CANARY}; a TEDIOUS plot"
    done = good("classify", "-m", SST2, "--channel", f"{WORK}/general.cmifch", "--json", "--threads", "1", text)
    report = json.loads(done.out)
    left = report["results"][0]["released"]
    assert CANARY not in done.out and CANARY not in done.err, "an unknown word left"
    assert left.startswith("This ") and " not " in left and "something; a " in left, left
    assert report["guard"]["unknown"] == 1 and report["guard"]["passed"] == 4 and report["guard"]["drawn"] == 4, report
    assert report["guard"]["rows"] == "bayes" and report["sanitizer"] == "channel" and report["guard"]["channel"]["mechanism"] == "general"
    shown = good("channel", "show", f"{WORK}/general.cmifch", "film", "--json")
    assert left.split()[1] == json.loads(shown.out)[0]["outputs"][0][0], left
    for rows in ("plain", "bayes", "q8_0"):
        good("classify", "-m", SST2, "--channel", f"{WORK}/rnm.cmifch", "--rows", rows, "--threads", "1", text)


@promise
def rows_in_context_need_a_language_model_of_the_same_words():
    if not os.path.exists(SST2):
        return
    text, lm = f"{WORK}/text.txt", f"{WORK}/lm.gguf"
    with open(text, "w") as file:
        for _ in range(200):
            file.write(f"the {random.choice(FILM)} was {random.choice(GOOD + BAD)}\n")
    good("lexicon", "lm", "build", "-l", LEXICON, "-o", lm, text)
    done = good("classify", "-m", SST2, "--channel", f"{WORK}/general.cmifch", "--rows", "context", "--lm", lm, "--threads", "1",
                "--json", "the film was good")
    assert json.loads(done.out)["guard"]["rows"] == "context"
    other, other_lm = f"{WORK}/other.gguf", f"{WORK}/other-lm.gguf"
    open(f"{WORK}/few.txt", "w").write("".join(f"{word}\n" for word in WORDS[:50]))
    good("lexicon", "build", "--from", f"{WORK}/few.txt", "-o", other)
    good("lexicon", "lm", "build", "-l", other, "-o", other_lm, text)
    refused(1, "other|another", cmif("classify", "-m", SST2, "--channel", f"{WORK}/general.cmifch", "--lm", other_lm, "a film"))


@promise
def decoders_get_the_released_words():
    if not os.path.exists(STORIES):
        return
    done = good("run", "-m", STORIES, "--raw", "-n", "4", "--channel", f"{WORK}/general.cmifch", "--threads", "1", "--json",
                f"the film {CANARY}")
    report = json.loads(done.out)
    assert report["guard"]["rows"] == "plain" and CANARY not in done.out + done.err, done.out
    assert "something" in report["released"]
    good("run", "-m", STORIES, "--raw", "-n", "4", "--channel", f"{WORK}/general.cmifch", "--rows", "bayes", "--threads", "1",
         "the film")


@promise
def a_table_without_a_guarantee_must_be_asked_for():
    if not os.path.exists(SST2):
        return
    refused(1, "guarantee", cmif("classify", "-m", SST2, "--channel", f"{WORK}/paper.cmifch", CANARY))
    good("classify", "-m", SST2, "--channel", f"{WORK}/paper.cmifch", "--no-guarantee", "--threads", "1", "a good film")


@promise
def nothing_leaves_without_an_entry():
    if not os.path.exists(SST2):
        return
    table, data = f"{WORK}/rnm.cmifch", f"{WORK}/books"
    env = {**ENV, "XDG_DATA_HOME": data}
    ask = ("classify", "-m", SST2, "--channel", table, "--threads", "1", "--json", "the film was good")
    good(*ask, env=env)
    good(*ask, env=env)
    certified = json.loads(good("channel", "check", table, "--json").out)["certified_epsilon"]
    assert good("audit", f"{data}/cmif/receipts", env=env).out, "no receipts"
    shown = good("budget", "show", env=env).out
    assert f"{4 * certified:.3f}"[:4] in shown, f"4 draws at {certified}: {shown}"
    good("budget", "set", "--day", "0.1", env=env)
    refused(1, "budget of the day is spent.*nothing was sent", cmif(*(a for a in ask if a != "--json"), env=env))
    receipts = open(f"{data}/cmif/receipts/receipts.jsonl").read()
    assert receipts.count("\n") == 2 and "film" not in receipts, receipts
    broken = {**ENV, "XDG_DATA_HOME": LIST}  # no folder can be made there
    refused(1, "", cmif(*(a for a in ask if a != "--json"), env=broken))


@promise
def unknown_words_cost_what_they_cost():
    if not os.path.exists(SST2):
        return
    ask = ("classify", "-m", SST2, "--threads", "1", "--json", "--channel")
    any_two = json.loads(good(*ask, f"{WORK}/metric.cmifch", "xyzzy zorblax").out)["guard"]
    assert any_two["drawn"] == 2 and any_two["unknown"] == 0, f"between any two words an unknown one is drawn, too: {any_two}"
    block = json.loads(good(*ask, f"{WORK}/rnm.cmifch", "xyzzy zorblax").out)["guard"]
    assert block["drawn"] == 0 and block["unknown"] == 2, f"alone in its block it says nothing: {block}"


@promise
def what_is_not_used_is_refused():
    base = ("channel", "build", "-o", f"{WORK}/u.cmifch", "-l", LEXICON, "--vectors", VECTORS)
    refused(2, "--classes is for full", cmif(*base, "--mechanism", "krr", "--classes", "8"))
    refused(2, "--boost is for subset", cmif(*base, "--mechanism", "krr", "--boost", "3"))


@promise
def rows_can_be_written():
    if not os.path.exists(SST2):
        return
    done = good("channel", "rows", f"{WORK}/general.cmifch", "-m", SST2, "-o", f"{WORK}/rows.gguf")
    assert "of 384" in done.out and os.path.getsize(f"{WORK}/rows.gguf") > 384 * 4 * 20, done.out


@promise
def wrong_options_are_one_sentence():
    table = f"{WORK}/x.cmifch"
    base = ("channel", "build", "-o", table, "-l", LEXICON, "--vectors", VECTORS)
    refused(2, "did you mean custext", cmif(*base, "--mechanism", "custex"))
    refused(2, "--epsilon takes", cmif(*base, "--mechanism", "rnm", "--epsilon", "-1"))
    refused(2, "--epsilon takes", cmif(*base, "--mechanism", "rnm", "--epsilon", "1e3"))
    refused(2, "general has no epsilon", cmif(*base, "--epsilon", "1"))
    refused(2, "--noise is for", cmif(*base, "--mechanism", "krr", "--noise", "laplace"))
    refused(2, "-k takes|--block takes", cmif(*base, "-k", "0"))
    refused(2, "--profile takes", cmif(*base, "--profile", "best"))
    refused(2, "-o FILE", cmif("channel", "build"))
    refused(2, "--words", cmif("lexicon", "build", "--from", LIST, "--words", "10", "-o", f"{WORK}/w.gguf"))
    refused(2, "channel takes", cmif("channel", "biuld"))
    refused(2, "which table", cmif("channel", "check"))
    refused(1, "none.cmifch", cmif("channel", "check", f"{WORK}/none.cmifch"))
    refused(2, "policy none draws none", cmif("classify", "--policy", "none", "-m", SST2, "--rows", "bayes", CANARY))
    refused(1, "needs a channel.*run 'cmif setup'", cmif("classify", "-m", SST2, "--rows", "bayes", CANARY))
    refused(2, "needs --lm", cmif("classify", "-m", SST2, "--channel", table, "--rows", "context", CANARY))
    assert not os.path.exists(table), "something was written"


@promise
def bad_sources_are_refused_and_nothing_is_written():
    table = f"{WORK}/y.cmifch"

    def with_vectors(text):
        path = f"{WORK}/bad.txt"
        open(path, "w").write(text)
        return cmif("channel", "build", "-o", table, "-l", LEXICON, "--vectors", path, "--mechanism", "rnm")

    refused(1, "line 2|width", with_vectors("film 1 2 3\nmovie 1 2\n"))
    refused(1, "finite|number", with_vectors("film 1 2 nan\nmovie 1 2 3\n"))
    refused(1, "twice|again", with_vectors("film 1 2 3\nfilm 1 2 3\n"))
    refused(1, "", with_vectors(""))
    empty = f"{WORK}/empty.txt"
    open(empty, "w").write("")
    refused(1, "no word|empty", cmif("lexicon", "build", "--from", empty, "-o", f"{WORK}/e.gguf"))
    refused(1, "cmif pull lexicon", cmif("lexicon", "build", "-o", f"{WORK}/e.gguf"))
    refused(1, "", cmif("channel", "build", "-o", f"{WORK}/no/such/folder.cmifch", "-l", LEXICON, "--vectors", VECTORS,
                        "--mechanism", "rnm"))
    refused(1, "", cmif("channel", "build", "-o", table, "-l", LIST, "--vectors", VECTORS))
    assert not os.path.exists(table) and not os.path.exists(f"{WORK}/e.gguf"), "something was written"


@promise
def a_full_disk_leaves_nothing():
    path = f"{WORK}/nospace.cmifch"
    done = cmif("channel", "build", "-o", path, "-l", LEXICON, "--vectors", VECTORS, "--mechanism", "rnm", preexec_fn=small_files)
    refused(1, "write|space|disk|large", done)
    assert not os.path.exists(path) and not [n for n in os.listdir(WORK) if n.startswith("nospace")], os.listdir(WORK)


@promise
def a_result_that_cannot_be_printed_is_a_failure():
    table = ("channel", "build", "-l", LEXICON, "--vectors", VECTORS, "--mechanism", "rnm", "-o", f"{WORK}/printed.cmifch")
    for args in (("lexicon", "build", "--from", LIST, "-o", f"{WORK}/printed.gguf"), table, ("channel", "show", f"{WORK}/general.cmifch", "film"),
                 ("channel", "show", "--json", f"{WORK}/general.cmifch", "film"), ("inspect", LEXICON)):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CMIF, *args], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=ENV, text=True)
        assert done.returncode == 1 and "cannot write the result" in done.stderr and done.stderr.count("\n") == 1, (args, done.stderr)


@promise
def words_of_a_model_are_enough():
    if not os.path.exists(SST2):
        return
    own = f"{WORK}/own.gguf"
    good("lexicon", "build", "--from", SST2, "-o", own)
    path = f"{WORK}/own.cmifch"
    done = good("channel", "build", "-o", path, "-l", own, "--vectors", "rows", "-m", SST2, "-p", "paper", "--threads", "2")
    assert "certified   epsilon" in done.out, done.out


# ---- lists of names, and setup ----

NAMES, DICTIONARY, LISTS = f"{WORK}/names", f"{WORK}/dictionary", ("given", "family", "place", "organisation", "person", "word")


def need_wordnet():
    if not os.path.exists("/usr/share/wordnet/data.noun"):
        raise Skip("no WordNet here: tools/setup installs wordnet-base")


def make_names(folder):
    os.makedirs(folder, exist_ok=True)
    for name, lines in {"census": "F\tMaria\nS\tLopez\n", "faker": "M\tŁukasz\n", "geonames": "T\tSan José\n", "iso": "C\tBolivia\n"}.items():
        open(f"{folder}/{name}.tsv", "w", encoding="utf-8").write(lines)


@promise
def names_become_lists():
    need_wordnet()
    make_names(NAMES)
    open(DICTIONARY, "w").write("film\nMaria\n")
    path, again = f"{WORK}/lists.gguf", f"{WORK}/lists-again.gguf"
    build = ("lexicon", "lists", "build", "-l", LEXICON, "--names", NAMES, "--dictionary", DICTIONARY, "-o")
    done = good(*build, path)
    assert path in done.out and digest(path) in done.out and all(name in done.out for name in LISTS), done.out
    report = json.loads(good(*build, again, "--json").out)
    assert digest(again) == digest(path) == report["sha256"], "the same names gave other bytes"
    assert list(report["entries"]) == list(LISTS) and report["entries"]["family"] == 1 and report["entries"]["word"] > 20, report
    cache = {**ENV, "XDG_CACHE_HOME": f"{WORK}/lists-cache"}
    refused(1, "run 'cmif lexicon build'", cmif(*build[:3], env=cache))
    good("lexicon", "build", "--from", LIST, env=cache)
    refused(1, "cmif pull names|wamerican", cmif(*build[:3], env=cache))
    good(*build[:3], *build[5:-1], env=cache)
    assert digest(f"{WORK}/lists-cache/cmif/lists.gguf") == digest(path), "without -l and -o it is the cache's"


@promise
def lists_of_what_is_no_name_are_refused():
    need_wordnet()
    path, wrong = f"{WORK}/l.gguf", f"{WORK}/wrong-names"
    build = ("lexicon", "lists", "build", "-l", LEXICON, "--names", wrong, "--dictionary", DICTIONARY, "-o", path)
    make_names(wrong)
    refused(1, "wordnet-base", cmif(*build, "--wordnet", f"{WORK}/none"))
    refused(1, "wamerican", cmif(*build[:8], f"{WORK}/none", *build[9:]))
    refused(1, "words.txt|GGUF", cmif(*build[:4], LIST, *build[5:]))
    refused(2, "options only", cmif(*build, "more"))
    open(f"{wrong}/faker.tsv", "w").write("M\tMax\nX\tMoritz\n")
    refused(1, "faker.tsv.*line 2", cmif(*build))
    os.unlink(f"{wrong}/faker.tsv")
    refused(1, "faker.tsv", cmif(*build))
    make_names(wrong)
    refused(1, "file size|space", cmif(*build, preexec_fn=small_files))
    assert not [n for n in os.listdir(WORK) if n.startswith("l.gguf")], "something was written"


def small_world(name):
    """A cache with a small lexicon and models, and a `fetch` that notes what it is asked for and brings small names."""
    need_wordnet()
    if not os.path.exists("/usr/share/dict/american-english"):
        raise Skip("no word list here: tools/setup installs wamerican")
    models = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cmif/models")
    for model in ("minilm", "smollm2"):
        if not os.path.exists(f"{models}/{model}.gguf"):
            raise Skip(f"the model is not here: tools/fetch {model} brings it")
    cache, libexec = f"{WORK}/{name}/cmif", f"{WORK}/{name}/libexec"
    os.makedirs(cache), os.makedirs(libexec)
    os.symlink(models, f"{cache}/models")
    make_names(f"{libexec}/names")
    with open(f"{libexec}/fetch", "w") as file:
        file.write(f"""#!/bin/sh
echo "$1" >>{libexec}/asked
[ ! -e {libexec}/slow ] || {{ trap 'kill $!; echo "fetch: stopped" >&2; exit 143' TERM; sleep 30 >/dev/null 2>&1 & wait; }}
[ ! -e {libexec}/offline ] || {{ echo "fetch: there is no network" >&2; exit 1; }}
[ "$1" != names ] || cp -r {libexec}/names {cache}/name-sources
""")
    os.chmod(f"{libexec}/fetch", 0o755)
    env = {**ENV, "XDG_CACHE_HOME": f"{WORK}/{name}", "CMIF_LIBEXEC": libexec}
    good("lexicon", "build", "--from", LIST, env=env)

    def asked():
        path = f"{libexec}/asked"
        words = open(path).read().split() if os.path.exists(path) else []
        open(path, "w").close()
        return words
    return cache, libexec, env, asked


@promise
def setup_makes_what_is_missing_once():
    cache, libexec, env, asked = small_world("setup")
    files = [f"{cache}/{name}" for name in ("lexicon.gguf", "lists.gguf", "channel.cmifch")]

    def setup(*args):
        report = json.loads(good("setup", "--json", "--threads", "2", *args, env=env).out)
        assert [report[what]["file"] for what in ("words", "lists", "table")] == files, report
        return [report[what]["made"] for what in ("words", "lists", "table")], report["table"]["is"], asked()

    made, what, fetched = setup("--quick")
    assert made == [False, True, True] and what.startswith("general, K 100, certified epsilon 0") and what.endswith("quick"), what
    assert fetched == ["names", "minilm"], fetched
    good("channel", "check", files[2], env=env)
    before = [digest(path) for path in files]
    assert setup("--quick") == ([False] * 3, what, []), "it was all there"
    made, what, fetched = setup()
    assert made == [False, False, True] and "quick" not in what and fetched == ["minilm", "smollm2"], (made, what, fetched)
    assert setup("--quick") == ([False] * 3, what, []), "a full table is as good as a quick one"
    full = digest(files[2])
    assert [digest(files[0]), digest(files[1])] == before[:2] and full != before[2]

    done = good("setup", env=env)  # for people
    assert done.out.count("there") == 3 and "cmif run" in done.out and not done.err, done.out + done.err
    open(files[1], "r+b").truncate(5000)
    open(files[2], "r+b").truncate(5000)
    assert setup()[0] == [False, True, True] and [digest(path) for path in files] == before[:2] + [full], "damaged ones are made again"
    good("channel", "build", "-o", files[2], "-l", files[0], "--vectors", VECTORS, env=env)
    assert setup()[0] == [False, False, True] and digest(files[2]) == full, "another table in its place is not the default one"
    open(f"{WORK}/half.txt", "w").write("".join(f"{word}\n" for word in WORDS[::2]))
    good("lexicon", "build", "--from", f"{WORK}/half.txt", env=env)
    assert setup()[0] == [False, True, True] and digest(files[1]) != before[1], "lists and table are of the lexicon that is there"


@promise
def setup_that_fails_leaves_nothing_half_done():
    cache, libexec, env, asked = small_world("setup-fails")

    def left():
        return sorted(name for name in os.listdir(cache) if not name.startswith(".") and name not in ("models", "vectors", "name-sources"))

    open(f"{libexec}/offline", "w").close()
    done = cmif("setup", "--quick", env=env)
    assert done.returncode == 1 and done.err == "fetch: there is no network\n" and not done.out, done.err + done.out
    done = cmif("setup", "--quick", "--json", env=env)
    assert done.returncode == 1 and json.loads(done.err.splitlines()[-1])["error"]["code"] == "io", done.err
    os.unlink(f"{libexec}/offline")
    done = cmif("setup", "--quick", env=env, preexec_fn=small_files)
    assert done.returncode == 1 and re.search("cmif: .*(file size|space)", done.err), done.err
    open(f"{libexec}/slow", "w").close()
    running = subprocess.Popen([CMIF, "setup", "--quick"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not asked():
        time.sleep(0.02)
    time.sleep(0.2)
    second = subprocess.Popen([CMIF, "setup", "--quick"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while b"waiting for another setup" not in second.stderr.readline():
        assert second.poll() is None
    running.terminate()
    said = running.communicate(timeout=10)[1].decode()
    assert running.returncode == 143 and "fetch: stopped" in said and "cmif: stopped" in said, (running.returncode, said)
    second.terminate()  # it went on where the first one ended, with the slow fetch
    assert second.wait(10) == 143 and left() == ["lexicon.gguf"], left()
    refused(2, "options only", cmif("setup", "all", env=env))
    refused(1, "cannot make", cmif("setup", env={**env, "XDG_CACHE_HOME": LIST}))


end()
