#!/usr/bin/env python3
"""leak_cli_test: `cmif leak-test` as a person meets it, on made-up words. See rig.py.

A canary is in the texts that are attacked: it is in no table, so it must be in nothing that is said of them."""

import json
import os
import random

from rig import CANARY, SHARED, WORK, Skip, cmif, end, good, promise, refused, write

SST2 = f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"
PASS = "the a is was not this of and it".split()
random.seed(11)
WORDS = sorted({"".join(random.choice("bcdfgklm") + random.choice("aeiou") for _ in range(3)) for _ in range(240)})
COUNTS = {word: 20000 // (rank + 1) for rank, word in enumerate(random.sample(WORDS, len(WORDS)))}


def make_world():
    write("words.txt", "".join(f"{word}\t{count}\n" for word, count in [*((word, 10**6) for word in PASS), *COUNTS.items()]))
    write("vectors.txt", "".join(word + "".join(f" {random.gauss(0, 1):.5f}" for _ in range(8)) + "\n" for word in PASS + WORDS))
    text = []
    for _ in range(400):  # every word is followed by one of two: context says more than frequency
        line, word = [], random.choices(WORDS, [COUNTS[w] for w in WORDS])[0]
        for _ in range(6):
            line.append(word)
            word = WORDS[(WORDS.index(word) * 7 + random.randrange(2)) % len(WORDS)]
        text.append(" ".join(["the", *line, CANARY]))
    write("texts.tsv", "".join(f"{line}\t1\n" for line in text[:150]))
    write("public.txt", "\n".join(text[150:]).replace(CANARY, "") + "\n")
    good("lexicon", "build", "--from", f"{WORK}/words.txt", "-o", f"{WORK}/lexicon.gguf")
    good("lexicon", "lm", "build", "-l", f"{WORK}/lexicon.gguf", "-o", f"{WORK}/lm.gguf", f"{WORK}/public.txt")
    for name, *how in (("general",), ("rnm", "-e", "1"), ("krr", "-e", "24"), ("paper", "-e", "1")):
        good("channel", "build", "-o", f"{WORK}/{name}.cmifch", "-l", f"{WORK}/lexicon.gguf", "--vectors", f"{WORK}/vectors.txt",
             "--mechanism", name, "-k", "12", *how)


make_world()


def leak(table, *args, exit_code=0):
    done = cmif("leak-test", "--channel", f"{WORK}/{table}.cmifch", "--texts", f"{WORK}/texts.tsv", "--json", *args)
    assert done.returncode == exit_code, f"exit {done.returncode}: {done.err}{done.out[:300]}"
    assert CANARY not in done.out + done.err
    return json.loads(done.out)


def rate(said, attack, variant):
    found = [one["drawn"]["rate"] for one in said["attacks"] if one["attack"] == attack and one["variant"].endswith(variant)]
    assert len(found) == 1, (attack, variant, said["attacks"])
    return found[0]


@promise
def a_channel_that_hides_nothing_is_named_whole():
    said = leak("krr", "--lm", f"{WORK}/lm.gguf", "--attacks", "bayes,hmm,query")
    assert rate(said, "bayes", "table") > 0.9999 and rate(said, "hmm", "lm.gguf") > 0.9999
    assert said["closed_form"]["prior"] > 0.9999 and said["query"]["median"] <= 2


@promise
def the_texts_are_counted_and_what_is_in_clear_is_told_apart():
    said = leak("general", "--attacks", "bayes")
    assert said["texts"] == 150 and said["words"] == {"all": 150 * 8, "clear": 150, "drawn": 150 * 6, "hidden": 150}, said


@promise
def context_names_more_than_frequency_and_drawing_agrees_with_the_closed_form():
    for table in ("general", "rnm"):
        said = leak(table, "--lm", f"{WORK}/lm.gguf", "--attacks", "bayes,hmm")
        alone, chain, form = rate(said, "bayes", "table"), rate(said, "hmm", "lm.gguf"), said["closed_form"]
        assert 0.05 < alone < chain, (table, alone, chain)
        error = 4 * (form["prior"] / form["draws"]) ** 0.5
        assert abs(form["prior"] - form["prior_drawn"]) < error and abs(form["uniform"] - form["uniform_drawn"]) < error, form


@promise
def repetition_says_nothing_new_about_a_representative_and_all_about_neighbours():
    curve = [one["rate"] for one in leak("general", "--attacks", "repeat")["repetition"]]
    assert len(set(curve)) == 1, curve
    curve = [one["rate"] for one in leak("paper", "--attacks", "repeat")["repetition"]]
    assert curve[0] < 0.5 and curve[-1] > 0.9, curve


@promise
def a_table_without_a_guarantee_is_flagged_and_a_certified_one_is_not():
    said = leak("paper", "--attacks", "epsilon", exit_code=3)
    assert said["flagged"] and said["epsilon"]["at_least"] > 2, said
    for table in ("rnm", "general"):
        said = leak(table, "--attacks", "epsilon")
        assert not said["flagged"] and said["epsilon"]["at_least"] <= said["epsilon"]["claimed"] <= 1, said


@promise
def nothing_of_the_texts_is_in_the_report():
    args = ["leak-test", "--channel", f"{WORK}/general.cmifch", "--texts", f"{WORK}/texts.tsv", "-o", f"{WORK}/report.html",
            "--attacks", "bayes,repeat,entities"]
    out = good(*args).out
    page = open(f"{WORK}/report.html", encoding="utf-8").read()
    rare = [word for word in WORDS if COUNTS[word] < 1000]
    assert CANARY not in out + page and not [word for word in rare if word in out.split()]
    assert "<script" not in page and "Leak test" in page
    shown = good(*args, "--show-words", "3").out
    assert "Named most often" in shown and len([line for line in shown.splitlines() if line.endswith(" times")]) == 3, shown
    assert max(map(len, shown.splitlines())) <= 80, max(shown.splitlines(), key=len)


@promise
def rows_are_attacked_where_there_is_a_model():
    said = leak("general", "--attacks", "nearest")
    assert any("nearest" in why for why in said["not_tried"]) and not said["attacks"], said
    if not os.path.exists(SST2):
        raise Skip("shared/models is not here")
    said = leak("general", "--attacks", "nearest", "-m", SST2)
    kept = rate(said, "nearest", "plain rows, nearest 1")
    assert 0 < kept <= rate(said, "nearest", "plain rows, nearest 10") <= 1
    assert rate(said, "nearest", "Bayes rows, nearest 10") > rate(said, "nearest", "Bayes rows, nearest 1") > 0


@promise
def a_folder_of_texts_is_read_and_what_cannot_be_is_refused():
    os.makedirs(f"{WORK}/folder")
    write("folder/one.txt", f"the {WORDS[0]} is {WORDS[1]}. {CANARY}")
    write("folder/two.txt", f"{WORDS[2]}")
    write("folder/other.bin", b"\xff\xfe")
    def attack(texts, *args):
        return cmif("leak-test", "--channel", f"{WORK}/general.cmifch", "--texts", texts, *args)

    said = json.loads(attack(f"{WORK}/folder", "--attacks", "bayes", "--json").out)
    assert said["texts"] == 2 and said["words"]["all"] == 6, said
    refused(1, "no 'nowhere'|there is no", attack(f"{WORK}/nowhere"))
    os.makedirs(f"{WORK}/empty")
    refused(1, "holds no text", attack(f"{WORK}/empty"))
    refused(1, "UTF-8", attack(write("bad.txt", b"so \xff far")))
    refused(2, "--attacks takes .*did you mean 'bayes'", attack(f"{WORK}/folder", "--attacks", "bays"))
    refused(2, "only options", attack(f"{WORK}/folder", "text"))
    refused(2, "nothing to attack", cmif("leak-test", "--policy", "none"))
    good("lexicon", "build", "--from", write("others.txt", "one\t3\ntwo\t2\n"), "-o", f"{WORK}/others.gguf")
    good("lexicon", "lm", "build", "-l", f"{WORK}/others.gguf", "-o", f"{WORK}/other-lm.gguf", f"{WORK}/public.txt")
    refused(1, "another lexicon", attack(f"{WORK}/folder", "--attacks", "hmm", "--lm", f"{WORK}/other-lm.gguf"))


@promise
def help_fits_a_terminal():
    lines = good("leak-test", "--help").out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, (len(lines), max(lines, key=len))


end()
