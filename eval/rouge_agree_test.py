#!/usr/bin/env python3
"""ROUGE in C equals the package rouge-score 0.1.2 (pip install rouge-score), on 1,000 pairs of XSum and on every word in them.

  rouge_agree_test.py ROUGE_TEST XSUM     write what the package says of each pair, and let rouge_test compare
  rouge_agree_test.py --golden            print eval/rouge_golden.tsv: tricky pairs and words

A pair is a summary against the first sentences of its article, one a line, or against the summary of another article."""
import json
import lzma
import random
import re
import subprocess
import sys
import tempfile

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
TRICKY = [
    ("", ""), ("one", ""), ("", "one"), ("one", "one"), ("one", "two"), ("!?.", "!?."), ("a b", "b a"),
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("the cat sat on the mat", "The CAT, sat; on -- the 'mat'!"),
    ("the the the", "the"), ("the", "the the the the"), ("a a b b a a", "a b a b a"),
    ("police killed the gunman", "police kill the gunman"), ("police killed the gunman", "the gunman kill police"),
    ("a b c d e f g", "a x c y e z g"), ("a b c d e f g", "g f e d c b a"), ("x y x y x y", "y x y x"),
    ("one two three\nfour five", "four five\none two three"), ("one two\nthree", "one\ntwo\nthree\n"),
    ("\n\n\n", "\n"), ("\none\n\ntwo\n", "two\n\n\none"), ("one two\r\nthree four", "three four\r\none two"),
    ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"), ("a b\na b", "a b"), ("a b", "a b\na b\na b"),
    ("a c b d a c b", "a b c d\nb a d c"), ("a b c a b c\nc b a", "c b a c\nb a b c a"),
    ("a b c b d a b", "b d c a b a"), ("b d c a b a", "a b c b d a b"), ("a b a c\nb c a", "a c b a\nc a b a"),
    # which of several longest subsequences is taken shows here
    ("c b d d c", "c d b\nb d b d c\nc d d c"), ("c a d\na\nb a d", "d d b a"),
    ("d\nb d a d c d\nd d c", "a b b\nd a c d\nb d a a d"),
    ("caf\u00e9 na\u00efve", "cafe naive"), ("na\u00efve", "na ve"), ("\u0130stanbul", "i stanbul"),
    ("300 \u212a and 5\u212a5", "300 k and 5k5"), ("\u5317\u4eac 2008", "\u6771\u4eac 2008"), ("\u2028one\u2028two", "one\ntwo"),
    ("price: $1,099.50", "price 1 099 50"), ("co-operate", "cooperate"), ("don't", "don t"), ("tab\tand\\slash", "tab and slash"),
    ("running runs ran easily", "run runner easy"), ("happiness happy happily", "happi happier"), ("flies died ties", "fly die tie"),
    ("the news of dying skies", "new die sky"), ("agreed feed fed", "agree feeding"), ("it was was it was", "was it it"),
    ("x" * 3000, "x" * 3000), ("y" * 2000 + "ing", "y" * 2000), ("0 1 2 3 4 5 6 7 8 9", "9 8 7 0 1 2 3"),
]
WORDS = """ponies ties caress cats sses ies cries flies dies died spied spies tied agreed feed freed plastered bled motoring sing
 conflated troubled sized hopping tanned falling hissing fizzed failing filing happy sky enjoy spy say yes by syzygy
 relational conditional rational valenci hesitanci digitizer conformabli radicalli differentli vileli analogousli vietnamization
 predication operator feudalism decisiveness hopefulness callousness formaliti sensitiviti sensibiliti triplicate formative
 formalize electriciti electrical hopeful goodness revival allowance inference airliner gyroscopic adjustable defensible irritant
 replacement adjustment dependent adoption homologou communism activate angulariti homologous effective bowdlerize probate rate
 cease controll roll skies dying lying tying news innings inning outings outing cannings canning howe proceed exceed succeed
 archaeology theology geology apology logi fully gracefulli graphically nationalli alli ally rally usually bli ably possibli
 eed need heed speed ing ding bing ring eing seeing being 1990s 22ing aa22ed yyyed yying ayed eyed oyster ion lion onion
 million tion mission fission sion generously university universe ational ization oed shoed ued argued aing skiing ee tree
 agree ll all ball controlling installing eating bated bling doubled idolizing buzzing caller using abed oaks ooze aies ss""".split()


def escaped(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def lines(pairs, words):
    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer
    scorers = [RougeScorer(TYPES, use_stemmer=stem) for stem in (False, True)]
    for reference, text in pairs:
        fields = ["pair", escaped(reference), escaped(text)]
        for scorer in scorers:
            scores = scorer.score(reference, text)
            fields += [repr(float(value)) for kind in TYPES for value in scores[kind]]
        yield "\t".join(fields) + "\n"
    stemmer = PorterStemmer()
    for word in words:
        yield f"stem\t{word}\t{stemmer.stem(word)}\n"


def main():
    try:
        import rouge_score  # noqa: F401
    except ImportError:
        print("skipped: the Python package rouge_score is not there (pip install rouge-score==0.1.2)")
        return 77
    if sys.argv[1:] == ["--golden"]:
        sys.stdout.writelines(lines(TRICKY, WORDS))
        return 0
    program, path = sys.argv[1:]
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            records = [json.loads(line) for line in file][:1000]
    except FileNotFoundError:
        print(f"skipped: {path} is not there")
        return 77
    summaries = [record["summary_gt"] for record in records]
    articles = [record["article"].split("Article: ", 1)[-1].split("\n\nSummarize", 1)[0] for record in records]
    sentences = [re.split(r"(?<=[.!?]) ", article)[:3] for article in articles]
    pairs = list(zip(summaries, map("\n".join, sentences)))
    pairs += list(zip(summaries, summaries[1:] + summaries[:1]))
    chosen = random.Random(6)  # whole articles against each other are slow in Python: a few
    pairs += [("\n".join(sentences[i] * 3), articles[i][:4000].replace(". ", ".\n")) for i in chosen.sample(range(len(records)), 40)]
    words = sorted({word for article in articles + summaries for word in re.findall("[a-z0-9]+", article.lower())})
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines(pairs, words))
        file.flush()
        return subprocess.run([program, file.name]).returncode


sys.exit(main())
