#!/usr/bin/env python3
"""eval_cli_test: `cmif eval` as a person meets it, on a few SST-2 sentences and a lexicon of a few thousand words. See rig.py."""

import glob
import json
import lzma
import math
import os
import re
import signal
import subprocess

import rig
from rig import BUILD, CMIF, ENV, SHARED, WORK, Skip, end, good, promise, refused, skip, within

DATA = f"{SHARED}/data"
COUNTS, LOGITS = f"{DATA}/vectors/unigram_counts.tsv.xz", f"{SHARED}/models/minilm-sst2/logits.tsv"
for path in (COUNTS, LOGITS):
    if not os.path.exists(path):
        skip(f"{path} is not there")
if not os.path.exists(f"{BUILD}/libexec/cmif/cmif-eval"):
    skip("cmif-eval is not built")

# the usual lexicon needs packages; this one is of counts that lie beside the tests
with lzma.open(COUNTS, "rt") as file:
    rows = [line.split("\t") for line in file]
rows.sort(key=lambda row: -int(row[1]))
rig.write("words.txt", "".join(f"{word}\t{int(count)}\n" for word, count in rows[:4000] if re.fullmatch("[a-z]{1,20}", word)))
os.makedirs(f"{WORK}/cache/cmif")
good("lexicon", "build", "--from", f"{WORK}/words.txt", "-o", f"{WORK}/cache/cmif/lexicon.gguf")
good("eval", "sst2", "--data", DATA, "--limit", "2", "--mechanisms", "clean", timeout=250)  # the model is split once, and says so
FEW = ("--data", DATA, "--mechanisms", "custext+", "-e", "1")


def evaluate(*args, name="result", **more):
    done = good("eval", *args, "--json", f"{WORK}/{name}.json", timeout=250, **more)
    with open(f"{WORK}/{name}.json") as file:
        return json.load(file), done


def cells(result):
    return {(cell["mechanism"], cell["epsilon"], cell["rows"]): cell for cell in result["results"]}


@promise
def clean_accuracy_is_the_reference():
    """On the first 100: of logits that PyTorch gave for the same model."""
    with open(LOGITS) as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:101]
    with open(f"{DATA}/sst2/dev.tsv") as file:
        labels = [line.rstrip("\n").rsplit("\t", 1)[1] for line in file][:100]
    right = sum((float(row[3]) > float(row[2])) == (label == "1") for row, label in zip(rows, labels))
    result, _ = evaluate("sst2", "--data", DATA, "--limit", "100", "--mechanisms", "clean")
    found = cells(result)["clean", None, "plain"]["accuracy"]
    assert abs(found - right / 100) < 1e-9, f"accuracy {found}, the reference has {right} of 100 right"
    assert result["examples"] == 100 and result["majority"] == max(labels.count("0"), labels.count("1")) / 100
    return f": {found}"


@promise
def figures_are_those_of_the_runs():
    result, done = evaluate("sst2", *FEW, "--limit", "40", "--seeds", "3", "-o", f"{WORK}/report.html")
    found = cells(result)
    for key, cell in found.items():
        runs = sum(cell["runs"], [])
        mean = sum(runs) / len(runs)
        assert len(runs) == (1 if key[0] == "clean" else 3) and abs(cell["accuracy"] - mean) < 1e-8
        assert cell["interval"][0] <= mean <= cell["interval"][1] and 0 <= cell["interval"][0] and cell["interval"][1] <= 1
        if len(runs) > 1:
            assert abs(cell["sd"] - math.sqrt(sum((run - mean) ** 2 for run in runs) / (len(runs) - 1))) < 1e-8
        assert f"{cell['accuracy']:.4f}" in done.out
    drawn = found["custext+", "1", "plain"]
    assert 0.2 < drawn["clear"] < 0.7 and found["clean", None, "plain"]["clear"] == 1
    assert re.match(r"0\.\d+ in a block$", drawn["tables"][0]["certified"]) and len(drawn["tables"][0]["sha256"]) == 64
    assert found["clean", None, "plain"]["accuracy"] > drawn["accuracy"], "words drawn at random cost nothing?"
    against = found["custext+", "1", "bayes"]["against_custext+"]
    assert against["test"] == "paired t" and 0 <= against["p"] <= against["holm_p"] <= 1
    apart = found["custext+", "1", "bayes"]["accuracy"] - drawn["accuracy"]
    assert abs(against["difference"] - apart) < 1e-8, "the difference that is tested is not that of all runs"
    assert result["noise"]["runs"] == 3 and result["block_seeds"] == [1] and result["setting"].startswith("I") and result["final"] is False
    assert result["texts"]["computed"] > 0.85 * result["texts"]["sent"], "texts of different rows were taken for the same"
    page = open(f"{WORK}/report.html").read()
    assert "custext+" in page and "<script" not in page and "<svg" in page


@promise
def finished_runs_are_used_again():
    before, _ = evaluate("sst2", *FEW, "--limit", "40", "--seeds", "3")
    again, done = evaluate("sst2", *FEW, "--limit", "40", "--seeds", "3")
    assert before["results"] == again["results"] and again["texts"] == {"sent": 0, "computed": 0}
    assert "7 runs of 40 examples, 7 of them from earlier commands" in done.out, done.out
    anew, _ = evaluate("sst2", *FEW, "--limit", "40", "--seeds", "3", "--again")
    assert anew["texts"]["sent"] == 7 * 40 and anew["results"][0]["runs"] == again["results"][0]["runs"]


@promise
def a_killed_command_goes_on_where_it_was():
    runs = set(glob.glob(f"{WORK}/cache/cmif/eval/runs-*.json"))
    command = [CMIF, "eval", "sst2", *FEW, "--limit", "60", "--seeds", "4"]
    running = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = lambda: [path for path in glob.glob(f"{WORK}/cache/cmif/eval/runs-*.json") if path not in runs]
    assert within(120, lambda: len(made()) >= 2 or running.poll() is not None) and running.poll() is None, "it ended before it was killed"
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = [len(json.load(open(path))["labels"]) for path in made()]
    result, _ = evaluate(*command[2:])
    assert result["texts"]["sent"] == (9 - sum(kept)) * 60, (result["texts"], kept)
    assert all(len(sum(cell["runs"], [])) == (1 if cell["mechanism"] == "clean" else 4) for cell in result["results"])
    return f": {sum(kept)} of 9 runs were kept"


@promise
def what_was_kept_and_is_damaged_is_made_again():
    for path in glob.glob(f"{WORK}/cache/cmif/eval/runs-*.json"):
        with open(path, "r+") as file:
            file.truncate(os.path.getsize(path) // 2)
    result, _ = evaluate("sst2", *FEW, "--limit", "40", "--seeds", "3")
    assert result["texts"]["sent"] == 7 * 40, result["texts"]


@promise
def rows_that_are_the_same_are_computed_once():
    """The second half of the file is the first again; what a text says does not depend on what was computed before."""
    with open(f"{DATA}/sst2/dev.tsv") as file:
        lines = file.read().splitlines()[:30]
    once, twice = rig.write("once.tsv", "\n".join(lines) + "\n"), rig.write("twice.tsv", "\n".join(lines + lines) + "\n")
    first, _ = evaluate(once, "--data", DATA, "--mechanisms", "clean")
    second, _ = evaluate(twice, "--data", DATA, "--mechanisms", "clean")
    assert second["texts"] == {"sent": 60, "computed": 30}, second["texts"]
    assert second["results"][0]["accuracy"] == first["results"][0]["accuracy"]


@promise
def labels_may_be_names():
    with open(f"{DATA}/sst2/dev.tsv") as file:
        lines = [line.rstrip("\n").rsplit("\t", 1) for line in file][:30]
    named = rig.write("named.tsv", "".join(f"{text}\t{'positive' if label == '1' else 'negative'}\n" for text, label in lines))
    first, _ = evaluate(f"{WORK}/once.tsv", "--data", DATA, "--mechanisms", "clean")
    second, _ = evaluate(named, "--data", DATA, "--mechanisms", "clean")
    assert second["results"][0]["accuracy"] == first["results"][0]["accuracy"]
    strange = rig.write("strange.tsv", "a fine film\thappy\na poor film\tsad\n")
    refused(1, "a label that the model does not know: it has 2", rig.cmif("eval", strange, "--data", DATA, "--mechanisms", "clean"))


@promise
def a_test_split_is_told():
    result, _ = evaluate("sst2", "--data", DATA, "--final", f"{WORK}/once.tsv", "--mechanisms", "clean", "-o", f"{WORK}/final.html")
    assert result["final"] is True and result["task"] == "once.tsv" and "TEST SPLIT" in open(f"{WORK}/final.html").read()


@promise
def wrong_arguments_are_refused():
    refused(2, "which task", rig.cmif("eval"))
    refused(2, "no such task", rig.cmif("eval", "sst3"))
    refused(2, "knows no 'custex'.*did you mean custext", rig.cmif("eval", "sst2", "--mechanisms", "custex"))
    refused(2, "--epsilon takes", rig.cmif("eval", "sst2", "-e", "1,two"))
    refused(2, "--epsilon takes", rig.cmif("eval", "sst2", "-e", "0"))
    refused(2, "--setting takes I", rig.cmif("eval", "sst2", "--setting", "B"))
    refused(2, "--policy is for xsum", rig.cmif("eval", "sst2", "--policy", "names"))
    refused(2, "--policy takes names.*did you mean 'names'", rig.cmif("eval", "xsum", "--policy", "nams"))
    refused(2, "leave out --train", rig.cmif("eval", "subjectivity", "--train", "x.tsv"))
    refused(1, "no sst2/dev.tsv: name the folder", rig.cmif("eval", "sst2", "--data", WORK))
    refused(1, "labels of its own", rig.cmif("eval", "sst2", "--data", DATA, "--setting", "A"))
    refused(1, "lexicon, and there is none: run 'cmif setup'", rig.cmif("eval", "sst2", "--data", DATA, env={**ENV, "XDG_CACHE_HOME": f"{WORK}/none"}))


@promise
def a_model_without_labels_gets_a_head():
    if not os.path.exists(os.path.expanduser("~/.cache/cmif/models/minilm.gguf")):
        raise Skip("minilm is not in the cache: cmif pull minilm")
    minilm = os.path.expanduser("~/.cache/cmif/models/minilm.gguf")
    with open(f"{DATA}/sst2/train.tsv") as file:
        train = rig.write("train.tsv", "".join(file.readlines()[:300]))
    common = ("sst2", "--data", DATA, "-m", minilm, "--train", train, "--limit", "60", "-e", "1", "--seeds", "1", "--mechanisms", "custext+")
    clean, _ = evaluate(*common)
    adapted, _ = evaluate(*common, "--setting", "A")
    assert cells(clean)["clean", None, "plain"]["accuracy"] > 0.65, cells(clean)["clean", None, "plain"]["accuracy"]
    assert clean["results"][0]["accuracy"] == adapted["results"][0]["accuracy"], "the text as it is has one setting only"
    assert adapted["setting"].startswith("A") and adapted["texts"]["sent"] == 3 * (300 + 60), adapted["texts"]
    refused(1, "name examples for a linear head with --train", rig.cmif("eval", f"{WORK}/once.tsv", "--data", DATA, "-m", minilm, "--mechanisms", "clean"))


end()
