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
def attacks_stand_beside_accuracy():
    """Of a table, whatever rows are sent; what an attacker knows more of, it names more of."""
    words = ("sst2", "--data", DATA, "--limit", "60", "-e", "1,16", "--seeds", "1", "--mechanisms", "custext+")
    result, done = evaluate(*words, "--attacks", "-o", f"{WORK}/front.html")
    found = cells(result)
    assert "named" not in found["clean", None, "plain"]
    for key, cell in found.items():
        for name, attack in cell.get("named", {}).items():
            assert 0 <= attack["interval"][0] <= attack["share"] <= attack["interval"][1] <= 1, (key, name, attack)
            assert abs(attack["share"] - sum(attack["block_seeds"]) / len(attack["block_seeds"])) < 1e-9
    plain, bayes, loud = (found["custext+", epsilon, rows]["named"] for epsilon, rows in (("1", "plain"), ("1", "bayes"), ("16", "plain")))
    assert len(plain) == 4 and plain == bayes, "rows are functions of what was released: they tell nothing more"
    assert plain["hmm, in domain"]["share"] > plain["unigram"]["share"], plain
    assert all(loud[name]["share"] > plain[name]["share"] + 0.1 for name in plain), "no noise at all, and not more is named"
    page = open(f"{WORK}/front.html").read()
    assert f"{plain['hmm, in domain']['share']:.3f}" in done.out and "The front" in page and "What an attacker names" in page
    without, _ = evaluate(*words)
    assert all("named" not in cell for cell in without["results"])


@promise
def what_was_not_measured_is_no_goal_that_is_met():
    done = rig.cmif("eval", "sst2", "--data", DATA, "--limit", "40", "-e", "1", "--seeds", "1", "--mechanisms", "custext+", "--goals", "--json", f"{WORK}/goals.json", timeout=250)
    with open(f"{WORK}/goals.json") as file:
        told = json.load(file)["goals"]
    assert done.returncode == 3 and len(told) > 20, (done.returncode, done.err)
    assert all(goal["found"] is None and goal["met"] is False for goal in told), told
    assert done.out.count("not measured") == len(told) == done.out.count("NOT MET")


@promise
def wrong_arguments_are_refused():
    refused(2, "which task", rig.cmif("eval"))
    refused(2, "no such task", rig.cmif("eval", "sst3"))
    refused(2, "knows no 'custex'.*did you mean custext", rig.cmif("eval", "sst2", "--mechanisms", "custex"))
    refused(2, "--epsilon takes", rig.cmif("eval", "sst2", "-e", "1,two"))
    refused(2, "--epsilon takes", rig.cmif("eval", "sst2", "-e", "0"))
    refused(2, "--setting takes I", rig.cmif("eval", "sst2", "--setting", "B"))
    refused(2, "--policy is for xsum, chat and sst2-zero-shot", rig.cmif("eval", "sst2", "--policy", "names"))
    refused(2, "--policy takes names.*did you mean 'names'", rig.cmif("eval", "xsum", "--policy", "nams"))
    refused(2, "leave out --train", rig.cmif("eval", "subjectivity", "--train", "x.tsv"))
    refused(2, "trains nothing: leave out --final", rig.cmif("eval", "xsum", "--final", "x.tsv"))
    refused(2, "trains nothing", rig.cmif("eval", "similarity", "--setting", "A"))
    refused(2, "which task", rig.cmif("eval", "sst2", "x.tsv"))
    refused(2, "--attacks and --goals are for a task of labels", rig.cmif("eval", "xsum", "--goals"))
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


def pulled(name):
    """A model that `cmif pull` has fetched."""
    path = os.path.expanduser(f"~/.cache/cmif/models/{name}.gguf")
    if not os.path.exists(path):
        raise Skip(f"{name} is not in the cache: cmif pull {name}")
    return path


def pairs_of(count, start=0):
    """Lines: a sentence beside itself (label 1), or beside another one (0)."""
    with open(f"{DATA}/sst2/train.tsv") as file:
        texts = [line.rsplit("\t", 1)[0] for line in file][start:start + 2 * count]
    return [f"{texts[2 * i]}\t{texts[2 * i + i % 2]}\t{1 - i % 2}\n" for i in range(count)]


@promise
def pairs_are_judged_by_a_head_over_both_vectors():
    minilm, test, train = pulled("minilm"), pairs_of(40), pairs_of(150, 80)
    swapped = ["{1}\t{0}\t{2}".format(*line.split("\t")) for line in test]
    files = [rig.write(f"{name}.tsv", "".join(lines)) for name, lines in (("test", test), ("swapped", swapped), ("train-pairs", train))]
    common = ("--data", DATA, "-m", minilm, "--train", files[2], "-e", "1", "--seeds", "1")
    first, _ = evaluate(files[0], *common, "--mechanisms", "custext+")
    other, _ = evaluate(files[1], *common, "--mechanisms", "clean")
    clean = cells(first)["clean", None, "plain"]["accuracy"]
    assert clean > 0.9, f"same or another sentence: {clean}"
    assert first["texts"]["sent"] == 2 * (150 + 3 * 40), first["texts"]
    assert cells(first)["custext+", "1", "plain"]["accuracy"] < clean, "words drawn at random cost nothing?"
    assert other["results"][0]["accuracy"] == clean, "which of the two comes first must not matter"
    second = rig.write("other-second.tsv", "".join(f"{line.split(chr(9))[0]}\ta film\t{line.split(chr(9))[2]}" for line in test))
    blind, _ = evaluate(second, *common, "--mechanisms", "clean")
    assert blind["texts"]["sent"] == 2 * 190 and blind["results"][0]["accuracy"] < 0.75, "the second sentence is not looked at"
    refused(1, "as many sentences a line as the examples",
            rig.cmif("eval", rig.write("single.tsv", "a fine film\t1\n"), "--data", DATA, "-m", minilm, "--train", files[2], "--mechanisms", "clean"))
    refused(1, "pairs take a head over two vectors", rig.cmif("eval", files[0], "--data", DATA, "--mechanisms", "clean"))
    return f": {clean}"


@promise
def of_one_file_a_fifth_is_for_testing():
    pulled("minilm")
    os.makedirs(f"{WORK}/tiny/sst2")
    os.makedirs(f"{WORK}/tiny/mrpc")
    rig.write("tiny/sst2/dev.tsv", "a fine film\t1\n")
    rig.write("tiny/mrpc/train.tsv", "".join(pairs_of(50)))
    common = ("mrpc", "--data", f"{WORK}/tiny", "-m", pulled("minilm"), "--mechanisms", "clean")
    whole, _ = evaluate(*common)
    few, _ = evaluate(*common, "--limit", "4")
    assert whole["examples"] == 10 and whole["texts"]["sent"] == 2 * 50, whole["texts"]
    assert few["examples"] == 4 and few["texts"]["sent"] == 2 * 44, few["texts"]


@promise
def similarity_is_that_of_the_vectors_that_embed_gives():
    minilm, count = pulled("minilm"), 16
    with lzma.open(f"{DATA}/mrpc/train.tsv.xz", "rt") as file:
        lines = file.read().splitlines()[1:count + 1]
    path = rig.write("news.tsv", "\n".join(lines) + "\n")
    before = set(glob.glob(f"{WORK}/cache/cmif/eval/runs-*.json"))
    common = ("similarity", path, "--data", DATA, "-m", minilm, "--mechanisms", "custext+", "-e", "1", "--seeds", "2")
    result, _ = evaluate(*common, "-o", f"{WORK}/similarity.html")
    found = cells(result)
    out = rig.good("embed", "-q", "-m", minilm, "--policy", "none", text="".join(f"{text}\n" for line in lines for text in line.split("\t")[:2])).out
    vectors = [[float(x) for x in line.split()] for line in out.splitlines()]
    dot = lambda u, v: sum(x * y for x, y in zip(u, v))
    cosines = [dot(u, v) / math.sqrt(dot(u, u) * dot(v, v)) for u, v in zip(vectors[::2], vectors[1::2])]
    runs = [json.load(open(name))["labels"] for name in set(glob.glob(f"{WORK}/cache/cmif/eval/runs-*.json")) - before]
    clean, = [run[0] for run in runs if len(run) == 1]
    assert len(cosines) == count == len(clean) and all(abs(a - b / 1e6) < 1e-3 for a, b in zip(cosines, clean)), (cosines, clean)

    def spearman(a, b):
        ranks = [[sorted(values).index(value) for value in values] for values in (a, b)]
        return 1 - 6 * sum((x - y) ** 2 for x, y in zip(*ranks)) / (count * (count ** 2 - 1))

    expected = sorted(sum(spearman(clean, run) for run in both) / 2 for both in runs if len(both) == 2)
    cells_ = [found["custext+", "1", rows] for rows in ("plain", "bayes")]
    assert max(abs(a - b) for a, b in zip(expected, sorted(cell["spearman"] for cell in cells_))) < 1e-6, (expected, cells_)
    assert found["clean", None, "plain"]["spearman"] == 1 and all(cell["spearman"] < 1 for cell in cells_), found
    assert all(cell["interval"][0] <= cell["spearman"] <= cell["interval"][1] for cell in cells_), cells_
    assert any(cell["sd"] > 0 for cell in cells_), cells_  # two runs may order sixteen pairs alike
    page = open(f"{WORK}/similarity.html").read()
    assert "<svg" in page and "<script" not in page and "custext+" in page
    again, done = evaluate(*common)
    assert again["results"] == result["results"] and "5 runs, 5 of them from earlier commands" in done.out, done.out
    refused(1, "no file of four pairs", rig.cmif("eval", "similarity", rig.write("single.tsv", "a fine film\t1\n"), "--data", DATA, "-m", minilm))
    return f": {expected}"


TEXT = ("--data", DATA, "--policy", "clean", "--mechanisms", "custext+", "-e", "1", "--threads", "1")
scores_kept = lambda: glob.glob(f"{WORK}/cache/cmif/eval/scores-*.json")


@promise
def a_model_that_generates_labels_without_training():
    """What is kept is used again, word for word; what was killed goes on; nothing of a text is kept."""
    common = ("sst2-zero-shot", *TEXT, "-m", pulled("smollm2"), "--limit", "12")
    running = subprocess.Popen([CMIF, "eval", *common], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = lambda: sum(len(json.load(open(path))) for path in scores_kept())
    assert within(240, lambda: made() >= 3 or running.poll() is not None) and running.poll() is None, "it ended before it was killed"
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = made()
    first, done = evaluate(*common, "-o", f"{WORK}/labels.html")
    assert f"{kept} of 24 answers from earlier commands" in done.out, (kept, done.out)
    again, done = evaluate(*common)
    assert "24 of 24 answers from earlier commands" in done.out and again == first, done.out
    clean, drawn = first["results"]
    assert clean["policy"] == "clean" and clean["changed"] is None and drawn["mechanism"] == "custext+" and drawn["epsilon"] == "1"
    assert clean["examples"] == drawn["examples"] == 12 and 0.2 < drawn["changed"] < 0.9, drawn
    for cell in (clean, drawn):
        right = cell["accuracy"]["mean"] * 12
        assert abs(right - round(right)) < 1e-6 and cell["accuracy"]["interval"][0] < cell["accuracy"]["mean"] < cell["accuracy"]["interval"][1]
    for path in scores_kept():
        assert re.fullmatch(r'[0-9eE.,:"{}\[\]null-]*', open(path).read()), "words are kept"
    page = open(f"{WORK}/labels.html").read()
    assert "<svg" in page and "<script" not in page and "custext+, epsilon 1" in page
    damaged = scores_kept()[0]
    with open(damaged, "r+") as file:
        file.truncate(os.path.getsize(damaged) // 2)
    _, done = evaluate(*common)
    assert "12 of 24 answers from earlier commands" in done.out, done.out
    return f": {kept} of 24 were kept, {clean['accuracy']['mean']:.2f} right"


@promise
def labels_are_told_apart():
    """Reviews that leave no doubt; the same with their labels the wrong way round are all wrong."""
    os.makedirs(f"{WORK}/clear/sst2")
    texts = ["what a wonderful , moving , brilliant film .", "an awful , boring mess : the worst film ever .",
             "i loved every minute of this great film .", "terrible , stupid and painfully dull ."]
    found = []
    for right in (0, 1):
        rig.write("clear/sst2/dev.tsv", "".join(f"{text}\t{(i + 1 + right) % 2}\n" for i, text in enumerate(texts)))
        result, _ = evaluate("sst2-zero-shot", "--data", f"{WORK}/clear", "--policy", "clean", "-m", pulled("smollm2"), "--threads", "1")
        found.append(result["results"][0]["accuracy"]["mean"])
    assert found[0] + found[1] == 1 and found[0] >= 0.75, found
    return f": {found[0]}"


@promise
def an_answer_is_compared_with_the_one_in_the_clear():
    common = ("chat", *TEXT, "-m", pulled("smollm2"), "--limit", "2")
    result, _ = evaluate(*common)
    clean, drawn = result["results"]
    same, other = clean["token F1"]["mean"], drawn["token F1"]["mean"]
    assert 0.4 < same <= 1, f"{same}: the same question twice, greedy; who else is in the batch moves the last bits"
    assert 0 <= other < 1 and abs(drawn["token F1"]["difference"] - (other - same)) < 1e-9, drawn
    again, done = evaluate(*common)
    assert again == result and "4 of 4 answers from earlier commands" in done.out, done.out


@promise
def summaries_are_scored_against_their_references():
    result, done = evaluate("xsum", "--data", DATA, "--policy", "clean", "-m", pulled("smollm2"), "--limit", "1", "-o", f"{WORK}/xsum.html")
    found, = result["results"]
    assert found["examples"] == 1 and all(0 <= found[name]["mean"] <= 1 for name in ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"))
    assert found["ROUGE-2"]["mean"] <= found["ROUGE-1"]["mean"] and 0 < found["ROUGE-L"]["mean"] <= found["ROUGE-1"]["mean"], found
    refused(2, "'control' has rows and no words to send", rig.cmif("eval", "xsum", "--data", DATA, "--mechanisms", "control"))
    refused(1, "asked for in a chat", rig.cmif("eval", "xsum", "--data", DATA, "--policy", "clean", "-m", f"{SHARED}/models/minilm-sst2/minilm-sst2-f16.gguf"))


end()
